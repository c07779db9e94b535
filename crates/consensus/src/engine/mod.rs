//! The whole of a validator's part in consensus, without clock, network or disk.
//!
//! [`Engine::handle`] takes one [`Input`] and returns [`Output`]s to be carried out in their order; whoever carries
//! them out makes log entries durable before a message or a commit that follows them. The same engine runs in production
//! (`node`) and in the seeded simulation (`tests/it`). It wraps the Malachite core and adds what that leaves open: blocks
//! in parts, blocks asked for again, catching up, bounds on what peers may send ahead of time.
//!
//! Guarantees: no two different votes or proposals of one kind, height and round leave it, across restarts from its log;
//! nothing that a peer sends makes it panic or grow without bound; every decided block comes with its certificate.

mod blocks;
mod catch_up;
mod effects;
mod watch;

use std::{collections::HashMap, time::Duration};

use alloy::primitives::{B256, Bytes};
use cortensor_protocol::consensus::{Certificate, Domain, ValidatorSet};
use malachite::{Error as CoreError, LocallyProposedValue, Params, ProposedValue, State, process};
use malachite_types::{
    LinearTimeouts, Round, ThresholdParams, Timeout, TimeoutKind, Validity, ValueOrigin, ValuePayload,
    VoteExtensionPolicy,
};

use self::{catch_up::CatchUp, effects::Effects};
use crate::{
    certificate,
    message::{DecidedBlock, LogEntry, Message, parts},
    set::CoreSet,
    signing::Keeper,
    types::{BlockHash, Ctx, Height, SignedProposal, SignedVote, ValidatorAddress, round_number},
};

/// Another node, by its transport key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub B256);

/// Messages of one peer about the next height that are kept until it begins.
const AHEAD_PER_PEER_MAX: usize = 512;
/// Bytes of parts among them.
const AHEAD_BYTES_PER_PEER_MAX: usize = 4 << 20;
/// Times that one peer is sent a height's blocks for the asking.
const WANTS_PER_PEER_MAX: u32 = 8;
/// Peers whose early messages are kept.
const AHEAD_PEERS_MAX: usize = 256;

/// A clock to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// One of the core's.
    Core {
        /// The height it is for; it means nothing at another.
        height: u64,
        /// Which one.
        timeout: Timeout,
    },
    /// Time to look whether others are ahead.
    CatchUp,
}

/// Proof that a validator signed two things of which it may sign one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two votes of one kind, height and round.
    Votes(SignedVote, SignedVote),
    /// Two proposals of one height and round.
    Proposals(SignedProposal, SignedProposal),
}

/// What execution says about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows the head and may be decided.
    Valid,
    /// It may not.
    Invalid,
    /// The bytes are not the block with that hash: whoever sent them lies.
    NotTheBlock,
}

/// What happens to a validator.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message came.
    Message(Peer, Message),
    /// A clock rang.
    Timer(Timer),
    /// The block asked for is built.
    Built {
        /// Its number.
        height: u64,
        /// The round it is for.
        round: u32,
        /// Its hash.
        hash: B256,
        /// The block.
        block: Bytes,
    },
    /// A block was checked.
    Checked {
        /// Its number.
        height: u64,
        /// Its hash.
        hash: B256,
        /// What came out.
        verdict: Verdict,
    },
    /// A decided block is durable. `set` decides the next.
    Committed {
        /// Its number.
        height: u64,
        /// Who decides the next block.
        set: ValidatorSet,
    },
    /// A decided block that a peer sent is not what its certificate is for, or cannot be executed.
    Refused {
        /// Its number.
        height: u64,
        /// Who sent it.
        peer: Peer,
    },
    /// A peer can be reached.
    Connected(Peer),
    /// A peer cannot be reached any more.
    Disconnected(Peer),
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write this down. It must be durable before any later output but clocks is carried out.
    Log(LogEntry),
    /// Send to every peer.
    Broadcast(Message),
    /// Send to one peer.
    Send(Peer, Message),
    /// Set a clock, or set it anew.
    SetTimer(Timer, Duration),
    /// Stop a clock.
    CancelTimer(Timer),
    /// Stop all of the core's clocks.
    CancelTimers,
    /// A round begins.
    Round {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
    },
    /// Build a block and answer with [`Input::Built`].
    Build {
        /// Its number.
        height: u64,
        /// The round it is for.
        round: u32,
    },
    /// Check a block and answer with [`Input::Checked`].
    Check {
        /// Its number.
        height: u64,
        /// Its hash, as claimed.
        hash: B256,
        /// The block.
        block: Bytes,
    },
    /// Make a decided block durable and answer with [`Input::Committed`].
    Commit {
        /// The proof.
        certificate: Certificate,
        /// The block.
        block: Bytes,
    },
    /// Check that this block is the one that the certificate, which is verified, is for; make it durable; answer with
    /// [`Input::Committed`] or [`Input::Refused`].
    Adopt {
        /// Who sent it.
        peer: Peer,
        /// The proof.
        certificate: Certificate,
        /// The block.
        block: Bytes,
    },
    /// Send decided blocks from this one on to a peer.
    Serve {
        /// Who asks.
        peer: Peer,
        /// The first wanted.
        from: u64,
    },
    /// Tell the chain.
    Evidence(Box<Evidence>),
    /// A peer sent what no honest node sends.
    Blame(Peer, &'static str),
    /// Stop: going on might contradict what was said before.
    Halt(String),
}

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which chain.
    pub domain: Domain,
    /// The validator's key; none for a node that only follows.
    pub signer: Option<Keeper>,
    /// How long each step may take.
    pub timeouts: LinearTimeouts,
    /// How often a node looks whether others are ahead.
    pub catch_up_every: Duration,
}

/// One node's consensus.
pub struct Engine {
    state: State<Ctx>,
    effects: Effects,
    catch_up: CatchUp,
    ahead: HashMap<Peer, Vec<Message>>,
    /// How often each peer was sent blocks of this height for the asking.
    answered: HashMap<Peer, u32>,
    halted: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (height, round) = (self.effects.height, self.state.round());
        formatter.debug_struct("Engine").field("height", &height).field("round", &round).finish_non_exhaustive()
    }
}

impl Engine {
    /// Begins to decide the block with this number, whose set this is; `log` is what was written down about it before.
    #[must_use]
    pub fn start(settings: Settings, height: u64, set: ValidatorSet, log: Vec<LogEntry>) -> (Self, Vec<Output>) {
        let Settings { domain, signer, timeouts, catch_up_every } = settings;
        let address = signer.as_ref().map_or(ValidatorAddress(alloy::primitives::Address::ZERO), Keeper::address);
        let params = Params {
            address,
            threshold_params: ThresholdParams::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: signer.is_some(),
        };
        // Nothing is ever queued inside the core: what comes early waits in `ahead`.
        let state = State::new(Ctx, Height(height), CoreSet::from(&set), params, 1, 1);
        let effects = Effects::new(domain, signer, timeouts, Height(height), set);
        let catch_up = CatchUp::new(catch_up_every);
        let mut engine =
            Self { state, effects, catch_up, ahead: HashMap::new(), answered: HashMap::new(), halted: false };
        engine.effects.outputs.push(Output::SetTimer(Timer::CatchUp, catch_up_every));
        engine.recover(log);
        let outputs = engine.take_outputs();
        (engine, outputs)
    }

    /// The number of the block being decided.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.effects.height.0
    }

    /// What to do about something that happened.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        if self.halted {
            return Vec::new();
        }
        match input {
            Input::Message(peer, message) => self.on_message(peer, message),
            Input::Timer(Timer::CatchUp) => self.on_catch_up_timer(),
            Input::Timer(Timer::Core { height, timeout }) => self.on_core_timer(height, timeout),
            Input::Built { height, round, hash, block } => self.on_built(height, round, hash, block),
            Input::Checked { height, hash, verdict } => self.on_checked(height, hash, verdict),
            Input::Committed { height, set } => self.on_committed(height, set),
            Input::Refused { height, peer } => self.on_refused(height, peer),
            Input::Connected(peer) => {
                let status = Message::Status { height: self.height().saturating_sub(1) };
                self.catch_up.connected(peer);
                self.effects.outputs.push(Output::Send(peer, status));
            }
            Input::Disconnected(peer) => self.catch_up.disconnected(peer),
        }
        self.take_outputs()
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.effects.outputs)
    }

    /// Lets the core work on one input.
    fn core(&mut self, input: malachite::Input<Ctx>) {
        let Self { state, effects, .. } = self;
        let result: Result<(), CoreError<Ctx>> = process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => effects.handle(effect)
        );
        match result {
            Ok(()) => {}
            Err(error @ (CoreError::ReplayDivergence(..) | CoreError::UnexpectedResume(..))) => {
                self.halt(error.to_string());
            }
            Err(error) => tracing::warn!(%error, "the consensus core refused an input"),
        }
    }

    fn halt(&mut self, reason: String) {
        self.halted = true;
        self.effects.outputs.push(Output::Halt(reason));
    }

    fn start_core(&mut self) {
        let (height, set) = (self.effects.height, CoreSet::from(&self.effects.set));
        self.core(malachite::Input::StartHeight(height, set, true, None, VoteExtensionPolicy::Disabled));
    }

    /// Replays the log. What it holds is not written again; what follows from it and it lacks, is.
    fn recover(&mut self, log: Vec<LogEntry>) {
        self.effects.replaying = true;
        self.effects.replayed = log.iter().map(LogEntry::encode).collect();
        let inputs: Vec<_> = log.into_iter().filter_map(|entry| replay(entry, &mut self.effects)).collect();
        self.state.index_wal_entries(&inputs);
        self.start_core();
        for input in inputs {
            self.core(input);
        }
        self.state.reset_entries_index();
        self.effects.replaying = false;
        self.effects.replayed.clear();
        // A block that the core asked for while old entries were replayed is wanted only if none was proposed after all.
        let (round, proposing) = (self.state.round(), self.state.driver.step_is_propose());
        if proposing && self.effects.build == Some(round) {
            let (height, round) = (self.height(), round_number(round));
            self.effects.outputs.push(Output::Build { height, round });
        }
    }

    fn on_message(&mut self, peer: Peer, message: Message) {
        let height = match &message {
            Message::Vote(vote) => vote.message.height.0,
            Message::Proposal(proposal) => proposal.message.height.0,
            Message::Polka(polka) => polka.height.0,
            Message::RoundOver(certificate) => certificate.height.0,
            Message::Part(part) => part.height,
            Message::Want { height, block } => return self.on_want(peer, *height, *block),
            Message::Status { height } => return self.on_status(peer, *height),
            Message::SyncRequest { from } => return self.on_sync_request(peer, *from),
            Message::Decided(_) => {
                let Message::Decided(decided) = message else { return };
                return self.on_decided(peer, decided);
            }
            Message::Certified(certificate) => return self.on_certified(certificate),
            Message::Transactions(_) | Message::Snapshot(_) => return,
        };
        let current = self.height();
        if height == current {
            self.on_current(peer, message);
        } else if height == current + 1 {
            self.keep_ahead(peer, message);
        }
    }

    fn keep_ahead(&mut self, peer: Peer, message: Message) {
        if !self.ahead.contains_key(&peer) && self.ahead.len() >= AHEAD_PEERS_MAX {
            return;
        }
        let messages = self.ahead.entry(peer).or_default();
        let bytes = |message: &Message| if let Message::Part(part) = message { part.bytes.len() } else { 0 };
        let kept: usize = messages.iter().map(bytes).sum();
        if messages.len() < AHEAD_PER_PEER_MAX && kept + bytes(&message) <= AHEAD_BYTES_PER_PEER_MAX {
            messages.push(message);
        }
    }

    fn on_current(&mut self, peer: Peer, message: Message) {
        match message {
            Message::Vote(vote) => self.core(malachite::Input::Vote(vote)),
            Message::Proposal(proposal) => self.core(malachite::Input::Proposal(proposal)),
            Message::Polka(polka) => self.core(malachite::Input::PolkaCertificate(polka)),
            Message::RoundOver(certificate) => self.core(malachite::Input::RoundCertificate(certificate)),
            Message::Part(part) => {
                let (fits, check) = self.effects.blocks.add_part(peer, part);
                if !fits {
                    self.effects.outputs.push(Output::Blame(peer, "a part that belongs to no block"));
                }
                self.effects.outputs.extend(check);
            }
            // All others were taken care of before.
            _ => {}
        }
    }

    fn on_want(&mut self, peer: Peer, height: u64, block: B256) {
        if height != self.height() {
            return;
        }
        if let Some(bytes) = self.effects.blocks.get(block) {
            let answered = self.answered.entry(peer).or_insert(0);
            *answered += 1;
            if *answered > WANTS_PER_PEER_MAX {
                return;
            }
            let answers = parts(height, block, &bytes).map(|part| Output::Send(peer, Message::Part(part)));
            self.effects.outputs.extend(answers);
        }
    }

    /// Holds the votes of another's certificate against those that this node saw. Nothing else follows from it.
    fn on_certified(&mut self, certificate: &[u8]) {
        let Ok(certificate) = Certificate::decode(certificate) else { return };
        for vote in certificate::votes(&certificate) {
            if self.effects.watch.contradicts(&vote) {
                self.effects.verify_vote(&vote);
            }
        }
    }

    fn on_core_timer(&mut self, height: u64, timeout: Timeout) {
        if height != self.height() {
            return;
        }
        self.core(malachite::Input::TimeoutElapsed(timeout));
        // The pace at which votes are repeated is also that at which a missing block is asked for.
        if timeout.kind == TimeoutKind::Rebroadcast
            && let Some(block) = self.effects.blocks.lacking()
            && let Some(peer) = self.catch_up.any_peer()
        {
            self.effects.outputs.push(Output::Send(peer, Message::Want { height, block }));
        }
    }

    fn on_built(&mut self, height: u64, round: u32, hash: B256, block: Bytes) {
        let waiting = self.state.round() == Round::new(round) && self.state.driver.step_is_propose();
        if height != self.height() || !waiting {
            return;
        }
        self.effects.keep_block(hash, block);
        let proposed = LocallyProposedValue::new(Height(height), Round::new(round), BlockHash(hash));
        self.core(malachite::Input::Propose(proposed));
    }

    fn on_checked(&mut self, height: u64, hash: B256, verdict: Verdict) {
        if height != self.height() {
            return;
        }
        let Some((peer, bytes)) = self.effects.blocks.checked(hash) else { return };
        let validity = match verdict {
            Verdict::Valid => Validity::Valid,
            Verdict::Invalid => Validity::Invalid,
            Verdict::NotTheBlock => {
                let other = self.effects.blocks.reject(peer, hash);
                self.effects.outputs.push(Output::Blame(peer, "a block that is not what its hash says"));
                self.effects.outputs.extend(other);
                return;
            }
        };
        let Some((round, proposer)) = self.effects.blocks.origin(hash) else { return };
        // Invalid blocks are kept as well: two thirds may know better, and others may ask for it.
        self.effects.keep_block(hash, bytes);
        let value = ProposedValue {
            height: Height(height),
            round,
            valid_round: Round::Nil,
            proposer,
            value: BlockHash(hash),
            validity,
        };
        self.core(malachite::Input::ProposedValue(value, ValueOrigin::Consensus));
    }

    fn on_committed(&mut self, height: u64, set: ValidatorSet) {
        if height != self.height() {
            return;
        }
        self.adopted();
        self.answered.clear();
        self.effects.new_height(Height(height + 1), set);
        self.effects.outputs.push(Output::Broadcast(Message::Status { height }));
        // One peer at a time: whoever votes differently to different peers does so again and again.
        if let (Some(certificate), Some(peer)) = (self.effects.certified.clone(), self.catch_up.any_peer()) {
            self.effects.outputs.push(Output::Send(peer, Message::Certified(certificate)));
        }
        self.start_core();
        for (peer, messages) in std::mem::take(&mut self.ahead) {
            for message in messages {
                self.on_current(peer, message);
            }
        }
        self.adopt_next();
    }
}

/// An entry of the log as an input of the core; a block is kept instead.
fn replay(entry: LogEntry, effects: &mut Effects) -> Option<malachite::Input<Ctx>> {
    Some(match entry {
        LogEntry::Vote(vote) => malachite::Input::Vote(vote),
        LogEntry::Proposal(proposal) => malachite::Input::Proposal(proposal),
        LogEntry::Polka(polka) => malachite::Input::PolkaCertificate(polka),
        LogEntry::Timeout(timeout) => malachite::Input::TimeoutElapsed(timeout),
        LogEntry::Verdict { round, proposer, block, validity } => {
            let value = ProposedValue {
                height: effects.height,
                round: Round::new(round),
                valid_round: Round::Nil,
                proposer: ValidatorAddress(proposer),
                value: BlockHash(block),
                validity,
            };
            malachite::Input::ProposedValue(value, ValueOrigin::Consensus)
        }
        LogEntry::Block { hash, bytes } => {
            effects.blocks.keep(hash, bytes);
            return None;
        }
    })
}

/// A decided block as a peer sends it, parsed.
fn parse_decided(decided: &DecidedBlock) -> Option<Certificate> {
    Certificate::decode(&decided.certificate).ok()
}
