//! Verifiable sampling: the seeded sampler of the protocol, its random bits and its fixed-point logarithm.
//!
//! Guarantees: a choice depends on the seed, the step, the logits, the parameters and the output so far, and on nothing
//! else: no generator state, no clock, no floating-point decision, no platform's libm. Whoever holds the same logits
//! makes the same choice. What decides about others (contradictions, distances of sketches) is
//! integers alone. It does not run models.
//!
//! [`philox`] gives 32 random bits per token and step, [`fixed`] the logarithm and exponential in integers, [`gumbel`]
//! the noise made of both, [`softmax`] the reported (not deciding) log-probabilities, [`sampler`] the choice, [`sketch`]
//! what is kept of a hidden state, [`contradiction`] what a record proves against its own miner, [`replay`] what a guard
//! finds with the model, [`evidence`] what that weighs by a [`profile`], [`score`] what follows for the miner,
//! [`calibration`] how profiles are made and [`report`] how they are shown, [`vectors`] test vectors for other languages.

pub mod calibration;
pub mod contradiction;
pub mod evidence;
pub mod fixed;
pub mod gumbel;
pub mod philox;
pub mod profile;
pub mod replay;
pub mod report;
mod rising;
pub mod sampler;
pub mod score;
pub mod sketch;
pub mod softmax;
pub mod vectors;

pub use gumbel::{Gumbel, StepKey};
pub use replay::{Finding, Replayer};
pub use sampler::{Recording, SeededSampler};
pub use sketch::Sketcher;
