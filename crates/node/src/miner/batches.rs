//! Committing to receipts on chain, and opening those that the beacon draws.
//!
//! A miner commits to all receipts that it signed, in batches, before anybody knows which will be audited. What is drawn it
//! opens itself: a guard may as well, but a drawn receipt that nobody opens costs its miner a part of its stake. Both survive
//! a kill at any moment: a batch is on disk before it is sent, what the chain knows is asked, not remembered, and the cases of
//! a batch are kept until everything that was drawn of it is opened.

use super::{Miner, cases::Cases};
use crate::{
    contracts_view::describe,
    journal::{StoreError, TableName},
};
use alloy::primitives::B256;
use cortensor_contracts::{
    Contracts, Wallet,
    audits::{AuditsError, Inclusion},
};
use cortensor_protocol::{Operator, merkle};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Batches that are not over yet, by their root.
pub(super) const BATCHES: TableName = "batches";

/// Most receipts of a batch.
pub const BATCH_MAX: usize = 4_096;

/// Most batches that are not over; no more are made while the chain takes none.
const PENDING_MAX: usize = 256;

/// When a miner commits.
#[derive(Clone, Copy, Debug)]
pub struct BatchPolicy {
    /// How often it looks whether there is something to commit or to open.
    pub interval: Duration,
    /// A batch is committed to when it has this many receipts, or when the oldest has waited for `age`.
    pub size: usize,
    /// See `size`.
    pub age: Duration,
}

impl Default for BatchPolicy {
    /// A thousand receipts, or five minutes.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), size: 1_000, age: Duration::from_secs(300) }
    }
}

/// A batch, from before it is sent until everything that was drawn of it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Signing hashes of the receipts, in the order of the leaves.
    pub(super) receipts: Vec<B256>,
}

impl Pending {
    fn leaves(&self) -> Vec<B256> {
        self.receipts.iter().map(|id| merkle::leaf(id.as_slice())).collect()
    }

    pub(super) fn root(&self) -> B256 {
        merkle::root(&self.leaves())
    }
}

/// What went wrong in one round. Nothing is lost: the next round tries again.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the chain refused or could not be asked")]
    Chain(#[from] AuditsError),
}

/// Commits to receipts and opens what is drawn, now and then until it is stopped.
pub async fn keep_committing(
    miner: Miner,
    contracts: Contracts,
    wallet: Wallet,
    policy: BatchPolicy,
    stop: CancellationToken,
) {
    let clerk = Clerk { cases: miner.cases().clone(), operator: miner.operator(), contracts, wallet, policy };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(policy.interval) => {}
        }
        if let Err(error) = clerk.round().await {
            let why = describe(&error);
            tracing::warn!(code = "M-BATCH-001", %why, "receipts could not be committed or opened; it is tried again");
        }
    }
}

struct Clerk {
    cases: Cases,
    operator: Operator,
    contracts: Contracts,
    wallet: Wallet,
    policy: BatchPolicy,
}

impl Clerk {
    async fn round(&self) -> Result<(), BatchError> {
        let mut batches = self.cases.batches(PENDING_MAX)?;
        if batches.len() < PENDING_MAX
            && let Some(receipts) = self.cases.due(self.policy.size.min(BATCH_MAX), self.policy.age)
        {
            let pending = Pending { receipts };
            self.cases.batched(&pending)?;
            batches.push(pending);
        }
        let mut failed = None;
        for pending in batches {
            match self.advance(&pending).await {
                Ok(true) => self.cases.finished(&pending)?,
                Ok(false) => {}
                // One batch that does not get on does not keep the others from it.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes the next step with a batch; `true` when it was the last.
    async fn advance(&self, pending: &Pending) -> Result<bool, BatchError> {
        let (batches, root) = (&self.contracts.batches, pending.root());
        let Some(batch) = batches.batch(self.operator, root).await? else {
            let count = u32::try_from(pending.receipts.len()).unwrap_or(u32::MAX);
            batches.commit(&self.wallet, root, count).await?;
            tracing::info!(%root, count, "committed to a batch of receipts");
            return Ok(false);
        };
        let Some(beacon) = beacon(&self.contracts, &self.wallet, batch.epoch).await? else { return Ok(false) };
        let leaves = pending.leaves();
        for (index, id) in (0u32..).zip(&pending.receipts) {
            if batch.draws(beacon, self.operator, root, index) {
                self.open(*id, Inclusion { root, index, path: path(&leaves, index) }).await?;
            }
        }
        Ok(true)
    }

    async fn open(&self, id: B256, inclusion: Inclusion) -> Result<(), BatchError> {
        if self.contracts.batches.is_taken(self.operator, inclusion.root, inclusion.index).await? {
            return Ok(());
        }
        let Some(case) = self.cases.get(id)? else {
            tracing::error!(code = "M-BATCH-002", receipt = %id, "a drawn receipt is lost and cannot be opened; it will cost stake");
            return Ok(());
        };
        match self.contracts.audits.open(&self.wallet, &case.receipt.receipt, &inclusion, None).await {
            Ok(_) => tracing::info!(receipt = %id, "opened the audit of a drawn receipt"),
            // Another was faster, or it is too late. Neither gets better by trying again.
            Err(error) if refused(&error, &["AlreadyTaken", "TooLate"]) => {
                tracing::info!(receipt = %id, why = %describe(&error), "an audit was not opened here");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn path(leaves: &[B256], index: u32) -> Vec<B256> {
    merkle::proof(leaves, usize::try_from(index).unwrap_or(usize::MAX)).unwrap_or_default()
}

/// Whether a contract refused with one of these errors.
pub(crate) fn refused(error: &AuditsError, names: &[&str]) -> bool {
    error.revert().is_some_and(|revert| names.iter().any(|name| revert.is(name)))
}

/// The beacon of an epoch, recorded if that is due and nobody has done it; `None` while the epoch runs.
pub(crate) async fn beacon(contracts: &Contracts, wallet: &Wallet, epoch: u32) -> Result<Option<B256>, AuditsError> {
    if let Some(known) = contracts.guards.beacon(epoch).await? {
        return Ok(Some(known));
    }
    if contracts.guards.next_epoch().await? <= epoch {
        return Ok(None);
    }
    match contracts.guards.record_beacon(wallet, epoch).await {
        Err(error) if !refused(&error, &["BeaconKnown", "EpochNotOver"]) => return Err(error),
        _ => {}
    }
    contracts.guards.beacon(epoch).await
}
