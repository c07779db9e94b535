//! The next step of an audit, from what the chain says of it.

use super::{Duty, GuardError, Inner, investigate::Shown};
use crate::{
    contracts_view::describe,
    miner::batches::{beacon, refused},
};
use alloy::primitives::B256;
use cortensor_contracts::{
    BlockRange, ChainTime as _,
    audits::{Audit, AuditStatus, AuditsError, Seat, SeatState},
};
use cortensor_protocol::Receipt;

/// Refusals that say that another was faster, or that it is not time yet.
const HARMLESS: &[&str] =
    &["NotDue", "WrongStatus", "SeatTaken", "RevealTooEarly", "BeaconUnknown", "TooLate", "JudgementKnown"];

impl Inner {
    /// Takes the next step; `true` when the audit is over for this guard.
    pub(super) async fn step(&self, item: B256, duty: Duty) -> Result<bool, GuardError> {
        let Some(audit) = self.contracts.audits.audit(item).await? else {
            tracing::warn!(code = "G-AUDIT-002", %item, "the chain does not know this audit any more");
            return Ok(true);
        };
        let now = self.now().await?;
        match audit.status {
            AuditStatus::Settled | AuditStatus::Void | AuditStatus::Planted => {
                tracing::info!(%item, status = ?audit.status, decision = ?audit.decision, "an audit is over");
                return Ok(true);
            }
            AuditStatus::Waiting => self.draw(item, &audit).await?,
            AuditStatus::Gathering => self.gather(item, &audit, duty, now).await?,
            AuditStatus::Decided if now > audit.until => self.settle(item, duty).await?,
            AuditStatus::Decided => {}
        }
        Ok(false)
    }

    pub(super) async fn now(&self) -> Result<u64, GuardError> {
        self.wallet.provider().chain_time().await.map_err(|error| GuardError::Height(describe(&error)))
    }

    async fn draw(&self, item: B256, audit: &Audit) -> Result<(), GuardError> {
        if beacon(&self.contracts, &self.wallet, audit.epoch).await?.is_some() {
            forgive(self.contracts.audits.draw(&self.wallet, item).await)?;
        }
        Ok(())
    }

    async fn gather(&self, item: B256, audit: &Audit, duty: Duty, now: u64) -> Result<(), GuardError> {
        let seats = self.contracts.audits.seats(item).await?;
        let seats: Vec<Seat> = seats.into_iter().filter(|seat| seat.round == audit.round).collect();
        let me = self.identity.operator();
        let mine = seats.iter().find(|seat| seat.guard == me).map(|seat| seat.state);
        let all = |done: fn(SeatState) -> bool| seats.iter().all(|seat| done(seat.state));
        let committed = all(|state| state != SeatState::Drawn);
        let revealed = all(|state| matches!(state, SeatState::Revealed | SeatState::RevealedHard));
        match mine {
            _ if revealed || now > audit.until => self.settle(item, duty).await,
            Some(SeatState::Drawn) if now <= audit.commit_until => self.commit(item, audit, duty, now).await,
            Some(SeatState::Committed) if committed || now > audit.commit_until => self.reveal(item, audit, duty).await,
            _ => Ok(()),
        }
    }

    /// Makes the finding if it is not made, and commits to it.
    async fn commit(&self, item: B256, audit: &Audit, mut duty: Duty, now: u64) -> Result<(), GuardError> {
        if duty.finding.as_ref().is_none_or(|(round, ..)| *round != audit.round) {
            let finding = match self.shown(item, &audit.into(), now).await {
                Shown::NotYet => return Ok(()),
                Shown::Never => Duty::not_opened(),
                Shown::Case(case) => {
                    duty.receipt = Some(case.receipt.receipt.clone());
                    self.find(item, audit, &case).await?
                }
            };
            duty.finding = Some((audit.round, finding, B256::from(rand::random::<[u8; 32]>())));
            self.keep(item, &duty)?;
        }
        let Some((round, finding, salt)) = &duty.finding else { return Ok(()) };
        let commitment = finding.commitment(self.identity.operator(), item, *round, *salt);
        forgive(self.contracts.audits.commit_finding(&self.wallet, item, commitment).await)
    }

    async fn reveal(&self, item: B256, audit: &Audit, duty: Duty) -> Result<(), GuardError> {
        let Some((round, finding, salt)) = duty.finding.clone() else {
            tracing::error!(code = "G-AUDIT-003", %item, "this guard committed to a finding that is not in its store");
            return Ok(());
        };
        if round != audit.round {
            return Ok(());
        }
        let Some(receipt) = self.receipt(item, duty).await? else { return Ok(()) };
        forgive(self.contracts.audits.reveal(&self.wallet, &receipt, &finding, salt).await)
    }

    async fn settle(&self, item: B256, duty: Duty) -> Result<(), GuardError> {
        let Some(receipt) = self.receipt(item, duty).await? else { return Ok(()) };
        forgive(self.contracts.audits.settle(&self.wallet, &receipt).await)
    }

    /// The receipt under audit: as its miner showed it, or from the transaction that began the audit.
    async fn receipt(&self, item: B256, mut duty: Duty) -> Result<Option<Receipt>, GuardError> {
        if duty.receipt.is_none() {
            let range = BlockRange { from: self.config.from_block, to: self.newest_block().await? };
            duty.receipt = self.contracts.audits.receipt_of(item, range).await?;
            match &duty.receipt {
                Some(_) => self.keep(item, &duty)?,
                None => tracing::warn!(code = "G-AUDIT-004", %item, "the receipt under audit cannot be found"),
            }
        }
        Ok(duty.receipt)
    }
}

/// Others do the same steps: that one of them was faster is no failure.
pub(super) fn forgive<T>(sent: Result<T, AuditsError>) -> Result<(), GuardError> {
    forgive_these(HARMLESS, sent)
}

/// The same for other refusals.
pub(super) fn forgive_these<T>(harmless: &[&str], sent: Result<T, AuditsError>) -> Result<(), GuardError> {
    match sent {
        Err(error) if !refused(&error, harmless) => Err(error.into()),
        _ => Ok(()),
    }
}
