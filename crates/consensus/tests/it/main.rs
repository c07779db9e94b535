//! Whole engines in a world of seeded faults, and validators as processes.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a small world")]

mod byzantine;
mod cluster;
mod damage;
mod processes;
mod simulation;
mod snapshot;
mod upgrade;
mod vectors;
mod world;
