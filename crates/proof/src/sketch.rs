//! The sketch of a hidden state: its projection on eight random directions, which only the task's seed determines.
//!
//! Two machines that run the same model come to nearly the same sketch; another model, another quantisation or another
//! prompt does not. The projection is floating point, in one fixed order; what is compared and hashed are the integers
//! that it is rounded to (docs/spec/traces.md, T4).

use crate::gumbel::StepKey;
use alloy_primitives::keccak256;
use cortensor_protocol::{sampling::Seed, trace::Sketch};

/// 2^(k / 8), k = 0 … 7, rounded to the nearest f32.
const EIGHTHS: [f32; 8] =
    [1.0, 1.090_507_7, 1.189_207_1, 1.296_839_6, std::f32::consts::SQRT_2, 1.542_210_8, 1.681_792_9, 1.834_008_1];

/// 2^(k / 8) with 30 fractional bits.
const EIGHTHS_Q30: [i64; 8] = [
    1_073_741_824,
    1_170_923_762,
    1_276_901_417,
    1_392_470_869,
    1_518_500_250,
    1_655_936_265,
    1_805_811_301,
    1_969_251_188,
];

/// Projects the hidden states of one task.
#[derive(Debug)]
pub struct Sketcher {
    key: StepKey,
    /// One byte a dimension; its bit k is the sign of direction k.
    signs: Vec<u8>,
}

impl Sketcher {
    /// The directions of the task with this seed.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let hash = keccak256([b"cortensor sketch v1".as_slice(), seed.as_slice()].concat());
        Self { key: StepKey::from_hash(hash), signs: Vec::new() }
    }

    /// The sketch of a hidden state; [`Sketch::NONE`] of one that is empty, zero or not finite.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "hidden states have far fewer than 2^24 dimensions")]
    pub fn sketch(&mut self, hidden: &[f32]) -> Sketch {
        self.expand(hidden.len());
        let mut sums = [0f32; Sketch::COMPONENTS];
        for (value, signs) in hidden.iter().zip(&self.signs) {
            for (component, sum) in (0u32..).zip(&mut sums) {
                let sign = (u32::from(*signs) >> component & 1) << 31;
                *sum += f32::from_bits(value.to_bits() ^ sign);
            }
        }
        let scale = 1.0 / (hidden.len().max(1) as f32).sqrt();
        quantise(sums.map(|sum| sum * scale))
    }

    fn expand(&mut self, dimensions: usize) {
        let mut block = u32::try_from(self.signs.len() / 16).expect("hidden states have fewer than 2^32 dimensions");
        while self.signs.len() < dimensions {
            self.signs.extend(self.key.block(block).into_iter().flat_map(u32::to_le_bytes));
            block += 1;
        }
    }
}

/// The value of one unit of a mantissa.
fn unit(exponent: u8) -> f32 {
    let eighths = i32::from(exponent) - 128;
    let octave = (eighths.div_euclid(8) + 127).cast_unsigned();
    EIGHTHS[eighths.rem_euclid(8).unsigned_abs() as usize] * f32::from_bits(octave << 23)
}

/// The least exponent under which the largest value fits, then each value rounded to the nearest, ties to even.
fn quantise(values: [f32; Sketch::COMPONENTS]) -> Sketch {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || !values.iter().all(|value| value.is_finite()) {
        return Sketch::NONE;
    }
    let most = f32::from(Sketch::MANTISSA_MAX);
    let fits = |exponent: u8| largest <= most * unit(exponent);
    // A binary search over what grows with the exponent.
    let (mut low, mut high) = (1u8, u8::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    let unit = unit(low);
    #[expect(clippy::cast_possible_truncation, reason = "clamped to what a mantissa holds")]
    let mantissas = values.map(|value| (value / unit).round_ties_even().clamp(-most, most) as i8);
    let sketch = Sketch { exponent: low, mantissas };
    if sketch.mantissas == [0; Sketch::COMPONENTS] { Sketch::NONE } else { sketch }
}

/// How far apart two sketches are: |a − b|² / |b|² with 20 fractional bits, in integers. `None` when either is
/// [`Sketch::NONE`]; capped at 2³² − 1.
#[must_use]
pub fn distance_q20(a: &Sketch, b: &Sketch) -> Option<u32> {
    if *a == Sketch::NONE || *b == Sketch::NONE {
        return None;
    }
    let top = a.exponent.max(b.exponent);
    let value = |sketch: &Sketch, place: usize| -> i128 {
        let below = usize::from(top - sketch.exponent);
        // 2^(−below / 8) = 2^((8 − below mod 8) mod 8 / 8 − ⌈below / 8⌉).
        let factor = EIGHTHS_Q30[(8 - below % 8) % 8];
        i128::from(i64::from(sketch.mantissas[place]) * factor) >> below.div_ceil(8)
    };
    let (mut difference, mut norm) = (0i128, 0i128);
    for place in 0..Sketch::COMPONENTS {
        let (a, b) = (value(a, place), value(b, place));
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    Some(u32::try_from((difference << 20) / norm.max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cortensor_protocol::sampling::LogProb;
    use cortensor_protocol::trace::{Evidence, TraceToken, check};
    use proptest::prelude::*;

    fn seed(byte: u8) -> Seed {
        B256::repeat_byte(byte)
    }

    /// The numbers are part of the protocol.
    #[test]
    fn golden_sketch() {
        let hidden: Vec<f32> = (0u8..40).map(|j| f32::from(j) - 20.0).collect();
        let sketch = Sketcher::new(seed(1)).sketch(&hidden);
        assert_eq!(hex::encode(sketch.to_bytes()), "6fd5ba37aae675fa");
        assert_ne!(Sketcher::new(seed(2)).sketch(&hidden), sketch);
    }

    #[test]
    fn broken_states_have_no_sketch_and_extreme_ones_do_not_break_it() {
        let mut sketcher = Sketcher::new(seed(1));
        for hidden in [vec![], vec![0.0; 9], vec![f32::NAN; 3], vec![f32::INFINITY, 1.0]] {
            assert_eq!(sketcher.sketch(&hidden), Sketch::NONE);
        }
        assert_eq!(sketcher.sketch(&[f32::MIN_POSITIVE; 4]), Sketch::NONE);
        assert_eq!(sketcher.sketch(&[1e30; 4]).exponent, u8::MAX);
    }

    #[test]
    fn equal_is_zero_and_opposite_is_four() {
        let mut sketcher = Sketcher::new(seed(3));
        let hidden: Vec<f32> = (0u8..64).map(|j| f32::from(j % 7) - 3.0).collect();
        let a = sketcher.sketch(&hidden);
        let b = sketcher.sketch(&hidden.iter().map(|x| -x).collect::<Vec<_>>());
        assert_eq!(distance_q20(&a, &a), Some(0));
        assert_eq!(distance_q20(&a, &b), Some(4 << 20));
        assert_eq!(distance_q20(&a, &Sketch::NONE), None);
    }

    proptest! {
        #[test]
        fn sketches_are_canonical_and_close_to_the_projection(
            hidden in prop::collection::vec(-30f32..30.0, 8..200), scale in -12i32..12,
        ) {
            let hidden: Vec<f32> = hidden.iter().map(|x| x * 2f32.powi(scale)).collect();
            let sketch = Sketcher::new(seed(5)).sketch(&hidden);
            let token = TraceToken { id: 1, logprob: LogProb(0) };
            prop_assert_eq!(check(&[token], &[Evidence { sketch, ..Evidence::NONE }]), Ok(()));
            // A change of one part in a thousand moves the sketch by little more than its own rounding.
            let near: Vec<f32> = hidden.iter().map(|x| x * 1.001).collect();
            let moved = distance_q20(&Sketcher::new(seed(5)).sketch(&near), &sketch);
            prop_assert!(moved.is_none_or(|moved| moved < (1 << 20) / 1_000), "{moved:?}");
        }

        #[test]
        fn the_integer_distance_agrees_with_floats(
            a in prop::array::uniform8(-63i8..=63), b in prop::array::uniform8(-63i8..=63), x in 100u8..140, y in 100u8..140,
        ) {
            let [a, b] = [(a, x), (b, y)].map(|(mut mantissas, exponent)| { mantissas[0] = 63; Sketch { exponent, mantissas } });
            let value = |s: &Sketch, k: usize| f64::from(s.mantissas[k]) * ((f64::from(s.exponent) - 128.0) / 8.0).exp2();
            let norm: f64 = (0..8).map(|k| value(&b, k).powi(2)).sum();
            let exact: f64 = (0..8).map(|k| (value(&a, k) - value(&b, k)).powi(2)).sum::<f64>() / norm;
            let got = f64::from(distance_q20(&a, &b).unwrap()) / f64::from(1 << 20);
            prop_assert!((got - exact).abs() <= 1e-5 + exact * 1e-4, "{got} {exact}");
        }
    }
}
