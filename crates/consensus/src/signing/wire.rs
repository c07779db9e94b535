//! What a validator asks its signer, and the answers: a length of four bytes, then JSON.

use std::io::{self, Read, Write};

use alloy::primitives::{Address, B256};
use cortensor_protocol::consensus::{Domain, VoteKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::types::Signature;

/// Most bytes of a message.
pub(super) const MESSAGE_BYTES_MAX: usize = 4_096;

/// What is to be signed, field by field: the signer computes the digest itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Nothing: who signs, for this chain?
    Hello {
        chain_id: u64,
    },
    Vote {
        kind: u8,
        height: u64,
        round: u32,
        block_hash: B256,
    },
    Proposal {
        height: u64,
        round: u32,
        valid_round: Option<u32>,
        block_hash: B256,
    },
    Beacon {
        height: u64,
    },
}

/// Of a statement of which only one may be signed: its height, round and step, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) height: u64,
    pub(super) round: u32,
    pub(super) step: u8,
}

impl Request {
    /// What the signature is over; none where there is nothing to sign, or no such kind of vote.
    pub(super) fn digest(&self, domain: &Domain) -> Option<B256> {
        Some(match *self {
            Self::Hello { .. } => return None,
            Self::Vote { kind, height, round, block_hash } => {
                domain.vote(VoteKind::from_number(kind)?, height, round, block_hash)
            }
            Self::Proposal { height, round, valid_round, block_hash } => {
                domain.proposal(height, round, valid_round, block_hash)
            }
            Self::Beacon { height } => domain.beacon(height),
        })
    }

    /// Where it stands among the statements that exclude others; none for what excludes nothing.
    pub(super) fn place(&self) -> Option<Place> {
        match *self {
            Self::Hello { .. } | Self::Beacon { .. } => None,
            Self::Proposal { height, round, .. } => Some(Place { height, round, step: 0 }),
            Self::Vote { kind, height, round, .. } => Some(Place { height, round, step: kind }),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Answer {
    Address(Address),
    Signature(Signature),
    Refused(String),
}

/// A message with its length in front.
pub(super) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("plain values have a JSON form");
    let length = u32::try_from(body.len()).expect("messages are short");
    [&length.to_be_bytes(), body.as_slice()].concat()
}

/// A message from its bytes.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::other)
}

/// Sends one message and waits for the answer.
pub(super) fn exchange(stream: &mut (impl Read + Write), request: &Request) -> io::Result<Answer> {
    stream.write_all(&frame(request))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("an answer longer than any is"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    parse(&body)
}
