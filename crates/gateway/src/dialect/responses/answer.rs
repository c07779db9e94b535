//! The answer of a response, whole and as a stream of numbered events.

use crate::{
    dialect::{
        chat::{TokenLogProb, token_logprobs},
        frames::{put_event_head, put_json, put_number},
        unix_seconds,
    },
    error::ApiError,
    feed::{Answer, End, Output},
};
use bytes::BytesMut;
use cortensor_protocol::{FinishReason, TaskId, TokenEvent, Tool, ToolCall, Usage};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What the answer repeats of the request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Echo {
    pub(crate) instructions: Option<String>,
    pub(crate) max_output_tokens: Option<u32>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) tool_choice: Value,
    pub(crate) tools: Vec<ToolEcho>,
}

/// A tool as the request gave it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ToolEcho {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: String,
    #[schema(value_type = Object)]
    parameters: Box<RawValue>,
    strict: bool,
}

impl ToolEcho {
    pub(crate) fn new(tool: &Tool) -> Option<Self> {
        let parameters = RawValue::from_string(tool.parameters.clone()).ok()?;
        let (name, description) = (tool.name.clone(), tool.description.clone());
        Some(Self { kind: "function", name, description, parameters, strict: false })
    }
}

/// A response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseObject {
    id: String,
    object: &'static str,
    /// Unix time in seconds.
    created_at: u64,
    /// `in_progress`, `completed`, `incomplete` or `failed`.
    status: &'static str,
    error: Option<ResponseError>,
    incomplete_details: Option<IncompleteDetails>,
    model: String,
    output: Vec<ItemView>,
    usage: Option<ResponseUsage>,
    previous_response_id: Option<String>,
    /// Always `false`: nothing is stored.
    store: bool,
    truncation: &'static str,
    #[serde(flatten)]
    echo: Echo,
}

/// Why a response failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseError {
    code: &'static str,
    message: String,
}

/// Why a response is incomplete.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IncompleteDetails {
    reason: &'static str,
}

/// An item of the output.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ItemView {
    /// What the model said.
    Message {
        /// Its id.
        id: String,
        /// `in_progress`, `completed` or `incomplete`.
        status: &'static str,
        /// `assistant`.
        role: &'static str,
        /// Its text.
        content: Vec<PartView>,
    },
    /// A call of a function.
    FunctionCall {
        /// Its id.
        id: String,
        /// `in_progress` or `completed`.
        status: &'static str,
        /// Unique within the conversation.
        call_id: String,
        /// Name of the function.
        name: String,
        /// JSON text.
        arguments: String,
    },
}

/// A part of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PartView {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    #[schema(value_type = Vec<Object>)]
    annotations: [(); 0],
    logprobs: Vec<TokenLogProb>,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResponseUsage {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

/// Details of the input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InputDetails {
    /// Tokens found in the miner's cache.
    cached_tokens: u32,
    /// Always 0: writing to the cache is not counted.
    cache_write_tokens: u32,
}

/// Details of the output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputDetails {
    reasoning_tokens: u32,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_input_tokens, cache_write_tokens: 0 },
            output_tokens: usage.output_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: 0 },
            total_tokens: u64::from(usage.input_tokens) + u64::from(usage.output_tokens),
        }
    }
}

fn part(text: String, logprobs: Vec<TokenLogProb>) -> PartView {
    PartView { kind: "output_text", text, annotations: [], logprobs }
}

/// A message that is being written.
#[derive(Debug, Default)]
struct OpenMessage {
    text: String,
    logprobs: Vec<TokenLogProb>,
}

/// Shows an output as a response.
#[derive(Debug)]
pub(crate) struct ResponsesAnswer {
    /// Hexadecimal digits that all ids of the answer share.
    key: String,
    created_at: u64,
    model: String,
    echo: Echo,
    logprobs: bool,
    sequence: u64,
    open: Option<OpenMessage>,
    output: Vec<ItemView>,
    end: Option<End>,
}

impl ResponsesAnswer {
    pub(crate) fn new(model: String, echo: Echo, logprobs: bool) -> Self {
        let (key, output) = (String::new(), Vec::new());
        Self { key, created_at: unix_seconds(), model, echo, logprobs, sequence: 0, open: None, output, end: None }
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}{:02}", self.key, self.output.len())
    }

    fn message(&self, status: &'static str, content: Vec<PartView>) -> ItemView {
        ItemView::Message { id: self.item_id("msg"), status, role: "assistant", content }
    }

    fn function_call(&self, status: &'static str, call: &ToolCall, arguments: &str) -> ItemView {
        ItemView::FunctionCall {
            id: self.item_id("fc"),
            status,
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: arguments.to_owned(),
        }
    }

    fn status(&self) -> &'static str {
        match self.end {
            None => "in_progress",
            Some(End { reason: FinishReason::Length, .. }) => "incomplete",
            Some(_) => "completed",
        }
    }

    fn object(&self, status: &'static str, output: Vec<ItemView>, error: Option<ResponseError>) -> ResponseObject {
        let incomplete = status == "incomplete";
        ResponseObject {
            id: format!("resp_{}", self.key),
            object: "response",
            created_at: self.created_at,
            status,
            error,
            incomplete_details: incomplete.then_some(IncompleteDetails { reason: "max_output_tokens" }),
            model: self.model.clone(),
            output,
            usage: self.end.map(|end| end.usage.into()),
            previous_response_id: None,
            store: false,
            truncation: "disabled",
            echo: self.echo.clone(),
        }
    }

    /// Writes an event: its type, its number, and `fields` (the inside of a JSON object).
    fn event(&mut self, frames: &mut BytesMut, name: &str, fields: impl FnOnce(&mut BytesMut)) {
        put_event_head(frames, name);
        frames.extend_from_slice(b"{\"type\":\"");
        frames.extend_from_slice(name.as_bytes());
        frames.extend_from_slice(b"\",\"sequence_number\":");
        put_number(frames, self.sequence);
        self.sequence += 1;
        fields(frames);
        frames.extend_from_slice(b"}\n\n");
    }

    /// Writes an event about the current item.
    fn item_event(&mut self, frames: &mut BytesMut, name: &str, fields: &[(&str, &Value)]) {
        let index = self.output.len() as u64;
        self.event(frames, name, |out| {
            out.extend_from_slice(b",\"output_index\":");
            put_number(out, index);
            for (key, value) in fields {
                out.extend_from_slice(b",");
                put_json(out, *key);
                out.extend_from_slice(b":");
                put_json(out, *value);
            }
        });
    }

    fn response_event(&mut self, frames: &mut BytesMut, name: &str, response: &ResponseObject) {
        self.event(frames, name, |out| {
            out.extend_from_slice(b",\"response\":");
            put_json(out, response);
        });
    }

    fn open_message(&mut self, frames: &mut BytesMut) {
        if self.open.is_some() {
            return;
        }
        self.open = Some(OpenMessage::default());
        let item = json!(self.message("in_progress", Vec::new()));
        self.item_event(frames, "response.output_item.added", &[("item", &item)]);
        let id = json!(self.item_id("msg"));
        let part = json!(part(String::new(), Vec::new()));
        let fields = [("item_id", &id), ("content_index", &json!(0)), ("part", &part)];
        self.item_event(frames, "response.content_part.added", &fields);
    }

    fn close_message(&mut self, frames: &mut BytesMut, status: &'static str) {
        let Some(open) = self.open.take() else { return };
        let id = json!(self.item_id("msg"));
        let index = json!(0);
        let (text, logprobs) = (json!(open.text), json!(open.logprobs));
        let fields = [("item_id", &id), ("content_index", &index), ("text", &text), ("logprobs", &logprobs)];
        self.item_event(frames, "response.output_text.done", &fields);
        let part = part(open.text, open.logprobs);
        let fields = [("item_id", &id), ("content_index", &index), ("part", &json!(part))];
        self.item_event(frames, "response.content_part.done", &fields);
        self.close_item(frames, self.message(status, vec![part]));
    }

    fn close_item(&mut self, frames: &mut BytesMut, item: ItemView) {
        self.item_event(frames, "response.output_item.done", &[("item", &json!(item))]);
        self.output.push(item);
    }
}

impl Answer for ResponsesAnswer {
    type Whole = ResponseObject;

    fn wants_tokens(&self) -> bool {
        self.logprobs
    }

    fn bind(&mut self, task: TaskId) {
        self.key = alloy_primitives::hex::encode(&task.0[..16]);
    }

    fn whole(mut self, mut outputs: Vec<Output>) -> ResponseObject {
        let output = outputs.pop().unwrap_or_default();
        self.end = Some(output.end);
        let status = self.status();
        if !output.text.is_empty() || output.calls.is_empty() {
            let logprobs = if self.logprobs { token_logprobs(&output.tokens) } else { Vec::new() };
            let message = self.message(status, vec![part(output.text, logprobs)]);
            self.output.push(message);
        }
        for call in output.calls {
            let item = self.function_call("completed", &call, &call.arguments);
            self.output.push(item);
        }
        let output = std::mem::take(&mut self.output);
        self.object(status, output, None)
    }

    fn begin(&mut self, frames: &mut BytesMut, _usage: Usage) {
        let response = self.object("in_progress", Vec::new(), None);
        self.response_event(frames, "response.created", &response);
        self.response_event(frames, "response.in_progress", &response);
    }

    fn text(&mut self, frames: &mut BytesMut, _choice: usize, text: &str, tokens: &[TokenEvent]) {
        self.open_message(frames);
        let logprobs = if self.logprobs { token_logprobs(tokens) } else { Vec::new() };
        let (id, index) = (self.item_id("msg"), self.output.len() as u64);
        self.event(frames, "response.output_text.delta", |out| {
            out.extend_from_slice(b",\"output_index\":");
            put_number(out, index);
            out.extend_from_slice(b",\"item_id\":");
            put_json(out, &id);
            out.extend_from_slice(b",\"content_index\":0,\"delta\":");
            put_json(out, text);
            out.extend_from_slice(b",\"logprobs\":");
            put_json(out, &logprobs);
        });
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            open.logprobs.extend(logprobs);
        }
    }

    fn call(&mut self, frames: &mut BytesMut, _choice: usize, call: &ToolCall) {
        self.close_message(frames, "completed");
        let item = json!(self.function_call("in_progress", call, ""));
        self.item_event(frames, "response.output_item.added", &[("item", &item)]);
        let id = json!(self.item_id("fc"));
        let arguments = json!(call.arguments);
        let fields = [("item_id", &id), ("delta", &arguments)];
        self.item_event(frames, "response.function_call_arguments.delta", &fields);
        let fields = [("item_id", &id), ("name", &json!(call.name)), ("arguments", &arguments)];
        self.item_event(frames, "response.function_call_arguments.done", &fields);
        self.close_item(frames, self.function_call("completed", call, &call.arguments));
    }

    fn finish(&mut self, frames: &mut BytesMut, _choice: usize, end: End, tokens: &[TokenEvent]) {
        self.end = Some(end);
        if self.output.is_empty() {
            self.open_message(frames);
        }
        if let Some(open) = self.open.as_mut().filter(|_| self.logprobs) {
            open.logprobs.extend(token_logprobs(tokens));
        }
        let status = self.status();
        self.close_message(frames, status);
    }

    fn end(&mut self, frames: &mut BytesMut, _usage: Usage) {
        let status = self.status();
        let output = std::mem::take(&mut self.output);
        let response = self.object(status, output, None);
        self.response_event(frames, &format!("response.{status}"), &response);
    }

    fn fail(&mut self, frames: &mut BytesMut, error: &ApiError) {
        let (message, param) = (error.message.clone(), error.param.clone());
        self.event(frames, "error", |out| {
            out.extend_from_slice(b",\"code\":");
            put_json(out, error.code);
            out.extend_from_slice(b",\"message\":");
            put_json(out, &message);
            out.extend_from_slice(b",\"param\":");
            put_json(out, &param);
        });
        let output = std::mem::take(&mut self.output);
        let error = ResponseError { code: error.code, message: error.message.clone() };
        let response = self.object("failed", output, Some(error));
        self.response_event(frames, "response.failed", &response);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(logprobs: bool) -> ResponsesAnswer {
        let echo = Echo {
            instructions: None,
            max_output_tokens: None,
            metadata: BTreeMap::new(),
            parallel_tool_calls: true,
            temperature: 1.0,
            top_p: 1.0,
            tool_choice: "auto".into(),
            tools: vec![],
        };
        let mut answer = ResponsesAnswer::new("m".into(), echo, logprobs);
        answer.bind(TaskId::default());
        answer
    }

    fn end(reason: FinishReason, calls: u32) -> End {
        End { reason, stop: None, calls, usage: Usage { input_tokens: 5, cached_input_tokens: 2, output_tokens: 3 } }
    }

    fn call() -> ToolCall {
        ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() }
    }

    /// Data of every event, checked to be named by its type and numbered without a gap.
    fn events(frames: &BytesMut) -> Vec<Value> {
        let text = std::str::from_utf8(frames).unwrap();
        let parse = |(at, frame): (usize, &str)| {
            let (name, data) = frame.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
            assert_eq!(data["sequence_number"], at);
            data
        };
        text.trim_end().split("\n\n").enumerate().map(parse).collect()
    }

    #[test]
    fn items_open_and_close_in_order() {
        let mut answer = answer(false);
        let mut frames = BytesMut::new();
        answer.begin(&mut frames, Usage::default());
        answer.text(&mut frames, 0, "a", &[]);
        answer.text(&mut frames, 0, "b", &[]);
        answer.call(&mut frames, 0, &call());
        answer.finish(&mut frames, 0, end(FinishReason::EndOfSequence, 1), &[]);
        answer.end(&mut frames, Usage::default());
        let events = events(&frames);
        let kinds: Vec<_> =
            events.iter().map(|event| (event["type"].as_str().unwrap(), event["output_index"].as_u64())).collect();
        assert_eq!(
            kinds,
            [
                ("response.created", None),
                ("response.in_progress", None),
                ("response.output_item.added", Some(0)),
                ("response.content_part.added", Some(0)),
                ("response.output_text.delta", Some(0)),
                ("response.output_text.delta", Some(0)),
                ("response.output_text.done", Some(0)),
                ("response.content_part.done", Some(0)),
                ("response.output_item.done", Some(0)),
                ("response.output_item.added", Some(1)),
                ("response.function_call_arguments.delta", Some(1)),
                ("response.function_call_arguments.done", Some(1)),
                ("response.output_item.done", Some(1)),
                ("response.completed", None),
            ]
        );
        assert_eq!(events[6]["text"], "ab");
        assert_eq!(events[13]["response"]["output"][0]["content"][0]["text"], "ab");
        assert_eq!(events[13]["response"]["output"][1]["call_id"], "c");
        assert_eq!(events[13]["response"]["usage"]["total_tokens"], 8);
    }

    #[test]
    fn an_answer_cut_short_is_incomplete() {
        let output = Output { text: "a".into(), end: end(FinishReason::Length, 0), ..Output::default() };
        let whole = serde_json::to_value(answer(false).whole(vec![output])).unwrap();
        assert_eq!(
            (&whole["status"], &whole["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
        let mut answer = answer(false);
        let mut frames = BytesMut::new();
        answer.finish(&mut frames, 0, end(FinishReason::Length, 0), &[]);
        answer.end(&mut frames, Usage::default());
        assert_eq!(events(&frames).last().unwrap()["type"], "response.incomplete");
    }

    #[test]
    fn failures_are_events_too() {
        let mut answer = answer(false);
        let mut frames = BytesMut::new();
        answer.fail(&mut frames, &ApiError::timeout("late"));
        let events = events(&frames);
        assert_eq!((&events[0]["type"], &events[0]["code"]), (&json!("error"), &json!("timeout")));
        assert_eq!(events[1]["response"]["error"]["message"], "late");
    }
}
