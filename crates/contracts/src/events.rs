//! What happened to a session, from the logs of the `Sessions` contract: where the money went.
//!
//! Logs are asked for in bounded ranges of blocks, because endpoints refuse large ones, and never more than the
//! caller's limit is kept: a history that does not fit is an error, not a shorter history.

use crate::{
    bindings::sessions::{ISessions, Sessions as sol},
    connection::Provider,
    read::ReadError,
};
use alloy::{
    primitives::{Address, B256},
    providers::Provider as _,
    rpc::types::{Filter, Log},
    sol_types::{SolEvent, SolEventInterface as _},
};
use cortensor_protocol::{Operator, SessionId, TokenCount, Wei};

/// Most blocks that one query spans; hosted endpoints refuse more.
const BLOCKS_PER_QUERY: u64 = 5_000;

/// Blocks `from..=to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First block.
    pub from: u64,
    /// Last block.
    pub to: u64,
}

impl BlockRange {
    fn chunks(self) -> impl Iterator<Item = Self> {
        let starts = (self.from..=self.to).step_by(usize::try_from(BLOCKS_PER_QUERY).unwrap_or(usize::MAX));
        starts.map(move |from| Self { from, to: self.to.min(from.saturating_add(BLOCKS_PER_QUERY - 1)) })
    }
}

/// One redemption's money. `from_deposit + from_stake` is the sum of the four shares, to the wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Payment {
    /// Out of the session's deposit.
    pub from_deposit: Wei,
    /// Out of the router's stake, because the deposit did not suffice.
    pub from_stake: Wei,
    /// To the miner's payout account.
    pub miner: Wei,
    /// To the router's payout account.
    pub router: Wei,
    /// To the model's publisher.
    pub publisher: Wei,
    /// To the treasury.
    pub protocol: Wei,
}

impl Payment {
    /// Everything that was paid.
    #[must_use]
    pub fn total(&self) -> Wei {
        self.from_deposit + self.from_stake
    }
}

/// A voucher that was paid.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RedeemedVoucher {
    /// The session.
    pub session: SessionId,
    /// Who was paid.
    pub miner: Operator,
    /// Who countersigned.
    pub router: Operator,
    /// Sequence number of the countersignature.
    pub sequence: u64,
    /// The voucher's amount since the session opened.
    pub cumulative_amount: Wei,
    /// The voucher's input tokens since the session opened.
    pub cumulative_input_tokens: TokenCount,
    /// The voucher's output tokens since the session opened.
    pub cumulative_output_tokens: TokenCount,
    /// Commitment to the receipts that it pays.
    pub receipts_root: B256,
    /// What was paid now, out of what and to whom.
    pub payment: Payment,
}

/// A router that had promised more than the deposit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shortfall {
    /// The session.
    pub session: SessionId,
    /// The router.
    pub router: Operator,
    /// Who was made whole.
    pub miner: Operator,
    /// What its stake paid.
    pub covered: Wei,
    /// What it lost on top.
    pub penalty: Wei,
    /// What its stake could not pay.
    pub unpaid: Wei,
}

/// A router convicted of keeping two books.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Equivocation {
    /// The session.
    pub session: SessionId,
    /// The router.
    pub router: Operator,
    /// Who proved it.
    pub reporter: Address,
    /// What it lost.
    pub slashed: Wei,
    /// The part of it that the reporter earned.
    pub reward: Wei,
}

/// One event in the life of a session.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionEvent {
    /// It was opened.
    Opened {
        /// The session.
        session: SessionId,
        /// Who owns it.
        owner: Address,
        /// Who countersigns.
        router: Operator,
        /// What was deposited.
        deposit: Wei,
    },
    /// Its deposit grew.
    ToppedUp {
        /// The session.
        session: SessionId,
        /// By how much.
        amount: Wei,
        /// To what.
        deposit: Wei,
    },
    /// Its key was replaced or revoked.
    KeyReplaced {
        /// The session.
        session: SessionId,
        /// The key before.
        previous: Address,
        /// The key now; zero when none.
        key: Address,
        /// Last second at which vouchers of the key before count.
        previous_valid_until: u64,
    },
    /// Its owner asked to close.
    CloseRequested {
        /// The session.
        session: SessionId,
        /// Last second at which vouchers are redeemed.
        grace_end: u64,
    },
    /// Owner and router agreed on the final total.
    Settled {
        /// The session.
        session: SessionId,
        /// Sequence of its last voucher.
        final_sequence: u64,
        /// What stays for miners.
        final_total: Wei,
        /// What went back at once.
        refund: Wei,
    },
    /// The remainder went back to the owner.
    Finalized {
        /// The session.
        session: SessionId,
        /// How much.
        refund: Wei,
    },
    /// A voucher was paid.
    Redeemed(RedeemedVoucher),
    /// A router's stake made a miner whole.
    ShortfallTaken(Shortfall),
    /// A router was convicted.
    EquivocationProven(Equivocation),
}

impl SessionEvent {
    /// The session that it is about.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Opened { session, .. }
            | Self::ToppedUp { session, .. }
            | Self::KeyReplaced { session, .. }
            | Self::CloseRequested { session, .. }
            | Self::Settled { session, .. }
            | Self::Finalized { session, .. } => *session,
            Self::Redeemed(event) => event.session,
            Self::ShortfallTaken(event) => event.session,
            Self::EquivocationProven(event) => event.session,
        }
    }

    /// The event in a log of the `Sessions` contract; `None` for events that are about no session.
    pub(crate) fn decode(log: &Log) -> Result<Option<Self>, alloy::sol_types::Error> {
        use sol::SessionsEvents as E;
        let session = |id: B256| SessionId(id);
        Ok(Some(match E::decode_log(&log.inner)?.data {
            E::SessionOpened(e) => Self::Opened {
                session: session(e.session),
                owner: e.owner,
                router: Operator(e.router),
                deposit: Wei(e.params.deposit),
            },
            E::SessionToppedUp(e) => {
                Self::ToppedUp { session: session(e.session), amount: Wei(e.amount), deposit: Wei(e.deposit) }
            }
            E::SessionKeyReplaced(e) => Self::KeyReplaced {
                session: session(e.session),
                previous: e.previousKey,
                key: e.sessionKey,
                previous_valid_until: e.previousValidUntil,
            },
            E::SessionCloseRequested(e) => Self::CloseRequested { session: session(e.session), grace_end: e.graceEnd },
            E::SessionSettled(e) => Self::Settled {
                session: session(e.session),
                final_sequence: e.finalSequence,
                final_total: Wei(e.finalTotal),
                refund: Wei(e.refund),
            },
            E::SessionFinalized(e) => Self::Finalized { session: session(e.session), refund: Wei(e.refund) },
            E::VoucherRedeemed(e) => Self::Redeemed(e.into()),
            E::ShortfallTaken(e) => Self::ShortfallTaken(e.into()),
            E::EquivocationProven(e) => Self::EquivocationProven(e.into()),
            _ => return Ok(None),
        }))
    }
}

impl From<ISessions::Payment> for Payment {
    fn from(payment: ISessions::Payment) -> Self {
        Self {
            from_deposit: Wei(payment.fromDeposit),
            from_stake: Wei(payment.fromStake),
            miner: Wei(payment.minerShare),
            router: Wei(payment.routerShare),
            publisher: Wei(payment.publisherShare),
            protocol: Wei(payment.protocolShare),
        }
    }
}

impl From<sol::VoucherRedeemed> for RedeemedVoucher {
    fn from(event: sol::VoucherRedeemed) -> Self {
        Self {
            session: SessionId(event.session),
            miner: Operator(event.miner),
            router: Operator(event.router),
            sequence: event.sequence,
            cumulative_amount: Wei(event.cumulativeAmount),
            cumulative_input_tokens: event.cumulativeInputTokens,
            cumulative_output_tokens: event.cumulativeOutputTokens,
            receipts_root: event.receiptsRoot,
            payment: event.payment.into(),
        }
    }
}

impl From<sol::ShortfallTaken> for Shortfall {
    fn from(event: sol::ShortfallTaken) -> Self {
        Self {
            session: SessionId(event.session),
            router: Operator(event.router),
            miner: Operator(event.miner),
            covered: Wei(event.covered),
            penalty: Wei(event.penalty),
            unpaid: Wei(event.unpaid),
        }
    }
}

impl From<sol::EquivocationProven> for Equivocation {
    fn from(event: sol::EquivocationProven) -> Self {
        Self {
            session: SessionId(event.session),
            router: Operator(event.router),
            reporter: event.reporter,
            slashed: Wei(event.slashed),
            reward: Wei(event.reward),
        }
    }
}

/// The logs that match `filter`, in chain order, or `None` when there are more than `limit`.
pub(crate) async fn logs(
    provider: &Provider,
    filter: &Filter,
    range: BlockRange,
    limit: usize,
) -> Result<Option<Vec<Log>>, ReadError> {
    let mut logs = Vec::new();
    for chunk in range.chunks() {
        let found = provider.get_logs(&filter.clone().from_block(chunk.from).to_block(chunk.to)).await?;
        // A log that was taken back by a reorganisation is no history.
        logs.extend(found.into_iter().filter(|log| !log.removed));
        if logs.len() > limit {
            return Ok(None);
        }
    }
    Ok(Some(logs))
}

/// Selects one session's logs of the contract.
pub(crate) fn session_filter(contract: Address, session: Option<SessionId>) -> Filter {
    let filter = Filter::new().address(contract);
    match session {
        Some(session) => filter.topic1(session.0),
        None => filter,
    }
}

/// Selects paid vouchers, of one session or miner where given.
pub(crate) fn redeemed_filter(contract: Address, session: Option<SessionId>, miner: Option<Operator>) -> Filter {
    let filter = session_filter(contract, session).event_signature(sol::VoucherRedeemed::SIGNATURE_HASH);
    match miner {
        Some(miner) => filter.topic2(miner.0.into_word()),
        None => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: u64, to: u64, expect: &[(u64, u64)]) {
        let chunks: Vec<_> = BlockRange { from, to }.chunks().map(|range| (range.from, range.to)).collect();
        assert_eq!(chunks, expect);
    }

    #[test]
    fn ranges_are_cut_without_gap_or_overlap() {
        check(0, 0, &[(0, 0)]);
        check(5, 4, &[]);
        check(0, 4_999, &[(0, 4_999)]);
        check(0, 5_000, &[(0, 4_999), (5_000, 5_000)]);
        check(7, 10_006, &[(7, 5_006), (5_007, 10_006)]);
        check(u64::MAX - 1, u64::MAX, &[(u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn a_foreign_log_is_an_error_and_not_skipped() {
        assert!(SessionEvent::decode(&Log::default()).is_err());
    }
}
