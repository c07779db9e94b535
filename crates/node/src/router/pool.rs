//! The miners that are connected now, and what the scheduler is told of them.

use super::{
    presence::Presences,
    speed::{Seen, Watch},
};
use cortensor_gateway::ModelCard;
use cortensor_net::MinerConnection;
use cortensor_protocol::{
    CapabilityRecord, ModelId, ModelOffer, Operator, Standing, Wei,
    manifest::{Load, Speed},
};
use cortensor_scheduler::{Offer, Reputation, WorkerSnapshot};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A failure counts this long against a miner.
const FAILURE_MEMORY: Duration = Duration::from_secs(120);

/// One offer with what changes about it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) full: ModelOffer,
    offer: Offer,
    pub(super) load: Load,
    claimed: Speed,
    seen: Arc<Mutex<Seen>>,
    /// What the chain has of it.
    pub(super) capability: Option<CapabilityRecord>,
    in_flight: Arc<AtomicU32>,
}

impl Served {
    fn new(full: ModelOffer) -> Self {
        let (offer, claimed) = (Offer::from(&full), full.speed);
        let (seen, in_flight) = (Arc::default(), Arc::default());
        Self { full, offer, load: Load::default(), claimed, seen, capability: None, in_flight }
    }

    /// How many answers the seen speed is made of.
    pub(super) fn seen_answers(&self) -> u32 {
        self.seen.lock().answers()
    }
}

/// A connected miner.
#[derive(Debug)]
pub(super) struct Miner {
    /// Its account.
    pub(super) operator: Operator,
    /// Its connection.
    pub(super) connection: MinerConnection,
    served: RwLock<Vec<Served>>,
    standing: Mutex<Standing>,
    draining: AtomicBool,
    last_seen_ms: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<Instant>>,
}

/// A task that runs at a miner, counted until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    counter: Arc<AtomicU32>,
    seen: Arc<Mutex<Seen>>,
    beside: u32,
    pool: Arc<Pool>,
}

impl InFlight {
    /// Tasks that share the miner with this one, as of its beginning.
    pub(super) fn beside(&self) -> u32 {
        self.beside
    }

    /// Takes the times of an answer in, whose prompt was not in the miner's cache to the extent of `uncached` tokens.
    pub(super) fn saw(&self, watch: &Watch, uncached: u32) {
        self.seen.lock().take(watch, uncached);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Relaxed);
        self.pool.changed.notify_waiters();
    }
}

impl Miner {
    /// A miner that was just admitted.
    #[must_use]
    pub(super) fn new(connection: MinerConnection, standing: Standing, now_ms: u64) -> Self {
        let offers = connection.offers().to_vec();
        Self {
            operator: connection.operator(),
            connection,
            standing: Mutex::new(standing),
            served: RwLock::new(offers.into_iter().map(Served::new).collect()),
            draining: AtomicBool::new(false),
            last_seen_ms: AtomicU64::new(now_ms),
            finished: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// Takes a heartbeat in: loads and speeds in the order of the offers.
    pub(super) fn heartbeat(&self, reports: &[(Load, Speed)], now_ms: u64) {
        for (served, (load, speed)) in self.served.write().iter_mut().zip(reports) {
            (served.load, served.claimed) = (*load, *speed);
        }
        self.last_seen_ms.store(now_ms, Relaxed);
    }

    /// Replaces the offers.
    pub(super) fn offers(&self, offers: Vec<ModelOffer>) {
        *self.served.write() = offers.into_iter().map(Served::new).collect();
    }

    /// Takes no new work from now on.
    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Counts the end of a task.
    pub(super) fn count(&self, success: bool) {
        if success {
            self.finished.fetch_add(1, Relaxed);
            return;
        }
        self.failed.fetch_add(1, Relaxed);
        let mut failures = self.failures.lock();
        failures.retain(|at| at.elapsed() < FAILURE_MEMORY);
        if failures.len() < 64 {
            failures.push(Instant::now());
        }
    }

    /// What audits have shown about it, as of the last time that the chain could be read.
    #[must_use]
    pub(super) fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    /// Takes in what the chain says of it now; `true` when it is news.
    pub(super) fn learn(&self, standing: Standing, capabilities: &[(ModelId, CapabilityRecord)]) -> bool {
        for served in self.served.write().iter_mut() {
            let known = capabilities.iter().find(|(model, _)| *model == served.offer.model);
            served.capability = known.map(|(_, record)| *record).or(served.capability);
        }
        std::mem::replace(&mut *self.standing.lock(), standing).state != standing.state
    }

    /// The models that it offers.
    #[must_use]
    pub(super) fn models(&self) -> Vec<ModelId> {
        self.served.read().iter().map(|served| served.offer.model).collect()
    }

    /// Whether it asked for no new work.
    #[must_use]
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Tasks that it finished and failed in this connection.
    #[must_use]
    pub(super) fn tasks(&self) -> (u64, u64) {
        (self.finished.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Unix time in milliseconds of its last sign of life.
    #[must_use]
    pub(super) fn last_seen_ms(&self) -> u64 {
        self.last_seen_ms.load(Relaxed)
    }

    /// Its offers.
    pub(super) fn served(&self) -> RwLockReadGuard<'_, Vec<Served>> {
        self.served.read()
    }

    fn recent_failures(&self) -> u32 {
        let failures = self.failures.lock();
        u32::try_from(failures.iter().filter(|at| at.elapsed() < FAILURE_MEMORY).count()).unwrap_or(u32::MAX)
    }

    /// One of its offers as the scheduler sees it.
    pub(super) fn snapshot(&self, served: &Served) -> WorkerSnapshot {
        let standing = self.standing();
        WorkerSnapshot {
            operator: self.operator,
            offer: served.offer,
            load: served.load,
            claimed: served.claimed,
            seen: served.seen.lock().speed(),
            capability: served.capability.map(|record| record.measured),
            draining: self.is_draining(),
            state: standing.state,
            reputation: Reputation::from_ppm(standing.reputation_ppm),
            in_flight: served.in_flight.load(Relaxed),
            prefix_tokens: 0,
            recent_failures: self.recent_failures(),
        }
    }
}

/// All connected miners.
#[derive(Debug, Default)]
pub(super) struct Pool {
    miners: RwLock<HashMap<Operator, Arc<Miner>>>,
    /// Who was ever connected.
    pub(super) presences: RwLock<Presences>,
    /// Rings when a miner comes, goes, or becomes less busy.
    pub(super) changed: Notify,
}

/// A model under the name that clients use, as the connected miners offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedModel {
    /// Its manifest.
    pub(super) id: ModelId,
    /// Longest context on offer.
    pub(super) context: u32,
    /// How many miners offer it.
    pub(super) miners: u32,
}

impl Pool {
    /// Adds a miner. A connection of the same operator that was there before is returned, to be closed.
    pub(super) fn insert(&self, miner: Arc<Miner>) -> Option<Arc<Miner>> {
        let (operator, standing, now_ms) = (miner.operator, miner.standing(), miner.last_seen_ms());
        let before = self.miners.write().insert(operator, miner);
        let mut presences = self.presences.write();
        if let Some(before) = &before {
            presences.add(operator, before.tasks());
        }
        presences.came(operator, standing, now_ms);
        drop(presences);
        self.changed.notify_waiters();
        before
    }

    /// Removes a miner, unless another connection of it has taken its place.
    pub(super) fn remove(&self, miner: &Arc<Miner>, now_ms: u64) {
        let mut miners = self.miners.write();
        let current = miners.get(&miner.operator).is_some_and(|current| Arc::ptr_eq(current, miner));
        if current {
            miners.remove(&miner.operator);
        }
        drop(miners);
        if current {
            self.presences.write().went(miner.operator, miner.standing(), miner.tasks(), now_ms);
        }
        self.changed.notify_waiters();
    }

    /// A connected miner.
    #[must_use]
    pub(super) fn get(&self, operator: Operator) -> Option<Arc<Miner>> {
        self.miners.read().get(&operator).cloned()
    }

    /// Those that are connected now.
    pub(super) fn miners(&self) -> RwLockReadGuard<'_, HashMap<Operator, Arc<Miner>>> {
        self.miners.read()
    }

    /// How many are connected.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.miners.read().len()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.miners.read().is_empty()
    }

    /// What the scheduler is told.
    #[must_use]
    pub(super) fn snapshots(&self) -> Vec<WorkerSnapshot> {
        let miners = self.miners.read();
        let mut snapshots = Vec::with_capacity(miners.len());
        for miner in miners.values() {
            snapshots.extend(miner.served.read().iter().map(|served| miner.snapshot(served)));
        }
        snapshots
    }

    /// The model that a name stands for: the one that most miners offer, should manifests differ; of one miner's offers
    /// where `only` names it.
    #[must_use]
    pub(super) fn resolve(&self, name: &str, only: Option<Operator>) -> Option<NamedModel> {
        let mut found: BTreeMap<ModelId, NamedModel> = BTreeMap::new();
        for miner in self.miners.read().values().filter(|miner| only.is_none_or(|only| only == miner.operator)) {
            for served in miner.served.read().iter().filter(|served| served.full.manifest.name == name) {
                let id = served.offer.model;
                let model = found.entry(id).or_insert(NamedModel { id, context: 0, miners: 0 });
                model.context = model.context.max(served.offer.context);
                model.miners += 1;
            }
        }
        found.into_values().max_by_key(|model| model.miners)
    }

    /// The full offer of a miner for a model, and the counter that keeps it as busy.
    #[must_use]
    pub(super) fn begin(self: &Arc<Self>, miner: &Miner, model: ModelId) -> Option<(ModelOffer, InFlight)> {
        let served = miner.served.read();
        let served = served.iter().find(|served| served.offer.model == model)?;
        let beside = served.in_flight.fetch_add(1, Relaxed).min(served.full.slots.max(1) - 1);
        let (counter, seen) = (served.in_flight.clone(), served.seen.clone());
        Some((served.full.clone(), InFlight { counter, seen, beside, pool: self.clone() }))
    }

    /// Models on offer, by name.
    #[must_use]
    pub(super) fn models(&self, created: u64) -> Vec<ModelCard> {
        let mut cards: BTreeMap<ModelId, ModelCard> = BTreeMap::new();
        for miner in self.miners.read().values() {
            for served in miner.served.read().iter() {
                let manifest = &served.full.manifest;
                let card = cards.entry(served.offer.model).or_insert_with(|| ModelCard {
                    name: manifest.name.clone(),
                    id: served.offer.model,
                    price: served.full.price,
                    tier: served.full.tier,
                    context: 0,
                    miners: 0,
                    embeds: manifest.embedding_length > 0,
                    tool_format: manifest.tool_format,
                    created,
                });
                card.context = card.context.max(served.full.context);
                card.tier = card.tier.max(served.full.tier);
                card.miners += 1;
                let total = |price: &cortensor_protocol::Price| Wei(price.input.0.saturating_add(price.output.0));
                if total(&served.full.price) < total(&card.price) {
                    card.price = served.full.price;
                }
            }
        }
        let mut cards: Vec<ModelCard> = cards.into_values().collect();
        cards.sort_by(|a, b| a.name.cmp(&b.name).then(b.miners.cmp(&a.miners)));
        cards
    }
}
