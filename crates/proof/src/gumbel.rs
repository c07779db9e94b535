//! The seeded noise: a Gumbel variate per token and step, in integers.
//!
//! * Step key: K = keccak256(seed ‖ step), the step as u32 big endian.
//! * K is read as eight u32, big endian, K0 … K7. Token `id` has the Philox4x32-10 block with key (K0, K1) and counter
//!   (⌊id / 4⌋, K2, K3, K4), and within it the word x with number id mod 4. So 160 bits of K are in use.
//! * u = (x + ½) / 2³², E = −ln u, g = −ln E, with [`crate::fixed::ln_q64`]:
//!   E = −ln_q64(2x + 1, 33), with 64 fractional bits; g = ⌊−ln_q64(E, 64) / 2³²⌋, with 32 fractional bits.
//!
//! |error| of g is below 2⁻²⁴; −3.13 < g < 22.88.

use crate::{
    fixed::{LN_2_Q64, ln_q64},
    philox::{philox4x32, philox4x32_blocks},
};
use alloy_primitives::{B256, keccak256};
use cortensor_protocol::{TokenId, sampling::Seed};

/// A Gumbel variate, or a difference of scores, in nats with 32 fractional bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gumbel(pub i64);

impl Gumbel {
    /// The noise of 32 random bits.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "between -3.13 and 22.88, so 37 bits")]
    pub fn from_bits(x: u32) -> Self {
        Self((-ln_q64(exponential_q64(x), 64) >> 32) as i64)
    }

    /// No noise is above this.
    pub const MAX: Self = Self::bound(33);

    /// No noise is below this (−3.13 rounded away from zero).
    pub const MIN: Self = Self(-(13_443_300_000));

    /// So many times ln 2, rounded up by more than the error of a variate.
    #[expect(clippy::cast_possible_truncation, reason = "ln 2 with 32 fractional bits has 32 bits")]
    const fn bound(multiples_of_ln2: u32) -> Self {
        const LN_2_Q32: i64 = (LN_2_Q64 >> 32) as i64;
        Self(multiples_of_ln2 as i64 * LN_2_Q32 + 1_024)
    }

    /// The most that the noise of bits with so many leading ones can be: with y = 2³² − 1 − x,
    /// E = −ln u > 1 − u = (y + ½) / 2³², hence g < 32·ln 2 − ln(y + ½) ≤ (leading ones + 1) · ln 2.
    #[must_use]
    pub const fn at_most(leading_ones: u32) -> Self {
        Self::bound(leading_ones + 1)
    }
}

/// −ln((x + ½) / 2³²) with 64 fractional bits: an exponential variate; always positive.
#[must_use]
pub fn exponential_q64(x: u32) -> u128 {
    ln_q64(2 * u128::from(x) + 1, 33).unsigned_abs()
}

/// The key of one step, ready to give random bits per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepKey {
    key: [u32; 2],
    counter: [u32; 3],
}

/// Tokens whose bits [`StepKey::bits_of_chunk`] gives at once.
pub const CHUNK: usize = 64;
const BLOCKS: usize = CHUNK / 4;

impl StepKey {
    /// Derives the key of a step.
    #[must_use]
    pub fn derive(seed: Seed, step: u32) -> Self {
        let mut message = [0u8; 36];
        message[..32].copy_from_slice(seed.as_slice());
        message[32..].copy_from_slice(&step.to_be_bytes());
        Self::from_hash(keccak256(message))
    }

    /// The key that a hash stands for.
    #[must_use]
    pub fn from_hash(hash: B256) -> Self {
        let word = |i: usize| u32::from_be_bytes([hash[4 * i], hash[4 * i + 1], hash[4 * i + 2], hash[4 * i + 3]]);
        Self { key: [word(0), word(1)], counter: [word(2), word(3), word(4)] }
    }

    /// The 32 random bits of a token.
    #[must_use]
    pub fn bits(&self, token: TokenId) -> u32 {
        self.block(token >> 2)[(token & 3) as usize]
    }

    /// Four words of random bits.
    #[must_use]
    pub fn block(&self, index: u32) -> [u32; 4] {
        let [a, b, c] = self.counter;
        philox4x32([index, a, b, c], self.key)
    }

    /// The bits of the tokens `chunk · 64` to `chunk · 64 + 63`.
    #[must_use]
    pub fn bits_of_chunk(&self, chunk: u32) -> [u32; CHUNK] {
        let mut first = [0u32; BLOCKS];
        for (block, word) in (0u32..).zip(&mut first) {
            // 16 blocks of four tokens make a chunk of 64.
            *word = chunk.wrapping_mul(16).wrapping_add(block);
        }
        let [a, b, c] = self.counter;
        let words = philox4x32_blocks([first, [a; BLOCKS], [b; BLOCKS], [c; BLOCKS]], self.key);
        let mut bits = [0u32; CHUNK];
        for (block, out) in bits.chunks_exact_mut(4).enumerate() {
            for (word, out) in words.iter().zip(out) {
                *out = word[block];
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nats(gumbel: Gumbel) -> f64 {
        gumbel.0 as f64 / 2f64.powi(32)
    }

    /// In f64, without cancellation in the upper tail.
    fn exact(x: u32) -> f64 {
        let below_one = (f64::from(u32::MAX - x) + 0.5) / 2f64.powi(32);
        -(-(-below_one).ln_1p()).ln()
    }

    #[test]
    fn the_ends_of_the_range() {
        assert!((nats(Gumbel::from_bits(u32::MAX)) - 22.873_856_958_5).abs() < 1e-7);
        assert!((nats(Gumbel::from_bits(0)) + 3.129_994_7).abs() < 1e-6);
        assert!(Gumbel::from_bits(u32::MAX) <= Gumbel::MAX && Gumbel::from_bits(0) >= Gumbel::MIN);
        assert!(exponential_q64(u32::MAX) > 0);
    }

    #[test]
    fn the_bound_holds_at_both_ends_of_every_class() {
        for ones in 0..=32u32 {
            let highest = if ones == 32 { u32::MAX } else { !(1u32.wrapping_shl(31 - ones)) };
            let lowest = u32::MAX.checked_shl(32 - ones).unwrap_or(0);
            for x in [highest, lowest, lowest.saturating_add(1).min(highest)] {
                assert_eq!(x.leading_ones(), ones, "{x:x}");
                assert!(Gumbel::from_bits(x) <= Gumbel::at_most(ones), "{x:x}");
            }
        }
    }

    #[test]
    fn chunks_and_single_tokens_agree() {
        let key = StepKey::derive(B256::repeat_byte(3), 7);
        let bits = key.bits_of_chunk(5);
        for (offset, x) in (0u32..).zip(bits) {
            assert_eq!(key.bits(5 * 64 + offset), x);
        }
        assert_ne!(StepKey::derive(B256::repeat_byte(3), 8), key);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_noise_agrees_with_f64_and_grows(any in any::<u32>(), shift in 0u32..32) {
            for x in [any, any >> shift, !(any >> shift)] {
                prop_assert!((nats(Gumbel::from_bits(x)) - exact(x)).abs() < 1.0 / 16_777_216.0, "{x:x}");
                prop_assert!(Gumbel::from_bits(x) <= Gumbel::at_most(x.leading_ones()), "{x:x}");
                prop_assert!(Gumbel::from_bits(x.saturating_add(1)) >= Gumbel::from_bits(x));
            }
        }
    }
}
