//! The whole way from statistics to verdicts: calibration, profiles, the e-process and its bound.

use alloy_primitives::{B256, keccak256};
use cortensor_proof::{
    calibration::{Answer, Cheat, Terms, Unseparable, calibrate},
    evidence::{BINS, Charge, Statistic, Table, TokenStatistics},
    profile::{CheatSummary, Histogram, ONE, Pair, Parts, Profile, ProfileError, Scales},
    report,
    score::{Outcome, Policy, Score, State},
};
use cortensor_protocol::ModelId;
use proptest::prelude::*;

/// A fixed generator: the same samples everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between zero and one.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of an exponential distribution.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }
}

/// Noise of a machine: how often a token loses, by how much then, and how far the sketches lie apart.
#[derive(Clone, Copy)]
struct Noise {
    mismatch: f64,
    margin: f64,
    distance: f64,
}

const HONEST: Noise = Noise { mismatch: 0.025, margin: 20.0, distance: 0.006 };
const SWAPPED: Noise = Noise { mismatch: 0.2, margin: 150.0, distance: 0.1 };
/// Only the sampling differs.
const HOTTER: Noise = Noise { mismatch: 0.065, margin: 120.0, distance: 0.006 };

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn token(random: &mut Random, noise: Noise) -> TokenStatistics {
    let lost = random.share() < noise.mismatch;
    // One disturbance moves all three, as it does in a machine.
    let common = random.exponential(1.0);
    let distance = noise.distance * (0.3 + 0.7 * common);
    TokenStatistics {
        margin: if lost { 1 + (noise.margin * common) as u32 } else { 0 },
        logprob: (noise.distance * 2_000.0 * random.exponential(common)) as u32,
        sketch: Some((distance * distance * f64::from(1 << 20)) as u32),
    }
}

fn answers(count: u64, tokens: usize, noise: Noise, seed: u64) -> Vec<Answer> {
    let mut random = Random(seed);
    (0..count).map(|_| (0..tokens).map(|_| token(&mut random, noise)).collect()).collect()
}

fn cheats() -> Vec<Cheat> {
    let cheat = |name: &str, charge, noise| Cheat {
        name: name.into(),
        charge,
        weak: false,
        answers: answers(60, 128, noise, 7),
    };
    vec![
        cheat("Q5_K_M served as Q4_K_M", Charge::Computation, SWAPPED),
        cheat("T 0.8 instead of 0.7", Charge::Sampling, HOTTER),
    ]
}

fn pair() -> Pair {
    Pair { model: ModelId(keccak256("model")), miner_class: keccak256("avx2"), guard_class: keccak256("avx512") }
}

fn profile() -> Profile {
    calibrate(pair(), 1, &answers(300, 128, HONEST, 1), &cheats(), &Terms::default()).unwrap()
}

#[test]
fn honest_answers_speak_for_honesty_and_cheats_are_convicted_soon() {
    let profile = profile();
    let (edges, table) = (profile.edges(), profile.table());
    let bits = |charge: Charge, noise, seed| -> Vec<f64> {
        let weigh = |answer: &Answer| table.weigh(&edges.count(answer))[charge as usize] as f64 / 65_536.0;
        answers(200, 100, noise, seed).iter().map(weigh).collect()
    };
    let mean = |bits: &[f64]| bits.iter().sum::<f64>() / bits.len() as f64;
    for charge in Charge::ALL {
        let honest = bits(charge, HONEST, 100);
        // Honest computation is worth a fifth of a bit an answer at most, so that it clears nobody of the next.
        let least = if charge == Charge::Computation { -0.19 } else { -1.0 };
        assert!(mean(&honest) < least, "{}", mean(&honest));
        assert!(honest.iter().all(|bits| *bits < 7.0), "no honest answer alone makes anyone watched");
    }
    let swapped = bits(Charge::Computation, SWAPPED, 101);
    assert!(swapped.iter().all(|bits| *bits > 21.0), "a hundred tokens of another quantisation convict");
    let hotter = mean(&bits(Charge::Sampling, HOTTER, 102));
    assert!(hotter > 1.0, "a temperature adds up: {hotter}");
}

#[test]
fn a_machine_that_is_closer_than_the_calibrations_gathers_no_evidence() {
    // The cheats are simulated on the guard's own machine, the honest answers came from another build.
    let far = Noise { distance: 0.02, ..HONEST };
    let made = calibrate(pair(), 1, &answers(300, 128, far, 1), &cheats(), &Terms::default()).unwrap();
    let (edges, table) = (made.edges(), made.table());
    let equal = TokenStatistics { margin: 0, logprob: 0, sketch: Some(0) };
    let sums = table.sums(&edges.count(&[equal]));
    assert!(sums.iter().all(|sum| *sum <= 0), "{sums:?}");
    // Only the noise of sampling tells this honest machine from the cheat.
    let closer = answers(200, 100, HONEST, 3)
        .iter()
        .map(|answer| table.sums(&edges.count(answer)))
        .fold([0; 2], |all, sums| [all[0] + sums[0], all[1] + sums[1]]);
    assert!(closer.iter().all(|sum| *sum < 0), "{closer:?}");
}

/// In each row of a charge's table, the distribution inside the honest bounds that weighs most, as (probability, ratio), heaviest first.
fn worst_rows(profile: &Profile, charge: Charge) -> [Vec<(f64, f64)>; 3] {
    let table = profile.table();
    Statistic::ALL.map(|statistic| {
        let row = statistic as usize;
        let histogram = &profile.parts().histograms[row];
        let mut bins: Vec<usize> = (0..BINS).collect();
        bins.sort_by_key(|bin| std::cmp::Reverse(table.ratios[charge as usize][row][*bin]));
        let mut left = 1.0f64;
        let mut worst = Vec::new();
        for bin in bins {
            let share = (f64::from(histogram.bound[bin]) / f64::from(ONE)).min(left);
            left -= share;
            worst.push((share, f64::from(table.ratios[charge as usize][row][bin]) / 65_536.0));
        }
        worst
    })
}

/// The ratios of a token whose three statistics are all at this quantile, counted from the heaviest.
fn at_quantile(rows: &[Vec<(f64, f64)>; 3], quantiles: [f64; 3]) -> f64 {
    let pick = |(row, quantile): (&Vec<(f64, f64)>, f64)| {
        let mut left = quantile;
        let heavier = row.iter().find(|(share, _)| {
            left -= share;
            left < 0.0
        });
        heavier.or(row.last()).unwrap().1
    };
    rows.iter().zip(quantiles).map(pick).sum()
}

#[test]
fn the_expected_ratio_is_at_most_one_for_the_worst_honest_machine() {
    for charge in Charge::ALL {
        expected_ratio_is_at_most_one(&worst_rows(&profile(), charge));
    }
}

fn expected_ratio_is_at_most_one(rows: &[Vec<(f64, f64)>; 3]) {
    // All three move together: nothing weighs more. Exact, by cutting where any of the three changes bins.
    let mut cuts: Vec<f64> = vec![0.0, 1.0];
    for row in rows {
        cuts.extend(row.iter().scan(0.0, |sum, (share, _)| {
            *sum += share;
            Some(*sum)
        }));
    }
    cuts.sort_by(f64::total_cmp);
    let together: f64 = cuts
        .windows(2)
        .map(|cut| (cut[1] - cut[0]) * at_quantile(rows, [f64::midpoint(cut[0], cut[1]); 3]).exp2())
        .sum();
    assert!(together <= 1.0 && together > 0.5, "{together}");
    // Any other dependence: quantiles that are shifted against each other.
    let mut random = Random(5);
    for _ in 0..50 {
        let shifts = [0.0, random.share(), random.share()];
        let points = 40_000;
        let sum: f64 = (0..points)
            .map(|i| at_quantile(rows, shifts.map(|shift| (f64::from(i) / f64::from(points) + shift).fract())).exp2())
            .sum();
        assert!(sum / f64::from(points) <= 1.0 + 1e-3, "{shifts:?}: {sum}");
    }
}

/// Of many runs, how many ever reach the level: tokens of the worst honest machine, `extra` bits heavier each.
fn runs_that_reach(level_bits: f64, temper: f64, extra: f64, runs: u32) -> u32 {
    let rows = worst_rows(&profile(), Charge::Sampling);
    // A table by quantile, so that a draw is a look-up.
    let points = 1 << 14;
    let draw: Vec<f64> = (0..points)
        .map(|i| temper * (at_quantile(&rows, [(f64::from(i) + 0.5) / f64::from(points); 3]) + extra))
        .collect();
    let mut random = Random(11);
    (0..runs)
        .map(|_| {
            let (mut sum, mut most) = (0.0f64, 0.0f64);
            for _ in 0..3_000 {
                sum += draw[usize::try_from(random.next() >> 50).unwrap()];
                most = most.max(sum);
            }
            u32::from(most >= level_bits)
        })
        .sum()
}

/// Ville: an honest miner's e-process ever reaches 100 with a probability of at most one in a hundred.
#[test]
fn honest_evidence_stays_below_villes_bound() {
    let level = 100f64.log2();
    // 5,000 runs; 50 are allowed on average, 71 is three standard deviations above.
    let untempered = runs_that_reach(level, 1.0, 0.0, 5_000);
    assert!(untempered <= 71, "{untempered} of 5000");
    assert!(runs_that_reach(level, 0.5, 0.0, 5_000) <= untempered);
    // The same runs notice ratios that are only slightly too heavy.
    assert!(runs_that_reach(level, 1.0, 1.0, 5_000) > 71);
}

#[test]
fn a_cheat_after_long_honesty_is_suspended_within_a_few_audits() {
    let (profile, policy) = (profile(), Policy::default());
    let (edges, table) = (profile.edges(), profile.table());
    let mut score = Score::default();
    let audit = |score: &mut Score, answer: &Answer| {
        let evidence = table.clipped(&edges.count(answer), 16 << 16);
        let worse = score.state_after(&policy, evidence, false) > score.state;
        score.record(&policy, &Outcome { evidence, tokens: 100, hard: false, may_convict: worse });
    };
    for answer in answers(5_000, 100, HONEST, 21) {
        audit(&mut score, &answer);
        assert_eq!(score.state, State::Good);
    }
    assert!(score.evidence[0] < -900 * 65_536 && score.evidence[1] < -5_000 * 65_536, "{:?}", score.evidence);
    let mut audits = 0;
    for answer in answers(20, 100, SWAPPED, 22) {
        audit(&mut score, &answer);
        audits += 1;
        if score.state == State::Slashed {
            break;
        }
    }
    assert_eq!((audits, score.state), (3, State::Slashed), "three times sixteen bits exceed forty");
}

#[test]
fn pairs_that_cannot_be_told_apart_are_refused_with_the_reason() {
    let terms = Terms::default();
    let honest = answers(250, 64, HONEST, 1);
    let try_with = |honest: &[Answer], cheats: &[Cheat]| calibrate(pair(), 1, honest, cheats, &terms).unwrap_err();
    assert_eq!(try_with(&honest[..100], &cheats()), Unseparable::TooFew { answers: 100, least: 200 });
    assert_eq!(try_with(&honest, &[]), Unseparable::NoCheats);
    let noisy = answers(250, 64, Noise { mismatch: 0.12, ..HONEST }, 1);
    assert!(matches!(try_with(&noisy, &cheats()), Unseparable::Mismatch { ppm: 100_000..140_000, most: 80_000 }));
    let near = Noise { mismatch: 0.025, margin: 22.0, distance: 0.0066 };
    let mut close = Cheat {
        name: "KV cache in q8_0".into(),
        charge: Charge::Computation,
        weak: false,
        answers: answers(60, 128, near, 3),
    };
    let refused = try_with(&honest, &[cheats(), vec![close.clone()]].concat());
    assert!(matches!(&refused, Unseparable::TooClose { name, .. } if name == "KV cache in q8_0"), "{refused}");
    close.weak = true;
    let cheats = [cheats(), vec![close]].concat();
    let accepted = calibrate(pair(), 1, &honest, &cheats, &terms).unwrap();
    assert!(report::table(&accepted).contains("KV cache in q8_0 (weak)"));
}

/// One answer in twenty is noisy throughout, so its tokens are no independent witnesses.
#[test]
fn dependent_answers_lower_the_temper_or_are_refused() {
    let mut honest = answers(285, 128, HONEST, 1);
    honest.extend(answers(15, 128, Noise { mismatch: 0.3, margin: 300.0, distance: 0.2 }, 2));
    let far = Noise { mismatch: 0.5, margin: 400.0, distance: 0.3 };
    let cheat = Cheat {
        name: "another model".into(),
        charge: Charge::Computation,
        weak: false,
        answers: answers(60, 128, far, 7),
    };
    let lowered = calibrate(pair(), 1, &honest, &[cheat], &Terms::default());
    let temper = lowered.map(|profile| profile.parts().temper_ppm[Charge::Computation as usize]);
    assert!(matches!(temper, Ok(60_000..1_000_000) | Err(Unseparable::Dependent { .. })), "{temper:?}");
    assert_eq!(profile().parts().temper_ppm, [1_000_000; 2], "independent ones keep it");
}

#[test]
fn an_exact_pair_needs_no_noise_to_compare_with() {
    let silent = vec![vec![TokenStatistics { sketch: Some(0), ..TokenStatistics::default() }; 64]; 200];
    let profile = calibrate(pair(), 1, &silent, &cheats(), &Terms::default()).unwrap();
    assert_eq!(profile.honest_mismatch_ppm(), 0);
    assert!(profile.parts().cheats.iter().all(|cheat| cheat.drift > 0 && cheat.separation_milli == u32::MAX));
}

#[test]
fn a_guard_without_sketches_calibrates_on_what_it_has() {
    let blind = |answers: Vec<Answer>| -> Vec<Answer> {
        let strip = |token: TokenStatistics| TokenStatistics { sketch: None, ..token };
        answers.into_iter().map(|answer| answer.into_iter().map(strip).collect()).collect()
    };
    let cheat = |cheat: Cheat| Cheat { answers: blind(cheat.answers), ..cheat };
    let cheats: Vec<_> = cheats().into_iter().map(cheat).collect();
    let profile = calibrate(pair(), 1, &blind(answers(300, 128, HONEST, 1)), &cheats, &Terms::default()).unwrap();
    for ratios in profile.table().ratios {
        let sketch = ratios[Statistic::Sketch as usize];
        assert!(sketch.iter().all(|ratio| *ratio < 0), "what was never seen convicts nobody: {sketch:?}");
    }
}

/// A small profile made by hand, so that its bytes depend on nothing else.
fn by_hand() -> Parts {
    let histogram = Histogram {
        edges: std::array::from_fn(|edge| 1 << edge),
        honest: std::array::from_fn(|bin| if bin == 0 { 970 } else { 2 }),
        bound: std::array::from_fn(|bin| if bin == 0 { ONE } else { ONE / 100 }),
    };
    let scales = Scales { weights_ppm: [400_000, 300_000, 300_000], cheat: [[ONE / 16; BINS]; 3] };
    let cheat = |name: &str, weak| CheatSummary {
        name: name.into(),
        charge: if weak { Charge::Computation } else { Charge::Sampling },
        weak,
        mismatch_ppm: 200_000,
        separation_milli: 12_345,
        drift: -7,
    };
    Parts {
        pair: Pair {
            model: ModelId(B256::repeat_byte(1)),
            miner_class: B256::repeat_byte(2),
            guard_class: B256::repeat_byte(3),
        },
        version: 4,
        temper_ppm: [500_000, 250_000],
        hard_margin: 1 << 14,
        answers: 10,
        tokens: 1_000,
        histograms: [histogram; 3],
        charges: [scales, Scales { weights_ppm: [600_000, 300_000, 0], ..scales }],
        cheats: vec![cheat("KV cache", true), cheat("Q4_0", false)],
    }
}

/// The encoding and the table are part of the protocol.
#[test]
fn golden_profile() {
    let profile = Profile::new(by_hand()).unwrap();
    let bytes = profile.encode();
    assert_eq!(bytes.len(), 1 + 96 + 24 + 3 * 47 * 4 + 2 * (3 + 48) * 4 + 1 + (1 + 8 + 14) + (1 + 4 + 14));
    assert_eq!(hex::encode(&bytes[97..125]), "000000040007a1200003d090000040000000000a000003e800000001");
    assert_eq!(
        profile.content_hash().to_string(),
        "0x671bde4ef53c7c352b73a4524e43b91e419c2c4dfb5a1d024d943c652edc2c01"
    );
    let Table { ratios } = profile.table();
    assert_eq!((ratios[0][0][0], ratios[0][2][15]), (-52_429, 25_990));
    assert_eq!((ratios[1][0][0], ratios[1][2][15]), (-39_322, 0));
    assert_eq!(Profile::decode(&bytes), Ok(profile));
}

#[test]
fn malformed_profiles_are_refused() {
    let bytes = Profile::new(by_hand()).unwrap().encode();
    for end in 0..bytes.len() {
        assert_eq!(Profile::decode(&bytes[..end]), Err(ProfileError::Truncated), "{end}");
    }
    assert_eq!(Profile::decode(&[bytes.as_slice(), &[0]].concat()), Err(ProfileError::Trailing(1)));
    assert_eq!(Profile::decode(&[&[1], &bytes[1..]].concat()), Err(ProfileError::Format(1)));
    let check = |change: &dyn Fn(&mut Parts), why: &str| {
        let mut parts = by_hand();
        change(&mut parts);
        let error = Profile::new(parts).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    check(&|p| p.version = 0, "versions begin at 1");
    check(&|p| p.temper_ppm[0] = 1_000_001, "temper");
    check(&|p| p.temper_ppm[1] = 0, "temper");
    check(&|p| p.tokens = 1_001, "margin: its counts");
    check(&|p| p.charges[0].weights_ppm[1] = 300_001, "weights");
    check(&|p| p.charges[1].weights_ppm = [u32::MAX; 3], "weights");
    check(&|p| p.answers = 0, "honest tokens");
    check(&|p| p.hard_margin = (1 << 14) - 1, "hard margin");
    check(&|p| p.histograms[1].edges[3] = 4, "log-probability: its edges");
    check(&|p| p.histograms[2].edges[0] = 0, "sketch: its edges");
    check(&|p| p.histograms[2].bound[5] = ONE / 1_000, "sketch: a bound is below");
    check(&|p| p.charges[0].cheat[0][5] = 0, "probabilities");
    check(&|p| p.charges[1].cheat[0][5] = ONE / 8, "probabilities");
    check(&|p| p.cheats.clear(), "no cheat");
    check(&|p| p.cheats.swap(0, 1), "order");
    check(&|p| p.cheats[0].name = "a\nb".into(), "printable");
    check(&|p| p.cheats[0].mismatch_ppm = 1_000_001, "more tokens");
    check(&|p| p.histograms[0].edges = p.histograms[0].edges.map(|edge| edge + 1), "tokens that win");
}

proptest! {
    #[test]
    fn what_is_decoded_encodes_to_itself(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0usize..4) {
        let mut bytes = Profile::new(by_hand()).unwrap().encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(bytes.len() - cut);
        if let Ok(profile) = Profile::decode(&bytes) {
            prop_assert_eq!(profile.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
        prop_assert!(Profile::decode(&bytes).is_err());
    }
}

#[test]
fn reports_show_every_cheat_and_the_plot_is_well_formed() {
    let profile = profile();
    let table = report::table(&profile);
    assert!(
        table.contains("honest") && table.contains("Q5_K_M served as Q4_K_M") && !table.contains("never"),
        "{table}"
    );
    let plot = report::plot(&profile);
    assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"));
    assert_eq!(plot.matches("<text").count(), plot.matches("</text>").count());
    assert_eq!(plot.matches("<rect").count(), 1 + 3 * 3 * BINS);
    assert!(plot.len() < 20_000, "{}", plot.len());
}
