//! The HTTP side of a client: bounded bodies, and refusals with their code.

use super::book::Objection;
use futures::StreamExt;
use reqwest::{RequestBuilder, Response};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// Largest body that is read whole: the receipts of one task with a long context.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a router answered instead of doing what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// The parameter at fault, where there is one.
    pub parameter: Option<String>,
    /// What went wrong and what to do.
    pub message: String,
    /// When to try again, where the router says so.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.status, self.code)
    }
}

/// Why a client could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The router cannot be reached, or the connection broke.
    #[error("the router cannot be reached: check the URL and that it is running")]
    Transport(#[from] reqwest::Error),
    /// The router refused.
    #[error("the router refused: {0}")]
    Refused(Refusal),
    /// What the router sent is not what the API says.
    #[error("the router sent something that is not a valid {0}")]
    Malformed(&'static str),
    /// The router is not the session's.
    #[error("{0}")]
    OtherRouter(String),
    /// The model is not served.
    #[error("this router serves no model {0:?}")]
    UnknownModel(String),
    /// A request is out of bounds.
    #[error(transparent)]
    Invalid(#[from] cortensor_protocol::generation::InvalidRequest),
    /// Something is charged that does not hold up. The session can be closed on chain without its router.
    #[error(transparent)]
    Overcharged(Objection),
    /// The book cannot be read or written.
    #[error("the session's book {path} cannot be used: {why}")]
    Store {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Deserialize)]
struct ErrorFields {
    message: String,
    code: Option<String>,
    param: Option<String>,
}

/// Sends a request; an answer with an error status becomes a [`Refusal`].
pub(crate) async fn send(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|text| text.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = read(response).await?;
    let refusal = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { error }) => Refusal {
            status: status.as_u16(),
            code: error.code.unwrap_or_default(),
            parameter: error.param,
            message: error.message,
            retry_after,
        },
        Err(_) => Refusal {
            status: status.as_u16(),
            code: String::new(),
            parameter: None,
            message: String::from_utf8_lossy(&body).chars().take(300).collect(),
            retry_after,
        },
    };
    Err(ClientError::Refused(refusal))
}

/// Sends a request and reads its answer as JSON.
pub(crate) async fn json<T: DeserializeOwned>(request: RequestBuilder, what: &'static str) -> Result<T, ClientError> {
    let body = read(send(request).await?).await?;
    serde_json::from_slice(&body).map_err(|_| ClientError::Malformed(what))
}

async fn read(response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(ClientError::Malformed("answer: it is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
