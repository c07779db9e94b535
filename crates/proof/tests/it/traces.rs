//! Recording, contradictions and replay, over random logits and parameters.

use crate::{any_logits, any_params, at, micro, seed};
use cortensor_proof::{Replayer, SeededSampler, contradiction};
use cortensor_protocol::{
    SamplingParams, Step, TokenId, TokenSampler, TraceToken,
    sampling::{Micro, SignedMicro},
    trace::{self, Evidence, NO_TOKEN},
};
use proptest::prelude::*;

/// Draws one token and returns the record that was kept of it.
fn record(params: &SamplingParams, number: u64, step: u32, logits: &[f32]) -> (TraceToken, Evidence) {
    let (mut sampler, recording) = SeededSampler::recording(seed(number), params.clone(), 0);
    let output = vec![0; step as usize];
    let sampled = sampler.sample(at(step, &mut logits.to_vec(), &output));
    let [(token, evidence)] = recording.take()[..] else { panic!("one step makes one record") };
    assert_eq!((token.id, token.logprob), (sampled.token, sampled.logprob));
    (token, evidence)
}

fn contradicts(params: &SamplingParams, number: u64, step: u32, record: (TraceToken, Evidence)) -> Option<TokenId> {
    contradiction::find(params, seed(number), step, record.0, &record.1, contradiction::TOLERANCE)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_honest_record_is_canonical_and_never_convicts(
        params in any_params(), logits in any_logits(), number in any::<u64>(), step in 0u32..3, plain in any::<bool>(),
    ) {
        let Micro(temperature) = params.temperature;
        let truncated = SamplingParams {
            temperature: Micro(temperature), top_k: params.top_k, top_p: params.top_p, min_p: params.min_p,
            ..SamplingParams::default()
        };
        let params = if plain { truncated } else { params };
        let (token, evidence) = record(&params, number, step, &logits);
        prop_assert_eq!(trace::check(&[token], &[evidence]), Ok(()));
        prop_assert_eq!(contradicts(&params, number, step, (token, evidence)), None);
    }

    #[test]
    fn a_replay_of_an_honest_token_finds_nothing(
        params in any_params(), logits in any_logits(), number in any::<u64>(),
    ) {
        let (token, evidence) = record(&params, number, 0, &logits);
        let (mut replayer, findings) = Replayer::new(seed(number), params, vec![token.id]);
        replayer.sample(at(0, &mut logits.clone(), &[]));
        let [finding] = findings.take()[..] else { panic!("one step makes one finding") };
        prop_assert_eq!(finding.margin, 0);
        prop_assert_eq!((finding.token, finding.evidence), (token, evidence));
    }

    #[test]
    fn any_other_token_loses_something(
        params in any_params(), logits in any_logits(), number in any::<u64>(), other in any::<prop::sample::Index>(),
    ) {
        let (token, _) = record(&params, number, 0, &logits);
        let other = u32::try_from(other.index(logits.len())).unwrap();
        prop_assume!(other != token.id);
        let (mut replayer, findings) = Replayer::new(seed(number), params, vec![other]);
        replayer.sample(at(0, &mut logits.clone(), &[]));
        let finding = findings.take()[0];
        prop_assert!(finding.margin > 0 && finding.winner == token.id, "{finding:?}");
    }
}

/// Whatever a machine's noise of ε does the margin stays below 2 ε, and below 4 ε at the edge of a truncation, where the order of
/// the tokens before it changes as well.
#[test]
fn margins_stay_near_the_noise_also_at_the_edges() {
    let truncations = [
        SamplingParams::default(),
        SamplingParams { top_p: micro(0.9), ..SamplingParams::default() },
        SamplingParams { top_k: 5, ..SamplingParams::default() },
        SamplingParams { min_p: micro(0.05), ..SamplingParams::default() },
        SamplingParams { top_k: 20, top_p: micro(0.8), temperature: micro(0.7), ..SamplingParams::default() },
        SamplingParams { temperature: Micro(0), ..SamplingParams::default() },
    ];
    let noise = 0.02f32;
    for params in &truncations {
        let mut mismatches = 0;
        for number in 0..3_000u64 {
            let logits: Vec<f32> = spread(number).iter().map(|logit| logit * 0.4).collect();
            let other = spread(number + 1_000_000);
            let largest = other.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let noisy: Vec<f32> = logits.iter().zip(&other).map(|(a, b)| a + noise * b / largest).collect();
            let (token, _) = record(params, number, 0, &noisy);
            let (mut replayer, findings) = Replayer::new(seed(number), params.clone(), vec![token.id]);
            replayer.sample(at(0, &mut logits.clone(), &[]));
            let finding = findings.take()[0];
            mismatches += u32::from(finding.margin > 0);
            // Two units for rounding up and for what lies beyond the reach of noise.
            let most = if params.top_p < Micro::ONE { 4.0 * noise } else { 2.0 * noise };
            assert!(f64::from(finding.margin) <= f64::from(most) * 1_024.0 + 2.0, "{params:?} {number}: {finding:?}");
        }
        assert!(mismatches > 3, "{params:?}: {mismatches} say nothing");
    }
}

fn spread(number: u64) -> Vec<f32> {
    crate::logits(400, number)
}

#[test]
fn a_wrong_seed_or_temperature_convicts_itself() {
    for (params, least) in [
        (SamplingParams::default(), 150),
        (SamplingParams { temperature: micro(0.3), ..SamplingParams::default() }, 300),
        (SamplingParams { top_p: micro(0.9), ..SamplingParams::default() }, 40),
    ] {
        let found = (0..1_000).filter(|&number| {
            contradicts(&params, number + 1_000_000, 0, record(&params, number, 0, &spread(number))).is_some()
        });
        let found = found.count();
        assert!(found >= least, "{params:?}: {found}");
    }
    let cold = SamplingParams { temperature: Micro(0), ..SamplingParams::default() };
    let mut convicted = 0;
    for number in 0..200 {
        let warm = record(&SamplingParams::default(), number, 0, &spread(number));
        let (chosen, best) = (warm.0.logprob.0, warm.1.alternatives[0].logprob.0);
        let found = contradicts(&cold, number, 0, warm);
        assert_eq!(found.is_some(), best - chosen > 4, "{warm:?}");
        convicted += u32::from(found.is_some());
    }
    assert!((1..200).contains(&convicted), "{convicted}");
}

#[test]
fn what_a_record_cannot_tell_is_not_held_against_it() {
    let honest = SamplingParams::default();
    let number = (0..).find(|&n| contradicts(&honest, n + 9, 0, record(&honest, n, 0, &spread(n))).is_some()).unwrap();
    let caught = record(&honest, number, 0, &spread(number));
    let params = |change: fn(&mut SamplingParams)| {
        let mut params = honest.clone();
        change(&mut params);
        contradicts(&params, number + 9, 0, caught)
    };
    assert!(params(|_| ()).is_some());
    assert_eq!(params(|p| p.presence_penalty = SignedMicro(1)), None);
    assert_eq!(params(|p| p.frequency_penalty = SignedMicro(1)), None);
    assert_eq!(params(|p| p.repeat_penalty = Micro(1_100_000)), None);
    assert_eq!(params(|p| p.logit_bias = vec![(1, SignedMicro(5))]), None);
    let nameless = (TraceToken { id: NO_TOKEN, ..caught.0 }, caught.1);
    assert_eq!(contradicts(&honest, number + 9, 0, nameless), None);
}

#[test]
fn hidden_states_reach_the_record_and_the_finding() {
    let hidden: Vec<f32> = (0u8..64).map(|j| f32::from(j) - 31.0).collect();
    let mut logits = spread(1);
    let (mut sampler, recording) = SeededSampler::recording(seed(1), SamplingParams::default(), 0);
    assert!(sampler.wants_hidden());
    let step = Step { index: 0, logits: &mut logits, hidden: Some(&hidden), output: &[] };
    let token = sampler.sample(step).token;
    let (_, evidence) = recording.take()[0];
    let (mut replayer, findings) = Replayer::new(seed(1), SamplingParams::default(), vec![token]);
    replayer.sample(Step { index: 0, logits: &mut spread(1), hidden: Some(&hidden), output: &[] });
    let finding = findings.take()[0];
    assert_eq!(finding.sketch_distance_q20(&evidence), Some(0));
    assert_eq!(finding.sketch_distance_q20(&Evidence::NONE), None);
}
