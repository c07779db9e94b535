//! After how many tokens a miner is convicted, by the rules of docs/spec/evidence.md.

use crate::transcript::Replayed;
use cortensor_proof::{
    calibration::Terms,
    evidence::{CHARGES, Edges, Table},
    profile::Profile,
    score::{Outcome, Policy, Score},
};
use serde::Serialize;

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
    /// Trials that convicted within 32 audited tokens, in thousandths.
    pub within_32_milli: usize,
    /// Trials that convicted within 1,000 audited tokens, in thousandths.
    pub within_1000_milli: usize,
    /// What convicted most often.
    pub ground: Option<Ground>,
    /// Bits of evidence a token for each charge, in thousandths, on average over all answers and before any clip.
    pub bits_milli: [i64; CHARGES],
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
    /// Highest sum of evidence of either charge, in thousandths of a bit; an honest miner that starts there.
    pub peak_bits_milli: i64,
    /// Highest CUSUM of either.
    pub peak_cusum_bits_milli: i64,
    /// Evidence of all together, for each charge.
    pub sum_bits_milli: [i64; CHARGES],
}

struct Scale {
    edges: Edges,
    table: Table,
}

impl Scale {
    fn of(profile: &Profile) -> Self {
        Self { edges: profile.edges(), table: profile.table() }
    }

    fn sums(&self, answer: &Replayed) -> [i64; CHARGES] {
        self.table.sums(&self.edges.count(&answer.statistics))
    }

    /// What an audit of the answer's first tokens would add.
    fn audit(&self, answer: &Replayed, tokens: usize) -> Outcome {
        let evidence = self.table.clipped(&self.edges.count(&answer.statistics[..tokens]), Terms::default().clip);
        Outcome { evidence, tokens: tokens as u64, hard: false, may_convict: true }
    }
}

/// Orders that are tried.
const TRIALS: usize = 400;

/// Tokens after which a trial is given up.
const TOKENS_MAX: usize = 20_000;

/// Plays a miner's answers in many orders, each drawn again and again.
#[must_use]
pub fn detect(name: &str, answers: &[Replayed], profile: &Profile) -> Detection {
    let scale = Scale::of(profile);
    let answers: Vec<&Replayed> = answers.iter().filter(|answer| !answer.statistics.is_empty()).collect();
    let mut random = Random(0x5eed);
    let mut ends: Vec<(usize, Ground)> = Vec::new();
    for _ in 0..if answers.is_empty() { 0 } else { TRIALS } {
        ends.extend(trial(&answers, profile, &scale, &mut random));
    }
    ends.sort_unstable_by_key(|(tokens, _)| *tokens);
    let at = |milli: usize| ends.get((TRIALS * milli).div_ceil(1_000).saturating_sub(1)).map(|(tokens, _)| *tokens);
    let grounds = [Ground::Contradiction, Ground::Hard, Ground::Evidence];
    let often = |ground: &Ground| ends.iter().filter(|(_, found)| found == ground).count();
    let within = |most: usize| ends.iter().filter(|(tokens, _)| *tokens <= most).count() * 1_000 / TRIALS;
    let tokens: usize = answers.iter().map(|answer| answer.statistics.len()).sum();
    let bits = |charge: usize| answers.iter().map(|answer| scale.sums(answer)[charge]).sum::<i64>();
    let bits: [i64; CHARGES] = std::array::from_fn(bits);
    Detection {
        name: name.to_owned(),
        trials: TRIALS,
        median: at(500),
        p99: at(990),
        within_32_milli: within(32),
        within_1000_milli: within(1_000),
        ground: if ends.is_empty() { None } else { grounds.into_iter().max_by_key(often) },
        bits_milli: bits.map(|bits| milli_bits(bits / i64::try_from(tokens.max(1)).unwrap_or(1))),
    }
}

/// One order of the answers: tokens until conviction.
fn trial(answers: &[&Replayed], profile: &Profile, scale: &Scale, random: &mut Random) -> Option<(usize, Ground)> {
    let (mut before, mut score) = (0, Score::default());
    while before < TOKENS_MAX {
        let answer = answers[random.below(answers.len())];
        if let Some((tokens, ground)) = convicts(answer, profile, scale, score) {
            return Some((before + tokens, ground));
        }
        score.record(&Policy::default(), &scale.audit(answer, answer.statistics.len()));
        before += answer.statistics.len();
    }
    None
}

/// Tokens of this answer after which its miner is convicted.
fn convicts(answer: &Replayed, profile: &Profile, scale: &Scale, score: Score) -> Option<(usize, Ground)> {
    let contradicted = answer.contradictions.first().map(|place| (place + 1, Ground::Contradiction));
    let hard = answer.findings.iter().position(|found| profile.is_hard(found)).map(|place| (place + 1, Ground::Hard));
    let policy = Policy::default();
    let weighed = (1..=answer.statistics.len()).find(|tokens| { score }.record(&policy, &scale.audit(answer, *tokens)));
    let weighed = weighed.map(|tokens| (tokens, Ground::Evidence));
    [contradicted, hard, weighed].into_iter().flatten().min_by_key(|(tokens, _)| *tokens)
}

/// What honest answers, one after the other, come to.
#[must_use]
pub fn falsehoods(answers: &[Replayed], profile: &Profile) -> Falsehoods {
    let scale = Scale::of(profile);
    let mut sum = Falsehoods { answers: answers.len(), ..Falsehoods::default() };
    let mut score = Score::default();
    for answer in answers {
        sum.tokens += answer.statistics.len();
        sum.identical += answer.identical;
        sum.contradictions += answer.contradictions.len();
        sum.hard += answer.findings.iter().filter(|found| profile.is_hard(found)).count();
        score.record(&Policy::default(), &scale.audit(answer, answer.statistics.len()));
        sum.peak_bits_milli = sum.peak_bits_milli.max(milli_bits(score.highest_evidence()));
        sum.peak_cusum_bits_milli = sum.peak_cusum_bits_milli.max(milli_bits(score.highest_cusum()));
    }
    sum.sum_bits_milli = score.evidence.map(milli_bits);
    sum
}

fn milli_bits(evidence: i64) -> i64 {
    evidence.saturating_mul(1_000) / 65_536
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
