//! How long to wait before the next attempt: doubling, bounded, with jitter, so that a router that comes back is not met
//! by all of its miners at once.

use std::time::Duration;

/// Grows with each failure, falls back with a success. Pure: randomness comes from the caller.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from about `first` to at most `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The next wait: between half and the whole of `first` · 2^failures, cut at `most`. `random` is any 32 random bits.
    pub fn next(&mut self, random: u32) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(32);
        jitter(doubled.min(self.most), random)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half and the whole of a duration.
pub(crate) fn jitter(whole: Duration, random: u32) -> Duration {
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.next(0), Duration::from_millis(500));
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_millis(50));
        for _ in 0..100 {
            assert!(backoff.next(u32::MAX) <= Duration::from_secs(1));
        }
    }
}
