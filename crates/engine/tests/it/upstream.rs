//! An OpenAI-compatible server on a real socket that answers, and misbehaves, as a test tells it to.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// A piece of a streamed body.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// Nothing more, with the connection open.
    Hang,
    /// The connection breaks in the middle of the body.
    Cut,
}

/// How a generation is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Stream(Vec<Piece>),
    Json(StatusCode, String),
    /// Not even a status.
    Silence,
}

impl Answer {
    /// These chunks as events, then `[DONE]`.
    pub(crate) fn chunks(chunks: &[Value]) -> Self {
        let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).chain(["data: [DONE]\n\n".to_owned()]);
        Self::Stream(events.map(|event| Piece::Bytes(event.into())).collect())
    }

    /// These texts, one chunk each, an end and a count.
    pub(crate) fn texts(texts: &[&str]) -> Self {
        let mut chunks: Vec<Value> = texts.iter().map(|text| delta(json!({ "content": text }))).collect();
        chunks.push(json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
        chunks.push(json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": texts.len() } }));
        Self::chunks(&chunks)
    }

    /// Raw pieces of a body.
    pub(crate) fn raw(parts: &[&str], last: Option<Piece>) -> Self {
        let parts = parts.iter().map(|part| Piece::Bytes(Bytes::copy_from_slice(part.as_bytes())));
        Self::Stream(parts.chain(last).collect())
    }
}

pub(crate) fn delta(delta: Value) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

/// What the server is.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    pub(crate) owner: &'static str,
    pub(crate) logprobs: bool,
    pub(crate) prompt_logprobs: bool,
    pub(crate) embeddings: bool,
    pub(crate) key: Option<&'static str>,
}

impl Nature {
    pub(crate) fn of(owner: &'static str) -> Self {
        Self { owner, logprobs: true, prompt_logprobs: owner == "vllm", embeddings: true, key: None }
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct Shared {
    nature: Option<Nature>,
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

/// The running server.
pub(crate) struct Upstream {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
    /// Streams that are being sent just now.
    open: Arc<AtomicU32>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct App {
    shared: Arc<Mutex<Shared>>,
    open: Arc<AtomicU32>,
}

impl Upstream {
    pub(crate) async fn start(nature: Nature) -> Self {
        let shared = Arc::new(Mutex::new(Shared { nature: Some(nature), ..Shared::default() }));
        let open = Arc::new(AtomicU32::new(0));
        let app =
            Router::new().fallback(serve).with_state(App { shared: Arc::clone(&shared), open: Arc::clone(&open) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self { url, shared, open, stop }
    }

    /// Answers the next generation like this. Without instructions a generation gets one word.
    pub(crate) fn next(&self, answer: Answer) {
        self.shared.lock().answers.push_back(answer);
    }

    /// The bodies of the streamed generations that were asked for.
    pub(crate) fn generations(&self) -> Vec<Value> {
        let seen = self.shared.lock().seen.clone();
        seen.into_iter().filter(|seen| seen.body["stream"] == true).map(|seen| seen.body).collect()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    pub(crate) fn open_streams(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

async fn serve(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let authorization = header(request.headers(), "authorization");
    let bytes = axum::body::to_bytes(request.into_body(), 64 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let nature = app.shared.lock().nature.clone().unwrap();
    app.shared.lock().seen.push(Seen { path: path.clone(), body: body.clone(), authorization: authorization.clone() });
    if nature.key.is_some_and(|key| authorization != Some(format!("Bearer {key}"))) {
        let error = json!({ "error": { "message": "Incorrect API key provided", "code": "invalid_api_key" } });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    match (path.as_str(), body["stream"] == true) {
        ("/v1/chat/completions" | "/v1/completions", true) => {
            let answer = app.shared.lock().answers.pop_front();
            answered(answer.unwrap_or_else(|| Answer::texts(&["word"])), &app.open).await
        }
        _ => known(&nature, &path, &body),
    }
}

/// Everything but streamed generations.
fn known(nature: &Nature, path: &str, body: &Value) -> Response {
    let ok = |value: Value| Json(value).into_response();
    let refuse =
        |problem: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": { "message": problem } }))).into_response();
    match (path, nature.owner) {
        ("/v1/models", owner) => ok(json!({ "object": "list", "data": [
            { "id": "other", "owned_by": owner },
            { "id": "m", "owned_by": owner, "max_model_len": 2048, "meta": { "n_vocab": 1000 } },
        ] })),
        ("/health", _) => StatusCode::OK.into_response(),
        ("/version", "vllm") | ("/api/version", "library") => ok(json!({ "version": "9.9" })),
        ("/props", "llamacpp") => {
            ok(json!({ "total_slots": 3, "build_info": "b1", "default_generation_settings": { "n_ctx": 1024 } }))
        }
        ("/apply-template", "llamacpp") => ok(json!({ "prompt": body["messages"].to_string() })),
        ("/tokenize", "vllm" | "llamacpp") => ok(json!({ "tokens": [11, 12, 13], "count": 3 })),
        ("/v1/embeddings", _) if nature.embeddings => ok(embeddings(body)),
        ("/v1/chat/completions", _) if body["logprobs"] == true && !nature.logprobs => {
            refuse("logprobs are not supported")
        }
        ("/v1/chat/completions", _) => {
            let logprobs =
                json!({ "content": [{ "token": "OK", "logprob": -0.1, "bytes": [79, 75], "top_logprobs": [] }] });
            let logprobs = if body["logprobs"] == true { logprobs } else { Value::Null };
            ok(
                json!({ "choices": [{ "message": { "content": "OK" }, "logprobs": logprobs, "finish_reason": "length" }] }),
            )
        }
        ("/v1/completions", "vllm") if nature.prompt_logprobs => ok(scores(body)),
        _ => (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))).into_response(),
    }
}

fn embeddings(body: &Value) -> Value {
    let count = body["input"].as_array().unwrap().len();
    let data: Vec<Value> =
        (0..count).rev().map(|index| json!({ "index": index, "embedding": [3.0, 4.0 * index as f64] })).collect();
    json!({ "data": data, "usage": { "prompt_tokens": count } })
}

/// As vLLM scores: each token's log-probability is minus a tenth of its id, and token 1 is always the best.
fn scores(body: &Value) -> Value {
    let tokens: Vec<u64> = body["prompt"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect();
    let scored = tokens.iter().enumerate().map(|(at, token)| match at {
        0 => Value::Null,
        _ => json!({ token.to_string(): { "logprob": -0.1 * *token as f64, "rank": 2 }, "1": { "logprob": -0.1, "rank": 1 } }),
    });
    json!({ "choices": [{ "text": "x", "prompt_logprobs": scored.collect::<Vec<_>>(), "token_ids": [5] }] })
}

/// Counts a stream while it is being sent.
struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answered(answer: Answer, open: &Arc<AtomicU32>) -> Response {
    let pieces = match answer {
        Answer::Json(status, body) => return (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Answer::Silence => return std::future::pending().await,
        Answer::Stream(pieces) => pieces,
    };
    open.fetch_add(1, Ordering::SeqCst);
    let state = (VecDeque::from(pieces), Open(Arc::clone(open)));
    let body = stream::unfold(state, |(mut pieces, open)| async move {
        let piece = pieces.pop_front()?;
        // Pieces leave one by one, so that they also arrive in pieces.
        tokio::task::yield_now().await;
        let item = match piece {
            Piece::Bytes(bytes) => Ok(bytes),
            Piece::Hang => std::future::pending().await,
            Piece::Cut => Err(std::io::Error::other("cut")),
        };
        Some((item, (pieces, open)))
    });
    ([(CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(body)).into_response()
}
