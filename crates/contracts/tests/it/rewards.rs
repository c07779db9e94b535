//! Rewards through the typed client: what is counted, what it earns, and that it is paid once.

use crate::world::{World, cor};
use alloy::primitives::Address;
use cortensor_contracts::{
    Claimable, Contracts, RewardsParameters, Wallet,
    bindings::scores::{
        IScores,
        Scores::{recordCall, setWritersCall},
    },
};
use cortensor_protocol::{Operator, Wei};

/// An audit that found nothing: the deployer takes the auditor's place for it.
async fn audited(world: &World, miner: Operator) {
    let scores = world.contracts.scores.address();
    let writers = |auditor| setWritersCall { auditor_: auditor, court_: world.deployment.court };
    world.deployer.call(scores, &writers(world.deployer.address())).await.unwrap();
    let added = IScores::Weighed { computation: -1, sampling: -1 };
    let call = recordCall { miner: miner.0, added, tokens: 1, hard: false, mayConvict: false };
    world.deployer.call(scores, &call).await.unwrap();
    world.deployer.call(scores, &writers(world.deployment.audits)).await.unwrap();
}

async fn owed(world: &World, miner: Operator) -> Claimable {
    let epoch = world.contracts.guards.next_epoch().await.unwrap();
    world.contracts.rewards.claimable(miner, epoch).await.unwrap()
}

async fn next_epoch(world: &World) {
    world.pass(world.contracts.guards.epoch_length_s().await.unwrap().into()).await;
}

/// Two per cent of ten COR are the protocol's; 41/81 of all reputation and two thirds of the best quality weigh them.
const WEIGHT: u128 = Wei::COR.0 / 5 * 506_172 / 1_000_000 * 1_000_000 / 1_500_000;

pub(crate) async fn work_is_counted_and_paid_once(url: &str) {
    let world = World::start(url).await;
    let Contracts { rewards, sessions, court, token, .. } = &world.contracts;
    let (miner, wallet): (_, &Wallet) = (world.miner(0), &world.miners[0]);
    let (opened, mut books) = world.open(cor(100), None).await;
    let ids = [opened.id];
    sessions.redeem(wallet, &books.pay(miner, 10)).await.unwrap();
    assert_eq!(rewards.countable(miner, &ids).await.unwrap(), None, "nobody audited it");
    let refused = rewards.count(wallet, &ids).await.unwrap_err();
    assert!(refused.revert().unwrap().is("NotAudited"), "{refused:?}");
    audited(&world, miner).await;
    assert_eq!(rewards.countable(miner, &ids).await.unwrap(), Some(Wei(WEIGHT)));
    rewards.count(wallet, &ids).await.unwrap();
    assert_eq!(rewards.countable(miner, &ids).await.unwrap(), Some(Wei::ZERO), "nothing is counted twice");
    assert_eq!(owed(&world, miner).await, Claimable::default());
    let early = rewards.claim(wallet, miner).await.unwrap_err();
    assert!(early.revert().unwrap().is("NothingToClaim"), "{early:?}");

    next_epoch(&world).await;
    rewards.fund(&world.deployer, cor(1)).await.unwrap();
    rewards.collect(&world.client).await.unwrap();
    // The fifth of a COR is the guards'; the pool gives the rewards.
    assert_eq!(court.pool().await.unwrap(), Wei(Wei::COR.0 / 5));
    assert_eq!(rewards.fees().await.unwrap(), Wei::ZERO);
    let due = owed(&world, miner).await;
    assert_eq!(due, Claimable { amount: Wei(WEIGHT / 2), epochs: 1 });
    let before = token.balance_of(wallet.address()).await.unwrap();
    rewards.claim(&world.client, miner).await.unwrap();
    assert_eq!(token.balance_of(wallet.address()).await.unwrap(), before + due.amount);
    assert_eq!(owed(&world, miner).await, Claimable::default());
    assert_eq!(rewards.pool().await.unwrap(), Wei(cor(1).0 - WEIGHT / 2));

    let stricter = RewardsParameters { cap_ppm: 100_000, ..RewardsParameters::default() };
    rewards.set_parameters(&world.deployer, stricter).await.unwrap();
    assert_eq!(rewards.parameters().await.unwrap(), stricter);
    let mad = RewardsParameters { cap_ppm: 900_001, ..stricter };
    let refused = rewards.set_parameters(&world.deployer, mad).await.unwrap_err();
    assert!(refused.revert().unwrap().is("ParametersOutOfBounds"), "{refused:?}");
    rewards.set_quality(&world.deployer, Address::ZERO).await.unwrap();
}
