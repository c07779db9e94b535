//! Byzantine fault-tolerant consensus for the chain: several validators decide its blocks together and lose nothing when
//! fewer than a third of the power fail or lie.
//!
//! The algorithm is Tendermint's, in the sans-I/O core of Malachite; [`engine`] makes a complete validator of it that still
//! knows no clock, no network and no disk. Formats are those of docs/spec/consensus.md.
//!
//! [`node::Bft`] puts it to work: a log that survives power loss, clocks, peers over QUIC, the chain's executor.
//!
//! What it does not do: decide without more than two thirds of the power (it halts instead), hide who proposes next, or
//! keep a proposer from withholding its block.

mod certificate;
pub mod engine;
pub mod home;
pub mod message;
pub mod node;
pub mod set;
pub mod signing;
pub mod types;
