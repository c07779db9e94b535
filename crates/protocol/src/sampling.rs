//! Sampling parameters in fixed point, log-probabilities, and the seam at which a sampler is put into an engine.
//!
//! The sampler is part of the protocol, not of an engine: a guard must be able to repeat its choice. Engines hand it raw
//! logits (after any grammar mask) and deliver the token that it returns.

use crate::id::TokenId;
use alloy_primitives::{B256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};
use std::any::Any;

/// A non-negative decimal in millionths: `0.7` is `Micro(700_000)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micro(pub u32);

impl Micro {
    /// One.
    pub const ONE: Self = Self(1_000_000);

    /// The nearest millionth, or `None` when `value` is negative, not finite or above 4,294.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * 1e6).round();
        (scaled >= 0.0 && scaled <= f64::from(u32::MAX)).then_some(Self(scaled as u32))
    }

    /// As a float, for arithmetic that decides nothing but this node's own choice.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is wanted")]
    pub fn as_f32(self) -> f32 {
        (f64::from(self.0) / 1e6) as f32
    }
}

/// A signed decimal in millionths, for penalties and biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedMicro(pub i32);

impl SignedMicro {
    /// The nearest millionth, or `None` when `value` is not finite or beyond ±2,147.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * 1e6).round();
        (scaled.abs() <= f64::from(i32::MAX)).then_some(Self(scaled as i32))
    }

    /// As a float.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is wanted")]
    pub fn as_f32(self) -> f32 {
        (f64::from(self.0) / 1e6) as f32
    }
}

/// How a token is drawn. Order of application: penalties and grammar, temperature, top-k, top-p, min-p, argmax with
/// seeded Gumbel noise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: Micro,
    /// 0 means no limit.
    pub top_k: u32,
    /// 1 means no limit.
    pub top_p: Micro,
    /// 0 means no limit.
    pub min_p: Micro,
    /// Subtracted from the logit once for a token that already occurs in the output (OpenAI's definition).
    pub presence_penalty: SignedMicro,
    /// Subtracted from the logit per earlier occurrence in the output (OpenAI's definition).
    pub frequency_penalty: SignedMicro,
    /// Logits of seen tokens are divided (positive) or multiplied (negative) by this; 1 means off.
    pub repeat_penalty: Micro,
    /// Added to the logits of these tokens; at most 1,024 entries.
    pub logit_bias: Vec<(TokenId, SignedMicro)>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: Micro::ONE,
            top_k: 0,
            top_p: Micro::ONE,
            min_p: Micro(0),
            presence_penalty: SignedMicro(0),
            frequency_penalty: SignedMicro(0),
            repeat_penalty: Micro::ONE,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// What a task header binds: keccak-256 of the Solidity encoding (`abi.encode`) of the parameters in the order of the
    /// fields, the biases as one hash (zero for none, else over id u32 and value i32 of each, big endian).
    #[must_use]
    pub fn hash(&self) -> B256 {
        let words = (
            self.temperature.0,
            self.top_k,
            self.top_p.0,
            self.min_p.0,
            self.presence_penalty.0,
            self.frequency_penalty.0,
            self.repeat_penalty.0,
            self.bias_hash(),
        );
        keccak256(words.abi_encode())
    }

    /// The biases in [`Self::hash`].
    #[must_use]
    pub fn bias_hash(&self) -> B256 {
        let entry = |(token, value): &(TokenId, SignedMicro)| [token.to_be_bytes(), value.0.to_be_bytes()].concat();
        let bytes: Vec<u8> = self.logit_bias.iter().flat_map(entry).collect();
        if bytes.is_empty() { B256::ZERO } else { keccak256(bytes) }
    }
}

/// A log-probability in units of 1/1024 nat, never positive. The i16 range reaches −32 nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogProb(pub i16);

impl LogProb {
    /// The nearest 1/1024 nat, clamped to the range.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "clamped first; NaN becomes 0 nats by the cast's definition")]
    pub fn from_nats(nats: f32) -> Self {
        Self((nats * 1024.0).round().clamp(f32::from(i16::MIN), 0.0) as i16)
    }

    /// In nats.
    #[must_use]
    pub fn nats(self) -> f32 {
        f32::from(self.0) / 1024.0
    }
}

/// What a sampler chose, and what it passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The chosen token.
    pub token: TokenId,
    /// Its log-probability under the model's distribution (temperature 1, before truncation).
    pub logprob: LogProb,
    /// The most probable tokens, best first, as many as were asked for.
    pub top: Vec<(TokenId, LogProb)>,
}

/// What a model made of one place of the output.
#[derive(Debug)]
pub struct Step<'a> {
    /// Index in the task's output: 0 is the first output token of the task, also after a hand-over.
    pub index: u32,
    /// One for each token of the vocabulary; masked tokens are −∞. May be overwritten.
    pub logits: &'a mut [f32],
    /// The final normalised hidden state; `None` where the backend does not show it, or nobody [wants
    /// it](TokenSampler::wants_hidden).
    pub hidden: Option<&'a [f32]>,
    /// What the task has produced so far; its length equals `index`.
    pub output: &'a [TokenId],
}

/// Draws tokens. One sampler serves one generation; a step depends only on the seed, its index, the logits and the
/// output so far, so that another node can go on from any step. Whoever is handed one may ask which it is (`Any`).
pub trait TokenSampler: Any + Send {
    /// Chooses the token of a step.
    fn sample(&mut self, step: Step<'_>) -> Sampled;

    /// Whether it makes use of hidden states, which cost a backend a copy for each token.
    fn wants_hidden(&self) -> bool {
        false
    }
}

/// The seed of a task's sampling noise.
pub type Seed = B256;
