//! The mempool: which transactions wait, in which order they run, which are refused and why.
//!
//! A synchronous core without clock, locks or I/O: the caller brings the sender's account and the time. It guarantees
//! that what [`Pool::best`] returns is executable in that order against the head's nonces, that no sender's waiting
//! transactions together cost more than its balance, and that counts and bytes stay within [`Limits`]. Messages are
//! those of go-ethereum, because clients match on them. It does not execute anything and forgets everything on restart.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256, U256},
};
use revm::{
    context_interface::cfg::{GasParams, gas::InitialAndFloorGas},
    primitives::{eip3860::MAX_INITCODE_SIZE, hardfork::SpecId},
};
use thiserror::Error;

use crate::{
    config::{Limits, TRANSACTION_GAS_LIMIT_MAX},
    transaction::VerifiedTransaction,
};

/// A replacement must raise both fee caps by this many per cent.
const REPLACEMENT_BUMP_PERCENT: u128 = 10;

/// Why the pool refused a transaction. The texts are go-ethereum's.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The very same transaction is waiting.
    #[error("already known")]
    AlreadyKnown,
    /// Signed for another chain.
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The chain it was signed for.
        have: u64,
        /// This chain.
        want: u64,
    },
    /// A legacy transaction without a chain identifier could be replayed elsewhere.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// The account has already used this nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's next nonce.
        next: u64,
        /// The transaction's nonce.
        nonce: u64,
    },
    /// EIP-2681.
    #[error("nonce has max value")]
    NonceMax,
    /// Everything that the sender has waiting, with this, costs more than it owns.
    #[error("insufficient funds for gas * price + value: {0}")]
    Funds(Box<Shortfall>),
    /// Less gas than the transaction costs before its first instruction.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// The gas limit given.
        gas: u64,
        /// The least that would do.
        needed: u64,
    },
    /// Less gas than its calldata costs at least (EIP-7623).
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// The gas limit given.
        gas: u64,
        /// The least that would do.
        needed: u64,
    },
    /// More gas than a block has.
    #[error("exceeds block gas limit")]
    BlockGasLimit,
    /// More gas than one transaction may have (EIP-7825).
    #[error("transaction gas limit too high (cap: {TRANSACTION_GAS_LIMIT_MAX}, tx: {gas})")]
    TransactionGasLimit {
        /// The gas limit given.
        gas: u64,
    },
    /// Larger creation code than EIP-3860 allows.
    #[error("max initcode size exceeded: code size {size}, limit {MAX_INITCODE_SIZE}")]
    InitCode {
        /// Bytes of creation code.
        size: usize,
    },
    /// The priority fee exceeds the fee cap.
    #[error("max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}")]
    TipAboveFeeCap {
        /// The priority fee, in wei per gas.
        tip: u128,
        /// The fee cap, in wei per gas.
        cap: u128,
    },
    /// The priority fee is below the configured floor.
    #[error("transaction underpriced: gas tip cap {tip}, minimum needed {needed}")]
    Underpriced {
        /// The priority fee, in wei per gas.
        tip: u128,
        /// The floor, in wei per gas.
        needed: u128,
    },
    /// A transaction with the same nonce is waiting and this one does not pay 10 % more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// A contract cannot send transactions (EIP-3607).
    #[error("sender not an eoa: address {0}")]
    SenderIsContract(Address),
    /// EIP-7702 demands one.
    #[error("set code tx must have at least one authorization tuple")]
    NoAuthorization,
    /// The sender has too many transactions waiting, or too many behind a gap.
    #[error("account limit exceeded: {limit} transactions of one sender may wait")]
    AccountLimit {
        /// The bound.
        limit: usize,
    },
    /// The pool is full of transactions that pay at least as much.
    #[error("txpool is full")]
    Full,
}

/// What a sender has and what it would need, in wei.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}")]
pub struct Shortfall {
    /// What the sender owns.
    pub balance: U256,
    /// What its waiting transactions may cost.
    pub queued: U256,
    /// What this transaction may cost.
    pub cost: U256,
    /// What is missing.
    pub overshot: U256,
}

/// The sender's account as of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SenderAccount {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    /// It has code other than an EIP-7702 delegation.
    pub(crate) is_contract: bool,
}

/// What became of an accepted transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// Transactions that became executable by this addition, in nonce order; empty when it waits behind a gap.
    pub(crate) executable: Vec<B256>,
}

/// The rules that do not depend on waiting transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolRules {
    pub(crate) chain_id: u64,
    pub(crate) gas_limit: u64,
    pub(crate) tip_min_wei: u128,
    pub(crate) allow_unprotected: bool,
    pub(crate) limits: Limits,
}

impl PoolRules {
    /// Checks what a transaction says by itself.
    pub(crate) fn check(&self, transaction: &VerifiedTransaction) -> Result<(), PoolError> {
        let tx = transaction.envelope();
        match tx.chain_id() {
            Some(have) if have != self.chain_id => return Err(PoolError::ChainId { have, want: self.chain_id }),
            None if !self.allow_unprotected => return Err(PoolError::Unprotected),
            _ => {}
        }
        if tx.nonce() == u64::MAX {
            return Err(PoolError::NonceMax);
        }
        let (tip, cap) = (transaction.tip_cap(), tx.max_fee_per_gas());
        if tip > cap {
            return Err(PoolError::TipAboveFeeCap { tip, cap });
        }
        if tip < self.tip_min_wei {
            return Err(PoolError::Underpriced { tip, needed: self.tip_min_wei });
        }
        if tx.authorization_list().is_some_and(<[_]>::is_empty) {
            return Err(PoolError::NoAuthorization);
        }
        if tx.is_create() && tx.input().len() > MAX_INITCODE_SIZE {
            return Err(PoolError::InitCode { size: tx.input().len() });
        }
        self.check_gas(transaction)
    }

    fn check_gas(&self, transaction: &VerifiedTransaction) -> Result<(), PoolError> {
        let gas = transaction.envelope().gas_limit();
        if gas > self.gas_limit {
            return Err(PoolError::BlockGasLimit);
        }
        if gas > TRANSACTION_GAS_LIMIT_MAX {
            return Err(PoolError::TransactionGasLimit { gas });
        }
        let needed = intrinsic_gas(transaction);
        if gas < needed.initial_total_gas() {
            return Err(PoolError::IntrinsicGas { gas, needed: needed.initial_total_gas() });
        }
        if gas < needed.floor_gas() {
            return Err(PoolError::FloorGas { gas, needed: needed.floor_gas() });
        }
        Ok(())
    }
}

fn intrinsic_gas(transaction: &VerifiedTransaction) -> InitialAndFloorGas {
    let tx = transaction.envelope();
    let (accounts, slots) = tx
        .access_list()
        .map_or((0, 0), |list| (list.len() as u64, list.iter().map(|item| item.storage_keys.len() as u64).sum()));
    let authorizations = tx.authorization_list().map_or(0, |list| list.len() as u64);
    GasParams::new_spec(SpecId::OSAKA).initial_tx_gas(tx.input(), tx.is_create(), accounts, slots, authorizations, None)
}

#[derive(Debug)]
struct Entry {
    transaction: Arc<VerifiedTransaction>,
    /// Order of arrival: earlier goes first among equal tips.
    arrival: u64,
    /// When it arrived, in Unix seconds.
    since: u64,
}

#[derive(Debug, Default)]
struct Sender {
    account: SenderAccount,
    by_nonce: BTreeMap<u64, Entry>,
    /// The first nonce from the account's on that is missing here.
    gap: u64,
    /// The most that all of `by_nonce` may cost.
    cost: U256,
}

impl Sender {
    /// Moves the gap forward over what is present and returns what became executable.
    fn advance_gap(&mut self) -> Vec<B256> {
        let mut executable = Vec::new();
        while let Some(entry) = self.by_nonce.get(&self.gap) {
            executable.push(entry.transaction.hash());
            self.gap += 1;
        }
        executable
    }

    fn queued(&self) -> usize {
        self.by_nonce.range(self.gap..).count()
    }
}

/// Ranks what is evicted first: the lowest tip, among equals the latest arrival.
type EvictionKey = (u128, Reverse<u64>, Address, u64);

/// Waiting transactions.
#[derive(Debug)]
pub(crate) struct Pool {
    rules: PoolRules,
    senders: HashMap<Address, Sender>,
    by_hash: HashMap<B256, (Address, u64)>,
    by_price: BTreeSet<EvictionKey>,
    bytes: usize,
    arrivals: u64,
}

impl Pool {
    pub(crate) fn new(rules: PoolRules) -> Self {
        Self {
            rules,
            senders: HashMap::new(),
            by_hash: HashMap::new(),
            by_price: BTreeSet::new(),
            bytes: 0,
            arrivals: 0,
        }
    }

    /// Takes a transaction that [`PoolRules::check`] passed, with its sender's account as of the head.
    pub(crate) fn add(
        &mut self,
        transaction: Arc<VerifiedTransaction>,
        account: SenderAccount,
        now: u64,
    ) -> Result<Added, PoolError> {
        if self.by_hash.contains_key(&transaction.hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        self.check_sender(&transaction, account)?;
        self.make_room(&transaction)?;
        let (address, nonce) = (transaction.sender(), transaction.envelope().nonce());
        let replaced = self.remove(address, nonce).is_some();
        self.insert(transaction, account, now);
        let sender = self.senders.get_mut(&address).expect("just inserted");
        let mut executable = if sender.gap == nonce { sender.advance_gap() } else { Vec::new() };
        if replaced {
            // Those behind it were announced when the replaced one came.
            executable.truncate(1);
        }
        Ok(Added { executable })
    }

    fn check_sender(&self, transaction: &VerifiedTransaction, account: SenderAccount) -> Result<(), PoolError> {
        let nonce = transaction.envelope().nonce();
        if account.is_contract {
            return Err(PoolError::SenderIsContract(transaction.sender()));
        }
        if nonce < account.nonce {
            return Err(PoolError::NonceTooLow { next: account.nonce, nonce });
        }
        let sender = self.senders.get(&transaction.sender());
        let replaced = sender.and_then(|sender| sender.by_nonce.get(&nonce));
        if let Some(replaced) = replaced {
            check_bump(&replaced.transaction, transaction)?;
        }
        let freed = replaced.map_or(U256::ZERO, |entry| entry.transaction.cost_max());
        let queued = sender.map_or(U256::ZERO, |sender| sender.cost).saturating_sub(freed);
        let cost = transaction.cost_max();
        let total = queued.saturating_add(cost);
        if total > account.balance {
            let overshot = total - account.balance;
            let shortfall = Shortfall { balance: account.balance, queued, cost, overshot };
            return Err(PoolError::Funds(Box::new(shortfall)));
        }
        if replaced.is_none()
            && let Some(sender) = sender
        {
            self.check_account_limit(sender, nonce)?;
        }
        Ok(())
    }

    fn check_account_limit(&self, sender: &Sender, nonce: u64) -> Result<(), PoolError> {
        let limits = &self.rules.limits;
        if sender.by_nonce.len() >= limits.pool_per_sender_max {
            return Err(PoolError::AccountLimit { limit: limits.pool_per_sender_max });
        }
        if nonce > sender.gap && sender.queued() >= limits.pool_queued_per_sender_max {
            return Err(PoolError::AccountLimit { limit: limits.pool_queued_per_sender_max });
        }
        Ok(())
    }

    /// Evicts what pays least until there is room, or refuses if that is the newcomer.
    fn make_room(&mut self, transaction: &VerifiedTransaction) -> Result<(), PoolError> {
        let limits = self.rules.limits;
        let size = transaction.encoded().len();
        while self.by_hash.len() >= limits.pool_transactions_max || self.bytes + size > limits.pool_bytes_max {
            let Some(&(tip, _, address, nonce)) = self.by_price.first() else {
                return Err(PoolError::Full);
            };
            if tip >= transaction.tip_cap() {
                return Err(PoolError::Full);
            }
            self.remove(address, nonce);
        }
        Ok(())
    }

    fn insert(&mut self, transaction: Arc<VerifiedTransaction>, account: SenderAccount, since: u64) {
        let (address, nonce, hash) = (transaction.sender(), transaction.envelope().nonce(), transaction.hash());
        self.arrivals += 1;
        self.bytes += transaction.encoded().len();
        self.by_hash.insert(hash, (address, nonce));
        self.by_price.insert((transaction.tip_cap(), Reverse(self.arrivals), address, nonce));
        let sender =
            self.senders.entry(address).or_insert_with(|| Sender { account, gap: account.nonce, ..Sender::default() });
        sender.cost = sender.cost.saturating_add(transaction.cost_max());
        sender.by_nonce.insert(nonce, Entry { transaction, arrival: self.arrivals, since });
    }

    /// Takes one transaction out; those with higher nonces then wait behind the gap.
    fn remove(&mut self, address: Address, nonce: u64) -> Option<Arc<VerifiedTransaction>> {
        let sender = self.senders.get_mut(&address)?;
        let Entry { transaction, arrival, .. } = sender.by_nonce.remove(&nonce)?;
        sender.cost = sender.cost.saturating_sub(transaction.cost_max());
        sender.gap = sender.gap.min(nonce.max(sender.account.nonce));
        if sender.by_nonce.is_empty() {
            self.senders.remove(&address);
        }
        self.bytes -= transaction.encoded().len();
        self.by_hash.remove(&transaction.hash());
        self.by_price.remove(&(transaction.tip_cap(), Reverse(arrival), address, nonce));
        Some(transaction)
    }

    /// Takes out a transaction that turned out not to be executable.
    pub(crate) fn discard(&mut self, hash: B256) {
        if let Some(&(address, nonce)) = self.by_hash.get(&hash) {
            self.remove(address, nonce);
        }
    }

    /// Takes out all that `keep` does not want kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&VerifiedTransaction) -> bool) {
        let unwanted = |(nonce, entry): (&u64, &Entry)| (!keep(&entry.transaction)).then_some(*nonce);
        let unwanted: Vec<(Address, u64)> = self
            .senders
            .iter()
            .flat_map(|(address, sender)| sender.by_nonce.iter().filter_map(unwanted).map(|nonce| (*address, nonce)))
            .collect();
        for (address, nonce) in unwanted {
            self.remove(address, nonce);
        }
    }

    /// Adjusts to a new head: `account` gives the account of any address that the block changed, none for others.
    pub(crate) fn head_changed(&mut self, account: impl Fn(Address) -> Option<SenderAccount>) {
        let changed: Vec<_> =
            self.senders.keys().filter_map(|address| account(*address).map(|account| (*address, account))).collect();
        for (address, account) in changed {
            self.account_changed(address, account);
        }
    }

    fn account_changed(&mut self, address: Address, account: SenderAccount) {
        let Some(sender) = self.senders.get_mut(&address) else {
            return;
        };
        sender.account = account;
        sender.gap = sender.gap.max(account.nonce);
        let stale: Vec<u64> = sender
            .by_nonce
            .iter()
            .filter(|(nonce, entry)| **nonce < account.nonce || entry.transaction.cost_max() > account.balance)
            .map(|(nonce, _)| *nonce)
            .collect();
        for nonce in stale {
            self.remove(address, nonce);
        }
        while let Some(sender) = self.senders.get(&address).filter(|sender| sender.cost > account.balance)
            && let Some(nonce) = sender.by_nonce.keys().next_back().copied()
        {
            self.remove(address, nonce);
        }
        if let Some(sender) = self.senders.get_mut(&address) {
            sender.advance_gap();
        }
    }

    /// Takes out what has waited behind a gap for too long.
    pub(crate) fn expire(&mut self, now: u64) {
        let oldest = now.saturating_sub(self.rules.limits.pool_queued_seconds_max);
        let expired: Vec<(Address, u64)> = self
            .senders
            .iter()
            .flat_map(|(address, sender)| sender.by_nonce.range(sender.gap..).map(move |row| (*address, row)))
            .filter(|(_, (_, entry))| entry.since < oldest)
            .map(|(address, (nonce, _))| (address, *nonce))
            .collect();
        for (address, nonce) in expired {
            self.remove(address, nonce);
        }
    }

    /// At most `count_max` executable transactions that can pay this base fee, the best paying first; those of one
    /// sender in nonce order.
    pub(crate) fn best(&self, base_fee: u64, count_max: usize) -> Vec<Arc<VerifiedTransaction>> {
        let candidate = |address: Address, sender: &Sender, nonce: u64| {
            let entry = sender.by_nonce.get(&nonce).filter(|_| nonce < sender.gap)?;
            let tip = entry.transaction.effective_tip(base_fee)?;
            Some((tip, Reverse(entry.arrival), address, nonce))
        };
        let first = |(address, sender): (&Address, &Sender)| candidate(*address, sender, sender.account.nonce);
        let mut heap: BinaryHeap<_> = self.senders.iter().filter_map(first).collect();
        let mut best = Vec::new();
        while best.len() < count_max
            && let Some((_, _, address, nonce)) = heap.pop()
        {
            let sender = &self.senders[&address];
            best.push(Arc::clone(&sender.by_nonce[&nonce].transaction));
            heap.extend(candidate(address, sender, nonce + 1));
        }
        best
    }

    /// Whether [`Pool::best`] would return anything.
    pub(crate) fn has_executable(&self, base_fee: u64) -> bool {
        self.senders.values().any(|sender| {
            let first = sender.by_nonce.get(&sender.account.nonce);
            first.is_some_and(|entry| entry.transaction.effective_tip(base_fee).is_some())
        })
    }

    /// The nonce after the sender's executable transactions; none when it has nothing waiting.
    pub(crate) fn next_nonce(&self, address: Address) -> Option<u64> {
        self.senders.get(&address).map(|sender| sender.gap)
    }

    pub(crate) fn get(&self, hash: B256) -> Option<Arc<VerifiedTransaction>> {
        let (address, nonce) = self.by_hash.get(&hash)?;
        let entry = self.senders.get(address)?.by_nonce.get(nonce)?;
        Some(Arc::clone(&entry.transaction))
    }

    /// How many are executable and how many wait behind gaps.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let queued: usize = self.senders.values().map(Sender::queued).sum();
        (self.by_hash.len() - queued, queued)
    }

    /// Every waiting transaction with whether it is executable, by sender and nonce.
    pub(crate) fn content(&self) -> Vec<(bool, Arc<VerifiedTransaction>)> {
        let all = self.senders.values().flat_map(|sender| {
            sender.by_nonce.iter().map(|(nonce, entry)| (*nonce < sender.gap, Arc::clone(&entry.transaction)))
        });
        all.collect()
    }
}

fn check_bump(old: &VerifiedTransaction, new: &VerifiedTransaction) -> Result<(), PoolError> {
    let raised = |old: u128| old.saturating_add(old.saturating_mul(REPLACEMENT_BUMP_PERCENT).div_ceil(100));
    let enough = new.envelope().max_fee_per_gas() >= raised(old.envelope().max_fee_per_gas())
        && new.tip_cap() >= raised(old.tip_cap());
    let more = new.envelope().max_fee_per_gas() > old.envelope().max_fee_per_gas();
    if enough && more { Ok(()) } else { Err(PoolError::ReplacementUnderpriced) }
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
        primitives::{Signature, TxKind},
        signers::{SignerSync as _, local::PrivateKeySigner},
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const RICH: U256 = U256::from_limbs([0, 0, 1, 0]);

    fn rules(limits: Limits) -> PoolRules {
        PoolRules { chain_id: 1, gas_limit: 30_000_000, tip_min_wei: 0, allow_unprotected: false, limits }
    }

    fn pool() -> Pool {
        Pool::new(rules(Limits::default()))
    }

    fn signer(index: u8) -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(index + 1)).unwrap()
    }

    fn transaction(sender: u8, nonce: u64, tip: u128) -> Arc<VerifiedTransaction> {
        let tx = TxEip1559 {
            chain_id: 1,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 1_000 + tip,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(Address::ZERO),
            ..TxEip1559::default()
        };
        let signature: Signature = signer(sender).sign_hash_sync(&tx.signature_hash()).unwrap();
        Arc::new(TxEnvelope::from(tx.into_signed(signature)).try_into().unwrap())
    }

    fn rich(nonce: u64) -> SenderAccount {
        SenderAccount { nonce, balance: RICH, is_contract: false }
    }

    fn nonces(pool: &Pool, base_fee: u64) -> Vec<(Address, u64)> {
        let best = pool.best(base_fee, usize::MAX);
        best.iter().map(|tx| (tx.sender(), tx.envelope().nonce())).collect()
    }

    #[test]
    fn a_gap_holds_back_what_is_behind_it() {
        let mut pool = pool();
        assert_eq!(pool.add(transaction(0, 2, 1), rich(0), 0).unwrap(), Added::default());
        assert_eq!(pool.add(transaction(0, 0, 1), rich(0), 0).unwrap().executable.len(), 1);
        assert_eq!((pool.counts(), pool.next_nonce(signer(0).address())), ((1, 1), Some(1)));
        let added = pool.add(transaction(0, 1, 1), rich(0), 0).unwrap();
        let expected = [transaction(0, 1, 1).hash(), transaction(0, 2, 1).hash()];
        assert_eq!(added.executable, expected);
        assert_eq!((pool.counts(), pool.next_nonce(signer(0).address())), ((3, 0), Some(3)));
    }

    #[test]
    fn a_replacement_pays_ten_per_cent_more_on_both_caps() {
        let mut pool = pool();
        pool.add(transaction(0, 0, 1_000), rich(0), 0).unwrap();
        pool.add(transaction(0, 1, 1_000), rich(0), 0).unwrap();
        for tip in [1_000, 1_001, 1_099] {
            let outcome = pool.add(transaction(0, 0, tip), rich(0), 0);
            let expected = if tip == 1_000 { PoolError::AlreadyKnown } else { PoolError::ReplacementUnderpriced };
            assert_eq!(outcome, Err(expected), "{tip}");
        }
        let replacement = transaction(0, 0, 1_200);
        let added = pool.add(Arc::clone(&replacement), rich(0), 0).unwrap();
        assert_eq!(added.executable, [replacement.hash()], "the one behind is not announced again");
        assert_eq!(pool.counts(), (2, 0));
        assert!(pool.get(transaction(0, 0, 1_000).hash()).is_none());
    }

    #[test]
    fn everything_waiting_together_must_be_affordable() {
        let mut pool = pool();
        let one = transaction(0, 0, 0).cost_max();
        let account = SenderAccount { nonce: 0, balance: one * U256::from(2), is_contract: false };
        pool.add(transaction(0, 0, 0), account, 0).unwrap();
        pool.add(transaction(0, 1, 0), account, 0).unwrap();
        let shortfall = Shortfall { balance: account.balance, queued: account.balance, cost: one, overshot: one };
        assert_eq!(pool.add(transaction(0, 2, 0), account, 0), Err(PoolError::Funds(Box::new(shortfall))));
        // Spending elsewhere makes the rest unaffordable one by one.
        pool.head_changed(|_| Some(SenderAccount { nonce: 0, balance: one - U256::from(1), is_contract: false }));
        assert_eq!(pool.counts(), (0, 0));
    }

    #[test]
    fn the_best_paying_go_first_and_nonces_stay_in_order() {
        let mut pool = pool();
        for (sender, nonce, tip) in [(0, 0, 5), (0, 1, 100), (1, 0, 50), (2, 0, 50)] {
            pool.add(transaction(sender, nonce, tip), rich(0), 0).unwrap();
        }
        let [a, b, c] = [0, 1, 2].map(|index| signer(index).address());
        assert_eq!(nonces(&pool, 0), [(b, 0), (c, 0), (a, 0), (a, 1)]);
        assert_eq!(nonces(&pool, 1_010), [(b, 0), (c, 0)], "one that cannot pay the base fee blocks its followers");
        assert!(nonces(&pool, 5_000).is_empty() && !pool.has_executable(5_000));
    }

    #[test]
    fn a_full_pool_makes_room_only_for_who_pays_more() {
        let mut pool = Pool::new(rules(Limits { pool_transactions_max: 2, ..Limits::default() }));
        pool.add(transaction(0, 0, 10), rich(0), 0).unwrap();
        pool.add(transaction(1, 0, 20), rich(0), 0).unwrap();
        assert_eq!(pool.add(transaction(2, 0, 10), rich(0), 0), Err(PoolError::Full));
        pool.add(transaction(2, 0, 11), rich(0), 0).unwrap();
        assert!(pool.get(transaction(0, 0, 10).hash()).is_none());
        let mut small = Pool::new(rules(Limits { pool_bytes_max: 150, ..Limits::default() }));
        small.add(transaction(0, 0, 10), rich(0), 0).unwrap();
        assert_eq!(small.add(transaction(1, 0, 10), rich(0), 0), Err(PoolError::Full));
    }

    #[test]
    fn one_sender_cannot_fill_the_pool() {
        let limits = Limits { pool_per_sender_max: 3, pool_queued_per_sender_max: 1, ..Limits::default() };
        let mut pool = Pool::new(rules(limits));
        pool.add(transaction(0, 5, 1), rich(0), 0).unwrap();
        assert_eq!(pool.add(transaction(0, 7, 1), rich(0), 0), Err(PoolError::AccountLimit { limit: 1 }));
        pool.add(transaction(0, 0, 1), rich(0), 0).unwrap();
        pool.add(transaction(0, 1, 1), rich(0), 0).unwrap();
        assert_eq!(pool.add(transaction(0, 2, 1), rich(0), 0), Err(PoolError::AccountLimit { limit: 3 }));
    }

    #[test]
    fn what_waits_too_long_behind_a_gap_expires() {
        let mut pool = pool();
        pool.add(transaction(0, 0, 1), rich(0), 1_000).unwrap();
        pool.add(transaction(0, 2, 1), rich(0), 1_000).unwrap();
        pool.expire(1_000 + 3 * 60 * 60);
        assert_eq!(pool.counts(), (1, 1));
        pool.expire(1_001 + 3 * 60 * 60);
        assert_eq!(pool.counts(), (1, 0), "what can run does not expire");
    }

    /// Something that happens to a pool.
    #[derive(Clone, Debug)]
    enum Event {
        Add {
            sender: u8,
            nonce: u64,
            tip: u128,
        },
        /// A block takes the best transactions.
        Block {
            count: usize,
            base_fee: u64,
        },
        /// Something else uses a sender's nonces or money.
        Spend {
            sender: u8,
            nonces: u64,
            balance: u64,
        },
        Discard {
            position: usize,
        },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (0_u8..4, 0_u64..8, 0_u128..2_000).prop_map(|(sender, nonce, tip)| Event::Add { sender, nonce, tip }),
            2 => (0_usize..6, 0_u64..1_500).prop_map(|(count, base_fee)| Event::Block { count, base_fee }),
            1 => (0_u8..4, 0_u64..3, 0_u64..400_000_000).prop_map(|(sender, nonces, balance)| Event::Spend { sender, nonces, balance }),
            1 => (0_usize..20).prop_map(|position| Event::Discard { position }),
        ]
    }

    fn apply(pool: &mut Pool, accounts: &mut [SenderAccount; 4], event: &Event) {
        match *event {
            Event::Add { sender, nonce, tip } => {
                let account = accounts[usize::from(sender)];
                let _ = pool.add(transaction(sender, account.nonce + nonce, tip), account, 0);
            }
            Event::Block { count, base_fee } => {
                for tx in pool.best(base_fee, count) {
                    let index = (0..4_u8).find(|index| signer(*index).address() == tx.sender()).unwrap();
                    let account = &mut accounts[usize::from(index)];
                    assert_eq!(tx.envelope().nonce(), account.nonce, "the block is executable in this order");
                    account.nonce += 1;
                    account.balance = account.balance.checked_sub(tx.cost_max()).expect("affordable in this order");
                }
                let accounts = *accounts;
                pool.head_changed(|address| {
                    (0..4_u8)
                        .find(|index| signer(*index).address() == address)
                        .map(|index| accounts[usize::from(index)])
                });
            }
            Event::Spend { sender, nonces, balance } => {
                let account = &mut accounts[usize::from(sender)];
                account.nonce += nonces;
                account.balance = U256::from(balance);
                let (account, address) = (*account, signer(sender).address());
                pool.head_changed(|changed| (changed == address).then_some(account));
            }
            Event::Discard { position } => {
                if let Some((_, tx)) = pool.content().get(position) {
                    pool.discard(tx.hash());
                }
            }
        }
    }

    /// What must hold whatever happened.
    fn check(pool: &Pool, limits: &Limits) {
        assert!(pool.by_hash.len() <= limits.pool_transactions_max);
        assert_eq!(pool.by_hash.len(), pool.by_price.len());
        assert_eq!(pool.content().len(), pool.by_hash.len());
        assert_eq!(pool.bytes, pool.content().iter().map(|(_, tx)| tx.encoded().len()).sum::<usize>());
        for sender in pool.senders.values() {
            assert!(!sender.by_nonce.is_empty() && sender.by_nonce.len() <= limits.pool_per_sender_max);
            assert!(sender.by_nonce.keys().all(|nonce| *nonce >= sender.account.nonce));
            assert!((sender.account.nonce..sender.gap).all(|nonce| sender.by_nonce.contains_key(&nonce)));
            assert!(!sender.by_nonce.contains_key(&sender.gap));
            let cost = sender.by_nonce.values().fold(U256::ZERO, |sum, entry| sum + entry.transaction.cost_max());
            assert_eq!(sender.cost, cost);
            assert!(cost <= sender.account.balance);
        }
        assert_eq!(pool.best(0, usize::MAX).len(), pool.counts().0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn invariants_hold_whatever_happens(events in vec(event(), 0..60)) {
            let limits = Limits { pool_transactions_max: 12, pool_per_sender_max: 6, pool_queued_per_sender_max: 3, ..Limits::default() };
            let mut pool = Pool::new(rules(limits));
            let start = SenderAccount { nonce: 0, balance: U256::from(400_000_000_u64), is_contract: false };
            let mut accounts = [start; 4];
            for event in events {
                apply(&mut pool, &mut accounts, &event);
                check(&pool, &limits);
            }
        }
    }
}
