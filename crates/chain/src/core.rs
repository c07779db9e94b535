//! What the writer and all readers of one chain share: the database, the head, the pool.
//!
//! The head is swapped and the pool adjusted under one lock, so a transaction is always judged against the head that
//! the pool stands on. Lock order: pool, then head. No lock is held during execution or a commit.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use alloy::{
    consensus::constants::KECCAK_EMPTY,
    primitives::{Address, B256, Bytes, map::HashMap},
};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    config::Config,
    evm::{self, StateView},
    execute::{BlockAttributes, ExecuteError, Executed, OnInvalid, Rules, execute},
    export::{ExportError, Exports, Manifest},
    members::{Admission, Roll},
    metrics::Metrics,
    pool::{Pool, PoolError, PoolRules, SenderAccount},
    state::StateStore,
    store::{BlockWrite, Snapshot, Store, StoreError},
    transaction::{DecodeError, StatedTransaction, VerifiedTransaction},
};

/// Announcements of waiting transactions that a slow listener may fall behind by before it misses some.
const ANNOUNCEMENTS_BUFFERED: usize = 16_384;
/// The least gas that a transaction uses, which bounds how many fit into a block.
const TRANSACTION_GAS_MIN: u64 = 21_000;

/// Why a transaction was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool's rules refuse it.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The sender's account could not be read.
    #[error("the sender's account could not be read")]
    Store(#[from] StoreError),
    /// The chain is permissioned.
    #[error("{0} is not a member of this network that may send transactions")]
    NotMember(Address),
    /// The chain makes no more blocks.
    #[error("the chain has stopped and takes no transactions")]
    Stopped,
}

/// Wall time plus what development methods added.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_seconds: AtomicI64,
    /// The exact time of the next block, once.
    next: Mutex<Option<u64>>,
}

impl Clock {
    /// Unix seconds.
    pub(crate) fn now(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        wall.saturating_add_signed(self.offset_seconds.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, seconds: u64) -> i64 {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 4);
        self.offset_seconds.fetch_add(seconds, Ordering::Relaxed).saturating_add(seconds)
    }

    pub(crate) fn set_next(&self, timestamp: u64) {
        *self.next.lock() = Some(timestamp);
    }

    /// The time of the block being made; a time set for it also moves the clock.
    fn take(&self) -> u64 {
        let Some(next) = self.next.lock().take() else {
            return self.now();
        };
        let ahead = i64::try_from(next).unwrap_or(i64::MAX).saturating_sub_unsigned(self.now());
        self.offset_seconds.fetch_add(ahead, Ordering::Relaxed);
        next
    }
}

/// Shared state of one chain.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// Who may use the chain; none when everybody may.
    pub(crate) admission: Option<Admission>,
    store: Store,
    trie: Arc<dyn StateStore>,
    head: RwLock<Arc<Snapshot>>,
    pool: Mutex<Pool>,
    pool_rules: PoolRules,
    /// Woken when an executable transaction arrives.
    pub(crate) ready: Notify,
    /// Transactions that clients handed in here, for the network to spread.
    pub(crate) outbound: broadcast::Sender<Arc<VerifiedTransaction>>,
    /// Whom the consensus engine can reach, by transport key, and the last block that each one told of.
    pub(crate) peers: Mutex<BTreeMap<B256, u64>>,
    /// The number of the head; subscriptions follow it.
    pub(crate) head_number: watch::Sender<u64>,
    /// Hashes of transactions that became executable.
    pub(crate) announcements: broadcast::Sender<B256>,
    /// Cleared when the chain stops making blocks.
    pub(crate) running: watch::Sender<bool>,
}

impl Core {
    pub(crate) fn new(
        config: Config,
        store: Store,
        trie: Arc<dyn StateStore>,
        head: Snapshot,
    ) -> Result<Self, StoreError> {
        let head = Arc::new(head);
        let view = StateView::head(Arc::clone(&head), Arc::clone(&trie));
        let admission = |permissions| Admission::new(&view, config.chain_id, permissions);
        let admission = config.permissions.clone().map(admission).transpose()?;
        let pool_rules = PoolRules {
            chain_id: config.chain_id,
            // The smallest, so that no transaction waits for a block that could hold it and never comes.
            gas_limit: config.gas_limit_changes.iter().map(|change| change.1).fold(config.gas_limit, u64::min),
            tip_min_wei: config.fees.tip_min_wei,
            allow_unprotected: config.dev,
            limits: config.limits,
        };
        Ok(Self {
            rules: Rules::of(&config),
            clock: Clock::default(),
            metrics: Metrics::default(),
            admission,
            store,
            trie,
            head_number: watch::Sender::new(head.head().header.number),
            head: RwLock::new(head),
            pool: Mutex::new(Pool::new(pool_rules)),
            pool_rules,
            ready: Notify::new(),
            outbound: broadcast::Sender::new(ANNOUNCEMENTS_BUFFERED),
            peers: Mutex::default(),
            announcements: broadcast::Sender::new(ANNOUNCEMENTS_BUFFERED),
            running: watch::Sender::new(true),
            config,
        })
    }

    /// The chain as of its last block.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.head.read())
    }

    /// The state after the last block.
    pub(crate) fn head_view(&self) -> StateView {
        StateView::head(self.snapshot(), Arc::clone(&self.trie))
    }

    /// The state after any block whose state is kept.
    pub(crate) fn view_at(
        &self,
        snapshot: Arc<Snapshot>,
        header: &alloy::consensus::Header,
    ) -> Result<StateView, StoreError> {
        snapshot.must_keep_state(header)?;
        Ok(StateView::at(snapshot, Arc::clone(&self.trie), header))
    }

    /// Runs a closure on the pool.
    pub(crate) fn with_pool<T>(&self, read: impl FnOnce(&Pool) -> T) -> T {
        read(&self.pool.lock())
    }

    /// Decodes a transaction and recovers its sender.
    pub(crate) fn verify(&self, encoded: Bytes) -> Result<VerifiedTransaction, DecodeError> {
        self.metrics.recovery_cpu.spend(|| VerifiedTransaction::decode(encoded))
    }

    /// Decodes many transactions and finds their senders.
    pub(crate) fn verify_stated(&self, all: &[StatedTransaction]) -> Vec<Result<VerifiedTransaction, DecodeError>> {
        self.metrics.recovery_cpu.spend(|| VerifiedTransaction::decode_stated(all))
    }

    /// Takes a client's transaction into the pool and lets the network know.
    pub(crate) fn submit(&self, transaction: VerifiedTransaction) -> Result<B256, SubmitError> {
        let transaction = Arc::new(transaction);
        let hash = self.submit_from_peer(Arc::clone(&transaction))?;
        // Nobody listening is fine: a chain of one validator has no network.
        let _ = self.outbound.send(transaction);
        Ok(hash)
    }

    /// Takes a transaction into the pool that the network knows already.
    pub(crate) fn submit_from_peer(&self, transaction: Arc<VerifiedTransaction>) -> Result<B256, SubmitError> {
        let outcome = self.try_submit(transaction);
        if outcome.is_err() {
            Metrics::add(&self.metrics.pool_refused, 1);
        }
        outcome
    }

    fn try_submit(&self, transaction: Arc<VerifiedTransaction>) -> Result<B256, SubmitError> {
        if !*self.running.borrow() {
            return Err(SubmitError::Stopped);
        }
        self.pool_rules.check(&transaction)?;
        let hash = transaction.hash();
        let now = self.clock.now();
        let added = {
            let mut pool = self.pool.lock();
            if self.first_refused(std::slice::from_ref(&transaction))?.is_some() {
                return Err(SubmitError::NotMember(transaction.sender()));
            }
            let account = sender_account(&self.snapshot(), transaction.sender())?;
            pool.add(transaction, account, now)?
        };
        if !added.executable.is_empty() {
            self.ready.notify_one();
        }
        for hash in added.executable {
            // Nobody listening is fine.
            let _ = self.announcements.send(hash);
        }
        Ok(hash)
    }

    /// Whether a block made now would hold a transaction.
    pub(crate) fn has_executable(&self) -> bool {
        let pool = self.pool.lock();
        let base_fee = self.rules.next_base_fee(&self.snapshot().head().header);
        pool.has_executable(base_fee)
    }

    /// The attributes of the block that is made now; a time set for it is used up.
    pub(crate) fn attributes(&self) -> BlockAttributes {
        self.attributes_at(self.clock.take())
    }

    /// The attributes that a block made now would have.
    pub(crate) fn peek_attributes(&self) -> BlockAttributes {
        let set = *self.clock.next.lock();
        self.attributes_at(set.unwrap_or_else(|| self.clock.now()))
    }

    fn attributes_at(&self, time: u64) -> BlockAttributes {
        let snapshot = self.snapshot();
        let parent = &snapshot.head().header;
        let seed = [parent.mix_hash, parent.hash()].concat();
        BlockAttributes {
            timestamp: time.max(parent.timestamp),
            coinbase: self.config.coinbase,
            prev_randao: alloy::primitives::keccak256(seed),
            extra_data: alloy::primitives::Bytes::new(),
        }
    }

    /// Executes the best waiting transactions on the head. What can never run leaves the pool.
    pub(crate) fn build(&self, attributes: &BlockAttributes) -> Result<BlockWrite, ExecuteError> {
        let start = Instant::now();
        let (view, mut transactions) = {
            let mut pool = self.pool.lock();
            pool.expire(self.clock.now());
            let view = self.head_view();
            let base_fee = self.rules.next_base_fee(&view.snapshot().head().header);
            let gas_limit = self.rules.gas_limit_at(view.snapshot().head().header.number + 1);
            let count_max = usize::try_from(gas_limit / TRANSACTION_GAS_MIN).unwrap_or(usize::MAX);
            (view, pool.best(base_fee, count_max))
        };
        self.leave_out_refused(&view, &mut transactions)?;
        let Executed { block, invalid } =
            execute(&view, &self.rules, attributes, transactions, OnInvalid::Skip, &self.metrics)?;
        if !invalid.is_empty() {
            Metrics::add(&self.metrics.pool_invalid, invalid.len() as u64);
            let mut pool = self.pool.lock();
            for (hash, reason) in invalid {
                tracing::debug!(%hash, %reason, "a waiting transaction can never run and was dropped");
                pool.discard(hash);
            }
        }
        Metrics::add_since(&self.metrics.build_micros, start);
        Ok(block)
    }

    /// Executes the transactions of a block that was built elsewhere.
    pub(crate) fn rebuild(
        &self,
        attributes: &BlockAttributes,
        transactions: Vec<Arc<VerifiedTransaction>>,
    ) -> Result<BlockWrite, ExecuteError> {
        let view = self.head_view();
        Ok(execute(&view, &self.rules, attributes, transactions, OnInvalid::Fail, &self.metrics)?.block)
    }

    /// What a contract answers in the state after the head.
    pub(crate) fn read(&self, contract: Address, input: Bytes) -> Result<Bytes, ExecuteError> {
        evm::read(self.head_view(), self.rules.chain_id, contract, input)
    }

    /// Whether an account may read; on a chain without permissions everybody may.
    pub(crate) fn may_read(&self, account: Address) -> bool {
        self.admission.as_ref().is_none_or(|admission| admission.roll().may_read(account))
    }

    /// The first of these transactions that the block after the head may not hold.
    pub(crate) fn first_refused(&self, transactions: &[Arc<VerifiedTransaction>]) -> Result<Option<usize>, StoreError> {
        let Some(admission) = &self.admission else { return Ok(None) };
        let view = self.head_view();
        for (index, transaction) in transactions.iter().enumerate() {
            if !admission.admits(&view, transaction)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Takes those transactions out, here and of the pool, that the block after the head may not hold.
    fn leave_out_refused(
        &self,
        view: &StateView,
        transactions: &mut Vec<Arc<VerifiedTransaction>>,
    ) -> Result<(), StoreError> {
        let Some(admission) = &self.admission else { return Ok(()) };
        let mut admitted = Vec::with_capacity(transactions.len());
        for transaction in transactions.drain(..) {
            if admission.admits(view, &transaction)? {
                admitted.push(transaction);
            } else {
                self.pool.lock().discard(transaction.hash());
            }
        }
        *transactions = admitted;
        Ok(())
    }

    /// Whether a block changes who belongs.
    fn touches_members(&self, block: &BlockWrite) -> bool {
        let Some(admission) = &self.admission else { return false };
        block.state.accounts.iter().any(|(address, _)| *address == admission.permissions.members)
    }

    /// Who belongs in the state after a block that is about to become the head.
    fn roll_after(&self, head: &Arc<Snapshot>) -> Result<Option<Roll>, StoreError> {
        let Some(admission) = &self.admission else { return Ok(None) };
        let view = StateView::head(Arc::clone(head), Arc::clone(&self.trie));
        Roll::read(&view, admission.chain_id, &admission.permissions).map(Some)
    }

    /// Copies the state that the database holds.
    pub(crate) fn copy_state(&self, exports: &Exports) -> Result<Option<Manifest>, ExportError> {
        self.store.copy_state(exports)
    }

    /// Makes a block durable, then visible, then announces it.
    pub(crate) fn commit(&self, block: BlockWrite, certificate: &[u8]) -> Result<(), StoreError> {
        let start = Instant::now();
        let (number, transactions, gas_used) = (block.header.number, block.transactions.len(), block.header.gas_used);
        self.metrics.commit_cpu.spend(|| self.write(block, certificate))?;
        Metrics::add(&self.metrics.blocks, 1);
        Metrics::add(&self.metrics.transactions, transactions as u64);
        Metrics::add(&self.metrics.gas_used, gas_used);
        Metrics::add_since(&self.metrics.commit_micros, start);
        // Last, so that whoever follows the head finds everything else already there.
        self.head_number.send_replace(number);
        Ok(())
    }

    /// Makes a block durable, then the head that the pool stands on.
    fn write(&self, block: BlockWrite, certificate: &[u8]) -> Result<(), StoreError> {
        let accounts = block.state.accounts.iter();
        let changed: HashMap<Address, SenderAccount> = accounts
            .map(|(address, account)| {
                let account = account.as_ref().map(|account| (account.nonce, account.balance)).unwrap_or_default();
                (*address, SenderAccount { nonce: account.0, balance: account.1, is_contract: false })
            })
            .collect();
        let touched = self.touches_members(&block);
        self.store.commit(block, certificate)?;
        let snapshot = Arc::new(self.store.snapshot()?.ok_or(StoreError::Damaged { what: "head" })?);
        let roll = if touched { self.roll_after(&snapshot)? } else { None };
        let mut pool = self.pool.lock();
        *self.head.write() = snapshot;
        pool.head_changed(|address| changed.get(&address).copied());
        if let Some((admission, roll)) = self.admission.as_ref().zip(roll) {
            pool.retain(|transaction| roll.may_send(transaction.sender()) || admission.is_to_members(transaction));
            admission.set(roll);
        }
        Ok(())
    }
}

fn sender_account(snapshot: &Snapshot, address: Address) -> Result<SenderAccount, StoreError> {
    let Some(account) = snapshot.account(address)? else {
        return Ok(SenderAccount::default());
    };
    let is_contract = account.code_hash != KECCAK_EMPTY && !snapshot.code(account.code_hash)?.is_eip7702();
    Ok(SenderAccount { nonce: account.nonce, balance: account.balance, is_contract })
}
