//! Development methods: moving time and forcing blocks. Served only when [`crate::Config::dev`] is set and the chain
//! has one validator.

use std::sync::Arc;

use alloy::primitives::{U64, U256};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::{SealSender, error::RpcError};
use crate::core::Core;

/// Blocks that one request may make.
const BLOCKS_MAX: u64 = 10_000;

/// `evm_mine` takes a timestamp or an object with options.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum MineOptions {
    /// The time of the block.
    Timestamp(U64),
    /// The time of the first block and how many to make.
    Options { timestamp: Option<U64>, blocks: Option<U64> },
}

#[rpc(server)]
pub(super) trait Development {
    #[method(name = "evm_mine")]
    async fn mine(&self, options: Option<MineOptions>) -> RpcResult<U64>;
    #[method(name = "anvil_mine", aliases = ["hardhat_mine"])]
    async fn mine_many(&self, blocks: Option<U64>, seconds: Option<U64>) -> RpcResult<()>;
    #[method(name = "evm_increaseTime")]
    fn increase_time(&self, seconds: U256) -> RpcResult<i64>;
    #[method(name = "evm_setNextBlockTimestamp", aliases = ["anvil_setNextBlockTimestamp"])]
    fn set_next_block_timestamp(&self, timestamp: U64) -> RpcResult<()>;
}

/// The methods of this module.
pub(super) fn methods(core: Arc<Core>, seal: SealSender) -> Methods {
    DevelopmentServer::into_rpc(DevelopmentApi { core, seal }).into()
}

struct DevelopmentApi {
    core: Arc<Core>,
    seal: SealSender,
}

impl DevelopmentApi {
    async fn seal(&self, blocks: u64, seconds_between: u64) -> Result<u64, RpcError> {
        if blocks > BLOCKS_MAX {
            return Err(RpcError::params(format!("at most {BLOCKS_MAX} blocks can be made at once")));
        }
        let stopped = || RpcError::refused("the chain has stopped");
        let mut number = self.core.snapshot().head().header.number;
        for block in 0..blocks {
            if block > 0 && seconds_between > 0 {
                self.core.clock.advance(seconds_between);
            }
            let (reply, sealed) = oneshot::channel();
            self.seal.send(reply).await.map_err(|_| stopped())?;
            number = sealed.await.map_err(|_| stopped())?;
        }
        Ok(number)
    }

    fn set_next(&self, timestamp: u64) -> Result<(), RpcError> {
        let parent = self.core.snapshot().head().header.timestamp;
        if timestamp < parent {
            return Err(RpcError::params(format!("timestamp {timestamp} is before the last block's {parent}")));
        }
        self.core.clock.set_next(timestamp);
        Ok(())
    }
}

#[jsonrpsee::core::async_trait]
impl DevelopmentServer for DevelopmentApi {
    async fn mine(&self, options: Option<MineOptions>) -> RpcResult<U64> {
        let (timestamp, blocks) = match options {
            None => (None, None),
            Some(MineOptions::Timestamp(timestamp)) => (Some(timestamp), None),
            Some(MineOptions::Options { timestamp, blocks }) => (timestamp, blocks),
        };
        if let Some(timestamp) = timestamp {
            self.set_next(timestamp.to())?;
        }
        self.seal(blocks.map_or(1, |blocks| blocks.to()), 0).await?;
        Ok(U64::ZERO)
    }

    async fn mine_many(&self, blocks: Option<U64>, seconds: Option<U64>) -> RpcResult<()> {
        self.seal(blocks.map_or(1, |blocks| blocks.to()), seconds.map_or(0, |seconds| seconds.to())).await?;
        Ok(())
    }

    fn increase_time(&self, seconds: U256) -> RpcResult<i64> {
        Ok(self.core.clock.advance(seconds.saturating_to()))
    }

    fn set_next_block_timestamp(&self, timestamp: U64) -> RpcResult<()> {
        Ok(self.set_next(timestamp.to())?)
    }
}
