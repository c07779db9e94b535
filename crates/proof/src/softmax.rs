//! Log-probabilities for reports: the model's own distribution, at temperature 1 and before penalties and truncation.
//!
//! Floating point, since these numbers decide nothing here; but the same on every platform, since only IEEE 754 sums and
//! products in a fixed order are used. Logits count as within ±2,048; NaN and −∞ have no probability. The error stays
//! below 1/1024 nat, the unit of [`LogProb`].

use crate::fixed::ln_q64;
use cortensor_protocol::{LogProb, TokenId};

const LANES: usize = 16;
const BLOCK: usize = 2_048;
const LIMIT: f32 = 2_048.0;

/// What it takes to turn a logit into a log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    max: f32,
    log_sum: f32,
}

impl Softmax {
    /// Reads the whole vocabulary.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the sum is at most the vocabulary")]
    pub fn new(logits: &[f32]) -> Self {
        let max = maximum(logits);
        let sum: f64 = logits.chunks(BLOCK).map(|block| sum_of_exponentials(block, max)).sum();
        let scaled = (sum * 4_294_967_296.0) as u128;
        let log_sum = ln_q64(scaled, 32) as f64 / 18_446_744_073_709_551_616.0;
        Self { max, log_sum: log_sum as f32 }
    }

    /// The log-probability of a token with this logit.
    #[must_use]
    pub fn logprob(&self, logit: f32) -> LogProb {
        LogProb::from_nats(bounded(logit) - self.max - self.log_sum)
    }
}

/// Within the range; NaN becomes the lowest value, as −∞ does. Comparisons, not `f32::max`, whose own rules for NaN cost
/// instructions.
#[inline]
fn bounded(logit: f32) -> f32 {
    let above = if logit > -LIMIT { logit } else { -LIMIT };
    if above < LIMIT { above } else { LIMIT }
}

fn maximum(logits: &[f32]) -> f32 {
    let mut lanes = [-LIMIT; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane = if *logit > *lane { *logit } else { *lane };
        }
    }
    bounded(lanes.iter().chain(rest).fold(-LIMIT, |max, logit| if *logit > max { *logit } else { max }))
}

fn sum_of_exponentials(block: &[f32], max: f32) -> f64 {
    let mut lanes = [0f32; LANES];
    let chunks = block.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane += exponential(bounded(*logit) - max);
        }
    }
    for (lane, logit) in lanes.iter_mut().zip(rest) {
        *lane += exponential(bounded(*logit) - max);
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// e^x for x ≤ 0: 2^n · 2^f with |f| ≤ ½, the latter by its Taylor series to the sixth power. Relative error below 2⁻²⁰.
#[inline]
fn exponential(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const SERIES: [f32; 6] = [1.540_353e-4, 1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1];
    let scaled = x * std::f32::consts::LOG2_E;
    let scaled = if scaled > -126.0 { scaled } else { -126.0 };
    let rounded = scaled + ROUND;
    let fraction = scaled - (rounded - ROUND);
    let series = SERIES.iter().fold(0.0, |sum, factor| (sum + factor) * fraction) + 1.0;
    // The integer n, moved into the exponent of 2^n.
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    series * power
}

/// The `count` tokens of the highest logits, best first, ties to the lower id. Masked tokens are left out.
#[must_use]
pub fn highest(logits: &[f32], count: usize) -> Vec<(TokenId, f32)> {
    let mut best: Vec<(TokenId, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return best;
    }
    for (first, chunk) in (0u32..).step_by(LANES).zip(logits.chunks(LANES)) {
        let least = if best.len() < count { f32::NEG_INFINITY } else { best[count - 1].1 };
        if chunk.iter().fold(false, |any, logit| any | (*logit > least)) {
            for (token, logit) in (first..).zip(chunk) {
                insert(&mut best, count, token, *logit);
            }
        }
    }
    best
}

fn insert(best: &mut Vec<(TokenId, f32)>, count: usize, token: TokenId, logit: f32) {
    let least = if best.len() < count { f32::NEG_INFINITY } else { best[count - 1].1 };
    if logit > least {
        let position = best.partition_point(|(_, other)| *other >= logit);
        best.insert(position, (token, logit));
        best.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masked_and_broken_logits_have_no_probability() {
        let logits = [1.0, f32::NEG_INFINITY, f32::NAN, 1.0];
        let softmax = Softmax::new(&logits);
        assert_eq!(softmax.logprob(1.0), LogProb::from_nats(-std::f32::consts::LN_2));
        assert_eq!(softmax.logprob(f32::NEG_INFINITY), LogProb(i16::MIN));
        assert_eq!(softmax.logprob(f32::NAN), LogProb(i16::MIN));
        assert_eq!(highest(&logits, 9), [(0, 1.0), (3, 1.0)]);
    }

    #[test]
    fn extreme_logits_do_not_break_it() {
        for logits in [vec![f32::INFINITY; 3], vec![f32::MIN; 3], vec![f32::MAX, f32::MIN, 0.0], vec![f32::NAN; 2]] {
            let softmax = Softmax::new(&logits);
            assert!(softmax.max.is_finite() && softmax.log_sum.is_finite(), "{logits:?} {softmax:?}");
        }
        assert!(Softmax::new(&[]).log_sum.is_finite());
    }

    proptest! {
        #[test]
        fn agrees_with_f64(logits in prop::collection::vec(-40f32..40.0, 1..5_000)) {
            let softmax = Softmax::new(&logits);
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(max)).exp()).sum();
            prop_assert!((f64::from(softmax.log_sum) - sum.ln()).abs() < 1.0 / 16_384.0);
        }

        #[test]
        fn the_highest_are_the_head_of_a_stable_sort(
            logits in prop::collection::vec((-5i8..5).prop_map(f32::from), 0..200), count in 0usize..30,
        ) {
            let mut sorted: Vec<_> = (0u32..).zip(logits.iter().copied()).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(count);
            prop_assert_eq!(highest(&logits, count), sorted);
        }
    }
}
