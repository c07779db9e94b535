//! Guards that do not do their work, on the real chain beside guards that do: what it costs them, and that audits end as they
//! should all the same. And the traps that catch who says that all is well without having looked.

use crate::{
    audit::logs,
    world::{World, eventually, eventually_in, own_session, question},
};
use alloy::{
    consensus::Transaction as _,
    network::TransactionBuilder as _,
    primitives::B256,
    providers::Provider as _,
    rpc::types::{Filter, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::{SolError as _, SolEvent as _},
};
use cortensor_calibrate::{Cheat, Dishonest};
use cortensor_contracts::{
    AuditsParameters, BlockRange, ChainTime as _, DeployParameters, GuardsParameters, NodeRegistration,
    ScoresParameters, TransportBinding, Wallet,
    audits::{Audit, AuditEvent, AuditStatus, Finding, SeatState, State},
    bindings::{audits::Audits as Sol, court::Court::Planted},
};
use cortensor_engine::{
    Engine,
    mock::{MockConfig, MockEngine},
};
use cortensor_node::{
    identity::Identity,
    localnet::LocalNetConfig,
    miner::batches::BatchPolicy,
    traps::{Setter, TrapPolicy, Traps},
};
use cortensor_protocol::{Operator, RoleSet, Wei};
use std::{cell::Cell, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(90);
const STAKE: Wei = Wei(1_000 * Wei::COR.0);

/// Every answer is audited, and an audit takes seconds.
fn quick(folder: &tempfile::TempDir, guards: usize) -> LocalNetConfig {
    logs();
    let standard = LocalNetConfig::new(folder.path().to_owned());
    let DeployParameters { scores, audits, .. } = *standard.parameters;
    LocalNetConfig {
        guards,
        guard_interval: Duration::from_millis(200),
        batches: BatchPolicy { interval: Duration::from_millis(200), age: Duration::ZERO, ..standard.batches },
        parameters: Box::new(DeployParameters {
            guards: GuardsParameters { epoch_length_s: 2 },
            scores: ScoresParameters { newcomer_ppm: 1_000_000, suspicious_ppm: 1_000_000, ..scores },
            audits: AuditsParameters { commit_window_s: 8, reveal_window_s: 4, appeal_window_s: 4, ..audits },
            ..*standard.parameters
        }),
        ..standard
    }
}

fn mock() -> Arc<dyn Engine> {
    MockEngine::start(MockConfig::default()).unwrap()
}

/// How a guard does without working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shirking {
    /// It says that all is well.
    Lazy,
    /// It commits to what another committed to, and reveals what another revealed.
    Copying,
    /// It commits and reveals nothing.
    Silent,
}

/// A guard that runs no model and no service, and acts on what the chain shows everybody.
struct Shirker<'a> {
    world: &'a World,
    wallet: Wallet,
    how: Shirking,
    copies_refused: Cell<u32>,
}

impl<'a> Shirker<'a> {
    /// Registers and enrols it.
    async fn enlist(world: &'a World, how: Shirking) -> Self {
        let (net, identity) = (&world.net, Identity::new(PrivateKeySigner::random()));
        let wallet = Wallet::new(net.wallet.provider().clone(), identity.signer().clone()).await.unwrap();
        net.wallet.send_native(wallet.address(), alloy::primitives::U256::from(Wei::COR.0)).await.unwrap();
        net.contracts.token.transfer(&net.wallet, wallet.address(), STAKE).await.unwrap();
        let node = NodeRegistration {
            operator: identity.operator(),
            payout: wallet.address(),
            roles: RoleSet::GUARD,
            stake: STAKE,
            transport: TransportBinding {
                key: identity.transport_key(),
                signature: identity.bind_transport(net.deployment.chain_id, net.deployment.registry),
            },
            claims: Vec::new(),
            consent: None,
        };
        net.contracts.registry.register(&wallet, &node).await.unwrap();
        net.contracts.guards.enroll(&wallet).await.unwrap();
        Self { world, wallet, how, copies_refused: Cell::new(0) }
    }

    fn operator(&self) -> Operator {
        Operator(self.wallet.address())
    }

    async fn lost(&self) -> Wei {
        lost(self.world, self.operator()).await
    }

    /// Audits that it was ever drawn for, with their committees.
    async fn drawn(&self) -> Vec<(B256, u8, Vec<Operator>)> {
        let drawn = |event| match event {
            AuditEvent::Drawn { item, round, guards, .. } => Some((item, round, guards)),
            _ => None,
        };
        let all = events(self.world, None).await.into_iter().filter_map(drawn);
        all.filter(|(_, _, guards)| guards.contains(&self.operator())).collect()
    }

    /// Takes the next step with every audit that it is drawn for, as little of one as its kind of shirking needs.
    async fn step(&self) {
        for (item, round, _) in self.drawn().await {
            let audits = &self.world.net.contracts.audits;
            let audit = audits.audit(item).await.unwrap().unwrap();
            if audit.status == AuditStatus::Gathering && audit.round == round {
                self.sit(item, &audit).await;
            } else if self.how == Shirking::Lazy && audit.status == AuditStatus::Decided {
                // Too early at first.
                let _ = audits.settle(&self.wallet, &self.receipt(item).await).await;
            }
        }
    }

    async fn sit(&self, item: B256, audit: &Audit) {
        let audits = &self.world.net.contracts.audits;
        let seats = audits.seats(item).await.unwrap();
        let mine = seats.iter().find(|seat| seat.guard == self.operator() && seat.round == audit.round).unwrap().state;
        match (mine, self.how) {
            (SeatState::Drawn, Shirking::Lazy) => {
                let commitment = self.all_is_well(item, audit.round).await;
                let _ = audits.commit_finding(&self.wallet, item, commitment).await;
            }
            (SeatState::Drawn, Shirking::Silent) => {
                audits.commit_finding(&self.wallet, item, B256::repeat_byte(7)).await.unwrap();
            }
            (SeatState::Drawn, Shirking::Copying) => {
                if let Some(commitment) = self.committed_by_another(item, audit.round).await {
                    audits.commit_finding(&self.wallet, item, commitment).await.unwrap();
                }
            }
            (SeatState::Committed, Shirking::Lazy) => {
                // Others may not have committed yet.
                let receipt = self.receipt(item).await;
                let _ = audits.reveal(&self.wallet, &receipt, &well(receipt.records()), SALT).await;
            }
            (SeatState::Committed, Shirking::Copying) => self.copy_a_reveal(item, audit.until).await,
            (SeatState::Revealed, Shirking::Lazy) => {
                let _ = audits.settle(&self.wallet, &self.receipt(item).await).await;
            }
            _ => {}
        }
    }

    async fn receipt(&self, item: B256) -> cortensor_protocol::Receipt {
        self.world.net.contracts.audits.receipt_of(item, blocks(self.world).await).await.unwrap().unwrap()
    }

    async fn all_is_well(&self, item: B256, round: u8) -> B256 {
        well(self.receipt(item).await.records()).commitment(self.operator(), item, round, SALT)
    }

    async fn committed_by_another(&self, item: B256, of: u8) -> Option<B256> {
        events(self.world, Some(item)).await.into_iter().find_map(|event| match event {
            AuditEvent::Committed { guard, round, commitment, .. } if round == of && guard != self.operator() => {
                Some(commitment)
            }
            _ => None,
        })
    }

    /// Calls what another called to reveal, word for word.
    async fn copy_a_reveal(&self, item: B256, until: u64) {
        // Later it is refused for being late.
        if self.wallet.provider().chain_time().await.unwrap() + 1 >= until {
            return;
        }
        let (provider, audits) = (self.wallet.provider(), self.world.net.deployment.audits);
        let filter = Filter::new().address(audits).event_signature(Sol::FindingRevealed::SIGNATURE_HASH);
        let filter = filter.topic1(item).from_block(self.world.net.deployment.block);
        for log in provider.get_logs(&filter).await.unwrap() {
            let transaction = provider.get_transaction_by_hash(log.transaction_hash.unwrap()).await.unwrap().unwrap();
            let copy = TransactionRequest::default().with_from(self.wallet.address()).with_to(audits);
            let refusal = provider.call(copy.with_input(transaction.input().clone())).await.unwrap_err();
            let data = refusal.as_error_resp().unwrap().as_revert_data().unwrap();
            // What others revealed in an earlier round, while the own one does not reveal yet.
            if data[..4] == Sol::RevealTooEarly::SELECTOR {
                continue;
            }
            assert_eq!(data[..4], Sol::CommitmentMismatch::SELECTOR, "{refusal}");
            self.copies_refused.set(self.copies_refused.get() + 1);
        }
    }
}

const SALT: B256 = B256::repeat_byte(1);

fn well(records: u64) -> Finding {
    Finding { not_opened: false, hard: false, tokens: u32::try_from(records).unwrap(), bins: [[0; 16]; 3] }
}

async fn blocks(world: &World) -> BlockRange {
    BlockRange { from: world.net.deployment.block, to: world.net.wallet.provider().get_block_number().await.unwrap() }
}

async fn events(world: &World, item: Option<B256>) -> Vec<AuditEvent> {
    world.net.contracts.audits.events(item, blocks(world).await).await.unwrap()
}

async fn lost(world: &World, operator: Operator) -> Wei {
    STAKE.saturating_sub(world.net.contracts.registry.node(operator).await.unwrap().unwrap().stake)
}

async fn answer(world: &World) {
    let streamed = world.stream(question("tell me", 40), async |_| ()).await;
    assert_eq!(streamed.error, None);
}

/// What honest guards lost, and were paid.
async fn honest_guards(world: &World) -> (Wei, Wei) {
    let (mut losses, mut pay) = (Wei::ZERO, Wei::ZERO);
    for local in &world.net.guards {
        losses = losses + lost(world, local.identity.operator()).await;
        pay = pay + world.net.contracts.court.credit_of(local.identity.operator().0).await.unwrap();
    }
    (losses, pay)
}

/// Has answers audited by three until the shirker was in such a committee and the audit is settled.
async fn outvoted(world: &World, shirker: &Shirker<'_>) -> B256 {
    let (audits, wallet) = (&world.net.contracts.audits, &world.net.wallet);
    let found = Cell::new(None);
    let asked = Cell::new(std::time::Instant::now());
    answer(world).await;
    eventually_in("a committee of three ends with the shirker in it", SOON * 2, async || {
        if asked.get().elapsed() > Duration::from_secs(12) {
            answer(world).await;
            asked.set(std::time::Instant::now());
        }
        shirker.step().await;
        for event in events(world, None).await {
            match event {
                AuditEvent::Decided { item, round: 0, .. } => {
                    // The appeal's time may be over.
                    let _ = audits.appeal(wallet, &world.net.contracts.court, item).await;
                }
                AuditEvent::Settled { item, status: AuditStatus::Settled, .. } => {
                    let seated = shirker.drawn().await.into_iter().any(|(of, round, _)| of == item && round == 1);
                    found.set(found.get().or(seated.then_some(item)));
                }
                _ => {}
            }
        }
        found.get().is_some()
    })
    .await;
    found.get().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_copies_can_reveal_nothing_and_pays() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(quick(&folder, 3), mock()).await;
    let copier = Shirker::enlist(&world, Shirking::Copying).await;
    outvoted(&world, &copier).await;
    assert!(copier.copies_refused.get() > 0);
    assert!(copier.lost().await >= world.net.contracts.court.parameters().await.unwrap().guard_penalty);
    assert_eq!(world.net.contracts.court.credit_of(copier.operator().0).await.unwrap(), Wei::ZERO);
    let (losses, pay) = honest_guards(&world).await;
    assert!(losses == Wei::ZERO && pay > Wei::ZERO, "{losses} {pay}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_commits_and_reveals_nothing_delays_and_pays() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(quick(&folder, 3), mock()).await;
    let silent = Shirker::enlist(&world, Shirking::Silent).await;
    let item = outvoted(&world, &silent).await;
    let revealed = |event: &AuditEvent| matches!(event, AuditEvent::Revealed { round: 1, .. });
    assert_eq!(events(&world, Some(item)).await.iter().filter(|event| revealed(event)).count(), 2);
    assert!(silent.lost().await >= world.net.contracts.court.parameters().await.unwrap().guard_penalty);
    let score = world.net.contracts.scores.score(world.net.miners[0].miner.operator()).await.unwrap();
    assert_eq!(score.state, State::Good, "{score:?}");
    let (losses, pay) = honest_guards(&world).await;
    assert!(losses == Wei::ZERO && pay > Wei::ZERO, "{losses} {pay}");
    world.net.shutdown().await.unwrap();
}

/// The guard says of its friend's every answer that it is well. Alone it is believed; the others' first finding brings a
/// committee, which outvotes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_covers_for_a_cheating_miner_is_outvoted() {
    let folder = tempfile::tempdir().unwrap();
    let cheat = Arc::new(Dishonest::new(mock(), Cheat::OtherPrompt));
    let world = World::over(quick(&folder, 3), cheat).await;
    let friend = Shirker::enlist(&world, Shirking::Lazy).await;
    let (scores, miner) = (&world.net.contracts.scores, world.net.miners[0].miner.operator());
    // Drawn from the epoch after its enrolment on.
    let enrolled = world.net.contracts.guards.next_epoch().await.unwrap();
    eventually_in("it may be drawn", SOON, async || world.net.contracts.guards.next_epoch().await.unwrap() > enrolled)
        .await;
    for _ in 0..6 {
        answer(&world).await;
    }
    eventually_in("the miner is slashed", SOON, async || {
        friend.step().await;
        scores.score(miner).await.unwrap().state == State::Slashed
    })
    .await;
    assert!(lost(&world, miner).await >= Wei(STAKE.0 / 2));
    assert!(friend.lost().await > Wei::ZERO, "it sat in the committee that convicted");
    assert_eq!(honest_guards(&world).await.0, Wei::ZERO);
    world.net.shutdown().await.unwrap();
}

/// Governance lets an account set traps.
async fn authorised(world: &World) -> Wallet {
    let (net, key) = (&world.net, PrivateKeySigner::random());
    net.wallet.send_native(key.address(), alloy::primitives::U256::from(Wei::COR.0)).await.unwrap();
    net.contracts.court.set_trap_setter(&net.wallet, key.address(), true).await.unwrap();
    Wallet::new(net.wallet.provider().clone(), key).await.unwrap()
}

async fn setter(world: &World, wallet: &Wallet, every: Duration, bad_percent: u8) -> Setter {
    Setter {
        contracts: world.net.contracts.clone(),
        wallet: wallet.clone(),
        miner: world.net.miners[0].miner.clone(),
        client: own_session(world).await,
        model: "mock".into(),
        policy: TrapPolicy { interval: Duration::from_millis(200), every, bad_percent, tokens: 24 },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_that_was_planted_before_a_stop_is_sprung_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let traps = Traps::open(&folder.path().join("traps.redb")).unwrap();
    let world = World::over(quick(&folder, 1), traps.engine(mock())).await;
    let wallet = authorised(&world).await;
    let stop = CancellationToken::new();
    let bad = setter(&world, &wallet, Duration::from_secs(3_600), 100).await;
    let setting = tokio::spawn(traps.clone().keep_setting(bad, stop.clone()));
    let (provider, court) = (world.net.wallet.provider(), world.net.deployment.court);
    let planted = Filter::new().address(court).event_signature(Planted::SIGNATURE_HASH).from_block(0);
    eventually("one is planted", async || !provider.get_logs(&planted).await.unwrap().is_empty()).await;
    stop.cancel();
    setting.await.unwrap();
    assert!(!events(&world, None).await.iter().any(|event| matches!(event, AuditEvent::TrapSprung { .. })));
    let stop = CancellationToken::new();
    let good = setter(&world, &wallet, Duration::from_secs(3_600), 0).await;
    let setting = tokio::spawn(traps.keep_setting(good, stop.clone()));
    eventually_in("the bad one is sprung", SOON, async || {
        events(&world, None).await.iter().any(|event| matches!(event, AuditEvent::TrapSprung { bad: true, .. }))
    })
    .await;
    stop.cancel();
    setting.await.unwrap();
    assert_eq!(lost(&world, world.net.miners[0].miner.operator()).await, Wei::ZERO);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lazy_guard_falls_into_a_trap_and_no_score_moves() {
    let folder = tempfile::tempdir().unwrap();
    let traps = Traps::open(&folder.path().join("traps.redb")).unwrap();
    let world = World::over(quick(&folder, 1), traps.engine(mock())).await;
    let lazy = Shirker::enlist(&world, Shirking::Lazy).await;
    let (contracts, operator) = (&world.net.contracts, world.net.miners[0].miner.operator());
    let setter = setter(&world, &authorised(&world).await, Duration::from_secs(2), 70).await;
    let stop = CancellationToken::new();
    let setting = tokio::spawn(traps.keep_setting(setter, stop.clone()));
    let penalty = contracts.court.parameters().await.unwrap().trap_penalty;
    eventually_in("the lazy guard falls into a trap, and others are sprung", SOON, async || {
        lazy.step().await;
        let sprung = |wanted: bool| move |event: &AuditEvent| matches!(event, AuditEvent::TrapSprung { bad, .. } if *bad == wanted);
        let events = events(&world, None).await;
        let paid = honest_guards(&world).await.1 > Wei::ZERO;
        paid && lazy.lost().await >= penalty && events.iter().any(sprung(true)) && events.iter().any(sprung(false))
    })
    .await;
    stop.cancel();
    setting.await.unwrap();
    assert_eq!(honest_guards(&world).await.0, Wei::ZERO);
    let score = contracts.scores.score(operator).await.unwrap();
    assert_eq!((score.state, score.jobs, lost(&world, operator).await), (State::Good, 0, Wei::ZERO), "{score:?}");
    // Whoever else asks is answered honestly.
    let answered = world.stream(question("tell me", 24), async |_| ()).await;
    let files = serde_json::from_value(world.get(&format!("/v1/tasks/{}/receipts?open=true", answered.task)).await);
    let files: Vec<cortensor_protocol::ReceiptFile> = files.unwrap();
    let case = cortensor_protocol::Case::of(&files[0]).unwrap();
    let audited = cortensor_node::audit::go_through(&*mock(), &files[0].domain, &case).await.unwrap();
    assert_eq!(audited.faults, []);
    world.net.shutdown().await.unwrap();
}

/// For six epochs nobody records the beacon that draws, nor any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_that_comes_late_still_draws() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(quick(&folder, 2), mock()).await;
    answer(&world).await;
    let (contracts, provider) = (&world.net.contracts, world.net.wallet.provider());
    let miner = world.net.miners[0].miner.operator();
    let committed = Cell::new(None);
    eventually("the batch is committed", async || {
        let batches = contracts.batches.committed(Some(miner), blocks(&world).await).await.unwrap();
        committed.set(batches.first().map(|batch| batch.root));
        committed.get().is_some()
    })
    .await;
    let batch = contracts.batches.batch(miner, committed.get().unwrap()).await.unwrap().unwrap();
    assert_eq!(contracts.guards.beacon(batch.epoch).await.unwrap(), None);
    let _: serde_json::Value = provider.raw_request("evm_increaseTime".into(), (12,)).await.unwrap();
    let _: serde_json::Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    assert!(contracts.guards.current_epoch().await.unwrap() >= batch.epoch + 6);
    eventually_in("the audit is settled", SOON, async || contracts.scores.score(miner).await.unwrap().jobs == 1).await;
    assert_eq!(contracts.scores.failures(miner).await.unwrap().count, 0);
    world.net.shutdown().await.unwrap();
}
