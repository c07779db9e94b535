//! The course of a generation, the same for every dialect: let in, read, plan, complete, begin, answer.

use crate::{
    app::{self, App, Permit},
    dialect::{Dialect, Plan, parameters},
    error::ApiError,
    feed::{Answer, EventStream, Feed},
    json,
    metrics::Route,
    service::{Caller, ServiceGeneration},
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use cortensor_protocol::{GenerationRequest, Prompt, Routing, TaskId, ToolFormat};
use futures::future::try_join_all;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Names each task of the answer.
pub(crate) const TASK: HeaderName = HeaderName::from_static("x-cortensor-task");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Tokens that a chat template may add, and again for each message.
const TEMPLATE_TOKENS: usize = 16;

/// Serves one request in dialect `D`.
pub(crate) async fn serve<D: Dialect>(app: Arc<App>, request: Request) -> Response {
    let id = app.request_id(request.headers());
    app.run(D::ROUTE, D::SHAPE, id, async { answer::<D>(&app, request).await.map_err(D::rename) }).await
}

async fn answer<D: Dialect>(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let headers = app::routing(request.headers());
    let (permit, caller, input) = take::<D::Request>(app, D::ROUTE, D::check_headers, request).await?;
    let Plan { mut requests, stream, mut answer, routing } = D::plan(input, &app.config)?;
    let routing = headers?.or(routing);
    complete(app, &mut requests).await?;
    let parses_tools = parameters::parses_tools(&requests[0].prompt);
    let generations = begin(app, &caller, requests, routing, stream).await?;
    let mut feed = Feed::new(generations, parses_tools, answer.wants_tokens(), permit);
    let tasks: Vec<TaskId> = feed.tasks().collect();
    answer.bind(tasks[0]);
    let result = if stream {
        let first = feed.first_event(app.config.first_event_wait).await;
        first.map(|()| event_stream(feed, answer))
    } else {
        feed.collect().await.map(|outputs| json_response(&answer.whole(outputs)))
    };
    // A generation that failed has tasks too, which tell what was tried.
    let mut response = result.unwrap_or_else(|error| D::rename(error).into_response(D::SHAPE));
    for task in tasks {
        response.headers_mut().append(TASK, task_header(task));
    }
    Ok(response)
}

/// Lets a request in, checks its headers and reads its body.
pub(crate) async fn take<T: DeserializeOwned>(
    app: &Arc<App>,
    route: Route,
    check_headers: fn(&HeaderMap) -> Result<(), ApiError>,
    request: Request,
) -> Result<(Permit, Caller, T), ApiError> {
    let (permit, caller) = app.admit(route, app::credentials(&request)).await?;
    check_headers(request.headers())?;
    let body = app.read_body(request).await?;
    let input = json::parse(&body, app.config.json_depth_max)?;
    Ok((permit, caller, input))
}

pub(crate) fn task_header(task: TaskId) -> HeaderValue {
    let text = Bytes::from(alloy_primitives::hex::encode_prefixed(task.0));
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits are valid in a header")
}

/// Fills in what depends on the model, and checks the bounds that every node relies on.
async fn complete(app: &App, requests: &mut [GenerationRequest]) -> Result<(), ApiError> {
    for request in requests {
        let unlimited = request.max_tokens == 0;
        if unlimited || parameters::has_tools(&request.prompt) {
            let facts = app.facts(&request.model).await;
            if facts.is_some_and(|facts| facts.tool_format == ToolFormat::None) {
                refuse_tools(request)?;
            }
            if unlimited {
                let most = app.config.default_max_tokens.max(1);
                request.max_tokens = facts.map_or(most, |facts| room(facts.context, &request.prompt).clamp(1, most));
            }
        }
        request.check()?;
    }
    Ok(())
}

fn refuse_tools(request: &GenerationRequest) -> Result<(), ApiError> {
    if !parameters::has_tools(&request.prompt) {
        return Ok(());
    }
    let advice = format!(
        "the model {:?} does not call tools; GET /v1/models shows which do (tool_format other than none)",
        request.model
    );
    Err(ApiError::unsupported("tools", advice))
}

/// Output tokens that surely fit beside the prompt. A text never has more tokens than bytes; where even an eighth of
/// the context cannot be promised that way, that eighth is tried, and the miner decides.
fn room(context: u32, prompt: &Prompt) -> u32 {
    let size = match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(tokens) => tokens.len(),
        Prompt::Chat { messages, tools, .. } => {
            let message = |message: &cortensor_protocol::ChatMessage| {
                let calls =
                    message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len() + TEMPLATE_TOKENS);
                message.content.len() + calls.sum::<usize>() + TEMPLATE_TOKENS
            };
            let tool = |tool: &cortensor_protocol::Tool| {
                tool.name.len() + tool.description.len() + tool.parameters.len() + TEMPLATE_TOKENS
            };
            messages.iter().map(message).sum::<usize>() + tools.iter().map(tool).sum::<usize>()
        }
    };
    let size = u32::try_from(size + TEMPLATE_TOKENS).unwrap_or(u32::MAX);
    context.saturating_sub(size).max(context / 8)
}

/// Begins all generations of a request; if one cannot begin, the others are dropped, which cancels them.
async fn begin(
    app: &App,
    caller: &Caller,
    mut requests: Vec<GenerationRequest>,
    routing: Routing,
    stream: bool,
) -> Result<Vec<ServiceGeneration>, ApiError> {
    let has_tools = parameters::has_tools(&requests[0].prompt);
    let first = requests[0].model.clone();
    let one = |request| match stream {
        true => app.service.generate(caller, request, routing),
        false => app.service.generate_whole(caller, request, routing),
    };
    let generations = if requests.len() == 1 {
        vec![one(requests.remove(0)).await?]
    } else {
        try_join_all(requests.into_iter().map(one)).await?
    };
    if has_tools && generations.iter().any(|generation| generation.tool_format == ToolFormat::None) {
        return Err(ApiError::unsupported("tools", format!("the model {first:?} does not call tools")));
    }
    Ok(generations)
}

/// A JSON answer.
pub(crate) fn json_response<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            ApiError::internal("the answer could not be written as JSON").into_response(crate::error::Shape::OpenAi)
        }
    }
}

pub(crate) fn event_stream<A: Answer>(feed: Feed, answer: A) -> Response {
    let mut response = Response::new(Body::new(EventStream::new(feed, answer)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limit_leaves_room_for_the_prompt() {
        assert_eq!(room(1000, &Prompt::Tokens(vec![1; 100])), 884);
        assert_eq!(room(1000, &Prompt::Text("x".repeat(5000))), 125, "an eighth is tried where nothing is certain");
        assert_eq!(room(0, &Prompt::Text("x".into())), 0);
    }
}
