//! What honesty and cheating earn: a simulation of a market of miners under the audits' parameters.
//!
//! Thousands of nodes follow their strategies for a thousand epochs. Audits, scores and states are those of
//! [`cortensor_proof`], committees, slashes and their distribution those of the contracts; evidence is weighed from noise
//! through a calibrated profile. The same parameters and seed give the same result everywhere; money is integers and
//! none appears or vanishes ([`Flows::is_balanced`]).
//!
//! What it leaves out: prices are fixed, demand does not react, stakes cost nothing to hold, nobody appeals, guards work
//! also when their pool is empty (the report says what they are owed), and a cheat that a profile cannot tell from honest
//! noise is not among the strategies: nothing on chain would catch it.

mod committee;
mod evidence;
mod market;
mod node;
mod parameters;
mod random;
mod report;

pub use evidence::{EvidenceSamples, NoiseModel};
pub use market::{SimulateError, simulate};
pub use parameters::{Parameters, Strategy};
pub use report::{Flows, Outcome, Report};
