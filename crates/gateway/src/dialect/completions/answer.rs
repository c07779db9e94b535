//! The answer of a completion, whole and as a stream of chunks. A chunk has the shape of the whole answer.

use crate::{
    dialect::{
        chat::{UsageView, usage_view},
        frames::{nats, put_json, put_number, token_bytes},
        unix_seconds,
    },
    error::{ApiError, Shape},
    feed::{Answer, End, Output, total},
};
use bytes::BytesMut;
use cortensor_protocol::{FinishReason, TaskId, TokenEvent, ToolCall, Usage};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A completion; in streams, what is new.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completion {
    id: String,
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageView>,
}

/// One answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    text: String,
    index: usize,
    logprobs: Option<CompletionLogProbs>,
    /// `stop` or `length`; `null` in streams until the end.
    finish_reason: Option<&'static str>,
}

/// Log-probabilities in nats, one entry per token.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogProbs {
    tokens: Vec<String>,
    /// `null` where the miner's engine does not tell.
    token_logprobs: Vec<Option<f64>>,
    /// Alternatives by their text.
    top_logprobs: Vec<BTreeMap<String, f64>>,
    /// Where each token begins in the output, in characters.
    text_offset: Vec<usize>,
}

/// Shows outputs as a completion.
#[derive(Debug)]
pub(crate) struct CompletionAnswer {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
    logprobs: Option<u8>,
    /// Characters of each choice so far.
    offsets: Vec<usize>,
    /// `data: {"id":…,"choices":[`
    head: Vec<u8>,
}

impl CompletionAnswer {
    pub(crate) fn new(model: String, include_usage: bool, logprobs: Option<u8>) -> Self {
        let (id, head, offsets) = (String::new(), Vec::new(), Vec::new());
        Self { id, created: unix_seconds(), model, include_usage, logprobs, offsets, head }
    }

    fn logprobs(&mut self, choice: usize, tokens: &[TokenEvent]) -> Option<CompletionLogProbs> {
        let most = usize::from(self.logprobs?);
        if choice >= self.offsets.len() {
            self.offsets.resize(choice + 1, 0);
        }
        let mut view = CompletionLogProbs::default();
        for token in tokens {
            let alternatives = token.top.iter().take(most);
            let alternatives =
                alternatives.map(|top| (String::from_utf8_lossy(&top.bytes).into_owned(), nats(top.logprob)));
            view.tokens.push(String::from_utf8_lossy(token_bytes(token)).into_owned());
            view.token_logprobs.push(token.logprob.map(nats));
            view.top_logprobs.push(alternatives.collect());
            view.text_offset.push(self.offsets[choice]);
            self.offsets[choice] += token.text.chars().count();
        }
        Some(view)
    }

    fn chunk(&mut self, frames: &mut BytesMut, choice: usize, text: &str, tokens: &[TokenEvent], finish: Option<&str>) {
        frames.extend_from_slice(&self.head);
        frames.extend_from_slice(b"{\"text\":");
        put_json(frames, text);
        frames.extend_from_slice(b",\"index\":");
        put_number(frames, choice as u64);
        frames.extend_from_slice(b",\"logprobs\":");
        match if tokens.is_empty() { None } else { self.logprobs(choice, tokens) } {
            None => frames.extend_from_slice(b"null"),
            Some(view) => put_json(frames, &view),
        }
        frames.extend_from_slice(b",\"finish_reason\":");
        put_json(frames, &finish);
        frames.extend_from_slice(b"}]}\n\n");
    }
}

fn finish_reason(end: End) -> &'static str {
    if end.reason == FinishReason::Length { "length" } else { "stop" }
}

impl Answer for CompletionAnswer {
    type Whole = Completion;

    fn wants_tokens(&self) -> bool {
        self.logprobs.is_some()
    }

    fn bind(&mut self, task: TaskId) {
        self.id = format!("cmpl-{}", alloy_primitives::hex::encode(&task.0[..16]));
        let mut head = BytesMut::with_capacity(160);
        head.extend_from_slice(b"data: {\"id\":");
        put_json(&mut head, &self.id);
        head.extend_from_slice(b",\"object\":\"text_completion\",\"created\":");
        put_number(&mut head, self.created);
        head.extend_from_slice(b",\"model\":");
        put_json(&mut head, &self.model);
        head.extend_from_slice(b",\"choices\":[");
        self.head = head.to_vec();
    }

    fn whole(mut self, outputs: Vec<Output>) -> Completion {
        let usage = Some(usage_view(total(&outputs)));
        let choice = |(index, output): (usize, Output)| CompletionChoice {
            index,
            logprobs: self.logprobs(index, &output.tokens),
            finish_reason: Some(finish_reason(output.end)),
            text: output.text,
        };
        let choices = outputs.into_iter().enumerate().map(choice).collect();
        Completion { id: self.id, object: "text_completion", created: self.created, model: self.model, choices, usage }
    }

    fn begin(&mut self, _frames: &mut BytesMut, _usage: Usage) {}

    fn text(&mut self, frames: &mut BytesMut, choice: usize, text: &str, tokens: &[TokenEvent]) {
        self.chunk(frames, choice, text, tokens, None);
    }

    fn call(&mut self, _frames: &mut BytesMut, _choice: usize, _call: &ToolCall) {
        // A completion has no tools, so its text is never searched for calls.
    }

    fn finish(&mut self, frames: &mut BytesMut, choice: usize, end: End, tokens: &[TokenEvent]) {
        self.chunk(frames, choice, "", tokens, Some(finish_reason(end)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::LogProb;
    use serde_json::{Value, json};

    fn token(text: &str) -> TokenEvent {
        TokenEvent { id: None, text: text.into(), logprob: Some(LogProb(-512)), top: vec![] }
    }

    fn answer(logprobs: Option<u8>) -> CompletionAnswer {
        let mut answer = CompletionAnswer::new("m".into(), true, logprobs);
        answer.created = 5;
        answer.bind(TaskId::default());
        answer
    }

    #[test]
    fn chunks_have_the_shape_of_the_whole() {
        let mut answer = answer(Some(0));
        let mut frames = BytesMut::new();
        answer.text(&mut frames, 0, "né", &[token("n"), token("é")]);
        answer.text(&mut frames, 0, "x", &[token("x")]);
        let text = String::from_utf8(frames.to_vec()).unwrap();
        let frames: Vec<Value> = (text.trim_end().split("\n\n"))
            .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        assert_eq!(frames[0]["choices"][0]["logprobs"]["text_offset"], json!([0, 1]));
        assert_eq!(frames[1]["choices"][0]["logprobs"]["text_offset"], json!([2]));
        assert_eq!(frames[1]["choices"][0]["logprobs"]["token_logprobs"], json!([-0.5]));
        let typed = serde_json::to_value(Completion {
            id: answer.id.clone(),
            object: "text_completion",
            created: 5,
            model: "m".into(),
            choices: vec![CompletionChoice { text: "z".into(), index: 0, logprobs: None, finish_reason: None }],
            usage: None,
        });
        let mut frames = BytesMut::new();
        answer.text(&mut frames, 0, "z", &[]);
        assert_eq!(serde_json::from_slice::<Value>(&frames[6..]).unwrap(), typed.unwrap());
    }

    #[test]
    fn whole_answers_carry_usage_and_reasons() {
        let end = End {
            reason: FinishReason::Length,
            stop: None,
            calls: 0,
            usage: Usage { output_tokens: 2, ..Usage::default() },
        };
        let output = Output { text: "ab".into(), end, ..Output::default() };
        let whole = serde_json::to_value(answer(None).whole(vec![output.clone(), output])).unwrap();
        assert_eq!(whole["choices"][1]["finish_reason"], "length");
        assert_eq!(whole["choices"][1]["index"], 1);
        assert_eq!(whole["choices"][0]["logprobs"], Value::Null);
        assert_eq!(whole["usage"]["completion_tokens"], 4);
    }
}
