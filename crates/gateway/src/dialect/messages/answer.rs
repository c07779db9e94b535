//! The answer of a message, whole and as a stream of events.

use crate::{
    dialect::frames::{put_event, put_event_head, put_json, put_number},
    error::{ApiError, Shape},
    feed::{Answer, End, Output},
};
use bytes::BytesMut;
use cortensor_protocol::{FinishReason, TaskId, TokenEvent, ToolCall, Usage};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use utoipa::ToSchema;

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: String,
    content: Vec<BlockView>,
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`; `null` at the beginning of a stream.
    stop_reason: Option<&'static str>,
    /// The text that ended it; `null` if there were several to choose from and the model's server does not tell which.
    stop_sequence: Option<String>,
    usage: MessageUsage,
}

/// A block of content.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum BlockView {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A call of a tool.
    ToolUse {
        /// Unique within the conversation.
        id: String,
        /// Name of the tool.
        name: String,
        /// The arguments.
        #[schema(value_type = Object)]
        input: Box<RawValue>,
    },
}

/// What was used.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct MessageUsage {
    /// Tokens of the prompt that were not in the miner's cache.
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    /// Tokens of the prompt found in the miner's cache.
    cache_read_input_tokens: u32,
    output_tokens: u32,
}

impl From<Usage> for MessageUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens.saturating_sub(usage.cached_input_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_input_tokens,
            output_tokens: usage.output_tokens,
        }
    }
}

/// The arguments as JSON. The parser of calls passes on objects only; text that is none after all becomes `{}`, since
/// this API has no other way to show it.
fn arguments(call: &ToolCall) -> Box<RawValue> {
    RawValue::from_string(call.arguments.clone())
        .or_else(|_| RawValue::from_string("{}".to_owned()))
        .expect("an empty object is valid JSON")
}

/// Shows an output as a message.
#[derive(Debug)]
pub(crate) struct MessageAnswer {
    id: String,
    model: String,
    stop_sequences: Vec<String>,
    /// Number of the next block.
    next_block: u32,
    /// Whether a block of text is open.
    text_open: bool,
}

impl MessageAnswer {
    pub(crate) fn new(model: String, stop_sequences: Vec<String>) -> Self {
        Self { id: String::new(), model, stop_sequences, next_block: 0, text_open: false }
    }

    fn stop(&self, end: End) -> (&'static str, Option<String>) {
        match (end.calls, end.reason) {
            (1.., _) => ("tool_use", None),
            (0, FinishReason::Length) => ("max_tokens", None),
            (0, FinishReason::Stop) => {
                let told = end.stop.and_then(|place| self.stop_sequences.get(usize::from(place)));
                let only = if let [only] = self.stop_sequences.as_slice() { Some(only) } else { None };
                ("stop_sequence", told.or(only).cloned())
            }
            (0, _) => ("end_turn", None),
        }
    }

    fn close_text(&mut self, frames: &mut BytesMut) {
        if std::mem::take(&mut self.text_open) {
            self.stop_block(frames);
        }
    }

    fn stop_block(&mut self, frames: &mut BytesMut) {
        put_event(frames, "content_block_stop", &json!({"type": "content_block_stop", "index": self.next_block}));
        self.next_block += 1;
    }

    fn start_block(&mut self, frames: &mut BytesMut, block: &serde_json::Value) {
        let event = json!({"type": "content_block_start", "index": self.next_block, "content_block": block});
        put_event(frames, "content_block_start", &event);
    }

    fn delta(&mut self, frames: &mut BytesMut, kind: &str, field: &str, text: &str) {
        put_event_head(frames, "content_block_delta");
        frames.extend_from_slice(b"{\"type\":\"content_block_delta\",\"index\":");
        put_number(frames, self.next_block);
        frames.extend_from_slice(b",\"delta\":{\"type\":\"");
        frames.extend_from_slice(kind.as_bytes());
        frames.extend_from_slice(b"\",\"");
        frames.extend_from_slice(field.as_bytes());
        frames.extend_from_slice(b"\":");
        put_json(frames, text);
        frames.extend_from_slice(b"}}\n\n");
    }
}

impl Answer for MessageAnswer {
    type Whole = Message;

    fn wants_tokens(&self) -> bool {
        false
    }

    fn bind(&mut self, task: TaskId) {
        self.id = format!("msg_{}", alloy_primitives::hex::encode(&task.0[..16]));
    }

    fn whole(self, mut outputs: Vec<Output>) -> Message {
        let output = outputs.pop().unwrap_or_default();
        let (stop_reason, stop_sequence) = self.stop(output.end);
        let mut content = Vec::with_capacity(1 + output.calls.len());
        if !output.text.is_empty() {
            content.push(BlockView::Text { text: output.text });
        }
        for call in output.calls {
            let input = arguments(&call);
            content.push(BlockView::ToolUse { id: call.id, name: call.name, input });
        }
        Message {
            id: self.id,
            kind: "message",
            role: "assistant",
            model: self.model,
            content,
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: output.end.usage.into(),
        }
    }

    fn begin(&mut self, frames: &mut BytesMut, usage: Usage) {
        let message = Message {
            id: self.id.clone(),
            kind: "message",
            role: "assistant",
            model: self.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: usage.into(),
        };
        put_event(frames, "message_start", &json!({"type": "message_start", "message": message}));
    }

    fn text(&mut self, frames: &mut BytesMut, _choice: usize, text: &str, _tokens: &[TokenEvent]) {
        if !self.text_open {
            self.start_block(frames, &json!({"type": "text", "text": ""}));
            self.text_open = true;
        }
        self.delta(frames, "text_delta", "text", text);
    }

    fn call(&mut self, frames: &mut BytesMut, _choice: usize, call: &ToolCall) {
        self.close_text(frames);
        self.start_block(frames, &json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}));
        self.delta(frames, "input_json_delta", "partial_json", arguments(call).get());
        self.stop_block(frames);
    }

    fn finish(&mut self, frames: &mut BytesMut, _choice: usize, end: End, _tokens: &[TokenEvent]) {
        self.close_text(frames);
        let (reason, sequence) = self.stop(end);
        let event = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": MessageUsage::from(end.usage),
        });
        put_event(frames, "message_delta", &event);
    }

    fn end(&mut self, frames: &mut BytesMut, _usage: Usage) {
        put_event(frames, "message_stop", &json!({"type": "message_stop"}));
    }

    fn fail(&mut self, frames: &mut BytesMut, error: &ApiError) {
        put_event_head(frames, "error");
        frames.extend_from_slice(&error.to_json(Shape::Anthropic));
        frames.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn answer(stops: &[&str]) -> MessageAnswer {
        let mut answer = MessageAnswer::new("m".into(), stops.iter().map(ToString::to_string).collect());
        answer.bind(TaskId::default());
        answer
    }

    fn end(reason: FinishReason, calls: u32) -> End {
        End { reason, stop: None, calls, usage: Usage { input_tokens: 5, cached_input_tokens: 2, output_tokens: 3 } }
    }

    fn call() -> ToolCall {
        ToolCall { id: "t".into(), name: "f".into(), arguments: r#"{"a":1}"#.into() }
    }

    /// Each event's name and data; the name is also the data's type.
    fn events(frames: &BytesMut) -> Vec<Value> {
        let text = std::str::from_utf8(frames).unwrap();
        let parse = |frame: &str| {
            let (name, data) = frame.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
            data
        };
        text.trim_end().split("\n\n").map(parse).collect()
    }

    #[test]
    fn text_and_calls_are_blocks_of_their_own() {
        let mut answer = answer(&[]);
        let mut frames = BytesMut::new();
        answer.begin(&mut frames, end(FinishReason::Stop, 0).usage);
        answer.text(&mut frames, 0, "a\n", &[]);
        answer.text(&mut frames, 0, "b", &[]);
        answer.call(&mut frames, 0, &call());
        answer.finish(&mut frames, 0, end(FinishReason::EndOfSequence, 1), &[]);
        answer.end(&mut frames, Usage::default());
        let events = events(&frames);
        let kinds: Vec<_> =
            events.iter().map(|event| (event["type"].as_str().unwrap(), event["index"].as_u64())).collect();
        assert_eq!(
            kinds,
            [
                ("message_start", None),
                ("content_block_start", Some(0)),
                ("content_block_delta", Some(0)),
                ("content_block_delta", Some(0)),
                ("content_block_stop", Some(0)),
                ("content_block_start", Some(1)),
                ("content_block_delta", Some(1)),
                ("content_block_stop", Some(1)),
                ("message_delta", None),
                ("message_stop", None),
            ]
        );
        assert_eq!(events[0]["message"]["usage"]["input_tokens"], 3);
        assert_eq!(events[2]["delta"], json!({"type": "text_delta", "text": "a\n"}));
        assert_eq!(events[6]["delta"], json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"}));
        assert_eq!(events[8]["delta"]["stop_reason"], "tool_use");
        assert_eq!(events[8]["usage"]["cache_read_input_tokens"], 2);
    }

    #[test]
    fn reasons_are_the_apis_own() {
        let check = |stops: &[&str], end, expect: (&'static str, Option<&str>)| {
            assert_eq!(answer(stops).stop(end), (expect.0, expect.1.map(str::to_owned)));
        };
        check(&[], end(FinishReason::EndOfSequence, 0), ("end_turn", None));
        check(&[], end(FinishReason::Length, 0), ("max_tokens", None));
        check(&["X"], end(FinishReason::Stop, 0), ("stop_sequence", Some("X")));
        check(&["X", "Y"], end(FinishReason::Stop, 0), ("stop_sequence", None));
        check(&["X"], end(FinishReason::Stop, 1), ("tool_use", None));
    }

    #[test]
    fn whole_answers_hold_blocks() {
        let output =
            Output { text: "hi".into(), calls: vec![call()], end: end(FinishReason::Stop, 1), ..Output::default() };
        let whole = serde_json::to_value(answer(&[]).whole(vec![output])).unwrap();
        assert_eq!(
            whole["content"],
            json!([{"type": "text", "text": "hi"},
                                            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}])
        );
        assert_eq!(whole["type"], "message");
    }
}
