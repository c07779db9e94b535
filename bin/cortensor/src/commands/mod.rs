//! One file for each command.

pub(crate) mod access;
pub(crate) mod bench;
mod bench_consensus;
mod bench_router;
pub(crate) mod bench_upstream;
pub(crate) mod benchmark;
pub(crate) mod calibrate;
pub(crate) mod chain;
pub(crate) mod chat;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod guard;
pub(crate) mod l3;
pub(crate) mod miner;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod receipt;
pub(crate) mod relay;
pub(crate) mod roles;
pub(crate) mod router;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod simulate;
pub(crate) mod up;
pub(crate) mod validator;
pub(crate) mod wallet;
