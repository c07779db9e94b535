//! Hard filters: who cannot serve a request at all, and why.

use crate::snapshot::{Request, Settings, WorkerSnapshot};
use cortensor_protocol::{Price, State, Tier};
use serde::{Deserialize, Serialize};

/// Why a worker cannot be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// It serves another model.
    #[error("serves another model")]
    Model,
    /// The caller excluded it.
    #[error("already failed this task")]
    Excluded,
    /// The client named another one.
    #[error("is not the miner that was asked for")]
    NotNamed,
    /// Audits speak against it.
    #[error("is {state} by the network's audits")]
    Standing {
        /// What they amount to.
        state: State,
    },
    /// Embeddings are asked for.
    #[error("makes no embeddings")]
    Embeddings,
    /// Below the demanded tier.
    #[error("is of tier {offered}, at least {demanded} is demanded")]
    Tier {
        /// Its tier.
        offered: Tier,
        /// The demanded one.
        demanded: Tier,
    },
    /// Too short a context.
    #[error("serves {offered} tokens of context, {needed} are needed")]
    Context {
        /// Its context.
        offered: u32,
        /// The needed one.
        needed: u32,
    },
    /// Above the price limit.
    #[error("asks {} in and {} out per million tokens, above the limit", asked.input, asked.output)]
    Price {
        /// Its price.
        asked: Price,
    },
    /// It asked for no new work.
    #[error("takes no new work")]
    Draining,
    /// Slots and queue are taken.
    #[error("is full: {busy} tasks on {slots} slots")]
    Full {
        /// Tasks there.
        busy: u32,
        /// Its slots.
        slots: u32,
    },
}

impl Rejection {
    /// Whether the same request may be served later by the same worker: it has no room at the moment.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Draining)
    }
}

/// The first filter that refuses, lasting reasons before passing ones.
///
/// # Errors
/// The reason.
pub fn admit(worker: &WorkerSnapshot, request: &Request, settings: &Settings) -> Result<(), Rejection> {
    let offer = &worker.offer;
    if offer.model != request.model {
        return Err(Rejection::Model);
    }
    if request.only.is_some_and(|only| only != worker.operator) {
        return Err(Rejection::NotNamed);
    }
    if !worker.state.may_work() {
        return Err(Rejection::Standing { state: worker.state });
    }
    if request.embeddings && !offer.embeds {
        return Err(Rejection::Embeddings);
    }
    if offer.tier < request.min_tier {
        return Err(Rejection::Tier { offered: offer.tier, demanded: request.min_tier });
    }
    if worker.context() < request.context_needed {
        return Err(Rejection::Context { offered: worker.context(), needed: request.context_needed });
    }
    if !offer.price.within(&request.price_limit) {
        return Err(Rejection::Price { asked: offer.price });
    }
    if request.excluded.contains(&worker.operator) {
        return Err(Rejection::Excluded);
    }
    if worker.draining {
        return Err(Rejection::Draining);
    }
    if u64::from(worker.busy()) >= room(worker, settings) {
        return Err(Rejection::Full { busy: worker.busy(), slots: worker.slots() });
    }
    Ok(())
}

/// Tasks that fit: the slots and the queue.
fn room(worker: &WorkerSnapshot, settings: &Settings) -> u64 {
    let slots = u64::from(worker.slots());
    slots + slots * u64::from(settings.queue_permille) / 1_000
}
