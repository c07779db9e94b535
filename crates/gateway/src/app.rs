//! What every request passes through: a place, the caller, the body; and what the gateway remembers between requests.

use crate::{
    admission::{Admission, KeyPlace},
    config::GatewayConfig,
    error::{ApiError, Shape},
    metrics::{Metrics, Route},
    service::{Caller, Credentials, InferenceService},
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use cortensor_protocol::{Routing, ToolFormat};
use http_body_util::BodyExt;
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long the list of models is trusted before it is asked for again.
const MODELS_FRESH: Duration = Duration::from_secs(1);
/// How long a body that is too large is read on, so that the client gets to see the refusal.
const DISCARD_TIME: Duration = Duration::from_secs(2);

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Address of the client, put into the request by the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What plans need to know of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModelFacts {
    pub(crate) context: u32,
    pub(crate) tool_format: ToolFormat,
    pub(crate) embeds: bool,
}

#[derive(Debug, Default)]
struct ModelTable {
    read_at: Option<Instant>,
    models: HashMap<String, ModelFacts>,
}

/// One gateway.
pub(crate) struct App {
    pub(crate) service: Arc<dyn InferenceService>,
    pub(crate) config: GatewayConfig,
    pub(crate) metrics: Arc<Metrics>,
    admission: Admission,
    models: RwLock<ModelTable>,
    request_prefix: u64,
    request_count: AtomicU64,
}

/// A request that was let in. It holds its places until it is dropped, which for a stream is at the stream's end.
pub(crate) struct Permit {
    pub(crate) app: Arc<App>,
    pub(crate) route: Route,
    pub(crate) began: Instant,
    key: Option<KeyPlace>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.app.metrics.in_flight.fetch_sub(1, Relaxed);
        self.app.metrics.ended(self.route, self.began.elapsed());
    }
}

/// Counts the answer's status; 499 if the future is dropped before there is one.
struct StatusCount<'a> {
    app: &'a App,
    route: Route,
    status: u16,
}

impl Drop for StatusCount<'_> {
    fn drop(&mut self) {
        self.app.metrics.answered(self.route, self.status);
    }
}

impl App {
    pub(crate) fn new(service: Arc<dyn InferenceService>, config: GatewayConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            service,
            admission: Admission::new(&config),
            config,
            metrics,
            models: RwLock::default(),
            // Request ids need only be told apart, so the standard library's random hash keys are enough.
            request_prefix: RandomState::new().hash_one(0),
            request_count: AtomicU64::new(0),
        }
    }

    /// Runs one request: counts its status, shows errors in `shape`, and names the request in the answer.
    pub(crate) async fn run<F>(self: &Arc<Self>, route: Route, shape: Shape, id: HeaderValue, work: F) -> Response
    where
        F: Future<Output = Result<Response, ApiError>>,
    {
        let mut count = StatusCount { app: self, route, status: 499 };
        let mut response = work.await.unwrap_or_else(|error| {
            tracing::debug!(code = error.code, message = error.message, "request refused");
            error.into_response(shape)
        });
        count.status = response.status().as_u16();
        if shape == Shape::Anthropic {
            response.headers_mut().insert(ANTHROPIC_REQUEST_ID, id.clone());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// The client's name for the request if it gave a sensible one, or else a new one.
    pub(crate) fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let sensible = |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.to_str().is_ok();
        if let Some(id) = headers.get(REQUEST_ID).filter(sensible) {
            return id.clone();
        }
        let count = self.request_count.fetch_add(1, Relaxed);
        let text = format!("req_{:016x}{count:08x}", self.request_prefix);
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("hexadecimal digits are valid in a header")
    }

    /// Finds a place for the request and lets its caller in.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        route: Route,
        credentials: Result<Credentials, ApiError>,
    ) -> Result<(Permit, Caller), ApiError> {
        let running = self.metrics.in_flight.fetch_add(1, Relaxed);
        let mut permit = Permit { app: self.clone(), route, began: Instant::now(), key: None };
        if running >= self.config.in_flight_max {
            let message = format!("{} requests are running, which is the limit; try again", self.config.in_flight_max);
            return Err(ApiError::busy(message, Duration::from_secs(1)));
        }
        let caller = self.service.authenticate(&credentials?).await?;
        permit.key = Some(self.admission.enter(&caller.key_id)?);
        Ok((permit, caller))
    }

    /// Reads a JSON body within the bounds of size and time.
    pub(crate) async fn read_body(&self, request: Request) -> Result<Bytes, ApiError> {
        check_content_type(request.headers())?;
        let limit = self.config.body_bytes_max;
        let reading = collect_body(request.into_body(), limit);
        match tokio::time::timeout(self.config.body_timeout, reading).await {
            Ok(body) => body,
            Err(_) => {
                let message = format!("the body did not arrive within {:?}", self.config.body_timeout);
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message))
            }
        }
    }

    /// What is known of a model; `None` if it is not served (the service then says so).
    pub(crate) async fn facts(&self, model: &str) -> Option<ModelFacts> {
        {
            let table = self.models.read();
            if table.read_at.is_some_and(|at| at.elapsed() < MODELS_FRESH) {
                return table.models.get(model).copied();
            }
        }
        let models: HashMap<_, _> = (self.service.models().await.into_iter())
            .map(|card| {
                let facts = ModelFacts { context: card.context, tool_format: card.tool_format, embeds: card.embeds };
                (card.name, facts)
            })
            .collect();
        let facts = models.get(model).copied();
        *self.models.write() = ModelTable { read_at: Some(Instant::now()), models };
        facts
    }
}

/// What the client showed.
pub(crate) fn credentials(request: &Request) -> Result<Credentials, ApiError> {
    let headers = request.headers();
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().map(str::trim)).transpose();
    let unreadable = |_| ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", "the API key is not plain text");
    let api_key = match text(&header::AUTHORIZATION).map_err(unreadable)? {
        Some(value) => match value.split_once(' ') {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim().to_owned()),
            _ => {
                let message = "the Authorization header must read: Bearer YOUR_KEY";
                return Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message));
            }
        },
        None => text(&API_KEY).map_err(unreadable)?.map(str::to_owned),
    };
    Ok(Credentials {
        api_key: api_key.filter(|key| !key.is_empty()),
        peer: request.extensions().get::<Peer>().map(|peer| peer.0),
    })
}

/// Where a request may go, as its headers say.
pub(crate) fn routing(headers: &HeaderMap) -> Result<Routing, ApiError> {
    fn read<T: FromStr>(headers: &HeaderMap, name: &'static str, problem: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        parsed.map(Some).ok_or_else(|| ApiError::value(name, problem.to_owned()))
    }
    Ok(Routing {
        miner: read(headers, Routing::MINER_HEADER, "is a miner's account: 0x and 40 hexadecimal digits")?,
        min_tier: read(headers, Routing::TIER_HEADER, "is a tier: A, B, C or D")?,
    })
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    let message = format!("the body must be JSON; send Content-Type: application/json instead of {essence:?}");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

async fn collect_body(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let broken = |error: axum::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, "body_broken_off", format!("the body broke off: {error}"))
    };
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let read = first.len().max(more.len());
        if read + data.len() > limit {
            discard(body, limit).await;
            let message = format!("the body is larger than {limit} bytes; send less");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        // Most bodies come in one piece, which is then used as it is.
        if read == 0 {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
    }
    Ok(if more.is_empty() { first } else { more.freeze() })
}

/// Reads on for a bounded time and size. A client that is still writing would otherwise see a broken connection instead
/// of the refusal.
async fn discard(mut body: Body, limit: usize) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > limit {
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIME, reading).await.is_err() {
        tracing::debug!("a client went on sending a body that was refused");
    }
}
