//! One number to rank by: the expected time, made longer by a high price, a low reputation and recent failures.
//!
//! ```text
//! cost = time × (1 + price_permille × asked / limit / 1000) × (1 + failure_permille × failures / 1000) × 1000 / reputation
//! ```
//!
//! `asked / limit` compares what the request would cost at this worker with what the client accepts, 0 to 1. The unit
//! stays microseconds: "as good as a neutral, free worker that needs so long".

use crate::{
    expected_time::{Estimate, saturate},
    snapshot::{Request, Settings, WorkerSnapshot},
};

/// Failures beyond this count no further: such a worker is already out of reach of any draw.
const FAILURES_MAX: u32 = 64;

/// The cost in microseconds; smaller is better.
#[must_use]
pub fn cost_us(worker: &WorkerSnapshot, request: &Request, estimate: &Estimate, settings: &Settings) -> u64 {
    let price = 1_000_000 + u128::from(settings.price_permille) * u128::from(price_permille(worker, request, settings));
    let failures = 1_000 + u128::from(settings.failure_permille) * u128::from(worker.recent_failures.min(FAILURES_MAX));
    // 2^64 µs × 2^42 fits u128; the second product is cut down first so that it fits as well.
    let priced = saturate(u128::from(estimate.total_us().max(1)) * price / 1_000_000);
    let failed = saturate(u128::from(priced) * failures / 1_000);
    saturate(u128::from(failed) * 1_000 / u128::from(worker.standing(settings).clamped()))
}

/// What the request would cost at this worker, in thousandths of what it would cost at the client's limit.
fn price_permille(worker: &WorkerSnapshot, request: &Request, settings: &Settings) -> u32 {
    let (input, output) = (request.input_tokens(), request.expected_output(settings));
    match (worker.offer.price.cost(input, output), request.price_limit.cost(input, output)) {
        (Some(asked), Some(limit)) if limit.0 > 0 => {
            // Shifting both keeps the ratio and the product within bounds.
            let bits = u128::BITS - asked.0.max(limit.0).leading_zeros();
            let shift = bits.saturating_sub(100);
            let ratio = (asked.0 >> shift) * 1_000 / (limit.0 >> shift).max(1);
            u32::try_from(ratio.min(1_000)).unwrap_or(1_000)
        }
        // No limit to compare with: prices beyond every real amount, or a free request.
        _ => 0,
    }
}
