//! Executing stored blocks again whose state was only in memory when the process ended.

use std::sync::Arc;

use crate::{
    evm::StateView,
    execute::{BlockAttributes, ExecuteError, OnInvalid, Rules, execute},
    metrics::Metrics,
    state::StateStore,
    store::{OpenError, Snapshot, Store, StoreError},
};

/// Brings the state up to the last stored block. There are never more blocks to execute than the store keeps in memory.
pub(crate) fn catch_up(
    store: &Store,
    trie: &Arc<dyn StateStore>,
    rules: &Rules,
    mut snapshot: Snapshot,
) -> Result<Snapshot, OpenError> {
    loop {
        let next = snapshot.head().header.number + 1;
        let Some(stored) = snapshot.header(next)? else { return Ok(snapshot) };
        let header = &stored.header;
        let attributes = BlockAttributes {
            timestamp: header.timestamp,
            coinbase: header.beneficiary,
            prev_randao: header.mix_hash,
            extra_data: header.extra_data.clone(),
        };
        let transactions = snapshot.transactions(next)?.into_iter().map(Arc::new).collect();
        let view = StateView::head(Arc::new(snapshot), Arc::clone(trie));
        let executed = execute(&view, rules, &attributes, transactions, OnInvalid::Fail, &Metrics::default());
        let block = match executed {
            Ok(executed) if executed.block.header.hash() == header.hash() => executed.block,
            Err(ExecuteError::Store(error)) => return Err(error.into()),
            Ok(_) | Err(_) => return Err(OpenError::Replay { number: next }),
        };
        store.restore(block);
        snapshot = store.snapshot()?.ok_or(StoreError::Damaged { what: "head" })?;
    }
}
