//! The [`Engine`] trait: what a miner needs of an inference backend, and the backends that need no foreign code.
//!
//! An engine turns a [`GenerationRequest`] into a stream of token events. Where it has logits, it asks the job's
//! [`TokenSampler`] for every token instead of sampling by itself, so that a guard can repeat the choice. It knows
//! nothing of receipts, vouchers or the network.

pub mod chat;
pub mod mock;
pub mod openai;
pub mod stop;

use async_trait::async_trait;
use cortensor_protocol::{
    FinishReason, GenerationRequest, ModelManifest, TokenEvent, TokenId, TokenSampler, Usage,
    manifest::{Load, Speed, Tier},
    sampling::LogProb,
};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a backend serves. Fixed while the engine lives.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    /// The model.
    pub manifest: ModelManifest,
    /// What of its work can be checked.
    pub tier: Tier,
    /// Longest context of one sequence, in LLM tokens; at most the manifest's.
    pub context: u32,
    /// Sequences that run at once.
    pub slots: u32,
    /// Whether [`Engine::embed`] works.
    pub embeds: bool,
    /// Name, version and class of the backend, such as `llama.cpp b7001 x86_64+avx2 (cpu)`: engines of one class compute
    /// alike.
    pub build: String,
}

/// One generation handed to an engine.
pub struct Job {
    /// What is asked; already checked by [`GenerationRequest::check`].
    pub request: GenerationRequest,
    /// Output tokens that another node already produced. The engine goes on after them and does not report them again.
    pub resume: Vec<TokenId>,
    /// How many they are; also told where the other node did not tell their ids, so that `resume` is empty.
    pub resume_tokens: u32,
    /// The text that was delivered for them. It is all that backends without token ids have to go on from; those with
    /// ids compare it with the tokens' own text, since the other node may have held an unfinished character or a
    /// possible stop text back: the rest of the tokens' text is then still to be delivered.
    pub resume_text: String,
    /// Draws the tokens. Backends without logits do not use it, which their tier says.
    pub sampler: Box<dyn TokenSampler>,
    /// Ends the generation at the next token. Dropping the [`Generation`] does the same.
    pub cancel: CancellationToken,
}

/// An output to be gone through again, as a guard does with somebody else's.
pub struct Replay {
    /// What was asked; already checked by [`GenerationRequest::check`].
    pub request: GenerationRequest,
    /// The whole output of the task, from its first token on; it may end with the token that ended the answer.
    pub output: Vec<TokenId>,
    /// The first token that is of interest: those before it are computed and not shown.
    pub from: u32,
    /// Is shown every place from `from` on in order, with logits masked by the request's grammar where it has one. What
    /// it returns is ignored.
    pub sampler: Box<dyn TokenSampler>,
}

/// What happens in a generation, in order: one `Started`, any number of `Token`, one `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// The prompt was taken in.
    Started {
        /// The prompt's tokens, template included; empty where the backend does not tell.
        prompt: Vec<TokenId>,
        /// Their number (also where the ids are not told), and how many the cache held.
        usage: Usage,
    },
    /// One more token.
    Token(TokenEvent),
    /// The end. `usage.output_tokens` counts the tokens of this engine only, not the resumed ones.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Which of the request's stop texts ended it, where the backend tells.
        stop: Option<u8>,
        /// Text that was held back as the possible beginning of a stop text and turned out not to be one; mostly empty.
        tail: String,
        /// What was used.
        usage: Usage,
    },
    /// Broken off.
    Failed(EngineError),
}

/// A running generation. Dropping it cancels it.
pub struct Generation {
    events: mpsc::Receiver<EngineEvent>,
    /// What makes the events where the reader drives it; gone once it is through.
    driver: Option<Driver>,
    _cancel: tokio_util::sync::DropGuard,
}

/// Makes a generation's events while it is polled.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").finish_non_exhaustive()
    }
}

impl Generation {
    /// Wraps a bounded channel; `cancel` is fired when the generation is dropped.
    #[must_use]
    pub fn new(events: mpsc::Receiver<EngineEvent>, cancel: CancellationToken) -> Self {
        Self { events, driver: None, _cancel: cancel.drop_guard() }
    }

    /// Like [`Self::new`], but nothing runs on its own: `driver`, which holds the channel's other end, makes the events
    /// while they are waited for. That saves a task, and with it a wake-up for every event.
    #[must_use]
    pub fn driven(
        events: mpsc::Receiver<EngineEvent>,
        cancel: CancellationToken,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { driver: Some(Box::pin(driver)), ..Self::new(events, cancel) }
    }

    /// The next event, or `None` after the last.
    pub async fn next(&mut self) -> Option<EngineEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, or `None` after the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<EngineEvent>> {
        if self.driver.is_some()
            && self.events.is_empty()
            && self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready())
        {
            self.driver = None;
        }
        self.events.poll_recv(cx)
    }

    /// The next event if it is already there.
    pub fn try_next(&mut self) -> Option<EngineEvent> {
        self.events.try_recv().ok()
    }
}

/// Why an engine did not do something. Stable kinds: a miner answers each with a wire code of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// All slots and the waiting queue are taken.
    #[error("all {slots} slots and the queue are taken")]
    Busy {
        /// Slots of this engine.
        slots: u32,
    },
    /// Prompt and output do not fit.
    #[error("the prompt has {prompt} tokens and asks for {output} more; the context holds {context}")]
    ContextLength {
        /// Tokens of the prompt and the resumed output.
        prompt: u32,
        /// Further tokens asked for.
        output: u32,
        /// Tokens that fit.
        context: u32,
    },
    /// The request cannot be served by this model at all: names the parameter and the problem.
    #[error("{parameter}: {problem}")]
    Unsupported {
        /// In OpenAI's spelling.
        parameter: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The backend broke or is gone.
    #[error("the engine failed: {0}")]
    Backend(String),
}

/// Log-probability of one given token, from a single batched pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredToken {
    /// The token that was given.
    pub token: TokenId,
    /// Its log-probability after everything before it.
    pub logprob: LogProb,
    /// The most probable tokens at its place, best first.
    pub top: Vec<(TokenId, LogProb)>,
}

/// An inference backend serving one model.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What it serves.
    fn info(&self) -> &EngineInfo;

    /// How busy it is.
    fn load(&self) -> Load;

    /// How fast it has been of late, one sequence alone; zeros before the first measurement.
    fn speed(&self) -> Speed;

    /// Whether it can take work now. An error says what is wrong.
    async fn health(&self) -> Result<(), EngineError>;

    /// The tokens of a request's prompt, chat template included.
    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError>;

    /// Begins a generation. It waits in a bounded queue when all slots are taken, and is refused as busy beyond that.
    async fn generate(&self, job: Job) -> Result<Generation, EngineError>;

    /// Begins a generation whose answer is wanted in one piece, which some backends get at less cost. The events are the
    /// same, but may all come at the end.
    async fn generate_whole(&self, job: Job) -> Result<Generation, EngineError> {
        self.generate(job).await
    }

    /// Scores `output` after `prompt` in one pass, `top` alternatives each.
    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError>;

    /// Goes through an output in one batched pass, as if it were being generated, and returns the prompt's tokens.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] where the backend shows no logits; otherwise as [`Self::generate`].
    async fn replay(&self, _replay: Replay) -> Result<Vec<TokenId>, EngineError> {
        let problem = "this backend shows no logits, so it cannot go through an answer again".into();
        Err(EngineError::Unsupported { parameter: "replay", problem })
    }

    /// Whether a token ends an answer; `None` where the backend does not know its vocabulary.
    fn ends(&self, _token: TokenId) -> Option<bool> {
        None
    }

    /// The bytes that these tokens stand for, control tokens left out; `None` where the backend does not know its
    /// vocabulary.
    fn bytes_of(&self, _tokens: &[TokenId]) -> Option<Vec<u8>> {
        None
    }

    /// Embeds texts; one unit-length vector each, and the number of tokens in all.
    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError>;
}
