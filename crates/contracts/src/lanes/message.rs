//! Messages of an outbox and their places in its accumulator (docs/spec/settlement.md, section 5); pure.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::SolValue as _,
};
use cortensor_protocol::merkle;
use serde::{Deserialize, Serialize};

/// A message as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its position in the outbox.
    pub index: u32,
    /// Who sent it.
    pub sender: Address,
    /// Which contract may consume it at the other end.
    pub target: Address,
    /// What it says.
    pub data: Bytes,
}

impl Message {
    /// Its leaf in the accumulator of `outbox`.
    #[must_use]
    pub fn leaf(&self, source: u64, outbox: Address, destination: u64) -> B256 {
        let content = (
            U256::from(source),
            outbox,
            U256::from(destination),
            U256::from(self.index),
            self.sender,
            self.target,
            keccak256(&self.data),
        );
        merkle::leaf(keccak256(content.abi_encode()).as_slice())
    }
}

/// Where a message stands in an accumulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// How many messages the accumulator holds.
    pub count: u32,
    /// Root over their leaves.
    pub root: B256,
    /// Siblings from the leaf up.
    pub path: Vec<B256>,
}

/// All messages of one outbox from the first on, so that any of them can be proved in any accumulator since.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    leaves: Vec<B256>,
    messages: Vec<Message>,
}

impl Messages {
    /// Most messages that are kept: a quarter of a gigabyte at most.
    pub const MAX: usize = 1 << 18;

    /// Appends the next message; false when it is not the next one, or there are too many.
    pub fn push(&mut self, message: Message, leaf: B256) -> bool {
        let next = usize::try_from(message.index).is_ok_and(|index| index == self.leaves.len());
        if !next || self.leaves.len() == Self::MAX {
            return false;
        }
        self.leaves.push(leaf);
        self.messages.push(message);
        true
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Message] {
        &self.messages
    }

    /// The accumulator of the first `count`; zero for none; `None` where there are not so many.
    #[must_use]
    pub fn accumulator(&self, count: usize) -> Option<B256> {
        let leaves = self.leaves.get(..count)?;
        let number = U256::from(count);
        Some(if count == 0 { B256::ZERO } else { merkle::node(B256::from(number), merkle::root(leaves)) })
    }

    /// Where message `index` stands among the first `count`.
    #[must_use]
    pub fn inclusion(&self, index: usize, count: usize) -> Option<Inclusion> {
        let leaves = self.leaves.get(..count)?;
        let path = merkle::proof(leaves, index)?;
        Some(Inclusion { count: u32::try_from(count).ok()?, root: merkle::root(leaves), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u32) -> Message {
        Message {
            index,
            sender: Address::repeat_byte(1),
            target: Address::repeat_byte(2),
            data: index.to_be_bytes().into(),
        }
    }

    #[test]
    fn the_accumulator_is_the_protocols() {
        let (mut messages, mut accumulator) = (Messages::default(), merkle::Accumulator::default());
        assert_eq!(messages.accumulator(0), Some(accumulator.root()));
        for index in 0..20 {
            let leaf = message(index).leaf(1, Address::ZERO, 2);
            assert!(messages.push(message(index), leaf));
            accumulator.push(leaf);
            assert_eq!(messages.accumulator(index as usize + 1), Some(accumulator.root()));
        }
        let found = messages.inclusion(3, 17).unwrap();
        let leaf = message(3).leaf(1, Address::ZERO, 2);
        assert!(merkle::verify(found.root, leaf, 3, 17, &found.path));
        assert_eq!(messages.inclusion(3, 21), None);
    }

    #[test]
    fn only_the_next_message_is_taken() {
        let mut messages = Messages::default();
        assert!(!messages.push(message(1), B256::ZERO));
        assert!(messages.push(message(0), B256::ZERO));
        assert!(!messages.push(message(0), B256::ZERO));
    }
}
