//! Block 0: its state, its header, and the check that a database belongs to the configured chain.

use alloy::{
    consensus::{EMPTY_ROOT_HASH, Header, Sealable as _, constants::KECCAK_EMPTY},
    primitives::{Address, B256, keccak256},
};

use crate::{
    config::{Config, GenesisAccount},
    execute::{block_size, empty_header},
    state::{AccountChange, AccountFields, NodeReader, StateError, StateStore},
    store::{BlockWrite, SlotWrite, StoreError},
};

/// No node exists before block 0.
struct NoNodes;

impl NodeReader for NoNodes {
    fn node(&self, _hash: B256) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }
}

/// The first block of the configured chain.
pub(crate) fn genesis_block(config: &Config, trie: &dyn StateStore) -> Result<BlockWrite, StoreError> {
    let accounts = config.genesis.all_accounts();
    let changes: Vec<_> = accounts.iter().map(|(address, account)| change(*address, account)).collect();
    let state = trie.apply(&NoNodes, EMPTY_ROOT_HASH, &changes)?;
    let header = Header {
        state_root: state.root,
        timestamp: config.genesis.timestamp,
        extra_data: config.genesis.extra_data.clone(),
        gas_limit: config.gas_limit,
        base_fee_per_gas: Some(config.fees.base_fee_initial_wei),
        beneficiary: config.coinbase,
        mix_hash: keccak256(config.chain_id.to_be_bytes()),
        ..empty_header()
    };
    let codes = accounts.into_values().map(|account| account.code).filter(|code| !code.is_empty());
    Ok(BlockWrite {
        size: block_size(&header, &[]),
        header: header.seal_slow(),
        transactions: Vec::new(),
        receipts: Vec::new(),
        state,
        slots: changes
            .into_iter()
            .map(|change| SlotWrite { address: change.address, wiped: false, slots: change.slots })
            .collect(),
        codes: codes.map(|code| (keccak256(&code), code)).collect(),
    })
}

fn change(address: Address, account: &GenesisAccount) -> AccountChange {
    let code_hash = if account.code.is_empty() { KECCAK_EMPTY } else { keccak256(&account.code) };
    AccountChange {
        address,
        before: None,
        after: Some(AccountFields { nonce: account.nonce, balance: account.balance_wei, code_hash }),
        wiped: false,
        slots: account.storage.iter().map(|(slot, value)| (*slot, *value)).collect(),
    }
}
