//! Types generated at build time from the contracts' interfaces, one module a contract.
//!
//! `abi/` holds the interfaces of `contracts/artifacts` with Solidity's own value types (`Roles`, `ModelId`,
//! `SessionId`) replaced by what they wrap, because the macro cannot resolve them across interfaces; a test keeps both
//! equal. Calls, events and errors only: how they are sent and read is this crate's own, so that nonces, errors and
//! block pinning are the same everywhere. The macro expansions live here and nowhere else.

#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

/// `CortensorToken`: ERC-20 with permit and votes.
pub mod token {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        CortensorToken,
        "abi/CortensorToken.json"
    );
}

/// `NodeRegistry`: who serves, with which keys and stake.
pub mod registry {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        NodeRegistry,
        "abi/NodeRegistry.json"
    );
}

/// `ModelRegistry`: models and their terms.
pub mod models {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        ModelRegistry,
        "abi/ModelRegistry.json"
    );
}

/// `Sessions`: deposits, vouchers, payments.
pub mod sessions {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Sessions,
        "abi/Sessions.json"
    );
}

/// `Guards`: epochs, beacons, and who may be drawn.
pub mod guards {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Guards,
        "abi/Guards.json"
    );
}

/// `Scores`: evidence about each miner.
pub mod scores {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Scores,
        "abi/Scores.json"
    );
}

/// `Court`: pool, bonds, slashes, contradictions.
pub mod court {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Court,
        "abi/Court.json"
    );
}

/// `Audits`: committees, findings, what was not shown.
pub mod audits {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Audits,
        "abi/Audits.json"
    );
}

/// `Batches`: what miners committed to, and what was drawn.
pub mod batches {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Batches,
        "abi/Batches.json"
    );
}

/// `Rewards`: what paid and proved work earns.
pub mod rewards {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Rewards,
        "abi/Rewards.json"
    );
}

/// `Capabilities`: what drawn guards measured.
pub mod capabilities {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Capabilities,
        "abi/Capabilities.json"
    );
}

/// `Usefulness`: judges, their scores, quality of miners.
pub mod usefulness {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Usefulness,
        "abi/Usefulness.json"
    );
}

/// `Validators`: who decides blocks, with what power.
pub mod validators {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Validators,
        "abi/Validators.json"
    );
}

/// `Equivocations`: what a double vote costs.
pub mod equivocations {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Equivocations,
        "abi/Equivocations.json"
    );
}

/// `Checkpoints`: blocks of a chain of validators, followed from another.
pub mod checkpoints {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Checkpoints,
        "abi/Checkpoints.json"
    );
}

/// `ForeignBlocks`: blocks of another chain, as validators see them.
pub mod foreign_blocks {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        ForeignBlocks,
        "abi/ForeignBlocks.json"
    );
}

/// `Outbox`: messages to another chain.
pub mod outbox {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Outbox,
        "abi/Outbox.json"
    );
}

/// `Inbox`: messages from another chain.
pub mod inbox {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Inbox,
        "abi/Inbox.json"
    );
}

/// `LockBridge`: the end of the bridge where COR is locked.
pub mod lock_bridge {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        LockBridge,
        "abi/LockBridge.json"
    );
}

/// `MintBridge`: the end of the bridge where COR is minted.
pub mod mint_bridge {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        MintBridge,
        "abi/MintBridge.json"
    );
}

/// `Members`: who belongs to a permissioned network.
pub mod members {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        Members,
        "abi/Members.json"
    );
}

/// `TimelockController`: OpenZeppelin's, through which governance acts on bridges.
pub mod timelock {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        TimelockController,
        "abi/TimelockController.json"
    );
}

/// `CheckpointKeys`: BLS keys of validators, and their sums.
pub mod checkpoint_keys {
    alloy::sol!(
        #[sol(extra_derives(Debug))]
        CheckpointKeys,
        "abi/CheckpointKeys.json"
    );
}
