//! What the tests share: requests, a seeded sampler, and a generation's events collected.

use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job};
use cortensor_protocol::{
    ChatMessage, FinishReason, GenerationRequest, Prompt, ResponseFormat, Role, Sampled, SamplingParams, Step,
    TokenEvent, TokenId, TokenSampler, ToolChoice, Usage, sampling::LogProb,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest that anything in these tests may take; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn chat(text: &str) -> GenerationRequest {
    GenerationRequest {
        model: "m".into(),
        prompt: Prompt::Chat {
            messages: vec![ChatMessage::text(Role::User, text)],
            tools: vec![],
            tool_choice: ToolChoice::Auto,
        },
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 64,
        stop: vec![],
        response_format: ResponseFormat::Text,
        logprobs: None,
    }
}

/// Draws by seeded noise that depends on the step and the token alone.
pub(crate) struct Seeded {
    pub(crate) seed: u64,
    pub(crate) top: usize,
}

fn noise(seed: u64, step: u32, token: u32) -> f32 {
    let mut x = seed ^ (u64::from(step) << 32) ^ u64::from(token).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3 {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    let unit = ((x >> 40) as f32 + 0.5) / 16_777_216.0;
    -(-unit.ln()).ln()
}

impl TokenSampler for Seeded {
    fn sample(&mut self, Step { index: step, logits, output, .. }: Step<'_>) -> Sampled {
        assert_eq!(output.len(), usize::try_from(step).unwrap(), "a step is the number of tokens so far");
        let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
        let logprob = |logit: f32| LogProb::from_nats(logit - total.ln());
        let mut ranked: Vec<(TokenId, f32)> = (0..).zip(logits.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let noisy = |&(token, logit): &(TokenId, f32)| logit + noise(self.seed, step, token);
        let chosen = ranked.iter().max_by(|a, b| noisy(a).total_cmp(&noisy(b))).copied().unwrap();
        Sampled {
            token: chosen.0,
            logprob: logprob(chosen.1),
            top: ranked.into_iter().take(self.top).map(|(token, logit)| (token, logprob(logit))).collect(),
        }
    }
}

pub(crate) fn job(request: GenerationRequest) -> Job {
    request.check().unwrap();
    Job {
        request,
        resume: vec![],
        resume_tokens: 0,
        resume_text: String::new(),
        sampler: Box::new(Seeded { seed: 1, top: 5 }),
        cancel: CancellationToken::new(),
    }
}

/// A generation to its end.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) started: Usage,
    pub(crate) tokens: Vec<TokenEvent>,
    pub(crate) tail: String,
    pub(crate) finish: Option<(FinishReason, Usage)>,
    pub(crate) error: Option<EngineError>,
}

impl Collected {
    pub(crate) fn ids(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id.unwrap()).collect()
    }

    pub(crate) fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect::<String>() + &self.tail
    }

    pub(crate) fn reason(&self) -> Option<FinishReason> {
        self.finish.map(|(reason, _)| reason)
    }

    pub(crate) fn failure(&self) -> String {
        self.error.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

pub(crate) async fn next(generation: &mut Generation) -> Option<EngineEvent> {
    tokio::time::timeout(PATIENCE, generation.next()).await.expect("an event should have come")
}

pub(crate) async fn collect(mut generation: Generation) -> Collected {
    let mut all = Collected::default();
    while let Some(event) = next(&mut generation).await {
        assert!(all.finish.is_none() && all.error.is_none(), "{event:?} came after the last event");
        match event {
            EngineEvent::Started { prompt, usage } => (all.prompt, all.started) = (prompt, usage),
            EngineEvent::Token(token) => all.tokens.push(token),
            EngineEvent::Finished { reason, tail, usage, .. } => (all.tail, all.finish) = (tail, Some((reason, usage))),
            EngineEvent::Failed(error) => all.error = Some(error),
        }
    }
    all
}

pub(crate) async fn run(engine: &dyn Engine, job: Job) -> Collected {
    collect(engine.generate(job).await.unwrap()).await
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
