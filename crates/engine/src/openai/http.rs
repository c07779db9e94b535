//! Requests to the upstream: one client, bounded bodies, and errors that say what the upstream said.
//!
//! Redirects are not followed (they could carry the key and the prompt elsewhere), proxies from the environment are not
//! used, and neither the key nor the URL appears in an error.

use super::config::{KeySource, OpenAiConfig};
use bytes::Bytes;
use reqwest::{
    Client, RequestBuilder, Response, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::time::Duration;

/// Most bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Most characters of an upstream's message that are passed on.
const MAX_MESSAGE: usize = 600;
/// Most bytes of a key file.
const MAX_KEY: usize = 8192;

/// Why a request to the upstream came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(String),
    #[error("the upstream's answer broke off: {0}")]
    Broken(String),
    #[error("the upstream did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("the upstream answered {status}: {}", .refusal.message)]
    Status { status: u16, refusal: Refusal },
    #[error("the upstream's answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("the upstream's answer is not what was expected: {0}")]
    Decode(String),
}

/// An error in the shapes that compatible servers use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) param: String,
    pub(super) kind: String,
    /// llama-server, when the context is exceeded.
    pub(super) prompt_tokens: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    message: Option<String>,
    detail: Option<Value>,
    param: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<Value>,
    n_prompt_tokens: Option<u32>,
}

impl Refusal {
    /// From the value of an `error` field, or from a whole body.
    pub(super) fn from_value(value: &Value) -> Self {
        let value = value.get("error").filter(|inner| !inner.is_null()).unwrap_or(value);
        if let Some(text) = value.as_str() {
            return Self { message: shorten(text), ..Self::default() };
        }
        let Ok(body) = ErrorBody::deserialize(value) else {
            return Self { message: shorten(&value.to_string()), ..Self::default() };
        };
        let detail =
            body.detail.as_ref().map(|detail| detail.as_str().map_or_else(|| detail.to_string(), ToOwned::to_owned));
        let code = body.code.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            message: shorten(&body.message.or(detail).unwrap_or_else(|| value.to_string())),
            param: body.param.unwrap_or_default(),
            kind: body.kind.filter(|kind| !kind.is_empty()).unwrap_or(code),
            prompt_tokens: body.n_prompt_tokens,
        }
    }

    fn from_body(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(value) => Self::from_value(&value),
            Err(_) => Self { message: shorten(&String::from_utf8_lossy(body)), ..Self::default() },
        }
    }
}

/// The beginning of a message, on one line.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetupError {
    #[error("the base URL {0}")]
    Url(&'static str),
    #[error("the upstream's key: {0}")]
    Key(String),
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// The upstream's addresses and the key.
pub(super) struct Http {
    client: Client,
    /// Ends in `/v1` as a rule; paths are appended.
    api: String,
    /// The server's own endpoints, beside the OpenAI ones.
    root: String,
    key: Option<HeaderValue>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(config: &OpenAiConfig) -> Result<Self, SetupError> {
        // Somebody else in the process may have installed a provider; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (api, root) = addresses(&config.base_url)?;
        let client = Client::builder()
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("cortensor/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SetupError::Client(describe(error)))?;
        Ok(Self { client, api, root, key: header(&config.key)?, timeout: config.probe_timeout })
    }

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.authorised(self.client.get(format!("{}{path}", self.api)))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.authorised(self.client.post(format!("{}{path}", self.api)).json(body))
    }

    /// An endpoint of the server itself, not of the OpenAI API.
    pub(super) fn root_get(&self, path: &str) -> RequestBuilder {
        self.authorised(self.client.get(format!("{}{path}", self.root)))
    }

    pub(super) fn root_post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.authorised(self.client.post(format!("{}{path}", self.root)).json(body))
    }

    fn authorised(&self, builder: RequestBuilder) -> RequestBuilder {
        match &self.key {
            Some(key) => builder.header(AUTHORIZATION, key.clone()),
            None => builder,
        }
    }

    /// Sends a short request and reads its JSON answer of at most `limit` bytes.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<T, HttpError> {
        self.json_within(request, limit, self.timeout).await
    }

    pub(super) async fn json_within<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        limit: usize,
        patience: Duration,
    ) -> Result<T, HttpError> {
        let work = async {
            let body = read(accepted(send(request).await?).await?, limit).await?;
            serde_json::from_slice(&body).map_err(|error| HttpError::Decode(error.to_string()))
        };
        tokio::time::timeout(patience, work).await.map_err(|_| HttpError::TimedOut(patience))?
    }

    /// Whether a GET is answered with success.
    pub(super) async fn alive(&self, request: RequestBuilder) -> Result<(), HttpError> {
        let work = async { accepted(send(request).await?).await.map(drop) };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| HttpError::TimedOut(self.timeout))?
    }
}

pub(super) async fn send(request: RequestBuilder) -> Result<Response, HttpError> {
    request.send().await.map_err(|error| HttpError::Unreachable(describe(error)))
}

/// The response if its status is a success, else the error in its body.
pub(super) async fn accepted(response: Response) -> Result<Response, HttpError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut refusal = Refusal::from_body(&read_some(response).await);
    if refusal.message.is_empty() {
        refusal.message = status.canonical_reason().unwrap_or("no message").to_owned();
    }
    Err(HttpError::Status { status: status.as_u16(), refusal })
}

/// The next bytes of a body.
pub(super) async fn chunk(response: &mut Response) -> Result<Option<Bytes>, HttpError> {
    response.chunk().await.map_err(|error| HttpError::Broken(describe(error)))
}

pub(super) async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(part) = chunk(&mut response).await? {
        if body.len() + part.len() > limit {
            return Err(HttpError::TooLarge(limit));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// As much of an error's body as arrives and is allowed.
async fn read_some(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        let room = MAX_ERROR_BODY - body.len();
        body.extend_from_slice(&part[..part.len().min(room)]);
        if body.len() == MAX_ERROR_BODY {
            break;
        }
    }
    body
}

/// A client error with its causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    shorten(&text)
}

/// The address of the OpenAI API and of the server itself. A base URL without a path means `/v1`.
fn addresses(base: &str) -> Result<(String, String), SetupError> {
    let url = Url::parse(base.trim()).map_err(|_| SetupError::Url("is not a URL such as http://127.0.0.1:8000/v1"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(SetupError::Url("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SetupError::Url("must not contain a user name or password; give the key separately"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SetupError::Url("must not contain a query or a fragment"));
    }
    let trimmed = url.as_str().trim_end_matches('/').to_owned();
    if url.path().trim_matches('/').is_empty() {
        return Ok((format!("{trimmed}/v1"), trimmed));
    }
    let root = trimmed.strip_suffix("/v1").unwrap_or(&trimmed).to_owned();
    Ok((trimmed, root))
}

fn header(source: &KeySource) -> Result<Option<HeaderValue>, SetupError> {
    let key = match source {
        KeySource::None => return Ok(None),
        KeySource::Environment(name) => std::env::var(name)
            .map_err(|_| SetupError::Key(format!("the environment variable {name} is not set (or not Unicode)")))?,
        KeySource::File(path) => std::fs::read_to_string(path)
            .map_err(|error| SetupError::Key(format!("the file {} cannot be read: {error}", path.display())))?,
    };
    let key = key.trim();
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(SetupError::Key(format!("must have 1 to {MAX_KEY} characters")));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| SetupError::Key("contains characters that no HTTP header may have".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let pair = |api: &str, root: &str| Ok((api.to_owned(), root.to_owned()));
        assert_eq!(addresses("http://h:8000"), pair("http://h:8000/v1", "http://h:8000"));
        assert_eq!(addresses("http://h:8000/v1/"), pair("http://h:8000/v1", "http://h:8000"));
        assert_eq!(addresses("https://h/api/v1"), pair("https://h/api/v1", "https://h/api"));
        assert_eq!(addresses("https://h/v1beta/openai"), pair("https://h/v1beta/openai", "https://h/v1beta/openai"));
        for bad in ["h:8000", "ftp://h", "http://user:secret@h", "http://h/v1?x=1", ""] {
            assert!(addresses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_of_every_shape_are_read() {
        let message = |body: &str| Refusal::from_body(body.as_bytes()).message;
        assert_eq!(message(r#"{"error":{"message":"no","type":"t","param":"seed"}}"#), "no");
        assert_eq!(message(r#"{"object":"error","message":"no"}"#), "no");
        assert_eq!(message(r#"{"error":"no"}"#), "no");
        assert_eq!(message(r#"{"detail":"no"}"#), "no");
        assert_eq!(message(r#"{"detail":[{"loc":["a"]}]}"#), r#"[{"loc":["a"]}]"#);
        assert_eq!(message("<html>\n no  </html>"), "<html> no </html>");
        assert_eq!(message(r#"{"error":{"message":7}}"#), r#"{"message":7}"#);
        assert_eq!(message(&"x".repeat(10_000)).chars().count(), MAX_MESSAGE + 1);
        let refusal =
            Refusal::from_body(br#"{"error":{"message":"m","type":"exceed_context_size_error","n_prompt_tokens":9}}"#);
        assert_eq!((refusal.kind.as_str(), refusal.prompt_tokens), ("exceed_context_size_error", Some(9)));
    }

    #[test]
    fn keys_come_from_files_and_never_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let value = header(&KeySource::File(file.path().into())).unwrap().unwrap();
        assert_eq!(value.as_bytes(), b"Bearer secret");
        assert!(value.is_sensitive());
        std::fs::write(file.path(), "\n").unwrap();
        assert!(header(&KeySource::File(file.path().into())).is_err());
        assert!(header(&KeySource::Environment("CORTENSOR_TEST_KEY_THAT_IS_NOT_SET".into())).is_err());
        assert_eq!(header(&KeySource::None), Ok(None));
    }
}
