//! The embedded chain: EVM execution, persistent Merkle-Patricia state, mempool, Ethereum JSON-RPC.
//!
//! [`Chain::start`] runs one in process; several can run side by side (the demo runs an L1 and an L2). One writer owns
//! the state and readers work on snapshots, so a query never waits for a block. Which block comes next is decided by a
//! [`Consensus`] engine; [`Solo`] is that of a single validator.
//!
//! Guarantees: a block is durable before anyone can see it, and final when they do; `kill -9` loses no block that was
//! ever shown; roots and proofs are Ethereum's. What it does not do: blob transactions, peer-to-peer gossip, holding
//! keys.

pub mod bench;
mod chain;
mod config;
mod consensus;
mod core;
mod evm;
mod execute;
mod export;
mod genesis;
mod members;
mod metrics;
mod nodes;
mod pool;
mod receipt;
mod replay;
mod rpc;
mod state;
mod store;
mod transaction;

pub use chain::{Blocks, BlocksEnded, Chain, ChainHandle, StartError, StopError, Submitter};
pub use config::*;
pub use consensus::{
    Access, AdmissionChanges, BlockAttributes, BlockProducer, CheckError, Consensus, ConsensusError, Proposal,
    ProposedBlock, ShareCheckpoint, ShowCertificate, Solo,
};
pub use core::SubmitError;
pub use cortensor_signatures::{KEY_BYTES, StatedKey};
pub use execute::ExecuteError;
pub use export::{CHUNK_BYTES_MAX, CHUNKS_MAX, ExportError, Exports, Manifest};
pub use members::{Permissions, RIGHT_SEND};
pub use metrics::MetricsSnapshot;
pub use pool::{PoolError, Shortfall};
pub use state::{AccountChange, AccountFields, EthTrieStore, NodeReader, StateError, StateStore, StateUpdate};
pub use store::{Ancestry, Import, ImportError, OpenError, StoreError};
pub use transaction::{DecodeError, StatedTransaction, TRANSACTION_BYTES_MAX, VerifiedTransaction};
