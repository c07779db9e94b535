//! Verifiable sampling: the seeded sampler of the protocol, its random bits and its fixed-point logarithm.
//!
//! Guarantees: a choice depends on the seed, the step, the logits, the parameters and the output so far, and on nothing
//! else: no generator state, no clock, no floating-point decision, no platform's libm. Whoever holds the same logits
//! makes the same choice. It does not run models, and it does not yet verify traces.
//!
//! [`philox`] gives 32 random bits per token and step, [`fixed`] the logarithm and exponential in integers, [`gumbel`]
//! the noise made of both, [`softmax`] the reported (not deciding) log-probabilities, [`sampler`] the choice, [`vectors`]
//! its test vectors for other languages.

pub mod fixed;
pub mod gumbel;
pub mod philox;
pub mod sampler;
pub mod softmax;
pub mod vectors;

pub use gumbel::{Gumbel, StepKey};
pub use sampler::SeededSampler;
