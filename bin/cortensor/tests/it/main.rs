//! The binary as operators run it: networks of validators as processes, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::large_futures,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what they leave out"
)]

#[path = "../../../../crates/contracts/tests/it/anvil.rs"]
mod anvil;
mod network;
mod partition;
mod relay;
mod signer;
mod validators;
