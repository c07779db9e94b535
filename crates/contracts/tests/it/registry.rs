//! Nodes and models: registering, staking, leaving, publishing.

use crate::world::{World, cor, signer};
use cortensor_contracts::{ModelTerms, ModelsError, PriceBounds, RegistryError, SessionsError, Wallet};
use cortensor_protocol::{ModelId, Operator, Price, RoleSet, Wei};

pub(crate) async fn nodes_come_stake_and_go(url: &str) {
    let world = World::start(url).await;
    let registry = &world.contracts.registry;
    let miner = world.miner(0);
    assert_eq!(registry.minimum_stake(RoleSet::MINER).await.unwrap(), cor(100));
    assert_eq!(registry.minimum_stake(RoleSet::ROUTER.union(RoleSet::MINER)).await.unwrap(), cor(1_000));
    assert_eq!(registry.minimum_stake(RoleSet::default()).await.unwrap(), Wei::ZERO);

    let entry = registry.entry(miner).await.unwrap().unwrap();
    assert!(entry.record.active && entry.record.transport_is_bound(world.deployment.chain_id, registry.address()));
    assert_eq!((entry.record.stake, entry.record.roles), (cor(500), RoleSet::MINER));
    assert_eq!((entry.claims.as_slice(), entry.unbonding), (b"claims".as_slice(), None));
    assert_eq!(registry.node(Operator(world.client.address())).await.unwrap(), None);
    assert!(registry.is_active(miner, RoleSet::MINER).await.unwrap());
    assert!(!registry.is_active(miner, RoleSet::ROUTER).await.unwrap());

    let nodes = registry.nodes(3).await.unwrap();
    assert_eq!(nodes.len(), 3);
    let (page, count) = registry.page(1, 1).await.unwrap();
    assert_eq!((page.as_slice(), count), (&nodes[1..2], 3));
    assert!(nodes.contains(&entry), "lists and single reads agree");
    assert!(matches!(registry.nodes(2).await, Err(RegistryError::TooMany { count: 3, limit: 2 })));
    assert!(matches!(registry.page(0, 101).await, Err(RegistryError::PageTooLong(101))));

    let wallet = &world.miners[0];
    registry.add_stake(wallet, miner, cor(50)).await.unwrap();
    registry.request_unstake(wallet, miner, cor(500)).await.unwrap();
    let entry = registry.entry(miner).await.unwrap().unwrap();
    assert!(!entry.record.active, "50 COR back no miner");
    assert_eq!((entry.record.stake, entry.unbonding.unwrap().amount), (cor(50), cor(500)));
    assert!(!registry.nodes(3).await.unwrap().iter().find(|node| node.record.operator == miner).unwrap().record.active);
    let early = registry.withdraw(wallet, miner).await.unwrap_err();
    assert!(early.revert().unwrap().is("UnbondingUntil"));
    registry.cancel_unstake(wallet, miner).await.unwrap();
    assert!(registry.node(miner).await.unwrap().unwrap().active);

    registry.set_claims(wallet, miner, b"other").await.unwrap();
    registry.set_payout(wallet, miner, world.publisher.address()).await.unwrap();
    registry.set_roles(wallet, miner, RoleSet::MINER.union(RoleSet::GUARD)).await.unwrap();
    let entry = registry.entry(miner).await.unwrap().unwrap();
    assert_eq!((entry.claims.as_slice(), entry.record.payout), (b"other".as_slice(), world.publisher.address()));
    assert!(entry.record.roles.contains(RoleSet::GUARD) && entry.record.active);

    registry.request_unstake(wallet, miner, cor(550)).await.unwrap();
    world.pass(601).await;
    let before = world.balance(wallet.address()).await;
    registry.withdraw(&world.reporter, miner).await.unwrap();
    assert_eq!(world.balance(wallet.address()).await, before + cor(550));
    registry.deregister(wallet, miner).await.unwrap();
    assert_eq!(registry.node(miner).await.unwrap(), None);
    assert_eq!(registry.count().await.unwrap(), 2);
    world.check_conservation(&[]).await;
}

pub(crate) async fn another_account_can_run_an_operator(url: &str) {
    let world = World::start(url).await;
    let registry = &world.contracts.registry;
    let operator = signer(7);
    let mut node = world.registration(operator.address(), RoleSet::MINER, cor(100));
    let refused = registry.register(&world.client, &node).await.unwrap_err();
    assert!(refused.revert().is_some(), "without consent nobody is registered");

    let chain_id = world.deployment.chain_id;
    node.consent = Some(registry.consent(&operator, world.reporter.address(), chain_id).await.unwrap());
    let refused = registry.register(&world.client, &node).await.unwrap_err();
    assert!(refused.revert().unwrap().is("ConsentInvalid"), "consent is for one owner");

    node.consent = Some(registry.consent(&operator, world.client.address(), chain_id).await.unwrap());
    registry.register(&world.client, &node).await.unwrap();
    let record = registry.node(Operator(operator.address())).await.unwrap().unwrap();
    assert_eq!(record.owner, world.client.address());
    assert!(record.active);

    let stolen = Wallet::new(world.provider.clone(), operator.clone()).await.unwrap();
    let refused = registry.request_unstake(&stolen, record.operator, cor(1)).await.unwrap_err();
    assert!(refused.revert().unwrap().is("NotNodeOwner"), "a stolen hot key moves no stake");
}

pub(crate) async fn models_are_published_and_retired(url: &str) {
    let world = World::start(url).await;
    let models = &world.contracts.models;
    let id = ModelId([9; 32].into());
    let price = |amount| Price { input: Wei(amount), output: Wei(amount) };
    let terms = ModelTerms {
        royalty_bps: 100,
        prices: PriceBounds { least: price(10), most: price(1_000) },
        licence: "Apache-2.0".into(),
        manifest_uri: "https://models.example/9".into(),
    };
    assert_eq!(models.get(id).await.unwrap(), None);
    models.register(&world.publisher, id, &terms).await.unwrap();
    let entry = models.get(id).await.unwrap().unwrap();
    assert_eq!((&entry.terms, entry.publisher, entry.retired), (&terms, world.publisher.address(), false));
    assert_eq!((models.count().await.unwrap(), models.page(0, 100).await.unwrap()), (1, vec![entry]));
    assert!(matches!(models.page(0, 101).await, Err(ModelsError::PageTooLong(101))));

    let (opened, _) = world.open(cor(1), Some(id)).await;
    assert_eq!(opened.max_price, price(1_000), "the model's maximum caps the session's");
    let session = world.contracts.sessions.session(opened.id).await.unwrap().unwrap();
    assert_eq!((session.model, session.max_price), (Some(id), price(1_000)));

    let stranger = models.set_retired(&world.client, id, true).await.unwrap_err();
    assert!(stranger.revert().unwrap().is("NotPublisher"));
    models.set_terms(&world.publisher, id, 200, PriceBounds::NONE).await.unwrap();
    models.set_retired(&world.publisher, id, true).await.unwrap();
    let request = world.request(cor(1), Some(id)).await;
    let refused: SessionsError = world.contracts.sessions.open(&world.client, &request).await.unwrap_err();
    assert!(refused.revert().unwrap().is("ModelRetired"));
    let taken = models.register(&world.client, id, &terms).await.unwrap_err();
    assert!(taken.revert().unwrap().is("ModelAlreadyRegistered"));
}
