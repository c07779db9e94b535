//! Turns the upstream's chunks into engine events. No I/O, so that every order and shape of chunks can be tested.
//!
//! One event a token where the upstream reports tokens (log-probabilities or ids), else one a chunk; what the upstream's final
//! count has beyond that is reported as tokens without text, so that a tool call of fifty tokens counts as fifty. Tool
//! calls, which arrive in pieces, are delivered whole in Hermes form; reasoning becomes `<think>…</think>` text, as the
//! model wrote it.

use super::{
    http::Refusal,
    wire::{CallDelta, Choice, Chunk, Delta, TokenLogProb, Usage as WireUsage},
};
use crate::{EngineError, EngineEvent, stop::StopMatcher};
use cortensor_protocol::{FinishReason, TokenEvent, TokenId, Usage, generation::TopToken, sampling::LogProb};
use serde_json::{Value, json};

/// Most bytes of the arguments of one tool call.
const MAX_ARGUMENTS: usize = 1 << 20;
/// Most tool calls in one answer.
const MAX_CALLS: usize = 128;

/// What is known before the first chunk.
pub(super) struct Start {
    /// The prompt's tokens, if the upstream was asked for them.
    pub(super) prompt: Vec<TokenId>,
    /// What is charged for the prompt where the upstream never counts it.
    pub(super) prompt_floor: u32,
    /// Most tokens that may come.
    pub(super) limit: u32,
    /// Alternatives that the client wants with each token.
    pub(super) top: u8,
    /// Holds back what may become a stop text.
    pub(super) stops: StopMatcher,
    /// The request's stop texts, one of which `stop` may mean.
    pub(super) stop_texts: Vec<String>,
}

/// Builds the events of one generation.
pub(super) struct Assembler {
    start: Start,
    started: bool,
    /// Tokens reported so far.
    emitted: u32,
    /// The upstream reports tokens, so that chunks are not taken for tokens.
    exact: bool,
    reasoning: bool,
    calls: Vec<Call>,
    /// Text that goes out with the next token.
    pending: String,
    finish: Option<FinishReason>,
    /// The stop text that the upstream named.
    told_stop: Option<u8>,
    ended: bool,
    usage: WireUsage,
}

#[derive(Default)]
struct Call {
    index: u32,
    name: String,
    arguments: String,
}

fn broken(problem: impl Into<String>) -> EngineError {
    EngineError::Backend(problem.into())
}

impl Assembler {
    pub(super) fn new(start: Start) -> Self {
        Self {
            start,
            started: false,
            emitted: 0,
            exact: false,
            reasoning: false,
            calls: Vec::new(),
            pending: String::new(),
            finish: None,
            told_stop: None,
            ended: false,
            usage: WireUsage::default(),
        }
    }

    /// Tokens reported so far.
    pub(super) fn emitted(&self) -> u32 {
        self.emitted
    }

    /// Tokens of the prompt, as far as told.
    pub(super) fn input_tokens(&self) -> u32 {
        self.used().input_tokens
    }

    /// Whether the upstream has said why the answer ended, so that nothing more needs to come.
    pub(super) fn complete(&self) -> bool {
        self.finish.is_some()
    }

    /// Takes the prompt's tokens, if they are known before the upstream answers. Where nothing is left to generate, the
    /// answer ends here.
    pub(super) fn prompt(&mut self, tokens: Vec<TokenId>) -> Vec<EngineEvent> {
        let mut events = Vec::new();
        self.start.prompt = tokens;
        if self.start.limit == 0 {
            self.begin(None, &mut events);
            let stopped = self.start.stops.stopped();
            self.finished(if stopped { FinishReason::Stop } else { FinishReason::Length }, &mut events);
        }
        events
    }

    /// Whether the last event is out: nothing more of the stream is wanted.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes one chunk. The events are to be delivered in order; after an error the generation has failed.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Result<Vec<EngineEvent>, EngineError> {
        let mut events = Vec::new();
        if self.ended {
            return Ok(events);
        }
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(broken(format!("the upstream broke off: {}", Refusal::from_value(&error).message)));
        }
        if let Some(usage) = chunk.usage {
            self.merge(usage);
        }
        let choice = chunk.choices.unwrap_or_default().into_iter().next();
        if !self.started {
            self.begin(chunk.prompt_token_ids.or_else(|| choice.as_ref()?.prompt_token_ids.clone()), &mut events);
        }
        if let Some(choice) = choice.filter(|_| self.finish.is_none()) {
            self.choice(choice, &mut events)?;
        }
        Ok(events)
    }

    /// The upstream said that it is through, or closed the stream. `complete` tells which.
    pub(super) fn end(&mut self, complete: bool) -> Result<Vec<EngineEvent>, EngineError> {
        let mut events = Vec::new();
        if self.ended {
            return Ok(events);
        }
        let reason = match self.finish {
            Some(reason) => reason,
            None if complete && self.started => FinishReason::EndOfSequence,
            None => return Err(broken("the upstream closed the stream in the middle of an answer")),
        };
        self.conclude(reason, &mut events)?;
        Ok(events)
    }

    /// Ends a generation that was cancelled.
    pub(super) fn cancel(&mut self) -> EngineEvent {
        self.ended = true;
        let tail = self.take_held();
        EngineEvent::Finished { reason: FinishReason::Cancelled, stop: None, tail, usage: self.used() }
    }

    fn merge(&mut self, usage: WireUsage) {
        self.usage.prompt_tokens = usage.prompt_tokens.or(self.usage.prompt_tokens);
        self.usage.completion_tokens = usage.completion_tokens.or(self.usage.completion_tokens);
        self.usage.prompt_tokens_details = usage.prompt_tokens_details.or(self.usage.prompt_tokens_details);
    }

    fn used(&self) -> Usage {
        let told = u32::try_from(self.start.prompt.len()).unwrap_or(u32::MAX);
        let input_tokens = if told > 0 { told } else { self.usage.prompt_tokens.unwrap_or(0) };
        let cached = self.usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Usage { input_tokens, cached_input_tokens: cached.min(input_tokens), output_tokens: self.emitted }
    }

    fn begin(&mut self, prompt: Option<Vec<TokenId>>, events: &mut Vec<EngineEvent>) {
        self.started = true;
        if self.start.prompt.is_empty() {
            self.start.prompt = prompt.unwrap_or_default();
        }
        events.push(EngineEvent::Started { prompt: self.start.prompt.clone(), usage: self.used() });
    }

    fn choice(&mut self, choice: Choice, events: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        let finish = match &choice.finish_reason {
            Some(reason) => Some(self.reason(reason, choice.stop_reason.as_ref())?),
            None => None,
        };
        let ids = choice.token_ids.unwrap_or_default();
        let logprobs = choice.logprobs.map(super::wire::LogProbs::into_tokens).unwrap_or_default();
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        let called = delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        let mut text = self.text(&delta);
        text.push_str(choice.text.as_deref().unwrap_or_default());
        if called {
            text.push_str(if std::mem::take(&mut self.reasoning) { "</think>" } else { "" });
            self.call_pieces(delta.tool_calls.unwrap_or_default())?;
        }
        // A last token without text is the end of sequence, which is not part of the answer.
        let only_end = text.is_empty() && !called && finish == Some(FinishReason::EndOfSequence);
        if !only_end {
            self.tokens(&text, &ids, logprobs, called, events);
        }
        if self.ended {
            return Ok(());
        }
        if called {
            // Text before a tool call can no longer become a stop text.
            let held = self.take_held();
            self.pending.push_str(&held);
        }
        self.finish = finish;
        Ok(())
    }

    /// The text of a delta, reasoning marked as models mark it.
    fn text(&mut self, delta: &Delta) -> String {
        let mut text = String::new();
        let thought = delta.reasoning_content.as_deref().or(delta.reasoning.as_deref());
        if let Some(thought) = thought.filter(|thought| !thought.is_empty()) {
            if !std::mem::replace(&mut self.reasoning, true) {
                text.push_str("<think>");
            }
            text.push_str(thought);
        }
        let content = delta.content.as_deref().filter(|content| !content.is_empty());
        if let Some(content) = content.or(delta.refusal.as_deref()).filter(|content| !content.is_empty()) {
            if std::mem::take(&mut self.reasoning) {
                text.push_str("</think>");
            }
            text.push_str(content);
        }
        text
    }

    fn reason(&mut self, reason: &str, stop: Option<&Value>) -> Result<FinishReason, EngineError> {
        Ok(match reason {
            "length" | "max_tokens" => FinishReason::Length,
            "content_filter" => return Err(broken("the upstream's content filter ended the answer")),
            "abort" | "error" | "cancelled" => {
                return Err(broken(format!("the upstream ended the answer with {reason:?}")));
            }
            _ if !self.start.stop_texts.is_empty() && stop.is_some_and(Value::is_string) => {
                let told = self.start.stop_texts.iter().position(|text| stop.and_then(Value::as_str) == Some(text));
                self.told_stop = told.and_then(|place| u8::try_from(place).ok());
                FinishReason::Stop
            }
            _ => FinishReason::EndOfSequence,
        })
    }

    /// Reports the tokens of one chunk.
    fn tokens(
        &mut self,
        text: &str,
        ids: &[TokenId],
        logprobs: Vec<TokenLogProb>,
        called: bool,
        events: &mut Vec<EngineEvent>,
    ) {
        let known = ids.len().max(logprobs.len());
        self.exact |= known > 0;
        let count = if known == 0 { usize::from(!text.is_empty() || (called && !self.exact)) } else { known };
        let separate =
            logprobs.len() == count && logprobs.iter().map(|token| token.token.as_str()).collect::<String>() == text;
        let mut logprobs = logprobs.into_iter();
        for at in 0..count {
            let logprob = logprobs.next();
            let piece = match &logprob {
                Some(token) if separate => token.token.clone(),
                _ if at + 1 == count => text.to_owned(),
                _ => String::new(),
            };
            self.token(&piece, ids.get(at).copied(), logprob, events);
            if self.ended {
                return;
            }
        }
    }

    fn token(&mut self, piece: &str, id: Option<TokenId>, told: Option<TokenLogProb>, events: &mut Vec<EngineEvent>) {
        if self.emitted >= self.start.limit {
            // The upstream goes on beyond what it was asked for.
            return self.finished(FinishReason::Length, events);
        }
        let released = self.start.stops.push(piece.as_bytes());
        let told = told.unwrap_or_default();
        let text = std::mem::take(&mut self.pending) + &released.text;
        let top = told.top_logprobs.unwrap_or_default().into_iter().take(usize::from(self.start.top));
        events.push(EngineEvent::Token(TokenEvent {
            id: id.or(told.id),
            text,
            logprob: told.logprob.map(LogProb::from_nats),
            top: top.filter_map(alternative).collect(),
        }));
        self.emitted += 1;
        if released.stopped {
            self.finished(FinishReason::Stop, events);
        }
    }

    fn take_held(&mut self) -> String {
        let stops = std::mem::replace(&mut self.start.stops, StopMatcher::new::<&str>(&[]));
        if stops.stopped() { String::new() } else { stops.finish() }
    }

    fn call_pieces(&mut self, pieces: Vec<CallDelta>) -> Result<(), EngineError> {
        for piece in pieces {
            let function = piece.function.unwrap_or_default();
            let index = piece.index.unwrap_or_else(|| self.next_index(function.name.is_some()));
            let call = self.call(index)?;
            call.name.push_str(&function.name.unwrap_or_default());
            match function.arguments {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => call.arguments.push_str(&text),
                Some(other) => call.arguments.push_str(&other.to_string()),
            }
            if call.arguments.len() > MAX_ARGUMENTS || call.name.len() > MAX_ARGUMENTS {
                return Err(broken(format!("the upstream wrote a tool call of more than {MAX_ARGUMENTS} bytes")));
            }
        }
        Ok(())
    }

    /// Of a server that does not number its calls: a name begins a new one.
    fn next_index(&self, begins: bool) -> u32 {
        match self.calls.last() {
            Some(last) => last.index.saturating_add(u32::from(begins)),
            None => 0,
        }
    }

    fn call(&mut self, index: u32) -> Result<&mut Call, EngineError> {
        let place = match self.calls.iter().position(|call| call.index == index) {
            Some(place) => place,
            None if self.calls.len() >= MAX_CALLS => {
                return Err(broken(format!("the upstream made more than {MAX_CALLS} tool calls")));
            }
            None => {
                self.calls.push(Call { index, ..Call::default() });
                self.calls.len() - 1
            }
        };
        Ok(&mut self.calls[place])
    }

    /// Delivers what is left and the end.
    fn conclude(&mut self, reason: FinishReason, events: &mut Vec<EngineEvent>) -> Result<(), EngineError> {
        if self.reasoning && reason != FinishReason::Length {
            let held = self.take_held();
            self.pending.push_str(&held);
            self.pending.push_str("</think>");
        }
        for call in std::mem::take(&mut self.calls) {
            let separator = if self.pending.is_empty() { "" } else { "\n" };
            self.pending.push_str(separator);
            self.pending.push_str(&hermes(&call)?);
        }
        let counted = self.usage.completion_tokens.unwrap_or(0);
        // Servers differ in whether the end of sequence counts; it is never charged.
        let counted = counted.saturating_sub(u32::from(reason == FinishReason::EndOfSequence));
        let target = counted.min(self.start.limit);
        while self.emitted < target && !self.ended {
            self.token("", None, None, events);
        }
        self.finished(reason, events);
        Ok(())
    }

    fn finished(&mut self, reason: FinishReason, events: &mut Vec<EngineEvent>) {
        self.ended = true;
        if self.start.prompt.is_empty() {
            self.usage.prompt_tokens.get_or_insert(self.start.prompt_floor);
        }
        let stop = self.start.stops.stopped_by().or(self.told_stop).filter(|_| reason == FinishReason::Stop);
        let tail = std::mem::take(&mut self.pending) + &self.take_held();
        events.push(EngineEvent::Finished { reason, stop, tail, usage: self.used() });
    }
}

fn alternative(token: TokenLogProb) -> Option<TopToken> {
    let bytes = token.bytes.unwrap_or_else(|| token.token.into_bytes());
    Some(TopToken { id: token.id, bytes, logprob: LogProb::from_nats(token.logprob?) })
}

/// `<tool_call>` with the arguments as they are if they are JSON, else as a JSON string of what the model wrote.
fn hermes(call: &Call) -> Result<String, EngineError> {
    if call.name.is_empty() {
        return Err(broken("the upstream made a tool call without a name"));
    }
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    let arguments = match serde_json::from_str::<serde::de::IgnoredAny>(arguments) {
        Ok(_) => arguments.to_owned(),
        Err(_) => json!(arguments).to_string(),
    };
    Ok(format!("<tool_call>\n{{\"name\": {}, \"arguments\": {arguments}}}\n</tool_call>", json!(call.name)))
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
