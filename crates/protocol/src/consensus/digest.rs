//! The digests behind validators' signatures: EIP-712 over four structs (rules V1 to V3 and B1 of docs/spec/consensus.md, section 6
//! of docs/spec/settlement.md).

use alloy_primitives::{B256, U256, keccak256};

/// Which of a round's two votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteKind {
    /// "I would accept this block."
    Prevote,
    /// "I have seen that more than two thirds would, and commit to it."
    Precommit,
}

impl VoteKind {
    /// As signed: 1 or 2.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Prevote => 1,
            Self::Precommit => 2,
        }
    }

    /// The opposite; none for other numbers.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Prevote),
            2 => Some(Self::Precommit),
            _ => None,
        }
    }
}

/// The validators of which chain sign.
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

    /// What a vote's signature is over (rule V2). A zero block hash is a vote for nil.
    #[must_use]
    pub fn vote(&self, kind: VoteKind, height: u64, round: u32, block_hash: B256) -> B256 {
        self.digest(&[
            keccak256("Vote(uint8 kind,uint64 height,uint32 round,bytes32 blockHash)"),
            word(kind.number().into()),
            word(height),
            word(round.into()),
            block_hash,
        ])
    }

    /// What a proposal's signature is over (rule V3); `valid_round` is none for a new block.
    #[must_use]
    pub fn proposal(&self, height: u64, round: u32, valid_round: Option<u32>, block_hash: B256) -> B256 {
        self.digest(&[
            keccak256("Proposal(uint64 height,uint32 round,int64 validRound,bytes32 blockHash)"),
            word(height),
            word(round.into()),
            valid_round.map_or(B256::repeat_byte(0xff), |round| word(round.into())),
            block_hash,
        ])
    }

    /// What a contribution to the randomness beacon is over (rule B1).
    #[must_use]
    pub fn beacon(&self, height: u64) -> B256 {
        self.digest(&[keccak256("Beacon(uint64 height)"), word(height)])
    }

    /// What says that a block of the chain `foreign` is final (docs/spec/settlement.md, section 6).
    #[must_use]
    pub fn foreign_block(&self, foreign: u64, number: u64, block_hash: B256) -> B256 {
        self.digest(&[
            keccak256("ForeignBlock(uint256 chainId,uint64 number,bytes32 blockHash)"),
            word(foreign),
            word(number),
            block_hash,
        ])
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::{SolStruct as _, eip712_domain, sol};
    use proptest::prelude::*;

    sol! {
        struct Vote { uint8 kind; uint64 height; uint32 round; bytes32 blockHash; }
        struct Proposal { uint64 height; uint32 round; int64 validRound; bytes32 blockHash; }
        struct Beacon { uint64 height; }
        struct ForeignBlock { uint256 chainId; uint64 number; bytes32 blockHash; }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The digests are those of EIP-712 as another implementation computes them.
        #[test]
        fn digests_are_eip_712s(height: u64, round: u32, valid: Option<u32>, hash: [u8; 32], chain: u64, foreign: u64) {
            let (own, hash) = (Domain::new(chain), B256::from(hash));
            let domain = eip712_domain! { name: "Cortensor Consensus", version: "1", chain_id: chain, };
            let same = Vote { kind: 2, height, round, blockHash: hash };
            prop_assert_eq!(own.vote(VoteKind::Precommit, height, round, hash), same.eip712_signing_hash(&domain));
            let same = Vote { kind: 1, ..same };
            prop_assert_eq!(own.vote(VoteKind::Prevote, height, round, hash), same.eip712_signing_hash(&domain));
            let same = Proposal { height, round, validRound: valid.map_or(-1, i64::from), blockHash: hash };
            prop_assert_eq!(own.proposal(height, round, valid, hash), same.eip712_signing_hash(&domain));
            prop_assert_eq!(own.beacon(height), Beacon { height }.eip712_signing_hash(&domain));
            let same = ForeignBlock { chainId: U256::from(foreign), number: height, blockHash: hash };
            prop_assert_eq!(own.foreign_block(foreign, height, hash), same.eip712_signing_hash(&domain));
        }
    }
}
