//! Messages and tokens between two chains: `Checkpoints`, `ForeignBlocks`, `Outbox`, `Inbox`, `LockBridge`, `MintBridge`
//! (docs/spec/settlement.md, sections 3 to 7).
//!
//! A *lane* is an outbox on one chain and an inbox on the other. The upper end is a chain that exists anyway (L1); the lower
//! one is a chain of validators. Upwards, certificates make blocks known; downwards, the validators attest them. Nothing here
//! decides what is relayed or who pays for it.

mod clients;
mod keys;
mod message;
mod settlement;

pub use clients::{Bridge, Checkpoints, EpochTrust, ForeignBlocks, Inbox, Outbox, StateProof};
pub use keys::CheckpointKeys;
pub use message::{Inclusion, Message, Messages};
pub use settlement::{
    Ends, SetUpError, Settlement, SettlementEnd, SettlementParameters, SettlementTokens, deploy_settlement,
};

pub use cortensor_protocol::consensus::{CertifiedBlock, CertifiedBlockError};
