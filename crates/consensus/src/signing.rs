//! What validators sign and how signatures are checked: EIP-712 over secp256k1 (rules V1 to V4 of docs/spec/consensus.md).
//!
//! A contract recovers the same signatures with `ecrecover`. Signing is deterministic (RFC 6979) and gives the low `s`;
//! the other form is refused, so that a signature cannot be altered into another valid one.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use malachite_types::{NilOrVal, Round, SignedMessage, VoteType};
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId, Signature as Compact},
};
use thiserror::Error;

use crate::types::{BlockHash, Proposal, Signature, SignedProposal, SignedVote, ValidatorAddress, Vote};

/// Which chain a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    separator: B256,
}

impl Domain {
    /// The domain of the chain with this identifier (rule V1).
    #[must_use]
    pub fn new(chain_id: u64) -> Self {
        let words = [
            keccak256("EIP712Domain(string name,string version,uint256 chainId)"),
            keccak256("Cortensor Consensus"),
            keccak256("1"),
            word(chain_id),
        ];
        Self { separator: keccak256(words.concat()) }
    }

    /// What a vote's signature is over (rule V2).
    #[must_use]
    pub fn vote_digest(&self, vote: &Vote) -> B256 {
        let kind = match vote.kind {
            VoteType::Prevote => 1,
            VoteType::Precommit => 2,
        };
        let block = match vote.block {
            NilOrVal::Nil => B256::ZERO,
            NilOrVal::Val(BlockHash(hash)) => hash,
        };
        let round = u64::from(vote.round.as_u32().unwrap_or_default());
        self.digest(&[
            keccak256("Vote(uint8 kind,uint64 height,uint32 round,bytes32 blockHash)"),
            word(kind),
            word(vote.height.0),
            word(round),
            block,
        ])
    }

    /// What a proposal's signature is over (rule V3).
    #[must_use]
    pub fn proposal_digest(&self, proposal: &Proposal) -> B256 {
        let valid_round = proposal.valid_round.as_u32().map_or(B256::repeat_byte(0xff), |round| word(round.into()));
        self.digest(&[
            keccak256("Proposal(uint64 height,uint32 round,int64 validRound,bytes32 blockHash)"),
            word(proposal.height.0),
            word(proposal.round.as_u32().unwrap_or_default().into()),
            valid_round,
            proposal.block.0,
        ])
    }

    /// What a contribution to the randomness beacon is over (rule B1).
    #[must_use]
    pub fn beacon_digest(&self, height: u64) -> B256 {
        self.digest(&[keccak256("Beacon(uint64 height)"), word(height)])
    }

    fn digest(&self, words: &[B256]) -> B256 {
        let mut bytes = [0_u8; 66];
        bytes[..2].copy_from_slice(&[0x19, 0x01]);
        bytes[2..34].copy_from_slice(self.separator.as_slice());
        bytes[34..].copy_from_slice(keccak256(words.concat()).as_slice());
        keccak256(bytes)
    }
}

fn word(value: u64) -> B256 {
    B256::from(U256::from(value))
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
        Ok(Self { key, address: ValidatorAddress(address_of(&public)), domain })
    }

    /// The address that its signatures recover to.
    #[must_use]
    pub fn address(&self) -> ValidatorAddress {
        self.address
    }

    /// Signs a vote.
    #[must_use]
    pub fn vote(&self, vote: Vote) -> SignedVote {
        let signature = self.sign(self.domain.vote_digest(&vote));
        SignedMessage::new(vote, signature)
    }

    /// Signs a proposal.
    #[must_use]
    pub fn proposal(&self, proposal: Proposal) -> SignedProposal {
        let signature = self.sign(self.domain.proposal_digest(&proposal));
        SignedMessage::new(proposal, signature)
    }

    /// Signs this height's contribution to the beacon.
    #[must_use]
    pub fn beacon(&self, height: u64) -> Signature {
        self.sign(self.domain.beacon_digest(height))
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

/// Whose signature over this digest it is; none for a malformed or altered one.
#[must_use]
pub fn recover(digest: B256, signature: &Signature) -> Option<ValidatorAddress> {
    let recovery = match signature[64] {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        _ => return None,
    };
    let mut low = Compact::from_compact(&signature[..64]).ok()?;
    low.normalize_s();
    if low.serialize_compact() != signature[..64] {
        return None;
    }
    let signature = RecoverableSignature::from_compact(&signature[..64], recovery).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(digest.0), &signature).ok()?;
    Some(ValidatorAddress(address_of(&key.serialize_uncompressed())))
}

fn address_of(public: &[u8; 65]) -> Address {
    Address::from_slice(&keccak256(&public[1..])[12..])
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
            kind: if vote.kind == VoteType::Prevote { 1 } else { 2 },
            height: vote.height.0,
            round: vote.round.as_u32().unwrap_or_default(),
            block_hash: match vote.block {
                NilOrVal::Nil => B256::ZERO,
                NilOrVal::Val(BlockHash(hash)) => hash,
            },
            validator: vote.validator.0,
            signature: signed.signature,
        }
    }
}

impl WireVote {
    /// The vote, unless its kind does not exist. The signature is not looked at.
    #[must_use]
    pub fn to_vote(&self) -> Option<SignedVote> {
        let kind = match self.kind {
            1 => VoteType::Prevote,
            2 => VoteType::Precommit,
            _ => return None,
        };
        let block = if self.block_hash.is_zero() { NilOrVal::Nil } else { NilOrVal::Val(BlockHash(self.block_hash)) };
        let vote = Vote {
            kind,
            height: crate::types::Height(self.height),
            round: Round::new(self.round),
            block,
            validator: ValidatorAddress(self.validator),
        };
        Some(SignedMessage::new(vote, self.signature))
    }
}

#[cfg(test)]
mod tests {
    use alloy::{
        primitives::hex,
        sol,
        sol_types::{SolStruct as _, eip712_domain},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::types::Height;

    mod reference {
        //! The same structs as Solidity sees them.
        super::sol! {
            struct Vote { uint8 kind; uint64 height; uint32 round; bytes32 blockHash; }
            struct Proposal { uint64 height; uint32 round; int64 validRound; bytes32 blockHash; }
            struct Beacon { uint64 height; }
        }
    }

    fn signer() -> Signer {
        Signer::new(&B256::repeat_byte(7), Domain::new(7)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The digests are those of EIP-712 as another implementation computes them.
        #[test]
        fn digests_are_eip_712s(height: u64, round: u32, valid in prop::option::of(0_u32..), hash: [u8; 32], chain: u64) {
            let domain = eip712_domain! { name: "Cortensor Consensus", version: "1", chain_id: chain, };
            let hash = B256::from(hash);
            let vote = Vote {
                kind: VoteType::Precommit, height: Height(height), round: Round::new(round),
                block: NilOrVal::Val(BlockHash(hash)), validator: signer().address(),
            };
            let same = reference::Vote { kind: 2, height, round, blockHash: hash };
            prop_assert_eq!(Domain::new(chain).vote_digest(&vote), same.eip712_signing_hash(&domain));
            let proposal = Proposal {
                height: Height(height), round: Round::new(round), block: BlockHash(hash),
                valid_round: valid.map_or(Round::Nil, Round::new), proposer: signer().address(),
            };
            let same = reference::Proposal {
                height, round, validRound: valid.map_or(-1, i64::from), blockHash: hash,
            };
            prop_assert_eq!(Domain::new(chain).proposal_digest(&proposal), same.eip712_signing_hash(&domain));
            let same = reference::Beacon { height };
            prop_assert_eq!(Domain::new(chain).beacon_digest(height), same.eip712_signing_hash(&domain));
        }

        /// Only the unaltered signature over the very digest recovers the signer.
        #[test]
        fn a_changed_signature_recovers_somebody_else(byte in 0_usize..65, flip in 1_u8..) {
            let digest = B256::repeat_byte(3);
            let signature = signer().sign(digest);
            prop_assert_eq!(recover(digest, &signature), Some(signer().address()));
            let mut changed = signature;
            changed[byte] ^= flip;
            prop_assert_ne!(recover(digest, &changed), Some(signer().address()));
            prop_assert_ne!(recover(B256::repeat_byte(4), &signature), Some(signer().address()));
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
