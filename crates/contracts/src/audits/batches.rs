//! `Batches`: what miners committed to, what the beacons drew of it, and what of that was shown.

use super::{AuditsError, Caller, MAX_EVENTS};
use crate::{
    bindings::batches::Batches as sol,
    connection::Provider,
    events::{BlockRange, logs},
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, U256, keccak256},
    rpc::types::Filter,
    sol_types::{SolEvent as _, SolValue as _},
};
use cortensor_protocol::Operator;
use serde::{Deserialize, Serialize};

/// A batch of receipts, as a miner committed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// How many receipts.
    pub count: u32,
    /// The epoch whose beacon draws.
    pub epoch: u32,
    /// The miner's audit rate at that time.
    pub rate_ppm: u32,
    /// When, in seconds since 1970.
    pub committed_at: u64,
}

impl Batch {
    /// Whether a beacon draws one of its receipts, as the contract's `isDrawn` says.
    #[must_use]
    pub fn draws(&self, beacon: B256, miner: Operator, root: B256, index: u32) -> bool {
        let random = keccak256((beacon, miner.0, root, U256::from(index)).abi_encode());
        U256::from_be_bytes(random.0) % U256::from(1_000_000) < U256::from(self.rate_ppm)
    }
}

/// That a miner committed to a batch; [`Batches::batch`] tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCommitted {
    /// The miner.
    pub miner: Operator,
    /// Merkle root over its receipts.
    pub root: B256,
    /// How many.
    pub count: u32,
}

/// The batches contract at one address.
#[derive(Clone, Debug)]
pub struct Batches(Caller);

impl Batches {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "batches" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Commits the wallet's operator, an active miner, to `count` receipts: the Merkle root over
    /// [`cortensor_protocol::Receipt::leaf`].
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn commit(&self, wallet: &Wallet, root: B256, count: u32) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "commit to the receipts", &sol::commitCall { root, count }).await
    }

    /// Brings the rate that commitments note for a miner up to date. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn refresh_rate(&self, wallet: &Wallet, miner: Operator) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "refresh an audit rate", &sol::refreshRateCall { miner: miner.0 }).await
    }

    /// A batch, or `None` when the miner did not commit to that root.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn batch(&self, miner: Operator, root: B256) -> Result<Option<Batch>, AuditsError> {
        let batch = self.0.read("a batch", &sol::batchOfCall { miner: miner.0, root }).await?;
        Ok((batch.count != 0).then_some(Batch {
            count: batch.count,
            epoch: batch.epoch,
            rate_ppm: batch.ratePpm,
            committed_at: batch.committedAt.to(),
        }))
    }

    /// Whether the beacon drew one receipt of a batch; `None` while the beacon is not recorded.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_drawn(&self, miner: Operator, root: B256, index: u32) -> Result<Option<bool>, AuditsError> {
        let call = sol::isDrawnCall { miner: miner.0, root, index };
        self.0.read_unless("a draw", &call, "BeaconUnknown").await
    }

    /// Whether a drawn receipt was shown or reported as missing.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_taken(&self, miner: Operator, root: B256, index: u32) -> Result<bool, AuditsError> {
        self.0.read("what became of a drawn receipt", &sol::isTakenCall { miner: miner.0, root, index }).await
    }

    /// The batches that miners, or one of them, committed to in these blocks, in chain order.
    ///
    /// # Errors
    /// When the read fails or there are too many.
    pub async fn committed(
        &self,
        miner: Option<Operator>,
        range: BlockRange,
    ) -> Result<Vec<BatchCommitted>, AuditsError> {
        let filter = Filter::new().address(self.0.address).event_signature(sol::BatchCommitted::SIGNATURE_HASH);
        let filter = match miner {
            Some(miner) => filter.topic1(miner.0.into_word()),
            None => filter,
        };
        let found = logs(&self.0.provider, &filter, range, MAX_EVENTS).await;
        let found = found.map_err(|source| self.0.failed("events", source))?.ok_or(AuditsError::TooManyEvents)?;
        let decode = |log: &alloy::rpc::types::Log| {
            let event = sol::BatchCommitted::decode_log(&log.inner).map_err(AuditsError::Log)?;
            Ok(BatchCommitted { miner: Operator(event.miner), root: event.root, count: event.count })
        };
        found.iter().map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part that is drawn is the rate, whatever the beacon.
    #[test]
    fn draws_follow_the_rate() {
        let miner = Operator(Address::repeat_byte(1));
        for (rate_ppm, least, most) in [(0, 0, 0), (30_000, 220, 380), (1_000_000, 10_000, 10_000)] {
            let batch = Batch { count: 10_000, epoch: 0, rate_ppm, committed_at: 0 };
            for beacon in [B256::repeat_byte(1), B256::repeat_byte(2)] {
                let drawn = (0..batch.count).filter(|index| batch.draws(beacon, miner, B256::ZERO, *index)).count();
                assert!((least..=most).contains(&drawn), "{drawn} at {rate_ppm} ppm");
            }
        }
    }
}
