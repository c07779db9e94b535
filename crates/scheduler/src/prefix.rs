//! Prefix affinity: who probably holds a prompt's beginning in its cache.
//!
//! A prompt is cut into blocks of [`BLOCK_BYTES`]; each block's hash includes the one before it and the model, so that
//! one lookup per block finds the longest known common beginning. The index is bounded and forgets what was used least
//! recently. A wrong entry (a cache that was emptied, a hash that collides) costs time and never correctness.

use crate::snapshot::{Request, Settings, WorkerSnapshot};
use cortensor_protocol::{ModelId, Operator};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

/// Bytes of a block: some 64 to 128 LLM tokens of English text.
pub const BLOCK_BYTES: usize = 384;
/// Blocks of a prompt that are looked at; what lies beyond counts as unknown.
pub const BLOCKS_MAX: usize = 512;
/// Workers remembered per block, most recent first.
const HOLDERS_MAX: usize = 4;

/// Hash of a prompt's beginning up to the end of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(u64);

/// The hashes of a prompt's full blocks, at most [`BLOCKS_MAX`].
#[must_use]
pub fn prompt_blocks(model: ModelId, prompt: &[u8]) -> Vec<BlockHash> {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    let block = |bytes: &[u8]| {
        hasher.write(bytes);
        BlockHash(hasher.finish())
    };
    prompt.chunks_exact(BLOCK_BYTES).take(BLOCKS_MAX).map(block).collect()
}

/// Whether a worker holds enough of the input to be preferred for it.
#[must_use]
pub fn holds(worker: &WorkerSnapshot, request: &Request, settings: &Settings) -> bool {
    let share = request.input_tokens().saturating_mul(u64::from(settings.prefix_permille)) / 1_000;
    let held = u64::from(worker.prefix_tokens);
    held >= share && held >= u64::from(settings.prefix_tokens_min.max(1))
}

#[derive(Debug)]
struct Entry {
    /// Most recent first.
    holders: Vec<Operator>,
    /// Key into `by_age`.
    used: u64,
}

/// Which workers were given which beginnings of prompts. Holds at most `capacity` blocks.
#[derive(Debug)]
pub struct PrefixIndex {
    capacity: usize,
    clock: u64,
    blocks: HashMap<BlockHash, Entry, BuildHasherDefault<DefaultHasher>>,
    by_age: BTreeMap<u64, BlockHash>,
}

impl PrefixIndex {
    /// An empty index for at most `capacity` blocks (about 200 bytes each).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), clock: 0, blocks: HashMap::default(), by_age: BTreeMap::new() }
    }

    /// Blocks held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Remembers that `operator` was given a prompt of these blocks.
    pub fn insert(&mut self, blocks: &[BlockHash], operator: Operator) {
        // Later blocks are touched first, so that a prompt's beginning is forgotten last.
        for block in blocks.iter().rev() {
            self.clock += 1;
            let used = self.clock;
            let entry = self.blocks.entry(*block).or_insert_with(|| Entry { holders: Vec::with_capacity(1), used });
            if entry.used != used {
                self.by_age.remove(&entry.used);
                entry.used = used;
            }
            self.by_age.insert(used, *block);
            entry.holders.retain(|holder| *holder != operator);
            entry.holders.truncate(HOLDERS_MAX - 1);
            entry.holders.insert(0, operator);
        }
        while self.blocks.len() > self.capacity {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.blocks.remove(&oldest);
        }
    }

    /// The workers that hold a beginning of the prompt, with its length in bytes, longest first. Bounded by the number
    /// of blocks times the workers remembered per block.
    #[must_use]
    pub fn lookup(&self, blocks: &[BlockHash]) -> Vec<(Operator, usize)> {
        let known: Vec<_> = blocks.iter().map_while(|block| self.blocks.get(block)).collect();
        let mut found: Vec<(Operator, usize)> = Vec::new();
        for (position, entry) in known.iter().enumerate().rev() {
            for holder in &entry.holders {
                if !found.iter().any(|(operator, _)| operator == holder) {
                    found.push((*holder, (position + 1) * BLOCK_BYTES));
                }
            }
        }
        found
    }

    /// Forgets a worker, whose cache is gone.
    pub fn remove(&mut self, operator: Operator) {
        let by_age = &mut self.by_age;
        self.blocks.retain(|_, entry| {
            entry.holders.retain(|holder| *holder != operator);
            if entry.holders.is_empty() {
                by_age.remove(&entry.used);
            }
            !entry.holders.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    fn operator(byte: u8) -> Operator {
        Operator(Address::repeat_byte(byte))
    }

    fn text(blocks: usize, fill: u8) -> Vec<u8> {
        vec![fill; blocks * BLOCK_BYTES + 7]
    }

    #[test]
    fn the_longest_common_beginning_is_found() {
        let mut index = PrefixIndex::new(100);
        let model = ModelId::default();
        index.insert(&prompt_blocks(model, &text(4, b'a')), operator(1));
        index.insert(&prompt_blocks(model, &text(2, b'a')), operator(2));
        let longer = [text(3, b'a').as_slice(), &text(3, b'b')].concat();
        let found = index.lookup(&prompt_blocks(model, &longer));
        assert_eq!(found, [(operator(1), 3 * BLOCK_BYTES), (operator(2), 2 * BLOCK_BYTES)]);
        assert!(index.lookup(&prompt_blocks(ModelId([1; 32].into()), &longer)).is_empty(), "models are apart");
        assert!(index.lookup(&prompt_blocks(model, b"short")).is_empty());
    }

    #[test]
    fn a_block_in_another_place_is_another_block() {
        let mut index = PrefixIndex::new(100);
        index.insert(&prompt_blocks(ModelId::default(), &text(1, b'a')), operator(1));
        let shifted = [text(1, b'b')[..BLOCK_BYTES].to_vec(), text(1, b'a')].concat();
        assert!(index.lookup(&prompt_blocks(ModelId::default(), &shifted)).is_empty());
    }

    #[test]
    fn the_least_recently_used_is_forgotten_first_and_beginnings_last() {
        let mut index = PrefixIndex::new(4);
        let (a, b) =
            (prompt_blocks(ModelId::default(), &text(3, b'a')), prompt_blocks(ModelId::default(), &text(2, b'b')));
        index.insert(&a, operator(1));
        index.insert(&b, operator(2));
        assert_eq!(index.len(), 4);
        assert_eq!(index.lookup(&a), [(operator(1), 2 * BLOCK_BYTES)]);
        assert_eq!(index.lookup(&b), [(operator(2), 2 * BLOCK_BYTES)]);
    }

    #[test]
    fn a_removed_worker_leaves_nothing() {
        let mut index = PrefixIndex::new(10);
        let blocks = prompt_blocks(ModelId::default(), &text(3, b'a'));
        index.insert(&blocks, operator(1));
        index.insert(&blocks[..1], operator(2));
        index.remove(operator(1));
        assert_eq!(index.lookup(&blocks), [(operator(2), BLOCK_BYTES)]);
        assert_eq!((index.len(), index.by_age.len()), (1, 1));
    }
}
