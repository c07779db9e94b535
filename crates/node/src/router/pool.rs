//! The miners that are connected now, and what the scheduler is told of them.

use cortensor_gateway::{ModelCard, NodeModelView, NodeView};
use cortensor_net::MinerConnection;
use cortensor_protocol::{
    ModelId, ModelOffer, Operator, Wei,
    manifest::{Load, Speed},
};
use cortensor_scheduler::{Offer, Reputation, WorkerSnapshot};
use parking_lot::{Mutex, RwLock};
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
struct Served {
    full: ModelOffer,
    offer: Offer,
    load: Load,
    speed: Speed,
    in_flight: Arc<AtomicU32>,
}

impl Served {
    fn new(full: ModelOffer) -> Self {
        let (offer, speed) = (Offer::from(&full), full.speed);
        Self { full, offer, load: Load::default(), speed, in_flight: Arc::default() }
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
    pool: Arc<Pool>,
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
    pub(super) fn new(operator: Operator, connection: MinerConnection, offers: Vec<ModelOffer>, now_ms: u64) -> Self {
        Self {
            operator,
            connection,
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
            (served.load, served.speed) = (*load, *speed);
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

    fn recent_failures(&self) -> u32 {
        let failures = self.failures.lock();
        u32::try_from(failures.iter().filter(|at| at.elapsed() < FAILURE_MEMORY).count()).unwrap_or(u32::MAX)
    }

    fn snapshots(&self, into: &mut Vec<WorkerSnapshot>) {
        let draining = self.draining.load(Relaxed);
        let recent_failures = self.recent_failures();
        into.extend(self.served.read().iter().map(|served| WorkerSnapshot {
            operator: self.operator,
            offer: served.offer,
            load: served.load,
            speed: served.speed,
            draining,
            reputation: Reputation::NEUTRAL,
            in_flight: served.in_flight.load(Relaxed),
            prefix_tokens: 0,
            recent_failures,
        }));
    }

    fn view(&self) -> NodeView {
        let models = |served: &Served| NodeModelView {
            name: served.full.manifest.name.clone(),
            tier: served.full.tier,
            build: served.full.build.clone(),
            price: served.full.price,
            load: served.load,
            speed: served.speed,
            slots: served.full.slots,
            context: served.full.context,
        };
        NodeView {
            operator: self.operator,
            state: if self.draining.load(Relaxed) { "draining" } else { "ready" }.into(),
            models: self.served.read().iter().map(models).collect(),
            last_seen_ms: self.last_seen_ms.load(Relaxed),
            tasks_finished: self.finished.load(Relaxed),
            tasks_failed: self.failed.load(Relaxed),
        }
    }
}

/// All connected miners.
#[derive(Debug, Default)]
pub(super) struct Pool {
    miners: RwLock<HashMap<Operator, Arc<Miner>>>,
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
        let before = self.miners.write().insert(miner.operator, miner);
        self.changed.notify_waiters();
        before
    }

    /// Removes a miner, unless another connection of it has taken its place.
    pub(super) fn remove(&self, miner: &Arc<Miner>) {
        let mut miners = self.miners.write();
        if miners.get(&miner.operator).is_some_and(|current| Arc::ptr_eq(current, miner)) {
            miners.remove(&miner.operator);
        }
        drop(miners);
        self.changed.notify_waiters();
    }

    /// A connected miner.
    #[must_use]
    pub(super) fn get(&self, operator: Operator) -> Option<Arc<Miner>> {
        self.miners.read().get(&operator).cloned()
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
        miners.values().for_each(|miner| miner.snapshots(&mut snapshots));
        snapshots
    }

    /// The model that a name stands for: the one that most miners offer, should manifests differ.
    #[must_use]
    pub(super) fn resolve(&self, name: &str) -> Option<NamedModel> {
        let mut found: BTreeMap<ModelId, NamedModel> = BTreeMap::new();
        for miner in self.miners.read().values() {
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
        served.in_flight.fetch_add(1, Relaxed);
        Some((served.full.clone(), InFlight { counter: served.in_flight.clone(), pool: self.clone() }))
    }

    /// Nodes, by account.
    #[must_use]
    pub(super) fn nodes(&self) -> Vec<NodeView> {
        let mut nodes: Vec<NodeView> = self.miners.read().values().map(|miner| miner.view()).collect();
        nodes.sort_by_key(|node| node.operator);
        nodes
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
