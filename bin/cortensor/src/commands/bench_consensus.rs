//! Four validators as processes on this machine: how long a block takes, and how many ERC-20 transfers they make final.
//!
//! The client is a fifth process on the same processors: it signs before the clock starts, and sends over JSON-RPC to all
//! four. Final means that the last transfer is in a block that a validator shows, which it does when the block is durable.

use super::{bench::Row, network};
use crate::{
    cli::{ChainInitArgs, ChainJoinArgs},
    output,
};
use alloy::primitives::{Address, Bytes};
use cortensor_chain::bench::{Load, To};
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
/// Transactions that wait in a pool, about two full blocks, before the client waits too.
const WAITING_MAX: u64 = 5_000;
/// What a validator's processor time is divided into; the rest is consensus, the network and JSON-RPC.
const PHASES: [&str; 4] = ["recovery", "execution", "roots", "writing"];
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(smoke: bool, anvil: Option<&Path>) -> eyre::Result<Vec<Row>> {
    cortensor_contracts::install_tls();
    output::progress("consensus: four validators as processes");
    let (empty_blocks, count) = if smoke { (10, 256) } else { (400, 40_000) };
    let (mut load, setup) = Load::new(cortensor_node::localnet::L2_CHAIN_ID)?;
    let signing = tokio::task::spawn_blocking(move || {
        let lists = [load.transfers(count, To::NewHolders)?, load.transfers(count, To::Holders)?];
        Ok::<_, eyre::Report>((load, lists))
    });
    let (load, [to_new_holders, to_holders]) = signing.await??;
    let senders = load.senders();
    let network = Network::start(&senders).await?;
    let mut empty = network.block_times(empty_blocks).await?;
    network.send_in_order(&setup).await?;
    network.wait_for_nonce(cortensor_chain::DEVELOPMENT_ADDRESSES[0], setup.len() as u64).await?;
    let mut rows = vec![
        Row::new("consensus/empty_block_p50", percentile(&mut empty, 50), "ms"),
        Row::new("consensus/empty_block_p99", percentile(&mut empty, 99), "ms"),
    ];
    let half = load.nonce() / 2;
    rows.extend(network.measure("erc20_to_new_holders", &to_new_holders, &senders, half).await?);
    rows.extend(network.measure("erc20_to_holders", &to_holders, &senders, load.nonce()).await?);
    rows.push(network.catch_up(setup.len() + to_new_holders.len() + to_holders.len()).await?);
    drop(network);
    if let Some(program) = anvil {
        output::progress(
            "consensus: the same transfers to anvil, which is one process, decides alone and writes nothing",
        );
        let peer = Network::anvil(program, &senders).await?;
        peer.send_in_order(&setup).await?;
        peer.wait_for_nonce(cortensor_chain::DEVELOPMENT_ADDRESSES[0], setup.len() as u64).await?;
        rows.extend(peer.measure("anvil/erc20_to_new_holders", &to_new_holders, &senders, half).await?);
        rows.extend(peer.measure("anvil/erc20_to_holders", &to_holders, &senders, load.nonce()).await?);
    }
    Ok(rows)
}

fn percentile(times: &mut [Duration], per_cent: usize) -> f64 {
    times.sort_unstable();
    let place = (times.len() * per_cent / 100).min(times.len().saturating_sub(1));
    times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Four running validators. They end when this is dropped.
struct Network {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
    urls: Vec<String>,
    metrics: Vec<String>,
    /// A free port for JSON-RPC and one for peers, for a fifth node.
    spare: (u16, u16),
    http: reqwest::Client,
}

impl Network {
    async fn start(senders: &[Address]) -> eyre::Result<Self> {
        let folder = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
        let (rpc_port, peer_port, metrics_port) = free_ports()?;
        let arguments = ChainInitArgs {
            folder: folder.path().to_owned(),
            validators: VALIDATORS,
            chain_id: cortensor_node::localnet::L2_CHAIN_ID,
            host: "127.0.0.1".to_owned(),
            rpc_port,
            peer_port,
            metrics_port: Some(metrics_port),
            empty_block_ms: 0,
            fund: senders.to_vec(),
            fund_test_accounts: true,
            founder: None,
            supply: 0,
            public: false,
            bare: true,
            validators_contract: None,
            epoch_blocks: 1_000,
        };
        let (mut processes, mut urls) = (Vec::new(), Vec::new());
        for (home, member) in network::write_network(&arguments, None).await? {
            processes.push(spawn(&home)?);
            urls.push(format!("http://{}", member.rpc));
        }
        for process in &mut processes {
            ready(process).await?;
        }
        let metrics =
            (0..VALIDATORS).map(|index| format!("http://127.0.0.1:{}/metrics", metrics_port + index)).collect();
        let spare = (rpc_port + 3 * VALIDATORS, rpc_port + 4 * VALIDATORS);
        Ok(Self { folder, processes, urls, metrics, spare, http: reqwest::Client::new() })
    }

    /// anvil with four blocks a second and no limit on their gas.
    async fn anvil(program: &Path, senders: &[Address]) -> eyre::Result<Self> {
        let folder = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
        let (port, _, _) = free_ports()?;
        let mut command = Command::new(program);
        let chain_id = cortensor_node::localnet::L2_CHAIN_ID.to_string();
        command.args(["--port", &port.to_string(), "--chain-id", &chain_id, "--block-time", "0.25"]);
        command.args(["--gas-limit", "1000000000000", "--order", "fifo"]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let process = process.wrap_err_with(|| format!("cannot start {}", program.display()))?;
        let (urls, spare) = (vec![format!("http://127.0.0.1:{port}")], (0, 0));
        let peer =
            Self { folder, processes: vec![process], urls, metrics: Vec::new(), spare, http: reqwest::Client::new() };
        let start = Instant::now();
        while peer.height().await.is_err() {
            if start.elapsed() > PATIENCE {
                bail!("anvil does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for sender in senders {
            let parameters = json!([sender, "0x33b2e3c9fd0803ce8000000"]);
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": parameters });
            peer.post(0, &call).await?;
        }
        Ok(peer)
    }

    /// How fast a node that has nothing takes over the chain with these transactions.
    async fn catch_up(&self, transactions: usize) -> eyre::Result<Row> {
        let (home, (rpc_port, peer_port)) = (self.folder.path().join("late"), self.spare);
        network::write_joined(&ChainJoinArgs {
            home: home.clone(),
            network: self.folder.path().join("node-0"),
            host: "127.0.0.1".to_owned(),
            rpc_port,
            peer_port,
            follow: true,
        })?;
        let (goal, start) = (self.height().await?, Instant::now());
        let mut process = spawn(&home)?;
        ready(&mut process).await?;
        let url = format!("http://127.0.0.1:{rpc_port}");
        while height_of(&self.http, &url).await? < goal {
            if start.elapsed() > PATIENCE {
                bail!("a late node did not catch up");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        let speed = transactions as f64 / start.elapsed().as_secs_f64();
        Ok(Row::new("consensus/catch_up", speed, "tx/s"))
    }

    /// The processor time that all validators spent in each phase so far, in microseconds.
    async fn phases(&self) -> eyre::Result<[f64; 4]> {
        let mut sums = [0.0; 4];
        for url in &self.metrics {
            let text = self.http.get(url).timeout(PATIENCE).send().await?.text().await?;
            for (sum, phase) in sums.iter_mut().zip(PHASES) {
                let name = format!("cortensor_chain_{phase}_processor_microseconds_total ");
                let value = text.lines().find_map(|line| line.strip_prefix(&name));
                *sum += value.ok_or_else(|| eyre!("{url} does not show {name}"))?.parse::<f64>()?;
            }
        }
        Ok(sums)
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

    async fn wait_for_nonce(&self, account: Address, nonce: u64) -> eyre::Result<()> {
        let start = Instant::now();
        while self.quantity("eth_getTransactionCount", json!([account, "latest"])).await? < nonce {
            if start.elapsed() > PATIENCE {
                bail!("transfers did not become final");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn send_in_order(&self, transactions: &[Bytes]) -> eyre::Result<()> {
        for chunk in transactions.chunks(BATCH) {
            self.send(0, chunk).await?;
        }
        Ok(())
    }

    async fn send(&self, validator: usize, transactions: &[Bytes]) -> eyre::Result<()> {
        let call = |transaction| json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [transaction] });
        let answer = self.post(validator, &transactions.iter().map(call).collect()).await?;
        let refused = answer.as_array().into_iter().flatten().find(|one| one.get("error").is_some());
        refused.map_or(Ok(()), |refused| Err(eyre!("a transfer was refused: {refused}")))
    }

    /// Sends transfers until all are final: how many a second, how far blocks are apart, and what a transfer costs all four.
    async fn measure(
        &self,
        name: &str,
        transfers: &[Bytes],
        senders: &[Address],
        nonce: u64,
    ) -> eyre::Result<Vec<Row>> {
        let (start, used, phases) = (Instant::now(), self.processor_seconds()?, self.phases().await?);
        let all_final = async {
            self.send_to_all(transfers).await?;
            for sender in senders {
                self.wait_for_nonce(*sender, nonce).await?;
            }
            Ok::<_, eyre::Report>(start.elapsed())
        };
        tokio::pin!(all_final);
        let mut times = Vec::new();
        let elapsed = tokio::select! {
            elapsed = &mut all_final => elapsed?,
            error = self.watch_blocks(&mut times) => return Err(error),
        };
        let used = self.processor_seconds()? - used;
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        let count = transfers.len() as f64;
        let mut rows = vec![
            Row::new(&format!("consensus/{name}"), count / elapsed.as_secs_f64(), "tx/s"),
            Row::new(&format!("consensus/{name}/block_p50"), percentile(&mut times, 50), "ms"),
            Row::new(&format!("consensus/{name}/block_p99"), percentile(&mut times, 99), "ms"),
            Row::new(&format!("consensus/{name}/processor"), used / count * 1e6, "us/tx, all processes"),
        ];
        if self.metrics.is_empty() {
            return Ok(rows);
        }
        for ((phase, before), after) in PHASES.into_iter().zip(phases).zip(self.phases().await?) {
            let row = format!("consensus/{name}/processor/{phase}");
            rows.push(Row::new(&row, (after - before) / count, "us/tx, all four"));
        }
        Ok(rows)
    }

    /// Notes the times between blocks, and ends only with an error.
    async fn watch_blocks(&self, times: &mut Vec<Duration>) -> eyre::Report {
        loop {
            match self.block_times(1).await {
                Ok(more) => times.extend(more),
                Err(error) => return error,
            }
        }
    }

    /// Processor time of all validators so far, from the `stat` files of proc(5).
    fn processor_seconds(&self) -> eyre::Result<f64> {
        let mut ticks = 0.0;
        for id in self.processes.iter().filter_map(Child::id) {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).wrap_err("cannot read a processor time")?;
            // The name in parentheses may hold blanks; user and system time are the 12th and 13th fields after it.
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
            ticks += fields.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        }
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// A quarter of the senders to each validator, all at the same time, each as long as its pool is not full.
    async fn send_to_all(&self, transactions: &[Bytes]) -> eyre::Result<()> {
        let count = self.urls.len();
        let lanes = (0..count).map(async |validator| {
            // The number of senders is a multiple of the number of validators, so each sender stays with one.
            let own: Vec<_> = transactions.iter().skip(validator).step_by(count).cloned().collect();
            for chunk in own.chunks(BATCH) {
                while self.waiting(validator).await? > WAITING_MAX {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                self.send(validator, chunk).await?;
            }
            Ok::<_, eyre::Report>(())
        });
        futures::future::try_join_all(lanes).await.map(|_| ())
    }

    /// Transactions in a validator's pool.
    async fn waiting(&self, validator: usize) -> eyre::Result<u64> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "txpool_status", "params": [] });
        let answer = self.post(validator, &call).await?;
        let text = answer["result"]["pending"].as_str().ok_or_else(|| eyre!("txpool_status: {answer}"))?;
        Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
    }
}

fn spawn(home: &Path) -> eyre::Result<Child> {
    let own = std::env::current_exe().wrap_err("cannot find this program")?;
    let mut command = Command::new(own);
    command.args(["chain", "run", "--json", "--home"]).arg(home).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().wrap_err("cannot start a validator")
}

/// The first ports of three rows that are free now, each as long as there are validators and one more row behind them.
fn free_ports() -> eyre::Result<(u16, u16, u16)> {
    for base in (21_000..60_000).step_by(usize::from(8 * VALIDATORS)) {
        let free =
            |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 5 * VALIDATORS).all(free) {
            return Ok((base, base + VALIDATORS, base + 2 * VALIDATORS));
        }
    }
    Err(eyre!("no free ports"))
}

/// Waits until a node says that it runs.
async fn ready(process: &mut Child) -> eyre::Result<()> {
    let out = process.stdout.take().ok_or_else(|| eyre!("a validator has no output"))?;
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, BufReader::new(out).read_line(&mut line)).await??;
    if line.is_empty() {
        bail!("a validator did not start");
    }
    Ok(())
}

async fn height_of(http: &reqwest::Client, url: &str) -> eyre::Result<u64> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": [] });
    let request = http.post(url).timeout(PATIENCE).header("content-type", "application/json");
    let answer: Value = serde_json::from_str(&request.body(call.to_string()).send().await?.text().await?)?;
    let text = answer["result"].as_str().ok_or_else(|| eyre!("eth_blockNumber: {answer}"))?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}
