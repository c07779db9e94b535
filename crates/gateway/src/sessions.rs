//! Routes for clients that sign for their own sessions: signed tasks, proposals, vouchers, the end of a session.

use crate::{
    app::{self, App},
    dialect::frames::put_json,
    error::{ApiError, OpenAiError, Shape},
    feed::{Answer, End, Feed, Output},
    generation::{event_stream, json_response, task_header},
    json,
    metrics::Route,
    native::with_caller,
    service::{Caller, ServiceError, SessionService},
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::BytesMut;
use cortensor_protocol::{
    GenerationRequest, Routing, SignedTask, TaskId, TaskUpdate, TokenEvent, ToolCall, ToolFormat, Usage,
    client::{EmbeddingAnswer, SignedEmbedding, TokenCountAnswer, VoucherSignature},
};
use serde::de::DeserializeOwned;
use std::sync::Arc;

type AppState = State<Arc<App>>;

fn service(app: &App) -> Result<&dyn SessionService, ApiError> {
    let message = "this endpoint keeps no sessions: ask a router";
    app.service.sessions().ok_or_else(|| ServiceError::NotFound(message.into()).into())
}

/// Who asks, and where the request may go.
struct Routed {
    caller: Caller,
    routing: Routing,
}

/// Lets a caller in, reads what it sent, and runs `work`.
async fn with_body<T, F, R>(app: Arc<App>, request: Request, work: F) -> Response
where
    T: DeserializeOwned,
    F: FnOnce(Arc<App>, app::Permit, Routed, T) -> R + Send,
    R: Future<Output = Result<Response, ApiError>> + Send,
{
    let id = app.request_id(request.headers());
    let answer = async {
        let (permit, caller) = app.admit(Route::Native, app::credentials(&request)).await?;
        let routing = app::routing(request.headers())?;
        let body = app.read_body(request).await?;
        let input: T = json::parse(&body, app.config.json_depth_max)?;
        drop(body);
        work(app.clone(), permit, Routed { caller, routing }, input).await
    };
    app.run(Route::Native, Shape::OpenAi, id, answer).await
}

/// What a client needs to know before it opens a session.
#[utoipa::path(get, path = "/v1/router", tag = "Sessions", security(()), responses(
    (status = 200, description = "Account, chain, contracts and credit limit.", body = Object), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn facts(State(app): AppState, request: Request) -> Response {
    let id = app.request_id(request.headers());
    drop(request);
    let answer = async { Ok(json_response(&service(&app)?.facts())) };
    app.run(Route::Native, Shape::OpenAi, id, answer).await
}

/// A generation under a header that the session's key signed, streamed as server-sent events.
#[utoipa::path(post, path = "/v1/tasks", tag = "Sessions", request_body = Object, responses(
    (status = 200, description = "Events: started, tokens, finished or failed.", body = String, content_type = "text/event-stream"),
    (status = "4XX", body = OpenAiError)))]
pub(crate) async fn generate(State(app): AppState, request: Request) -> Response {
    let begin = |app: Arc<App>, permit: app::Permit, from: Routed, task: SignedTask| async move {
        let generation = service(&app)?.generate(&from.caller, task, from.routing).await?;
        let (task, tool_format) = (generation.task, generation.tool_format);
        let mut feed = Feed::new(vec![generation], false, true, permit);
        let result = feed.first_event(app.config.first_event_wait).await;
        let mut response = match result {
            Ok(()) => event_stream(feed, Updates { tool_format }),
            Err(error) => error.into_response(Shape::OpenAi),
        };
        response.headers_mut().append(crate::generation::TASK, task_header(task));
        Ok(response)
    };
    with_body(app, request, begin).await
}

/// Embeddings under a header that the session's key signed.
#[utoipa::path(post, path = "/v1/tasks/embeddings", tag = "Sessions", request_body = Object, responses(
    (status = 200, description = "One vector per text.", body = Object), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn embed(State(app): AppState, request: Request) -> Response {
    let embed = |app: Arc<App>, _permit, from: Routed, task: SignedEmbedding| async move {
        let embeddings = service(&app)?.embed(&from.caller, task, from.routing).await?;
        let answer = EmbeddingAnswer { vectors: embeddings.vectors, input_tokens: embeddings.input_tokens };
        let mut response = json_response(&answer);
        response.headers_mut().append(crate::generation::TASK, task_header(embeddings.task));
        Ok(response)
    };
    with_body(app, request, embed).await
}

/// How many tokens the prompt of a request has. Nothing is signed and nothing is paid.
#[utoipa::path(post, path = "/v1/tasks/count", tag = "Sessions", request_body = Object, responses(
    (status = 200, description = "Tokens of the prompt, template included.", body = Object), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn count(State(app): AppState, request: Request) -> Response {
    let count = |app: Arc<App>, _permit, from: Routed, request: GenerationRequest| async move {
        request.check()?;
        let input_tokens = app.service.count_tokens(&from.caller, request).await?;
        Ok(json_response(&TokenCountAnswer { input_tokens }))
    };
    with_body(app, request, count).await
}

/// What the session's client is asked to sign.
#[utoipa::path(get, path = "/v1/session/vouchers", tag = "Sessions", responses(
    (status = 200, description = "Proposals; for each miner the oldest first.", body = Vec<Object>), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn proposals(State(app): AppState, request: Request) -> Response {
    let show =
        |app: Arc<App>, caller: Caller| async move { Ok(json_response(&service(&app)?.proposals(&caller).await?)) };
    with_caller(app, Route::Native, request, show).await
}

/// A signature on a proposed voucher.
#[utoipa::path(post, path = "/v1/session/vouchers", tag = "Sessions", request_body = Object, responses(
    (status = 200, description = "The voucher with the router's countersignature.", body = Object), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn pay(State(app): AppState, request: Request) -> Response {
    let pay = |app: Arc<App>, _permit, from: Routed, signed: VoucherSignature| async move {
        Ok(json_response(&service(&app)?.pay(&from.caller, signed).await?))
    };
    with_body(app, request, pay).await
}

/// The end of a session: what its owner needs to close it on chain at once.
#[utoipa::path(post, path = "/v1/session/close", tag = "Sessions", responses(
    (status = 200, description = "The final total with the router's signature.", body = Object), (status = "4XX", body = OpenAiError)))]
pub(crate) async fn close(State(app): AppState, request: Request) -> Response {
    let show = |app: Arc<App>, caller: Caller| async move { Ok(json_response(&service(&app)?.close(&caller).await?)) };
    with_caller(app, Route::Native, request, show).await
}

/// Shows a generation as [`TaskUpdate`]s.
struct Updates {
    tool_format: ToolFormat,
}

fn put(frames: &mut BytesMut, update: &TaskUpdate) {
    frames.extend_from_slice(b"data: ");
    put_json(frames, update);
    frames.extend_from_slice(b"\n\n");
}

impl Answer for Updates {
    /// Signed tasks are always streamed.
    type Whole = ();

    fn wants_tokens(&self) -> bool {
        true
    }

    fn bind(&mut self, _task: TaskId) {}

    fn whole(self, _outputs: Vec<Output>) {}

    fn begin(&mut self, frames: &mut BytesMut, usage: Usage) {
        put(frames, &TaskUpdate::Started { tool_format: self.tool_format, usage });
    }

    fn text(&mut self, frames: &mut BytesMut, _choice: usize, text: &str, tokens: &[TokenEvent]) {
        put(frames, &TaskUpdate::Tokens { text: text.into(), tokens: tokens.to_vec() });
    }

    fn call(&mut self, _frames: &mut BytesMut, _choice: usize, _call: &ToolCall) {}

    fn finish(&mut self, frames: &mut BytesMut, _choice: usize, end: End, tokens: &[TokenEvent]) {
        if !tokens.is_empty() {
            put(frames, &TaskUpdate::Tokens { text: String::new(), tokens: tokens.to_vec() });
        }
        put(frames, &TaskUpdate::Finished { reason: end.reason, stop: end.stop, usage: end.usage });
    }

    fn end(&mut self, _frames: &mut BytesMut, _usage: Usage) {}

    fn fail(&mut self, frames: &mut BytesMut, error: &ApiError) {
        let failed = TaskUpdate::Failed {
            status: error.status.as_u16(),
            code: error.code.into(),
            message: error.message.clone(),
        };
        put(frames, &failed);
    }
}
