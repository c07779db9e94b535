//! What happened to audits, from the logs of the `Audits` contract: what guards and miners follow.

use super::{Weighed, client::AuditStatus};
use crate::bindings::audits::Audits as sol;
use alloy::{
    primitives::{Address, B256},
    rpc::types::{Filter, Log},
    sol_types::SolEventInterface as _,
};
use cortensor_protocol::Operator;

/// One event. `item` is the digest of the receipt that is audited.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// An audit began.
    Opened {
        /// The audit.
        item: B256,
        /// Whose answer it is about.
        miner: Operator,
        /// The batch; zero where it was challenged.
        root: B256,
        /// Position in the batch.
        index: u32,
    },
    /// A committee was drawn.
    Drawn {
        /// The audit.
        item: B256,
        /// 0 to 3.
        round: u8,
        /// Who serves.
        guards: Vec<Operator>,
        /// Last second for commitments.
        commit_until: u64,
        /// Last second for findings.
        until: u64,
    },
    /// A guard committed to its finding.
    Committed {
        /// The audit.
        item: B256,
        /// The guard.
        guard: Operator,
        /// 0 to 3.
        round: u8,
        /// To what.
        commitment: B256,
    },
    /// A guard revealed its finding.
    Revealed {
        /// The audit.
        item: B256,
        /// The guard.
        guard: Operator,
        /// 0 to 3.
        round: u8,
        /// Wrong structure, or not shown.
        hard: bool,
        /// What it weighs.
        evidence: Weighed,
    },
    /// A committee agreed.
    Decided {
        /// The audit.
        item: B256,
        /// 0 to 3.
        round: u8,
        /// Wrong structure, or not shown.
        hard: bool,
        /// What it weighs.
        evidence: Weighed,
        /// Last second for an appeal.
        until: u64,
    },
    /// A larger committee will be drawn with the beacon of `epoch`.
    Escalated {
        /// The audit.
        item: B256,
        /// The next round.
        round: u8,
        /// The epoch.
        epoch: u32,
    },
    /// It is over.
    Settled {
        /// The audit.
        item: B256,
        /// Whose answer it was about.
        miner: Operator,
        /// How it ended.
        status: AuditStatus,
        /// Wrong structure, or not shown.
        hard: bool,
        /// What it weighs.
        evidence: Weighed,
    },
    /// Somebody challenged the receipt.
    Challenged {
        /// The audit.
        item: B256,
        /// Whose answer it is about.
        miner: Operator,
        /// Who.
        challenger: Address,
        /// The epoch whose beacon draws the guard.
        epoch: u32,
    },
    /// Somebody appealed.
    Appealed {
        /// The audit.
        item: B256,
        /// Who.
        appellant: Address,
    },
    /// A miner committed to a receipt that was drawn and showed it to nobody.
    Missing {
        /// The miner.
        miner: Operator,
        /// The batch.
        root: B256,
        /// Position in the batch.
        index: u32,
        /// Who reported it.
        reporter: Address,
    },
    /// It was a trap for guards.
    TrapSprung {
        /// The audit.
        item: B256,
        /// Whether the answer was bad.
        bad: bool,
    },
}

impl AuditEvent {
    /// Reads a log of the contract; `None` for events that are not about audits.
    pub(super) fn decode(log: &Log) -> Result<Option<Self>, alloy::sol_types::Error> {
        use sol::AuditsEvents as E;
        Ok(Some(match E::decode_log(&log.inner)?.data {
            E::AuditOpened(e) => Self::Opened { item: e.item, miner: Operator(e.miner), root: e.root, index: e.index },
            E::CommitteeDrawn(e) => Self::Drawn {
                item: e.item,
                round: e.round,
                guards: e.guards.into_iter().map(Operator).collect(),
                commit_until: e.commitUntil.to(),
                until: e.until.to(),
            },
            E::FindingCommitted(e) => {
                Self::Committed { item: e.item, guard: Operator(e.guard), round: e.round, commitment: e.commitment }
            }
            E::FindingRevealed(e) => Self::Revealed {
                item: e.item,
                guard: Operator(e.guard),
                round: e.round,
                hard: e.hard,
                evidence: e.evidence.into(),
            },
            E::RoundDecided(e) => Self::Decided {
                item: e.item,
                round: e.round,
                hard: e.hard,
                evidence: e.evidence.into(),
                until: e.until.to(),
            },
            E::Escalated(e) => Self::Escalated { item: e.item, round: e.round, epoch: e.epoch },
            E::AuditSettled(e) => {
                let status = AuditStatus::from_u8(e.status)
                    .ok_or_else(|| alloy::sol_types::Error::custom("an unknown status of an audit"))?;
                Self::Settled {
                    item: e.item,
                    miner: Operator(e.miner),
                    status,
                    hard: e.hard,
                    evidence: e.evidence.into(),
                }
            }
            E::Challenged(e) => {
                Self::Challenged { item: e.item, miner: Operator(e.miner), challenger: e.challenger, epoch: e.epoch }
            }
            E::Appealed(e) => Self::Appealed { item: e.item, appellant: e.appellant },
            E::ReceiptMissing(e) => {
                let (miner, reporter) = (Operator(e.miner), e.reporter);
                Self::Missing { miner, root: e.root, index: e.index, reporter }
            }
            E::TrapSprung(e) => Self::TrapSprung { item: e.item, bad: e.bad },
            _ => return Ok(None),
        }))
    }
}

/// Selects one audit's logs of the contract.
pub(super) fn item_filter(contract: Address, item: Option<B256>) -> Filter {
    let filter = Filter::new().address(contract);
    match item {
        Some(item) => filter.topic1(item),
        None => filter,
    }
}
