//! OpenAI chat completions: `POST /v1/chat/completions`.

mod answer;
mod request;

pub(crate) use answer::{ChatAnswer, ChatChunk, ChatCompletion, ChatLogProbs, UsageView};
pub(crate) use answer::{put_logprobs, usage_view};
pub(crate) use request::ChatRequest;

use super::{Dialect, Plan};
use crate::{
    config::GatewayConfig,
    error::{ApiError, Shape},
    metrics::Route,
};

/// The dialect.
pub(crate) struct Chat;

impl Dialect for Chat {
    const ROUTE: Route = Route::ChatCompletions;
    const SHAPE: Shape = Shape::OpenAi;
    type Request = ChatRequest;
    type Answer = ChatAnswer;

    fn plan(request: ChatRequest, config: &GatewayConfig) -> Result<Plan<ChatAnswer>, ApiError> {
        request.plan(config)
    }
}
