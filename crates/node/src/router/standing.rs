//! What the chain says of the miners that are connected, kept fresh in the background.
//!
//! A chain that cannot be read leaves the last known values as they are. Bounded: so many reads at once, each within a
//! time.

use super::{Router, pool::Miner};
use cortensor_protocol::{CapabilityRecord, ModelId, Operator, Standing};
use futures::StreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Miners that are asked about at once.
const AT_ONCE: usize = 8;
/// All reads about one miner take at most this long.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What audits have shown about a miner; an error is a sentence that says why it cannot be known.
pub(super) async fn read(router: &Router, miner: Operator) -> Result<Standing, String> {
    let reading = timeout(READ_TIMEOUT, router.inner.chain.standing(miner)).await;
    reading.map_err(|_| "the chain did not answer in time".to_owned())?.map_err(|error| error.to_string())
}

/// Asks the chain about every connected miner, again and again until it is stopped.
pub(super) async fn keep_fresh(router: Router, interval: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let miners: Vec<Arc<Miner>> = router.inner.pool.miners().values().cloned().collect();
        let router = &router;
        let refreshing = futures::stream::iter(miners)
            .map(|miner| async move { refresh(router, &miner).await })
            .buffer_unordered(AT_ONCE)
            .for_each(|()| std::future::ready(()));
        if stop.run_until_cancelled(refreshing).await.is_none() {
            return;
        }
    }
}

/// Asks the chain about one miner.
pub(super) async fn refresh(router: &Router, miner: &Miner) {
    let standing = match read(router, miner.operator).await {
        Ok(standing) => standing,
        Err(why) => {
            tracing::warn!(code = "R-STANDING-002", miner = %miner.operator, %why, "its standing stays as it was");
            return;
        }
    };
    let measured = measured(router, miner).await;
    if miner.learn(standing, &measured) {
        tracing::warn!(miner = %miner.operator, state = %standing.state, "a miner's standing has changed");
        router.inner.pool.changed.notify_waiters();
    }
}

/// What drawn guards measured of a miner, for each model of which that can be read now.
async fn measured(router: &Router, miner: &Miner) -> Vec<(ModelId, CapabilityRecord)> {
    let mut found = Vec::new();
    for model in miner.models() {
        match timeout(READ_TIMEOUT, router.inner.chain.capability(miner.operator, model)).await {
            Ok(Ok(record)) => found.extend(record.map(|record| (model, record))),
            Ok(Err(error)) => tracing::debug!(miner = %miner.operator, %error, "its measurements stay as they were"),
            // A chain that does not answer about one model does not about the next.
            Err(_) => break,
        }
    }
    found
}
