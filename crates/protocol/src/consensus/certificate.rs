//! The proof that a block was decided: precommits of more than two thirds of the power (rules C1 to C3 of
//! docs/spec/consensus.md).
//!
//! A certificate carries the whole set, whose hash the header before the block commits to. So a chain of headers with
//! certificates is verified from any trusted header on, without any state.

use super::{Domain, Signature, ValidatorSet, VoteKind, recover};
use alloy_primitives::{B256, Bytes, U256};
use alloy_rlp::{RlpDecodable, RlpEncodable};

/// A decided block's certificate.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Certificate {
    /// The block's number.
    pub height: u64,
    /// The round in which it was decided.
    pub round: u32,
    /// The block.
    pub block_hash: B256,
    /// Who was to decide it.
    pub set: ValidatorSet,
    /// One signature for each validator of the set, in its order; all zero for one that did not sign.
    pub signatures: Vec<Signature>,
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not the encoding of a certificate.
    #[error("these bytes are no certificate")]
    Encoding,
    /// It is for another block.
    #[error("the certificate is for block {found} at height {height}")]
    Block {
        /// The block it is for.
        found: B256,
        /// Its height.
        height: u64,
    },
    /// Its set is not the one committed to.
    #[error("the certificate's validator set hashes to {found}, the header before commits to {expected}")]
    Set {
        /// The hash of the set given.
        found: B256,
        /// The hash committed to.
        expected: B256,
    },
    /// As many signatures as validators.
    #[error("{signatures} signatures for {validators} validators")]
    Count {
        /// Signatures given.
        signatures: usize,
        /// Validators in the set.
        validators: usize,
    },
    /// A signature that is neither zero nor its validator's.
    #[error("signature {0} is not that validator's")]
    Signature(usize),
    /// Those who signed have two thirds or less.
    #[error("a power of {signed} of {total} signed, which is not more than two thirds")]
    Power {
        /// The power of those who signed.
        signed: u64,
        /// All power.
        total: u64,
    },
}

impl Certificate {
    /// As stored with the block and sent to peers.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        alloy_rlp::encode(self).into()
    }

    /// The opposite of [`Certificate::encode`]. Nothing is verified.
    ///
    /// # Errors
    /// When the bytes are not exactly one certificate.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, CertificateError> {
        let certificate = <Self as alloy_rlp::Decodable>::decode(&mut bytes).map_err(|_| CertificateError::Encoding)?;
        if bytes.is_empty() { Ok(certificate) } else { Err(CertificateError::Encoding) }
    }

    /// Whether it proves that this block was decided by the set with this hash.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(&self, domain: &Domain, height: u64, block: B256, set_hash: B256) -> Result<(), CertificateError> {
        if (self.height, self.block_hash) != (height, block) {
            return Err(CertificateError::Block { found: self.block_hash, height: self.height });
        }
        let found = self.set.hash();
        if found != set_hash {
            return Err(CertificateError::Set { found, expected: set_hash });
        }
        self.verify_signatures(domain)
    }

    /// Whether more than two thirds of its own set signed. Whether that is the right set is not known here.
    ///
    /// # Errors
    /// When they did not.
    pub fn verify_signatures(&self, domain: &Domain) -> Result<(), CertificateError> {
        let signed = self.signed_power(domain)?;
        let total = self.set.total_power();
        if self.set.is_quorum(signed) { Ok(()) } else { Err(CertificateError::Power { signed, total }) }
    }

    /// Signatures as contracts take them (rule 3.1 of docs/spec/settlement.md): bit i says that validator i signed; 65 bytes for each
    /// bit, from the lowest up.
    #[must_use]
    pub fn packed_signatures(&self) -> (U256, Bytes) {
        let (mut signers, mut packed) = (U256::ZERO, Vec::new());
        for (index, signature) in self.signatures.iter().enumerate().filter(|(_, signature)| !signature.is_zero()) {
            signers.set_bit(index, true);
            packed.extend_from_slice(signature.as_slice());
        }
        (signers, packed.into())
    }

    /// The opposite of [`Certificate::packed_signatures`], for a set of `count` validators.
    ///
    /// # Errors
    /// When bits and bytes do not fit together, or name validators that there are not.
    pub fn unpack_signatures(signers: U256, packed: &[u8], count: usize) -> Result<Vec<Signature>, CertificateError> {
        let bits = signers.count_ones();
        if signers.bit_len() > count || packed.len() != bits * Signature::len_bytes() {
            return Err(CertificateError::Encoding);
        }
        let mut chunks = packed.chunks_exact(Signature::len_bytes());
        let next = |index: usize| match signers.bit(index) {
            true => Signature::from_slice(chunks.next().expect("there are as many signatures as bits")),
            false => Signature::ZERO,
        };
        Ok((0..count).map(next).collect())
    }

    fn signed_power(&self, domain: &Domain) -> Result<u64, CertificateError> {
        let validators = self.set.validators();
        if self.signatures.len() != validators.len() {
            return Err(CertificateError::Count { signatures: self.signatures.len(), validators: validators.len() });
        }
        let digest = domain.vote(VoteKind::Precommit, self.height, self.round, self.block_hash);
        let mut power = 0;
        for (index, (validator, signature)) in validators.iter().zip(&self.signatures).enumerate() {
            if signature.is_zero() {
                continue;
            }
            if recover(digest, signature) != Some(validator.address) {
                return Err(CertificateError::Signature(index));
            }
            power += validator.power;
        }
        Ok(power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{consensus::Validator, signature::tests::sign};
    use alloy_primitives::Address;
    use proptest::prelude::*;

    const HEIGHT: u64 = 9;
    const BLOCK: B256 = B256::repeat_byte(5);

    fn certificate(signing: &[usize]) -> Certificate {
        let digest = Domain::new(7).vote(VoteKind::Precommit, HEIGHT, 2, BLOCK);
        let signed: Vec<_> = (1..=4).map(|byte| sign(byte, digest)).collect();
        let set =
            ValidatorSet::new(signed.iter().map(|(address, _)| Validator { address: *address, power: 1 }).collect());
        let set = set.unwrap();
        let of = |address: Address| signed.iter().find(|(signer, _)| *signer == address).unwrap().1;
        let signature = |(index, one): (usize, &Validator)| {
            if signing.contains(&index) { Signature::new(of(one.address).0) } else { Signature::ZERO }
        };
        let signatures = set.validators().iter().enumerate().map(signature).collect();
        Certificate { height: HEIGHT, round: 2, block_hash: BLOCK, set, signatures }
    }

    #[test]
    fn three_of_four_prove_and_less_or_other_things_do_not() {
        let check = |change: fn(&mut Certificate), expect: &str| {
            let mut certificate = certificate(&[0, 1, 3]);
            let set_hash = certificate.set.hash();
            change(&mut certificate);
            let found = certificate.verify(&Domain::new(7), HEIGHT, BLOCK, set_hash);
            let found = found.map_or_else(|error| error.to_string(), |()| "proved".to_owned());
            assert!(found.contains(expect), "{found} does not mention {expect}");
        };
        check(|_| (), "proved");
        check(|certificate| certificate.signatures[3] = Signature::ZERO, "2 of 4");
        check(|certificate| certificate.signatures[3] = certificate.signatures[0], "signature 3");
        check(|certificate| certificate.round = 1, "signature 0");
        check(|certificate| certificate.height = 8, "height 8");
        check(|certificate| certificate.signatures.truncate(3), "3 signatures for 4");
        check(
            |certificate| certificate.set = ValidatorSet::new(certificate.set.validators()[..3].to_vec()).unwrap(),
            "commits to",
        );
        let certificate = certificate(&[0, 1, 2]);
        let elsewhere = certificate.verify(&Domain::new(8), HEIGHT, BLOCK, certificate.set.hash());
        assert_eq!(elsewhere, Err(CertificateError::Signature(0)));
    }

    #[test]
    fn packing_is_undone_and_what_does_not_fit_is_refused() {
        let certificate = certificate(&[0, 2, 3]);
        let (signers, packed) = certificate.packed_signatures();
        assert_eq!(Certificate::unpack_signatures(signers, &packed, 4).unwrap(), certificate.signatures);
        let more = signers | U256::from(1 << 4);
        for (bits, bytes) in [(signers, &packed[..130]), (more, &packed[..]), (U256::from(1), &packed[..])] {
            assert_eq!(Certificate::unpack_signatures(bits, bytes, 4), Err(CertificateError::Encoding));
        }
    }

    proptest! {
        /// Whatever bytes come, decoding answers; and what was encoded comes back.
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>, position in 0_usize..400, flip in 1_u8..) {
            let _ = Certificate::decode(&bytes);
            let mut encoded = certificate(&[0, 1, 2]).encode().to_vec();
            prop_assert_eq!(Certificate::decode(&encoded).unwrap(), certificate(&[0, 1, 2]));
            let position = position % encoded.len();
            encoded[position] ^= flip;
            if let Ok(changed) = Certificate::decode(&encoded) {
                prop_assert_ne!(changed, certificate(&[0, 1, 2]));
            }
        }
    }
}
