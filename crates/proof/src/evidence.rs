//! From what a guard found at each token to the bits of evidence that an audit adds to a miner's score.
//!
//! Each token gives three statistics; each falls into one of sixteen bins of a calibrated profile; each bin has the base-2
//! logarithm of a likelihood ratio "cheat against honest". Only the counts travel: `Scores.sol` weighs the same counts
//! with the same table, so everything here is integers, and nothing is rounded.
//!
//! Each [`Charge`] has a table of its own and is summed up on its own, over all audits of a miner. [`Table::weigh`] is
//! `Scores.weigh`, [`Table::clipped`] what `Audits` makes of it.
#![deny(clippy::float_arithmetic)]

use crate::replay::Finding;
use cortensor_protocol::{
    Evidence,
    trace::{Sketch, TraceToken},
};

/// Bins of one statistic.
pub const BINS: usize = 16;

/// Edges between them.
pub const EDGES: usize = BINS - 1;

/// Statistics of one token.
pub const STATISTICS: usize = 3;

/// Kinds of cheats that are weighed apart.
pub const CHARGES: usize = 2;

/// What an answer costs whose computation would be suspected in one of eight: log2 of 8, in 1/65,536 bit.
const SUSPECTED: i64 = 3 << EVIDENCE_FRACTION;

/// What an answer is worth at most whose computation was honest, where one in eight might not be: log2 of 8/7, rounded up.
const UNSUSPECTED: i64 = 12_626;

/// Fractional bits of evidence: it counts in 1/65,536 bit.
pub const EVIDENCE_FRACTION: u32 = 16;

/// All of something, in millionths.
pub const PPM: u32 = 1_000_000;

/// What is counted at each token; the discriminant is its row in every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Statistic {
    /// By how much the token loses under the guard's logits, in 1/1024 nat.
    Margin = 0,
    /// |difference of the log-probabilities|, in 1/1024 nat.
    LogProb = 1,
    /// Squared relative distance of the sketches, with 20 fractional bits.
    Sketch = 2,
}

impl Statistic {
    /// All of them, in the order of their rows.
    pub const ALL: [Self; STATISTICS] = [Self::Margin, Self::LogProb, Self::Sketch];

    /// What a reader calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Margin => "margin",
            Self::LogProb => "log-probability",
            Self::Sketch => "sketch",
        }
    }
}

/// A kind of cheats. Each shows in other statistics, and looks honest in the rest: weighed by one table, each would hide
/// behind what the other leaves untouched. The discriminant is its place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Charge {
    /// Another computation than the model's over the prompt: weights, KV cache, prompt. Sketches tell.
    Computation = 0,
    /// Tokens that were not drawn by the rule: seed, temperature, text from elsewhere. Margins tell.
    Sampling = 1,
}

impl Charge {
    /// All of them, in the order of their places.
    pub const ALL: [Self; CHARGES] = [Self::Computation, Self::Sampling];

    /// What a reader calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computation => "computation",
            Self::Sampling => "sampling",
        }
    }
}

/// The statistics of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TokenStatistics {
    /// [`Statistic::Margin`].
    pub margin: u32,
    /// [`Statistic::LogProb`].
    pub logprob: u32,
    /// [`Statistic::Sketch`]; `None` where the guard has none to compare with.
    pub sketch: Option<u32>,
}

impl TokenStatistics {
    /// What a replay found against what the miner claimed. A sketch that the miner left out where the guard has one counts
    /// as the farthest: leaving it out must not be a way out.
    #[must_use]
    pub fn new(found: &Finding, token: TraceToken, evidence: &Evidence) -> Self {
        let withheld = evidence.sketch == Sketch::NONE && found.evidence.sketch != Sketch::NONE;
        Self {
            margin: found.margin,
            logprob: found.logprob_difference(token),
            sketch: if withheld { Some(u32::MAX) } else { found.sketch_distance_q20(evidence) },
        }
    }

    /// One of the three.
    #[must_use]
    pub const fn get(&self, statistic: Statistic) -> Option<u32> {
        match statistic {
            Statistic::Margin => Some(self.margin),
            Statistic::LogProb => Some(self.logprob),
            Statistic::Sketch => self.sketch,
        }
    }
}

/// Where one bin ends and the next begins, for each statistic: a value is in the bin whose number is the count of edges
/// that are not above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edges(pub [[u32; EDGES]; STATISTICS]);

impl Edges {
    /// The bin of a value.
    #[must_use]
    pub fn bin(&self, statistic: Statistic, value: u32) -> usize {
        self.0[statistic as usize].partition_point(|edge| *edge <= value)
    }

    /// Counts the tokens of one answer.
    #[must_use]
    pub fn count<'a>(&self, tokens: impl IntoIterator<Item = &'a TokenStatistics>) -> Counts {
        let mut counts = Counts::default();
        for token in tokens {
            counts.tokens = counts.tokens.saturating_add(1);
            for statistic in Statistic::ALL {
                if let Some(value) = token.get(statistic) {
                    let count = &mut counts.bins[statistic as usize][self.bin(statistic, value)];
                    *count = count.saturating_add(1);
                }
            }
        }
        counts
    }
}

/// How many tokens of one answer fell into each bin; what a guard reveals. Counts stop at 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Counts {
    /// Tokens in all.
    pub tokens: u32,
    /// For each statistic, the tokens in each bin; a token without a statistic is in none of its bins.
    pub bins: [[u16; BINS]; STATISTICS],
}

impl Counts {
    /// Whether no statistic counts a token twice, which the contract demands.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.bins.iter().all(|row| row.iter().map(|count| u32::from(*count)).sum::<u32>() <= self.tokens)
    }
}

/// log2 of the likelihood ratio of each bin, in 1/65,536 bit. The weights of the three statistics, which sum to at most one, and
/// the charge's temper are in it.
pub type Ratios = [[i32; BINS]; STATISTICS];

/// What each bin weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// For each charge.
    pub ratios: [Ratios; CHARGES],
}

impl Table {
    /// The evidence of one answer for each charge, in 1/65,536 bit, before any clip.
    ///
    /// Computation gives bits a token, for honesty as well: a miner that cheats in one answer of four would clear itself with the other
    /// three. So it stands for a miner that cheats in one of eight, whose ratio is seven eighths and an eighth of the answer's.
    /// That is a ratio too; of its logarithm the larger of two lower bounds counts. Sampling gives hundredths, and has none to spare.
    #[must_use]
    pub fn weigh(&self, counts: &Counts) -> [i64; CHARGES] {
        let [computation, sampling] = self.sums(counts);
        [(computation - SUSPECTED).max(-UNSUSPECTED), sampling]
    }

    /// The logarithms of the ratios of all tokens together, for each charge.
    #[must_use]
    pub fn sums(&self, counts: &Counts) -> [i64; CHARGES] {
        // 48 products of 16 and 32 bits.
        self.ratios.map(|ratios| {
            let bins = counts.bins.as_flattened().iter().zip(ratios.as_flattened());
            bins.map(|(count, ratio)| i64::from(*count) * i64::from(*ratio)).sum()
        })
    }

    /// The evidence of one answer as one audit may give it: within ± `most` for each charge.
    #[must_use]
    pub fn clipped(&self, counts: &Counts, most: i32) -> Weighed {
        let most = i64::from(most.max(0));
        let clip = |bits: i64| i32::try_from(bits.clamp(-most, most)).expect("within 32 bits, since the clip is");
        Weighed(self.weigh(counts).map(clip))
    }
}

/// Evidence of one audit for each charge, in 1/65,536 bit, clipped; in the order of [`Charge::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Weighed(pub [i32; CHARGES]);

impl Weighed {
    /// The same for both charges.
    #[must_use]
    pub const fn both(bits: i32) -> Self {
        Self([bits; CHARGES])
    }

    /// The stronger of the two.
    #[must_use]
    pub fn highest(self) -> i32 {
        self.0[0].max(self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::sampling::LogProb;
    use proptest::prelude::*;

    fn edges() -> Edges {
        Edges(std::array::from_fn(|row| std::array::from_fn(|edge| u32::try_from((edge + 1) * (row + 1)).unwrap())))
    }

    #[test]
    fn a_value_on_an_edge_is_in_the_upper_bin() {
        let edges = edges();
        for (value, bin) in [(0, 0), (1, 1), (14, 14), (15, 15), (u32::MAX, 15)] {
            assert_eq!(edges.bin(Statistic::Margin, value), bin);
        }
        assert_eq!(edges.bin(Statistic::Sketch, 2), 0);
        assert_eq!(edges.bin(Statistic::Sketch, 3), 1);
    }

    #[test]
    fn a_missing_sketch_is_in_no_bin_and_a_withheld_one_in_the_last() {
        let sketch = Sketch { exponent: 128, mantissas: [63; 8] };
        let (token, seen) = (TraceToken { id: 1, logprob: LogProb(-10) }, Evidence { sketch, ..Evidence::NONE });
        let found = |evidence| Finding { token, winner: 1, margin: 0, evidence };
        let claimed = TraceToken { id: 1, logprob: LogProb(-7) };
        let none = TokenStatistics::new(&found(Evidence::NONE), claimed, &seen);
        assert_eq!(none, TokenStatistics { margin: 0, logprob: 3, sketch: None });
        let withheld = TokenStatistics::new(&found(seen), claimed, &Evidence::NONE);
        assert_eq!(withheld.sketch, Some(u32::MAX));
        assert_eq!(TokenStatistics::new(&found(seen), claimed, &seen).sketch, Some(0));
        let counts = edges().count(&[none, withheld]);
        assert_eq!((counts.tokens, counts.bins[2][15], counts.bins[2].iter().sum::<u16>()), (2, 1, 1));
        assert!(counts.is_consistent());
    }

    /// `Scores.weigh` gives these numbers for the same counts.
    #[test]
    fn golden_weights() {
        let ratios = std::array::from_fn(|row| {
            std::array::from_fn(|bin| i32::try_from(bin * bin * 1_000 + row * 77).unwrap() - 30_000)
        });
        let table = Table { ratios: [ratios, [[65_536; BINS]; STATISTICS]] };
        let mut counts = Counts { tokens: 9, ..Counts::default() };
        counts.bins[0][0] = 9;
        assert_eq!((table.sums(&counts), table.weigh(&counts)), ([-270_000, 589_824], [-12_626, 589_824]));
        counts.bins[1][15] = 3;
        counts.bins[2][7] = 65_535;
        assert_eq!(table.weigh(&counts), [1_255_376_013, 4_295_688_192]);
        assert_eq!(table.clipped(&counts, 1_048_576), Weighed::both(1_048_576));
        counts.bins[1..].fill([0; BINS]);
        assert_eq!(table.clipped(&counts, 80_000), Weighed([-12_626, 80_000]));
    }

    #[test]
    fn no_honest_answer_clears_a_miner_of_the_next() {
        // Both bounds are below the logarithm of seven eighths and an eighth of the ratio.
        for bits in -400..400 {
            let bits = f64::from(bits) / 10.0;
            let exact = (0.875 + 0.125 * bits.exp2()).log2() * 65_536.0;
            assert!(bits * 65_536.0 - f64::from(i32::try_from(SUSPECTED).unwrap()) <= exact);
        }
        assert!((8.0 / 7.0f64).log2() * 65_536.0 <= f64::from(i32::try_from(UNSUSPECTED).unwrap()));
    }

    proptest! {
        #[test]
        fn nothing_overflows(ratio in any::<i32>(), count in any::<u16>()) {
            let table = Table { ratios: [[[ratio; BINS]; STATISTICS]; CHARGES] };
            let counts = Counts { tokens: u32::MAX, bins: [[count; BINS]; STATISTICS] };
            let exact = i64::from(ratio) * i64::from(count) * 48;
            prop_assert_eq!(table.sums(&counts), [exact; CHARGES]);
            prop_assert!(table.clipped(&counts, 1 << 20).highest().abs() <= 1 << 20);
        }
    }
}
