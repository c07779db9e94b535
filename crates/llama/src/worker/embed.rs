//! Embeddings: one unit-length vector for each text.
//!
//! A model that was made for embeddings pools as its file says; any other model's vector is the mean of its last hidden
//! states. The context is made when first needed.

use super::{Progress, run::count};
use crate::ffi::{Batch, Context, ContextParams, Model, SequenceId};
use cortensor_engine::EngineError;
use cortensor_protocol::TokenId;
use llama_cpp_sys_2 as sys;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

/// Longest text for a model that pools by itself, which needs the whole text in one pass.
pub(crate) const POOLED_TOKENS_MAX: u32 = 2048;

/// Vectors and the number of tokens in all.
pub(crate) type Embeddings = (Vec<Vec<f32>>, u32);

/// An embedding job.
pub(crate) struct EmbedWork {
    pub(crate) inputs: Vec<Vec<TokenId>>,
    pub(crate) reply: oneshot::Sender<Result<Embeddings, EngineError>>,
}

impl EmbedWork {
    pub(crate) fn fail(self, error: EngineError) {
        // A caller that is gone has no use for the error.
        drop(self.reply.send(Err(error)));
    }
}

struct Task {
    work: EmbedWork,
    vectors: Vec<Vec<f32>>,
    /// Tokens of the current input that were computed, and the sum of their hidden states.
    done: usize,
    sum: Vec<f32>,
}

/// Embeds one job after the other.
pub(crate) struct Embedder {
    model: Arc<Model>,
    params: ContextParams,
    context: Option<(Context, Batch)>,
    tasks: VecDeque<Task>,
}

impl Embedder {
    pub(crate) fn new(model: Arc<Model>, params: &ContextParams) -> Self {
        let batch = if model.generates() { params.batch.min(256) } else { params.context_per_sequence };
        let params = ContextParams {
            sequences: 1,
            batch,
            micro_batch: batch,
            embeddings: Some(sys::LLAMA_POOLING_TYPE_UNSPECIFIED),
            ..params.clone()
        };
        Self { model, params, context: None, tasks: VecDeque::new() }
    }

    pub(crate) fn enqueue(&mut self, work: EmbedWork) {
        let vectors = Vec::with_capacity(work.inputs.len());
        self.tasks.push_back(Task { work, vectors, done: 0, sum: Vec::new() });
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
        if task.vectors.len() < task.work.inputs.len()
            && let Err(problem) = self.piece(&mut task)
        {
            task.work.fail(EngineError::Backend(problem));
            return Ok(Progress::Busy);
        }
        if task.vectors.len() < task.work.inputs.len() {
            self.tasks.push_front(task);
        } else {
            let tokens = task.work.inputs.iter().map(Vec::len).sum();
            drop(task.work.reply.send(Ok((task.vectors, count(tokens)))));
        }
        Ok(Progress::Busy)
    }

    fn piece(&mut self, task: &mut Task) -> Result<(), String> {
        if self.context.is_none() {
            let context = Context::new(&self.model, &self.params).ok_or("no memory for an embedding context")?;
            let batch = Batch::new(context.batch_capacity());
            self.context = Some((context, batch));
        }
        let (context, batch) = self.context.as_mut().ok_or("the embedding context is gone")?;
        let input = &task.work.inputs[task.vectors.len()];
        let sequence = SequenceId(0);
        if task.done == 0 {
            context.forget(sequence, 0);
            task.sum = vec![0.0; self.model.embedding_length()];
        }
        batch.clear();
        let pooling = context.pooling();
        let whole = ![sys::LLAMA_POOLING_TYPE_NONE, sys::LLAMA_POOLING_TYPE_LAST].contains(&pooling);
        if whole && input.len() > batch.room() {
            return Err(format!("this model pools whole texts, of at most {} tokens", batch.room()));
        }
        let end = (task.done + batch.room()).min(input.len());
        for (position, &token) in input.iter().enumerate().take(end).skip(task.done) {
            batch.push(token, position, sequence, true);
        }
        context.decode(batch, true).map_err(|error| error.to_string())?;
        if pooling == sys::LLAMA_POOLING_TYPE_NONE {
            for row in 0..count(batch.len()).cast_signed() {
                let hidden = context.embedding(row).ok_or("llama.cpp returned no hidden state")?;
                task.sum.iter_mut().zip(hidden).for_each(|(sum, value)| *sum += value);
            }
        } else {
            let pooled = context.pooled_embedding(sequence).ok_or("this model's pooling gives no embedding")?;
            task.sum.copy_from_slice(pooled);
        }
        task.done = end;
        if end == input.len() {
            task.vectors.push(unit(std::mem::take(&mut task.sum)));
            task.done = 0;
        }
        Ok(())
    }
}

/// Scales to length 1.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "back to the precision of the values")]
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    vector
}
