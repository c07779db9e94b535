//! Router, miners, chain and HTTP API together, over real sockets, with simulated engines.

mod failures;
mod liar;
mod limits;
mod money;
mod restart;
mod world;
