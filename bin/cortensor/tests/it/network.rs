//! A network of validators made by `cortensor chain init`, each a process of its own, and transfers that go on meanwhile.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::Encodable2718 as _,
    primitives::{Address, Bytes, TxKind, U256},
    providers::Provider as _,
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_chain::DEVELOPMENT_KEYS;
use cortensor_contracts::{
    Contracts, Deployment, Provider, Wallet, connect,
    keystore::{self, Password},
};
use serde_json::{Value, json};
use std::{
    future::Future,
    io::{BufRead as _, BufReader},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};

pub(crate) const CHAIN_ID: u64 = 31_338;
/// Where the transfers go.
pub(crate) const RECIPIENT: Address = Address::repeat_byte(0xaa);

/// A process of this binary that ends with the test.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    /// `kill -9`.
    pub(crate) fn kill(self) {}

    /// Waits until it ends by itself, and how it did.
    pub(crate) fn wait(mut self) -> i32 {
        self.0.wait().unwrap().code().unwrap_or(-1)
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> i32 {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

/// Runs a command to its end; what it printed.
pub(crate) fn cortensor(arguments: &[&str], password_file: Option<&Path>) -> String {
    let output = command(arguments, password_file).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cortensor {arguments:?}: {out}{err}");
    out.into_owned()
}

/// Starts a process and waits for the line that says it is ready.
pub(crate) fn start(arguments: &[&str], log: &Path) -> Daemon {
    wait_ready(command(arguments, None), log)
}

/// The same for the validator of a folder, in a network namespace.
pub(crate) fn start_in(namespace: &str, home: &Path) -> Daemon {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_cortensor"), "chain", "run", "--json", "--home"]);
    command.arg(home);
    wait_ready(command, &home.join("log"))
}

fn wait_ready(mut command: Command, log: &Path) -> Daemon {
    let log_file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut process = command.stdout(Stdio::piped()).stderr(log_file).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{command:?} did not start: {}", std::fs::read_to_string(log).unwrap());
    Daemon(process)
}

fn command(arguments: &[&str], password_file: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cortensor"));
    command.args(arguments);
    if let Some(file) = password_file {
        command.env("CORTENSOR_PASSWORD_FILE", file);
    }
    command
}

/// `count` neighbouring ports that are free for both protocols, and stay so while a process is down: systems give out
/// ports of this range to nobody who does not ask for them.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let is_free =
        |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let start = u16::try_from(std::process::id() % 200).unwrap() * 100;
    for _ in 0..1_000 {
        let first = 10_000 + start.wrapping_add(NEXT.fetch_add(count, SeqCst)) % 20_000;
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} neighbouring ports are free");
}

/// Looks until something is so.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A node's folder and process.
pub(crate) struct Node {
    pub(crate) home: PathBuf,
    pub(crate) provider: Provider,
    pub(crate) contracts: Contracts,
    process: Option<Daemon>,
}

impl Node {
    async fn new(home: PathBuf, rpc_port: u16) -> Self {
        let deployment = Deployment::load(&home.join("deployment.json")).unwrap().unwrap();
        // Nothing listens yet: a provider that does not ask first.
        let provider = cortensor_contracts::Endpoint::new(format!("http://127.0.0.1:{rpc_port}")).provider().unwrap();
        Self { contracts: deployment.contracts(&provider), provider, home, process: None }
    }

    pub(crate) fn start(&mut self) {
        let home = self.home.to_str().unwrap();
        self.run(start(&["chain", "run", "--home", home, "--json"], &self.home.join("log")));
    }

    /// A process that was started otherwise.
    pub(crate) fn run(&mut self, process: Daemon) {
        self.process = Some(process);
    }

    /// Its JSON-RPC is elsewhere now.
    pub(crate) fn move_to(&mut self, url: &str) {
        self.provider = cortensor_contracts::Endpoint::new(url).provider().unwrap();
        self.contracts =
            Deployment::load(&self.home.join("deployment.json")).unwrap().unwrap().contracts(&self.provider);
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    pub(crate) fn terminate(&mut self) -> i32 {
        self.process.take().unwrap().terminate()
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.process.take().unwrap().wait()
    }

    /// What the validator signs with.
    pub(crate) fn key(&self) -> Address {
        keystore::account(&self.home.join("validator.key.json")).unwrap().unwrap()
    }

    pub(crate) async fn height(&self) -> u64 {
        self.provider.get_block_number().await.unwrap()
    }

    /// The power that a key has in the running epoch.
    pub(crate) async fn power_of(&self, key: Address) -> u64 {
        let set = self.contracts.validators.set_at(self.height().await).await.unwrap();
        set.power_of(key).unwrap_or(0)
    }

    /// Those who signed a block, once it has its certificate.
    pub(crate) async fn signers(&self, number: u64) -> Vec<Address> {
        let certificate: Value =
            self.provider.raw_request("cortensor_getCertificate".into(), (format!("{number:#x}"),)).await.unwrap();
        let signers: U256 = certificate["signers"].as_str().unwrap().parse().unwrap();
        let validators = certificate["validators"].as_array().unwrap().iter();
        let named = validators.map(|one| one.as_str().unwrap().parse().unwrap());
        named.enumerate().filter(|(index, _)| signers.bit(*index)).map(|(_, address)| address).collect()
    }
}

/// All nodes of one network.
pub(crate) struct Network {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) nodes: Vec<Node>,
    first_port: u16,
    _turn: MutexGuard<'static, ()>,
}

/// One network at a time: several would take each other's processors, and be measured by it.
static TURN: Mutex<()> = Mutex::const_new(());

impl Network {
    /// Writes a network of `validators`, with room for as many nodes again. Nothing runs yet.
    pub(crate) async fn init(validators: u16, epoch_blocks: u32, block_ms: u32) -> Self {
        Self::init_with(validators, epoch_blocks, block_ms, &[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn init_with(validators: u16, epoch_blocks: u32, block_ms: u32, more: &[&str]) -> Self {
        let turn = TURN.lock().await;
        cortensor_contracts::install_tls();
        let folder = tempfile::tempdir().unwrap();
        let first_port = free_ports(validators * 4);
        let number = |value: u64| value.to_string();
        let (count, rpc, peers) =
            (number(validators.into()), number(first_port.into()), number((first_port + validators * 2).into()));
        let (chain, epoch, every) = (number(CHAIN_ID), number(epoch_blocks.into()), number(block_ms.into()));
        let place = folder.path().to_str().unwrap();
        let mut arguments = vec!["chain", "init", place, "--fund-test-accounts", "--validators", &count];
        arguments.extend(["--rpc-port", &rpc, "--peer-port", &peers, "--chain-id", &chain]);
        arguments.extend(["--epoch-blocks", &epoch, "--empty-block-ms", &every]);
        arguments.extend(more);
        cortensor(&arguments, None);
        let mut nodes = Vec::new();
        for index in 0..validators {
            nodes.push(Node::new(folder.path().join(format!("node-{index}")), first_port + index).await);
        }
        Self { folder, nodes, first_port, _turn: turn }
    }

    pub(crate) fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
    }

    /// One more node, which is not started; its index.
    pub(crate) async fn join(&mut self) -> usize {
        let index = self.nodes.len();
        let home = self.folder.path().join(format!("node-{index}"));
        let (rpc, peer) = self.ports(index);
        let model = self.nodes[0].home.to_str().unwrap();
        let ports = [rpc.to_string(), peer.to_string()];
        let place = home.to_str().unwrap();
        let [rpc_port, peer_port] = [ports[0].as_str(), ports[1].as_str()];
        cortensor(
            &["chain", "join", place, "--network", model, "--rpc-port", rpc_port, "--peer-port", peer_port],
            None,
        );
        self.nodes.push(Node::new(home, rpc).await);
        index
    }

    fn ports(&self, index: usize) -> (u16, u16) {
        let (index, half) = (u16::try_from(index).unwrap(), self.first_capacity());
        (self.first_port + index, self.first_port + half + index)
    }

    fn first_capacity(&self) -> u16 {
        // `init` gave the lower half of the ports to JSON-RPC and the upper one to peers.
        let peers = &std::fs::read_to_string(self.nodes[0].home.join("node.json")).unwrap();
        let node: Value = serde_json::from_str(peers).unwrap();
        let listen: std::net::SocketAddr = node["listen"].as_str().unwrap().parse().unwrap();
        listen.port() - self.first_port
    }

    /// The same validator once more, on another machine as it were: own transport key and ports, the same signing key.
    pub(crate) async fn twin(&mut self, index: usize) -> usize {
        let twin = self.join().await;
        for file in ["validator.key.json", "validator.password"] {
            std::fs::copy(self.nodes[index].home.join(file), self.nodes[twin].home.join(file)).unwrap();
        }
        twin
    }

    /// The account that owns the contracts, on node 0.
    pub(crate) async fn founder(&self) -> Wallet {
        let secret = std::fs::read_to_string(self.folder.path().join("founder.password")).unwrap();
        let password = Password::new(secret.trim().to_owned()).unwrap();
        let signer = keystore::open(&self.folder.path().join("founder.key.json"), &password).unwrap();
        Wallet::new(self.nodes[0].provider.clone(), signer).await.unwrap()
    }

    /// Every running node has the same blocks up to the lowest of their heads.
    pub(crate) async fn assert_same_chain(&self, members: &[usize]) -> u64 {
        let mut lowest = u64::MAX;
        for index in members {
            lowest = lowest.min(self.nodes[*index].height().await);
        }
        for number in 0..=lowest {
            let mut hashes = Vec::new();
            for index in members {
                let block = self.nodes[*index].provider.get_block_by_number(number.into()).await.unwrap().unwrap();
                hashes.push(block.header.hash);
            }
            assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "block {number}: {hashes:?}");
        }
        lowest
    }
}

/// Transfers of one wei each, a few in a second, to whichever of these nodes takes them.
pub(crate) struct Traffic {
    sent: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Traffic {
    pub(crate) fn begin(network: &Network) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let providers: Vec<_> = network.nodes.iter().map(|node| node.provider.clone()).collect();
        let task = tokio::spawn(traffic(providers, Arc::clone(&sent)));
        Self { sent, task }
    }

    /// Ends it; how many transfers were taken by some node.
    pub(crate) fn end(self) -> u64 {
        self.task.abort();
        self.sent.load(SeqCst)
    }
}

async fn traffic(providers: Vec<Provider>, sent: Arc<AtomicU64>) {
    let mut turn = 0;
    loop {
        turn += 1;
        let raw = transfer(9, sent.load(SeqCst));
        let taken: Result<Value, _> =
            providers[turn % providers.len()].raw_request("eth_sendRawTransaction".into(), json!([raw])).await;
        if taken.is_ok() {
            sent.fetch_add(1, SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A plain transfer of one wei by one of the development accounts.
fn transfer(account: usize, nonce: u64) -> Bytes {
    let signer = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[account]).unwrap();
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(RECIPIENT),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

/// A provider for a node that listens.
pub(crate) async fn provider(url: &str) -> Provider {
    connect(url).await.unwrap()
}
