//! Continuous batching: every step computes one token for each running sequence and a piece of the prompts that wait.
//!
//! A slot is a sequence of the context. Its memory outlives its generation, so that a later prompt with the same beginning
//! computes only what is new; a prefix held by another slot is copied.

use super::{
    Progress,
    run::{End, Run, Ticket, Work, count},
};
use crate::{
    ffi::{Batch, Context, DecodeError, SequenceId},
    gauges::{Gauges, StepWork},
    vocabulary::Vocabulary,
};
use cortensor_engine::EngineError;
use cortensor_protocol::{FinishReason, TokenId};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Tokens that copying another slot's memory must save to be worth the copy.
const COPY_GAIN_MIN: usize = 8;
/// Failed steps in a row after which the engine gives up.
const FAILURES_MAX: u32 = 3;
/// Readers are woken at most this often, or after every step that takes longer: a small model makes a token in the time
/// that waking its reader takes.
const HAND_OVER_EVERY: Duration = Duration::from_millis(5);

struct Slot {
    sequence: SequenceId,
    /// Tokens in the sequence's memory.
    cached: Vec<TokenId>,
    run: Option<Run>,
    /// Turn in which it was last used.
    used: u64,
}

/// What a step computes for one slot.
#[derive(Clone, Copy)]
struct Share {
    slot: usize,
    tokens: usize,
    /// Index in the batch of the output, if the prompt is complete with this step.
    output: Option<i32>,
}

/// All slots, and the jobs that wait for one.
pub(crate) struct Generator {
    context: Context,
    vocabulary: Arc<Vocabulary>,
    gauges: Arc<Gauges>,
    /// What is computed with the output of every token; also the prompts' tokens, where no hidden states are wanted.
    batch: Batch,
    /// Prompts' tokens without output, computed apart where hidden states are wanted: in one batch with those that have
    /// one, llama.cpp would compute the logits of all.
    prefill: Batch,
    /// Whether this step's outputs come with hidden states.
    hidden: bool,
    slots: Vec<Slot>,
    waiting: VecDeque<Box<Work>>,
    shares: Vec<Share>,
    prompt_chunk: usize,
    context_length: usize,
    turn: u64,
    failures: u32,
    /// When readers were last given their tokens.
    handed_over: Instant,
}

impl Generator {
    /// A generator over a context with one sequence for each slot.
    pub(crate) fn new(
        context: Context,
        vocabulary: Arc<Vocabulary>,
        gauges: Arc<Gauges>,
        prompt_chunk: u32,
        context_length: u32,
    ) -> Self {
        let slots = (0..i32::try_from(gauges.slots).unwrap_or(1))
            .map(|id| Slot { sequence: SequenceId(id), cached: Vec::new(), run: None, used: 0 })
            .collect();
        Self {
            batch: Batch::new(context.batch_capacity()),
            prefill: Batch::new(context.batch_capacity()),
            hidden: false,
            context,
            vocabulary,
            gauges,
            slots,
            waiting: VecDeque::new(),
            shares: Vec::new(),
            prompt_chunk: prompt_chunk as usize,
            context_length: context_length as usize,
            turn: 0,
            failures: 0,
            handed_over: Instant::now(),
        }
    }

    /// Puts work into the queue, whose length the tickets bound.
    pub(crate) fn enqueue(&mut self, work: Box<Work>) {
        self.waiting.push_back(work);
    }

    /// Ends everything with an error.
    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        for slot in &mut self.slots {
            if let Some(run) = slot.run.take() {
                run.end(End::Failed(error.clone()));
            }
        }
        for work in self.waiting.drain(..) {
            work.fail(error.clone());
        }
        self.gauges.set_kv_used(0);
    }

    /// One step. An error ends the engine.
    pub(crate) fn step(&mut self) -> Result<Progress, String> {
        self.turn += 1;
        self.remove_abandoned();
        self.fill_slots();
        self.plan();
        self.report_load();
        // Nobody's tokens wait while a prompt is computed or nothing is.
        let only_decoding = !self.shares.is_empty() && self.shares.iter().all(|share| share.tokens == 1);
        if !only_decoding {
            self.hand_over();
        }
        if self.shares.is_empty() {
            let running = self.slots.iter().any(|slot| slot.run.is_some());
            return Ok(if running { Progress::Paused } else { Progress::Idle });
        }
        let began = Instant::now();
        match self.compute() {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.recover(error)?;
                return Ok(Progress::Busy);
            }
        }
        self.take_results();
        self.gauges.measured(self.work_done(), began.elapsed());
        if self.handed_over.elapsed() >= HAND_OVER_EVERY {
            self.hand_over();
        }
        Ok(Progress::Busy)
    }

    fn compute(&mut self) -> Result<(), DecodeError> {
        if self.prefill.len() > 0 {
            self.context.decode(&self.prefill, false)?;
        }
        if self.batch.len() > 0 {
            self.context.decode(&self.batch, self.hidden)?;
        }
        Ok(())
    }

    /// Gives all readers their tokens.
    fn hand_over(&mut self) {
        self.slots.iter_mut().filter_map(|slot| slot.run.as_mut()).for_each(Run::hand_over);
        self.handed_over = Instant::now();
    }

    fn remove_abandoned(&mut self) {
        for slot in &mut self.slots {
            if slot.run.as_ref().is_some_and(Run::abandoned)
                && let Some(run) = slot.run.take()
            {
                run.end(End::Finished(FinishReason::Cancelled));
            }
        }
        for _ in 0..self.waiting.len() {
            let Some(work) = self.waiting.pop_front() else { break };
            if work.abandoned() { work.cancelled() } else { self.waiting.push_back(work) }
        }
    }

    fn fill_slots(&mut self) {
        while !self.waiting.is_empty() && self.slots.iter().any(|slot| slot.run.is_none()) {
            let Some(work) = self.waiting.pop_front() else { return };
            self.begin(*work);
        }
    }

    /// Gives work a slot, and the slot's memory the longest prefix that can be had.
    fn begin(&mut self, work: Work) {
        let wanted: Vec<TokenId> = work.prompt.iter().chain(&work.resume).copied().collect();
        let Some(index) = self.choose_slot(&wanted) else {
            self.waiting.push_front(Box::new(work));
            return;
        };
        let cached = self.prepare_memory(index, &wanted);
        let slot = &mut self.slots[index];
        slot.used = self.turn;
        let (run, end) =
            Run::start(work, cached, self.context_length, &self.vocabulary, Ticket::count(&self.gauges.active));
        match end {
            Some(end) => run.end(end),
            None => slot.run = Some(run),
        }
    }

    /// A free slot: the one that holds the longest part of `wanted`, unless that would throw away more than it saves;
    /// then the one unused for longest.
    fn choose_slot(&self, wanted: &[TokenId]) -> Option<usize> {
        let free = || (0..self.slots.len()).filter(|&index| self.slots[index].run.is_none());
        let best = free().max_by_key(|&index| shared_prefix(&self.slots[index].cached, wanted))?;
        let cached = &self.slots[best].cached;
        if shared_prefix(cached, wanted) * 2 >= cached.len() {
            return Some(best);
        }
        free().min_by_key(|&index| (!self.slots[index].cached.is_empty(), self.slots[index].used))
    }

    /// Leaves in the slot's memory only a prefix of `wanted`; its length.
    fn prepare_memory(&mut self, index: usize, wanted: &[TokenId]) -> usize {
        // At least one token must be computed, for its logits.
        let most = wanted.len() - 1;
        let mut keep = shared_prefix(&self.slots[index].cached, wanted).min(most);
        if self.context.model().memory_divisible()
            && let Some((source, shared)) = self.best_source(index, wanted)
            && shared.min(most) >= keep + COPY_GAIN_MIN
        {
            let (from, to) = (self.slots[source].sequence, self.slots[index].sequence);
            self.context.copy_sequence(from, to);
            self.slots[index].cached = self.slots[source].cached.clone();
            keep = shared.min(most);
        }
        let slot = &mut self.slots[index];
        if keep < slot.cached.len() && !self.context.forget(slot.sequence, keep) {
            // Recurrent state cannot be cut: begin anew.
            self.context.forget(slot.sequence, 0);
            keep = 0;
        }
        slot.cached.truncate(keep);
        keep
    }

    fn best_source(&self, target: usize, wanted: &[TokenId]) -> Option<(usize, usize)> {
        (0..self.slots.len())
            .filter(|&index| index != target)
            .map(|index| (index, shared_prefix(&self.slots[index].cached, wanted)))
            .max_by_key(|&(_, shared)| shared)
    }

    /// Fills the batch: first the sequences that decode, then prompts in order of arrival.
    fn plan(&mut self) {
        self.batch.clear();
        self.prefill.clear();
        self.shares.clear();
        self.hidden = self.slots.iter().filter_map(|slot| slot.run.as_ref()).any(|run| run.hidden);
        let mut prompts: Vec<(u64, usize)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(run) = &slot.run else { continue };
            let missing = run.tokens.len() - slot.cached.len();
            if missing > 1 {
                prompts.push((slot.used, index));
            } else if run.ready() && self.batch.room() > 0 {
                let position = slot.cached.len();
                let output = self.batch.push(run.tokens[position], position, slot.sequence, true);
                self.shares.push(Share { slot: index, tokens: 1, output: Some(output) });
            }
        }
        let mut budget = self.batch.room();
        if !self.shares.is_empty() {
            budget = budget.min(self.prompt_chunk);
        }
        prompts.sort_unstable();
        for (_, index) in prompts {
            budget -= self.plan_prompt(index, budget);
        }
    }

    fn plan_prompt(&mut self, index: usize, budget: usize) -> usize {
        let slot = &self.slots[index];
        let Some(run) = &slot.run else { return 0 };
        let start = slot.cached.len();
        let mut end = run.tokens.len().min(start + budget);
        if end == run.tokens.len() && !run.ready() {
            end -= 1;
        }
        let mut output = None;
        for position in start..end {
            let last = position + 1 == run.tokens.len();
            let batch = if self.hidden && !last { &mut self.prefill } else { &mut self.batch };
            let at = batch.push(run.tokens[position], position, slot.sequence, last);
            output = last.then_some(at);
        }
        if end > start {
            self.shares.push(Share { slot: index, tokens: end - start, output });
        }
        end - start
    }

    fn work_done(&self) -> StepWork {
        let prompt = |share: &&Share| share.tokens > 1;
        let prefilled = self.shares.iter().filter(prompt).map(|share| share.tokens).sum();
        StepWork { decoded: self.shares.iter().filter(|share| share.tokens == 1).count(), prefilled }
    }

    fn take_results(&mut self) {
        for share in &self.shares {
            let slot = &mut self.slots[share.slot];
            let Some(run) = &mut slot.run else { continue };
            let start = slot.cached.len();
            slot.cached.extend_from_slice(&run.tokens[start..start + share.tokens]);
            let Some(output) = share.output else { continue };
            let end = match self.context.output(output) {
                Some((logits, hidden)) => run.advance(logits, hidden, &self.vocabulary),
                None => Some(End::Failed(EngineError::Backend("llama.cpp returned no logits".into()))),
            };
            if let Some(end) = end
                && let Some(run) = slot.run.take()
            {
                slot.used = self.turn;
                run.end(end);
            }
        }
    }

    /// After a failed step: its sequences are in an unknown state, so their memory is dropped and their jobs fail. Others
    /// go on. Several failures in a row end the engine.
    fn recover(&mut self, error: DecodeError) -> Result<(), String> {
        tracing::error!(%error, sequences = self.shares.len(), tokens = self.batch.len() + self.prefill.len(), "a step failed");
        for share in &self.shares {
            let slot = &mut self.slots[share.slot];
            if let Some(run) = slot.run.take() {
                run.end(End::Failed(EngineError::Backend(error.to_string())));
            }
            slot.cached.clear();
            self.context.forget(slot.sequence, 0);
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(format!("{} steps failed in a row: {error}", self.failures));
        }
        Ok(())
    }

    fn report_load(&self) {
        let running = self.slots.iter().filter(|slot| slot.run.is_some());
        self.gauges.set_kv_used(running.map(|slot| slot.cached.len()).sum());
    }

    /// Computes a few tokens, which reads the weights and measures the speed. For a context that is not in use.
    pub(crate) fn warm_up(&mut self) -> Result<(), String> {
        let sequence = SequenceId(0);
        let token = 0;
        let prompt = self.batch.room().min(32).min(self.context_length / 2).max(1);
        for (length, from) in [(prompt, 0)].into_iter().chain((0..4).map(|at| (1, prompt + at))) {
            self.batch.clear();
            for at in from..(from + length).min(self.context_length) {
                self.batch.push(token, at, sequence, at + 1 == from + length);
            }
            if self.batch.len() == 0 {
                break;
            }
            let began = Instant::now();
            self.context.decode(&self.batch, false).map_err(|error| error.to_string())?;
            self.context.logits(count(length).cast_signed() - 1);
            let decoded = usize::from(length == 1);
            self.gauges.measured(StepWork { decoded, prefilled: length - decoded }, began.elapsed());
        }
        self.context.forget(sequence, 0);
        Ok(())
    }
}

/// Length of the common beginning.
fn shared_prefix(cached: &[TokenId], wanted: &[TokenId]) -> usize {
    cached.iter().zip(wanted).take_while(|(a, b)| a == b).count()
}
