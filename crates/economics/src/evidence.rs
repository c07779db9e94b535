//! What an audit of one answer weighs: samples from noise, through a profile calibrated on the same kind of noise.

use crate::random::Random;
use alloy_primitives::keccak256;
use cortensor_proof::{
    calibration::{Answer, Cheat, Terms, Unseparable, calibrate},
    evidence::{Charge, Counts, Table, TokenStatistics, Weighed},
    profile::{Pair, Profile},
};
use cortensor_protocol::ModelId;

/// How a machine's numbers differ from the guard's. The defaults follow what was measured on a 12-layer model in Q4_K_M,
/// and Q4_0 in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseModel {
    /// Tokens that lose under the guard's logits, in millionths.
    pub mismatch_ppm: u32,
    /// By how much those lose on average, in 1/1024 nat.
    pub margin: u32,
    /// Relative distance of the hidden states, in millionths.
    pub distance_ppm: u32,
}

impl NoiseModel {
    /// An honest machine: 2.5 % mismatch, distance 0.006.
    pub const HONEST: Self = Self { mismatch_ppm: 25_000, margin: 20, distance_ppm: 6_000 };
    /// A cheaper model of the same family: 27 % mismatch, distance 0.16.
    pub const CHEAPER: Self = Self { mismatch_ppm: 270_000, margin: 200, distance_ppm: 160_000 };

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "samples: small and positive")]
    fn token(self, random: &mut Random) -> TokenStatistics {
        let exponential = |random: &mut Random| -(1.0 - f64::from(random.below(1 << 24)) / f64::from(1 << 24)).ln();
        // One disturbance moves all three, as it does in a machine.
        let (lost, common) = (random.happens(self.mismatch_ppm), exponential(random));
        let distance = f64::from(self.distance_ppm) / 1e6 * (0.3 + 0.7 * common);
        TokenStatistics {
            margin: if lost { 1 + (f64::from(self.margin) * common) as u32 } else { 0 },
            logprob: (f64::from(self.distance_ppm) / 500.0 * exponential(random) * common) as u32,
            sketch: Some((distance * distance * f64::from(1 << 20)) as u32),
        }
    }

    fn answers(self, count: u32, tokens: u32, random: &mut Random) -> Vec<Answer> {
        (0..count).map(|_| (0..tokens).map(|_| self.token(random)).collect()).collect()
    }
}

/// Evidence of audited answers: what the simulation draws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceSamples {
    /// Of honest answers.
    pub honest: Vec<Weighed>,
    /// Of answers from the cheaper model.
    pub cheap: Vec<Weighed>,
    /// The most that a lying guard can report for a miner.
    pub whitewash: Weighed,
}

/// Answers of each kind.
const SAMPLES: u32 = 2_048;

impl EvidenceSamples {
    /// Calibrates a profile on one set of answers and weighs others by it.
    ///
    /// # Errors
    /// When the cheaper model cannot be told from honest noise.
    pub fn draw(
        honest: NoiseModel,
        cheaper: NoiseModel,
        tokens: u32,
        clip_at: i32,
        seed: u64,
    ) -> Result<Self, Unseparable> {
        let mut random = Random::new(seed);
        let hash = |what: &str| keccak256(what.as_bytes());
        let pair = Pair { model: ModelId(hash("model")), miner_class: hash("miner"), guard_class: hash("guard") };
        let cheat = Cheat {
            name: "cheaper model".into(),
            charge: Charge::Computation,
            weak: false,
            answers: cheaper.answers(100, tokens, &mut random),
        };
        let known = honest.answers(300, tokens, &mut random);
        let profile = calibrate(pair, 1, &known, &[cheat], &Terms { clip: clip_at, ..Terms::default() })?;
        let mut weigh = |noise: NoiseModel| {
            let answers = (0..SAMPLES).map(|_| noise.answers(1, tokens, &mut random).remove(0));
            answers.map(|answer| weigh(&profile, &answer, clip_at)).collect::<Vec<_>>()
        };
        let (honest, cheap) = (weigh(honest), weigh(cheaper));
        Ok(Self { honest, cheap, whitewash: spotless(&profile.table(), tokens, clip_at) })
    }
}

fn weigh(profile: &Profile, answer: &Answer, clip_at: i32) -> Weighed {
    profile.table().clipped(&profile.edges().count(answer), clip_at)
}

/// All tokens in the bins that speak most for honesty.
fn spotless(table: &Table, tokens: u32, clip_at: i32) -> Weighed {
    let mut counts = Counts { tokens, ..Counts::default() };
    for (statistic, row) in counts.bins.iter_mut().enumerate() {
        let both = |bin: usize| -> i64 { table.ratios.iter().map(|ratios| i64::from(ratios[statistic][bin])).sum() };
        let least = (0..row.len()).min_by_key(|bin| both(*bin)).unwrap_or(0);
        row[least] = u16::try_from(tokens).unwrap_or(u16::MAX);
    }
    table.clipped(&counts, clip_at)
}
