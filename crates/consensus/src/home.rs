//! The files of a node: what its network is, and what it is itself.
//!
//! `network.json` is equal on all nodes and gives block 0; `node.json` is each node's own. Keys are in files of their own.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alloy::primitives::{Address, B256, U256};
use cortensor_chain::{
    Chain, ChainHandle, Config, Genesis, GenesisAccount, Import, Permissions, StartError, StatesKept,
};
use cortensor_net::{NetConfig, NodeAddress, PeersConfig, TransportSecret};
use cortensor_protocol::light::Trusted;
use cortensor_protocol::{
    TransportKey,
    consensus::{Domain, SetError, Validator, ValidatorSet},
};
use malachite_types::LinearTimeouts;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    node::{Bft, BftConfig, Metrics, PowersFrom},
    signing::{Keeper, RemoteSigner, Signer, SigningError},
    snapshot::{self, Begin, SnapshotError},
    upgrade::{self, Upgrade, UpgradeError},
};

/// The network's file in a node's folder.
pub const NETWORK_FILE: &str = "network.json";
/// The node's own file.
pub const NODE_FILE: &str = "node.json";
/// The validator's encrypted key.
pub const VALIDATOR_KEY_FILE: &str = "validator.key.json";
/// The password of that key, if it is kept beside it.
pub const PASSWORD_FILE: &str = "validator.password";
/// The transport key.
pub const TRANSPORT_KEY_FILE: &str = "transport.key";
/// The folder of the chain's data.
pub const DATA_FOLDER: &str = "data";
/// The folder, within that, of copies of the state.
pub const COPIES_FOLDER: &str = "copies";
/// The consensus log.
pub const LOG_FILE: &str = "consensus.wal";
/// Proofs of double votes that this node saw, a JSON object a line.
pub const EVIDENCE_FILE: &str = "evidence.jsonl";
/// Most bytes of one of the files.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a node's files cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Reading or writing failed.
    #[error("{file} cannot be used")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what it should hold.
    #[error("{file} is malformed")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The validators are no set.
    #[error("the validators in network.json")]
    Set(#[from] SetError),
    /// Not a transport key.
    #[error("{file} does not hold 64 hexadecimal digits")]
    TransportKey {
        /// The file.
        file: String,
    },
    /// The validator's key is not one of secp256k1.
    #[error(transparent)]
    Key(#[from] crate::signing::KeyError),
    /// The process that keeps the key does not sign.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The chain does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Upgrades that cannot be.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// No copy of a state to begin with.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// An epoch too short for a set to be read in it.
    #[error("epoch_blocks in network.json must be at least 2")]
    Epoch,
}

/// What makes a network.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// EIP-155 chain identifier.
    pub chain_id: u64,
    /// Unix time of block 0, in seconds.
    pub timestamp: u64,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Who decides the first epoch.
    pub validators: Vec<Validator>,
    /// Blocks in an epoch.
    pub epoch_blocks: u64,
    /// The Validators contract; without it the first set stays for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validators_contract: Option<Address>,
    /// Contracts of block 0, and accounts that have sent transactions before it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<Address, GenesisAccount>,
    /// Balances in block 0, in wei.
    pub balances_wei: BTreeMap<Address, U256>,
    /// Changes of the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<Upgrade>,
    /// Who may use the network; without it everybody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<NetworkMembers>,
}

/// What makes a network permissioned.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NetworkMembers {
    /// Where the `Members` contract stands, or will stand.
    pub contract: Address,
    /// Who founds the network: until that contract stands, nobody else may send anything.
    pub founder: Address,
}

impl Network {
    /// Who decides the first epoch.
    ///
    /// # Errors
    /// When the validators are no set.
    pub fn first_set(&self) -> Result<ValidatorSet, SetError> {
        ValidatorSet::new(self.validators.clone())
    }

    /// Block 0 as whoever believes this file believes it.
    ///
    /// # Errors
    /// When the validators are no set.
    pub fn trusted(&self) -> Result<Trusted, SetError> {
        let (chain_id, epoch_blocks, timestamp) = (self.chain_id, self.epoch_blocks, self.timestamp);
        Ok(Trusted { chain_id, epoch_blocks, number: 0, set_hash: self.first_set()?.hash(), timestamp })
    }

    /// Where powers come from.
    #[must_use]
    pub fn powers_from(&self) -> PowersFrom {
        let change = |upgrade: &Upgrade| Some((upgrade.height, upgrade.validators_contract?));
        let changes = self.upgrades.iter().filter_map(change).collect();
        PowersFrom { contract: self.validators_contract, changes, epoch_blocks: self.epoch_blocks }
    }

    /// The chain that this network runs.
    ///
    /// # Errors
    /// When the file's values cannot make one.
    pub fn chain(&self, listen: SocketAddr, data: &Path) -> Result<Config, HomeError> {
        if self.epoch_blocks < 2 {
            return Err(HomeError::Epoch);
        }
        upgrade::check(&self.upgrades)?;
        let mut accounts = self.accounts.clone();
        for (address, balance_wei) in &self.balances_wei {
            accounts.entry(*address).or_default().balance_wei = *balance_wei;
        }
        let genesis = Genesis { timestamp: self.timestamp, extra_data: self.first_set()?.hash().into(), accounts };
        let mut config = Config::development(self.chain_id).with_listen(listen).with_directory(data);
        config.genesis = genesis;
        config.gas_limit = self.gas_limit;
        let change = |upgrade: &Upgrade| Some((upgrade.height, upgrade.gas_limit?));
        config.gas_limit_changes = self.upgrades.iter().filter_map(change).collect();
        config.permissions = self.members.as_ref().map(|members| Permissions {
            members: members.contract,
            founder: members.founder,
            server_names: Vec::new(),
        });
        config.dev = false;
        Ok(config)
    }
}

/// What makes a node.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Address of the JSON-RPC server.
    pub rpc: SocketAddr,
    /// Names, host and port, under which readers of a permissioned network reach that server, beside its address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rpc_names: Vec<String>,
    /// Where peers reach this node (UDP).
    pub listen: SocketAddr,
    /// The peers to dial.
    pub peers: Vec<NodeAddress>,
    /// Most peers beside those.
    pub strangers_max: usize,
    /// The socket of the process that keeps the validator's key (`cortensor chain sign`); without it the key is in the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<PathBuf>,
    /// Where counters are served in Prometheus' text form; nowhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// How long a block without transactions is put off.
    pub empty_block_ms: u64,
    /// How long a proposal may take beyond that.
    pub propose_ms: u64,
    /// How long to wait for further votes when two thirds voted differently.
    pub vote_ms: u64,
    /// The state is copied, for nodes that begin with a copy, whenever this many blocks have passed; 0 for never.
    #[serde(default = "copy_every_blocks")]
    pub copy_every_blocks: u64,
    /// The blocks whose states are kept: the last so many, or `"archive"` for all.
    #[serde(default = "states")]
    pub states: StatesKept,
}

fn copy_every_blocks() -> u64 {
    10_000
}

/// As many as between two copies: hours at one block a second, far more than a relay or a light client lags behind.
fn states() -> StatesKept {
    StatesKept::Last(const { NonZeroU64::new(10_000).expect("it is not 0") })
}

impl Node {
    /// A node at these places, with the usual times.
    #[must_use]
    pub fn new(rpc: SocketAddr, listen: SocketAddr, peers: Vec<NodeAddress>) -> Self {
        Self {
            rpc,
            rpc_names: Vec::new(),
            listen,
            peers,
            strangers_max: 64,
            signer: None,
            metrics: None,
            empty_block_ms: 1_000,
            propose_ms: 2_000,
            vote_ms: 500,
            copy_every_blocks: copy_every_blocks(),
            states: states(),
        }
    }

    /// The consensus core's clocks.
    #[must_use]
    pub fn timeouts(&self) -> LinearTimeouts {
        let propose = Duration::from_millis(self.empty_block_ms + self.propose_ms);
        let vote = Duration::from_millis(self.vote_ms);
        LinearTimeouts {
            propose,
            propose_delta: Duration::from_millis(self.propose_ms / 2),
            prevote: vote,
            prevote_delta: vote / 2,
            precommit: vote,
            precommit_delta: vote / 2,
            rebroadcast: Duration::from_secs(1),
            max_timeout: Duration::from_secs(60),
        }
    }
}

/// Where a validator's signatures come from.
#[derive(Clone, Debug)]
pub enum KeyFrom {
    /// Nowhere: the node only follows.
    Nobody,
    /// From this key.
    Key(B256),
    /// From the process at this socket.
    Socket(PathBuf),
}

impl KeyFrom {
    fn keeper(self, chain_id: u64) -> Result<Option<Keeper>, HomeError> {
        Ok(match self {
            Self::Nobody => None,
            Self::Key(key) => Some(Signer::new(&key, Domain::new(chain_id))?.into()),
            Self::Socket(socket) => Some(Keeper::Remote(RemoteSigner::connect(&socket, chain_id)?)),
        })
    }
}

/// A node at work.
#[derive(Debug)]
pub struct Running {
    /// Whose votes it signs; nobody's where it only follows.
    pub validator: Option<Address>,
    /// Its chain.
    pub chain: ChainHandle,
    /// Counters of its consensus.
    pub metrics: Arc<Metrics>,
}

/// Starts the node of a folder; `new_log` as in [`BftConfig`].
///
/// # Errors
/// When its files cannot be used, or its chain does not start.
pub async fn start(folder: &Path, key: KeyFrom, new_log: bool) -> Result<Running, HomeError> {
    let network: Network = read(&folder.join(NETWORK_FILE))?;
    let node: Node = read(&folder.join(NODE_FILE))?;
    let secret = transport_secret(&folder.join(TRANSPORT_KEY_FILE))?;
    let signer = key.keeper(network.chain_id)?;
    let validator = signer.as_ref().map(|signer| signer.address().0);
    let mut net = NetConfig::new(secret, node.listen);
    net.limits.dead_after = DEAD_AFTER;
    let bft = Bft::new(BftConfig {
        chain_id: network.chain_id,
        signer,
        first_set: network.first_set()?,
        powers: network.powers_from(),
        log: folder.join(LOG_FILE),
        evidence: folder.join(EVIDENCE_FILE),
        new_log,
        unknown: upgrade::first_unknown(&network.upgrades),
        peers: PeersConfig {
            net,
            peers: node.peers.clone(),
            strangers_max: node.strangers_max,
            // The chain says who may be one; the consensus asks it.
            admission: None,
        },
        timeouts: node.timeouts(),
        empty_block_every: Duration::from_millis(node.empty_block_ms),
        copies: folder.join(DATA_FOLDER).join(COPIES_FOLDER),
        copy_every_blocks: node.copy_every_blocks,
    });
    let metrics = bft.metrics();
    let mut config = network.chain(node.rpc, &folder.join(DATA_FOLDER))?;
    config.states = node.states;
    if let Some(permissions) = &mut config.permissions {
        permissions.server_names.clone_from(&node.rpc_names);
    }
    let chain = Chain::start_with(config, Box::new(bft)).await?;
    Ok(Running { validator, chain, metrics })
}

/// Begins the data of a folder that has none with a copy of a recent state, fetched from its peers; the number of the
/// copy's block, or none where there is data already.
///
/// # Errors
/// When its files cannot be used, or no peer has a usable copy.
pub async fn begin_with_copy(folder: &Path) -> Result<Option<u64>, HomeError> {
    let network: Network = read(&folder.join(NETWORK_FILE))?;
    let node: Node = read(&folder.join(NODE_FILE))?;
    let chain = network.chain(node.rpc, &folder.join(DATA_FOLDER))?;
    if !Import::is_wanted(&chain) {
        return Ok(None);
    }
    let mut net = NetConfig::new(transport_secret(&folder.join(TRANSPORT_KEY_FILE))?, node.listen);
    net.limits.dead_after = DEAD_AFTER;
    let peers = PeersConfig { net, peers: node.peers, strangers_max: 0, admission: None };
    let block = snapshot::begin(Begin { peers, trusted: network.trusted()?, chain }).await?;
    crate::node::note_followed(&folder.join(LOG_FILE))
        .map_err(|source| HomeError::Io { file: folder.display().to_string(), source })?;
    Ok(Some(block))
}

/// A peer that is silent for so long is dialled again.
const DEAD_AFTER: Duration = Duration::from_secs(2);

/// The key by which the node of a folder is known to its peers.
///
/// # Errors
/// When its file cannot be read or parsed.
pub fn transport_key(folder: &Path) -> Result<TransportKey, HomeError> {
    Ok(transport_secret(&folder.join(TRANSPORT_KEY_FILE))?.public())
}

fn transport_secret(path: &Path) -> Result<TransportSecret, HomeError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| HomeError::Io { file: file.clone(), source })?;
    let bytes: B256 = text.trim().parse().map_err(|_| HomeError::TransportKey { file })?;
    Ok(TransportSecret::from_bytes(bytes.0))
}

/// Reads one of the files.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, HomeError> {
    let file = path.display().to_string();
    let failed = |source| HomeError::Io { file: file.clone(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(std::io::Error::other("larger than any such file is")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text).map_err(|source| HomeError::Json { file, source })
}

/// Writes one of the files.
///
/// # Errors
/// When it cannot be written.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), HomeError> {
    let file = path.display().to_string();
    let text = serde_json::to_string_pretty(value).map_err(|source| HomeError::Json { file: file.clone(), source })?;
    std::fs::write(path, text + "\n").map_err(|source| HomeError::Io { file, source })
}
