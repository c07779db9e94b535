//! Taking miners in: whoever the registry knows as an active miner, under the transport key that it is bound to.

use super::{Router, pool::Miner, standing, tasks::now_ms};
use crate::{chain_view::ChainView, identity::Identity};
use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use cortensor_net::{
    AcceptedMiner, Admission, CloseCode, Endpoint, ListenConfig, Listener, OperatorSigner, WelcomeExtras,
};
use cortensor_protocol::{
    NodeRecord, Operator, RoleSet, Signature65, TransportKey,
    wire::{Hello, MAX_OFFERS, MinerControl, RefusalCode},
};
use std::{sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Vouchers handed over with a welcome.
const VOUCHERS_MAX: usize = 256;

/// How a router takes miners in.
#[derive(Clone, Debug)]
pub struct AdmissionConfig {
    /// Chain whose registry counts.
    pub chain_id: u64,
    /// The registry.
    pub registry: Address,
    /// How often miners report their load.
    pub heartbeat: Duration,
    /// How often the chain is asked about the standing of those that are there.
    pub standing_refresh: Duration,
    /// Most miners at once.
    pub miners_max: usize,
    /// How often the registrations of those that are there are looked at again, as on permissioned networks; never, if none.
    pub recheck: Option<Duration>,
}

impl AdmissionConfig {
    /// With the recommended numbers.
    #[must_use]
    pub const fn new(chain_id: u64, registry: Address) -> Self {
        let (heartbeat, standing_refresh) = (Duration::from_millis(500), Duration::from_secs(10));
        Self { chain_id, registry, heartbeat, standing_refresh, miners_max: 4096, recheck: None }
    }
}

impl OperatorSigner for Identity {
    fn operator(&self) -> Operator {
        Self::operator(self)
    }

    fn sign_hash(&self, hash: B256) -> Signature65 {
        self.sign(hash)
    }
}

/// Checks a peer's registration for a role; the text of a refusal says what to do.
///
/// # Errors
/// The refusal.
pub(crate) async fn check_registration(
    chain: &dyn ChainView,
    (chain_id, registry): (u64, Address),
    operator: Operator,
    peer: TransportKey,
    roles: RoleSet,
) -> Result<NodeRecord, (RefusalCode, String)> {
    // A registry that cannot be read lets nobody in.
    let record = chain.node(operator).await.map_err(|error| (RefusalCode::NotActive, error.to_string()))?;
    let Some(record) = record else {
        return Err((RefusalCode::NotRegistered, format!("{operator} is not in the registry: register it first")));
    };
    if !record.active || !record.roles.contains(roles) {
        let message = format!(
            "{operator} is registered as {} with {} staked, not as an active {roles}",
            record.roles, record.stake
        );
        return Err((RefusalCode::NotActive, message));
    }
    if record.transport_key != peer || !record.transport_is_bound(chain_id, registry) {
        let message = format!("{operator} is registered with the transport key {}, not {peer}", record.transport_key);
        return Err((RefusalCode::BadBinding, message));
    }
    Ok(record)
}

struct Doorman {
    router: Router,
    config: AdmissionConfig,
}

#[async_trait]
impl Admission for Doorman {
    async fn admit(&self, peer: TransportKey, hello: &Hello) -> Result<WelcomeExtras, (RefusalCode, String)> {
        if hello.offers.is_empty() || hello.offers.len() > MAX_OFFERS {
            return Err((RefusalCode::Malformed, format!("offer 1 to {MAX_OFFERS} models")));
        }
        let (chain, place) = (&*self.router.inner.chain, (self.config.chain_id, self.config.registry));
        check_registration(chain, place, hello.miner, peer, RoleSet::MINER).await?;
        Ok(WelcomeExtras { vouchers: self.router.inner.settlement.vouchers_of(hello.miner, VOUCHERS_MAX) })
    }
}

/// Takes miners in until it is stopped; then waits for those that are there to leave.
pub async fn accept_miners(router: Router, endpoint: Endpoint, config: AdmissionConfig, stop: CancellationToken) {
    let doorman = Arc::new(Doorman { router: router.clone(), config: config.clone() });
    let signer = Arc::new(router.inner.identity.clone());
    let listen = ListenConfig {
        heartbeat: config.heartbeat,
        miners_max: config.miners_max,
        ..ListenConfig::new(config.chain_id, signer, doorman)
    };
    let mut listener = Listener::start(&endpoint, listen);
    let attended = TaskTracker::new();
    let refreshing = stop.child_token();
    attended.spawn(standing::keep_fresh(router.clone(), config.standing_refresh, refreshing.clone()));
    if let Some(interval) = config.recheck {
        attended.spawn(send_away(router.clone(), interval, refreshing.clone()));
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Some(accepted) => drop(attended.spawn(attend(router.clone(), accepted, stop.clone()))),
                None => break,
            },
        }
    }
    refreshing.cancel();
    attended.close();
    attended.wait().await;
}

/// Cuts off connected miners that are not registered any more, again and again until it is stopped.
async fn send_away(router: Router, interval: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let miners: Vec<Arc<Miner>> = router.inner.pool.miners().values().cloned().collect();
        for miner in miners {
            match router.inner.chain.node(miner.operator).await {
                Ok(Some(_)) => {}
                Ok(None) => miner.connection.close(CloseCode::Refused, "you are not a member of this network any more"),
                Err(error) => tracing::debug!(miner = %miner.operator, %error, "its registration cannot be read now"),
            }
        }
    }
}

/// Keeps a miner in the pool as long as it is connected.
async fn attend(router: Router, accepted: AcceptedMiner, stop: CancellationToken) {
    let AcceptedMiner { connection, mut controls } = accepted;
    let operator = connection.operator();
    let standing = match standing::read(&router, operator).await {
        Ok(standing) => standing,
        // A miner is given no work while it is not known whether it may have any.
        Err(why) => {
            tracing::warn!(code = "R-STANDING-001", miner = %operator, %why, "a miner is sent away");
            return connection
                .close(CloseCode::Refused, "the router cannot read your standing from the chain: come back");
        }
    };
    let miner = Arc::new(Miner::new(connection, standing, now_ms()));
    standing::refresh(&router, &miner).await;
    tracing::info!(miner = %operator, agent = miner.connection.agent(), state = %standing.state, "a miner joined");
    if let Some(before) = router.inner.pool.insert(miner.clone()) {
        before.connection.close(CloseCode::Replaced, "the same operator connected again");
    }
    loop {
        let control = tokio::select! {
            () = stop.cancelled() => break,
            control = controls.recv() => control,
        };
        match control {
            Some(MinerControl::Heartbeat(reports)) => {
                miner.heartbeat(&reports, now_ms());
                router.inner.pool.changed.notify_waiters();
            }
            Some(MinerControl::Offers(offers)) => miner.offers(offers),
            Some(MinerControl::Draining) => miner.drain(),
            None => break,
        }
    }
    router.inner.pool.remove(&miner, now_ms());
    tracing::info!(miner = %operator, "a miner left");
}
