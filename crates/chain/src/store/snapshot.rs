//! The chain as it was after one block, unaffected by later commits.
//!
//! A snapshot is cheap to hold for the length of a request. While one is held the database cannot reuse the pages that
//! it shows, so nothing keeps one across an `await` on a client.

use std::sync::Arc;

use alloy::{
    consensus::{EMPTY_ROOT_HASH, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, U256},
    rlp::Decodable as _,
};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _};
use revm::bytecode::Bytecode;

use super::{
    ACCOUNTS, CERTIFICATES, CODES, CodeCache, HEADERS, NODES, NUMBERS, POSITIONS, RECEIPTS, Receipt, SLOTS, StoreError,
    StoredHeader, TRANSACTIONS, record, slot_key,
};
use crate::{
    state::{NodeReader, StateError},
    transaction::VerifiedTransaction,
};

/// The chain after its block [`Snapshot::head`].
pub(crate) struct Snapshot {
    head: StoredHeader,
    headers: ReadOnlyTable<u64, &'static [u8]>,
    numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    transactions: ReadOnlyTable<(u64, u32), &'static [u8]>,
    receipts: ReadOnlyTable<(u64, u32), &'static [u8]>,
    positions: ReadOnlyTable<&'static [u8; 32], (u64, u32)>,
    certificates: ReadOnlyTable<u64, &'static [u8]>,
    code_table: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8]>,
    slots: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    nodes: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
    codes: Arc<CodeCache>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Snapshot").field("number", &self.head.header.number).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn open(transaction: &ReadTransaction, codes: Arc<CodeCache>) -> Result<Option<Self>, StoreError> {
        let headers = transaction.open_table(HEADERS)?;
        let Some(head) = headers.last()?.map(|(_, record)| StoredHeader::decode(record.value())).transpose()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            head,
            headers,
            numbers: transaction.open_table(NUMBERS)?,
            transactions: transaction.open_table(TRANSACTIONS)?,
            receipts: transaction.open_table(RECEIPTS)?,
            positions: transaction.open_table(POSITIONS)?,
            certificates: transaction.open_table(CERTIFICATES)?,
            code_table: transaction.open_table(CODES)?,
            accounts: transaction.open_table(ACCOUNTS)?,
            slots: transaction.open_table(SLOTS)?,
            nodes: transaction.open_table(NODES)?,
            codes,
        }))
    }

    pub(crate) fn head(&self) -> &StoredHeader {
        &self.head
    }

    pub(crate) fn header(&self, number: u64) -> Result<Option<StoredHeader>, StoreError> {
        if number == self.head.header.number {
            return Ok(Some(self.head.clone()));
        }
        self.headers.get(number)?.map(|record| StoredHeader::decode(record.value())).transpose()
    }

    pub(crate) fn number(&self, hash: B256) -> Result<Option<u64>, StoreError> {
        Ok(self.numbers.get(&hash.0)?.map(|number| number.value()))
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.headers.get(number)?.map(|record| StoredHeader::decode_hash(record.value())).transpose()
    }

    pub(crate) fn position(&self, transaction: B256) -> Result<Option<(u64, u32)>, StoreError> {
        Ok(self.positions.get(&transaction.0)?.map(|place| place.value()))
    }

    pub(crate) fn transaction(&self, number: u64, index: u32) -> Result<Option<VerifiedTransaction>, StoreError> {
        let record = self.transactions.get((number, index))?;
        record.map(|record| record::decode_transaction(record.value())).transpose()
    }

    pub(crate) fn transactions(&self, number: u64) -> Result<Vec<VerifiedTransaction>, StoreError> {
        let rows = self.transactions.range((number, 0)..=(number, u32::MAX))?;
        let all = rows.map(|row| record::decode_transaction(row?.1.value())).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { self.must_be_empty(number).map(|()| all) } else { Ok(all) }
    }

    pub(crate) fn receipt(&self, number: u64, index: u32) -> Result<Option<Receipt>, StoreError> {
        let record = self.receipts.get((number, index))?;
        record.map(|record| record::decode_receipt(record.value())).transpose()
    }

    pub(crate) fn receipts(&self, number: u64) -> Result<Vec<Receipt>, StoreError> {
        let rows = self.receipts.range((number, 0)..=(number, u32::MAX))?;
        let all = rows.map(|row| record::decode_receipt(row?.1.value())).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { self.must_be_empty(number).map(|()| all) } else { Ok(all) }
    }

    /// Fails if the block has transactions that are not kept here.
    fn must_be_empty(&self, number: u64) -> Result<(), StoreError> {
        let header = self.header(number)?;
        let empty = header.is_none_or(|header| header.header.transactions_root == EMPTY_ROOT_HASH);
        if empty { Ok(()) } else { Err(StoreError::NotKept { number }) }
    }

    /// What made the block final, as the consensus engine encoded it.
    pub(crate) fn certificate(&self, number: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(self.certificates.get(number)?.map(|record| Bytes::copy_from_slice(record.value())))
    }

    /// The account as of the head.
    pub(crate) fn account(&self, address: Address) -> Result<Option<TrieAccount>, StoreError> {
        let record = self.accounts.get(&address.0.0)?;
        let decode = |mut record: &[u8]| TrieAccount::decode(&mut record);
        record.map(|record| decode(record.value()).map_err(|_| StoreError::Damaged { what: "account" })).transpose()
    }

    /// The slot as of the head.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        let record = self.slots.get(&slot_key(address, slot))?;
        Ok(record.map_or(U256::ZERO, |record| U256::from_be_bytes(*record.value())))
    }

    /// The code with this hash, analysed.
    pub(crate) fn code(&self, hash: B256) -> Result<Bytecode, StoreError> {
        if hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(hash) {
            return Ok(code);
        }
        let record = self.code_table.get(&hash.0)?.ok_or(StoreError::Damaged { what: "code reference" })?;
        let code = Bytecode::new_raw_checked(Bytes::copy_from_slice(record.value()))
            .map_err(|_| StoreError::Damaged { what: "code" })?;
        self.codes.put(hash, code.clone());
        Ok(code)
    }
}

impl NodeReader for Snapshot {
    fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError> {
        let read = || -> Result<Option<Vec<u8>>, StoreError> {
            Ok(self.nodes.get(&hash.0)?.map(|record| record.value().to_vec()))
        };
        read().map_err(|error| StateError::Read(Box::new(error)))
    }
}
