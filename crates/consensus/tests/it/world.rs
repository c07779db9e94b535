//! A world of engines: virtual time, a network that loses, delays, repeats and reorders, disks that lose what was not
//! synced, validators that crash, and some that lie. Everything follows from one seed.
//!
//! The world checks on its own, at every step: no two blocks at one height, no honest validator signs two things of one
//! kind, height and round, every certificate holds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use alloy::primitives::{B256, Bytes, keccak256};
use cortensor_consensus::{
    engine::{Engine, Evidence, Input, Output, Peer, Settings, Timer, Verdict},
    message::{DecidedBlock, LogEntry, Message},
    signing::Signer,
    types::{SignedVote, ValidatorAddress},
};
use cortensor_protocol::consensus::{Certificate, Domain, Validator, ValidatorSet};
use malachite_types::{LinearTimeouts, NilOrVal, VoteType};

use crate::byzantine::Lie;

const CHAIN_ID: u64 = 77;
/// Virtual microseconds.
type Time = u64;
const MS: Time = 1_000;

/// A small deterministic generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn per_cent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How bad the network and the machines are until they heal.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Messages lost, in per cent.
    pub loss: u64,
    /// Messages sent twice, in per cent.
    pub repeats: u64,
    /// Longest delay.
    pub delay_ms_max: u64,
    /// A validator crashes while it carries out outputs, once in so many steps; 0 for never.
    pub crash_once_in: u64,
    /// Groups that do not hear each other: validator i is in group i % groups.
    pub groups: usize,
    /// When all of this ends.
    pub heals_at_ms: u64,
}

impl Weather {
    pub fn fine() -> Self {
        Self { loss: 0, repeats: 0, delay_ms_max: 5, crash_once_in: 0, groups: 1, heals_at_ms: 0 }
    }
}

#[derive(Debug)]
enum Event {
    Deliver { to: usize, from: usize, message: Box<Message> },
    Ring { node: usize, life: u64, timer: Timer, setting: u64 },
    Done { node: usize, life: u64, input: Box<Input> },
    Commit { node: usize, life: u64, certificate: Box<Certificate>, block: Bytes },
    Restart { node: usize },
}

/// One validator's machine.
pub struct Node {
    engine: Option<Engine>,
    pub signer: Signer,
    pub lie: Option<Lie>,
    life: u64,
    timers: HashMap<Timer, u64>,
    log: Vec<LogEntry>,
    unsynced: Vec<LogEntry>,
    chain: Vec<(Bytes, Certificate)>,
    pub convicted: HashSet<ValidatorAddress>,
    pub blamed: HashSet<Peer>,
}

/// Everything.
pub struct World {
    pub dice: Dice,
    pub weather: Weather,
    pub nodes: Vec<Node>,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    bodies: HashMap<u64, Event>,
    serial: u64,
    ledger: Vec<B256>,
    signed: HashMap<(usize, VoteType, u64, i64), Option<B256>>,
    powers: Vec<u64>,
    seed: u64,
}

/// What follows a block hash in this world: parent, builder, a number, and a mark of validity.
pub fn block(parent: B256, builder: usize, number: u64, valid: bool, padding: usize) -> (B256, Bytes) {
    let mut bytes = parent.to_vec();
    bytes.extend_from_slice(&(builder as u64).to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.push(valid.into());
    bytes.resize(bytes.len() + padding, 0);
    (keccak256(&bytes), bytes.into())
}

impl World {
    pub fn new(seed: u64, powers: &[u64], weather: Weather) -> Self {
        let domain = Domain::new(CHAIN_ID);
        let node = |index: usize| Node {
            engine: None,
            signer: Signer::new(&keccak256([index as u8 + 1]), domain).unwrap(),
            lie: None,
            life: 0,
            timers: HashMap::new(),
            log: Vec::new(),
            unsynced: Vec::new(),
            chain: Vec::new(),
            convicted: HashSet::new(),
            blamed: HashSet::new(),
        };
        let mut world = Self {
            dice: Dice::new(seed),
            weather,
            nodes: (0..powers.len()).map(node).collect(),
            now: 0,
            events: BinaryHeap::new(),
            bodies: HashMap::new(),
            serial: 0,
            ledger: Vec::new(),
            signed: HashMap::new(),
            powers: powers.to_vec(),
            seed,
        };
        for node in 0..powers.len() {
            world.at(0, Event::Restart { node });
        }
        world
    }

    /// Keeps a validator off until then.
    pub fn start_later(&mut self, node: usize, at_ms: u64) {
        let mut kept = BinaryHeap::new();
        for Reverse((time, id)) in std::mem::take(&mut self.events) {
            let moved = matches!(self.bodies[&id], Event::Restart { node: other } if other == node);
            kept.push(Reverse((if moved { at_ms * MS } else { time }, id)));
        }
        self.events = kept;
    }

    /// Who decides a height: powers rotate among validators every four heights.
    fn set(&self, height: u64) -> ValidatorSet {
        let shift = (height / 4) as usize;
        let power = |index: usize| self.powers[(index + shift) % self.powers.len()];
        let validators = self.nodes.iter().enumerate();
        let validators =
            validators.map(|(index, node)| Validator { address: node.signer.address().0, power: power(index) });
        ValidatorSet::new(validators.collect()).unwrap()
    }

    fn at(&mut self, time: Time, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((time, self.serial)));
        self.bodies.insert(self.serial, event);
    }

    fn stormy(&self) -> bool {
        self.now < self.weather.heals_at_ms * MS
    }

    /// Heights that honest validators reached: the least and the most.
    pub fn heights(&self) -> (usize, usize) {
        let honest = self.nodes.iter().filter(|node| node.lie.is_none()).map(|node| node.chain.len());
        (honest.clone().min().unwrap(), honest.max().unwrap())
    }

    pub fn hour_ms(&self) -> u64 {
        self.now / MS
    }

    /// Runs until every honest validator has this many blocks, or fails at this time.
    pub fn run_to(&mut self, blocks: usize, limit_ms: u64) {
        while self.heights().0 < blocks {
            assert!(
                self.now < limit_ms * MS,
                "seed {}: no progress: {:?} of {blocks} blocks",
                self.seed,
                self.heights()
            );
            self.step();
        }
    }

    /// Runs until this time.
    pub fn run_until(&mut self, time_ms: u64) {
        while self.now < time_ms * MS {
            self.step();
        }
    }

    fn step(&mut self) {
        let Reverse((time, id)) = self.events.pop().expect("clocks ring for ever");
        self.now = self.now.max(time);
        match self.bodies.remove(&id).expect("each event happens once") {
            Event::Restart { node } => self.start(node),
            Event::Deliver { to, from, message } => {
                // What arrives has been through the codec.
                let message = Message::decode(&message.encode()).unwrap();
                self.handle(to, Input::Message(Peer(B256::with_last_byte(from as u8)), message));
            }
            Event::Ring { node, life, timer, setting } => {
                let current = self.nodes[node].timers.get(&timer) == Some(&setting);
                if life == self.nodes[node].life && current {
                    self.nodes[node].timers.remove(&timer);
                    self.handle(node, Input::Timer(timer));
                }
            }
            Event::Done { node, life, input } if life == self.nodes[node].life => self.handle(node, *input),
            Event::Commit { node, life, certificate, block } if life == self.nodes[node].life => {
                self.commit(node, *certificate, block);
            }
            Event::Done { .. } | Event::Commit { .. } => {}
        }
    }

    fn start(&mut self, node: usize) {
        let height = self.nodes[node].chain.len() as u64 + 1;
        let set = self.set(height);
        let timeouts = LinearTimeouts {
            propose: Duration::from_millis(150),
            propose_delta: Duration::from_millis(50),
            prevote: Duration::from_millis(80),
            prevote_delta: Duration::from_millis(50),
            precommit: Duration::from_millis(80),
            precommit_delta: Duration::from_millis(50),
            rebroadcast: Duration::from_millis(200),
            max_timeout: Duration::from_secs(3),
        };
        let settings = Settings {
            domain: Domain::new(CHAIN_ID),
            signer: Some(self.nodes[node].signer.clone().into()),
            timeouts,
            catch_up_every: Duration::from_millis(100),
        };
        let log = self.nodes[node].log.clone();
        let log = log.iter().map(|entry| LogEntry::decode(&entry.encode()).unwrap()).collect();
        let (engine, outputs) = Engine::start(settings, height, set, log);
        self.nodes[node].life += 1;
        self.nodes[node].timers.clear();
        self.nodes[node].engine = Some(engine);
        self.carry_out(node, outputs);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.handle(node, Input::Connected(Peer(B256::with_last_byte(other as u8))));
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        if let Some(engine) = &mut self.nodes[node].engine {
            let outputs = engine.handle(input);
            self.carry_out(node, outputs);
        }
    }

    fn crash(&mut self, node: usize) {
        let torn = self.dice.below(self.nodes[node].unsynced.len() as u64 + 1) as usize;
        let down = (1 + self.dice.below(400)) * MS;
        let machine = &mut self.nodes[node];
        machine.engine = None;
        machine.life += 1;
        machine.log.extend(machine.unsynced.drain(..torn));
        machine.unsynced.clear();
        self.at(self.now + down, Event::Restart { node });
    }

    fn carry_out(&mut self, node: usize, outputs: Vec<Output>) {
        for output in outputs {
            if self.nodes[node].engine.is_none() {
                return;
            }
            let crash = self.weather.crash_once_in;
            if self.stormy() && crash > 0 && self.dice.below(crash) == 0 {
                return self.crash(node);
            }
            self.carry_out_one(node, output);
        }
    }

    fn carry_out_one(&mut self, node: usize, output: Output) {
        let life = self.nodes[node].life;
        let soon = self.now + (1 + self.dice.below(3)) * MS;
        match output {
            Output::Log(entry) => self.nodes[node].unsynced.push(entry),
            Output::Broadcast(message) => {
                self.sync(node);
                self.broadcast(node, &message);
            }
            Output::Send(Peer(peer), message) => {
                self.sync(node);
                self.send(node, usize::from(peer[31]), &message);
            }
            Output::SetTimer(timer, after) => {
                self.serial += 1;
                let setting = self.serial;
                self.nodes[node].timers.insert(timer, setting);
                let after = Time::try_from(after.as_micros()).unwrap();
                self.at(self.now + after, Event::Ring { node, life, timer, setting });
            }
            Output::CancelTimer(timer) => drop(self.nodes[node].timers.remove(&timer)),
            Output::CancelTimers => self.nodes[node].timers.retain(|timer, _| *timer == Timer::CatchUp),
            Output::Round { .. } => {}
            Output::Build { height, round } => {
                let (hash, block) = self.build(node);
                let input = Box::new(Input::Built { height, round, hash, block });
                self.at(soon, Event::Done { node, life, input });
            }
            Output::Check { height, hash, block } => {
                let verdict = self.check(node, hash, &block);
                self.at(soon, Event::Done { node, life, input: Box::new(Input::Checked { height, hash, verdict }) });
            }
            Output::Commit { certificate, block } => {
                self.sync(node);
                self.at(soon, Event::Commit { node, life, certificate: Box::new(certificate), block });
            }
            Output::Adopt { peer, certificate, block } => {
                if keccak256(&block) == certificate.block_hash {
                    self.at(soon, Event::Commit { node, life, certificate: Box::new(certificate), block });
                } else {
                    let input = Box::new(Input::Refused { height: certificate.height, peer });
                    self.at(soon, Event::Done { node, life, input });
                }
            }
            Output::Serve { peer: Peer(peer), from } => self.serve(node, usize::from(peer[31]), from),
            Output::Evidence(evidence) => self.convict(node, &evidence),
            Output::Blame(peer, _) => drop(self.nodes[node].blamed.insert(peer)),
            Output::Halt(reason) => panic!("seed {}: validator {node} halted: {reason}", self.seed),
        }
    }

    fn convict(&mut self, node: usize, evidence: &Evidence) {
        let who = match evidence {
            Evidence::Votes(first, second) => {
                let place = |vote: &SignedVote| (vote.message.kind, vote.message.height, vote.message.round);
                assert_eq!(place(first), place(second));
                assert_ne!(first.message.block, second.message.block);
                first.message.validator
            }
            Evidence::Proposals(first, second) => {
                assert_ne!(first.message, second.message);
                first.message.proposer
            }
        };
        self.nodes[node].convicted.insert(who);
    }

    fn sync(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.log.append(&mut node.unsynced);
    }

    fn head(&self, node: usize) -> B256 {
        self.nodes[node].chain.last().map_or(B256::ZERO, |(_, certificate)| certificate.block_hash)
    }

    /// Some blocks have several parts.
    pub fn build(&mut self, node: usize) -> (B256, Bytes) {
        let padding = if self.dice.per_cent(5) { 150_000 } else { 0 };
        let valid = self.nodes[node].lie != Some(Lie::BadBlocks);
        let number = self.dice.next();
        block(self.head(node), node, number, valid, padding)
    }

    fn check(&self, node: usize, hash: B256, block: &Bytes) -> Verdict {
        if keccak256(block) != hash {
            return Verdict::NotTheBlock;
        }
        let valid = block[..32] == self.head(node)[..] && block[48] == 1;
        if valid { Verdict::Valid } else { Verdict::Invalid }
    }

    fn commit(&mut self, node: usize, certificate: Certificate, block: Bytes) {
        let height = self.nodes[node].chain.len() as u64 + 1;
        if certificate.height != height {
            return;
        }
        let (seed, hash) = (self.seed, certificate.block_hash);
        assert_eq!(keccak256(&block), hash, "seed {seed}: a certificate for another block");
        let held = certificate.verify(&Domain::new(CHAIN_ID), height, hash, self.set(height).hash());
        assert_eq!(held, Ok(()), "seed {seed}: a certificate that proves nothing");
        if self.nodes[node].lie.is_none() {
            assert_eq!(block[48], 1, "seed {seed}: an invalid block was decided");
            match self.ledger.get(height as usize - 1) {
                Some(decided) => assert_eq!(*decided, hash, "seed {seed}: two blocks at height {height}"),
                None => self.ledger.push(hash),
            }
        }
        let machine = &mut self.nodes[node];
        machine.chain.push((block, certificate));
        machine.log.clear();
        machine.unsynced.clear();
        let set = self.set(height + 1);
        self.handle(node, Input::Committed { height, set });
    }

    fn serve(&mut self, node: usize, to: usize, from: u64) {
        let blocks = self.nodes[node].chain.iter().skip(from as usize - 1).take(8);
        let decided = |(block, certificate): &(Bytes, Certificate)| {
            Message::Decided(DecidedBlock { block: block.clone(), certificate: certificate.encode() })
        };
        let messages: Vec<_> = blocks.map(decided).collect();
        for message in messages {
            self.send(node, to, &message);
        }
    }

    fn broadcast(&mut self, node: usize, message: &Message) {
        if self.nodes[node].lie.is_none()
            && let Message::Vote(vote) = message
        {
            self.check_signed(node, vote);
        }
        for to in 0..self.nodes.len() {
            if to != node {
                let lie = self.nodes[node].lie;
                let told = lie.map_or(Some(message.clone()), |lie| lie.tell(self, node, to, message.clone()));
                if let Some(message) = told {
                    self.send(node, to, &message);
                }
            }
        }
    }

    fn check_signed(&mut self, node: usize, vote: &SignedVote) {
        let message = &vote.message;
        let key = (node, message.kind, message.height.0, message.round.as_i64());
        let block = match message.block {
            NilOrVal::Nil => None,
            NilOrVal::Val(hash) => Some(hash.0),
        };
        let first = *self.signed.entry(key).or_insert(block);
        if vote.message.validator == self.nodes[node].signer.address() {
            assert_eq!(first, block, "seed {}: validator {node} signed twice: {message:?}", self.seed);
        }
    }

    pub fn send(&mut self, from: usize, to: usize, message: &Message) {
        let (stormy, weather) = (self.stormy(), self.weather.clone());
        let apart = from % weather.groups != to % weather.groups;
        if stormy && (apart || self.dice.per_cent(weather.loss)) {
            return;
        }
        let copies = if stormy && self.dice.per_cent(weather.repeats) { 2 } else { 1 };
        for _ in 0..copies {
            let longest = if stormy { weather.delay_ms_max } else { 5 };
            let delay = MS / 4 + self.dice.below(longest * MS);
            self.at(self.now + delay, Event::Deliver { to, from, message: Box::new(message.clone()) });
        }
    }
}
