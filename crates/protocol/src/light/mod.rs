//! A light client: from a trusted set of validators to a block, and to what the block holds, without state and without I/O.
//!
//! Headers inside an epoch repeat their set's hash and the epoch's last header names the next set, so a client that
//! follows a chain needs one header and certificate of each epoch ([`Follower`]). A [`Proof`] is these, the block, and what
//! is shown to stand in it: an account with slots, or a transaction with its receipt. Rules K1 to K5 of docs/spec/consensus.md.
//!
//! What it rests on: of every set that a header names, more than two thirds of the power follow the rules for as long as
//! that set is believed. A client that begins far in the past believes sets whose members may have left long ago;
//! [`Limits::trust_seconds`] bounds how long.

mod proof;
mod state;
#[cfg(test)]
mod tests;

pub use proof::{
    Account, AccountProof, LightError, Limits, PROOF_BYTES_MAX, Proof, SlotProof, TransactionProof, Verified,
    VerifiedTransaction,
};
pub use state::{StateError, ordered_proof};

use crate::consensus::{CertifiedBlock, CertifiedBlockError, Domain, decode_header};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, keccak256};

/// Whom a client believes to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// EIP-155 identifier of the chain.
    pub chain_id: u64,
    /// Blocks in an epoch.
    pub epoch_blocks: u64,
    /// The block that is trusted.
    pub number: u64,
    /// The hash of the set that decides the block after it.
    pub set_hash: B256,
    /// The trusted block's time, in seconds since 1970.
    pub timestamp: u64,
}

impl Trusted {
    /// Trust in a header that somebody believed knows by its hash.
    ///
    /// # Errors
    /// When the bytes are not the header with this hash, or name no set.
    pub fn header(chain_id: u64, epoch_blocks: u64, hash: B256, header: &Bytes) -> Result<Self, FollowError> {
        let found = keccak256(header);
        if found != hash {
            return Err(FollowError::NotTrusted { found, expected: hash });
        }
        let header = decode_header(header)?;
        let (number, timestamp) = (header.number, header.timestamp);
        let set_hash = next_set(&header)?;
        Ok(Self { chain_id, epoch_blocks, number, set_hash, timestamp })
    }
}

/// Why a block does not follow from what is trusted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowError {
    /// It begins with another header than the trusted one.
    #[error("it begins with the header {found}, trusted is {expected}")]
    NotTrusted {
        /// The hash of the header given.
        found: B256,
        /// The hash that is trusted.
        expected: B256,
    },
    /// Header or certificate do not hold.
    #[error(transparent)]
    Block(#[from] CertifiedBlockError),
    /// Not above the last one.
    #[error("block {number} is not above block {last}")]
    NotAbove {
        /// The block's number.
        number: u64,
        /// The last one's.
        last: u64,
    },
    /// A set is believed in its own epoch only.
    #[error("block {number} is of epoch {epoch}, but the set that is trusted is that of epoch {trusted}")]
    Epoch {
        /// The block's number.
        number: u64,
        /// Its epoch.
        epoch: u64,
        /// The epoch that comes next.
        trusted: u64,
    },
    /// The extra data are not a set's hash, or not the one that they must be.
    #[error("the extra data of header {0} do not name the set that decides the next block")]
    NoSet(u64),
    /// Time goes backwards.
    #[error("block {number} is older than the one before it")]
    Time {
        /// The block's number.
        number: u64,
    },
    /// The set named too long ago has left, and has nothing to lose any more.
    #[error("block {number} is {seconds} s younger than the header that named its validators, which is too long")]
    Expired {
        /// The block's number.
        number: u64,
        /// How much younger.
        seconds: u64,
    },
}

fn next_set(header: &Header) -> Result<B256, FollowError> {
    let hash = B256::try_from(&header.extra_data[..]).map_err(|_| FollowError::NoSet(header.number))?;
    if hash.is_zero() { Err(FollowError::NoSet(header.number)) } else { Ok(hash) }
}

/// Follows a chain from epoch to epoch.
#[derive(Clone, Copy, Debug)]
pub struct Follower {
    last: Trusted,
    domain: Domain,
    /// Longest time from the header that named a set to one that the set decided; none for any.
    trust_seconds: Option<u64>,
}

impl Follower {
    /// Begins with what is trusted.
    #[must_use]
    pub fn new(trusted: Trusted, trust_seconds: Option<u64>) -> Self {
        Self { last: trusted, domain: Domain::new(trusted.chain_id), trust_seconds }
    }

    /// What is trusted now.
    #[must_use]
    pub fn trusted(&self) -> Trusted {
        self.last
    }

    /// The epoch whose set is trusted.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        (self.last.number + 1) / self.epoch_blocks()
    }

    /// The last block of that epoch, which names the next one's set.
    #[must_use]
    pub fn epoch_last(&self) -> u64 {
        (self.epoch() + 1).saturating_mul(self.epoch_blocks()) - 1
    }

    fn epoch_blocks(&self) -> u64 {
        self.last.epoch_blocks.max(1)
    }

    /// Whether this block was decided by the set that is trusted; then it is what is trusted from now on.
    ///
    /// # Errors
    /// When it was not.
    pub fn follow(&mut self, block: &CertifiedBlock) -> Result<Header, FollowError> {
        let header = block.decode_header()?;
        let (number, last) = (header.number, self.last.number);
        if number <= last {
            return Err(FollowError::NotAbove { number, last });
        }
        let (epoch, trusted) = (number / self.epoch_blocks(), self.epoch());
        if epoch != trusted {
            return Err(FollowError::Epoch { number, epoch, trusted });
        }
        let seconds = header.timestamp.checked_sub(self.last.timestamp).ok_or(FollowError::Time { number })?;
        if self.trust_seconds.is_some_and(|most| seconds > most) {
            return Err(FollowError::Expired { number, seconds });
        }
        let set_hash = next_set(&header)?;
        if set_hash != self.last.set_hash && number != self.epoch_last() {
            return Err(FollowError::NoSet(number));
        }
        let verified = block.certificate.verify(&self.domain, number, block.hash(), self.last.set_hash);
        verified.map_err(CertifiedBlockError::from)?;
        self.last = Trusted { number, set_hash, timestamp: header.timestamp, ..self.last };
        Ok(header)
    }
}
