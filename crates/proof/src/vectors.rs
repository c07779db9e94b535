//! Test vectors of the noise as text, for implementations in other languages.

use crate::gumbel::{Gumbel, StepKey, exponential_q64};
use alloy_primitives::keccak256;
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

fn first_word(bytes: &[u8]) -> u32 {
    let hash = keccak256(bytes);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}
