//! What a chain is made of: identity, genesis, sealing, fees, bounds.
//!
//! [`Config`] is plain data that a caller fills in; [`Config::validate`] is the one place where it is checked, and
//! [`crate::Chain::start`] runs it before anything is opened. Two nodes with equal [`Config::chain_id`],
//! [`Config::genesis`], [`Config::gas_limit`], [`Config::fees`] and [`Config::coinbase`] have the same genesis hash.
//! This module opens no file and no socket.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU64, path::PathBuf, str::FromStr, time::Duration};

use alloy::primitives::{Address, B256, Bytes, U256, address, bytes};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::members::Permissions;

/// One ether, token or other native coin, in wei.
pub const WEI_PER_COIN: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// The largest gas limit that one transaction may ask for (EIP-7825, Osaka).
pub const TRANSACTION_GAS_LIMIT_MAX: u64 = 1 << 24;

/// Private keys of the development accounts: the ones every Ethereum tool knows, derived from the mnemonic
/// `test test test test test test test test test test test junk`. Anyone can spend what they hold.
pub const DEVELOPMENT_KEYS: [B256; 10] = [
    key("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    key("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    key("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    key("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    key("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    key("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    key("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    key("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    key("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    key("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
];

/// The addresses of [`DEVELOPMENT_KEYS`], in the same order.
pub const DEVELOPMENT_ADDRESSES: [Address; 10] = [
    address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    address!("90F79bf6EB2c4f870365E785982E1f101E93b906"),
    address!("15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
    address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
    address!("976EA74026E726554dB657fA54763abd0C3a0aa9"),
    address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
    address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
    address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"),
];

/// The deterministic deployment proxy that Foundry scripts and many deployers expect on every chain.
pub const CREATE2_DEPLOYER: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

const CREATE2_DEPLOYER_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

const fn key(hex: &str) -> B256 {
    match alloy::primitives::hex::const_decode_to_array(hex.as_bytes()) {
        Ok(bytes) => B256::new(bytes),
        Err(_) => panic!("a development key is 64 hexadecimal digits"),
    }
}

/// Everything that [`crate::Chain::start`] needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// EIP-155 chain identifier.
    pub chain_id: u64,
    /// Where blocks and state live.
    pub storage: Storage,
    /// The blocks whose states are kept.
    pub states: StatesKept,
    /// The address of the JSON-RPC server; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The state and header of block 0.
    pub genesis: Genesis,
    /// When blocks are made.
    pub sealing: Sealing,
    /// The gas limit of every block, until it changes.
    pub gas_limit: u64,
    /// Other gas limits, each with the block from which on it holds, in rising order.
    pub gas_limit_changes: Vec<(u64, u64)>,
    /// EIP-1559 parameters and the pool's price floor.
    pub fees: Fees,
    /// Who receives priority fees.
    pub coinbase: Address,
    /// Bounds of pool, server and simulation.
    pub limits: Limits,
    /// Who may use the chain; none when everybody may. Equal on all nodes but for the server's names.
    pub permissions: Option<Permissions>,
    /// Serves `evm_*` and `anvil_*` methods that move time and force blocks, and accepts legacy transactions
    /// without a chain identifier. Never set it on a network that others rely on.
    pub dev: bool,
}

impl Config {
    /// A development chain: in memory, on any free port of the loopback interface, sealing on demand, with
    /// 10,000 coins for each of the [`DEVELOPMENT_ADDRESSES`].
    #[must_use]
    pub fn development(chain_id: u64) -> Self {
        Self {
            chain_id,
            storage: Storage::Memory,
            states: StatesKept::All,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            genesis: Genesis::development(),
            sealing: Sealing::OnDemand,
            gas_limit: 120_000_000,
            gas_limit_changes: Vec::new(),
            fees: Fees::default(),
            coinbase: Address::ZERO,
            limits: Limits::default(),
            permissions: None,
            dev: true,
        }
    }

    /// Keeps blocks and state in this directory.
    #[must_use]
    pub fn with_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.storage = Storage::Directory(directory.into());
        self
    }

    /// Listens on this address.
    #[must_use]
    pub fn with_listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// Seals at these moments.
    #[must_use]
    pub fn with_sealing(mut self, sealing: Sealing) -> Self {
        self.sealing = sealing;
        self
    }

    /// Gives an account a balance in block 0.
    #[must_use]
    pub fn with_balance(mut self, address: Address, balance_wei: U256) -> Self {
        self.genesis.accounts.entry(address).or_default().balance_wei = balance_wei;
        self
    }

    /// Refuses values that cannot make a working chain.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.chain_id == 0 || self.chain_id > u64::MAX / 2 - 36 {
            return Err(ConfigError::ChainId(self.chain_id));
        }
        if !(1_000_000..=10_000_000_000).contains(&self.gas_limit) {
            return Err(ConfigError::GasLimit(self.gas_limit));
        }
        if let Some(interval) = self.sealing.interval()
            && interval.is_zero()
        {
            return Err(ConfigError::Interval);
        }
        let fees = &self.fees;
        if fees.elasticity == 0 || fees.change_denominator == 0 || fees.base_fee_initial_wei < fees.base_fee_min_wei {
            return Err(ConfigError::Fees);
        }
        self.limits.validate()
    }
}

/// A value in [`Config`] that cannot work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Zero or so large that an EIP-155 `v` overflows.
    #[error("chain id {0} is out of range: choose one from 1 to 9223372036854775771")]
    ChainId(u64),
    /// Too small for one contract deployment or absurdly large.
    #[error("block gas limit {0} is out of range: choose one from 1000000 to 10000000000")]
    GasLimit(u64),
    /// Blocks at an interval of nothing.
    #[error("the sealing interval must be at least one millisecond")]
    Interval,
    /// A divisor of zero, or an initial base fee below the floor.
    #[error("fees: elasticity and change_denominator must not be zero, and the initial base fee not below its floor")]
    Fees,
    /// A bound of zero.
    #[error("limits: {0} must not be zero")]
    Limit(&'static str),
}

/// Where blocks and state live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: everything is forgotten when the chain stops.
    Memory,
    /// In one database file in this directory, which is created when absent.
    Directory(PathBuf),
}

/// The blocks whose states can be asked for. Blocks and receipts themselves are always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StatesKeptForm", into = "StatesKeptForm")]
pub enum StatesKept {
    /// All: an archive. `"archive"` in files.
    All,
    /// The last ones, the newest included. A number in files.
    Last(NonZeroU64),
}

/// What is neither a number of blocks nor `archive`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("neither a number of blocks, at least 1, nor \"archive\"")]
pub struct StatesKeptError;

impl FromStr for StatesKept {
    type Err = StatesKeptError;

    fn from_str(text: &str) -> Result<Self, StatesKeptError> {
        match text {
            "archive" => Ok(Self::All),
            number => number.parse().map(Self::Last).map_err(|_| StatesKeptError),
        }
    }
}

/// [`StatesKept`] in files.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of blocks, at least 1, or \"archive\"")]
enum StatesKeptForm {
    Last(NonZeroU64),
    All(Archive),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Archive {
    Archive,
}

impl From<StatesKeptForm> for StatesKept {
    fn from(form: StatesKeptForm) -> Self {
        match form {
            StatesKeptForm::Last(blocks) => Self::Last(blocks),
            StatesKeptForm::All(Archive::Archive) => Self::All,
        }
    }
}

impl From<StatesKept> for StatesKeptForm {
    fn from(kept: StatesKept) -> Self {
        match kept {
            StatesKept::Last(blocks) => Self::Last(blocks),
            StatesKept::All => Self::All(Archive::Archive),
        }
    }
}

/// When blocks are made by the single validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// As soon as an executable transaction is waiting; what arrives while a block is made shares the next one.
    OnDemand,
    /// Every so many milliseconds, empty blocks included.
    Interval(u64),
    /// On demand, and an empty block whenever so many milliseconds passed without one.
    Both(u64),
}

impl Sealing {
    /// Whether a waiting transaction triggers a block.
    #[must_use]
    pub fn on_demand(self) -> bool {
        matches!(self, Self::OnDemand | Self::Both(_))
    }

    /// The time between blocks that no transaction triggered.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        match self {
            Self::OnDemand => None,
            Self::Interval(ms) | Self::Both(ms) => Some(Duration::from_millis(ms)),
        }
    }
}

/// The state and header of block 0.
#[derive(Clone, Debug, Default)]
pub struct Genesis {
    /// Unix time of block 0, in seconds.
    pub timestamp: u64,
    /// Extra data of block 0, at most 32 bytes.
    pub extra_data: Bytes,
    /// Accounts that exist from the start. The EIP-2935 history contract and the CREATE2 deployer are added to them.
    pub accounts: BTreeMap<Address, GenesisAccount>,
}

impl Genesis {
    /// 10,000 coins for each of the [`DEVELOPMENT_ADDRESSES`].
    #[must_use]
    pub fn development() -> Self {
        let balance_wei = WEI_PER_COIN * U256::from(10_000);
        let account = |address: &Address| (*address, GenesisAccount { balance_wei, ..GenesisAccount::default() });
        Self { accounts: DEVELOPMENT_ADDRESSES.iter().map(account).collect(), ..Self::default() }
    }

    /// The accounts asked for and those that tools and opcodes rely on.
    pub(crate) fn all_accounts(&self) -> BTreeMap<Address, GenesisAccount> {
        let mut accounts = self.accounts.clone();
        let contracts = [
            (CREATE2_DEPLOYER, CREATE2_DEPLOYER_CODE),
            (alloy::eips::eip2935::HISTORY_STORAGE_ADDRESS, alloy::eips::eip2935::HISTORY_STORAGE_CODE.clone()),
        ];
        for (address, code) in contracts {
            let account = accounts.entry(address).or_default();
            account.nonce = account.nonce.max(1);
            account.code = code;
        }
        accounts
    }
}

/// One account of block 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenesisAccount {
    /// Balance in wei.
    #[serde(skip_serializing_if = "U256::is_zero")]
    pub balance_wei: U256,
    /// Number of transactions already sent.
    pub nonce: u64,
    /// Contract code, empty for a plain account.
    #[serde(skip_serializing_if = "<[u8]>::is_empty")]
    pub code: Bytes,
    /// Contract storage.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: BTreeMap<U256, U256>,
}

/// EIP-1559 parameters and price floors, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Base fee of block 0.
    pub base_fee_initial_wei: u64,
    /// The base fee never falls below this.
    pub base_fee_min_wei: u64,
    /// Gas limit divided by gas target.
    pub elasticity: u64,
    /// The base fee changes by at most one part in this many per block.
    pub change_denominator: u64,
    /// The pool refuses transactions whose priority fee is below this.
    pub tip_min_wei: u128,
    /// What `eth_maxPriorityFeePerGas` suggests while blocks are empty.
    pub tip_suggested_wei: u128,
}

impl Default for Fees {
    fn default() -> Self {
        Self {
            base_fee_initial_wei: 1_000_000_000,
            base_fee_min_wei: 1_000_000,
            elasticity: 2,
            change_denominator: 8,
            tip_min_wei: 0,
            tip_suggested_wei: 1_000_000,
        }
    }
}

/// Bounds of everything that outside input can make grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in the pool.
    pub pool_transactions_max: usize,
    /// Encoded bytes in the pool.
    pub pool_bytes_max: usize,
    /// Transactions of one sender in the pool.
    pub pool_per_sender_max: usize,
    /// Transactions of one sender behind a nonce gap.
    pub pool_queued_per_sender_max: usize,
    /// How long a transaction may wait behind a nonce gap, in seconds.
    pub pool_queued_seconds_max: u64,
    /// Bytes of one JSON-RPC request, batches included.
    pub request_bytes_max: u32,
    /// Bytes of one JSON-RPC response, batches included.
    pub response_bytes_max: u32,
    /// Calls in one JSON-RPC batch.
    pub batch_calls_max: u32,
    /// Simultaneous connections.
    pub connections_max: u32,
    /// Subscriptions of one connection.
    pub subscriptions_per_connection_max: u32,
    /// Installed filters of all clients.
    pub filters_max: usize,
    /// A filter that nobody polled for so many seconds is removed.
    pub filter_idle_seconds_max: u64,
    /// Blocks that one log query may span.
    pub log_blocks_max: u64,
    /// Logs that one query may return.
    pub log_results_max: usize,
    /// Gas of one `eth_call` or estimate.
    pub call_gas_max: u64,
    /// Simulations, traces and log queries that run at once; others wait.
    pub simulations_max: usize,
    /// Memory in which the database keeps recently used pages, in bytes.
    pub database_cache_bytes: usize,
    /// Trie nodes of past states go only when all nodes together have more bytes than this, and twice those of one state.
    pub node_bytes_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pool_transactions_max: 65_536,
            pool_bytes_max: 128 << 20,
            pool_per_sender_max: 4_096,
            pool_queued_per_sender_max: 256,
            pool_queued_seconds_max: 3 * 60 * 60,
            request_bytes_max: 5 << 20,
            response_bytes_max: 64 << 20,
            batch_calls_max: 1_000,
            connections_max: 1_024,
            subscriptions_per_connection_max: 64,
            filters_max: 1_024,
            filter_idle_seconds_max: 300,
            log_blocks_max: 10_000,
            log_results_max: 20_000,
            call_gas_max: 50_000_000,
            simulations_max: 32,
            database_cache_bytes: 256 << 20,
            node_bytes_min: 16 << 20,
        }
    }
}

impl Limits {
    fn validate(&self) -> Result<(), ConfigError> {
        let zero = [
            ("pool_transactions_max", self.pool_transactions_max == 0),
            ("pool_bytes_max", self.pool_bytes_max == 0),
            ("pool_per_sender_max", self.pool_per_sender_max == 0),
            ("request_bytes_max", self.request_bytes_max == 0),
            ("response_bytes_max", self.response_bytes_max == 0),
            ("connections_max", self.connections_max == 0),
            ("log_blocks_max", self.log_blocks_max == 0),
            ("log_results_max", self.log_results_max == 0),
            ("call_gas_max", self.call_gas_max == 0),
            ("simulations_max", self.simulations_max == 0),
        ];
        zero.into_iter().find(|(_, zero)| *zero).map_or(Ok(()), |(name, _)| Err(ConfigError::Limit(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_keys_belong_to_their_addresses() {
        for (key, address) in DEVELOPMENT_KEYS.iter().zip(DEVELOPMENT_ADDRESSES) {
            let signer = alloy::signers::local::PrivateKeySigner::from_bytes(key).unwrap();
            assert_eq!(signer.address(), address);
        }
    }

    #[test]
    fn what_is_kept_is_a_number_of_blocks_or_all() {
        let read = |text: &str| serde_json::from_str::<StatesKept>(text).map_err(|error| error.to_string());
        for (text, kept) in [("7", StatesKept::Last(7.try_into().unwrap())), ("\"archive\"", StatesKept::All)] {
            assert_eq!(read(text), Ok(kept));
            assert_eq!(text.trim_matches('"').parse(), Ok(kept));
            assert_eq!(serde_json::to_string(&kept).unwrap(), text);
        }
        for text in ["0", "-1", "\"all\"", "null"] {
            assert!(read(text).unwrap_err().contains("or \"archive\""), "{text}");
            assert_eq!(text.trim_matches('"').parse::<StatesKept>(), Err(StatesKeptError));
        }
    }

    #[test]
    fn validation_names_what_is_wrong() {
        let check = |change: fn(&mut Config), expect: &str| {
            let mut config = Config::development(7);
            change(&mut config);
            let found = config.validate().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
            assert!(found.contains(expect), "{found} does not mention {expect}");
        };
        check(|_| (), "fine");
        check(|c| c.chain_id = 0, "chain id 0");
        check(|c| c.chain_id = u64::MAX, "chain id");
        check(|c| c.gas_limit = 21_000, "gas limit 21000");
        check(|c| c.sealing = Sealing::Both(0), "interval");
        check(|c| c.fees.elasticity = 0, "fees");
        check(|c| c.limits.log_blocks_max = 0, "log_blocks_max");
    }
}
