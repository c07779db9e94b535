//! Choice of a miner: what is known of the workers and what is asked go in; a choice with its reason comes out.
//!
//! Guarantees: pure (no clock, no randomness, no I/O, no floating point), so the same input gives the same choice; a
//! worker that a hard filter refuses is never chosen; no input overflows or panics. It does not keep track of workers
//! and sends nothing: the router gathers the snapshots and acts on the choice.
//!
//! One policy to a file, applied in this order: [`filter`] drops those who cannot serve, [`expected_time`] estimates when
//! each of the rest would be done, [`cost`] weighs that time with price, reputation and failures, [`prefix`] prefers
//! those who hold the prompt's beginning in their cache, [`power_of_two`] draws two of the best and takes the better.
#![deny(clippy::float_arithmetic)]

pub mod choice;
pub mod cost;
pub mod expected_time;
pub mod filter;
pub mod power_of_two;
pub mod prefix;
pub mod snapshot;

pub use choice::{Choice, NoChoice, Policy, Reason, choose};
pub use expected_time::Estimate;
pub use filter::Rejection;
pub use prefix::{BLOCK_BYTES, BlockHash, PrefixIndex, prompt_blocks};
pub use snapshot::{Offer, Reputation, Request, Settings, SpeedSource, WorkerSnapshot};
