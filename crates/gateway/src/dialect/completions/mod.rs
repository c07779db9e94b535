//! OpenAI completions, the older API: `POST /v1/completions`.

mod answer;
mod request;

pub(crate) use answer::{Completion, CompletionAnswer};
pub(crate) use request::CompletionRequest;

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
pub(crate) struct Completions;

impl Dialect for Completions {
    const ROUTE: Route = Route::Completions;
    const SHAPE: Shape = Shape::OpenAi;
    type Request = CompletionRequest;
    type Answer = CompletionAnswer;

    fn plan(request: CompletionRequest, config: &GatewayConfig) -> Result<Plan<CompletionAnswer>, ApiError> {
        request.plan(config)
    }

    fn rename(error: ApiError) -> ApiError {
        error.rename_param("top_logprobs", "logprobs").rename_param("messages", "prompt")
    }
}

/// `POST /v1/completions`.
#[utoipa::path(post, path = "/v1/completions", tag = "OpenAI", request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events.", headers(
            ("x-cortensor-task" = String, description = "Id of each task, for GET /v1/tasks/{id}."),
            ("x-request-id" = String, description = "Name of the request in the server's logs.")),
            content((Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = "4XX", description = "Refused; the message says what to do.", body = OpenAiError),
        (status = "5XX", description = "Failed.", body = OpenAiError)))]
pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Response {
    generation::serve::<Completions>(app, request).await
}
