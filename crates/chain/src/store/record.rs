//! How headers, transactions and receipts look inside the database. Golden tests pin every byte.

use alloy::{
    consensus::{Header, Sealed},
    primitives::{Address, B256, Bytes, Log},
    rlp::{Decodable as _, Encodable as _},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::StoreError;
use crate::transaction::VerifiedTransaction;

/// Hash, size and transaction count precede the encoded header.
const HEADER_PREFIX_BYTES: usize = 32 + 8 + 4;

/// What a transaction did. Blooms are derived, not stored.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Receipt {
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) cumulative_gas_used: u64,
    /// The position in the block of the first log.
    pub(crate) first_log: u64,
    pub(crate) logs: Vec<Log>,
}

/// A header with what is asked for along with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredHeader {
    pub(crate) header: Sealed<Header>,
    pub(crate) size: u64,
    pub(crate) transaction_count: u32,
}

impl StoredHeader {
    pub(crate) fn encode(header: &Sealed<Header>, size: u64, transaction_count: usize) -> Vec<u8> {
        let count = u32::try_from(transaction_count).expect("the gas limit keeps a block below 2^32 transactions");
        let mut record = Vec::with_capacity(HEADER_PREFIX_BYTES + header.inner().length());
        record.extend_from_slice(header.hash().as_slice());
        record.extend_from_slice(&size.to_be_bytes());
        record.extend_from_slice(&count.to_be_bytes());
        header.inner().encode(&mut record);
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let damaged = StoreError::Damaged { what: "header" };
        let Some((prefix, mut rest)) = record.split_at_checked(HEADER_PREFIX_BYTES) else {
            return Err(damaged);
        };
        let Ok(header) = Header::decode(&mut rest) else {
            return Err(damaged);
        };
        Ok(Self {
            header: Sealed::new_unchecked(header, B256::from_slice(&prefix[..32])),
            size: u64::from_be_bytes(prefix[32..40].try_into().expect("eight bytes")),
            transaction_count: u32::from_be_bytes(prefix[40..44].try_into().expect("four bytes")),
        })
    }

    /// Only the hash, without decoding the rest.
    pub(crate) fn decode_hash(record: &[u8]) -> Result<B256, StoreError> {
        record.get(..32).map(B256::from_slice).ok_or(StoreError::Damaged { what: "header" })
    }
}

/// The sender precedes the EIP-2718 encoding, so that no signature is recovered twice.
pub(crate) fn encode_transaction(transaction: &VerifiedTransaction) -> Vec<u8> {
    [transaction.sender().as_slice(), transaction.encoded()].concat()
}

pub(crate) fn decode_transaction(record: &[u8]) -> Result<VerifiedTransaction, StoreError> {
    let damaged = || StoreError::Damaged { what: "transaction" };
    let (sender, encoded) = record.split_at_checked(20).ok_or_else(damaged)?;
    VerifiedTransaction::from_stored(Address::from_slice(sender), Bytes::copy_from_slice(encoded)).map_err(|_| damaged())
}

pub(crate) fn decode_receipt(mut record: &[u8]) -> Result<Receipt, StoreError> {
    Receipt::decode(&mut record).map_err(|_| StoreError::Damaged { what: "receipt" })
}
