//! What is signed: EIP-712 over two structs. Each names the contract that is to believe it, and its chain.

use alloy_primitives::{Address, B256, U256, keccak256};

/// A contract and the chain that it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The chain.
    pub chain_id: u64,
    /// The contract: `Checkpoints` or `CheckpointKeys`.
    pub contract: Address,
}

impl Place {
    fn digest(self, name: &str, words: &[B256]) -> B256 {
        let domain = keccak256(
            [
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(name),
                keccak256("1"),
                word(self.chain_id),
                self.contract.into_word(),
            ]
            .concat(),
        );
        keccak256([&[0x19, 0x01], domain.as_slice(), keccak256(words.concat()).as_slice()].concat())
    }
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
        let kind = keccak256("Checkpoint(uint256 chainId,uint64 height,bytes32 blockHash,bytes32 setHash)");
        let words = [kind, word(self.chain_id), word(self.height), self.block_hash, self.set_hash];
        place.digest("Cortensor Checkpoints", &words)
    }
}

/// What a validator and its new key sign for the `CheckpointKeys` contract that stands there.
#[must_use]
pub fn registration_digest(place: Place, validator: Address, key_hash: B256) -> B256 {
    let kind = keccak256("Registration(address validator,bytes32 keyHash)");
    place.digest("Cortensor Checkpoint Keys", &[kind, validator.into_word(), key_hash])
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
        struct Checkpoint { uint256 chainId; uint64 height; bytes32 blockHash; bytes32 setHash; }
        struct Registration { address validator; bytes32 keyHash; }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The digests are those of EIP-712 as another implementation computes them.
        #[test]
        fn digests_are_eip_712s(height: u64, hash: [u8; 32], set: [u8; 32], chain: u64, upper: u64, at: [u8; 20]) {
            let contract = Address::from(at);
            let place = Place { chain_id: upper, contract };
            let (block_hash, set_hash) = (B256::from(hash), B256::from(set));
            let own = CheckpointStatement { chain_id: chain, height, block_hash, set_hash };
            let same = Checkpoint { chainId: U256::from(chain), height, blockHash: block_hash, setHash: set_hash };
            let domain = eip712_domain! {
                name: "Cortensor Checkpoints", version: "1", chain_id: upper, verifying_contract: contract,
            };
            prop_assert_eq!(own.digest(place), same.eip712_signing_hash(&domain));
            let same = Registration { validator: contract, keyHash: set_hash };
            let domain = eip712_domain! {
                name: "Cortensor Checkpoint Keys", version: "1", chain_id: upper, verifying_contract: contract,
            };
            prop_assert_eq!(registration_digest(place, contract, set_hash), same.eip712_signing_hash(&domain));
        }
    }
}
