//! Blocks on their way: parts put together, blocks waiting for a proposal, blocks being checked, blocks at hand.
//!
//! Each peer's parts are put together apart from all others', so that nobody can spoil what another sends; each peer
//! has room for a few blocks, the oldest of which make room for newer ones.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy::primitives::{B256, Bytes};
use malachite_types::Round;

use super::{Output, Peer};
use crate::{
    message::{BLOCK_BYTES_MAX, PART_BYTES, Part},
    types::ValidatorAddress,
};

/// Blocks of one peer that are put together, or wait for a proposal, at once.
const PER_PEER_MAX: usize = 2;
/// Distinct peers whose parts are kept.
const PEERS_MAX: usize = 64;

/// A block in the making.
#[derive(Debug)]
struct Assembly {
    height: u64,
    block: B256,
    parts: Vec<Option<Bytes>>,
    missing: usize,
}

impl Assembly {
    fn new(part: &Part) -> Option<Self> {
        let total = part.total as usize;
        let fits = (1..=BLOCK_BYTES_MAX.div_ceil(PART_BYTES)).contains(&total);
        fits.then(|| Self { height: part.height, block: part.block, parts: vec![None; total], missing: total })
    }

    /// Takes a part; false when it does not belong.
    fn add(&mut self, part: Part) -> bool {
        let last = part.index as usize + 1 == self.parts.len();
        let sized = if last { (1..=PART_BYTES).contains(&part.bytes.len()) } else { part.bytes.len() == PART_BYTES };
        let same = part.total as usize == self.parts.len();
        let Some(place) = self.parts.get_mut(part.index as usize).filter(|_| sized && same) else {
            return false;
        };
        if place.is_none() {
            *place = Some(part.bytes);
            self.missing -= 1;
        }
        true
    }

    fn whole(&self) -> Option<Bytes> {
        let parts: Option<Vec<_>> = self.parts.iter().map(Option::as_ref).collect();
        Some(parts?.into_iter().flatten().copied().collect::<Vec<u8>>().into())
    }
}

/// Where a wanted block stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    round: Round,
    proposer: ValidatorAddress,
    /// What is being checked, and from whom it came.
    checking: Option<(Peer, Bytes)>,
}

/// All blocks of the height being decided, and parts of the next.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    height: u64,
    assemblies: HashMap<Peer, VecDeque<Assembly>>,
    wanted: BTreeMap<B256, Wanted>,
    ready: HashMap<B256, Bytes>,
}

impl Blocks {
    pub(super) fn new(height: u64) -> Self {
        Self { height, ..Self::default() }
    }

    /// Forgets everything but parts of the next height.
    pub(super) fn new_height(&mut self, height: u64) {
        self.height = height;
        self.wanted.clear();
        self.ready.clear();
        self.assemblies.retain(|_, blocks| {
            blocks.retain(|assembly| assembly.height >= height);
            !blocks.is_empty()
        });
    }

    /// A block at hand.
    pub(super) fn get(&self, block: B256) -> Option<Bytes> {
        self.ready.get(&block).cloned()
    }

    /// Keeps a block that is known to be what its hash says.
    pub(super) fn keep(&mut self, block: B256, bytes: Bytes) {
        self.ready.insert(block, bytes);
    }

    /// Takes a part; false when it does not belong to anything. A completed block that is wanted comes out to be checked.
    pub(super) fn add_part(&mut self, peer: Peer, part: Part) -> (bool, Option<Output>) {
        let block = part.block;
        if self.ready.contains_key(&block) {
            return (true, None);
        }
        if !self.assemblies.contains_key(&peer) && self.assemblies.len() >= PEERS_MAX {
            return (false, None);
        }
        let blocks = self.assemblies.entry(peer).or_default();
        if !blocks.iter().any(|assembly| assembly.block == block) {
            let Some(assembly) = Assembly::new(&part) else {
                return (false, None);
            };
            if blocks.len() >= PER_PEER_MAX {
                blocks.pop_front();
            }
            blocks.push_back(assembly);
        }
        let assembly = blocks.iter_mut().find(|assembly| assembly.block == block).expect("it is there by now");
        let fits = assembly.add(part);
        (fits, if fits { self.check_if_whole(block) } else { None })
    }

    /// A proposal for this block was accepted. It comes out to be checked if it is here in full.
    pub(super) fn want(&mut self, block: B256, round: Round, proposer: ValidatorAddress) -> Option<Output> {
        self.wanted.entry(block).or_insert(Wanted { round, proposer, checking: None });
        self.check_if_whole(block)
    }

    fn check_if_whole(&mut self, block: B256) -> Option<Output> {
        let wanted = self.wanted.get_mut(&block).filter(|wanted| wanted.checking.is_none())?;
        if self.ready.contains_key(&block) {
            return None;
        }
        let height = self.height;
        let whole = |(peer, blocks): (&Peer, &VecDeque<Assembly>)| {
            let assembly = blocks.iter().find(|one| one.block == block && one.height == height && one.missing == 0)?;
            Some((*peer, assembly.whole()?))
        };
        let (peer, bytes) = self.assemblies.iter().find_map(whole)?;
        wanted.checking = Some((peer, bytes.clone()));
        Some(Output::Check { height, hash: block, block: bytes })
    }

    /// The block being checked, its check being over, with who sent it.
    pub(super) fn checked(&mut self, block: B256) -> Option<(Peer, Bytes)> {
        self.wanted.get_mut(&block)?.checking.take()
    }

    /// A peer's block is not what its hash says: its parts are dropped and another peer's may be tried.
    pub(super) fn reject(&mut self, peer: Peer, block: B256) -> Option<Output> {
        if let Some(blocks) = self.assemblies.get_mut(&peer) {
            blocks.retain(|assembly| assembly.block != block);
        }
        self.check_if_whole(block)
    }

    /// The round in which a wanted block was first proposed, and by whom.
    pub(super) fn origin(&self, block: B256) -> Option<(Round, ValidatorAddress)> {
        self.wanted.get(&block).map(|wanted| (wanted.round, wanted.proposer))
    }

    /// A block that was proposed and is neither here nor being checked.
    pub(super) fn lacking(&self) -> Option<B256> {
        let lacks = |(block, wanted): &(&B256, &Wanted)| wanted.checking.is_none() && !self.ready.contains_key(*block);
        self.wanted.iter().find(lacks).map(|(block, _)| *block)
    }
}
