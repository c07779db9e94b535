//! What several judges say together, and what follows: the rules of the contract `Usefulness` in the same integers.

use crate::{MAX_SCORE, NEUTRAL, PPM};

/// Bounds of a miner's quality.
pub const QUALITY: (u32, u32) = (250_000, MAX_SCORE);

/// Bounds of a judge's trust; known answers lead anywhere within.
pub const TRUST: (u32, u32) = (50_000, 1_000_000);

/// Bounds within which agreement alone moves trust: judges who agree with each other cannot make each other's word
/// worth everything.
pub const TRUST_BY_AGREEMENT: (u32, u32) = (250_000, 750_000);

/// The trust of a judge of whom nothing is known.
pub const FIRST_TRUST: u32 = 500_000;

/// The least score up to which judges with half of all trust lie; `None` without any trust. While those who are honest
/// hold more than half of it, it lies between two honest scores.
#[must_use]
pub fn weighted_median(scores: &[(u32, u32)]) -> Option<u32> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable();
    let total: u64 = sorted.iter().map(|(_, trust)| u64::from(*trust)).sum();
    let mut below = 0;
    sorted.into_iter().find_map(|(score, trust)| {
        below += u64::from(trust);
        (total > 0 && 2 * below >= total).then_some(score)
    })
}

/// A miner's quality after a judgement: the part `weight_ppm` of the way to the score, divided toward zero, within
/// [`QUALITY`].
#[must_use]
pub fn quality_after(quality: Option<u32>, score: u32, weight_ppm: u32) -> u32 {
    let before = i64::from(quality.unwrap_or(NEUTRAL));
    let step = (i64::from(score) - before) * i64::from(weight_ppm) / i64::from(PPM);
    let next = (before + step).clamp(i64::from(QUALITY.0), i64::from(QUALITY.1));
    u32::try_from(next).expect("clamped to 32 bits")
}

/// Trust that grows by `step`, not beyond `most`; who has more keeps it.
#[must_use]
pub fn gained(trust: u32, step: u32, most: u32) -> u32 {
    trust.max(trust.saturating_add(step).min(most))
}

/// Trust that falls by `step`, not below `least`; who has less keeps it.
#[must_use]
pub fn lost(trust: u32, step: u32, least: u32) -> u32 {
    trust.min(trust.saturating_sub(step).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trust_weighs() {
        assert_eq!(weighted_median(&[]), None);
        assert_eq!(weighted_median(&[(5, 0)]), None);
        assert_eq!(weighted_median(&[(7, 1)]), Some(7));
        // Of two with the same trust the lower.
        assert_eq!(weighted_median(&[(9, 10), (3, 10)]), Some(3));
        assert_eq!(weighted_median(&[(9, 11), (3, 10)]), Some(9));
        assert_eq!(weighted_median(&[(1, 4), (2, 3), (9, 8)]), Some(9));
        assert_eq!(weighted_median(&[(1, 4), (2, 4), (9, 8)]), Some(2));
    }

    #[test]
    fn trust_stays_where_it_may() {
        assert_eq!(gained(740_000, 20_000, TRUST_BY_AGREEMENT.1), 750_000);
        assert_eq!(gained(900_000, 20_000, TRUST_BY_AGREEMENT.1), 900_000, "earned by known answers");
        assert_eq!(lost(260_000, 20_000, TRUST_BY_AGREEMENT.0), 250_000);
        assert_eq!(lost(60_000, 20_000, TRUST_BY_AGREEMENT.0), 60_000);
        assert_eq!(lost(60_000, 20_000, TRUST.0), 50_000);
    }

    #[test]
    fn quality_moves_toward_the_score() {
        assert_eq!(quality_after(None, 1_300_000, 100_000), 1_030_000);
        assert_eq!(quality_after(Some(1_000_000), 0, 500_000), 500_000);
        assert_eq!(quality_after(Some(250_000), 0, 500_000), 250_000);
        assert_eq!(quality_after(Some(1_000_003), 1_000_000, 500_000), 1_000_002, "toward zero");
    }

    proptest! {
        /// However the others score: with less than half of the trust they cannot move the median out of the honest
        /// range.
        #[test]
        fn less_than_half_moves_nothing_out(
            honest in prop::collection::vec((0..=MAX_SCORE, 1u32..=1_000_000), 1..6),
            others in prop::collection::vec((0..=u32::MAX, 1u32..=1_000_000), 0..6),
        ) {
            let weight = |judges: &[(u32, u32)]| judges.iter().map(|(_, trust)| u64::from(*trust)).sum::<u64>();
            prop_assume!(weight(&others) < weight(&honest));
            let median = weighted_median(&[honest.clone(), others].concat()).unwrap();
            let scores = || honest.iter().map(|(score, _)| *score);
            prop_assert!(scores().min().unwrap() <= median && median <= scores().max().unwrap());
        }

        #[test]
        fn quality_lies_between_where_it_was_and_the_score(
            before in QUALITY.0..=QUALITY.1, score in 0..=MAX_SCORE, weight in 1..=500_000u32
        ) {
            let after = quality_after(Some(before), score, weight);
            prop_assert!(after >= before.min(score.max(QUALITY.0)) && after <= before.max(score));
        }
    }
}
