//! Anthropic messages: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

mod answer;
mod request;

pub(crate) use answer::{Message, MessageAnswer};
pub(crate) use request::{CountRequest, MessageRequest};

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
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

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

/// How many tokens a prompt has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenCount {
    /// Tokens of the prompt, the model's own template included.
    input_tokens: u32,
}

/// `POST /v1/messages/count_tokens`.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "Anthropic", request_body = CountRequest,
    responses((status = 200, body = TokenCount),
        (status = "4XX", description = "Refused; the message says what to do.", body = AnthropicError),
        (status = "5XX", description = "Failed.", body = AnthropicError)))]
pub(crate) async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response {
    let id = app.request_id(request.headers());
    app.run(Route::CountTokens, Shape::Anthropic, id, count(&app, request)).await
}

async fn count(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let taken = generation::take::<CountRequest>(app, Route::CountTokens, Messages::check_headers, request).await?;
    let (_permit, caller, input) = taken;
    let request = input.plan(&app.config)?;
    request.check()?;
    let input_tokens = app.service.count_tokens(&caller, request).await?;
    Ok(generation::json_response(&TokenCount { input_tokens }))
}
