//! Router and miner over real loopback sockets: handshake, refusals, tasks, failure and drain.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod handshake;
mod lifetime;
mod nodes;
mod peers;
mod tasks;
