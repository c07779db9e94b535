//! Judgements of usefulness through the typed client: an audited answer is drawn, its judges commit and reveal, and the
//! miner's quality moves as `cortensor-usefulness` says; known answers; and what is refused.

use crate::{
    audits::{next_epoch, prepare, receipt, wallet_of},
    world::{World, cor},
};
use alloy::primitives::B256;
use cortensor_contracts::{
    BlockRange, Wallet,
    audits::{
        AuditStatus, Finding, Inclusion, JudgeSeat, JudgementStatus, RevealedScore, known_commitment, score_commitment,
    },
};
use cortensor_protocol::{ModelId, Operator, Wei};
use cortensor_usefulness::consensus;

const SALT: B256 = B256::repeat_byte(3);
const ROOT: B256 = B256::repeat_byte(9);

/// Two judges of different families, a funded pool.
async fn judges(world: &World) {
    let useful = &world.contracts.usefulness;
    for (number, guard) in [(1u8, &world.reporter), (2, &world.publisher)] {
        let model = ModelId(B256::repeat_byte(number));
        assert_eq!(useful.family_of(model).await.unwrap(), None);
        let refused = useful.declare_model(guard, Some(model)).await.unwrap_err();
        assert!(refused.revert().unwrap().is("ModelNotAccepted"), "{refused:?}");
        useful.set_family(&world.deployer, model, number.into()).await.unwrap();
        assert_eq!(useful.family_of(model).await.unwrap(), Some(number.into()));
        useful.declare_model(guard, Some(model)).await.unwrap();
        assert_eq!(useful.model_of(Operator(guard.address())).await.unwrap(), Some(model));
    }
    useful.fund(&world.deployer, cor(10)).await.unwrap();
    next_epoch(world).await;
}

/// An answer that passed its audit.
async fn settled_audit(world: &World, number: u8) -> B256 {
    let (audits, domain, miner) = (&world.contracts.audits, world.deployment.domain(), world.miner(0));
    let receipt = receipt(world, number).await;
    let (item, root) = (receipt.signing_hash(&domain), receipt.leaf(&domain));
    world.contracts.batches.commit(&world.miners[0], root, 1).await.unwrap();
    next_epoch(world).await;
    let guard = audits.assigned_first(miner, root, item).await.unwrap().unwrap();
    let wallet = wallet_of(world, guard);
    let mut finding = Finding { not_opened: false, hard: false, tokens: 100, bins: [[0; 16]; 3] };
    finding.bins[0][0] = 100;
    let commitment = finding.commitment(guard, item, 0, SALT);
    let inclusion = Inclusion { root, index: 0, path: Vec::new() };
    audits.open(wallet, &receipt, &inclusion, Some(commitment)).await.unwrap();
    audits.reveal(wallet, &receipt, &finding, SALT).await.unwrap();
    audits.settle(&world.client, &receipt).await.unwrap();
    let early = world.contracts.usefulness.open(&world.client, item).await.unwrap_err();
    assert!(early.revert().unwrap().is("NotUseful"), "{early:?}");
    world.pass(u64::from(audits.parameters().await.unwrap().appeal_window_s) + 1).await;
    audits.settle(&world.client, &receipt).await.unwrap();
    assert_eq!(audits.audit(item).await.unwrap().unwrap().status, AuditStatus::Settled);
    item
}

/// The same, with the beacon of its judgement.
async fn useful_item(world: &World, number: u8) -> B256 {
    let item = settled_audit(world, number).await;
    let until = world.contracts.audits.audit(item).await.unwrap().unwrap().until;
    let guards = &world.contracts.guards;
    let (epoch, length) = (guards.epoch_at(until).await.unwrap(), guards.epoch_length_s().await.unwrap());
    if guards.beacon(epoch).await.unwrap().is_none() {
        let early = world.contracts.usefulness.open(&world.client, item).await.unwrap_err();
        assert!(early.revert().unwrap().is("BeaconUnknown"), "{early:?}");
        world.pass(length.into()).await;
        guards.record_beacon(&world.client, epoch).await.unwrap();
    }
    item
}

async fn score(world: &World, item: B256, judge: &Wallet, score: u32) {
    let commitment = score_commitment(Operator(judge.address()), item, score, ROOT, SALT);
    world.contracts.usefulness.commit_score(judge, item, commitment).await.unwrap();
}

async fn pass_known_window(world: &World) {
    let window = world.contracts.usefulness.parameters().await.unwrap().known_window_s;
    world.pass(u64::from(window) + 1).await;
}

pub(crate) async fn an_audited_answer_is_judged(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    judges(&world).await;
    let (useful, miner) = (&world.contracts.usefulness, world.miner(0));
    assert_eq!(useful.quality_ppm(miner).await.unwrap(), 1_000_000);
    let from = world.provider_block().await;
    let item = useful_item(&world, 1).await;
    let drawn = useful.drawn(item).await.unwrap();
    assert_eq!(drawn.len(), 2);
    assert_eq!(useful.judgement(item).await.unwrap(), None);
    useful.open(&world.client, item).await.unwrap();
    let [first, second] = [wallet_of(&world, drawn[0]), wallet_of(&world, drawn[1])];
    score(&world, item, first, 1_300_000).await;
    let early = useful.reveal(first, item, 1_300_000, ROOT, SALT).await.unwrap_err();
    assert!(early.revert().unwrap().is("RevealTooEarly"), "{early:?}");
    score(&world, item, second, 700_000).await;
    let other = useful.reveal(second, item, 1_300_000, ROOT, SALT).await.unwrap_err();
    assert!(other.revert().unwrap().is("CommitmentMismatch"), "{other:?}");
    useful.reveal(first, item, 1_300_000, ROOT, SALT).await.unwrap();
    useful.reveal(second, item, 700_000, ROOT, SALT).await.unwrap();
    let seats = useful.judges(item).await.unwrap();
    assert_eq!(seats[1].seat, JudgeSeat::Revealed(700_000));
    pass_known_window(&world).await;
    useful.settle(&world.client, item).await.unwrap();

    let judgement = useful.judgement(item).await.unwrap().unwrap();
    let median = consensus::weighted_median(&[(1_300_000, 500_000), (700_000, 500_000)]).unwrap();
    assert_eq!((judgement.status, judgement.score), (JudgementStatus::Settled, median));
    let parameters = useful.parameters().await.unwrap();
    let expect = consensus::quality_after(None, median, parameters.weight_ppm);
    assert_eq!(useful.quality_ppm(miner).await.unwrap(), expect);
    assert_eq!(useful.judgements_of(miner).await.unwrap(), 1);
    let [strayed, agreed] = [drawn[0], drawn[1]];
    let step = parameters.trust_step_ppm;
    let less = consensus::lost(consensus::FIRST_TRUST, step, consensus::TRUST_BY_AGREEMENT.0);
    let more = consensus::gained(consensus::FIRST_TRUST, step, consensus::TRUST_BY_AGREEMENT.1);
    assert_eq!(useful.trust_ppm(strayed).await.unwrap(), less);
    assert_eq!(useful.trust_ppm(agreed).await.unwrap(), more);
    assert_eq!(useful.credit_of(agreed.0).await.unwrap(), parameters.judge_pay);
    assert_eq!(useful.credit_of(strayed.0).await.unwrap(), Wei::ZERO);
    assert_eq!(useful.pool().await.unwrap(), Wei(cor(10).0 - parameters.judge_pay.0));
    useful.withdraw(&world.client, agreed.0).await.unwrap();
    assert_eq!(useful.credit_of(agreed.0).await.unwrap(), Wei::ZERO);
    let range = BlockRange { from, to: world.provider_block().await };
    let revealed = useful.revealed(item, range).await.unwrap();
    assert_eq!(revealed[0], RevealedScore { judge: strayed, score: 1_300_000, trace_root: ROOT });
    assert_eq!(revealed.len(), 2);
}

pub(crate) async fn a_known_answer_moves_trust_alone(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    judges(&world).await;
    let (useful, setter) = (&world.contracts.usefulness, &world.deployer);
    let item = useful_item(&world, 1).await;
    let deserved = (0, 900_000);
    let commitment = known_commitment(setter.address(), item, deserved, SALT);
    let refused = useful.plant(setter, vec![commitment]).await.unwrap_err();
    assert!(refused.revert().unwrap().is("NotTrapSetter"), "{refused:?}");
    world.contracts.court.set_trap_setter(setter, setter.address(), true).await.unwrap();
    useful.plant(setter, vec![commitment]).await.unwrap();
    world.pass(1).await;
    useful.open(&world.client, item).await.unwrap();
    let drawn = useful.drawn(item).await.unwrap();
    let [right, wrong] = [wallet_of(&world, drawn[0]), wallet_of(&world, drawn[1])];
    score(&world, item, right, 400_000).await;
    score(&world, item, wrong, 1_000_000).await;
    useful.reveal(right, item, 400_000, ROOT, SALT).await.unwrap();
    useful.reveal(wrong, item, 1_000_000, ROOT, SALT).await.unwrap();
    world.pass(1).await;
    let unknown = useful.show_known(setter, item, (0, 1), SALT).await.unwrap_err();
    assert!(unknown.revert().unwrap().is("KnownUnknown"), "{unknown:?}");
    useful.show_known(setter, item, deserved, SALT).await.unwrap();
    assert_eq!(useful.judgement(item).await.unwrap().unwrap().status, JudgementStatus::Planted);
    let step = useful.parameters().await.unwrap().known_step_ppm;
    assert_eq!(useful.trust_ppm(drawn[0]).await.unwrap(), consensus::FIRST_TRUST + step);
    assert_eq!(useful.trust_ppm(drawn[1]).await.unwrap(), consensus::FIRST_TRUST - step);
    assert_eq!(useful.judgements_of(world.miner(0)).await.unwrap(), 0);
    let over = useful.settle(&world.client, item).await.unwrap_err();
    assert!(over.revert().unwrap().is("WrongStatus"), "{over:?}");
}
