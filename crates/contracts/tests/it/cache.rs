//! The cache follows the chain, forgets what changed, and gives no answer when the chain is gone.

use crate::{
    anvil::Anvil,
    world::{World, cor},
};
use cortensor_contracts::{CacheError, CacheLimits, RegistryCache};
use cortensor_protocol::{Operator, RoleSet, SessionId};
use std::{sync::Arc, time::Duration};

/// Long enough that nothing becomes too old by chance.
const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) async fn follows_the_chain_and_forgets_what_changed(url: &str) {
    let world = World::start(url).await;
    let limits = CacheLimits { max_age: HOUR, ..CacheLimits::default() };
    let cache = RegistryCache::new(world.provider.clone(), &world.deployment, limits);
    let (miner, stranger) = (world.miner(0), Operator(world.client.address()));

    assert!(cache.node(miner).await.unwrap().unwrap().active, "answers come from the chain before the first look");
    assert_eq!(cache.cached_node(miner), None, "but are not kept, since nothing would forget them");
    cache.refresh().await.unwrap();
    assert!(cache.node(miner).await.unwrap().unwrap().active);
    assert!(cache.cached_node(miner).unwrap().unwrap().active);
    assert_eq!(cache.node(stranger).await.unwrap(), None);
    assert_eq!(cache.cached_node(stranger), Some(None));
    assert_eq!(cache.session(SessionId::default()).await.unwrap(), None);

    let (opened, mut books) = world.open(cor(10), None).await;
    cache.refresh().await.unwrap();
    assert_eq!(cache.session(opened.id).await.unwrap().unwrap().deposit, cor(10));
    let other = world.miner(1);
    cache.node(other).await.unwrap();

    // Each event takes away exactly what it is about.
    world.contracts.registry.request_unstake(&world.miners[0], miner, cor(450)).await.unwrap();
    world.contracts.sessions.redeem(&world.miners[0], &books.pay(miner, 2)).await.unwrap();
    world.register(&world.client, RoleSet::MINER, cor(100)).await;
    cache.refresh().await.unwrap();
    assert_eq!(cache.cached_node(miner), None);
    assert_eq!(cache.cached_session(opened.id), None);
    assert_eq!(cache.cached_node(stranger), None);
    assert!(cache.cached_node(other).is_some());
    assert!(!cache.node(miner).await.unwrap().unwrap().active);
    assert!(cache.node(stranger).await.unwrap().unwrap().active);
    assert_eq!(cache.session(opened.id).await.unwrap().unwrap().spent, cor(2));
    assert!(cache.chain_time().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_chain_gives_no_answers() {
    let chain = Anvil::start().await;
    let world = World::start(chain.url()).await;
    let limits = CacheLimits { max_age: HOUR, ..CacheLimits::default() };
    let patient = RegistryCache::new(world.provider.clone(), &world.deployment, limits);
    let limits = CacheLimits { max_age: Duration::ZERO, ..limits };
    let strict = RegistryCache::new(world.provider.clone(), &world.deployment, limits);
    for cache in [&patient, &strict] {
        cache.refresh().await.unwrap();
        cache.node(world.miner(0)).await.unwrap();
    }
    chain.kill().await;
    assert!(matches!(patient.refresh().await, Err(CacheError::Follow(_))));
    assert!(patient.node(world.miner(0)).await.unwrap().is_some(), "young enough");
    assert!(patient.node(world.miner(1)).await.is_err(), "never seen");
    assert!(strict.node(world.miner(0)).await.is_err(), "seen, but too old");
    assert!(strict.session(SessionId::default()).await.is_err());
    assert_eq!(strict.followed_block(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_keeps_it_fresh() {
    let chain = Anvil::start().await;
    let world = World::start(chain.url()).await;
    let limits = CacheLimits { max_age: HOUR, poll_interval: Duration::from_millis(10), ..CacheLimits::default() };
    let cache = Arc::new(RegistryCache::new(world.provider.clone(), &world.deployment, limits));
    let running = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.run().await }
    });
    let target = world.provider_block().await + 2;
    world.pass(1).await;
    world.pass(1).await;
    let reached = async {
        while cache.followed_block().is_none_or(|block| block < target) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the cache follows new blocks");
    running.abort();
}
