//! Profiles: what honest noise and the nearest cheats look like, for one model computed on one class of machine and
//! audited on another.
//!
//! A profile holds the edges of the bins, how many honest tokens fell into each, an upper bound on how likely each is for
//! an honest machine, and how likely for a cheat. The table of likelihood ratios follows from these in integers, so it is
//! not stored and cannot contradict them. It has one encoding, whose hash is registered on chain; the decoder accepts
//! nothing else. [`crate::calibration`] makes profiles, this module never computes with floats.
//!
//! Why an honest machine's expected ratio is at most one: in every bin its probability is at most the bound `u`, and the
//! cheat's probabilities `c` sum to at most one, so E\[c/u\] ≤ Σ c ≤ 1. Each statistic's logarithm is multiplied by a
//! weight, and the three weights of a charge sum to at most one: by Hölder's inequality the product over the statistics
//! keeps that expectation at or below one however they depend on each other. The temper (a power below one) leaves room for tokens
//! that depend on each other.
#![deny(clippy::float_arithmetic)]

use crate::{
    evidence::{BINS, CHARGES, Charge, EDGES, Edges, PPM, Ratios, STATISTICS, Statistic, Table},
    fixed::{LN_2_Q64, ln_q64},
    replay::Finding,
};
use alloy_primitives::{B256, keccak256};
use cortensor_protocol::ModelId;

/// Probability one: probabilities count in 1/(2³² − 1).
pub const ONE: u32 = u32::MAX;

/// Most cheats that a profile names.
pub const CHEATS_MAX: usize = 64;

/// Longest name of a cheat, in bytes.
pub const NAME_BYTES_MAX: usize = 48;

/// Most honest tokens that a profile counts.
pub const TOKENS_MAX: u32 = 1 << 24;

const FORMAT: u8 = 2;
const DOMAIN: &[u8] = b"cortensor profile v2";

/// What a profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The model.
    pub model: ModelId,
    /// Build of the engine and kind of machine that answered.
    pub miner_class: B256,
    /// Build of the engine and kind of machine that audited.
    pub guard_class: B256,
}

/// One statistic's bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Histogram {
    /// Where one ends and the next begins.
    pub edges: [u32; EDGES],
    /// Honest tokens in each.
    pub honest: [u32; BINS],
    /// What an honest machine's probability is at most, in 1/[`ONE`].
    pub bound: [u32; BINS],
}

/// How one kind of cheats is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scales {
    /// What each statistic's logarithm is multiplied by, in millionths; at most one together.
    pub weights_ppm: [u32; STATISTICS],
    /// For each statistic, a cheat's probability of each bin, in 1/[`ONE`].
    pub cheat: [[u32; BINS]; STATISTICS],
}

/// What calibration saw of one cheat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheatSummary {
    /// What it is: printable ASCII.
    pub name: String,
    /// Which table is to show it.
    pub charge: Charge,
    /// It may be so close that it takes many audits to tell, and does not count for refusals.
    pub weak: bool,
    /// Tokens that lose under the guard's logits, in millionths.
    pub mismatch_ppm: u32,
    /// Distance over honest noise, in thousandths, of the statistic that shows it best.
    pub separation_milli: u32,
    /// Evidence that a token gives on average, in 1/65,536 bit, tempered.
    pub drift: i32,
}

/// Everything of a profile; [`Profile::new`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parts {
    /// What it is for.
    pub pair: Pair,
    /// From 1 on; grows with each registration.
    pub version: u32,
    /// What each charge's logarithms are multiplied by, in millionths, because the tokens of one answer depend on each other.
    pub temper_ppm: [u32; CHARGES],
    /// A margin above this is no noise: the token was put there.
    pub hard_margin: u32,
    /// Honest answers that were replayed.
    pub answers: u32,
    /// Their tokens.
    pub tokens: u32,
    /// In the order of [`Statistic::ALL`].
    pub histograms: [Histogram; STATISTICS],
    /// In the order of [`Charge::ALL`].
    pub charges: [Scales; CHARGES],
    /// By name, ascending.
    pub cheats: Vec<CheatSummary>,
}

/// A profile whose parts agree with each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile(Parts);

/// Why parts or bytes are no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The bytes end before the profile does.
    #[error("the bytes end in the middle of the profile")]
    Truncated,
    /// Bytes follow the profile.
    #[error("{0} bytes follow the profile")]
    Trailing(usize),
    /// Another format.
    #[error("format {0} is not known here: a newer release may read it")]
    Format(u8),
    /// A part is outside what it may be, or contradicts another.
    #[error("{0}")]
    Part(&'static str),
    /// A histogram contradicts itself.
    #[error("the histogram of the {}: {why}", .statistic.name())]
    Histogram {
        /// Which one.
        statistic: Statistic,
        /// What is wrong.
        why: &'static str,
    },
}

impl Profile {
    /// Checks that parts agree with each other.
    ///
    /// # Errors
    /// Names what does not.
    pub fn new(parts: Parts) -> Result<Self, ProfileError> {
        for statistic in Statistic::ALL {
            let check = check_histogram(&parts.histograms[statistic as usize], statistic, parts.tokens);
            let check = check.and_then(|()| check_cheat(&parts.charges, statistic));
            check.map_err(|why| ProfileError::Histogram { statistic, why })?;
        }
        check_numbers(&parts).map_err(ProfileError::Part)?;
        check_cheats(&parts.cheats).map_err(ProfileError::Part)?;
        Ok(Self(parts))
    }

    /// Its parts.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.0
    }

    /// The edges of its bins.
    #[must_use]
    pub fn edges(&self) -> Edges {
        Edges(self.0.histograms.map(|histogram| histogram.edges))
    }

    /// What each bin weighs.
    #[must_use]
    pub fn table(&self) -> Table {
        let ratios = |charge: usize| -> Ratios {
            let (scales, temper_ppm) = (&self.0.charges[charge], self.0.temper_ppm[charge]);
            std::array::from_fn(|row| {
                let (bound, cheat) = (&self.0.histograms[row].bound, &scales.cheat[row]);
                let exponent = u64::from(scales.weights_ppm[row]) * u64::from(temper_ppm);
                std::array::from_fn(|bin| ratio(cheat[bin], bound[bin], exponent))
            })
        };
        Table { ratios: std::array::from_fn(ratios) }
    }

    /// Whether no noise explains how far this token is from winning.
    #[must_use]
    pub const fn is_hard(&self, found: &Finding) -> bool {
        found.margin > self.0.hard_margin
    }

    /// Honest tokens that lost, in millionths.
    #[must_use]
    pub fn honest_mismatch_ppm(&self) -> u32 {
        // The first edge of the margin is 1.
        let lost = u64::from(self.0.tokens - self.0.histograms[Statistic::Margin as usize].honest[0]);
        u32::try_from(lost * u64::from(PPM) / u64::from(self.0.tokens)).expect("at most a million")
    }

    /// What is registered on chain.
    #[must_use]
    pub fn content_hash(&self) -> B256 {
        keccak256([DOMAIN, &self.encode()].concat())
    }

    /// Its bytes. Integers are big endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parts = &self.0;
        let mut bytes = vec![FORMAT];
        for hash in [parts.pair.model.0, parts.pair.miner_class, parts.pair.guard_class] {
            bytes.extend_from_slice(hash.as_slice());
        }
        let mut put = |number: u32| bytes.extend_from_slice(&number.to_be_bytes());
        let [computation, sampling] = parts.temper_ppm;
        [parts.version, computation, sampling, parts.hard_margin, parts.answers, parts.tokens]
            .into_iter()
            .for_each(&mut put);
        for histogram in &parts.histograms {
            histogram.edges.into_iter().for_each(&mut put);
            [histogram.honest, histogram.bound].into_iter().flatten().for_each(&mut put);
        }
        for scales in &parts.charges {
            scales.weights_ppm.into_iter().chain(scales.cheat.into_iter().flatten()).for_each(&mut put);
        }
        bytes.push(u8::try_from(parts.cheats.len()).expect("at most CHEATS_MAX"));
        for cheat in &parts.cheats {
            bytes.push(u8::try_from(cheat.name.len()).expect("at most NAME_BYTES_MAX"));
            bytes.extend_from_slice(cheat.name.as_bytes());
            bytes.extend_from_slice(&[cheat.charge as u8, u8::from(cheat.weak)]);
            for number in [cheat.mismatch_ppm, cheat.separation_milli, cheat.drift.cast_unsigned()] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote; nothing else.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProfileError> {
        let mut reader = Reader(bytes);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(ProfileError::Format(format));
        }
        let (model, miner_class, guard_class) = (ModelId(reader.hash()?), reader.hash()?, reader.hash()?);
        let [version, computation, sampling, hard_margin, answers, tokens] = reader.numbers()?;
        let temper_ppm = [computation, sampling];
        let histograms = [reader.histogram()?, reader.histogram()?, reader.histogram()?];
        let charges = [reader.scales()?, reader.scales()?];
        let count = usize::from(reader.byte()?);
        if count > CHEATS_MAX {
            return Err(ProfileError::Part("it names too many cheats"));
        }
        let cheats = (0..count).map(|_| reader.cheat()).collect::<Result<_, _>>()?;
        if !reader.0.is_empty() {
            return Err(ProfileError::Trailing(reader.0.len()));
        }
        let pair = Pair { model, miner_class, guard_class };
        Self::new(Parts { pair, version, temper_ppm, hard_margin, answers, tokens, histograms, charges, cheats })
    }
}

/// log2(cheat / bound) in 1/65,536 bit, times an exponent of at most one in 1/10¹², rounded down.
pub(crate) fn ratio(cheat: u32, bound: u32, exponent: u64) -> i32 {
    // Less than 2^5 nats, so that times 2^40 and 2^16 they stay below 2^127 with 52 fractional bits.
    let nats = (ln_q64(u128::from(cheat), 0) - ln_q64(u128::from(bound), 0)) >> 12;
    let unit = i128::from(PPM) * i128::from(PPM) * (LN_2_Q64.cast_signed() >> 12);
    i32::try_from(((nats * i128::from(exponent)) << 16).div_euclid(unit)).expect("less than 33 bits")
}

/// The exponent one of [`ratio`].
pub(crate) const WHOLE: u64 = PPM as u64 * PPM as u64;

fn check_histogram(histogram: &Histogram, statistic: Statistic, tokens: u32) -> Result<(), &'static str> {
    let Histogram { edges, honest, bound } = histogram;
    if edges[0] == 0 || edges.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err("its edges do not rise from 1 or more");
    }
    if statistic == Statistic::Margin && edges[0] != 1 {
        return Err("its first bin is not that of the tokens that win");
    }
    let counted: u64 = honest.iter().copied().map(u64::from).sum();
    if counted > u64::from(tokens) || (statistic != Statistic::Sketch && counted != u64::from(tokens)) {
        return Err("its counts are not the tokens");
    }
    // What was not counted says nothing, so a row without counts must weigh nothing.
    let below =
        |(count, bound): (&u32, &u32)| *bound == 0 || u64::from(*bound) * counted < u64::from(*count) * u64::from(ONE);
    if honest.iter().zip(bound).any(below) {
        return Err("a bound is below what was seen");
    }
    Ok(())
}

fn check_cheat(charges: &[Scales; CHARGES], statistic: Statistic) -> Result<(), &'static str> {
    for scales in charges {
        let cheat = &scales.cheat[statistic as usize];
        let sum: u64 = cheat.iter().copied().map(u64::from).sum();
        if cheat.contains(&0) || sum > u64::from(ONE) {
            return Err("the cheat's probabilities are not between zero and one together");
        }
    }
    Ok(())
}

fn check_numbers(parts: &Parts) -> Result<(), &'static str> {
    if parts.version == 0 {
        return Err("versions begin at 1");
    }
    if parts.temper_ppm.iter().any(|temper| *temper == 0 || *temper > PPM) {
        return Err("a temper is not between zero and one");
    }
    let together = |scales: &Scales| scales.weights_ppm.iter().fold(0u32, |sum, weight| sum.saturating_add(*weight));
    if parts.charges.iter().any(|scales| together(scales) > PPM) {
        return Err("the weights are more than one together");
    }
    if parts.answers == 0 || parts.tokens < parts.answers || parts.tokens > TOKENS_MAX {
        return Err("there are too few or too many honest tokens");
    }
    if parts.hard_margin < parts.histograms[Statistic::Margin as usize].edges[EDGES - 1] {
        return Err("the hard margin is within the noise");
    }
    Ok(())
}

fn check_cheats(cheats: &[CheatSummary]) -> Result<(), &'static str> {
    if cheats.is_empty() || cheats.len() > CHEATS_MAX {
        return Err("it names no cheat, or too many");
    }
    let printable = |name: &str| name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if cheats.iter().any(|c| c.name.is_empty() || c.name.len() > NAME_BYTES_MAX || !printable(&c.name)) {
        return Err("a cheat's name is empty, too long or not printable ASCII");
    }
    if cheats.windows(2).any(|pair| pair[0].name >= pair[1].name) {
        return Err("the cheats are not in order");
    }
    if cheats.iter().any(|cheat| cheat.mismatch_ppm > PPM) {
        return Err("more tokens of a cheat lose than there are");
    }
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProfileError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ProfileError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, ProfileError> {
        self.take().map(|[byte]| byte)
    }

    fn hash(&mut self) -> Result<B256, ProfileError> {
        self.take().map(B256::new)
    }

    fn numbers<const N: usize>(&mut self) -> Result<[u32; N], ProfileError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = u32::from_be_bytes(self.take()?);
        }
        Ok(numbers)
    }

    fn histogram(&mut self) -> Result<Histogram, ProfileError> {
        Ok(Histogram { edges: self.numbers()?, honest: self.numbers()?, bound: self.numbers()? })
    }

    fn scales(&mut self) -> Result<Scales, ProfileError> {
        let weights_ppm = self.numbers()?;
        Ok(Scales { weights_ppm, cheat: [self.numbers()?, self.numbers()?, self.numbers()?] })
    }

    /// Zero or one.
    fn flag(&mut self) -> Result<bool, ProfileError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProfileError::Part("a flag is neither zero nor one")),
        }
    }

    fn cheat(&mut self) -> Result<CheatSummary, ProfileError> {
        let length = usize::from(self.byte()?);
        let (name, rest) = self.0.split_at_checked(length).ok_or(ProfileError::Truncated)?;
        let name = std::str::from_utf8(name).map_err(|_| ProfileError::Part("a cheat's name is no text"))?.to_owned();
        self.0 = rest;
        let charge = if self.flag()? { Charge::Sampling } else { Charge::Computation };
        let weak = self.flag()?;
        let [mismatch_ppm, separation_milli, drift] = self.numbers()?;
        Ok(CheatSummary { name, charge, weak, mismatch_ppm, separation_milli, drift: drift.cast_signed() })
    }
}
