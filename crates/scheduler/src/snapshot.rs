//! What the scheduler is told: one snapshot per worker and offer, one request, and the settings of the policies.

use cortensor_protocol::{
    ModelId, Operator, Price, Tier, TokenCount,
    manifest::{Load, ModelOffer, Speed},
};
use serde::{Deserialize, Serialize};

/// The part of a [`ModelOffer`] that decides. The manifest's hash is taken once, when the offer arrives, and not for
/// every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The model's id.
    pub model: ModelId,
    /// Asked price.
    pub price: Price,
    /// What can be checked of its work.
    pub tier: Tier,
    /// Longest context served, in LLM tokens.
    pub context: u32,
    /// Sequences run at once; 0 counts as 1.
    pub slots: u32,
    /// Whether it makes embeddings.
    pub embeds: bool,
}

impl From<&ModelOffer> for Offer {
    fn from(offer: &ModelOffer) -> Self {
        Self {
            model: offer.manifest.id(),
            price: offer.price,
            tier: offer.tier,
            context: offer.context,
            slots: offer.slots,
            embeds: offer.manifest.embedding_length > 0,
        }
    }
}

/// Standing of a worker in thousandths: 1,000 is neutral, 2,000 counts as twice as fast, 500 as half as fast. Values
/// beyond a quarter and three times neutral count as those bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reputation(pub u32);

impl Reputation {
    /// A worker of which nothing is known, and every worker until audits exist.
    pub const NEUTRAL: Self = Self(1_000);

    /// Within the bounds, so never zero.
    #[must_use]
    pub fn clamped(self) -> u32 {
        self.0.clamp(250, 3_000)
    }
}

impl Default for Reputation {
    fn default() -> Self {
        Self::NEUTRAL
    }
}

/// One worker's offer of one model at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSnapshot {
    /// Who.
    pub operator: Operator,
    /// What it offers.
    pub offer: Offer,
    /// Load as of its last heartbeat.
    pub load: Load,
    /// Measured speed; zeros while unmeasured.
    pub speed: Speed,
    /// It asked for no new work.
    pub draining: bool,
    /// Its standing.
    pub reputation: Reputation,
    /// Tasks of this model that this router has running there now.
    pub in_flight: u32,
    /// How much of the prompt's beginning it probably holds in its cache, in LLM tokens ([`crate::PrefixIndex`]).
    pub prefix_tokens: u32,
    /// Failures of late, decaying as the router sees fit.
    pub recent_failures: u32,
}

impl WorkerSnapshot {
    /// Tasks that a new one would share the worker with or wait for. A heartbeat lags behind this router's own
    /// dispatches, and these know nothing of other routers', so the larger number counts.
    #[must_use]
    pub fn busy(&self) -> u32 {
        self.load.active.saturating_add(self.load.queued).max(self.in_flight)
    }

    /// Sequences run at once, at least 1.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.offer.slots.max(1)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The model.
    pub model: ModelId,
    /// Tokens of the prompt, estimated.
    pub prompt_tokens: u32,
    /// Most output tokens of the whole task.
    pub max_tokens: u32,
    /// Output tokens that another worker already delivered: read in together with the prompt, not produced again.
    pub resume_tokens: u32,
    /// The highest price that the client accepts.
    pub price_limit: Price,
    /// The least tier that it accepts.
    pub min_tier: Tier,
    /// Context that the worker must serve, in LLM tokens.
    pub context_needed: u32,
    /// Workers that must not be chosen, such as those that already failed this task.
    pub excluded: Vec<Operator>,
    /// Embeddings are asked for, not text.
    pub embeddings: bool,
}

impl Request {
    /// Tokens to be read in: the prompt and what was already delivered.
    #[must_use]
    pub fn input_tokens(&self) -> TokenCount {
        TokenCount::from(self.prompt_tokens) + TokenCount::from(self.resume_tokens)
    }

    /// Output tokens still to be produced, as far as can be expected: clients ask for more than they use.
    #[must_use]
    pub fn expected_output(&self, settings: &Settings) -> TokenCount {
        if self.embeddings {
            return 0;
        }
        TokenCount::from(self.max_tokens.saturating_sub(self.resume_tokens).min(settings.expected_output_tokens_max))
    }
}

/// Numbers that the policies use. The defaults are what the network recommends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Tasks that may wait at a worker, per slot and in thousandths, before it counts as full.
    pub queue_permille: u32,
    /// How much each sequence that runs beside slows one down, in thousandths.
    pub sharing_permille: u32,
    /// How much slower a worker counts that asks for the whole price limit, in thousandths.
    pub price_permille: u32,
    /// How much slower a worker counts per recent failure, in thousandths.
    pub failure_permille: u32,
    /// How far behind the best a worker may be and still be drawn, in thousandths.
    pub tolerance_permille: u32,
    /// From how many workers the two are drawn at most.
    pub pool: u8,
    /// Output tokens to be expected at most, whatever the client's limit.
    pub expected_output_tokens_max: u32,
    /// Share of the input that a worker must hold to be preferred for it, in thousandths.
    pub prefix_permille: u32,
    /// Least tokens that it must hold.
    pub prefix_tokens_min: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_permille: 1_000,
            sharing_permille: 250,
            price_permille: 500,
            failure_permille: 1_000,
            tolerance_permille: 500,
            pool: 8,
            expected_output_tokens_max: 512,
            prefix_permille: 500,
            prefix_tokens_min: 64,
        }
    }
}
