//! Whoever owns the chain's writer: builds, checks and commits blocks, one after the other, while votes go on.

use std::{collections::HashMap, time::Duration};

use alloy::{
    consensus::{Header, Sealed},
    primitives::{Address, B256, Bytes},
    sol,
    sol_types::SolCall as _,
};
use cortensor_chain::{BlockProducer, CheckError, ConsensusError, Proposal};
use cortensor_protocol::consensus::{Certificate, Domain, ValidatorSet};
use tokio::{sync::mpsc, time::Instant};

use super::block::{Envelope, mix};
use crate::{
    engine::{Input, Peer, Verdict},
    signing::Keeper,
    types::Signature,
    upgrade::Unknown,
};

sol! {
    /// The part of the Validators contract that consensus reads.
    function setAt(uint64 height) external view returns (address[] validators, uint64[] powers);
}

/// Executed blocks of one height that are kept until it is decided.
const EXECUTED_MAX: usize = 8;

/// What the worker is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Build { height: u64, round: u32 },
    Check { height: u64, hash: B256, block: Bytes },
    Commit { certificate: Certificate, block: Bytes },
    Adopt { peer: Peer, certificate: Certificate, block: Bytes },
}

/// Where voting powers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowersFrom {
    /// The Validators contract; none keeps the set of block 0 for ever.
    pub contract: Option<Address>,
    /// Other contracts, each with the block from which on its set decides, in rising order.
    pub changes: Vec<(u64, Address)>,
    /// Blocks in an epoch; at least 2.
    pub epoch_blocks: u64,
}

impl PowersFrom {
    /// The contract that names the set which decides this block.
    fn contract_at(&self, height: u64) -> Option<Address> {
        let changed = self.changes.iter().rev().find(|(from, _)| *from <= height);
        changed.map(|(_, contract)| *contract).or(self.contract)
    }

    /// Whether the block after this one may be decided by another set (rule S3).
    #[must_use]
    pub fn ends_epoch(&self, height: u64) -> bool {
        (height + 1).is_multiple_of(self.epoch_blocks.max(1))
    }
}

pub(crate) struct Worker {
    producer: BlockProducer,
    domain: Domain,
    signer: Option<Keeper>,
    powers: PowersFrom,
    /// How long a block without transactions is put off.
    empty_every: Duration,
    /// Who decides the block after the head.
    set: ValidatorSet,
    executed: HashMap<B256, Proposal>,
    last: Instant,
    waiting: Option<(u64, u32)>,
    /// The first upgrade that this program does not know.
    unknown: Option<Unknown>,
    results: mpsc::Sender<Input>,
}

impl Worker {
    pub(crate) fn new(
        producer: BlockProducer,
        signer: Option<Keeper>,
        domain: Domain,
        powers: PowersFrom,
        empty_every: Duration,
        set: ValidatorSet,
        results: mpsc::Sender<Input>,
    ) -> Self {
        let (executed, last, waiting) = (HashMap::new(), Instant::now(), None);
        Self { producer, domain, signer, powers, empty_every, set, executed, last, waiting, unknown: None, results }
    }

    /// Stops before this upgrade.
    pub(crate) fn stopping_before(self, unknown: Option<Unknown>) -> Self {
        Self { unknown, ..self }
    }

    /// Works until nobody asks any more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), ConsensusError> {
        loop {
            let due = self.last + self.empty_every;
            let building = self.waiting;
            let answer = tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    None => return Ok(()),
                    Some(job) => self.work(job).await?,
                },
                () = self.producer.transactions_ready(), if building.is_some() => self.build_waiting(building).await?,
                () = tokio::time::sleep_until(due), if building.is_some() => self.build_waiting(building).await?,
            };
            if let Some(answer) = answer
                && self.results.send(answer).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn work(&mut self, job: Job) -> Result<Option<Input>, ConsensusError> {
        match job {
            Job::Build { height, round } => {
                self.waiting = Some((height, round));
                Ok(None)
            }
            Job::Check { height, hash, block } => {
                if height != self.next() {
                    return Ok(None);
                }
                let verdict = self.check(hash, &block).await?;
                Ok(Some(Input::Checked { height, hash, verdict }))
            }
            Job::Commit { certificate, block } => {
                let height = certificate.height;
                match self.decide(certificate, &block).await? {
                    true => Ok(Some(Input::Committed { height, set: self.set.clone() })),
                    // Two thirds decided what this node cannot execute: nothing that it could do now would be right.
                    false => Err(ConsensusError::Engine(format!("block {height} was decided but is not valid here"))),
                }
            }
            Job::Adopt { peer, certificate, block } => {
                let height = certificate.height;
                match self.decide(certificate, &block).await? {
                    true => Ok(Some(Input::Committed { height, set: self.set.clone() })),
                    false => Ok(Some(Input::Refused { height, peer })),
                }
            }
        }
    }

    fn next(&self) -> u64 {
        self.producer.head().number + 1
    }

    /// Who decides the block after the next. Every node reads it from the same state (rule S3).
    fn set_after_next(&self) -> ValidatorSet {
        let next = self.next();
        let contract = self.powers.contract_at(next + 1).filter(|_| self.powers.ends_epoch(next));
        let Some(contract) = contract else {
            return self.set.clone();
        };
        read_set(&self.producer, contract, next + 1).unwrap_or_else(|| self.set.clone())
    }

    async fn build_waiting(&mut self, waiting: Option<(u64, u32)>) -> Result<Option<Input>, ConsensusError> {
        self.waiting = None;
        match (waiting, self.signer.clone()) {
            (Some((height, round)), Some(signer)) if height == self.next() => {
                self.build(height, round, &signer).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn build(&mut self, height: u64, round: u32, signer: &Keeper) -> Result<Input, ConsensusError> {
        let beacon = signer.beacon(height).map_err(|error| ConsensusError::Engine(error.to_string()))?;
        let head = self.producer.head();
        let mut attributes = self.producer.attributes();
        attributes.coinbase = signer.address().0;
        attributes.prev_randao = mix(head.mix_hash, &beacon);
        attributes.extra_data = self.set_after_next().hash().into();
        let proposal = self.producer.build(attributes).await?;
        let hash = proposal.header().hash();
        let block = Envelope { block: proposal.to_block(), beacon }.encode();
        self.keep(hash, proposal);
        Ok(Input::Built { height, round, hash, block })
    }

    fn keep(&mut self, hash: B256, proposal: Proposal) {
        if self.executed.len() >= EXECUTED_MAX {
            self.executed.clear();
        }
        self.executed.insert(hash, proposal);
    }

    async fn check(&mut self, hash: B256, block: &[u8]) -> Result<Verdict, ConsensusError> {
        if self.executed.contains_key(&hash) {
            return Ok(Verdict::Valid);
        }
        let Some((envelope, header)) = Envelope::decode(block, hash) else {
            return Ok(Verdict::NotTheBlock);
        };
        if !envelope.beacon_holds(&self.domain, &self.producer.head()) {
            return Ok(Verdict::NotTheBlock);
        }
        let member = self.set.power_of(header.beneficiary).is_some();
        if !member || header.extra_data[..] != self.set_after_next().hash()[..] {
            return Ok(blame(&envelope));
        }
        match self.producer.check(envelope.block.clone()).await {
            Ok(proposal) => {
                self.keep(hash, proposal);
                Ok(Verdict::Valid)
            }
            Err(error) => {
                of_the_block(&header, error)?;
                Ok(blame(&envelope))
            }
        }
    }

    /// Commits a decided block, executing it first if need be. False when it cannot be.
    async fn decide(&mut self, certificate: Certificate, block: &[u8]) -> Result<bool, ConsensusError> {
        if certificate.height < self.next() {
            // Taken over and decided at the same time.
            return Ok(true);
        }
        let proposal = match self.executed.remove(&certificate.block_hash) {
            Some(proposal) => proposal,
            None => match self.execute_decided(certificate.block_hash, block).await? {
                Some(proposal) => proposal,
                None => return Ok(false),
            },
        };
        let set = self.set_after_next();
        let header = self.producer.commit(proposal, certificate.encode()).await?;
        tracing::debug!(number = header.number, hash = %header.hash(), round = certificate.round, "a block was decided");
        self.executed.clear();
        self.set = set;
        self.last = Instant::now();
        match self.unknown.take_if(|unknown| unknown.height <= header.number + 1) {
            Some(unknown) => Err(ConsensusError::Engine(unknown.to_string())),
            None => Ok(true),
        }
    }

    async fn execute_decided(&mut self, hash: B256, block: &[u8]) -> Result<Option<Proposal>, ConsensusError> {
        let Some((envelope, header)) = Envelope::decode(block, hash) else {
            return Ok(None);
        };
        if header.extra_data[..] != self.set_after_next().hash()[..] {
            return Ok(None);
        }
        match self.producer.check_decided(envelope.block).await {
            Ok(proposal) => Ok(Some(proposal)),
            Err(error) => of_the_block(&header, error).map(|()| None),
        }
    }
}

/// Who is at fault for a block that does not hold: its proposer, or whoever sent other transactions with its header.
fn blame(envelope: &Envelope) -> Verdict {
    if envelope.holds_its_transactions() { Verdict::Invalid } else { Verdict::NotTheBlock }
}

/// What is wrong with a block is the block's fault; what is wrong with this node stops it.
fn of_the_block(header: &Sealed<Header>, error: CheckError) -> Result<(), ConsensusError> {
    match error {
        CheckError::Writer(problem) => Err(ConsensusError::Writer(problem)),
        CheckError::Execute(cortensor_chain::ExecuteError::Store(error)) => Err(error.into()),
        error => {
            tracing::warn!(number = header.number, hash = %header.hash(), %error, "a proposed block is not valid");
            Ok(())
        }
    }
}

/// The set that the contract names for a height; none when it names none that could decide.
fn read_set(producer: &BlockProducer, contract: Address, height: u64) -> Option<ValidatorSet> {
    let answer = producer.read(contract, setAtCall { height }.abi_encode().into());
    let answer =
        answer.inspect_err(|error| tracing::warn!(%contract, %error, "the validators contract gives no set")).ok()?;
    let set = setAtCall::abi_decode_returns(&answer).ok()?;
    let set = ValidatorSet::from_parts(&set.validators, &set.powers);
    set.inspect_err(|error| tracing::warn!(%contract, %error, "the validators contract gives no usable set")).ok()
}

/// Who decides the block after the head: the set that decided the head, or the one the contract names if the head is its
/// epoch's last. The head's header commits to it.
pub(crate) fn set_after_head(
    producer: &BlockProducer,
    genesis: &ValidatorSet,
    powers: &PowersFrom,
) -> Result<ValidatorSet, ConsensusError> {
    let head = producer.head();
    let decided_by = match producer.access().certified(head.number)? {
        Some((_, certificate)) => Certificate::decode(&certificate).ok().map(|certificate| certificate.set),
        None => None,
    };
    let named =
        || powers.contract_at(head.number + 1).and_then(|contract| read_set(producer, contract, head.number + 1));
    let candidates = [Some(genesis.clone()).filter(|_| head.number == 0), decided_by, named()];
    let committed = |set: &ValidatorSet| set.hash()[..] == head.extra_data[..];
    candidates.into_iter().flatten().find(committed).ok_or_else(|| {
        let number = head.number;
        ConsensusError::Engine(format!("no validator set is known that the header of block {number} commits to"))
    })
}

/// What a block looks like when it is sent to those who catch up.
pub(crate) fn decided_bytes(block: cortensor_chain::ProposedBlock) -> Bytes {
    Envelope { block, beacon: Signature::ZERO }.encode()
}
