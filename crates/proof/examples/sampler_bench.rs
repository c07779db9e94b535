//! Prints the microseconds that one choice takes at a vocabulary of 150,000, for common settings. An argument picks the
//! settings whose name contains it.

use alloy_primitives::B256;
use cortensor_proof::SeededSampler;
use cortensor_protocol::{SamplingParams, Step, TokenSampler, sampling::Micro};
use std::{hint::black_box, time::Instant};

const VOCABULARY: usize = 150_000;
const STEPS: u32 = 200;

/// Logits as language models give them: a bulk around zero, a few high ones. Sum of uniforms, from a fixed generator.
fn logits() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let mut logits: Vec<f32> = (0..VOCABULARY).map(|_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0) * 2.5).collect();
    for (rank, logit) in (0u8..40).zip(logits.iter_mut().step_by(3_701)) {
        *logit = 18.0 - f32::from(rank) * 0.25;
    }
    logits
}

#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn main() {
    let base = SamplingParams::default;
    let micro = |value| Micro::from_f64(value).expect("a constant within the range");
    let cases = [
        ("greedy", SamplingParams { temperature: Micro(0), ..base() }, 0),
        ("T 1", base(), 0),
        ("T 0.7", SamplingParams { temperature: micro(0.7), ..base() }, 0),
        ("T 0.7, 20 alternatives", SamplingParams { temperature: micro(0.7), ..base() }, 20),
        ("T 0.7, top-k 40", SamplingParams { temperature: micro(0.7), top_k: 40, ..base() }, 0),
        ("T 1, top-p 0.95", SamplingParams { top_p: micro(0.95), ..base() }, 0),
        (
            "T 0.8, top-k 40, top-p 0.95, min-p 0.05",
            SamplingParams { temperature: micro(0.8), top_k: 40, top_p: micro(0.95), min_p: micro(0.05), ..base() },
            0,
        ),
        ("T 1, min-p 0.05", SamplingParams { min_p: micro(0.05), ..base() }, 0),
    ];
    let logits = logits();
    let picked = std::env::args().nth(1).unwrap_or_default();
    for (name, params, alternatives) in cases.into_iter().filter(|(name, ..)| name.contains(&picked)) {
        let mut sampler = SeededSampler::new(B256::repeat_byte(7), params, alternatives);
        let mut copy = logits.clone();
        black_box(sampler.sample(Step { index: 0, logits: &mut copy, hidden: None, output: &[] }));
        let mut microseconds: Vec<f64> = (0..STEPS)
            .map(|step| {
                let begin = Instant::now();
                black_box(sampler.sample(Step {
                    index: step,
                    logits: black_box(&mut copy),
                    hidden: None,
                    output: &[],
                }));
                begin.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        // The median: other work on the machine lengthens some steps, and few of them.
        microseconds.sort_by(f64::total_cmp);
        println!("{:8.1} us  {name}", microseconds[microseconds.len() / 2]);
    }
}
