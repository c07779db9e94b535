//! An answer of the whole network, opened and gone through again.

use crate::world::{World, question, slow};
use cortensor_engine::{Engine, mock::MockConfig};
use cortensor_node::audit::{Fault, go_through};
use cortensor_protocol::{Case, ReceiptFile, audit::CaseError};

async fn opened(world: &World, task: &str) -> Vec<ReceiptFile> {
    serde_json::from_value(world.get(&format!("/v1/tasks/{task}/receipts?open=true")).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_is_found_as_it_was_signed_and_a_changed_one_is_not() {
    let world = World::start(vec![MockConfig::default()]).await;
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None);
    assert!(world.receipts(&streamed.task).await[0].opened.is_empty(), "evidence is shown on demand only");
    let files = opened(&world, &streamed.task).await;
    assert_eq!(files[0].verify(), Ok(()));
    let case = Case::of(&files[0]).unwrap();
    let (engine, domain) = (&*world.engines[0], files[0].domain);
    let audited = go_through(engine, &domain, &case).await.unwrap();
    assert_eq!(audited.faults, []);
    let summary = audited.summary();
    assert_eq!(u64::from(summary.tokens), case.receipt.receipt.records());
    assert_eq!((summary.identical, summary.mismatches), (summary.tokens, 0), "{summary:?}");

    let mut changed = case.clone();
    changed.evidence[0].alternatives.swap(0, 1);
    let faults = go_through(engine, &domain, &changed).await.unwrap().faults;
    assert!(matches!(faults[..], [Fault::Case(CaseError::Record(_) | CaseError::Root)]), "{faults:?}");
    let mut shorter = case.clone();
    shorter.tokens.pop();
    let faults = go_through(engine, &domain, &shorter).await.unwrap().faults;
    assert!(matches!(faults[..], [Fault::Case(CaseError::Count { .. })]), "{faults:?}");
    let mut other = case;
    other.request.max_tokens += 1;
    let faults = go_through(engine, &domain, &other).await.unwrap().faults;
    assert_eq!(faults, [Fault::Case(CaseError::Request)]);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_answer_is_found_after_what_came_before_it() {
    let world = World::start(vec![slow(), slow()]).await;
    let mut killed = false;
    let streamed = world
        .stream(question("a long one", 60), async |so_far| {
            if so_far.pieces == 10 && !std::mem::replace(&mut killed, true) {
                let busy = (0..2).find(|index| world.engines[*index].load().active > 0).unwrap();
                world.net.miners[busy].kill().await;
            }
        })
        .await;
    assert_eq!(streamed.error, None);
    let files = world.receipts(&streamed.task).await;
    let file = files.iter().find(|file| file.receipt.receipt.first_token > 0).expect("another miner took over");
    assert!(Case::of(file).is_none(), "the file alone does not tell what came before");
    let id = file.receipt.receipt.signing_hash(&file.domain);
    let case = world.net.miners.iter().find_map(|local| local.miner.cases().get(id).unwrap()).unwrap();
    let audited = go_through(&*world.engines[0], &file.domain, &case).await.unwrap();
    assert_eq!(audited.faults, []);
    let summary = audited.summary();
    assert_eq!(summary.identical, summary.tokens, "{summary:?}");
    assert!(summary.tokens > 0);
    world.net.shutdown().await.unwrap();
}
