//! A judge's calls to its own engine, recorded so that anyone with its model can repeat them.
//!
//! A call is a task like a client's: its seed follows from what is judged, who judges and which call it is, never from
//! the judge's choice; tokens are drawn by the protocol's sampler and leave a trace. What the judge commits to is a
//! Merkle root over its calls.

use crate::{
    NEUTRAL, PPM,
    checks::Checked,
    grade::{GradeError, Pair, score},
    prompt::{JudgeModel, Order, Tag, grading, own_answer},
};
use alloy_primitives::{B256, keccak256};
use cortensor_protocol::{
    Evidence, FinishReason, GenerationRequest, ModelId, Operator, TraceToken, merkle,
    trace::{self, TraceError},
};
use serde::{Deserialize, Serialize};

/// Which call of a judgement it is, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Part {
    /// The judge answers the request itself.
    Own = 0,
    /// It grades, the answer under judgement first.
    Forward = 1,
    /// It grades, its own answer first.
    Reverse = 2,
}

impl Part {
    /// The grading in this order.
    #[must_use]
    pub const fn of(order: Order) -> Self {
        match order {
            Order::Forward => Self::Forward,
            Order::Reverse => Self::Reverse,
        }
    }
}

/// What is judged, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bench {
    /// The item: signing hash of the receipt, which says chain and contract as well.
    pub item: B256,
    /// The beacon that drew the judges: nobody knew it when the answer was signed.
    pub beacon: B256,
    /// The judge.
    pub judge: Operator,
    /// The model that it judges with.
    pub model: ModelId,
}

impl Bench {
    /// The seed of a call.
    #[must_use]
    pub fn seed(&self, part: Part) -> B256 {
        let parts = [self.beacon.as_slice(), self.item.as_slice(), self.judge.0.as_slice(), &[part as u8]];
        keccak256([b"cortensor judge seed v1".as_slice(), &parts.concat()].concat())
    }

    /// What tells data from the rest in a grading.
    #[must_use]
    pub fn tag(&self, part: Part) -> Tag {
        Tag::of(self.seed(part))
    }
}

/// One call as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeCall {
    /// Which.
    pub part: Part,
    /// What the engine was asked.
    pub request: GenerationRequest,
    /// Hash of the prompt's tokens, as in receipts.
    pub prompt_hash: B256,
    /// Salt of the trace.
    pub salt: B256,
    /// Why it ended.
    pub finish: FinishReason,
    /// What the engine said.
    pub text: String,
    /// The token part of the trace, the token that ended it included.
    pub tokens: Vec<TraceToken>,
    /// The evidence part: one for each token.
    pub evidence: Vec<Evidence>,
}

impl JudgeCall {
    /// Root of the trace.
    #[must_use]
    pub fn trace_root(&self) -> B256 {
        let evidence = trace::evidence_leaves(self.salt, self.tokens.len(), &self.evidence);
        trace::root(self.salt, &self.tokens, &evidence).expect("there is one evidence leaf for each window")
    }

    /// What of the call is committed to.
    fn leaf(&self, bench: &Bench) -> B256 {
        let text = keccak256(self.text.as_bytes());
        let (request, sampling) = (self.request.hash(), self.request.sampling.hash());
        let words =
            [bench.seed(self.part), bench.model.0, request, sampling, self.prompt_hash, self.trace_root(), text];
        let tail = [self.part as u8, self.finish as u8];
        merkle::leaf(&[b"cortensor judge call v1".as_slice(), words.concat().as_slice(), &tail].concat())
    }
}

/// What is judged: an answer, and what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What was asked.
    pub request: &'a GenerationRequest,
    /// What was delivered.
    pub text: &'a str,
    /// Why it ended.
    pub finish: FinishReason,
    /// What the deterministic checks found.
    pub checked: &'a Checked,
    /// Whether the judge's model shares the vocabulary of the answer's.
    pub same_vocabulary: bool,
}

impl Judged<'_> {
    /// The judge's first call; `None` where its model is not asked: the checks decided, the client ended the answer, or
    /// the prompt is tokens that the model does not share.
    #[must_use]
    pub fn own_answer(&self, model: &JudgeModel<'_>) -> Option<GenerationRequest> {
        let open = !self.checked.is_decided() && self.finish != FinishReason::Cancelled;
        own_answer(self.request, model, self.same_vocabulary).filter(|_| open)
    }

    /// One of the two gradings that follow, with the judge's own answer.
    #[must_use]
    pub fn grading(&self, bench: &Bench, order: Order, own: &str, model: &JudgeModel<'_>) -> GenerationRequest {
        grading(self.request, (self.text, own), order, &bench.tag(Part::of(order)), model)
    }
}

/// A judge's whole work on one item. No calls: the checks decided, or the judge's model cannot read the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeRecord {
    /// In the order of their parts.
    pub calls: Vec<JudgeCall>,
}

/// Why a record is not what a judge should have done. Whoever committed to it answers for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not the calls that a judgement has.
    #[error("a judgement has three calls or none; here are {0}")]
    Calls(usize),
    /// Calls were made where the checks decide, or none where they do not.
    #[error("the checks leave this to the judge's model, or they decide and it was asked all the same")]
    Needless,
    /// The engine was asked something else.
    #[error("the request of call {0:?} is not the one that belongs there")]
    Request(Part),
    /// A trace is malformed.
    #[error("the trace of call {0:?} is malformed")]
    Trace(Part, #[source] TraceError),
    /// A grading was cut off or is none.
    #[error("call {0:?} is no grading")]
    Grade(Part, #[source] GradeError),
}

impl JudgeRecord {
    /// What the judge commits to beside its score: zero without calls.
    #[must_use]
    pub fn root(&self, bench: &Bench) -> B256 {
        let leaves: Vec<B256> = self.calls.iter().map(|call| call.leaf(bench)).collect();
        if leaves.is_empty() { B256::ZERO } else { merkle::root(&leaves) }
    }

    /// The score that this work makes. A grading that cannot be read is a tie: a judge's model that does not keep the
    /// form says nothing about the answer.
    #[must_use]
    pub fn score(&self, checked: &Checked) -> u32 {
        let graded = |at: usize| self.calls.get(at).and_then(|call| Pair::read(&call.text).ok());
        let judged = match (graded(1), graded(2)) {
            (Some(forward), Some(reverse)) => score(forward, reverse),
            _ => NEUTRAL,
        };
        let left = u64::from(judged) * u64::from(checked.score_ppm()) / u64::from(PPM);
        u32::try_from(left).expect("not above the judge's score")
    }

    /// Checks that these are the calls which `bench` had to make about `judged`, as far as that can be said without a
    /// model: that the tokens follow from prompt and seed is for a replay to find. Whoever holds the commitment
    /// compares [`Self::root`] and [`Self::score`] with it.
    ///
    /// # Errors
    /// The first call that does not belong there.
    pub fn verify(&self, bench: &Bench, model: &JudgeModel<'_>, judged: &Judged<'_>) -> Result<(), RecordError> {
        let Some(expected) = judged.own_answer(model) else {
            return if self.calls.is_empty() { Ok(()) } else { Err(RecordError::Needless) };
        };
        let [own, forward, reverse] = &self.calls[..] else {
            // A model that cannot follow the request's form has no answer of its own, and then nothing to compare with.
            return if self.calls.is_empty() { Ok(()) } else { Err(RecordError::Calls(self.calls.len())) };
        };
        check(own, Part::Own, &expected)?;
        for (call, order) in [(forward, Order::Forward), (reverse, Order::Reverse)] {
            check(call, Part::of(order), &judged.grading(bench, order, &own.text, model))?;
        }
        Ok(())
    }
}

fn check(call: &JudgeCall, part: Part, expected: &GenerationRequest) -> Result<(), RecordError> {
    if call.part != part || call.request != *expected {
        return Err(RecordError::Request(part));
    }
    trace::check(&call.tokens, &call.evidence).map_err(|error| RecordError::Trace(part, error))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
