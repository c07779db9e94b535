//! Everything that a miner does as a process of its own: works for its routers, shows guards its records, commits to its
//! receipts, redeems its vouchers.

use super::{
    Miner, MinerConfig, Offering,
    batches::keep_committing,
    cases::Retention,
    link::{LinkConfig, work},
    redeem::keep_redeeming,
};
use crate::{config::MinerFile, guard::declare_class, journal::StoreError, node::Node};
use cortensor_contracts::AuditsError;
use cortensor_net::{BindError, Endpoint, NodeAddress, ParseNodeAddressError};
use cortensor_protocol::Wei;
use std::time::Duration;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Running answers have this long to end when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a miner did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MinerServiceError {
    /// A router or guard in the configuration is no address.
    #[error("a router or guard in the configuration has no address")]
    Address(#[from] ParseNodeAddressError),
    /// Its class could not be declared.
    #[error("cannot declare the class of its engine")]
    Class(#[from] AuditsError),
    /// Its data cannot be used.
    #[error("cannot open its data")]
    Store(#[from] StoreError),
    /// Its transport cannot listen.
    #[error("cannot open its transport")]
    Transport(#[from] BindError),
}

/// A running miner.
#[derive(Debug)]
pub struct MinerService {
    /// Its core.
    pub miner: Miner,
    endpoint: Endpoint,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl MinerService {
    /// Starts it with these engines.
    ///
    /// # Errors
    /// Names what is wrong with the configuration or could not be done.
    pub async fn start(node: &Node, file: &MinerFile, offerings: Vec<Offering>) -> Result<Self, MinerServiceError> {
        let (routers, guards) = (addresses(&file.miner.routers)?, addresses(&file.miner.guards)?);
        if let Some(first) = offerings.first() {
            declare_class(&node.contracts, &node.wallet, &*first.engine).await?;
        }
        let config = MinerConfig {
            store: file.node.data.join("miner.redb"),
            domain: node.deployment.domain(),
            credit: Wei::COR,
            pay_timeout: Duration::from_secs(10),
            retention: Retention::default(),
        };
        let miner = Miner::start(node.identity.clone(), node.view(), offerings, config)?;
        let endpoint = node.endpoint(&file.node).await?;
        let service = Self { miner, endpoint, stop: CancellationToken::new(), tracker: TaskTracker::new() };
        let (chain_id, registry) = (node.deployment.chain_id, node.deployment.registry);
        service.run(node, file, LinkConfig { chain_id, registry, routers, guards, recheck: node.recheck() });
        Ok(service)
    }

    fn run(&self, node: &Node, file: &MinerFile, link: LinkConfig) {
        let (miner, stop) = (|| self.miner.clone(), || self.stop.child_token());
        let (contracts, wallet) = (|| node.contracts.clone(), || node.wallet.clone());
        let endpoint = self.endpoint.clone();
        self.tracker.spawn(work(miner(), node.identity.clone(), endpoint, node.view(), link, stop()));
        self.tracker.spawn(keep_redeeming(miner(), contracts(), wallet(), file.redeem_policy(), stop()));
        self.tracker.spawn(keep_committing(miner(), contracts(), wallet(), file.batch_policy(), stop()));
    }

    /// Takes no new work and lets running answers go on to their end. Returns whether they got there in time; what was
    /// delivered is paid either way.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.tracker.wait()).await.is_ok();
        self.endpoint.close().await;
        ended
    }
}

fn addresses(texts: &[String]) -> Result<Vec<NodeAddress>, ParseNodeAddressError> {
    texts.iter().map(|text| text.parse()).collect()
}
