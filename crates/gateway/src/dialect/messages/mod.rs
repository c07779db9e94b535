//! Anthropic messages: `POST /v1/messages`.

mod answer;
mod request;

pub(crate) use answer::{Message, MessageAnswer};
pub(crate) use request::MessageRequest;

use super::{Dialect, Plan};
use crate::{
    app::App,
    config::GatewayConfig,
    error::{AnthropicError, ApiError, Shape},
    generation,
    metrics::Route,
};
use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use std::sync::Arc;

/// Versions of the API that this dialect answers as. Within the text, tools and streams that are offered here they
/// differ only in that the newer one has no sampling parameters; this network's models keep them.
const VERSIONS: [&str; 2] = ["2026-10-21", "2023-06-01"];

/// The dialect.
pub(crate) struct Messages;

impl Dialect for Messages {
    const ROUTE: Route = Route::Messages;
    const SHAPE: Shape = Shape::Anthropic;
    type Request = MessageRequest;
    type Answer = MessageAnswer;

    fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
        match headers.get("anthropic-version").map(|version| version.to_str().unwrap_or_default()) {
            None => Ok(()),
            Some(version) if VERSIONS.contains(&version) => Ok(()),
            Some(version) => {
                let problem = format!("{version:?} is not known; send {}", VERSIONS[0]);
                Err(ApiError::value("anthropic-version", problem))
            }
        }
    }

    fn plan(request: MessageRequest, config: &GatewayConfig) -> Result<Plan<MessageAnswer>, ApiError> {
        request.plan(config)
    }

    fn rename(error: ApiError) -> ApiError {
        error.rename_param("stop", "stop_sequences")
    }
}

/// `POST /v1/messages`.
#[utoipa::path(post, path = "/v1/messages", tag = "Anthropic", request_body = MessageRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events.", headers(
            ("x-cortensor-task" = String, description = "Id of each task, for GET /v1/tasks/{id}."),
            ("x-request-id" = String, description = "Name of the request in the server's logs.")),
            content((Message = "application/json"), (String = "text/event-stream"))),
        (status = "4XX", description = "Refused; the message says what to do.", body = AnthropicError),
        (status = "5XX", description = "Failed.", body = AnthropicError)))]
pub(crate) async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    generation::serve::<Messages>(app, request).await
}
