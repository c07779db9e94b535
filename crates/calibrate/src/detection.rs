//! After how many tokens a miner is convicted, by the rules of docs/spec/evidence.md.

use crate::transcript::Replayed;
use cortensor_proof::{
    calibration::Terms,
    evidence::{Edges, Table, clip},
    profile::Profile,
    score::Policy,
};
use serde::Serialize;

/// The contract's levels, in 1/65,536 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Evidence that convicts.
    pub convict: i64,
    /// Fallen and risen evidence (CUSUM) that convicts.
    pub convict_cusum: i64,
    /// Most evidence of one audit.
    pub clip: i64,
}

impl Default for Levels {
    /// The deployed ones: a million to one, 40 bits, and 24 bits an audit.
    fn default() -> Self {
        let Policy { convict, convict_cusum, .. } = Policy::default();
        Self { convict, convict_cusum, clip: Terms::default().clip }
    }
}

/// What convicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    /// A record that contradicts itself.
    Contradiction,
    /// A token that no noise explains.
    Hard,
    /// Evidence over several tokens.
    Evidence,
}

/// How soon a miner was convicted in several orders of its answers.
#[derive(Clone, Debug, Serialize)]
pub struct Detection {
    /// What the miner did.
    pub name: String,
    /// Orders of its answers that were tried.
    pub trials: usize,
    /// Audited tokens until conviction: the median; `None` where most trials ended without.
    pub median: Option<usize>,
    /// The 99th percentile.
    pub p99: Option<usize>,
    /// Trials that convicted within 1,000 audited tokens, in thousandths.
    pub within_1000_milli: usize,
    /// What convicted most often.
    pub ground: Option<Ground>,
    /// Bits of evidence a token, in thousandths, on average over all answers and before any clip.
    pub bits_milli: i64,
}

/// Highest evidence that honest answers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Falsehoods {
    /// Answers.
    pub answers: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Records equal to the last bit.
    pub identical: usize,
    /// Records that contradict themselves.
    pub contradictions: usize,
    /// Tokens beyond the hard margin.
    pub hard: usize,
    /// Highest sum of evidence, in thousandths of a bit; an honest miner that starts there.
    pub peak_bits_milli: i64,
    /// Highest CUSUM.
    pub peak_cusum_bits_milli: i64,
    /// Evidence of all together.
    pub sum_bits_milli: i64,
}

struct Scale {
    edges: Edges,
    table: Table,
}

impl Scale {
    fn of(profile: &Profile) -> Self {
        Self { edges: profile.edges(), table: profile.table() }
    }

    fn weigh(&self, answer: &Replayed, tokens: usize) -> i128 {
        self.table.weigh(&self.edges.count(&answer.statistics[..tokens]))
    }
}

/// Orders that are tried.
const TRIALS: usize = 400;

/// Tokens after which a trial is given up.
const TOKENS_MAX: usize = 20_000;

/// Plays a miner's answers in many orders, each drawn again and again.
#[must_use]
pub fn detect(name: &str, answers: &[Replayed], profile: &Profile, levels: &Levels) -> Detection {
    let scale = Scale::of(profile);
    let answers: Vec<&Replayed> = answers.iter().filter(|answer| !answer.statistics.is_empty()).collect();
    let mut random = Random(0x5eed);
    let mut ends: Vec<(usize, Ground)> = Vec::new();
    for _ in 0..if answers.is_empty() { 0 } else { TRIALS } {
        ends.extend(trial(&answers, profile, &scale, levels, &mut random));
    }
    ends.sort_unstable_by_key(|(tokens, _)| *tokens);
    let at = |milli: usize| ends.get((TRIALS * milli).div_ceil(1_000).saturating_sub(1)).map(|(tokens, _)| *tokens);
    let grounds = [Ground::Contradiction, Ground::Hard, Ground::Evidence];
    let often = |ground: &Ground| ends.iter().filter(|(_, found)| found == ground).count();
    let tokens: usize = answers.iter().map(|answer| answer.statistics.len()).sum();
    let bits: i128 = answers.iter().map(|answer| scale.weigh(answer, answer.statistics.len())).sum();
    Detection {
        name: name.to_owned(),
        trials: TRIALS,
        median: at(500),
        p99: at(990),
        within_1000_milli: ends.iter().filter(|(tokens, _)| *tokens <= 1_000).count() * 1_000 / TRIALS,
        ground: if ends.is_empty() { None } else { grounds.into_iter().max_by_key(often) },
        bits_milli: milli_bits(bits / i128::try_from(tokens.max(1)).unwrap_or(1)),
    }
}

/// One order of the answers: tokens until conviction.
fn trial(
    answers: &[&Replayed],
    profile: &Profile,
    scale: &Scale,
    levels: &Levels,
    random: &mut Random,
) -> Option<(usize, Ground)> {
    let (mut before, mut evidence, mut cusum) = (0, 0_i64, 0_i64);
    while before < TOKENS_MAX {
        let answer = answers[random.below(answers.len())];
        if let Some((tokens, ground)) = convicts(answer, profile, scale, levels, (evidence, cusum)) {
            return Some((before + tokens, ground));
        }
        let found = clip(scale.weigh(answer, answer.statistics.len()), levels.clip);
        evidence += found;
        cusum = (cusum + found).max(0);
        before += answer.statistics.len();
    }
    None
}

/// Tokens of this answer after which its miner is convicted.
fn convicts(
    answer: &Replayed,
    profile: &Profile,
    scale: &Scale,
    levels: &Levels,
    (evidence, cusum): (i64, i64),
) -> Option<(usize, Ground)> {
    let contradicted = answer.contradictions.first().map(|place| (place + 1, Ground::Contradiction));
    let hard = answer.findings.iter().position(|found| profile.is_hard(found)).map(|place| (place + 1, Ground::Hard));
    let weighed = (1..=answer.statistics.len()).find(|tokens| {
        let found = clip(scale.weigh(answer, *tokens), levels.clip);
        evidence + found >= levels.convict || cusum + found >= levels.convict_cusum
    });
    let weighed = weighed.map(|tokens| (tokens, Ground::Evidence));
    [contradicted, hard, weighed].into_iter().flatten().min_by_key(|(tokens, _)| *tokens)
}

/// What honest answers, one after the other, come to.
#[must_use]
pub fn falsehoods(answers: &[Replayed], profile: &Profile, levels: &Levels) -> Falsehoods {
    let scale = Scale::of(profile);
    let mut sum = Falsehoods { answers: answers.len(), ..Falsehoods::default() };
    let (mut evidence, mut cusum) = (0_i64, 0_i64);
    for answer in answers {
        sum.tokens += answer.statistics.len();
        sum.identical += answer.identical;
        sum.contradictions += answer.contradictions.len();
        sum.hard += answer.findings.iter().filter(|found| profile.is_hard(found)).count();
        let found = clip(scale.weigh(answer, answer.statistics.len()), levels.clip);
        evidence += found;
        cusum = (cusum + found).max(0);
        sum.peak_bits_milli = sum.peak_bits_milli.max(milli_bits(evidence.into()));
        sum.peak_cusum_bits_milli = sum.peak_cusum_bits_milli.max(milli_bits(cusum.into()));
    }
    sum.sum_bits_milli = milli_bits(evidence.into());
    sum
}

fn milli_bits(evidence: i128) -> i64 {
    i64::try_from(evidence * 1_000 / 65_536).unwrap_or(i64::MAX)
}

/// SplitMix64: the same orders in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).unwrap_or(0)
    }
}
