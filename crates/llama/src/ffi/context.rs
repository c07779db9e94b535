//! A context: the memory (KV cache) of many sequences and the buffers of one batch. Used by one thread at a time.

use super::{model::Model, reference};
use cortensor_protocol::TokenId;
use llama_cpp_sys_2 as sys;
use std::{ptr::NonNull, sync::Arc};

/// One of a context's sequences: below [`ContextParams::sequences`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceId(pub(crate) i32);

/// How a context is made.
#[derive(Clone, Debug)]
pub(crate) struct ContextParams {
    /// LLM tokens of one sequence.
    pub(crate) context_per_sequence: u32,
    /// Sequences.
    pub(crate) sequences: u32,
    /// Most tokens of one batch.
    pub(crate) batch: u32,
    /// Most tokens of one pass over the weights.
    pub(crate) micro_batch: u32,
    /// Threads for small batches.
    pub(crate) threads: u32,
    /// Threads for large batches.
    pub(crate) batch_threads: u32,
    /// Type of the KV cache.
    pub(crate) kv_type: sys::ggml_type,
    /// llama.cpp's flash attention setting.
    pub(crate) flash_attention: sys::llama_flash_attn_type,
    /// Whether the hidden states of output positions are kept, and how they are pooled.
    pub(crate) embeddings: Option<sys::llama_pooling_type>,
    /// Whether only kernels are used whose results do not depend on batch and threads.
    pub(crate) exact: bool,
}

/// Why a batch was not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The KV cache has no room; nothing changed.
    #[error("no room in the KV cache")]
    Full,
    /// Broken off or failed; the sequences of the batch are in an unknown state.
    #[error("llama.cpp returned {0}")]
    Failed(i32),
}

/// A context and the threads that compute for it.
pub(crate) struct Context {
    ptr: NonNull<sys::llama_context>,
    pool: Option<NonNull<sys::ggml_threadpool>>,
    model: Arc<Model>,
    vocabulary: usize,
    /// Whether hidden states are kept at present.
    hidden: bool,
}

// SAFETY: llama.cpp contexts are not bound to a thread; `&mut self` on everything that computes keeps use exclusive.
unsafe impl Send for Context {}

impl Context {
    /// Makes a context. `None` when llama.cpp refuses, mostly for want of memory; the reason is in the log.
    ///
    /// llama.cpp writes to the model while it makes a context, so two threads must not do this at once for one model.
    pub(crate) fn new(model: &Arc<Model>, wanted: &ContextParams) -> Option<Self> {
        let params = raw_params(wanted);
        // SAFETY: the model is alive and stays so through the `Arc`; all pointers in `params` are the library's defaults.
        let ptr = NonNull::new(unsafe { sys::llama_init_from_model(model.as_ptr(), params) })?;
        let pool = attach_pool(ptr, wanted.threads.max(wanted.batch_threads));
        let context = Self {
            ptr,
            pool,
            vocabulary: model.vocabulary(),
            hidden: wanted.embeddings.is_some(),
            model: Arc::clone(model),
        };
        if wanted.exact && !reference::choose(ptr) {
            tracing::error!("a backend beside ggml's CPU backend computes for this context: it cannot be exact");
            return None;
        }
        Some(context)
    }

    /// The model.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// LLM tokens that one sequence can hold: what was asked for, rounded up.
    pub(crate) fn context_per_sequence(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ctx_seq(self.ptr.as_ptr()) }
    }

    /// Most tokens of one batch: what was asked for, or less where the whole context is smaller.
    pub(crate) fn batch_capacity(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_batch(self.ptr.as_ptr()) }
    }

    /// The pooling in force.
    pub(crate) fn pooling(&self) -> sys::llama_pooling_type {
        // SAFETY: the context is alive.
        unsafe { sys::llama_pooling_type(self.ptr.as_ptr()) }
    }

    /// Computes a batch. Slices from earlier batches are gone afterwards, which `&mut self` enforces.
    ///
    /// `hidden`: keep the hidden states as well, for a context that was not made to. llama.cpp then computes the logits of
    /// all tokens, so it suits batches in which every token has an output.
    pub(crate) fn decode(&mut self, batch: &Batch, hidden: bool) -> Result<(), DecodeError> {
        debug_assert!(batch.len() > 0);
        if hidden != self.hidden {
            // SAFETY: the context is alive; the flag is read when a batch is computed.
            unsafe { sys::llama_set_embeddings(self.ptr.as_ptr(), hidden) }
            self.hidden = hidden;
        }
        // SAFETY: the batch's arrays hold `n_tokens` initialised entries; ids were checked by `Batch::push`'s callers
        // against the vocabulary and are checked again by llama.cpp.
        match unsafe { sys::llama_decode(self.ptr.as_ptr(), batch.raw) } {
            0 => Ok(()),
            1 => Err(DecodeError::Full),
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// The logits at `index` of the last batch, where an output was asked for. May be overwritten.
    pub(crate) fn logits(&mut self, index: i32) -> Option<&mut [f32]> {
        self.output(index).map(|(logits, _)| logits)
    }

    /// The logits at `index` of the last batch, where an output was asked for, and the final normalised hidden state, if it
    /// was kept. The logits may be overwritten.
    pub(crate) fn output(&mut self, index: i32) -> Option<(&mut [f32], Option<&[f32]>)> {
        // SAFETY: llama.cpp answers null for an index without output.
        let row = NonNull::new(unsafe { sys::llama_get_logits_ith(self.ptr.as_ptr(), index) })?;
        let this: &Self = self;
        let hidden = if this.hidden { Some(this.embedding(index)?) } else { None };
        // SAFETY: a row has one entry for each token of the vocabulary and lives until the next decode, which needs
        // `&mut self` as well; hidden states lie in another buffer.
        Some((unsafe { std::slice::from_raw_parts_mut(row.as_ptr(), self.vocabulary) }, hidden))
    }

    /// The hidden state at `index` of the last batch (no pooling).
    pub(crate) fn embedding(&self, index: i32) -> Option<&[f32]> {
        // SAFETY: llama.cpp answers null for an index without output or without embeddings.
        let row = NonNull::new(unsafe { sys::llama_get_embeddings_ith(self.ptr.as_ptr(), index) })?;
        // SAFETY: without pooling, a row has the model's output width; it lives until the next decode.
        Some(unsafe { std::slice::from_raw_parts(row.as_ptr(), self.model.embedding_length()) })
    }

    /// The pooled embedding of `sequence` after the last batch. Not for rank pooling, whose width differs.
    pub(crate) fn pooled_embedding(&self, sequence: SequenceId) -> Option<&[f32]> {
        if self.pooling() == sys::LLAMA_POOLING_TYPE_RANK {
            return None;
        }
        // SAFETY: llama.cpp answers null for a sequence that was not in the batch.
        let row = NonNull::new(unsafe { sys::llama_get_embeddings_seq(self.ptr.as_ptr(), sequence.0) })?;
        // SAFETY: pooled rows other than rank's have the model's output width; it lives until the next decode.
        Some(unsafe { std::slice::from_raw_parts(row.as_ptr(), self.model.embedding_length()) })
    }

    fn memory(&self) -> Option<NonNull<sys::llama_memory_i>> {
        // SAFETY: the context is alive; null for models without memory.
        NonNull::new(unsafe { sys::llama_get_memory(self.ptr.as_ptr()) })
    }

    /// Forgets `sequence` from position `from` on. `false`: this memory cannot forget a part, and nothing changed.
    pub(crate) fn forget(&mut self, sequence: SequenceId, from: usize) -> bool {
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        self.memory().is_none_or(|memory| {
            // SAFETY: the memory belongs to the live context; `-1` means to the end.
            unsafe { sys::llama_memory_seq_rm(memory.as_ptr(), sequence.0, from, -1) }
        })
    }

    /// Replaces `target`'s memory with a copy of the whole of `source`'s. Both must be sequences of this context, and the
    /// memory must be divisible ([`Model::memory_divisible`]).
    pub(crate) fn copy_sequence(&mut self, source: SequenceId, target: SequenceId) {
        assert!(self.model.memory_divisible(), "recurrent state is not copied");
        if let Some(memory) = self.memory() {
            // SAFETY: the memory belongs to the live context; the whole range is copied, the one form that llama.cpp
            // supports between separate buffers.
            unsafe { sys::llama_memory_seq_cp(memory.as_ptr(), source.0, target.0, -1, -1) }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once, the context before the threads that it uses.
        unsafe {
            sys::llama_free(self.ptr.as_ptr());
            if let Some(pool) = self.pool {
                sys::ggml_threadpool_free(pool.as_ptr());
            }
        }
    }
}

fn raw_params(wanted: &ContextParams) -> sys::llama_context_params {
    // SAFETY: plain data.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.n_ctx = wanted.context_per_sequence.saturating_mul(wanted.sequences);
    params.n_seq_max = wanted.sequences;
    params.n_batch = wanted.batch;
    params.n_ubatch = wanted.micro_batch;
    params.n_threads = i32::try_from(wanted.threads).unwrap_or(1);
    params.n_threads_batch = i32::try_from(wanted.batch_threads).unwrap_or(1);
    params.type_k = wanted.kv_type;
    params.type_v = wanted.kv_type;
    params.flash_attn_type = wanted.flash_attention;
    // A buffer for each sequence: attention then costs a sequence its own length, not that of all together.
    params.kv_unified = false;
    params.no_perf = true;
    params.n_outputs_max = 0;
    params.n_outputs_max_per_seq = 0;
    params.embeddings = wanted.embeddings.is_some();
    // Without pooling, hidden states that are asked for later are those of single tokens.
    params.pooling_type = wanted.embeddings.unwrap_or(sys::LLAMA_POOLING_TYPE_NONE);
    params
}

/// Gives the context threads that live as long as it: otherwise ggml starts and ends them for every batch.
fn attach_pool(context: NonNull<sys::llama_context>, threads: u32) -> Option<NonNull<sys::ggml_threadpool>> {
    if threads < 2 {
        return None;
    }
    // SAFETY: plain data in, a pool or null out; the pool outlives the context (see `Drop`).
    unsafe {
        let mut params = sys::ggml_threadpool_params_default(i32::try_from(threads).ok()?);
        let pool = NonNull::new(sys::ggml_threadpool_new(&raw mut params))?;
        sys::llama_attach_threadpool(context.as_ptr(), pool.as_ptr(), pool.as_ptr());
        Some(pool)
    }
}

/// Tokens to compute, each for one sequence.
pub(crate) struct Batch {
    raw: sys::llama_batch,
    capacity: usize,
}

// SAFETY: plain arrays owned by this value.
unsafe impl Send for Batch {}

impl Batch {
    /// A batch with room for `capacity` tokens.
    pub(crate) fn new(capacity: u32) -> Self {
        let size = i32::try_from(capacity.max(1)).unwrap_or(i32::MAX);
        // SAFETY: allocates arrays for `size` tokens of one sequence each.
        let raw = unsafe { sys::llama_batch_init(size, 0, 1) };
        Self { raw, capacity: usize::try_from(size).unwrap_or(1) }
    }

    /// Tokens in it.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.raw.n_tokens).unwrap_or(0)
    }

    /// Tokens that still fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.raw.n_tokens = 0;
    }

    /// Adds a token and returns its index in the batch. There must be room.
    pub(crate) fn push(&mut self, token: TokenId, position: usize, sequence: SequenceId, output: bool) -> i32 {
        assert!(self.room() > 0, "the batch is full");
        let index = self.len();
        // SAFETY: `index` is below the capacity that all arrays were allocated with.
        unsafe {
            self.raw.token.add(index).write(token.cast_signed());
            self.raw.pos.add(index).write(i32::try_from(position).unwrap_or(i32::MAX));
            self.raw.n_seq_id.add(index).write(1);
            (*self.raw.seq_id.add(index)).write(sequence.0);
            self.raw.logits.add(index).write(i8::from(output));
        }
        self.raw.n_tokens += 1;
        self.raw.n_tokens - 1
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: made by `llama_batch_init`, freed once.
        unsafe { sys::llama_batch_free(self.raw) }
    }
}
