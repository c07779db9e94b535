//! Our engine against llama.cpp driven directly: same library, file, threads, batch and token choice.
//!
//! The peer is a loop of a few lines over one context: prompts one after the other in full batches, then one batch of one
//! token for each sequence, the most probable token taken. Both sides compute the same tokens in the same context settings
//! and take turns; the best of several rounds counts, so that what else runs on the machine weighs little. Where a Python
//! with llama-cpp-python is named, it takes its turns as well, at one request.

mod modes;
mod python;
mod untrained;

pub use modes::{MakeSampler, exact, traced};
pub use untrained::{Quantisation, Shape, UntrainedError, untrained, write_quantised, write_untrained};

use crate::{
    LlamaConfig, LlamaEngine, LoadError,
    engine::context_params,
    ffi::{Batch, Context, Model, ModelParams, SequenceId},
};
use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job};
use cortensor_protocol::{
    GenerationRequest, LogProb, Prompt, ResponseFormat, Sampled, SamplingParams, Step, TokenId, TokenSampler,
};
use serde::Serialize;
use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

use python::Python;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The GGUF file.
    pub path: PathBuf,
    /// Threads of both sides.
    pub threads: NonZeroU32,
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// Tokens generated for each prompt.
    pub output_tokens: u32,
    /// Requests at once, one row pair each.
    pub concurrency: Vec<u32>,
    /// Rounds, of which the best counts.
    pub rounds: u32,
    /// A Python that has llama-cpp-python, to be measured as well.
    pub python: Option<PathBuf>,
}

impl BenchConfig {
    /// 256 tokens in, 128 out, at 1 and at 8 requests at once, on one thread.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            threads: NonZeroU32::MIN,
            prompt_tokens: 256,
            output_tokens: 128,
            concurrency: vec![1, 8],
            rounds: 9,
            python: None,
        }
    }
}

/// One measurement beside its peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours.
    pub value: f64,
    /// Unit of both values.
    pub unit: &'static str,
    /// What it is compared with.
    pub peer: String,
    /// The peer's.
    pub peer_value: f64,
    /// Ours divided by the peer's; above 1 is better than the peer.
    pub ratio: f64,
}

/// Why a measurement broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The model could not be loaded.
    #[error("the model could not be loaded")]
    Load(#[from] LoadError),
    /// Our engine failed.
    #[error("the engine failed")]
    Engine(#[from] EngineError),
    /// The peer failed.
    #[error("llama.cpp failed: {0}")]
    Direct(String),
    /// The process with llama-cpp-python failed.
    #[error("llama-cpp-python failed: {0}")]
    Python(String),
}

/// Tokens a second.
#[derive(Clone, Copy, Default)]
struct Rates {
    prefill: f64,
    decode: f64,
}

impl Rates {
    fn best(self, other: Self) -> Self {
        Self { prefill: self.prefill.max(other.prefill), decode: self.decode.max(other.decode) }
    }

    /// Rows of ours beside a peer's.
    fn beside(self, peer: Self, suffix: &str, name: &str) -> [Row; 2] {
        let pairs = [("prefill", self.prefill, peer.prefill), ("decode", self.decode, peer.decode)];
        pairs.map(|(what, value, peer_value)| Row {
            name: format!("engine.{what}.{suffix}"),
            value,
            unit: "tokens/s",
            peer: name.into(),
            peer_value,
            ratio: value / peer_value,
        })
    }
}

/// Measures prefill and decode at each concurrency.
///
/// # Errors
/// Either side fails.
pub async fn run(config: &BenchConfig) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for &requests in &config.concurrency {
        rows.extend(compare(config, NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN)).await?);
    }
    Ok(rows)
}

/// All sides in turns at one concurrency.
async fn compare(config: &BenchConfig, requests: NonZeroU32) -> Result<Vec<Row>, BenchError> {
    let engine = LlamaEngine::load(engine_config(config, requests))?;
    let mut direct = Direct::new(config, requests)?;
    let mut python = match &config.python {
        Some(python) if requests == NonZeroU32::MIN => Some(Python::start(python, config).await?),
        _ => None,
    };
    let ends = ends(engine.model());
    let greedy = || Box::new(Greedy { ends: Arc::clone(&ends) }) as Box<dyn TokenSampler>;
    let (mut ours, mut theirs, mut outside) = (Rates::default(), Rates::default(), Rates::default());
    for round in 0..config.rounds.max(1) {
        ours = ours.best(measure_engine(&engine, config, (requests.get(), round), &greedy).await?);
        theirs = theirs.best(direct.measure(config, round)?);
        if let Some(python) = &mut python {
            let prompt = prompt(engine.model().vocabulary(), config.prompt_tokens, round, 0);
            outside = outside.best(python.measure(config, &prompt).await?);
        }
    }
    let mut rows = Vec::from(ours.beside(theirs, &format!("{requests}"), "llama.cpp driven directly"));
    if let Some(python) = python {
        rows.extend(ours.beside(outside, &format!("{requests}.llama-cpp-python"), &python.about));
    }
    Ok(rows)
}

fn engine_config(config: &BenchConfig, requests: NonZeroU32) -> LlamaConfig {
    LlamaConfig {
        slots: requests,
        threads: Some(config.threads),
        context_per_sequence: context(config),
        ..LlamaConfig::new(&config.path)
    }
}

fn context(config: &BenchConfig) -> u32 {
    (config.prompt_tokens + config.output_tokens + 1).next_multiple_of(256)
}

/// Prompts that share no prefix with each other nor between rounds.
fn prompt(vocabulary: usize, length: u32, round: u32, request: u32) -> Vec<TokenId> {
    let span = u32::try_from(vocabulary).unwrap_or(u32::MAX).saturating_sub(512).max(1);
    let token = |at: u32| {
        let x = (round * 64 + request + 1).wrapping_mul(0x9e37_79b9).wrapping_add(at.wrapping_mul(0x85eb_ca6b));
        256 + (x >> 8) % span
    };
    (0..length).map(|at| token(at).min(span + 255)).collect()
}

/// The most probable token, but never one that ends the output.
struct Greedy {
    ends: Arc<[TokenId]>,
}

fn argmax(logits: &mut [f32], ends: &[TokenId]) -> TokenId {
    for &end in ends {
        logits[end as usize] = f32::NEG_INFINITY;
    }
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    u32::try_from(best).unwrap_or(0)
}

impl TokenSampler for Greedy {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        Sampled { token: argmax(step.logits, &self.ends), logprob: LogProb::default(), top: Vec::new() }
    }
}

fn ends(model: &Model) -> Arc<[TokenId]> {
    let count = u32::try_from(model.vocabulary()).unwrap_or(0);
    (0..count).filter(|&token| model.ends_generation(token)).collect()
}

/// Takes the prompts in, then lets the outputs be generated from the memory that this left behind.
async fn measure_engine(
    engine: &Arc<LlamaEngine>,
    config: &BenchConfig,
    (requests, round): (u32, u32),
    sampler: &(dyn Fn() -> Box<dyn TokenSampler> + Sync),
) -> Result<Rates, BenchError> {
    let prefill = time_engine(engine, config, (requests, round), (1, sampler)).await?;
    let decode = time_engine(engine, config, (requests, round), (config.output_tokens, sampler)).await?;
    Ok(rates(config, requests, prefill, decode))
}

/// Seconds until all requests of a round have `output` tokens.
async fn time_engine(
    engine: &Arc<LlamaEngine>,
    config: &BenchConfig,
    (requests, round): (u32, u32),
    (output, sampler): (u32, &(dyn Fn() -> Box<dyn TokenSampler> + Sync)),
) -> Result<f64, BenchError> {
    let model = engine.model();
    let jobs: Vec<Job> = (0..requests)
        .map(|request| {
            let tokens = prompt(model.vocabulary(), config.prompt_tokens, round, request);
            job(tokens, output, sampler())
        })
        .collect();
    let began = Instant::now();
    let mut running = Vec::new();
    for job in jobs {
        running.push(tokio::spawn(count_tokens(engine.generate(job).await?)));
    }
    for task in running {
        let tokens = task.await.map_err(|error| EngineError::Backend(error.to_string()))??;
        if tokens != output {
            return Err(EngineError::Backend(format!("{tokens} tokens came instead of {output}")).into());
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

fn job(tokens: Vec<TokenId>, max_tokens: u32, sampler: Box<dyn TokenSampler>) -> Job {
    Job {
        request: GenerationRequest {
            model: String::new(),
            prompt: Prompt::Tokens(tokens),
            sampling: SamplingParams::default(),
            seed: None,
            max_tokens,
            stop: Vec::new(),
            response_format: ResponseFormat::Text,
            logprobs: None,
        },
        resume: Vec::new(),
        resume_tokens: 0,
        resume_text: String::new(),
        sampler,
        cancel: CancellationToken::new(),
    }
}

async fn count_tokens(mut generation: Generation) -> Result<u32, EngineError> {
    let mut tokens = 0;
    loop {
        match generation.next().await {
            Some(EngineEvent::Token(_)) => tokens += 1,
            Some(EngineEvent::Finished { .. }) => return Ok(tokens),
            Some(EngineEvent::Failed(error)) => return Err(error),
            Some(EngineEvent::Started { .. }) => {}
            None => return Err(EngineError::Backend("the generation ended without an event".into())),
        }
    }
}

fn rates(config: &BenchConfig, requests: u32, prefill_seconds: f64, decode_seconds: f64) -> Rates {
    Rates {
        prefill: f64::from(requests * config.prompt_tokens) / prefill_seconds.max(1e-9),
        decode: f64::from(requests * config.output_tokens) / decode_seconds.max(1e-9),
    }
}

/// llama.cpp without our engine.
struct Direct {
    context: Context,
    batch: Batch,
    ends: Arc<[TokenId]>,
    requests: u32,
    prompt_tokens: u32,
    output_tokens: u32,
}

impl Direct {
    fn new(config: &BenchConfig, requests: NonZeroU32) -> Result<Self, BenchError> {
        let fail = |what: &str| BenchError::Direct(format!("no {what}"));
        let model = Arc::new(Model::load(&config.path, ModelParams::default()).ok_or_else(|| fail("model"))?);
        let params = context_params(&engine_config(config, requests), &model);
        let context = Context::new(&model, &params).ok_or_else(|| fail("context"))?;
        let batch = Batch::new(params.batch);
        let (prompt_tokens, output_tokens) = (config.prompt_tokens, config.output_tokens);
        Ok(Self { context, batch, ends: ends(&model), requests: requests.get(), prompt_tokens, output_tokens })
    }

    fn measure(&mut self, config: &BenchConfig, round: u32) -> Result<Rates, BenchError> {
        let vocabulary = self.context.model().vocabulary();
        let prompts: Vec<Vec<TokenId>> =
            (0..self.requests).map(|request| prompt(vocabulary, self.prompt_tokens, round, request)).collect();
        let began = Instant::now();
        self.prefill(&prompts)?;
        let prefill = began.elapsed().as_secs_f64();
        let began = Instant::now();
        self.generate(&prompts)?;
        Ok(rates(config, self.requests, prefill, began.elapsed().as_secs_f64()))
    }

    fn prefill(&mut self, prompts: &[Vec<TokenId>]) -> Result<(), BenchError> {
        let mut outputs = Vec::new();
        self.batch.clear();
        for (request, prompt) in (0..).zip(prompts) {
            self.context.forget(SequenceId(request), 0);
            for (position, &token) in prompt.iter().enumerate() {
                if self.batch.room() == 0 {
                    self.compute(&mut outputs)?;
                }
                let last = position + 1 == prompt.len();
                let row = self.batch.push(token, position, SequenceId(request), last);
                outputs.extend(last.then_some(row));
            }
        }
        self.compute(&mut outputs).map(drop)
    }

    /// Computes the batch and chooses a token for each output.
    fn compute(&mut self, outputs: &mut Vec<i32>) -> Result<Vec<TokenId>, BenchError> {
        self.context.decode(&self.batch, false).map_err(|error| BenchError::Direct(error.to_string()))?;
        self.batch.clear();
        let mut chosen = Vec::with_capacity(outputs.len());
        for row in outputs.drain(..) {
            let logits = self.context.logits(row).ok_or_else(|| BenchError::Direct("no logits".into()))?;
            chosen.push(argmax(logits, &self.ends));
        }
        Ok(chosen)
    }

    fn generate(&mut self, prompts: &[Vec<TokenId>]) -> Result<(), BenchError> {
        let start = self.prompt_tokens as usize - 1;
        let mut next: Vec<TokenId> = prompts.iter().filter_map(|prompt| prompt.last().copied()).collect();
        for request in (0..).take(prompts.len()) {
            self.context.forget(SequenceId(request), start);
        }
        for step in 0..self.output_tokens as usize {
            let mut outputs = Vec::with_capacity(next.len());
            for (request, &token) in (0..).zip(&next) {
                outputs.push(self.batch.push(token, start + step, SequenceId(request), true));
            }
            next = self.compute(&mut outputs)?;
        }
        Ok(())
    }
}
