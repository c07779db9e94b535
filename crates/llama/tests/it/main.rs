//! The engine on the bundled model: what a miner relies on, through the public interface only.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]

mod constrained;
mod exact;
mod generation;
mod limits;
mod measuring;
mod replay;
mod scoring;
mod support;
