//! A model served by another process over OpenAI's HTTP API: vLLM, llama-server, Ollama, SGLang and anything compatible.
//!
//! Guarantees: the key is read from the environment or a file and appears in no error or log; every body, queue and wait has a
//! bound; a cancelled generation closes its connection, which makes the upstream stop; what the upstream would
//! silently ignore is refused by name. It does not repeat failed requests (the router has other miners), and it does not
//! use the job's sampler: the upstream samples, which is what tiers B to D say.
//!
//! Prompt tokens are known at the start with vLLM and llama-server; elsewhere `Started` reports 0 and `Finished` the
//! upstream's count, or where it gives none a low one made from the text (`floor`).

mod assemble;
mod body;
mod config;
mod drive;
mod floor;
mod http;
mod probe;
mod recorded;
pub mod sse;
mod wire;

pub use config::{ConnectError, Flavour, KeySource, OpenAiConfig};
pub use recorded::read_stream;

use crate::{Engine, EngineError, EngineInfo, Generation, Job, ScoredToken};
use async_trait::async_trait;
use body::{Dialect, Form};
use cortensor_protocol::{
    GenerationRequest, Prompt, Tier, TokenId,
    manifest::{Load, Speed},
    sampling::LogProb,
};
use http::{Http, HttpError};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use tokio::sync::{Semaphore, mpsc};

/// Events that a slow reader may leave unread before the upstream is read no further.
const EVENT_BUFFER: usize = 64;
/// Most bytes of an answer that is not streamed, other than embeddings.
const MAX_JSON: usize = 8 << 20;
/// Most bytes of an answer with embeddings or prompt log-probabilities.
const MAX_LARGE_JSON: usize = 128 << 20;
/// Most texts of one embedding call.
const MAX_EMBED_INPUTS: usize = 2048;

/// A remote backend. Made by [`OpenAiEngine::connect`].
pub struct OpenAiEngine {
    inner: Arc<Inner>,
}

/// What the engine and its running generations share.
struct Inner {
    config: OpenAiConfig,
    info: EngineInfo,
    http: Http,
    dialect: Dialect,
    slots: Arc<Semaphore>,
    counts_prompts: bool,
    gauges: Gauges,
}

/// How busy the upstream is with our work.
#[derive(Default)]
struct Gauges {
    /// Generations taken in: running or waiting.
    admitted: AtomicU32,
    active: AtomicU32,
    /// Prompt and output tokens of running generations.
    tokens: AtomicU64,
    speed: Mutex<Speed>,
}

impl OpenAiEngine {
    /// Connects to an upstream and finds out what it can do. This costs a few requests, one of which generates a token.
    ///
    /// # Errors
    /// The configuration is wrong, or the upstream does not answer, does not have the model or does not generate.
    pub async fn connect(config: OpenAiConfig) -> Result<Arc<Self>, ConnectError> {
        let http = Http::new(&config)?;
        let found = probe::probe(&config, &http).await?;
        let slots = usize::try_from(found.info.slots).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let inner = Inner {
            config,
            info: found.info,
            http,
            dialect: found.dialect,
            slots: Arc::new(Semaphore::new(slots)),
            counts_prompts: found.counts_prompts,
            gauges: Gauges::default(),
        };
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }

    /// Whether the upstream says how many tokens a prompt has. Where it does not, prompts are charged by a low count made
    /// from their text.
    #[must_use]
    pub fn counts_prompts(&self) -> bool {
        self.inner.counts_prompts
    }

    /// The kind of server that was found.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        self.inner.dialect.flavour
    }
}

impl Inner {
    /// Takes a place among the slots and the queue.
    fn admit(self: &Arc<Self>) -> Result<Admission, EngineError> {
        let most = self.info.slots.saturating_add(self.config.queue);
        let admitted = &self.gauges.admitted;
        let place = admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then_some(now + 1));
        match place {
            Ok(_) => Ok(Admission(Arc::clone(self))),
            Err(_) => Err(EngineError::Busy { slots: self.info.slots }),
        }
    }

    fn begin(self: &Arc<Self>, job: Job, form: Form) -> Result<Generation, EngineError> {
        let admission = self.admit()?;
        let plan = drive::Plan::new(&self.dialect, &job, form)?;
        let (events, receiver) = mpsc::channel(EVENT_BUFFER);
        let cancel = job.cancel.clone();
        Ok(Generation::driven(receiver, cancel, drive::run(admission, job, plan, events)))
    }

    /// The prompt's tokens, or `None` where the upstream does not tell.
    async fn prompt_tokens(&self, prompt: &Prompt) -> Result<Option<Vec<TokenId>>, EngineError> {
        if let Prompt::Tokens(tokens) = prompt {
            return Ok(Some(tokens.clone()));
        }
        let request = match (self.dialect.flavour, prompt) {
            (Flavour::Vllm, Prompt::Chat { messages, tools, tool_choice }) => {
                self.dialect.template(messages, tools, tool_choice)?
            }
            (Flavour::Vllm, Prompt::Text(text)) => json!({ "model": self.dialect.model, "prompt": text }),
            (Flavour::LlamaServer, Prompt::Chat { messages, tools, tool_choice }) => {
                let request = self.dialect.template(messages, tools, tool_choice)?;
                let request = self.http.root_post("/apply-template", &request);
                let templated: wire::Templated = self.ask(request, MAX_JSON).await?;
                json!({ "content": templated.prompt, "add_special": true, "parse_special": true })
            }
            (Flavour::LlamaServer, Prompt::Text(text)) => json!({ "content": text, "add_special": true }),
            _ => return Ok(None),
        };
        let tokenized: wire::Tokenized = self.ask(self.http.root_post("/tokenize", &request), MAX_JSON).await?;
        Ok(Some(tokenized.tokens))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        limit: usize,
    ) -> Result<T, EngineError> {
        self.http.json(request, limit).await.map_err(|error| self.engine_error(error, 0))
    }

    /// What a failed request means to a client. `output` is how many tokens it asked for.
    fn engine_error(&self, error: HttpError, output: u32) -> EngineError {
        let HttpError::Status { status, refusal } = error else {
            return EngineError::Backend(error.to_string());
        };
        let message = refusal.message.to_lowercase();
        let too_long = refusal.kind == "exceed_context_size_error"
            || refusal.kind == "context_length_exceeded"
            || (message.contains("context") && ["length", "size", "exceed"].iter().any(|word| message.contains(word)));
        match status {
            429 => EngineError::Busy { slots: self.info.slots },
            400 | 413 | 422 if too_long => EngineError::ContextLength {
                prompt: refusal.prompt_tokens.unwrap_or(0),
                output,
                context: self.info.context,
            },
            400 | 413 | 415 | 422 => EngineError::Unsupported {
                parameter: known_parameter(&refusal.param),
                problem: format!("the upstream refuses it: {}", refusal.message),
            },
            401 | 403 => EngineError::Backend(format!("the upstream refuses the key ({status}): {}", refusal.message)),
            _ => EngineError::Backend(format!("the upstream answered {status}: {}", refusal.message)),
        }
    }
}

/// A parameter's name as a constant; `request` for those that are not among the usual ones.
fn known_parameter(name: &str) -> &'static str {
    const KNOWN: [&str; 20] = [
        "messages",
        "prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "seed",
        "stop",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "response_format",
        "grammar",
        "model",
    ];
    let name = name.split(['.', '[']).next().unwrap_or_default();
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("request")
}

/// A place among slots and queue, given back when dropped.
struct Admission(Arc<Inner>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.gauges.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Engine for OpenAiEngine {
    fn info(&self) -> &EngineInfo {
        &self.inner.info
    }

    /// Counts this process' work only: what others ask of the same upstream is not seen.
    fn load(&self) -> Load {
        let gauges = &self.inner.gauges;
        let active = gauges.active.load(Ordering::Relaxed);
        Load {
            active,
            queued: gauges.admitted.load(Ordering::Relaxed).saturating_sub(active),
            kv_used: gauges.tokens.load(Ordering::Relaxed),
            kv_total: u64::from(self.inner.info.slots) * u64::from(self.inner.info.context),
        }
    }

    fn speed(&self) -> Speed {
        *self.inner.gauges.speed.lock()
    }

    async fn health(&self) -> Result<(), EngineError> {
        let http = &self.inner.http;
        let request = match self.inner.dialect.flavour {
            Flavour::Vllm | Flavour::Sglang | Flavour::LlamaServer => http.root_get("/health"),
            Flavour::Ollama => http.root_get("/api/version"),
            Flavour::Generic => http.get("/models"),
        };
        http.alive(request).await.map_err(|error| EngineError::Backend(error.to_string()))
    }

    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        let tokens = self.inner.prompt_tokens(&request.prompt).await?;
        tokens.ok_or_else(|| EngineError::Unsupported {
            parameter: "prompt",
            problem: format!("this model's upstream ({}) does not tell tokens", self.inner.dialect.flavour.name()),
        })
    }

    async fn generate(&self, job: Job) -> Result<Generation, EngineError> {
        self.inner.begin(job, Form::Stream)
    }

    async fn generate_whole(&self, job: Job) -> Result<Generation, EngineError> {
        self.inner.begin(job, Form::Whole)
    }

    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError> {
        let inner = &self.inner;
        if inner.info.tier < Tier::B {
            let problem =
                format!("this model's upstream ({}) does not score given tokens", inner.dialect.flavour.name());
            return Err(EngineError::Unsupported { parameter: "prompt", problem });
        }
        let tokens = [prompt, output].concat();
        let request = inner.http.post("/completions", &inner.dialect.scoring(&tokens, top));
        let answer = inner.http.json_within(request, MAX_LARGE_JSON, inner.config.first_timeout).await;
        let answer: wire::Chunk = answer.map_err(|error| inner.engine_error(error, 0))?;
        let choice = answer.choices.unwrap_or_default().into_iter().next().unwrap_or_default();
        let told = choice.prompt_logprobs.unwrap_or_default();
        if told.len() != tokens.len() {
            let problem = format!("the upstream scored {} of {} tokens", told.len(), tokens.len());
            return Err(EngineError::Backend(problem));
        }
        let told = told.into_iter().skip(prompt.len());
        output.iter().zip(told).map(|(&token, at)| scored(token, &at.unwrap_or_default(), top)).collect()
    }

    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError> {
        if !self.inner.info.embeds {
            return Err(EngineError::Unsupported { parameter: "model", problem: "gives no embeddings".into() });
        }
        if inputs.is_empty() || inputs.len() > MAX_EMBED_INPUTS {
            let problem = format!("1 to {MAX_EMBED_INPUTS} texts, got {}", inputs.len());
            return Err(EngineError::Unsupported { parameter: "input", problem });
        }
        let inner = &self.inner;
        let answer = probe::embed(&inner.http, &inner.dialect.model, inputs, inner.config.first_timeout).await;
        answer.map_err(|error| inner.engine_error(error, 0))
    }
}

/// A given token's log-probability; vLLM reports it beside the best ones, whatever its rank.
fn scored(token: TokenId, at: &HashMap<String, wire::PromptLogProb>, top: u8) -> Result<ScoredToken, EngineError> {
    let mut all = Vec::with_capacity(at.len());
    for (id, told) in at {
        let id: TokenId =
            id.parse().map_err(|_| EngineError::Backend(format!("the upstream scored a token {id:?}")))?;
        all.push((id, told.logprob));
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let own = all.iter().find(|(id, _)| *id == token);
    let own = own.ok_or_else(|| EngineError::Backend(format!("the upstream did not score the token {token}")))?;
    let logprob = LogProb::from_nats(own.1);
    let top = all.iter().take(usize::from(top)).map(|&(id, logprob)| (id, LogProb::from_nats(logprob)));
    Ok(ScoredToken { token, logprob, top: top.collect() })
}
