//! Router, miners, guards, chain and HTTP API together, over real sockets; with simulated engines where no model is needed.
#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::large_futures,
    unreachable_pub,
    reason = "tests fail by panicking, and export nothing"
)]

mod audit;
mod cheats;
mod failures;
mod judge;
mod liar;
mod limits;
mod local;
mod measuring;
mod money;
mod relay;
mod restart;
mod standing;
mod streams;
mod upstream;
mod wallet;
mod world;
