//! Writing: a block with its transactions and receipts, and the state of several blocks at once.

use std::collections::BTreeMap;

use alloy::{
    consensus::TrieAccount,
    primitives::{Address, B256, U256},
    rlp,
};
use redb::WriteTransaction;

use super::{
    ACCOUNTS, BlockWrite, CERTIFICATES, CODES, HEADERS, META, NUMBERS, POSITIONS, RECEIPTS, SLOTS, STATE_NUMBER,
    StoreError, StoredHeader, TRANSACTIONS, generations::TABLES, layers::Layers, record, slot_key,
};

/// Readers fail on a table that was never opened for writing.
pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(HEADERS)?;
    transaction.open_table(NUMBERS)?;
    transaction.open_table(TRANSACTIONS)?;
    transaction.open_table(RECEIPTS)?;
    transaction.open_table(POSITIONS)?;
    transaction.open_table(CERTIFICATES)?;
    transaction.open_table(CODES)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(SLOTS)?;
    for tables in TABLES {
        transaction.open_table(tables.places)?;
        transaction.open_table(tables.chunks)?;
    }
    Ok(())
}

/// The block itself: all that is needed to execute it again.
pub(super) fn block(transaction: &WriteTransaction, block: &BlockWrite, certificate: &[u8]) -> Result<(), StoreError> {
    let number = block.header.number;
    let header = StoredHeader::encode(&block.header, block.size, block.transactions.len());
    transaction.open_table(HEADERS)?.insert(number, header.as_slice())?;
    if !certificate.is_empty() {
        transaction.open_table(CERTIFICATES)?.insert(number, certificate)?;
    }
    let mut transactions = transaction.open_table(TRANSACTIONS)?;
    let mut receipts = transaction.open_table(RECEIPTS)?;
    for (index, (signed, receipt)) in (0_u32..).zip(block.transactions.iter().zip(&block.receipts)) {
        transactions.insert((number, index), record::encode_transaction(signed).as_slice())?;
        receipts.insert((number, index), rlp::encode(receipt).as_slice())?;
    }
    Ok(())
}

/// What follows from the blocks of these layers but for their trie nodes, and that the tables show the newest one's state
/// from now on.
pub(super) fn state(transaction: &WriteTransaction, layers: &Layers) -> Result<(), StoreError> {
    let Some(head) = layers.head() else { return Ok(()) };
    indices(transaction, layers)?;
    accounts(transaction, layers)?;
    slots(transaction, layers)?;
    transaction.open_table(META)?.insert(STATE_NUMBER, head.to_be_bytes().as_slice())?;
    Ok(())
}

// Neighbouring keys share pages, so everything is inserted in order: each page is touched once.

fn indices(transaction: &WriteTransaction, layers: &Layers) -> Result<(), StoreError> {
    let mut numbers = transaction.open_table(NUMBERS)?;
    let mut codes = transaction.open_table(CODES)?;
    let mut places: BTreeMap<B256, (u64, u32)> = BTreeMap::new();
    for layer in layers.oldest_first() {
        numbers.insert(&layer.hash.0, layer.number)?;
        for (hash, code) in &layer.codes {
            codes.insert(&hash.0, code.as_ref())?;
        }
        places.extend(layer.positions.iter().map(|(hash, index)| (*hash, (layer.number, *index))));
    }
    let mut positions = transaction.open_table(POSITIONS)?;
    for (hash, place) in places {
        positions.insert(&hash.0, place)?;
    }
    Ok(())
}

fn accounts(transaction: &WriteTransaction, layers: &Layers) -> Result<(), StoreError> {
    let mut last: BTreeMap<Address, Option<&TrieAccount>> = BTreeMap::new();
    for layer in layers.oldest_first() {
        last.extend(layer.accounts.iter().map(|(address, account)| (*address, account.as_ref())));
    }
    let mut table = transaction.open_table(ACCOUNTS)?;
    for (address, account) in last {
        match account {
            Some(account) => table.insert(&address.0.0, rlp::encode(account).as_slice())?,
            None => table.remove(&address.0.0)?,
        };
    }
    Ok(())
}

fn slots(transaction: &WriteTransaction, layers: &Layers) -> Result<(), StoreError> {
    let mut table = transaction.open_table(SLOTS)?;
    let mut last: BTreeMap<[u8; 52], U256> = BTreeMap::new();
    for layer in layers.oldest_first() {
        for (address, changes) in &layer.slots {
            if changes.wiped {
                let (from, to) = (slot_key(*address, U256::ZERO), slot_key(*address, U256::MAX));
                table.retain_in::<&[u8; 52], _>(&from..=&to, |_, _| false)?;
                let before: Vec<_> = last.range(from..=to).map(|(key, _)| *key).collect();
                for key in before {
                    last.remove(&key);
                }
            }
            last.extend(changes.written.iter().map(|(slot, value)| (slot_key(*address, *slot), *value)));
        }
    }
    for (key, value) in last {
        if value.is_zero() {
            table.remove(&key)?;
        } else {
            table.insert(&key, &value.to_be_bytes::<32>())?;
        }
    }
    Ok(())
}
