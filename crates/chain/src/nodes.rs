//! What an encoded trie node refers to: how a whole state is walked without knowing a single key.
//!
//! Node encoding: yellow paper, appendix D. A child of less than 32 bytes lies in its parent instead of being referred
//! to. A leaf of the trie of accounts refers to the account's storage.

use alloy::{
    consensus::{EMPTY_ROOT_HASH, TrieAccount},
    primitives::B256,
    rlp::{Decodable as _, Header},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};

/// The bit of a path's first half byte that says: a leaf.
const LEAF_FLAG: u8 = 0x20;

/// A node that another refers to, or the root of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Reference {
    pub(crate) hash: B256,
    /// Whether it belongs to the storage of an account, whose leaves refer to nothing.
    pub(crate) storage: bool,
}

/// The nodes to which a node refers, in the order of their paths; none if it is malformed.
pub(crate) fn references(node: &[u8], storage: bool) -> Option<Vec<Reference>> {
    let mut found = Vec::new();
    collect(node, storage, &mut found)?;
    Some(found)
}

fn collect(node: &[u8], storage: bool, found: &mut Vec<Reference>) -> Option<()> {
    let items = items(node)?;
    match items.as_slice() {
        [path, value] if path.payload.first()? & LEAF_FLAG != 0 => {
            if !storage {
                let account = TrieAccount::decode(&mut &*value.payload).ok()?;
                let root = (account.storage_root != EMPTY_ROOT_HASH).then_some(account.storage_root);
                found.extend(root.map(|hash| Reference { hash, storage: true }));
            }
        }
        [_, child] => refer(child, storage, found)?,
        [children @ .., _value] if children.len() == 16 => {
            for child in children.iter().filter(|child| child.list || !child.payload.is_empty()) {
                refer(child, storage, found)?;
            }
        }
        _ => return None,
    }
    Some(())
}

fn refer(child: &Item<'_>, storage: bool, found: &mut Vec<Reference>) -> Option<()> {
    if child.list {
        // Shorter than its parent, so this ends.
        return collect(child.whole, storage, found);
    }
    found.push(Reference { hash: B256::try_from(child.payload).ok()?, storage });
    Some(())
}

struct Item<'a> {
    list: bool,
    whole: &'a [u8],
    payload: &'a [u8],
}

fn items(node: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut rest = node;
    let header = Header::decode(&mut rest).ok()?;
    if !header.list || header.payload_length != rest.len() {
        return None;
    }
    let mut items = Vec::with_capacity(17);
    while !rest.is_empty() {
        let start = rest;
        let header = Header::decode(&mut rest).ok()?;
        let payload = rest.get(..header.payload_length)?;
        rest = &rest[header.payload_length..];
        items.push(Item { list: header.list, whole: &start[..start.len() - rest.len()], payload });
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloy::{
        consensus::constants::KECCAK_EMPTY,
        primitives::{Address, U256, keccak256},
    };

    use super::*;
    use crate::state::{AccountChange, AccountFields, EthTrieStore, NodeReader, StateError, StateStore as _};

    struct NoNodes;

    impl NodeReader for NoNodes {
        fn node(&self, _hash: B256) -> Result<Option<Vec<u8>>, StateError> {
            Ok(None)
        }
    }

    fn change(index: u64, slots: u64) -> AccountChange {
        let fields = AccountFields { nonce: index, balance: U256::from(1), code_hash: KECCAK_EMPTY };
        AccountChange {
            address: Address::from_word(keccak256(index.to_be_bytes())),
            before: None,
            after: Some(fields),
            wiped: false,
            slots: (0..slots).map(|slot| (U256::from(slot), U256::from(slot + index))).collect(),
        }
    }

    /// A state that was built at once has no other nodes than its own.
    #[test]
    fn a_walk_reaches_every_node_and_no_other() {
        for (accounts, slots) in [(1, 0), (1, 1), (40, 30), (3, 900), (700, 0)] {
            let changes: Vec<_> = (1..=accounts).map(|index| change(index, slots)).collect();
            let update = EthTrieStore.apply(&NoNodes, EMPTY_ROOT_HASH, &changes).unwrap();
            let (mut open, mut seen) = (vec![Reference { hash: update.root, storage: false }], BTreeSet::new());
            while let Some(Reference { hash, storage }) = open.pop() {
                seen.insert(hash);
                open.extend(references(&update.nodes[&hash], storage).unwrap());
            }
            assert_eq!(seen, update.nodes.keys().copied().collect());
        }
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for bytes in [&[][..], &[0x80], &[0xc0], &[0xc1, 0x80], &[0xc2, 0x00, 0x01], &[0xc2, 0x80, 0x80], &[0xd1; 18]] {
            assert_eq!(references(bytes, true), None, "{bytes:x?}");
        }
    }
}
