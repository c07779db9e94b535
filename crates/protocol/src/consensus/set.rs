//! A validator set: who decides a block, with how much power.
//!
//! Parsing is checking: a [`ValidatorSet`] is sorted, without duplicates, without zero powers, and its total is small
//! enough that no threshold arithmetic can overflow. Rules S1 and S2 of docs/spec/consensus.md.

use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use alloy_sol_types::SolValue as _;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, sync::Arc};

/// Most validators in a set.
pub const VALIDATORS_MAX: usize = 200;
/// Largest total power. Three times it fits a `u64` many times over.
pub const TOTAL_POWER_MAX: u64 = 1 << 40;
/// All powers together of every set that the Validators contract makes.
pub const TOTAL_POWER: u64 = 1_000_000_000;

/// One validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Who: what its signatures recover to.
    pub address: Address,
    /// How much its vote counts; at least 1.
    pub power: u64,
}

/// Why a list is no validator set.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Lists", try_from = "Lists")]
pub struct ValidatorSet {
    validators: Arc<[Validator]>,
    total: u64,
}

/// The form in files and on the wire: two lists, as in contracts.
#[derive(RlpEncodable, RlpDecodable, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    validators: Vec<Address>,
    powers: Vec<u64>,
}

impl From<ValidatorSet> for Lists {
    fn from(set: ValidatorSet) -> Self {
        let (validators, powers) = set.parts();
        Self { validators, powers }
    }
}

impl TryFrom<Lists> for ValidatorSet {
    type Error = SetError;

    fn try_from(lists: Lists) -> Result<Self, SetError> {
        Self::from_parts(&lists.validators, &lists.powers)
    }
}

impl ValidatorSet {
    /// Sorts and checks a list of validators.
    ///
    /// # Errors
    /// When the list breaks rule S1.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, SetError> {
        validators.sort_unstable_by_key(|validator| (Reverse(validator.power), validator.address));
        Self::from_sorted(validators)
    }

    /// Validators with equal powers that add up to [`TOTAL_POWER`]; the first ones have a unit more where it does not divide.
    ///
    /// # Errors
    /// When there are none or too many, or one is there twice.
    pub fn equal(keys: &[Address]) -> Result<Self, SetError> {
        let count = keys.len() as u64;
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let power = |index: u64| TOTAL_POWER / count + u64::from(index < TOTAL_POWER % count);
        Self::from_sorted(
            keys.into_iter().zip(0..).map(|(address, i)| Validator { address, power: power(i) }).collect(),
        )
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
        Self::from_sorted(pairs.map(|(address, power)| Validator { address: *address, power: *power }).collect())
    }

    fn from_sorted(validators: Vec<Validator>) -> Result<Self, SetError> {
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(SetError::Count(validators.len()));
        }
        if let Some(validator) = validators.iter().find(|validator| validator.power == 0) {
            return Err(SetError::ZeroPower(validator.address));
        }
        let total = validators.iter().try_fold(0_u64, |sum, validator| sum.checked_add(validator.power));
        let total = total.filter(|total| *total <= TOTAL_POWER_MAX).ok_or(SetError::TotalPower)?;
        let ordered = validators.is_sorted_by_key(|validator| (Reverse(validator.power), validator.address));
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

    /// The power of a member; none for anybody else.
    #[must_use]
    pub fn power_of(&self, address: Address) -> Option<u64> {
        self.validators.iter().find(|validator| validator.address == address).map(|validator| validator.power)
    }

    /// Whether this much power is more than two thirds of the total.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power) * 3 > u128::from(self.total) * 2
    }

    /// `keccak256(abi.encode(address[], uint64[]))`, which headers carry (rule S2).
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(self.parts().abi_encode_params())
    }

    /// Addresses and powers, in order.
    #[must_use]
    pub fn parts(&self) -> (Vec<Address>, Vec<u64>) {
        self.validators.iter().map(|validator| (validator.address, validator.power)).unzip()
    }
}

impl Encodable for ValidatorSet {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        Lists::from(self.clone()).encode(out);
    }

    fn length(&self) -> usize {
        Lists::from(self.clone()).length()
    }
}

impl Decodable for ValidatorSet {
    fn decode(buffer: &mut &[u8]) -> alloy_rlp::Result<Self> {
        Lists::decode(buffer)?.try_into().map_err(|_| alloy_rlp::Error::Custom("not a validator set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator(byte: u8, power: u64) -> Validator {
        Validator { address: Address::repeat_byte(byte), power }
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
        assert_eq!(ValidatorSet::equal(&[]), Err(SetError::Count(0)));
        assert!(ValidatorSet::equal(&[addresses[0], addresses[0]]).is_err());
    }

    #[test]
    fn both_codecs_round_trip_and_refuse_what_is_no_set() {
        let set = ValidatorSet::new(vec![validator(1, 5), validator(2, 7)]).unwrap();
        let mut json = serde_json::to_value(&set).unwrap();
        assert_eq!(serde_json::from_value::<ValidatorSet>(json.clone()).unwrap(), set);
        json["powers"][1] = 8.into();
        assert!(serde_json::from_value::<ValidatorSet>(json).is_err());
        let mut bytes = alloy_rlp::encode(&set);
        assert_eq!(ValidatorSet::decode(&mut bytes.as_slice()).unwrap(), set);
        *bytes.last_mut().unwrap() = 8;
        assert!(ValidatorSet::decode(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn more_than_two_thirds_is_a_quorum() {
        let set = ValidatorSet::new(vec![validator(1, 1), validator(2, 1), validator(3, 1)]).unwrap();
        assert!(!set.is_quorum(2));
        assert!(set.is_quorum(3));
    }

    #[test]
    fn equal_powers_make_the_total_in_order() {
        for count in 1..=100u8 {
            let set = ValidatorSet::equal(&(0..count).rev().map(Address::repeat_byte).collect::<Vec<_>>()).unwrap();
            assert_eq!(set.total_power(), TOTAL_POWER);
        }
    }
}
