//! OpenAI chat completions: `POST /v1/chat/completions`.

mod answer;
mod request;

pub(crate) use answer::{ChatAnswer, ChatChunk, ChatCompletion, TokenLogProb, UsageView, token_logprobs, usage_view};
pub(crate) use request::{ChatRequest, FORCING, StreamOptions, named_choice, refuse_strict, repeated, top_logprobs};

use super::{Dialect, Plan};
use crate::{
    app::App,
    config::GatewayConfig,
    error::{ApiError, OpenAiError, Shape},
    generation,
    metrics::Route,
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use std::sync::Arc;

/// The dialect.
pub(crate) struct Chat;

impl Dialect for Chat {
    const ROUTE: Route = Route::ChatCompletions;
    const SHAPE: Shape = Shape::OpenAi;
    type Request = ChatRequest;
    type Answer = ChatAnswer;

    fn plan(request: ChatRequest, config: &GatewayConfig) -> Result<Plan<ChatAnswer>, ApiError> {
        request.plan(config)
    }
}

/// `POST /v1/chat/completions`.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "OpenAI", request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events.", headers(
            ("x-cortensor-task" = String, description = "Id of each task, for GET /v1/tasks/{id}."),
            ("x-request-id" = String, description = "Name of the request in the server's logs.")),
            content((ChatCompletion = "application/json"), (ChatChunk = "text/event-stream"))),
        (status = "4XX", description = "Refused; the message says what to do.", body = OpenAiError),
        (status = "5XX", description = "Failed.", body = OpenAiError)))]
pub(crate) async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Response {
    generation::serve::<Chat>(app, request).await
}
