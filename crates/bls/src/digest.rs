//! What is signed: EIP-712 over two structs. Each names the contract that is to believe it, and its chain.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolStruct as _, eip712_domain, sol};

sol! {
    struct Checkpoint { uint256 chainId; uint64 height; bytes32 blockHash; bytes32 setHash; }
    struct Registration { address validator; bytes32 keyHash; }
}

/// A contract and the chain that it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The chain.
    pub chain_id: u64,
    /// The contract: `Checkpoints` or `CheckpointKeys`.
    pub contract: Address,
}

/// That a set of validators decided a block of their chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointStatement {
    /// The validators' chain.
    pub chain_id: u64,
    /// The block's number.
    pub height: u64,
    /// The block.
    pub block_hash: B256,
    /// The hash of the set that decided it.
    pub set_hash: B256,
}

impl CheckpointStatement {
    /// What each validator signs for the `Checkpoints` contract that stands there.
    #[must_use]
    pub fn digest(&self, place: Place) -> B256 {
        let Self { chain_id, height, block_hash, set_hash } = *self;
        let domain = eip712_domain! {
            name: "Cortensor Checkpoints", version: "1", chain_id: place.chain_id, verifying_contract: place.contract,
        };
        Checkpoint { chainId: U256::from(chain_id), height, blockHash: block_hash, setHash: set_hash }
            .eip712_signing_hash(&domain)
    }
}

/// What a validator and its new key sign for the `CheckpointKeys` contract that stands there.
#[must_use]
pub fn registration_digest(place: Place, validator: Address, key_hash: B256) -> B256 {
    let domain = eip712_domain! {
        name: "Cortensor Checkpoint Keys", version: "1", chain_id: place.chain_id, verifying_contract: place.contract,
    };
    Registration { validator, keyHash: key_hash }.eip712_signing_hash(&domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    /// The hash of words, one after the other.
    fn of_words(words: &[B256]) -> B256 {
        keccak256(words.concat())
    }

    fn word(value: u64) -> B256 {
        B256::from(U256::from(value))
    }

    /// By the text of EIP-712; the contracts' tests hold both against `Checkpoints` and `CheckpointKeys`.
    fn by_hand(name: &str, words: &[B256]) -> B256 {
        let domain = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
        let contract = Address::repeat_byte(3).into_word();
        let domain = of_words(&[keccak256(domain), keccak256(name), keccak256("1"), word(900), contract]);
        keccak256([&[0x19, 0x01], domain.as_slice(), of_words(words).as_slice()].concat())
    }

    #[test]
    fn digests_are_what_eip_712_says() {
        let place = Place { chain_id: 900, contract: Address::repeat_byte(3) };
        let (block_hash, set_hash) = (B256::repeat_byte(4), B256::repeat_byte(5));
        let kind = keccak256("Checkpoint(uint256 chainId,uint64 height,bytes32 blockHash,bytes32 setHash)");
        let expected = by_hand("Cortensor Checkpoints", &[kind, word(7), word(u64::MAX), block_hash, set_hash]);
        let statement = CheckpointStatement { chain_id: 7, height: u64::MAX, block_hash, set_hash };
        assert_eq!(statement.digest(place), expected);
        let validator = Address::repeat_byte(6);
        let kind = keccak256("Registration(address validator,bytes32 keyHash)");
        let expected = by_hand("Cortensor Checkpoint Keys", &[kind, validator.into_word(), set_hash]);
        assert_eq!(registration_digest(place, validator, set_hash), expected);
    }
}
