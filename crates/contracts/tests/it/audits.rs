//! Audits through the typed clients: a batch, its beacon, a guard's finding and what it does to the miner's score; a
//! challenge; a contradiction; and what is refused.

use crate::world::{World, cor, sign};
use alloy::primitives::{Address, B256};
use cortensor_contracts::{
    BlockRange, ChainTime as _, Contracts, ScoresParameters, Wallet,
    audits::{
        AuditEvent, AuditStatus, BatchCommitted, BondKind, Contradiction, Finding, Inclusion, Profile, SeatState,
        State, Weighed,
    },
};
use cortensor_protocol::{
    FinishReason, ModelId, Operator, Price, Receipt, RoleSet, SamplingParams, SessionId, SignedReceipt, TaskHeader,
    TaskId, Tier, Wei, merkle, sampling::Micro,
};

const MODEL: ModelId = ModelId(B256::repeat_byte(7));
const CLASSES: (B256, B256) = (B256::repeat_byte(1), B256::repeat_byte(2));
const SALT: B256 = B256::repeat_byte(3);

pub(crate) async fn receipt(world: &World, number: u8) -> Receipt {
    Receipt {
        header_hash: B256::repeat_byte(number),
        task: TaskId(B256::repeat_byte(number)),
        session: SessionId(B256::ZERO),
        model: MODEL,
        miner: world.miner(0),
        prompt_hash: B256::ZERO,
        trace_root: B256::repeat_byte(number),
        first_token: 0,
        input_tokens: 5,
        output_tokens: 100,
        finish: FinishReason::Length,
        tier: Tier::A,
        price: Price { input: Wei(1), output: Wei(2) },
        amount: Wei(205),
        finished_at: world.provider.chain_time().await.unwrap(),
    }
}

fn signed(world: &World, receipt: Receipt) -> SignedReceipt {
    let digest = receipt.signing_hash(&world.deployment.domain());
    SignedReceipt { signature: sign(world.miners[0].signer(), digest), receipt }
}

/// Two guards, a funded pool, a profile, and every receipt drawn.
pub(crate) async fn prepare(world: &World) {
    let contracts = &world.contracts;
    for guard in [&world.reporter, &world.publisher] {
        contracts.token.transfer(&world.deployer, guard.address(), cor(1_000)).await.unwrap();
        world.register(guard, RoleSet::GUARD, cor(500)).await;
        contracts.guards.enroll(guard).await.unwrap();
        contracts.guards.declare_class(guard, CLASSES.1).await.unwrap();
        assert!(contracts.guards.is_enrolled(Operator(guard.address())).await.unwrap());
    }
    contracts.guards.declare_class(&world.miners[0], CLASSES.0).await.unwrap();
    contracts.court.fund(&world.deployer, cor(10)).await.unwrap();
    let everything = ScoresParameters { newcomer_ppm: 1_000_000, ..ScoresParameters::default() };
    contracts.scores.set_parameters(&world.deployer, everything).await.unwrap();
    let mut profile = Profile { version: 1, content_hash: SALT, ratios: [[[0; 16]; 3]; 2] };
    for ratios in &mut profile.ratios {
        ratios[0][0] = -6_553;
    }
    contracts.scores.register_profile(&world.deployer, MODEL, CLASSES, &profile).await.unwrap();
    assert_eq!(contracts.scores.profile(MODEL, CLASSES).await.unwrap(), Some(profile));
    assert_eq!(contracts.scores.profile(MODEL, (SALT, SALT)).await.unwrap(), None);
    next_epoch(world).await;
}

pub(crate) async fn next_epoch(world: &World) {
    let guards = &world.contracts.guards;
    let epoch = guards.current_epoch().await.unwrap();
    assert_eq!(guards.beacon(epoch).await.unwrap(), None);
    let early = guards.record_beacon(&world.client, epoch).await.unwrap_err();
    assert!(early.revert().unwrap().is("EpochNotOver"), "{early:?}");
    world.pass(guards.epoch_length_s().await.unwrap().into()).await;
    guards.record_beacon(&world.client, epoch).await.unwrap();
    assert!(guards.beacon(epoch).await.unwrap().is_some());
}

pub(crate) fn wallet_of(world: &World, guard: Operator) -> &Wallet {
    [&world.reporter, &world.publisher].into_iter().find(|wallet| wallet.address() == guard.0).unwrap()
}

pub(crate) async fn an_honest_answer_is_audited(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    let (audits, batches, domain) = (&world.contracts.audits, &world.contracts.batches, world.deployment.domain());
    let from = world.provider_block().await;
    let receipts = [receipt(&world, 1).await, receipt(&world, 2).await, receipt(&world, 3).await];
    let leaves: Vec<B256> = receipts.iter().map(|receipt| receipt.leaf(&domain)).collect();
    let (root, miner) = (merkle::root(&leaves), world.miner(0));
    batches.commit(&world.miners[0], root, 3).await.unwrap();
    let refused = batches.commit(&world.client, root, 3).await.unwrap_err();
    assert!(refused.revert().unwrap().is("MinerInactive"), "{refused:?}");
    let batch = batches.batch(miner, root).await.unwrap().unwrap();
    assert_eq!((batch.count, batch.rate_ppm), (3, 1_000_000));
    assert_eq!(batches.batch(miner, SALT).await.unwrap(), None);
    assert_eq!(batches.is_drawn(miner, root, 2).await.unwrap(), None, "the beacon is not known yet");
    next_epoch(&world).await;
    assert_eq!(batches.is_drawn(miner, root, 2).await.unwrap(), Some(true));

    let receipt = &receipts[2];
    let item = receipt.signing_hash(&domain);
    assert_eq!(world.contracts.court.item_of(receipt).await.unwrap(), item);
    let guard = audits.assigned_first(miner, root, item).await.unwrap().unwrap();
    let wallet = wallet_of(&world, guard);
    let mut finding = Finding { not_opened: false, hard: false, tokens: 100, bins: [[0; 16]; 3] };
    finding.bins[0][0] = 100;
    let inclusion = Inclusion { root, index: 2, path: merkle::proof(&leaves, 2).unwrap() };
    let commitment = finding.commitment(guard, item, 0, SALT);
    audits.open(wallet, receipt, &inclusion, Some(commitment)).await.unwrap();
    assert!(batches.is_taken(miner, root, 2).await.unwrap() && !batches.is_taken(miner, root, 1).await.unwrap());
    assert_eq!(audits.assigned(item, 0).await.unwrap(), [guard]);
    audits.reveal(wallet, receipt, &finding, SALT).await.unwrap();
    let seats = audits.seats(item).await.unwrap();
    assert_eq!((seats.len(), seats[0].guard, seats[0].state), (1, guard, SeatState::Revealed));
    assert_eq!(seats[0].evidence, Weighed { computation: -12_626, sampling: -655_300 });

    audits.settle(&world.client, receipt).await.unwrap();
    let decided = audits.audit(item).await.unwrap().unwrap();
    assert_eq!((decided.status, decided.decision.unwrap().size), (AuditStatus::Decided, 1));
    let early = audits.settle(&world.client, receipt).await.unwrap_err();
    assert!(early.revert().unwrap().is("NotDue"), "{early:?}");
    world.pass(u64::from(audits.parameters().await.unwrap().appeal_window_s) + 1).await;
    audits.settle(&world.client, receipt).await.unwrap();
    check_settled(&world, item, guard, -655_300).await;
    check_history(&world, item, root, BlockRange { from, to: world.provider_block().await }).await;
}

async fn check_settled(world: &World, item: B256, guard: Operator, evidence: i64) {
    let (scores, court) = (&world.contracts.scores, &world.contracts.court);
    let audit = world.contracts.audits.audit(item).await.unwrap().unwrap();
    assert_eq!((audit.status, audit.miner), (AuditStatus::Settled, world.miner(0)));
    let score = scores.score(world.miner(0)).await.unwrap();
    assert_eq!((score.computation, score.sampling, score.jobs, score.tokens), (-12_626, evidence, 1, 100));
    assert_eq!((score.computation_cusum, score.sampling_cusum), (0, 0));
    assert_eq!(score.state, State::Good);
    assert!(scores.reputation_ppm(world.miner(0)).await.unwrap() > 500_000);
    assert!(scores.power(world.miner(0)).await.unwrap() > 0);
    assert_eq!(scores.rate_ppm(world.miner(1)).await.unwrap(), 1_000_000);
    let pay = court.parameters().await.unwrap().guard_pay;
    assert_eq!(court.credit_of(guard.0).await.unwrap(), pay);
    assert_eq!(court.pool().await.unwrap(), Wei(cor(10).0 - pay.0));
    court.withdraw(&world.client, guard.0).await.unwrap();
    assert_eq!(court.credit_of(guard.0).await.unwrap(), Wei::ZERO);
    let bought = court.guarantee(world.miner(0), Wei(1_000)).await.unwrap();
    assert_eq!((bought.at_stake, bought.detection_ppm), (cor(250), 950_000));
    // rate * detection * (1 - collusion) * (fee + stake)
    let chance = u128::from(bought.rate_ppm) * 950_000 * 900_000;
    assert_eq!(bought.expected_loss.0, chance / 1_000_000 * (cor(250).0 + 1_000) / 1_000_000_000_000);
}

async fn check_history(world: &World, item: B256, root: B256, range: BlockRange) {
    let audits = &world.contracts.audits;
    let batches = &world.contracts.batches;
    let committed = batches.committed(Some(world.miner(0)), range).await.unwrap();
    assert_eq!(committed, [BatchCommitted { miner: world.miner(0), root, count: 3 }]);
    assert_eq!(batches.committed(Some(world.miner(1)), range).await.unwrap(), []);
    let events = audits.events(Some(item), range).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| serde_json::to_value(event).unwrap()["event"].clone()).collect();
    assert_eq!(kinds, ["opened", "drawn", "committed", "revealed", "decided", "settled"]);
}

/// What was drawn of a batch and opened by nobody costs its miner, once each, and only when the time for opening is over.
pub(crate) async fn what_is_not_shown_is_reported(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    let Contracts { audits, batches, scores, court, .. } = &world.contracts;
    let (from, miner, root) = (world.provider_block().await, world.miner(0), B256::repeat_byte(8));
    batches.commit(&world.miners[0], root, 3).await.unwrap();
    next_epoch(&world).await;
    let early = audits.report_missing(&world.client, miner, root, 1).await.unwrap_err();
    assert!(early.revert().unwrap().is("NotDue"), "{early:?}");
    world.pass(u64::from(audits.parameters().await.unwrap().open_window_s) + 1).await;
    audits.report_missing(&world.client, miner, root, 1).await.unwrap();
    let again = audits.report_missing(&world.client, miner, root, 1).await.unwrap_err();
    assert!(again.revert().unwrap().is("AlreadyTaken"), "{again:?}");
    let none = audits.report_missing(&world.client, miner, root, 3).await.unwrap_err();
    assert!(none.revert().unwrap().is("NotIncluded"), "{none:?}");
    let score = scores.score(miner).await.unwrap();
    assert_eq!((score.state, score.evidence(), score.jobs), (State::Watched, 8 * 65_536, 0));
    let penalty = court.parameters().await.unwrap().missing_penalty;
    assert_eq!(world.slashable(&world.miners[0]).await, Wei(cor(500).0 - penalty.0));
    assert_eq!(court.credit_of(world.client.address()).await.unwrap(), Wei(penalty.0 / 10));
    let events = audits.events(None, BlockRange { from, to: world.provider_block().await }).await.unwrap();
    assert_eq!(events, [AuditEvent::Missing { miner, root, index: 1, reporter: world.client.address() }]);
}

/// With two guards a challenge is judged by one; the other hears the appeal.
pub(crate) async fn a_challenge_and_an_appeal(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    let (audits, court, tokens) = (&world.contracts.audits, &world.contracts.court, &world.contracts.token);
    let signed = signed(&world, receipt(&world, 9).await);
    let item = signed.receipt.signing_hash(&world.deployment.domain());
    let before = tokens.balance_of(world.client.address()).await.unwrap();
    audits.challenge(&world.client, court, &signed).await.unwrap();
    let bond = court.parameters().await.unwrap().challenge_bond;
    assert_eq!(court.bond(item, BondKind::Challenge).await.unwrap(), Some((world.client.address(), bond)));
    assert_eq!(court.bond(item, BondKind::Appeal).await.unwrap(), None);
    assert_eq!(tokens.balance_of(world.client.address()).await.unwrap(), Wei(before.0 - bond.0));
    assert_eq!(audits.assigned(item, 0).await.unwrap(), [], "the beacon is not known yet");
    let early = audits.draw(&world.client, item).await.unwrap_err();
    assert!(early.revert().unwrap().is("BeaconUnknown"), "{early:?}");
    next_epoch(&world).await;
    let [guard] = audits.assigned(item, 0).await.unwrap()[..] else { panic!("one guard") };
    audits.draw(&world.client, item).await.unwrap();

    let finding = Finding { not_opened: true, hard: false, tokens: 0, bins: [[0; 16]; 3] };
    let wallet = wallet_of(&world, guard);
    audits.commit_finding(wallet, item, finding.commitment(guard, item, 0, SALT)).await.unwrap();
    let wrong = audits.reveal(wallet, &signed.receipt, &finding, B256::ZERO).await.unwrap_err();
    assert!(wrong.revert().unwrap().is("CommitmentMismatch"), "{wrong:?}");
    audits.reveal(wallet, &signed.receipt, &finding, SALT).await.unwrap();
    assert_eq!(audits.seats(item).await.unwrap()[0].state, SeatState::RevealedHard);
    // A wrong structure needs the largest committee there is; one guard is left, not more than have judged.
    audits.settle(&world.client, &signed.receipt).await.unwrap();
    assert_eq!(audits.audit(item).await.unwrap().unwrap().round, 1);
    next_epoch(&world).await;
    audits.draw(&world.client, item).await.unwrap();
    let decided = audits.audit(item).await.unwrap().unwrap();
    assert!(decided.status == AuditStatus::Decided && decided.decision.unwrap().hard, "{decided:?}");
    let refused = audits.appeal(&world.client, court, item).await.unwrap_err();
    assert!(refused.revert().unwrap().is("NoAppeal"), "{refused:?}");
    world.pass(60).await;
    audits.settle(&world.client, &signed.receipt).await.unwrap();
    // One guard alone suspends; it convicts nobody.
    let score = world.contracts.scores.score(world.miner(0)).await.unwrap();
    assert_eq!((score.state, score.tokens), (State::Suspended, 0));
    assert_eq!(court.credit_of(world.client.address()).await.unwrap(), bond);
    assert_eq!(world.slashable(&world.miners[0]).await, cor(500));
}

/// A record in which the chosen token loses by its own numbers at temperature 0.
async fn contradiction(world: &World, chosen: i16, rival: i16) -> Contradiction {
    let sampling = SamplingParams { temperature: Micro(0), ..SamplingParams::default() };
    let header = TaskHeader {
        task: TaskId(B256::repeat_byte(4)),
        session: SessionId(B256::ZERO),
        model: MODEL,
        request_hash: B256::ZERO,
        sampling: sampling.hash(),
        seed: B256::repeat_byte(5),
        max_tokens: 10,
        min_tier: Tier::A,
        client_nonce: 1,
        deadline: u64::MAX,
    };
    let digest = header.signing_hash(&world.deployment.domain());
    assert_eq!(world.contracts.court.header_digest(&header).await.unwrap(), digest);
    let tokens = [SALT.as_slice(), &[0, 0, 7], &chosen.to_be_bytes()].concat();
    let unused = [0xff, 0xff, 0xff, 0x80, 0x00].repeat(3);
    let evidence = [SALT.as_slice(), &[0, 0, 5], &rival.to_be_bytes(), &unused, &[0; 8]].concat();
    let mut receipt = receipt(world, 4).await;
    receipt.header_hash = digest;
    receipt.output_tokens = 1;
    receipt.trace_root = merkle::root(&[merkle::leaf(&tokens), merkle::leaf(&evidence)]);
    let receipt = signed(world, receipt);
    Contradiction { header, sampling, receipt, window: 0, position: 0, tokens, evidence, path: Vec::new() }
}

pub(crate) async fn a_contradiction_is_slashed_once(url: &str) {
    let world = World::start(url).await;
    let court = &world.contracts.court;
    let honest = contradiction(&world, -100, -2_000).await;
    assert!(court.refusal_of(&honest).await.unwrap().unwrap().is("NoContradiction"));
    let refused = court.prove_contradiction(&world.reporter, &honest, SALT).await.unwrap_err();
    assert!(refused.revert().unwrap().is("NoContradiction"), "{refused:?}");

    let proof = contradiction(&world, -2_000, -100).await;
    let forged = Contradiction { tokens: vec![0; 37], ..proof.clone() };
    assert!(court.refusal_of(&forged).await.unwrap().unwrap().is("PathInvalid"));
    assert_eq!(court.refusal_of(&proof).await.unwrap(), None);
    let item = proof.receipt.receipt.signing_hash(&world.deployment.domain());
    court.announce(&world.reporter, item, SALT).await.unwrap();
    court.prove_contradiction(&world.reporter, &proof, SALT).await.unwrap();
    assert!(court.is_proven(item).await.unwrap());
    assert_eq!(world.slashable(&world.miners[0]).await, cor(250));
    assert_eq!(court.credit_of(world.reporter.address()).await.unwrap(), cor(25));
    assert_eq!(court.pool().await.unwrap(), cor(50));
    assert_eq!(court.credit_of(crate::world::TREASURY).await.unwrap(), cor(75), "nobody knows the session");
    assert_eq!(world.contracts.scores.score(world.miner(0)).await.unwrap().state, State::Slashed);
    assert_eq!(world.contracts.scores.reputation_ppm(world.miner(0)).await.unwrap(), 0);
    assert!(court.refusal_of(&proof).await.unwrap().unwrap().is("AlreadyProven"));
    assert_eq!(court.credit_of(Address::ZERO).await.unwrap(), Wei::ZERO);
}
