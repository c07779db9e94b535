//! HTTP API: OpenAI-compatible, Anthropic-compatible and native, over any [`InferenceService`].

mod service;

pub use service::*;
