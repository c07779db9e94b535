//! Fee suggestions and `eth_feeHistory`.

use alloy::{consensus::Header, eips::BlockNumberOrTag, primitives::U256, rpc::types::FeeHistory};

use super::{Api, error::RpcError};
use crate::store::{Snapshot, StoredHeader};

/// Blocks of one fee history.
const HISTORY_BLOCKS_MAX: u64 = 1_024;
/// Percentiles of one fee history.
const HISTORY_PERCENTILES_MAX: usize = 100;
/// Blocks whose tips a suggestion looks at.
const SUGGESTION_BLOCKS: u64 = 8;
/// Transactions per block whose tips a suggestion looks at.
const SUGGESTION_TRANSACTIONS: usize = 16;

impl Api {
    /// What a legacy transaction should bid per gas, in wei.
    pub(super) fn gas_price(&self) -> Result<U256, RpcError> {
        let base_fee = self.core.rules.next_base_fee(&self.snapshot().head().header);
        Ok(U256::from(base_fee) + self.suggested_tip()?)
    }

    /// The median tip in recent blocks that are at least half full, but not less than the configured suggestion: in
    /// blocks with room to spare there is nothing to outbid.
    pub(super) fn suggested_tip(&self) -> Result<U256, RpcError> {
        let snapshot = self.snapshot();
        let head = snapshot.head().header.number;
        let mut tips = Vec::new();
        for number in head.saturating_sub(SUGGESTION_BLOCKS - 1)..=head {
            let Some(stored) = snapshot.header(number)? else { continue };
            let header = &stored.header;
            if header.gas_used < header.gas_limit / 2 {
                continue;
            }
            for index in 0..u32::try_from(SUGGESTION_TRANSACTIONS).unwrap_or(u32::MAX).min(stored.transaction_count) {
                let transaction = snapshot.transaction(number, index)?;
                tips.extend(transaction.and_then(|tx| tx.effective_tip(header.base_fee_per_gas.unwrap_or_default())));
            }
        }
        tips.sort_unstable();
        let median = tips.get(tips.len() / 2).copied().unwrap_or(0);
        let fees = &self.core.config.fees;
        Ok(U256::from(median.max(fees.tip_suggested_wei).max(fees.tip_min_wei)))
    }

    pub(super) fn fee_history(
        &self,
        count: u64,
        newest: BlockNumberOrTag,
        percentiles: Option<&[f64]>,
    ) -> Result<FeeHistory, RpcError> {
        // Nothing is asked for where none are named.
        let percentiles = percentiles.filter(|percentiles| !percentiles.is_empty());
        check_percentiles(percentiles.unwrap_or_default())?;
        let snapshot = self.snapshot();
        let newest = match newest {
            BlockNumberOrTag::Number(number) if number > snapshot.head().header.number => {
                let head = snapshot.head().header.number;
                return Err(RpcError::refused(format!("request beyond head block: requested {number}, head {head}")));
            }
            tag => self.header(&snapshot, Some(tag.into()))?.header.number,
        };
        let count = count.min(HISTORY_BLOCKS_MAX).min(newest + 1);
        if count == 0 {
            return Ok(FeeHistory::default());
        }
        let oldest = newest + 1 - count;
        let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
        for number in oldest..=newest {
            let stored = snapshot.header(number)?.ok_or_else(RpcError::no_block)?;
            push(&mut history, &stored.header);
            if let Some(percentiles) = percentiles {
                history.reward.get_or_insert_default().push(rewards(&snapshot, &stored, percentiles)?);
            }
            if number == newest {
                history.base_fee_per_gas.push(self.core.rules.next_base_fee(&stored.header).into());
                history.base_fee_per_blob_gas.push(1);
            }
        }
        Ok(history)
    }
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    let ordered = percentiles.is_sorted() && percentiles.iter().all(|value| (0.0..=100.0).contains(value));
    if !ordered || percentiles.len() > HISTORY_PERCENTILES_MAX {
        return Err(RpcError::refused("invalid reward percentile"));
    }
    Ok(())
}

fn push(history: &mut FeeHistory, header: &Header) {
    history.base_fee_per_gas.push(header.base_fee_per_gas.unwrap_or_default().into());
    history.base_fee_per_blob_gas.push(1);
    history.blob_gas_used_ratio.push(0.0);
    // A ratio for display; nothing is decided by it.
    #[allow(clippy::cast_precision_loss)]
    history.gas_used_ratio.push(header.gas_used as f64 / header.gas_limit as f64);
}

/// The tips below which the given shares of the block's gas paid.
fn rewards(snapshot: &Snapshot, stored: &StoredHeader, percentiles: &[f64]) -> Result<Vec<u128>, RpcError> {
    let header = &stored.header;
    let base_fee = header.base_fee_per_gas.unwrap_or_default();
    let transactions = snapshot.transactions(header.number)?;
    let receipts = snapshot.receipts(header.number)?;
    let mut tips: Vec<(u128, u64)> = transactions
        .iter()
        .zip(&receipts)
        .map(|(tx, receipt)| (tx.effective_tip(base_fee).unwrap_or(0), receipt.gas_used))
        .collect();
    tips.sort_unstable();
    let reward = |percentile: &f64| {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let threshold = (header.gas_used as f64 * percentile / 100.0) as u64;
        let mut gas = 0;
        let found = tips.iter().find(|(_, used)| {
            gas += used;
            gas >= threshold
        });
        found.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    Ok(percentiles.iter().map(reward).collect())
}
