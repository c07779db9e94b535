//! Outputs that are known already, gone through in one pass over prompt and output, in pieces between other work: scoring
//! gives log-probabilities, replay shows every place to a sampler as if the output were being generated.

use super::{
    Progress,
    run::{count, draw},
};
use crate::{
    ffi::{Batch, Context, ContextParams, Model, SequenceId},
    grammar::Matcher,
    vocabulary::Vocabulary,
};
use cortensor_engine::{EngineError, ScoredToken};
use cortensor_protocol::{LogProb, Step, TokenId, TokenSampler, trace::NO_TOKEN};
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

/// An output to be shown to a sampler.
pub(crate) struct ReplayWork {
    pub(crate) prompt: Vec<TokenId>,
    /// May end with a token that is not computed but judged: one that ends the answer, or [`NO_TOKEN`].
    pub(crate) output: Vec<TokenId>,
    /// The first place that is shown; below the output's length.
    pub(crate) from: usize,
    pub(crate) grammar: Option<Matcher>,
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) sampler: Box<dyn TokenSampler>,
    /// Whether the sampler makes use of hidden states.
    pub(crate) hidden: bool,
    pub(crate) reply: oneshot::Sender<Result<Vec<TokenId>, EngineError>>,
}

/// What is done with the places of an output.
enum Reader {
    Score { top: usize, scored: Vec<ScoredToken>, reply: oneshot::Sender<Result<Vec<ScoredToken>, EngineError>> },
    Replay(Box<Replaying>),
}

impl Reader {
    fn is_closed(&self) -> bool {
        match self {
            Self::Score { reply, .. } => reply.is_closed(),
            Self::Replay(replay) => replay.reply.is_closed(),
        }
    }

    /// Takes the model's answer at a place of the output.
    fn read(&mut self, task: &Known, at: usize, logits: &mut [f32], hidden: Option<&[f32]>) -> Result<(), EngineError> {
        match self {
            Self::Score { top, scored, .. } => scored.push(score(logits, task.output()[at], *top)),
            Self::Replay(replay) => replay.read(task.output(), at, logits, hidden)?,
        }
        Ok(())
    }

    fn end(self, task: Known) {
        match self {
            Self::Score { scored, reply, .. } => drop(reply.send(Ok(scored))),
            Self::Replay(replay) => drop(replay.reply.send(Ok(task.into_prompt()))),
        }
    }

    fn fail(self, error: EngineError) {
        // A caller that is gone has no use for the error.
        match self {
            Self::Score { reply, .. } => drop(reply.send(Err(error))),
            Self::Replay(replay) => drop(replay.reply.send(Err(error))),
        }
    }
}

/// The state of a replay.
struct Replaying {
    grammar: Option<Matcher>,
    /// Tokens that the grammar has followed.
    followed: usize,
    /// The grammar has refused one of them.
    refused: bool,
    vocabulary: Arc<Vocabulary>,
    sampler: Box<dyn TokenSampler>,
    reply: oneshot::Sender<Result<Vec<TokenId>, EngineError>>,
}

impl Replaying {
    fn read(
        &mut self,
        output: &[TokenId],
        at: usize,
        logits: &mut [f32],
        hidden: Option<&[f32]>,
    ) -> Result<(), EngineError> {
        let possible = self.mask(&output[..at], logits)?;
        if !possible && output[at] == NO_TOKEN {
            // The grammar was complete, and the model has no token to say so: nothing was drawn here.
            return Ok(());
        }
        draw(&mut *self.sampler, Step { index: count(at), logits, hidden, output: &output[..at] }).map(drop)
    }

    /// Masks what the grammar does not allow after `output`. `false`: that is everything, as after a token that the grammar
    /// refuses.
    fn mask(&mut self, output: &[TokenId], logits: &mut [f32]) -> Result<bool, EngineError> {
        let Some(grammar) = &mut self.grammar else { return Ok(true) };
        for &token in &output[self.followed..] {
            self.refused |= grammar.accept(self.vocabulary.piece(token)).is_err();
        }
        self.followed = output.len();
        if self.refused {
            logits.fill(f32::NEG_INFINITY);
            return Ok(false);
        }
        let mask = grammar
            .mask(&self.vocabulary)
            .map_err(|error| EngineError::Unsupported { parameter: "response_format", problem: error.to_string() })?;
        mask.apply(logits);
        Ok(mask.any())
    }
}

/// Prompt and output, and how far the model has come.
struct Known {
    tokens: Vec<TokenId>,
    prompt: usize,
    /// The first place of the output that is read.
    from: usize,
    hidden: bool,
    done: usize,
}

impl Known {
    fn output(&self) -> &[TokenId] {
        &self.tokens[self.prompt..]
    }

    fn into_prompt(mut self) -> Vec<TokenId> {
        self.tokens.truncate(self.prompt);
        self.tokens
    }

    /// The place of the output that follows `position`, if it is read.
    fn read_after(&self, position: usize) -> Option<usize> {
        (position + 1).checked_sub(self.prompt).filter(|&at| at >= self.from)
    }

    /// Where the next piece ends. The last token's logits say nothing about the output.
    fn piece_end(&self, room: usize) -> usize {
        let end = (self.done + room).min(self.tokens.len() - 1);
        // A piece with hidden states computes logits at all its positions, so it begins with the first that is read.
        let first = self.prompt + self.from - 1;
        if self.hidden && self.done < first { end.min(first) } else { end }
    }
}

/// Goes through one output after the other in a context of its own, made when first needed.
pub(crate) struct Scorer {
    model: Arc<Model>,
    params: ContextParams,
    context: Option<(Context, Batch)>,
    tasks: VecDeque<(Known, Reader)>,
}

impl Scorer {
    pub(crate) fn new(model: Arc<Model>, params: &ContextParams) -> Self {
        let rows = LOGITS_BYTES_MAX / (4 * model.vocabulary().max(1));
        let batch = params.batch.min(count(rows.max(16)));
        let params =
            ContextParams { sequences: 1, batch, micro_batch: params.micro_batch.min(batch), ..params.clone() };
        Self { model, params, context: None, tasks: VecDeque::new() }
    }

    pub(crate) fn score(&mut self, work: ScoreWork) {
        let known = Known {
            prompt: work.prompt.len(),
            tokens: [work.prompt, work.output].concat(),
            from: 0,
            hidden: false,
            done: 0,
        };
        let reader = Reader::Score { top: work.top, scored: Vec::new(), reply: work.reply };
        self.tasks.push_back((known, reader));
    }

    pub(crate) fn replay(&mut self, work: ReplayWork) {
        let known = Known {
            prompt: work.prompt.len(),
            tokens: [work.prompt, work.output].concat(),
            from: work.from,
            hidden: work.hidden,
            done: 0,
        };
        let reader = Reader::Replay(Box::new(Replaying {
            grammar: work.grammar,
            followed: 0,
            refused: false,
            vocabulary: work.vocabulary,
            sampler: work.sampler,
            reply: work.reply,
        }));
        self.tasks.push_back((known, reader));
    }

    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        for (_, reader) in self.tasks.drain(..) {
            reader.fail(error.clone());
        }
    }

    /// Computes one piece of the first job.
    pub(crate) fn step(&mut self) -> Result<Progress, String> {
        while self.tasks.front().is_some_and(|(_, reader)| reader.is_closed()) {
            self.tasks.pop_front();
        }
        let Some((mut known, mut reader)) = self.tasks.pop_front() else { return Ok(Progress::Idle) };
        match self.piece(&mut known, &mut reader) {
            Err(error) => reader.fail(error),
            Ok(()) if known.done + 1 >= known.tokens.len() => reader.end(known),
            Ok(()) => self.tasks.push_front((known, reader)),
        }
        Ok(Progress::Busy)
    }

    fn piece(&mut self, known: &mut Known, reader: &mut Reader) -> Result<(), EngineError> {
        let failed = |problem: &str| EngineError::Backend(problem.into());
        if self.context.is_none() {
            let context =
                Context::new(&self.model, &self.params).ok_or_else(|| failed("no memory for a scoring context"))?;
            let batch = Batch::new(context.batch_capacity());
            self.context = Some((context, batch));
        }
        let (context, batch) = self.context.as_mut().ok_or_else(|| failed("the scoring context is gone"))?;
        let sequence = SequenceId(0);
        if known.done == 0 {
            context.forget(sequence, 0);
        }
        batch.clear();
        let end = known.piece_end(batch.room());
        let mut rows = Vec::new();
        for position in known.done..end {
            let place = known.read_after(position);
            let row = batch.push(known.tokens[position], position, sequence, place.is_some());
            rows.extend(place.map(|place| (row, place)));
        }
        let hidden = known.hidden && !rows.is_empty();
        context.decode(batch, hidden).map_err(|error| failed(&error.to_string()))?;
        for (row, place) in rows {
            let (logits, state) = context.output(row).ok_or_else(|| failed("llama.cpp returned no logits"))?;
            reader.read(known, place, logits, state)?;
        }
        known.done = end;
        Ok(())
    }
}

/// The log-probability of one token and of the most probable ones.
fn score(logits: &[f32], token: TokenId, top: usize) -> ScoredToken {
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
        let scored = score(&[0.0, 2.0_f32.ln(), 0.0, f32::NEG_INFINITY], 2, 3);
        let nats = |p: f32| LogProb::from_nats(p.ln());
        assert_eq!(scored.logprob, nats(0.25));
        assert_eq!(scored.top, vec![(1, nats(0.5)), (0, nats(0.25)), (2, nats(0.25))]);
        assert!(super::score(&[1.0], 0, 0).top.is_empty());
    }
}
