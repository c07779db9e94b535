//! The answer of a chat completion, whole and as a stream of chunks.
//!
//! Chunks are written into the frame buffer around two parts that never change within a stream; a test compares them
//! with the typed form that the OpenAPI document shows.

use crate::{
    dialect::{
        frames::{nats, put_json, put_number, token_bytes},
        unix_seconds,
    },
    error::{ApiError, Shape},
    feed::{Answer, End, Output, total},
};
use bytes::BytesMut;
use cortensor_protocol::{FinishReason, TaskId, TokenEvent, ToolCall, Usage, generation::TopToken};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A chat completion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    id: String,
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: UsageView,
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    index: usize,
    message: ChatMessageView,
    logprobs: Option<ChatLogProbs>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatMessageView {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallView>,
}

/// A call that the model made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolCallView {
    /// Position, in streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CalledFunctionView,
}

/// The function of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalledFunctionView {
    name: String,
    /// JSON text.
    arguments: String,
}

/// Log-probabilities of an output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogProbs {
    content: Vec<TokenLogProb>,
    refusal: Option<String>,
}

/// A token and its log-probability in nats; `null` where the miner's engine does not tell.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenLogProb {
    /// Text of the token; a replacement character stands for part of one.
    token: String,
    logprob: Option<f64>,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogProb>,
}

/// An alternative.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TopLogProb {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

/// What was used. With several choices it is their sum, as each is paid in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: CachedView,
}

/// Details of the prompt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CachedView {
    /// Tokens found in the miner's cache.
    cached_tokens: u32,
}

/// One chunk of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChunkChoice>,
    /// Only with `include_usage`; filled in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "flat")]
    usage: Option<Option<UsageView>>,
}

/// What a chunk adds to one answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogProbs>,
    finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallView>,
}

#[expect(clippy::ref_option, clippy::option_option, reason = "serde's signature; absent and null differ here")]
fn flat<S: Serializer>(value: &Option<Option<UsageView>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().and_then(Option::as_ref).serialize(serializer)
}

/// Usage as OpenAI shows it.
pub(crate) fn usage_view(usage: Usage) -> UsageView {
    UsageView {
        prompt_tokens: usage.input_tokens,
        completion_tokens: usage.output_tokens,
        total_tokens: u64::from(usage.input_tokens) + u64::from(usage.output_tokens),
        prompt_tokens_details: CachedView { cached_tokens: usage.cached_input_tokens },
    }
}

/// Log-probabilities of tokens, as chat and responses show them.
pub(crate) fn token_logprobs(tokens: &[TokenEvent]) -> Vec<TokenLogProb> {
    let alternative = |top: &TopToken| TopLogProb {
        token: String::from_utf8_lossy(&top.bytes).into_owned(),
        logprob: nats(top.logprob),
        bytes: top.bytes.clone(),
    };
    let one = |token: &TokenEvent| TokenLogProb {
        token: String::from_utf8_lossy(token_bytes(token)).into_owned(),
        logprob: token.logprob.map(nats),
        bytes: token_bytes(token).to_vec(),
        top_logprobs: token.top.iter().map(alternative).collect(),
    };
    tokens.iter().map(one).collect()
}

fn logprobs_view(tokens: &[TokenEvent]) -> ChatLogProbs {
    ChatLogProbs { content: token_logprobs(tokens), refusal: None }
}

fn finish_reason(end: End) -> &'static str {
    match (end.calls, end.reason) {
        (1.., _) => "tool_calls",
        (0, FinishReason::Length) => "length",
        (0, _) => "stop",
    }
}

/// Shows outputs as a chat completion.
#[derive(Debug)]
pub(crate) struct ChatAnswer {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    logprobs: bool,
    /// Calls made so far, for each choice that has begun.
    calls: Vec<Option<u32>>,
    /// `data: {"id":…,"choices":[`
    head: Vec<u8>,
    /// `]}` and the blank line, with the empty usage where it was asked for.
    tail: &'static [u8],
}

impl ChatAnswer {
    pub(crate) fn new(model: String, include_usage: bool, logprobs: bool) -> Self {
        let tail: &[u8] = if include_usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        let (id, head) = (String::new(), Vec::new());
        Self { id, created: unix_seconds(), model, include_usage, logprobs, calls: Vec::new(), head, tail }
    }

    /// Writes one chunk with one choice.
    fn chunk(
        &self,
        frames: &mut BytesMut,
        choice: usize,
        delta: impl FnOnce(&mut BytesMut),
        tokens: &[TokenEvent],
        finish: Option<&str>,
    ) {
        frames.extend_from_slice(&self.head);
        frames.extend_from_slice(b"{\"index\":");
        put_number(frames, choice as u64);
        frames.extend_from_slice(b",\"delta\":{");
        delta(frames);
        frames.extend_from_slice(b"},\"logprobs\":");
        if tokens.is_empty() {
            frames.extend_from_slice(b"null");
        } else {
            put_json(frames, &logprobs_view(tokens));
        }
        frames.extend_from_slice(b",\"finish_reason\":");
        put_json(frames, &finish);
        frames.extend_from_slice(b"}");
        frames.extend_from_slice(self.tail);
    }
}

impl Answer for ChatAnswer {
    type Whole = ChatCompletion;

    fn wants_tokens(&self) -> bool {
        self.logprobs
    }

    fn bind(&mut self, task: TaskId) {
        self.id = format!("chatcmpl-{}", alloy_primitives::hex::encode(&task.0[..16]));
        let mut head = BytesMut::with_capacity(192);
        head.extend_from_slice(b"data: {\"id\":");
        put_json(&mut head, &self.id);
        head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        put_number(&mut head, self.created);
        head.extend_from_slice(b",\"model\":");
        put_json(&mut head, &self.model);
        head.extend_from_slice(b",\"choices\":[");
        self.head = head.to_vec();
    }

    fn whole(self, outputs: Vec<Output>) -> ChatCompletion {
        let usage = usage_view(total(&outputs));
        let choice = |(index, output): (usize, Output)| ChatChoice {
            index,
            logprobs: self.logprobs.then(|| logprobs_view(&output.tokens)),
            finish_reason: finish_reason(output.end),
            message: ChatMessageView {
                role: "assistant",
                content: (!output.text.is_empty() || output.calls.is_empty()).then_some(output.text),
                refusal: None,
                tool_calls: output.calls.into_iter().map(|call| call_view(None, call)).collect(),
            },
        };
        let choices = outputs.into_iter().enumerate().map(choice).collect();
        ChatCompletion {
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            choices,
            usage,
        }
    }

    fn begin(&mut self, _frames: &mut BytesMut, _usage: Usage) {}

    fn text(&mut self, frames: &mut BytesMut, choice: usize, text: &str, tokens: &[TokenEvent]) {
        let role = self.role(choice);
        let delta = |out: &mut BytesMut| {
            out.extend_from_slice(role);
            out.extend_from_slice(b"\"content\":");
            put_json(out, text);
        };
        self.chunk(frames, choice, delta, tokens, None);
    }

    fn call(&mut self, frames: &mut BytesMut, choice: usize, call: &ToolCall) {
        let role = self.role(choice);
        let made = &mut self.calls[choice];
        let index = made.unwrap_or(0);
        *made = Some(index + 1);
        let delta = |out: &mut BytesMut| {
            out.extend_from_slice(role);
            out.extend_from_slice(b"\"tool_calls\":");
            put_json(out, &[call_view(Some(index), call.clone())]);
        };
        self.chunk(frames, choice, delta, &[], None);
    }

    fn finish(&mut self, frames: &mut BytesMut, choice: usize, end: End, tokens: &[TokenEvent]) {
        // An output without text or calls still begins with its role.
        let role = self.role(choice);
        let delta = |out: &mut BytesMut| out.extend_from_slice(role.strip_suffix(b",").unwrap_or(role));
        self.chunk(frames, choice, delta, tokens, Some(finish_reason(end)));
    }

    fn end(&mut self, frames: &mut BytesMut, usage: Usage) {
        if self.include_usage {
            frames.extend_from_slice(&self.head);
            frames.extend_from_slice(b"],\"usage\":");
            put_json(frames, &usage_view(usage));
            frames.extend_from_slice(b"}\n\n");
        }
        frames.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, frames: &mut BytesMut, error: &ApiError) {
        frames.extend_from_slice(b"data: ");
        frames.extend_from_slice(&error.to_json(Shape::OpenAi));
        frames.extend_from_slice(b"\n\n");
    }
}

impl ChatAnswer {
    /// The beginning of a choice's first delta; empty later.
    fn role(&mut self, choice: usize) -> &'static [u8] {
        if choice >= self.calls.len() {
            self.calls.resize(choice + 1, None);
        }
        match &mut self.calls[choice] {
            Some(_) => b"",
            new => {
                *new = Some(0);
                b"\"role\":\"assistant\","
            }
        }
    }
}

fn call_view(index: Option<u32>, call: ToolCall) -> ToolCallView {
    let function = CalledFunctionView { name: call.name, arguments: call.arguments };
    ToolCallView { index, id: call.id, kind: "function", function }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use cortensor_protocol::LogProb;
    use serde_json::{Value, json};

    fn answer(include_usage: bool, logprobs: bool) -> ChatAnswer {
        let mut answer = ChatAnswer::new("m".into(), include_usage, logprobs);
        answer.created = 5;
        answer.bind(TaskId(B256::repeat_byte(0xab)));
        answer
    }

    fn end(reason: FinishReason, calls: u32) -> End {
        End { reason, stop: None, calls, usage: Usage { input_tokens: 3, cached_input_tokens: 1, output_tokens: 2 } }
    }

    fn token(text: &str) -> TokenEvent {
        let top = TopToken { id: Some(9), bytes: text.into(), logprob: LogProb(-1024) };
        TokenEvent { id: Some(9), text: text.into(), logprob: Some(LogProb(-1024)), top: vec![top] }
    }

    /// The data of every frame, parsed.
    fn data(frames: &BytesMut) -> Vec<Value> {
        let text = std::str::from_utf8(frames).unwrap();
        assert!(text.ends_with("\n\n"));
        let parse = |frame: &str| {
            let data = frame.strip_prefix("data: ").unwrap();
            serde_json::from_str(data).unwrap_or_else(|_| data.into())
        };
        text.trim_end_matches("\n\n").split("\n\n").map(parse).collect()
    }

    fn chunk(delta: Delta, logprobs: Option<ChatLogProbs>, finish_reason: Option<&'static str>) -> Value {
        serde_json::to_value(ChatChunk {
            id: format!("chatcmpl-{}", "ab".repeat(16)),
            object: "chat.completion.chunk",
            created: 5,
            model: "m".into(),
            choices: vec![ChunkChoice { index: 0, delta, logprobs, finish_reason }],
            usage: None,
        })
        .unwrap()
    }

    fn content(text: &str, first: bool) -> Delta {
        Delta { role: first.then_some("assistant"), content: Some(text.into()), tool_calls: vec![] }
    }

    #[test]
    fn frames_are_the_typed_chunks() {
        let mut answer = answer(false, true);
        let mut frames = BytesMut::new();
        answer.text(&mut frames, 0, "a\"\u{1}", &[token("a")]);
        answer.text(&mut frames, 0, "b", &[]);
        answer.finish(&mut frames, 0, end(FinishReason::Length, 0), &[]);
        answer.end(&mut frames, Usage::default());
        let expect = [
            chunk(content("a\"\u{1}", true), Some(logprobs_view(&[token("a")])), None),
            chunk(content("b", false), None, None),
            chunk(Delta::default(), None, Some("length")),
            "[DONE]".into(),
        ];
        assert_eq!(data(&frames), expect);
    }

    #[test]
    fn calls_are_numbered_and_end_with_their_own_reason() {
        let mut answer = answer(false, false);
        let mut frames = BytesMut::new();
        for id in ["c0", "c1"] {
            answer.call(&mut frames, 0, &ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() });
        }
        answer.finish(&mut frames, 0, end(FinishReason::Stop, 2), &[]);
        let data = data(&frames);
        assert_eq!(data[0]["choices"][0]["delta"]["role"], "assistant");
        let call = &data[1]["choices"][0]["delta"]["tool_calls"][0];
        assert_eq!(
            *call,
            json!({"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}})
        );
        assert_eq!(data[2]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn usage_comes_last_and_is_empty_before() {
        let mut answer = answer(true, false);
        let mut frames = BytesMut::new();
        answer.text(&mut frames, 1, "x", &[]);
        answer.text(&mut frames, 0, "y", &[]);
        answer.end(&mut frames, end(FinishReason::Stop, 0).usage);
        let data = data(&frames);
        assert_eq!((&data[0]["usage"], &data[0]["choices"][0]["index"]), (&Value::Null, &json!(1)));
        assert_eq!(data[1]["choices"][0]["delta"]["role"], "assistant", "each choice begins with its role");
        assert_eq!(data[2]["choices"], json!([]));
        assert_eq!(data[2]["usage"]["total_tokens"], 5);
        assert_eq!(data[2]["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    }

    #[test]
    fn whole_answers_hold_text_or_calls() {
        let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() };
        let called = Output { calls: vec![call], end: end(FinishReason::Stop, 1), ..Output::default() };
        let said = Output { text: "hi".into(), tokens: vec![token("hi")], ..Output::default() };
        let whole = serde_json::to_value(answer(false, true).whole(vec![called, said])).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], Value::Null);
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(whole["choices"][1]["message"]["content"], "hi");
        assert_eq!(whole["choices"][1]["logprobs"]["content"][0]["logprob"], -1.0);
        assert_eq!(whole["choices"][1]["logprobs"]["content"][0]["top_logprobs"][0]["bytes"], json!([104, 105]));
    }
}
