//! How many token transfers per second one validator makes durable.
//!
//! The whole path counts except the network: decoding, recovering the signer, the pool, execution, the tries, and one
//! synchronous write per block to a real file. Signing does not count, because clients do it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall as _, SolValue as _},
};
use thiserror::Error;

use crate::{
    chain::{Chain, ChainHandle, StartError, StopError},
    config::{Config, DEVELOPMENT_KEYS, WEI_PER_COIN},
    core::SubmitError,
    transaction::{DecodeError, VerifiedTransaction},
};

/// Accounts that send at the same time.
const SENDERS: usize = 64;
/// Threads that decode and recover, as the server's would.
const INTAKE_TASKS: usize = 2;
/// A prime, so that one holder after the other is far away from it.
const HOLDER_STRIDE: usize = 7_919;
const CHAIN_ID: u64 = 31_337;
const GAS_PRICE_WEI: u128 = 100_000_000_000;
const TOKEN_CODE: &str = include_str!("../contracts/token.hex");

sol! {
    function transfer(address to, uint256 value) external returns (bool);
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BenchResult {
    /// Transfers made durable.
    pub transactions: usize,
    /// Blocks that hold them.
    pub blocks: u64,
    /// From the first transfer decoded to the last one durable.
    pub elapsed: Duration,
    /// Of that, time in which a block was executed and its roots computed.
    pub build: Duration,
    /// Of that, time in which a block was written.
    pub commit: Duration,
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

/// Measures with this many transfers, each to an account that held no tokens before.
pub async fn transfers_per_second(transactions: usize) -> Result<BenchResult, BenchError> {
    let directory = TemporaryDirectory::new();
    let mut config = Config::development(CHAIN_ID).with_directory(&directory.0);
    config.limits.pool_transactions_max = transactions + SENDERS + 1;
    config.limits.pool_bytes_max = (transactions + SENDERS + 1) * 512;
    config.limits.pool_per_sender_max = transactions + 1;
    let transactions = transactions.next_multiple_of(SENDERS);
    let signing = tokio::task::spawn_blocking(move || Load::sign(CHAIN_ID, transactions)).await;
    let load = signing.map_err(|error| BenchError::Broken(error.to_string()))??;
    for sender in &load.senders {
        config = config.with_balance(*sender, WEI_PER_COIN * U256::from(1_000_000_u64));
    }
    let chain = Chain::start(config).await?;
    let prepared = load.setup.len() as u64;
    for encoded in load.setup {
        chain.submit(VerifiedTransaction::decode(encoded)?)?;
    }
    wait_for(&chain, prepared).await?;
    let result = measure(&chain, load.transfers).await;
    chain.shutdown().await?;
    Ok(BenchResult { file_bytes: directory.size(), ..result? })
}

async fn measure(chain: &ChainHandle, signed: Vec<Bytes>) -> Result<BenchResult, BenchError> {
    let transactions = signed.len();
    let before = chain.metrics();
    let start = Instant::now();
    let signed = Arc::new(signed);
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
    wait_for(chain, before.transactions + transactions as u64).await?;
    let (elapsed, after) = (start.elapsed(), chain.metrics());
    let expected_gas = 21_000 * transactions as u64;
    if after.gas_used - before.gas_used < expected_gas * 2 {
        return Err(BenchError::Broken("transfers failed".to_owned()));
    }
    Ok(BenchResult {
        transactions,
        blocks: after.blocks - before.blocks,
        elapsed,
        build: Duration::from_micros(after.build_micros - before.build_micros),
        commit: Duration::from_micros(after.commit_micros - before.commit_micros),
        file_bytes: 0,
        processor_micros: [
            after.recovery_cpu_micros - before.recovery_cpu_micros,
            after.execution_cpu_micros - before.execution_cpu_micros,
            after.root_cpu_micros - before.root_cpu_micros,
            after.commit_cpu_micros - before.commit_cpu_micros,
        ],
    })
}

/// Signed transactions to measure with: first those that prepare the token and its holders, then the transfers.
#[derive(Clone, Debug)]
pub struct Load {
    /// One deployment and one transfer to each sender, by the first development account, in order.
    pub setup: Vec<Bytes>,
    /// Transfers, each to an account that held no tokens before, interleaved by sender.
    pub transfers: Vec<Bytes>,
    /// As many more, from the same senders to the same accounts in another order.
    pub between_holders: Vec<Bytes>,
    /// The senders, who need coins for gas; the sender of transfer *i* is number *i* modulo their count.
    pub senders: Vec<Address>,
}

impl Load {
    /// Signs so many transfers, rounded up to a multiple of the senders, for a chain on which nobody has sent anything.
    pub fn sign(chain_id: u64, transfers: usize) -> Result<Self, BenchError> {
        let transfers = transfers.next_multiple_of(SENDERS);
        let owner = development_signer()?;
        let senders: Vec<_> = (0..SENDERS).map(sender).collect();
        let code = hex::decode(TOKEN_CODE.trim()).map_err(|error| BenchError::Broken(error.to_string()))?;
        let input = [code, U256::MAX.abi_encode()].concat();
        let token = owner.address().create(0);
        let mut setup = vec![sign(chain_id, &owner, 0, TxKind::Create, input, 2_000_000)?];
        for (nonce, sender) in (1..).zip(&senders) {
            let call = transferCall { to: sender.address(), value: U256::from(u64::MAX) };
            setup.push(sign(chain_id, &owner, nonce, token.into(), call.abi_encode(), 100_000)?);
        }
        let transfer = |index: usize, holder: usize| {
            let recipient = Address::from_word(keccak256((holder as u64).to_be_bytes()));
            let call = transferCall { to: recipient, value: U256::from(1) };
            let nonce = (index / SENDERS) as u64;
            sign(chain_id, &senders[index % SENDERS], nonce, token.into(), call.abi_encode(), 100_000)
        };
        let scattered = |index: usize| index.wrapping_mul(HOLDER_STRIDE) % transfers;
        let between = (0..transfers).map(|index| transfer(transfers + index, scattered(index)));
        let between_holders = between.collect::<Result<_, _>>()?;
        let transfers = (0..transfers).map(|index| transfer(index, index)).collect::<Result<_, _>>()?;
        Ok(Self { setup, transfers, between_holders, senders: senders.iter().map(PrivateKeySigner::address).collect() })
    }
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

fn sender(index: usize) -> PrivateKeySigner {
    let seed = keccak256([b"benchmark sender".as_slice(), &index.to_be_bytes()].concat());
    PrivateKeySigner::from_bytes(&seed).expect("a hash is a valid key but for odds of one in 2^128")
}

fn development_signer() -> Result<PrivateKeySigner, BenchError> {
    PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0]).map_err(|error| BenchError::Broken(error.to_string()))
}

fn sign(
    chain_id: u64,
    signer: &PrivateKeySigner,
    nonce: u64,
    to: TxKind,
    input: Vec<u8>,
    gas_limit: u64,
) -> Result<Bytes, BenchError> {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: GAS_PRICE_WEI,
        max_priority_fee_per_gas: 1,
        to,
        input: input.into(),
        ..TxEip1559::default()
    };
    let hash: B256 = tx.signature_hash();
    let signature = signer.sign_hash_sync(&hash).map_err(|error| BenchError::Broken(error.to_string()))?;
    Ok(TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into())
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
