//! The guard: goes through the answers that it was drawn to audit, and says on chain what it found.
//!
//! It listens like a router: miners keep a connection to it, through which they show their records. What it is to do it
//! learns from the chain alone. For each audit it computes the answer again on its own engine, commits to its finding,
//! reveals it when the others have committed, and sees the audit to its end. It reports receipts that were drawn and that
//! nobody showed. A finding is on disk before its commitment is sent, so that a guard that was killed can still reveal it.
//! Of what passed its audit, guards also judge how useful it was.

mod investigate;
mod judge;
mod measure;
mod peers;
mod steps;
mod watch;

pub use judge::{JudgeError, Replayed, declare_judge, family_of, judge, replay};
pub use measure::RouterTarget;
pub use peers::accept_miners;

use crate::{
    contracts_view::describe,
    identity::Identity,
    journal::{Journal, StoreError, TableName, Write, decode, encode},
};
use alloy::{
    primitives::{B256, keccak256},
    providers::Provider as _,
};
use cortensor_contracts::{
    BlockRange, Contracts, Wallet,
    audits::{self, AuditEvent, AuditsError, Finding},
};
use cortensor_engine::Engine;
use cortensor_proof::profile::Profile;
use cortensor_protocol::{Domain, Operator, Receipt};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Audits that this guard was drawn for and that are not over, by their item.
const DUTIES: TableName = "duties";
/// How far the chain was read.
const PLACE: TableName = "place";
/// Miners that it was drawn to measure, by round.
const MEASURES: TableName = "measures";
const BLOCK: &[u8] = b"block";

/// Most blocks that are read in one round.
const BLOCKS_MAX: u64 = 5_000;
/// Most audits at once; more are taken up when some of these are over.
const DUTIES_MAX: usize = 1_024;

/// What a guard needs to know.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// Where its duties are kept.
    pub store: PathBuf,
    /// The chain and contract of the receipts.
    pub domain: Domain,
    /// The block from which on it reads the chain when it has read none: where the contracts were deployed, or later.
    pub from_block: u64,
    /// How often it looks at the chain.
    pub interval: Duration,
}

/// A duty, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Duty {
    /// Once it is known.
    receipt: Option<Receipt>,
    /// Once it is made: for which round, what, and under which salt.
    finding: Option<(u8, Finding, B256)>,
}

/// Why a step was not taken. Nothing is lost: the next round tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The chain refused or could not be asked.
    #[error("the chain refused or could not be asked")]
    Chain(#[from] AuditsError),
    /// The chain's height could not be read.
    #[error("the chain's height cannot be read: {0}")]
    Height(String),
    /// The router through which it measures refused or could not be asked.
    #[error("the router through which it measures refused or cannot be asked")]
    Router(#[from] cortensor_client::ClientError),
    /// This guard's engine could not compute the answer again.
    #[error("the answer could not be computed again here")]
    Audit(#[from] crate::audit::AuditError),
    /// A measurement got no answer at all.
    #[error("the miner to be measured answered nothing through the router, so nothing is reported: {notes}")]
    Unanswered {
        /// What happened, one after the other.
        notes: String,
    },
    /// This guard could not judge the answer.
    #[error("the answer could not be judged here")]
    Judge(#[from] JudgeError),
}

/// A guard's core; cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    config: GuardConfig,
    contracts: Contracts,
    wallet: Wallet,
    engines: Vec<Arc<dyn Engine>>,
    /// Calibrated profiles of the models that it audits; without one, only what convicts by itself counts.
    profiles: Vec<Profile>,
    journal: Journal,
    peers: peers::Peers,
    ended: AtomicU64,
    spending: measure::Spending,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl Guard {
    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn start(
        identity: Identity,
        contracts: Contracts,
        wallet: Wallet,
        engines: Vec<Arc<dyn Engine>>,
        profiles: Vec<Profile>,
        config: GuardConfig,
    ) -> Result<Self, StoreError> {
        let tables = [[DUTIES, PLACE, MEASURES, watch::WATCHED].as_slice(), &judge::TABLES].concat();
        let journal = Journal::open(&config.store, &tables)?;
        let inner = Inner {
            identity,
            config,
            contracts,
            wallet,
            engines,
            profiles,
            journal,
            peers: peers::Peers::default(),
            ended: AtomicU64::default(),
            spending: measure::Spending::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The guard's account.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.inner.identity.operator()
    }

    /// Audits that ended since it was started.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.inner.ended.load(Relaxed)
    }

    /// Miners that are connected now.
    #[must_use]
    pub fn miners(&self) -> usize {
        self.inner.peers.len()
    }

    /// Audits now and then until it is stopped. To be run once.
    pub async fn keep_auditing(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.config.interval) => {}
            }
            if let Err(error) = self.inner.round().await {
                let why = describe(&error);
                tracing::warn!(code = "G-ROUND-001", %why, "a round of audits broke off; it is tried again");
            }
        }
    }
}

/// The class of an engine: its build, which says library, exactness and instruction set. Profiles belong to pairs of
/// classes.
#[must_use]
pub fn class_of(engine: &dyn Engine) -> B256 {
    class_of_build(&engine.info().build)
}

/// Registers a profile's ratios, unless they are; returns whether it had to. Only governance may.
///
/// # Errors
/// When the chain refuses, as it does a version that is not newer, or cannot be asked.
pub async fn register_profile(contracts: &Contracts, wallet: &Wallet, profile: &Profile) -> Result<bool, AuditsError> {
    let (parts, content_hash) = (profile.parts(), profile.content_hash());
    let classes = (parts.pair.miner_class, parts.pair.guard_class);
    let known = contracts.scores.profile(parts.pair.model, classes).await?;
    if known.as_ref().is_some_and(|known| known.content_hash == content_hash) {
        return Ok(false);
    }
    let table = profile.table();
    let next = audits::Profile { version: parts.version, content_hash, ratios: table.ratios };
    contracts.scores.register_profile(wallet, parts.pair.model, classes, &next).await?;
    Ok(true)
}

/// The class of engines of one build.
#[must_use]
pub fn class_of_build(build: &str) -> B256 {
    keccak256([b"cortensor engine class v1".as_slice(), build.as_bytes()].concat())
}

/// Declares an engine's class for the wallet's operator, unless it is declared.
///
/// # Errors
/// When the chain refuses or cannot be asked.
pub async fn declare_class(contracts: &Contracts, wallet: &Wallet, engine: &dyn Engine) -> Result<(), AuditsError> {
    let (operator, class) = (Operator(wallet.address()), class_of(engine));
    // A declaration counts from the next epoch on.
    let next = contracts.guards.next_epoch().await?.saturating_add(1);
    if contracts.guards.class_at(operator, next).await? != class {
        contracts.guards.declare_class(wallet, class).await?;
    }
    Ok(())
}

impl Inner {
    /// Reads what is new on the chain, then takes the next step with every audit.
    async fn round(&self) -> Result<(), GuardError> {
        self.read_chain().await?;
        self.watch().await?;
        for (key, bytes) in self.journal.scan(DUTIES, &[], DUTIES_MAX)? {
            let duty: Duty = decode("duty", &bytes)?;
            let item = B256::try_from(key.as_slice()).map_err(|_| StoreError::Corrupt { what: "duty" })?;
            match self.step(item, duty).await {
                Ok(true) => {
                    self.journal.commit(&[Write::Delete(DUTIES, key)])?;
                    self.ended.fetch_add(1, Relaxed);
                }
                Ok(false) => {}
                // One audit that does not get on does not keep the others from it.
                Err(error) => {
                    let why = describe(&error);
                    tracing::warn!(code = "G-AUDIT-001", %item, %why, "an audit did not get on; it is tried again");
                }
            }
        }
        Ok(())
    }

    /// Notes batches, and the audits that this guard was drawn for, since it last looked.
    async fn read_chain(&self) -> Result<(), GuardError> {
        let Some(range) = self.unread(BLOCK).await? else { return Ok(()) };
        let me = self.identity.operator();
        let mut writes = self.notice_batches(range).await?;
        writes.push(Self::read_up_to(BLOCK, range));
        for event in self.contracts.audits.events(None, range).await? {
            if let AuditEvent::Drawn { item, guards, round, .. } = event
                && guards.contains(&me)
            {
                tracing::info!(%item, round, "drawn for an audit");
                let known = self.journal.get(DUTIES, item.as_slice())?;
                if known.is_none() {
                    writes.push(Write::Put(DUTIES, item.to_vec(), encode(&Duty::default())));
                }
            }
        }
        self.journal.commit(&writes)?;
        Ok(())
    }

    /// The next blocks to be read by whoever notes its place under `reader`; `None` where all are read.
    async fn unread(&self, reader: &[u8]) -> Result<Option<BlockRange>, GuardError> {
        let newest = self.newest_block().await?;
        let from: u64 = match self.journal.get(PLACE, reader)? {
            Some(bytes) => decode("block number", &bytes)?,
            None => self.config.from_block,
        };
        let to = newest.min(from.saturating_add(BLOCKS_MAX - 1));
        Ok((newest >= from).then_some(BlockRange { from, to }))
    }

    fn read_up_to(reader: &[u8], range: BlockRange) -> Write {
        Write::Put(PLACE, reader.to_vec(), encode(&(range.to + 1)))
    }

    async fn newest_block(&self) -> Result<u64, GuardError> {
        self.wallet.provider().get_block_number().await.map_err(|error| GuardError::Height(error.to_string()))
    }

    fn keep(&self, item: B256, duty: &Duty) -> Result<(), StoreError> {
        self.journal.commit(&[Write::Put(DUTIES, item.to_vec(), encode(duty))])
    }
}
