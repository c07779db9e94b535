//! Validators as processes on this machine, each with its folder, and a client that speaks to their JSON-RPC.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    folder: PathBuf,
    pub url: String,
    process: Option<Child>,
}

/// Several validators that know each other, and perhaps nodes that only follow.
pub struct Cluster {
    _folder: tempfile::TempDir,
    pub members: Vec<Member>,
    http: reqwest::Client,
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn free_tcp() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn key(index: usize) -> B256 {
    keccak256([b'v', index as u8])
}

impl Cluster {
    /// Writes the folders of `validators` validators and `followers` nodes without a key. Nothing runs yet.
    pub fn new(validators: usize, followers: usize, empty_block_ms: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domain = Domain::new(CHAIN_ID);
        let address = |index| Signer::new(&key(index), domain).unwrap().address().0;
        let network = Network {
            chain_id: CHAIN_ID,
            timestamp: 1_700_000_000,
            gas_limit: 120_000_000,
            validators: (0..validators).map(|index| Validator { address: address(index), power: 100 }).collect(),
            epoch_blocks: 100,
            validators_contract: None,
            members: None,
            accounts: std::collections::BTreeMap::new(),
            balances_wei: DEVELOPMENT_ADDRESSES.iter().map(|one| (*one, WEI_PER_COIN * U256::from(10_000))).collect(),
        };
        let secrets: Vec<_> = (0..validators + followers).map(|_| TransportSecret::generate()).collect();
        let places: Vec<_> = secrets.iter().map(|_| free_udp()).collect();
        let peer = |index: usize| NodeAddress::new(secrets[index].public(), "127.0.0.1", places[index].port()).unwrap();
        let peers: Vec<_> = (0..validators).map(peer).collect();
        let member = |index: usize| {
            let folder = folder.path().join(format!("node-{index}"));
            std::fs::create_dir(&folder).unwrap();
            let rpc = free_tcp();
            let mut node = Node::new(rpc, places[index], peers.clone());
            (node.empty_block_ms, node.propose_ms, node.vote_ms) = (empty_block_ms, 1_000, 300);
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
        let member = &mut self.members[index];
        let log = std::fs::OpenOptions::new().create(true).append(true).open(member.folder.join("log")).unwrap();
        let mut process =
            Command::new(binary()).arg(&member.folder).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://"), "member {index} did not start: {}", self.log(index));
        self.members[index].process = Some(process);
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

    fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.members[index].folder.join("log")).unwrap_or_default()
    }

    /// One call of JSON-RPC; none when the member does not answer.
    pub async fn try_call(&self, index: usize, method: &str, params: Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.http.post(&self.members[index].url).header("content-type", "application/json").body(body);
        let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        Some(answer["result"].clone())
    }

    pub async fn call(&self, index: usize, method: &str, params: Value) -> Value {
        let answer = self.try_call(index, method, params).await;
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
    let signer = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[account]).unwrap();
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::from(1),
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
