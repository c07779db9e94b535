//! The clocks that the engine sets: which rings next.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::engine::Timer;

/// Clocks by when they ring.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    due: BTreeMap<(Instant, u64), Timer>,
    places: HashMap<Timer, (Instant, u64)>,
    serial: u64,
}

impl Clocks {
    /// Sets a clock, or sets it anew.
    pub(crate) fn set(&mut self, timer: Timer, after: Duration) {
        self.cancel(timer);
        self.serial += 1;
        let place = (Instant::now() + after, self.serial);
        self.due.insert(place, timer);
        self.places.insert(timer, place);
    }

    /// Stops a clock.
    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(place) = self.places.remove(&timer) {
            self.due.remove(&place);
        }
    }

    /// Stops all of the core's clocks.
    pub(crate) fn cancel_core(&mut self) {
        self.due.retain(|_, timer| *timer == Timer::CatchUp);
        self.places.retain(|timer, _| *timer == Timer::CatchUp);
    }

    /// Resolves when the next clock rings. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Timer {
        let Some((place, timer)) = self.due.first_key_value().map(|(place, timer)| (*place, *timer)) else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(place.0).await;
        self.cancel(timer);
        timer
    }
}
