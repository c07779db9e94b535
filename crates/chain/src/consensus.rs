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
    primitives::{Address, B256, Bytes, keccak256},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use async_trait::async_trait;
use thiserror::Error;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use crate::execute::BlockAttributes;
use crate::{
    config::Sealing,
    core::{Core, SubmitError},
    execute::ExecuteError,
    export::{ExportError, Exports, Manifest},
    members::Roll,
    store::{BlockWrite, StoreError},
    transaction::{DecodeError, StatedTransaction, VerifiedTransaction},
};

/// Decides which block comes next.
#[async_trait]
pub trait Consensus: Send + 'static {
    /// Makes blocks until `stop` is cancelled. An error stops the chain: it takes no more transactions, and says why.
    async fn run(self: Box<Self>, producer: BlockProducer, stop: CancellationToken) -> Result<(), ConsensusError>;

    /// How JSON-RPC shows the certificates that this engine commits; none when it makes none.
    fn show_certificate(&self) -> Option<ShowCertificate> {
        None
    }

    /// How JSON-RPC answers `cortensor_getCheckpointShare`; none where this node has no key to sign with.
    fn share_checkpoint(&self) -> Option<ShareCheckpoint> {
        None
    }
}

/// Signs, for a contract on another chain (its id and the address), that a block with this certificate was decided; none when the
/// certificate does not decode.
pub type ShareCheckpoint =
    Arc<dyn Fn(&Sealed<Header>, &[u8], (u64, Address)) -> Option<serde_json::Value> + Send + Sync>;

/// What JSON-RPC asks of the engine.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    pub(crate) show_certificate: Option<ShowCertificate>,
    pub(crate) share_checkpoint: Option<ShareCheckpoint>,
}

impl Answers {
    pub(crate) fn of(engine: &dyn Consensus) -> Self {
        Self { show_certificate: engine.show_certificate(), share_checkpoint: engine.share_checkpoint() }
    }
}

/// Shows a block's certificate to JSON-RPC clients; none when it does not decode.
pub type ShowCertificate = fn(&Sealed<Header>, &[u8]) -> Option<serde_json::Value>;

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
    /// The chain is permissioned, and a transaction is not of one of its members.
    #[error("transaction {index} of the block is of {sender}, who may not send any")]
    NotMember {
        /// Its position.
        index: usize,
        /// Who sent it.
        sender: Address,
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

    /// Executes a block that was built elsewhere and holds it against its header and this node's clock.
    pub async fn check(&mut self, block: ProposedBlock) -> Result<Proposal, CheckError> {
        self.check_until(block, |core| core.clock.now().saturating_add(CLOCK_DRIFT_SECONDS_MAX)).await
    }

    /// Executes a block that was decided elsewhere. Its time was judged by those who decided it.
    pub async fn check_decided(&mut self, block: ProposedBlock) -> Result<Proposal, CheckError> {
        self.check_until(block, |_| u64::MAX).await
    }

    async fn check_until(&mut self, block: ProposedBlock, latest: fn(&Core) -> u64) -> Result<Proposal, CheckError> {
        let core = Arc::clone(&self.core);
        let checked = tokio::task::spawn_blocking(move || check(&core, block, latest(&core))).await;
        checked.map_err(|error| CheckError::Writer(error.to_string()))?.map(Proposal)
    }

    /// What a contract answers in the state after the head. Equal on every node.
    pub fn read(&self, contract: Address, input: Bytes) -> Result<Bytes, ExecuteError> {
        self.core.read(contract, input)
    }

    /// A way to blocks and transactions for other tasks of the engine.
    #[must_use]
    pub fn access(&self) -> Access {
        Access(Arc::clone(&self.core))
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
        let committed = tokio::task::spawn_blocking(move || core.commit(proposal.0, &certificate)).await;
        committed.map_err(|error| ConsensusError::Writer(error.to_string()))??;
        Ok(header)
    }
}

/// A node whose head is older than this catches up, or waits with everybody else.
const BEHIND_SECONDS: u64 = 60;

/// Reads blocks, takes and gives transactions. Clones share the chain.
#[derive(Clone)]
pub struct Access(Arc<Core>);

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// A block of the chain with its certificate.
    pub fn decided(&self, number: u64) -> Result<Option<(ProposedBlock, Bytes)>, StoreError> {
        let snapshot = self.0.snapshot();
        let (Some(header), Some(certificate)) = (snapshot.header(number)?, snapshot.certificate(number)?) else {
            return Ok(None);
        };
        let transactions = match snapshot.transactions(number) {
            Err(StoreError::NotKept { .. }) => return Ok(None),
            transactions => transactions?.into_iter().map(|tx| tx.encoded().clone()).collect(),
        };
        Ok(Some((ProposedBlock { header: header.header.into_inner(), transactions }, certificate)))
    }

    /// A block's header with its certificate, also where its transactions are not kept.
    pub fn certified(&self, number: u64) -> Result<Option<(Header, Bytes)>, StoreError> {
        let snapshot = self.0.snapshot();
        let header = snapshot.header(number)?.map(|stored| stored.header.into_inner());
        Ok(header.zip(snapshot.certificate(number)?))
    }

    /// A block's header.
    pub fn header(&self, number: u64) -> Result<Option<Header>, StoreError> {
        Ok(self.0.snapshot().header(number)?.map(|stored| stored.header.into_inner()))
    }

    /// The number of the last block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.0.snapshot().head().header.number
    }

    /// Copies the state that the database holds now, for those who begin with it. None when there is such a copy already.
    /// Takes as long as reading the whole state does.
    pub fn copy_state(&self, exports: &Exports) -> Result<Option<Manifest>, ExportError> {
        self.0.copy_state(exports)
    }

    /// Transactions that clients hand in here from now on. A reader that falls far behind misses some.
    #[must_use]
    pub fn outbound(&self) -> broadcast::Receiver<Arc<VerifiedTransaction>> {
        self.0.outbound.subscribe()
    }

    /// Whether the pool holds a transaction.
    #[must_use]
    pub fn knows(&self, transaction: B256) -> bool {
        self.0.with_pool(|pool| pool.get(transaction).is_some())
    }

    /// Decodes many transactions and finds their senders, in the same order.
    #[must_use]
    pub fn verify(&self, transactions: &[StatedTransaction]) -> Vec<Result<VerifiedTransaction, DecodeError>> {
        self.0.verify_stated(transactions)
    }

    /// Takes a peer's transaction into the pool, without telling the network.
    pub fn submit(&self, transaction: VerifiedTransaction) -> Result<B256, SubmitError> {
        self.0.submit_from_peer(Arc::new(transaction))
    }

    /// Whether the node with this transport key may be connected to now. `listed`: this node names it as a peer, which is what
    /// counts while a permissioned chain has no members yet, and while this node catches up.
    #[must_use]
    pub fn may_connect(&self, transport_key: B256, listed: bool) -> bool {
        let Some(admission) = &self.0.admission else { return true };
        let head = self.0.snapshot().head().header.timestamp;
        let behind = self.0.clock.now() > head.saturating_add(BEHIND_SECONDS);
        admission.roll().may_connect(transport_key, listed, behind)
    }

    /// Follows who may connect; none on a chain that everybody may use.
    #[must_use]
    pub fn admission_changes(&self) -> Option<AdmissionChanges> {
        self.0.admission.as_ref().map(|admission| AdmissionChanges(admission.changes()))
    }

    /// Tells JSON-RPC clients that a peer can be reached.
    pub fn peer_came(&self, transport_key: B256) {
        self.0.peers.lock().entry(transport_key).or_insert(0);
    }

    /// Tells them of a peer's last block. One that cannot be reached any more is not told of.
    pub fn peer_is_at(&self, transport_key: B256, number: u64) {
        if let Some(known) = self.0.peers.lock().get_mut(&transport_key) {
            *known = number;
        }
    }

    /// Tells them that it cannot be reached any more.
    pub fn peer_left(&self, transport_key: B256) {
        self.0.peers.lock().remove(&transport_key);
    }
}

/// Follows who may use a permissioned chain.
#[derive(Debug)]
pub struct AdmissionChanges(watch::Receiver<Arc<Roll>>);

impl AdmissionChanges {
    /// Resolves when somebody joined or left since the last time; false when the chain is gone.
    pub async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// As many transactions are worth a thread of their own.
const RECOVERIES_PER_THREAD: usize = 64;

/// A transaction whose signer is to be recovered, and where the result goes.
struct Unknown<'a> {
    index: usize,
    encoded: Bytes,
    place: &'a mut Option<Arc<VerifiedTransaction>>,
}

impl Unknown<'_> {
    fn recover(&mut self, core: &Core) -> Result<(), CheckError> {
        let decoded = core.verify(self.encoded.clone());
        let index = self.index;
        *self.place = Some(Arc::new(decoded.map_err(|source| CheckError::Transaction { index, source })?));
        Ok(())
    }
}

/// Turns a block's transactions into verified ones. The pool knows most of them already; the signatures of the others are
/// recovered in parallel.
fn verify_transactions(core: &Core, encoded: Vec<Bytes>) -> Result<Vec<Arc<VerifiedTransaction>>, CheckError> {
    let mut known: Vec<_> = {
        let hashes: Vec<_> = encoded.iter().map(keccak256).collect();
        core.with_pool(|pool| hashes.into_iter().map(|hash| pool.get(hash)).collect())
    };
    let mut unknown: Vec<Unknown<'_>> = (0..)
        .zip(encoded)
        .zip(&mut known)
        .filter(|(_, place)| place.is_none())
        .map(|((index, encoded), place)| Unknown { index, encoded, place })
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = unknown.len().div_ceil(threads).max(RECOVERIES_PER_THREAD);
    std::thread::scope(|scope| {
        let recover = |chunk: &mut [Unknown<'_>]| chunk.iter_mut().try_for_each(|one| one.recover(core));
        let workers: Vec<_> = unknown.chunks_mut(chunk).map(|chunk| scope.spawn(move || recover(chunk))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(CheckError::Writer("recovering signatures panicked".to_owned())))
        })
    })?;
    Ok(known.into_iter().map(|known| known.expect("every unknown one was recovered")).collect())
}

fn check(core: &Core, block: ProposedBlock, latest: u64) -> Result<BlockWrite, CheckError> {
    let ProposedBlock { header, transactions } = block;
    let snapshot = core.snapshot();
    let parent = &snapshot.head().header;
    if header.parent_hash != parent.hash() {
        return Err(CheckError::Parent { parent: header.parent_hash, head: parent.hash() });
    }
    let latest = latest.max(parent.timestamp);
    if !(parent.timestamp..=latest).contains(&header.timestamp) {
        let timestamp = header.timestamp;
        return Err(CheckError::Timestamp { timestamp, parent: parent.timestamp, latest });
    }
    let attributes = BlockAttributes {
        timestamp: header.timestamp,
        coinbase: header.beneficiary,
        prev_randao: header.mix_hash,
        extra_data: header.extra_data.clone(),
    };
    let transactions = verify_transactions(core, transactions)?;
    if let Some(index) = core.first_refused(&transactions).map_err(ExecuteError::from)? {
        return Err(CheckError::NotMember { index, sender: transactions[index].sender() });
    }
    let rebuilt = core.rebuild(&attributes, transactions)?;
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
