//! Reading a whole state out of the database, as of the block whose state its tables show, while others go on.
//!
//! What only the layers hold is of later blocks: the tables alone are one state, however large, without a copy in memory.

use alloy::{
    consensus::{EMPTY_ROOT_HASH, TrieAccount},
    primitives::{Address, B256, Bytes, U256},
};
use redb::{ReadOnlyTable, ReadableDatabase as _, ReadableTable as _};

use super::{
    ACCOUNTS, CODES, HEADERS, SLOTS, Store, StoreError, StoredHeader, record::decode_account, slot_key, state_number,
};
use crate::export::{ExportError, Exports, Manifest, SLOTS_PER_PIECE_MAX, SlotValue, Writer};

type Slots = ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>;

impl Store {
    /// Copies the state as the tables have it. None when there is a copy of it already, or no block but the first.
    pub(crate) fn copy_state(&self, exports: &Exports) -> Result<Option<Manifest>, ExportError> {
        let transaction = self.database.begin_read().map_err(StoreError::from)?;
        let open = || -> Result<_, StoreError> {
            let number = state_number(&transaction)?.unwrap_or(0);
            let record = transaction.open_table(HEADERS)?.get(number)?;
            let head = record.filter(|_| number > 0).map(|record| StoredHeader::decode(record.value()));
            let tables = (transaction.open_table(ACCOUNTS)?, transaction.open_table(SLOTS)?);
            Ok((head.transpose()?, tables, transaction.open_table(CODES)?))
        };
        let (Some(head), (accounts, slots), codes) = open()? else { return Ok(None) };
        if exports.blocks()?.contains(&head.header.number) {
            return Ok(None);
        }
        let code = |hash: B256| -> Result<Bytes, StoreError> {
            let record = codes.get(&hash.0)?.ok_or(StoreError::Damaged { what: "code reference" })?;
            Ok(Bytes::copy_from_slice(record.value()))
        };
        let mut writer = exports.begin(&head.header)?;
        for row in accounts.iter().map_err(StoreError::from)? {
            let (address, record) = row.map_err(StoreError::from)?;
            let address = Address::new(*address.value());
            let account = decode_account(record.value())?;
            export_account(&mut writer, address, &account, &slots, &code)?;
        }
        writer.finish().map(Some)
    }
}

fn export_account(
    writer: &mut Writer<'_>,
    address: Address,
    account: &TrieAccount,
    slots: &Slots,
    code: &dyn Fn(B256) -> Result<Bytes, StoreError>,
) -> Result<(), ExportError> {
    if account.storage_root == EMPTY_ROOT_HASH {
        return writer.add(address, account, Vec::new(), code);
    }
    let (first, last) = (slot_key(address, U256::ZERO), slot_key(address, U256::MAX));
    let mut piece = Vec::new();
    for row in slots.range::<&[u8; 52]>(&first..=&last).map_err(StoreError::from)? {
        let (key, value) = row.map_err(StoreError::from)?;
        let (slot, value) = (U256::from_be_slice(&key.value()[20..]), U256::from_be_bytes(*value.value()));
        piece.push(SlotValue { slot, value });
        if piece.len() >= SLOTS_PER_PIECE_MAX {
            writer.add(address, account, std::mem::take(&mut piece), code)?;
        }
    }
    if piece.is_empty() { Ok(()) } else { writer.add(address, account, piece, code) }
}
