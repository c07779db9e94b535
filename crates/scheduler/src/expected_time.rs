//! Expected completion time of a request at a worker, in integer microseconds.
//!
//! ```text
//! beside  = min(busy, slots − 1)                          sequences that share the worker with this one
//! sharing = 1 + beside × sharing_permille / 1000
//! prefill = (input − cached prefix, at least 1) / prefill speed × sharing
//! decode  = expected output / decode speed × sharing
//! ahead   = busy − slots + 1, at least 0                  tasks to end before this one starts
//! wait    = (prefill + decode) × ahead / slots            the others are taken to be as long as this one
//! total   = wait + prefill + decode
//! ```
//!
//! The speed is what this router saw, else what drawn guards measured, else what the worker claims. One of which nobody
//! says anything is taken for as fast as the fastest measured candidate while this router has
//! nothing running there, so that it is tried; from then on, until it reports a speed, as the slowest, so that one bad
//! guess is not repeated. All sums saturate.

use crate::snapshot::{Request, Settings, WorkerSnapshot};
use cortensor_protocol::manifest::Speed;
use serde::{Deserialize, Serialize};

/// What is assumed when no candidate's speed is measured.
const UNMEASURED: Speed = Speed { prefill_tokens_per_second: 1_000, decode_tokens_per_second: 30 };

/// When a request would be done, and of what that time is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// Waiting for a slot.
    pub wait_us: u64,
    /// Reading the prompt.
    pub prefill_us: u64,
    /// Producing the output.
    pub decode_us: u64,
}

impl Estimate {
    /// The sum.
    #[must_use]
    pub const fn total_us(&self) -> u64 {
        self.wait_us.saturating_add(self.prefill_us).saturating_add(self.decode_us)
    }
}

/// Fastest and slowest measured speeds among the candidates; what unmeasured ones are taken for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    fastest: Speed,
    slowest: Speed,
}

impl Measured {
    /// Takes one more candidate into account.
    pub fn add(&mut self, speed: Speed) {
        let slower = |old: u32, new: u32| if old == 0 || (new != 0 && new < old) { new } else { old };
        self.fastest.prefill_tokens_per_second =
            self.fastest.prefill_tokens_per_second.max(speed.prefill_tokens_per_second);
        self.fastest.decode_tokens_per_second =
            self.fastest.decode_tokens_per_second.max(speed.decode_tokens_per_second);
        self.slowest.prefill_tokens_per_second =
            slower(self.slowest.prefill_tokens_per_second, speed.prefill_tokens_per_second);
        self.slowest.decode_tokens_per_second =
            slower(self.slowest.decode_tokens_per_second, speed.decode_tokens_per_second);
    }

    /// The worker's speed, or what it is taken for; never zero.
    fn assume(&self, worker: &WorkerSnapshot) -> Speed {
        let guess = if worker.in_flight == 0 { self.fastest } else { self.slowest };
        let first =
            |own: u32, guess: u32, constant: u32| [own, guess].into_iter().find(|s| *s != 0).unwrap_or(constant);
        let (speed, _) = worker.speed();
        Speed {
            prefill_tokens_per_second: first(
                speed.prefill_tokens_per_second,
                guess.prefill_tokens_per_second,
                UNMEASURED.prefill_tokens_per_second,
            ),
            decode_tokens_per_second: first(
                speed.decode_tokens_per_second,
                guess.decode_tokens_per_second,
                UNMEASURED.decode_tokens_per_second,
            ),
        }
    }
}

/// Estimates by the formula above.
#[must_use]
pub fn estimate(worker: &WorkerSnapshot, request: &Request, measured: &Measured, settings: &Settings) -> Estimate {
    let speed = measured.assume(worker);
    let (busy, slots) = (u64::from(worker.busy()), u64::from(worker.slots()));
    let beside = busy.min(slots - 1);
    let sharing_permille = 1_000 + beside.saturating_mul(u64::from(settings.sharing_permille));
    let input = request.input_tokens().saturating_sub(u64::from(worker.prefix_tokens)).max(1);
    let prefill_us = tokens_us(input, speed.prefill_tokens_per_second, sharing_permille);
    let decode_us = tokens_us(request.expected_output(settings), speed.decode_tokens_per_second, sharing_permille);
    let ahead = (busy + 1).saturating_sub(slots);
    let wait = u128::from(prefill_us.saturating_add(decode_us)) * u128::from(ahead) / u128::from(slots);
    Estimate { wait_us: saturate(wait), prefill_us, decode_us }
}

fn tokens_us(tokens: u64, per_second: u32, sharing_permille: u64) -> u64 {
    let us_permille = u128::from(tokens) * 1_000 * u128::from(sharing_permille);
    saturate(us_permille / u128::from(per_second.max(1)))
}

/// The nearest value that fits.
pub(crate) fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
