//! Who signs for a validator: a key in this process, or another process that keeps it.

use cortensor_protocol::consensus::VoteKind;
use malachite_types::SignedMessage;
use thiserror::Error;

use super::{Signer, WireVote, remote::RemoteSigner, wire::Request};
use crate::types::{Proposal, Signature, SignedProposal, SignedVote, ValidatorAddress, Vote, round_number};

/// Why nothing was signed. The validator stops: it cannot know whether another copy of it goes on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The signer did not answer in time, or is not there.
    #[error("the signer at {socket} cannot be reached")]
    Unreachable {
        /// Where it should be.
        socket: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It refused.
    #[error("the signer refused: {0}")]
    Refused(String),
    /// It answered something else than was asked.
    #[error("the signer's answer is not a signature of {0}")]
    Answer(ValidatorAddress),
}

/// Signs for one validator.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// With a key in memory.
    Local(Signer),
    /// By asking the process that holds the key.
    Remote(RemoteSigner),
}

impl From<Signer> for Keeper {
    fn from(signer: Signer) -> Self {
        Self::Local(signer)
    }
}

impl Keeper {
    /// The address that its signatures recover to.
    #[must_use]
    pub fn address(&self) -> ValidatorAddress {
        match self {
            Self::Local(signer) => signer.address(),
            Self::Remote(remote) => remote.address(),
        }
    }

    /// Signs a vote.
    ///
    /// # Errors
    /// When another process has the key and does not sign.
    pub fn vote(&self, vote: Vote) -> Result<SignedVote, SigningError> {
        let remote = match self {
            Self::Local(signer) => return Ok(signer.vote(vote)),
            Self::Remote(remote) => remote,
        };
        let unsigned = SignedMessage::new(vote, Signature::ZERO);
        let WireVote { kind, height, round, block_hash, .. } = WireVote::from(&unsigned);
        debug_assert!(VoteKind::from_number(kind).is_some());
        let signature = remote.sign(&Request::Vote { kind, height, round, block_hash })?;
        Ok(SignedMessage::new(unsigned.message, signature))
    }

    /// Signs a proposal.
    ///
    /// # Errors
    /// As [`Keeper::vote`].
    pub fn proposal(&self, proposal: Proposal) -> Result<SignedProposal, SigningError> {
        let remote = match self {
            Self::Local(signer) => return Ok(signer.proposal(proposal)),
            Self::Remote(remote) => remote,
        };
        let signature = remote.sign(&Request::Proposal {
            height: proposal.height.0,
            round: round_number(proposal.round),
            valid_round: proposal.valid_round.as_u32(),
            block_hash: proposal.block.0,
        })?;
        Ok(SignedMessage::new(proposal, signature))
    }

    /// Signs this height's contribution to the beacon.
    ///
    /// # Errors
    /// As [`Keeper::vote`].
    pub fn beacon(&self, height: u64) -> Result<Signature, SigningError> {
        match self {
            Self::Local(signer) => Ok(signer.beacon(height)),
            Self::Remote(remote) => remote.sign(&Request::Beacon { height }),
        }
    }
}
