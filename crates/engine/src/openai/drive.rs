//! One generation at the upstream: wait for a slot, send, read, deliver, and stop when told to.

use super::{
    Admission, Inner,
    assemble::{Assembler, Start},
    body::{Body, Dialect, Form, Resume},
    floor::prompt_floor,
    http::{self, HttpError},
    sse::{SseEvent, SseParser},
    wire::Chunk,
};
use crate::{EngineError, EngineEvent, Job, stop::StopMatcher};
use cortensor_protocol::{Prompt, TokenId};
use reqwest::{Response, header::CONTENT_TYPE};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

/// Most bytes of a whole answer from a server that does not stream.
const MAX_WHOLE: usize = 8 << 20;
/// Fewest tokens from which a speed is measured.
const MEASURED_TOKENS: u32 = 8;

/// What will be asked of the upstream.
pub(super) struct Plan {
    body: Body,
    /// Most tokens that may come.
    limit: u32,
    form: Form,
}

impl Plan {
    /// # Errors
    /// The upstream cannot do what the job asks.
    pub(super) fn new(dialect: &Dialect, job: &Job, form: Form) -> Result<Self, EngineError> {
        let limit = job.request.max_tokens.saturating_sub(job.resume_tokens);
        let resume = Resume { text: &job.resume_text, tokens: &job.resume };
        // An answer that is already complete is never sent, but its request is checked all the same.
        let body = dialect.generation(&job.request, resume, limit.max(1), form)?;
        Ok(Self { body, limit, form })
    }
}

/// Runs one generation to its end.
pub(super) async fn run(admission: Admission, job: Job, plan: Plan, events: mpsc::Sender<EngineEvent>) {
    let inner = &admission.0;
    let Job { request, resume_text, cancel, .. } = job;
    let mut stops = StopMatcher::new(&request.stop);
    let stopped = stops.prime(resume_text.as_bytes());
    let mut assembler = Assembler::new(Start {
        prompt: Vec::new(),
        prompt_floor: prompt_floor(&request.prompt),
        limit: if stopped { 0 } else { plan.limit },
        top: request.logprobs.unwrap_or(0),
        stops,
        stop_texts: request.stop.clone(),
    });
    let mut work = Work { inner, events: &events, assembler: &mut assembler, first: None, sent: Instant::now() };
    let total = inner.config.total_timeout;
    let ended = tokio::select! {
        ended = timeout(total, work.run(&request.prompt, &plan)) => ended,
        () = cancel.cancelled() => {
            let end = assembler.cancel();
            // A reader that is gone needs no end.
            let _ = events.send(end).await;
            return;
        }
    };
    let ended = ended.unwrap_or_else(|_| Err(EngineError::Backend(format!("the answer took more than {total:?}"))));
    if let Err(error) = ended {
        let _ = events.send(EngineEvent::Failed(error)).await;
    }
}

struct Work<'a> {
    inner: &'a Inner,
    events: &'a mpsc::Sender<EngineEvent>,
    assembler: &'a mut Assembler,
    /// When the first token came.
    first: Option<Instant>,
    sent: Instant,
}

/// Counts a running generation while it lives.
struct Running<'a> {
    inner: &'a Inner,
    tokens: u64,
}

impl<'a> Running<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.gauges.active.fetch_add(1, Ordering::Relaxed);
        Self { inner, tokens: 0 }
    }

    fn holds(&mut self, tokens: u64) {
        self.inner.gauges.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.tokens += tokens;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.inner.gauges.active.fetch_sub(1, Ordering::Relaxed);
        self.inner.gauges.tokens.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

impl Work<'_> {
    async fn run(&mut self, prompt: &Prompt, plan: &Plan) -> Result<(), EngineError> {
        let slots = &self.inner.slots;
        let _slot = slots.acquire().await.map_err(|_| EngineError::Backend("the backend has stopped".into()))?;
        let mut running = Running::new(self.inner);
        self.prompt(prompt, &mut running).await?;
        if plan.limit == 0 {
            return Ok(());
        }
        self.sent = Instant::now();
        // Of an answer in one piece, nothing is seen before its end.
        let patience = match plan.form {
            Form::Stream => self.inner.config.first_timeout,
            Form::Whole => self.inner.config.total_timeout,
        };
        let deadline = self.sent + patience;
        let request = self.inner.http.post(plan.body.path, &plan.body.json);
        let late = || HttpError::TimedOut(patience);
        let answered = timeout_at(deadline, async { http::accepted(http::send(request).await?).await }).await;
        let response = answered.unwrap_or_else(|_| Err(late()));
        let response = response.map_err(|error| self.inner.engine_error(error, plan.limit))?;
        let done = if is_json(&response) {
            self.whole(response, deadline, &mut running).await
        } else {
            self.stream(response, deadline, &mut running).await
        };
        done.map(|()| self.measure())
    }

    /// Finds out the prompt's tokens where the upstream tells them before it begins.
    async fn prompt(&mut self, prompt: &Prompt, running: &mut Running<'_>) -> Result<(), EngineError> {
        let told = self.inner.config.traced || matches!(prompt, Prompt::Tokens(_));
        let tokens: Option<Vec<TokenId>> = if told { self.inner.prompt_tokens(prompt).await? } else { None };
        running.holds(tokens.as_ref().map_or(0, |tokens| u64::try_from(tokens.len()).unwrap_or(0)));
        let events = self.assembler.prompt(tokens.unwrap_or_default());
        self.deliver(events, running).await
    }

    /// Reads a stream of chunks. The first event has until `deadline`, each further piece the idle time.
    async fn stream(
        &mut self,
        mut response: Response,
        deadline: Instant,
        running: &mut Running<'_>,
    ) -> Result<(), EngineError> {
        let (mut parser, mut parsed) = (SseParser::default(), Vec::new());
        let idle = self.inner.config.idle_timeout;
        let mut until = deadline;
        loop {
            let piece = match timeout_at(until, http::chunk(&mut response)).await {
                Ok(piece) => piece,
                Err(_) => return self.gave_out(until == deadline, idle, running).await,
            };
            match piece {
                Ok(Some(piece)) => {
                    parser.push(&piece, &mut parsed).map_err(|error| EngineError::Backend(error.to_string()))?;
                }
                Ok(None) => {
                    parsed.extend(parser.finish());
                    self.events(&mut parsed, running).await?;
                    return self.close(false, running).await;
                }
                // What came before the break counts, and is enough if the answer was complete.
                Err(error) => {
                    return match self.assembler.complete() {
                        true => self.close(false, running).await,
                        false => Err(EngineError::Backend(error.to_string())),
                    };
                }
            }
            let begun = !parsed.is_empty() || until != deadline;
            if self.events(&mut parsed, running).await? {
                return Ok(());
            }
            // Counted from here, since a slow reader is not the upstream's fault.
            until = if begun { Instant::now() + idle } else { deadline };
        }
    }

    /// Nothing came for too long.
    async fn gave_out(&mut self, first: bool, idle: Duration, running: &mut Running<'_>) -> Result<(), EngineError> {
        if self.assembler.complete() {
            return self.close(false, running).await;
        }
        let (what, time) =
            if first { ("did not begin to answer", self.inner.config.first_timeout) } else { ("went silent", idle) };
        Err(EngineError::Backend(format!("the upstream {what} for {time:?}")))
    }

    /// Works through parsed events; true when the generation has ended.
    async fn events(&mut self, parsed: &mut Vec<SseEvent>, running: &mut Running<'_>) -> Result<bool, EngineError> {
        for event in parsed.drain(..) {
            if event.data.trim() == "[DONE]" {
                self.close(true, running).await?;
                return Ok(true);
            }
            let chunk = chunk(&event)?;
            let events = self.assembler.chunk(chunk)?;
            self.deliver(events, running).await?;
            if self.assembler.ended() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn whole(
        &mut self,
        response: Response,
        deadline: Instant,
        running: &mut Running<'_>,
    ) -> Result<(), EngineError> {
        let body = timeout_at(deadline, http::read(response, MAX_WHOLE)).await;
        let body = body.unwrap_or(Err(HttpError::TimedOut(self.inner.config.first_timeout)));
        let body = body.map_err(|error| EngineError::Backend(error.to_string()))?;
        let chunk: Chunk = serde_json::from_slice(&body).map_err(|error| not_understood(&error))?;
        let complete = chunk.choices.as_ref().is_some_and(|choices| !choices.is_empty());
        let events = self.assembler.chunk(chunk)?;
        self.deliver(events, running).await?;
        self.close(complete, running).await
    }

    async fn close(&mut self, complete: bool, running: &mut Running<'_>) -> Result<(), EngineError> {
        let events = self.assembler.end(complete)?;
        self.deliver(events, running).await
    }

    async fn deliver(&mut self, events: Vec<EngineEvent>, running: &mut Running<'_>) -> Result<(), EngineError> {
        for event in events {
            if matches!(event, EngineEvent::Token(_)) {
                self.first.get_or_insert_with(Instant::now);
                running.holds(1);
            }
            // A reader that is gone has cancelled the job, which ends this future at its next wait.
            if self.events.send(event).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes the speed of a generation that ran alone.
    fn measure(&self) {
        let gauges = &self.inner.gauges;
        let (Some(first), tokens) = (self.first, self.assembler.emitted()) else { return };
        if gauges.active.load(Ordering::Relaxed) != 1 || tokens < MEASURED_TOKENS {
            return;
        }
        let per_second = |count: u32, time: Duration| {
            let rate = u128::from(count) * 1000 / time.as_millis().max(1);
            u32::try_from(rate).unwrap_or(u32::MAX)
        };
        let mut speed = gauges.speed.lock();
        let mix = |old: u32, new: u32| if old == 0 { new } else { old - old / 4 + new / 4 };
        speed.decode_tokens_per_second = mix(speed.decode_tokens_per_second, per_second(tokens - 1, first.elapsed()));
        let prompt = self.assembler.input_tokens();
        let waited = first.saturating_duration_since(self.sent);
        speed.prefill_tokens_per_second = mix(speed.prefill_tokens_per_second, per_second(prompt, waited));
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json")
}

pub(super) fn chunk(event: &SseEvent) -> Result<Chunk, EngineError> {
    let parsed: Result<Chunk, _> = serde_json::from_str(&event.data);
    match parsed {
        Ok(chunk) if event.name != "error" || chunk.error.is_some() => Ok(chunk),
        _ if event.name == "error" => {
            let value = serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.as_str().into());
            Ok(Chunk { error: Some(value), ..Chunk::default() })
        }
        Ok(chunk) => Ok(chunk),
        Err(error) => Err(not_understood(&error)),
    }
}

fn not_understood(error: &serde_json::Error) -> EngineError {
    EngineError::Backend(format!("the upstream sent something other than a completion: {error}"))
}
