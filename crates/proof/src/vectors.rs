//! Test vectors of the noise and of contradictions as text, for implementations in other languages.

use crate::{
    contradiction,
    gumbel::{Gumbel, StepKey, exponential_q64},
};
use alloy_primitives::keccak256;
use cortensor_protocol::{
    Evidence, LogProb, SamplingParams, TraceToken,
    sampling::{Micro, Seed},
    trace::{encode_evidence, encode_tokens},
};
use std::fmt::Write as _;

/// Lines of [`gumbel`].
pub const GUMBEL_VECTORS: u32 = 10_000;

/// `x, −ln u with 64 fractional bits, g with 32 fractional bits`: the first two in hexadecimal, the last in decimal.
///
/// 2,000 values at either end of the range, where mistakes show, and the rest spread over it by a hash.
#[must_use]
pub fn gumbel() -> String {
    const EDGE: u32 = 2_000;
    let mut text = String::from("x,neg_ln_u_q64,gumbel_q32\n");
    for number in 0..GUMBEL_VECTORS {
        let x = match number {
            low if low < EDGE => low,
            high if high < 2 * EDGE => u32::MAX - (high - EDGE),
            other => first_word(&other.to_be_bytes()),
        };
        writeln!(text, "{x:08x},{:x},{}", exponential_q64(x), Gumbel::from_bits(x).0).expect("a string takes all text");
    }
    text
}

/// `seed, step, token, bits`: seed and bits in hexadecimal, the others in decimal.
#[must_use]
pub fn bits() -> String {
    const LINES: u32 = 500;
    let mut text = String::from("seed,step,token,bits\n");
    for number in 0..LINES {
        let seed = keccak256(number.to_be_bytes());
        let step = if number % 4 == 0 { number } else { first_word(&seed[..5]) };
        let token = first_word(&seed[..6]) >> 8 >> (number % 16);
        let bits = StepKey::derive(seed, step).bits(token);
        writeln!(text, "{seed:x},{step},{token},{bits:08x}").expect("a string takes all text");
    }
    text
}

/// `seed, step, temperature, top_k, top_p, min_p, record, other`: seed and record (33 bytes) in hexadecimal, parameters in
/// millionths, `other` the id of the alternative that should have been chosen instead, empty where there is none. Judged
/// with [`contradiction::TOLERANCE`].
#[must_use]
pub fn contradictions() -> String {
    const LINES: u32 = 1_000;
    let mut text = String::from("seed,step,temperature,top_k,top_p,min_p,record,other\n");
    for number in 0..LINES {
        let mut dice =
            Dice { seed: keccak256([b"contradiction".as_slice(), &number.to_be_bytes()].concat()), drawn: 0 };
        let params = dice.params();
        let (chosen, evidence) = dice.record();
        let (seed, step) = (dice.seed, dice.below(5_000));
        let found = contradiction::find(&params, seed, step, chosen, &evidence, contradiction::TOLERANCE);
        let record: String = [encode_tokens(&[chosen]), encode_evidence(&[evidence])]
            .concat()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let SamplingParams { temperature, top_k, top_p, min_p, .. } = params;
        let other = found.map(|id| id.to_string()).unwrap_or_default();
        writeln!(text, "{seed:x},{step},{},{top_k},{},{},{record},{other}", temperature.0, top_p.0, min_p.0)
            .expect("a string takes all text");
    }
    text
}

/// Numbers from a hash.
struct Dice {
    seed: Seed,
    drawn: u32,
}

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.drawn += 1;
        first_word(&[self.seed.as_slice(), &self.drawn.to_be_bytes()].concat()) % bound
    }

    fn pick(&mut self, from: &[u32]) -> u32 {
        let at = self.below(u32::try_from(from.len()).expect("a short list"));
        from[at as usize]
    }

    fn params(&mut self) -> SamplingParams {
        SamplingParams {
            temperature: Micro(self.pick(&[0, 1, 300_000, 700_000, 1_000_000, 1_000_000, 1_500_000, u32::MAX])),
            top_k: self.pick(&[0, 0, 0, 1, 2, 3, 5, 40]),
            top_p: Micro(self.pick(&[1_000_000, 1_000_000, 900_000])),
            min_p: Micro(self.pick(&[0, 0, 1, 20_000, 500_000, 1_000_000])),
            ..SamplingParams::default()
        }
    }

    fn record(&mut self) -> (TraceToken, Evidence) {
        let spread = self.pick(&[8, 600, 6_000]);
        let mut logprob = 0;
        let mut tokens = [TraceToken::NONE; 5];
        for (place, token) in (0u32..).zip(&mut tokens) {
            logprob -= i16::try_from(self.below(spread)).expect("below 6,000");
            *token = TraceToken { id: self.below(30_000) * 5 + place, logprob: LogProb(logprob) };
        }
        let place = self.pick(&[0, 0, 1, 2, 3, 4]) as usize;
        let chosen = tokens[place];
        let mut evidence = Evidence::NONE;
        let others = tokens.iter().filter(|token| token.id != chosen.id);
        let used = self.pick(&[4, 4, 4, 2, 0]) as usize;
        evidence.alternatives.iter_mut().zip(others).take(used).for_each(|(slot, token)| *slot = *token);
        (chosen, evidence)
    }
}

fn first_word(bytes: &[u8]) -> u32 {
    let hash = keccak256(bytes);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}
