//! Traps for guards: audits whose outcome is known beforehand.
//!
//! Most answers are honest, so a guard that computes nothing and says that all is well is mostly right. Against that a miner
//! sets traps, with an account that governance authorised: now and then it asks itself through a router, as anybody would,
//! answers rightly or wrongly as it has drawn, and commits on chain to which of both before the receipt can be drawn. When
//! the guards have revealed, it says so: whoever found something else loses many times what an audit pays, the others are
//! paid, and no score moves.
//!
//! Until then nothing tells a planted answer from others: it is routed, paid, batched and drawn like them. Once a trap was
//! sprung, its miner is known as one that sets some, but not with which answers; so several miners should, and work besides.
//! A trap is on disk before its request is sent, so a killed miner plants and springs what it had begun. Not here: who may
//! set traps, what they cost, and what counts as bad, which are the contracts' (contracts/docs/Audits.md); bad answers that only
//! evidence shows, which a guard without a profile would be punished for.

use crate::{
    contracts_view::describe,
    journal::{Journal, StoreError, TableName, Write, decode, encode},
    miner::{Miner, batches::refused},
    router::now_seconds,
};
use alloy::primitives::{B256, keccak256};
use cortensor_calibrate::{Cheat, Dishonest, cheat::Picks, corpus::small_talk};
use cortensor_client::{Client, ClientError};
use cortensor_contracts::{
    Contracts, Wallet,
    audits::{AuditStatus, AuditsError, trap_commitment},
};
use cortensor_engine::Engine;
use cortensor_protocol::{GenerationRequest, Prompt, Routing, sampling::Micro};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Traps that are not over, by the hash of their prompt.
const TRAPS: TableName = "traps";
/// Most traps at once.
const TRAPS_MAX: usize = 64;
/// Of the newest answers so many are looked through for that of a trap.
const CASES_MAX: usize = 256;
/// The answer to a trap has this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A trap of which no answer was kept by then is given up, in seconds.
const UNANSWERED_S: u64 = 600;
/// A trap that was not drawn by then never will be, in seconds.
const UNDRAWN_S: u64 = 7 * 24 * 3600;

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// An honest answer.
    Good,
    /// An answer to another prompt: what every guard finds that has the model, with or without a profile.
    OtherPrompt,
}

/// A trap, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trap {
    kind: Kind,
    salt: B256,
    /// Seconds since 1970.
    at: u64,
    /// The receipt's digest, once it is signed.
    item: Option<B256>,
    /// Whether the chain knows the commitment.
    planted: bool,
}

/// When traps are set, and which.
#[derive(Clone, Copy, Debug)]
pub struct TrapPolicy {
    /// How often it looks at those that are set.
    pub interval: Duration,
    /// How often one is set.
    pub every: Duration,
    /// How many of a hundred are bad.
    pub bad_percent: u8,
    /// Most tokens of an answer.
    pub tokens: u32,
}

/// Who sets traps.
pub struct Setter {
    /// The contracts.
    pub contracts: Contracts,
    /// The account that governance authorised; better not the miner's own.
    pub wallet: Wallet,
    /// The miner that answers.
    pub miner: Miner,
    /// With which it is asked.
    pub client: Client,
    /// Name of the model.
    pub model: String,
    /// When, and which.
    pub policy: TrapPolicy,
}

/// Why a step was not taken. Nothing is lost: the next round tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrapError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The chain refused or could not be asked.
    #[error("the chain refused or could not be asked")]
    Chain(#[from] AuditsError),
    /// The router refused or could not be asked.
    #[error("the router refused or could not be asked")]
    Router(#[from] ClientError),
    /// The answer took too long.
    #[error("the answer to a trap took too long")]
    TooSlow,
}

/// The traps of one miner; cheap to clone.
#[derive(Clone)]
pub struct Traps {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    /// Requests that are under way and to be answered wrongly.
    expected: Mutex<HashSet<B256>>,
}

impl Traps {
    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(store: &Path) -> Result<Self, StoreError> {
        let journal = Journal::open(store, &[TRAPS])?;
        Ok(Self { inner: Arc::new(Inner { journal, expected: Mutex::default() }) })
    }

    /// The engine with which the miner serves: honest to everybody, and wrong where a bad trap is under way.
    #[must_use]
    pub fn engine(&self, honest: Arc<dyn Engine>) -> Arc<dyn Engine> {
        let inner = Arc::clone(&self.inner);
        let expected: Picks = Arc::new(move |request| inner.expected.lock().contains(&key_of(&request.prompt)));
        Arc::new(Dishonest::new(honest, Cheat::Asked(expected, Box::new(Cheat::OtherPrompt))))
    }

    /// Sets traps and springs them until it is stopped. To be run once.
    pub async fn keep_setting(self, setter: Setter, stop: CancellationToken) {
        let mut next = tokio::time::Instant::now();
        while stop.run_until_cancelled(tokio::time::sleep(setter.policy.interval)).await.is_some() {
            let due = tokio::time::Instant::now() >= next;
            if due {
                next = tokio::time::Instant::now() + setter.policy.every;
            }
            match stop.run_until_cancelled(self.round(&setter, due)).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let why = describe(&error);
                    tracing::warn!(code = "M-TRAP-001", %why, "a trap did not get on; it is tried again");
                }
            }
        }
    }

    async fn round(&self, setter: &Setter, due: bool) -> Result<(), TrapError> {
        let set = self.inner.journal.scan(TRAPS, &[], TRAPS_MAX)?;
        let mut failed = None;
        let mut left = set.len();
        for (key, bytes) in set {
            let trap: Trap = decode("trap", &bytes)?;
            let prompt = B256::try_from(key.as_slice()).map_err(|_| StoreError::Corrupt { what: "trap" })?;
            match self.advance(setter, prompt, trap).await {
                Ok(true) => {
                    self.inner.journal.commit(&[Write::Delete(TRAPS, key)])?;
                    left -= 1;
                }
                Ok(false) => {}
                // One that does not get on does not keep the others from it.
                Err(error) => failed = Some(error),
            }
        }
        if due && left < TRAPS_MAX {
            self.set(setter).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks for an answer and plants it.
    async fn set(&self, setter: &Setter) -> Result<(), TrapError> {
        let (request, trap) = draw(setter);
        let prompt = key_of(&request.prompt);
        if self.inner.journal.get(TRAPS, prompt.as_slice())?.is_some() {
            return Ok(());
        }
        self.keep(prompt, &trap)?;
        if trap.kind == Kind::OtherPrompt {
            self.inner.expected.lock().insert(prompt);
        }
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(setter, request)).await;
        self.inner.expected.lock().remove(&prompt);
        asked.map_err(|_| TrapError::TooSlow)??;
        self.advance(setter, prompt, trap).await.map(drop)
    }

    /// Takes the next step with a trap; `true` when it was the last.
    async fn advance(&self, setter: &Setter, prompt: B256, mut trap: Trap) -> Result<bool, TrapError> {
        let age = now_seconds().saturating_sub(trap.at);
        let Some(item) = trap.item else {
            let planted = |case: &cortensor_protocol::Case| key_of(&case.request.prompt) == prompt;
            let Some(item) = setter.miner.cases().find(CASES_MAX, planted)? else { return Ok(age > UNANSWERED_S) };
            trap.item = Some(item);
            self.keep(prompt, &trap)?;
            return Box::pin(self.advance(setter, prompt, trap)).await;
        };
        let (contracts, wallet, bad) = (&setter.contracts, &setter.wallet, trap.kind != Kind::Good);
        if !trap.planted {
            let commitment = trap_commitment(wallet.address(), item, bad, trap.salt);
            forgive(&["TrapKnown"], contracts.court.plant(wallet, vec![commitment]).await)?;
            tracing::info!(%item, kind = ?trap.kind, "planted an audit");
            trap.planted = true;
            self.keep(prompt, &trap)?;
        }
        match contracts.audits.audit(item).await?.map(|audit| audit.status) {
            None => Ok(age > UNDRAWN_S),
            Some(AuditStatus::Planted | AuditStatus::Void) => Ok(true),
            Some(AuditStatus::Settled) => {
                tracing::error!(code = "M-TRAP-002", %item, bad, "an audit was settled before its trap was sprung");
                Ok(true)
            }
            Some(_) => {
                let sprung = contracts.audits.spring_trap(wallet, item, bad, trap.salt).await;
                // The guards have not revealed yet.
                let sprung = forgive(&["WrongStatus"], sprung)?;
                if sprung {
                    tracing::info!(%item, bad, "sprung a trap");
                }
                Ok(sprung)
            }
        }
    }

    fn keep(&self, prompt: B256, trap: &Trap) -> Result<(), StoreError> {
        self.inner.journal.commit(&[Write::Put(TRAPS, prompt.to_vec(), encode(trap))])
    }
}

/// What is asked, and how it is to be answered.
fn draw(setter: &Setter) -> (GenerationRequest, Trap) {
    let policy = setter.policy;
    let [part, a, b, c, d, ..] = rand::random::<[u8; 8]>();
    let bad = u32::from(part) * 100 / 256 < u32::from(policy.bad_percent);
    let kind = if bad { Kind::OtherPrompt } else { Kind::Good };
    let mut request = setter.client.question(&setter.model, &small_talk(u32::from_be_bytes([a, b, c, d])));
    request.sampling.temperature = Micro(700_000);
    request.max_tokens = policy.tokens;
    let salt = B256::from(rand::random::<[u8; 32]>());
    (request, Trap { kind, salt, at: now_seconds(), item: None, planted: false })
}

/// Has the miner answer as anybody would.
async fn ask(setter: &Setter, request: GenerationRequest) -> Result<(), ClientError> {
    let routing = Routing { miner: Some(setter.miner.operator()), min_tier: None };
    let mut answer = setter.client.generate_routed(request, routing).await?;
    while answer.next().await?.is_some() {}
    drop(answer);
    // What is not paid now is paid with the next answer.
    if let Err(error) = setter.client.pay().await {
        tracing::info!(%error, "an answer is not paid for yet");
    }
    Ok(())
}

fn key_of(prompt: &Prompt) -> B256 {
    keccak256(encode(prompt))
}

/// Whether it was accepted; `false` where it was refused with one of these errors.
fn forgive<T>(names: &[&str], sent: Result<T, AuditsError>) -> Result<bool, TrapError> {
    match sent {
        Ok(_) => Ok(true),
        Err(error) if refused(&error, names) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
