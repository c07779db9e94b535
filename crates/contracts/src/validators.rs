//! `Validators` and `Equivocations`: who decides the blocks of a chain, and what a double vote costs.
//!
//! Sets are what the contract fixed; nothing here chooses one. Keys of validators are Ethereum accounts of their own, apart
//! from the operators that stake for them.

use crate::{
    audits::{AuditsError, Caller},
    bindings::{
        equivocations::{Equivocations as equivocations_sol, IEquivocations, Votes},
        validators::{IValidators, Validators as sol},
    },
    connection::Provider,
    read::ReadError,
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::{SolStruct as _, eip712_domain},
};
use cortensor_protocol::{Operator, Wei, consensus::ValidatorSet};
use serde::{Deserialize, Serialize};

/// What governance sets of the validators, and the chain's first set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorsParameters {
    /// Blocks in an epoch; fixed at deployment, and the same as the chain's genesis says.
    pub epoch_length_blocks: u32,
    /// The chain's first set, as its genesis has it; without one the deployer decides alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<ValidatorSet>,
    /// From this epoch on the first set weighs nothing.
    pub sunset_epoch: u64,
    /// What the first set weighs together until then, as if it were stake.
    pub bootstrap_stake: Wei,
    /// Who gave no sign of life for more epochs than these is jailed; 0 for never.
    pub absent_epochs: u32,
    /// Epochs before a jailed validator may come back.
    pub jail_epochs: u32,
}

impl ValidatorsParameters {
    /// For a chain of one's own: short epochs.
    #[must_use]
    pub fn development() -> Self {
        Self { epoch_length_blocks: 100, ..Self::public() }
    }

    /// For a public chain: half a day of one-second blocks an epoch, a year until the sunset.
    #[must_use]
    pub fn public() -> Self {
        Self {
            epoch_length_blocks: 43_200,
            bootstrap: None,
            sunset_epoch: 730,
            bootstrap_stake: Wei(1_000_000 * Wei::COR.0),
            absent_epochs: 2,
            jail_epochs: 2,
        }
    }
}

impl From<&ValidatorsParameters> for IValidators::Parameters {
    fn from(parameters: &ValidatorsParameters) -> Self {
        Self {
            sunsetEpoch: parameters.sunset_epoch,
            bootstrapStake: parameters.bootstrap_stake.0,
            absentEpochs: parameters.absent_epochs,
            jailEpochs: parameters.jail_epochs,
        }
    }
}

/// What a double vote costs, in basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EquivocationsParameters {
    /// Of the operator's stake, also what is unbonding.
    pub slash_bps: u16,
    /// Part of the slash that is burnt.
    pub burn_bps: u16,
    /// Part of the slash for the reporter; the rest is the guards' pool's.
    pub reporter_bps: u16,
}

impl Default for EquivocationsParameters {
    fn default() -> Self {
        Self { slash_bps: 5_000, burn_bps: 4_000, reporter_bps: 1_000 }
    }
}

impl From<EquivocationsParameters> for IEquivocations::Parameters {
    fn from(parameters: EquivocationsParameters) -> Self {
        Self { slashBps: parameters.slash_bps, burnBps: parameters.burn_bps, reporterBps: parameters.reporter_bps }
    }
}

/// Someone who wants to validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its node.
    pub operator: Operator,
    /// What it signs votes with.
    pub key: Address,
    /// The last epoch in which it gave a sign of life.
    pub seen: u32,
    /// The first epoch in which it may come back, while it is jailed.
    pub jailed_until: Option<u32>,
}

impl From<IValidators::Candidate> for Candidate {
    fn from(entry: IValidators::Candidate) -> Self {
        Self {
            operator: Operator(entry.operator),
            key: entry.key,
            seen: entry.seen,
            jailed_until: (entry.jailedUntil != 0).then_some(entry.jailedUntil),
        }
    }
}

/// Most candidates that the contract takes.
const CANDIDATES_MAX: u64 = 100;

/// The validators contract at one address.
#[derive(Clone, Debug)]
pub struct Validators(Caller);

/// Operators.
impl Validators {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "validators" })
    }

    /// Where it is deployed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// Offers the wallet's operator as a validator that votes with `key`; `deadline` in seconds since 1970. Again, to change the key.
    ///
    /// # Errors
    /// When the transaction fails: `NotValidator` where the node lacks role or stake, `Full` where others stake more.
    pub async fn join(
        &self,
        wallet: &Wallet,
        operator: Operator,
        key: &PrivateKeySigner,
        deadline: u64,
    ) -> Result<Confirmed, AuditsError> {
        let digest = self.key_digest(wallet.chain_id(), operator, deadline);
        let signature = key.sign_hash_sync(&digest).expect("a local key signs every hash");
        let call = sol::joinCall {
            operator: operator.0,
            key: key.address(),
            deadline: U256::from(deadline),
            signature: Bytes::copy_from_slice(&signature.as_bytes()),
        };
        self.0.send(wallet, "join the validators", &call).await
    }

    /// Withdraws an operator's candidacy; its power goes with the next sets.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn resign(&self, wallet: &Wallet, operator: Operator) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "resign as a validator", &sol::resignCall { operator: operator.0 }).await
    }

    /// Lets a jailed candidate back in.
    ///
    /// # Errors
    /// When the transaction fails: `JailedUntil` while its time is not over.
    pub async fn unjail(&self, wallet: &Wallet, operator: Operator) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "leave the jail", &sol::unjailCall { operator: operator.0 }).await
    }

    /// A sign of life, by a candidate's operator or key.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn heartbeat(&self, wallet: &Wallet) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "give a sign of life", &sol::heartbeatCall {}).await
    }

    /// Fixes the next epoch's set. Anyone may, once an epoch.
    ///
    /// # Errors
    /// When the transaction fails: `AlreadyAdvanced`, or `EpochEnds` in an epoch's last block.
    pub async fn advance(&self, wallet: &Wallet) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "fix the next set of validators", &sol::advanceCall {}).await
    }

    /// What a key signs to vote for an operator: EIP-712 `Key(address operator,uint256 deadline)`.
    fn key_digest(&self, chain_id: u64, operator: Operator, deadline: u64) -> B256 {
        alloy::sol! {
            struct Key {
                address operator;
                uint256 deadline;
            }
        }
        let domain = eip712_domain! {
            name: "Cortensor Validators",
            version: "1",
            chain_id: chain_id,
            verifying_contract: self.0.address,
        };
        Key { operator: operator.0, deadline: U256::from(deadline) }.eip712_signing_hash(&domain)
    }
}

/// Reading.
impl Validators {
    /// The set that decides the block of this height: of the running epoch, the next, or the last that was different.
    ///
    /// # Errors
    /// When the read fails: `EpochUnknown` for other heights.
    pub async fn set_at(&self, height: u64) -> Result<ValidatorSet, AuditsError> {
        let found = self.0.read("a set of validators", &sol::setAtCall { height }).await?;
        let set = ValidatorSet::from_parts(&found._0, &found._1);
        set.map_err(|error| self.0.failed("a set of validators", ReadError::out_of_range("a set", &error)))
    }

    /// The epoch of the newest block.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn current_epoch(&self) -> Result<u64, AuditsError> {
        self.0.read("the epoch", &sol::currentEpochCall {}).await
    }

    /// Blocks in an epoch.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn epoch_length_blocks(&self) -> Result<u32, AuditsError> {
        self.0.read("the length of an epoch", &sol::epochLengthCall {}).await
    }

    /// Whether the next epoch's set is fixed.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn has_advanced(&self) -> Result<bool, AuditsError> {
        let advanced = self.0.read("the last fixed epoch", &sol::advancedInCall {}).await?;
        Ok(advanced == self.current_epoch().await? + 1)
    }

    /// Everyone who staked to be a validator.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn candidates(&self) -> Result<Vec<Candidate>, AuditsError> {
        let count = self.0.read("the number of candidates", &sol::candidateCountCall {}).await?;
        let mut found = Vec::new();
        for index in 0..count.saturating_to::<u64>().min(CANDIDATES_MAX) {
            let call = sol::candidateAtCall { index: U256::from(index) };
            found.push(self.0.read("a candidate", &call).await?.into());
        }
        Ok(found)
    }

    /// Keys of the chain's first set that weigh something until the sunset.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn bootstrap_keys(&self) -> Result<Vec<Address>, AuditsError> {
        Ok(self.0.read("the first validators", &sol::bootstrapSetCall {}).await?.keys)
    }

    /// For whom a key votes, or voted; none for a key that never joined.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn operator_of(&self, key: Address) -> Result<Option<Operator>, AuditsError> {
        let operator = self.0.read("the operator of a key", &sol::operatorOfCall { key }).await?;
        Ok((!operator.is_zero()).then_some(Operator(operator)))
    }

    /// An operator's candidacy.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn candidate(&self, operator: Operator) -> Result<Option<Candidate>, AuditsError> {
        let call = sol::candidateCall { operator: operator.0 };
        let found = self.0.read_unless("a candidate", &call, "NotCandidate").await?;
        Ok(found.map(Candidate::from))
    }
}

/// A vote as it was signed. `kind` is 1 for a prevote, 2 for a precommit; a zero hash is a vote for nil.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVote {
    /// Prevote or precommit.
    pub kind: u8,
    /// Of the block.
    pub height: u64,
    /// Of the voting.
    pub round: u32,
    /// What was voted for.
    pub block_hash: B256,
    /// r‖s‖v.
    pub signature: Bytes,
}

/// A proposal as it was signed; `valid_round` is -1 for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedProposal {
    /// Of the block.
    pub height: u64,
    /// Of the voting.
    pub round: u32,
    /// In which round the block had its prevotes.
    pub valid_round: i64,
    /// What was proposed.
    pub block_hash: B256,
    /// r‖s‖v.
    pub signature: Bytes,
}

/// The contract that convicts for double votes.
#[derive(Clone, Debug)]
pub struct Equivocations(Caller);

impl Equivocations {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "equivocations" })
    }

    /// Where it is deployed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// Convicts the signer of two votes. The wallet earns a part where it announced the proof to the court in an earlier block.
    ///
    /// # Errors
    /// When the transaction fails: `NotConflicting`, `SignersDiffer`, `AlreadyProven`.
    pub async fn prove_votes(
        &self,
        wallet: &Wallet,
        [a, b]: [&SignedVote; 2],
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let vote = |vote: &SignedVote| Votes::Vote {
            kind: vote.kind,
            height: vote.height,
            round: vote.round,
            blockHash: vote.block_hash,
        };
        let call = equivocations_sol::proveVotesCall {
            a: vote(a),
            signatureOfA: a.signature.clone(),
            b: vote(b),
            signatureOfB: b.signature.clone(),
            salt,
        };
        self.0.send(wallet, "prove a double vote", &call).await
    }

    /// Convicts the signer of two proposals, as [`Self::prove_votes`].
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn prove_proposals(
        &self,
        wallet: &Wallet,
        [a, b]: [&SignedProposal; 2],
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let proposal = |proposal: &SignedProposal| Votes::Proposal {
            height: proposal.height,
            round: proposal.round,
            validRound: proposal.valid_round,
            blockHash: proposal.block_hash,
        };
        let call = equivocations_sol::proveProposalsCall {
            a: proposal(a),
            signatureOfA: a.signature.clone(),
            b: proposal(b),
            signatureOfB: b.signature.clone(),
            salt,
        };
        self.0.send(wallet, "prove a double proposal", &call).await
    }

    /// Whether a key was convicted.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_proven(&self, key: Address) -> Result<bool, AuditsError> {
        self.0.read("a conviction", &equivocations_sol::isProvenCall { key }).await
    }
}
