//! Whole engines in a world of seeded faults, and validators as processes.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]

mod byzantine;
mod simulation;
mod world;
