//! Contradictions: records that convict their miner by themselves.
//!
//! A record holds the chosen token, the four most probable others and all their log-probabilities; the seed gives the
//! noise of each. If another of the five beats the chosen one by more than rounding can explain, no honest sampler chose
//! it, whatever the model. It takes no model to see this, so a contract does (`contracts/src/libraries/Contradictions.sol`
//! follows the same rule to the last bit; docs/spec/traces.md, T6).

use crate::{
    fixed::ln_q64,
    gumbel::{Gumbel, StepKey},
};
use cortensor_protocol::{
    SamplingParams, TokenId,
    sampling::{Micro, Seed},
    trace::{Evidence, NO_TOKEN, TraceToken},
};

/// What rounding can explain, in 1/1024 nat: two log-probabilities are each off by half a unit, and their sum by the
/// error of the softmax.
pub const TOLERANCE: u16 = 4;

/// One in millionths.
const ONE: i128 = 1_000_000;

/// Finds the alternative that should have been chosen instead; `None` where the record does not contradict itself, or
/// where it cannot be told from the record alone (penalties, biases, a token without an id).
#[must_use]
pub fn find(
    params: &SamplingParams,
    seed: Seed,
    step: u32,
    chosen: TraceToken,
    evidence: &Evidence,
    tolerance: u16,
) -> Option<TokenId> {
    if chosen.id == NO_TOKEN || !plain(params) {
        return None;
    }
    let case = Case { params, key: StepKey::derive(seed, step), chosen, evidence, tolerance: i128::from(tolerance) };
    (0..evidence.alternatives.len()).find(|place| case.beaten_by(*place)).map(|place| evidence.alternatives[place].id)
}

/// Whether log-probabilities order the tokens as the sampler does.
fn plain(params: &SamplingParams) -> bool {
    params.presence_penalty.0 == 0
        && params.frequency_penalty.0 == 0
        && params.repeat_penalty == Micro::ONE
        && params.logit_bias.is_empty()
}

struct Case<'a> {
    params: &'a SamplingParams,
    key: StepKey,
    chosen: TraceToken,
    evidence: &'a Evidence,
    tolerance: i128,
}

impl Case<'_> {
    fn beaten_by(&self, place: usize) -> bool {
        let other = self.evidence.alternatives[place];
        if other.id == NO_TOKEN || other.logprob.0 == i16::MIN {
            return false;
        }
        let lead = i128::from(other.logprob.0) - i128::from(self.chosen.logprob.0) - self.tolerance;
        let temperature = i128::from(self.params.temperature.0);
        if temperature == 0 {
            return lead > 0;
        }
        let noise = |token| i128::from(Gumbel::from_bits(self.key.bits(token)).0);
        self.takes_part(place) && (lead << 22) * ONE / temperature + noise(other.id) - noise(self.chosen.id) > 0
    }

    /// Whether no truncation that kept the chosen token can have removed this one.
    fn takes_part(&self, place: usize) -> bool {
        let other = self.evidence.alternatives[place];
        // Within the tolerance it is not known which of the two is more probable.
        if i128::from(other.logprob.0) - i128::from(self.chosen.logprob.0) > self.tolerance {
            return true;
        }
        // All alternatives before it are more probable, and the chosen one may be.
        let rank = place + 2;
        self.params.top_p >= Micro::ONE
            && (self.params.top_k == 0 || rank <= self.params.top_k as usize)
            && self.within_min_p(other)
    }

    fn within_min_p(&self, other: TraceToken) -> bool {
        let micro = i128::from(self.params.min_p.0);
        if micro == 0 {
            return true;
        }
        let best = self.evidence.alternatives[0].logprob.max(self.chosen.logprob);
        let behind = i128::from(best.0) - i128::from(other.logprob.0) + self.tolerance;
        // −ln(min-p) in 1/1024 nat, rounded down.
        let limit = (ln_q64(ONE.unsigned_abs(), 0) - ln_q64(micro.unsigned_abs(), 0)) >> 54;
        behind * ONE / i128::from(self.params.temperature.0) <= limit
    }
}
