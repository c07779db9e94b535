//! What the scheduler is told: one snapshot per worker and offer, one request, and the settings of the policies.

use cortensor_protocol::{
    Capability, ModelId, Operator, Price, State, Tier, TokenCount,
    manifest::{Load, ModelOffer, Speed},
};
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// A worker of which audits have said nothing yet.
    pub const NEUTRAL: Self = Self(1_000);

    /// From the chain's millionths, of which half a million is neutral.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Self {
        Self(ppm / (cortensor_protocol::Standing::NEUTRAL_PPM / Self::NEUTRAL.0))
    }

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

/// Who says how fast a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeedSource {
    /// This router, from the answers that went through it.
    Router,
    /// Guards that the chain drew.
    Network,
    /// Only the worker itself.
    Claim,
    /// Nobody: it is assumed.
    Assumed,
}

impl fmt::Display for SpeedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Router => "that this router saw",
            Self::Network => "that the network measured",
            Self::Claim => "that the worker claims",
            Self::Assumed => "that is assumed",
        })
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
    /// The speed that it claims; zeros while it has measured none.
    pub claimed: Speed,
    /// The speed that this router saw; zeros while it saw too little.
    pub seen: Speed,
    /// What drawn guards measured, where they have.
    pub capability: Option<Capability>,
    /// It asked for no new work.
    pub draining: bool,
    /// What audits have shown about it.
    pub state: State,
    /// Its reputation.
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

    /// Sequences run at once, at least 1: as many as are offered, and no more than were measured to help.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let measured = self.capability.map_or(u32::MAX, |capability| capability.concurrency.max(1));
        self.offer.slots.max(1).min(measured)
    }

    /// Longest context: as offered, and no longer than what was measured to work.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.capability.map_or(u32::MAX, |capability| capability.context_tokens).min(self.offer.context)
    }

    /// Its speed, each number from the best source that has one; and who says so of the output's.
    #[must_use]
    pub fn speed(&self) -> (Speed, SpeedSource) {
        let measured = self.capability.map_or(Speed::default(), |capability| Speed {
            prefill_tokens_per_second: capability.prefill_tokens_per_second,
            decode_tokens_per_second: capability.decode_tokens_per_second,
        });
        let sources =
            [(self.seen, SpeedSource::Router), (measured, SpeedSource::Network), (self.claimed, SpeedSource::Claim)];
        let first = |of: fn(&Speed) -> u32| sources.iter().map(|(speed, _)| of(speed)).find(|speed| *speed != 0);
        let said = sources.iter().find(|(speed, _)| speed.decode_tokens_per_second != 0);
        let speed = Speed {
            prefill_tokens_per_second: first(|speed| speed.prefill_tokens_per_second).unwrap_or(0),
            decode_tokens_per_second: first(|speed| speed.decode_tokens_per_second).unwrap_or(0),
        };
        (speed, said.map_or(SpeedSource::Assumed, |(_, source)| *source))
    }

    /// Its reputation as it counts: less while it is watched.
    #[must_use]
    pub fn standing(&self, settings: &Settings) -> Reputation {
        let permille = if self.state == State::Watched { settings.watched_permille.min(1_000) } else { 1_000 };
        let weighed = u64::from(self.reputation.0) * u64::from(permille) / 1_000;
        Reputation(u32::try_from(weighed).unwrap_or(u32::MAX))
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
    /// The one worker that the client accepts, where it names one.
    pub only: Option<Operator>,
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
    /// What the reputation of a watched worker still counts for, in thousandths.
    pub watched_permille: u32,
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
            watched_permille: 500,
            tolerance_permille: 500,
            pool: 8,
            expected_output_tokens_max: 512,
            prefix_permille: 500,
            prefix_tokens_min: 64,
        }
    }
}
