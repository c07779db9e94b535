//! The model, a simple sampler, and shortcuts for requests.

use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job};
use cortensor_llama::{LlamaConfig, LlamaEngine};
use cortensor_protocol::{
    ChatMessage, FinishReason, GenerationRequest, LogProb, Prompt, ResponseFormat, Role, Sampled, SamplingParams, Step,
    TokenEvent, TokenId, TokenSampler, Usage,
};
use std::{
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, OnceLock},
};
use tokio_util::sync::CancellationToken;

pub(crate) fn model_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/cortensor-tiny-q8_0.gguf")
}

pub(crate) fn config() -> LlamaConfig {
    let mut config = LlamaConfig::new(model_path());
    config.slots = NonZeroU32::new(8).unwrap();
    config.context_per_sequence = 256;
    config.threads = NonZeroU32::new(1);
    config.warm_up = false;
    config
}

pub(crate) fn load(change: impl FnOnce(&mut LlamaConfig)) -> Arc<LlamaEngine> {
    let mut config = config();
    change(&mut config);
    LlamaEngine::load(config).unwrap()
}

/// An engine that tests share when they do not look at its state.
pub(crate) fn shared() -> Arc<LlamaEngine> {
    static ENGINE: OnceLock<Arc<LlamaEngine>> = OnceLock::new();
    Arc::clone(ENGINE.get_or_init(|| load(|config| config.queue = 64)))
}

/// Draws the most probable token, or with a seed a random one from a generator keyed by the step alone, as the protocol's
/// sampler does.
pub(crate) struct TestSampler {
    pub(crate) seed: Option<u64>,
    pub(crate) top: usize,
}

impl TokenSampler for TestSampler {
    fn sample(&mut self, Step { index: step, logits, output, hidden }: Step<'_>) -> Sampled {
        assert_eq!(step as usize, output.len());
        assert_eq!(hidden, None, "nobody asked for it");
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let normaliser = highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f32>().ln();
        let noise = |id: usize| {
            let Some(seed) = self.seed else { return 0.0 };
            let mut x = seed ^ (u64::from(step) << 32) ^ id as u64;
            for _ in 0..3 {
                x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
            let u = ((x >> 40) as f32 + 0.5) / (1_u64 << 24) as f32;
            -(-u.ln()).ln()
        };
        let best = |key: &dyn Fn(usize) -> f32| {
            (0..logits.len()).max_by(|&a, &b| key(a).total_cmp(&key(b)).then(b.cmp(&a))).unwrap()
        };
        let token = best(&|id| logits[id] + noise(id));
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let logprob = |id: usize| LogProb::from_nats(logits[id] - normaliser);
        Sampled {
            token: u32::try_from(token).unwrap(),
            logprob: logprob(token),
            top: order.into_iter().take(self.top).map(|id| (u32::try_from(id).unwrap(), logprob(id))).collect(),
        }
    }
}

pub(crate) fn chat(text: &str) -> GenerationRequest {
    let messages = vec![ChatMessage::text(Role::User, text)];
    request(Prompt::Chat { messages, tools: vec![], tool_choice: cortensor_protocol::ToolChoice::Auto })
}

pub(crate) fn text(text: &str) -> GenerationRequest {
    request(Prompt::Text(text.into()))
}

pub(crate) fn request(prompt: Prompt) -> GenerationRequest {
    GenerationRequest {
        model: "cortensor-tiny".into(),
        prompt,
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 32,
        stop: vec![],
        response_format: ResponseFormat::Text,
        logprobs: None,
    }
}

pub(crate) fn job(request: GenerationRequest) -> Job {
    Job {
        request,
        resume: vec![],
        resume_tokens: 0,
        resume_text: String::new(),
        sampler: Box::new(TestSampler { seed: None, top: 0 }),
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn seeded(request: GenerationRequest, seed: u64) -> Job {
    Job { sampler: Box::new(TestSampler { seed: Some(seed), top: 0 }), ..job(request) }
}

/// Everything that a generation reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) started: Usage,
    pub(crate) tokens: Vec<TokenEvent>,
    pub(crate) tail: String,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).chain([self.tail.as_str()]).collect()
    }

    pub(crate) fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id.unwrap()).collect()
    }
}

pub(crate) async fn collect(mut generation: Generation) -> Result<Answer, EngineError> {
    let Some(EngineEvent::Started { prompt, usage: started }) = generation.next().await else {
        panic!("the first event is Started");
    };
    let mut tokens = Vec::new();
    loop {
        match generation.next().await.expect("a last event comes before the end") {
            EngineEvent::Token(token) => tokens.push(token),
            EngineEvent::Finished { reason, tail, usage, .. } => {
                assert_eq!(generation.next().await, None);
                return Ok(Answer { prompt, started, tokens, tail, reason, usage });
            }
            EngineEvent::Failed(error) => return Err(error),
            EngineEvent::Started { .. } => panic!("Started comes once"),
        }
    }
}

pub(crate) async fn run(engine: &Arc<LlamaEngine>, job: Job) -> Answer {
    collect(engine.generate(job).await.unwrap()).await.unwrap()
}

pub(crate) async fn refused(engine: &Arc<LlamaEngine>, job: Job) -> EngineError {
    match engine.generate(job).await {
        Err(error) => error,
        Ok(generation) => collect(generation).await.unwrap_err(),
    }
}
