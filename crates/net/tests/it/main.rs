//! Router and miner over real loopback sockets: handshake, refusals, tasks, failure and drain.

mod handshake;
mod lifetime;
mod nodes;
mod tasks;
