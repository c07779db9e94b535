//! From a case to a score: deterministic checks, then an answer of one's own and two gradings.

use crate::records::{Records, records};
use alloy::primitives::B256;
use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job, Replay};
use cortensor_proof::{Replayer, SeededSampler};
use cortensor_protocol::{
    Case, Domain, FinishReason, GenerationRequest, ModelId, TokenId, TraceToken, receipt::prompt_hash, trace::NO_TOKEN,
};
use cortensor_usefulness::{
    call::{Bench, JudgeCall, JudgeRecord, Judged, Part},
    checks::{Answer, check},
    prompt::{JudgeModel, Order},
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why an answer was not judged. It is tried again while there is time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The guard has no engine.
    #[error("this guard has no engine to judge with")]
    NoEngine,
    /// The tokens of the answer cannot be read here.
    #[error("there is no engine here for the model {wanted}, so that its answer cannot be read")]
    NoModel {
        /// Of the receipt.
        wanted: ModelId,
    },
    /// The tokens have no ids (tiers C and D).
    #[error("the backend of this answer told no token ids, so that it cannot be read")]
    NoIds,
    /// The beacon was there and is not any more.
    #[error("the beacon that draws the judges is not known")]
    NoBeacon,
    /// The time for commitments ran out.
    #[error("the engine is too slow for the time that judges have")]
    TooSlow,
    /// The engine failed.
    #[error("the engine failed")]
    Engine(#[from] EngineError),
}

/// Judges an answer; returns the score in ppm and how it came about. What is not the answer that the miner signed, or
/// not what it was asked, is of no use to anybody. The first engine judges; one of them must hold the answer's model.
///
/// # Errors
/// When that cannot be done here. Nothing is said about the answer then.
pub async fn judge(
    engines: &[Arc<dyn Engine>],
    domain: &Domain,
    bench: &Bench,
    case: &Case,
) -> Result<(u32, JudgeRecord), JudgeError> {
    let receipt = &case.receipt.receipt;
    if let Err(error) = case.verify(domain) {
        tracing::warn!(code = "G-JUDGE-004", item = %bench.item, miner = %receipt.miner, %error, "what is shown is not what was signed");
        return Ok((0, JudgeRecord::default()));
    }
    let reader = engines.iter().find(|engine| engine.info().manifest.id() == receipt.model);
    let reader = reader.ok_or(JudgeError::NoModel { wanted: receipt.model })?;
    let engine = engines.first().ok_or(JudgeError::NoEngine)?;
    let text = delivered(&**reader, case)?;
    let checked = check(&Answer { request: &case.request, text: &text, finish: receipt.finish });
    let judged = Judged {
        request: &case.request,
        text: &text,
        finish: receipt.finish,
        checked: &checked,
        same_vocabulary: reader.info().manifest.tokenizer == engine.info().manifest.tokenizer,
    };
    let record = match ask(&**engine, bench, &judged).await {
        Ok(record) => record,
        // A model that cannot do what was asked, or not take it in, says nothing about who could.
        Err(EngineError::Unsupported { parameter, problem }) => {
            tracing::info!(item = %bench.item, parameter, problem, "the judge's model cannot follow the request");
            JudgeRecord::default()
        }
        Err(error @ EngineError::ContextLength { .. }) => {
            tracing::info!(item = %bench.item, %error, "the judge's model cannot take the request in");
            JudgeRecord::default()
        }
        Err(error) => return Err(error.into()),
    };
    for finding in &checked.findings {
        let (check, reason) = (finding.check, &finding.reason);
        tracing::info!(item = %bench.item, ?check, reason, hard = finding.hard, "a check found something");
    }
    Ok((record.score(&checked), record))
}

/// The text of the answer as the client got it.
fn delivered(reader: &dyn Engine, case: &Case) -> Result<String, JudgeError> {
    let receipt = &case.receipt.receipt;
    let count = usize::try_from(receipt.output_tokens).unwrap_or(usize::MAX);
    let own = case.tokens.iter().take(count).map(|token| token.id);
    let tokens: Vec<TokenId> = case.before.iter().copied().chain(own).collect();
    if tokens.iter().any(|id| *id >= NO_TOKEN) {
        return Err(JudgeError::NoIds);
    }
    let bytes = reader.bytes_of(&tokens).ok_or(JudgeError::NoIds)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if receipt.finish == FinishReason::Stop {
        let end = case.request.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        text.truncate(end.unwrap_or(text.len()));
    }
    Ok(text)
}

async fn ask(engine: &dyn Engine, bench: &Bench, judged: &Judged<'_>) -> Result<JudgeRecord, EngineError> {
    let manifest = &engine.info().manifest;
    let model = JudgeModel { name: &manifest.name, context: manifest.context_length };
    let Some(first) = judged.own_answer(&model) else { return Ok(JudgeRecord::default()) };
    let own = call(engine, bench, Part::Own, first).await?;
    let mut calls = Vec::with_capacity(3);
    for order in [Order::Forward, Order::Reverse] {
        let request = judged.grading(bench, order, &own.text, &model);
        calls.push(call(engine, bench, Part::of(order), request).await?);
    }
    calls.insert(0, own);
    Ok(JudgeRecord { calls })
}

/// One call, recorded.
async fn call(
    engine: &dyn Engine,
    bench: &Bench,
    part: Part,
    request: GenerationRequest,
) -> Result<JudgeCall, EngineError> {
    let seed = bench.seed(part);
    let (sampler, recording) = SeededSampler::recording(seed, request.sampling.clone(), 0);
    let job = Job {
        request: request.clone(),
        resume: Vec::new(),
        resume_tokens: 0,
        resume_text: String::new(),
        sampler: Box::new(sampler),
        cancel: CancellationToken::new(),
    };
    let said = listen(engine.generate_whole(job).await?).await?;
    let salt = B256::from(rand::random::<[u8; 32]>());
    let Records { tokens, opened, .. } = records(said.tokens, recording.take(), said.finish, engine.info().tier);
    let prompt_hash = if said.prompt.is_empty() { B256::ZERO } else { prompt_hash(&said.prompt) };
    Ok(JudgeCall { part, request, prompt_hash, salt, finish: said.finish, text: said.text, tokens, evidence: opened })
}

struct Said {
    prompt: Vec<TokenId>,
    tokens: Vec<TraceToken>,
    text: String,
    finish: FinishReason,
}

/// The whole generation, which the request bounds.
async fn listen(mut generation: Generation) -> Result<Said, EngineError> {
    let mut said =
        Said { prompt: Vec::new(), tokens: Vec::new(), text: String::new(), finish: FinishReason::Cancelled };
    while let Some(event) = generation.next().await {
        match event {
            EngineEvent::Started { prompt, .. } => said.prompt = prompt,
            EngineEvent::Token(token) => {
                said.tokens.push(TraceToken::told(token.id, token.logprob));
                said.text += &token.text;
            }
            EngineEvent::Finished { reason, tail, .. } => {
                said.text += &tail;
                return Ok(Said { finish: reason, ..said });
            }
            EngineEvent::Failed(error) => return Err(error),
        }
    }
    Err(EngineError::Backend("the generation broke off".into()))
}

/// What going through a judge's call again found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Tokens that were gone through.
    pub tokens: u32,
    /// How many of them would have been others here.
    pub mismatches: u32,
    /// Whether the judge was shown the prompt that the request makes.
    pub same_prompt: bool,
    /// Whether the tokens are the text that the judge read its grades from.
    pub same_text: bool,
}

/// Goes through a judge's call again, on an engine that holds its model. What the numbers mean depends on how alike the
/// machines are, as in an audit; in the exact class nothing may differ.
///
/// # Errors
/// When that cannot be done here.
pub async fn replay(engine: &dyn Engine, bench: &Bench, call: &JudgeCall) -> Result<Replayed, EngineError> {
    let mut output: Vec<TokenId> = call.tokens.iter().map(|token| token.id).collect();
    if output.last() == Some(&NO_TOKEN) {
        output.pop();
    }
    let (sampler, findings) = Replayer::new(bench.seed(call.part), call.request.sampling.clone(), output.clone());
    let bytes = engine.bytes_of(&output);
    let replay = Replay { request: call.request.clone(), output, from: 0, sampler: Box::new(sampler) };
    let prompt = engine.replay(replay).await?;
    let found = findings.take();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // A stop text is in the tokens and not in the text.
    let said = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Replayed {
        tokens: count(found.len()),
        mismatches: count(found.iter().filter(|finding| finding.margin > 0).count()),
        same_prompt: call.prompt_hash == prompt_hash(&prompt),
        same_text: said.is_some_and(|said| said.starts_with(&call.text)),
    })
}
