//! Starting, watching and stopping a chain.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use alloy::{
    consensus::{Header, Sealed},
    primitives::{Address, B256, Bytes},
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    config::{Config, ConfigError, GenesisAccount},
    consensus::{BlockProducer, Consensus, ConsensusError, Solo},
    core::{Core, SubmitError},
    execute::Rules,
    genesis::genesis_block,
    metrics::MetricsSnapshot,
    replay, rpc,
    state::{EthTrieStore, StateStore},
    store::{OpenError, Store, StoreError},
    transaction::{DecodeError, VerifiedTransaction},
};

/// Requests to seal a block at once that may wait; development only.
const SEAL_REQUESTS_MAX: usize = 16;
/// How often, and how long apart, a stopping chain looks whether its data is still in use.
const RELEASE_POLLS_MAX: usize = 100;
const RELEASE_POLL: Duration = Duration::from_millis(10);

/// Why a chain did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error("cannot open the chain's data")]
    Open(#[from] OpenError),
    /// The JSON-RPC server cannot listen.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Opening the database ended abnormally.
    #[error("opening the chain's data ended abnormally: {0}")]
    Aborted(String),
}

/// How a chain ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StopError {
    /// The consensus engine gave up.
    #[error("the chain stopped by itself")]
    Consensus(#[from] ConsensusError),
    /// The consensus engine's task ended abnormally.
    #[error("the chain ended abnormally: {0}")]
    Aborted(String),
}

/// Starts chains.
#[derive(Clone, Copy, Debug)]
pub struct Chain;

impl Chain {
    /// Starts a chain with one validator: opens or creates its data, serves JSON-RPC, makes blocks.
    pub async fn start(config: Config) -> Result<ChainHandle, StartError> {
        let (seal, requests) = mpsc::channel(SEAL_REQUESTS_MAX);
        let solo = Solo::new(config.sealing, requests);
        Self::launch(config, Box::new(solo), Some(seal)).await
    }

    /// Starts a chain whose blocks this engine decides. [`Config::sealing`] is the engine's business then.
    pub async fn start_with(config: Config, consensus: Box<dyn Consensus>) -> Result<ChainHandle, StartError> {
        Self::launch(config, consensus, None).await
    }

    async fn launch(
        config: Config,
        consensus: Box<dyn Consensus>,
        seal: Option<rpc::SealSender>,
    ) -> Result<ChainHandle, StartError> {
        config.validate()?;
        let opened = tokio::task::spawn_blocking(move || open(config)).await;
        let core = Arc::new(opened.map_err(|error| StartError::Aborted(error.to_string()))??);
        let stop = CancellationToken::new();
        let server =
            rpc::serve(Arc::clone(&core), crate::consensus::Answers::of(consensus.as_ref()), seal, stop.clone())
                .await
                .map_err(|source| StartError::Listen { listen: core.config.listen, source })?;
        let engine = tokio::spawn(supervise(Arc::clone(&core), consensus, stop.clone()));
        let head = core.snapshot().head().header.number;
        tracing::info!(chain_id = core.config.chain_id, address = %server.address, head, "the chain is running");
        Ok(ChainHandle { core, server, engine, stop: stop.drop_guard() })
    }
}

/// Runs the engine and marks the chain as stopped when it ends for whatever reason.
async fn supervise(
    core: Arc<Core>,
    consensus: Box<dyn Consensus>,
    stop: CancellationToken,
) -> Result<(), ConsensusError> {
    let running = StoppedOnDrop(Arc::clone(&core));
    let outcome = consensus.run(BlockProducer::new(core), stop).await;
    if let Err(error) = &outcome {
        tracing::error!(error = error as &dyn std::error::Error, "the chain stopped making blocks");
    }
    drop(running);
    outcome
}

/// Marks the chain as stopped, even when its engine panics.
struct StoppedOnDrop(Arc<Core>);

impl Drop for StoppedOnDrop {
    fn drop(&mut self) {
        self.0.running.send_replace(false);
    }
}

fn open(config: Config) -> Result<Core, OpenError> {
    let trie: Arc<dyn StateStore> = Arc::new(EthTrieStore);
    let genesis = genesis_block(&config, &*trie)?;
    let expected = genesis.header.hash();
    let store = Store::open(&config)?;
    if store.snapshot()?.is_none() {
        store.commit(genesis, &[])?;
    }
    let head = store.snapshot()?.ok_or(StoreError::Damaged { what: "head" })?;
    let found = head.block_hash(0)?.unwrap_or_default();
    if found != expected {
        return Err(OpenError::Genesis { found, expected });
    }
    let head = replay::catch_up(&store, &trie, &Rules::of(&config), head)?;
    Ok(Core::new(config, store, trie, head)?)
}

/// Takes transactions into a chain's pool. Holding it does not keep the chain running, but does keep its data open.
#[derive(Clone)]
pub struct Submitter(Arc<Core>);

impl std::fmt::Debug for Submitter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Submitter").finish_non_exhaustive()
    }
}

impl Submitter {
    /// Decodes a transaction and recovers its sender.
    pub fn verify(&self, encoded: Bytes) -> Result<VerifiedTransaction, DecodeError> {
        self.0.verify(encoded)
    }

    /// Takes a transaction into the pool.
    pub fn submit(&self, transaction: VerifiedTransaction) -> Result<B256, SubmitError> {
        self.0.submit(transaction)
    }
}

/// Follows a chain's head.
pub struct Blocks {
    core: Arc<Core>,
    numbers: watch::Receiver<u64>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blocks").field("number", &*self.numbers.borrow()).finish_non_exhaustive()
    }
}

impl Blocks {
    /// Resolves when there is a block that this has not seen. Several blocks at once are one change.
    pub async fn changed(&mut self) -> Result<(), BlocksEnded> {
        let mut running = self.core.running.subscribe();
        tokio::select! {
            changed = self.numbers.changed() => changed.map_err(|_| BlocksEnded),
            // The sender lives in `self.core`, so the wait ends only when the value changes.
            _ = running.wait_for(|running| !running) => Err(BlocksEnded),
        }
    }

    /// The header of the last committed block.
    #[must_use]
    pub fn head(&self) -> Sealed<Header> {
        self.core.snapshot().head().header.clone()
    }
}

/// The chain makes no more blocks.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the chain makes no more blocks")]
pub struct BlocksEnded;

/// A running chain. Dropping it stops the chain without waiting; [`ChainHandle::shutdown`] waits.
pub struct ChainHandle {
    core: Arc<Core>,
    server: rpc::Server,
    engine: JoinHandle<Result<(), ConsensusError>>,
    stop: DropGuard,
}

impl std::fmt::Debug for ChainHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChainHandle").field("url", &self.http_url()).finish_non_exhaustive()
    }
}

impl ChainHandle {
    /// The EIP-155 chain identifier.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.core.config.chain_id
    }

    /// Where the JSON-RPC server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The JSON-RPC server's URL over HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The JSON-RPC server's URL over WebSocket, on the same port.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.server.address)
    }

    /// The header of the last committed block.
    #[must_use]
    pub fn head(&self) -> Sealed<Header> {
        self.core.snapshot().head().header.clone()
    }

    /// What made a block final, as the consensus engine encoded it; none for blocks that a single validator made.
    pub fn certificate(&self, number: u64) -> Result<Option<Bytes>, StoreError> {
        self.core.snapshot().certificate(number)
    }

    /// The state after the last committed block, as block 0 of another chain can begin with it. For small states: all of it
    /// is in memory at once.
    ///
    /// # Errors
    /// When the database fails.
    pub fn export_accounts(&self) -> Result<BTreeMap<Address, GenesisAccount>, StoreError> {
        self.core.snapshot().export()
    }

    /// Follows the head.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        Blocks { core: Arc::clone(&self.core), numbers: self.core.head_number.subscribe() }
    }

    /// Something that takes transactions like [`ChainHandle::submit`] and can be given to other threads.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        Submitter(Arc::clone(&self.core))
    }

    /// Takes a transaction into the pool without going through the server.
    pub fn submit(&self, transaction: VerifiedTransaction) -> Result<B256, SubmitError> {
        self.core.submit(transaction)
    }

    /// Answers one JSON-RPC request in process, as the server would; none if the text is no call. Batches and
    /// subscriptions need the server.
    pub async fn request(&self, json: &str) -> Option<String> {
        self.server.call(json).await
    }

    /// Counters since the start.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        let counts = self.core.with_pool(crate::pool::Pool::counts);
        self.core.metrics.snapshot(self.core.snapshot().head().header.number, counts)
    }

    /// Resolves when the chain makes no more blocks, which without [`ChainHandle::shutdown`] means that it failed.
    pub async fn stopped(&self) {
        let mut running = self.core.running.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail before the value changes.
        let _ = running.wait_for(|running| !running).await;
    }

    /// Stops taking requests, finishes the block being made, and closes the data, so that it can be opened again.
    /// The data stays open as long as a [`Submitter`] or [`Blocks`] is held elsewhere.
    pub async fn shutdown(self) -> Result<(), StopError> {
        self.server.stop().await;
        // Its methods hold the core.
        drop(self.server);
        drop(self.stop);
        let outcome = self.engine.await;
        // A simulation that was running when its client left may hold the data for a moment longer.
        for _ in 0..RELEASE_POLLS_MAX {
            if Arc::strong_count(&self.core) == 1 {
                break;
            }
            tokio::time::sleep(RELEASE_POLL).await;
        }
        match outcome {
            Ok(outcome) => Ok(outcome?),
            Err(error) => Err(StopError::Aborted(error.to_string())),
        }
    }
}
