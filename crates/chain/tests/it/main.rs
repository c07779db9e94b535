//! Starts real chains and talks to them over real sockets, as their users do.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]

mod consensus;
mod contracts;
mod crash;
mod estimates;
mod harness;
mod history;
mod members;
mod protocol;
mod transactions;
mod websocket;
