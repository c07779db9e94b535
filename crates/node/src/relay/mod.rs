//! Carries blocks and messages between a chain of validators (the lower one) and the chain that it settles on (the upper one).
//!
//! Anybody may run one, and several may: what another one did first is found done. A relayer cannot make anything up: each
//! step is proved to a contract. It can only be slow, or leave things out, which is why there should be more than one.
//! With a validator's key it also attests blocks of the upper chain, as that validator's own view of it.
//!
//! Not here: taking transactions from users, and deciding what a message means. It keeps nothing on disk.

mod config;
mod down;
mod shares;
mod source;
mod up;

pub use config::{
    AggregateSection, AttestSection, EndSection, FinalBlock, Preference, RELAY_TEMPLATE, RelayFile, RelaySection,
};
pub use shares::{Aggregator, RpcShares, ShareSource};
pub use source::{CertificateSource, RpcCertificates, SourceError};

use alloy::{
    primitives::{Address, B256},
    providers::Provider as _,
    signers::local::PrivateKeySigner,
    transports::TransportError,
};
use cortensor_contracts::{
    BlockRange, Provider, Validators, Wallet,
    audits::AuditsError,
    lanes::{Bridge, CertifiedBlockError, Checkpoints, ForeignBlocks, Inbox, Message, Messages, Outbox, Settlement},
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Most blocks of messages that one step reads.
const BLOCKS_A_STEP: u64 = 50_000;
/// Most claims that one step sends.
const CLAIMS_A_STEP: usize = 32;
/// What contracts answer when another relayer was faster.
const DONE_BEFORE: [&str; 4] = ["NotNewer", "AlreadyKnown", "AlreadyConsumed", "AlreadyAdvanced"];

/// Why a step could not be finished; the next one tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A contract could not be read, or refused.
    #[error("a contract at one of the ends")]
    Contract(#[from] AuditsError),
    /// A node did not answer.
    #[error("cannot read the {0} chain")]
    Rpc(&'static str, #[source] TransportError),
    /// No certificate could be had.
    #[error("cannot get the certificate of block {0}")]
    Source(u64, #[source] SourceError),
    /// The certificate is for nothing.
    #[error("the certificate of block {0} proves nothing")]
    Certificate(u64, #[source] CertifiedBlockError),
    /// The chain has no certificate for a block that the other end needs.
    #[error("block {0} ends an epoch and has no certificate: no later block can be checkpointed")]
    CertificateMissing(u64),
    /// The list of messages has a hole, or is too long.
    #[error("the messages of outbox {outbox} do not follow on from number {count}, or there are too many to keep")]
    Messages {
        /// The outbox.
        outbox: Address,
        /// How many are known.
        count: usize,
    },
    /// The node does not have what it announced.
    #[error("the {chain} chain has no block {number}")]
    BlockMissing {
        /// Which.
        chain: &'static str,
        /// Its number.
        number: u64,
    },
    /// The outbox says something else than its messages.
    #[error("block {block} of the {chain} chain holds accumulator {found}, its messages give {expected}")]
    Accumulator {
        /// Which chain.
        chain: &'static str,
        /// As of this block.
        block: u64,
        /// On chain.
        found: B256,
        /// Of the messages.
        expected: B256,
    },
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Checkpoints submitted to the upper chain.
    pub checkpoints: u32,
    /// Accumulators proved, at either end.
    pub proofs: u32,
    /// Blocks of the upper chain attested.
    pub attestations: u32,
    /// Messages of the bridge handed out, at either end.
    pub claims: u32,
    /// Sets of validators fixed for the next epoch.
    pub sets: u32,
    /// Of the checkpoints: those with one signature for all validators.
    pub aggregated: u32,
}

/// One direction: messages from an outbox to the inbox at the other end.
struct Lane {
    outbox: Outbox,
    inbox: Inbox,
    /// The end of the bridge that hands out what this lane brings, and the other end.
    bridge: Bridge,
    peer: Address,
    source: (u64, u64),
    messages: Messages,
    /// The first block that was not read for messages.
    next_block: u64,
    /// Messages up to here are known at the other end.
    proven: usize,
    /// Messages up to here are claimed, or not the bridge's.
    claimed: usize,
}

/// A chain with the account that pays for gas there.
struct End {
    provider: Provider,
    wallet: Wallet,
}

/// A relayer between two chains.
pub struct Relay {
    upper: End,
    lower: End,
    checkpoints: Checkpoints,
    foreign: ForeignBlocks,
    validators: Validators,
    certificates: Arc<dyn CertificateSource>,
    attester: Option<PrivateKeySigner>,
    aggregator: Option<Aggregator>,
    /// The upper chain's block from which on validators registered keys.
    keys_since: u64,
    up: Lane,
    down: Lane,
    settings: RelaySection,
}

impl Relay {
    /// A relayer that has seen nothing yet. The wallets pay for gas, one on each chain.
    #[must_use]
    pub fn new(
        settlement: &Settlement,
        validators: Address,
        (upper, lower): (Wallet, Wallet),
        certificates: Arc<dyn CertificateSource>,
        attester: Option<PrivateKeySigner>,
        settings: RelaySection,
    ) -> Self {
        let (top, bottom) = (upper.provider().clone(), lower.provider().clone());
        let (high, low) = (&settlement.upper, &settlement.lower);
        let lane = |from: &cortensor_contracts::lanes::SettlementEnd,
                    at: &Provider,
                    to: &cortensor_contracts::lanes::SettlementEnd,
                    there: &Provider| Lane {
            outbox: from.outbox(at),
            inbox: to.inbox(there),
            bridge: to.bridge(there),
            peer: from.bridge,
            source: (from.chain_id, to.chain_id),
            messages: Messages::default(),
            next_block: from.block,
            proven: 0,
            claimed: 0,
        };
        Self {
            checkpoints: Checkpoints::new(top.clone(), high.blocks),
            foreign: ForeignBlocks::new(bottom.clone(), low.blocks),
            validators: Validators::new(bottom.clone(), validators),
            up: lane(low, &bottom, high, &top),
            down: lane(high, &top, low, &bottom),
            upper: End { provider: top, wallet: upper },
            lower: End { provider: bottom, wallet: lower },
            certificates,
            attester,
            aggregator: None,
            keys_since: high.block,
            settings,
        }
    }

    /// The same, which submits checkpoints with one signature for all validators where that is cheaper.
    #[must_use]
    pub fn with_aggregator(mut self, aggregator: Aggregator) -> Self {
        self.aggregator = Some(aggregator);
        self
    }

    /// Goes on until stopped; what fails is reported and tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        let pause = Duration::from_secs(self.settings.interval_seconds.max(1));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    match self.step().await {
                        Ok(done) if done != Progress::default() => tracing::info!(?done, "relayed"),
                        Ok(_) => {}
                        Err(error) => tracing::warn!(error = %chain_of(&error), "a step of the relayer failed"),
                    }
                    sleep(pause).await;
                } => {}
            }
        }
    }

    /// Does what can be done now, in both directions. One direction that fails does not hold the other up.
    ///
    /// # Errors
    /// The first failure.
    pub async fn step(&mut self) -> Result<Progress, RelayError> {
        let mut done = Progress::default();
        let upwards = self.step_up(&mut done).await;
        let downwards = self.step_down(&mut done).await;
        let epochs = self.advance(&mut done).await;
        upwards.and(downwards).and(epochs).map(|()| done)
    }

    /// Fixes the next epoch's set of validators where nobody did. Not in an epoch's last block, which the contract refuses: then the
    /// set stays for one epoch.
    async fn advance(&self, done: &mut Progress) -> Result<(), RelayError> {
        if !self.settings.advance || self.validators.has_advanced().await? {
            return Ok(());
        }
        match self.validators.advance(&self.lower.wallet).await {
            Err(error) if error.revert().is_some_and(|revert| revert.is("EpochEnds")) => Ok(()),
            sent => done_before(sent).map(|first| done.sets += u32::from(first)),
        }
    }
}

impl Lane {
    /// Reads the messages that were sent up to this block.
    async fn read(&mut self, to: u64) -> Result<(), RelayError> {
        while self.next_block <= to {
            let range = BlockRange { from: self.next_block, to: to.min(self.next_block + BLOCKS_A_STEP - 1) };
            for message in self.outbox.messages(range).await? {
                let leaf = message.leaf(self.source.0, self.outbox.address(), self.source.1);
                if !self.messages.push(message, leaf) {
                    let (outbox, count) = (self.outbox.address(), self.messages.all().len());
                    return Err(RelayError::Messages { outbox, count });
                }
            }
            self.next_block = range.to + 1;
        }
        Ok(())
    }

    /// How many messages there are as of a block, where the other end does not know of them; `None` where it does.
    async fn unproven(&mut self, chain: &'static str, block: u64) -> Result<Option<usize>, RelayError> {
        let count = self.outbox.count_at(block).await? as usize;
        if count <= self.proven {
            return Ok(None);
        }
        self.read(block).await?;
        let found = self.outbox.accumulator_at(block).await?;
        let expected = self.messages.accumulator(count).unwrap_or_default();
        if found != expected {
            return Err(RelayError::Accumulator { chain, block, found, expected });
        }
        if self.inbox.is_known(found).await? {
            self.proven = count;
            return Ok(None);
        }
        Ok(Some(count))
    }

    /// Hands out what the bridge at the other end sent and this end was proved.
    async fn claim(&mut self, wallet: &Wallet) -> Result<u32, RelayError> {
        let mut claims = 0;
        while self.claimed < self.proven && (claims as usize) < CLAIMS_A_STEP {
            let message = &self.messages.all()[self.claimed];
            if self.is_due(message).await? {
                let inclusion = self.messages.inclusion(self.claimed, self.proven);
                let inclusion = inclusion.expect("proven messages were read, and this one is before them");
                let sent = self.bridge.claim(wallet, message, &inclusion).await;
                claims += u32::from(done_before(sent)?);
            }
            self.claimed += 1;
        }
        Ok(claims)
    }

    async fn is_due(&self, message: &Message) -> Result<bool, RelayError> {
        let bridges = message.sender == self.peer && message.target == self.bridge.address();
        Ok(bridges && !self.inbox.is_consumed(message.index).await?)
    }
}

/// Whether this relayer did it: true when the transaction went through, false when somebody else had been faster.
fn done_before<T>(sent: Result<T, AuditsError>) -> Result<bool, RelayError> {
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.revert().is_some_and(|revert| DONE_BEFORE.iter().any(|name| revert.is(name))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn head(chain: &'static str, provider: &Provider) -> Result<u64, RelayError> {
    provider.get_block_number().await.map_err(|error| RelayError::Rpc(chain, error))
}

/// An error with everything behind it, on one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
