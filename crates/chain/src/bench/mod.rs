//! How many token transfers per second one validator makes durable, and how that changes as the state grows.
//!
//! The whole path counts except the network: decoding, recovering the signer, the pool, execution, the tries, and the
//! writes to a real file. Signing does not count, because clients do it.

mod load;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::{Bytes, U256};
use thiserror::Error;

use self::load::SENDERS;
pub use self::load::{Load, To};
use crate::{
    chain::{Chain, ChainHandle, StartError, StopError},
    config::{Config, StatesKept, WEI_PER_COIN},
    core::SubmitError,
    metrics::MetricsSnapshot,
    transaction::{DecodeError, VerifiedTransaction},
};

/// Threads that decode and recover, as the server's would.
const INTAKE_TASKS: usize = 2;
/// Transfers that wait in the pool at most.
const WAVE: usize = 20_000;
const CHAIN_ID: u64 = 31_337;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BenchResult {
    /// Accounts that held tokens.
    pub holders: usize,
    /// Transfers made durable.
    pub transactions: usize,
    /// Blocks that hold them.
    pub blocks: u64,
    /// From the first transfer decoded to the last one durable.
    pub elapsed: Duration,
    /// Bytes that the database had grown to.
    pub file_bytes: u64,
    /// Processor time in microseconds: recovering senders, execution, roots, writing.
    pub processor_micros: [u64; 4],
}

impl BenchResult {
    /// Microseconds of processor time for each transfer: recovering senders, execution, roots, writing.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn phases(&self) -> [f64; 4] {
        self.processor_micros.map(|micros| micros as f64 / self.transactions as f64)
    }

    /// Transfers per second.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn per_second(&self) -> f64 {
        self.transactions as f64 / self.elapsed.as_secs_f64()
    }
}

/// Why nothing was measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The chain did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The chain did not end well.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A transfer was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A transfer did not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A task ended abnormally or a transfer failed.
    #[error("the benchmark is broken: {0}")]
    Broken(String),
}

/// Transfers at several numbers of holders, and what is left of the chain in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Growth {
    /// One for each number of holders.
    pub stages: Vec<BenchResult>,
    /// How long it took to open the data again, which checks all of it.
    pub opened_in: Duration,
    /// Bytes that were checked.
    pub file_bytes: u64,
}

/// Measures this many transfers between holders of a token, each time when so many accounts hold some, with these
/// states kept.
pub async fn growth(holders: &[usize], transfers: usize, states: StatesKept) -> Result<Growth, BenchError> {
    let directory = TemporaryDirectory::new();
    let mut config = Config::development(CHAIN_ID).with_directory(&directory.0);
    config.states = states;
    config.limits.pool_transactions_max = WAVE + SENDERS + 1;
    config.limits.pool_bytes_max = (WAVE + SENDERS + 1) * 512;
    config.limits.pool_per_sender_max = WAVE + 1;
    // Hundreds of full blocks would raise the base fee beyond what the transfers offer.
    config.fees.change_denominator = u64::MAX;
    let (mut load, setup) = Load::new(CHAIN_ID)?;
    for sender in load.senders() {
        config = config.with_balance(sender, WEI_PER_COIN * U256::from(1_000_000_000_u64));
    }
    let chain = Chain::start(config.clone()).await?;
    let prepared = setup.len() as u64;
    for encoded in setup {
        chain.submit(VerifiedTransaction::decode(encoded)?)?;
    }
    wait_for(&chain, prepared).await?;
    let (mut known, mut stages) = (0, Vec::with_capacity(holders.len()));
    for holders in holders {
        while known < *holders {
            let new = sign_more(&mut load, WAVE.min(holders - known), To::NewHolders).await?;
            known += new.len();
            send(&chain, new).await?;
        }
        stages.push(measure(&chain, &mut load, known, transfers, &directory).await?);
    }
    chain.shutdown().await?;
    let (start, file_bytes) = (Instant::now(), directory.size());
    let chain = Chain::start(config).await?;
    let opened_in = start.elapsed();
    chain.shutdown().await?;
    Ok(Growth { stages, opened_in, file_bytes })
}

/// Signs on a thread of its own: it is nothing but computing.
async fn sign_more(load: &mut Load, count: usize, to: To) -> Result<Vec<Bytes>, BenchError> {
    let mut signer = load.clone();
    let signed = tokio::task::spawn_blocking(move || signer.transfers(count, to).map(|signed| (signer, signed))).await;
    let (signer, signed) = signed.map_err(|error| BenchError::Broken(error.to_string()))??;
    *load = signer;
    Ok(signed)
}

async fn measure(
    chain: &ChainHandle,
    load: &mut Load,
    holders: usize,
    transfers: usize,
    directory: &TemporaryDirectory,
) -> Result<BenchResult, BenchError> {
    let (mut elapsed, mut left, before) = (Duration::ZERO, transfers, chain.metrics());
    while left > 0 {
        let wave = sign_more(load, WAVE.min(left), To::Holders).await?;
        left = left.saturating_sub(wave.len());
        elapsed += send(chain, wave).await?;
    }
    let after = chain.metrics();
    let transactions = usize::try_from(after.transactions - before.transactions).unwrap_or(usize::MAX);
    if after.gas_used - before.gas_used < 25_000 * transactions as u64 {
        return Err(BenchError::Broken("transfers failed".to_owned()));
    }
    let micros = |read: fn(&MetricsSnapshot) -> u64| read(&after) - read(&before);
    Ok(BenchResult {
        holders,
        transactions,
        blocks: micros(|metrics| metrics.blocks),
        elapsed,
        file_bytes: directory.size(),
        processor_micros: [
            micros(|metrics| metrics.recovery_cpu_micros),
            micros(|metrics| metrics.execution_cpu_micros),
            micros(|metrics| metrics.root_cpu_micros),
            micros(|metrics| metrics.commit_cpu_micros),
        ],
    })
}

/// Sends transfers and waits until all are durable.
async fn send(chain: &ChainHandle, signed: Vec<Bytes>) -> Result<Duration, BenchError> {
    let target = chain.metrics().transactions + signed.len() as u64;
    let (start, signed) = (Instant::now(), Arc::new(signed));
    let intake = (0..INTAKE_TASKS).map(|task| {
        let (signed, submitter) = (Arc::clone(&signed), chain.submitter());
        tokio::task::spawn_blocking(move || -> Result<(), BenchError> {
            // Interleaved by sender, so that no sender's nonces arrive out of order.
            for (index, encoded) in signed.iter().enumerate() {
                if index % SENDERS % INTAKE_TASKS == task {
                    submitter.submit(submitter.verify(encoded.clone())?)?;
                }
            }
            Ok(())
        })
    });
    for task in intake.collect::<Vec<_>>() {
        task.await.map_err(|error| BenchError::Broken(error.to_string()))??;
    }
    wait_for(chain, target).await?;
    Ok(start.elapsed())
}

/// Waits until so many transactions were committed since the start.
async fn wait_for(chain: &ChainHandle, transactions: u64) -> Result<(), BenchError> {
    let mut blocks = chain.blocks();
    while chain.metrics().transactions < transactions {
        let block = tokio::time::timeout(Duration::from_secs(60), blocks.changed()).await;
        match block {
            Ok(Ok(())) => {}
            _ => return Err(BenchError::Broken("no block within a minute".to_owned())),
        }
    }
    Ok(())
}

/// A directory that is removed when this is dropped.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new() -> Self {
        let started = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
        Self(std::env::temp_dir().join(format!("cortensor-bench-{}-{started}", std::process::id())))
    }

    /// Bytes of all files; zero when they cannot be read, which only a display depends on.
    fn size(&self) -> u64 {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        if let Err(error) = std::fs::remove_dir_all(path) {
            tracing::warn!(%error, path = %path.display(), "the benchmark's data could not be removed");
        }
    }
}
