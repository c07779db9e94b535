//! From transactions to a block: execution, receipts, roots and the header.
//!
//! [`execute`] is a function of the parent's state, the attributes and the transactions; it writes nothing, so a block
//! may be built, judged and thrown away. Building skips what turns out not to be executable; checking a block that
//! someone else built fails on it.

use std::{collections::HashSet, sync::Arc};

use alloy::{
    consensus::{
        EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, Sealable as _, Sealed, Transaction as _,
        proofs::ordered_trie_root_with_encoder,
    },
    eips::{
        eip1559::BaseFeeParams, eip2718::Encodable2718 as _, eip2935::HISTORY_STORAGE_ADDRESS, eip4788::SYSTEM_ADDRESS,
        eip7685::EMPTY_REQUESTS_HASH,
    },
    primitives::{Address, B256, Bloom, Bytes, U256},
    rlp::{self, Encodable as _},
};
use revm::{
    DatabaseCommit as _, ExecuteCommitEvm as _, MainBuilder as _, SystemCallEvm as _,
    context_interface::result::{EVMError, ExecutionResult, InvalidTransaction},
    database::{BundleState, State, states::bundle_state::BundleRetention},
    database_interface::{WrapDatabaseRef, bal::EvmDatabaseError},
};
use thiserror::Error;

use crate::{
    config::{Config, Fees},
    evm::{self, StateView},
    metrics::Metrics,
    receipt::envelope,
    state::{AccountChange, AccountFields, StateUpdate},
    store::{BlockWrite, Receipt, SlotWrite, StoreError},
    transaction::VerifiedTransaction,
};

/// What whoever makes a block chooses about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAttributes {
    /// Unix seconds; at least the parent's. Blocks within one second share it.
    pub timestamp: u64,
    /// Who receives the priority fees.
    pub coinbase: Address,
    /// What the `PREVRANDAO` opcode returns.
    pub prev_randao: B256,
    /// At most 32 bytes of anything.
    pub extra_data: Bytes,
}

/// The rules that attributes and transactions are held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        Self { chain_id: config.chain_id, gas_limit: config.gas_limit, fees: config.fees }
    }

    /// The base fee of the block after this one (EIP-1559), in wei per gas.
    pub(crate) fn next_base_fee(&self, parent: &Header) -> u64 {
        let fees = &self.fees;
        let params = BaseFeeParams::new(u128::from(fees.change_denominator), u128::from(fees.elasticity));
        let base_fee = parent.base_fee_per_gas.unwrap_or(fees.base_fee_initial_wei);
        params.next_block_base_fee(parent.gas_used, parent.gas_limit, base_fee).max(fees.base_fee_min_wei)
    }

    /// The header of the block after `parent` as far as it is known before execution.
    pub(crate) fn next_header(&self, parent: &Sealed<Header>, attributes: &BlockAttributes) -> Header {
        Header {
            parent_hash: parent.hash(),
            number: parent.number + 1,
            beneficiary: attributes.coinbase,
            timestamp: attributes.timestamp,
            mix_hash: attributes.prev_randao,
            extra_data: attributes.extra_data.clone(),
            gas_limit: self.gas_limit,
            base_fee_per_gas: Some(self.next_base_fee(parent)),
            ..empty_header()
        }
    }
}

/// The fields that are the same in every block of this chain.
pub(crate) fn empty_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// What to do with a transaction that cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInvalid {
    /// Leave it and the sender's later ones out: the block is being built.
    Skip,
    /// The block is not valid: it was built elsewhere.
    Fail,
}

/// Why no block came out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A transaction of a block from elsewhere cannot be executed.
    #[error("transaction {hash} is not executable: {reason}")]
    Transaction {
        /// Which one.
        hash: B256,
        /// Why.
        reason: String,
    },
    /// The EVM failed in a way that no transaction may cause.
    #[error("the EVM failed: {0}")]
    Evm(String),
}

/// An executed block and the transactions that were left out for good.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) block: BlockWrite,
    /// Transactions that can never run, with the reason.
    pub(crate) invalid: Vec<(B256, InvalidTransaction)>,
}

/// Transactions from which on a thread of its own for their roots pays.
const SIDE_BY_SIDE_MIN: usize = 64;

type BlockDatabase = State<WrapDatabaseRef<StateView>>;

/// Runs transactions on the head's state and seals what comes out.
pub(crate) fn execute(
    view: &StateView,
    rules: &Rules,
    attributes: &BlockAttributes,
    transactions: Vec<Arc<VerifiedTransaction>>,
    on_invalid: OnInvalid,
    metrics: &Metrics,
) -> Result<Executed, ExecuteError> {
    let parent = &view.snapshot().head().header;
    let header = rules.next_header(parent, attributes);
    let mut state = State::builder().with_database(evm::wrap(view.clone())).with_bundle_update().build();
    let run = metrics.execution_cpu.spend(|| {
        record_parent_hash(&mut state, rules, &header)?;
        let mut run = Run::new(&header);
        run.transactions(&mut state, rules, transactions, on_invalid)?;
        state.merge_transitions(BundleRetention::PlainState);
        Ok::<_, ExecuteError>(run)
    })?;
    let Run { included, receipts, invalid, .. } = run;
    let block = seal(view, header, included, receipts, &state.take_bundle(), metrics)?;
    Ok(Executed { block, invalid })
}

/// EIP-2935: the history contract learns the parent's hash before the first transaction.
fn record_parent_hash(state: &mut BlockDatabase, rules: &Rules, header: &Header) -> Result<(), ExecuteError> {
    let mut evm = evm::context(&mut *state, rules.chain_id, evm::block_env(header)).build_mainnet();
    let input = Bytes::copy_from_slice(header.parent_hash.as_slice());
    let mut outcome = evm.system_call_with_caller(SYSTEM_ADDRESS, HISTORY_STORAGE_ADDRESS, input).map_err(fatal)?;
    drop(evm);
    outcome.state.retain(|address, _| *address == HISTORY_STORAGE_ADDRESS);
    state.commit(outcome.state);
    Ok(())
}

/// A block in the making.
struct Run<'a> {
    header: &'a Header,
    gas_left: u64,
    logs: u64,
    included: Vec<Arc<VerifiedTransaction>>,
    receipts: Vec<Receipt>,
    invalid: Vec<(B256, InvalidTransaction)>,
    /// Senders one of whose transactions was left out, so that the later ones cannot run either.
    skipped: HashSet<Address>,
}

impl<'a> Run<'a> {
    fn new(header: &'a Header) -> Self {
        Self {
            header,
            gas_left: header.gas_limit,
            logs: 0,
            included: Vec::new(),
            receipts: Vec::new(),
            invalid: Vec::new(),
            skipped: HashSet::new(),
        }
    }

    fn transactions(
        &mut self,
        state: &mut BlockDatabase,
        rules: &Rules,
        transactions: Vec<Arc<VerifiedTransaction>>,
        on_invalid: OnInvalid,
    ) -> Result<(), ExecuteError> {
        let mut evm = evm::context(state, rules.chain_id, evm::block_env(self.header)).build_mainnet();
        for transaction in transactions {
            if self.skipped.contains(&transaction.sender()) {
                continue;
            }
            if transaction.envelope().gas_limit() > self.gas_left {
                self.leave_out(&transaction, on_invalid, &InvalidTransaction::CallerGasLimitMoreThanBlock)?;
                continue;
            }
            match evm.transact_commit(evm::transaction_env(&transaction)) {
                Ok(result) => self.include(transaction, result),
                Err(EVMError::Transaction(reason)) => {
                    self.leave_out(&transaction, on_invalid, &reason)?;
                    self.invalid.push((transaction.hash(), reason));
                }
                Err(error) => return Err(fatal(error)),
            }
        }
        Ok(())
    }

    fn leave_out(
        &mut self,
        transaction: &VerifiedTransaction,
        on_invalid: OnInvalid,
        reason: &InvalidTransaction,
    ) -> Result<(), ExecuteError> {
        match on_invalid {
            OnInvalid::Skip => {
                self.skipped.insert(transaction.sender());
                Ok(())
            }
            OnInvalid::Fail => Err(ExecuteError::Transaction { hash: transaction.hash(), reason: reason.to_string() }),
        }
    }

    fn include(&mut self, transaction: Arc<VerifiedTransaction>, result: ExecutionResult) {
        let gas_used = result.tx_gas_used();
        self.gas_left = self.gas_left.saturating_sub(gas_used);
        let success = result.is_success();
        let logs = if success { result.into_logs() } else { Vec::new() };
        let first_log = self.logs;
        self.logs += logs.len() as u64;
        let cumulative_gas_used = self.header.gas_limit - self.gas_left;
        self.receipts.push(Receipt { success, gas_used, cumulative_gas_used, first_log, logs });
        self.included.push(transaction);
    }
}

fn fatal(error: EVMError<EvmDatabaseError<StoreError>>) -> ExecuteError {
    match error {
        EVMError::Database(EvmDatabaseError::Database(error)) => ExecuteError::Store(error),
        other => ExecuteError::Evm(other.to_string()),
    }
}

/// Computes the roots and the header. The roots of a large block are computed side by side.
fn seal(
    view: &StateView,
    mut header: Header,
    transactions: Vec<Arc<VerifiedTransaction>>,
    receipts: Vec<Receipt>,
    bundle: &BundleState,
    metrics: &Metrics,
) -> Result<BlockWrite, ExecuteError> {
    let of_state = || metrics.root_cpu.spend(|| apply_to_state(view, bundle));
    let of_lists = || metrics.root_cpu.spend(|| ListRoots::of(&transactions, &receipts));
    let (state, lists) = if transactions.len() < SIDE_BY_SIDE_MIN {
        (of_state(), of_lists())
    } else {
        std::thread::scope(|scope| {
            let lists = scope.spawn(of_lists);
            (of_state(), lists.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    };
    let (changes, state) = state?;
    header.state_root = state.root;
    header.gas_used = receipts.last().map_or(0, |receipt| receipt.cumulative_gas_used);
    header.transactions_root = lists.transactions;
    header.receipts_root = lists.receipts;
    header.logs_bloom = lists.bloom;
    let size = block_size(&header, &transactions);
    let slots = changes
        .into_iter()
        .map(|AccountChange { address, wiped, slots, .. }| SlotWrite { address, wiped, slots })
        .filter(|write| write.wiped || !write.slots.is_empty())
        .collect();
    let codes = bundle.contracts.iter().map(|(hash, code)| (*hash, code.original_bytes())).collect();
    Ok(BlockWrite { header: header.seal_slow(), size, transactions, receipts, state, slots, codes })
}

/// What the header says about the lists of transactions and receipts.
struct ListRoots {
    transactions: B256,
    receipts: B256,
    bloom: Bloom,
}

impl ListRoots {
    fn of(transactions: &[Arc<VerifiedTransaction>], receipts: &[Receipt]) -> Self {
        let envelopes: Vec<_> =
            transactions.iter().zip(receipts).map(|(tx, receipt)| envelope(tx.envelope().tx_type(), receipt)).collect();
        Self {
            transactions: ordered_trie_root_with_encoder(transactions, |tx, out| out.extend_from_slice(tx.encoded())),
            receipts: ordered_trie_root_with_encoder(&envelopes, |receipt, out| receipt.encode_2718(out)),
            bloom: envelopes.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
        }
    }
}

fn apply_to_state(view: &StateView, bundle: &BundleState) -> Result<(Vec<AccountChange>, StateUpdate), StoreError> {
    let changes = account_changes(view, bundle)?;
    let state = view.trie().apply(&**view.snapshot(), view.root(), &changes)?;
    Ok((changes, state))
}

/// What the block changed, account by account, in address order.
fn account_changes(view: &StateView, bundle: &BundleState) -> Result<Vec<AccountChange>, StoreError> {
    let mut changes = Vec::with_capacity(bundle.state.len());
    for (address, account) in &bundle.state {
        let wiped = account.was_destroyed();
        let changed = |slot: &&(U256, U256, U256)| if wiped { !slot.2.is_zero() } else { slot.1 != slot.2 };
        let slots: Vec<_> = account
            .storage
            .iter()
            .map(|(slot, value)| (*slot, value.previous_or_original_value, value.present_value))
            .filter(|slot| changed(&slot))
            .map(|(slot, _, now)| (slot, now))
            .collect();
        if !wiped && slots.is_empty() && !account.is_info_changed() {
            continue;
        }
        changes.push(AccountChange {
            address: *address,
            before: view.account(*address)?,
            after: account.info.as_ref().map(|info| AccountFields {
                nonce: info.nonce,
                balance: info.balance,
                code_hash: info.code_hash,
            }),
            wiped,
            slots,
        });
    }
    changes.sort_unstable_by_key(|change| change.address);
    Ok(changes)
}

/// Bytes of the block's RLP encoding: header, transactions, no ommers, no withdrawals.
pub(crate) fn block_size(header: &Header, transactions: &[Arc<VerifiedTransaction>]) -> u64 {
    let item = |tx: &Arc<VerifiedTransaction>| {
        if tx.envelope().is_legacy() { tx.encoded().len() } else { tx.encoded().length() }
    };
    let list = |payload_length: usize| rlp::Header { list: true, payload_length }.length_with_payload();
    let body = list(transactions.iter().map(item).sum()) + list(0) + list(0);
    list(header.length() + body) as u64
}
