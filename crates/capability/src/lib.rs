//! What a node can do with a model, measured from outside: network tasks in, a
//! [`Capability`](cortensor_protocol::Capability) of integers out.
//!
//! The tasks follow from a seed ([`Plan`]), which on the network is the beacon's: nobody chooses them, the measured node
//! cannot tell them from anybody's requests, and everybody who has the seed can repeat them. A [`Target`] is whatever
//! answers: an engine in this process ([`EngineTarget`], what `cortensor node benchmark` measures), or a miner behind a
//! router (what a drawn guard measures).
//!
//! Guarantees: no more tokens and no more time than [`Limits`] say, a request that runs past its end included in what it
//! may cost; what could not be measured within them is zero or absent, never guessed.

mod engine;
mod measure;
mod plan;

pub use engine::EngineTarget;
pub use measure::{Measured, measure};
pub use plan::{Limits, Plan, Schema};

use async_trait::async_trait;
use cortensor_protocol::{FinishReason, GenerationRequest};
use std::time::Duration;

/// What a target says of itself beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the model.
    pub model: String,
    /// Longest context that it offers, in LLM tokens.
    pub context: u32,
    /// Requests that it offers to run at once.
    pub slots: u32,
    /// Whether the model was trained to call tools.
    pub calls_tools: bool,
}

/// One answer with its times, as a client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Of these, how many a cache held.
    pub cached_tokens: u32,
    /// Tokens of the output.
    pub output_tokens: u32,
    /// Tokens that came first, all at once.
    pub first_tokens: u32,
    /// From the request to the first token.
    pub first: Duration,
    /// From the request to the last token.
    pub last: Duration,
    /// Why it ended.
    pub finish: FinishReason,
    /// Whether nothing convicts the node once its trace is gone through again; `None` where there is nothing to go through,
    /// or it was not asked for.
    pub honest: Option<bool>,
}

/// Tokens so close behind the first came with it.
const TOGETHER: Duration = Duration::from_millis(2);

impl Answer {
    /// One of which nothing has come yet.
    #[must_use]
    pub const fn begun() -> Self {
        Self {
            text: String::new(),
            input_tokens: 0,
            cached_tokens: 0,
            output_tokens: 0,
            first_tokens: 0,
            first: Duration::ZERO,
            last: Duration::ZERO,
            finish: FinishReason::Cancelled,
            honest: None,
        }
    }

    /// Takes tokens in that came so long after the request.
    pub fn take(&mut self, text: &str, tokens: u32, at: Duration) {
        self.text.push_str(text);
        self.last = at;
        if self.output_tokens == 0 {
            self.first = at;
        }
        if at.saturating_sub(self.first) < TOGETHER {
            self.first_tokens = self.first_tokens.saturating_add(tokens);
        }
        self.output_tokens = self.output_tokens.saturating_add(tokens);
    }
}

/// Why a target did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It has no room.
    #[error("it is full: {0}")]
    Busy(String),
    /// Prompt and output do not fit.
    #[error("that is too long for it: {0}")]
    TooLong(String),
    /// It cannot do that.
    #[error("it does not offer that: {0}")]
    Unsupported(String),
    /// It failed.
    #[error("it failed: {0}")]
    Failed(String),
}

/// Something that answers requests.
#[async_trait]
pub trait Target: Send + Sync {
    /// What it says of itself.
    fn facts(&self) -> Facts;

    /// Answers one request. `check`: its trace is to be opened and gone through again.
    async fn ask(&self, request: GenerationRequest, check: bool) -> Result<Answer, TargetError>;
}
