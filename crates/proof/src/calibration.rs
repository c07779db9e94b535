//! Calibration: from replays of honest answers and of simulated cheats to a [`Profile`], or to the reason why this pair of
//! machines cannot be told apart from cheats.
//!
//! It runs once, off line; its floating point ends in the integers of the profile, which is what decides. What it needs of its samples: honest
//! answers as they come in service (languages, lengths, temperatures), and cheats as close to honest as they
//! are worth simulating.

use crate::{
    evidence::{BINS, CHARGES, Charge, EDGES, Edges, PPM, STATISTICS, Statistic, TokenStatistics},
    profile::{CheatSummary, Histogram, ONE, Pair, Parts, Profile, ProfileError, Scales, WHOLE, ratio},
    rising::rising,
};

/// The statistics of one answer's tokens.
pub type Answer = Vec<TokenStatistics>;

/// A simulated cheat.
#[derive(Clone, Debug)]
pub struct Cheat {
    /// What it is.
    pub name: String,
    /// Which table is to show it.
    pub charge: Charge,
    /// So close to honest that it takes many audits to tell: it does not count for refusals.
    pub weak: bool,
    /// Its answers, replayed with the true model.
    pub answers: Vec<Answer>,
}

/// What a profile must fulfil. The defaults are the design's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Most honest tokens that may lose under the guard's logits, in millionths.
    pub mismatch_ppm_max: u32,
    /// Least distance of a cheat over honest noise, in thousandths.
    pub separation_milli_min: u32,
    /// Fewest honest answers.
    pub answers_min: u32,
    /// The largest temper; halved while honest answers weigh too much as a whole.
    pub temper_ppm: u32,
    /// Below this temper the pair is refused.
    pub temper_ppm_min: u32,
    /// Chance that some bound on an honest probability does not hold, in millionths.
    pub bound_failure_ppm: u32,
    /// The hard margin over the honest maximum.
    pub hard_factor: u32,
    /// The hard margin is at least this, in 1/1024 nat.
    pub hard_margin_min: u32,
    /// Margins above this quantile of the honest ones count alike, in millionths.
    pub clip_quantile_ppm: u32,
    /// Most evidence of one audit for each charge, in 1/65,536 bit; the contract's.
    pub clip: i32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            mismatch_ppm_max: 80_000,
            separation_milli_min: 5_000,
            answers_min: 200,
            temper_ppm: PPM,
            temper_ppm_min: 60_000,
            bound_failure_ppm: 10_000,
            hard_factor: 3,
            hard_margin_min: 1_024,
            clip_quantile_ppm: 1_000_000,
            clip: 1_572_864,
        }
    }
}

/// Why a pair gets no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unseparable {
    /// Not enough was replayed.
    #[error("{answers} honest answers were replayed, {least} are needed; empty answers do not count")]
    TooFew {
        /// How many.
        answers: usize,
        /// How many there must be.
        least: u32,
    },
    /// No cheat to compare with.
    #[error("no cheat was simulated, or one without an answer")]
    NoCheats,
    /// The two classes of machine differ too much.
    #[error(
        "{ppm} of a million honest tokens lose under the guard's logits, at most {most} may: assign guards of the miner's class"
    )]
    Mismatch {
        /// How many.
        ppm: u32,
        /// How many may.
        most: u32,
    },
    /// A cheat looks too much like honest noise.
    #[error(
        "\"{name}\" is {milli}/1000 of honest noise away, {least}/1000 are needed: assign guards of the miner's class"
    )]
    TooClose {
        /// The cheat.
        name: String,
        /// Its distance in thousandths.
        milli: u32,
        /// What is needed.
        least: u32,
    },
    /// No table shows this cheat.
    #[error(
        "\"{name}\" does not show in any statistic more than it hides in the others: assign guards of the miner's class"
    )]
    Invisible {
        /// The cheat.
        name: String,
    },
    /// Tokens of honest answers depend on each other too much.
    #[error(
        "tokens of honest answers depend on each other too much: for a charge of {}, {temper_ppm} millionths of temper are not little enough",
        .charge.name()
    )]
    Dependent {
        /// Whose table.
        charge: Charge,
        /// The last temper that was tried.
        temper_ppm: u32,
    },
    /// What came out is no profile.
    #[error("the samples make no profile")]
    Profile(#[from] ProfileError),
}

/// Makes a profile of honest answers and cheats, both replayed by a guard of the pair.
///
/// # Errors
/// Why the pair is refused.
pub fn calibrate(
    pair: Pair,
    version: u32,
    honest: &[Answer],
    cheats: &[Cheat],
    terms: &Terms,
) -> Result<Profile, Unseparable> {
    let honest: Vec<&Answer> = honest.iter().filter(|answer| !answer.is_empty()).collect();
    if honest.len() < terms.answers_min.max(1) as usize {
        return Err(Unseparable::TooFew { answers: honest.len(), least: terms.answers_min });
    }
    if cheats.is_empty() || cheats.iter().any(|cheat| cheat.answers.iter().all(Vec::is_empty)) {
        return Err(Unseparable::NoCheats);
    }
    let samples =
        Samples { honest: Sample::of(honest.iter().copied()), cheats: cheats.iter().map(Sample::from).collect() };
    let edges = samples.edges(terms);
    let rows = samples.rows(&edges, terms);
    let charges = Charge::ALL.map(|charge| search(&rows, &accused(cheats, charge)));
    let mut parts = Parts {
        pair,
        version,
        temper_ppm: [PPM; CHARGES],
        hard_margin: samples.hard_margin(terms, &edges),
        answers: saturated(honest.len()),
        tokens: saturated(samples.honest.values[0].len()),
        histograms: rows.each_ref().map(Row::histogram),
        charges,
        cheats: samples.summaries(cheats),
    };
    let profile = Profile::new(parts.clone())?;
    refuse(&profile, terms)?;
    for charge in Charge::ALL {
        parts.temper_ppm[charge as usize] = temper(&profile, charge, &honest, terms)?;
    }
    let tempered = Profile::new(parts.clone())?;
    for cheat in &mut parts.cheats {
        cheat.drift =
            cheats.iter().find(|c| c.name == cheat.name).map_or(0, |c| drift(&tempered, cheat.charge, &c.answers));
    }
    if let Some(hidden) = parts.cheats.iter().find(|cheat| !cheat.weak && cheat.drift <= 0) {
        return Err(Unseparable::Invisible { name: hidden.name.clone() });
    }
    Ok(Profile::new(parts)?)
}

/// Refuses a pair whose honest noise is too large, or whose nearest cheat is too close.
///
/// # Errors
/// Says which of the two.
pub fn refuse(profile: &Profile, terms: &Terms) -> Result<(), Unseparable> {
    let ppm = profile.honest_mismatch_ppm();
    if ppm > terms.mismatch_ppm_max {
        return Err(Unseparable::Mismatch { ppm, most: terms.mismatch_ppm_max });
    }
    let strong = profile.parts().cheats.iter().filter(|cheat| !cheat.weak);
    match strong.min_by_key(|cheat| cheat.separation_milli) {
        Some(nearest) if nearest.separation_milli < terms.separation_milli_min => Err(Unseparable::TooClose {
            name: nearest.name.clone(),
            milli: nearest.separation_milli,
            least: terms.separation_milli_min,
        }),
        _ => Ok(()),
    }
}

/// The largest temper under which honest answers weigh at most one on average even at twice that temper. What they weigh once
/// is no proof of what they weigh always; the factor is the room for that.
fn temper(untempered: &Profile, charge: Charge, honest: &[&Answer], terms: &Terms) -> Result<u32, Unseparable> {
    let (edges, table) = (untempered.edges(), untempered.table());
    let bits = |answer: &&Answer| float_bits(table.sums(&edges.count(*answer))[charge as usize]);
    let bits: Vec<f64> = honest.iter().map(bits).collect();
    let mut temper_ppm = terms.temper_ppm;
    while temper_ppm >= terms.temper_ppm_min.max(1) {
        let doubled = 2.0 * f64::from(temper_ppm) / f64::from(PPM);
        if bits.iter().map(|bits| (bits * doubled).exp2()).sum::<f64>() <= float(bits.len()) {
            return Ok(temper_ppm);
        }
        temper_ppm /= 2;
    }
    Err(Unseparable::Dependent { charge, temper_ppm })
}

/// Evidence in bits.
#[expect(clippy::cast_precision_loss, reason = "an exponent, good to far more digits than matter")]
fn float_bits(evidence: i64) -> f64 {
    evidence as f64 / 65_536.0
}

/// Average evidence of a token for a charge.
fn drift(profile: &Profile, charge: Charge, answers: &[Answer]) -> i32 {
    let (edges, table) = (profile.edges(), profile.table());
    let counts = answers.iter().map(|answer| edges.count(answer));
    let weigh = |counts| table.sums(&counts)[charge as usize];
    let (sum, tokens) = counts.fold((0, 0), |(sum, tokens), c| (sum + weigh(c), tokens + i64::from(c.tokens)));
    i32::try_from(sum / tokens.max(1)).expect("an average of three values that have 32 bits together")
}

/// All tokens of one kind, each statistic ascending.
struct Sample {
    values: [Vec<u32>; STATISTICS],
}

impl From<&Cheat> for Sample {
    fn from(cheat: &Cheat) -> Self {
        Self::of(&cheat.answers)
    }
}

impl Sample {
    fn of<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        let mut values: [Vec<u32>; STATISTICS] = Default::default();
        for token in answers.into_iter().flatten() {
            for statistic in Statistic::ALL {
                values[statistic as usize].extend(token.get(statistic));
            }
        }
        values.iter_mut().for_each(|values| values.sort_unstable());
        Self { values }
    }

    fn quantile(&self, statistic: Statistic, ppm: u32) -> u32 {
        let values = &self.values[statistic as usize];
        let last = values.len().saturating_sub(1) as u128;
        let index = last * u128::from(ppm) / u128::from(PPM);
        usize::try_from(index).ok().and_then(|index| values.get(index)).copied().unwrap_or(0)
    }

    fn largest(&self, statistic: Statistic) -> u32 {
        self.values[statistic as usize].last().copied().unwrap_or(0)
    }

    fn histogram(&self, statistic: Statistic, edges: &Edges) -> [u32; BINS] {
        let mut counts = [0; BINS];
        self.values[statistic as usize].iter().for_each(|value| counts[edges.bin(statistic, *value)] += 1);
        counts
    }

    /// The mean as a length: of sketches the root of the mean square. What has no bound counts up to the limit.
    fn mean(&self, statistic: Statistic) -> f64 {
        let limit = if statistic == Statistic::Sketch { 4 << 20 } else { 16 << 10 };
        let values = &self.values[statistic as usize];
        let sum: f64 = values.iter().map(|value| f64::from((*value).min(limit))).sum();
        let mean = sum / float(values.len().max(1));
        if statistic == Statistic::Sketch { mean.sqrt() } else { mean }
    }

    fn mismatch_ppm(&self) -> u32 {
        let margins = &self.values[Statistic::Margin as usize];
        let lost = margins.len() - margins.partition_point(|margin| *margin == 0);
        saturated(lost * PPM as usize / margins.len().max(1))
    }
}

struct Samples {
    honest: Sample,
    cheats: Vec<Sample>,
}

impl Samples {
    fn edges(&self, terms: &Terms) -> Edges {
        let clip = self.honest.quantile(Statistic::Margin, terms.clip_quantile_ppm);
        let ladder_of = |statistic| {
            let low = self.honest.quantile(statistic, PPM / 10);
            let farthest = self.cheats.iter().map(|cheat| cheat.quantile(statistic, PPM / 10 * 9)).max();
            ladder(low, farthest.unwrap_or(0).max(self.honest.quantile(statistic, terms.clip_quantile_ppm)))
        };
        Edges([ladder(1, clip), ladder_of(Statistic::LogProb), ladder_of(Statistic::Sketch)])
    }

    fn hard_margin(&self, terms: &Terms, edges: &Edges) -> u32 {
        let largest = self.honest.largest(Statistic::Margin).saturating_mul(terms.hard_factor);
        largest.max(terms.hard_margin_min).max(edges.0[Statistic::Margin as usize][EDGES - 1])
    }

    fn rows(&self, edges: &Edges, terms: &Terms) -> [Row; STATISTICS] {
        Statistic::ALL.map(|statistic| {
            let honest = self.honest.histogram(statistic, edges);
            let cheats = self.cheats.iter().map(|cheat| cheat.histogram(statistic, edges)).collect();
            Row { edges: edges.0[statistic as usize], bound: bounds(&honest, terms), honest, cheats }
        })
    }

    fn summaries(&self, cheats: &[Cheat]) -> Vec<CheatSummary> {
        let summary = |(cheat, sample): (&Cheat, &Sample)| CheatSummary {
            name: cheat.name.clone(),
            charge: cheat.charge,
            weak: cheat.weak,
            mismatch_ppm: sample.mismatch_ppm(),
            separation_milli: self.separation_milli(sample),
            drift: 0,
        };
        let mut summaries: Vec<_> = cheats.iter().zip(&self.cheats).map(summary).collect();
        summaries.sort_by(|a, b| a.name.cmp(&b.name));
        summaries
    }

    /// How many times the honest mean the cheat's mean is, for the statistic that shows it best.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    fn separation_milli(&self, cheat: &Sample) -> u32 {
        let ratio = |statistic| {
            let (honest, cheat) = (self.honest.mean(statistic), cheat.mean(statistic));
            if cheat == 0.0 { 0.0 } else { 1_000.0 * cheat / honest }
        };
        Statistic::ALL.into_iter().map(ratio).fold(0.0, f64::max) as u32
    }
}

/// Edges that rise by equal factors from `low` to about `high`, where integers allow.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between low and high")]
fn ladder(low: u32, high: u32) -> [u32; EDGES] {
    let steps = saturated(EDGES - 1);
    let low = low.clamp(1, u32::MAX - steps);
    let high = high.max(low + steps);
    let factor = f64::from(high) / f64::from(low);
    let mut edges = [low; EDGES];
    for (step, edge) in (1..=steps).zip(1..) {
        let wanted = f64::from(low) * factor.powf(f64::from(step) / f64::from(steps));
        let room = high - (steps - step);
        edges[edge] = (wanted.round() as u32).max(edges[edge - 1] + 1).min(room);
    }
    edges
}

/// What the probabilities of all bins are at most, in 1/[`ONE`]: Chernoff's bound, which is above Clopper and Pearson's and
/// needs no special functions. The allowed failure is shared among all bins of all statistics.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and ONE; saturates")]
fn bounds(honest: &[u32; BINS], terms: &Terms) -> [u32; BINS] {
    let all: f64 = honest.iter().copied().map(f64::from).sum();
    let bins = float(BINS * STATISTICS);
    let doubt = (bins * f64::from(PPM) / f64::from(terms.bound_failure_ppm.max(1))).ln();
    honest.map(|count| {
        let bound = if all == 0.0 { 1.0 } else { upper(f64::from(count) / all, doubt / all) };
        (bound * f64::from(ONE)).ceil() as u32
    })
}

/// The largest p whose divergence from what was seen is at most `budget`, rounded up a little.
fn upper(seen: f64, budget: f64) -> f64 {
    let term = |share: f64, p: f64| if share == 0.0 { 0.0 } else { share * (share / p).ln() };
    let divergence = |p: f64| term(seen, p) + term(1.0 - seen, 1.0 - p);
    let (mut low, mut high) = (seen, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if divergence(middle) > budget { high = middle } else { low = middle }
    }
    (high + 1e-9).min(1.0)
}

/// One statistic's counts.
struct Row {
    edges: [u32; EDGES],
    honest: [u32; BINS],
    bound: [u32; BINS],
    cheats: Vec<[u32; BINS]>,
}

/// How much of a cheat's histogram is honest, in sixty-fourths; the more, the less a bin can say for honesty.
const HONEST_PARTS: [u32; 7] = [4, 16, 32, 48, 56, 60, 62];

/// Weights are multiples of this; each statistic has at least one, for cheats that nobody simulated.
const WEIGHT_STEP_PPM: u32 = PPM / 16;

impl Row {
    const fn histogram(&self) -> Histogram {
        Histogram { edges: self.edges, honest: self.honest, bound: self.bound }
    }

    /// The average of the accused cheats' histograms with so many sixty-fourths of the honest one, [`rising`]; sums to at most
    /// [`ONE`].
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of ONE, rounded down")]
    fn mixture(&self, accused: &[usize], honest_parts: u32) -> [u32; BINS] {
        let smooth = shares(&self.honest, 1.0);
        let cheats: Vec<_> = accused.iter().map(|cheat| shares(&self.cheats[*cheat], 0.0)).collect();
        let honest_part = f64::from(honest_parts) / 64.0;
        let mixed = std::array::from_fn(|bin| {
            let average = cheats.iter().map(|shares| shares[bin]).sum::<f64>() / float(cheats.len().max(1));
            // A little less than all, for the rounding of floats.
            let share = (average * (1.0 - honest_part) + smooth[bin] * honest_part) * (1.0 - 1e-9);
            (share * f64::from(ONE)) as u32
        });
        rising(&mixed, &self.bound)
    }

    /// What a token of each cheat gives on average.
    fn drifts(&self, mixture: &[u32; BINS]) -> Vec<f64> {
        let ratios: [f64; BINS] =
            std::array::from_fn(|bin| f64::from(ratio(mixture[bin].max(1), self.bound[bin], WHOLE)));
        let drift = |counts| shares(counts, 0.0).iter().zip(&ratios).map(|(share, ratio)| share * ratio).sum();
        self.cheats.iter().map(drift).collect()
    }
}

fn shares(counts: &[u32; BINS], extra: f64) -> [f64; BINS] {
    let all: f64 = counts.iter().map(|count| f64::from(*count) + extra).sum();
    counts.map(|count| (f64::from(count) + extra) / all.max(1.0))
}

/// The cheats that a charge's table is to show: those of its kind, or all where none of its kind was simulated.
fn accused(cheats: &[Cheat], charge: Charge) -> Vec<usize> {
    let those: Vec<usize> = (0..cheats.len()).filter(|cheat| cheats[*cheat].charge == charge).collect();
    if those.is_empty() { (0..cheats.len()).collect() } else { those }
}

/// A cheat that is not convicted within so many tokens counts as if it were convicted then.
const PATIENCE: f64 = 30_000.0;

/// About what it takes to convict, in bits before the temper.
const CONVICTING_BITS: f64 = 21.0;

/// How the three statistics share a charge's evidence. A cheat that shows in one of them looks honest in the others, which
/// then speak for it, and what shows a coarse cheat soonest hides a fine one; so weights and honest parts are searched for
/// under which the accused cheats together are convicted after the fewest tokens.
fn search(rows: &[Row; STATISTICS], accused: &[usize]) -> Scales {
    let candidates = rows.each_ref().map(|row| HONEST_PARTS.map(|parts| row.mixture(accused, parts)));
    let drifts: [Vec<Vec<f64>>; STATISTICS] =
        std::array::from_fn(|row| candidates[row].iter().map(|mixture| rows[row].drifts(mixture)).collect());
    let (mut best, mut chosen) = (f64::INFINITY, ([PPM / 3; STATISTICS], [0; STATISTICS]));
    let unit = f64::from(PPM) * 65_536.0;
    for weights in weight_choices() {
        for parts in 0..HONEST_PARTS.len().pow(3) {
            let picks = [parts % 7, parts / 7 % 7, parts / 49];
            let drift = |cheat: &usize| -> f64 {
                (0..STATISTICS).map(|row| f64::from(weights[row]) * drifts[row][picks[row]][*cheat]).sum()
            };
            let tokens =
                |drift: f64| if drift > 0.0 { (CONVICTING_BITS * unit / drift).min(PATIENCE) } else { PATIENCE };
            let all: f64 = accused.iter().map(|cheat| tokens(drift(cheat))).sum();
            if all < best {
                (best, chosen) = (all, (weights, picks));
            }
        }
    }
    let (weights_ppm, picks) = chosen;
    Scales { weights_ppm, cheat: std::array::from_fn(|row| candidates[row][picks[row]]) }
}

/// All weights of at least one step each that sum to one.
fn weight_choices() -> impl Iterator<Item = [u32; STATISTICS]> {
    let steps = PPM / WEIGHT_STEP_PPM;
    (1..steps - 1).flat_map(move |margin| {
        (1..steps - margin).map(move |logprob| [margin, logprob, steps - margin - logprob].map(|n| n * WEIGHT_STEP_PPM))
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples, far below 2^53")]
const fn float(count: usize) -> f64 {
    count as f64
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
