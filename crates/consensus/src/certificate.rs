//! The proof that a block was decided: precommits of more than two thirds of the power (rules C1 to C3 of
//! docs/spec/consensus.md).
//!
//! A certificate carries the whole set, whose hash the header before the block commits to. So a chain of headers with
//! certificates is verified from any trusted header on, without any state.

use alloy::primitives::{B256, Bytes};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use malachite_types::{CommitCertificate, NilOrVal, Round, SignedMessage, VoteType};
use thiserror::Error;

use crate::{
    set::ValidatorSet,
    signing::{Domain, recover},
    types::{BlockHash, Ctx, Height, Signature, SignedVote, ValidatorAddress, Vote},
};

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
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
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
    /// From what the core decided with this set.
    #[must_use]
    pub fn new(decided: &CommitCertificate<Ctx>, set: &ValidatorSet) -> Self {
        let signature = |validator: &crate::set::Validator| {
            let signed = decided.commit_signatures.iter().find(|signed| signed.address == validator.address);
            signed.map_or(Signature::ZERO, |signed| signed.signature)
        };
        Self {
            height: decided.height.0,
            round: decided.round.as_u32().unwrap_or_default(),
            block_hash: decided.value_id.0,
            signatures: set.validators().iter().map(signature).collect(),
            set: set.clone(),
        }
    }

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
        let signed = self.signed_power(domain)?;
        let total = self.set.total_power();
        if self.set.is_quorum(signed) { Ok(()) } else { Err(CertificateError::Power { signed, total }) }
    }

    /// The precommits that it consists of, unverified.
    pub fn votes(&self) -> impl Iterator<Item = SignedVote> {
        let signed = self.set.validators().iter().zip(&self.signatures).filter(|(_, signature)| !signature.is_zero());
        signed.map(|(validator, signature)| SignedMessage::new(self.precommit(validator.address), *signature))
    }

    fn precommit(&self, validator: ValidatorAddress) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height: Height(self.height),
            round: Round::new(self.round),
            block: NilOrVal::Val(BlockHash(self.block_hash)),
            validator,
        }
    }

    fn signed_power(&self, domain: &Domain) -> Result<u64, CertificateError> {
        let validators = self.set.validators();
        if self.signatures.len() != validators.len() {
            return Err(CertificateError::Count { signatures: self.signatures.len(), validators: validators.len() });
        }
        let digest = domain.vote_digest(&self.precommit(validators[0].address));
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
    use proptest::prelude::*;

    use super::*;
    use crate::{set::Validator, signing::Signer};

    const HEIGHT: u64 = 9;

    fn certificate(signing: &[usize]) -> Certificate {
        let domain = Domain::new(7);
        let signers: Vec<_> = (1..=4).map(|byte| Signer::new(&B256::repeat_byte(byte), domain).unwrap()).collect();
        let validators = signers.iter().map(|signer| Validator { address: signer.address(), power: 1 });
        let set = ValidatorSet::new(validators.collect()).unwrap();
        let signature = |index: usize, address| {
            let vote = Vote {
                kind: VoteType::Precommit,
                height: Height(HEIGHT),
                round: Round::new(2),
                block: NilOrVal::Val(BlockHash(B256::repeat_byte(5))),
                validator: address,
            };
            let signer = signers.iter().find(|signer| signer.address() == address).unwrap();
            if signing.contains(&index) { signer.vote(vote).signature } else { Signature::ZERO }
        };
        let signatures = set.validators().iter().enumerate().map(|(index, one)| signature(index, one.address));
        let signatures = signatures.collect();
        Certificate { height: HEIGHT, round: 2, block_hash: B256::repeat_byte(5), set, signatures }
    }

    #[test]
    fn three_of_four_prove_and_less_or_other_things_do_not() {
        let check = |change: fn(&mut Certificate), expect: &str| {
            let mut certificate = certificate(&[0, 1, 3]);
            let set_hash = certificate.set.hash();
            change(&mut certificate);
            let found = certificate.verify(&Domain::new(7), HEIGHT, B256::repeat_byte(5), set_hash);
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
        let elsewhere = certificate.verify(&Domain::new(8), HEIGHT, B256::repeat_byte(5), certificate.set.hash());
        assert_eq!(elsewhere, Err(CertificateError::Signature(0)));
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
