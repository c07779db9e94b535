//! Going through somebody's answer again: what a guard does for the chain, and anybody for themselves.
//!
//! The ladder of docs/spec/traces.md, cheapest first: structure, contradiction, replay. The first two convict from the
//! miner's own signature; the third gives numbers for each token, which mean something only beside what honest miners of
//! the same build differ by (a calibrated profile).

use alloy::primitives::B256;
use cortensor_engine::{Engine, EngineError, Replay};
use cortensor_net::MinerConnection;
use cortensor_proof::{Finding, Replayer, contradiction};
use cortensor_protocol::{
    Case, Domain, Evidence, FinishReason, TokenId, TraceToken,
    audit::CaseError,
    receipt::prompt_hash,
    trace::NO_TOKEN,
    wire::{TaskOpen, TaskReply},
};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;

/// Why an answer could not be gone through. Nothing is said about its miner then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The model at hand is another one.
    #[error("the answer is of model {wanted}, this one is {found}")]
    OtherModel {
        /// Of the receipt.
        wanted: cortensor_protocol::ModelId,
        /// Of the engine.
        found: cortensor_protocol::ModelId,
    },
    /// There is no engine for the model.
    #[error("there is no engine here for the model {wanted}")]
    NoModel {
        /// Of the receipt.
        wanted: cortensor_protocol::ModelId,
    },
    /// The tokens have no ids, so nothing can be repeated (tiers C and D).
    #[error("the backend of this answer told no token ids, so nothing can be repeated")]
    NoIds,
    /// The engine failed.
    #[error("the answer could not be computed again")]
    Engine(#[from] EngineError),
}

/// What convicts a miner without any statistics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// What the miner shows is not what it signed, or is malformed.
    #[error("what is shown does not hold together")]
    Case(#[source] CaseError),
    /// It answered another prompt.
    #[error("the receipt is of another prompt than the request's")]
    Prompt,
    /// A record contradicts itself.
    #[error("token {place}: by the miner's own numbers, token {other} should have been chosen")]
    Contradiction {
        /// Index among the receipt's records.
        place: usize,
        /// The token that wins.
        other: TokenId,
    },
    /// The end that the receipt names did not come about.
    #[error("the answer ended with {0:?}, and nothing in it says so")]
    Ending(FinishReason),
}

/// One record beside what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The miner's token record.
    pub claimed: TraceToken,
    /// The miner's evidence record.
    pub evidence: Evidence,
    /// What was found here.
    pub found: Finding,
}

/// An answer that was gone through.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// What convicts its miner by itself.
    pub faults: Vec<Fault>,
    /// Each record of the receipt beside what was found; empty where the structure did not hold.
    pub compared: Vec<Compared>,
}

/// [`Audited`] in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records.
    pub tokens: u32,
    /// Of these, how many would have been another token here.
    pub mismatches: u32,
    /// The largest margin by which a token lost, in 1/1024 of a logit.
    pub margin_max: u32,
    /// Mean difference of the log-probabilities in millionths of a nat.
    pub logprob_difference_micro: u64,
    /// Records with a sketch on both sides.
    pub sketches: u32,
    /// Mean squared relative distance of the sketches, in millionths.
    pub sketch_distance_micro: u64,
    /// Records that are equal to the last bit.
    pub identical: u32,
}

impl Compared {
    /// Whether the miner's record is, to the last bit, what would have been recorded here.
    #[must_use]
    pub fn is_identical(&self) -> bool {
        self.found.equals(self.claimed, &self.evidence)
    }
}

impl Audited {
    /// The numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mut sum = Summary::default();
        let (mut logprobs, mut distances) = (0u64, 0u64);
        for compared in &self.compared {
            sum.tokens += 1;
            sum.mismatches += u32::from(compared.found.margin > 0);
            sum.margin_max = sum.margin_max.max(compared.found.margin);
            sum.identical += u32::from(compared.is_identical());
            logprobs += u64::from(compared.found.logprob_difference(compared.claimed));
            if let Some(distance) = compared.found.sketch_distance_q20(&compared.evidence) {
                sum.sketches += 1;
                distances += u64::from(distance);
            }
        }
        sum.logprob_difference_micro = mean_micro(logprobs, sum.tokens, 1 << 10);
        sum.sketch_distance_micro = mean_micro(distances, sum.sketches, 1 << 20);
        sum
    }
}

/// The mean of `count` numbers in units of 1/`one`, in millionths.
fn mean_micro(total: u64, count: u32, one: u64) -> u64 {
    let mean = u128::from(total) * 1_000_000 / (u128::from(count.max(1)) * u128::from(one));
    u64::try_from(mean).unwrap_or(u64::MAX)
}

/// A miner has this long to show a case.
const SHOW_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks a connected miner for the case of the receipt with this signing hash. `None`: it says that it has none, or none
/// that the asker may see. An error is a sentence that says why it did not answer.
pub(crate) async fn show(miner: &MinerConnection, receipt: B256) -> Result<Option<Case>, String> {
    let asking = async {
        let mut channel = miner.open_task(&TaskOpen::Audit(receipt)).await.map_err(|error| error.to_string())?;
        channel.recv().await.map_err(|error| error.to_string())
    };
    match timeout(SHOW_TIMEOUT, asking).await {
        Ok(Ok(Some(TaskReply::Case(case)))) => Ok(case.map(|case| *case)),
        Ok(Ok(Some(TaskReply::Failed(why)))) => Err(why.to_string()),
        Ok(Ok(_)) => Err("it did not answer".into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("it took too long".into()),
    }
}

/// Goes through an answer with an engine that holds its model.
///
/// # Errors
/// When that cannot be done here. What is wrong with the answer is no error, but a [`Fault`] or a number.
pub async fn go_through(engine: &dyn Engine, domain: &Domain, case: &Case) -> Result<Audited, AuditError> {
    let receipt = &case.receipt.receipt;
    let found = engine.info().manifest.id();
    if receipt.model != found {
        return Err(AuditError::OtherModel { wanted: receipt.model, found });
    }
    if let Err(error) = case.verify(domain) {
        return Ok(Audited { faults: vec![Fault::Case(error)], compared: Vec::new() });
    }
    let mut faults = contradictions(case);
    let (output, closed) = replayed_output(case)?;
    let header = &case.header.header;
    let (sampler, findings) = Replayer::new(header.seed, case.request.sampling.clone(), output.clone());
    let replay =
        Replay { request: case.request.clone(), output, from: receipt.first_token, sampler: Box::new(sampler) };
    let prompt = engine.replay(replay).await?;
    if receipt.prompt_hash != prompt_hash(&prompt) {
        faults.push(Fault::Prompt);
    }
    if !ends_as_said(engine, case, closed) {
        faults.push(Fault::Ending(receipt.finish));
    }
    let records = case.tokens.iter().zip(&case.evidence);
    let compared = records.zip(findings.take()).map(|((claimed, evidence), found)| Compared {
        claimed: *claimed,
        evidence: *evidence,
        found,
    });
    Ok(Audited { faults, compared: compared.collect() })
}

fn contradictions(case: &Case) -> Vec<Fault> {
    let (header, first) = (&case.header.header, case.receipt.receipt.first_token);
    let mut found = Vec::new();
    for (place, (token, evidence)) in case.tokens.iter().zip(&case.evidence).enumerate() {
        let step = first.saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
        let sampling = &case.request.sampling;
        let other = contradiction::find(sampling, header.seed, step, *token, evidence, contradiction::TOLERANCE);
        found.extend(other.map(|other| Fault::Contradiction { place, other }));
    }
    found
}

/// The output to be computed again, and the token that ended it where it has an id.
fn replayed_output(case: &Case) -> Result<(Vec<TokenId>, Option<TokenId>), AuditError> {
    let mut output = case.output();
    let closing = case.tokens.len() as u64 > u64::from(case.receipt.receipt.output_tokens);
    let closed = if closing { output.last().copied() } else { None };
    if closed == Some(NO_TOKEN) {
        output.pop();
    }
    if output.iter().any(|id| *id >= NO_TOKEN) {
        return Err(AuditError::NoIds);
    }
    Ok((output, closed))
}

/// Whether the answer ended for the reason that the receipt gives. A reason that only others can know is believed: that the
/// client left, or that the miner's context was full, which may be smaller than this engine's. Ending early earns less.
fn ends_as_said(engine: &dyn Engine, case: &Case, closed: Option<TokenId>) -> bool {
    match case.receipt.receipt.finish {
        FinishReason::EndOfSequence => {
            closed.is_none_or(|token| token == NO_TOKEN || engine.ends(token) != Some(false))
        }
        FinishReason::Stop => !case.request.stop.is_empty(),
        FinishReason::Length | FinishReason::Cancelled => true,
    }
}
