//! `Audits`: committees of guards, what they found, and what was decided.

use super::{
    AuditEvent, AuditsError, AuditsParameters, Caller, Court, MAX_EVENTS, Weighed, events::item_filter, sol_receipt,
};
use crate::{
    bindings::audits::{Audits as sol, IAudits},
    connection::Provider,
    events::{BlockRange, logs},
    read::ReadError,
    wallet::{Confirmed, Wallet},
};
use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256, Bytes, keccak256},
    providers::Provider as _,
    sol_types::{SolEvent as _, SolInterface as _, SolValue as _},
};
use cortensor_protocol::{
    FinishReason, ModelId, Operator, Price, Receipt, SessionId, SignedReceipt, TaskId, Tier, Wei,
};
use serde::{Deserialize, Serialize};

/// Where a receipt stands in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// Of the batch; its leaves are [`Receipt::leaf`].
    pub root: B256,
    /// Position.
    pub index: u32,
    /// As [`cortensor_protocol::merkle::proof`] gives it.
    pub path: Vec<B256>,
}

/// What a guard found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The miner did not show its records; there are no counts then.
    pub not_opened: bool,
    /// The structure is wrong.
    pub hard: bool,
    /// How many records were checked.
    pub tokens: u32,
    /// How many of them fell into each bin of margin, log-probability difference and sketch distance.
    pub bins: [[u16; 16]; 3],
}

impl Finding {
    /// What a guard commits to before it reveals: nothing about the finding can be guessed without the salt.
    #[must_use]
    pub fn commitment(&self, guard: Operator, item: B256, round: u8, salt: B256) -> B256 {
        let finding = IAudits::Finding::from(self);
        keccak256((guard.0, item, alloy::primitives::U256::from(round), finding, salt).abi_encode_params())
    }
}

/// The receipt in the call that began an audit.
fn receipt_in(input: &[u8]) -> Option<Receipt> {
    use sol::AuditsCalls as C;
    let receipt = match C::abi_decode(input).ok()? {
        C::openAudit(call) => call.receipt,
        C::challenge(call) => call.receipt,
        _ => return None,
    };
    Some(Receipt {
        header_hash: receipt.header,
        task: TaskId(receipt.task),
        session: SessionId(receipt.session),
        model: ModelId(receipt.model),
        miner: Operator(receipt.miner),
        prompt_hash: receipt.promptHash,
        trace_root: receipt.traceRoot,
        first_token: receipt.firstToken,
        input_tokens: receipt.inputTokens,
        output_tokens: receipt.outputTokens,
        finish: FinishReason::from_u8(receipt.finish)?,
        tier: Tier::from_u8(receipt.tier)?,
        price: Price { input: Wei(receipt.inputPrice), output: Wei(receipt.outputPrice) },
        amount: Wei(receipt.amount),
        finished_at: receipt.finishedAt,
    })
}

impl From<&Finding> for IAudits::Finding {
    fn from(finding: &Finding) -> Self {
        Self { kind: u8::from(finding.not_opened), hard: finding.hard, tokens: finding.tokens, bins: finding.bins }
    }
}

/// Where an audit is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditStatus {
    /// For the beacon that draws the next committee.
    Waiting,
    /// Findings are committed and revealed.
    Gathering,
    /// The appeal window runs.
    Decided,
    /// In the scores.
    Settled,
    /// No committee could agree; nothing counts.
    Void,
    /// It was a trap for guards.
    Planted,
}

impl AuditStatus {
    pub(super) fn from_u8(value: u8) -> Option<Self> {
        let all = [Self::Waiting, Self::Gathering, Self::Decided, Self::Settled, Self::Void, Self::Planted];
        all.get(usize::from(value.checked_sub(1)?)).copied()
    }
}

/// An audit as it stands. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Whose answer it is about.
    pub miner: Operator,
    /// Where it is in its life.
    pub status: AuditStatus,
    /// 0 to 3: committees of 1, 3, 7, 21.
    pub round: u8,
    /// The epoch of the batch, or of the challenge: classes of machines are those of this epoch.
    pub first_epoch: u32,
    /// The epoch whose beacon draws this round.
    pub epoch: u32,
    /// When it was opened.
    pub opened_at: u64,
    /// Last second for commitments.
    pub commit_until: u64,
    /// Last second for findings, or for appeals once decided.
    pub until: u64,
    /// What the last committee that agreed had decided.
    pub decision: Option<Decision>,
}

/// What a committee agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Size of the committee.
    pub size: u8,
    /// The structure is wrong, or the records were not shown.
    pub hard: bool,
    /// Evidence in 1/65,536 bit.
    pub evidence: Weighed,
    /// Tokens checked; 65,535 stands for as many or more.
    pub tokens: u16,
}

/// What a drawn guard has handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatState {
    /// Nothing yet.
    Drawn,
    /// A commitment.
    Committed,
    /// A finding without a wrong structure.
    Revealed,
    /// A wrong structure, or that the records were not shown.
    RevealedHard,
}

impl SeatState {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Drawn, Self::Committed, Self::Revealed, Self::RevealedHard].get(usize::from(value)).copied()
    }
}

/// A drawn guard's place in an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The guard.
    pub guard: Operator,
    /// For which round.
    pub round: u8,
    /// What it has handed in.
    pub state: SeatState,
    /// Tokens that it checked.
    pub tokens: u16,
    /// What its counts weigh, in 1/65,536 bit.
    pub evidence: Weighed,
}

/// The audits contract at one address.
#[derive(Clone, Debug)]
pub struct Audits(Caller);

/// Miners, guards and challengers.
impl Audits {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "audits" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Opens the audit of a receipt that the beacon drew. `commitment` is the wallet's own, when it is the guard drawn.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn open(
        &self,
        wallet: &Wallet,
        receipt: &Receipt,
        inclusion: &Inclusion,
        commitment: Option<B256>,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::openAuditCall {
            receipt: sol_receipt!(audits, receipt),
            inclusion: IAudits::Inclusion {
                root: inclusion.root,
                index: inclusion.index,
                path: inclusion.path.clone(),
            },
            commitment: commitment.unwrap_or_default(),
        };
        self.0.send(wallet, "open the audit", &call).await
    }

    /// Reports a drawn receipt that nobody opened in time; the wallet earns a part of the penalty.
    ///
    /// # Errors
    /// When the transaction fails: `NotDue` while it may still be opened, `AlreadyTaken` when it was opened or reported.
    pub async fn report_missing(
        &self,
        wallet: &Wallet,
        miner: Operator,
        root: B256,
        index: u32,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::reportMissingCall { miner: miner.0, root, index };
        self.0.send(wallet, "report a receipt that was not shown", &call).await
    }

    /// Opens the audit of any signed receipt, for a bond. Approves the bond first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn challenge(
        &self,
        wallet: &Wallet,
        court: &Court,
        signed: &SignedReceipt,
    ) -> Result<Confirmed, AuditsError> {
        court.approve(wallet, court.parameters().await?.challenge_bond).await?;
        let call = sol::challengeCall {
            receipt: sol_receipt!(audits, &signed.receipt),
            signature: Bytes::copy_from_slice(&signed.signature.0),
        };
        self.0.send(wallet, "challenge the receipt", &call).await
    }

    /// Draws the committee that an audit waits for, once its beacon is recorded. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn draw(&self, wallet: &Wallet, item: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "draw the committee", &sol::drawCall { item }).await
    }

    /// Commits the wallet's operator to its finding: [`Finding::commitment`].
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn commit_finding(
        &self,
        wallet: &Wallet,
        item: B256,
        commitment: B256,
    ) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "commit to the finding", &sol::commitFindingCall { item, commitment }).await
    }

    /// Reveals what the wallet's operator committed to.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn reveal(
        &self,
        wallet: &Wallet,
        receipt: &Receipt,
        finding: &Finding,
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::revealFindingCall { receipt: sol_receipt!(audits, receipt), finding: finding.into(), salt };
        self.0.send(wallet, "reveal the finding", &call).await
    }

    /// Decides a round that is complete; called again after the appeal window, settles the audit. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails: `NotDue` while there is time left.
    pub async fn settle(&self, wallet: &Wallet, receipt: &Receipt) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "settle the audit", &sol::settleCall { receipt: sol_receipt!(audits, receipt) }).await
    }

    /// Has a larger committee drawn, for a bond. Approves the bond first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn appeal(&self, wallet: &Wallet, court: &Court, item: B256) -> Result<Confirmed, AuditsError> {
        court.approve(wallet, court.parameters().await?.appeal_bond).await?;
        self.0.send(wallet, "appeal", &sol::appealCall { item }).await
    }

    /// Shows that an audit was planted by the wallet's account.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn spring_trap(
        &self,
        wallet: &Wallet,
        item: B256,
        bad: bool,
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "spring the trap", &sol::springTrapCall { item, bad, salt }).await
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: AuditsParameters,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters", &call).await
    }
}

/// Reading.
impl Audits {
    /// The guard that opening the audit of a drawn receipt would find now: `None` while the beacon is not recorded or
    /// when no guard may serve.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn assigned_first(
        &self,
        miner: Operator,
        root: B256,
        item: B256,
    ) -> Result<Option<Operator>, AuditsError> {
        let call = sol::assignedFirstCall { miner: miner.0, root, item };
        let guard = self.0.read_unless("an assignment", &call, "BeaconUnknown").await?;
        Ok(guard.filter(|guard| !guard.is_zero()).map(Operator))
    }

    /// The guards of one round: those drawn, or those that [`Self::draw`] would draw now; empty while the beacon is not
    /// recorded.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn assigned(&self, item: B256, round: u8) -> Result<Vec<Operator>, AuditsError> {
        let call = sol::assignedCall { item, round };
        let guards = self.0.read_unless("an assignment", &call, "BeaconUnknown").await?;
        Ok(guards.unwrap_or_default().into_iter().map(Operator).collect())
    }

    /// An audit, or `None` when there is none of that receipt.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn audit(&self, item: B256) -> Result<Option<Audit>, AuditsError> {
        let audit = self.0.read("an audit", &sol::auditCall { item }).await?;
        if audit.status == 0 {
            return Ok(None);
        }
        let status = AuditStatus::from_u8(audit.status)
            .ok_or_else(|| self.0.failed("an audit", ReadError::out_of_range("a status", &audit.status)))?;
        let decision = (audit.decidedSize != 0).then_some(Decision {
            size: audit.decidedSize,
            hard: audit.hard,
            evidence: audit.evidence.into(),
            tokens: audit.tokens,
        });
        Ok(Some(Audit {
            miner: Operator(audit.miner),
            status,
            round: audit.round,
            first_epoch: audit.firstEpoch,
            epoch: audit.epoch,
            opened_at: audit.openedAt.to(),
            commit_until: audit.commitUntil.to(),
            until: audit.until.to(),
            decision,
        }))
    }

    /// The guards of all rounds of an audit, in the order of rounds.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn seats(&self, item: B256) -> Result<Vec<Seat>, AuditsError> {
        let seats = self.0.read("the seats of an audit", &sol::seatsCall { item }).await?;
        let seat = |seat: IAudits::Seat| {
            let state =
                SeatState::from_u8(seat.state).ok_or_else(|| ReadError::out_of_range("a seat's state", &seat.state))?;
            Ok(Seat {
                guard: Operator(seat.guard),
                round: seat.round,
                state,
                tokens: seat.tokens,
                evidence: Weighed { computation: seat.computation, sampling: seat.sampling },
            })
        };
        let seats: Result<_, _> = seats.into_iter().map(seat).collect();
        seats.map_err(|source| self.0.failed("the seats of an audit", source))
    }

    /// The receipt that an audit is about, from the transaction that opened it or challenged the receipt; `None` where that
    /// was not a plain call of this contract, or is not known any more.
    ///
    /// # Errors
    /// When the chain cannot be asked.
    pub async fn receipt_of(&self, item: B256, range: BlockRange) -> Result<Option<Receipt>, AuditsError> {
        let filter = item_filter(self.0.address, Some(item)).event_signature(sol::AuditOpened::SIGNATURE_HASH);
        let found = logs(&self.0.provider, &filter, range, MAX_EVENTS).await;
        let found = found.map_err(|source| self.0.failed("events", source))?.ok_or(AuditsError::TooManyEvents)?;
        let Some(hash) = found.first().and_then(|log| log.transaction_hash) else { return Ok(None) };
        let read = self.0.provider.get_transaction_by_hash(hash).await;
        let transaction = read.map_err(|error| self.0.failed("a transaction", ReadError::Rpc(error)))?;
        Ok(transaction.and_then(|transaction| receipt_in(transaction.input())))
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<AuditsParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }

    /// Everything that happened in these blocks, or to one audit, in chain order.
    ///
    /// # Errors
    /// When the read fails or there is too much.
    pub async fn events(&self, item: Option<B256>, range: BlockRange) -> Result<Vec<AuditEvent>, AuditsError> {
        let filter = item_filter(self.0.address, item);
        let found = logs(&self.0.provider, &filter, range, MAX_EVENTS).await;
        let found = found.map_err(|source| self.0.failed("events", source))?.ok_or(AuditsError::TooManyEvents)?;
        found.iter().filter_map(|log| AuditEvent::decode(log).map_err(AuditsError::Log).transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_binds_every_part() {
        let finding = Finding { not_opened: false, hard: false, tokens: 5, bins: [[0; 16]; 3] };
        let [guard, other] = [Operator(Address::repeat_byte(1)), Operator(Address::repeat_byte(2))];
        let (item, salt) = (B256::repeat_byte(3), B256::repeat_byte(4));
        let commitment = finding.commitment(guard, item, 1, salt);
        let mut changed = finding.clone();
        changed.bins[2][15] = 1;
        let others = [
            finding.commitment(other, item, 1, salt),
            finding.commitment(guard, salt, 1, salt),
            finding.commitment(guard, item, 2, salt),
            finding.commitment(guard, item, 1, item),
            changed.commitment(guard, item, 1, salt),
        ];
        assert!(!others.contains(&commitment));
    }

    #[test]
    fn unknown_states_are_refused() {
        assert_eq!(AuditStatus::from_u8(1), Some(AuditStatus::Waiting));
        assert_eq!(AuditStatus::from_u8(6), Some(AuditStatus::Planted));
        assert_eq!((AuditStatus::from_u8(0), AuditStatus::from_u8(7)), (None, None));
        assert_eq!((SeatState::from_u8(3), SeatState::from_u8(4)), (Some(SeatState::RevealedHard), None));
    }
}
