//! Routes of the network's own: session, nodes, tasks, receipts; and what operators need: health, readiness, metrics.

use crate::{
    app::{self, App},
    dialect::models::{ModelList, ModelView},
    error::{ApiError, OpenAiError, Shape},
    generation::json_response,
    metrics::Route,
    openapi,
    service::{Caller, ModelCard, NodeView, Readiness, ServiceError, SessionView, TaskView},
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use cortensor_protocol::TaskId;
use std::sync::Arc;

type AppState = State<Arc<App>>;

/// Lets a caller in and runs `work` for it.
pub(crate) async fn with_caller<F, R>(app: Arc<App>, route: Route, request: Request, work: F) -> Response
where
    F: FnOnce(Arc<App>, Caller) -> R + Send,
    R: Future<Output = Result<Response, ApiError>> + Send,
{
    let id = app.request_id(request.headers());
    let credentials = app::credentials(&request);
    drop(request);
    let answer = async {
        let (_permit, caller) = app.admit(route, credentials).await?;
        work(app.clone(), caller).await
    };
    app.run(route, Shape::OpenAi, id, answer).await
}

/// Models that can be used now.
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI", responses(
    (status = 200, description = "Models that can be used now.", body = ModelList), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn models(State(app): AppState, request: Request) -> Response {
    let list = |app: Arc<App>, _: Caller| async move { Ok(json_response(&ModelList::new(app.service.models().await))) };
    with_caller(app, Route::Models, request, list).await
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{name}", tag = "OpenAI", params(("name" = String, Path)), responses(
    (status = 200, description = "One model.", body = ModelView), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn model(State(app): AppState, Path(name): Path<String>, request: Request) -> Response {
    let find = |app: Arc<App>, _: Caller| async move {
        let card: Option<ModelCard> = app.service.models().await.into_iter().find(|card| card.name == name);
        let card = card.ok_or(ServiceError::UnknownModel { model: name })?;
        Ok(json_response(&ModelView::from(card)))
    };
    with_caller(app, Route::Models, request, find).await
}

/// The session that pays for this key.
#[utoipa::path(get, path = "/v1/session", tag = "Cortensor", responses(
    (status = 200, description = "The session that pays for this key.", body = SessionView), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn session(State(app): AppState, request: Request) -> Response {
    let show = |app: Arc<App>, caller: Caller| async move { Ok(json_response(&app.service.session(&caller).await?)) };
    with_caller(app, Route::Native, request, show).await
}

/// Nodes that this router knows.
#[utoipa::path(get, path = "/v1/nodes", tag = "Cortensor", responses(
    (status = 200, description = "Nodes that this router knows.", body = Vec<NodeView>), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn nodes(State(app): AppState, request: Request) -> Response {
    let show = |app: Arc<App>, _: Caller| async move { Ok(json_response(&app.service.nodes().await)) };
    with_caller(app, Route::Native, request, show).await
}

/// A task, and why each miner was chosen.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "Cortensor", params(("id" = String, Path)), responses(
    (status = 200, description = "A task, and why each miner was chosen.", body = TaskView), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn task(State(app): AppState, Path(id): Path<String>, request: Request) -> Response {
    let show = |app: Arc<App>, caller: Caller| async move {
        Ok(json_response(&app.service.task(&caller, task_id(&id)?).await?))
    };
    with_caller(app, Route::Native, request, show).await
}

/// The receipts of a task, each to be checked offline. With `open=true`, the evidence is asked of the miners.
#[utoipa::path(get, path = "/v1/tasks/{id}/receipts", tag = "Cortensor", params(("id" = String, Path), ("open" = Option<bool>, Query, description = "Ask the miners for the evidence that they signed, which an audit needs.")), responses(
    (status = 200, description = "The receipts of a task, each to be checked offline.", body = Vec<serde_json::Value>), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn receipts(State(app): AppState, Path(id): Path<String>, request: Request) -> Response {
    let open = match request.uri().query() {
        None | Some("open=false") => Ok(false),
        Some("open=true") => Ok(true),
        Some(_) => Err(ApiError::value("open", "is true or false; there is no other parameter")),
    };
    let show = |app: Arc<App>, caller: Caller| async move {
        Ok(json_response(&app.service.receipts(&caller, task_id(&id)?, open?).await?))
    };
    with_caller(app, Route::Native, request, show).await
}

fn task_id(text: &str) -> Result<TaskId, ApiError> {
    text.parse().map_err(|_| ApiError::value("id", "a task id is 0x and 64 hexadecimal digits"))
}

/// The server answers.
#[utoipa::path(get, path = "/healthz", tag = "Operations", security(()), responses((status = 200, description = "The server answers.", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz(State(app): AppState) -> Response {
    app.metrics.answered(Route::Operations, 200);
    text_response("ok\n".to_owned())
}

/// Whether the service can take work; 503 if not.
#[utoipa::path(get, path = "/readyz", tag = "Operations", security(()), responses((status = 200, description = "Whether the service can take work; 503 if not.", body = Readiness)))]
pub(crate) async fn readyz(State(app): AppState) -> Response {
    let readiness = app.service.readiness().await;
    let mut response = json_response(&readiness);
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    app.metrics.answered(Route::Operations, response.status().as_u16());
    response
}

/// Metrics in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operations", security(()), responses((status = 200, description = "Metrics in the text form of Prometheus.", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): AppState) -> Response {
    let mut text = String::with_capacity(8192);
    app.metrics.write(&mut text);
    app.service.metrics(&mut text);
    app.metrics.answered(Route::Operations, 200);
    let mut response = text_response(text);
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}

/// This API as an OpenAPI document.
pub(crate) async fn openapi(State(app): AppState) -> Response {
    app.metrics.answered(Route::Operations, 200);
    let mut response = text_response(openapi::openapi_json());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text_response(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whatever is no route.
pub(crate) async fn not_found(State(app): AppState, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let message = format!("there is no {} {path}; GET /openapi.json lists what there is", request.method());
    refuse(app, request, ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message)).await
}

/// A route that exists, but not for this method.
pub(crate) async fn wrong_method(State(app): AppState, request: Request) -> Response {
    let message = format!("{} does not answer {}; see GET /openapi.json", request.uri().path(), request.method());
    refuse(app, request, ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)).await
}

async fn refuse(app: Arc<App>, request: Request, error: ApiError) -> Response {
    let anthropic = request.uri().path().starts_with("/v1/messages");
    let shape = if anthropic { Shape::Anthropic } else { Shape::OpenAi };
    let id = app.request_id(request.headers());
    drop(request);
    app.run(Route::Other, shape, id, async { Err(error) }).await
}
