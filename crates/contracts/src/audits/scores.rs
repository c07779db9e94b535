//! `Scores`: what audits have shown about each miner.

use super::{AuditsError, Caller, ScoresParameters};
use crate::{
    bindings::scores::{IScores, Scores as sol},
    connection::Provider,
    read::{ReadError, wei},
    wallet::{Confirmed, Wallet},
};
use alloy::primitives::{Address, B256};
pub use cortensor_protocol::State;
use cortensor_protocol::{ModelId, Operator, Standing};
use serde::{Deserialize, Serialize};

/// A miner's score. Evidence is in 1/65,536 bit ([`super::EVIDENCE_PER_BIT`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Sum of all audits for the charge of another computation; below zero speaks for honesty.
    pub computation: i64,
    /// The same for the charge of tokens that were not drawn by the rule.
    pub sampling: i64,
    /// [`Self::computation`], never below zero.
    pub computation_cusum: u32,
    /// [`Self::sampling`], never below zero.
    pub sampling_cusum: u32,
    /// Audits that were settled.
    pub jobs: u32,
    /// Tokens served, as those audits estimate them: what each checked over the rate that drew it.
    pub tokens: u64,
    /// What follows.
    pub state: State,
}

impl Score {
    /// Evidence for the charge that more speaks for.
    #[must_use]
    pub fn evidence(&self) -> i64 {
        self.computation.max(self.sampling)
    }
}

/// How often a miner failed to show drawn receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// Failures that are not forgotten.
    pub count: u32,
    /// From when on time makes the next one forgotten, in seconds since 1970.
    pub since: u64,
}

/// Calibrated ratios for one model, served on one class of machine and audited on another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Grows with each registration; 0 where there is none.
    pub version: u32,
    /// Of the calibration file that this was made of.
    pub content_hash: B256,
    /// For each charge (computation, sampling), log2 of "cheat against honest" in 1/65,536 bit for 16 bins of margin,
    /// log-probability difference, sketch distance.
    pub ratios: [[[i32; 16]; 3]; 2],
}

/// The scores contract at one address.
#[derive(Clone, Debug)]
pub struct Scores(Caller);

impl Scores {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "scores" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Registers the ratios for a triple; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn register_profile(
        &self,
        wallet: &Wallet,
        model: ModelId,
        (miner_class, guard_class): (B256, B256),
        profile: &Profile,
    ) -> Result<Confirmed, AuditsError> {
        let next =
            IScores::Profile { version: profile.version, contentHash: profile.content_hash, ratios: profile.ratios };
        let call = sol::registerProfileCall { model: model.0, minerClass: miner_class, guardClass: guard_class, next };
        self.0.send(wallet, "register a profile", &call).await
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: ScoresParameters,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters", &call).await
    }

    /// A miner's score; all zero for one that was never audited.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn score(&self, miner: Operator) -> Result<Score, AuditsError> {
        let score = self.0.read("a score", &sol::scoreCall { miner: miner.0 }).await?;
        let state = State::from_u8(score.state)
            .ok_or_else(|| self.0.failed("a score", ReadError::out_of_range("a state", &score.state)))?;
        Ok(Score {
            computation: score.computation.as_i64(),
            sampling: score.sampling.as_i64(),
            computation_cusum: score.computationCusum,
            sampling_cusum: score.samplingCusum,
            jobs: score.jobs,
            tokens: score.tokens,
            state,
        })
    }

    /// All that a router asks about a miner; `epoch` says when it was read.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn standing(&self, miner: Operator, epoch: u32) -> Result<Standing, AuditsError> {
        let (score, rate_ppm, reputation_ppm) =
            tokio::try_join!(self.score(miner), self.rate_ppm(miner), self.reputation_ppm(miner))?;
        let (evidence, Score { jobs, tokens, state, .. }) = (score.evidence(), score);
        Ok(Standing { state, reputation_ppm, evidence, jobs, tokens, rate_ppm, epoch })
    }

    /// A miner's failures to show drawn receipts, as they were last counted or forgotten.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn failures(&self, miner: Operator) -> Result<Failures, AuditsError> {
        let failures = self.0.read("failures", &sol::failuresOfCall { miner: miner.0 }).await?;
        Ok(Failures { count: failures.count, since: failures.since.to() })
    }

    /// Forgets the failures whose time has passed, with what they weighed. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn forget(&self, wallet: &Wallet, miner: Operator) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "forget failures", &sol::forgetCall { miner: miner.0 }).await
    }

    /// The part of a miner's receipts that is drawn from now on, in ppm.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn rate_ppm(&self, miner: Operator) -> Result<u32, AuditsError> {
        self.0.read("an audit rate", &sol::rateOfCall { miner: miner.0 }).await
    }

    /// A miner's reputation, in ppm: 500,000 for one that was never audited, zero once suspended.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn reputation_ppm(&self, miner: Operator) -> Result<u32, AuditsError> {
        self.0.read("a reputation", &sol::reputationOfCall { miner: miner.0 }).await
    }

    /// Served tokens, estimated from audits, weighted by reputation: what consensus power is made of.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn power(&self, operator: Operator) -> Result<u128, AuditsError> {
        let power = self.0.read("a power", &sol::scoreOfCall { operator: operator.0 }).await?;
        wei("a power", power).map(|power| power.0).map_err(|source| self.0.failed("a power", source))
    }

    /// The ratios for a triple; `None` where there are none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn profile(
        &self,
        model: ModelId,
        (miner_class, guard_class): (B256, B256),
    ) -> Result<Option<Profile>, AuditsError> {
        let call = sol::profileCall { model: model.0, minerClass: miner_class, guardClass: guard_class };
        let profile = self.0.read("a profile", &call).await?;
        Ok((profile.version != 0).then_some(Profile {
            version: profile.version,
            content_hash: profile.contentHash,
            ratios: profile.ratios,
        }))
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<ScoresParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }
}
