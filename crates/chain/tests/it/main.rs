//! Starts real chains and talks to them over real sockets, as their users do.

mod consensus;
mod contracts;
mod crash;
mod estimates;
mod harness;
mod history;
mod protocol;
mod transactions;
mod websocket;
