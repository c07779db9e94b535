//! One generation: from accepted work to its last event.

use super::panic_text;
use crate::{grammar::Matcher, vocabulary::Vocabulary};
use cortensor_engine::{EngineError, EngineEvent, stop::StopMatcher};
use cortensor_protocol::{FinishReason, Sampled, Step, TokenEvent, TokenId, TokenSampler, Usage, generation::TopToken};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A place among counted things, such as the admitted jobs; given back when dropped.
pub(crate) struct Ticket(Arc<AtomicU32>);

impl Ticket {
    /// Takes a place without a limit.
    pub(super) fn count(taken: &Arc<AtomicU32>) -> Self {
        taken.fetch_add(1, Relaxed);
        Self(Arc::clone(taken))
    }

    /// Takes a place, or `None` when `most` are taken.
    pub(crate) fn take(taken: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |taken: u32| (taken < most).then_some(taken + 1);
        taken.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A generation as it is handed to the engine's thread.
pub(crate) struct Work {
    /// Tokens of the prompt.
    pub(crate) prompt: Vec<TokenId>,
    /// Output tokens that another node produced.
    pub(crate) resume: Vec<TokenId>,
    pub(crate) max_tokens: u32,
    pub(crate) stops: Vec<String>,
    pub(crate) grammar: Option<Matcher>,
    pub(crate) sampler: Box<dyn TokenSampler>,
    /// Whether the sampler makes use of hidden states.
    pub(crate) hidden: bool,
    /// Always has room for the last event: see [`Run::ready`].
    pub(crate) events: mpsc::Sender<EngineEvent>,
    pub(crate) cancel: CancellationToken,
    pub(crate) ticket: Ticket,
}

impl Work {
    /// Whether nobody waits for it any more.
    pub(crate) fn abandoned(&self) -> bool {
        self.cancel.is_cancelled() || self.events.is_closed()
    }

    /// Ends it before it began.
    pub(crate) fn fail(self, error: EngineError) {
        drop(self.ticket);
        // A receiver that is gone has no use for the error.
        drop(self.events.try_send(EngineEvent::Failed(error)));
    }

    /// Ends it before it began, because nobody waits. Nothing was computed, and nothing is counted.
    pub(crate) fn cancelled(self) {
        drop(self.ticket);
        let usage = Usage::default();
        let started = EngineEvent::Started { prompt: Vec::new(), usage };
        let ended = EngineEvent::Finished { reason: FinishReason::Cancelled, stop: None, tail: String::new(), usage };
        for event in [started, ended] {
            drop(self.events.try_send(event));
        }
    }
}

/// How a generation ended.
#[derive(Debug)]
pub(super) enum End {
    Finished(FinishReason),
    Failed(EngineError),
}

/// A generation in a slot.
pub(super) struct Run {
    /// Prompt and output so far: what the sequence's memory is to hold, but for the newest token.
    pub(super) tokens: Vec<TokenId>,
    /// All output tokens of the task, resumed ones included.
    output: Vec<TokenId>,
    resumed: usize,
    context: usize,
    max_tokens: usize,
    usage: Usage,
    stops: StopMatcher,
    grammar: Option<Matcher>,
    /// Whether the sampler makes use of hidden states.
    pub(super) hidden: bool,
    sampler: Box<dyn TokenSampler>,
    events: mpsc::Sender<EngineEvent>,
    /// Tokens that the reader has not been given yet: see [`Run::hand_over`].
    held: Vec<EngineEvent>,
    cancel: CancellationToken,
    /// The places that it takes up, among the admitted and among the active.
    places: [Ticket; 2],
}

impl Run {
    /// Takes up work. `cached` tokens of the prompt are in the slot's memory already. An end means that there is nothing to
    /// generate.
    pub(super) fn start(
        work: Work,
        cached: usize,
        context: usize,
        vocabulary: &Vocabulary,
        active: Ticket,
    ) -> (Self, Option<End>) {
        let usage = Usage {
            input_tokens: count(work.prompt.len()),
            cached_input_tokens: count(cached.min(work.prompt.len())),
            output_tokens: 0,
        };
        let started = EngineEvent::Started { prompt: work.prompt.clone(), usage };
        drop(work.events.try_send(started));
        let mut tokens = work.prompt;
        tokens.reserve(work.resume.len() + 64);
        tokens.extend_from_slice(&work.resume);
        let mut run = Self {
            tokens,
            resumed: work.resume.len(),
            context,
            max_tokens: work.max_tokens as usize,
            usage,
            stops: StopMatcher::new(&work.stops),
            grammar: work.grammar,
            hidden: work.hidden,
            sampler: work.sampler,
            events: work.events,
            held: Vec::new(),
            cancel: work.cancel,
            output: work.resume,
            places: [work.ticket, active],
        };
        let end = run.replay(vocabulary);
        (run, end)
    }

    /// Brings stop texts and grammar to where another node left off.
    fn replay(&mut self, vocabulary: &Vocabulary) -> Option<End> {
        for &token in &self.output {
            if vocabulary.ends_generation(token) {
                return Some(End::Finished(FinishReason::EndOfSequence));
            }
            let piece = vocabulary.piece(token);
            if let Some(grammar) = &mut self.grammar
                && let Err(error) = grammar.accept(piece)
            {
                let problem = format!("the output so far does not fit the response format: {error}");
                return Some(End::Failed(EngineError::Backend(problem)));
            }
            if self.stops.prime(piece) {
                return Some(End::Finished(FinishReason::Stop));
            }
        }
        (self.output.len() >= self.max_tokens).then_some(End::Finished(FinishReason::Length))
    }

    /// Whether nobody waits for it any more.
    pub(super) fn abandoned(&self) -> bool {
        self.cancel.is_cancelled() || self.events.is_closed()
    }

    /// Whether the reader has room for what is held, for one more token and, after it, for the last event.
    pub(super) fn ready(&self) -> bool {
        self.events.capacity() >= self.held.len() + 2
    }

    /// Gives the reader the tokens that are held. The first of them wakes it, which costs the engine's thread a system call.
    pub(super) fn hand_over(&mut self) {
        for event in self.held.drain(..) {
            // There is room: see `ready`. A reader that is gone is noticed before the next step: see `abandoned`.
            drop(self.events.try_send(event));
        }
    }

    /// Draws the next token from `logits` and holds it for the reader. An end means that this was the last.
    pub(super) fn advance(
        &mut self,
        logits: &mut [f32],
        hidden: Option<&[f32]>,
        vocabulary: &Vocabulary,
    ) -> Option<End> {
        match self.masked(logits, vocabulary) {
            Ok(true) => {}
            Ok(false) => return Some(End::Finished(FinishReason::EndOfSequence)),
            Err(error) => return Some(End::Failed(error)),
        }
        let hidden = hidden.filter(|_| self.hidden);
        let sampled = match self.sample(logits, hidden) {
            Ok(sampled) => sampled,
            Err(error) => return Some(End::Failed(error)),
        };
        if vocabulary.ends_generation(sampled.token) {
            return Some(End::Finished(FinishReason::EndOfSequence));
        }
        self.deliver(&sampled, vocabulary)
    }

    /// Applies the grammar. `false`: the grammar is complete and the model has no token to say so.
    fn masked(&mut self, logits: &mut [f32], vocabulary: &Vocabulary) -> Result<bool, EngineError> {
        let Some(grammar) = &mut self.grammar else { return Ok(true) };
        let refused = |error: crate::GrammarError| EngineError::Unsupported {
            parameter: "response_format",
            problem: error.to_string(),
        };
        let mask = grammar.mask(vocabulary).map_err(refused)?;
        if mask.any() {
            mask.apply(logits);
            return Ok(true);
        }
        if grammar.may_end() { Ok(false) } else { Err(refused(crate::GrammarError::DeadEnd)) }
    }

    fn sample(&mut self, logits: &mut [f32], hidden: Option<&[f32]>) -> Result<Sampled, EngineError> {
        let vocabulary = logits.len();
        let (sampler, output) = (&mut *self.sampler, &self.output);
        let sampled = draw(sampler, Step { index: count(output.len()), logits, hidden, output })?;
        if sampled.token as usize >= vocabulary {
            return Err(EngineError::Backend(format!(
                "the sampler chose token {}, which does not exist",
                sampled.token
            )));
        }
        Ok(sampled)
    }

    fn deliver(&mut self, sampled: &Sampled, vocabulary: &Vocabulary) -> Option<End> {
        let piece = vocabulary.piece(sampled.token);
        if let Some(grammar) = &mut self.grammar
            && let Err(error) = grammar.accept(piece)
        {
            let problem = format!("the sampler chose a masked token: {error}");
            return Some(End::Failed(EngineError::Backend(problem)));
        }
        self.output.push(sampled.token);
        self.tokens.push(sampled.token);
        self.usage.output_tokens += 1;
        let released = self.stops.push(piece);
        let top = |&(token, logprob): &(TokenId, _)| TopToken {
            id: Some(token),
            bytes: vocabulary.piece(token).to_vec(),
            logprob,
        };
        self.held.push(EngineEvent::Token(TokenEvent {
            id: Some(sampled.token),
            text: released.text,
            logprob: Some(sampled.logprob),
            top: sampled.top.iter().map(top).collect(),
        }));
        if released.stopped {
            return Some(End::Finished(FinishReason::Stop));
        }
        let full = self.output.len() >= self.max_tokens || self.tokens.len() >= self.context;
        full.then_some(End::Finished(FinishReason::Length))
    }

    /// Sends what is held and the last event.
    pub(super) fn end(mut self, end: End) {
        self.hand_over();
        debug_assert!(self.output.len() >= self.resumed);
        let event = match end {
            End::Failed(error) => EngineEvent::Failed(error),
            End::Finished(reason) => {
                // After a stop text nothing follows; after a cancellation another node may go on, and decide then.
                let stop = self.stops.stopped_by();
                let ended = matches!(reason, FinishReason::EndOfSequence | FinishReason::Length);
                let tail = if ended { self.stops.finish() } else { String::new() };
                EngineEvent::Finished { reason, stop, tail, usage: self.usage }
            }
        };
        // Whoever reads the event may rely on the place being free.
        drop(self.places);
        drop(self.events.try_send(event));
    }
}

/// Lets a sampler choose. It is the caller's code: its panic is that job's fault and nobody else's.
pub(super) fn draw(sampler: &mut dyn TokenSampler, step: Step<'_>) -> Result<Sampled, EngineError> {
    catch_unwind(AssertUnwindSafe(|| sampler.sample(step)))
        .map_err(|panic| EngineError::Backend(format!("the sampler panicked: {}", panic_text(&*panic))))
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
