//! The llama.cpp backend of the [`Engine`](cortensor_engine::Engine) trait: any GGUF file, in process.
//!
//! One thread owns the context and runs many sequences in it with continuous batching; prompts enter in pieces between the
//! steps of others, and a sequence's memory is kept for later prompts with the same beginning. The token is drawn by the
//! job's own [`TokenSampler`](cortensor_protocol::TokenSampler) from the raw logits, after the mask of a grammar.
//!
//! Guarantees: every accepted job gets exactly one last event unless its reader is gone; cancelling takes effect within one
//! step; a slow reader pauses its own sequence only; a fault of one job stays with it, and a fault of the engine ends all
//! jobs with [`EngineError::Backend`](cortensor_engine::EngineError). Greedy answers are the same alone and beside others
//! as long as two tokens are not within the rounding noise of each other: llama.cpp chooses kernels by the size of the
//! batch, and their sums differ in the last bits. With `exact` in [`LlamaConfig`] they are the same bit for bit (`exact`).
//!
//! This is the one crate with `unsafe` code, all of it in `ffi`.

pub mod bench;
mod config;
mod engine;
mod exact;
mod ffi;
mod gauges;
mod gguf;
mod grammar;
mod manifest;
mod prompt;
mod vocabulary;
mod worker;

pub use config::{FlashAttention, KvType, LlamaConfig, LoadError};
pub use engine::LlamaEngine;
pub use gguf::{GgufError, Metadata};
pub use grammar::{GrammarError, allowed_next};
pub use manifest::{WeightHashes, hash_weights};
