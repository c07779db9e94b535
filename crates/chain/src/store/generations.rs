//! Trie nodes in two generations, so that those of old states can go: a copying collector.
//!
//! Nodes are written to the current generation. Once it has doubled, the next one begins after a block B: whatever
//! later blocks write goes there, and the nodes of B's state follow, a bounded number with each block. A state after B
//! consists of nodes of B's state and of nodes written after B, so that the new generation is complete for it; then, and
//! once no state before B is to be kept, the old one is dropped, again a bounded number of rows at a time. No node is
//! counted or tracked, and none goes that the walk did not find a copy of. Everything happens in the transactions that write
//! the state of blocks (`layers.rs`): after a crash the walk goes on where the tables say that it was.

use alloy::{consensus::EMPTY_ROOT_HASH, primitives::B256};
use alloy_rlp::{Decodable as _, RlpDecodable, RlpEncodable};
use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

use super::{META, NODE_CHUNKS, NODES, StoreError, layers::Layers, snapshot::StoredNodes};
use crate::{
    config::StatesKept,
    nodes::{Reference, references},
};

/// What META says of the generations; nothing while the first one is the only one.
const GENERATIONS: &str = "generations";
/// Nodes lie one after the other in chunks of at most this size, in the order in which they were written. A leaf of the
/// table holds one, and a leaf takes a power of two of bytes.
const CHUNK_BYTES: usize = (16 << 10) - 64;
/// For each node that a block writes so many are copied, and so many rows of the old generation are dropped: the new one is
/// complete, and the old one gone, before the new one has doubled.
const COPIED_PER_WRITTEN: usize = 2;
const DROPPED_PER_WRITTEN: usize = 4;
/// About so many nodes are in a chunk.
const NODES_PER_CHUNK: usize = 64;

/// How much is done beside the work that is in proportion to what blocks write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Chunks that a generation has at least before the next one begins.
    pub(super) chunks_min: u64,
    /// Nodes that are copied with each block.
    pub(super) copied: usize,
    /// Rows that are dropped whenever state is written.
    pub(super) dropped: usize,
}

impl Pace {
    /// With generations of at least so many bytes.
    pub(super) fn with(node_bytes_min: usize) -> Self {
        Self { chunks_min: node_bytes_min.div_ceil(CHUNK_BYTES) as u64, copied: 256, dropped: 4_096 }
    }
}

/// The tables of a generation.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    /// Where a node begins: its chunk, and the byte in it. A node says itself where it ends.
    pub(super) places: TableDefinition<'static, &'static [u8; 32], (u64, u32)>,
    pub(super) chunks: TableDefinition<'static, u64, &'static [u8]>,
}

/// The tables of generations with even and with odd numbers.
pub(super) const TABLES: [Tables; 2] = [
    Tables { places: NODES, chunks: NODE_CHUNKS },
    Tables {
        places: TableDefinition::new("nodes of odd generations"),
        chunks: TableDefinition::new("node chunks of odd generations"),
    },
];

/// How far the replacement of one generation by the next is.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(super) struct Progress {
    /// The current generation.
    pub(super) generation: u64,
    /// The block after which it began.
    pub(super) begun: u64,
    /// What has to be copied yet, with everything below it; the last one first. A few hundred at most.
    open: Vec<Reference>,
    /// Chunks of the generation when it was complete.
    complete_chunks: u64,
}

impl Progress {
    pub(super) fn read(transaction: &redb::ReadTransaction) -> Result<Self, StoreError> {
        let meta = transaction.open_table(META)?;
        let Some(record) = meta.get(GENERATIONS)? else { return Ok(Self::default()) };
        Self::decode(&mut record.value()).map_err(|_| StoreError::Damaged { what: "record of generations" })
    }

    /// The next generation, which begins after a block with this state root.
    fn after(&self, head: u64, root: B256) -> Self {
        let root = (root != EMPTY_ROOT_HASH).then_some(Reference { hash: root, storage: false });
        Self { generation: self.generation + 1, begun: head, open: root.into_iter().collect(), complete_chunks: 0 }
    }

    pub(super) fn current(&self) -> Tables {
        TABLES[usize::from(!self.generation.is_multiple_of(2))]
    }

    pub(super) fn previous(&self) -> Tables {
        TABLES[usize::from(self.generation.is_multiple_of(2))]
    }
}

/// What is pruned, and what was read ahead for it.
#[derive(Debug)]
pub(super) struct Collector {
    kept: StatesKept,
    pace: Pace,
    progress: Progress,
    /// Nodes of the old generation that are written to the new one with the next state.
    copied: Vec<(B256, Vec<u8>)>,
}

impl Collector {
    pub(super) fn new(kept: StatesKept, pace: Pace, progress: Progress) -> Self {
        Self { kept, pace, progress, copied: Vec::new() }
    }

    pub(super) fn is_copying(&self) -> bool {
        self.kept != StatesKept::All && !self.progress.open.is_empty()
    }

    /// Reads on in the state that is being copied, in proportion to the nodes that a block wrote.
    pub(super) fn read_ahead(&mut self, nodes: &StoredNodes, written: usize) -> Result<(), StoreError> {
        let damaged = || StoreError::Damaged { what: "trie node" };
        for _ in 0..self.pace.copied + COPIED_PER_WRITTEN * written {
            let Some(Reference { hash, storage }) = self.progress.open.last().copied() else { break };
            let (node, old) = nodes.find(hash)?.ok_or_else(damaged)?;
            let below = references(&node, storage).ok_or_else(damaged)?;
            self.progress.open.pop();
            self.progress.open.extend(below.into_iter().rev());
            if old {
                self.copied.push((hash, node));
            }
        }
        Ok(())
    }

    /// Writes the nodes of these layers and those read ahead, and drops, or begins, a generation if it is time.
    /// [`Collector::written`] says that the transaction is durable.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        layers: &Layers,
        root: B256,
    ) -> Result<Progress, StoreError> {
        let mut progress = self.progress.clone();
        let fresh = layers.oldest_first().flat_map(|layer| &layer.nodes).map(|(hash, node)| (*hash, node.as_slice()));
        let copied = self.copied.iter().map(|(hash, node)| (*hash, node.as_slice()));
        append(transaction, progress.current(), fresh.chain(copied))?;
        let (Some(head), StatesKept::Last(kept)) = (layers.head(), self.kept) else { return Ok(progress) };
        let written: usize = layers.oldest_first().map(|layer| layer.nodes.len()).sum();
        let chunks = transaction.open_table(progress.current().chunks)?.len()?;
        if progress.open.is_empty() {
            if progress.generation > 0 && progress.complete_chunks == 0 {
                progress.complete_chunks = chunks;
            }
            // The oldest state that is kept is that after the block `head + 1 - kept`.
            let old = head + 1 >= progress.begun.saturating_add(kept.get());
            let rows = self.pace.dropped + DROPPED_PER_WRITTEN * written;
            let gone = old && drop_rows(transaction, progress.previous(), rows)?;
            if gone && chunks >= self.pace.chunks_min.max(2 * progress.complete_chunks) {
                progress = progress.after(head, root);
            }
        }
        if progress != Progress::default() {
            transaction.open_table(META)?.insert(GENERATIONS, alloy_rlp::encode(&progress).as_slice())?;
        }
        Ok(progress)
    }

    /// What [`Collector::write`] wrote is durable.
    pub(super) fn written(&mut self, progress: Progress) {
        self.progress = progress;
        self.copied = Vec::new();
    }
}

/// Appends the nodes' bytes to the chunks and notes where each of them is: what goes to random places is small.
fn append<'a>(
    transaction: &WriteTransaction,
    tables: Tables,
    nodes: impl Iterator<Item = (B256, &'a [u8])>,
) -> Result<(), StoreError> {
    let mut chunks = transaction.open_table(tables.chunks)?;
    let mut next = chunks.last()?.map_or(0, |(number, _)| number.value() + 1);
    let mut places: Vec<(B256, (u64, u32))> = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    for (hash, node) in nodes {
        if !chunk.is_empty() && chunk.len() + node.len() > CHUNK_BYTES {
            chunks.insert(next, chunk.as_slice())?;
            next += 1;
            chunk.clear();
        }
        places.push((hash, (next, u32::try_from(chunk.len()).expect("a chunk is small"))));
        chunk.extend_from_slice(node);
    }
    if !chunk.is_empty() {
        chunks.insert(next, chunk.as_slice())?;
    }
    places.sort_unstable();
    let mut table = transaction.open_table(tables.places)?;
    for (hash, place) in places {
        table.insert(&hash.0, place)?;
    }
    Ok(())
}

/// Drops about so many rows; says whether none is left. Places go first: what has a place is there.
fn drop_rows(transaction: &WriteTransaction, tables: Tables, rows: usize) -> Result<bool, StoreError> {
    let mut places = transaction.open_table(tables.places)?;
    if !places.is_empty()? {
        let bound = places.iter()?.nth(rows).transpose()?.map(|(hash, _)| *hash.value());
        match bound {
            Some(bound) => places.retain_in::<&[u8; 32], _>(..&bound, |_, _| false)?,
            None => places.retain(|_, _| false)?,
        }
        return Ok(false);
    }
    let mut chunks = transaction.open_table(tables.chunks)?;
    let Some(first) = chunks.first()?.map(|(number, _)| number.value()) else { return Ok(true) };
    chunks.retain_in::<u64, _>(..=first + (rows / NODES_PER_CHUNK) as u64, |_, _| false)?;
    Ok(false)
}
