//! The engine on the bundled model: what a miner relies on, through the public interface only.

mod constrained;
mod generation;
mod limits;
mod measuring;
mod scoring;
mod support;
