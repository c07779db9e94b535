//! How fast a miner really is, from the answers that went through this router.
//!
//! Only what is long enough to tell counts, and only what came through: a miner cannot raise these numbers by claiming.

use cortensor_protocol::manifest::Speed;
use std::time::{Duration, Instant};

/// Prompt tokens, beyond what a cache held, that an answer needs to tell about prefill.
const PREFILL_TOKENS_MIN: u32 = 64;
/// Output tokens, beyond those that came first, that an answer needs to tell about decoding.
const DECODE_TOKENS_MIN: u32 = 16;
/// Answers before an average is believed.
const SAMPLES_MIN: u32 = 3;
/// Later answers count for one part in this.
const WEIGHT: u64 = 8;

/// A moving average of tokens a second.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    /// In thousandths, so that slow miners do not become zero.
    permille: u64,
    samples: u32,
}

impl Average {
    fn take(&mut self, tokens: u32, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let sample = u64::from(tokens) * 1_000_000_000 / micros;
        // The first answers count alike, so that none of them stays for long.
        let parts = u64::from(self.samples + 1).min(WEIGHT);
        self.permille = (self.permille * (parts - 1) + sample) / parts;
        self.samples = self.samples.saturating_add(1).min(u32::MAX - 1);
    }

    fn per_second(&self) -> u32 {
        if self.samples < SAMPLES_MIN {
            return 0;
        }
        u32::try_from(self.permille / 1_000).unwrap_or(u32::MAX).max(1)
    }
}

/// What was seen of one miner with one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    prefill: Average,
    decode: Average,
}

impl Seen {
    /// Tokens a second, one request alone; zeros while too little was seen.
    pub(super) fn speed(&self) -> Speed {
        Speed {
            prefill_tokens_per_second: self.prefill.per_second(),
            decode_tokens_per_second: self.decode.per_second(),
        }
    }

    /// How many answers the number for decoding is made of.
    pub(super) fn answers(&self) -> u32 {
        self.decode.samples
    }

    /// Takes one answer in.
    pub(super) fn take(&mut self, watch: &Watch, uncached: u32) {
        let Some((first, at_first)) = watch.first else { return };
        let alone = |time: Duration| time * 1_000 / watch.sharing_permille.max(1_000);
        if uncached >= PREFILL_TOKENS_MIN {
            self.prefill.take(uncached, alone(first - watch.began));
        }
        let rest = watch.tokens - at_first;
        if rest >= DECODE_TOKENS_MIN {
            self.decode.take(rest, alone(watch.last - first));
        }
    }
}

/// The times of one answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    began: Instant,
    /// When the first tokens came, and how many they were.
    first: Option<(Instant, u32)>,
    last: Instant,
    tokens: u32,
    /// How much slower it was than alone, as the scheduler reckons, in thousandths.
    sharing_permille: u32,
}

impl Watch {
    /// An answer that begins now.
    pub(super) fn start(sharing_permille: u32) -> Self {
        let now = Instant::now();
        Self { began: now, first: None, last: now, tokens: 0, sharing_permille }
    }

    /// Tokens came.
    pub(super) fn tokens(&mut self, count: u32) {
        self.last = Instant::now();
        self.tokens = self.tokens.saturating_add(count);
        self.first.get_or_insert((self.last, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(prefill: Duration, decode: Duration, tokens: u32, sharing_permille: u32) -> Watch {
        let began = Instant::now();
        let first = began + prefill;
        Watch { began, first: Some((first, 1)), last: first + decode, tokens, sharing_permille }
    }

    fn seen(answers: u32, watch: &Watch, uncached: u32) -> (u32, u32) {
        let mut seen = Seen::default();
        (0..answers).for_each(|_| seen.take(watch, uncached));
        (seen.speed().prefill_tokens_per_second, seen.speed().decode_tokens_per_second)
    }

    #[test]
    fn tokens_over_time_once_there_are_enough_answers() {
        let answer = watch(Duration::from_millis(500), Duration::from_secs(2), 101, 1_000);
        assert_eq!(seen(2, &answer, 200), (0, 0));
        assert_eq!(seen(3, &answer, 200), (400, 50));
        assert_eq!(seen(9, &answer, 10), (0, 50), "a prompt from the cache tells nothing");
    }

    #[test]
    fn what_ran_beside_is_reckoned_out_and_short_answers_do_not_count() {
        let shared = watch(Duration::from_millis(500), Duration::from_secs(2), 101, 2_000);
        assert_eq!(seen(3, &shared, 200), (800, 100));
        let short = watch(Duration::from_millis(500), Duration::from_secs(2), 16, 1_000);
        assert_eq!(seen(3, &short, 0), (0, 0));
    }

    #[test]
    fn a_miner_that_slows_down_is_found_out() {
        let (fast, slow) = (
            watch(Duration::ZERO, Duration::from_secs(1), 101, 1_000),
            watch(Duration::ZERO, Duration::from_secs(10), 101, 1_000),
        );
        let mut seen = Seen::default();
        (0..50).for_each(|_| seen.take(&fast, 0));
        (0..20).for_each(|_| seen.take(&slow, 0));
        let now = seen.speed().decode_tokens_per_second;
        assert!((10..20).contains(&now), "{now}");
    }
}
