//! The file that `cortensor chain proof` writes and `cortensor chain verify` checks.

use super::{FollowError, Follower, StateError, Trusted};
use crate::consensus::CertifiedBlock;
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, Log, U64, U256, keccak256};
use serde::{Deserialize, Serialize};

/// Most bytes of a proof.
pub const PROOF_BYTES_MAX: usize = 256 << 20;
/// The version of the format.
const VERSION: u8 = 1;

/// A block and something in it, with all that leads there from what is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Proof {
    version: u8,
    /// EIP-155 identifier of the chain.
    pub chain_id: U64,
    /// The trusted header in RLP; none where block 0 is trusted.
    pub trusted_header: Option<Bytes>,
    /// The last block of each epoch from the trusted one's on, up to the one before the block's.
    pub epochs: Vec<CertifiedBlock>,
    /// The block.
    pub block: CertifiedBlock,
    /// An account in the state after the block.
    pub account: Option<AccountProof>,
    /// A transaction of the block.
    pub transaction: Option<TransactionProof>,
}

/// An account, or that there is none, and some of its slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccountProof {
    /// Whose.
    pub address: Address,
    /// The account; none where the address has none.
    pub account: Option<Account>,
    /// The nodes from the state root to it.
    pub proof: Vec<Bytes>,
    /// Slots.
    pub slots: Vec<SlotProof>,
}

/// What the state holds about an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Account {
    /// Number of transactions sent or contracts created.
    pub nonce: U64,
    /// Balance in wei.
    pub balance: U256,
    /// The root of its storage.
    pub storage_root: B256,
    /// The hash of its code.
    pub code_hash: B256,
}

/// One slot of an account's storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SlotProof {
    /// Which.
    pub slot: B256,
    /// What stands there; zero where nothing was written.
    pub value: U256,
    /// The nodes from the storage root to it.
    pub proof: Vec<Bytes>,
}

/// A transaction and its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TransactionProof {
    /// Its place in the block.
    pub index: U64,
    /// The transaction (EIP-2718).
    pub transaction: Bytes,
    /// The nodes from the transactions' root to it.
    pub transaction_proof: Vec<Bytes>,
    /// The receipt (EIP-2718).
    pub receipt: Bytes,
    /// The nodes from the receipts' root to it.
    pub receipt_proof: Vec<Bytes>,
}

/// How old things may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Longest time from the header that names a set to one that the set decided; none for any.
    pub trust_seconds: Option<u64>,
    /// The time now (seconds since 1970), and how much older than that the block may be; none for any age.
    pub age: Option<(u64, u64)>,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The block's header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// The power of those who signed, and all power.
    pub power: (u64, u64),
    /// The account, if one was to be shown.
    pub account: Option<AccountProof>,
    /// The transaction, if one was to be shown.
    pub transaction: Option<VerifiedTransaction>,
}

/// A transaction that a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Its place in the block.
    pub index: u64,
    /// Whether it did what it was to do.
    pub success: bool,
    /// What it logged.
    pub logs: Vec<Log>,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LightError {
    /// Not the format.
    #[error("this is no proof: {0}")]
    Format(String),
    /// There is one way to write each proof, and this is another.
    #[error("the proof is not written in its one form")]
    NotCanonical,
    /// For another chain.
    #[error("the proof is of chain {found}, not of chain {expected}")]
    Chain {
        /// The chain that it names.
        found: u64,
        /// The chain that is followed.
        expected: u64,
    },
    /// Begins elsewhere.
    #[error("the proof begins at {0}")]
    Begin(&'static str),
    /// A step does not follow.
    #[error("step {step} does not follow")]
    Step {
        /// Which, from 0.
        step: usize,
        /// Why.
        #[source]
        source: FollowError,
    },
    /// A step that is not an epoch's last block.
    #[error("step {step} is block {number}, but epoch {epoch} ends with block {expected}")]
    NotEpochLast {
        /// Which, from 0.
        step: usize,
        /// The block given.
        number: u64,
        /// The epoch.
        epoch: u64,
        /// The block wanted.
        expected: u64,
    },
    /// The block itself does not follow.
    #[error("the block does not follow")]
    Block(#[source] FollowError),
    /// Too old.
    #[error("the block is {seconds} s old, which is more than {most} s")]
    Stale {
        /// Its age.
        seconds: u64,
        /// What is allowed.
        most: u64,
    },
    /// What should stand in the block is not shown to.
    #[error("block {number} is proved, but what should stand in it is not")]
    State {
        /// The block.
        number: u64,
        /// Why.
        #[source]
        source: StateError,
    },
}

impl Proof {
    /// A proof of a block alone.
    #[must_use]
    pub fn new(
        chain_id: u64,
        trusted_header: Option<Bytes>,
        epochs: Vec<CertifiedBlock>,
        block: CertifiedBlock,
    ) -> Self {
        let chain_id = U64::from(chain_id);
        Self { version: VERSION, chain_id, trusted_header, epochs, block, account: None, transaction: None }
    }

    /// Reads a proof. Nothing is verified but its form.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, LightError> {
        let format = |error: serde_json::Error| LightError::Format(error.to_string());
        if text.len() > PROOF_BYTES_MAX {
            return Err(LightError::Format("longer than any proof is".to_owned()));
        }
        let proof: Self = serde_json::from_str(text).map_err(format)?;
        if proof.version != VERSION {
            return Err(LightError::Format(format!("version {}", proof.version)));
        }
        let given: serde_json::Value = serde_json::from_str(text).map_err(format)?;
        let own = serde_json::to_value(&proof).map_err(format)?;
        if given == own { Ok(proof) } else { Err(LightError::NotCanonical) }
    }

    /// Whether it leads from what is trusted to the block and shows what stands there. `header` is the hash of the trusted
    /// header; none where the trust is in block 0.
    ///
    /// # Errors
    /// When it does not, with the reason.
    pub fn verify(&self, genesis: Trusted, header: Option<B256>, limits: Limits) -> Result<Verified, LightError> {
        let (found, expected) = (self.chain_id.to(), genesis.chain_id);
        if found != expected {
            return Err(LightError::Chain { found, expected });
        }
        let mut follower = Follower::new(self.begin(genesis, header)?, limits.trust_seconds);
        for (step, block) in self.epochs.iter().enumerate() {
            let (epoch, expected) = (follower.epoch(), follower.epoch_last());
            let number = block.certificate.height;
            if number != expected {
                return Err(LightError::NotEpochLast { step, number, epoch, expected });
            }
            follower.follow(block).map_err(|source| LightError::Step { step, source })?;
        }
        let header = follower.follow(&self.block).map_err(LightError::Block)?;
        if let Some((now, most)) = limits.age {
            let seconds = now.saturating_sub(header.timestamp);
            if seconds > most {
                return Err(LightError::Stale { seconds, most });
            }
        }
        self.verify_contents(header)
    }

    fn begin(&self, genesis: Trusted, header: Option<B256>) -> Result<Trusted, LightError> {
        match (header, &self.trusted_header) {
            (None, None) => Ok(genesis),
            (None, Some(_)) => Err(LightError::Begin("a header, but block 0 is trusted")),
            (Some(_), None) => Err(LightError::Begin("block 0, but another header is trusted")),
            (Some(hash), Some(header)) => Trusted::header(genesis.chain_id, genesis.epoch_blocks, hash, header)
                .map_err(|source| LightError::Step { step: 0, source }),
        }
    }

    fn verify_contents(&self, header: Header) -> Result<Verified, LightError> {
        let failed = |source| LightError::State { number: header.number, source };
        self.account.as_ref().map(|account| account.verify(header.state_root)).transpose().map_err(failed)?;
        let transaction = self.transaction.as_ref().map(|one| one.verify(&header)).transpose().map_err(failed)?;
        let certificate = &self.block.certificate;
        let members = certificate.set.validators().iter().zip(&certificate.signatures);
        let signed = members.filter(|(_, signature)| !signature.is_zero()).map(|(member, _)| member.power).sum();
        Ok(Verified {
            header,
            hash: keccak256(&self.block.header),
            power: (signed, certificate.set.total_power()),
            account: self.account.clone(),
            transaction,
        })
    }
}
