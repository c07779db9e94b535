//! The compiled contracts, embedded: interface and bytecode as committed under `contracts/artifacts`.
//!
//! Parsed once, on first use. A malformed artifact is a broken build, so parsing panics instead of returning an error.

use alloy::{json_abi::JsonAbi, primitives::Bytes};
use serde::Deserialize;
use std::sync::LazyLock;

/// One compiled contract.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Name of the contract.
    pub contract_name: String,
    /// Its interface.
    pub abi: JsonAbi,
    /// Code that deploys it, without constructor arguments.
    pub bytecode: Bytes,
    /// Code that stands on chain, with zeros where immutable values go.
    pub deployed_bytecode: Bytes,
}

fn parse(text: &str) -> Artifact {
    serde_json::from_str(text).expect("committed artifacts are valid; a test parses each")
}

/// `CortensorToken`.
pub static TOKEN: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/CortensorToken.json")));
/// `NodeRegistry`.
pub static NODE_REGISTRY: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/NodeRegistry.json")));
/// `ModelRegistry`.
pub static MODEL_REGISTRY: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/ModelRegistry.json")));
/// `Sessions`.
pub static SESSIONS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Sessions.json")));
/// `Guards`.
pub static GUARDS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Guards.json")));
/// `Scores`.
pub static SCORES: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Scores.json")));
/// `Court`.
pub static COURT: LazyLock<Artifact> = LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Court.json")));
/// `Audits`.
pub static AUDITS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Audits.json")));
/// `Batches`.
pub static BATCHES: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Batches.json")));
/// `Rewards`.
pub static REWARDS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Rewards.json")));
/// `Capabilities`.
pub static CAPABILITIES: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Capabilities.json")));
/// `Usefulness`.
pub static USEFULNESS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Usefulness.json")));
/// `Validators`.
pub static VALIDATORS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Validators.json")));
/// `Equivocations`.
pub static EQUIVOCATIONS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Equivocations.json")));
/// `Checkpoints`.
pub static CHECKPOINTS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Checkpoints.json")));
/// `ForeignBlocks`.
pub static FOREIGN_BLOCKS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/ForeignBlocks.json")));
/// `Outbox`.
pub static OUTBOX: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Outbox.json")));
/// `Inbox`.
pub static INBOX: LazyLock<Artifact> = LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Inbox.json")));
/// `LockBridge`.
pub static LOCK_BRIDGE: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/LockBridge.json")));
/// `MintBridge`.
pub static MINT_BRIDGE: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/MintBridge.json")));
/// `Members`.
pub static MEMBERS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/Members.json")));
/// `TimelockController`.
pub static TIMELOCK: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/TimelockController.json")));
/// `CheckpointKeys`.
pub static CHECKPOINT_KEYS: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../../../contracts/artifacts/CheckpointKeys.json")));

/// All of them.
#[must_use]
pub fn all() -> [&'static Artifact; 23] {
    [
        &TOKEN,
        &NODE_REGISTRY,
        &MODEL_REGISTRY,
        &SESSIONS,
        &GUARDS,
        &SCORES,
        &COURT,
        &AUDITS,
        &BATCHES,
        &REWARDS,
        &CAPABILITIES,
        &USEFULNESS,
        &VALIDATORS,
        &EQUIVOCATIONS,
        &CHECKPOINTS,
        &FOREIGN_BLOCKS,
        &OUTBOX,
        &INBOX,
        &LOCK_BRIDGE,
        &MINT_BRIDGE,
        &MEMBERS,
        &TIMELOCK,
        &CHECKPOINT_KEYS,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_interface_and_code() {
        for artifact in all() {
            assert!(artifact.abi.functions().count() > 5, "{}", artifact.contract_name);
            assert!(artifact.bytecode.len() > artifact.deployed_bytecode.len(), "{}", artifact.contract_name);
            // EIP-170: no chain accepts more.
            assert!(artifact.deployed_bytecode.len() <= 24_576, "{}", artifact.contract_name);
        }
    }
}
