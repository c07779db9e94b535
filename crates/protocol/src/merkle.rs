//! keccak-256 Merkle trees: one over a finished list of leaves, and an append-only accumulator for a growing one.
//!
//! Leaves and inner nodes are hashed under different prefixes, so that neither can pose as the other; an odd node moves
//! up unchanged, so that no list has the root of another.

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// Hash of a leaf's bytes.
#[must_use]
pub fn leaf(bytes: &[u8]) -> B256 {
    let mut input = Vec::with_capacity(bytes.len() + 1);
    input.push(0);
    input.extend_from_slice(bytes);
    keccak256(input)
}

/// Hash of an inner node.
#[must_use]
pub fn node(left: B256, right: B256) -> B256 {
    let mut input = [1u8; 65];
    input[1..33].copy_from_slice(left.as_slice());
    input[33..].copy_from_slice(right.as_slice());
    keccak256(input)
}

/// The root over leaf hashes; zero for none.
#[must_use]
pub fn root(leaves: &[B256]) -> B256 {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| if let [l, r] = pair { node(*l, *r) } else { pair[0] }).collect();
    }
    level.first().copied().unwrap_or_default()
}

/// The siblings from leaf `index` up to the root; `None` when there is no such leaf.
#[must_use]
pub fn proof(leaves: &[B256], mut index: usize) -> Option<Vec<B256>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut level, mut path) = (leaves.to_vec(), Vec::new());
    while level.len() > 1 {
        path.extend(level.get(index ^ 1));
        level = level.chunks(2).map(|pair| if let [l, r] = pair { node(*l, *r) } else { pair[0] }).collect();
        index /= 2;
    }
    Some(path)
}

/// Whether `leaf` stands at `index` of the `count` leaves under `root`.
#[must_use]
pub fn verify(root: B256, leaf: B256, mut index: usize, mut count: usize, path: &[B256]) -> bool {
    if index >= count {
        return false;
    }
    let (mut hash, mut path) = (leaf, path.iter());
    while count > 1 {
        if index ^ 1 < count {
            let Some(sibling) = path.next() else { return false };
            hash = if index.is_multiple_of(2) { node(hash, *sibling) } else { node(*sibling, hash) };
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    path.next().is_none() && hash == root
}

/// An append-only list of leaves of which only the peaks of its perfect subtrees are kept (a Merkle mountain range):
/// at most 64 hashes for any length. Its root commits to every leaf and to their number.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accumulator {
    count: u64,
    /// Largest subtree first.
    peaks: Vec<B256>,
}

impl Accumulator {
    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: B256) {
        let mut hash = leaf;
        for _ in 0..self.count.trailing_ones() {
            let left = self.peaks.pop().expect("a list of count leaves has one peak per set bit of count");
            hash = node(left, hash);
        }
        self.peaks.push(hash);
        self.count += 1;
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The root: zero for an empty list, else the folded peaks hashed with the count.
    #[must_use]
    pub fn root(&self) -> B256 {
        let Some((last, rest)) = self.peaks.split_last() else { return B256::ZERO };
        let folded = rest.iter().rev().fold(*last, |right, left| node(*left, right));
        node(B256::left_padding_from(&self.count.to_be_bytes()), folded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<B256> {
        (0..count).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_leaf_cannot_pose_as_a_node() {
        let [l, r] = [leaf(b"l"), leaf(b"r")];
        assert_ne!(leaf(&[l.0, r.0].concat()), node(l, r));
    }

    proptest! {
        #[test]
        fn every_leaf_is_proved_and_nothing_else(count in 1usize..40, index in 0usize..40, other in 0usize..40) {
            let all = leaves(count);
            prop_assert_eq!(proof(&all, index).is_some(), index < count);
            let Some(path) = proof(&all, index) else { return Ok(()) };
            prop_assert!(verify(root(&all), all[index], index, count, &path));
            if other < count && other != index {
                prop_assert!(!verify(root(&all), all[other], index, count, &path));
                prop_assert!(!verify(root(&all), all[index], other, count, &path));
            }
            let longer = [path.as_slice(), &[B256::ZERO]].concat();
            prop_assert!(!verify(root(&all), all[index], index, count, &longer));
        }

        #[test]
        fn lists_of_different_length_have_different_roots(a in 0usize..70, b in 0usize..70) {
            let accumulate = |count| {
                let mut list = Accumulator::default();
                leaves(count).into_iter().for_each(|leaf| list.push(leaf));
                list
            };
            prop_assert_eq!(accumulate(a).root() == accumulate(b).root(), a == b);
            prop_assert_eq!(root(&leaves(a)) == root(&leaves(b)), a == b);
            prop_assert!(accumulate(a).peaks.len() <= 7);
        }
    }
}
