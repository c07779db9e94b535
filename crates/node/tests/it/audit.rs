//! An answer of the whole network, opened and gone through again.

use crate::world::{World, eventually, eventually_in, question, slow};
use alloy::providers::Provider as _;
use cortensor_calibrate::{Cheat, Dishonest};
use cortensor_contracts::{AuditsParameters, BlockRange, ScoresParameters, Wallet, audits::State};
use cortensor_engine::{
    Engine,
    mock::{MockConfig, MockEngine},
};
use cortensor_node::{
    audit::{Fault, go_through},
    localnet::LocalNetConfig,
    miner::{
        batches::BatchPolicy,
        redeem::redeem,
        rewards::{Rewarded, forget, reward},
    },
};
use cortensor_protocol::{Case, ReceiptFile, Wei, audit::CaseError};
use std::{sync::Arc, time::Duration};

/// Longer than an epoch, a commitment, a reveal and the time for appeals together.
pub const AN_AUDIT: Duration = Duration::from_secs(120);

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

/// What the services say, for whoever looks into a failure: `RUST_LOG=info cargo test …`.
pub fn logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this binary may have been first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// A network whose every answer is audited.
pub async fn audited(folder: &tempfile::TempDir, engine: impl FnOnce(Arc<MockEngine>) -> Arc<dyn Engine>) -> World {
    logs();
    let config = LocalNetConfig { guards: 2, ..LocalNetConfig::new(folder.path().to_owned()) };
    audited_with(config, engine).await
}

async fn audited_with(config: LocalNetConfig, engine: impl FnOnce(Arc<MockEngine>) -> Arc<dyn Engine>) -> World {
    let world = World::over(config, engine(MockEngine::start(MockConfig::default()).unwrap())).await;
    let contracts = &world.net.contracts;
    let everything =
        ScoresParameters { newcomer_ppm: 1_000_000, suspicious_ppm: 1_000_000, ..ScoresParameters::default() };
    contracts.scores.set_parameters(&world.net.wallet, everything).await.unwrap();
    contracts.batches.refresh_rate(&world.net.wallet, world.net.miners[0].miner.operator()).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_is_audited_on_chain_and_its_guard_is_paid() {
    let folder = tempfile::tempdir().unwrap();
    let world = audited(&folder, |engine| engine).await;
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None);
    let miner = world.net.miners[0].miner.operator();
    let (scores, court) = (&world.net.contracts.scores, &world.net.contracts.court);
    eventually_in("the audit is settled", AN_AUDIT, async || scores.score(miner).await.unwrap().jobs == 1).await;
    let score = scores.score(miner).await.unwrap();
    assert_eq!((score.state, score.evidence()), (State::Good, 0), "{score:?}");
    assert!(score.tokens > 0);
    let mut paid = Wei::ZERO;
    for local in &world.net.guards {
        paid = paid + court.credit_of(local.identity.operator().0).await.unwrap();
    }
    assert_eq!(paid, court.parameters().await.unwrap().guard_pay);
    work_earns_rewards(&world).await;
    eventually("the guard is through", async || world.net.guards.iter().any(|local| local.guard.ended() == 1)).await;
    world.net.shutdown().await.unwrap();
}

/// What the audited miner redeemed is counted, and pays when the epoch is over; once.
async fn work_earns_rewards(world: &World) {
    let (net, local) = (&world.net, &world.net.miners[0]);
    let wallet = Wallet::new(net.wallet.provider().clone(), local.identity.signer().clone()).await.unwrap();
    world.vouchers_arrive().await;
    redeem(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap().unwrap();
    let first = reward(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap();
    assert_eq!(first, Rewarded { counted: 1, claimed: Wei::ZERO });
    let balance = async || net.contracts.token.balance_of(wallet.address()).await.unwrap();
    let before = balance().await;
    let mut claimed = Wei::ZERO;
    eventually("the epoch is over", async || {
        let now = reward(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap();
        assert_eq!(now.counted, 0, "nothing is counted twice");
        claimed = now.claimed;
        claimed > Wei::ZERO
    })
    .await;
    assert!(balance().await >= before + claimed);
    let again = reward(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap();
    assert_eq!(again, Rewarded::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_draws_with_noise_of_its_own_is_slashed_by_its_own_signature() {
    let folder = tempfile::tempdir().unwrap();
    let world = audited(&folder, |engine| Arc::new(Dishonest::new(engine, Cheat::OpenSeed))).await;
    let miner = world.net.miners[0].miner.operator();
    let before = world.net.contracts.registry.node(miner).await.unwrap().unwrap().stake;
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None, "the router cannot see it");
    let scores = &world.net.contracts.scores;
    eventually_in("the miner is slashed", AN_AUDIT, async || {
        scores.score(miner).await.unwrap().state == State::Slashed
    })
    .await;
    let after = world.net.contracts.registry.node(miner).await.unwrap().unwrap().stake;
    assert_eq!(after, Wei(before.0 / 2));
    assert_eq!(scores.reputation_ppm(miner).await.unwrap(), 0);
    world.net.shutdown().await.unwrap();
}

/// Everything is stopped between the commitment and the draw, and goes on where it was: the audit is opened and settled.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_a_restart_is_opened_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = audited(&folder, |engine| engine).await;
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None);
    let miner = world.net.miners[0].miner.operator();
    let (mut root, from) = (None, world.net.deployment.block);
    eventually("the batch is committed", async || {
        let to = world.net.wallet.provider().get_block_number().await.unwrap();
        let batches = world.net.contracts.batches.committed(Some(miner), BlockRange { from, to }).await.unwrap();
        root = batches.first().map(|batch| batch.root);
        root.is_some()
    })
    .await;
    let root = root.unwrap();
    assert!(!world.net.contracts.batches.is_taken(miner, root, 0).await.unwrap(), "nothing is drawn yet");
    world.net.shutdown().await.unwrap();

    let config = LocalNetConfig { guards: 2, ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = World::over(config, MockEngine::start(MockConfig::default()).unwrap()).await;
    let contracts = &world.net.contracts;
    eventually_in("it is opened", AN_AUDIT, async || contracts.batches.is_taken(miner, root, 0).await.unwrap()).await;
    eventually_in("the audit is settled", AN_AUDIT, async || contracts.scores.score(miner).await.unwrap().jobs == 1)
        .await;
    assert_eq!(contracts.scores.failures(miner).await.unwrap().count, 0);
    world.net.shutdown().await.unwrap();
}

/// It commits to its receipts like everybody else, and shows to nobody what is drawn.
#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_commits_and_does_not_show_is_reported_and_pays() {
    let folder = tempfile::tempdir().unwrap();
    // Its own clerk sleeps; the test commits in its place.
    let batches = BatchPolicy { interval: Duration::from_secs(3_600), ..BatchPolicy::default() };
    let config = LocalNetConfig { guards: 2, batches, ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = audited_with(config, |engine| engine).await;
    let contracts = &world.net.contracts;
    let soon = AuditsParameters { open_window_s: 3, ..AuditsParameters::development() };
    contracts.audits.set_parameters(&world.net.wallet, soon).await.unwrap();
    let streamed = world.stream(question("tell me", 60), async |_| ()).await;
    assert_eq!(streamed.error, None);
    let identity = &world.net.miners[0].identity;
    let (miner, stake) =
        (identity.operator(), async || contracts.registry.node(identity.operator()).await.unwrap().unwrap().stake);
    let before = stake().await;
    let wallet = Wallet::new(world.net.wallet.provider().clone(), identity.signer().clone()).await.unwrap();
    let leaf = world.receipts(&streamed.task).await[0].receipt.receipt.leaf(&world.net.deployment.domain());
    contracts.batches.commit(&wallet, leaf, 1).await.unwrap();

    eventually_in("the guards report it", AN_AUDIT, async || contracts.batches.is_taken(miner, leaf, 0).await.unwrap())
        .await;
    let score = contracts.scores.score(miner).await.unwrap();
    assert_eq!((score.state, score.jobs), (State::Watched, 0), "{score:?}");
    assert_eq!(contracts.scores.failures(miner).await.unwrap().count, 1);
    assert!(!forget(miner, contracts, &wallet).await.unwrap(), "it is not long enough ago");
    let parameters = contracts.scores.parameters().await.unwrap();
    let short = ScoresParameters { missing_memory_s: 1, ..parameters };
    contracts.scores.set_parameters(&world.net.wallet, short).await.unwrap();
    eventually("it is forgotten", async || forget(miner, contracts, &wallet).await.unwrap()).await;
    let score = contracts.scores.score(miner).await.unwrap();
    assert_eq!((score.state, score.evidence()), (State::Good, 0), "{score:?}");
    let court = contracts.court.parameters().await.unwrap();
    assert_eq!(stake().await, Wei(before.0 - court.missing_penalty.0));
    let mut rewarded = Wei::ZERO;
    for local in &world.net.guards {
        rewarded = rewarded + contracts.court.credit_of(local.identity.operator().0).await.unwrap();
    }
    assert_eq!(rewarded, Wei(court.missing_penalty.0 * u128::from(court.reporter_bps) / 10_000), "one of them, once");
    world.net.shutdown().await.unwrap();
}
