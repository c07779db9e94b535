//! OpenAI embeddings: `POST /v1/embeddings`.

use super::{
    parameters::refuse,
    union::{PromptItem, TextOrList},
};
use crate::{
    app::{self, App},
    config::GatewayConfig,
    error::{ApiError, Shape},
    generation::{TASK, json_response, take, task_header},
    metrics::Route,
    service::Embeddings,
};
use axum::{
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cortensor_protocol::{Routing, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// Texts to embed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingRequest {
    /// Name of the model.
    model: String,
    /// One text or several. Token ids are refused: only the miner knows the vocabulary.
    input: TextOrList<PromptItem>,
    /// `float` or `base64` (little-endian 32-bit floats).
    encoding_format: Option<EncodingFormat>,
    /// Extension: `{"miner": "0x…"}` names the one miner that may serve this, `{"min_tier": "A"}` the least tier.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    cortensor: Routing,
    /// Refused: vectors have the model's own length.
    dimensions: Option<Value>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    user: Option<String>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// An array of numbers.
    #[default]
    Float,
    /// The floats' bytes, little-endian, in base64.
    Base64,
}

/// The vectors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingList {
    object: &'static str,
    data: Vec<EmbeddingView>,
    model: String,
    usage: EmbeddingUsage,
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingView {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// A vector in one of two forms.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// Numbers.
    Float(Vec<f32>),
    /// Little-endian 32-bit floats in base64.
    Base64(String),
}

/// Tokens used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl EmbeddingRequest {
    /// The texts, checked.
    pub(crate) fn texts(&mut self, config: &GatewayConfig) -> Result<Vec<String>, ApiError> {
        refuse("dimensions", self.dimensions.as_ref(), &[], "vectors have the model's own length; leave it out")?;
        let input = std::mem::replace(&mut self.input, TextOrList::List(Vec::new()));
        let items = match input {
            TextOrList::Text(text) => vec![PromptItem::Text(text)],
            TextOrList::List(items) => items,
        };
        if !(1..=config.embedding_inputs_max).contains(&items.len()) {
            let problem = format!("must hold 1 to {} texts, got {}", config.embedding_inputs_max, items.len());
            return Err(ApiError::value("input", problem));
        }
        let one = |(at, item)| match item {
            PromptItem::Text(text) if text.is_empty() => {
                Err(ApiError::value(format!("input[{at}]"), "must not be empty"))
            }
            PromptItem::Text(text) => Ok(text),
            _ => Err(ApiError::unsupported(format!("input[{at}]"), "send texts, not token ids")),
        };
        items.into_iter().enumerate().map(one).collect()
    }
}

fn encoded(vector: Vec<f32>, format: EncodingFormat) -> Vector {
    match format {
        EncodingFormat::Float => Vector::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    }
}

fn list(model: String, embeddings: Embeddings, format: EncodingFormat) -> EmbeddingList {
    let view = |(index, vector)| EmbeddingView { object: "embedding", index, embedding: encoded(vector, format) };
    EmbeddingList {
        object: "list",
        data: embeddings.vectors.into_iter().enumerate().map(view).collect(),
        model,
        usage: EmbeddingUsage { prompt_tokens: embeddings.input_tokens, total_tokens: embeddings.input_tokens },
    }
}

/// `POST /v1/embeddings`.
#[utoipa::path(post, path = "/v1/embeddings", tag = "OpenAI", request_body = EmbeddingRequest,
    responses((status = 200, body = EmbeddingList), (status = "4XX", body = crate::error::OpenAiError)))]
pub(crate) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    let id = app.request_id(request.headers());
    app.run(Route::Embeddings, Shape::OpenAi, id, answer(&app, request)).await
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let headers = app::routing(request.headers());
    let (permit, caller, mut input) = take::<EmbeddingRequest>(app, Route::Embeddings, |_| Ok(()), request).await?;
    let routing = headers?.or(input.cortensor);
    let texts = input.texts(&app.config)?;
    if app.facts(&input.model).await.is_some_and(|facts| !facts.embeds) {
        let problem = format!("{:?} does not embed; GET /v1/models shows which do", input.model);
        return Err(ApiError::value("model", problem));
    }
    let work = app.service.embed(&caller, &input.model, texts, routing);
    let result = tokio::time::timeout(app.config.answer_timeout, work).await;
    let embeddings = result.map_err(|_| ApiError::timeout("the texts were not embedded in time; send fewer"))??;
    permit.app.metrics.used(Usage { input_tokens: embeddings.input_tokens, ..Usage::default() });
    let task = task_header(embeddings.task);
    let mut response = json_response(&list(input.model, embeddings, input.encoding_format.unwrap_or_default()));
    response.headers_mut().insert(TASK, task);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use serde_json::json;

    fn texts(body: &Value) -> Result<Vec<String>, ApiError> {
        let mut request: EmbeddingRequest = json::parse(body.to_string().as_bytes(), 64)?;
        request.texts(&GatewayConfig::default())
    }

    #[test]
    fn texts_are_read_and_the_rest_refused_by_name() {
        assert_eq!(texts(&json!({"model": "m", "input": "a"})).unwrap(), ["a"]);
        assert_eq!(texts(&json!({"model": "m", "input": ["a", "b"], "dimensions": null})).unwrap(), ["a", "b"]);
        for (body, param) in [
            (json!({"model": "m", "input": [1, 2]}), "input[0]"),
            (json!({"model": "m", "input": ["a", ""]}), "input[1]"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": "a", "dimensions": 8}), "dimensions"),
            (json!({"model": "m", "input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            assert_eq!(texts(&body).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn base64_holds_little_endian_floats() {
        assert_eq!(encoded(vec![1.0, -2.0], EncodingFormat::Base64), Vector::Base64("AACAPwAAAMA=".into()));
        assert_eq!(encoded(vec![1.0], EncodingFormat::Float), Vector::Float(vec![1.0]));
    }
}
