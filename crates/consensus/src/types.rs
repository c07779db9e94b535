//! The types over which the Malachite core works here: heights, block hashes, votes, proposals, proposers.
//!
//! A value is the hash of a block; the block itself travels in parts. Who proposes is a function of height, round and
//! powers alone, so that every node computes it without history.

use std::fmt;

use alloy::primitives::{Address, B256};
pub use cortensor_protocol::consensus::Signature;
use malachite_types::{
    self as core, Context, LinearTimeouts, NilOrVal, Round, SignedExtension, SigningScheme, VoteType, VotingPower,
};

use crate::set::{CoreSet, CoreValidator};

/// The number of a block being decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

/// The hash of a block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub B256);

/// The address that a validator's signatures recover to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValidatorAddress(pub Address);

macro_rules! display_inner {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}
display_inner!(Height, BlockHash, ValidatorAddress);

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl core::Value for BlockHash {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

impl core::Address for ValidatorAddress {}

/// "I accept this block in this round", or nil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteType,
    /// The block's number.
    pub height: Height,
    /// The attempt at this height.
    pub round: Round,
    /// The block, or nil.
    pub block: NilOrVal<BlockHash>,
    /// Who votes.
    pub validator: ValidatorAddress,
}

/// "I propose this block in this round."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The block's number.
    pub height: Height,
    /// The attempt at this height.
    pub round: Round,
    /// The block.
    pub block: BlockHash,
    /// The earlier round in which the block had the prevotes of two thirds; nil for a new block.
    pub valid_round: Round,
    /// Who proposes.
    pub proposer: ValidatorAddress,
}

impl core::Vote<Ctx> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.block
    }

    fn take_value(self) -> NilOrVal<BlockHash> {
        self.block
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &ValidatorAddress {
        &self.validator
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }

    /// Votes carry no extensions; the engine disables them at every height.
    fn extend(self, _extension: SignedExtension<Ctx>) -> Self {
        self
    }
}

impl core::Proposal<Ctx> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockHash {
        &self.block
    }

    fn take_value(self) -> BlockHash {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.valid_round
    }

    fn validator_address(&self) -> &ValidatorAddress {
        &self.proposer
    }
}

/// The core knows no parts: the engine streams blocks itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPart {}

impl core::ProposalPart<Ctx> for NoPart {
    fn is_first(&self) -> bool {
        match *self {}
    }

    fn is_last(&self) -> bool {
        match *self {}
    }
}

impl core::Validator<Ctx> for CoreValidator {
    fn address(&self) -> &ValidatorAddress {
        &self.address
    }

    /// The address is all there is to know: signatures recover to it.
    fn public_key(&self) -> &ValidatorAddress {
        &self.address
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

impl core::ValidatorSet<Ctx> for CoreSet {
    fn count(&self) -> usize {
        self.validators().len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.total_power()
    }

    fn get_by_address(&self, address: &ValidatorAddress) -> Option<&CoreValidator> {
        self.get(address)
    }

    fn get_by_index(&self, index: usize) -> Option<&CoreValidator> {
        self.validators().get(index)
    }
}

/// Recoverable secp256k1 signatures; a key is known by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secp256k1;

impl SigningScheme for Secp256k1 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = ValidatorAddress;
    type PrivateKey = secp256k1::SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, Self::DecodingError> {
        Signature::try_from(bytes).map_err(|_| "a signature has 65 bytes")
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<ValidatorAddress, Self::DecodingError> {
        Address::try_from(bytes).map(ValidatorAddress).map_err(|_| "an address has 20 bytes")
    }

    fn encode_public_key(key: &ValidatorAddress) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// Ties the types together for the core.
#[derive(Clone, Copy, Debug)]
pub struct Ctx;

impl Context for Ctx {
    type Address = ValidatorAddress;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = CoreValidator;
    type ValidatorSet = CoreSet;
    type Timeouts = LinearTimeouts;
    type Value = BlockHash;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Secp256k1;

    fn select_proposer<'a>(&self, set: &'a CoreSet, height: Height, round: Round) -> &'a CoreValidator {
        set.proposer(height, round)
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        block: BlockHash,
        valid_round: Round,
        proposer: ValidatorAddress,
    ) -> Proposal {
        Proposal { height, round, block, valid_round, proposer }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        block: NilOrVal<BlockHash>,
        validator: ValidatorAddress,
    ) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, block, validator }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        block: NilOrVal<BlockHash>,
        validator: ValidatorAddress,
    ) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, block, validator }
    }
}

/// The number of a round. The core has a round before the first one, in which nobody signs and nothing is sent.
#[must_use]
pub fn round_number(round: Round) -> u32 {
    round.as_u32().expect("everything that is signed, sent or timed belongs to a round that began")
}

/// A vote with its signature.
pub type SignedVote = core::SignedVote<Ctx>;
/// A proposal with its signature.
pub type SignedProposal = core::SignedProposal<Ctx>;
