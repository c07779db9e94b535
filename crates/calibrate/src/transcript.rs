//! Answers with their records, and what somebody else finds about them.

use crate::watch::{Seen, watched_if};
use cortensor_engine::{Engine, EngineError, EngineEvent, Job, Replay};
use cortensor_proof::{Finding, Replayer, SeededSampler, contradiction, evidence::TokenStatistics};
use cortensor_protocol::{
    Evidence, FinishReason, GenerationRequest, ModelId, SamplingParams, TokenId, TraceToken, sampling::Seed,
    trace::NO_TOKEN,
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// One answer: what a receipt and an opened case hold of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// What was asked.
    pub request: GenerationRequest,
    /// Under which seed.
    pub seed: Seed,
    /// The records, the token that ended the answer included.
    pub tokens: Vec<TraceToken>,
    /// One for each.
    pub evidence: Vec<Evidence>,
    /// What was seen beside it; not part of any file of answers.
    #[serde(skip)]
    pub seen: Seen,
}

/// What a replay of a transcript found.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// For each record.
    pub statistics: Vec<TokenStatistics>,
    /// Which records contradict themselves: no replay is needed to see it.
    pub contradictions: Vec<usize>,
    /// Records that are equal to the last bit.
    pub identical: usize,
    /// What was found here.
    pub findings: Vec<Finding>,
    /// What was seen beside it, by the miner and here.
    pub seen: [Seen; 2],
}

/// Why an answer was not made or replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscriptError {
    /// The engine refused or failed.
    #[error("the engine failed")]
    Engine(#[from] EngineError),
    /// The engine stopped in the middle.
    #[error("the engine ended without a word")]
    Silent,
    /// A file of answers is none.
    #[error("line {line} of the file of answers is none")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Transcript {
    /// The tokens.
    #[must_use]
    pub fn output(&self) -> Vec<TokenId> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// Answers a request as a miner does, recording. `params` are those under which tokens are drawn; a miner's are the request's.
/// `watch`: keep the hidden states as well, for measurements.
///
/// # Errors
/// The engine's.
pub async fn generate(
    engine: &dyn Engine,
    request: GenerationRequest,
    seed: Seed,
    params: &SamplingParams,
    watch: bool,
) -> Result<Transcript, TranscriptError> {
    let (sampler, recording) = SeededSampler::recording(seed, params.clone(), 0);
    let (sampler, watched) = watched_if(watch, sampler, Some(SeededSampler::new(seed, params.clone(), 0)));
    let job = Job {
        request: request.clone(),
        resume: Vec::new(),
        resume_tokens: 0,
        resume_text: String::new(),
        sampler,
        cancel: CancellationToken::new(),
    };
    let mut generation = engine.generate(job).await?;
    let mut delivered = 0;
    let reason = loop {
        match generation.next().await.ok_or(TranscriptError::Silent)? {
            EngineEvent::Started { .. } => {}
            EngineEvent::Token(_) => delivered += 1,
            EngineEvent::Finished { reason, .. } => break reason,
            EngineEvent::Failed(error) => return Err(error.into()),
        }
    };
    let records = delivered + usize::from(reason == FinishReason::EndOfSequence);
    let (tokens, evidence) = recording.take().into_iter().take(records).unzip();
    let mut seen = watched.take();
    seen.truncate(records);
    Ok(Transcript { request, seed, tokens, evidence, seen })
}

/// Answers all requests as [`generate`] does, `at_once` of them beside each other; the seed of each is its place's.
///
/// # Errors
/// The first that an engine gave.
pub async fn generate_all(
    engine: &dyn Engine,
    requests: &[GenerationRequest],
    salt: u64,
    at_once: usize,
    watch: bool,
) -> Result<Vec<Transcript>, TranscriptError> {
    let one = |(place, request): (usize, &GenerationRequest)| {
        let seed = alloy_primitives::keccak256([salt.to_be_bytes(), (place as u64).to_be_bytes()].concat());
        let (request, params) = (request.clone(), request.sampling.clone());
        async move { generate(engine, request, seed, &params, watch).await }
    };
    let running: Vec<_> = requests.iter().enumerate().map(one).collect();
    let made: Vec<_> = stream::iter(running).buffered(at_once.max(1)).collect().await;
    made.into_iter().collect()
}

/// Goes through a transcript with a guard's engine; watches where its miner was watched.
///
/// # Errors
/// The engine's.
pub async fn replay(guard: &dyn Engine, transcript: &Transcript) -> Result<Replayed, TranscriptError> {
    let mut output = transcript.output();
    if output.last() == Some(&NO_TOKEN) {
        output.pop();
    }
    if output.is_empty() {
        return Ok(Replayed::default());
    }
    let params = transcript.request.sampling.clone();
    let (sampler, findings) = Replayer::new(transcript.seed, params, output.clone());
    let request = transcript.request.clone();
    let (sampler, watched) = watched_if(!transcript.seen.states.is_empty(), sampler, None);
    guard.replay(Replay { request, output, from: 0, sampler }).await?;
    let seen = [transcript.seen.clone(), watched.take()];
    Ok(Replayed { seen, ..compare(transcript, findings.take()) })
}

/// Replays all, one after the other.
///
/// # Errors
/// The first that the engine gave.
pub async fn replay_all(guard: &dyn Engine, transcripts: &[Transcript]) -> Result<Vec<Replayed>, TranscriptError> {
    let running: Vec<_> = transcripts.iter().map(|transcript| replay(guard, transcript)).collect();
    let done: Vec<_> = stream::iter(running).buffered(2).collect().await;
    done.into_iter().collect()
}

fn compare(transcript: &Transcript, findings: Vec<Finding>) -> Replayed {
    let mut replayed = Replayed::default();
    let sampling = &transcript.request.sampling;
    let records = transcript.tokens.iter().zip(&transcript.evidence).zip(&findings);
    for (place, ((token, evidence), found)) in records.enumerate() {
        replayed.statistics.push(TokenStatistics::new(found, *token, evidence));
        replayed.identical += usize::from(found.equals(*token, evidence));
        let step = u32::try_from(place).unwrap_or(u32::MAX);
        let tolerance = contradiction::TOLERANCE;
        if contradiction::find(sampling, transcript.seed, step, *token, evidence, tolerance).is_some() {
            replayed.contradictions.push(place);
        }
    }
    replayed.findings = findings;
    replayed
}

/// Answers of one machine, to be replayed on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Of which model.
    pub model: ModelId,
    /// On which build of the engine: [`cortensor_engine::EngineInfo::build`].
    pub build: String,
    /// The answers.
    pub transcripts: Vec<Transcript>,
}

/// The first line of a file of answers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    model: ModelId,
    build: String,
}

impl Recorded {
    /// As text: one JSON object a line, the first of which names model and build.
    ///
    /// # Panics
    /// Never: all of it has a JSON form.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let heading = Heading { model: self.model, build: self.build.clone() };
        let first = serde_json::to_string(&heading).expect("plain data") + "\n";
        let line = |transcript| serde_json::to_string(transcript).expect("plain data") + "\n";
        first + &self.transcripts.iter().map(line).collect::<String>()
    }

    /// Reads what [`Self::to_lines`] wrote.
    ///
    /// # Errors
    /// Names the first line that is none.
    pub fn from_lines(text: &str) -> Result<Self, TranscriptError> {
        let at = |line: usize| move |source| TranscriptError::Line { line: line + 1, source };
        let mut lines = text.lines().enumerate();
        let (_, first) = lines.next().unwrap_or_default();
        let Heading { model, build } = serde_json::from_str(first).map_err(at(0))?;
        let parse = |(line, text): (usize, &str)| serde_json::from_str(text).map_err(at(line));
        let transcripts = lines.filter(|(_, text)| !text.trim().is_empty()).map(parse).collect::<Result<_, _>>()?;
        Ok(Self { model, build, transcripts })
    }
}
