//! The state of the last few blocks, in memory, before it is written to the tables together.
//!
//! Blocks themselves are durable one by one; what follows from executing them is not written with each. Random places of
//! large tables are what a block's changes go to, and a page that ten blocks change is written once instead of ten times.
//! After a crash the blocks above the tables' state are executed again (`replay.rs`). A [`Layer`] is what one block
//! changed and never changes itself; [`Layers`] are cheap to clone.

use std::sync::Arc;

use alloy::{
    consensus::TrieAccount,
    primitives::{
        Address, B256, Bytes, U256,
        map::{AddressMap, B256Map, U256Map},
    },
};
use parking_lot::Mutex;

use super::BlockWrite;

/// Blocks whose state is written together.
const LAYERS_MAX: usize = 16;
/// Bytes of trie nodes that wait to be written; fewer blocks wait when they are large.
const NODE_BYTES_MAX: usize = 32 << 20;
/// Nodes in one generation of the cache; a node takes about 400 bytes.
const CACHED_NODES_MAX: usize = 65_536;

/// What one block changed.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) accounts: AddressMap<Option<TrieAccount>>,
    pub(super) slots: AddressMap<SlotChanges>,
    pub(super) codes: Vec<(B256, Bytes)>,
    pub(super) nodes: B256Map<Vec<u8>>,
    /// Where the block's transactions are in it.
    pub(super) positions: B256Map<u32>,
    node_bytes: usize,
}

/// What one block did to the slots of one account.
#[derive(Debug, Default)]
pub(super) struct SlotChanges {
    /// All slots were erased before `written`.
    pub(super) wiped: bool,
    pub(super) written: U256Map<U256>,
}

impl Layer {
    pub(super) fn of(block: BlockWrite) -> Self {
        let slots = block.slots.into_iter().map(|write| {
            let written = write.slots.into_iter().collect();
            (write.address, SlotChanges { wiped: write.wiped, written })
        });
        Self {
            number: block.header.number,
            hash: block.header.hash(),
            accounts: block.state.accounts.into_iter().collect(),
            slots: slots.collect(),
            codes: block.codes,
            node_bytes: block.state.nodes.values().map(Vec::len).sum(),
            nodes: block.state.nodes,
            positions: block.transactions.iter().map(|tx| tx.hash()).zip(0..).collect(),
        }
    }
}

/// The layers above the tables, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers(Vec<Arc<Layer>>);

impl Layers {
    pub(super) fn push(&mut self, layer: Layer) {
        self.0.push(Arc::new(layer));
    }

    /// Whether it is time to write them.
    pub(super) fn are_full(&self) -> bool {
        let bytes: usize = self.0.iter().map(|layer| layer.node_bytes).sum();
        self.0.len() >= LAYERS_MAX || bytes >= NODE_BYTES_MAX
    }

    /// The block that the newest layer is of.
    pub(super) fn head(&self) -> Option<u64> {
        self.0.last().map(|layer| layer.number)
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter().map(|layer| &**layer)
    }

    fn newest_first(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter().rev().map(|layer| &**layer)
    }

    /// The account, if a layer changed it; the inner none if it ceased to exist.
    pub(super) fn account(&self, address: Address) -> Option<Option<TrieAccount>> {
        self.newest_first().find_map(|layer| layer.accounts.get(&address).copied())
    }

    /// The slot, if a layer changed it.
    pub(super) fn slot(&self, address: Address, slot: U256) -> Option<U256> {
        self.newest_first().find_map(|layer| {
            let changes = layer.slots.get(&address)?;
            changes.written.get(&slot).copied().or(changes.wiped.then_some(U256::ZERO))
        })
    }

    pub(super) fn node(&self, hash: B256) -> Option<&[u8]> {
        self.newest_first().find_map(|layer| layer.nodes.get(&hash)).map(Vec::as_slice)
    }

    pub(super) fn code(&self, hash: B256) -> Option<&Bytes> {
        self.newest_first().flat_map(|layer| &layer.codes).find(|(known, _)| *known == hash).map(|(_, code)| code)
    }

    pub(super) fn number(&self, hash: B256) -> Option<u64> {
        self.newest_first().find(|layer| layer.hash == hash).map(|layer| layer.number)
    }

    pub(super) fn position(&self, transaction: B256) -> Option<(u64, u32)> {
        self.newest_first().find_map(|layer| Some((layer.number, *layer.positions.get(&transaction)?)))
    }
}

/// Trie nodes that were read or written lately. When a generation is full it becomes the old one and that one is dropped.
#[derive(Debug, Default)]
pub(super) struct NodeCache(Mutex<[B256Map<Arc<[u8]>>; 2]>);

impl NodeCache {
    pub(super) fn get(&self, hash: B256) -> Option<Arc<[u8]>> {
        let mut generations = self.0.lock();
        if let Some(node) = generations[0].get(&hash) {
            return Some(Arc::clone(node));
        }
        let node = generations[1].remove(&hash)?;
        insert(&mut generations, hash, Arc::clone(&node));
        Some(node)
    }

    pub(super) fn put(&self, hash: B256, node: &[u8]) {
        insert(&mut self.0.lock(), hash, node.into());
    }
}

fn insert(generations: &mut [B256Map<Arc<[u8]>>; 2], hash: B256, node: Arc<[u8]>) {
    if generations[0].len() >= CACHED_NODES_MAX {
        generations.swap(0, 1);
        generations[0].clear();
    }
    generations[0].insert(hash, node);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(number: u64, wiped: bool, slots: &[(u64, u64)]) -> Layer {
        let written = slots.iter().map(|(slot, value)| (U256::from(*slot), U256::from(*value))).collect();
        let slots = [(Address::ZERO, SlotChanges { wiped, written })].into_iter().collect();
        Layer { number, slots, ..Layer::default() }
    }

    #[test]
    fn newer_layers_hide_older_ones_and_an_erased_storage_hides_all() {
        let mut layers = Layers::default();
        layers.push(layer(1, false, &[(1, 10), (2, 20)]));
        layers.push(layer(2, false, &[(1, 11)]));
        let slot = |layers: &Layers, slot: u64| layers.slot(Address::ZERO, U256::from(slot));
        assert_eq!(slot(&layers, 1), Some(U256::from(11)));
        assert_eq!(slot(&layers, 2), Some(U256::from(20)));
        assert_eq!(slot(&layers, 3), None, "the tables know");
        layers.push(layer(3, true, &[(2, 22)]));
        assert_eq!(slot(&layers, 1), Some(U256::ZERO));
        assert_eq!(slot(&layers, 2), Some(U256::from(22)));
        assert_eq!(slot(&layers, 3), Some(U256::ZERO), "whatever the tables say");
    }

    #[test]
    fn the_cache_keeps_what_is_used_and_is_bounded() {
        let cache = NodeCache::default();
        let hash = |index: usize| B256::from(U256::from(index));
        cache.put(hash(0), b"used");
        for index in 1..=3 * CACHED_NODES_MAX {
            cache.put(hash(index), b"other");
            if index % (CACHED_NODES_MAX / 2) == 0 {
                assert_eq!(cache.get(hash(0)).as_deref(), Some(b"used".as_slice()));
            }
        }
        assert_eq!(cache.get(hash(1)), None);
        assert!(cache.0.lock().iter().all(|generation| generation.len() <= CACHED_NODES_MAX));
    }
}
