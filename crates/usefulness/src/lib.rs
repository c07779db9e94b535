//! How useful an answer is: the second level of proof of useful work.
//!
//! It pays and ranks, and convicts nobody. Deterministic checks come first ([`checks`]); what they cannot tell, judges
//! decide by comparing the answer with one of their own, in both orders ([`prompt`], [`grade`]), in calls that anyone
//! with the judge's model can repeat ([`call`]). What several judges say together, and what that makes of a miner's
//! quality and of the judges' trust, is [`consensus`], the same as in the contract `Usefulness`.
//!
//! Guarantees: everything that decides is integers; time and memory are bounded for any answer; nothing in an answer
//! changes the structure of what a judge is shown. It runs no models and knows neither clock nor chain.
//! docs/spec/usefulness.md numbers the rules.

pub mod call;
pub mod checks;
pub mod consensus;
pub mod grade;
pub mod known;
pub mod prompt;
pub mod schema;
mod text;
mod tools;

/// All of something, in parts per million.
pub const PPM: u32 = 1_000_000;

/// The score of an answer that is as good as the judge's own.
pub const NEUTRAL: u32 = 1_000_000;

/// The highest score.
pub const MAX_SCORE: u32 = 1_500_000;
