//! Level 1: measuring miners that the beacon drew this guard for, as an ordinary client of a router.
//!
//! The tasks follow from the round's seed, the session is the guard's own, and a miner sees neither who asks nor that it
//! was named. What was measured is on disk before it is committed to. Each measurement costs at most what its limits say.

use super::{Guard, GuardError, Inner, MEASURES, steps};
use crate::{
    audit::go_through,
    contracts_view::describe,
    journal::{StoreError, Write, decode, encode},
    miner::batches::beacon,
};
use alloy::primitives::B256;
use async_trait::async_trait;
use cortensor_capability::{Answer, Facts, Limits, Plan, Target, TargetError, measure};
use cortensor_client::{Client, ClientError};
use cortensor_contracts::audits::{AuditsError, Capabilities, MeasurementRound, RoundStatus, measurement_commitment};
use cortensor_engine::Engine;
use cortensor_gateway::NodeView;
use cortensor_protocol::{
    Capability, Case, Domain, GenerationRequest, ModelId, Operator, Routing, TaskId, TaskUpdate, ToolFormat,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Rounds that a guard takes part in at once.
const MEASURES_MAX: usize = 256;
/// Miners that are looked at in one epoch.
const MINERS_MAX: usize = 4_096;
/// Refusals that say that another was faster, or that it is not time yet.
const HARMLESS: &[&str] = &[
    "RoundKnown",
    "RoundNotOpen",
    "CommitmentsNotOver",
    "CommitmentsOver",
    "RevealsOver",
    "RevealsNotOver",
    "AlreadyCommitted",
    "AlreadyRevealed",
    "EpochTooOld",
    "EpochNotOver",
    "BeaconUnknown",
    "MinerInactive",
];

/// What measuring has cost since the guard was started.
#[derive(Debug, Default)]
pub(super) struct Spending {
    measurements: AtomicU64,
    tokens: AtomicU64,
}

/// A round that this guard was drawn for, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measuring {
    epoch: u32,
    miner: Operator,
    model: ModelId,
    seed: B256,
    context: u32,
    slots: u32,
    /// Once it is made: what, and under which salt.
    made: Option<(Capability, B256)>,
}

impl Guard {
    /// Measurements made and tokens paid for since it was started.
    #[must_use]
    pub fn measured(&self) -> (u64, u64) {
        let spending = &self.inner.spending;
        (spending.measurements.load(Relaxed), spending.tokens.load(Relaxed))
    }

    /// Measures whom it is drawn for, through the router that `client` has a session with, until it is stopped. To be run
    /// once.
    pub async fn keep_measuring(self, client: Client, limits: Limits, stop: CancellationToken) {
        let client = Arc::new(client);
        let mut seen = None;
        while stop.run_until_cancelled(tokio::time::sleep(self.inner.config.interval)).await.is_some() {
            let round = self.inner.measuring_round(&client, limits, &mut seen);
            match stop.run_until_cancelled(round).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let why = describe(&error);
                    tracing::warn!(code = "G-MEASURE-001", %why, "a round of measuring broke off; it is tried again");
                }
            }
        }
    }
}

impl Inner {
    /// Notes new duties once an epoch, then takes the next step with each. `seen` is the last epoch that was looked at.
    async fn measuring_round(
        &self,
        client: &Arc<Client>,
        limits: Limits,
        seen: &mut Option<u32>,
    ) -> Result<(), GuardError> {
        let current = self.contracts.guards.next_epoch().await?;
        if let Some(past) = current.checked_sub(1)
            && *seen != Some(past)
            && beacon(&self.contracts, &self.wallet, past).await?.is_some()
        {
            self.note_measurings(client, past).await?;
            *seen = Some(past);
        }
        for (key, bytes) in self.journal.scan(MEASURES, &[], MEASURES_MAX)? {
            let mut measuring: Measuring = decode("measurement", &bytes)?;
            let id = B256::try_from(key.as_slice()).map_err(|_| StoreError::Corrupt { what: "measurement" })?;
            match self.measuring_step(id, &mut measuring, client, limits, current).await {
                Ok(true) => self.journal.commit(&[Write::Delete(MEASURES, key)])?,
                Ok(false) => {}
                Err(error) => {
                    let (miner, why) = (measuring.miner, describe(&error));
                    tracing::warn!(code = "G-MEASURE-002", %miner, %why, "a measurement did not get on; it is tried again");
                }
            }
        }
        Ok(())
    }

    /// Asks the chain, for each miner that the router knows and each model that this guard has, whether it is drawn.
    async fn note_measurings(&self, client: &Client, epoch: u32) -> Result<(), GuardError> {
        let (me, nodes) = (self.identity.operator(), client.nodes::<NodeView>().await?);
        let mut writes = Vec::new();
        for node in nodes.iter().filter(|node| node.state == "ready").take(MINERS_MAX) {
            for offer in &node.models {
                let engine = self.engines.iter().find(|engine| engine.info().manifest.name == offer.name);
                let Some(model) = engine.map(|engine| engine.info().manifest.id()) else { continue };
                let duty = self.contracts.capabilities.duty(epoch, node.operator, model).await?;
                let Some(duty) = duty.filter(|duty| duty.guards.contains(&me)) else { continue };
                let id = Capabilities::id_of(epoch, node.operator, model);
                if writes.len() >= MEASURES_MAX || self.journal.get(MEASURES, id.as_slice())?.is_some() {
                    continue;
                }
                tracing::info!(miner = %node.operator, %model, epoch, "drawn to measure");
                let (context, slots) = (offer.context, offer.slots);
                let (miner, seed) = (node.operator, duty.seed);
                let measuring = Measuring { epoch, miner, model, seed, context, slots, made: None };
                writes.push(Write::Put(MEASURES, id.to_vec(), encode(&measuring)));
            }
        }
        Ok(self.journal.commit(&writes)?)
    }

    /// Takes the next step of a round; `true` when it is over for this guard.
    async fn measuring_step(
        &self,
        id: B256,
        measuring: &mut Measuring,
        client: &Arc<Client>,
        limits: Limits,
        current: u32,
    ) -> Result<bool, GuardError> {
        let capabilities = &self.contracts.capabilities;
        let round = capabilities.round(id).await?;
        match round.status {
            RoundStatus::Settled => return Ok(true),
            RoundStatus::None => {
                let late = capabilities.parameters().await?.late_epochs;
                if current.saturating_sub(measuring.epoch) > late {
                    return Ok(true);
                }
                let opened = capabilities.open(&self.wallet, measuring.epoch, measuring.miner, measuring.model).await;
                return forgive(opened).map(|()| false);
            }
            RoundStatus::Open => {}
        }
        let (me, now) = (self.identity.operator(), self.now().await?);
        if !round.guards.contains(&me) {
            return Ok(true);
        }
        if now > round.reveal_until {
            return forgive(capabilities.settle(&self.wallet, id).await).map(|()| false);
        }
        let said = capabilities.said(id, me).await?;
        if said.1 {
            return Ok(false);
        }
        let (measured, salt) = match measuring.made {
            Some(made) => made,
            None => self.make(id, measuring, client, limits).await?,
        };
        self.tell(id, &round, said.0, &measured, salt, now).await.map(|()| false)
    }

    /// Commits, where several measure, or reveals.
    async fn tell(
        &self,
        id: B256,
        round: &MeasurementRound,
        committed: bool,
        measured: &Capability,
        salt: B256,
        now: u64,
    ) -> Result<(), GuardError> {
        let (capabilities, me) = (&self.contracts.capabilities, self.identity.operator());
        let several = round.guards.len() > 1;
        if several && !committed {
            let commitment = measurement_commitment(me, id, measured, salt);
            return forgive(capabilities.commit(&self.wallet, id, commitment).await);
        }
        if several && usize::from(round.commitments) < round.guards.len() && now <= round.commit_until {
            return Ok(());
        }
        forgive(capabilities.reveal(&self.wallet, id, measured, salt).await)
    }

    /// Runs the network tasks of a round, and keeps what came of them.
    async fn make(
        &self,
        id: B256,
        measuring: &mut Measuring,
        client: &Arc<Client>,
        limits: Limits,
    ) -> Result<(Capability, B256), GuardError> {
        let engine = self.engines.iter().find(|engine| engine.info().manifest.id() == measuring.model);
        let engine = engine.ok_or(crate::audit::AuditError::NoModel { wanted: measuring.model })?;
        let target = RouterTarget::new(
            client.clone(),
            measuring.miner,
            engine.clone(),
            self.config.domain,
            (measuring.context, measuring.slots),
        );
        let found = measure(&target, &Plan::new(measuring.seed, limits)).await;
        self.spending.measurements.fetch_add(1, Relaxed);
        self.spending.tokens.fetch_add(found.tokens, Relaxed);
        tracing::info!(
            miner = %measuring.miner, model = %measuring.model, epoch = measuring.epoch, measured = ?found.capability,
            class = %found.capability.class(), tokens = found.tokens, requests = found.requests,
            elapsed_ms = found.elapsed_ms, notes = ?found.notes, "measured a miner"
        );
        if found.answers == 0 {
            // That the router or this guard's way to it is gone must not count against the miner.
            return Err(GuardError::Unanswered { notes: found.notes.join("; ") });
        }
        let made = (found.capability, B256::from(rand::random::<[u8; 32]>()));
        measuring.made = Some(made);
        self.journal.commit(&[Write::Put(MEASURES, id.to_vec(), encode(measuring))])?;
        Ok(made)
    }
}

fn forgive<T>(sent: Result<T, AuditsError>) -> Result<(), GuardError> {
    steps::forgive_these(HARMLESS, sent)
}

/// One miner behind a router, measured through a session whose key this process holds.
pub struct RouterTarget {
    client: Arc<Client>,
    miner: Operator,
    /// Goes through what the miner's receipts commit to.
    engine: Arc<dyn Engine>,
    domain: Domain,
    facts: Facts,
}

impl RouterTarget {
    /// Measures `miner` with the model that `engine` holds; it offers this context and so many slots.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        miner: Operator,
        engine: Arc<dyn Engine>,
        domain: Domain,
        (context, slots): (u32, u32),
    ) -> Self {
        let manifest = &engine.info().manifest;
        let calls_tools = manifest.tool_format != ToolFormat::None;
        let facts = Facts { model: manifest.name.clone(), context, slots, calls_tools };
        Self { client, miner, engine, domain, facts }
    }

    /// Whether nothing in the opened receipts of a task convicts the miner. `None`: nothing can be opened now, or be
    /// repeated here.
    async fn honest(&self, task: TaskId) -> Option<bool> {
        let files = match self.client.receipts(task, true).await {
            Ok(files) => files,
            Err(error) => {
                tracing::info!(miner = %self.miner, %error, "a receipt was not opened");
                return None;
            }
        };
        let case = files.iter().find_map(Case::of)?;
        match go_through(&*self.engine, &self.domain, &case).await {
            Ok(audited) => Some(audited.faults.is_empty()),
            Err(error) => {
                tracing::info!(miner = %self.miner, %error, "an answer could not be gone through again");
                None
            }
        }
    }
}

fn target_error(error: ClientError) -> TargetError {
    let ClientError::Refused(refusal) = error else { return TargetError::Failed(describe(&error)) };
    let text = refusal.to_string();
    match (refusal.status, refusal.code.as_str()) {
        (429, _) => TargetError::Busy(text),
        (_, "context_length_exceeded") => TargetError::TooLong(text),
        (400, _) => TargetError::Unsupported(text),
        _ => TargetError::Failed(text),
    }
}

#[async_trait]
impl Target for RouterTarget {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    async fn ask(&self, request: GenerationRequest, check: bool) -> Result<Answer, TargetError> {
        let began = Instant::now();
        let routing = Routing { miner: Some(self.miner), min_tier: None };
        let mut stream = self.client.generate_routed(request, routing).await.map_err(target_error)?;
        let mut answer = Answer::begun();
        while let Some(update) = stream.next().await.map_err(target_error)? {
            match update {
                TaskUpdate::Tokens { text, tokens } => {
                    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
                    answer.take(&text, count, began.elapsed());
                }
                TaskUpdate::Finished { reason, usage, .. } => {
                    answer.finish = reason;
                    (answer.input_tokens, answer.cached_tokens) = (usage.input_tokens, usage.cached_input_tokens);
                }
                TaskUpdate::Started { .. } | TaskUpdate::Failed { .. } => {}
            }
        }
        let task = stream.task();
        drop(stream);
        // What is not paid now is paid with the next answer.
        if let Err(error) = self.client.pay().await {
            tracing::info!(%error, "an answer is not paid for yet");
        }
        if check {
            answer.honest = self.honest(task).await;
        }
        Ok(answer)
    }
}
