//! Catching those who vote twice: every good vote of two heights is remembered, and held against every other.
//!
//! A validator that tells different peers different votes shows itself where their knowledge meets: in the certificate
//! that comes with a status, and in votes that come late. One pair for each validator, height, kind and round is enough.

use std::collections::{HashMap, HashSet};

use malachite_types::{Round, VoteType};

use super::Evidence;
use crate::types::{Height, SignedVote, ValidatorAddress};

/// Votes remembered: those of 200 validators in 20 rounds of two heights.
const VOTES_MAX: usize = 16_384;

type Key = (Height, Round, bool, ValidatorAddress);

fn key(vote: &SignedVote) -> Key {
    let message = &vote.message;
    (message.height, message.round, message.kind == VoteType::Precommit, message.validator)
}

/// Votes whose signatures are known to be good.
#[derive(Debug, Default)]
pub(super) struct Watch {
    votes: HashMap<Key, SignedVote>,
    caught: HashSet<Key>,
}

impl Watch {
    /// Forgets all but this height and the one before.
    pub(super) fn new_height(&mut self, height: Height) {
        let recent = |key: &Key| key.0.0 + 1 >= height.0;
        self.votes.retain(|key, _| recent(key));
        self.caught.retain(recent);
    }

    /// Whether this vote would contradict one that is remembered, were it good.
    pub(super) fn contradicts(&self, vote: &SignedVote) -> bool {
        let key = key(vote);
        let other = self.votes.get(&key).is_some_and(|known| known.message.block != vote.message.block);
        other && !self.caught.contains(&key)
    }

    /// Remembers a good vote, or gives the proof that its validator voted twice.
    pub(super) fn see(&mut self, vote: &SignedVote) -> Option<Evidence> {
        let key = key(vote);
        if self.contradicts(vote) {
            self.caught.insert(key);
            return Some(Evidence::Votes(self.votes[&key].clone(), vote.clone()));
        }
        if self.votes.len() < VOTES_MAX {
            self.votes.entry(key).or_insert_with(|| vote.clone());
        }
        None
    }
}
