//! What validators send each other and what they write into their log, as bytes.
//!
//! One byte says which kind, RLP follows. Decoding bounds everything by [`MESSAGE_BYTES_MAX`] and the counts below,
//! allocates no more than what came in, and looks at no signature: that is the engine's business. Rules M1 to M3 of
//! docs/spec/consensus.md.

use alloy::primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use cortensor_chain::{KEY_BYTES, StatedKey, StatedTransaction};
use cortensor_protocol::consensus::VALIDATORS_MAX;
use malachite_types::{
    PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature, SignedMessage,
    Timeout, TimeoutKind, Validity,
};
use thiserror::Error;

use crate::{
    signing::WireVote,
    snapshot::SnapshotMessage,
    types::{BlockHash, Ctx, Height, Proposal, Signature, SignedProposal, SignedVote, ValidatorAddress, round_number},
};

/// Most bytes of a block with everything that travels with it.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Bytes of a block in one part; only the last may be shorter.
pub const PART_BYTES: usize = 64 << 10;
/// Most bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + (64 << 10);

/// One of a block's parts.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Part {
    /// The block's number.
    pub height: u64,
    /// The block.
    pub block: B256,
    /// Which part, from 0.
    pub index: u32,
    /// How many there are.
    pub total: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// Cuts a block into parts.
pub fn parts(height: u64, block: B256, bytes: &Bytes) -> impl Iterator<Item = Part> {
    let total = u32::try_from(bytes.len().div_ceil(PART_BYTES)).expect("a block has at most 16 MiB");
    let bytes = bytes.clone();
    (0..total).map(move |index| {
        let start = index as usize * PART_BYTES;
        let bytes = bytes.slice(start..bytes.len().min(start + PART_BYTES));
        Part { height, block, index, total, bytes }
    })
}

/// A decided block with its proof.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct DecidedBlock {
    /// The block.
    pub block: Bytes,
    /// Its certificate.
    pub certificate: Bytes,
}

/// What validators send each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A vote.
    Vote(SignedVote),
    /// A proposal; the block follows in parts.
    Proposal(SignedProposal),
    /// Two thirds prevoted a block.
    Polka(PolkaCertificate<Ctx>),
    /// A round is over, or others are in it already.
    RoundOver(RoundCertificate<Ctx>),
    /// A piece of a block.
    Part(Part),
    /// Please send this block's parts.
    Want {
        /// The block's number.
        height: u64,
        /// The block.
        block: B256,
    },
    /// The sender's last decided block.
    Status {
        /// Its number.
        height: u64,
    },
    /// Please send decided blocks from this one on.
    SyncRequest {
        /// The first wanted.
        from: u64,
    },
    /// A decided block.
    Decided(DecidedBlock),
    /// Transactions for the pool.
    Transactions(Vec<StatedTransaction>),
    /// The certificate of the sender's last decided block.
    Certified(Bytes),
    /// About copies of a whole state.
    Snapshot(SnapshotMessage),
}

/// What a validator writes down before it acts, so that it says the same thing after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A vote, own or received.
    Vote(SignedVote),
    /// A proposal, own or received.
    Proposal(SignedProposal),
    /// Two thirds prevoted a block.
    Polka(PolkaCertificate<Ctx>),
    /// Time ran out.
    Timeout(Timeout),
    /// What execution said about a block.
    Verdict {
        /// The round in which it was first proposed.
        round: u32,
        /// Who proposed it there.
        proposer: Address,
        /// The block.
        block: B256,
        /// What execution said.
        validity: Validity,
    },
    /// The block itself, before it is voted for.
    Block {
        /// Its hash.
        hash: B256,
        /// Its bytes.
        bytes: Bytes,
    },
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed message: {0}")]
pub struct DecodeError(pub(crate) &'static str);

impl From<alloy_rlp::Error> for DecodeError {
    fn from(_: alloy_rlp::Error) -> Self {
        Self("not the encoding of its kind")
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct WireProposal {
    height: u64,
    round: u32,
    /// One more than the round; 0 for none.
    valid_round: u64,
    block: B256,
    proposer: Address,
    signature: Signature,
}

impl From<&SignedProposal> for WireProposal {
    fn from(signed: &SignedProposal) -> Self {
        let proposal = &signed.message;
        Self {
            height: proposal.height.0,
            round: round_number(proposal.round),
            valid_round: proposal.valid_round.as_u32().map_or(0, |round| u64::from(round) + 1),
            block: proposal.block.0,
            proposer: proposal.proposer.0,
            signature: signed.signature,
        }
    }
}

impl WireProposal {
    fn to_proposal(&self) -> Result<SignedProposal, DecodeError> {
        let valid_round = match self.valid_round.checked_sub(1) {
            None => Round::Nil,
            Some(round) => Round::new(u32::try_from(round).map_err(|_| DecodeError("a round beyond 32 bits"))?),
        };
        let proposal = Proposal {
            height: Height(self.height),
            round: Round::new(self.round),
            block: BlockHash(self.block),
            valid_round,
            proposer: ValidatorAddress(self.proposer),
        };
        Ok(SignedMessage::new(proposal, self.signature))
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct WireVotes {
    height: u64,
    round: u32,
    /// The block of a polka; whether a round is over for a round certificate.
    about: B256,
    votes: Vec<WireVote>,
}

impl WireVotes {
    fn check(&self) -> Result<(), DecodeError> {
        let of_here = |vote: &WireVote| vote.height == self.height && vote.round == self.round;
        if self.votes.len() > VALIDATORS_MAX || !self.votes.iter().all(of_here) {
            return Err(DecodeError("votes of other rounds, or too many"));
        }
        Ok(())
    }

    fn from_polka(polka: &PolkaCertificate<Ctx>) -> Self {
        let votes = polka.votes(&Ctx).map(|vote| WireVote::from(&vote)).collect();
        let (height, round) = (polka.height.0, round_number(polka.round));
        Self { height, round, about: polka.value_id.0, votes }
    }

    fn to_polka(&self) -> Result<PolkaCertificate<Ctx>, DecodeError> {
        self.check()?;
        let signature = |vote: &WireVote| PolkaSignature::new(ValidatorAddress(vote.validator), vote.signature);
        Ok(PolkaCertificate {
            height: Height(self.height),
            round: Round::new(self.round),
            value_id: BlockHash(self.about),
            polka_signatures: self.votes.iter().map(signature).collect(),
        })
    }

    fn from_round(certificate: &RoundCertificate<Ctx>) -> Self {
        let votes = certificate.votes(&Ctx).map(|vote| WireVote::from(&vote)).collect();
        let over = certificate.cert_type == RoundCertificateType::Precommit;
        let (height, round) = (certificate.height.0, round_number(certificate.round));
        Self { height, round, about: B256::with_last_byte(over.into()), votes }
    }

    fn to_round(&self) -> Result<RoundCertificate<Ctx>, DecodeError> {
        self.check()?;
        let signature = |vote: &WireVote| {
            let SignedMessage { message, signature } = vote.to_vote().ok_or(DecodeError("a vote of no kind"))?;
            Ok(RoundSignature::new(message.kind, message.block, message.validator, signature))
        };
        let over = self.about == B256::with_last_byte(1);
        Ok(RoundCertificate {
            height: Height(self.height),
            round: Round::new(self.round),
            cert_type: if over { RoundCertificateType::Precommit } else { RoundCertificateType::Skip },
            round_signatures: self.votes.iter().map(signature).collect::<Result<_, DecodeError>>()?,
        })
    }
}

pub(crate) fn tagged(tag: u8, value: &impl Encodable) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + value.length());
    bytes.push(tag);
    value.encode(&mut bytes);
    bytes
}

pub(crate) fn whole<T: Decodable>(mut bytes: &[u8]) -> Result<T, DecodeError> {
    let value = T::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(DecodeError("bytes follow the message")) }
}

/// A transaction and the key that signed it: 64 bytes, or none where the sender does not know it.
#[derive(RlpEncodable, RlpDecodable)]
struct WireTransaction {
    encoded: Bytes,
    key: Bytes,
}

impl From<&StatedTransaction> for WireTransaction {
    fn from(transaction: &StatedTransaction) -> Self {
        let key = transaction.key.map(|key| Bytes::copy_from_slice(&key.0));
        Self { encoded: transaction.encoded.clone(), key: key.unwrap_or_default() }
    }
}

fn transactions(bytes: &[u8]) -> Result<Vec<StatedTransaction>, DecodeError> {
    let stated = |WireTransaction { encoded, key }| {
        let key = match key.len() {
            0 => None,
            KEY_BYTES => <[u8; KEY_BYTES]>::try_from(key.as_ref()).ok().map(StatedKey),
            _ => return Err(DecodeError("a key of another length")),
        };
        Ok(StatedTransaction { encoded, key })
    };
    whole::<Vec<WireTransaction>>(bytes)?.into_iter().map(stated).collect()
}

fn vote(bytes: &[u8]) -> Result<SignedVote, DecodeError> {
    whole::<WireVote>(bytes)?.to_vote().ok_or(DecodeError("a vote of no kind"))
}

impl Message {
    /// As sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Vote(vote) => tagged(1, &WireVote::from(vote)),
            Self::Proposal(proposal) => tagged(2, &WireProposal::from(proposal)),
            Self::Polka(polka) => tagged(3, &WireVotes::from_polka(polka)),
            Self::RoundOver(certificate) => tagged(4, &WireVotes::from_round(certificate)),
            Self::Part(part) => tagged(5, part),
            Self::Want { height, block } => {
                tagged(6, &vec![B256::from(alloy::primitives::U256::from(*height)), *block])
            }
            Self::Status { height } => tagged(7, height),
            Self::SyncRequest { from } => tagged(8, from),
            Self::Decided(decided) => tagged(9, decided),
            Self::Transactions(all) => tagged(10, &all.iter().map(WireTransaction::from).collect::<Vec<_>>()),
            Self::Certified(certificate) => tagged(11, certificate),
            Self::Snapshot(message) => [&[12], message.encode().as_slice()].concat(),
        }
    }

    /// The opposite.
    ///
    /// # Errors
    /// When the bytes are not exactly one message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (tag, rest) = bytes.split_first().ok_or(DecodeError("empty"))?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError("too long"));
        }
        Ok(match tag {
            1 => Self::Vote(vote(rest)?),
            2 => Self::Proposal(whole::<WireProposal>(rest)?.to_proposal()?),
            3 => Self::Polka(whole::<WireVotes>(rest)?.to_polka()?),
            4 => Self::RoundOver(whole::<WireVotes>(rest)?.to_round()?),
            5 => Self::Part(whole(rest)?),
            6 => {
                let words: Vec<B256> = whole(rest)?;
                let [height, block] = words[..] else { return Err(DecodeError("two words are wanted")) };
                let height = u64::try_from(alloy::primitives::U256::from_be_bytes(height.0));
                Self::Want { height: height.map_err(|_| DecodeError("a height beyond 64 bits"))?, block }
            }
            7 => Self::Status { height: whole(rest)? },
            8 => Self::SyncRequest { from: whole(rest)? },
            9 => Self::Decided(whole(rest)?),
            10 => Self::Transactions(transactions(rest)?),
            11 => Self::Certified(whole(rest)?),
            12 => Self::Snapshot(SnapshotMessage::decode(rest)?),
            _ => return Err(DecodeError("an unknown kind")),
        })
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct WireVerdict {
    round: u32,
    proposer: Address,
    block: B256,
    valid: bool,
}

#[derive(RlpEncodable, RlpDecodable)]
struct WireBlock {
    hash: B256,
    bytes: Bytes,
}

impl LogEntry {
    /// As written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Vote(vote) => tagged(1, &WireVote::from(vote)),
            Self::Proposal(proposal) => tagged(2, &WireProposal::from(proposal)),
            Self::Polka(polka) => tagged(3, &WireVotes::from_polka(polka)),
            Self::Timeout(timeout) => {
                let step: u8 = match timeout.kind {
                    TimeoutKind::Propose => 0,
                    TimeoutKind::Prevote => 1,
                    TimeoutKind::Precommit => 2,
                    TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => 3,
                };
                tagged(4, &vec![u32::from(step), round_number(timeout.round)])
            }
            Self::Verdict { round, proposer, block, validity } => {
                let valid = validity.is_valid();
                tagged(5, &WireVerdict { round: *round, proposer: *proposer, block: *block, valid })
            }
            Self::Block { hash, bytes } => tagged(6, &WireBlock { hash: *hash, bytes: bytes.clone() }),
        }
    }

    /// The opposite.
    ///
    /// # Errors
    /// When the bytes are not exactly one entry.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (tag, rest) = bytes.split_first().ok_or(DecodeError("empty"))?;
        Ok(match tag {
            1 => Self::Vote(vote(rest)?),
            2 => Self::Proposal(whole::<WireProposal>(rest)?.to_proposal()?),
            3 => Self::Polka(whole::<WireVotes>(rest)?.to_polka()?),
            4 => {
                let numbers: Vec<u32> = whole(rest)?;
                let [step, round] = numbers[..] else { return Err(DecodeError("two numbers are wanted")) };
                let steps = [TimeoutKind::Propose, TimeoutKind::Prevote, TimeoutKind::Precommit];
                let kind = steps.get(step as usize).copied().ok_or(DecodeError("a timeout of no step"))?;
                Self::Timeout(Timeout::new(Round::new(round), kind))
            }
            5 => {
                let WireVerdict { round, proposer, block, valid } = whole(rest)?;
                let validity = if valid { Validity::Valid } else { Validity::Invalid };
                Self::Verdict { round, proposer, block, validity }
            }
            6 => {
                let WireBlock { hash, bytes } = whole(rest)?;
                Self::Block { hash, bytes }
            }
            _ => return Err(DecodeError("an unknown kind")),
        })
    }
}

#[cfg(test)]
mod tests {
    use cortensor_protocol::consensus::Domain;
    use malachite_types::{NilOrVal, VoteType};
    use proptest::prelude::*;

    use super::*;
    use crate::{signing::Signer, types::Vote};

    fn signed_vote(kind: VoteType, block: Option<B256>) -> SignedVote {
        let signer = Signer::new(&B256::repeat_byte(7), Domain::new(7)).unwrap();
        let block = block.map_or(NilOrVal::Nil, |hash| NilOrVal::Val(BlockHash(hash)));
        signer.vote(Vote { kind, height: Height(3), round: Round::new(1), block, validator: signer.address() })
    }

    fn signed_proposal(valid_round: Round) -> SignedProposal {
        let signer = Signer::new(&B256::repeat_byte(7), Domain::new(7)).unwrap();
        let (height, block) = (Height(3), BlockHash(B256::repeat_byte(2)));
        signer.proposal(Proposal { height, round: Round::new(4), block, valid_round, proposer: signer.address() })
    }

    fn messages() -> Vec<Message> {
        let block = B256::repeat_byte(9);
        let prevote = signed_vote(VoteType::Prevote, Some(block));
        let precommit = signed_vote(VoteType::Precommit, None);
        let polka = PolkaCertificate::new(Height(3), Round::new(1), BlockHash(block), vec![prevote.clone()]);
        let over = RoundCertificateType::Precommit;
        let votes = vec![precommit.clone()];
        vec![
            Message::Vote(prevote),
            Message::Vote(precommit),
            Message::Proposal(signed_proposal(Round::Nil)),
            Message::Proposal(signed_proposal(Round::new(0))),
            Message::Polka(polka),
            Message::RoundOver(RoundCertificate::new_from_votes(Height(3), Round::new(1), over, votes)),
            Message::Part(Part { height: 3, block, index: 1, total: 2, bytes: Bytes::from_static(b"abc") }),
            Message::Want { height: u64::MAX, block },
            Message::Status { height: 77 },
            Message::SyncRequest { from: 0 },
            Message::Decided(DecidedBlock { block: Bytes::from_static(b"x"), certificate: Bytes::new() }),
            Message::Transactions(vec![
                StatedTransaction { encoded: Bytes::from_static(b"x"), key: Some(StatedKey([7; KEY_BYTES])) },
                StatedTransaction { encoded: Bytes::new(), key: None },
            ]),
            Message::Certified(Bytes::from_static(b"proof")),
            Message::Snapshot(SnapshotMessage::WantEpochs { from: 7 }),
            Message::Snapshot(SnapshotMessage::WantChunk { block: 7, index: 1 }),
        ]
    }

    fn entries() -> Vec<LogEntry> {
        let (block, proposer) = (B256::repeat_byte(9), Address::repeat_byte(1));
        let timeout = |kind| LogEntry::Timeout(Timeout::new(Round::new(3), kind));
        let verdict = |validity| LogEntry::Verdict { round: 2, proposer, block, validity };
        vec![
            LogEntry::Vote(signed_vote(VoteType::Prevote, None)),
            LogEntry::Proposal(signed_proposal(Round::new(2))),
            timeout(TimeoutKind::Propose),
            timeout(TimeoutKind::Prevote),
            timeout(TimeoutKind::Precommit),
            verdict(Validity::Valid),
            verdict(Validity::Invalid),
            LogEntry::Block { hash: block, bytes: Bytes::from_static(b"block") },
        ]
    }

    #[test]
    fn what_is_encoded_comes_back() {
        for message in messages() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
        for entry in entries() {
            assert_eq!(LogEntry::decode(&entry.encode()), Ok(entry));
        }
    }

    #[test]
    fn a_block_is_cut_into_parts_of_one_size() {
        let bytes = Bytes::from(vec![7; 2 * PART_BYTES + 1]);
        let cut: Vec<_> = parts(5, B256::ZERO, &bytes).collect();
        assert_eq!(cut.iter().map(|part| part.bytes.len()).collect::<Vec<_>>(), [PART_BYTES, PART_BYTES, 1]);
        assert!(cut.iter().zip(0..).all(|(part, index)| part.index == index && part.total == 3));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes);
            let _ = LogEntry::decode(&bytes);
        }

        /// A message that decodes after a change encodes to those very bytes: there is one encoding of each.
        #[test]
        fn encodings_are_unique(which in 0_usize..15, position in 0_usize..300, flip in 1_u8..) {
            let mut bytes = messages()[which].encode();
            let position = position % bytes.len();
            bytes[position] ^= flip;
            if let Ok(message) = Message::decode(&bytes)
                && !matches!(message, Message::Polka(_) | Message::RoundOver(_))
            {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
