//! The Merkle-Patricia state: how a block's changes become a new state root, and how any account or slot of any past
//! state is read and proved.
//!
//! [`StateStore`] is the seam: the chain knows only this trait, so another trie implementation can take the place of
//! [`EthTrieStore`] without touching anything else. Implementations are pure functions of the nodes they are given;
//! they guarantee that roots and nodes are those of the Ethereum specification (yellow paper, appendix D), so that a
//! proof verifies with any verifier. They do not write: new nodes are returned and stored with the block in one commit.

use std::sync::Arc;

use alloy::{
    consensus::{EMPTY_ROOT_HASH, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, U256, keccak256, map::B256Map},
    rlp,
};
use eth_trie::{EthTrie, Trie};
use parking_lot::Mutex;
use thiserror::Error;

/// Where trie nodes are read from, by hash.
pub trait NodeReader: Send + Sync {
    /// The encoded node with this hash, or none when it was never stored.
    fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError>;
}

/// Why a state could not be read or advanced. Every variant means that stored data is incomplete or damaged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// A node that a root refers to is absent.
    #[error("the state with root {root} is incomplete: {reason}")]
    Incomplete {
        /// The root that was walked from.
        root: B256,
        /// What the trie said.
        reason: String,
    },
    /// A leaf does not decode as what it must be.
    #[error("a leaf under root {root} is not a valid {what}")]
    Leaf {
        /// The root that was walked from.
        root: B256,
        /// The type expected.
        what: &'static str,
    },
    /// The nodes could not be read.
    #[error("reading trie nodes failed")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What one block did to one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChange {
    /// Whose account.
    pub address: Address,
    /// The account before the block.
    pub before: Option<TrieAccount>,
    /// Nonce, balance and code hash after the block; none when the account ceased to exist.
    pub after: Option<AccountFields>,
    /// The storage was erased before `slots` were written.
    pub wiped: bool,
    /// Slots whose value changed, with the value after the block.
    pub slots: Vec<(U256, U256)>,
}

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFields {
    /// Number of transactions sent or contracts created.
    pub nonce: u64,
    /// Balance in wei.
    pub balance: U256,
    /// Hash of the code.
    pub code_hash: B256,
}

impl AccountFields {
    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK_EMPTY
    }
}

/// The result of applying a block's changes to a state.
#[derive(Clone, Debug, Default)]
pub struct StateUpdate {
    /// The new state root.
    pub root: B256,
    /// Every changed account as it now is; none when it ceased to exist.
    pub accounts: Vec<(Address, Option<TrieAccount>)>,
    /// New trie nodes by hash.
    pub nodes: B256Map<Vec<u8>>,
}

/// A state that is committed to by one root per block.
pub trait StateStore: Send + Sync + 'static {
    /// The state after `changes`, starting from the state with this root.
    fn apply(&self, nodes: &dyn NodeReader, root: B256, changes: &[AccountChange]) -> Result<StateUpdate, StateError>;

    /// An account in the state with this root.
    fn account(&self, nodes: &dyn NodeReader, root: B256, address: Address) -> Result<Option<TrieAccount>, StateError>;

    /// A slot in the storage with this root; zero when it was never written.
    fn slot(&self, nodes: &dyn NodeReader, storage_root: B256, slot: U256) -> Result<U256, StateError>;

    /// The nodes from the state root to an account, or to where it would be.
    fn prove_account(&self, nodes: &dyn NodeReader, root: B256, address: Address) -> Result<Vec<Bytes>, StateError>;

    /// The nodes from a storage root to a slot, or to where it would be.
    fn prove_slot(&self, nodes: &dyn NodeReader, storage_root: B256, slot: U256) -> Result<Vec<Bytes>, StateError>;
}

/// [`StateStore`] on the `eth_trie` crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct EthTrieStore;

impl StateStore for EthTrieStore {
    fn apply(&self, nodes: &dyn NodeReader, root: B256, changes: &[AccountChange]) -> Result<StateUpdate, StateError> {
        let overlay = Arc::new(Overlay::new(nodes));
        let mut accounts = Vec::with_capacity(changes.len());
        for change in changes {
            accounts.push((change.address, account_after(&overlay, change)?));
        }
        let mut trie = open(&overlay, root)?;
        for (address, account) in &accounts {
            let key = keccak256(address);
            match account {
                Some(account) => trie.insert(key.as_slice(), &rlp::encode(account)),
                None => trie.remove(key.as_slice()).map(|_| ()),
            }
            .map_err(|error| incomplete(root, &error))?;
        }
        let root = trie.root_hash().map_err(|error| incomplete(root, &error))?;
        drop(trie);
        Ok(StateUpdate { root, accounts, nodes: std::mem::take(&mut *overlay.fresh.lock()) })
    }

    fn account(&self, nodes: &dyn NodeReader, root: B256, address: Address) -> Result<Option<TrieAccount>, StateError> {
        let leaf = get(nodes, root, keccak256(address))?;
        leaf.map(|leaf| decode(root, "account", &leaf)).transpose()
    }

    fn slot(&self, nodes: &dyn NodeReader, storage_root: B256, slot: U256) -> Result<U256, StateError> {
        let leaf = get(nodes, storage_root, keccak256(slot.to_be_bytes::<32>()))?;
        leaf.map_or(Ok(U256::ZERO), |leaf| decode(storage_root, "storage value", &leaf))
    }

    fn prove_account(&self, nodes: &dyn NodeReader, root: B256, address: Address) -> Result<Vec<Bytes>, StateError> {
        prove(nodes, root, keccak256(address))
    }

    fn prove_slot(&self, nodes: &dyn NodeReader, storage_root: B256, slot: U256) -> Result<Vec<Bytes>, StateError> {
        prove(nodes, storage_root, keccak256(slot.to_be_bytes::<32>()))
    }
}

/// The account with its new storage root, after its storage trie was updated in the overlay.
fn account_after(overlay: &Arc<Overlay<'_>>, change: &AccountChange) -> Result<Option<TrieAccount>, StateError> {
    let Some(after) = change.after.filter(|after| !after.is_empty()) else {
        return Ok(None);
    };
    let kept = change.before.as_ref().filter(|_| !change.wiped);
    let root = kept.map_or(EMPTY_ROOT_HASH, |before| before.storage_root);
    let storage_root = if change.slots.is_empty() { root } else { storage_after(overlay, root, &change.slots)? };
    Ok(Some(TrieAccount { nonce: after.nonce, balance: after.balance, storage_root, code_hash: after.code_hash }))
}

fn storage_after(overlay: &Arc<Overlay<'_>>, root: B256, slots: &[(U256, U256)]) -> Result<B256, StateError> {
    let mut trie = open(overlay, root)?;
    for (slot, value) in slots {
        let key = keccak256(slot.to_be_bytes::<32>());
        let outcome = if value.is_zero() {
            trie.remove(key.as_slice()).map(|_| ())
        } else {
            trie.insert(key.as_slice(), &rlp::encode(value))
        };
        outcome.map_err(|error| incomplete(root, &error))?;
    }
    trie.root_hash().map_err(|error| incomplete(root, &error))
}

fn get(nodes: &dyn NodeReader, root: B256, key: B256) -> Result<Option<Vec<u8>>, StateError> {
    if root == EMPTY_ROOT_HASH {
        return Ok(None);
    }
    let trie = open(&Arc::new(Overlay::new(nodes)), root)?;
    trie.get(key.as_slice()).map_err(|error| incomplete(root, &error))
}

fn prove(nodes: &dyn NodeReader, root: B256, key: B256) -> Result<Vec<Bytes>, StateError> {
    if root == EMPTY_ROOT_HASH {
        return Ok(Vec::new());
    }
    let mut trie = open(&Arc::new(Overlay::new(nodes)), root)?;
    let proof = trie.get_proof(key.as_slice()).map_err(|error| incomplete(root, &error))?;
    Ok(proof.into_iter().map(Bytes::from).collect())
}

fn open<'a>(overlay: &Arc<Overlay<'a>>, root: B256) -> Result<EthTrie<Overlay<'a>>, StateError> {
    if root == EMPTY_ROOT_HASH {
        return Ok(EthTrie::new(Arc::clone(overlay)));
    }
    EthTrie::from(Arc::clone(overlay), root).map_err(|error| incomplete(root, &error))
}

fn incomplete(root: B256, error: &eth_trie::TrieError) -> StateError {
    StateError::Incomplete { root, reason: error.to_string() }
}

fn decode<T: rlp::Decodable>(root: B256, what: &'static str, mut leaf: &[u8]) -> Result<T, StateError> {
    T::decode(&mut leaf).map_err(|_| StateError::Leaf { root, what })
}

/// Stored nodes below, nodes of the block being applied above.
struct Overlay<'a> {
    stored: &'a dyn NodeReader,
    fresh: Mutex<B256Map<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    fn new(stored: &'a dyn NodeReader) -> Self {
        Self { stored, fresh: Mutex::default() }
    }
}

impl eth_trie::DB for Overlay<'_> {
    type Error = StateError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let hash = B256::from_slice(key);
        let fresh = self.fresh.lock().get(&hash).cloned();
        fresh.map_or_else(|| self.stored.node(hash), |node| Ok(Some(node)))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<(), StateError> {
        self.fresh.lock().insert(B256::from_slice(key), value);
        Ok(())
    }

    /// Nodes are kept: they belong to earlier states, and two storages may share one.
    fn remove(&self, _key: &[u8]) -> Result<(), StateError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use alloy::consensus::proofs::state_root_unhashed;
    use alloy_trie::{Nibbles, proof::verify_proof, root::storage_root_unhashed};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Every node that any state so far needed.
    #[derive(Default)]
    struct Nodes(HashMap<B256, Vec<u8>>);

    impl NodeReader for Nodes {
        fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError> {
            Ok(self.0.get(&hash).cloned())
        }
    }

    /// The state kept the naive way.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Model(BTreeMap<Address, (AccountFields, BTreeMap<U256, U256>)>);

    impl Model {
        fn account(&self, address: Address) -> Option<TrieAccount> {
            let (fields, slots) = self.0.get(&address)?;
            let slots = slots.iter().map(|(slot, value)| (B256::from(*slot), *value));
            Some(TrieAccount {
                nonce: fields.nonce,
                balance: fields.balance,
                storage_root: storage_root_unhashed(slots),
                code_hash: fields.code_hash,
            })
        }

        fn root(&self) -> B256 {
            state_root_unhashed(self.0.keys().map(|address| (*address, self.account(*address).unwrap())))
        }

        fn apply(&mut self, change: &AccountChange) {
            let Some(fields) = change.after.filter(|fields| !fields.is_empty()) else {
                self.0.remove(&change.address);
                return;
            };
            let entry = self.0.entry(change.address).or_insert((fields, BTreeMap::new()));
            entry.0 = fields;
            if change.wiped {
                entry.1.clear();
            }
            for (slot, value) in &change.slots {
                if value.is_zero() {
                    entry.1.remove(slot)
                } else {
                    entry.1.insert(*slot, *value)
                };
            }
        }
    }

    /// One account's change: which account, its fields, whether it is wiped, and slots.
    type Step = (u8, Option<(u64, u64)>, bool, Vec<(u8, u8)>);

    fn step() -> impl Strategy<Value = Step> {
        let fields = prop_oneof![1 => Just(None), 5 => (0_u64..3, 0_u64..5).prop_map(Some)];
        (0_u8..12, fields, prop::bool::weighted(0.1), vec((0_u8..20, 0_u8..4), 0..8))
    }

    fn address(index: u8) -> Address {
        Address::from_word(keccak256([index]))
    }

    /// The changes of one block, one per account, as execution would report them.
    fn changes(model: &Model, steps: Vec<Step>) -> Vec<AccountChange> {
        let steps: BTreeMap<u8, Step> = steps.into_iter().map(|step| (step.0, step)).collect();
        let change = |(index, fields, wiped, slots): Step| {
            let slots: BTreeMap<u8, u8> = slots.into_iter().collect();
            let fields = fields.map(|(nonce, balance)| AccountFields {
                nonce,
                balance: U256::from(balance),
                code_hash: KECCAK_EMPTY,
            });
            AccountChange {
                address: address(index),
                before: model.account(address(index)),
                after: fields,
                wiped: wiped || fields.is_none(),
                slots: match fields {
                    Some(fields) if !fields.is_empty() => {
                        slots.into_iter().map(|(slot, value)| (U256::from(slot), U256::from(value))).collect()
                    }
                    _ => Vec::new(),
                },
            }
        };
        steps.into_values().map(change).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Roots, reads and proofs agree with an independent implementation after every block, and past states stay.
        #[test]
        fn the_trie_is_ethereums(blocks in vec(vec(step(), 0..10), 1..8)) {
            let (mut nodes, mut model, mut root) = (Nodes::default(), Model::default(), EMPTY_ROOT_HASH);
            let mut past = vec![(root, model.clone())];
            for steps in blocks {
                let changes = changes(&model, steps);
                let update = EthTrieStore.apply(&nodes, root, &changes).unwrap();
                nodes.0.extend(update.nodes);
                changes.iter().for_each(|change| model.apply(change));
                root = update.root;
                prop_assert_eq!(root, model.root());
                past.push((root, model.clone()));
            }
            for (root, model) in past {
                check_state(&nodes, root, &model);
            }
        }
    }

    fn check_state(nodes: &Nodes, root: B256, model: &Model) {
        for index in 0..12 {
            let address = address(index);
            let account = model.account(address);
            assert_eq!(EthTrieStore.account(nodes, root, address).unwrap(), account);
            let proof = EthTrieStore.prove_account(nodes, root, address).unwrap();
            let key = Nibbles::unpack(keccak256(address));
            if root != EMPTY_ROOT_HASH {
                verify_proof(root, key, account.map(rlp::encode), &proof).unwrap();
            }
            let storage_root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
            for slot in (0..20_u8).map(U256::from) {
                let value = model.0.get(&address).and_then(|(_, slots)| slots.get(&slot)).copied().unwrap_or_default();
                assert_eq!(EthTrieStore.slot(nodes, storage_root, slot).unwrap(), value);
                let proof = EthTrieStore.prove_slot(nodes, storage_root, slot).unwrap();
                let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
                let expected = (!value.is_zero()).then(|| rlp::encode(value));
                if storage_root != EMPTY_ROOT_HASH {
                    verify_proof(storage_root, key, expected, &proof).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_missing_node_is_an_error_and_not_an_empty_account() {
        let change = AccountChange {
            address: address(1),
            before: None,
            after: Some(AccountFields { nonce: 1, balance: U256::from(1), code_hash: KECCAK_EMPTY }),
            wiped: false,
            slots: Vec::new(),
        };
        let update = EthTrieStore.apply(&Nodes::default(), EMPTY_ROOT_HASH, &[change]).unwrap();
        let error = EthTrieStore.account(&Nodes::default(), update.root, address(1)).unwrap_err();
        assert!(matches!(error, StateError::Incomplete { .. }), "{error:?}");
    }
}
