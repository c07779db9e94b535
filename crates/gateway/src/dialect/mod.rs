//! The dialects of the API, each in its own directory: its request types, their conversion into
//! [`GenerationRequest`]s, and the shape of its answers. Conversions are pure.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod frames;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod parameters;
pub(crate) mod responses;
pub(crate) mod union;

use crate::{
    config::GatewayConfig,
    error::{ApiError, Shape},
    feed::Answer,
    metrics::Route,
};
use axum::http::HeaderMap;
use cortensor_protocol::{GenerationRequest, Routing};
use serde::de::DeserializeOwned;
use std::time::SystemTime;

/// A way of asking for generations.
pub(crate) trait Dialect: 'static {
    const ROUTE: Route;
    const SHAPE: Shape;
    type Request: DeserializeOwned + Send;
    type Answer: Answer;

    /// Checks headers that only this dialect has.
    fn check_headers(_headers: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    /// Puts a request into the network's terms.
    fn plan(request: Self::Request, config: &GatewayConfig) -> Result<Plan<Self::Answer>, ApiError>;

    /// Shows an error of the network's terms in the dialect's own names.
    fn rename(error: ApiError) -> ApiError {
        error
    }
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) struct Plan<A> {
    /// One generation for each choice; never empty. `max_tokens` is 0 where the client set no limit.
    pub(crate) requests: Vec<GenerationRequest>,
    /// Whether the answer is streamed.
    pub(crate) stream: bool,
    /// How it is shown.
    pub(crate) answer: A,
    /// Where it may go, as the body says.
    pub(crate) routing: Routing,
}

/// Unix time in seconds.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
