//! `Rewards`: what paid and proved work earns beyond its fees.
//!
//! A miner counts what it redeemed in the epoch in which it likes, and claims when that epoch is over. Nothing here decides
//! whether that is worth its gas.

use crate::{
    audits::{AuditsError, Caller},
    bindings::rewards::{IRewards, Rewards as sol},
    connection::Provider,
    token::Token,
    wallet::{Confirmed, Wallet},
};
use alloy::primitives::{Address, B256, U256};
use cortensor_protocol::{Operator, SessionId, Wei};
use serde::{Deserialize, Serialize};

/// Most sessions that one call counts.
pub const MAX_SESSIONS: usize = 128;
/// Most epochs that one call claims.
pub const MAX_CLAIMS: u32 = 128;

/// What governance sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardsParameters {
    /// Most that the pool gives in an epoch, before it is halved.
    pub emission: Wei,
    /// Epochs after which the emission is halved, and again.
    pub halving_epochs: u32,
    /// Part of the protocol's share of the counted fees that rewards never exceed, in ppm.
    pub cap_ppm: u32,
    /// Part of the collected fees for the guards' pool, in basis points.
    pub guard_bps: u16,
}

impl Default for RewardsParameters {
    /// Rewards of half of the protocol's share at most, out of 200 COR in an epoch, halved after two years of hours; that
    /// share itself for the guards: it just covers what audits at the floor rate cost.
    fn default() -> Self {
        Self { emission: Wei(200 * Wei::COR.0), halving_epochs: 2 * 365 * 24, cap_ppm: 500_000, guard_bps: 10_000 }
    }
}

impl From<RewardsParameters> for IRewards::Parameters {
    fn from(parameters: RewardsParameters) -> Self {
        Self {
            emission: parameters.emission.0,
            halvingEpochs: parameters.halving_epochs,
            capPpm: parameters.cap_ppm,
            guardBps: parameters.guard_bps,
        }
    }
}

impl From<IRewards::Parameters> for RewardsParameters {
    fn from(parameters: IRewards::Parameters) -> Self {
        Self {
            emission: Wei(parameters.emission),
            halving_epochs: parameters.halvingEpochs,
            cap_ppm: parameters.capPpm,
            guard_bps: parameters.guardBps,
        }
    }
}

/// What a miner could claim now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimable {
    /// At least.
    pub amount: Wei,
    /// For so many epochs, at most [`MAX_CLAIMS`].
    pub epochs: u32,
}

/// The rewards contract at one address.
#[derive(Clone, Debug)]
pub struct Rewards(Caller);

/// Miners.
impl Rewards {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "rewards" })
    }

    /// Where it is deployed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// Counts what the wallet's operator redeemed of these sessions since they were counted last, at most [`MAX_SESSIONS`].
    ///
    /// # Errors
    /// When the transaction fails: `NothingToCount` where nothing is new, `NotAudited` before the first settled audit.
    pub async fn count(&self, wallet: &Wallet, sessions: &[SessionId]) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "count redeemed fees", &sol::countCall { ids: words(sessions) }).await
    }

    /// Pays a miner's rewards of the epochs that are over to its payout account. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails: `NothingToClaim` where there are none.
    pub async fn claim(&self, wallet: &Wallet, miner: Operator) -> Result<Confirmed, AuditsError> {
        let call = sol::claimCall { miner: miner.0, most: U256::from(MAX_CLAIMS) };
        self.0.send(wallet, "claim rewards", &call).await
    }

    /// Takes in the fees that the sessions contract owes to rewards and guards. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn collect(&self, wallet: &Wallet) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "collect fees", &sol::collectCall {}).await
    }

    /// Adds tokens to the pool that the emission comes from. Approves first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn fund(&self, wallet: &Wallet, amount: Wei) -> Result<Confirmed, AuditsError> {
        let token = Token::new(self.0.provider.clone(), self.0.read("the token", &sol::tokenCall {}).await?);
        token.ensure_allowance(wallet, self.0.address, amount).await.map_err(AuditsError::Approve)?;
        self.0.send(wallet, "fund the rewards", &sol::fundCall { amount: amount.0 }).await
    }

    /// Names the contract that judges quality; the zero address for none. Only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_quality(&self, wallet: &Wallet, quality: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "name who judges quality", &sol::setQualityCall { next: quality }).await
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: RewardsParameters,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters", &call).await
    }
}

/// Reading.
impl Rewards {
    /// What a miner could claim in an epoch: [`crate::Guards::next_epoch`] for now.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn claimable(&self, miner: Operator, current: u32) -> Result<Claimable, AuditsError> {
        let what = "claimable rewards";
        let found = self.0.read(what, &sol::claimableCall { miner: miner.0, current }).await?;
        let amount = crate::read::wei(what, found.amount).map_err(|source| self.0.failed(what, source))?;
        Ok(Claimable { amount, epochs: found.epochs.saturating_to() })
    }

    /// The weight that counting these sessions would add now, which is at least what it could earn: `None` before a miner's
    /// first settled audit.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn countable(&self, miner: Operator, sessions: &[SessionId]) -> Result<Option<Wei>, AuditsError> {
        let call = sol::countableCall { miner: miner.0, ids: words(sessions) };
        Ok(self.0.read_unless("countable fees", &call, "NotAudited").await?.map(Wei))
    }

    /// What the emission comes from.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn pool(&self) -> Result<Wei, AuditsError> {
        self.0.read_wei("the pool", &sol::poolCall {}).await
    }

    /// Collected fees that no epoch has given away yet.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn fees(&self) -> Result<Wei, AuditsError> {
        self.0.read_wei("the fees", &sol::feesCall {}).await
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<RewardsParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }
}

fn words(sessions: &[SessionId]) -> Vec<B256> {
    sessions.iter().map(|session| session.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_survive_the_contracts_form() {
        let parameters = RewardsParameters::default();
        assert_eq!(RewardsParameters::from(IRewards::Parameters::from(parameters)), parameters);
        assert!(parameters.cap_ppm < 1_000_000, "self-dealing must cost");
        assert_eq!(words(&[SessionId(B256::repeat_byte(1))]), [B256::repeat_byte(1)]);
    }
}
