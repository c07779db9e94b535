//! Reading a body without serving it: what a request asks of the network. Pure; used by tools and by the fuzz targets.

use crate::{
    config::GatewayConfig,
    dialect::{
        Dialect, chat::Chat, completions::Completions, embeddings::EmbeddingRequest, messages::Messages,
        responses::Responses,
    },
    error::ApiError,
    json,
    tool_calls::{Piece, ToolCallParser},
};
use cortensor_protocol::{GenerationRequest, ToolCall};

/// An API that takes bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/embeddings`.
    Embeddings,
}

/// What a body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One generation for each choice; `max_tokens` is 0 where the client set no limit.
    Generations(Vec<GenerationRequest>),
    /// Texts to be embedded.
    Embeddings(Vec<String>),
}

/// A body that would be answered with 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BodyRefused {
    /// Stable code, such as `unknown_parameter`.
    pub code: &'static str,
    /// The parameter at fault, as a path.
    pub parameter: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<ApiError> for BodyRefused {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, parameter: error.param.map(Into::into), message: error.message }
    }
}

/// Reads a body as the server does.
///
/// # Errors
/// Where the server would refuse the body by itself, before it asks a miner.
pub fn read_body(api: Api, body: &[u8], config: &GatewayConfig) -> Result<Asked, BodyRefused> {
    let asked = match api {
        Api::Chat => generations::<Chat>(body, config)?,
        Api::Completions => generations::<Completions>(body, config)?,
        Api::Responses => generations::<Responses>(body, config)?,
        Api::Messages => generations::<Messages>(body, config)?,
        Api::Embeddings => {
            let mut request: EmbeddingRequest = json::parse(body, config.json_depth_max)?;
            Asked::Embeddings(request.texts(config)?)
        }
    };
    Ok(asked)
}

fn generations<D: Dialect>(body: &[u8], config: &GatewayConfig) -> Result<Asked, ApiError> {
    let request: D::Request = json::parse(body, config.json_depth_max)?;
    D::plan(request, config).map(|plan| Asked::Generations(plan.requests)).map_err(D::rename)
}

/// Splits a model's output, in pieces as they arrived, into its text and the tool calls in it.
pub fn tool_calls<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, Vec<ToolCall>) {
    let (mut parser, mut found) = (ToolCallParser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece, &mut found);
    }
    parser.finish(&mut found);
    let (mut text, mut calls) = (String::new(), Vec::new());
    for piece in found {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Call { name, arguments } => calls.push(ToolCall { id: calls.len().to_string(), name, arguments }),
        }
    }
    (text, calls)
}
