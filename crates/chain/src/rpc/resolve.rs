//! From the block that a request names to the block that it means, and from stored records to response objects.
//!
//! `latest`, `safe` and `finalized` are the same block: what is committed is final. `pending` is a block on top of the
//! head; where a whole block is asked for it is shown without transactions, for state it is the head's.

use std::sync::Arc;

use alloy::{
    consensus::{Sealable as _, Transaction as _, TxEnvelope, transaction::Recovered},
    eips::{BlockId, BlockNumberOrTag},
    primitives::{B256, U256},
    rpc::types::{Block, BlockTransactions, Header as RpcHeader, Transaction, TransactionReceipt},
};

use super::{Api, error::RpcError};
use crate::{
    evm::StateView,
    receipt::{Place, rpc_receipt},
    store::{Snapshot, StoredHeader},
    transaction::VerifiedTransaction,
};

impl Api {
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.core.snapshot()
    }

    /// The header of a block; none when there is no such block.
    pub(super) fn find_header(&self, snapshot: &Snapshot, block: BlockId) -> Result<Option<StoredHeader>, RpcError> {
        let number = match block {
            BlockId::Hash(hash) => snapshot.number(hash.block_hash)?,
            BlockId::Number(BlockNumberOrTag::Number(number)) => Some(number),
            BlockId::Number(BlockNumberOrTag::Earliest) => Some(0),
            BlockId::Number(_) => Some(snapshot.head().header.number),
        };
        Ok(match number {
            Some(number) => snapshot.header(number)?,
            None => None,
        })
    }

    /// The header of a block that must exist.
    pub(super) fn header(&self, snapshot: &Snapshot, block: Option<BlockId>) -> Result<StoredHeader, RpcError> {
        self.find_header(snapshot, block.unwrap_or_default())?.ok_or_else(RpcError::no_block)
    }

    /// The state after a block that must exist.
    pub(super) fn view(&self, block: Option<BlockId>) -> Result<StateView, RpcError> {
        let snapshot = self.snapshot();
        let header = self.header(&snapshot, block)?;
        Ok(self.core.view_at(snapshot, &header.header)?)
    }

    /// A block as `eth_getBlockBy*` gives it.
    pub(super) fn block(&self, block: BlockId, full: bool) -> Result<Option<Block>, RpcError> {
        let snapshot = self.snapshot();
        if block == BlockId::pending() {
            return Ok(Some(self.pending_block(&snapshot)));
        }
        let Some(stored) = self.find_header(&snapshot, block)? else {
            return Ok(None);
        };
        let transactions = snapshot.transactions(stored.header.number)?;
        let transactions = if full {
            let rows = (0_u32..).zip(transactions);
            BlockTransactions::Full(rows.map(|(index, tx)| mined(&stored, index, &tx)).collect())
        } else {
            BlockTransactions::Hashes(transactions.iter().map(VerifiedTransaction::hash).collect())
        };
        Ok(Some(Block::new(rpc_header(&stored), transactions).with_withdrawals(Some(Vec::new().into()))))
    }

    fn pending_block(&self, snapshot: &Snapshot) -> Block {
        let parent = &snapshot.head().header;
        let header = self.core.rules.next_header(parent, &self.core.peek_attributes());
        let header = RpcHeader::from_sealed(header.seal_slow());
        Block::new(header, BlockTransactions::Hashes(Vec::new())).with_withdrawals(Some(Vec::new().into()))
    }

    /// A transaction as `eth_getTransactionBy*` gives it.
    pub(super) fn transaction_at(&self, block: BlockId, index: usize) -> Result<Option<Transaction>, RpcError> {
        let snapshot = self.snapshot();
        let (Some(stored), Ok(index)) = (self.find_header(&snapshot, block)?, u32::try_from(index)) else {
            return Ok(None);
        };
        let transaction = snapshot.transaction(stored.header.number, index)?;
        Ok(transaction.map(|tx| mined(&stored, index, &tx)))
    }

    /// A committed or waiting transaction.
    pub(super) fn transaction(&self, hash: B256) -> Result<Option<Transaction>, RpcError> {
        // The pool is asked first: a transaction leaves it only after its block is visible.
        let waiting = self.core.with_pool(|pool| pool.get(hash));
        let snapshot = self.snapshot();
        let Some((number, index)) = snapshot.position(hash)? else {
            return Ok(waiting.map(|tx| pending(&tx)));
        };
        let stored = snapshot.header(number)?.ok_or_else(|| RpcError::internal("an indexed block is missing"))?;
        Ok(snapshot.transaction(number, index)?.map(|tx| mined(&stored, index, &tx)))
    }

    /// The receipt of a committed transaction.
    pub(super) fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, RpcError> {
        let snapshot = self.snapshot();
        let Some((number, index)) = snapshot.position(hash)? else {
            return Ok(None);
        };
        let (Some(stored), Some(transaction), Some(receipt)) =
            (snapshot.header(number)?, snapshot.transaction(number, index)?, snapshot.receipt(number, index)?)
        else {
            return Err(RpcError::internal("an indexed transaction is missing"));
        };
        Ok(Some(rpc_receipt(Place { header: &stored.header, index }, &transaction, &receipt)))
    }

    /// All receipts of a block; none when there is no such block.
    pub(super) fn receipts(&self, block: BlockId) -> Result<Option<Vec<TransactionReceipt>>, RpcError> {
        let snapshot = self.snapshot();
        let Some(stored) = self.find_header(&snapshot, block)? else {
            return Ok(None);
        };
        let number = stored.header.number;
        let rows = snapshot.transactions(number)?.into_iter().zip(snapshot.receipts(number)?);
        let receipts = (0_u32..).zip(rows).map(|(index, (transaction, receipt))| {
            rpc_receipt(Place { header: &stored.header, index }, &transaction, &receipt)
        });
        Ok(Some(receipts.collect()))
    }
}

/// A header as responses show it.
pub(super) fn rpc_header(stored: &StoredHeader) -> RpcHeader {
    let header = RpcHeader::from_sealed(stored.header.clone());
    RpcHeader { size: Some(U256::from(stored.size)), total_difficulty: Some(U256::ZERO), ..header }
}

fn mined(stored: &StoredHeader, index: u32, transaction: &VerifiedTransaction) -> Transaction {
    let header = &stored.header;
    let effective = transaction.envelope().effective_gas_price(header.base_fee_per_gas);
    Transaction {
        block_hash: Some(header.hash()),
        block_number: Some(header.number),
        transaction_index: Some(index.into()),
        effective_gas_price: Some(effective),
        block_timestamp: Some(header.timestamp),
        inner: recovered(transaction),
    }
}

/// A waiting transaction as responses show it.
pub(super) fn pending(transaction: &VerifiedTransaction) -> Transaction {
    Transaction {
        inner: recovered(transaction),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

fn recovered(transaction: &VerifiedTransaction) -> Recovered<TxEnvelope> {
    Recovered::new_unchecked(transaction.envelope().clone(), transaction.sender())
}
