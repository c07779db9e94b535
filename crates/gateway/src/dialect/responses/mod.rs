//! OpenAI responses: `POST /v1/responses`. Nothing is stored, so answers cannot be fetched or continued by id.

mod answer;
mod request;

pub(crate) use answer::{ResponseObject, ResponsesAnswer};
pub(crate) use request::ResponsesRequest;

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
pub(crate) struct Responses;

impl Dialect for Responses {
    const ROUTE: Route = Route::Responses;
    const SHAPE: Shape = Shape::OpenAi;
    type Request = ResponsesRequest;
    type Answer = ResponsesAnswer;

    fn plan(request: ResponsesRequest, config: &GatewayConfig) -> Result<Plan<ResponsesAnswer>, ApiError> {
        request.plan(config)
    }

    fn rename(error: ApiError) -> ApiError {
        error.rename_param("max_tokens", "max_output_tokens").rename_param("messages", "input")
    }
}

/// `POST /v1/responses`.
#[utoipa::path(post, path = "/v1/responses", tag = "OpenAI", request_body = ResponsesRequest,
    responses(
        (status = 200, description = "The answer, whole or as server-sent events.", headers(
            ("x-cortensor-task" = String, description = "Id of each task, for GET /v1/tasks/{id}."),
            ("x-request-id" = String, description = "Name of the request in the server's logs.")),
            content((ResponseObject = "application/json"), (String = "text/event-stream"))),
        (status = "4XX", description = "Refused; the message says what to do.", body = OpenAiError),
        (status = "5XX", description = "Failed.", body = OpenAiError)))]
pub(crate) async fn responses(State(app): State<Arc<App>>, request: Request) -> Response {
    generation::serve::<Responses>(app, request).await
}
