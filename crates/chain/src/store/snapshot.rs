//! The chain as it was after one block, unaffected by later commits.
//!
//! A snapshot is cheap to hold for the length of a request. While one is held the database cannot reuse the pages that
//! it shows, so nothing keeps one across an `await` on a client.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::{
    consensus::{EMPTY_ROOT_HASH, Header, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, U256},
};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};
use revm::bytecode::Bytecode;

use super::{
    ACCOUNTS, CERTIFICATES, CODES, CodeCache, HEADERS, NUMBERS, POSITIONS, RECEIPTS, Receipt, SLOTS, StoreError,
    StoredHeader, TRANSACTIONS,
    export::parse_slot_key,
    generations::{Progress, Tables},
    layers::{Layers, NodeCache},
    record, slot_key, state_number,
};
use crate::{
    config::StatesKept,
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
    nodes: StoredNodes,
    layers: Layers,
    codes: Arc<CodeCache>,
    cache: Arc<NodeCache>,
    kept: StatesKept,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Snapshot").field("number", &self.head.header.number).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn open(
        transaction: &ReadTransaction,
        layers: Layers,
        codes: Arc<CodeCache>,
        cache: Arc<NodeCache>,
        kept: StatesKept,
    ) -> Result<Option<Self>, StoreError> {
        let Some(settled) = state_number(transaction)? else { return Ok(None) };
        let headers = transaction.open_table(HEADERS)?;
        let record = headers.get(layers.head().unwrap_or(settled))?.ok_or(StoreError::Damaged { what: "head" })?;
        let head = StoredHeader::decode(record.value())?;
        drop(record);
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
            nodes: StoredNodes::open(transaction)?,
            layers,
            codes,
            cache,
            kept,
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
        match self.layers.number(hash) {
            Some(number) => Ok(Some(number)),
            None => Ok(self.numbers.get(&hash.0)?.map(|number| number.value())),
        }
    }

    pub(crate) fn block_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        self.headers.get(number)?.map(|record| StoredHeader::decode_hash(record.value())).transpose()
    }

    pub(crate) fn position(&self, transaction: B256) -> Result<Option<(u64, u32)>, StoreError> {
        match self.layers.position(transaction) {
            Some(place) => Ok(Some(place)),
            None => Ok(self.positions.get(&transaction.0)?.map(|place| place.value())),
        }
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

    /// Fails if the state after this block is older than those that are kept, whatever is left of it.
    pub(crate) fn must_keep_state(&self, header: &Header) -> Result<(), StoreError> {
        let old = match self.kept {
            StatesKept::All => false,
            StatesKept::Last(blocks) => header.number.saturating_add(blocks.get()) <= self.head.header.number,
        };
        let incomplete = || StateError::Incomplete { root: header.state_root, reason: "it is too old".to_owned() };
        if old { Err(incomplete().into()) } else { Ok(()) }
    }

    /// The account as of the head.
    pub(crate) fn account(&self, address: Address) -> Result<Option<TrieAccount>, StoreError> {
        if let Some(account) = self.layers.account(address) {
            return Ok(account);
        }
        let record = self.accounts.get(&address.0.0)?;
        record.map(|record| record::decode_account(record.value())).transpose()
    }

    /// The slot as of the head.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        if let Some(value) = self.layers.slot(address, slot) {
            return Ok(value);
        }
        let record = self.slots.get(&slot_key(address, slot))?;
        Ok(record.map_or(U256::ZERO, |record| U256::from_be_bytes(*record.value())))
    }

    /// Everyone who has an account as of the head.
    pub(super) fn addresses(&self) -> Result<BTreeSet<Address>, StoreError> {
        let rows = self.accounts.iter()?;
        let mut addresses =
            rows.map(|row| Ok(Address::from(row?.0.value()))).collect::<Result<BTreeSet<_>, StoreError>>()?;
        for (address, account) in self.layers.oldest_first().flat_map(|layer| &layer.accounts) {
            if account.is_some() {
                addresses.insert(*address)
            } else {
                addresses.remove(address)
            };
        }
        Ok(addresses)
    }

    /// Every slot that is not zero as of the head.
    pub(super) fn all_slots(&self) -> Result<BTreeMap<(Address, U256), U256>, StoreError> {
        let mut slots = BTreeMap::new();
        for row in self.slots.iter()? {
            let (key, value) = row?;
            slots.insert(parse_slot_key(key.value()), U256::from_be_bytes(*value.value()));
        }
        for (address, changes) in self.layers.oldest_first().flat_map(|layer| &layer.slots) {
            if changes.wiped {
                slots.retain(|(owner, _), _| owner != address);
            }
            slots.extend(changes.written.iter().map(|(slot, value)| ((*address, *slot), *value)));
        }
        slots.retain(|_, value| !value.is_zero());
        Ok(slots)
    }

    /// The code with this hash, analysed.
    pub(crate) fn code(&self, hash: B256) -> Result<Bytecode, StoreError> {
        if hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.codes.get(hash) {
            return Ok(code);
        }
        let raw = match self.layers.code(hash) {
            Some(code) => code.clone(),
            None => {
                let record = self.code_table.get(&hash.0)?.ok_or(StoreError::Damaged { what: "code reference" })?;
                Bytes::copy_from_slice(record.value())
            }
        };
        let code = Bytecode::new_raw_checked(raw).map_err(|_| StoreError::Damaged { what: "code" })?;
        self.codes.put(hash, code.clone());
        Ok(code)
    }
}

/// The trie nodes that are in the tables.
pub(super) struct StoredNodes {
    current: Generation,
    /// The one before, until it is dropped.
    previous: Option<Generation>,
}

impl StoredNodes {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let progress = Progress::read(transaction)?;
        let previous = Generation::open(transaction, progress.previous())?;
        let previous = if previous.places.is_empty()? { None } else { Some(previous) };
        Ok(Self { current: Generation::open(transaction, progress.current())?, previous })
    }

    /// The node with this hash, and whether only the previous generation has it.
    pub(super) fn find(&self, hash: B256) -> Result<Option<(Vec<u8>, bool)>, StoreError> {
        if let Some(node) = self.current.get(hash)? {
            return Ok(Some((node, false)));
        }
        let Some(previous) = &self.previous else { return Ok(None) };
        Ok(previous.get(hash)?.map(|node| (node, true)))
    }
}

struct Generation {
    places: ReadOnlyTable<&'static [u8; 32], (u64, u32)>,
    chunks: ReadOnlyTable<u64, &'static [u8]>,
}

impl Generation {
    fn open(transaction: &ReadTransaction, tables: Tables) -> Result<Self, StoreError> {
        Ok(Self { places: transaction.open_table(tables.places)?, chunks: transaction.open_table(tables.chunks)? })
    }

    fn get(&self, hash: B256) -> Result<Option<Vec<u8>>, StoreError> {
        let damaged = || StoreError::Damaged { what: "trie node" };
        let Some((chunk, offset)) = self.places.get(&hash.0)?.map(|place| place.value()) else { return Ok(None) };
        let chunk = self.chunks.get(chunk)?.ok_or_else(damaged)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| chunk.value().get(offset..)).ok_or_else(damaged)?;
        // A node is an RLP list, which begins with its length.
        let header = alloy::rlp::Header::decode(&mut &*rest).map_err(|_| damaged())?;
        Ok(Some(rest.get(..header.length_with_payload()).ok_or_else(damaged)?.to_vec()))
    }
}

impl NodeReader for StoredNodes {
    fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError> {
        let found = self.find(hash).map_err(|error| StateError::Read(Box::new(error)))?;
        Ok(found.map(|(node, _)| node))
    }
}

#[cfg(test)]
impl Snapshot {
    /// A node as it is stored, past the cache.
    pub(super) fn stored_node(&self, hash: B256) -> Option<Vec<u8>> {
        let waiting = self.layers.node(hash).map(<[u8]>::to_vec);
        waiting.or_else(|| Some(self.nodes.find(hash).unwrap()?.0))
    }
}

impl NodeReader for Snapshot {
    fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(node) = self.layers.node(hash) {
            return Ok(Some(node.to_vec()));
        }
        if let Some(node) = self.cache.get(hash) {
            return Ok(Some(node.to_vec()));
        }
        let node = self.nodes.node(hash)?;
        if let Some(node) = &node {
            self.cache.put(hash, node);
        }
        Ok(node)
    }
}
