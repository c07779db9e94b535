//! Nonces under concurrency.

use crate::world::{World, signer};
use alloy::{primitives::Address, providers::Provider as _};
use cortensor_contracts::Wallet;
use cortensor_protocol::Wei;
use futures::future::join_all;
use std::collections::BTreeSet;

const RECIPIENT: Address = Address::repeat_byte(0x42);

pub(crate) async fn one_account_sends_many_at_once(url: &str) {
    let world = World::bare(url).await;
    let before = world.provider.get_transaction_count(world.deployer.address()).await.unwrap();
    let transfers = (1..=40u128).map(|amount| {
        let (wallet, token) = (world.deployer.clone(), world.contracts.token.clone());
        async move {
            // Every fourth is refused, which must not leave a gap in the nonces.
            let amount = if amount % 4 == 0 { u128::MAX } else { amount };
            token.transfer(&wallet, RECIPIENT, Wei(amount)).await
        }
    });
    let outcomes = join_all(transfers).await;
    let sent: BTreeSet<_> = outcomes.iter().flatten().map(|confirmed| confirmed.transaction).collect();
    assert_eq!(sent.len(), 30);
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.clone().all(|error| error.revert().unwrap().is("ERC20InsufficientBalance")));
    assert_eq!(refused.count(), 10);
    let expect: u128 = (1..=40).filter(|amount| amount % 4 != 0).sum();
    assert_eq!(world.balance(RECIPIENT).await, Wei(expect));
    assert_eq!(world.provider.get_transaction_count(world.deployer.address()).await.unwrap(), before + 30);
}

pub(crate) async fn two_wallets_of_one_account_compete_and_both_win(url: &str) {
    let world = World::bare(url).await;
    let other = Wallet::new(world.provider.clone(), signer(0)).await.unwrap();
    let token = &world.contracts.token;
    for round in 0..5 {
        let (a, b) = tokio::join!(
            token.transfer(&world.deployer, RECIPIENT, Wei(1)),
            token.transfer(&other, RECIPIENT, Wei(1)),
        );
        assert!(a.is_ok() && b.is_ok(), "round {round}: {a:?} {b:?}");
    }
    assert_eq!(world.balance(RECIPIENT).await, Wei(10));
}
