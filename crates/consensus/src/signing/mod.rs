//! What validators sign and how signatures are checked: EIP-712 over secp256k1 (rules V1 to V4 of docs/spec/consensus.md).
//!
//! A contract recovers the same signatures with `ecrecover`. Signing is deterministic (RFC 6979) and gives the low `s`;
//! the other form is refused, so that a signature cannot be altered into another valid one.

mod book;
mod keeper;
mod remote;
mod server;
mod wire;

pub use keeper::{Keeper, SigningError};
pub use remote::RemoteSigner;
pub use server::{SignerError, SigningServer};

use alloy::primitives::{Address, B256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use cortensor_protocol::consensus::{Domain, VoteKind, recover};
use malachite_types::{NilOrVal, Round, SignedMessage, VoteType};
use secp256k1::{Message, SECP256K1, SecretKey, ecdsa::RecoveryId};
use thiserror::Error;

use crate::types::{
    BlockHash, Height, Proposal, Signature, SignedProposal, SignedVote, ValidatorAddress, Vote, round_number,
};

/// What a vote's signature is over (rule V2).
#[must_use]
pub fn vote_digest(domain: &Domain, vote: &Vote) -> B256 {
    domain.vote(kind(vote.kind), vote.height.0, round_number(vote.round), block_hash(vote.block))
}

/// What a proposal's signature is over (rule V3).
#[must_use]
pub fn proposal_digest(domain: &Domain, proposal: &Proposal) -> B256 {
    let round = round_number(proposal.round);
    domain.proposal(proposal.height.0, round, proposal.valid_round.as_u32(), proposal.block.0)
}

/// Whether it is this validator's signature over the digest.
#[must_use]
pub fn is_signed_by(validator: ValidatorAddress, digest: B256, signature: &Signature) -> bool {
    recover(digest, signature) == Some(validator.0)
}

fn kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

fn block_hash(block: NilOrVal<BlockHash>) -> B256 {
    match block {
        NilOrVal::Nil => B256::ZERO,
        NilOrVal::Val(BlockHash(hash)) => hash,
    }
}

/// Not a secp256k1 private key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a private key of secp256k1")]
pub struct KeyError;

/// A validator's key. It shows itself nowhere.
#[derive(Clone)]
pub struct Signer {
    key: SecretKey,
    address: ValidatorAddress,
    domain: Domain,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Signer(of {})", self.address)
    }
}

impl Signer {
    /// From the 32 bytes of a private key.
    ///
    /// # Errors
    /// When they are no key.
    pub fn new(key: &B256, domain: Domain) -> Result<Self, KeyError> {
        let key = SecretKey::from_byte_array(key.0).map_err(|_| KeyError)?;
        let public = key.public_key(SECP256K1).serialize_uncompressed();
        let address = Address::from_raw_public_key(&public[1..]);
        Ok(Self { key, address: ValidatorAddress(address), domain })
    }

    /// The address that its signatures recover to.
    #[must_use]
    pub fn address(&self) -> ValidatorAddress {
        self.address
    }

    /// Signs a vote.
    #[must_use]
    pub fn vote(&self, vote: Vote) -> SignedVote {
        let signature = self.sign(vote_digest(&self.domain, &vote));
        SignedMessage::new(vote, signature)
    }

    /// Signs a proposal.
    #[must_use]
    pub fn proposal(&self, proposal: Proposal) -> SignedProposal {
        let signature = self.sign(proposal_digest(&self.domain, &proposal));
        SignedMessage::new(proposal, signature)
    }

    /// Signs this height's contribution to the beacon.
    #[must_use]
    pub fn beacon(&self, height: u64) -> Signature {
        self.sign(self.domain.beacon(height))
    }

    /// The key for checkpoints that follows from this one.
    #[must_use]
    pub fn checkpoint_key(&self) -> cortensor_bls::SecretKey {
        cortensor_bls::SecretKey::derive(&B256::new(self.key.secret_bytes()))
    }

    fn domain(&self) -> &Domain {
        &self.domain
    }

    fn sign(&self, digest: B256) -> Signature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.key);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0_u8; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + u8::from(recovery == RecoveryId::One);
        Signature::new(bytes)
    }
}

/// A vote as it travels and as a contract takes it.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct WireVote {
    /// 1 prevote, 2 precommit.
    pub kind: u8,
    /// The block's number.
    pub height: u64,
    /// The attempt.
    pub round: u32,
    /// The block, zero for nil.
    pub block_hash: B256,
    /// Who says it was him.
    pub validator: Address,
    /// The signature.
    pub signature: Signature,
}

impl From<&SignedVote> for WireVote {
    fn from(signed: &SignedVote) -> Self {
        let vote = &signed.message;
        Self {
            kind: kind(vote.kind).number(),
            height: vote.height.0,
            round: round_number(vote.round),
            block_hash: block_hash(vote.block),
            validator: vote.validator.0,
            signature: signed.signature,
        }
    }
}

impl WireVote {
    /// The vote, unless its kind does not exist. The signature is not looked at.
    #[must_use]
    pub fn to_vote(&self) -> Option<SignedVote> {
        let kind = match VoteKind::from_number(self.kind)? {
            VoteKind::Prevote => VoteType::Prevote,
            VoteKind::Precommit => VoteType::Precommit,
        };
        let block = if self.block_hash.is_zero() { NilOrVal::Nil } else { NilOrVal::Val(BlockHash(self.block_hash)) };
        let vote = Vote {
            kind,
            height: Height(self.height),
            round: Round::new(self.round),
            block,
            validator: ValidatorAddress(self.validator),
        };
        Some(SignedMessage::new(vote, self.signature))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, hex};
    use proptest::prelude::*;

    use super::*;

    fn signer() -> Signer {
        Signer::new(&B256::repeat_byte(7), Domain::new(7)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Only the unaltered signature over the very digest recovers the signer.
        #[test]
        fn a_changed_signature_recovers_somebody_else(byte in 0_usize..65, flip in 1_u8..) {
            let (own, digest) = (signer().address(), B256::repeat_byte(3));
            let signature = signer().sign(digest);
            prop_assert!(is_signed_by(own, digest, &signature));
            let mut changed = signature;
            changed[byte] ^= flip;
            prop_assert!(!is_signed_by(own, digest, &changed));
            prop_assert!(!is_signed_by(own, B256::repeat_byte(4), &signature));
        }
    }

    #[test]
    fn the_mirrored_signature_is_refused() {
        let digest = B256::repeat_byte(3);
        let mut signature = signer().sign(digest);
        let order = U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
        let s = U256::from_be_slice(&signature[32..64]);
        signature[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        signature[64] = 27 + (28 - signature[64]);
        assert_eq!(recover(digest, &signature), None);
    }
}
