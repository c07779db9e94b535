//! The engine at work: a log on disk, clocks, peers, and the chain's executor.
//!
//! One task owns the engine and carries out what it says; the worker executes blocks meanwhile; others move transactions
//! and serve those who catch up. Before anything is sent, everything that the engine wrote down before it is durable.

mod admission;
mod block;
mod clocks;
mod evidence;
mod following;
mod gossip;
mod metrics;
mod share;
mod wal;
mod worker;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::{Header, Sealed},
    primitives::{Bytes, hex},
};
use async_trait::async_trait;
use cortensor_chain::{Access, BlockProducer, Consensus, ConsensusError, Exports, ShareCheckpoint, ShowCertificate};
use cortensor_net::{Lane, PeerEvent, Peers, PeersConfig, PeersEvents};
use cortensor_protocol::{
    TransportKey,
    consensus::{Certificate, Domain, ValidatorSet},
};
use malachite_types::LinearTimeouts;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    block::decodes_as_block, following::note_followed, metrics::Metrics, wal::WalError, worker::PowersFrom,
};
use self::{
    clocks::Clocks,
    wal::Wal,
    worker::{Job, Worker},
};
use crate::{
    engine::{Engine, Evidence, Input, Output, Peer, Settings},
    message::{DecidedBlock, Message},
    signing::Keeper,
    snapshot::{Service, SnapshotMessage},
    upgrade::Unknown,
};

/// Jobs and results that wait between the engine and the worker. The engine has at most one of each kind under way for
/// each block it knows of.
const JOBS_MAX: usize = 64;
/// Messages handled before what they led to is carried out, so that one sync serves several.
const BATCH_MAX: usize = 64;
/// Batches of transactions from peers that wait to be taken in.
const INCOMING_MAX: usize = 64;
/// Decided blocks sent for one request.
const SERVED_BLOCKS_MAX: u64 = 32;
/// Bytes of decided blocks sent for one request.
const SERVED_BYTES_MAX: usize = 8 << 20;
/// Requests for decided blocks served at once.
const SERVED_AT_ONCE_MAX: usize = 4;
/// How long a node that is to stop waits for the block being decided.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// After so many faults a peer is cut off.
const FAULTS_MAX: u32 = 20;
/// For how long.
const BANISHED: Duration = Duration::from_secs(60);
/// Peers whose faults are remembered.
const FAULTY_MAX: usize = 1_024;

/// What a node's consensus is made of.
#[derive(Clone, Debug)]
pub struct BftConfig {
    /// EIP-155 chain identifier.
    pub chain_id: u64,
    /// The validator's key; none for a node that only follows.
    pub signer: Option<Keeper>,
    /// Who decides the first epoch.
    pub first_set: ValidatorSet,
    /// Where powers come from.
    pub powers: PowersFrom,
    /// The log's file.
    pub log: PathBuf,
    /// Where proofs of double votes are written, a JSON object a line.
    pub evidence: PathBuf,
    /// The first upgrade that this program does not know.
    pub unknown: Option<Unknown>,
    /// Makes a new log although the chain has blocks.
    pub new_log: bool,
    /// How to reach others.
    pub peers: PeersConfig,
    /// How long each step may take.
    pub timeouts: LinearTimeouts,
    /// How long a block without transactions is put off.
    pub empty_block_every: Duration,
    /// Where copies of the state are kept for nodes that begin with one.
    pub copies: PathBuf,
    /// The state is copied whenever this many blocks have passed; 0 for never.
    pub copy_every_blocks: u64,
}

/// The consensus of several validators, for [`cortensor_chain::Chain::start_with`].
#[derive(Debug)]
pub struct Bft {
    config: BftConfig,
    metrics: Arc<Metrics>,
}

impl Bft {
    /// Nothing is opened before the chain starts it.
    #[must_use]
    pub fn new(config: BftConfig) -> Self {
        Self { config, metrics: Arc::default() }
    }

    /// Counters, also while it runs.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

fn engine_error(error: &dyn std::error::Error) -> ConsensusError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ConsensusError::Engine(text)
}

#[async_trait]
impl Consensus for Bft {
    async fn run(self: Box<Self>, producer: BlockProducer, stop: CancellationToken) -> Result<(), ConsensusError> {
        let Self { mut config, metrics } = *self;
        let domain = Domain::new(config.chain_id);
        let next = producer.head().number + 1;
        let set = worker::set_after_head(&producer, &config.first_set, &config.powers)?;
        if let Some(unknown) = config.unknown.as_ref().filter(|unknown| unknown.height <= next) {
            return Err(engine_error(unknown));
        }
        let (wal, log) = following::open_log(&config, next).await.map_err(|error| engine_error(&error))?;
        let access = producer.access();
        config.peers.admission = admission::of_members(&access, &config.peers.peers);
        let listed = config.peers.peers.iter().map(cortensor_net::NodeAddress::key).collect();
        let (peers, events) = Peers::start(config.peers).await.map_err(|error| engine_error(&error))?;
        let (results, answers) = mpsc::channel(JOBS_MAX);
        let (jobs, orders) = mpsc::channel(JOBS_MAX);
        let empty = config.empty_block_every;
        let signer = config.signer.clone();
        let worker = Worker::new(producer, signer, domain, config.powers.clone(), empty, set.clone(), results);
        let worker = worker.stopping_before(config.unknown);
        let worker = tokio::spawn(worker.run(orders));
        let settings = Settings {
            domain,
            signer: config.signer,
            timeouts: config.timeouts,
            catch_up_every: Duration::from_millis(500),
        };
        tracing::info!(
            next,
            peers = peers.address().map_or_else(String::new, |own| own.to_string()),
            "consensus begins"
        );
        let (engine, outputs) = Engine::start(settings, next, set, log);
        let copies = Service::new(access, Exports::new(config.copies), config.powers.epoch_blocks);
        let mut shell = Shell::new(engine, wal, jobs, peers.clone(), listed, copies.clone(), metrics);
        shell.tasks.push(tokio::spawn(copies.copy_regularly(config.copy_every_blocks)));
        shell.evidence = Some(config.evidence);
        let ended = shell.run(outputs, events, answers, worker, stop).await;
        peers.close().await;
        ended
    }

    fn show_certificate(&self) -> Option<ShowCertificate> {
        Some(show_certificate)
    }

    fn share_checkpoint(&self) -> Option<ShareCheckpoint> {
        share::sharer(self.config.chain_id, self.config.signer.as_ref()?)
    }
}

/// A certificate as contracts and their relayers take it: the header, and the signatures of those who signed, in order,
/// with a bitmap that says who (docs/spec/consensus.md).
fn show_certificate(header: &Sealed<Header>, bytes: &[u8]) -> Option<serde_json::Value> {
    let certificate = Certificate::decode(bytes).ok()?;
    let (validators, powers) = certificate.set.parts();
    let (signers, signatures) = certificate.packed_signatures();
    let powers: Vec<_> = powers.into_iter().map(|power| format!("{power:#x}")).collect();
    Some(serde_json::json!({
        "header": hex::encode_prefixed(alloy_rlp::encode(header.inner())),
        "round": format!("{:#x}", certificate.round),
        "validators": validators,
        "powers": powers,
        "signers": format!("{signers:#x}"),
        "signatures": signatures,
    }))
}

/// What a peer did wrong so far.
#[derive(Debug)]
struct Faults {
    count: u32,
    banished_until: Option<Instant>,
}

/// Everything around the engine.
struct Shell {
    engine: Engine,
    wal: Wal,
    clocks: Clocks,
    jobs: mpsc::Sender<Job>,
    peers: Peers,
    listed: Vec<TransportKey>,
    access: Access,
    copies: Service,
    incoming: mpsc::Sender<gossip::Incoming>,
    blames: mpsc::Receiver<TransportKey>,
    faults: HashMap<TransportKey, Faults>,
    serving: Arc<Semaphore>,
    evidence: Option<PathBuf>,
    metrics: Arc<Metrics>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shell {
    fn new(
        engine: Engine,
        wal: Wal,
        jobs: mpsc::Sender<Job>,
        peers: Peers,
        listed: Vec<TransportKey>,
        copies: Service,
        metrics: Arc<Metrics>,
    ) -> Self {
        let access = copies.access();
        let (incoming, transactions) = mpsc::channel(INCOMING_MAX);
        let (blame, blames) = mpsc::channel(INCOMING_MAX);
        let spread = gossip::spread(access.outbound(), peers.clone(), Arc::clone(&metrics));
        let expel = admission::expel(access.clone(), peers.clone());
        let take_in = gossip::take_in(transactions, access.clone(), peers.clone(), blame, Arc::clone(&metrics));
        Self {
            engine,
            wal,
            clocks: Clocks::default(),
            jobs,
            peers,
            listed,
            access,
            copies,
            incoming,
            blames,
            faults: HashMap::new(),
            serving: Arc::new(Semaphore::new(SERVED_AT_ONCE_MAX)),
            evidence: None,
            metrics,
            tasks: vec![tokio::spawn(spread), tokio::spawn(take_in), tokio::spawn(expel)],
        }
    }

    async fn run(
        mut self,
        outputs: Vec<Output>,
        mut events: PeersEvents,
        mut answers: mpsc::Receiver<Input>,
        mut worker: JoinHandle<Result<(), ConsensusError>>,
        stop: CancellationToken,
    ) -> Result<(), ConsensusError> {
        self.carry_out(outputs).await?;
        // Once told to stop, it finishes the block that it may have voted for, if the others let it in time.
        let mut drained_by = None;
        loop {
            let input = tokio::select! {
                biased;
                () = stop.cancelled(), if drained_by.is_none() => {
                    drained_by = Some(tokio::time::Instant::now() + DRAIN_MAX);
                    None
                }
                () = drain_ends(drained_by) => return Ok(()),
                ended = &mut worker => return ended.map_err(|error| ConsensusError::Writer(error.to_string()))?,
                Some(answer) = answers.recv() => Some(answer),
                Some(event) = events.urgent.recv() => self.hear(event),
                timer = self.clocks.next() => Some(Input::Timer(timer)),
                Some(peer) = self.blames.recv() => { self.blame(peer, "malformed transactions"); None }
                Some(event) = events.bulk.recv() => self.hear(event),
            };
            let Some(input) = input else { continue };
            if drained_by.is_some() && matches!(input, Input::Committed { .. }) {
                return Ok(());
            }
            let mut outputs = self.engine.handle(input);
            // What is here already shares the next sync.
            for _ in 0..BATCH_MAX {
                let Ok(event) = events.urgent.try_recv() else { break };
                if let Some(input) = self.hear(event) {
                    outputs.extend(self.engine.handle(input));
                }
            }
            self.carry_out(outputs).await?;
        }
    }

    /// An event of the network as an input of the engine, unless it is something else.
    fn hear(&mut self, event: PeerEvent) -> Option<Input> {
        match event {
            PeerEvent::Connected(peer) => {
                self.access.peer_came(peer.0);
                Some(Input::Connected(Peer(peer.0)))
            }
            PeerEvent::Disconnected(peer) => {
                self.access.peer_left(peer.0);
                Some(Input::Disconnected(Peer(peer.0)))
            }
            PeerEvent::Message(peer, bytes) => self.hear_message(peer, &Bytes(bytes)),
        }
    }

    fn hear_message(&mut self, peer: TransportKey, bytes: &Bytes) -> Option<Input> {
        Metrics::add(&self.metrics.messages_received, 1);
        if self.is_banished(peer) {
            return None;
        }
        match Message::decode(bytes) {
            Ok(Message::Transactions(transactions)) => {
                let listed = self.listed.contains(&peer);
                // A full queue drops them: votes matter more.
                let _ = self.incoming.try_send(gossip::Incoming { from: peer, listed, transactions });
                None
            }
            Ok(Message::Snapshot(message)) => {
                self.answer(peer, message);
                None
            }
            Ok(message) => {
                if let Message::Status { height } = message {
                    self.access.peer_is_at(peer.0, height);
                }
                Some(Input::Message(Peer(peer.0), message))
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "a malformed message");
                self.blame(peer, "a malformed message");
                None
            }
        }
    }

    fn is_banished(&self, peer: TransportKey) -> bool {
        let until = self.faults.get(&peer).and_then(|faults| faults.banished_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn blame(&mut self, peer: TransportKey, what: &'static str) {
        Metrics::add(&self.metrics.blames, 1);
        tracing::debug!(%peer, what, "a peer is at fault");
        if self.faults.len() >= FAULTY_MAX && !self.faults.contains_key(&peer) {
            self.faults.clear();
        }
        let faults = self.faults.entry(peer).or_insert(Faults { count: 0, banished_until: None });
        faults.count += 1;
        if faults.count >= FAULTS_MAX {
            tracing::warn!(%peer, what, "a peer is cut off for a minute");
            *faults = Faults { count: 0, banished_until: Some(Instant::now() + BANISHED) };
            self.peers.drop_peer(peer);
        }
    }

    /// Does what the engine says. All entries are made durable before the first thing that others could see.
    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), ConsensusError> {
        let mut rest = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Log(entry) => self.wal.append(&entry),
                Output::Round { height, round } => self.begin_round(height, round),
                other => rest.push(other),
            }
        }
        if rest.iter().any(is_visible) {
            Metrics::add(&self.metrics.log_syncs, 1);
            self.wal.sync().await.map_err(|error| engine_error(&error))?;
        }
        for output in rest {
            self.carry_out_one(output).await?;
        }
        Ok(())
    }

    async fn carry_out_one(&mut self, output: Output) -> Result<(), ConsensusError> {
        match output {
            // Done before.
            Output::Log(_) | Output::Round { .. } => {}
            Output::Broadcast(message) => self.broadcast(&message),
            Output::Send(peer, message) => self.send(peer, &message),
            Output::SetTimer(timer, after) => self.clocks.set(timer, after),
            Output::CancelTimer(timer) => self.clocks.cancel(timer),
            Output::CancelTimers => self.clocks.cancel_core(),
            Output::Build { height, round } => self.order(Job::Build { height, round }).await?,
            Output::Check { height, hash, block } => self.order(Job::Check { height, hash, block }).await?,
            Output::Commit { certificate, block } => self.order(Job::Commit { certificate, block }).await?,
            Output::Adopt { peer, certificate, block } => {
                Metrics::add(&self.metrics.blocks_adopted, 1);
                self.order(Job::Adopt { peer, certificate, block }).await?;
            }
            Output::Serve { peer, from } => self.serve(peer, from),
            Output::Evidence(evidence) => self.report(&evidence),
            Output::Blame(peer, what) => self.blame(TransportKey(peer.0), what),
            Output::Halt(reason) => return Err(ConsensusError::Engine(reason)),
        }
        Ok(())
    }

    fn begin_round(&mut self, height: u64, round: u32) {
        if height > self.wal.height() {
            // The block before is committed, so what was written about it is not needed any more.
            self.wal.begin(height);
        }
        if round > 0 {
            Metrics::add(&self.metrics.extra_rounds, 1);
        }
        Metrics::set(&self.metrics.height, height);
        Metrics::set(&self.metrics.round, round.into());
    }

    async fn order(&mut self, job: Job) -> Result<(), ConsensusError> {
        let gone = |_| ConsensusError::Writer("the worker is gone".to_owned());
        self.jobs.send(job).await.map_err(gone)
    }

    fn broadcast(&mut self, message: &Message) {
        let bytes: Bytes = message.encode().into();
        let reached = self.peers.broadcast(lane(message), &bytes.0, None);
        Metrics::add(&self.metrics.messages_sent, reached as u64);
        Metrics::add(&self.metrics.bytes_sent, (reached * bytes.len()) as u64);
    }

    fn send(&mut self, peer: Peer, message: &Message) {
        let bytes: Bytes = message.encode().into();
        if self.peers.send(TransportKey(peer.0), lane(message), &bytes.0) {
            Metrics::add(&self.metrics.messages_sent, 1);
            Metrics::add(&self.metrics.bytes_sent, bytes.len() as u64);
        }
    }

    /// Sends decided blocks on a thread of its own; more requests than can be served at once are dropped, for whoever
    /// asked asks again.
    fn serve(&self, peer: Peer, from: u64) {
        let Ok(permit) = Arc::clone(&self.serving).try_acquire_owned() else { return };
        let (access, peers) = (self.access.clone(), self.peers.clone());
        tokio::task::spawn_blocking(move || {
            let mut bytes_left = SERVED_BYTES_MAX;
            for number in from..from.saturating_add(SERVED_BLOCKS_MAX) {
                let Ok(Some((block, certificate))) = access.decided(number) else { break };
                let decided = DecidedBlock { block: worker::decided_bytes(block), certificate };
                let message: Bytes = Message::Decided(decided).encode().into();
                let sent = peers.send(TransportKey(peer.0), Lane::Bulk, &message.0);
                bytes_left = bytes_left.saturating_sub(message.len());
                if !sent || bytes_left == 0 {
                    break;
                }
            }
            drop(permit);
        });
    }

    /// Answers a question about copies of the state on a thread of its own.
    fn answer(&self, peer: TransportKey, question: SnapshotMessage) {
        if !question.is_question() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.serving).try_acquire_owned() else { return };
        let (copies, peers) = (self.copies.clone(), self.peers.clone());
        tokio::task::spawn_blocking(move || {
            if let Some(answer) = copies.answer(&question) {
                peers.send(peer, Lane::Bulk, &Bytes::from(Message::Snapshot(answer).encode()).0);
            }
            drop(permit);
        });
    }

    fn report(&self, evidence: &Evidence) {
        Metrics::add(&self.metrics.evidence, 1);
        let (who, height) = match evidence {
            Evidence::Votes(first, _) => (first.message.validator, first.message.height),
            Evidence::Proposals(first, _) => (first.message.proposer, first.message.height),
        };
        tracing::error!(validator = %who, %height, "a validator signed two things of which it may sign one");
        if let Some(path) = &self.evidence
            && let Err(error) = evidence::write(path, evidence)
        {
            tracing::error!(%error, path = %path.display(), "the proof of it could not be written");
        }
    }
}

async fn drain_ends(by: Option<tokio::time::Instant>) {
    match by {
        Some(by) => tokio::time::sleep_until(by).await,
        None => std::future::pending().await,
    }
}

fn lane(message: &Message) -> Lane {
    match message {
        Message::Decided(_) | Message::Transactions(_) | Message::Snapshot(_) => Lane::Bulk,
        _ => Lane::Urgent,
    }
}

fn is_visible(output: &Output) -> bool {
    matches!(output, Output::Broadcast(_) | Output::Send(..) | Output::Commit { .. } | Output::Halt(_))
}
