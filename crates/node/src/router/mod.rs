//! The router: takes requests from clients, finds a miner for each, streams the answer, and keeps the books.
//!
//! [`Router::start`] listens for miners and gives a handle that implements the gateway's [`InferenceService`].
//! What it guarantees is written at [`dispatch`] (streams and fail-over) and [`settle`] (money and durability).

mod admission;
mod check;
mod count;
mod dispatch;
mod embed;
pub mod keys;
mod metrics;
mod nodes;
mod open;
mod pool;
mod presence;
mod service;
pub mod settle;
mod speed;
mod standing;
mod tasks;
mod wallet;

pub(crate) use admission::check_registration;
pub use admission::{AdmissionConfig, accept_miners};
pub use dispatch::DispatchConfig;
pub use tasks::{now_ms, now_seconds};

use crate::{
    chain_view::ChainView,
    identity::Identity,
    journal::{Journal, StoreError},
    ledger::SessionTerms,
};
use alloy::primitives::Address;
use cortensor_protocol::{Domain, Operator, SessionClose, SessionId, Signature65, Wei};
use cortensor_scheduler::{PrefixIndex, Settings};
use keys::ApiKeys;
use parking_lot::Mutex;
use pool::Pool;
use settle::{SettleError, Settlement};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::Semaphore;

/// Blocks of prompts whose holders are remembered (about 200 bytes each).
const AFFINITY_BLOCKS: usize = 65_536;

/// What a router needs to know.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Where its books are.
    pub store: PathBuf,
    /// The chain and contract of the sessions.
    pub domain: Domain,
    /// The registry contract.
    pub registry: Address,
    /// Bounds of dispatching.
    pub dispatch: DispatchConfig,
    /// How miners are chosen.
    pub scheduler: Settings,
    /// Unsigned work that is tolerated from wallet clients.
    pub credit: Wei,
}

/// A running router; cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    identity: Identity,
    config: RouterConfig,
    chain: Arc<dyn ChainView>,
    settlement: Settlement,
    keys: ApiKeys,
    pool: Arc<Pool>,
    dispatcher: Arc<dispatch::Dispatcher>,
    /// Bounds how many unknown sessions are looked up on chain at once.
    adopting: Semaphore,
    started: u64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Router {
    /// Opens the books. Miners connect through [`accept_miners`]; clients through the gateway.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn start(identity: Identity, chain: Arc<dyn ChainView>, config: RouterConfig) -> Result<Self, StoreError> {
        let journal = Arc::new(Journal::open(&config.store, settle::TABLES)?);
        let settlement = Settlement::start(journal, identity.clone(), config.domain)?;
        let keys = ApiKeys::load(&settlement)?;
        let pool = Arc::new(Pool::default());
        let dispatcher = Arc::new(dispatch::Dispatcher {
            pool: pool.clone(),
            tasks: tasks::TaskLog::default(),
            affinity: Mutex::new(PrefixIndex::new(AFFINITY_BLOCKS)),
            settings: config.scheduler.clone(),
            config: config.dispatch.clone(),
            domain: config.domain,
            registry: config.registry,
            queue: Semaphore::new(config.dispatch.queue_max),
            metrics: metrics::Metrics::default(),
        });
        let started = now_seconds();
        let adopting = Semaphore::new(wallet::ADOPTING_MAX);
        let inner = Inner { identity, config, chain, settlement, keys, pool, dispatcher, adopting, started };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The router's account.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.inner.identity.operator()
    }

    /// The books.
    #[must_use]
    pub fn settlement(&self) -> &Settlement {
        &self.inner.settlement
    }

    /// How many miners are connected.
    #[must_use]
    pub fn miners(&self) -> usize {
        self.inner.pool.len()
    }

    /// The session that an API key stands for.
    #[must_use]
    pub fn session_of(&self, key: &str) -> Option<SessionId> {
        self.inner.keys.find(key).map(|caller| caller.session)
    }

    /// Takes a session that this router runs for API-key users into the books and makes a key for it.
    ///
    /// `index` is the number of the session key ([`Identity::session_key`]) that the session names on chain.
    ///
    /// # Errors
    /// When the books cannot be written.
    pub async fn open_api_session(&self, terms: SessionTerms, index: u64, admin: bool) -> Result<String, SettleError> {
        let session = terms.id;
        self.inner.settlement.open(terms, Some(index), Wei::ZERO).await?;
        self.inner.keys.create(&self.inner.settlement, session, admin).await
    }

    /// Takes a session that this router runs into the books, and points an existing key at it.
    ///
    /// # Errors
    /// When the books cannot be written.
    pub async fn adopt_api_session(
        &self,
        terms: SessionTerms,
        index: u64,
        key: &str,
        admin: bool,
    ) -> Result<(), SettleError> {
        let session = terms.id;
        self.inner.settlement.open(terms, Some(index), Wei::ZERO).await?;
        self.inner.keys.insert(&self.inner.settlement, key, session, admin).await
    }

    /// What the owner needs to close a session at once: the final total with this router's signature. No new work is
    /// taken for the session from here on.
    ///
    /// # Errors
    /// [`CloseError::Running`] while tasks of the session run, [`CloseError::Unsigned`] while its client owes signatures:
    /// call again afterwards.
    pub fn close_session(&self, id: SessionId) -> Result<(SessionClose, Signature65), CloseError> {
        self.inner.settlement.close(id);
        let book = self.inner.settlement.book(id).ok_or(CloseError::Unknown(id))?;
        if book.reserved > Wei::ZERO {
            return Err(CloseError::Running);
        }
        if !self.inner.settlement.proposals(id).is_empty() {
            return Err(CloseError::Unsigned);
        }
        let close = SessionClose { session: id, final_sequence: book.sequence, final_total: book.total };
        let signature = self.inner.identity.sign(close.signing_hash(&self.inner.config.domain));
        Ok((close, signature))
    }
}

/// Why a session cannot be closed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// Not in the books.
    #[error("this router keeps no session {0}")]
    Unknown(SessionId),
    /// Work is going on, whose cost is not known yet.
    #[error("tasks of this session are still running: try again when they have ended")]
    Running,
    /// Work is done that the client has not signed for.
    #[error(
        "sign the outstanding vouchers first (GET /v1/session/vouchers), or close on chain and wait for the grace period"
    )]
    Unsigned,
}
