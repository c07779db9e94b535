//! Scoring: the log-probabilities of given tokens, from one pass over prompt and output, in pieces between other work.

use super::{Progress, run::count};
use crate::ffi::{Batch, Context, ContextParams, Model, SequenceId};
use cortensor_engine::{EngineError, ScoredToken};
use cortensor_protocol::{LogProb, TokenId};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

/// Most bytes of logits that one piece may produce.
const LOGITS_BYTES_MAX: usize = 64 << 20;

/// A scoring job.
pub(crate) struct ScoreWork {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) output: Vec<TokenId>,
    pub(crate) top: usize,
    pub(crate) reply: oneshot::Sender<Result<Vec<ScoredToken>, EngineError>>,
}

impl ScoreWork {
    pub(crate) fn fail(self, error: EngineError) {
        // A caller that is gone has no use for the error.
        drop(self.reply.send(Err(error)));
    }
}

struct Task {
    work: ScoreWork,
    tokens: Vec<TokenId>,
    done: usize,
    scored: Vec<ScoredToken>,
}

/// Scores one job after the other in a context of its own, made when first needed.
pub(crate) struct Scorer {
    model: Arc<Model>,
    params: ContextParams,
    context: Option<(Context, Batch)>,
    tasks: VecDeque<Task>,
}

impl Scorer {
    pub(crate) fn new(model: Arc<Model>, params: &ContextParams) -> Self {
        let rows = LOGITS_BYTES_MAX / (4 * model.vocabulary().max(1));
        let batch = params.batch.min(count(rows.max(16)));
        let params =
            ContextParams { sequences: 1, batch, micro_batch: params.micro_batch.min(batch), ..params.clone() };
        Self { model, params, context: None, tasks: VecDeque::new() }
    }

    pub(crate) fn enqueue(&mut self, work: ScoreWork) {
        let tokens = work.prompt.iter().chain(&work.output).copied().collect();
        let scored = Vec::with_capacity(work.output.len());
        self.tasks.push_back(Task { work, tokens, done: 0, scored });
    }

    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        for task in self.tasks.drain(..) {
            task.work.fail(error.clone());
        }
    }

    /// Computes one piece of the first job.
    pub(crate) fn step(&mut self) -> Result<Progress, String> {
        while self.tasks.front().is_some_and(|task| task.work.reply.is_closed()) {
            self.tasks.pop_front();
        }
        let Some(mut task) = self.tasks.pop_front() else { return Ok(Progress::Idle) };
        match self.piece(&mut task) {
            Err(problem) => task.work.fail(EngineError::Backend(problem)),
            // The last token's logits say nothing about the output.
            Ok(()) if task.done + 1 >= task.tokens.len() => drop(task.work.reply.send(Ok(task.scored))),
            Ok(()) => self.tasks.push_front(task),
        }
        Ok(Progress::Busy)
    }

    fn piece(&mut self, task: &mut Task) -> Result<(), String> {
        if self.context.is_none() {
            let context = Context::new(&self.model, &self.params).ok_or("no memory for a scoring context")?;
            let batch = Batch::new(context.batch_capacity());
            self.context = Some((context, batch));
        }
        let (context, batch) = self.context.as_mut().ok_or("the scoring context is gone")?;
        let sequence = SequenceId(0);
        if task.done == 0 {
            context.forget(sequence, 0);
        }
        batch.clear();
        let end = (task.done + batch.room()).min(task.tokens.len() - 1);
        let mut rows = Vec::new();
        for position in task.done..end {
            let next = (position + 1).checked_sub(task.work.prompt.len()).map(|at| task.work.output[at]);
            let row = batch.push(task.tokens[position], position, sequence, next.is_some());
            rows.extend(next.map(|next| (row, next)));
        }
        context.decode(batch).map_err(|error| error.to_string())?;
        for (row, token) in rows {
            let logits = context.logits(row).ok_or("llama.cpp returned no logits")?;
            task.scored.push(scored(logits, token, task.work.top));
        }
        task.done = end;
        Ok(())
    }
}

/// The log-probability of one token and of the most probable ones.
fn scored(logits: &[f32], token: TokenId, top: usize) -> ScoredToken {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a small number")]
    let normaliser = highest + sum.ln() as f32;
    let logprob = |logit: f32| LogProb::from_nats(logit - normaliser);
    let mut best: Vec<(TokenId, f32)> = Vec::with_capacity(top + 1);
    for (id, &logit) in logits.iter().enumerate() {
        if best.len() == top && best.last().is_none_or(|&(_, least)| logit <= least) {
            continue;
        }
        // Equal logits keep the lower id first.
        let at = best.partition_point(|&(_, other)| other >= logit);
        best.insert(at, (count(id), logit));
        best.truncate(top);
    }
    ScoredToken {
        token,
        logprob: logprob(logits[token as usize]),
        top: best.into_iter().map(|(id, logit)| (id, logprob(logit))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_normalised_and_ties_go_to_the_lower_id() {
        let scored = scored(&[0.0, 2.0_f32.ln(), 0.0, f32::NEG_INFINITY], 2, 3);
        let nats = |p: f32| LogProb::from_nats(p.ln());
        assert_eq!(scored.logprob, nats(0.25));
        assert_eq!(scored.top, vec![(1, nats(0.5)), (0, nats(0.25)), (2, nats(0.25))]);
        assert!(super::scored(&[1.0], 0, 0).top.is_empty());
    }
}
