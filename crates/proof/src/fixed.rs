//! Logarithm and exponential in integers, specified to the last bit, so that a contract can repeat them.
//!
//! **`ln_q64(n, scale)`** is ln(n / 2^scale) with 64 fractional bits, n ≥ 1:
//!
//! 1. p = position of the highest set bit of n; m = n · 2^(63 − p), bits below the point dropped (only when p > 63).
//! 2. If m > [`SQRT_2_Q63`], M = m and e = p + 1 − scale; otherwise M = 2m and e = p − scale. So M/2^64 lies in
//!    (√½, √2] and n / 2^scale = M/2^64 · 2^e.
//! 3. z = ⌊|M − 2^64| · 2^64 / (M + 2^64)⌋, w = ⌊z² / 2^64⌋.
//! 4. Horner from k = 12 down to 0: a ← ⌊2^64 / (2k+1)⌋ + ⌊a·w / 2^64⌋, beginning with a = 0.
//! 5. ln(M/2^64) = ±2·⌊z·a / 2^64⌋ (atanh series), the sign being that of M − 2^64.
//! 6. The result is e · [`LN_2_Q64`] plus that.
//!
//! Error: below 2⁻⁵⁷ for |e| ≤ 64 (at most |e| units of the last place from ln 2, and fewer than 40 from the series), and
//! a few units of the last place for n/2^scale near 1: nothing cancels there, which keeps the noise exact in its upper
//! tail. Every intermediate fits 128 bits unsigned.
//!
//! **`exp_neg_q32(d)`** is e^(−d) with 32 fractional bits for d ≥ 0 with 32 fractional bits: t = ⌊d · log2(e)⌋; integer
//! part s, next 8 bits i, last 24 bits f; the result is (T\[i\] − ⌊(T\[i\] − T\[i+1\])·f / 2^24⌋) >> s, where
//! T\[i\] = 2^32 · 2^(−i/256), rounded down. Relative error below 2⁻¹⁹ before the shift.

/// ln 2 with 64 fractional bits, rounded down.
pub const LN_2_Q64: u128 = 0xB172_17F7_D1CF_79AB;

/// √2 with 63 fractional bits, rounded down.
pub const SQRT_2_Q63: u128 = 0xB504_F333_F9DE_6484;

/// log2(e) with 32 fractional bits, rounded down.
const LOG2_E_Q32: u128 = 0x1_7154_7652;

const ONE: u128 = 1 << 64;

/// Terms of the atanh series.
const TERMS: u128 = 13;

/// ln(n / 2^scale) with 64 fractional bits; see the module's text. `n` = 0 counts as 1.
#[must_use]
pub fn ln_q64(n: u128, scale: u32) -> i128 {
    let n = n.max(1);
    let highest = 127 - n.leading_zeros();
    let normal = if highest > 63 { n >> (highest - 63) } else { n << (63 - highest) };
    let (mantissa, exponent) = if normal > SQRT_2_Q63 {
        (normal, i128::from(highest) + 1 - i128::from(scale))
    } else {
        (normal << 1, i128::from(highest) - i128::from(scale))
    };
    exponent * LN_2_Q64.cast_signed() + ln_near_one_q64(mantissa)
}

/// ln(m / 2^64) for m / 2^64 in (√½, √2].
fn ln_near_one_q64(mantissa: u128) -> i128 {
    let distance = mantissa.abs_diff(ONE);
    let z = (distance << 64) / (mantissa + ONE);
    let square = (z * z) >> 64;
    let series = (0..TERMS).rev().fold(0, |sum, k| ONE / (2 * k + 1) + ((sum * square) >> 64));
    let magnitude = (2 * ((z * series) >> 64)).cast_signed();
    if mantissa < ONE { -magnitude } else { magnitude }
}

/// e^(−d) with 32 fractional bits, for d with 32 fractional bits; see the module's text. 0 from d ≈ 22.2 on.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "at most 2^37 times 1.5 after the shift")]
pub fn exp_neg_q32(distance: u64) -> u64 {
    // Beyond 2^37 (32 nats) the result is 0 anyway.
    if distance >> 37 != 0 {
        return 0;
    }
    let exponent = ((u128::from(distance) * LOG2_E_Q32) >> 32) as u64;
    let shift = exponent >> 32;
    let index = ((exponent >> 24) & 0xff) as usize;
    let fraction = exponent & 0xff_ffff;
    let (upper, lower) = (EXP2_NEG_Q32[index], EXP2_NEG_Q32[index + 1]);
    (upper - (((upper - lower) * fraction) >> 24)) >> shift
}

/// 2^32 · 2^(−i/256), rounded down, for i = 0 ..= 256.
pub const EXP2_NEG_Q32: [u64; 257] = exp2_table();

/// Builds 2^(−i/256) from 2^(−1/2), 2^(−1/4), … (each the square root of the one before) with 62 fractional bits.
#[expect(clippy::cast_possible_truncation, reason = "values are at most 2^32")]
const fn exp2_table() -> [u64; 257] {
    let mut roots = [0u128; 8];
    let mut value = 1u128 << 61;
    let mut bit = 0;
    while bit < 8 {
        value = square_root(value << 62);
        roots[bit] = value;
        bit += 1;
    }
    let mut table = [0u64; 257];
    let mut index = 0;
    while index < 256 {
        let mut product = 1u128 << 62;
        let mut bit = 0;
        while bit < 8 {
            if index & (0x80 >> bit) != 0 {
                product = (product * roots[bit]) >> 62;
            }
            bit += 1;
        }
        // The products lose less than 2^-58; adding it keeps exact powers from falling below themselves.
        table[index] = ((product + 16) >> 30) as u64;
        index += 1;
    }
    table[256] = 1 << 31;
    table
}

/// The largest integer whose square is not above `n`.
const fn square_root(n: u128) -> u128 {
    let (mut low, mut high) = (0u128, 1u128 << 63);
    while high - low > 1 {
        let middle = u128::midpoint(low, high);
        if middle * middle <= n {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_f64(q64: i128) -> f64 {
        q64 as f64 / 2f64.powi(64)
    }

    #[test]
    fn exact_values() {
        assert_eq!(ln_q64(1, 0), 0);
        assert_eq!(ln_q64(1 << 33, 33), 0);
        assert_eq!(ln_q64(2, 0), LN_2_Q64.cast_signed());
        assert_eq!(ln_q64(1, 1), -LN_2_Q64.cast_signed());
        assert_eq!(ln_q64(0, 0), 0);
        assert_eq!(exp_neg_q32(0), 1 << 32);
        assert_eq!(exp_neg_q32(u64::MAX), 0);
    }

    #[test]
    fn just_below_and_above_one_nothing_cancels() {
        for distance in [1u128, 2, 3, 1_000, 1 << 20] {
            let below = as_f64(ln_q64((1 << 64) - distance, 64));
            let expect = (-(distance as f64) / 2f64.powi(64)).ln_1p();
            assert!((below - expect).abs() <= 4.0 / 2f64.powi(64), "{distance}: {below} {expect}");
        }
    }

    #[test]
    fn the_table_is_two_to_the_minus_i_256ths() {
        for (index, value) in EXP2_NEG_Q32.iter().enumerate() {
            let expect = 2f64.powf(32.0 - index as f64 / 256.0);
            let error = expect - *value as f64;
            assert!((-1e-5..1.00001).contains(&error), "{index}: {value} {expect}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_logarithm_agrees_with_f64(bits in 0u32..128, any in any::<u128>(), scale in 0u32..128) {
            let n = (any >> bits).max(1);
            let expect = (n as f64).ln() - f64::from(scale) * std::f64::consts::LN_2;
            // f64's own error: a few units of 2^-53 at magnitudes up to 90.
            prop_assert!((as_f64(ln_q64(n, scale)) - expect).abs() < 1e-13, "{n} {scale}");
        }

        /// Finer than f64 can tell.
        #[test]
        fn the_logarithm_of_a_product_is_the_sum(a in 1u128..1 << 60, b in 1u128..1 << 60) {
            let difference = ln_q64(a * b, 0) - ln_q64(a, 0) - ln_q64(b, 0);
            prop_assert!(difference.abs() < 128, "{a} {b}: {difference} units");
        }

        #[test]
        fn the_logarithm_grows(n in 1u128..u128::MAX >> 1, step in 1u128..1 << 40) {
            prop_assert!(ln_q64(n + step, 0) >= ln_q64(n, 0));
        }

        #[test]
        fn the_exponential_agrees_with_f64(distance in 0u64..1 << 37) {
            let expect = (-(distance as f64) / 2f64.powi(32)).exp() * 2f64.powi(32);
            let error = (exp_neg_q32(distance) as f64 - expect).abs();
            prop_assert!(error <= expect / 524_288.0 + 2.0, "{distance}");
        }

        #[test]
        fn the_exponential_falls(distance in 0u64..1 << 37, step in 0u64..1 << 20) {
            prop_assert!(exp_neg_q32(distance + step) <= exp_neg_q32(distance));
        }
    }
}
