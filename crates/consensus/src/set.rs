//! A validator set: who decides a block, with how much power.
//!
//! Parsing is checking: a [`ValidatorSet`] is sorted, without duplicates, without zero powers, and its total is small
//! enough that no threshold arithmetic can overflow. Rules S1 to S4 of docs/spec/consensus.md.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, keccak256},
    sol_types::SolValue as _,
};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use malachite_types::Round;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{Height, ValidatorAddress};

/// Most validators in a set.
pub const VALIDATORS_MAX: usize = 200;
/// Largest total power. Three times it fits a `u64` many times over.
pub const TOTAL_POWER_MAX: u64 = 1 << 40;
/// 2⁶⁴ divided by the golden ratio: multiples of it, modulo 2⁶⁴, are spread as evenly as can be.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Who.
    pub address: ValidatorAddress,
    /// How much its vote counts; at least 1.
    pub power: u64,
}

/// Why a list is no validator set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError {
    /// Nobody, or too many.
    #[error("a validator set has 1 to {VALIDATORS_MAX} members, not {0}")]
    Count(usize),
    /// As many powers as validators.
    #[error("{validators} validators with {powers} powers")]
    Lengths {
        /// Validators given.
        validators: usize,
        /// Powers given.
        powers: usize,
    },
    /// A power of nothing.
    #[error("validator {0} has no power")]
    ZeroPower(Address),
    /// All powers together are too much.
    #[error("the powers add up to more than {TOTAL_POWER_MAX}")]
    TotalPower,
    /// Not sorted by power (falling), then address (rising), or a validator twice.
    #[error("validators are not in order of falling power and rising address, or one is there twice")]
    Order,
}

/// Validators in order of falling power, among equals of rising address. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Arc<[Validator]>,
    total: u64,
}

#[derive(RlpEncodable, RlpDecodable)]
struct Wire {
    addresses: Vec<Address>,
    powers: Vec<u64>,
}

impl ValidatorSet {
    /// Sorts and checks a list of validators.
    ///
    /// # Errors
    /// When the list breaks rule S1.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, SetError> {
        validators.sort_unstable_by_key(|validator| (std::cmp::Reverse(validator.power), validator.address));
        Self::from_sorted(validators)
    }

    /// Checks what a contract or a certificate gives, which must be in order already.
    ///
    /// # Errors
    /// When the lists break rule S1.
    pub fn from_parts(addresses: &[Address], powers: &[u64]) -> Result<Self, SetError> {
        if addresses.len() != powers.len() {
            return Err(SetError::Lengths { validators: addresses.len(), powers: powers.len() });
        }
        let pairs = addresses.iter().zip(powers);
        Self::from_sorted(
            pairs.map(|(address, power)| Validator { address: ValidatorAddress(*address), power: *power }).collect(),
        )
    }

    fn from_sorted(validators: Vec<Validator>) -> Result<Self, SetError> {
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(SetError::Count(validators.len()));
        }
        if let Some(validator) = validators.iter().find(|validator| validator.power == 0) {
            return Err(SetError::ZeroPower(validator.address.0));
        }
        let total = validators.iter().try_fold(0_u64, |sum, validator| sum.checked_add(validator.power));
        let total = total.filter(|total| *total <= TOTAL_POWER_MAX).ok_or(SetError::TotalPower)?;
        let key = |validator: &Validator| (std::cmp::Reverse(validator.power), validator.address);
        let ordered = validators.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]));
        let mut addresses: Vec<_> = validators.iter().map(|validator| validator.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !ordered || addresses.len() != validators.len() {
            return Err(SetError::Order);
        }
        Ok(Self { validators: validators.into(), total })
    }

    /// Everyone, in order.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// All powers together.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.total
    }

    /// The validator with this address.
    #[must_use]
    pub fn get(&self, address: &ValidatorAddress) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.address == *address)
    }

    /// Whether this much power is more than two thirds of the total.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total) * 2
    }

    /// `keccak256(abi.encode(address[], uint64[]))`, which headers carry (rule S2).
    #[must_use]
    pub fn hash(&self) -> B256 {
        let (addresses, powers) = self.parts();
        keccak256((addresses, powers).abi_encode_params())
    }

    /// Addresses and powers, in order.
    #[must_use]
    pub fn parts(&self) -> (Vec<Address>, Vec<u64>) {
        self.validators.iter().map(|validator| (validator.address.0, validator.power)).unzip()
    }

    /// Who proposes (rule S4): the validator at a point of the line of powers that moves by the golden ratio with every
    /// round and height, so that each proposes in proportion to its power and nobody with less than 38 % twice running.
    #[must_use]
    pub fn proposer(&self, height: Height, round: Round) -> &Validator {
        let step = height.0.wrapping_add(u64::from(round.as_u32().unwrap_or_default()));
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

impl Encodable for ValidatorSet {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        let (addresses, powers) = self.parts();
        Wire { addresses, powers }.encode(out);
    }

    fn length(&self) -> usize {
        let (addresses, powers) = self.parts();
        Wire { addresses, powers }.length()
    }
}

impl Decodable for ValidatorSet {
    fn decode(buffer: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let Wire { addresses, powers } = Wire::decode(buffer)?;
        Self::from_parts(&addresses, &powers).map_err(|_| alloy_rlp::Error::Custom("not a validator set"))
    }
}

/// A validator as configuration files name it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NamedPower {
    /// Its address.
    pub address: Address,
    /// Its power.
    pub power: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator(byte: u8, power: u64) -> Validator {
        Validator { address: ValidatorAddress(Address::repeat_byte(byte)), power }
    }

    #[test]
    fn the_hash_is_that_of_two_abi_encoded_arrays() {
        let set = ValidatorSet::new(vec![validator(1, 5), validator(2, 7)]).unwrap();
        assert_eq!(set.validators()[0].power, 7);
        let mut words = vec![0_u8; 32 * 8];
        let mut put =
            |word: usize, value: u64| words[word * 32 + 24..word * 32 + 32].copy_from_slice(&value.to_be_bytes());
        put(0, 64);
        put(1, 160);
        put(2, 2);
        put(5, 2);
        put(6, 7);
        put(7, 5);
        words[3 * 32 + 12..4 * 32].fill(2);
        words[4 * 32 + 12..5 * 32].fill(1);
        assert_eq!(set.hash(), keccak256(words));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let check = |validators: Vec<Validator>, expect: &SetError| {
            assert_eq!(ValidatorSet::new(validators).as_ref(), Err(expect));
        };
        check(vec![], &SetError::Count(0));
        check(vec![validator(1, 0)], &SetError::ZeroPower(Address::repeat_byte(1)));
        check(vec![validator(1, u64::MAX), validator(2, 2)], &SetError::TotalPower);
        check(vec![validator(1, TOTAL_POWER_MAX), validator(2, 1)], &SetError::TotalPower);
        check(vec![validator(1, 3), validator(1, 2)], &SetError::Order);
        check(vec![validator(1, 3); VALIDATORS_MAX + 1], &SetError::Count(VALIDATORS_MAX + 1));
        let addresses = [Address::repeat_byte(1), Address::repeat_byte(2)];
        assert_eq!(ValidatorSet::from_parts(&addresses, &[1, 2]), Err(SetError::Order));
        assert_eq!(ValidatorSet::from_parts(&addresses, &[1]), Err(SetError::Lengths { validators: 2, powers: 1 }));
    }

    #[test]
    fn everybody_proposes_as_often_as_its_power_says_and_seldom_twice_running() {
        let set =
            ValidatorSet::new(vec![validator(1, 10), validator(2, 10), validator(3, 20), validator(4, 10)]).unwrap();
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

    #[test]
    fn more_than_two_thirds_is_a_quorum() {
        let set = ValidatorSet::new(vec![validator(1, 1), validator(2, 1), validator(3, 1)]).unwrap();
        assert!(!set.is_quorum(2));
        assert!(set.is_quorum(3));
    }
}
