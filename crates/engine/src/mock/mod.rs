//! A simulator of a continuously batching engine, for tests and for measuring everything around an engine.
//!
//! It is not a language model and says so in its name. What is real: admission, queueing, batching, back-pressure,
//! cancellation, stop texts, resumption, the sampler's part, scoring, and the shape of timing under load. What is made up: the
//! words. They depend on the prompt, the output so far and the configured seed alone, so that another mock with the
//! same configuration continues a broken-off answer exactly as it would have gone on.
//!
//! One task runs all sequences; an idle stream costs its channel and a few hundred bytes.

mod model;
mod scheduler;
mod script;
mod vocabulary;

use crate::{
    Engine, EngineError, EngineInfo, Generation, Job, Replay, ScoredToken,
    chat::{ChatTemplate, TemplateError},
    stop::StopMatcher,
};
use alloy_primitives::keccak256;
use async_trait::async_trait;
use cortensor_protocol::{
    GenerationRequest, ModelManifest, Prompt, Step, Tier, TokenId, ToolChoice, ToolFormat,
    manifest::{Load, Speed},
};
use model::Model;
use parking_lot::Mutex;
use scheduler::{Scheduler, Sequence};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::sync::mpsc::{self, error::TrySendError};

pub use vocabulary::{MAX_VOCABULARY, MIN_VOCABULARY};

/// Events that a slow reader may leave unread before its sequence pauses.
const EVENT_BUFFER: usize = 32;
/// Most texts of one embedding call.
const MAX_EMBED_INPUTS: usize = 2048;

/// What goes wrong with the generations that begin from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Failure {
    /// Nothing.
    #[default]
    None,
    /// The generation fails with an error after this many tokens of its own.
    FailAfter(u32),
    /// No further event comes after this many tokens, and the stream stays open.
    StallAfter(u32),
    /// After this many tokens, tokens outside the vocabulary with text to match.
    GarbageAfter(u32),
    /// After this many tokens the whole engine dies: every stream breaks off without a last event, and nothing new is
    /// taken until [`MockEngine::restart`].
    CrashAfter(u32),
    /// Every request is refused as busy.
    Refuse,
    /// The prompt takes this much longer (not scaled by the speed factor).
    SlowStart(Duration),
}

/// What is simulated. [`MockConfig::default`] is a small, instant engine.
#[derive(Clone, Debug, PartialEq)]
pub struct MockConfig {
    /// Name in the manifest; must begin with `mock`, so that nobody takes it for a model.
    pub name: String,
    /// Makes mocks differ: the same seed and vocabulary are the same "weights".
    pub seed: u64,
    /// Number of tokens, [`MIN_VOCABULARY`] to [`MAX_VOCABULARY`].
    pub vocabulary: u32,
    /// What it reports of its work. C leaves out token ids, D log-probabilities as well.
    pub tier: Tier,
    /// Longest context in LLM tokens.
    pub context: u32,
    /// Sequences that run at once.
    pub slots: u32,
    /// Requests that may wait for a slot or for memory.
    pub queue: u32,
    /// KV-cache tokens in all. A request waits until its prompt and longest answer fit.
    pub kv_tokens: u64,
    /// Prompt tokens a second, shared by all sequences.
    pub prefill_tokens_per_second: u32,
    /// Output tokens a second of one sequence alone.
    pub decode_tokens_per_second: u32,
    /// By how many percent each further sequence in the batch lengthens a decoding step. At 5, 21 sequences halve the
    /// speed of each and together are 10 times as fast as one.
    pub batch_cost_percent: u32,
    /// How much faster than simulated time it runs, in percent: 100 is real time, 1000 ten times as fast, 0 without any
    /// waiting.
    pub speed_percent: u32,
    /// Answers have about this many tokens unless limited.
    pub answer_tokens: u32,
    /// Length of embeddings; 0 for none.
    pub embedding_length: u32,
    /// Hermes, or none to refuse tools.
    pub tool_format: ToolFormat,
}

impl Default for MockConfig {
    fn default() -> Self {
        Self {
            name: "mock".into(),
            seed: 0,
            vocabulary: 512,
            tier: Tier::A,
            context: 8192,
            slots: 8,
            queue: 64,
            kv_tokens: 131_072,
            prefill_tokens_per_second: 4000,
            decode_tokens_per_second: 50,
            batch_cost_percent: 5,
            speed_percent: 0,
            answer_tokens: 60,
            embedding_length: 64,
            tool_format: ToolFormat::Hermes,
        }
    }
}

/// A configuration that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MockConfigError {
    /// The name could be taken for a model's.
    #[error("the name of a simulated model must begin with \"mock\", got {0:?}")]
    Name(String),
    /// A number is out of range.
    #[error("{field} must be {range}")]
    Range {
        /// The field of [`MockConfig`].
        field: &'static str,
        /// What is allowed.
        range: String,
    },
}

impl MockConfig {
    fn check(&self) -> Result<(), MockConfigError> {
        let range = |field, ok: bool, range: &str| match ok {
            true => Ok(()),
            false => Err(MockConfigError::Range { field, range: range.into() }),
        };
        if !self.name.starts_with("mock") {
            return Err(MockConfigError::Name(self.name.clone()));
        }
        let allowed = format!("{MIN_VOCABULARY} to {MAX_VOCABULARY}");
        range("vocabulary", (MIN_VOCABULARY..=MAX_VOCABULARY).contains(&self.vocabulary), &allowed)?;
        range("slots", (1..=1_000_000).contains(&self.slots), "1 to 1000000")?;
        range("queue", self.queue <= 1_000_000, "at most 1000000")?;
        range("context", self.context >= 2, "at least 2")?;
        range("prefill_tokens_per_second", self.prefill_tokens_per_second > 0, "at least 1")?;
        range("decode_tokens_per_second", self.decode_tokens_per_second > 0, "at least 1")?;
        range("embedding_length", self.embedding_length <= 8192, "at most 8192")?;
        range("tool_format", self.tool_format != ToolFormat::Native, "hermes or none")
    }

    fn manifest(&self) -> ModelManifest {
        let part = |name: &str| keccak256(format!("cortensor mock {name} {} {}", self.vocabulary, self.seed));
        ModelManifest {
            name: self.name.clone(),
            weights_blake3: part("weights"),
            weights_sha256: part("weights"),
            tokenizer: keccak256(format!("cortensor mock vocabulary {}", self.vocabulary)),
            chat_template: keccak256(crate::chat::CHATML),
            quantisation: "simulated".into(),
            context_length: self.context,
            kv_cache: "simulated".into(),
            vocabulary: self.vocabulary,
            embedding_length: self.embedding_length,
            tool_format: self.tool_format,
            licence: String::new(),
        }
    }
}

/// What the engine and its scheduler share.
#[derive(Debug, Default)]
struct State {
    active: u32,
    queued: u32,
    kv_used: u64,
    failure: Failure,
    crashed: bool,
    measured: bool,
}

/// The simulator. Dropping it lets running generations end.
pub struct MockEngine {
    info: EngineInfo,
    config: MockConfig,
    model: Arc<Model>,
    template: ChatTemplate,
    state: Arc<Mutex<State>>,
    submit: mpsc::Sender<Sequence>,
}

impl MockEngine {
    /// Starts the simulator on the current tokio runtime.
    ///
    /// # Errors
    /// The configuration makes no sense.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: MockConfig) -> Result<Arc<Self>, MockConfigError> {
        config.check()?;
        let model = Arc::new(Model::new(config.vocabulary, config.seed, config.answer_tokens));
        let state = Arc::new(Mutex::new(State::default()));
        let (submit, submitted) = mpsc::channel(usize::try_from(config.slots + config.queue).expect("at most 2000000"));
        let scheduler = Scheduler::new(config.clone(), Arc::clone(&model), Arc::clone(&state), submitted);
        tokio::spawn(scheduler.run());
        let info = EngineInfo {
            manifest: config.manifest(),
            tier: config.tier,
            context: config.context,
            slots: config.slots,
            embeds: config.embedding_length > 0,
            build: concat!("cortensor mock ", env!("CARGO_PKG_VERSION"), " (simulated)").into(),
        };
        Ok(Arc::new(Self { info, config, model, template: ChatTemplate::chatml(), state, submit }))
    }

    /// Sets what goes wrong with the generations that begin from now on.
    pub fn inject(&self, failure: Failure) {
        self.state.lock().failure = failure;
    }

    /// Takes work again after a crash, without failures.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.crashed = false;
        state.failure = Failure::None;
    }

    /// The text of tokens, as it would be delivered.
    #[must_use]
    pub fn detokenize(&self, tokens: &[TokenId]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.model.vocabulary.piece(token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn prompt(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        match &request.prompt {
            Prompt::Text(text) => Ok(self.model.vocabulary.encode(text)),
            Prompt::Tokens(tokens) => self.check_tokens(tokens).map(|()| tokens.clone()),
            Prompt::Chat { messages, tools, tool_choice } => {
                let tools = if *tool_choice == ToolChoice::None { &[] } else { tools.as_slice() };
                if !tools.is_empty() && self.config.tool_format == ToolFormat::None {
                    return Err(unsupported("tools", "this model does not call tools; leave them out"));
                }
                let text = self.template.render(messages, tools, true).map_err(|error| template_error(&error))?;
                Ok(self.model.vocabulary.encode(&text))
            }
        }
    }

    fn check_tokens(&self, tokens: &[TokenId]) -> Result<(), EngineError> {
        match tokens.iter().find(|&&token| token >= self.config.vocabulary) {
            Some(token) => Err(unsupported("prompt", &format!("there is no token {token} in this model"))),
            None => Ok(()),
        }
    }

    /// The output tokens to go on after. Tiers without ids are resumed by text.
    fn resumed(&self, job: &Job) -> Result<Vec<TokenId>, EngineError> {
        if job.resume.is_empty() {
            return Ok(self.model.vocabulary.encode(&job.resume_text));
        }
        self.check_tokens(&job.resume).map(|()| job.resume.clone())
    }

    fn sequence(&self, job: Job, events: mpsc::Sender<crate::EngineEvent>) -> Result<Sequence, EngineError> {
        let prompt = self.prompt(&job.request)?;
        let output = self.resumed(&job)?;
        let script = script::script(&job.request)?.map(|text| self.model.vocabulary.encode(&text));
        let limit = self.limit(prompt.len(), output.len(), job.request.max_tokens)?;
        let mut stops = StopMatcher::new(&job.request.stop);
        for &token in &output {
            stops.prime(self.model.vocabulary.piece(token));
        }
        Ok(Sequence {
            context: self.model.context(&prompt),
            resumed: output.len(),
            output,
            limit,
            script,
            stops,
            top: job.request.logprobs.unwrap_or(0),
            sampler: job.sampler,
            cancel: job.cancel,
            events,
            outbox: VecDeque::new(),
            ended: false,
            reserved: u64::try_from(prompt.len() + limit).unwrap_or(u64::MAX),
            prefill_left: 0,
            cached: 0,
            started: false,
            failure: Failure::None,
            wake: None,
            prompt,
        })
    }

    /// Most output tokens, the resumed ones included: as many as asked for, or until the context is full.
    fn limit(&self, prompt: usize, output: usize, max_tokens: u32) -> Result<usize, EngineError> {
        let context = usize::try_from(self.config.context).unwrap_or(usize::MAX);
        let wanted = usize::try_from(max_tokens).unwrap_or(usize::MAX).max(output);
        let limit = wanted.min(context.saturating_sub(prompt));
        let memory = usize::try_from(self.config.kv_tokens).unwrap_or(usize::MAX);
        if prompt + output >= context || prompt + limit > memory {
            let count = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
            return Err(EngineError::ContextLength {
                prompt: count(prompt + output),
                output: count(wanted - output),
                context: count(context.min(memory)),
            });
        }
        Ok(limit)
    }

    /// Takes a place in the queue, or says why there is none.
    fn admit(&self) -> Result<Failure, EngineError> {
        let mut state = self.state.lock();
        if state.crashed {
            return Err(EngineError::Backend("the simulated engine crashed".into()));
        }
        let full = state.active + state.queued >= self.config.slots + self.config.queue;
        if full || state.failure == Failure::Refuse {
            return Err(EngineError::Busy { slots: self.config.slots });
        }
        state.queued += 1;
        Ok(state.failure)
    }
}

fn unsupported(parameter: &'static str, problem: &str) -> EngineError {
    EngineError::Unsupported { parameter, problem: problem.into() }
}

fn template_error(error: &TemplateError) -> EngineError {
    EngineError::Unsupported { parameter: "messages", problem: error.to_string() }
}

#[async_trait]
impl Engine for MockEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn load(&self) -> Load {
        let state = self.state.lock();
        Load { active: state.active, queued: state.queued, kv_used: state.kv_used, kv_total: self.config.kv_tokens }
    }

    /// The configured speeds (as simulated, without the speed factor) once a generation has ended.
    fn speed(&self) -> Speed {
        if !self.state.lock().measured {
            return Speed::default();
        }
        Speed {
            prefill_tokens_per_second: self.config.prefill_tokens_per_second,
            decode_tokens_per_second: self.config.decode_tokens_per_second,
        }
    }

    async fn health(&self) -> Result<(), EngineError> {
        match self.state.lock().crashed {
            true => Err(EngineError::Backend("the simulated engine crashed".into())),
            false => Ok(()),
        }
    }

    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        self.prompt(request)
    }

    async fn generate(&self, job: Job) -> Result<Generation, EngineError> {
        let (events, receiver) = mpsc::channel(EVENT_BUFFER);
        let cancel = job.cancel.clone();
        let mut sequence = self.sequence(job, events)?;
        sequence.failure = self.admit()?;
        match self.submit.try_send(sequence) {
            Ok(()) => Ok(Generation::new(receiver, cancel)),
            Err(TrySendError::Full(_)) => Err(EngineError::Busy { slots: self.config.slots }),
            Err(TrySendError::Closed(_)) => Err(EngineError::Backend("the simulated engine has stopped".into())),
        }
    }

    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError> {
        self.check_tokens(prompt)?;
        self.check_tokens(output)?;
        if prompt.len() + output.len() > usize::try_from(self.config.context).unwrap_or(usize::MAX) {
            let count = |tokens: &[TokenId]| u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            let context = self.config.context;
            return Err(EngineError::ContextLength { prompt: count(prompt), output: count(output), context });
        }
        Ok(self.model.score(prompt, output, usize::from(top)))
    }

    async fn replay(&self, replay: Replay) -> Result<Vec<TokenId>, EngineError> {
        let Replay { request, output, from, mut sampler } = replay;
        let prompt = self.prompt(&request)?;
        self.check_tokens(&output)?;
        self.limit(prompt.len(), output.len().saturating_sub(1), 1)?;
        let script = script::script(&request)?.map(|text| self.model.vocabulary.encode(&text));
        let context = self.model.context(&prompt);
        let mut logits = Vec::new();
        for (index, at) in (0u32..).zip(0..output.len()).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            self.model.logits(context, &output[..at], script.as_deref(), &mut logits);
            sampler.sample(Step { index, logits: &mut logits, hidden: None, output: &output[..at] });
        }
        Ok(prompt)
    }

    fn ends(&self, token: TokenId) -> Option<bool> {
        Some(token == vocabulary::END)
    }

    fn bytes_of(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        Some(tokens.iter().flat_map(|token| self.model.vocabulary.piece(*token)).copied().collect())
    }

    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError> {
        if self.config.embedding_length == 0 {
            return Err(unsupported("model", "this model gives no embeddings"));
        }
        if inputs.len() > MAX_EMBED_INPUTS {
            return Err(unsupported("input", &format!("at most {MAX_EMBED_INPUTS} texts")));
        }
        let length = usize::try_from(self.config.embedding_length).expect("at most 8192");
        let tokens: usize = inputs.iter().map(|input| self.model.vocabulary.encode(input).len()).sum();
        let vectors = inputs.iter().map(|input| self.model.embed(input, length)).collect();
        Ok((vectors, u32::try_from(tokens).unwrap_or(u32::MAX)))
    }
}
