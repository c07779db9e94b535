//! From the events of running generations to an answer: whole, or as server-sent events.
//!
//! A [`Feed`] owns the generations of one request. It is polled by the connection itself: no task and no queue stand
//! between the service's bounded channel and the socket, so a slow reader slows its own generation only, and a client
//! that leaves drops the feed, and with it the generations, at once.

use crate::{
    app::Permit,
    error::ApiError,
    service::{EventSource, ServiceError, ServiceEvent, ServiceGeneration},
    tool_calls::{Piece, ToolCallParser},
};
use bytes::{Bytes, BytesMut};
use cortensor_protocol::{FinishReason, TaskId, TokenEvent, ToolCall, Usage};
use http_body::Frame;
use serde::Serialize;
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// Events taken from one generation before the others have their turn and the frames are sent.
const EVENTS_PER_TURN: usize = 64;
/// Frames are sent when they have grown to this size, even if more events wait.
const FRAMES_BYTES: usize = 16 * 1024;

/// How an output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: FinishReason,
    /// Which of the request's stop texts ended it, where that is known.
    pub(crate) stop: Option<u8>,
    /// Tool calls that were made.
    pub(crate) calls: u32,
    pub(crate) usage: Usage,
}

/// One finished output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) task: TaskId,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// Filled only if the answer shows log-probabilities.
    pub(crate) tokens: Vec<TokenEvent>,
    pub(crate) end: End,
}

/// How a dialect shows outputs. Pure: it writes bytes and keeps no time.
pub(crate) trait Answer: Send + Unpin + 'static {
    /// The answer in one piece.
    type Whole: Serialize;

    /// Whether tokens are needed, not just their text.
    fn wants_tokens(&self) -> bool;
    /// Names the answer after the first of its tasks. Called once, before everything else.
    fn bind(&mut self, task: TaskId);
    /// The answer that is not streamed; one output per choice, in order.
    fn whole(self, outputs: Vec<Output>) -> Self::Whole;
    /// The stream begins. `usage` is known only if the service has told it already.
    fn begin(&mut self, frames: &mut BytesMut, usage: Usage);
    /// More text of a choice, and the tokens that have come since the last call.
    fn text(&mut self, frames: &mut BytesMut, choice: usize, text: &str, tokens: &[TokenEvent]);
    /// A tool call of a choice.
    fn call(&mut self, frames: &mut BytesMut, choice: usize, call: &ToolCall);
    /// A choice ended; `tokens` came without text.
    fn finish(&mut self, frames: &mut BytesMut, choice: usize, end: End, tokens: &[TokenEvent]);
    /// All choices ended.
    fn end(&mut self, frames: &mut BytesMut, usage: Usage);
    /// The stream breaks off.
    fn fail(&mut self, frames: &mut BytesMut, error: &ApiError);
}

/// What a feed does with what it reads.
trait Sink {
    fn text(&mut self, choice: usize, text: &str, tokens: &[TokenEvent]);
    fn call(&mut self, choice: usize, call: ToolCall);
    fn finish(&mut self, choice: usize, end: End, tokens: &[TokenEvent]);
    /// Whether what was taken in should be passed on before more is read.
    fn is_full(&self) -> bool {
        false
    }
}

/// One generation of a request.
struct Choice {
    task: TaskId,
    /// `None` once it ended.
    events: Option<Box<dyn EventSource>>,
    /// An event that was read ahead.
    early: Option<ServiceEvent>,
    parser: Option<ToolCallParser>,
    /// Tokens whose text has not been passed on.
    held: Vec<TokenEvent>,
    calls: u32,
}

/// The generations of one request.
pub(crate) struct Feed {
    choices: Vec<Choice>,
    permit: Permit,
    wants_tokens: bool,
    first_token_seen: bool,
    /// Whether an event came since the stream's timer last looked.
    heard: bool,
    /// What the service told before the first token.
    usage: Usage,
}

/// How far a feed is.
enum Progress {
    /// The sink is full; there may be more.
    Some,
    /// Every generation ended.
    Done,
}

impl Feed {
    pub(crate) fn new(
        generations: Vec<ServiceGeneration>,
        parse_tools: bool,
        wants_tokens: bool,
        permit: Permit,
    ) -> Self {
        let choice = |generation: ServiceGeneration| Choice {
            task: generation.task,
            events: Some(generation.events),
            early: None,
            parser: parse_tools.then(ToolCallParser::default),
            held: Vec::new(),
            calls: 0,
        };
        let choices = generations.into_iter().map(choice).collect();
        Self { choices, permit, wants_tokens, first_token_seen: false, heard: false, usage: Usage::default() }
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.choices.iter().map(|choice| choice.task)
    }

    /// Waits a while for the first event, so that a request that fails at once gets a status of its own, and a stream
    /// knows the size of its prompt when it begins.
    pub(crate) async fn first_event(&mut self, wait: Duration) -> Result<(), ApiError> {
        for choice in &mut self.choices {
            let Some(events) = &mut choice.events else { continue };
            match tokio::time::timeout(wait, poll_fn(|cx| events.poll_event(cx))).await {
                Err(_) => return Ok(()),
                Ok(None) => return Err(ended_early()),
                Ok(Some(ServiceEvent::Failed(error))) => return Err(error.into()),
                Ok(Some(ServiceEvent::Started(usage))) => add(&mut self.usage, usage),
                Ok(Some(event)) => choice.early = Some(event),
            }
        }
        Ok(())
    }

    /// Reads everything to the end.
    pub(crate) async fn collect(mut self) -> Result<Vec<Output>, ApiError> {
        let limit = self.permit.app.config.answer_timeout;
        let mut collector =
            Collector { outputs: self.tasks().map(|task| Output { task, ..Output::default() }).collect() };
        let reading = poll_fn(|cx| {
            loop {
                match self.poll(cx, &mut collector) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(Progress::Some)) => (),
                    Poll::Ready(Ok(Progress::Done)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
        });
        match tokio::time::timeout(limit, reading).await {
            Ok(result) => result.map(|()| collector.outputs),
            Err(_) => {
                let message = format!("the answer took longer than {limit:?}; ask for a stream or fewer tokens");
                Err(ApiError::timeout(message))
            }
        }
    }

    /// Takes in what is there. Pending only if nothing was taken in since the sink was last empty.
    fn poll(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink) -> Poll<Result<Progress, ApiError>> {
        for at in 0..self.choices.len() {
            let mut waiting = false;
            for _ in 0..EVENTS_PER_TURN {
                if sink.is_full() {
                    return Poll::Ready(Ok(Progress::Some));
                }
                let Some(event) = self.next_event(at, cx) else { break };
                let Poll::Ready(event) = event else {
                    waiting = true;
                    break;
                };
                self.heard = true;
                self.take(at, event, sink)?;
            }
            if self.choices[at].events.is_some() && !waiting {
                // The turn is over though more may be there: come back at once.
                cx.waker().wake_by_ref();
            }
        }
        let ended = self.choices.iter().all(|choice| choice.events.is_none());
        if ended { Poll::Ready(Ok(Progress::Done)) } else { Poll::Pending }
    }

    /// The next event of a choice, or `None` if it has ended.
    fn next_event(&mut self, at: usize, cx: &mut Context<'_>) -> Option<Poll<Option<ServiceEvent>>> {
        let choice = &mut self.choices[at];
        if let Some(event) = choice.early.take() {
            return Some(Poll::Ready(Some(event)));
        }
        choice.events.as_mut().map(|events| events.poll_event(cx))
    }

    fn take(&mut self, at: usize, event: Option<ServiceEvent>, sink: &mut impl Sink) -> Result<(), ApiError> {
        match event {
            None => Err(ended_early()),
            Some(ServiceEvent::Failed(error)) => Err(error.into()),
            Some(ServiceEvent::Started(usage)) => {
                add(&mut self.usage, usage);
                Ok(())
            }
            Some(ServiceEvent::Tokens(tokens)) => {
                self.take_tokens(at, tokens, sink);
                Ok(())
            }
            Some(ServiceEvent::Finished { reason, stop, tail, usage }) => {
                self.take_end(at, End { reason, stop, calls: 0, usage }, &tail, sink)
            }
        }
    }

    fn take_tokens(&mut self, at: usize, mut tokens: Vec<TokenEvent>, sink: &mut impl Sink) {
        if !self.first_token_seen {
            self.first_token_seen = true;
            self.permit.app.metrics.first_token(self.permit.route, self.permit.began.elapsed());
        }
        let choice = &mut self.choices[at];
        let joined;
        let text = if let [token] = tokens.as_mut_slice() {
            if self.wants_tokens {
                joined = token.text.clone();
            } else {
                joined = std::mem::take(&mut token.text);
            }
            joined.as_str()
        } else {
            joined = tokens.iter().map(|token| token.text.as_str()).collect();
            joined.as_str()
        };
        if self.wants_tokens {
            choice.held.extend(tokens);
        }
        choice.text(at, text, sink);
    }

    fn take_end(&mut self, at: usize, end: End, tail: &str, sink: &mut impl Sink) -> Result<(), ApiError> {
        let choice = &mut self.choices[at];
        choice.events = None;
        if end.reason == FinishReason::Cancelled {
            let error = ServiceError::Unavailable("the generation was cancelled before its end; ask again".into());
            return Err(error.into());
        }
        choice.text(at, tail, sink);
        if let Some(parser) = choice.parser.take() {
            let mut pieces = Vec::new();
            parser.finish(&mut pieces);
            choice.pass_on(at, pieces, sink);
        }
        let tokens = std::mem::take(&mut choice.held);
        sink.finish(at, End { calls: choice.calls, ..end }, &tokens);
        self.permit.app.metrics.used(end.usage);
        Ok(())
    }
}

impl Choice {
    fn text(&mut self, at: usize, text: &str, sink: &mut impl Sink) {
        let Some(parser) = &mut self.parser else {
            if !text.is_empty() {
                sink.text(at, text, &self.held);
                self.held.clear();
            }
            return;
        };
        if !text.is_empty() {
            let mut pieces = Vec::new();
            parser.push(text, &mut pieces);
            self.pass_on(at, pieces, sink);
        }
    }

    fn pass_on(&mut self, at: usize, pieces: Vec<Piece>, sink: &mut impl Sink) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    sink.text(at, &text, &self.held);
                    self.held.clear();
                }
                Piece::Call { name, arguments } => {
                    // Unique within a conversation, since no two tasks share an id.
                    let task = &alloy_primitives::hex::encode(&self.task.0[..10]);
                    let id = format!("call_{task}{:02}", self.calls);
                    self.calls += 1;
                    sink.call(at, ToolCall { id, name, arguments });
                }
            }
        }
    }
}

/// Adds up what several generations used.
pub(crate) fn add(sum: &mut Usage, usage: Usage) {
    sum.input_tokens = sum.input_tokens.saturating_add(usage.input_tokens);
    sum.cached_input_tokens = sum.cached_input_tokens.saturating_add(usage.cached_input_tokens);
    sum.output_tokens = sum.output_tokens.saturating_add(usage.output_tokens);
}

/// What several outputs used in all.
pub(crate) fn total(outputs: &[Output]) -> Usage {
    let mut sum = Usage::default();
    outputs.iter().for_each(|output| add(&mut sum, output.end.usage));
    sum
}

fn ended_early() -> ApiError {
    ApiError::internal("the generation ended without a result; ask again")
}

impl Default for Output {
    fn default() -> Self {
        let end = End { reason: FinishReason::EndOfSequence, stop: None, calls: 0, usage: Usage::default() };
        Self { task: TaskId::default(), text: String::new(), calls: Vec::new(), tokens: Vec::new(), end }
    }
}

/// Gathers whole outputs.
struct Collector {
    outputs: Vec<Output>,
}

impl Sink for Collector {
    fn text(&mut self, choice: usize, text: &str, tokens: &[TokenEvent]) {
        self.outputs[choice].text.push_str(text);
        self.outputs[choice].tokens.extend_from_slice(tokens);
    }

    fn call(&mut self, choice: usize, call: ToolCall) {
        self.outputs[choice].calls.push(call);
    }

    fn finish(&mut self, choice: usize, end: End, tokens: &[TokenEvent]) {
        self.outputs[choice].end = end;
        self.outputs[choice].tokens.extend_from_slice(tokens);
    }
}

/// Writes frames through an answer.
struct Framer<'a, A> {
    answer: &'a mut A,
    frames: &'a mut BytesMut,
    usage: &'a mut Usage,
}

impl<A: Answer> Sink for Framer<'_, A> {
    fn text(&mut self, choice: usize, text: &str, tokens: &[TokenEvent]) {
        self.answer.text(self.frames, choice, text, tokens);
    }

    fn call(&mut self, choice: usize, call: ToolCall) {
        self.answer.call(self.frames, choice, &call);
    }

    fn finish(&mut self, choice: usize, end: End, tokens: &[TokenEvent]) {
        add(self.usage, end.usage);
        self.answer.finish(self.frames, choice, end, tokens);
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= FRAMES_BYTES
    }
}

/// The body of a streamed answer.
pub(crate) struct EventStream<A> {
    /// `None` once the stream ended; the generations and the request's places are free from then on.
    feed: Option<Feed>,
    answer: A,
    frames: BytesMut,
    usage: Usage,
    begun: bool,
    timer: Pin<Box<Sleep>>,
    /// Turns of the timer without a frame.
    silent: u32,
}

impl<A: Answer> EventStream<A> {
    pub(crate) fn new(feed: Feed, answer: A) -> Self {
        let timer = Box::pin(tokio::time::sleep(feed.permit.app.config.keep_alive));
        let frames = BytesMut::with_capacity(1024);
        Self { feed: Some(feed), answer, frames, usage: Usage::default(), begun: false, timer, silent: 0 }
    }

    /// Writes what there is into `frames`.
    fn advance(&mut self, cx: &mut Context<'_>) {
        let Some(feed) = &mut self.feed else { return };
        if !self.begun {
            self.begun = true;
            self.answer.begin(&mut self.frames, feed.usage);
        }
        let sink = &mut Framer { answer: &mut self.answer, frames: &mut self.frames, usage: &mut self.usage };
        match feed.poll(cx, sink) {
            Poll::Pending => self.poll_timer(cx),
            Poll::Ready(Ok(Progress::Some)) => (),
            Poll::Ready(Ok(Progress::Done)) => {
                self.answer.end(&mut self.frames, self.usage);
                self.feed = None;
            }
            Poll::Ready(Err(error)) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &ApiError) {
        if let Some(feed) = self.feed.take() {
            tracing::warn!(code = error.code, message = error.message, "a stream failed");
            feed.permit.app.metrics.failed_stream(feed.permit.route);
        }
        self.answer.fail(&mut self.frames, error);
    }

    /// Keeps a silent stream open, and gives it up when the service has been silent for too long.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        if self.feed.as_mut().is_some_and(|feed| std::mem::take(&mut feed.heard)) {
            self.silent = 0;
        }
        if !self.frames.is_empty() {
            return;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let Some(feed) = &self.feed else { return };
            let config = &feed.permit.app.config;
            let (keep_alive, stall_timeout) = (config.keep_alive, config.stall_timeout);
            self.timer.as_mut().reset(tokio::time::Instant::now() + keep_alive);
            self.silent += 1;
            if keep_alive.saturating_mul(self.silent) > stall_timeout {
                self.fail(&ApiError::timeout(format!("no token arrived for {stall_timeout:?}; ask again")));
                return;
            }
            self.frames.extend_from_slice(b": keep-alive\n\n");
        }
    }
}

impl<A: Answer> http_body::Body for EventStream<A> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.advance(cx);
        if !this.frames.is_empty() {
            // The buffer is taken back once the socket has written what was split off.
            return Poll::Ready(Some(Ok(Frame::data(this.frames.split().freeze()))));
        }
        if this.feed.is_none() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.feed.is_none() && self.frames.is_empty()
    }
}

impl<A> Drop for EventStream<A> {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.permit.app.metrics.cancelled(feed.permit.route);
        }
    }
}
