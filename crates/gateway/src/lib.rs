//! HTTP API: OpenAI-compatible, Anthropic-compatible and native, over any [`InferenceService`].
//!
//! [`serve`] runs the whole server; [`router`] gives the routes alone. Guarantees: every parameter is understood or
//! refused by name; every error has the shape of the dialect that was called, a code and what to do; every queue, body,
//! rate and time has a bound ([`GatewayConfig`]); a client that leaves drops its generation at once. What the gateway
//! does not do: choose miners, take money, terminate TLS.

mod admission;
mod app;
mod config;
mod dialect;
mod error;
mod feed;
mod generation;
mod json;
mod metrics;
mod native;
mod openapi;
mod reading;
mod routes;
mod server;
mod service;
mod sessions;
mod tool_calls;

pub use config::{Cors, GatewayConfig, InvalidConfig};
pub use openapi::openapi_json;
pub use reading::{Api, Asked, BodyRefused, read_body, tool_calls};
pub use routes::router;
pub use server::{ServeError, serve};
pub use service::*;
