//! What exactly a model is: weights, tokenizer, template, limits. Its hash is the model's id.

use crate::{id::ModelId, units::TokenCount};
use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How much of a backend's work can be checked (proof-of-inference design, section 7). A request may demand a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum Tier {
    /// No log-probabilities: usefulness scoring only.
    D = 0,
    /// Plain OpenAI-style log-probabilities.
    C = 1,
    /// Prompt log-probabilities and token ids.
    B = 2,
    /// In-process engine with logits and hidden states.
    A = 3,
}

impl Tier {
    /// From the number that contracts and receipts carry.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::D),
            1 => Some(Self::C),
            2 => Some(Self::B),
            3 => Some(Self::A),
            _ => None,
        }
    }
}

/// Not the name of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tier is A, B, C or D")]
pub struct InvalidTier;

impl FromStr for Tier {
    type Err = InvalidTier;

    fn from_str(text: &str) -> Result<Self, InvalidTier> {
        match text {
            "A" => Ok(Self::A),
            "B" => Ok(Self::B),
            "C" => Ok(Self::C),
            "D" => Ok(Self::D),
            _ => Err(InvalidTier),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        })
    }
}

/// How a model writes tool calls in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolFormat {
    /// The model was not trained to call tools; requests with tools are refused.
    #[default]
    None,
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>` (Hermes, Qwen and many others).
    Hermes,
    /// The backend separates tool calls from text itself and reports them in Hermes form.
    Native,
}

/// A model, described completely enough that two nodes with the same manifest must produce the same distribution.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// Name that clients use; unique per publisher only.
    pub name: String,
    /// BLAKE3 of the weights file; zero where a remote backend keeps it to itself (tiers C and D).
    pub weights_blake3: B256,
    /// SHA-256 of the weights file; zero likewise.
    pub weights_sha256: B256,
    /// Hash of the tokenizer's data: vocabulary, merges and special tokens.
    pub tokenizer: B256,
    /// Hash of the chat template's text.
    pub chat_template: B256,
    /// Quantisation, as llama.cpp names it: `Q8_0`.
    pub quantisation: String,
    /// Longest context in LLM tokens.
    pub context_length: u32,
    /// Type of the KV cache: `f16`.
    pub kv_cache: String,
    /// Size of the vocabulary.
    pub vocabulary: u32,
    /// Length of embeddings; 0 where the backend offers none.
    pub embedding_length: u32,
    /// How tool calls are written.
    pub tool_format: ToolFormat,
    /// SPDX expression of the weights' licence; empty where unknown.
    pub licence: String,
}

impl ModelManifest {
    /// The id: keccak-256 of the canonical encoding.
    #[must_use]
    pub fn id(&self) -> ModelId {
        let bytes = postcard::to_stdvec(self).expect("postcard encodes every value of this type into a growing buffer");
        ModelId(keccak256([b"cortensor manifest v1".as_slice(), &bytes].concat()))
    }
}

/// What a miner offers for one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOffer {
    /// The model.
    pub manifest: ModelManifest,
    /// Asked price.
    pub price: crate::Price,
    /// What can be checked of its work.
    pub tier: Tier,
    /// Name, version and class of the engine, in its own words: guards of the same class repeat its work most closely.
    pub build: String,
    /// Longest context that this node serves; at most the manifest's.
    pub context: u32,
    /// Sequences that it runs at once.
    pub slots: u32,
    /// Measured speeds, updated by heartbeats.
    pub speed: Speed,
}

/// Measured speed of a node on one model. Zero means not measured yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Speed {
    /// Prompt tokens a second, one sequence alone.
    pub prefill_tokens_per_second: u32,
    /// Output tokens a second, one sequence alone.
    pub decode_tokens_per_second: u32,
}

/// A node's load on one model at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Sequences running.
    pub active: u32,
    /// Sequences waiting for a slot.
    pub queued: u32,
    /// KV-cache tokens in use.
    pub kv_used: TokenCount,
    /// KV-cache tokens in all.
    pub kv_total: TokenCount,
}
