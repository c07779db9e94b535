//! The command line, as it is parsed and as `--help` teaches it.
//!
//! Keys, passwords and API keys are never flags: they come from keystores, files and the environment.

pub(crate) mod l3;

use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand};
use cortensor_chain::StatesKept;
use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

/// Open models, answered by anyone's machine, paid per token, verifiable by you.
///
/// Begin with `cortensor demo`, which runs the whole network on this machine once and shows where the money went; then
/// `cortensor up`, which keeps it running and prints what to paste into your OpenAI client.
#[derive(Debug, Parser)]
#[command(name = "cortensor", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Say more on standard error; twice for everything. CORTENSOR_LOG takes filters.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Keystore of the member that reads, where a private network's chain answers members only
    #[arg(long, global = true, value_name = "KEYSTORE", env = "CORTENSOR_ACCESS")]
    pub(crate) access: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole network once: ask, stream, kill a miner, settle, show the money. Exits 0 only if all was right
    Demo(DemoArgs),
    /// Run the whole network on this machine until Ctrl-C, with an OpenAI-compatible endpoint
    Up(UpArgs),
    /// Serve one model, or a server that runs already, with our API: no network, no money
    Serve(ServeArgs),
    /// Run a chain with Ethereum JSON-RPC
    Chain(ChainArgs),
    /// Run a router: serve clients over HTTP, take miners in
    Router(RoleArgs),
    /// Run a miner: serve models to routers and earn
    Miner(RoleArgs),
    /// Run a guard: go through the answers that the chain draws, and say what was found
    Guard(RoleArgs),
    /// Carry checkpoints and messages between a chain of validators and the chain that it settles on
    #[command(subcommand)]
    Relay(RelayCommand),
    /// Make a private network, invite its members, show what was done in it
    #[command(subcommand)]
    L3(l3::L3Command),
    /// Make and look at accounts
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Open, look at and close sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Look at the machine as a node of the network
    #[command(subcommand)]
    Node(NodeCommand),
    /// List nodes, the best first: class, speed, reputation, evidence, uptime, price, and where each number comes from
    Nodes(NodesArgs),
    /// Talk to a model on the terminal
    Chat(ChatArgs),
    /// Look at model files and choose those that are served
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check receipts
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Put the contracts onto an EVM chain
    Deploy(DeployArgs),
    /// Measure
    Bench(BenchArgs),
    /// Make profiles: how honest answers of a model differ between machines, and how cheats do
    #[command(subcommand)]
    Calibrate(CalibrateCommand),
    /// Simulate a market of miners: what honesty and cheating earn under the audits' parameters. Fails when a cheat pays
    Simulate(SimulateArgs),
    /// Check this machine and a configuration, and say what to do
    Doctor(DoctorArgs),
    /// A part of `bench router`: answers at once, with the same words
    #[command(hide = true)]
    BenchUpstream(BenchUpstreamArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the data here instead of a temporary folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) chains: OtherChains,
    /// A GGUF model instead of the bundled one
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Print one JSON object instead of a story
    #[arg(long)]
    pub(crate) json: bool,
}

/// Chains that take the place of those that the network runs for itself.
#[derive(Debug, Args)]
pub(crate) struct OtherChains {
    /// JSON-RPC of another chain as L1
    #[arg(long, value_name = "URL")]
    pub(crate) l1_rpc: Option<String>,
    /// JSON-RPC of another chain as L2, such as anvil's; the development accounts need coins on it
    #[arg(long, value_name = "URL")]
    pub(crate) l2_rpc: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = ".cortensor")]
    pub(crate) data: PathBuf,
    /// Address of the HTTP API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Address of L1's JSON-RPC; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) l1_listen: SocketAddr,
    /// Address of L2's JSON-RPC; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) l2_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) chains: OtherChains,
    /// How many miners
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) miners: u8,
    /// How many guards audit their answers; a profile that `cortensor calibrate run` left in the data folder is used
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub(crate) guards: u8,
    /// A GGUF model instead of the bundled one
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Serve a simulated engine instead of a real model, for load tests. It answers nonsense
    #[arg(long)]
    pub(crate) simulate: bool,
    /// Print one JSON line when ready, and nothing else on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// An OpenAI-compatible endpoint straight over one engine. Clients must send the key in CORTENSOR_API_KEY (or in
/// --api-key-file) if there is one; the key that an upstream wants comes from CORTENSOR_UPSTREAM_KEY or a file.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Address of the HTTP API; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// File with the key that clients must send
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Answers that are generated at once
    #[arg(long, value_name = "N", default_value = "8")]
    pub(crate) parallel: NonZeroU32,
    /// Requests that may wait for their turn; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) queue: u32,
    /// Print one JSON line when ready
    #[arg(long)]
    pub(crate) json: bool,
}

/// One engine: a model file, or a server that runs already.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// A GGUF model instead of the bundled one
    #[arg(long, value_name = "FILE", conflicts_with = "upstream")]
    pub(crate) model: Option<PathBuf>,
    /// Let answers be repeatable bit for bit on the CPU, whatever runs beside them; prompts take longer
    #[arg(long, conflicts_with = "upstream")]
    pub(crate) exact: bool,
    /// A server with OpenAI's API, such as http://127.0.0.1:8000/v1, instead of a model in this process
    #[arg(long, value_name = "URL", requires = "upstream_model")]
    pub(crate) upstream: Option<String>,
    /// The model's name at the upstream
    #[arg(long, value_name = "NAME", requires = "upstream")]
    pub(crate) upstream_model: Option<String>,
    /// File with the key that the upstream wants
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub(crate) upstream_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Measure an engine as drawn guards measure a miner, and show the class that follows: the numbers to expect
    Benchmark(BenchmarkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchmarkArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Answers that are generated at once; the engine's own default if left out
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<NonZeroU32>,
    /// Seed of the tasks: another seed, other prompts. Left out: a fresh one, as on the network
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// As briefly as possible: to see that it runs, not how fast
    #[arg(long)]
    pub(crate) smoke: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// A router's API, which knows who is connected; the key comes from CORTENSOR_API_KEY or from the data folder of
    /// `cortensor up`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "CORTENSOR_API_URL")]
    pub(crate) api: String,
    /// Data folder of `cortensor up`, whose API key is used if CORTENSOR_API_KEY is not set
    #[arg(long, value_name = "DIR", default_value = ".cortensor")]
    pub(crate) data: PathBuf,
    /// JSON-RPC of the chain instead of a router: every registered miner, as the contracts know it
    #[arg(long, value_name = "URL", requires = "deployment", conflicts_with = "api")]
    pub(crate) rpc: Option<String>,
    /// Where the contracts are
    #[arg(long, value_name = "FILE", requires = "rpc")]
    pub(crate) deployment: Option<PathBuf>,
    /// Say where each number comes from
    #[arg(long)]
    pub(crate) why: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// A chain of one validator, or a validator among several
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ChainArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ChainCommand>,
    /// Where blocks and state are kept; without it they are in memory and gone at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the JSON-RPC server
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545")]
    pub(crate) listen: SocketAddr,
    /// Chain id
    #[arg(long, value_name = "ID", default_value_t = cortensor_node::localnet::L2_CHAIN_ID)]
    pub(crate) chain_id: u64,
    /// Seal a block this often, in milliseconds, even if it is empty; without it, whenever there are transactions
    #[arg(long, value_name = "MS")]
    pub(crate) interval_ms: Option<u64>,
    /// Print one JSON line when ready
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Write the folders of a network's first validators: keys, block 0, peers
    Init(ChainInitArgs),
    /// Write the folder of one more node of a network that is there
    Join(ChainJoinArgs),
    /// Run the validator, or the follower without a key, of a folder
    Run(ChainRunArgs),
    /// Keep a validator's key in a process of its own, which signs nothing twice; its node names the socket in `node.json`
    Sign(ChainSignArgs),
    /// Become a validator, leave, come back from jail, or see who validates
    Validator {
        /// What to do
        #[command(subcommand)]
        command: ValidatorCommand,
    },
    /// Show how far a node is and who decided its last block
    Status {
        /// The node's folder
        #[arg(long, value_name = "DIR")]
        home: PathBuf,
    },
    /// Write a proof of a block, and of an account or a transaction in it, that convinces without any trust in the node
    Proof(ChainProofArgs),
    /// Check such a proof, without any network
    Verify(ChainVerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ChainProofArgs {
    /// JSON-RPC of a node of the chain
    #[arg(long, value_name = "URL", env = "CORTENSOR_RPC")]
    pub(crate) rpc: String,
    /// The network's file, `network.json`, which is where trust begins
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The hash of a later block at which trust begins instead: the proof gets shorter
    #[arg(long, value_name = "HASH")]
    pub(crate) trusted_header: Option<alloy::primitives::B256>,
    /// The block; without it the transaction's, or the last one
    #[arg(long, value_name = "NUMBER", conflicts_with = "transaction")]
    pub(crate) block: Option<u64>,
    /// An account in the state after the block
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<Address>,
    /// A slot of that account's storage, 32 bytes; may be repeated
    #[arg(long, value_name = "SLOT", requires = "address")]
    pub(crate) slot: Vec<alloy::primitives::B256>,
    /// A transaction, with its receipt
    #[arg(long, value_name = "HASH")]
    pub(crate) transaction: Option<alloy::primitives::B256>,
}

#[derive(Debug, Args)]
pub(crate) struct ChainVerifyArgs {
    /// What `cortensor chain proof` wrote
    pub(crate) proof: PathBuf,
    /// The network's file, `network.json`, which is where trust begins
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The hash of a later block at which trust begins instead
    #[arg(long, value_name = "HASH")]
    pub(crate) trusted_header: Option<alloy::primitives::B256>,
    /// Refuse a block that is older; 0 for any age
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub(crate) max_age_seconds: u64,
    /// Refuse a block whose validators were named longer before it: for as long as their stakes are locked they have
    /// something to lose
    #[arg(long, value_name = "SECONDS")]
    pub(crate) trust_seconds: Option<u64>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChainInitArgs {
    /// Where the folders `node-0`, `node-1`, … are written
    pub(crate) folder: PathBuf,
    /// How many validators
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) validators: u16,
    /// Chain id
    #[arg(long, value_name = "ID", default_value_t = cortensor_node::localnet::L2_CHAIN_ID)]
    pub(crate) chain_id: u64,
    /// Host under which the validators reach each other; change it in `node.json` when they move apart
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// JSON-RPC port of the first validator; the others count up
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    pub(crate) rpc_port: u16,
    /// Port (UDP) of the first validator for its peers; the others count up
    #[arg(long, value_name = "PORT", default_value_t = 26600)]
    pub(crate) peer_port: u16,
    /// Port on 127.0.0.1 where the first validator serves its counters in Prometheus' text form; the others count up
    #[arg(long, value_name = "PORT")]
    pub(crate) metrics_port: Option<u16>,
    /// Put off blocks without transactions for so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) empty_block_ms: u64,
    /// Give this account 10,000 coins in block 0; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) fund: Vec<alloy::primitives::Address>,
    /// Give each of the well-known test accounts 10,000 coins. Everybody has their keys: only for tests
    #[arg(long)]
    pub(crate) fund_test_accounts: bool,
    /// Keystore of the account that owns the contracts of block 0 and the first COR; without it one is made in the folder, its
    /// password beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) founder: Option<PathBuf>,
    /// COR that the founder holds in block 0; none where all COR is to come over a bridge (`cortensor relay`)
    #[arg(long, value_name = "COR", default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    pub(crate) supply: u64,
    /// Stakes and delays of a public chain instead of small ones
    #[arg(long)]
    pub(crate) public: bool,
    /// No contracts in block 0: the first validators decide for ever, or as the contract says that is deployed later
    #[arg(long, conflicts_with_all = ["founder", "public"])]
    pub(crate) bare: bool,
    /// Where that contract will stand
    #[arg(long, value_name = "ADDRESS", requires = "bare")]
    pub(crate) validators_contract: Option<alloy::primitives::Address>,
    /// Blocks in an epoch
    #[arg(long, value_name = "BLOCKS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(4..=10_000_000))]
    pub(crate) epoch_blocks: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ChainJoinArgs {
    /// The folder to be written
    pub(crate) home: PathBuf,
    /// The folder of any node of the network: what the network is, and who is there, is copied from it
    #[arg(long, value_name = "DIR")]
    pub(crate) network: PathBuf,
    /// Host under which other nodes reach this one
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// JSON-RPC port
    #[arg(long, value_name = "PORT", default_value_t = 8545)]
    pub(crate) rpc_port: u16,
    /// Port (UDP) for peers
    #[arg(long, value_name = "PORT", default_value_t = 26600)]
    pub(crate) peer_port: u16,
    /// Make no validator's key: the node will only follow
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChainSignArgs {
    /// The folder with `network.json`, the validator's key and, from the first signature on, the book of what was signed
    #[arg(long, value_name = "DIR")]
    pub(crate) home: PathBuf,
    /// Where to listen; without it `signer.sock` in the folder
    #[arg(long, value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Stake, and offer the folder's key as a validator; its power comes with the next sets
    Add {
        #[command(flatten)]
        operator: OperatorArgs,
        /// COR to hold at stake; what is there already counts. Without it the least that is allowed
        #[arg(long, value_name = "COR")]
        stake: Option<u64>,
        /// Coins that the validator's key is to hold for gas
        #[arg(long, value_name = "COINS", default_value_t = 10)]
        gas: u64,
    },
    /// Give the candidacy up; the power goes with the next sets, the stake stays until it is withdrawn
    Leave {
        #[command(flatten)]
        operator: OperatorArgs,
        /// Also ask for the stake back; it can still be slashed until it is released
        #[arg(long)]
        unstake: bool,
    },
    /// Come back from jail
    Unjail(OperatorArgs),
    /// Register the validator's BLS key on the chain that its own settles on, once: checkpoints may then carry one signature for
    /// all. The key follows from the validator's key; there is nothing more to keep
    Key(ValidatorKeyArgs),
    /// Show the running epoch's set and everybody who staked for the next ones
    List {
        /// The folder of any node of the network
        #[arg(long, value_name = "DIR")]
        home: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ValidatorKeyArgs {
    /// The folder with the validator's key
    #[arg(long, value_name = "DIR")]
    pub(crate) home: PathBuf,
    /// File with the contracts of both ends, as `cortensor relay deploy` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) settlement: PathBuf,
    /// JSON-RPC of the chain that is settled on
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: String,
    /// Keystore of the account that pays for gas there; any account may
    #[arg(long, value_name = "FILE")]
    pub(crate) payer: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// The validator's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) home: PathBuf,
    /// Keystore of the account that stakes
    #[arg(long, value_name = "FILE")]
    pub(crate) operator: PathBuf,
    /// JSON-RPC of a node that has caught up; without it the folder's own
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
}

/// How a node without data comes to the state of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ChainSync {
    /// Fetches every block from block 0 on and executes it
    Blocks,
    /// Begins with a copy of a recent state that a peer offers, verified against the validators' signatures
    Snapshot,
}

#[derive(Debug, Args)]
pub(crate) struct ChainRunArgs {
    /// The node's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) home: PathBuf,
    /// Keystore of the account that stakes: it pays for signs of life where the validator's key is in another process
    #[arg(long, value_name = "FILE")]
    pub(crate) operator: Option<PathBuf>,
    /// Follow without signing, even if there is a validator's key
    #[arg(long)]
    pub(crate) follow: bool,
    /// Begin a new consensus log although the chain has blocks. Only when no copy of this validator has run in the last
    /// minutes: without its log it may contradict what it has signed
    #[arg(long)]
    pub(crate) new_log: bool,
    /// How a node without data begins
    #[arg(long, value_enum, default_value_t = ChainSync::Blocks)]
    pub(crate) sync: ChainSync,
    /// Print one JSON line when ready
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// The configuration file; `--init` writes one to begin with
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Write a configuration with comments to that file, make the key that it names, and stop
    #[arg(long)]
    pub(crate) init: bool,
    /// Register this node on chain with the stake in the configuration, paid by its own account, and stop
    #[arg(long, conflicts_with = "init")]
    pub(crate) register: bool,
    /// Print one JSON line when ready
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RelayCommand {
    /// Write a configuration with comments to begin with
    Init {
        /// Where to
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Put the contracts of both ends onto the chains that a configuration names, and write where they stand
    Deploy(RelayDeployArgs),
    /// Relay until Ctrl-C. Anybody may, and several may at once
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RelayDeployArgs {
    /// The relayer's configuration file: both chains, their accounts, and where the record is written
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// COR on the chain that is settled on
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) token: Address,
    /// Who may use the timelocks, on both chains
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) governance: Address,
    /// Delay of the timelocks in hours
    #[arg(long, value_name = "HOURS", default_value = "48", value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub(crate) delay_hours: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Make a new key in an encrypted keystore; its password comes from the file that CORTENSOR_PASSWORD_FILE names, from CORTENSOR_PASSWORD, or from you at a terminal
    New {
        /// Where to
        keystore: PathBuf,
    },
    /// Show an account's balances
    Balance {
        /// An address, or a keystore file
        account: String,
        /// JSON-RPC of the chain
        #[arg(long, value_name = "URL", env = "CORTENSOR_RPC")]
        rpc: String,
        /// Where the contracts are
        #[arg(long, value_name = "FILE")]
        deployment: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OnChain {
    /// JSON-RPC of the chain
    #[arg(long, value_name = "URL", env = "CORTENSOR_RPC")]
    pub(crate) rpc: String,
    /// Where the contracts are
    #[arg(long, value_name = "FILE")]
    pub(crate) deployment: PathBuf,
}

/// A session whose key is at hand.
#[derive(Debug, Args)]
pub(crate) struct OwnSession {
    /// The session
    pub(crate) id: cortensor_protocol::SessionId,
    #[command(flatten)]
    pub(crate) chain: OnChain,
    /// Keystore of the session key
    #[arg(long, value_name = "FILE")]
    pub(crate) keystore: PathBuf,
    /// The session's router
    #[arg(long, value_name = "URL")]
    pub(crate) router: String,
    /// Folder of the session's book: what was asked, received and signed. Keep it as long as the session is open
    #[arg(long, value_name = "DIR", default_value = "cortensor-sessions")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Show a session as the chain has it
    Show {
        /// Its id
        id: cortensor_protocol::SessionId,
        #[command(flatten)]
        chain: OnChain,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List what happened to sessions on chain: opened, redeemed, closed
    List {
        #[command(flatten)]
        chain: OnChain,
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Open a session and deposit into it
    Open {
        #[command(flatten)]
        chain: OnChain,
        /// Keystore of the account that deposits
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
        /// Address of the session key, which signs tasks and vouchers; the keystore's own account if left out
        #[arg(long, value_name = "ADDRESS")]
        session_key: Option<alloy::primitives::Address>,
        /// The most that the session key may spend, in COR. Left out: the deposit for a key of its own, and no limit for the
        /// keystore's own account
        #[arg(long, value_name = "COR")]
        key_limit: Option<u64>,
        /// The router: its URL, or the address of its operator
        #[arg(long, value_name = "URL|ADDRESS")]
        router: String,
        /// Deposit in COR
        #[arg(long, value_name = "COR")]
        deposit: u64,
        /// Highest price in COR per million tokens, in and out alike
        #[arg(long, value_name = "COR", default_value_t = 10)]
        max_price: u64,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        days: u64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// An OpenAI-compatible endpoint on this machine that pays from a session of your own
    ///
    /// Applications speak plain OpenAI to it. It signs every request with the session's key, checks the receipts of what
    /// comes back, and signs vouchers only for what holds up.
    Serve {
        #[command(flatten)]
        own: OwnSession,
        /// Address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
        listen: std::net::SocketAddr,
        /// One JSON line when ready
        #[arg(long)]
        json: bool,
    },
    /// Sign for what the session's router has delivered, as far as it holds up
    Pay {
        #[command(flatten)]
        own: OwnSession,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Add to a session's deposit. A session key that has a limit keeps it
    TopUp {
        /// Its id
        id: cortensor_protocol::SessionId,
        /// What to add, in COR
        #[arg(value_name = "COR")]
        amount: u64,
        #[command(flatten)]
        chain: OnChain,
        /// Keystore of the account that pays
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
    },
    /// Pay what is owed and take the rest of the deposit back: at once with the router's help, or without it after the
    /// grace window
    Close {
        /// Its id
        id: cortensor_protocol::SessionId,
        #[command(flatten)]
        chain: OnChain,
        /// Keystore of the account that opened it
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
        /// The session's router; without it, the rest comes after the grace window
        #[arg(long, value_name = "URL")]
        router: Option<String>,
        /// Keystore of the session key, where that is another account
        #[arg(long, value_name = "FILE", requires = "router")]
        session_keystore: Option<PathBuf>,
        /// Folder of the session's book
        #[arg(long, value_name = "DIR", default_value = "cortensor-sessions")]
        data: PathBuf,
    },
    /// Take the rest of the deposit back, after the grace window
    Finalize {
        /// Its id
        id: cortensor_protocol::SessionId,
        #[command(flatten)]
        chain: OnChain,
        /// Keystore of any account
        #[arg(long, value_name = "FILE")]
        keystore: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// What to ask; without it, a conversation on the terminal
    pub(crate) prompt: Option<String>,
    /// The API; the key comes from CORTENSOR_API_KEY or from the data folder of `cortensor up`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "CORTENSOR_API_URL")]
    pub(crate) api: String,
    /// Data folder of `cortensor up`, whose API key is used if CORTENSOR_API_KEY is not set
    #[arg(long, value_name = "DIR", default_value = ".cortensor")]
    pub(crate) data: PathBuf,
    /// Which model; the first that is served if left out
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_tokens: u32,
    /// 0 always says the likeliest
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    pub(crate) temperature: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show a GGUF file's manifest
    Inspect {
        /// The file
        file: PathBuf,
        /// In the exact class, to see whether the model can be served in it
        #[arg(long)]
        exact: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve this GGUF file in `cortensor up` from now on
    Add {
        /// The file
        file: PathBuf,
        /// Data folder of `cortensor up`
        #[arg(long, value_name = "DIR", default_value = ".cortensor")]
        data: PathBuf,
    },
    /// List the models that `cortensor up` serves
    List {
        /// Data folder of `cortensor up`
        #[arg(long, value_name = "DIR", default_value = ".cortensor")]
        data: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve the bundled model again
    Reset {
        /// Data folder of `cortensor up`
        #[arg(long, value_name = "DIR", default_value = ".cortensor")]
        data: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Check a receipt file against nothing but itself, and against a chain if one is given
    Verify {
        /// The file: one receipt, or the list that `/v1/tasks/{id}/receipts` answers
        file: PathBuf,
        /// JSON-RPC of the chain: also checks the miner's registration and the session
        #[arg(long, value_name = "URL")]
        rpc: Option<String>,
        /// Where the contracts are: also says what the tier buys
        #[arg(long, value_name = "FILE", requires = "rpc")]
        deployment: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Go through the answer of a receipt again, on a local copy of the model
    Audit {
        /// The file: the list that `/v1/tasks/{id}/receipts?open=true` answers, or one receipt of it
        file: PathBuf,
        /// The model: a GGUF file; the bundled model without it
        #[arg(long, value_name = "GGUF")]
        model: Option<PathBuf>,
        /// Compute in the exact class, for receipts of exact miners: every bit must agree
        #[arg(long)]
        exact: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// JSON-RPC of the chain
    #[arg(long, value_name = "URL", env = "CORTENSOR_RPC")]
    pub(crate) rpc: String,
    /// Keystore of the account that deploys; on a development chain the well-known first account if left out
    #[arg(long, value_name = "FILE")]
    pub(crate) keystore: Option<PathBuf>,
    /// Where to write the addresses
    #[arg(long, value_name = "FILE", default_value = "deployment.json")]
    pub(crate) out: PathBuf,
    /// With parameters of a public network instead of a development network
    #[arg(long)]
    pub(crate) public: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Which; `all` runs every one
    #[arg(value_parser = ["all", "engine", "chain", "consensus", "gas", "router"])]
    pub(crate) name: String,
    /// As briefly as possible: to see that it runs, not how fast
    #[arg(long)]
    pub(crate) smoke: bool,
    /// A GGUF model instead of the bundled one
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// router: a peer's program, as vllm=PATH or sglang=PATH; those not named are looked for on PATH
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) peer: Vec<String>,
    /// router: requests of each kind in each of three rounds
    #[arg(long, value_name = "N", default_value = "4000")]
    pub(crate) requests: NonZeroU32,
    /// router: connections that are kept open
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) connections: NonZeroU32,
    /// chain: token holders up to which to measure, from a thousand on
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) holders: NonZeroU32,
    /// chain: the blocks whose states are kept, or `archive`
    #[arg(long, value_name = "N", default_value = "archive")]
    pub(crate) states: StatesKept,
    /// consensus: an anvil to send the same transfers to
    #[arg(long, value_name = "FILE")]
    pub(crate) peer_anvil: Option<PathBuf>,
    /// engine: rounds, of which the best counts
    #[arg(long, value_name = "N", default_value = "9")]
    pub(crate) rounds: NonZeroU32,
    /// engine: a Python that has llama-cpp-python, to measure against as well
    #[arg(long, value_name = "FILE")]
    pub(crate) peer_python: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CalibrateCommand {
    /// Answer as a miner of this machine, for a guard of another to calibrate with
    Record(RecordArgs),
    /// Replay honest answers and simulated cheats on this machine, and make a profile of them
    Run(CalibrateArgs),
    /// Show a profile: honest noise beside the nearest cheats
    Show {
        /// The profile
        file: PathBuf,
        /// Also draw it, into this SVG file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Register a profile's ratios on chain; governance only
    Register {
        /// The profile
        file: PathBuf,
        #[command(flatten)]
        chain: OnChain,
        /// Keystore of governance; on a development chain the well-known first account if left out
        #[arg(long, value_name = "FILE")]
        keystore: Option<PathBuf>,
    },
}

/// How much is computed, and with what.
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// A GGUF model instead of the bundled one
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// In the exact class
    #[arg(long)]
    pub(crate) exact: bool,
    /// Honest answers; at least 200 make a profile
    #[arg(long, value_name = "N", default_value = "600", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) answers: u32,
    /// Most tokens of an answer: as in service
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) tokens: u32,
    /// Answers that are generated beside each other
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) at_once: u32,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) sample: Sample,
    /// Where to write the answers
    #[arg(long, value_name = "FILE", default_value = "answers.jsonl")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    #[command(flatten)]
    pub(crate) sample: Sample,
    /// Honest answers that a miner of another machine recorded; without them, this machine's own
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Answers of each simulated cheat
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) cheat_answers: u32,
    /// A smaller model with the same tokenizer that somebody might serve instead; more than once for several
    #[arg(long, value_name = "FILE")]
    pub(crate) cheaper: Vec<PathBuf>,
    /// Version of the profile; one more than that of the file that it replaces, if left out. The chain takes newer ones only
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<NonZeroU32>,
    /// Data folder of `cortensor up`, which uses the profiles in it
    #[arg(long, value_name = "DIR", default_value = ".cortensor")]
    pub(crate) data: PathBuf,
    /// Where to write the profile instead of the data folder's profiles
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Also draw it, into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Miners
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) nodes: NonZeroU32,
    /// Epochs of an hour
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) epochs: NonZeroU32,
    /// Another seed, another run; the same seed, the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// One audit rate for everybody, in millionths, instead of the policy's; 0 shows what audits prevent
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) audit_ppm: Option<u32>,
    /// Guards on the side of colluding miners, in millionths
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) collusion_ppm: Option<u32>,
    /// A guard's pay for one finding, in COR
    #[arg(long, value_name = "COR")]
    pub(crate) guard_pay: Option<String>,
    /// A miner's stake, in COR
    #[arg(long, value_name = "COR")]
    pub(crate) stake: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchUpstreamArgs {
    /// Pause between the chunks of a stream, in microseconds
    #[arg(long, value_name = "US", default_value_t = 1000)]
    pub(crate) pause_us: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A router's or miner's configuration to check as well
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
