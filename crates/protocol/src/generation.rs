//! A generation in the network's own terms: what is asked, and the events that answer it.
//!
//! Every HTTP dialect (OpenAI chat, completions and responses, Anthropic messages) is parsed into a
//! [`GenerationRequest`] by the gateway, and only this form travels between nodes. Its canonical encoding (postcard) is
//! what a task header binds by hash.

use crate::{
    id::TokenId,
    sampling::{LogProb, SamplingParams},
    task::Bound,
};
use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application (OpenAI's `developer` role is read as this).
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A function call that a model made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// Unique within the conversation.
    pub id: String,
    /// Name of the function.
    pub name: String,
    /// Arguments as JSON text; what a model wrote, so not necessarily valid JSON.
    pub arguments: String,
}

/// One message of a conversation. Text only: a request with images or audio is refused before this form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty beside tool calls.
    pub content: String,
    /// Calls that an assistant message makes.
    pub tool_calls: Vec<ToolCall>,
    /// For a tool message: the call that it answers.
    pub tool_call_id: Option<String>,
    /// Name of the speaker or the tool, where the client gives one.
    pub name: Option<String>,
}

impl ChatMessage {
    /// A plain message.
    #[must_use]
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tool {
    /// Name of the function.
    pub name: String,
    /// What it does, for the model to read; may be empty.
    pub description: String,
    /// JSON Schema of the arguments, as JSON text; checked to be a JSON object at the boundary.
    pub parameters: String,
}

/// Whether and which tool must be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No tool is called.
    None,
    /// Some tool must be called.
    Required,
    /// This tool must be called.
    Named(String),
}

/// A constraint on the form of the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits this schema (JSON text).
    JsonSchema(String),
    /// Text that fits this GBNF grammar.
    Grammar(String),
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Prompt {
    /// A conversation, put into text by the model's own chat template.
    Chat {
        /// The conversation, oldest first; never empty.
        messages: Vec<ChatMessage>,
        /// Tools that may be called.
        tools: Vec<Tool>,
        /// Whether and which must be called.
        tool_choice: ToolChoice,
    },
    /// Text to continue as it is.
    Text(String),
    /// Tokens to continue as they are.
    Tokens(Vec<TokenId>),
}

/// Tokens that a chat template adds at most to each message, and to the whole.
const TEMPLATE_TOKENS: u32 = 64;

impl Prompt {
    /// The most tokens that this prompt can have: one for every byte, and what the template adds. Nobody may charge for
    /// more.
    #[must_use]
    pub fn input_tokens_max(&self) -> u32 {
        let (bytes, parts) = match self {
            Self::Text(text) => (text.len(), 1),
            Self::Tokens(tokens) => (tokens.len(), 1),
            Self::Chat { messages, tools, .. } => {
                let calls = |m: &ChatMessage| -> usize {
                    m.tool_calls.iter().map(|call| call.name.len() + call.arguments.len() + call.id.len() + 64).sum()
                };
                let said: usize = messages.iter().map(|m| m.content.len() + calls(m)).sum();
                // Templates print a tool's schema as JSON, often indented.
                let offered: usize =
                    tools.iter().map(|t| t.name.len() + t.description.len() + 4 * t.parameters.len() + 256).sum();
                let preamble = if tools.is_empty() { 0 } else { 2048 };
                (said + offered + preamble, messages.len() + tools.len() + 1)
            }
        };
        let parts = u32::try_from(parts).unwrap_or(u32::MAX).saturating_add(4);
        u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(parts.saturating_mul(TEMPLATE_TOKENS))
    }
}

/// One generation: what is asked and how the answer is to be drawn. Validated by [`GenerationRequest::check`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GenerationRequest {
    /// The model's name as the client wrote it (`cortensor-tiny`); the manifest id is bound by the task header.
    pub model: String,
    /// What the model is given.
    pub prompt: Prompt,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// The client's `seed`, if it wants the same answer again.
    pub seed: Option<u64>,
    /// Most output tokens; never 0.
    pub max_tokens: u32,
    /// Texts at which the output ends (not included in it); at most [`MAX_STOPS`].
    pub stop: Vec<String>,
    /// Constraint on the output's form.
    pub response_format: ResponseFormat,
    /// How many alternatives to report with each token, if log-probabilities are wanted: at most 20.
    pub logprobs: Option<u8>,
}

/// Most stop texts of a request.
pub const MAX_STOPS: usize = 16;
/// Most bytes of one stop text.
pub const MAX_STOP_BYTES: usize = 256;
/// Most entries of `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;
/// Most alternatives reported with a token.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Most tools of a request.
pub const MAX_TOOLS: usize = 128;

/// A request that breaks a bound. The text names the parameter, so that it can be shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {problem}")]
pub struct InvalidRequest {
    /// The parameter at fault, in OpenAI's spelling.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl GenerationRequest {
    /// Checks the bounds that every node relies on.
    ///
    /// # Errors
    /// Names the first parameter that is out of bounds.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        let fail = |parameter, problem: String| Err(InvalidRequest { parameter, problem });
        if self.max_tokens == 0 {
            return fail("max_tokens", "must be at least 1".into());
        }
        if self.stop.len() > MAX_STOPS {
            return fail("stop", format!("at most {MAX_STOPS} texts, got {}", self.stop.len()));
        }
        if let Some(bad) = self.stop.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
            return fail("stop", format!("each text has 1 to {MAX_STOP_BYTES} bytes, got {}", bad.len()));
        }
        if self.sampling.logit_bias.len() > MAX_LOGIT_BIAS {
            return fail("logit_bias", format!("at most {MAX_LOGIT_BIAS} entries"));
        }
        if self.logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
            return fail("top_logprobs", format!("at most {MAX_TOP_LOGPROBS}"));
        }
        self.check_prompt()
    }

    fn check_prompt(&self) -> Result<(), InvalidRequest> {
        let fail = |parameter, problem: String| Err(InvalidRequest { parameter, problem });
        match &self.prompt {
            Prompt::Chat { messages, .. } if messages.is_empty() => fail("messages", "must not be empty".into()),
            Prompt::Chat { tools, .. } if tools.len() > MAX_TOOLS => fail("tools", format!("at most {MAX_TOOLS}")),
            Prompt::Chat { tools, tool_choice: ToolChoice::Named(name), .. }
                if !tools.iter().any(|tool| tool.name == *name) =>
            {
                fail("tool_choice", format!("names the function {name:?}, which is not among the tools"))
            }
            Prompt::Chat { tools, tool_choice: ToolChoice::Required, .. } if tools.is_empty() => {
                fail("tool_choice", "is \"required\", but there are no tools".into())
            }
            Prompt::Text(text) if text.is_empty() => fail("prompt", "must not be empty".into()),
            Prompt::Tokens(tokens) if tokens.is_empty() => fail("prompt", "must not be empty".into()),
            _ => Ok(()),
        }
    }

    /// Hash of the canonical encoding: what a [`crate::TaskHeader`] binds.
    #[must_use]
    pub fn hash(&self) -> B256 {
        let bytes = postcard::to_stdvec(self).expect("postcard encodes every value of this type into a growing buffer");
        keccak256([b"cortensor request v1".as_slice(), &bytes].concat())
    }
}

impl GenerationRequest {
    /// What a header for this request binds.
    #[must_use]
    pub fn bound(&self) -> Bound {
        Bound { request_hash: self.hash(), sampling: self.sampling.hash() }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FinishReason {
    /// The model ended its answer.
    EndOfSequence = 0,
    /// A stop text was produced.
    Stop = 1,
    /// `max_tokens` or the context's end was reached.
    Length = 2,
    /// The client left or the router handed the task over; what was delivered counts.
    Cancelled = 3,
}

impl FinishReason {
    /// From the number that contracts and receipts carry.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::EndOfSequence),
            1 => Some(Self::Stop),
            2 => Some(Self::Length),
            3 => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// One output token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEvent {
    /// Its id in the model's vocabulary; `None` where an upstream does not tell (tiers C and D).
    pub id: Option<TokenId>,
    /// Text that became complete with this token: empty while a UTF-8 character or a possible stop text is unfinished.
    pub text: String,
    /// Its log-probability; `None` where an upstream does not tell.
    pub logprob: Option<LogProb>,
    /// The most probable tokens at this step, best first, as many as were asked for.
    pub top: Vec<TopToken>,
}

/// An alternative at one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopToken {
    /// Its id, where known.
    pub id: Option<TokenId>,
    /// Its bytes, which need not be UTF-8 on their own.
    pub bytes: Vec<u8>,
    /// Its log-probability.
    pub logprob: LogProb,
}

/// What a generation used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, template included.
    pub input_tokens: u32,
    /// How many of those were found in the miner's cache.
    pub cached_input_tokens: u32,
    /// Tokens produced.
    pub output_tokens: u32,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request() -> GenerationRequest {
        GenerationRequest {
            model: "m".into(),
            prompt: Prompt::Text("hello".into()),
            sampling: SamplingParams::default(),
            seed: None,
            max_tokens: 8,
            stop: vec![],
            response_format: ResponseFormat::Text,
            logprobs: None,
        }
    }

    fn check(change: impl FnOnce(&mut GenerationRequest), expect: Option<&str>) {
        let mut request = request();
        change(&mut request);
        assert_eq!(request.check().err().map(|error| error.parameter), expect);
    }

    #[test]
    fn bounds_name_the_parameter() {
        check(|_| (), None);
        check(|r| r.max_tokens = 0, Some("max_tokens"));
        check(|r| r.stop = vec![String::new()], Some("stop"));
        check(|r| r.stop = vec!["x".into(); 17], Some("stop"));
        check(|r| r.logprobs = Some(21), Some("top_logprobs"));
        check(|r| r.prompt = Prompt::Tokens(vec![]), Some("prompt"));
        let chat = |tool_choice| Prompt::Chat {
            messages: vec![ChatMessage::text(Role::User, "x")],
            tools: vec![],
            tool_choice,
        };
        check(|r| r.prompt = chat(ToolChoice::Auto), None);
        check(|r| r.prompt = chat(ToolChoice::Required), Some("tool_choice"));
        check(|r| r.prompt = chat(ToolChoice::Named("f".into())), Some("tool_choice"));
    }

    #[test]
    fn the_hash_covers_every_field() {
        let base = request().hash();
        let mut other = request();
        other.stop = vec!["\n".into()];
        assert_ne!(other.hash(), base);
        let mut other = request();
        other.sampling.temperature = crate::sampling::Micro(1);
        assert_ne!(other.hash(), base);
    }
}
