//! The binary as operators run it: networks of validators as processes, over real sockets.

#[path = "../../../../crates/contracts/tests/it/anvil.rs"]
mod anvil;
mod network;
mod partition;
mod relay;
mod validators;
