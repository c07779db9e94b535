//! Four validators as processes on this machine: how long a block takes, and how many ERC-20 transfers they make final.
//!
//! The client is a fifth process on the same processors: it signs before the clock starts, and sends over JSON-RPC to all
//! four. Final means that the last transfer is in a block that a validator shows, which it does when the block is durable.

use super::{bench::Row, validator};
use crate::{cli::ChainInitArgs, output};
use cortensor_chain::bench::Load;
use eyre::{Context, bail, eyre};
use serde_json::{Value, json};
use std::{
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const VALIDATORS: u16 = 4;
/// Transactions in one JSON-RPC batch.
const BATCH: usize = 200;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(smoke: bool) -> eyre::Result<Vec<Row>> {
    cortensor_contracts::install_tls();
    output::progress("consensus: four validators as processes");
    let (empty_blocks, transfers) = if smoke { (10, 200) } else { (400, 20_000) };
    let load =
        tokio::task::spawn_blocking(move || Load::sign(cortensor_node::localnet::L2_CHAIN_ID, transfers)).await??;
    let network = Network::start(&load).await?;
    let mut empty = network.block_times(empty_blocks).await?;
    network.send_in_order(&load.setup).await?;
    network.wait_for_nonce(cortensor_chain::DEVELOPMENT_ADDRESSES[0], load.setup.len() as u64).await?;
    let first = network.height().await?;
    let start = Instant::now();
    network.send_to_all(&load.transfers).await?;
    let sent = start.elapsed();
    let last = transfers - 1;
    network.wait_for_nonce(load.senders[last % load.senders.len()], (last / load.senders.len()) as u64 + 1).await?;
    for (index, sender) in load.senders.iter().enumerate().filter(|(index, _)| *index < transfers) {
        let nonces = transfers.saturating_sub(index).div_ceil(load.senders.len()) as u64;
        network.wait_for_nonce(*sender, nonces).await?;
    }
    let elapsed = start.elapsed();
    let blocks = network.height().await?.saturating_sub(first).max(1);
    output::progress(&format!("sent within {sent:.1?}, final within {elapsed:.1?}, in {blocks} blocks"));
    #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
    let rows = vec![
        Row::new("consensus/empty_block_p50", percentile(&mut empty, 50), "ms"),
        Row::new("consensus/empty_block_p99", percentile(&mut empty, 99), "ms"),
        Row::new("consensus/erc20_transfers", transfers as f64 / elapsed.as_secs_f64(), "tx/s"),
        Row::new("consensus/loaded_block_mean", elapsed.as_secs_f64() * 1e3 / blocks as f64, "ms"),
    ];
    Ok(rows)
}

fn percentile(times: &mut [Duration], per_cent: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len() * per_cent / 100).min(times.len().saturating_sub(1));
    times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Four running validators. They end when this is dropped.
struct Network {
    _folder: tempfile::TempDir,
    _processes: Vec<Child>,
    urls: Vec<String>,
    http: reqwest::Client,
}

impl Network {
    async fn start(load: &Load) -> eyre::Result<Self> {
        let folder = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
        let (rpc_port, peer_port) = free_ports()?;
        let arguments = ChainInitArgs {
            folder: folder.path().to_owned(),
            validators: VALIDATORS,
            chain_id: cortensor_node::localnet::L2_CHAIN_ID,
            host: "127.0.0.1".to_owned(),
            rpc_port,
            peer_port,
            empty_block_ms: 0,
            fund: load.senders.clone(),
            fund_test_accounts: true,
            validators_contract: None,
            epoch_blocks: 1_000,
        };
        let (mut processes, mut urls) = (Vec::new(), Vec::new());
        for (home, member) in validator::write_network(&arguments, None)? {
            processes.push(spawn(&home)?);
            urls.push(format!("http://{}", member.rpc));
        }
        for process in &mut processes {
            let out = process.stdout.take().ok_or_else(|| eyre!("a validator has no output"))?;
            let mut line = String::new();
            tokio::time::timeout(PATIENCE, BufReader::new(out).read_line(&mut line)).await??;
            if line.is_empty() {
                bail!("a validator did not start");
            }
        }
        Ok(Self { _folder: folder, _processes: processes, urls, http: reqwest::Client::new() })
    }

    async fn post(&self, validator: usize, body: &Value) -> eyre::Result<Value> {
        let request = self.http.post(&self.urls[validator % self.urls.len()]).timeout(PATIENCE);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    async fn quantity(&self, method: &str, parameters: Value) -> eyre::Result<u64> {
        let answer =
            self.post(0, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters })).await?;
        let text = answer["result"].as_str().ok_or_else(|| eyre!("{method}: {answer}"))?;
        Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
    }

    async fn height(&self) -> eyre::Result<u64> {
        self.quantity("eth_blockNumber", json!([])).await
    }

    /// The times between blocks as a client sees them that looks every millisecond.
    async fn block_times(&self, count: usize) -> eyre::Result<Vec<Duration>> {
        let (mut times, mut seen, mut since) = (Vec::new(), self.height().await?, Instant::now());
        while times.len() < count {
            let height = self.height().await?;
            if height > seen {
                let blocks = u32::try_from(height - seen)?;
                times.extend(std::iter::repeat_n(since.elapsed() / blocks, blocks as usize));
                (seen, since) = (height, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(times)
    }

    async fn wait_for_nonce(&self, account: alloy::primitives::Address, nonce: u64) -> eyre::Result<()> {
        let start = Instant::now();
        while self.quantity("eth_getTransactionCount", json!([account, "latest"])).await? < nonce {
            if start.elapsed() > PATIENCE {
                bail!("transfers did not become final");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn send_in_order(&self, transactions: &[alloy::primitives::Bytes]) -> eyre::Result<()> {
        for chunk in transactions.chunks(BATCH) {
            self.send(0, chunk).await?;
        }
        Ok(())
    }

    async fn send(&self, validator: usize, transactions: &[alloy::primitives::Bytes]) -> eyre::Result<()> {
        let call = |transaction| json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [transaction] });
        let answer = self.post(validator, &transactions.iter().map(call).collect()).await?;
        let refused = answer.as_array().into_iter().flatten().find(|one| one.get("error").is_some());
        refused.map_or(Ok(()), |refused| Err(eyre!("a transfer was refused: {refused}")))
    }

    /// A quarter of the senders to each validator, all at the same time.
    async fn send_to_all(&self, transactions: &[alloy::primitives::Bytes]) -> eyre::Result<()> {
        let count = self.urls.len();
        let lanes = (0..count).map(async |validator| {
            // The number of senders is a multiple of the number of validators, so each sender stays with one.
            let own: Vec<_> = transactions.iter().skip(validator).step_by(count).cloned().collect();
            for chunk in own.chunks(BATCH) {
                self.send(validator, chunk).await?;
            }
            Ok::<_, eyre::Report>(())
        });
        futures::future::try_join_all(lanes).await.map(|_| ())
    }
}

fn spawn(home: &Path) -> eyre::Result<Child> {
    let own = std::env::current_exe().wrap_err("cannot find this program")?;
    let mut command = Command::new(own);
    command.args(["chain", "run", "--json", "--home"]).arg(home).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().wrap_err("cannot start a validator")
}

/// The first of a few ports in a row that are free now.
fn free_ports() -> eyre::Result<(u16, u16)> {
    for base in (21_000..60_000).step_by(16) {
        let free =
            |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 2 * VALIDATORS).all(free) {
            return Ok((base, base + VALIDATORS));
        }
    }
    Err(eyre!("no free ports"))
}
