//! The embedded chain: EVM execution, state, mempool, JSON-RPC.

mod config;
pub use config::*;
