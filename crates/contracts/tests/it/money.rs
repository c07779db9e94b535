//! The money flow: deposit, vouchers, redemption, shortfall, equivocation, closing; conserved at every step.

use crate::world::{Books, World, cor, evidence, signer};
use cortensor_contracts::{BlockRange, ModelTerms, PriceBounds, SessionEvent, SessionStatus, Wallet};
use cortensor_protocol::{ModelId, Operator, Wei};

fn royalty(bps: u16) -> ModelTerms {
    ModelTerms {
        royalty_bps: bps,
        prices: PriceBounds::NONE,
        licence: "Apache-2.0".into(),
        manifest_uri: String::new(),
    }
}

pub(crate) async fn a_session_from_deposit_to_refund(url: &str) {
    let world = World::start(url).await;
    let (sessions, token) = (&world.contracts.sessions, &world.contracts.token);
    let model = ModelId([7; 32].into());
    world.contracts.models.register(&world.publisher, model, &royalty(1_000)).await.unwrap();

    let before = token.balance_of(world.client.address()).await.unwrap();
    let expected = sessions.next_session_id(world.client.address()).await.unwrap();
    let (opened, mut books) = world.open(cor(100), Some(model)).await;
    assert_eq!(opened.id, expected);
    assert_eq!(opened.terms.royalty_bps, 1_000);
    assert_eq!(token.balance_of(world.client.address()).await.unwrap(), Wei(before.0 - cor(100).0));
    world.check_conservation(&[opened.id]).await;

    // One voucher: each share to the wei.
    let first = books.pay(world.miner(0), 10);
    let redeemed = sessions.redeem(&world.miners[0], &first).await.unwrap();
    assert_eq!(redeemed.paid(), cor(10));
    let payment = redeemed.vouchers[0].payment;
    assert_eq!(payment.router, Wei(cor(10).0 * 5 / 100));
    assert_eq!(payment.protocol, Wei(cor(10).0 * 2 / 100));
    assert_eq!(payment.publisher, Wei(cor(10).0 * 10 / 100));
    assert_eq!(payment.miner, Wei(cor(10).0 * 83 / 100));
    assert_eq!(payment.miner + payment.router + payment.publisher + payment.protocol, payment.total());
    assert_eq!(world.credit(world.miners[0].address()).await, payment.miner);
    world.check_conservation(&[opened.id]).await;

    // The same voucher again pays nothing, alone or in a batch with itself.
    assert_eq!(sessions.redeem(&world.reporter, &first).await.unwrap().paid(), Wei::ZERO);
    let batch =
        [books.pay(world.miner(0), 5), first.clone(), books.pay(world.miner(1), 3), books.pay(world.miner(1), 4)];
    let redeemed = sessions.redeem_batch(&world.reporter, &batch).await.unwrap();
    assert_eq!(redeemed.paid(), cor(12));
    assert_eq!(redeemed.vouchers.len(), 3, "the old voucher paid nothing");
    assert_eq!(sessions.redeemed(opened.id, world.miner(0)).await.unwrap().amount, cor(15));
    let second = sessions.redeemed(opened.id, world.miner(1)).await.unwrap();
    assert_eq!((second.amount, second.output_tokens), (cor(7), 7));
    world.check_conservation(&[opened.id]).await;

    withdraw_all(&world).await;
    world.check_conservation(&[opened.id]).await;
    settle(&world, &mut books, before).await;
    history(&world, &books).await;
}

async fn withdraw_all(world: &World) {
    let wallets = [&world.miners[0], &world.miners[1], &world.router, &world.publisher];
    for account in wallets.into_iter().map(Wallet::address).chain([world.deployment.rewards]) {
        let (credit, before) = (world.credit(account).await, world.balance(account).await);
        assert!(credit > Wei::ZERO);
        world.contracts.sessions.withdraw(&world.reporter, account).await.unwrap();
        assert_eq!(world.balance(account).await, before + credit);
        assert_eq!(world.credit(account).await, Wei::ZERO);
    }
    let again = world.contracts.sessions.withdraw(&world.reporter, world.deployment.rewards).await.unwrap_err();
    assert!(again.revert().unwrap().is("NothingToWithdraw"));
}

/// Closes with the router's agreement, redeems what was still out, and gets everything else back.
async fn settle(world: &World, books: &mut Books, before: Wei) {
    let sessions = &world.contracts.sessions;
    let last = books.pay(world.miner(1), 2);
    let (close, signature) = books.close();
    assert_eq!(close.final_total, cor(24));
    sessions.close_with_router(&world.client, &close, signature).await.unwrap();
    assert_eq!(world.balance(world.client.address()).await, Wei(before.0 - cor(24).0), "the rest came back at once");
    world.check_conservation(&[books.session]).await;

    assert_eq!(sessions.redeem(&world.miners[1], &last).await.unwrap().paid(), cor(2));
    world.pass(120).await;
    sessions.finalize(&world.reporter, books.session).await.unwrap();
    let session = sessions.session(books.session).await.unwrap().unwrap();
    assert_eq!((session.status, session.spent), (SessionStatus::Closed, cor(24)));
    assert_eq!(world.balance(world.client.address()).await, Wei(before.0 - cor(24).0));
    world.check_conservation(&[books.session]).await;
}

/// The logs tell where every wei of the session went.
async fn history(world: &World, books: &Books) {
    let sessions = &world.contracts.sessions;
    let range = BlockRange { from: world.deployment.block, to: sessions.newest_block().await.unwrap() };
    let all = sessions.redemptions(Some(books.session), None, range).await.unwrap();
    assert_eq!(all.iter().map(|paid| paid.payment.total()).sum::<Wei>(), books.total());
    let one = sessions.redemptions(None, Some(world.miner(0)), range).await.unwrap();
    assert_eq!(one.iter().map(|paid| paid.payment.total()).sum::<Wei>(), cor(15));
    assert_eq!(one.last().unwrap().cumulative_output_tokens, 15);

    let events = sessions.events(Some(books.session), range).await.unwrap();
    assert!(matches!(events.first(), Some(SessionEvent::Opened { deposit, .. }) if *deposit == cor(100)));
    assert!(matches!(events.last(), Some(SessionEvent::Finalized { refund: Wei::ZERO, .. })));
    assert!(events.iter().all(|event| event.session() == books.session));
    let none = sessions.events(Some(books.session), BlockRange { from: 0, to: range.from }).await.unwrap();
    assert!(none.is_empty());
}

pub(crate) async fn a_shortfall_is_paid_by_the_routers_stake(url: &str) {
    let world = World::start(url).await;
    let (opened, mut books) = world.open(cor(10), None).await;
    let stake = world.slashable(&world.router).await;
    let voucher = books.pay(world.miner(0), 30);

    let redeemed = world.contracts.sessions.redeem(&world.miners[0], &voucher).await.unwrap();
    let payment = redeemed.vouchers[0].payment;
    assert_eq!((payment.from_deposit, payment.from_stake), (cor(10), cor(20)));
    let shortfall = &redeemed.shortfalls[0];
    assert_eq!((shortfall.covered, shortfall.penalty, shortfall.unpaid), (cor(20), cor(2), Wei::ZERO));
    assert_eq!(world.slashable(&world.router).await, Wei(stake.0 - cor(22).0));
    // No share is taken of what the stake pays.
    assert_eq!(payment.miner, Wei(cor(20).0 + cor(10).0 * 93 / 100));
    assert_eq!(world.credit(world.deployment.rewards).await, payment.protocol + shortfall.penalty);
    world.check_conservation(&[opened.id]).await;

    // A promise beyond the whole stake pays what there is, and is owed the rest for ever.
    let voucher = books.pay(world.miner(1), 100_000);
    let redeemed = world.contracts.sessions.redeem(&world.miners[1], &voucher).await.unwrap();
    let shortfall = &redeemed.shortfalls[0];
    assert_eq!(shortfall.covered + shortfall.unpaid, cor(100_000));
    assert!(world.slashable(&world.router).await < Wei(2), "at most a wei of rounding stays");
    let router = world.contracts.registry.node(Operator(world.router.address())).await.unwrap().unwrap();
    assert!(!router.active, "a router without stake opens no sessions");
    world.check_conservation(&[opened.id]).await;
}

pub(crate) async fn an_equivocating_router_is_slashed_once(url: &str) {
    let world = World::start(url).await;
    let sessions = &world.contracts.sessions;
    let (opened, mut books) = world.open(cor(10), None).await;
    let honest = [books.pay(world.miner(0), 1), books.pay(world.miner(1), 2)];
    let innocent = sessions.prove_equivocation(&world.reporter, &evidence(&honest[0]), &evidence(&honest[1])).await;
    assert!(innocent.unwrap_err().revert().unwrap().is("NotEquivocation"));

    // The second book: sequence 1 again, for another miner.
    let mut other = Books::new(&world, opened.id);
    let lie = other.pay(world.miner(1), 1);
    assert!(honest[0].countersignature.contradicts(&lie.countersignature));
    let stake = world.slashable(&world.router).await;
    let proven = sessions.prove_equivocation(&world.reporter, &evidence(&honest[0]), &evidence(&lie)).await.unwrap();
    assert_eq!(proven.slashed, Wei(stake.0 / 2));
    assert_eq!(proven.reward, Wei(stake.0 / 20));
    assert_eq!(world.credit(world.reporter.address()).await, proven.reward);
    assert_eq!(world.slashable(&world.router).await, Wei(stake.0 - proven.slashed.0));
    assert!(sessions.equivocation_proven(opened.id).await.unwrap());
    world.check_conservation(&[opened.id]).await;

    let again = sessions.prove_equivocation(&world.reporter, &evidence(&lie), &evidence(&honest[0])).await;
    assert!(again.unwrap_err().revert().unwrap().is("EquivocationAlreadyProven"));
}

pub(crate) async fn closing_without_the_router_waits_for_grace(url: &str) {
    let world = World::start(url).await;
    let sessions = &world.contracts.sessions;
    let before = world.balance(world.client.address()).await;
    let (opened, mut books) = world.open(cor(50), None).await;
    sessions.top_up(&world.client, opened.id, cor(5)).await.unwrap();
    let (in_time, late) = (books.pay(world.miner(0), 5), books.pay(world.miner(0), 5));

    let stranger = sessions.request_close(&world.reporter, opened.id).await.unwrap_err();
    assert!(stranger.revert().unwrap().is("NotSessionOwner"));
    sessions.request_close(&world.client, opened.id).await.unwrap();
    let session = sessions.session(opened.id).await.unwrap().unwrap();
    assert_eq!(session.status, SessionStatus::Closing);
    assert!(!session.accepts_work(session.expiry));
    let early = sessions.finalize(&world.reporter, opened.id).await.unwrap_err();
    assert!(early.revert().unwrap().is("GraceNotEnded"));
    sessions.redeem(&world.miners[0], &in_time).await.unwrap();

    world.pass(120).await;
    let refused = sessions.redeem(&world.miners[0], &late).await.unwrap_err();
    assert!(refused.revert().unwrap().is("GraceEnded"));
    sessions.finalize(&world.reporter, opened.id).await.unwrap();
    assert_eq!(world.balance(world.client.address()).await, Wei(before.0 - cor(5).0));
    let twice = sessions.finalize(&world.reporter, opened.id).await.unwrap_err();
    assert!(twice.revert().unwrap().is("SessionClosed"));
    world.check_conservation(&[opened.id]).await;
}

pub(crate) async fn a_replaced_key_counts_until_grace_ends(url: &str) {
    let world = World::start(url).await;
    let sessions = &world.contracts.sessions;
    let (opened, mut books) = world.open(cor(50), None).await;
    let (before, after) = (books.pay(world.miner(0), 1), books.pay(world.miner(0), 1));
    let next = signer(5);
    sessions.replace_key(&world.client, opened.id, Some((next.address(), cor(20)))).await.unwrap();
    sessions.redeem(&world.miners[0], &before).await.unwrap();
    let old = world.session_key.address();
    assert!(sessions.retired_key_valid_until(opened.id, old).await.unwrap().is_some());
    assert_eq!(sessions.retired_key_valid_until(opened.id, next.address()).await.unwrap(), None);

    world.pass(61).await;
    let refused = sessions.redeem(&world.miners[0], &after).await.unwrap_err();
    assert!(refused.revert().unwrap().is("KeyRevoked"), "{refused}");
    let mut books = Books::new(&world, opened.id).with_key(next);
    sessions.redeem(&world.miners[0], &books.pay(world.miner(1), 3)).await.unwrap();
    sessions.replace_key(&world.client, opened.id, None).await.unwrap();
    assert_eq!(sessions.session(opened.id).await.unwrap().unwrap().session_key, None);
    world.check_conservation(&[opened.id]).await;
}
