//! The bridge to revm: environments, transactions and the state that execution reads.
//!
//! One hard fork, Osaka, from block 0. A [`StateView`] reads either the head's flat tables or any past state through
//! the trie; both give the same answers. Nothing here writes.

use std::sync::Arc;

use alloy::{
    consensus::{Header, Transaction as _, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, TxKind, U256},
};
use revm::{
    Context, DatabaseRef, ExecuteEvm as _, MainBuilder as _, MainContext,
    bytecode::Bytecode,
    context::{BlockEnv, CfgEnv, Journal, TxEnv},
    context_interface::{either::Either, result::EVMError},
    database::CacheDB,
    database_interface::{EmptyDB, WrapDatabaseRef},
    primitives::hardfork::SpecId,
    state::AccountInfo,
};

use crate::{
    execute::ExecuteError,
    state::StateStore,
    store::{Snapshot, StoreError},
    transaction::VerifiedTransaction,
};

/// The rules of every block.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// The gas of a call that the consensus engine makes. Part of the rules: every node must come to the same answer.
const READ_GAS: u64 = 100_000_000;

/// An EVM context over a database.
pub(crate) type EvmContext<DB> = Context<BlockEnv, TxEnv, CfgEnv, DB, Journal<DB>, ()>;

/// A state to execute on: that after some block.
#[derive(Clone)]
pub(crate) struct StateView {
    snapshot: Arc<Snapshot>,
    trie: Arc<dyn StateStore>,
    /// The root to read from; none for the snapshot's head, whose flat tables are faster.
    root: Option<B256>,
}

impl StateView {
    /// The state after the snapshot's head.
    pub(crate) fn head(snapshot: Arc<Snapshot>, trie: Arc<dyn StateStore>) -> Self {
        Self { snapshot, trie, root: None }
    }

    /// The state after the block with this header.
    pub(crate) fn at(snapshot: Arc<Snapshot>, trie: Arc<dyn StateStore>, header: &Header) -> Self {
        let head = header.number == snapshot.head().header.number;
        Self { snapshot, trie, root: (!head).then_some(header.state_root) }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn root(&self) -> B256 {
        self.root.unwrap_or(self.snapshot.head().header.state_root)
    }

    pub(crate) fn account(&self, address: Address) -> Result<Option<TrieAccount>, StoreError> {
        match self.root {
            None => self.snapshot.account(address),
            Some(root) => Ok(self.trie.account(&*self.snapshot, root, address)?),
        }
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        if self.root.is_none() {
            return self.snapshot.slot(address, slot);
        }
        let Some(account) = self.account(address)? else {
            return Ok(U256::ZERO);
        };
        Ok(self.trie.slot(&*self.snapshot, account.storage_root, slot)?)
    }

    pub(crate) fn trie(&self) -> &dyn StateStore {
        &*self.trie
    }
}

impl DatabaseRef for StateView {
    type Error = StoreError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.account(address)?.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: (account.code_hash == KECCAK_EMPTY).then(Bytecode::default),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StoreError> {
        self.snapshot.code(code_hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        self.slot(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StoreError> {
        Ok(self.snapshot.block_hash(number)?.unwrap_or_default())
    }
}

/// An EVM context that enforces every rule, over this database.
pub(crate) fn context<DB: revm::Database>(database: DB, chain_id: u64, block: BlockEnv) -> EvmContext<DB> {
    let empty: EvmContext<EmptyDB> = Context::mainnet();
    empty.with_db(database).with_block(block).modify_cfg_chained(|cfg| {
        cfg.chain_id = chain_id;
        cfg.set_spec_and_mainnet_gas_params(SPEC);
    })
}

/// The same over a view that is only read.
pub(crate) fn wrap(view: StateView) -> WrapDatabaseRef<StateView> {
    WrapDatabaseRef(view)
}

/// The environment in which this block's transactions ran.
pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    }
}

/// A signed transaction as revm takes it.
pub(crate) fn transaction_env(transaction: &VerifiedTransaction) -> TxEnv {
    let tx = transaction.envelope();
    TxEnv {
        tx_type: tx.tx_type().into(),
        caller: transaction.sender(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: tx
            .authorization_list()
            .map_or_else(Vec::new, |list| list.iter().cloned().map(Either::Left).collect()),
    }
}

/// What a contract answers in the state after the view's head, within [`READ_GAS`].
pub(crate) fn read(view: StateView, chain_id: u64, contract: Address, input: Bytes) -> Result<Bytes, ExecuteError> {
    let block = block_env(&view.snapshot().head().header);
    let mut state = CacheDB::new(view);
    let mut context = context(&mut state, chain_id, block);
    context.cfg.disable_base_fee = true;
    context.cfg.disable_nonce_check = true;
    context.cfg.disable_block_gas_limit = true;
    context.cfg.tx_gas_limit_cap = Some(u64::MAX);
    let (kind, chain_id) = (TxKind::Call(contract), Some(chain_id));
    let tx = TxEnv { kind, data: input, gas_limit: READ_GAS, gas_price: 0, chain_id, ..TxEnv::default() };
    match context.build_mainnet().transact(tx) {
        Ok(outcome) if outcome.result.is_success() => Ok(outcome.result.into_output().unwrap_or_default()),
        Ok(outcome) => Err(ExecuteError::Evm(format!("{contract} refused the call: {:?}", outcome.result))),
        Err(EVMError::Database(error)) => Err(ExecuteError::Store(error)),
        Err(error) => Err(ExecuteError::Evm(error.to_string())),
    }
}
