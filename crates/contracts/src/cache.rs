//! Node records and sessions, kept fresh by following the chain: an answer is a memory look-up as long as nothing
//! happened to the node or session.
//!
//! Guarantees. An answer from memory reflects every event up to a block that was the newest at most
//! [`CacheLimits::max_age`] ago; otherwise the chain is asked, and where that fails the answer is an error. Nothing is
//! ever assumed. Memory is bounded. A reorganisation empties the cache.
//!
//! Nothing runs by itself: a supervisor drives [`RegistryCache::run`], or calls [`RegistryCache::refresh`].

use crate::{
    connection::{Provider, machine_time},
    deployment::Deployment,
    read::ReadError,
    registry::{Registry, RegistryError},
    sessions::{Session, SessionsClient, SessionsError},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256},
    providers::Provider as _,
    rpc::types::{Filter, Log},
    sol_types::SolEvent as _,
};
use cortensor_protocol::{NodeRecord, Operator, SessionId};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Catching up with more blocks than this is dearer than starting over.
const MAX_CATCH_UP_BLOCKS: u64 = 2_000;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Most nodes.
    pub nodes: usize,
    /// Most sessions.
    pub sessions: usize,
    /// How long after the last successful look at the chain an answer from memory is given.
    pub max_age: Duration,
    /// How often [`RegistryCache::run`] looks at the chain.
    pub poll_interval: Duration,
}

impl Default for CacheLimits {
    /// 10,000 nodes and 100,000 sessions (some 50 MB when full), answers at most 15 seconds old, a look every second.
    fn default() -> Self {
        Self {
            nodes: 10_000,
            sessions: 100_000,
            max_age: Duration::from_secs(15),
            poll_interval: Duration::from_secs(1),
        }
    }
}

/// Why the cache has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The chain could not be followed.
    #[error("cannot follow the chain")]
    Follow(#[source] ReadError),
    /// A node could not be read.
    #[error("cannot look the node {operator} up")]
    Node {
        /// The operator.
        operator: Operator,
        /// Why.
        source: RegistryError,
    },
    /// A session could not be read.
    #[error("cannot look the session {session} up")]
    Session {
        /// The session.
        session: SessionId,
        /// Why.
        source: SessionsError,
    },
}

/// A view of nodes and sessions that follows the chain. Share it in an `Arc`.
#[derive(Debug)]
pub struct RegistryCache {
    provider: Provider,
    registry: Registry,
    sessions: SessionsClient,
    limits: CacheLimits,
    state: Mutex<State>,
    /// One look at the chain at a time.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    nodes: Bounded<Operator, Option<Arc<NodeRecord>>>,
    sessions: Bounded<SessionId, Option<Arc<Session>>>,
    /// Every event up to this block has been taken into account.
    followed: Option<Followed>,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    block: u64,
    hash: B256,
    timestamp: u64,
    at: Instant,
}

/// A map of at most so many entries; the entry that was used longest ago makes room, within a small sample.
#[derive(Debug)]
struct Bounded<K, V> {
    entries: HashMap<K, (V, u64)>,
    capacity: usize,
    clock: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Bounded<K, V> {
    fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity, clock: 0 }
    }

    fn get(&mut self, key: K) -> Option<V> {
        self.clock += 1;
        let (value, used) = self.entries.get_mut(&key)?;
        *used = self.clock;
        Some(value.clone())
    }

    fn insert(&mut self, key: K, value: V) {
        if self.capacity == 0 {
            return;
        }
        self.clock += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.evict();
        }
        self.entries.insert(key, (value, self.clock));
    }

    /// Hash maps iterate in an order that is random per process, so the first few entries are a fair sample.
    fn evict(&mut self) {
        let oldest = self.entries.iter().take(8).min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.entries.remove(&key);
        }
    }

    fn remove(&mut self, key: K) {
        self.entries.remove(&key);
    }

    fn clear(&mut self) {
        self.entries.clear();
    }
}

impl State {
    fn forget_all(&mut self) {
        self.nodes.clear();
        self.sessions.clear();
    }

    fn fresh(&self, max_age: Duration) -> Option<Followed> {
        self.followed.filter(|followed| followed.at.elapsed() <= max_age)
    }

    /// Whether what was read at `block` may be kept: no event after it has been processed and could have been missed.
    fn may_keep(&self, block: u64) -> bool {
        self.followed.is_some_and(|followed| block >= followed.block)
    }
}

impl RegistryCache {
    /// A cache over one deployment; empty, and following nothing until the first refresh.
    #[must_use]
    pub fn new(provider: Provider, deployment: &Deployment, limits: CacheLimits) -> Self {
        let contracts = deployment.contracts(&provider);
        let state =
            State { nodes: Bounded::new(limits.nodes), sessions: Bounded::new(limits.sessions), followed: None };
        Self {
            provider,
            registry: contracts.registry,
            sessions: contracts.sessions,
            limits,
            state: Mutex::new(state),
            refreshing: tokio::sync::Mutex::new(()),
        }
    }

    /// The node of an operator, or `None` when there is none.
    ///
    /// # Errors
    /// When it is not remembered and the chain cannot be read.
    pub async fn node(&self, operator: Operator) -> Result<Option<Arc<NodeRecord>>, CacheError> {
        if let Some(node) = self.cached_node(operator) {
            return Ok(node);
        }
        let failed = |source| CacheError::Node { operator, source };
        let block = self.head().await?;
        let node = self.registry.entry_at(operator, block).await.map_err(failed)?;
        let node = node.map(|entry| Arc::new(entry.record));
        let mut state = self.state();
        if state.may_keep(block) {
            state.nodes.insert(operator, node.clone());
        }
        Ok(node)
    }

    /// A session, or `None` when there is none of that id.
    ///
    /// # Errors
    /// When it is not remembered and the chain cannot be read.
    pub async fn session(&self, session: SessionId) -> Result<Option<Arc<Session>>, CacheError> {
        if let Some(found) = self.cached_session(session) {
            return Ok(found);
        }
        let block = self.head().await?;
        let found = self.sessions.session_at(session, BlockId::number(block)).await;
        let found = found.map_err(|source| CacheError::Session { session, source })?.map(Arc::new);
        let mut state = self.state();
        // A session that does not exist can be opened by anyone at any time, and ids cost nothing to ask for.
        if found.is_some() && state.may_keep(block) {
            state.sessions.insert(session, found.clone());
        }
        Ok(found)
    }

    /// What memory alone knows of a node: `Some(None)` says that there is none, `None` that the chain has to be asked.
    #[must_use]
    #[allow(clippy::option_option)]
    pub fn cached_node(&self, operator: Operator) -> Option<Option<Arc<NodeRecord>>> {
        let mut state = self.state();
        state.fresh(self.limits.max_age)?;
        state.nodes.get(operator)
    }

    /// What memory alone knows of a session; as [`Self::cached_node`].
    #[must_use]
    #[allow(clippy::option_option)]
    pub fn cached_session(&self, session: SessionId) -> Option<Option<Arc<Session>>> {
        let mut state = self.state();
        state.fresh(self.limits.max_age)?;
        state.sessions.get(session)
    }

    /// The block that memory reflects, unless it is too old.
    #[must_use]
    pub fn followed_block(&self) -> Option<u64> {
        self.state().fresh(self.limits.max_age).map(|followed| followed.block)
    }

    /// About the timestamp of the next block, as [`crate::ChainTime`] has it.
    #[must_use]
    pub fn chain_time(&self) -> Option<u64> {
        self.state().fresh(self.limits.max_age).map(|followed| followed.timestamp.max(machine_time()))
    }

    /// Looks at the chain once and forgets what events have changed.
    ///
    /// # Errors
    /// When the chain cannot be read. What was remembered then grows older until it is no longer given out.
    pub async fn refresh(&self) -> Result<(), CacheError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let newest = self.header(BlockId::latest()).await?;
        let before = self.state().followed;
        let Some(before) = before else {
            self.restart(newest);
            return Ok(());
        };
        if newest.block == before.block && newest.hash == before.hash {
            self.state().followed = Some(newest);
            return Ok(());
        }
        let too_far = newest.block.saturating_sub(before.block) > MAX_CATCH_UP_BLOCKS;
        if newest.block <= before.block || too_far || !self.still_there(before).await? {
            tracing::warn!(from = before.block, to = newest.block, "starting over to follow the chain");
            self.restart(newest);
            return Ok(());
        }
        let logs = self.logs(before.block + 1, newest.block).await?;
        let mut state = self.state();
        for log in &logs {
            self.forget(&mut state, log);
        }
        state.followed = Some(newest);
        Ok(())
    }

    /// Looks at the chain again and again; never returns. Failures are logged, and answers from memory end when they
    /// become too old.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(self.limits.poll_interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            match self.refresh().await {
                Err(error) if !failing => {
                    let source: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error = source, "lost the chain");
                    failing = true;
                }
                Err(_) => {}
                Ok(()) if failing => {
                    tracing::info!("following the chain again");
                    failing = false;
                }
                Ok(()) => {}
            }
        }
    }

    fn restart(&self, newest: Followed) {
        let mut state = self.state();
        state.forget_all();
        state.followed = Some(newest);
    }

    fn forget(&self, state: &mut State, log: &Log) {
        let subject = log.topics().get(1).copied();
        if log.address() == self.sessions.address() {
            if let Some(session) = subject {
                state.sessions.remove(SessionId(session));
            }
            return;
        }
        let minimums = crate::bindings::registry::NodeRegistry::MinimumStakeChanged::SIGNATURE_HASH;
        match subject {
            // What suffices changed for everyone.
            _ if log.topic0() == Some(&minimums) => state.nodes.clear(),
            // Events about other subjects (slashers) carry an account too; forgetting a node of that name is harmless.
            Some(operator) => state.nodes.remove(Operator(Address::from_word(operator))),
            None => {}
        }
    }

    async fn still_there(&self, before: Followed) -> Result<bool, CacheError> {
        match self.header(BlockId::number(before.block)).await {
            Ok(found) => Ok(found.hash == before.hash),
            Err(CacheError::Follow(ReadError::BlockMissing(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn header(&self, block: BlockId) -> Result<Followed, CacheError> {
        let at = Instant::now();
        let found = self.provider.get_block(block).await.map_err(|error| CacheError::Follow(error.into()))?;
        let header = found.ok_or(CacheError::Follow(ReadError::BlockMissing(block)))?.header;
        Ok(Followed { block: header.number, hash: header.hash, timestamp: header.timestamp, at })
    }

    async fn logs(&self, from: u64, to: u64) -> Result<Vec<Log>, CacheError> {
        let contracts = vec![self.registry.address(), self.sessions.address()];
        let filter = Filter::new().address(contracts).from_block(from).to_block(to);
        self.provider.get_logs(&filter).await.map_err(|error| CacheError::Follow(error.into()))
    }

    async fn head(&self) -> Result<u64, CacheError> {
        crate::read::head(&self.provider).await.map_err(CacheError::Follow)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn followed(block: u64, at: Instant) -> Option<Followed> {
        Some(Followed { block, hash: B256::ZERO, timestamp: 0, at })
    }

    fn state(followed: Option<Followed>) -> State {
        State { nodes: Bounded::new(2), sessions: Bounded::new(2), followed }
    }

    #[test]
    fn what_was_read_before_processed_events_is_not_kept() {
        let now = Instant::now();
        assert!(!state(None).may_keep(5), "without following the chain nothing would ever be forgotten");
        assert!(!state(followed(6, now)).may_keep(5));
        assert!(state(followed(5, now)).may_keep(5));
    }

    #[test]
    fn old_knowledge_is_not_given_out() {
        let Some(past) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        assert!(state(followed(5, past)).fresh(Duration::from_secs(30)).is_none());
        assert!(state(followed(5, past)).fresh(Duration::from_secs(3600)).is_some());
    }

    #[test]
    fn recently_used_entries_stay() {
        let mut map = Bounded::new(2);
        map.insert(1, 'a');
        map.insert(2, 'b');
        assert_eq!(map.get(1), Some('a'));
        map.insert(3, 'c');
        assert_eq!((map.get(1), map.get(2), map.get(3)), (Some('a'), None, Some('c')));
    }

    proptest! {
        #[test]
        fn memory_stays_bounded(keys in prop::collection::vec(0u32..50, 0..500), capacity in 0usize..20) {
            let mut map = Bounded::new(capacity);
            for key in keys {
                map.insert(key, key);
                prop_assert!(map.entries.len() <= capacity);
                prop_assert!(capacity == 0 || map.get(key) == Some(key));
            }
        }
    }
}
