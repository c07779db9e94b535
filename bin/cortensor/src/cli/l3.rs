//! `cortensor l3`: networks of one's own, which members only can use.

use alloy::primitives::Address;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum L3Command {
    /// Write a private network: its validators' folders, block 0, the contracts with its members, an account that owns it
    Create(CreateArgs),
    /// Invite somebody: writes a file that makes whoever has it a member, once
    Invite(InviteArgs),
    /// Become a member with an invitation, and write a folder with a node and keys of one's own
    Join(JoinArgs),
    /// End a membership: from the next block on its account can neither read nor write
    Remove {
        /// The member's account
        member: Address,
        #[command(flatten)]
        home: HomeArgs,
    },
    /// List the members
    Members {
        #[command(flatten)]
        home: HomeArgs,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print a token with which other programs read a node: `Authorization: Bearer …`
    Token {
        #[command(flatten)]
        home: HomeArgs,
        /// Host and port of the node, as it is dialled; the first that the folder names if left out
        #[arg(long, value_name = "HOST:PORT")]
        server: Option<String>,
        /// For how long it counts
        #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
        minutes: u64,
    },
    /// Send coins for gas, and COR for stakes and sessions, from the folder's account
    Send {
        /// To whom
        to: Address,
        /// Whole coins
        #[arg(long, default_value_t = 0)]
        coins: u64,
        /// Whole COR
        #[arg(long, default_value_t = 0)]
        cor: u64,
        #[command(flatten)]
        home: HomeArgs,
    },
    /// Write everything that the chain says of its members and their work to a file that can be checked without the chain
    ExportAudit(ExportArgs),
    /// Check such a file against the network's own file
    VerifyAudit {
        /// The export
        file: PathBuf,
        /// `network.json` of any folder of the network: what is trusted
        #[arg(long, value_name = "FILE")]
        network: PathBuf,
        /// Who must have signed it; the founder if left out
        #[arg(long, value_name = "ADDRESS")]
        signer: Option<Address>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The folder that `l3 create` or `l3 join` wrote.
#[derive(Debug, Args)]
pub(crate) struct HomeArgs {
    /// Folder of this member
    #[arg(long = "home", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Where to: the founder's own folder, with one for each validator in it
    pub(crate) folder: PathBuf,
    /// What the network is called
    #[arg(long)]
    pub(crate) name: String,
    /// How many validators; more than two thirds of them are needed for a block
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) validators: u16,
    /// Chain id, which should be nobody else's; a random one if left out
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..=4_294_967_295))]
    pub(crate) chain_id: Option<u64>,
    /// Host under which members reach the validators; change it in `node.json` when they move apart
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// JSON-RPC port of the first validator; the others count up, and the founder's own node is the last
    #[arg(long, value_name = "PORT", default_value_t = 9545)]
    pub(crate) rpc_port: u16,
    /// Port (UDP) of the first validator for its peers; the others count up
    #[arg(long, value_name = "PORT", default_value_t = 27600)]
    pub(crate) peer_port: u16,
    /// Put off blocks without transactions for so many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub(crate) empty_block_ms: u64,
    /// Blocks in an epoch
    #[arg(long, value_name = "BLOCKS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(4..=10_000_000))]
    pub(crate) epoch_blocks: u32,
    /// Stakes, shares, windows and all other parameters of the contracts: a file as contracts/artifacts/parameters.json. Left
    /// out: those of a network of one's own, with small stakes and short windows
    #[arg(long, value_name = "FILE")]
    pub(crate) parameters: Option<PathBuf>,
    /// JSON-RPC of the chain that it is to settle on: writes a relayer's configuration
    #[arg(long, value_name = "URL")]
    pub(crate) parent_rpc: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Where the invitation is written
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The member is to read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// For how long it can be taken up
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub(crate) days: u64,
    /// Coins for gas that the new member gets
    #[arg(long, value_name = "COINS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) coins: u64,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The invitation
    pub(crate) invitation: PathBuf,
    /// Where the new member's folder is written
    pub(crate) folder: PathBuf,
    /// JSON-RPC address of the member's own node
    #[arg(long, value_name = "PORT", default_value_t = 9645)]
    pub(crate) rpc_port: u16,
    /// Port (UDP) of that node for its peers
    #[arg(long, value_name = "PORT", default_value_t = 27700)]
    pub(crate) peer_port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Where to
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Last block; the newest if left out
    #[arg(long, value_name = "BLOCK")]
    pub(crate) to: Option<u64>,
}
