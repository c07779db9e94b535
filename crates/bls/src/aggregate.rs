//! Many validators' shares as one proof.

use crate::{KeyBytes, PublicKey, Signature, SignatureBytes};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use std::collections::HashMap;

/// What contracts know a set's members by, in the order of their set.
#[must_use]
pub fn members_hash(validators: &[Address]) -> B256 {
    keccak256(validators.iter().map(Address::into_word).collect::<Vec<_>>().concat())
}

/// What contracts keep of a sum of keys: of which members, and the sum.
#[must_use]
pub fn sum_record(keyed: U256, sum: &KeyBytes) -> B256 {
    keccak256([keyed.to_be_bytes::<32>().as_slice(), sum.as_slice()].concat())
}

/// One signature of many, and what a contract needs to find out whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Bit i is set when validator i has a key.
    pub keyed: U256,
    /// Bit i is set when validator i signed.
    pub signers: U256,
    /// The sum of the signers' keys.
    pub key: KeyBytes,
    /// The keys of those who have one and did not sign, in the set's order.
    pub absent_keys: Bytes,
    /// The sum of the signers' signatures.
    pub signature: SignatureBytes,
}

impl Aggregate {
    /// Of these signatures, each of which is right. Those of validators without a key, or beyond the set, are left out; none where
    /// nobody is left.
    #[must_use]
    pub fn assemble(
        validators: &[Address],
        keys: &HashMap<Address, PublicKey>,
        signed: &HashMap<Address, Signature>,
    ) -> Option<Self> {
        let (mut keyed, mut signers, mut absent) = (U256::ZERO, U256::ZERO, Vec::new());
        let (mut own_keys, mut signatures) = (Vec::new(), Vec::new());
        for (index, validator) in validators.iter().enumerate() {
            let Some(key) = keys.get(validator) else { continue };
            keyed.set_bit(index, true);
            if let Some(signature) = signed.get(validator) {
                signers.set_bit(index, true);
                own_keys.push(key);
                signatures.push(signature);
            } else {
                absent.extend_from_slice(key.encode().as_slice());
            }
        }
        let (key, signature) = (PublicKey::sum(own_keys)?.encode(), Signature::sum(signatures)?.encode());
        Some(Self { keyed, signers, key, absent_keys: absent.into(), signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn who_has_no_key_or_does_not_sign_is_told_apart() {
        let validators: Vec<_> = (1..=5).map(Address::repeat_byte).collect();
        let secret = |index: usize| SecretKey::derive(&validators[index].into_word());
        let digest = B256::repeat_byte(7);
        let keys: HashMap<_, _> = [0, 1, 2, 4].map(|index| (validators[index], secret(index).public_key())).into();
        // The fourth signs without a key that anybody knows, and a stranger signs too.
        let mut signed: HashMap<_, _> =
            [0, 2, 3, 4].map(|index| (validators[index], secret(index).sign(digest))).into();
        signed.insert(Address::repeat_byte(9), secret(0).sign(digest));
        let all = Aggregate::assemble(&validators, &keys, &signed).unwrap();
        assert_eq!((all.keyed, all.signers), (U256::from(0b10111), U256::from(0b10101)));
        assert_eq!(all.absent_keys.as_ref(), secret(1).public_key().encode().as_slice());
        let key = PublicKey::decode(&all.key).unwrap();
        assert!(Signature::decode(&all.signature).unwrap().is_by(&key, digest));
        assert_eq!(Aggregate::assemble(&validators, &keys, &HashMap::new()), None);
    }
}
