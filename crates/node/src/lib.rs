//! Supervisor and services of a node: router, miner, and the networks that run in one process.
//!
//! The services own their state and speak to each other through `cortensor-net` only; the chain is read through
//! [`chain_view::ChainView`] and written through `cortensor-contracts`.

pub mod audit;
pub mod chain_view;
pub mod config;
pub mod contracts_view;
mod endpoint_key;
pub mod founding;
pub mod gas;
pub mod guard;
pub mod identity;
pub mod journal;
pub mod ledger;
pub mod local;
pub mod localnet;
pub mod members_view;
pub mod miner;
pub mod node;
mod records;
pub mod relay;
pub mod router;
pub mod session_proxy;
pub mod traps;
pub mod validator;
