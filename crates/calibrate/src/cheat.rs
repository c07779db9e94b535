//! Engines that cheat: what miners in tests run to be caught, and what profiles are calibrated against.
//!
//! Each serves, outwardly, the honest model: its manifest, its prompt's tokens, records that agree with each other. The
//! cheats are those of the design's list of adversaries.

use crate::{
    bend::{Bent, Choice, Endless, Forced, Nucleus, Scale},
    transcript,
    watch::Watched,
};
use async_trait::async_trait;
use cortensor_engine::{Engine, EngineError, EngineEvent, EngineInfo, Generation, Job, Replay, ScoredToken};
use cortensor_proof::{SeededSampler, evidence::Charge};
use cortensor_protocol::{
    GenerationRequest, Prompt, SamplingParams, TokenId, TokenSampler, Usage,
    manifest::{Load, Speed},
    sampling::{Micro, Seed},
};
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One way to cheat.
#[derive(Clone)]
pub enum Cheat {
    /// Other weights or another KV cache: a smaller model, a lower quantisation. The tokenizer must be the same.
    Weights(Arc<dyn Engine>),
    /// The first part of the prompt is left out, in percent.
    CutPrompt(u8),
    /// One token in so many is exchanged for the one before it.
    AlteredPrompt(u32),
    /// The answer is of another prompt, and its receipt says so.
    OtherPrompt,
    /// Another temperature than the asked one, and records of logits scaled to it. Requests at temperature 0 are answered honestly.
    OpenTemperature(Micro),
    /// Another temperature, with honest records but where they would tell.
    Temperature(Micro),
    /// Only this part of the distribution, and records that say so.
    OpenTopP(Micro),
    /// Only this part of the distribution, with honest records but where they would tell.
    TopP(Micro),
    /// Noise of its own choosing, and records that do not hide it.
    OpenSeed,
    /// Noise of its own choosing, with records made to fit.
    Seed,
    /// Answers computed once and given to whoever asks the same, whatever the seed, with records made to fit.
    Cached,
    /// The answer ends after so many tokens.
    EarlyStop(u32),
    /// The answer does not end before the limit.
    Padding,
    /// A token of its own at every so many-th place.
    Injected(u32),
    /// The most probable token is accepted where it loses by at most this, in 1/1024 of a logit.
    LenientDraft(u32),
    /// Text of a cheaper model, for which the honest one then computes records.
    CheapText(Arc<dyn Engine>),
    /// Another cheat in one of so many requests.
    Selective(u32, Box<Cheat>),
    /// Another cheat in the requests that this picks: what plants audits for guards.
    Asked(Picks, Box<Cheat>),
}

/// Picks requests.
pub type Picks = Arc<dyn Fn(&GenerationRequest) -> bool + Send + Sync>;

impl std::fmt::Debug for Cheat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Cheat {
    /// What kind of cheat it is.
    #[must_use]
    pub fn charge(&self) -> Charge {
        match self {
            Self::Weights(_) | Self::CutPrompt(_) | Self::AlteredPrompt(_) | Self::OtherPrompt => Charge::Computation,
            Self::Selective(_, cheat) | Self::Asked(_, cheat) => cheat.charge(),
            _ => Charge::Sampling,
        }
    }

    /// What profiles and reports call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Weights(engine) => {
                let manifest = &engine.info().manifest;
                format!("weights {} {}, KV {}", manifest.name, manifest.quantisation, manifest.kv_cache)
            }
            Self::CutPrompt(percent) => format!("prompt cut by {percent} %"),
            Self::AlteredPrompt(every) => format!("every {every}th token of the prompt altered"),
            Self::OtherPrompt => "another prompt".into(),
            Self::OpenTemperature(micro) => format!("temperature {}", decimal(*micro)),
            Self::Temperature(micro) => format!("temperature {}, hidden", decimal(*micro)),
            Self::OpenTopP(micro) => format!("top-p {}", decimal(*micro)),
            Self::TopP(micro) => format!("top-p {}, hidden", decimal(*micro)),
            Self::OpenSeed => "seed of its own".into(),
            Self::Seed => "seed of its own, hidden".into(),
            Self::Cached => "cached answer".into(),
            Self::EarlyStop(after) => format!("end after {after} tokens"),
            Self::Padding => "no end".into(),
            Self::Injected(every) => format!("every {every}th token injected"),
            Self::LenientDraft(most) => format!("draft accepted within {most}/1024"),
            Self::CheapText(engine) => format!("text of {}", engine.info().manifest.name),
            Self::Selective(every, cheat) => format!("1 in {every}: {}", cheat.name()),
            Self::Asked(_, cheat) => format!("where it is asked for: {}", cheat.name()),
        }
    }
}

fn decimal(micro: Micro) -> String {
    let text = format!("{}.{:06}", micro.0 / 1_000_000, micro.0 % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An engine that cheats. Everything but generating it does honestly.
pub struct Dishonest {
    honest: Arc<dyn Engine>,
    cheat: Cheat,
    /// Tokens that end an answer.
    ends: Vec<TokenId>,
    requests: AtomicU32,
}

impl Dishonest {
    /// An engine that claims to be `honest` and cheats.
    #[must_use]
    pub fn new(honest: Arc<dyn Engine>, cheat: Cheat) -> Self {
        let vocabulary = honest.info().manifest.vocabulary;
        let ends = (0..vocabulary).filter(|token| honest.ends(*token) == Some(true)).collect();
        Self { honest, cheat, ends, requests: AtomicU32::new(0) }
    }

    async fn cheat(&self, cheat: &Cheat, mut job: Job) -> Result<Generation, EngineError> {
        let Some((seed, params)) = drawn_by(&*job.sampler) else { return self.honest.generate(job).await };
        let forced = |choice| Forced::new(seed, params.clone(), choice);
        job.sampler = match cheat {
            Cheat::Weights(engine) => return self.served_by(&**engine, job).await,
            Cheat::CutPrompt(_) | Cheat::AlteredPrompt(_) => return self.with_other_prompt(cheat, job).await,
            Cheat::OtherPrompt => {
                let told = self.honest.tokenize(&job.request).await?;
                job.request.prompt = Prompt::Tokens(altered(&told, &Cheat::AlteredPrompt(2)));
                job.sampler
            }
            Cheat::Asked(picks, cheat) => {
                return match picks(&job.request) {
                    true => Box::pin(self.cheat(cheat, job)).await,
                    false => self.honest.generate(job).await,
                };
            }
            Cheat::Selective(every, cheat) => {
                return match self.requests.fetch_add(1, Relaxed) % (*every).max(1) {
                    0 => Box::pin(self.cheat(cheat, job)).await,
                    _ => self.honest.generate(job).await,
                };
            }
            Cheat::OpenTemperature(_) | Cheat::Temperature(_) if params.temperature.0 == 0 => job.sampler,
            Cheat::OpenTemperature(real) => {
                let factor = params.temperature.as_f32() / real.as_f32().max(1e-3);
                Box::new(Bent::new(job.sampler, Scale(factor)))
            }
            Cheat::Temperature(real) => {
                let other = SeededSampler::new(seed, SamplingParams { temperature: *real, ..params.clone() }, 0);
                Box::new(Bent::new(job.sampler, forced(Choice::Drawn(Box::new(other)))))
            }
            Cheat::OpenTopP(share) => {
                let nucleus = Nucleus { share: share.as_f32(), temperature: params.temperature.as_f32() };
                Box::new(Bent::new(job.sampler, nucleus))
            }
            Cheat::TopP(share) => {
                let top_p = params.top_p.min(*share);
                let other = SeededSampler::new(seed, SamplingParams { top_p, ..params.clone() }, 0);
                Box::new(Bent::new(job.sampler, forced(Choice::Drawn(Box::new(other)))))
            }
            Cheat::OpenSeed => Box::new(Shifted(job.sampler)),
            Cheat::Seed => {
                let other = Box::new(SeededSampler::new(other_seed(seed), params.clone(), 0));
                Box::new(Bent::new(job.sampler, forced(Choice::Drawn(other))))
            }
            Cheat::Cached => {
                let list = text_of(&*self.honest, job.request.clone(), Seed::ZERO, &params).await?;
                Box::new(Bent::new(job.sampler, forced(Choice::List(list))))
            }
            Cheat::CheapText(engine) => {
                let list = text_of(&**engine, job.request.clone(), seed, &params).await?;
                Box::new(Bent::new(job.sampler, forced(Choice::List(list))))
            }
            Cheat::EarlyStop(after) => match self.ends.first() {
                Some(end) => Box::new(Bent::new(job.sampler, forced(Choice::From(*after, *end)))),
                None => job.sampler,
            },
            Cheat::Padding => Box::new(Bent::new(job.sampler, Endless(self.ends.clone()))),
            Cheat::Injected(every) => {
                let token = self.honest.info().manifest.vocabulary / 2;
                Box::new(Bent::new(job.sampler, forced(Choice::Every(*every, token))))
            }
            Cheat::LenientDraft(most) => Box::new(Bent::new(job.sampler, forced(Choice::Lenient(*most)))),
        };
        self.honest.generate(job).await
    }

    /// Another engine answers; the prompt's tokens are told as the honest one has them.
    async fn served_by(&self, engine: &dyn Engine, job: Job) -> Result<Generation, EngineError> {
        let told = self.honest.tokenize(&job.request).await?;
        Ok(retold(engine.generate(job).await?, told))
    }

    async fn with_other_prompt(&self, cheat: &Cheat, mut job: Job) -> Result<Generation, EngineError> {
        let told = self.honest.tokenize(&job.request).await?;
        job.request.prompt = Prompt::Tokens(altered(&told, cheat));
        Ok(retold(self.honest.generate(job).await?, told))
    }
}

/// The tokens that an engine answers under a seed, to their end.
async fn text_of(
    engine: &dyn Engine,
    request: GenerationRequest,
    seed: Seed,
    params: &SamplingParams,
) -> Result<Vec<TokenId>, EngineError> {
    let made = transcript::generate(engine, request, seed, params, false).await;
    made.map(|made| made.output()).map_err(|error| EngineError::Backend(error.to_string()))
}

/// Seed and parameters of the protocol's sampler.
fn drawn_by(sampler: &dyn TokenSampler) -> Option<(Seed, SamplingParams)> {
    let sampler: &dyn Any = sampler;
    let watched = || sampler.downcast_ref::<Watched<SeededSampler>>().map(Watched::inner);
    let sampler = sampler.downcast_ref::<SeededSampler>().or_else(watched)?;
    Some((sampler.seed(), sampler.params().clone()))
}

fn other_seed(seed: Seed) -> Seed {
    alloy_primitives::keccak256(seed)
}

/// A prompt of which something is missing or exchanged; never empty.
fn altered(prompt: &[TokenId], cheat: &Cheat) -> Vec<TokenId> {
    match cheat {
        Cheat::CutPrompt(percent) => {
            let cut = (prompt.len() * usize::from(*percent) / 100).min(prompt.len().saturating_sub(1));
            prompt[cut..].to_vec()
        }
        Cheat::AlteredPrompt(every) => {
            let every = (*every).max(2) as usize;
            let exchanged = |(at, token): (usize, &TokenId)| {
                if at > 0 && at % every == every / 2 { prompt[at - 1] } else { *token }
            };
            prompt.iter().enumerate().map(exchanged).collect()
        }
        _ => prompt.to_vec(),
    }
}

/// The same events, with the prompt of another request told.
fn retold(mut generation: Generation, prompt: Vec<TokenId>) -> Generation {
    let (send, receive) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let input_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    let stopped = cancel.clone();
    let telling = async move {
        loop {
            let event = tokio::select! {
                () = stopped.cancelled() => return,
                event = generation.next() => event,
            };
            let Some(mut event) = event else { return };
            match &mut event {
                EngineEvent::Started { prompt: told, usage } => {
                    told.clone_from(&prompt);
                    *usage = Usage { input_tokens, cached_input_tokens: 0, ..*usage };
                }
                EngineEvent::Finished { usage, .. } => {
                    *usage = Usage { input_tokens, cached_input_tokens: 0, ..*usage };
                }
                _ => {}
            }
            // Whoever read this is gone, and with it the reason to go on.
            if send.send(event).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(telling);
    Generation::new(receive, cancel)
}

/// Draws with the noise of other steps than the task's.
struct Shifted(Box<dyn TokenSampler>);

impl TokenSampler for Shifted {
    fn sample(&mut self, step: cortensor_protocol::Step<'_>) -> cortensor_protocol::Sampled {
        self.0.sample(cortensor_protocol::Step { index: step.index.wrapping_add(1_000_003), ..step })
    }

    fn wants_hidden(&self) -> bool {
        self.0.wants_hidden()
    }
}

#[async_trait]
impl Engine for Dishonest {
    fn info(&self) -> &EngineInfo {
        self.honest.info()
    }

    fn load(&self) -> Load {
        self.honest.load()
    }

    fn speed(&self) -> Speed {
        self.honest.speed()
    }

    async fn health(&self) -> Result<(), EngineError> {
        self.honest.health().await
    }

    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        self.honest.tokenize(request).await
    }

    async fn generate(&self, job: Job) -> Result<Generation, EngineError> {
        self.cheat(&self.cheat, job).await
    }

    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError> {
        self.honest.score(prompt, output, top).await
    }

    async fn replay(&self, replay: Replay) -> Result<Vec<TokenId>, EngineError> {
        self.honest.replay(replay).await
    }

    fn ends(&self, token: TokenId) -> Option<bool> {
        self.honest.ends(token)
    }

    fn bytes_of(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        self.honest.bytes_of(tokens)
    }

    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError> {
        self.honest.embed(inputs).await
    }
}
