//! Proof of Inference on chain: `Guards` (epochs, beacons, who may be drawn), `Batches` (what miners committed to),
//! `Audits` (committees, findings), `Scores` (evidence about each miner), `Court` (pool, bonds, slashes, contradictions),
//! `Capabilities` (what drawn guards measured) and `Usefulness` (judges of what passed).
//!
//! One client a contract, one error for all, because their calls fail in the same ways and into each other. Nothing
//! here judges an answer or keeps a secret: findings and their salts are the caller's.

mod batches;
mod capabilities;
mod client;
mod court;
mod events;
mod guards;
mod parameters;
mod scores;
mod usefulness;

pub use batches::{Batch, BatchCommitted, Batches};
pub use capabilities::{
    Capabilities, CapabilitiesParameters, Duty, MeasurementRound, RoundStatus, measurement_commitment,
};
pub use client::{Audit, AuditStatus, Audits, Finding, Inclusion, Seat, SeatState};
pub use court::{BondKind, Contradiction, Court, Guarantee, trap_commitment};
pub use events::AuditEvent;
pub use guards::{Enrolment, Guards};
pub use parameters::{AuditsParameters, CourtParameters, GuardsParameters, ScoresParameters, UsefulnessParameters};
pub use scores::{Failures, Profile, Score, Scores, State};
pub use usefulness::{
    Judge, JudgeSeat, Judgement, JudgementStatus, RevealedScore, Usefulness, known_commitment, score_commitment,
};

use crate::{
    bindings::audits::IScores,
    connection::Provider,
    read::{ReadError, read},
    revert::Revert,
    token::TokenError,
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, U256},
    sol_types::SolCall,
};
use cortensor_protocol::Wei;
use serde::{Deserialize, Serialize};

/// Sums and levels of evidence are the logarithm to base 2 in this part of a bit.
pub const EVIDENCE_PER_BIT: i32 = 65_536;

/// What one audit weighs for each charge, in 1/65,536 bit: another computation than the model's over the prompt, and tokens that
/// were not drawn by the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Weighed {
    /// The first charge.
    pub computation: i32,
    /// The second.
    pub sampling: i32,
}

impl Weighed {
    /// Of the charge that more speaks for.
    #[must_use]
    pub fn highest(self) -> i32 {
        self.computation.max(self.sampling)
    }
}

impl From<IScores::Weighed> for Weighed {
    fn from(weighed: IScores::Weighed) -> Self {
        Self { computation: weighed.computation, sampling: weighed.sampling }
    }
}

/// Most events that one query returns.
const MAX_EVENTS: usize = 100_000;

/// Why an operation on one of the contracts failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditsError {
    /// A read failed.
    #[error("cannot read {what} of the {contract} contract")]
    Read {
        /// Which contract.
        contract: &'static str,
        /// What was read.
        what: &'static str,
        /// Why it failed.
        source: ReadError,
    },
    /// A transaction failed.
    #[error("cannot {what}")]
    Send {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: SendError,
    },
    /// A bond or a payment could not be approved.
    #[error("cannot approve the tokens")]
    Approve(#[source] TokenError),
    /// A log of the contract does not decode.
    #[error("a log of the audits contract does not fit its interface")]
    Log(#[source] alloy::sol_types::Error),
    /// The history is longer than one answer may be; ask for fewer blocks.
    #[error("more than {MAX_EVENTS} events in these blocks; ask for fewer blocks")]
    TooManyEvents,
}

impl AuditsError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Read { source, .. } => source.revert(),
            Self::Send { source, .. } => source.revert(),
            Self::Approve(source) => source.revert(),
            Self::Log(_) | Self::TooManyEvents => None,
        }
    }
}

/// One contract, as all clients call it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) provider: Provider,
    pub(crate) address: Address,
    pub(crate) contract: &'static str,
}

impl Caller {
    pub(crate) async fn read<C: SolCall>(&self, what: &'static str, call: &C) -> Result<C::Return, AuditsError> {
        let answer = read(&self.provider, self.address, call, BlockId::latest()).await;
        answer.map_err(|source| self.failed(what, source))
    }

    /// `None` where the contract refuses with the error of that name.
    pub(crate) async fn read_unless<C: SolCall>(
        &self,
        what: &'static str,
        call: &C,
        refusal: &str,
    ) -> Result<Option<C::Return>, AuditsError> {
        match self.read(what, call).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.revert().is_some_and(|revert| revert.is(refusal)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn read_wei<C: SolCall<Return = U256>>(
        &self,
        what: &'static str,
        call: &C,
    ) -> Result<Wei, AuditsError> {
        let value = self.read(what, call).await?;
        crate::read::wei(what, value).map_err(|source| self.failed(what, source))
    }

    pub(crate) async fn send<C: SolCall>(
        &self,
        wallet: &Wallet,
        what: &'static str,
        call: &C,
    ) -> Result<Confirmed, AuditsError> {
        wallet.call(self.address, call).await.map_err(|source| AuditsError::Send { what, source })
    }

    pub(crate) fn failed(&self, what: &'static str, source: ReadError) -> AuditsError {
        AuditsError::Read { contract: self.contract, what, source }
    }
}

/// A receipt in the form of one contract's bindings.
macro_rules! sol_receipt {
    ($bindings:ident, $receipt:expr) => {{
        let receipt: &cortensor_protocol::Receipt = $receipt;
        crate::bindings::$bindings::IReceipts::Receipt {
            task: receipt.task.0,
            session: receipt.session.0,
            header: receipt.header_hash,
            model: receipt.model.0,
            miner: receipt.miner.0,
            promptHash: receipt.prompt_hash,
            traceRoot: receipt.trace_root,
            firstToken: receipt.first_token,
            inputTokens: receipt.input_tokens,
            outputTokens: receipt.output_tokens,
            finish: receipt.finish as u8,
            tier: receipt.tier as u8,
            inputPrice: receipt.price.input.0,
            outputPrice: receipt.price.output.0,
            amount: receipt.amount.0,
            finishedAt: receipt.finished_at,
        }
    }};
}
use sol_receipt;
