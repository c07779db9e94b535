//! Log queries: which blocks a filter spans, and which of their logs it wants.

use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, FilterBlockOption, Log},
};

use super::{Api, error::RpcError};
use crate::{
    receipt::{Place, rpc_log},
    store::{Snapshot, StoreError, StoredHeader},
};

/// Addresses or alternatives of one topic in a filter.
const FILTER_ALTERNATIVES_MAX: usize = 1_000;

impl Api {
    pub(super) fn logs(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        check_filter(filter)?;
        let snapshot = self.snapshot();
        let (first, last) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = snapshot.number(hash)?.ok_or_else(|| RpcError::refused("unknown block"))?;
                (number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => range(&snapshot, from_block, to_block)?,
        };
        self.logs_between(&snapshot, filter, first, last)
    }

    /// The matching logs of these blocks, both included.
    pub(super) fn logs_between(
        &self,
        snapshot: &Snapshot,
        filter: &Filter,
        first: u64,
        last: u64,
    ) -> Result<Vec<Log>, RpcError> {
        let limits = &self.core.config.limits;
        let last = last.min(snapshot.head().header.number);
        if last.saturating_sub(first) >= limits.log_blocks_max {
            let max = limits.log_blocks_max;
            return Err(RpcError::Limit(format!("query spans more than {max} blocks: ask for a smaller range")));
        }
        let mut logs = Vec::new();
        for number in first..=last {
            let stored = snapshot.header(number)?.ok_or(StoreError::NotKept { number })?;
            if filter.matches_bloom(stored.header.logs_bloom) {
                block_logs(snapshot, filter, &stored, &mut logs)?;
            }
            if logs.len() > limits.log_results_max {
                let max = limits.log_results_max;
                return Err(RpcError::Limit(format!(
                    "query returned more than {max} results: ask for a smaller range"
                )));
            }
        }
        Ok(logs)
    }
}

/// Refuses filters whose matching would be costly.
pub(super) fn check_filter(filter: &Filter) -> Result<(), RpcError> {
    let large = filter.address.len() > FILTER_ALTERNATIVES_MAX
        || filter.topics.iter().any(|topic| topic.len() > FILTER_ALTERNATIVES_MAX);
    if large {
        return Err(RpcError::params(format!(
            "a filter may name at most {FILTER_ALTERNATIVES_MAX} addresses or topics"
        )));
    }
    Ok(())
}

/// The numbers that a range means; without bounds it is the head alone.
fn range(
    snapshot: &Snapshot,
    from: Option<BlockNumberOrTag>,
    to: Option<BlockNumberOrTag>,
) -> Result<(u64, u64), RpcError> {
    let head = snapshot.head().header.number;
    let number = |tag: Option<BlockNumberOrTag>| match tag {
        Some(BlockNumberOrTag::Number(number)) => number,
        Some(BlockNumberOrTag::Earliest) => 0,
        _ => head,
    };
    let (first, last) = (number(from), number(to));
    if first > last {
        return Err(RpcError::params("invalid block range params"));
    }
    if first > head {
        return Err(RpcError::params("block range extends beyond current head block"));
    }
    Ok((first, last))
}

/// Appends the matching logs of one block.
pub(super) fn block_logs(
    snapshot: &Snapshot,
    filter: &Filter,
    stored: &StoredHeader,
    logs: &mut Vec<Log>,
) -> Result<(), RpcError> {
    let number = stored.header.number;
    for (index, receipt) in (0_u32..).zip(snapshot.receipts(number)?) {
        let mut transaction = None;
        for (position, log) in (receipt.first_log..).zip(receipt.logs) {
            if !filter.matches(&log) {
                continue;
            }
            let hash = match transaction {
                Some(hash) => hash,
                None => *transaction.insert(
                    snapshot
                        .transaction(number, index)?
                        .ok_or_else(|| RpcError::internal("a receipt without transaction"))?
                        .hash(),
                ),
            };
            logs.push(rpc_log(Place { header: &stored.header, index }, hash, position, log));
        }
    }
    Ok(())
}
