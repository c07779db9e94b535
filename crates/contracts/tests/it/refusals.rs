//! Refusals arrive as text that says what is wrong, and a voucher pays nobody but the one it names.

use crate::world::{Books, TREASURY, World, cor};
use alloy::signers::local::PrivateKeySigner;
use cortensor_contracts::{RegistryError, SendError, SessionsError, Wallet};
use cortensor_protocol::{Operator, RoleSet, Wei};
use std::error::Error as _;

pub(crate) async fn refusals_are_readable(url: &str) {
    let world = World::start(url).await;
    let (registry, sessions, token) = (&world.contracts.registry, &world.contracts.sessions, &world.contracts.token);

    token.transfer(&world.deployer, world.reporter.address(), cor(200)).await.unwrap();
    let poor = world.registration(world.reporter.address(), RoleSet::ROUTER, cor(100));
    let error = registry.register(&world.reporter, &poor).await.unwrap_err();
    assert!(matches!(error, RegistryError::Send { source: SendError::Refused(_), .. }));
    assert_eq!(error.to_string(), "cannot register the node");
    assert_eq!(
        error.source().unwrap().to_string(),
        "the contract refused: StakeBelowMinimum(role 1, stake 100000000000000000000, minimum 1000000000000000000000)"
    );

    let mut foreign = world.registration(world.reporter.address(), RoleSet::MINER, cor(100));
    foreign.transport = world.transport(Operator(world.client.address()));
    let error = registry.register(&world.reporter, &foreign).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unbound { .. }), "a binding of another operator is not even sent");

    let mut request = world.request(cor(10), None).await;
    request.router = world.miner(0);
    let error = sessions.open(&world.client, &request).await.unwrap_err();
    assert!(error.revert().unwrap().is("RouterInactive"));

    let request = world.request(cor(5_000), None).await;
    let error = sessions.open(&world.client, &request).await.unwrap_err();
    let revert = error.revert().expect("the token's own error comes through the sessions contract");
    assert!(revert.is("ERC20InsufficientBalance"), "{revert}");
    assert_eq!(revert.argument("needed"), Some(cor(5_000).0.to_string().as_str()));

    let nobody = Wallet::new(world.provider.clone(), PrivateKeySigner::random()).await.unwrap();
    let error = token.transfer(&nobody, TREASURY, Wei(1)).await.unwrap_err();
    assert!(error.revert().is_some_and(|revert| revert.is("ERC20InsufficientBalance")), "{error:?}");
}

pub(crate) async fn vouchers_of_others_pay_nothing(url: &str) {
    let world = World::start(url).await;
    let sessions = &world.contracts.sessions;
    let (first, mut books) = world.open(cor(10), None).await;
    let (second, _) = world.open(cor(10), None).await;
    let good = books.pay(world.miner(0), 4);

    let mut other_session = good.clone();
    other_session.voucher.session = second.id;
    other_session.countersignature.session = second.id;
    let mut other_miner = good.clone();
    other_miner.voucher.miner = world.miner(1);
    let mut more = good.clone();
    more.voucher.cumulative_amount = cor(3);
    let mut unsigned = good.clone();
    unsigned.router_signature = good.signature;
    for (name, forged) in
        [("session", other_session), ("miner", other_miner), ("amount", more), ("countersignature", unsigned)]
    {
        let error = sessions.redeem(&world.miners[1], &forged).await.unwrap_err();
        let revert = error.revert().unwrap_or_else(|| panic!("{name}: {error:?}"));
        assert!(
            ["RouterSignatureInvalid", "KeyUnknown", "SignatureInvalid"].contains(&revert.name()),
            "{name}: {revert}"
        );
    }
    let mut elsewhere = Books::new(&world, first.id);
    elsewhere.domain.chain_id = 1;
    let replayed = elsewhere.pay(world.miner(0), 4);
    assert!(sessions.redeem(&world.miners[0], &replayed).await.unwrap_err().revert().is_some());

    let mut greedy = good.voucher.clone();
    greedy.cumulative_amount = cor(40);
    let greedy = books.sign(greedy, 2, cor(40));
    assert!(sessions.redeem(&world.miners[0], &greedy).await.unwrap_err().revert().unwrap().is("PriceExceeded"));

    // One bad voucher undoes its whole batch.
    let batch = [good.clone(), greedy];
    assert!(sessions.redeem_batch(&world.miners[0], &batch).await.is_err());
    assert_eq!(sessions.redeemed(first.id, world.miner(0)).await.unwrap().amount, Wei::ZERO);
    let long = vec![good.clone(); 129];
    let error = sessions.redeem_batch(&world.miners[0], &long).await.unwrap_err();
    assert!(matches!(error, SessionsError::BatchTooLong(129)));
    assert_eq!(sessions.redeem(&world.reporter, &good).await.unwrap().vouchers[0].miner, world.miner(0));
    world.check_conservation(&[first.id, second.id]).await;
}
