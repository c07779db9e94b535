//! Validators as processes on this machine, each with its folder, and a client that speaks to their JSON-RPC.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_chain::{DEVELOPMENT_ADDRESSES, DEVELOPMENT_KEYS, WEI_PER_COIN};
use cortensor_consensus::{
    home::{self, Network, Node},
    signing::Signer,
};
use cortensor_net::{NodeAddress, TransportSecret};
use cortensor_protocol::consensus::{Domain, Validator};
use serde_json::{Value, json};

pub const CHAIN_ID: u64 = 4_242;

/// One validator's folder and process.
pub struct Member {
    pub folder: PathBuf,
    pub url: String,
    process: Option<Child>,
}

/// Several validators that know each other, and perhaps nodes that only follow.
pub struct Cluster {
    _folder: tempfile::TempDir,
    pub members: Vec<Member>,
    http: reqwest::Client,
}

/// A place that is free for both protocols and stays free while a member is down: systems give out ports of this range
/// to nobody who does not ask for them.
fn free_place() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).unwrap() * 100;
    for _ in 0..20_000 {
        let port = 10_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let place = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
    panic!("no port is free");
}

/// Beside the folder, which may be full.
fn log_file(folder: &Path) -> PathBuf {
    folder.with_extension("log")
}

/// A member's process, from its first instant on.
pub fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_file(folder)).unwrap();
    Command::new(binary()).arg(folder).args(arguments).stdout(Stdio::piped()).stderr(log).spawn().unwrap()
}

fn key(index: usize) -> B256 {
    keccak256([b'v', index as u8])
}

impl Cluster {
    /// Writes the folders of `validators` validators and `followers` nodes without a key. Nothing runs yet.
    pub fn new(validators: usize, followers: usize, empty_block_ms: u64) -> Self {
        Self::tuned(validators, followers, |_, node| node.empty_block_ms = empty_block_ms)
    }

    /// The same with other files than usual.
    pub fn tuned(validators: usize, followers: usize, tune: impl Fn(&mut Network, &mut Node)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domain = Domain::new(CHAIN_ID);
        let address = |index| Signer::new(&key(index), domain).unwrap().address().0;
        let mut network = Network {
            chain_id: CHAIN_ID,
            timestamp: 1_700_000_000,
            gas_limit: 120_000_000,
            validators: (0..validators).map(|index| Validator { address: address(index), power: 100 }).collect(),
            epoch_blocks: 100,
            validators_contract: None,
            upgrades: Vec::new(),
            members: None,
            accounts: std::collections::BTreeMap::new(),
            balances_wei: DEVELOPMENT_ADDRESSES.iter().map(|one| (*one, WEI_PER_COIN * U256::from(10_000))).collect(),
        };
        let secrets: Vec<_> = (0..validators + followers).map(|_| TransportSecret::generate()).collect();
        let places: Vec<_> = secrets.iter().map(|_| free_place()).collect();
        let peer = |index: usize| NodeAddress::new(secrets[index].public(), "127.0.0.1", places[index].port()).unwrap();
        let peers: Vec<_> = (0..validators).map(peer).collect();
        tune(&mut network, &mut Node::new(free_place(), places[0], Vec::new()));
        let member = |index: usize| {
            let folder = folder.path().join(format!("node-{index}"));
            std::fs::create_dir(&folder).unwrap();
            let rpc = free_place();
            let mut node = Node::new(rpc, places[index], peers.clone());
            (node.propose_ms, node.vote_ms) = (1_000, 300);
            tune(&mut network.clone(), &mut node);
            home::write(&folder.join(home::NETWORK_FILE), &network).unwrap();
            home::write(&folder.join(home::NODE_FILE), &node).unwrap();
            let secret = B256::from(*secrets[index].to_bytes());
            std::fs::write(folder.join(home::TRANSPORT_KEY_FILE), secret.to_string()).unwrap();
            if index < validators {
                std::fs::write(folder.join("validator.hex"), key(index).to_string()).unwrap();
            }
            Member { folder, url: format!("http://{rpc}"), process: None }
        };
        let members = (0..validators + followers).map(member).collect();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { _folder: folder, members, http: reqwest::Client::new() }
    }

    /// Starts one member's process and waits until it serves.
    pub fn start(&mut self, index: usize) {
        let started = self.try_start(index, &[]);
        started.unwrap_or_else(|log| panic!("member {index} did not start: {log}"));
    }

    /// Starts one member's process. Without success it is gone, and this is what it said.
    pub fn try_start(&mut self, index: usize, arguments: &[&str]) -> Result<(), String> {
        let before = self.log(index).len();
        let member = &mut self.members[index];
        let mut process = spawn(&member.folder, arguments);
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if !line.starts_with("http://") {
            assert!(!process.wait().unwrap().success());
            return Err(self.log(index)[before..].to_owned());
        }
        self.members[index].process = Some(process);
        Ok(())
    }

    /// Starts one member, which is to give up at once or soon; this is what it said.
    pub async fn start_in_vain(&mut self, index: usize) -> String {
        let before = self.log(index).len();
        if let Err(said) = self.try_start(index, &[]) {
            return said;
        }
        self.wait_for_end(index).await;
        self.log(index)[before..].to_owned()
    }

    /// Waits until a member's process has failed by itself.
    pub async fn wait_for_end(&mut self, index: usize) {
        let mut process = self.members[index].process.take().unwrap();
        for _ in 0..1_000 {
            if let Some(status) = process.try_wait().unwrap() {
                assert!(!status.success(), "member {index} ended well");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process.kill().unwrap();
        panic!("member {index} still runs: {}", self.log(index));
    }

    pub fn start_all(&mut self) {
        for index in 0..self.members.len() {
            self.start(index);
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn runs(&self, index: usize) -> bool {
        self.members[index].process.is_some()
    }

    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(log_file(&self.members[index].folder)).unwrap_or_default()
    }

    /// One call of JSON-RPC; none when the member does not answer.
    pub async fn try_call(&self, index: usize, method: &str, params: Value) -> Option<Value> {
        let answer = self.answer(index, method, params).await?;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        Some(answer["result"].clone())
    }

    /// The whole answer, whatever it says.
    pub async fn answer(&self, index: usize, method: &str, params: Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.http.post(&self.members[index].url).header("content-type", "application/json").body(body);
        let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?.text().await.ok()?;
        Some(serde_json::from_str(&answer).unwrap())
    }

    pub async fn call(&self, index: usize, method: &str, params: Value) -> Value {
        // A connection of before the member was killed and started again may be tried first.
        let first = self.try_call(index, method, params.clone()).await;
        let answer = if first.is_some() { first } else { self.try_call(index, method, params).await };
        answer.unwrap_or_else(|| panic!("member {index} does not answer {method}: {}", self.log(index)))
    }

    pub async fn height(&self, index: usize) -> u64 {
        number(&self.call(index, "eth_blockNumber", json!([])).await)
    }

    /// Waits until this member has this block.
    pub async fn reach(&self, index: usize, height: u64, limit: Duration) {
        let start = Instant::now();
        while self.height(index).await < height {
            let height_now = self.height(index).await;
            assert!(
                start.elapsed() < limit,
                "member {index} is at {height_now} of {height} after {limit:?}: {}",
                self.log(index)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn block(&self, index: usize, number: u64) -> Value {
        self.call(index, "eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await
    }

    /// Fails unless all of these members have the same blocks up to the lowest of their heads.
    pub async fn assert_same_chain(&self, members: &[usize]) -> u64 {
        let mut lowest = u64::MAX;
        for index in members {
            lowest = lowest.min(self.height(*index).await);
        }
        for number in 0..=lowest {
            let first = self.block(members[0], number).await["hash"].clone();
            for index in &members[1..] {
                assert_eq!(self.block(*index, number).await["hash"], first, "block {number} of member {index}");
            }
        }
        lowest
    }

    pub async fn send(&self, index: usize, transaction: &Bytes) -> Option<Value> {
        self.try_call(index, "eth_sendRawTransaction", json!([transaction])).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

pub fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse::<U256>().unwrap().to()
}

/// A plain transfer of one wei by one of the development accounts.
pub fn transfer(account: usize, nonce: u64) -> Bytes {
    signed(account, nonce, TxKind::Call(Address::repeat_byte(0xaa)), U256::from(1), Bytes::new(), 21_000)
}

/// A contract made with this init code by one of the development accounts.
pub fn deployment(account: usize, nonce: u64, code: Bytes) -> Bytes {
    signed(account, nonce, TxKind::Create, U256::ZERO, code, 1_000_000)
}

fn signed(account: usize, nonce: u64, to: TxKind, value: U256, input: Bytes, gas_limit: u64) -> Bytes {
    let signer = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[account]).unwrap();
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to,
        value,
        input,
        ..TxEip1559::default()
    };
    let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

/// The example next to the test's own binary.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join("validator");
    assert!(path.exists(), "{} is missing: cargo builds examples with tests", path.display());
    path
}
