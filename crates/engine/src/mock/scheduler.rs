//! The batching loop: one task that takes in, prefills, decodes and delivers all sequences.
//!
//! Each turn works on a share of the waiting prompts and one token of every decoding sequence, and then lasts as long as
//! the configuration says that such a batch takes. A sequence whose reader is slow skips turns; one that stalls or starts
//! slowly is put aside and looked at every [`TICK`].

use super::{Failure, MockConfig, State, model::Context, model::Model, vocabulary::END};
use crate::{EngineError, EngineEvent, stop::StopMatcher};
use cortensor_protocol::{
    FinishReason, Sampled, Step, Tier, TokenEvent, TokenId, TokenSampler, Usage, generation::TopToken,
    sampling::LogProb,
};
use parking_lot::Mutex;
use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How often sequences that wait for something other than the simulator are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Prompt tokens worked on in one turn.
const PREFILL_PER_TURN: u32 = 2048;
/// Tokens of a cached prompt block.
const BLOCK: usize = 16;
/// Most cached blocks.
const MAX_BLOCKS: usize = 16_384;
/// Sequences worked on before other tasks get a chance.
const YIELD_EVERY: usize = 64;

/// One generation.
pub(super) struct Sequence {
    pub(super) prompt: Vec<TokenId>,
    pub(super) context: Context,
    /// Output so far, the resumed tokens first.
    pub(super) output: Vec<TokenId>,
    pub(super) resumed: usize,
    /// Most tokens of `output`.
    pub(super) limit: usize,
    pub(super) script: Option<Vec<TokenId>>,
    pub(super) stops: StopMatcher,
    pub(super) top: u8,
    pub(super) sampler: Box<dyn TokenSampler>,
    pub(super) cancel: CancellationToken,
    pub(super) events: mpsc::Sender<EngineEvent>,
    /// Events that found no room; at most two.
    pub(super) outbox: VecDeque<EngineEvent>,
    /// The last event is in the outbox or delivered.
    pub(super) ended: bool,
    /// KV-cache tokens set aside.
    pub(super) reserved: u64,
    pub(super) prefill_left: u32,
    pub(super) cached: u32,
    pub(super) started: bool,
    pub(super) failure: Failure,
    /// When a sequence that was put aside goes on; never if `None`.
    pub(super) wake: Option<Instant>,
}

impl Sequence {
    fn produced(&self) -> u32 {
        count(self.output.len() - self.resumed)
    }

    fn usage(&self) -> Usage {
        Usage {
            input_tokens: count(self.prompt.len()),
            cached_input_tokens: self.cached,
            output_tokens: self.produced(),
        }
    }

    /// Delivers what waits; true when nothing is left.
    fn flush(&mut self) -> bool {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    return false;
                }
                Err(TrySendError::Closed(_)) => self.ended = true,
            }
        }
        true
    }

    fn end(&mut self, reason: FinishReason) {
        let stops = std::mem::replace(&mut self.stops, StopMatcher::new::<&str>(&[]));
        let stop = stops.stopped_by();
        let tail = if stops.stopped() { String::new() } else { stops.finish() };
        self.outbox.push_back(EngineEvent::Finished { reason, stop, tail, usage: self.usage() });
        self.ended = true;
    }

    /// Whether it was cancelled while it waited; a reader that is still there is told.
    fn gone(&mut self) -> bool {
        let cancelled = self.cancel.is_cancelled();
        if cancelled {
            self.end(FinishReason::Cancelled);
            self.flush();
        }
        cancelled
    }

    fn fail(&mut self, why: &str) {
        self.outbox.push_back(EngineEvent::Failed(EngineError::Backend(why.into())));
        self.ended = true;
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a sequence did in a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It waits for its reader.
    Blocked,
    Prefilled(u32),
    Decoded,
    /// Put it aside.
    Aside,
    /// It is through.
    Over,
    /// The engine dies.
    Crash,
}

/// Work of a turn, from which its duration follows.
#[derive(Default)]
struct Work {
    prefilled: u32,
    decoded: u32,
}

pub(super) struct Scheduler {
    config: MockConfig,
    model: Arc<Model>,
    state: Arc<Mutex<State>>,
    submitted: mpsc::Receiver<Sequence>,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    aside: Vec<Sequence>,
    cache: Cache,
    logits: Vec<f32>,
    kv_reserved: u64,
    next_turn: Instant,
    next_tick: Instant,
}

impl Scheduler {
    pub(super) fn new(
        config: MockConfig,
        model: Arc<Model>,
        state: Arc<Mutex<State>>,
        submitted: mpsc::Receiver<Sequence>,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            model,
            state,
            submitted,
            waiting: VecDeque::new(),
            running: Vec::new(),
            aside: Vec::new(),
            cache: Cache::default(),
            logits: Vec::new(),
            kv_reserved: 0,
            next_turn: now,
            next_tick: now,
        }
    }

    /// Runs until the engine is dropped and all generations have ended.
    pub(super) async fn run(mut self) {
        loop {
            let open = self.take_in();
            self.tick();
            self.begin_waiting();
            if self.running.is_empty() && self.waiting.is_empty() && self.aside.is_empty() {
                self.publish();
                match self.submitted.recv().await {
                    Some(sequence) => self.waiting.push_back(sequence),
                    None => return,
                }
                continue;
            }
            let work = self.turn().await;
            self.publish();
            self.pace(&work, open).await;
        }
    }

    /// Collects what was submitted; false when the engine was dropped.
    fn take_in(&mut self) -> bool {
        loop {
            match self.submitted.try_recv() {
                Ok(sequence) => self.waiting.push_back(sequence),
                Err(error) => return error == mpsc::error::TryRecvError::Empty,
            }
        }
    }

    /// Looks at the sequences that wait: drops cancelled ones and wakes those whose time has come.
    fn tick(&mut self) {
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.waiting.retain_mut(|sequence| !sequence.gone());
        for mut sequence in std::mem::take(&mut self.aside) {
            if sequence.gone() {
                self.kv_reserved -= sequence.reserved;
            } else if sequence.wake.is_some_and(|wake| wake <= now) {
                sequence.wake = None;
                self.running.push(sequence);
            } else {
                self.aside.push(sequence);
            }
        }
    }

    /// Gives slots and memory to the longest waiting; nobody overtakes.
    fn begin_waiting(&mut self) {
        let slots = usize::try_from(self.config.slots).unwrap_or(usize::MAX);
        while self.running.len() + self.aside.len() < slots {
            let fits = |sequence: &Sequence| self.kv_reserved + sequence.reserved <= self.config.kv_tokens;
            if !self.waiting.front().is_some_and(fits) {
                return;
            }
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            self.kv_reserved += sequence.reserved;
            sequence.cached = self.cache.admit(&sequence.prompt);
            sequence.prefill_left = count(sequence.prompt.len() + sequence.resumed) - sequence.cached;
            match sequence.failure {
                Failure::SlowStart(delay) => {
                    sequence.wake = Some(Instant::now() + delay);
                    self.aside.push(sequence);
                }
                _ => self.running.push(sequence),
            }
        }
    }

    async fn turn(&mut self) -> Work {
        let mut work = Work::default();
        let mut at = 0;
        let mut seen = 0;
        while at < self.running.len() {
            let budget = PREFILL_PER_TURN.saturating_sub(work.prefilled);
            let turn = step(&mut self.running[at], &self.model, &mut self.logits, budget, self.config.tier);
            match turn {
                Turn::Blocked => at += 1,
                Turn::Prefilled(tokens) => {
                    work.prefilled += tokens;
                    at += 1;
                }
                Turn::Decoded => {
                    work.decoded += 1;
                    at += 1;
                }
                Turn::Aside => self.aside.push(self.running.swap_remove(at)),
                Turn::Over => {
                    let sequence = self.running.swap_remove(at);
                    self.kv_reserved -= sequence.reserved;
                    self.state.lock().measured = true;
                }
                Turn::Crash => {
                    self.crash();
                    return work;
                }
            }
            seen += 1;
            if seen % YIELD_EVERY == 0 {
                tokio::task::yield_now().await;
            }
        }
        work
    }

    /// Drops everything, so that every stream breaks off.
    fn crash(&mut self) {
        self.state.lock().crashed = true;
        self.running.clear();
        self.aside.clear();
        self.waiting.clear();
        while self.submitted.try_recv().is_ok() {}
        self.cache = Cache::default();
        self.kv_reserved = 0;
    }

    /// Tells the engine how busy it is.
    fn publish(&self) {
        let held = |sequence: &Sequence| sequence.prompt.len() + sequence.output.len();
        let used: usize = self.running.iter().chain(&self.aside).map(held).sum();
        let mut state = self.state.lock();
        state.active = count(self.running.len() + self.aside.len());
        state.queued = count(self.waiting.len() + self.submitted.len());
        state.kv_used = u64::try_from(used).unwrap_or(u64::MAX);
    }

    /// Lets the turn last as long as it should.
    async fn pace(&mut self, work: &Work, open: bool) {
        let now = Instant::now();
        if work.prefilled == 0 && work.decoded == 0 {
            let until = if self.running.is_empty() { self.next_tick } else { now + Duration::from_millis(1) };
            tokio::select! {
                sequence = self.submitted.recv(), if open => self.waiting.extend(sequence),
                () = tokio::time::sleep_until(until) => {}
            }
            return;
        }
        // A turn that came late is made up for, unless it came so late that the simulation simply cannot keep up.
        self.next_turn = self.next_turn.max(now.checked_sub(TICK).unwrap_or(now)) + self.duration(work);
        if self.next_turn > now + Duration::from_millis(1) {
            tokio::time::sleep_until(self.next_turn).await;
        } else {
            tokio::task::yield_now().await;
        }
    }

    /// How long a batch takes: prompts share the prefill speed, and each further sequence lengthens the decoding step.
    fn duration(&self, work: &Work) -> Duration {
        if self.config.speed_percent == 0 {
            return Duration::ZERO;
        }
        let nanos = |seconds: u64, per: u32| u128::from(seconds) * 1_000_000_000 / u128::from(per);
        let prefill = nanos(u64::from(work.prefilled), self.config.prefill_tokens_per_second);
        let batch = 100 + u128::from(self.config.batch_cost_percent) * u128::from(work.decoded.saturating_sub(1));
        let decode = match work.decoded {
            0 => 0,
            _ => nanos(1, self.config.decode_tokens_per_second) * batch / 100,
        };
        let scaled = (prefill + decode) * 100 / u128::from(self.config.speed_percent);
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// One sequence's part of a turn.
fn step(sequence: &mut Sequence, model: &Model, logits: &mut Vec<f32>, budget: u32, tier: Tier) -> Turn {
    if !sequence.flush() {
        return if sequence.cancel.is_cancelled() { Turn::Over } else { Turn::Blocked };
    }
    if sequence.ended {
        return Turn::Over;
    }
    if sequence.cancel.is_cancelled() {
        sequence.end(FinishReason::Cancelled);
        return after(sequence, Turn::Decoded);
    }
    if !sequence.started {
        return prefill(sequence, budget, tier);
    }
    if let Some(turn) = misbehave(sequence) {
        return turn;
    }
    decode(sequence, model, logits, tier);
    after(sequence, Turn::Decoded)
}

/// Delivers what the step produced.
fn after(sequence: &mut Sequence, turn: Turn) -> Turn {
    if sequence.flush() && sequence.ended { Turn::Over } else { turn }
}

fn prefill(sequence: &mut Sequence, budget: u32, tier: Tier) -> Turn {
    let tokens = sequence.prefill_left.min(budget);
    sequence.prefill_left -= tokens;
    if sequence.prefill_left > 0 {
        return if tokens == 0 { Turn::Blocked } else { Turn::Prefilled(tokens) };
    }
    sequence.started = true;
    let prompt = if tier >= Tier::B { sequence.prompt.clone() } else { Vec::new() };
    let usage = Usage { output_tokens: 0, ..sequence.usage() };
    sequence.outbox.push_back(EngineEvent::Started { prompt, usage });
    if sequence.stops.stopped() {
        sequence.end(FinishReason::Stop);
    } else if sequence.output.len() >= sequence.limit {
        sequence.end(FinishReason::Length);
    }
    after(sequence, Turn::Prefilled(tokens.max(1)))
}

/// What an injected failure makes of this step, if it is due.
fn misbehave(sequence: &mut Sequence) -> Option<Turn> {
    let produced = sequence.produced();
    match sequence.failure {
        Failure::FailAfter(tokens) if produced >= tokens => {
            sequence.fail("the simulated engine was told to fail");
            Some(after(sequence, Turn::Decoded))
        }
        Failure::StallAfter(tokens) if produced >= tokens => Some(Turn::Aside),
        Failure::CrashAfter(tokens) if produced >= tokens => Some(Turn::Crash),
        Failure::GarbageAfter(tokens) if produced >= tokens => {
            sequence.output.push(END);
            let garbage = TokenEvent { id: Some(0xff_ffff), text: "\u{fffd}#".into(), logprob: None, top: Vec::new() };
            sequence.outbox.push_back(EngineEvent::Token(garbage));
            if sequence.output.len() >= sequence.limit {
                sequence.end(FinishReason::Length);
            }
            Some(after(sequence, Turn::Decoded))
        }
        _ => None,
    }
}

/// Draws a token and delivers it, or ends the sequence.
fn decode(sequence: &mut Sequence, model: &Model, logits: &mut Vec<f32>, tier: Tier) {
    model.logits(sequence.context, &sequence.output, sequence.script.as_deref(), logits);
    let index = count(sequence.output.len());
    let sampled = sequence.sampler.sample(Step { index, logits, hidden: None, output: &sequence.output });
    if usize::try_from(sampled.token).map_or(true, |token| token >= model.vocabulary.len()) {
        return sequence.fail("the sampler chose a token that does not exist");
    }
    if sampled.token == END {
        return sequence.end(FinishReason::EndOfSequence);
    }
    sequence.output.push(sampled.token);
    let released = sequence.stops.push(model.vocabulary.piece(sampled.token));
    let event = event(sampled, released.text, sequence.top, model, tier);
    sequence.outbox.push_back(EngineEvent::Token(event));
    if released.stopped {
        sequence.end(FinishReason::Stop);
    } else if sequence.output.len() >= sequence.limit {
        sequence.end(FinishReason::Length);
    }
}

/// What this tier tells of a token.
fn event(sampled: Sampled, text: String, top: u8, model: &Model, tier: Tier) -> TokenEvent {
    let alternative = |(token, logprob): (TokenId, LogProb)| TopToken {
        id: (tier >= Tier::B).then_some(token),
        bytes: model.vocabulary.piece(token).to_vec(),
        logprob,
    };
    let top = if tier >= Tier::C { usize::from(top) } else { 0 };
    TokenEvent {
        id: (tier >= Tier::B).then_some(sampled.token),
        text,
        logprob: (tier >= Tier::C).then_some(sampled.logprob),
        top: sampled.top.into_iter().take(top).map(alternative).collect(),
    }
}

/// Which prompt prefixes are in the KV cache, in blocks; the oldest blocks go first.
#[derive(Default)]
struct Cache {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Cache {
    /// Number of leading tokens that were cached; afterwards the whole prompt is. The last token is always worked on.
    fn admit(&mut self, prompt: &[TokenId]) -> u32 {
        let mut hasher = DefaultHasher::new();
        let (mut cached, mut unbroken) = (0, true);
        for block in prompt.chunks_exact(BLOCK) {
            block.hash(&mut hasher);
            unbroken &= !self.insert(hasher.finish());
            cached += if unbroken { BLOCK } else { 0 };
        }
        count(cached.min(prompt.len().saturating_sub(1)))
    }

    /// True when the block is new.
    fn insert(&mut self, block: u64) -> bool {
        let new = self.known.insert(block);
        if new {
            self.order.push_back(block);
            if self.order.len() > MAX_BLOCKS {
                let oldest = self.order.pop_front().expect("it has more than MAX_BLOCKS elements");
                self.known.remove(&oldest);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_knows_common_prefixes() {
        let mut cache = Cache::default();
        let prompt: Vec<TokenId> = (0..100).collect();
        assert_eq!(cache.admit(&prompt), 0);
        assert_eq!(cache.admit(&prompt), 96);
        assert_eq!(cache.admit(&prompt[..32]), 31);
        let mut other = prompt.clone();
        other[40] = 7;
        assert_eq!(cache.admit(&other), 32);
    }

    #[tokio::test]
    async fn batches_take_longer_but_less_for_each() {
        let config = MockConfig { speed_percent: 100, ..MockConfig::default() };
        let (_submit, submitted) = mpsc::channel(1);
        let model = Arc::new(Model::new(320, 0, 1));
        let scheduler = Scheduler::new(config, model, Arc::default(), submitted);
        let millis = |prefilled, decoded| scheduler.duration(&Work { prefilled, decoded }).as_millis();
        assert_eq!(millis(0, 1), 20);
        assert_eq!(millis(0, 21), 40);
        assert_eq!(millis(400, 0), 100);
        assert_eq!(millis(400, 1), 120);
    }
}
