//! Rules of the sampler: against a slow implementation of the same rule, against the softmax distribution, and against
//! the files of test vectors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod evidence;
mod reference;
mod traces;

use alloy_primitives::{B256, keccak256};
use cortensor_proof::{SeededSampler, vectors};
use cortensor_protocol::{
    SamplingParams, Step, TokenId, TokenSampler,
    sampling::{Micro, SignedMicro},
};
use proptest::prelude::*;

fn seed(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

/// Logits around zero with a few high ones, from a fixed generator.
fn logits(count: usize, number: u64) -> Vec<f32> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..count).map(|_| (uniform() + uniform() + uniform() - 1.5) * 6.0).collect()
}

fn at<'a>(index: u32, logits: &'a mut [f32], output: &'a [TokenId]) -> Step<'a> {
    Step { index, logits, hidden: None, output }
}

fn micro(value: f64) -> Micro {
    Micro::from_f64(value).unwrap()
}

fn choose(params: &SamplingParams, seed: B256, step: u32, logits: &[f32], output: &[TokenId]) -> TokenId {
    SeededSampler::new(seed, params.clone(), 0).sample(at(step, &mut logits.to_vec(), output)).token
}

prop_compose! {
    fn any_logits()(
        base in prop::collection::vec(-12f32..12.0, 1..400),
        odd in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            f32::NEG_INFINITY, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN, 0.0, 12.0, 30.0, -5_000.0,
        ])), 0..6),
        // Equal logits by the dozen, so that ties are met.
        coarse in any::<bool>(),
    ) -> Vec<f32> {
        let mut logits = base;
        if coarse {
            logits.iter_mut().for_each(|logit| *logit = logit.round());
        }
        for (index, value) in odd {
            let position = index.index(logits.len());
            logits[position] = value;
        }
        logits
    }
}

prop_compose! {
    fn any_params()(
        temperature in prop_oneof![Just(0u32), Just(1), 1u32..3_000_000, Just(u32::MAX)],
        top_k in prop_oneof![Just(0u32), 1u32..50, Just(u32::MAX)],
        top_p in prop_oneof![Just(1_000_000u32), 0u32..1_000_000, Just(u32::MAX)],
        min_p in prop_oneof![Just(0u32), 0u32..1_000_000, Just(u32::MAX)],
        presence in prop_oneof![Just(0i32), -2_000_000i32..2_000_000, Just(i32::MIN)],
        frequency in prop_oneof![Just(0i32), -2_000_000i32..2_000_000, Just(i32::MAX)],
        repeat in prop_oneof![Just(1_000_000u32), 0u32..2_000_000, Just(u32::MAX)],
        bias in prop::collection::vec((0u32..420, prop_oneof![-9_000_000i32..9_000_000, Just(i32::MIN)]), 0..5),
    ) -> SamplingParams {
        SamplingParams {
            temperature: Micro(temperature),
            top_k,
            top_p: Micro(top_p),
            min_p: Micro(min_p),
            presence_penalty: SignedMicro(presence),
            frequency_penalty: SignedMicro(frequency),
            repeat_penalty: Micro(repeat),
            logit_bias: bias.into_iter().map(|(token, bias)| (token, SignedMicro(bias))).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_fast_sampler_chooses_as_the_rule_says(
        logits in any_logits(), params in any_params(), number in any::<u64>(), step in any::<u32>(),
        output in prop::collection::vec(0u32..420, 0..12),
    ) {
        let expect = reference::choose(&params, seed(number), step, &logits, &output);
        prop_assert_eq!(choose(&params, seed(number), step, &logits, &output), expect.unwrap_or(0));
    }

    #[test]
    fn a_sampler_that_goes_on_chooses_as_one_that_begins_there(
        params in any_params(), number in any::<u64>(), cut in 0usize..12,
    ) {
        let run = |sampler: &mut SeededSampler, output: &mut Vec<TokenId>, until: usize| {
            for step in output.len()..until {
                let mut logits = logits(300, number ^ step as u64);
                let token = sampler.sample(at(u32::try_from(step).unwrap(), &mut logits, output)).token;
                output.push(token);
            }
        };
        let new = || SeededSampler::new(seed(number), params.clone(), 0);
        let mut whole = vec![];
        run(&mut new(), &mut whole, 12);
        let mut parts = vec![];
        run(&mut new(), &mut parts, cut);
        run(&mut new(), &mut parts, 12);
        prop_assert_eq!(whole, parts);
    }
}

#[test]
fn the_rule_holds_on_a_large_vocabulary() {
    let logits = logits(50_257, 3);
    let cases = [
        SamplingParams { temperature: micro(0.7), ..SamplingParams::default() },
        SamplingParams { temperature: micro(1.5), ..SamplingParams::default() },
        SamplingParams { top_k: 40, ..SamplingParams::default() },
        SamplingParams { top_p: micro(0.9), ..SamplingParams::default() },
        SamplingParams { top_k: 5_000, top_p: micro(0.5), min_p: micro(0.1), ..SamplingParams::default() },
    ];
    for params in cases {
        for step in 0..4 {
            let expect = reference::choose(&params, seed(9), step, &logits, &[]).unwrap();
            assert_eq!(choose(&params, seed(9), step, &logits, &[]), expect, "{params:?} {step}");
        }
    }
}

/// Pearson's statistic of many choices against the softmax of what may be chosen; the seed is fixed, so the test is not
/// a matter of luck.
fn check_distribution(params: &SamplingParams, kept: &[usize], logits: &[f32]) {
    const CHOICES: u32 = 20_000;
    let temperature = f64::from(params.temperature.0) / 1e6;
    let weight = |token: &usize| (f64::from(logits[*token]) / temperature).exp();
    let total: f64 = kept.iter().map(weight).sum();
    let mut counts = vec![0u32; logits.len()];
    let mut sampler = SeededSampler::new(seed(2_026), params.clone(), 0);
    let mut copy = logits.to_vec();
    for step in 0..CHOICES {
        counts[sampler.sample(at(step, &mut copy, &[])).token as usize] += 1;
    }
    assert_eq!(kept.iter().map(|token| counts[*token]).sum::<u32>(), CHOICES, "a token outside was chosen");
    let statistic: f64 = kept
        .iter()
        .map(|token| {
            let expect = f64::from(CHOICES) * weight(token) / total;
            (f64::from(counts[*token]) - expect).powi(2) / expect
        })
        .sum();
    // Mean + 4 standard deviations of a chi-square variable with so many degrees of freedom.
    let freedom = kept.len() as f64 - 1.0;
    assert!(statistic < freedom + 4.0 * (2.0 * freedom).sqrt(), "{statistic} at {freedom} degrees of freedom");
}

#[test]
fn choices_follow_the_softmax_distribution_of_what_is_kept() {
    // Probabilities that fall slowly, in mixed order, so that every token is met often enough.
    let logits: Vec<f32> = (0..30u8).map(|rank| -f32::from(rank * 7 % 30) * 0.1).collect();
    let mut order: Vec<usize> = (0..30).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let base = SamplingParams::default;
    check_distribution(&base(), &order, &logits);
    check_distribution(&SamplingParams { temperature: micro(0.7), ..base() }, &order, &logits);
    check_distribution(&SamplingParams { temperature: micro(1.8), ..base() }, &order, &logits);
    check_distribution(&SamplingParams { top_k: 10, ..base() }, &order[..10], &logits);
    // min-p 0.5: within ln 2 = 0.693 of the best, so ranks 0 to 6.
    check_distribution(&SamplingParams { min_p: micro(0.5), ..base() }, &order[..7], &logits);
    // top-p 0.5: 1 − e^(−0.1 n) over 1 − e^(−3) reaches a half at n = 7 (0.530), not at 6 (0.475).
    check_distribution(&SamplingParams { top_p: micro(0.5), ..base() }, &order[..7], &logits);
}

#[test]
fn log_probabilities_are_the_models_own_whatever_the_parameters() {
    let params = SamplingParams { temperature: micro(0.1), top_k: 1, ..SamplingParams::default() };
    let mut logits = vec![0.0, 1.0, f32::NEG_INFINITY, 2.0];
    let sampled = SeededSampler::new(seed(1), params, 9).sample(at(0, &mut logits, &[]));
    let total = (0f32.exp() + 1f32.exp() + 2f32.exp()).ln();
    assert_eq!(sampled.token, 3);
    assert!((sampled.logprob.nats() - (2.0 - total)).abs() < 1.0 / 1_024.0);
    let top: Vec<_> = sampled.top.iter().map(|(token, logprob)| (*token, logprob.nats())).collect();
    assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [3, 1, 0]);
    assert!((top[2].1 + total).abs() < 1.0 / 1_024.0);
}

#[test]
fn nothing_to_choose_from_is_not_a_panic() {
    for logits in [vec![], vec![f32::NEG_INFINITY; 3], vec![f32::NAN; 100]] {
        let sampled = SeededSampler::new(seed(1), SamplingParams::default(), 5).sample(at(0, &mut logits.clone(), &[]));
        assert_eq!((sampled.token, sampled.logprob.0), (0, i16::MIN));
    }
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let params = SamplingParams { temperature: Micro(0), ..SamplingParams::default() };
    assert_eq!(choose(&params, seed(1), 0, &[1.0, 3.0, 3.0, 2.0], &[]), 1);
}

#[test]
fn penalties_follow_their_definitions() {
    let greedy = SamplingParams { temperature: Micro(0), ..SamplingParams::default() };
    let check = |change: &dyn Fn(&mut SamplingParams), logits: &[f32], output: &[TokenId], expect| {
        let mut params = greedy.clone();
        change(&mut params);
        assert_eq!(choose(&params, seed(1), u32::try_from(output.len()).unwrap(), logits, output), expect);
    };
    let one = SignedMicro(1_000_000);
    check(&|p| p.presence_penalty = one, &[2.0, 1.1], &[0, 0, 0], 1);
    check(&|p| p.presence_penalty = one, &[2.0, 0.9], &[0, 0, 0], 0);
    check(&|p| p.frequency_penalty = one, &[2.0, 0.9], &[0, 0, 0], 1);
    check(&|p| p.repeat_penalty = Micro(2_000_000), &[2.0, 1.1], &[0], 1);
    check(&|p| p.repeat_penalty = Micro(2_000_000), &[-2.0, -3.9], &[0], 1);
    check(&|p| p.logit_bias = vec![(1, one), (99, one)], &[2.0, 1.1], &[], 1);
}

#[test]
fn the_files_of_test_vectors_agree() {
    assert_eq!(include_str!("../vectors/gumbel.csv"), vectors::gumbel());
    assert_eq!(include_str!("../vectors/bits.csv"), vectors::bits());
    assert_eq!(include_str!("../vectors/contradictions.csv"), vectors::contradictions());
    assert_eq!(vectors::gumbel().lines().count(), 1 + vectors::GUMBEL_VECTORS as usize);
}
