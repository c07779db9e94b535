//! HTTP API: OpenAI-compatible, Anthropic-compatible and native.
