//! The exact class (design of the proof of inference, section 7): logits that are bit for bit the same whatever the threads,
//! the batch, the neighbours and the reuse of memory, so that a guard of the same class compares hashes.
//!
//! Three things make it so, all chosen when an engine is loaded, for this engine alone: weights stay as they are in the file
//! (ggml repacks some for kernels that take several rows at once), the CPU backend uses its reference kernels (`ffi`), and
//! attention is always the flash kernel, row by row. What is known not to work is refused here by name; for everything else
//! the engine computes a few tokens in different batches before it starts, and refuses itself when they differ in one bit.
//!
//! Two engines agree if their classes are equal ([`class`]): the version of the library, the instruction sets that its
//! kernels were compiled for, and a fingerprint of the machine's mathematical functions. Model, context type and prompt are
//! in the manifest and the request. Other processors of the same class are expected to agree, which only a measurement
//! shows.

use crate::{
    config::{FlashAttention, LlamaConfig, LoadError},
    ffi::{self, Batch, Context, ContextParams, Model, SequenceId},
    gguf::{GgufError, Tensors},
    manifest::parts,
};
use alloy_primitives::{Keccak256, hex};
use cortensor_protocol::TokenId;
use std::{fs::File, hint::black_box, io::BufReader, sync::Arc};

/// Types of weights (ggml's numbers) for which tests show bit-exact replay, with their names.
const WEIGHT_TYPES: [(u32, &str); 13] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (30, "BF16"),
];
/// Context of the check before an engine starts.
const CHECK_CONTEXT: u32 = 256;
/// Tokens of the check before an engine starts.
const CHECK_TOKENS: usize = 12;

/// Refuses settings that cannot be exact.
pub(crate) fn check_settings(config: &LlamaConfig) -> Result<(), LoadError> {
    let fail = |setting, problem: &str| Err(LoadError::Setting { setting, problem: problem.into() });
    if config.gpu_layers.is_some_and(|layers| layers > 0) {
        return fail("gpu_layers", "must be 0 or absent where `exact` is set: GPU kernels depend on the batch");
    }
    if config.flash_attention == FlashAttention::Off {
        return fail("flash_attention", "cannot be off where `exact` is set: engines must agree on the kernel");
    }
    Ok(())
}

/// Refuses files with weights for which nothing is known.
pub(crate) fn check_file(config: &LlamaConfig) -> Result<(), LoadError> {
    let path = || config.path.clone();
    for part in parts(&config.path) {
        let file = File::open(&part).map_err(|source| LoadError::Io { path: part.clone(), source })?;
        let tensors = Tensors::read(&mut BufReader::with_capacity(1 << 16, file));
        let tensors = tensors.map_err(|source: GgufError| LoadError::Gguf { path: part, source })?;
        if let Some(problem) = unsuitable(&tensors) {
            return Err(LoadError::Inexact { path: path(), problem });
        }
    }
    Ok(())
}

fn unsuitable(tensors: &Tensors) -> Option<String> {
    if let Some((name, kind)) = tensors.kinds().find(|(_, kind)| !WEIGHT_TYPES.iter().any(|(known, _)| known == kind)) {
        let known = WEIGHT_TYPES.map(|(_, name)| name).join(", ");
        return Some(format!("its tensor {name} has ggml's type {kind}; known to be exact are {known}"));
    }
    // Which of two sets of factors is used depends on the length of the context that an operator chose.
    let long = tensors.kinds().any(|(name, _)| name.starts_with("rope_factors_long"));
    long.then(|| "its positions are encoded differently in long contexts".into())
}

/// Refuses models whose memory is not one entry for each token, and models that do not pass the check.
pub(crate) fn check_model(model: &Arc<Model>, params: &ContextParams) -> Result<(), String> {
    if !model.generates() {
        return Err("it does not write text token by token".into());
    }
    if !model.memory_divisible() {
        return Err("it has recurrent state".into());
    }
    if model.sliding_window() {
        return Err("its attention has a sliding window, whose memory depends on how it was filled".into());
    }
    let context = params.context_per_sequence;
    let tokens = u32::try_from(CHECK_TOKENS).unwrap_or(u32::MAX);
    if context < tokens {
        return Err(format!("its context is shorter than the {tokens} tokens of the check"));
    }
    let whole = |threads| ContextParams {
        context_per_sequence: CHECK_CONTEXT,
        sequences: 2,
        batch: 64,
        micro_batch: 64,
        threads,
        batch_threads: threads,
        ..params.clone()
    };
    let check = |threads, pieces: &[usize]| Check::new(model, &whole(threads))?.logits(pieces);
    let one_pass = check(params.batch_threads, &[CHECK_TOKENS])?;
    for (threads, pieces) in [(1, [1; CHECK_TOKENS].as_slice()), (params.threads.max(2), &[5, 1, 1, 3, 2])] {
        if check(threads, pieces)? != one_pass {
            return Err("its logits depend on the batch, on this machine, in this build of llama.cpp".into());
        }
    }
    Ok(())
}

/// A short sequence beside a neighbour.
struct Check {
    context: Context,
    batch: Batch,
    tokens: Vec<TokenId>,
}

impl Check {
    fn new(model: &Arc<Model>, params: &ContextParams) -> Result<Self, String> {
        let context = Context::new(model, params).ok_or("llama.cpp made no exact context; its log says why")?;
        let vocabulary = u32::try_from(model.vocabulary()).unwrap_or(u32::MAX).max(1);
        let tokens = (0..).take(CHECK_TOKENS).map(|at: u32| at.wrapping_mul(0x9e37_79b9) % vocabulary).collect();
        Ok(Self { batch: Batch::new(context.batch_capacity()), context, tokens })
    }

    /// Bits of the logits at all positions, computed in pieces of the given lengths, small ones beside a neighbour.
    fn logits(&mut self, pieces: &[usize]) -> Result<Vec<u32>, String> {
        let mut bits = Vec::new();
        let mut start = 0;
        for &length in pieces {
            self.batch.clear();
            let push = |batch: &mut Batch, at: usize, sequence| batch.push(self.tokens[at], at, sequence, true);
            let rows: Vec<i32> = (start..start + length).map(|at| push(&mut self.batch, at, SequenceId(0))).collect();
            if length < CHECK_TOKENS {
                push(&mut self.batch, start, SequenceId(1));
            }
            self.context.decode(&self.batch, false).map_err(|error| error.to_string())?;
            for row in rows {
                let logits = self.context.logits(row).ok_or("llama.cpp returned no logits")?;
                bits.extend(logits.iter().map(|logit| logit.to_bits()));
            }
            if length > 1 && length < CHECK_TOKENS {
                self.context.forget(SequenceId(1), 0);
            }
            start += length;
        }
        Ok(bits)
    }
}

/// What engines must have in common to agree bit by bit, beside model and context type.
pub(crate) fn class() -> String {
    format!("exact {} math-{}", instruction_set(), mathematics())
}

/// What kernels were compiled for, such as `x86_64+avx2+fma`.
pub(crate) fn instruction_set() -> String {
    [vec![std::env::consts::ARCH.to_owned()], ffi::instruction_sets()].concat().join("+")
}

/// A fingerprint of the mathematical functions that kernels call: they come from the machine's C library, which chooses
/// variants by the processor, and are not correctly rounded.
fn mathematics() -> String {
    let mut hash = Keccak256::new();
    for step in 0..4096_u16 {
        let x = black_box(f32::from(step) / 97.0);
        for value in
            [x.sin(), x.cos(), (-x).exp(), (x + 0.5).ln(), (x / 8.0).tanh(), black_box(10_000_f32).powf(-x / 42.0)]
        {
            hash.update(value.to_bits().to_le_bytes());
        }
    }
    hex::encode(&hash.finalize()[..4])
}
