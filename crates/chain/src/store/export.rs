//! The whole state after a block as plain accounts, from which another chain's block 0 can be made.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256};

use super::{Snapshot, StoreError};
use crate::config::GenesisAccount;

impl Snapshot {
    /// All accounts with code and storage. Everything is in memory at once: for states as small as a block 0 is.
    pub(crate) fn export(&self) -> Result<BTreeMap<Address, GenesisAccount>, StoreError> {
        let mut accounts = BTreeMap::new();
        for address in self.addresses()? {
            let damaged = StoreError::Damaged { what: "account" };
            let account = self.account(address)?.ok_or(damaged)?;
            let code = self.code(account.code_hash)?.original_bytes();
            let exported =
                GenesisAccount { balance_wei: account.balance, nonce: account.nonce, code, storage: BTreeMap::new() };
            accounts.insert(address, exported);
        }
        for ((address, slot), value) in self.all_slots()? {
            let damaged = StoreError::Damaged { what: "slot of no account" };
            let account: &mut GenesisAccount = accounts.get_mut(&address).ok_or(damaged)?;
            account.storage.insert(slot, value);
        }
        Ok(accounts)
    }
}

/// The parts of a slot's key.
pub(super) fn parse_slot_key(key: &[u8; 52]) -> (Address, U256) {
    (Address::from_slice(&key[..20]), U256::from_be_slice(&key[20..]))
}
