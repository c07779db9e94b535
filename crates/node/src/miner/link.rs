//! A miner's connections: it dials its routers, stays connected, reports its load and takes their work.

use super::serve::Miner;
use crate::{chain_view::ChainView, identity::Identity, router::check_registration};
use alloy::primitives::Address;
use async_trait::async_trait;
use cortensor_net::{
    DialConfig, DialEnds, DialState, Dialer, Endpoint, IncomingTask, NodeAddress, RouterCheck, RouterEvent, RouterNews,
    dial,
};
use cortensor_protocol::{
    RoleSet, TransportKey,
    wire::{Challenge, FailureCode, RefusalCode, TaskFailure, TaskReply},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks that arrived and are not begun yet.
const TASKS_QUEUED: usize = 64;
/// News that are not taken in yet.
const EVENTS_QUEUED: usize = 64;
/// Longer than any process runs.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How often the load is looked at. It is sent when it has changed.
const LOAD_INTERVAL: Duration = Duration::from_millis(100);

/// Where a miner works.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Chain whose registry counts.
    pub chain_id: u64,
    /// The registry.
    pub registry: Address,
    /// The routers.
    pub routers: Vec<NodeAddress>,
    /// The guards that may be drawn to audit this miner. One that is not connected when it is drawn finds that the miner
    /// does not show its records.
    pub guards: Vec<NodeAddress>,
    /// How often the registrations of those that it is connected to are looked at again, as on permissioned networks; never,
    /// if none.
    pub recheck: Option<Duration>,
}

/// Lets in only what the registry knows as active in a role.
struct OnlyRegistered {
    chain: Arc<dyn ChainView>,
    place: (u64, Address),
    role: RoleSet,
}

#[async_trait]
impl RouterCheck for OnlyRegistered {
    async fn check(&self, peer: TransportKey, challenge: &Challenge) -> Result<(), (RefusalCode, String)> {
        check_registration(&*self.chain, self.place, challenge.router, peer, self.role).await.map(drop)
    }
}

/// Works for the routers until it is stopped; then takes no new work, finishes what runs, and leaves.
pub async fn work(
    miner: Miner,
    identity: Identity,
    endpoint: Endpoint,
    chain: Arc<dyn ChainView>,
    config: LinkConfig,
    stop: CancellationToken,
) {
    let (_offers, offers) = watch::channel(miner.offers());
    let (loads, watch_loads) = watch::channel(miner.report());
    let (tasks, mut incoming) = mpsc::channel(TASKS_QUEUED);
    let (events, mut news) = mpsc::channel(EVENTS_QUEUED);
    let ends = DialEnds { offers, loads: watch_loads, tasks, events };
    let agent = concat!("cortensor/", env!("CARGO_PKG_VERSION"));
    let dialer = |address: &NodeAddress, role: RoleSet| {
        let signer = Arc::new(identity.clone());
        let place = (config.chain_id, config.registry);
        let check = Arc::new(OnlyRegistered { chain: Arc::clone(&chain), place, role });
        dial(&endpoint, DialConfig::new(address.clone(), config.chain_id, signer, check, agent), ends.clone())
    };
    let routers = config.routers.iter().map(|router| (RoleSet::ROUTER, dialer(router, RoleSet::ROUTER)));
    let guards = config.guards.iter().map(|guard| (RoleSet::GUARD, dialer(guard, RoleSet::GUARD)));
    let mut dialers: Vec<(RoleSet, Dialer)> = routers.chain(guards).collect();
    let mut recheck = tokio::time::interval(config.recheck.unwrap_or(NEVER));
    let running = TaskTracker::new();
    let mut tick = tokio::time::interval(LOAD_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => report(&miner, &loads),
            _ = recheck.tick(), if config.recheck.is_some() => {
                for (role, connected) in &mut dialers {
                    if is_gone(&*chain, connected).await {
                        let address = connected.router().clone();
                        // A new one asks the registry again before it speaks to anybody.
                        std::mem::replace(connected, dialer(&address, *role)).stop().await;
                    }
                }
            }
            Some(task) = incoming.recv() => begin(&running, &miner, task),
            Some(event) = news.recv() => take_news(&miner, event).await,
        }
    }
    dialers.iter().for_each(|(_, dialer)| dialer.drain());
    while let Ok(task) = incoming.try_recv() {
        turn_away(task).await;
    }
    running.close();
    running.wait().await;
    for (_, dialer) in dialers {
        dialer.stop().await;
    }
}

/// Whether a dialer is connected to somebody who is not registered any more. Nothing is known while the chain cannot be read.
async fn is_gone(chain: &dyn ChainView, dialer: &Dialer) -> bool {
    let DialState::Connected(operator) = dialer.state().borrow().clone() else { return false };
    matches!(chain.node(operator).await, Ok(None))
}

fn begin(running: &TaskTracker, miner: &Miner, task: IncomingTask) {
    let miner = miner.clone();
    running.spawn(async move { miner.serve(task).await });
}

fn report(
    miner: &Miner,
    loads: &watch::Sender<Vec<(cortensor_protocol::manifest::Load, cortensor_protocol::manifest::Speed)>>,
) {
    let now = miner.report();
    loads.send_if_modified(|last| {
        let changed = *last != now;
        *last = now;
        changed
    });
}

async fn take_news(miner: &Miner, event: RouterEvent) {
    let router = event.router;
    match event.news {
        RouterNews::Connected { operator, vouchers } => {
            tracing::info!(%router, %operator, "connected to a router");
            for voucher in vouchers {
                miner.late_voucher(voucher).await;
            }
        }
        RouterNews::Voucher(voucher) => miner.late_voucher(*voucher).await,
        RouterNews::Draining => tracing::info!(%router, "a router is going away"),
        RouterNews::Disconnected(why) => tracing::info!(%router, %why, "disconnected from a router"),
        RouterNews::Refused { code, message } => {
            tracing::warn!(code = "M-ROUTER-001", %router, ?code, %message, "a router and this miner do not work together");
        }
    }
}

/// Answers a task that arrived and will not be begun, so that its router asks another miner at once.
async fn turn_away(task: IncomingTask) {
    let mut replies = task.replies;
    let failure = TaskFailure { code: FailureCode::Draining, message: "this miner is stopping".into() };
    // A router that is gone needs no answer.
    let _ = replies.queue(TaskReply::Failed(failure));
    let _ = replies.finish().await;
}
