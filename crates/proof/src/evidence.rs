//! From what a guard found at each token to the bits of evidence that an audit adds to a miner's score.
//!
//! Each token gives three statistics; each falls into one of sixteen bins of a calibrated profile; each bin has the base-2
//! logarithm of a likelihood ratio "cheat against honest". Only the counts travel: `Scores.sol` weighs the same counts
//! with the same table, so everything here is integers and rounds as the contract does: products are exact, and the one
//! division, by a million, truncates toward zero.
//!
//! [`Table::weigh`] is `Scores.weigh`, [`clip`] what `Audits` does with its result.
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

/// log2 of one over the part of [`Charge::Computation`] in the mean: 8, in 1/65,536 bit.
const COMPUTATION_COST: i128 = 3 << EVIDENCE_FRACTION;

/// The same of [`Charge::Sampling`]: 8/7, rounded up.
const SAMPLING_COST: i128 = 12_626;

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

/// log2 of the likelihood ratio of each bin, in 1/65,536 bit. The weights of the three statistics, which sum to at most one,
/// are in it.
pub type Ratios = [[i32; BINS]; STATISTICS];

/// What each bin weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// For each charge.
    pub ratios: [Ratios; CHARGES],
    /// The sum is multiplied by this, in millionths, because the tokens of one answer depend on each other.
    pub temper_ppm: u32,
}

impl Table {
    /// The evidence of one answer in 1/65,536 bit, before any clip. It stands for the mean of the ratios of both charges, one
    /// eighth computation and seven eighths sampling: a mean of ratios whose expectations are at most one is such a ratio.
    /// No logarithm of a sum is computed: of three numbers that are at most that mean's logarithm, the largest counts.
    /// Computation gives bits a token where sampling gives hundredths, so it can do with the smaller part.
    #[must_use]
    pub fn weigh(&self, counts: &Counts) -> i128 {
        let [computation, sampling] = self.charges(counts);
        let mean = (computation + 7 * sampling) / 8;
        mean.max(computation - COMPUTATION_COST).max(sampling - SAMPLING_COST)
    }

    /// The evidence of one answer for each charge.
    #[must_use]
    pub fn charges(&self, counts: &Counts) -> [i128; CHARGES] {
        self.ratios.map(|ratios| {
            let bins = counts.bins.as_flattened().iter().zip(ratios.as_flattened());
            let sum: i128 = bins.map(|(count, ratio)| i128::from(*count) * i128::from(*ratio)).sum();
            sum * i128::from(self.temper_ppm) / i128::from(PPM)
        })
    }
}

/// Evidence as one audit may give it: within ± `most`, which is no less than zero.
#[must_use]
pub fn clip(evidence: i128, most: i64) -> i64 {
    let most = i128::from(most.max(0));
    i64::try_from(evidence.clamp(-most, most)).expect("within 64 bits, since the clip is")
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
        let table = Table { ratios: [ratios; CHARGES], temper_ppm: 333_333 };
        let mut counts = Counts { tokens: 9, ..Counts::default() };
        counts.bins[0][0] = 9;
        assert_eq!(table.weigh(&counts), -89_999, "toward zero");
        counts.bins[1][15] = 3;
        counts.bins[2][7] = 65_535;
        assert_eq!(table.weigh(&counts), 418_523_788);
        assert_eq!(clip(table.weigh(&counts), 1_048_576), 1_048_576);
        assert_eq!(clip(-2_000_000, 1_048_576), -1_048_576);
    }

    #[test]
    fn the_largest_bound_of_the_mean_of_both_charges_counts() {
        let flat = |ratio| [[ratio; BINS]; STATISTICS];
        let mut counts = Counts { tokens: 1, ..Counts::default() };
        counts.bins[0][0] = 1;
        let weigh = |a, b| Table { ratios: [flat(a), flat(b)], temper_ppm: PPM }.weigh(&counts);
        let bit = 65_536;
        assert_eq!(weigh(10 * bit, -40 * bit), i128::from(7 * bit));
        assert_eq!(weigh(-40 * bit, 10 * bit), i128::from(10 * bit - 12_626));
        assert_eq!(weigh(2 * bit, 2 * bit), i128::from(2 * bit));
        assert_eq!(weigh(-16 * bit, -8 * bit), i128::from(-8 * bit - 12_626));
        assert_eq!(weigh(-8 * bit, -8 * bit), i128::from(-8 * bit));
        assert_eq!(weigh(0, 0), 0);
        assert!(8.0 / 7.0 <= (12_626.0 / 65_536.0f64).exp2());
    }

    proptest! {
        #[test]
        fn nothing_overflows(ratio in any::<i32>(), count in any::<u16>(), temper_ppm in 0..=PPM) {
            let table = Table { ratios: [[[ratio; BINS]; STATISTICS]; CHARGES], temper_ppm };
            let counts = Counts { tokens: u32::MAX, bins: [[count; BINS]; STATISTICS] };
            let exact = i128::from(ratio) * i128::from(count) * 48 * i128::from(temper_ppm) / 1_000_000;
            prop_assert_eq!(table.weigh(&counts), exact);
            prop_assert!(clip(table.weigh(&counts), 1 << 20).abs() <= 1 << 20);
        }
    }
}
