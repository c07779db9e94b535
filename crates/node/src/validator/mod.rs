//! What a validator does beside voting: signs of life, fixing the next epoch's set, and proofs of double votes.
//!
//! Everything goes through plain JSON-RPC of the validator's own node, paid by the account of its key. Nothing here signs a
//! vote or decides who is right: the contracts recover signatures themselves. Validators take turns in fixing sets, so that one
//! of them pays; signs of life are spread over the first half of an epoch.

mod evidence;

pub use evidence::{EvidenceError, SENT_FILE};

use crate::{contracts_view::describe, router::now_seconds};
use alloy::{
    eips::BlockId,
    primitives::{Address, U256, keccak256, utils::format_ether},
    providers::Provider as _,
    transports::TransportError,
};
use cortensor_contracts::{Contracts, Provider, ReadError, Wallet, audits::AuditsError};
use evidence::Reports;
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// What a sign of life, a turn at fixing a set and a proof take together, with room: 1,500,000 gas.
const GAS_AN_EPOCH: u64 = 1_500_000;
/// A block may be so much newer than this clock before it is worth a warning; validators refuse one 15 s ahead.
const AHEAD_MAX_S: u64 = 3;
/// And so much older, once this node has had as long to catch up.
const BEHIND_MAX_S: u64 = 10;
/// Fewer epochs than these are worth a warning when gas for them is left.
const EPOCHS_PAID_MIN: u64 = 20;

/// Why the duties could not be done now; the next look tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DutyError {
    /// A contract could not be read, or refused.
    #[error("a contract")]
    Contract(#[from] AuditsError),
    /// The own node did not answer.
    #[error("cannot read the own node")]
    Rpc(#[from] TransportError),
    /// The own balance could not be read.
    #[error("cannot read the validator's balance")]
    Balance(#[source] ReadError),
    /// Proofs could not be read, or what became of them could not be kept.
    #[error("cannot use the proofs of double votes")]
    Evidence(#[from] EvidenceError),
}

/// Counters since the start, for whoever publishes them.
#[derive(Debug, Default)]
pub struct DutyMetrics {
    /// Signs of life given.
    pub heartbeats: AtomicU64,
    /// Sets fixed.
    pub sets: AtomicU64,
    /// Proofs of double votes that this validator brought to the chain.
    pub proofs: AtomicU64,
    /// Looks that ended with an error.
    pub failures: AtomicU64,
    /// Epochs that the account can pay gas for at the current price.
    pub epochs_paid: AtomicU64,
    /// 1 while the operator is jailed.
    pub jailed: AtomicU64,
    /// How far the newest block's time is behind this machine's clock, in seconds.
    pub block_behind_s: AtomicU64,
    /// How far it is ahead of it.
    pub block_ahead_s: AtomicU64,
}

/// One validator's duties.
#[derive(Debug)]
pub struct Duties {
    key: Address,
    wallet: Wallet,
    contracts: Contracts,
    reports: Reports,
    every: Duration,
    metrics: Arc<DutyMetrics>,
    /// The last epoch in which a sign of life was given, or there was nobody to give one for.
    alive_in: Option<u64>,
    /// The epoch that was last seen, and in which epoch each warning was last given.
    epoch: u64,
    started: Instant,
    warned: HashMap<&'static str, u64>,
}

/// Where an epoch stands.
#[derive(Clone, Copy, Debug)]
struct Clock {
    epoch: u64,
    length: u64,
    /// Blocks of it that are there.
    passed: u64,
}

impl Duties {
    /// For the validator that votes with `key`; the wallet is that account's, or its operator's. Proofs are read from `evidence`;
    /// what became of them is kept beside it. Looks every `every`.
    #[must_use]
    pub fn new(key: Address, wallet: Wallet, contracts: Contracts, evidence: &Path, every: Duration) -> Self {
        Self {
            key,
            reports: Reports::new(evidence),
            wallet,
            contracts,
            every,
            metrics: Arc::default(),
            alive_in: None,
            epoch: 0,
            started: Instant::now(),
            warned: HashMap::new(),
        }
    }

    /// Counters, also while it runs.
    #[must_use]
    pub fn metrics(&self) -> Arc<DutyMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Goes on until stopped; what fails is reported once and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        if let Err(error) = self.step().await {
            self.metrics.failures.fetch_add(1, Relaxed);
            self.warn("failure", &format!("a validator's duty could not be done: {}", describe(&error)));
        }
        tokio::time::sleep(self.every).await;
    }

    /// Says each kind of thing once an epoch, not at every look.
    fn warn(&mut self, kind: &'static str, text: &str) {
        if self.warned.insert(kind, self.epoch) != Some(self.epoch) {
            tracing::warn!("{text}");
        }
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// The first failure.
    pub async fn step(&mut self) -> Result<(), DutyError> {
        let clock = self.clock().await?;
        self.epoch = clock.epoch;
        self.watch_balance().await?;
        self.watch_time().await?;
        let alive = self.give_sign_of_life(clock).await;
        let fixed = self.fix_set(clock).await;
        let reported = self.reports.step(&self.wallet, &self.contracts, &self.metrics.proofs).await;
        alive.and(fixed).and(reported.map_err(DutyError::from))
    }

    async fn clock(&self) -> Result<Clock, DutyError> {
        let length = u64::from(self.contracts.validators.epoch_length_blocks().await?);
        let head = provider(&self.wallet).get_block_number().await?;
        Ok(Clock { epoch: head / length, length, passed: head % length })
    }

    async fn watch_balance(&mut self) -> Result<(), DutyError> {
        let balance = self.wallet.native_balance().await.map_err(DutyError::Balance)?;
        let price = provider(&self.wallet).get_gas_price().await?;
        let an_epoch = U256::from(price.max(1)) * U256::from(GAS_AN_EPOCH);
        let epochs: u64 = (balance / an_epoch).saturating_to();
        self.metrics.epochs_paid.store(epochs, Relaxed);
        if epochs < EPOCHS_PAID_MIN {
            let (who, coins) = (self.wallet.address(), format_ether(balance));
            let text =
                format!("{who} holds {coins} coins, gas for {epochs} epochs: send it some, or it will be jailed");
            self.warn("balance", &text);
        }
        Ok(())
    }

    /// Blocks carry the time of their proposers' clocks. One that is far from this clock means that a clock is wrong, or that
    /// the chain stands still.
    async fn watch_time(&mut self) -> Result<(), DutyError> {
        let Some(block) = provider(&self.wallet).get_block(BlockId::latest()).await? else { return Ok(()) };
        let (block, now) = (block.header.timestamp, now_seconds());
        let (behind, ahead) = (now.saturating_sub(block), block.saturating_sub(now));
        self.metrics.block_behind_s.store(behind, Relaxed);
        self.metrics.block_ahead_s.store(ahead, Relaxed);
        if ahead > AHEAD_MAX_S {
            let text = format!("the newest block is {ahead} s ahead of this clock: a clock here or there is wrong");
            self.warn("clock", &text);
        } else if behind > BEHIND_MAX_S && self.started.elapsed() > Duration::from_secs(BEHIND_MAX_S) {
            let text = format!("the newest block is {behind} s old: the chain stands still, or this clock is ahead");
            self.warn("clock", &text);
        }
        Ok(())
    }

    /// Once an epoch, in its first half: where in it, the key and the epoch say.
    async fn give_sign_of_life(&mut self, clock: Clock) -> Result<(), DutyError> {
        if self.alive_in == Some(clock.epoch) || clock.passed < delay(self.key, clock) {
            return Ok(());
        }
        let validators = &self.contracts.validators;
        let operator = validators.operator_of(self.key).await?;
        let candidate = match operator {
            Some(operator) => validators.candidate(operator).await?,
            None => None,
        };
        let jailed = candidate.and_then(|candidate| candidate.jailed_until);
        self.metrics.jailed.store(jailed.is_some().into(), Relaxed);
        if let Some(until) = jailed {
            let text = format!("this validator is jailed: from epoch {until} on, `cortensor chain validator unjail`");
            self.warn("jail", &text);
        }
        match self.contracts.validators.heartbeat(&self.wallet).await {
            Ok(_) => {
                self.metrics.heartbeats.fetch_add(1, Relaxed);
                tracing::debug!(epoch = clock.epoch, "gave a sign of life");
            }
            // Nobody that the contract knows: there is nothing to be alive for in this epoch.
            Err(error) if is(&error, "NotCandidate") => {}
            Err(error) => return Err(error.into()),
        }
        self.alive_in = Some(clock.epoch);
        Ok(())
    }

    /// In the second half of an epoch, members take turns: whoever's turn it is when nobody has done it, does it.
    async fn fix_set(&self, clock: Clock) -> Result<(), DutyError> {
        if clock.passed < clock.length / 2 || self.contracts.validators.has_advanced().await? {
            return Ok(());
        }
        let set = self.contracts.validators.set_at(clock.epoch * clock.length + clock.passed).await?;
        let members = set.validators();
        let Some(place) = members.iter().position(|member| member.address == self.key) else { return Ok(()) };
        if !is_turn(place as u64, members.len() as u64, clock) {
            return Ok(());
        }
        match self.contracts.validators.advance(&self.wallet).await {
            Ok(_) => {
                self.metrics.sets.fetch_add(1, Relaxed);
                tracing::info!(epoch = clock.epoch + 1, "fixed the set of validators");
                Ok(())
            }
            Err(error) if is(&error, "AlreadyAdvanced") || is(&error, "EpochEnds") => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn provider(wallet: &Wallet) -> &Provider {
    wallet.provider()
}

fn is(error: &AuditsError, refusal: &str) -> bool {
    error.revert().is_some_and(|revert| revert.is(refusal))
}

/// After how many blocks of an epoch this key gives its sign of life: somewhere in the first half.
fn delay(key: Address, clock: Clock) -> u64 {
    let seed = keccak256([key.as_slice(), &clock.epoch.to_be_bytes()].concat());
    U256::from_be_bytes(seed.0).wrapping_rem(U256::from((clock.length / 2).max(1))).to()
}

/// Whether it is this member's turn, or was: the first one's begins in the middle of the epoch and moves on with each epoch; all
/// of them have had theirs at three quarters.
fn is_turn(place: u64, members: u64, clock: Clock) -> bool {
    let rank = (place + members - clock.epoch % members) % members;
    clock.passed >= clock.length / 2 + rank * (clock.length / 4) / members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_everybody_has_had_one_in_time() {
        for length in [4_u64, 20, 1_000] {
            for epoch in 0..7 {
                let at = |passed| Clock { epoch, length, passed };
                let first: Vec<_> = (0..4).filter(|place| is_turn(*place, 4, at(length / 2))).collect();
                assert!(first.contains(&(epoch % 4)), "{length} {epoch}: {first:?}");
                assert!((0..4).all(|place| is_turn(place, 4, at(length / 2 + length / 4))));
                assert!((0..4).all(|place| !is_turn(place, 4, at(length / 2 - 1))));
            }
        }
        let clock = Clock { epoch: 1, length: 1_000, passed: 500 };
        assert_eq!((0..4).filter(|place| is_turn(*place, 4, clock)).collect::<Vec<_>>(), [1], "one pays");
    }

    #[test]
    fn signs_of_life_come_in_the_first_half() {
        for byte in 1..=50 {
            let clock = Clock { epoch: byte.into(), length: 20, passed: 0 };
            assert!(delay(Address::repeat_byte(byte), clock) < 10);
        }
    }
}
