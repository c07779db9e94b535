//! One error of the API, and how each dialect shows it.
//!
//! Every error has a status, a stable code that programs can rely on, the parameter at fault where there is one, and a
//! message that says what to do. It is made once and rendered in the shape of the dialect that was called.

use crate::service::ServiceError;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use cortensor_protocol::generation::InvalidRequest;
use serde::Serialize;
use std::{borrow::Cow, time::Duration};
use utoipa::ToSchema;

/// Whose error shape is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"error": {"message", "type", "param", "code"}}`; the native routes use it too.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
}

/// An error as the API gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) param: Option<Cow<'static, str>>,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

/// The error object of the OpenAI dialects and of the native routes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError<'a> {
    error: OpenAiErrorBody<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiErrorBody<'a> {
    /// What went wrong and what to do.
    message: &'a str,
    /// Class of the error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The parameter at fault, as a path: `messages[2].content`.
    param: Option<&'a str>,
    /// Stable code.
    code: &'static str,
}

/// The error object of the Anthropic dialect.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicErrorBody<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicErrorBody<'a> {
    /// Class of the error.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What went wrong and what to do.
    message: Cow<'a, str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into(), retry_after: None }
    }

    /// 400 about one parameter.
    pub(crate) fn invalid(code: &'static str, param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// 400: a parameter's value is out of its range or of the wrong form.
    pub(crate) fn value(param: impl Into<Cow<'static, str>>, problem: impl std::fmt::Display) -> Self {
        let param = param.into();
        let message = format!("{param}: {problem}");
        Self::invalid("invalid_value", param, message)
    }

    /// 400: a parameter, or this value of it, is known but not offered here.
    pub(crate) fn unsupported(param: impl Into<Cow<'static, str>>, advice: impl std::fmt::Display) -> Self {
        let param = param.into();
        let message = format!("{param} is not supported: {advice}");
        Self::invalid("unsupported_parameter", param, message)
    }

    /// 429.
    pub(crate) fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message);
        Self { retry_after: Some(retry_after), ..error }
    }

    /// 504.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// Replaces the parameter's name by the dialect's own, also where the message begins with it.
    pub(crate) fn rename_param(mut self, from: &str, to: &'static str) -> Self {
        if self.param.as_deref() == Some(from) {
            if let Some(rest) = self.message.strip_prefix(from) {
                self.message = format!("{to}{rest}");
            }
            self.param = Some(Cow::Borrowed(to));
        }
        self
    }

    pub(crate) fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    pub(crate) fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The error object as JSON.
    pub(crate) fn to_json(&self, shape: Shape) -> Vec<u8> {
        let encoded = match shape {
            Shape::OpenAi => serde_json::to_vec(&OpenAiError {
                error: OpenAiErrorBody {
                    message: &self.message,
                    kind: self.openai_type(),
                    param: self.param.as_deref(),
                    code: self.code,
                },
            }),
            Shape::Anthropic => serde_json::to_vec(&AnthropicError {
                kind: "error",
                error: AnthropicErrorBody { kind: self.anthropic_type(), message: Cow::Borrowed(&self.message) },
            }),
        };
        encoded.expect("a struct of strings is always valid JSON")
    }

    /// The HTTP answer.
    pub(crate) fn into_response(self, shape: Shape) -> Response {
        let mut response = Response::new(Body::from(self.to_json(shape)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a client that waits less would only be refused again.
            let seconds = (wait.as_millis().div_ceil(1000)).clamp(1, 3600);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u16::try_from(seconds).unwrap_or(3600)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Unauthorized(_) => Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message),
            ServiceError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, "forbidden", message),
            ServiceError::Invalid { parameter, .. } => Self::invalid("invalid_value", parameter, message),
            ServiceError::ContextLength(_) => Self::invalid("context_length_exceeded", "messages", message),
            ServiceError::UnknownModel { .. } => {
                let error = Self::new(StatusCode::NOT_FOUND, "model_not_found", message);
                Self { param: Some("model".into()), ..error }
            }
            ServiceError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            ServiceError::Payment(_) => Self::new(StatusCode::PAYMENT_REQUIRED, "session_exhausted", message),
            ServiceError::Busy { retry_after, .. } => Self::busy(message, retry_after),
            ServiceError::Unavailable(_) => {
                let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
                Self { retry_after: Some(Duration::from_secs(1)), ..error }
            }
            ServiceError::Timeout(_) => Self::timeout(message),
            ServiceError::Internal(_) => Self::internal(message),
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(error: InvalidRequest) -> Self {
        Self::value(error.parameter, error.problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(error: ServiceError, status: u16, openai: &serde_json::Value, anthropic: &serde_json::Value) {
        let error = ApiError::from(error);
        assert_eq!(error.status.as_u16(), status);
        let decode = |shape| serde_json::from_slice::<serde_json::Value>(&error.to_json(shape)).unwrap();
        assert_eq!(&decode(Shape::OpenAi), openai);
        assert_eq!(&decode(Shape::Anthropic), anthropic);
    }

    #[test]
    fn each_dialect_has_its_own_shape() {
        check(
            ServiceError::Invalid { parameter: "seed".into(), problem: "too large".into() },
            400,
            &json!({"error": {"message": "seed: too large", "type": "invalid_request_error", "param": "seed",
                              "code": "invalid_value"}}),
            &json!({"type": "error", "error": {"type": "invalid_request_error", "message": "seed: too large"}}),
        );
        check(
            ServiceError::Unauthorized("no such key".into()),
            401,
            &json!({"error": {"message": "no such key", "type": "authentication_error", "param": null,
                              "code": "invalid_api_key"}}),
            &json!({"type": "error", "error": {"type": "authentication_error", "message": "no such key"}}),
        );
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let response = ApiError::busy("full", Duration::from_millis(1001)).into_response(Shape::OpenAi);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let response = ApiError::busy("full", Duration::ZERO).into_response(Shape::OpenAi);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_parameter_is_shown_under_the_dialects_own_name() {
        let error = ApiError::value("stop", "at most 16").rename_param("stop", "stop_sequences");
        assert_eq!(
            (error.param.as_deref(), error.message.as_str()),
            (Some("stop_sequences"), "stop_sequences: at most 16")
        );
    }
}
