//! What the services need to know of the chain, behind a trait, with a cache that fails closed.

use crate::ledger::SessionTerms;
use alloy::primitives::B256;
use async_trait::async_trait;
use cortensor_protocol::{CapabilityRecord, Guarantee, ModelId, NodeRecord, Operator, SessionId, Standing, Wei};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

/// The chain could not be asked. Nothing may be assumed then: callers refuse, they never fall back to a default.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain cannot be read: {0}")]
pub struct ChainReadError(pub String);

/// Reads of the contracts.
#[async_trait]
pub trait ChainView: Send + Sync + 'static {
    /// A node's registration, or `None` when there is none.
    async fn node(&self, operator: Operator) -> Result<Option<NodeRecord>, ChainReadError>;

    /// A session, or `None` when there is none or its rest went back to its owner. One that is being closed still pays
    /// for what was done before.
    async fn session(&self, id: SessionId) -> Result<Option<SessionTerms>, ChainReadError>;

    /// What audits have shown about a miner. Not remembered here: routers keep what they read, and read it anew.
    async fn standing(&self, miner: Operator) -> Result<Standing, ChainReadError>;

    /// What drawn guards measured of a miner with a model; `None` where none has. Not remembered either.
    async fn capability(&self, miner: Operator, model: ModelId) -> Result<Option<CapabilityRecord>, ChainReadError>;

    /// What a miner's audits buy at a given fee.
    async fn guarantee(&self, miner: Operator, fee: Wei) -> Result<Guarantee, ChainReadError>;

    /// Whether `guard` was drawn to audit or to judge the receipt with this signing hash.
    async fn audits(&self, guard: Operator, receipt: B256) -> Result<bool, ChainReadError>;
}

/// Most entries of each cache.
const CACHE_ENTRIES: usize = 16_384;

type Cached<K, V> = Mutex<HashMap<K, (Instant, Option<V>)>>;

/// Remembers answers for a while. Errors are never remembered.
pub struct CachedView {
    inner: Arc<dyn ChainView>,
    lifetime: Duration,
    nodes: Cached<Operator, NodeRecord>,
    sessions: Cached<SessionId, SessionTerms>,
}

impl std::fmt::Debug for CachedView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedView").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl CachedView {
    /// A cache whose answers are at most `lifetime` old; absence is remembered for a tenth of that.
    #[must_use]
    pub fn new(inner: Arc<dyn ChainView>, lifetime: Duration) -> Self {
        Self { inner, lifetime, nodes: Cached::default(), sessions: Cached::default() }
    }

    fn recall<K: Hash + Eq, V: Clone>(&self, cache: &Cached<K, V>, key: &K) -> Option<Option<V>> {
        let cache = cache.lock();
        let (read, value) = cache.get(key)?;
        let lifetime = if value.is_some() { self.lifetime } else { self.lifetime / 10 };
        (read.elapsed() < lifetime).then(|| value.clone())
    }

    fn remember<K: Hash + Eq, V: Clone>(&self, cache: &Cached<K, V>, key: K, value: Option<&V>) {
        let mut cache = cache.lock();
        if cache.len() >= CACHE_ENTRIES {
            cache.retain(|_, (read, _)| read.elapsed() < self.lifetime);
            if cache.len() >= CACHE_ENTRIES {
                cache.clear();
            }
        }
        cache.insert(key, (Instant::now(), value.cloned()));
    }
}

#[async_trait]
impl ChainView for CachedView {
    async fn node(&self, operator: Operator) -> Result<Option<NodeRecord>, ChainReadError> {
        if let Some(known) = self.recall(&self.nodes, &operator) {
            return Ok(known);
        }
        let read = self.inner.node(operator).await?;
        self.remember(&self.nodes, operator, read.as_ref());
        Ok(read)
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionTerms>, ChainReadError> {
        if let Some(known) = self.recall(&self.sessions, &id) {
            return Ok(known);
        }
        let read = self.inner.session(id).await?;
        self.remember(&self.sessions, id, read.as_ref());
        Ok(read)
    }

    async fn standing(&self, miner: Operator) -> Result<Standing, ChainReadError> {
        self.inner.standing(miner).await
    }

    async fn capability(&self, miner: Operator, model: ModelId) -> Result<Option<CapabilityRecord>, ChainReadError> {
        self.inner.capability(miner, model).await
    }

    async fn guarantee(&self, miner: Operator, fee: Wei) -> Result<Guarantee, ChainReadError> {
        self.inner.guarantee(miner, fee).await
    }

    async fn audits(&self, guard: Operator, receipt: B256) -> Result<bool, ChainReadError> {
        self.inner.audits(guard, receipt).await
    }
}
