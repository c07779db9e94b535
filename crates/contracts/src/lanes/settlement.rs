//! Deploying both ends between a chain of validators and the chain that it settles on, and the record of where they stand.
//!
//! Each end is deployed by an account of its own chain. What has to name the other end is created after it; the two bridges
//! are linked last, once.

use crate::{
    artifact,
    bindings::{
        checkpoint_keys::CheckpointKeys, checkpoints::Checkpoints, foreign_blocks::ForeignBlocks, inbox::Inbox,
        lock_bridge::LockBridge, mint_bridge::MintBridge, outbox::Outbox, timelock::TimelockController,
        token::CortensorToken,
    },
    deploy::{DeployError, create, set_up},
    deployment::{DeploymentFileError, load_record, save_record},
    lanes,
    read::{ReadError, head},
    wallet::Wallet,
};
use alloy::{
    consensus::Header,
    primitives::{Address, Bytes, U256},
    rlp,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What one end consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementEnd {
    /// The chain.
    pub chain_id: u64,
    /// The newest block before they were deployed: where to start reading logs.
    pub block: u64,
    /// COR on this chain.
    pub token: Address,
    /// Messages from here.
    pub outbox: Address,
    /// Messages to here.
    pub inbox: Address,
    /// Blocks of the other chain: `Checkpoints` at the upper end, `ForeignBlocks` at the lower.
    pub blocks: Address,
    /// `LockBridge` at the upper end, `MintBridge` at the lower.
    pub bridge: Address,
    /// The timelock through which governance acts.
    pub timelock: Address,
}

/// Both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// The chain that is settled on.
    pub upper: SettlementEnd,
    /// The chain of validators.
    pub lower: SettlementEnd,
}

impl Settlement {
    /// Reads a record, or `None` where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, DeploymentFileError> {
        load_record(path)
    }

    /// Writes the record, replacing the file at once or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DeploymentFileError> {
        save_record(self, path)
    }
}

/// The wallets that deploy, one on each chain.
#[derive(Clone, Debug)]
pub struct Ends<T> {
    /// On the chain that is settled on.
    pub upper: T,
    /// On the chain of validators.
    pub lower: T,
}

/// Tokens that exist before the bridge.
#[derive(Clone, Copy, Debug)]
pub struct SettlementTokens {
    /// COR where it was born.
    pub upper: Address,
    /// COR on the chain of validators: governed by the deployer and without any supply, or the bridge does not take it over.
    pub lower: Address,
}

/// What is fixed at deployment.
#[derive(Clone, Debug)]
pub struct SettlementParameters {
    /// Who proposes to and executes from the timelocks.
    pub governance: Address,
    /// Delay of both timelocks in seconds, not 0.
    pub delay_s: u64,
    /// Seconds for which a set of validators is trusted: less than their stake takes to leave.
    pub trust_period_s: u64,
    /// `Validators` on the chain of validators.
    pub validators: Address,
    /// Blocks in an epoch there.
    pub epoch_length_blocks: u32,
    /// The header to begin with, whose extra data is the hash of the set that decides the next block.
    pub anchor: Header,
}

/// Why the ends could not be set up. What was created before the failure stays without effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// On one of the chains.
    #[error("cannot set up the {end} end")]
    Deploy {
        /// Upper or lower.
        end: &'static str,
        /// Why.
        source: DeployError,
    },
    /// A chain could not be read.
    #[error("cannot read the {end} chain")]
    Read {
        /// Upper or lower.
        end: &'static str,
        /// Why.
        source: ReadError,
    },
}

/// Deploys both ends and links them.
///
/// # Errors
/// When a transaction fails.
pub async fn deploy_settlement(
    wallets: &Ends<Wallet>,
    tokens: SettlementTokens,
    parameters: &SettlementParameters,
) -> Result<Settlement, SetUpError> {
    let Ends { upper, lower } = wallets;
    let (at_upper, at_lower) = (failed("upper"), failed("lower"));
    let up_block = head(upper.provider()).await.map_err(|source| SetUpError::Read { end: "upper", source })?;
    let low_block = head(lower.provider()).await.map_err(|source| SetUpError::Read { end: "lower", source })?;
    let up = begin(upper, lower.chain_id(), tokens.upper, up_block, parameters).await.map_err(at_upper)?;
    let low = begin(lower, upper.chain_id(), tokens.lower, low_block, parameters).await.map_err(at_lower)?;
    let up = finish_upper(upper, up, &low, parameters).await.map_err(failed("upper"))?;
    let low = finish_lower(lower, low, &up, parameters).await.map_err(failed("lower"))?;
    let call = LockBridge::linkCall { peer_: low.bridge };
    set_up(upper, "link the bridge", up.bridge, &call).await.map_err(failed("upper"))?;
    Ok(Settlement { upper: up, lower: low })
}

fn failed(end: &'static str) -> impl FnOnce(DeployError) -> SetUpError {
    move |source| SetUpError::Deploy { end, source }
}

/// What needs nothing of the other end: the outbox and the timelock.
async fn begin(
    wallet: &Wallet,
    other: u64,
    token: Address,
    block: u64,
    parameters: &SettlementParameters,
) -> Result<SettlementEnd, DeployError> {
    let outbox = Outbox::constructorCall { destination_: U256::from(other) };
    let outbox = create(wallet, "Outbox", &artifact::OUTBOX, &outbox).await?;
    let timelock = TimelockController::constructorCall {
        minDelay: U256::from(parameters.delay_s),
        proposers: vec![parameters.governance],
        executors: vec![parameters.governance],
        admin: Address::ZERO,
    };
    let timelock = create(wallet, "TimelockController", &artifact::TIMELOCK, &timelock).await?;
    let unset = Address::ZERO;
    let chain_id = wallet.chain_id();
    Ok(SettlementEnd { chain_id, block, token, outbox, inbox: unset, blocks: unset, bridge: unset, timelock })
}

async fn finish_upper(
    wallet: &Wallet,
    end: SettlementEnd,
    lower: &SettlementEnd,
    parameters: &SettlementParameters,
) -> Result<SettlementEnd, DeployError> {
    let keys =
        create(wallet, "CheckpointKeys", &artifact::CHECKPOINT_KEYS, &CheckpointKeys::constructorCall {}).await?;
    let checkpoints = Checkpoints::constructorCall {
        chainId_: U256::from(lower.chain_id),
        epochLength_: parameters.epoch_length_blocks,
        trustPeriod_: parameters.trust_period_s,
        initialOwner: end.timelock,
        keys_: keys,
        genesis: Bytes::from(rlp::encode(&parameters.anchor)),
    };
    let blocks = create(wallet, "Checkpoints", &artifact::CHECKPOINTS, &checkpoints).await?;
    let inbox = create_inbox(wallet, blocks, lower).await?;
    let bridge =
        LockBridge::constructorCall { token_: end.token, outbox_: end.outbox, inbox_: inbox, timelock_: end.timelock };
    let bridge = create(wallet, "LockBridge", &artifact::LOCK_BRIDGE, &bridge).await?;
    Ok(SettlementEnd { inbox, blocks, bridge, ..end })
}

async fn finish_lower(
    wallet: &Wallet,
    end: SettlementEnd,
    upper: &SettlementEnd,
    parameters: &SettlementParameters,
) -> Result<SettlementEnd, DeployError> {
    let foreign = ForeignBlocks::constructorCall {
        validators_: parameters.validators,
        foreignChainId_: U256::from(upper.chain_id),
    };
    let blocks = create(wallet, "ForeignBlocks", &artifact::FOREIGN_BLOCKS, &foreign).await?;
    let inbox = create_inbox(wallet, blocks, upper).await?;
    let bridge =
        MintBridge::constructorCall { token_: end.token, outbox_: end.outbox, inbox_: inbox, timelock_: end.timelock };
    let bridge = create(wallet, "MintBridge", &artifact::MINT_BRIDGE, &bridge).await?;
    set_up(wallet, "link the bridge", bridge, &MintBridge::linkCall { peer_: upper.bridge }).await?;
    let offer = CortensorToken::transferOwnershipCall { newOwner: bridge };
    set_up(wallet, "offer the token to the bridge", end.token, &offer).await?;
    set_up(wallet, "take the token over", bridge, &MintBridge::adoptCall {}).await?;
    Ok(SettlementEnd { inbox, blocks, bridge, ..end })
}

async fn create_inbox(wallet: &Wallet, blocks: Address, other: &SettlementEnd) -> Result<Address, DeployError> {
    let inbox = Inbox::constructorCall { blocks_: blocks, source_: U256::from(other.chain_id), outbox_: other.outbox };
    create(wallet, "Inbox", &artifact::INBOX, &inbox).await
}

/// Clients of one end.
impl SettlementEnd {
    /// Messages from here.
    #[must_use]
    pub fn outbox(&self, provider: &crate::Provider) -> lanes::Outbox {
        lanes::Outbox::new(provider.clone(), self.outbox)
    }

    /// Messages to here.
    #[must_use]
    pub fn inbox(&self, provider: &crate::Provider) -> lanes::Inbox {
        lanes::Inbox::new(provider.clone(), self.inbox)
    }

    /// This end of the bridge.
    #[must_use]
    pub fn bridge(&self, provider: &crate::Provider) -> lanes::Bridge {
        lanes::Bridge::new(provider.clone(), self.bridge)
    }
}
