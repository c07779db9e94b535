//! Batches of receipts, watched until everything that was drawn of them was shown.
//!
//! A miner that commits to a receipt and never shows it would hide it from every audit. For each batch that the chain tells
//! of, a guard sees to it that its beacon is recorded, works out what was drawn, and reports what nobody has opened when
//! the time for opening is over. A batch is on disk before the block that told of it counts as read.

use super::{GuardError, Inner};
use crate::{
    contracts_view::describe,
    journal::{TableName, Write, decode, encode},
    miner::batches::{beacon, refused},
};
use alloy::primitives::B256;
use cortensor_contracts::{
    BlockRange,
    audits::{AuditsError, Batch, BatchCommitted},
};
use cortensor_protocol::Operator;
use serde::{Deserialize, Serialize};

/// Batches by the time at which their receipts become overdue, then root and miner.
pub(super) const WATCHED: TableName = "watched";

/// Most batches that are looked at in one round, the most urgent first.
const WATCHED_MAX: usize = 1_024;

/// Refusals that say that another was faster, or that the chain's clock is a little behind.
const HARMLESS: &[&str] = &["AlreadyTaken", "NotDue"];

/// A batch, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    miner: Operator,
    root: B256,
    batch: Batch,
    /// Last second for opening what is drawn.
    until: u64,
    /// Positions that the beacon drew, once it is known; what was shown is removed.
    drawn: Option<Vec<u32>>,
}

impl Watched {
    fn key(&self) -> Vec<u8> {
        [self.until.to_be_bytes().as_slice(), self.root.as_slice(), self.miner.0.as_slice()].concat()
    }

    fn put(&self) -> Write {
        Write::Put(WATCHED, self.key(), encode(self))
    }

    /// What this beacon draws of the batch, which has at most 65,536 receipts.
    fn drawn_by(&self, beacon: B256) -> Vec<u32> {
        (0..self.batch.count).filter(|index| self.batch.draws(beacon, self.miner, self.root, *index)).collect()
    }
}

impl Inner {
    /// Notes the batches that miners committed to in these blocks.
    pub(super) async fn notice_batches(&self, range: BlockRange) -> Result<Vec<Write>, GuardError> {
        let committed = self.contracts.batches.committed(None, range).await?;
        if committed.is_empty() {
            return Ok(Vec::new());
        }
        let open_window = u64::from(self.contracts.audits.parameters().await?.open_window_s);
        let time = open_window + u64::from(self.contracts.guards.epoch_length_s().await?);
        let mut writes = Vec::new();
        for BatchCommitted { miner, root, .. } in committed {
            // A block that told of it may have been replaced since.
            let Some(batch) = self.contracts.batches.batch(miner, root).await? else { continue };
            let until = batch.committed_at.saturating_add(time);
            writes.push(Watched { miner, root, batch, until, drawn: None }.put());
        }
        Ok(writes)
    }

    /// Draws from the batches whose beacon has come, and reports what is missing of those whose time is over.
    pub(super) async fn watch(&self) -> Result<(), GuardError> {
        let known = self.journal.scan(WATCHED, &[], WATCHED_MAX)?;
        if known.is_empty() {
            return Ok(());
        }
        let (now, next) = (self.now().await?, self.contracts.guards.next_epoch().await?);
        for (key, bytes) in known {
            let watched: Watched = decode("watched batch", &bytes)?;
            if watched.batch.epoch >= next {
                continue;
            }
            match self.look(watched, now).await {
                Ok(true) => self.journal.commit(&[Write::Delete(WATCHED, key)])?,
                Ok(false) => {}
                // One batch that does not get on keeps neither the others nor the audits from it.
                Err(error) => {
                    let why = describe(&error);
                    tracing::warn!(code = "G-WATCH-002", %why, "a batch could not be looked at; it is tried again");
                }
            }
        }
        Ok(())
    }

    /// Takes the next step with a batch; `true` when it was the last.
    async fn look(&self, mut watched: Watched, now: u64) -> Result<bool, GuardError> {
        let Some(drawn) = &watched.drawn else {
            let Some(beacon) = beacon(&self.contracts, &self.wallet, watched.batch.epoch).await? else {
                return Ok(false);
            };
            let drawn = watched.drawn_by(beacon);
            let nothing = drawn.is_empty();
            watched.drawn = Some(drawn);
            self.journal.commit(&[watched.put()])?;
            return Ok(nothing);
        };
        if now <= watched.until {
            return Ok(false);
        }
        for index in drawn {
            if !self.report(watched.miner, watched.root, *index).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reports a drawn receipt, unless it was shown or reported; `false` when it is too early for that.
    async fn report(&self, miner: Operator, root: B256, index: u32) -> Result<bool, GuardError> {
        if self.contracts.batches.is_taken(miner, root, index).await? {
            return Ok(true);
        }
        match self.contracts.audits.report_missing(&self.wallet, miner, root, index).await {
            Ok(_) => {
                tracing::warn!(code = "G-WATCH-001", %miner, %root, index, "a miner did not show a receipt that was drawn");
                Ok(true)
            }
            Err(error) if refused(&error, HARMLESS) => Ok(!is_early(&error)),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_early(error: &AuditsError) -> bool {
    refused(error, &["NotDue"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Address;

    /// Whatever is most urgent is looked at first, and two batches never share a place.
    #[test]
    fn batches_are_kept_by_their_time() {
        let batch = Batch { count: 3, epoch: 1, rate_ppm: 1_000_000, committed_at: 5 };
        let of = |until, root, miner| Watched {
            miner: Operator(Address::repeat_byte(miner)),
            root: B256::repeat_byte(root),
            batch,
            until,
            drawn: None,
        };
        let all = [of(1, 9, 9), of(255, 2, 1), of(256, 1, 1), of(256, 1, 2), of(256, 2, 1)];
        assert!(all.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        assert_eq!(decode::<Watched>("watched batch", &encode(&all[0])).unwrap(), all[0]);
        assert_eq!(all[0].drawn_by(B256::ZERO), [0, 1, 2]);
    }
}
