//! The seam between the chain and whatever decides its next block.
//!
//! A [`Consensus`] owns the chain's only [`BlockProducer`]: it is the single writer, and decides when a block is built,
//! whether one that came from elsewhere is right, and when one is final. The chain does the rest. A Byzantine
//! fault-tolerant engine implements the same trait: `build` answers "what do you propose", `check` answers "is this
//! proposal valid", `commit` is "this was decided" with the certificate that proves it. [`Solo`] is the engine of one
//! validator, which decides alone.
//!
//! Guarantees: a committed block is durable before anyone sees it, and final; there are no reorganisations.

use std::sync::Arc;

use alloy::{
    consensus::{Header, Sealable as _, Sealed},
    primitives::{B256, Bytes},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use async_trait::async_trait;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use crate::execute::BlockAttributes;
use crate::{
    config::Sealing,
    core::Core,
    execute::ExecuteError,
    store::{BlockWrite, StoreError},
    transaction::{DecodeError, VerifiedTransaction},
};

/// Decides which block comes next.
#[async_trait]
pub trait Consensus: Send + 'static {
    /// Makes blocks until `stop` is cancelled. An error stops the chain: it takes no more transactions, and says why.
    async fn run(self: Box<Self>, producer: BlockProducer, stop: CancellationToken) -> Result<(), ConsensusError>;
}

/// Why an engine gave up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConsensusError {
    /// No block could be built.
    #[error("building a block failed")]
    Build(#[from] ExecuteError),
    /// A block could not be made durable.
    #[error("committing a block failed")]
    Commit(#[from] StoreError),
    /// A decided block does not follow the head.
    #[error("block {number} with parent {parent} does not follow the head {head}")]
    NotNext {
        /// The block's number.
        number: u64,
        /// The block's parent.
        parent: B256,
        /// The head's hash.
        head: B256,
    },
    /// The writer's thread ended abnormally.
    #[error("the writer ended abnormally: {0}")]
    Writer(String),
    /// An engine's own reason.
    #[error("{0}")]
    Engine(String),
}

/// Why a proposed block is not valid.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A transaction does not decode.
    #[error("transaction {index} of the block is malformed")]
    Transaction {
        /// Its position.
        index: usize,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// It does not build on the head.
    #[error("the block builds on {parent}, the head is {head}")]
    Parent {
        /// The block's parent.
        parent: B256,
        /// The head's hash.
        head: B256,
    },
    /// Its time is before its parent's or too far ahead.
    #[error("the block's time {timestamp} is not between its parent's {parent} and {latest}")]
    Timestamp {
        /// The block's time.
        timestamp: u64,
        /// The parent's time.
        parent: u64,
        /// The latest that is accepted.
        latest: u64,
    },
    /// Executing it gives another header.
    #[error("executing the block gives header {computed}, it claims {claimed}")]
    Header {
        /// The hash that execution gives.
        computed: B256,
        /// The hash claimed.
        claimed: B256,
    },
    /// It cannot be executed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The writer's thread ended abnormally.
    #[error("the writer ended abnormally: {0}")]
    Writer(String),
}

/// A block as it travels between validators.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct ProposedBlock {
    /// Its header.
    pub header: Header,
    /// Its transactions in EIP-2718 encoding.
    pub transactions: Vec<Bytes>,
}

/// A block that was executed but is not part of the chain.
#[derive(Debug)]
pub struct Proposal(BlockWrite);

impl Proposal {
    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Sealed<Header> {
        &self.0.header
    }

    /// How many transactions it holds.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.0.transactions.len()
    }

    /// What other validators need to check it.
    #[must_use]
    pub fn to_block(&self) -> ProposedBlock {
        ProposedBlock {
            header: self.0.header.inner().clone(),
            transactions: self.0.transactions.iter().map(|tx| tx.encoded().clone()).collect(),
        }
    }
}

/// How far ahead of this node's clock a proposed block may be, in seconds.
const CLOCK_DRIFT_SECONDS_MAX: u64 = 15;

/// The chain's only writer. There is one per chain and it cannot be cloned.
pub struct BlockProducer {
    core: Arc<Core>,
}

impl BlockProducer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The header of the last committed block.
    #[must_use]
    pub fn head(&self) -> Sealed<Header> {
        self.core.snapshot().head().header.clone()
    }

    /// Attributes for a block made now: the clock's time, the configured coinbase, and a `PREVRANDAO` derived from the
    /// parent. That value is no beacon: whoever orders the parent's transactions can influence it.
    #[must_use]
    pub fn attributes(&self) -> BlockAttributes {
        self.core.attributes()
    }

    /// Resolves as soon as a block would hold at least one transaction. Dropping the future loses nothing.
    pub async fn transactions_ready(&self) {
        while !self.core.has_executable() {
            self.core.ready.notified().await;
        }
    }

    /// Executes the best waiting transactions on the head, without committing anything.
    pub async fn build(&mut self, attributes: BlockAttributes) -> Result<Proposal, ConsensusError> {
        let core = Arc::clone(&self.core);
        let built = tokio::task::spawn_blocking(move || core.build(&attributes)).await;
        Ok(Proposal(built.map_err(|error| ConsensusError::Writer(error.to_string()))??))
    }

    /// Executes a block that was built elsewhere and holds it against its header.
    pub async fn check(&mut self, block: ProposedBlock) -> Result<Proposal, CheckError> {
        let core = Arc::clone(&self.core);
        let checked = tokio::task::spawn_blocking(move || check(&core, block)).await;
        checked.map_err(|error| CheckError::Writer(error.to_string()))?.map(Proposal)
    }

    /// Appends a decided block. When this returns the block is durable, visible and final.
    pub async fn commit(&mut self, proposal: Proposal, certificate: Bytes) -> Result<Sealed<Header>, ConsensusError> {
        let head = self.head();
        let header = proposal.0.header.clone();
        if header.parent_hash != head.hash() || header.number != head.number + 1 {
            return Err(ConsensusError::NotNext {
                number: header.number,
                parent: header.parent_hash,
                head: head.hash(),
            });
        }
        let core = Arc::clone(&self.core);
        let committed = tokio::task::spawn_blocking(move || core.commit(&proposal.0, &certificate)).await;
        committed.map_err(|error| ConsensusError::Writer(error.to_string()))??;
        Ok(header)
    }
}

fn check(core: &Core, block: ProposedBlock) -> Result<BlockWrite, CheckError> {
    let ProposedBlock { header, transactions } = block;
    let snapshot = core.snapshot();
    let parent = &snapshot.head().header;
    if header.parent_hash != parent.hash() {
        return Err(CheckError::Parent { parent: header.parent_hash, head: parent.hash() });
    }
    let latest = core.clock.now().saturating_add(CLOCK_DRIFT_SECONDS_MAX).max(parent.timestamp);
    if !(parent.timestamp..=latest).contains(&header.timestamp) {
        let timestamp = header.timestamp;
        return Err(CheckError::Timestamp { timestamp, parent: parent.timestamp, latest });
    }
    let transactions = (0..).zip(transactions).map(|(index, encoded)| {
        VerifiedTransaction::decode(encoded).map(Arc::new).map_err(|source| CheckError::Transaction { index, source })
    });
    let attributes = BlockAttributes {
        timestamp: header.timestamp,
        coinbase: header.beneficiary,
        prev_randao: header.mix_hash,
        extra_data: header.extra_data.clone(),
    };
    let rebuilt = core.rebuild(&attributes, transactions.collect::<Result<_, _>>()?)?;
    let claimed = header.seal_slow().hash();
    let computed = rebuilt.header.hash();
    if computed == claimed { Ok(rebuilt) } else { Err(CheckError::Header { computed, claimed }) }
}

/// A request to seal one block at once, empty or not; the answer is its number.
pub(crate) type SealRequest = oneshot::Sender<u64>;

/// The engine of a chain with one validator: what it builds is final.
#[derive(Debug)]
pub struct Solo {
    sealing: Sealing,
    requests: mpsc::Receiver<SealRequest>,
}

/// What made [`Solo`] build a block.
enum Trigger {
    Transactions,
    Interval,
    Request(SealRequest),
}

impl Solo {
    pub(crate) fn new(sealing: Sealing, requests: mpsc::Receiver<SealRequest>) -> Self {
        Self { sealing, requests }
    }

    async fn trigger(&mut self, producer: &BlockProducer, due: Option<Instant>) -> Trigger {
        let interval = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(request) = self.requests.recv() => Trigger::Request(request),
            () = interval => Trigger::Interval,
            () = producer.transactions_ready(), if self.sealing.on_demand() => Trigger::Transactions,
        }
    }
}

#[async_trait]
impl Consensus for Solo {
    async fn run(
        mut self: Box<Self>,
        mut producer: BlockProducer,
        stop: CancellationToken,
    ) -> Result<(), ConsensusError> {
        let mut last = Instant::now();
        loop {
            let due = self.sealing.interval().map(|interval| last + interval);
            let trigger = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                trigger = self.trigger(&producer, due) => trigger,
            };
            let attributes = producer.attributes();
            let proposal = producer.build(attributes).await?;
            if proposal.transaction_count() == 0 && matches!(trigger, Trigger::Transactions) {
                // Everything that looked executable proved not to be, and has left the pool.
                continue;
            }
            let header = producer.commit(proposal, Bytes::new()).await?;
            last = Instant::now();
            tracing::debug!(number = header.number, hash = %header.hash(), gas_used = header.gas_used, "sealed a block");
            if let Trigger::Request(reply) = trigger {
                // Whoever asked may have gone.
                let _ = reply.send(header.number);
            }
        }
    }
}
