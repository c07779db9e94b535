//! Receipts in the two forms that others see: the consensus form whose root is in the header, and the JSON-RPC form.

use alloy::{
    consensus::{Eip658Value, Header, ReceiptEnvelope, ReceiptWithBloom, Sealed, Transaction as _, TxType},
    primitives::{B256, Log},
    rpc::types::{Log as RpcLog, TransactionReceipt},
};

use crate::{store::Receipt, transaction::VerifiedTransaction};

/// A receipt with its bloom, wrapped in its transaction's type.
pub(crate) fn envelope(tx_type: TxType, receipt: &Receipt) -> ReceiptEnvelope {
    wrap(tx_type, receipt, receipt.logs.clone())
}

fn wrap<T>(tx_type: TxType, receipt: &Receipt, logs: Vec<T>) -> ReceiptEnvelope<T> {
    let bloom = receipt.logs.iter().collect();
    let inner = alloy::consensus::Receipt {
        status: Eip658Value::Eip658(receipt.success),
        cumulative_gas_used: receipt.cumulative_gas_used,
        logs,
    };
    let receipt = ReceiptWithBloom::new(inner, bloom);
    match tx_type {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) header: &'a Sealed<Header>,
    pub(crate) index: u32,
}

/// A receipt as `eth_getTransactionReceipt` gives it.
pub(crate) fn rpc_receipt(
    place: Place<'_>,
    transaction: &VerifiedTransaction,
    receipt: &Receipt,
) -> TransactionReceipt {
    let tx = transaction.envelope();
    let logs = rpc_logs(place, transaction.hash(), receipt);
    TransactionReceipt {
        inner: wrap(tx.tx_type(), receipt, logs),
        transaction_hash: transaction.hash(),
        transaction_index: Some(place.index.into()),
        block_hash: Some(place.header.hash()),
        block_number: Some(place.header.number),
        gas_used: receipt.gas_used,
        effective_gas_price: tx.effective_gas_price(place.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.sender(),
        to: tx.to(),
        contract_address: transaction.created_contract(),
    }
}

/// The logs of one transaction with their places.
pub(crate) fn rpc_logs(place: Place<'_>, transaction: B256, receipt: &Receipt) -> Vec<RpcLog> {
    let log = |(position, log): (u64, &Log)| rpc_log(place, transaction, position, log.clone());
    (receipt.first_log..).zip(&receipt.logs).map(log).collect()
}

/// One log with its place.
pub(crate) fn rpc_log(place: Place<'_>, transaction: B256, position: u64, log: Log) -> RpcLog {
    RpcLog {
        inner: log,
        block_hash: Some(place.header.hash()),
        block_number: Some(place.header.number),
        block_timestamp: Some(place.header.timestamp),
        transaction_hash: Some(transaction),
        transaction_index: Some(place.index.into()),
        log_index: Some(position),
        removed: false,
    }
}
