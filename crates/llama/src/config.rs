//! How a llama.cpp engine is set up, and why that can fail.

use crate::gguf::GgufError;
use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, path::PathBuf};

/// Type of the KV cache. Part of the manifest, because it changes the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    #[default]
    F16,
    /// 16-bit brain floating point.
    BF16,
    /// 8-bit blocks; needs flash attention.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 4-bit blocks; needs flash attention.
    #[serde(rename = "q4_0")]
    Q4_0,
}

impl KvType {
    /// As llama.cpp and the manifest write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    pub(crate) const fn raw(self) -> sys::ggml_type {
        match self {
            Self::F32 => sys::GGML_TYPE_F32,
            Self::F16 => sys::GGML_TYPE_F16,
            Self::BF16 => sys::GGML_TYPE_BF16,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q4_0 => sys::GGML_TYPE_Q4_0,
        }
    }
}

/// Whether flash attention kernels are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlashAttention {
    /// Where llama.cpp finds that the device can.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl FlashAttention {
    pub(crate) const fn raw(self) -> sys::llama_flash_attn_type {
        match self {
            Self::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Self::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Self::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
    }
}

/// How an engine is set up. [`LlamaConfig::new`] gives defaults that suit a small machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// The GGUF file; of a split model, its first part.
    pub path: PathBuf,
    /// Name that clients use; `None` takes the file's own.
    #[serde(default)]
    pub name: Option<String>,
    /// SPDX expression of the weights' licence; `None` takes the file's own.
    #[serde(default)]
    pub licence: Option<String>,
    /// Longest context of one sequence, in LLM tokens; 0 takes the model's own, but at most 4,096.
    #[serde(default)]
    pub context_per_sequence: u32,
    /// Sequences that run at once: 1 to 64.
    pub slots: NonZeroU32,
    /// Jobs that wait when all slots are taken.
    pub queue: u32,
    /// Threads for decoding; `None` takes the machine's cores, or one for a model of less than 32 MiB.
    #[serde(default)]
    pub threads: Option<NonZeroU32>,
    /// Threads for prompts; `None` takes `threads`.
    #[serde(default)]
    pub batch_threads: Option<NonZeroU32>,
    /// Most tokens of one step. A job is cancelled, and a new one begun, between steps.
    pub batch: NonZeroU32,
    /// Most tokens of one pass over the weights; more than `batch` counts as `batch`.
    pub micro_batch: NonZeroU32,
    /// Most prompt tokens taken into a step while other sequences are decoding, so that a long prompt does not stall
    /// them.
    pub prompt_chunk: NonZeroU32,
    /// Type of the KV cache.
    #[serde(default)]
    pub kv_type: KvType,
    /// Whether flash attention kernels are used.
    #[serde(default)]
    pub flash_attention: FlashAttention,
    /// Layers that are put on a GPU, where the build has one; `None` puts all there.
    #[serde(default)]
    pub gpu_layers: Option<u32>,
    /// Whether the weights are locked in memory.
    #[serde(default)]
    pub lock_memory: bool,
    /// Whether logits are bit for bit the same whatever the threads, the batch, the neighbours and the reuse of memory, so
    /// that another engine of the same class repeats them in one pass (the exact class of the proof of inference). Prompts
    /// take about twice as long. Only on the CPU; what cannot be exact is refused.
    #[serde(default)]
    pub exact: bool,
    /// Events that may wait for a slow reader before its sequence pauses: at least 2.
    pub event_buffer: u32,
    /// Whether a few tokens are computed while loading, which touches the weights and measures the speed.
    pub warm_up: bool,
}

impl LlamaConfig {
    /// Defaults for the model at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let number = |value| NonZeroU32::new(value).expect("the constants below are not 0");
        Self {
            path: path.into(),
            name: None,
            licence: None,
            context_per_sequence: 0,
            slots: number(4),
            queue: 16,
            threads: None,
            batch_threads: None,
            batch: number(512),
            micro_batch: number(512),
            prompt_chunk: number(128),
            kv_type: KvType::default(),
            flash_attention: FlashAttention::default(),
            gpu_layers: None,
            lock_memory: false,
            exact: false,
            event_buffer: 64,
            warm_up: true,
        }
    }
}

/// Why an engine could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be opened or hashed.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a GGUF file that this program understands.
    #[error("{path} is not a usable GGUF file")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GgufError,
    },
    /// The chat template in the file cannot be used.
    #[error("the chat template of {path} cannot be used")]
    Template {
        /// The file.
        path: PathBuf,
        /// Why.
        source: cortensor_engine::chat::TemplateError,
    },
    /// A setting is out of its range.
    #[error("{setting} {problem}")]
    Setting {
        /// Name of the field.
        setting: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// llama.cpp refused the model.
    #[error("llama.cpp could not load {path}; its log (target \"llama.cpp\") says why")]
    Model {
        /// The file.
        path: PathBuf,
    },
    /// The model, or this build of llama.cpp, cannot be exact.
    #[error("{path} cannot be served exactly: {problem}; serve it without `exact`")]
    Inexact {
        /// The file.
        path: PathBuf,
        /// What stands against it.
        problem: String,
    },
    /// llama.cpp could not allocate the context.
    #[error("llama.cpp could not make a context of {sequences} x {context} tokens; ask for less, or see its log")]
    Context {
        /// LLM tokens of one sequence.
        context: u32,
        /// Sequences.
        sequences: u32,
    },
    /// The first computation failed.
    #[error("the first computation failed: {0}")]
    WarmUp(String),
    /// The engine's thread could not be started.
    #[error("cannot start the engine's thread")]
    Thread(#[source] std::io::Error),
}
