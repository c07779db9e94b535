//! Judging from end to end: an answer is audited, drawn, judged, and its miner's quality follows.

use crate::{
    audit::{AN_AUDIT, audited},
    world::{World, eventually, eventually_in, question},
};
use alloy::{primitives::B256, providers::Provider as _};
use cortensor_contracts::{
    BlockRange,
    audits::{AuditEvent, JudgeSeat, JudgementStatus},
};
use cortensor_engine::{Engine, mock::MockConfig, mock::MockEngine};
use cortensor_node::{
    guard::{judge, replay},
    localnet::{LocalNet, LocalNetConfig},
};
use cortensor_protocol::{Case, Wei};
use cortensor_usefulness::{
    call::{Bench, JudgeRecord, Judged},
    checks::{Answer, check},
    consensus::quality_after,
    prompt::JudgeModel,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Longer than an audit and a judgement together.
const A_JUDGEMENT: Duration = Duration::from_secs(2 * AN_AUDIT.as_secs());

async fn all_blocks(net: &LocalNet) -> BlockRange {
    BlockRange { from: net.deployment.block, to: net.wallet.provider().get_block_number().await.unwrap() }
}

/// The one item that is audited, once it is.
async fn item(net: &LocalNet) -> Option<B256> {
    let events = net.contracts.audits.events(None, all_blocks(net).await).await.unwrap();
    events.into_iter().find_map(|event| match event {
        AuditEvent::Opened { item, .. } => Some(item),
        _ => None,
    })
}

async fn judged(world: &World) {
    let miner = world.net.miners[0].miner.operator();
    let useful = &world.net.contracts.usefulness;
    eventually_in("the answer is judged", A_JUDGEMENT, async || useful.judgements_of(miner).await.unwrap() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_as_good_as_the_judges_own_leaves_its_miner_neutral_and_pays_its_judges() {
    let folder = tempfile::tempdir().unwrap();
    let world = audited(&folder, |engine| engine).await;
    let (net, useful) = (&world.net, &world.net.contracts.usefulness);
    useful.fund(&net.wallet, Wei(10 * Wei::COR.0)).await.unwrap();
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None);
    judged(&world).await;
    let miner = net.miners[0].miner.operator();
    assert_eq!(useful.quality_ppm(miner).await.unwrap(), 1_000_000);
    let item = item(net).await.unwrap();
    let judges = useful.judges(item).await.unwrap();
    assert_eq!(judges.len(), 2, "both guards");
    let pay = useful.parameters().await.unwrap().judge_pay;
    for judge in &judges {
        assert_eq!(judge.seat, JudgeSeat::Revealed(1_000_000));
        assert_eq!(useful.credit_of(judge.operator.0).await.unwrap(), pay);
    }
    let case = net.miners[0].miner.cases().get(item).unwrap().unwrap();
    check_records(&world, item, &case, &streamed.text).await;
    world.net.shutdown().await.unwrap();
}

/// What the judges revealed is what their records show, and anyone with the model can repeat it.
async fn check_records(world: &World, item: B256, case: &Case, text: &str) {
    let (net, contracts) = (&world.net, &world.net.contracts);
    let until = contracts.audits.audit(item).await.unwrap().unwrap().until;
    let beacon = contracts.guards.beacon(contracts.guards.epoch_at(until).await.unwrap()).await.unwrap().unwrap();
    let revealed = contracts.usefulness.revealed(item, all_blocks(net).await).await.unwrap();
    let engine = MockEngine::start(MockConfig::default()).unwrap();
    let manifest = &engine.info().manifest;
    let model = JudgeModel { name: &manifest.name, context: manifest.context_length };
    let checked = check(&Answer { request: &case.request, text, finish: case.receipt.receipt.finish });
    for local in &net.guards {
        let judge = local.guard.operator();
        let bench = Bench { item, beacon, judge, model: manifest.id() };
        let record = local.guard.judge_record(item).unwrap().expect("it judged");
        let judged = Judged {
            request: &case.request,
            text,
            finish: case.receipt.receipt.finish,
            checked: &checked,
            same_vocabulary: true,
        };
        record.verify(&bench, &model, &judged).unwrap();
        let said = revealed.iter().find(|revealed| revealed.judge == judge).unwrap();
        assert_eq!((record.root(&bench), record.score(&checked)), (said.trace_root, said.score));
        assert_eq!(record.calls.len(), 3);
        check_shown(world, &bench, case, said.score).await;
        for call in &record.calls {
            let found = replay(&*engine, &bench, call).await.unwrap();
            assert!(found.tokens > 0 && found.same_prompt && found.same_text, "{found:?}");
            assert_eq!(found.mismatches, 0);
            let mut other = call.clone();
            other.tokens[0].id += 1;
            assert!(replay(&*engine, &bench, &other).await.unwrap().mismatches > 0, "another token is seen");
        }
    }
}

/// Only what the miner signed is judged: another request or another text is worth nothing.
async fn check_shown(world: &World, bench: &Bench, case: &Case, score: u32) {
    let engines: [Arc<dyn Engine>; 1] = [MockEngine::start(MockConfig::default()).unwrap()];
    let domain = world.net.deployment.domain();
    let judged = async |case: &Case| judge(&engines, &domain, bench, case).await.unwrap();
    assert_eq!(judged(case).await.0, score);
    let mut other = case.clone();
    other.request.max_tokens += 1;
    assert_eq!(judged(&other).await, (0, JudgeRecord::default()));
    let mut other = case.clone();
    other.tokens[0].id += 1;
    assert_eq!(judged(&other).await, (0, JudgeRecord::default()));
}

/// JSON of a form that the simulator cannot make: it passes the audit, and is of no use.
fn impossible() -> Value {
    let schema = json!({"type": "array", "items": {"type": "integer"}, "minItems": 100});
    json!({
        "model": "mock", "max_tokens": 500, "messages": [{"role": "user", "content": "a hundred numbers"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_the_form_that_was_asked_for_lowers_its_miners_quality() {
    let folder = tempfile::tempdir().unwrap();
    let world = audited(&folder, |engine| engine).await;
    let (status, answer) = world.post(&impossible()).await;
    assert_eq!(status, 200, "{answer}");
    judged(&world).await;
    let (net, useful) = (&world.net, &world.net.contracts.usefulness);
    let miner = net.miners[0].miner.operator();
    let weight = useful.parameters().await.unwrap().weight_ppm;
    assert_eq!(useful.quality_ppm(miner).await.unwrap(), quality_after(None, 0, weight));
    let item = item(net).await.unwrap();
    for local in &net.guards {
        let record = local.guard.judge_record(item).unwrap().expect("it judged");
        assert_eq!(record.calls, [], "no model was asked");
    }
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_was_stopped_between_commitment_and_reveal_reveals_after_its_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = LocalNetConfig { guards: 1, ..LocalNetConfig::new(folder.path().to_owned()) };
    let engine: Arc<dyn Engine> = MockEngine::start(MockConfig::default()).unwrap();
    let world = World::over(config.clone(), Arc::clone(&engine)).await;
    let contracts = &world.net.contracts;
    let miner = world.net.miners[0].miner.operator();
    let mut everything = contracts.scores.parameters().await.unwrap();
    everything.newcomer_ppm = 1_000_000;
    contracts.scores.set_parameters(&world.net.wallet, everything).await.unwrap();
    contracts.batches.refresh_rate(&world.net.wallet, miner).await.unwrap();
    // Time enough to stop and start.
    let mut slow = contracts.usefulness.parameters().await.unwrap();
    (slow.commit_window_s, slow.reveal_window_s) = (120, 120);
    contracts.usefulness.set_parameters(&world.net.wallet, slow).await.unwrap();
    let streamed = world.stream(question("tell me", 40), async |_| ()).await;
    assert_eq!(streamed.error, None);
    eventually_in("the audit is opened", AN_AUDIT, async || item(&world.net).await.is_some()).await;
    let item = item(&world.net).await.unwrap();
    eventually_in("the judge commits", A_JUDGEMENT, async || {
        contracts.usefulness.judgement(item).await.unwrap().is_some_and(|judgement| judgement.committed == 1)
    })
    .await;
    world.net.shutdown().await.unwrap();

    let world = World::over(config, engine).await;
    let useful = &world.net.contracts.usefulness;
    eventually("the judge reveals", async || useful.judgement(item).await.unwrap().unwrap().revealed == 1).await;
    judged(&world).await;
    let judgement = useful.judgement(item).await.unwrap().unwrap();
    assert_eq!((judgement.status, judgement.score), (JudgementStatus::Settled, 1_000_000));
    world.net.shutdown().await.unwrap();
}
