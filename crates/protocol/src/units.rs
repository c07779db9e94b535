//! Money and counts. All integers; arithmetic that could overflow is checked.

use serde::{Deserialize, Serialize};
use std::{fmt, iter::Sum, ops::Add};

/// An amount of the COR token in its smallest unit (10⁻¹⁸ COR).
///
/// The capped supply is 10²⁷ wei, so `u128` (3.4 × 10³⁸) cannot overflow by adding real balances; sums of untrusted
/// amounts use [`Wei::checked_add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Wei(pub u128);

impl Wei {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// One COR.
    pub const COR: Self = Self(1_000_000_000_000_000_000);

    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` when `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The sum, capped at the largest representable amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Wei {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Sum for Wei {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// Shows an amount in COR without loss: `1.5 COR`, `0.000000000000000001 COR`.
impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / Self::COR.0;
        let fraction = format!("{:018}", self.0 % Self::COR.0);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole} COR"),
            digits => write!(f, "{whole}.{digits} COR"),
        }
    }
}

/// JSON carries wei as a decimal string, since JavaScript numbers lose precision above 2⁵³; binary codecs carry a u128.
impl Serialize for Wei {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&self.0) } else { serializer.serialize_u128(self.0) }
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(|_| serde::de::Error::custom("expected wei as a decimal string"))
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// A number of LLM tokens (not of COR).
pub type TokenCount = u64;

/// Price of LLM tokens, each side in wei per 1,000,000 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Price {
    /// Wei per 1,000,000 input tokens.
    pub input: Wei,
    /// Wei per 1,000,000 output tokens.
    pub output: Wei,
}

impl Price {
    /// What these tokens cost, rounded down, or `None` on overflow.
    ///
    /// Rounding down keeps the sum of single costs within the cumulative bound that the `Sessions` contract checks:
    /// Σ⌊cᵢ⌋ ≤ ⌊Σcᵢ⌋.
    #[must_use]
    pub fn cost(&self, input_tokens: TokenCount, output_tokens: TokenCount) -> Option<Wei> {
        let input = self.input.0.checked_mul(u128::from(input_tokens))?;
        let output = self.output.0.checked_mul(u128::from(output_tokens))?;
        Some(Wei(input.checked_add(output)? / 1_000_000))
    }

    /// Whether neither side is above `limit`'s.
    #[must_use]
    pub fn within(&self, limit: &Self) -> bool {
        self.input <= limit.input && self.output <= limit.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_cor_without_loss() {
        assert_eq!(Wei(1_500_000_000_000_000_000).to_string(), "1.5 COR");
        assert_eq!(Wei(1).to_string(), "0.000000000000000001 COR");
        assert_eq!(Wei(0).to_string(), "0 COR");
    }

    #[test]
    fn json_is_a_decimal_string() {
        assert_eq!(serde_json::to_string(&Wei(u128::MAX)).unwrap(), format!("\"{}\"", u128::MAX));
        assert!(serde_json::from_str::<Wei>("12").is_err());
    }

    proptest! {
        #[test]
        fn single_costs_never_exceed_the_cumulative_bound(
            parts in prop::collection::vec((0u64..1 << 40, 0u64..1 << 40), 1..50),
            input in 0u128..1 << 70, output in 0u128..1 << 70,
        ) {
            let price = Price { input: Wei(input), output: Wei(output) };
            let single: Wei = parts.iter().map(|(i, o)| price.cost(*i, *o).unwrap()).sum();
            let (i, o) = parts.iter().fold((0, 0), |(a, b), (i, o)| (a + i, b + o));
            prop_assert!(single <= price.cost(i, o).unwrap());
        }
    }
}
