//! `Guards`: epochs, beacons, and the guards among whom committees are drawn.

use super::{AuditsError, Caller};
use crate::{
    bindings::guards::Guards as sol,
    connection::{ChainTime as _, Provider},
    wallet::{Confirmed, Wallet},
};
use alloy::primitives::{Address, B256, U256};
use cortensor_protocol::Operator;

/// One guard's enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The guard.
    pub operator: Operator,
    /// The epoch in which it enrolled: it is drawn with this epoch's beacon and later ones.
    pub since: u32,
    /// Whether it was ended.
    pub retired: bool,
}

/// The guards contract at one address.
#[derive(Clone, Debug)]
pub struct Guards(Caller);

impl Guards {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "guards" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Enrols the wallet's operator, an active guard of the node registry.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn enroll(&self, wallet: &Wallet) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "enrol as a guard", &sol::enrollCall {}).await
    }

    /// Ends the wallet's enrolment; committees that it was drawn for stay as they are.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn retire(&self, wallet: &Wallet) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "retire as a guard", &sol::retireCall {}).await
    }

    /// Declares the class of machine that the wallet's operator computes on, from the next epoch on.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn declare_class(&self, wallet: &Wallet, class: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "declare a class", &sol::declareClassCall { class }).await
    }

    /// Records the beacon of a past epoch. Anyone may, once an epoch.
    ///
    /// # Errors
    /// When the transaction fails: `EpochNotOver`, or `BeaconKnown` when somebody else was faster.
    pub async fn record_beacon(&self, wallet: &Wallet, epoch: u32) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "record a beacon", &sol::recordBeaconCall { epoch }).await
    }

    /// The running epoch, by the newest block's time.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn current_epoch(&self) -> Result<u32, AuditsError> {
        self.0.read("the epoch", &sol::currentEpochCall {}).await
    }

    /// The epoch in which the next block will be. A chain that seals on demand has no newer block than the last
    /// transaction's, and then it is later than [`Self::current_epoch`].
    ///
    /// # Errors
    /// When a read fails.
    pub async fn next_epoch(&self) -> Result<u32, AuditsError> {
        let now = self.0.provider.chain_time().await.map_err(|source| self.0.failed("the time", source))?;
        self.epoch_at(now).await
    }

    /// The epoch of a moment, in seconds since 1970.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn epoch_at(&self, time: u64) -> Result<u32, AuditsError> {
        let (genesis, length) = (self.genesis().await?, u64::from(self.epoch_length_s().await?).max(1));
        Ok(u32::try_from(time.saturating_sub(genesis) / length).unwrap_or(u32::MAX))
    }

    /// The beacon of an epoch; `None` while it is not recorded.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn beacon(&self, epoch: u32) -> Result<Option<B256>, AuditsError> {
        let beacon = self.0.read("a beacon", &sol::beaconOfCall { epoch }).await?;
        Ok((!beacon.is_zero()).then_some(beacon))
    }

    /// The class that an operator had declared for an epoch; zero for none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn class_at(&self, operator: Operator, epoch: u32) -> Result<B256, AuditsError> {
        self.0.read("a class", &sol::classAtCall { operator: operator.0, epoch }).await
    }

    /// Whether an operator is enrolled.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_enrolled(&self, operator: Operator) -> Result<bool, AuditsError> {
        self.0.read("an enrolment", &sol::isEnrolledCall { operator: operator.0 }).await
    }

    /// How many enrolments there ever were.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn enrolment_count(&self) -> Result<u64, AuditsError> {
        let what = "the number of enrolments";
        let count = self.0.read(what, &sol::enrolmentCountCall {}).await?;
        u64::try_from(count).map_err(|_| self.0.failed(what, crate::ReadError::out_of_range(what, &count)))
    }

    /// The enrolment at a position below [`Self::enrolment_count`].
    ///
    /// # Errors
    /// When the read fails.
    pub async fn enrolment(&self, index: u64) -> Result<Enrolment, AuditsError> {
        let call = sol::enrolmentAtCall { index: U256::from(index) };
        let entry = self.0.read("an enrolment", &call).await?;
        Ok(Enrolment { operator: Operator(entry.operator), since: entry.since, retired: entry.retired })
    }

    /// Length of an epoch, in seconds.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn epoch_length_s(&self) -> Result<u32, AuditsError> {
        self.0.read("the length of an epoch", &sol::epochLengthCall {}).await
    }

    /// When epoch 0 began, in seconds since 1970.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn genesis(&self) -> Result<u64, AuditsError> {
        self.0.read("the first epoch", &sol::genesisCall {}).await
    }
}
