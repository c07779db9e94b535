//! What stands under a header's roots, by Merkle-Patricia proofs.

use super::proof::{Account, AccountProof, TransactionProof, VerifiedTransaction};
use alloy_consensus::{EMPTY_ROOT_HASH, Header, ReceiptEnvelope, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer, proof::verify_proof};

/// Why something is not shown to stand in a block.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// The path of nodes does not lead from the root to the value.
    #[error("the proof of {what} does not hold: {reason}")]
    Proof {
        /// Of what.
        what: &'static str,
        /// What the trie said.
        reason: String,
    },
    /// Not the encoding of what it should be.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// An account that is not there has no slots but empty ones.
    #[error("slots of an account that does not exist")]
    NoAccount,
}

fn holds(
    what: &'static str,
    root: B256,
    key: Nibbles,
    value: Option<Vec<u8>>,
    proof: &[Bytes],
) -> Result<(), StateError> {
    verify_proof(root, key, value, proof).map_err(|error| StateError::Proof { what, reason: error.to_string() })
}

fn hashed(key: &[u8]) -> Nibbles {
    Nibbles::unpack(keccak256(key))
}

fn ordered_key(index: u64) -> Nibbles {
    Nibbles::unpack(alloy_rlp::encode(index))
}

impl AccountProof {
    /// Whether account and slots are as the state with this root has them.
    ///
    /// # Errors
    /// When they are not shown to be.
    pub fn verify(&self, state_root: B256) -> Result<(), StateError> {
        let leaf = self.account.as_ref().map(|account| alloy_rlp::encode(account.to_trie()));
        holds("the account", state_root, hashed(self.address.as_slice()), leaf, &self.proof)?;
        if self.account.is_none() && !self.slots.is_empty() {
            return Err(StateError::NoAccount);
        }
        let root = self.account.as_ref().map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        for slot in &self.slots {
            let value = (!slot.value.is_zero()).then(|| alloy_rlp::encode(slot.value));
            holds("a slot", root, hashed(slot.slot.as_slice()), value, &slot.proof)?;
        }
        Ok(())
    }
}

impl Account {
    fn to_trie(&self) -> TrieAccount {
        let Self { nonce, balance, storage_root, code_hash } = *self;
        TrieAccount { nonce: nonce.to(), balance, storage_root, code_hash }
    }

    /// From the fields that `eth_getProof` answers with; none for what no state holds.
    #[must_use]
    pub fn from_answer(nonce: u64, balance: U256, storage_root: B256, code_hash: B256) -> Option<Self> {
        let account = TrieAccount { nonce, balance, storage_root, code_hash };
        let none = account == TrieAccount::default() || code_hash.is_zero();
        (!none).then(|| Self { nonce: alloy_primitives::U64::from(nonce), balance, storage_root, code_hash })
    }
}

impl TransactionProof {
    /// Whether transaction and receipt stand at one place of the block with this header.
    ///
    /// # Errors
    /// When they are not shown to.
    pub fn verify(&self, header: &Header) -> Result<VerifiedTransaction, StateError> {
        let (index, key) = (self.index.to(), ordered_key(self.index.to()));
        let transaction = Some(self.transaction.to_vec());
        holds("the transaction", header.transactions_root, key, transaction, &self.transaction_proof)?;
        holds("the receipt", header.receipts_root, key, Some(self.receipt.to_vec()), &self.receipt_proof)?;
        let transaction = TxEnvelope::decode_2718_exact(&self.transaction);
        let transaction = transaction.map_err(|_| StateError::Malformed("transaction"))?;
        let receipt = ReceiptEnvelope::<alloy_primitives::Log>::decode_2718_exact(&self.receipt);
        let receipt = receipt.map_err(|_| StateError::Malformed("receipt"))?;
        let logs = receipt.logs().to_vec();
        Ok(VerifiedTransaction { hash: *transaction.tx_hash(), index, success: receipt.status(), logs })
    }
}

/// The nodes from the root of a list's trie (transactions, receipts) to one of its items.
#[must_use]
pub fn ordered_proof(items: &[Vec<u8>], index: u64) -> Vec<Bytes> {
    let mut leaves: Vec<_> = (0..).map(ordered_key).zip(items).collect();
    leaves.sort_unstable_by_key(|(key, _)| *key);
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![ordered_key(index)]));
    for (key, item) in leaves {
        builder.add_leaf(key, item);
    }
    builder.root();
    builder.take_proof_nodes().into_nodes_sorted().into_iter().map(|(_, node)| node).collect()
}
