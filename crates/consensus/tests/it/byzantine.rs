//! Validators that lie, each in its own way.

use alloy::primitives::{B256, Bytes};
use cortensor_consensus::{
    message::{Message, Part, parts},
    types::{BlockHash, Height},
};
use malachite_types::{NilOrVal, Round};

use crate::world::World;

/// What a validator does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Tells half of the others one vote and the rest another.
    Equivocation,
    /// Proposes one block to half of the others and a different one to the rest.
    TwoProposals,
    /// Says nothing.
    Silence,
    /// Builds blocks that nobody can accept.
    BadBlocks,
    /// Proposes, and sends no block or only a piece.
    WithheldParts,
    /// Sends parts that are not the block's.
    SpoiledParts,
    /// Votes for absurd heights and rounds, and with others' names.
    Absurdity,
}

pub const LIES: [Lie; 7] = [
    Lie::Equivocation,
    Lie::TwoProposals,
    Lie::Silence,
    Lie::BadBlocks,
    Lie::WithheldParts,
    Lie::SpoiledParts,
    Lie::Absurdity,
];

impl Lie {
    /// What this one hears instead of the message.
    pub fn tell(self, world: &mut World, node: usize, to: usize, message: Message) -> Option<Message> {
        let odd = to % 2 == 1;
        match (self, message) {
            (Self::Silence, _) => None,
            (Self::Equivocation, Message::Vote(vote)) if odd => {
                let mut other = vote.message;
                other.block = match other.block {
                    NilOrVal::Nil => NilOrVal::Val(BlockHash(B256::repeat_byte(0xee))),
                    NilOrVal::Val(_) => NilOrVal::Nil,
                };
                Some(Message::Vote(world.nodes[node].signer.vote(other)))
            }
            (Self::TwoProposals, Message::Proposal(proposal)) if odd => {
                let (hash, block) = world.build(node);
                let mut other = proposal.message;
                other.block = BlockHash(hash);
                other.valid_round = Round::Nil;
                let height = other.height.0;
                for part in parts(height, hash, &block) {
                    world.send(node, to, &Message::Part(part));
                }
                Some(Message::Proposal(world.nodes[node].signer.proposal(other)))
            }
            (Self::WithheldParts, Message::Part(part)) if part.index % 2 == 0 || odd => None,
            (Self::SpoiledParts, Message::Part(part)) => {
                let mut bytes = part.bytes.to_vec();
                bytes[0] ^= 1;
                Some(Message::Part(Part { bytes: bytes.into(), ..part }))
            }
            (Self::Absurdity, Message::Vote(vote)) => Some(absurd(world, node, to, vote)),
            (_, message) => Some(message),
        }
    }
}

fn absurd(world: &mut World, node: usize, to: usize, vote: cortensor_consensus::types::SignedVote) -> Message {
    let signer = world.nodes[node].signer.clone();
    let victim = world.nodes[to].signer.address();
    let mut other = vote.message.clone();
    match world.dice.below(7) {
        0 => other.height = Height(u64::MAX),
        1 => other.height = Height(other.height.0 + 1),
        2 => other.round = Round::new(u32::MAX),
        3 => other.round = Round::new(world.dice.below(40) as u32),
        4 => other.validator = victim,
        5 => {
            let (height, total) = (other.height.0, 1 + world.dice.below(300) as u32);
            let (index, bytes) = (world.dice.next() as u32 % 300, Bytes::from(vec![1; 10]));
            return Message::Part(Part { height, block: B256::repeat_byte(3), index, total, bytes });
        }
        _ => return Message::Vote(vote),
    }
    Message::Vote(signer.vote(other))
}
