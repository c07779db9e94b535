//! Replay: what somebody with the same model finds about the tokens of a trace.
//!
//! A [`Replayer`] takes the place of the sampler while an engine computes prompt and output in one pass. It repeats every
//! choice with the task's seed, and notes by how much the token that stands there loses, what its log-probability is here,
//! and the sketch of the hidden state here. What it returns is compared with the miner's record; nothing in it is taken
//! from that record.

use crate::{
    sampler::{Judged, SeededSampler, evidence},
    sketch::{Sketcher, distance_q20},
    softmax::{Softmax, highest},
};
use cortensor_protocol::{
    Evidence, LogProb, Sampled, SamplingParams, Step, TokenId, TokenSampler, TraceToken,
    sampling::Seed,
    trace::{ALTERNATIVES, NO_TOKEN, Sketch},
};
use std::sync::{Arc, Mutex, PoisonError};

/// What was found at one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The token as the miner chose it, with the log-probability that it has here.
    pub token: TraceToken,
    /// What would have been chosen here.
    pub winner: TokenId,
    /// By how much the token loses, in 1/1024 of a logit: see [`crate::sampler::Judged::margin`].
    pub margin: u32,
    /// What a trace made here would hold beside the token.
    pub evidence: Evidence,
}

impl Finding {
    /// Whether a record is, to the last bit, what would have been recorded here.
    #[must_use]
    pub fn equals(&self, claimed: TraceToken, evidence: &Evidence) -> bool {
        self.margin == 0 && self.token == claimed && self.evidence == *evidence
    }

    /// |difference of the log-probabilities| in 1/1024 nat.
    #[must_use]
    pub fn logprob_difference(&self, claimed: TraceToken) -> u32 {
        u32::from(self.token.logprob.0.abs_diff(claimed.logprob.0))
    }

    /// Squared relative distance of the sketches, with 20 fractional bits; `None` where one side has none.
    #[must_use]
    pub fn sketch_distance_q20(&self, claimed: &Evidence) -> Option<u32> {
        distance_q20(&claimed.sketch, &self.evidence.sketch)
    }
}

/// The findings of a replay; shared with the [`Replayer`] that makes them.
#[derive(Clone, Debug, Default)]
pub struct Findings(Arc<Mutex<Vec<Finding>>>);

impl Findings {
    /// Takes them out, in the order of the tokens.
    #[must_use]
    pub fn take(&self) -> Vec<Finding> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Judges the tokens of an output one after the other.
#[derive(Debug)]
pub struct Replayer {
    sampler: SeededSampler,
    sketcher: Sketcher,
    tokens: Vec<TokenId>,
    findings: Findings,
}

impl Replayer {
    /// A replayer of `tokens`, the whole output of the task from its first token on (and the one that ended it).
    #[must_use]
    pub fn new(seed: Seed, params: SamplingParams, tokens: Vec<TokenId>) -> (Self, Findings) {
        let findings = Findings::default();
        let replayer = Self {
            sampler: SeededSampler::new(seed, params, 0),
            sketcher: Sketcher::new(seed),
            tokens,
            findings: findings.clone(),
        };
        (replayer, findings)
    }
}

impl TokenSampler for Replayer {
    /// Returns the token that stands at this step, not the one that would be chosen.
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        let token = self.tokens.get(step.index as usize).copied().unwrap_or(NO_TOKEN);
        // Where every token is masked the rule chooses token 0.
        let judged = self.sampler.judge(&step, token);
        let masked = Judged { winner: 0, margin: if token == 0 { 0 } else { u32::MAX } };
        let Judged { winner, margin } = judged.unwrap_or(masked);
        let softmax = Softmax::new(step.logits);
        let ranked: Vec<_> = highest(step.logits, ALTERNATIVES + 1)
            .into_iter()
            .map(|(id, logit)| (id, softmax.logprob(logit)))
            .collect();
        let sketch = step.hidden.map_or(Sketch::NONE, |hidden| self.sketcher.sketch(hidden));
        let logit = step.logits.get(token as usize).filter(|_| judged.is_some());
        let logprob = logit.map_or(LogProb(i16::MIN), |logit| softmax.logprob(*logit));
        let finding = Finding {
            token: TraceToken { id: token, logprob },
            winner,
            margin,
            evidence: evidence(token, &ranked, sketch),
        };
        self.findings.0.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        Sampled { token, logprob, top: Vec::new() }
    }

    fn wants_hidden(&self) -> bool {
        true
    }
}
