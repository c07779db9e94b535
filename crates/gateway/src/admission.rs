//! Who is let in now: a bound on requests at once, and for each key a bound at once and a rate.
//!
//! The rate is GCRA (the generic cell rate algorithm, ITU-T I.371): one number for each key, the theoretical arrival
//! time of its next request. Keys are known callers, never raw header values, and their table is bounded.

use crate::{config::GatewayConfig, error::ApiError};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Most keys that are remembered; beyond it idle ones are forgotten.
const KEYS_MAX: usize = 65_536;

/// What is known of one key.
#[derive(Debug, Default)]
struct Key {
    in_flight: AtomicUsize,
    /// Theoretical arrival time in nanoseconds since `Admission::origin`.
    arrival_ns: AtomicU64,
}

/// A place that a request of some key takes; free again when dropped.
#[derive(Debug)]
pub(crate) struct KeyPlace(Arc<Key>);

impl Drop for KeyPlace {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The limits and their state.
#[derive(Debug)]
pub(crate) struct Admission {
    keys: RwLock<HashMap<String, Arc<Key>>>,
    key_in_flight_max: usize,
    rate: Option<Rate>,
    origin: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Time that one request is worth.
    step_ns: u64,
    /// How far ahead of time requests may run.
    tolerance_ns: u64,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Option<Self> {
        let step_ns = 1_000_000_000u64.checked_div(per_second.into())?.max(1);
        Some(Self { step_ns, tolerance_ns: step_ns * u64::from(burst.max(1) - 1) })
    }

    /// The arrival time after a request at `now`, or how long it has to wait.
    fn next(self, arrival: u64, now: u64) -> Result<u64, Duration> {
        match arrival.saturating_sub(now).checked_sub(self.tolerance_ns) {
            Some(early @ 1..) => Err(Duration::from_nanos(early)),
            _ => Ok(arrival.max(now).saturating_add(self.step_ns)),
        }
    }
}

impl Admission {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self {
            keys: RwLock::default(),
            key_in_flight_max: config.key_in_flight_max,
            rate: Rate::new(config.key_requests_per_second, config.key_burst),
            origin: Instant::now(),
        }
    }

    /// Takes a place for a request of `key`.
    ///
    /// # Errors
    /// 429 when the key has too many requests at once or sends them too fast.
    pub(crate) fn enter(&self, key: &str) -> Result<KeyPlace, ApiError> {
        let state = self.key(key)?;
        if state.in_flight.fetch_add(1, Relaxed) >= self.key_in_flight_max {
            drop(KeyPlace(state));
            let message =
                format!("this key has {} requests running, which is its limit; let one end", self.key_in_flight_max);
            return Err(ApiError::busy(message, Duration::from_secs(1)));
        }
        let place = KeyPlace(state);
        if let Some(rate) = self.rate {
            self.pace(&place.0, rate)?;
        }
        Ok(place)
    }

    fn pace(&self, key: &Key, rate: Rate) -> Result<(), ApiError> {
        let now = self.now_ns();
        let mut early = Duration::ZERO;
        let moved = key
            .arrival_ns
            .fetch_update(Relaxed, Relaxed, |arrival| rate.next(arrival, now).map_err(|wait| early = wait).ok());
        match moved {
            Ok(_) => Ok(()),
            Err(_) => Err(ApiError::busy("this key sends requests faster than its limit; slow down", early)),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn key(&self, name: &str) -> Result<Arc<Key>, ApiError> {
        if let Some(key) = self.keys.read().get(name) {
            return Ok(key.clone());
        }
        let mut keys = self.keys.write();
        if keys.len() >= KEYS_MAX {
            let now = self.now_ns();
            keys.retain(|_, key| Arc::strong_count(key) > 1 || key.arrival_ns.load(Relaxed) > now);
        }
        if keys.len() >= KEYS_MAX && !keys.contains_key(name) {
            return Err(ApiError::busy("too many keys are active; try again", Duration::from_secs(5)));
        }
        Ok(keys.entry(name.to_owned()).or_default().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(change: impl FnOnce(&mut GatewayConfig)) -> Admission {
        let mut config = GatewayConfig::default();
        change(&mut config);
        Admission::new(&config)
    }

    #[test]
    fn a_key_has_so_many_places_and_gets_them_back() {
        let admission = admission(|config| config.key_in_flight_max = 2);
        let first = admission.enter("a").unwrap();
        let _second = admission.enter("a").unwrap();
        assert_eq!(admission.enter("a").unwrap_err().status.as_u16(), 429);
        assert!(admission.enter("b").is_ok());
        drop(first);
        assert!(admission.enter("a").is_ok());
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rate = Rate::new(10, 3).unwrap();
        let mut arrival = 0;
        for _ in 0..3 {
            arrival = rate.next(arrival, 0).unwrap();
        }
        assert_eq!(rate.next(arrival, 0), Err(Duration::from_millis(100)));
        assert_eq!(rate.next(arrival, 40_000_000), Err(Duration::from_millis(60)));
        assert!(rate.next(arrival, 100_000_000).is_ok());
    }

    #[test]
    fn a_refused_request_does_not_count() {
        let admission = admission(|config| (config.key_requests_per_second, config.key_burst) = (1, 1));
        assert!(admission.enter("a").is_ok());
        for _ in 0..3 {
            let error = admission.enter("a").unwrap_err();
            assert!(error.retry_after.unwrap() <= Duration::from_secs(1));
        }
        assert_eq!(admission.keys.read()["a"].in_flight.load(Relaxed), 0);
    }

    #[test]
    fn the_table_of_keys_is_bounded() {
        let admission = admission(|_| ());
        let held = admission.enter("held").unwrap();
        for index in 0..KEYS_MAX + 10 {
            admission.enter(&index.to_string()).unwrap();
        }
        assert!(admission.keys.read().len() <= KEYS_MAX);
        assert!(admission.keys.read().contains_key("held"));
        drop(held);
    }
}
