//! `Capabilities`: what drawn guards measured of each miner with each model.

use super::{AuditsError, Caller};
use crate::{
    bindings::capabilities::{Capabilities as sol, ICapabilities},
    connection::Provider,
    token::Token,
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, aliases::U96, keccak256},
    sol_types::SolValue as _,
};
use cortensor_protocol::{Capability, CapabilityRecord, ModelId, Operator, Wei};
use serde::{Deserialize, Serialize};

/// What governance sets; the bounds are constants of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilitiesParameters {
    /// How often three guards measure instead of one, in ppm.
    pub confirmation_ppm: u32,
    /// What a new measurement weighs in the average, in ppm.
    pub weight_ppm: u32,
    /// A measurement farther than this from the average is told as a drift, in ppm.
    pub drift_ppm: u32,
    /// A challenge whose measurement is within this of the record has failed, in ppm.
    pub tolerance_ppm: u32,
    /// Time for commitments, in seconds.
    pub commit_window_s: u32,
    /// Time for reveals after that, in seconds.
    pub reveal_window_s: u32,
    /// Epochs after its own in which a round may still be opened.
    pub late_epochs: u32,
    /// What a challenger risks.
    pub challenge_bond: Wei,
    /// What a challenge costs.
    pub challenge_fee: Wei,
}

impl CapabilitiesParameters {
    /// For a chain of one's own, where epochs last seconds.
    #[must_use]
    pub const fn development() -> Self {
        Self { commit_window_s: 60, reveal_window_s: 60, late_epochs: 16, ..Self::public() }
    }

    /// For a public chain, where epochs last an hour.
    #[must_use]
    pub const fn public() -> Self {
        Self {
            confirmation_ppm: 100_000,
            weight_ppm: 250_000,
            drift_ppm: 300_000,
            tolerance_ppm: 300_000,
            commit_window_s: 3_600,
            reveal_window_s: 1_800,
            late_epochs: 2,
            challenge_bond: Wei(10 * Wei::COR.0),
            challenge_fee: Wei::COR,
        }
    }
}

impl From<CapabilitiesParameters> for ICapabilities::Parameters {
    fn from(parameters: CapabilitiesParameters) -> Self {
        Self {
            confirmationPpm: parameters.confirmation_ppm,
            weightPpm: parameters.weight_ppm,
            driftPpm: parameters.drift_ppm,
            tolerancePpm: parameters.tolerance_ppm,
            commitWindow: parameters.commit_window_s,
            revealWindow: parameters.reveal_window_s,
            lateEpochs: parameters.late_epochs,
            challengeBond: U96::saturating_from(parameters.challenge_bond.0),
            challengeFee: U96::saturating_from(parameters.challenge_fee.0),
        }
    }
}

impl From<ICapabilities::Parameters> for CapabilitiesParameters {
    fn from(parameters: ICapabilities::Parameters) -> Self {
        Self {
            confirmation_ppm: parameters.confirmationPpm,
            weight_ppm: parameters.weightPpm,
            drift_ppm: parameters.driftPpm,
            tolerance_ppm: parameters.tolerancePpm,
            commit_window_s: parameters.commitWindow,
            reveal_window_s: parameters.revealWindow,
            late_epochs: parameters.lateEpochs,
            challenge_bond: Wei(parameters.challengeBond.to()),
            challenge_fee: Wei(parameters.challengeFee.to()),
        }
    }
}

/// Whom a beacon drew to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Decides the network tasks.
    pub seed: B256,
    /// The guards.
    pub guards: Vec<Operator>,
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundStatus {
    /// Nobody has opened it.
    None,
    /// Guards may commit and reveal.
    Open,
    /// It is over.
    Settled,
}

/// One round of measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasurementRound {
    /// Where it stands.
    pub status: RoundStatus,
    /// Whether a challenge pays for it.
    pub challenged: bool,
    /// End of commitments, in seconds since 1970.
    pub commit_until: u64,
    /// End of reveals, in seconds since 1970.
    pub reveal_until: u64,
    /// How many guards committed.
    pub commitments: u8,
    /// How many revealed.
    pub reveals: u8,
    /// Who measures.
    pub guards: Vec<Operator>,
}

/// What a guard commits to before it reveals, where several measure.
#[must_use]
pub fn measurement_commitment(guard: Operator, round: B256, measured: &Capability, salt: B256) -> B256 {
    keccak256((guard.0, round, measured.numbers(), salt).abi_encode_params())
}

/// The capabilities contract at one address.
#[derive(Clone, Debug)]
pub struct Capabilities(Caller);

impl Capabilities {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "capabilities" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// The name of a round.
    #[must_use]
    pub fn id_of(epoch: u32, miner: Operator, model: ModelId) -> B256 {
        keccak256((alloy::primitives::U256::from(epoch), miner.0, model.0).abi_encode_params())
    }

    /// Opens the round of an epoch whose beacon is recorded. Anyone.
    ///
    /// # Errors
    /// When the transaction fails, for instance with `RoundKnown` when somebody else was faster.
    pub async fn open(
        &self,
        wallet: &Wallet,
        epoch: u32,
        miner: Operator,
        model: ModelId,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::openCall { epoch, miner: miner.0, model: model.0 };
        self.0.send(wallet, "open a round of measurements", &call).await
    }

    /// Commits to a measurement ([`measurement_commitment`]); only guards that were drawn.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn commit(&self, wallet: &Wallet, round: B256, commitment: B256) -> Result<Confirmed, AuditsError> {
        let call = sol::commitMeasurementCall { id: round, commitment };
        self.0.send(wallet, "commit to a measurement", &call).await
    }

    /// Tells a measurement; only guards that were drawn.
    ///
    /// # Errors
    /// When the transaction fails, for instance with `CommitmentsNotOver`.
    pub async fn reveal(
        &self,
        wallet: &Wallet,
        round: B256,
        measured: &Capability,
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::revealMeasurementCall { id: round, numbers: measured.numbers(), salt };
        self.0.send(wallet, "reveal a measurement", &call).await
    }

    /// Ends a round whose time is over. Anyone.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn settle(&self, wallet: &Wallet, round: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "settle a round of measurements", &sol::settleCall { id: round }).await
    }

    /// Has a record measured again by three guards. Approves bond and fee first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn challenge(&self, wallet: &Wallet, miner: Operator, model: ModelId) -> Result<Confirmed, AuditsError> {
        let parameters = self.parameters().await?;
        let amount = Wei(parameters.challenge_bond.0.saturating_add(parameters.challenge_fee.0));
        let token = self.0.read("the token", &sol::tokenCall {}).await?;
        let token = Token::new(self.0.provider.clone(), token);
        token.ensure_allowance(wallet, self.0.address, amount).await.map_err(AuditsError::Approve)?;
        let call = sol::challengeCall { miner: miner.0, model: model.0 };
        self.0.send(wallet, "challenge a record", &call).await
    }

    /// Gives a challenger back what it laid down for a round that nobody opened in time. Anyone.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn reclaim(
        &self,
        wallet: &Wallet,
        epoch: u32,
        miner: Operator,
        model: ModelId,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::reclaimCall { epoch, miner: miner.0, model: model.0 };
        self.0.send(wallet, "reclaim a challenge", &call).await
    }

    /// Pays an account's credit out to it. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails, for instance because there is nothing.
    pub async fn withdraw(&self, wallet: &Wallet, account: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "withdraw what challenges brought", &sol::withdrawCall { account }).await
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: CapabilitiesParameters,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters", &call).await
    }

    /// Whom the beacon of an epoch draws; `None` while it is not recorded.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn duty(&self, epoch: u32, miner: Operator, model: ModelId) -> Result<Option<Duty>, AuditsError> {
        let call = sol::dutyOfCall { epoch, miner: miner.0, model: model.0 };
        let duty = self.0.read_unless("a duty", &call, "BeaconUnknown").await?;
        Ok(duty.map(|duty| Duty { seed: duty.seed, guards: duty.drawn.into_iter().map(Operator).collect() }))
    }

    /// The record of a miner with a model; `None` where it was never measured.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn record(&self, miner: Operator, model: ModelId) -> Result<Option<CapabilityRecord>, AuditsError> {
        let record = self.0.read("a record", &sol::recordOfCall { miner: miner.0, model: model.0 }).await?;
        Ok((record.measurements != 0).then(|| CapabilityRecord {
            measured: Capability::from_numbers(record.average),
            epoch: record.epoch,
            measurements: record.measurements,
            drift_ppm: record.driftPpm,
            drifted: record.drifted,
        }))
    }

    /// One round.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn round(&self, id: B256) -> Result<MeasurementRound, AuditsError> {
        let round = self.0.read("a round", &sol::roundOfCall { id }).await?;
        let status = match round.status {
            0 => RoundStatus::None,
            1 => RoundStatus::Open,
            _ => RoundStatus::Settled,
        };
        Ok(MeasurementRound {
            status,
            challenged: round.challenged,
            commit_until: round.commitUntil,
            reveal_until: round.revealUntil,
            commitments: round.commitments,
            reveals: round.reveals,
            guards: round.guards.into_iter().map(Operator).collect(),
        })
    }

    /// Whether a guard has committed, and whether it has revealed.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn said(&self, id: B256, guard: Operator) -> Result<(bool, bool), AuditsError> {
        let commitment = self.0.read("a commitment", &sol::commitmentOfCall { id, guard: guard.0 }).await?;
        let revealed = self.0.read("a reveal", &sol::hasRevealedCall { id, guard: guard.0 }).await?;
        Ok((!commitment.is_zero(), revealed))
    }

    /// What an account can withdraw.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn credit_of(&self, account: Address) -> Result<Wei, AuditsError> {
        self.0.read_wei("a credit", &sol::balanceOfCall { account }).await
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<CapabilitiesParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }
}
