//! How profiles are made: honest answers and simulated cheats, both replayed, and what that says about telling them apart.
//!
//! A [`cheat::Dishonest`] engine is an honest one that cheats in one named way: it serves other weights, cuts the prompt,
//! draws its tokens otherwise. Miners in tests run it to be caught; [`study`] runs it to learn what a cheat looks like, and
//! makes a profile; [`detection`] measures after how many tokens each cheat is convicted by that profile.
//!
//! Everything runs on [`Engine`](cortensor_engine::Engine)s, so it works for every backend that shows logits. Nothing here
//! decides about anybody: profiles do, in integers ([`cortensor_proof::profile`]).

pub mod bend;
pub mod cheat;
pub mod corpus;
pub mod detection;
pub mod study;
pub mod transcript;
pub mod watch;

pub use cheat::{Cheat, Dishonest};
pub use transcript::{Recorded, Replayed, Transcript, TranscriptError};
