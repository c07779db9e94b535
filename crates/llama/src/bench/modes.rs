//! What tracing costs, and what the exact class costs: our engine against itself, in turns.

use super::{BenchConfig, BenchError, Rates, Row, ends, engine_config, measure_engine};
use crate::{LlamaConfig, LlamaEngine};
use cortensor_protocol::{Sampled, Step, TokenId, TokenSampler};
use std::{num::NonZeroU32, sync::Arc};

/// Makes a request's sampler: `true` for one that records a trace.
pub type MakeSampler<'a> = &'a (dyn Fn(bool) -> Box<dyn TokenSampler> + Sync);

/// Another's sampler, but never a token that ends the output.
struct Endless {
    inner: Box<dyn TokenSampler>,
    ends: Arc<[TokenId]>,
}

impl TokenSampler for Endless {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        for &end in &*self.ends {
            step.logits[end as usize] = f32::NEG_INFINITY;
        }
        self.inner.sample(step)
    }

    fn wants_hidden(&self) -> bool {
        self.inner.wants_hidden()
    }
}

/// Prefill and decode with a trace beside those without, at each concurrency.
///
/// # Errors
/// The engine fails.
pub async fn traced(config: &BenchConfig, make: MakeSampler<'_>) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for requests in concurrency(config) {
        let engine = LlamaEngine::load(engine_config(config, requests))?;
        let ends = ends(engine.model());
        let mut best = [Rates::default(); 2];
        for round in 0..config.rounds.max(1) {
            for traced in [false, true] {
                let sampler =
                    || -> Box<dyn TokenSampler> { Box::new(Endless { inner: make(traced), ends: Arc::clone(&ends) }) };
                // Prompts of their own, since the first side leaves its prompts in the memory.
                let side = usize::from(traced);
                let round = (requests.get(), 2 * round + u32::from(traced));
                best[side] = best[side].best(measure_engine(&engine, config, round, &sampler).await?);
            }
        }
        rows.extend(best[1].beside(best[0], &format!("{requests}.traced"), "untraced"));
    }
    Ok(rows)
}

/// Prefill and decode in the exact class beside those of the default mode, at each concurrency.
///
/// # Errors
/// The engine fails, or the model cannot be served exactly.
pub async fn exact(config: &BenchConfig, make: MakeSampler<'_>) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for requests in concurrency(config) {
        let load = |exact| LlamaEngine::load(LlamaConfig { exact, ..engine_config(config, requests) });
        let engines = [load(false)?, load(true)?];
        let ends = ends(engines[0].model());
        let sampler = || -> Box<dyn TokenSampler> { Box::new(Endless { inner: make(false), ends: Arc::clone(&ends) }) };
        let mut best = [Rates::default(); 2];
        for round in 0..config.rounds.max(1) {
            for (engine, best) in engines.iter().zip(&mut best) {
                *best = best.best(measure_engine(engine, config, (requests.get(), round), &sampler).await?);
            }
        }
        rows.extend(best[1].beside(best[0], &format!("{requests}.exact"), "default mode"));
    }
    Ok(rows)
}

fn concurrency(config: &BenchConfig) -> impl Iterator<Item = NonZeroU32> {
    config.concurrency.iter().map(|&requests| NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN))
}
