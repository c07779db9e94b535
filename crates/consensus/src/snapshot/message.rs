//! What is said about copies of a state (rule Y3 of docs/spec/consensus.md).

use alloy::primitives::{B256, Bytes};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use cortensor_chain::{CHUNKS_MAX, Manifest};

use crate::message::{DecodeError, tagged, whole};

/// Most headers with certificates in one message.
pub const EPOCHS_MAX: usize = 64;
/// Headers before the copy's block that come with it: as many as execution looks back.
pub const PARENTS_MAX: usize = 256;

/// A header in RLP with its certificate.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Bytes,
    /// Its certificate.
    pub certificate: Bytes,
}

/// A copy that a peer has.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Offer {
    /// What it is made of.
    pub manifest: Manifest,
    /// The block after which the state is.
    pub block: CertifiedHeader,
    /// The headers before it in RLP, the newest first.
    pub parents: Vec<Bytes>,
}

/// Questions about copies of a state, and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// Please send the last headers of epochs, from this block on.
    WantEpochs {
        /// The first wanted.
        from: u64,
    },
    /// The last headers of epochs that follow each other.
    Epochs(Vec<CertifiedHeader>),
    /// Which copy is there? This block's if possible.
    WantOffer {
        /// The block; 0 for any.
        block: u64,
    },
    /// This one, or none.
    Offer(Option<Box<Offer>>),
    /// Please send this chunk.
    WantChunk {
        /// The copy's block.
        block: u64,
        /// Which chunk.
        index: u32,
    },
    /// A chunk; without bytes where there is none.
    Chunk {
        /// The copy's block.
        block: u64,
        /// Which chunk.
        index: u32,
        /// The chunk.
        bytes: Bytes,
    },
}

#[derive(RlpEncodable, RlpDecodable)]
struct WireChunk {
    block: u64,
    index: u32,
    bytes: Bytes,
}

impl SnapshotMessage {
    /// As sent, without the byte that says that it is about copies.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::WantEpochs { from } => tagged(1, from),
            Self::Epochs(epochs) => tagged(2, epochs),
            Self::WantOffer { block } => tagged(3, block),
            Self::Offer(offer) => tagged(4, &offer.iter().map(|offer| (**offer).clone()).collect::<Vec<_>>()),
            Self::WantChunk { block, index } => tagged(5, &vec![*block, u64::from(*index)]),
            Self::Chunk { block, index, bytes } => {
                tagged(6, &WireChunk { block: *block, index: *index, bytes: bytes.clone() })
            }
        }
    }

    /// The opposite.
    ///
    /// # Errors
    /// When the bytes are not exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (tag, rest) = bytes.split_first().ok_or(DecodeError("empty"))?;
        Ok(match tag {
            1 => Self::WantEpochs { from: whole(rest)? },
            2 => {
                let epochs: Vec<CertifiedHeader> = whole(rest)?;
                if epochs.len() > EPOCHS_MAX {
                    return Err(DecodeError("too many epochs"));
                }
                Self::Epochs(epochs)
            }
            3 => Self::WantOffer { block: whole(rest)? },
            4 => {
                let mut offers: Vec<Offer> = whole(rest)?;
                let offer = offers.pop();
                let large =
                    |offer: &Offer| offer.manifest.chunks.len() > CHUNKS_MAX || offer.parents.len() > PARENTS_MAX;
                if !offers.is_empty() || offer.as_ref().is_some_and(large) {
                    return Err(DecodeError("too much on offer"));
                }
                Self::Offer(offer.map(Box::new))
            }
            5 => {
                let numbers: Vec<u64> = whole(rest)?;
                let [block, index] = numbers[..] else { return Err(DecodeError("two numbers are wanted")) };
                Self::WantChunk { block, index: u32::try_from(index).map_err(|_| DecodeError("no chunk's number"))? }
            }
            6 => {
                let WireChunk { block, index, bytes } = whole(rest)?;
                Self::Chunk { block, index, bytes }
            }
            _ => return Err(DecodeError("an unknown kind")),
        })
    }

    /// Whether it is a question.
    #[must_use]
    pub fn is_question(&self) -> bool {
        matches!(self, Self::WantEpochs { .. } | Self::WantOffer { .. } | Self::WantChunk { .. })
    }
}

/// The hash by which a manifest is known.
#[must_use]
pub fn manifest_hash(manifest: &Manifest) -> B256 {
    alloy::primitives::keccak256(alloy_rlp::encode(manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let certified =
            CertifiedHeader { header: Bytes::from_static(b"header"), certificate: Bytes::from_static(b"proof") };
        let manifest = Manifest {
            block: 9,
            block_hash: B256::repeat_byte(1),
            state_root: B256::repeat_byte(2),
            chunks: vec![B256::repeat_byte(3)],
        };
        let offer = Offer { manifest, block: certified.clone(), parents: vec![Bytes::from_static(b"parent")] };
        let messages = [
            SnapshotMessage::WantEpochs { from: 3 },
            SnapshotMessage::Epochs(vec![certified; 2]),
            SnapshotMessage::WantOffer { block: 0 },
            SnapshotMessage::Offer(None),
            SnapshotMessage::Offer(Some(Box::new(offer.clone()))),
            SnapshotMessage::WantChunk { block: 9, index: 2 },
            SnapshotMessage::Chunk { block: 9, index: 2, bytes: Bytes::from_static(b"chunk") },
        ];
        for message in messages {
            assert_eq!(SnapshotMessage::decode(&message.encode()), Ok(message));
        }
        assert!(SnapshotMessage::decode(&tagged(4, &vec![offer.clone(), offer])).is_err());
    }
}
