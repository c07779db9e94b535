//! A validator set as the core sees it, and who proposes (rule S4 of docs/spec/consensus.md).
//!
//! Sets are parsed as [`cortensor_protocol::consensus::ValidatorSet`]; the core's trait wants its own address type.

use std::sync::Arc;

use cortensor_protocol::consensus::ValidatorSet;
use malachite_types::Round;

use crate::types::{Height, ValidatorAddress, round_number};

/// 2⁶⁴ divided by the golden ratio: multiples of it, modulo 2⁶⁴, are spread as evenly as can be.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreValidator {
    /// Who.
    pub address: ValidatorAddress,
    /// How much its vote counts; at least 1.
    pub power: u64,
}

/// A [`ValidatorSet`] for the core. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSet {
    validators: Arc<[CoreValidator]>,
    total: u64,
}

impl From<&ValidatorSet> for CoreSet {
    fn from(set: &ValidatorSet) -> Self {
        let validator = |one: &cortensor_protocol::consensus::Validator| CoreValidator {
            address: ValidatorAddress(one.address),
            power: one.power,
        };
        Self { validators: set.validators().iter().map(validator).collect(), total: set.total_power() }
    }
}

impl CoreSet {
    /// Everyone, in the order of rule S1.
    #[must_use]
    pub fn validators(&self) -> &[CoreValidator] {
        &self.validators
    }

    /// All powers together.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.total
    }

    /// The validator with this address.
    #[must_use]
    pub fn get(&self, address: &ValidatorAddress) -> Option<&CoreValidator> {
        self.validators.iter().find(|validator| validator.address == *address)
    }

    /// Who proposes (rule S4): the validator at a point of the line of powers that moves by the golden ratio with every
    /// round and height, so that each proposes in proportion to its power and nobody with less than 38 % twice running.
    #[must_use]
    pub fn proposer(&self, height: Height, round: Round) -> &CoreValidator {
        let step = height.0.wrapping_add(round_number(round).into());
        let point = (u128::from(step.wrapping_mul(GOLDEN)) * u128::from(self.total)) >> 64;
        let mut passed = 0_u128;
        self.validators
            .iter()
            .find(|validator| {
                passed += u128::from(validator.power);
                point < passed
            })
            .expect("the point is below the sum of all powers")
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use cortensor_protocol::consensus::Validator;

    use super::*;

    #[test]
    fn everybody_proposes_as_often_as_its_power_says_and_seldom_twice_running() {
        let validator = |(byte, power)| Validator { address: Address::repeat_byte(byte), power };
        let set = ValidatorSet::new([(1, 10), (2, 10), (3, 20), (4, 10)].map(validator).to_vec()).unwrap();
        let set = CoreSet::from(&set);
        let mut counts = std::collections::HashMap::new();
        let mut last = None;
        for height in 0..5_000 {
            let proposer = set.proposer(Height(height), Round::new(0)).address;
            assert_eq!(set.proposer(Height(height), Round::new(1)), set.proposer(Height(height + 1), Round::new(0)));
            if proposer != ValidatorAddress(Address::repeat_byte(3)) {
                assert_ne!(last, Some(proposer), "one with a fifth of the power never proposes twice running");
            }
            last = Some(proposer);
            *counts.entry(proposer.0).or_insert(0_u32) += 1;
        }
        assert!((1_990..=2_010).contains(&counts[&Address::repeat_byte(3)]), "{counts:?}");
        assert!((990..=1_010).contains(&counts[&Address::repeat_byte(1)]), "{counts:?}");
    }
}
