//! Who was connected, and for how long: uptime as this router itself saw it.
//!
//! Bounded: beyond [`KEPT`] nodes, those that have been gone longest are forgotten.

use cortensor_protocol::{Operator, Standing};
use std::collections::BTreeMap;

/// Nodes that are remembered.
const KEPT: usize = 16_384;

/// One node over time; times are Unix times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    first_ms: u64,
    connected_ms: u64,
    /// Since when it has been connected, if it is.
    since_ms: Option<u64>,
    /// Its last sign of life, once it is gone.
    pub(super) last_ms: u64,
    /// What was known of it when it left.
    pub(super) standing: Standing,
    /// Tasks that it finished and failed in connections that are over.
    pub(super) tasks: (u64, u64),
}

impl Presence {
    /// Time connected and time since it was first seen, in milliseconds.
    pub(super) fn times_ms(&self, now_ms: u64) -> (u64, u64) {
        let running = self.since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        let known = now_ms.saturating_sub(self.first_ms);
        ((self.connected_ms + running).min(known), known)
    }

    /// Share of the time connected, in millionths.
    pub(super) fn uptime_ppm(&self, now_ms: u64) -> u32 {
        let (connected, known) = self.times_ms(now_ms);
        let ppm = if known == 0 { 1_000_000 } else { u128::from(connected) * 1_000_000 / u128::from(known) };
        u32::try_from(ppm).unwrap_or(1_000_000)
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.since_ms.is_none()
    }
}

/// Everybody who was ever connected, within bounds.
#[derive(Debug, Default)]
pub(super) struct Presences(BTreeMap<Operator, Presence>);

impl Presences {
    /// A node connected.
    pub(super) fn came(&mut self, operator: Operator, standing: Standing, now_ms: u64) {
        if self.0.len() >= KEPT && !self.0.contains_key(&operator) {
            let gone = self.0.iter().filter(|(_, presence)| presence.is_gone());
            if let Some(oldest) = gone.min_by_key(|(_, presence)| presence.last_ms).map(|(operator, _)| *operator) {
                self.0.remove(&oldest);
            }
        }
        let new =
            Presence { first_ms: now_ms, connected_ms: 0, since_ms: None, last_ms: now_ms, standing, tasks: (0, 0) };
        self.0.entry(operator).or_insert(new).since_ms.get_or_insert(now_ms);
    }

    /// A node left.
    pub(super) fn went(&mut self, operator: Operator, standing: Standing, tasks: (u64, u64), now_ms: u64) {
        let Some(presence) = self.0.get_mut(&operator) else { return };
        if let Some(since) = presence.since_ms.take() {
            presence.connected_ms += now_ms.saturating_sub(since);
        }
        (presence.last_ms, presence.standing) = (now_ms, standing);
        self.add(operator, tasks);
    }

    /// A connection of a node is over, whether or not another took its place.
    pub(super) fn add(&mut self, operator: Operator, tasks: (u64, u64)) {
        if let Some(presence) = self.0.get_mut(&operator) {
            presence.tasks = (presence.tasks.0 + tasks.0, presence.tasks.1 + tasks.1);
        }
    }

    /// All of them, by account.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Operator, &Presence)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::State;

    const STANDING: Standing =
        Standing { state: State::Good, reputation_ppm: 1, evidence: 0, jobs: 0, tokens: 0, rate_ppm: 0, epoch: 0 };

    fn operator(number: usize) -> Operator {
        let mut bytes = [0; 20];
        bytes[12..].copy_from_slice(&(number as u64).to_be_bytes());
        Operator(bytes.into())
    }

    #[test]
    fn uptime_is_the_share_of_the_time_since_it_was_first_seen() {
        let mut all = Presences::default();
        all.came(operator(1), STANDING, 1_000);
        assert_eq!(all.0[&operator(1)].uptime_ppm(1_000), 1_000_000);
        all.went(operator(1), STANDING, (3, 1), 2_000);
        assert_eq!(all.0[&operator(1)].uptime_ppm(5_000), 250_000);
        all.came(operator(1), STANDING, 5_000);
        let presence = all.0[&operator(1)];
        assert_eq!((presence.uptime_ppm(7_000), presence.tasks, presence.is_gone()), (500_000, (3, 1), false));
    }

    #[test]
    fn a_second_connection_does_not_count_twice() {
        let mut all = Presences::default();
        all.came(operator(1), STANDING, 0);
        all.came(operator(1), STANDING, 500);
        assert_eq!(all.0[&operator(1)].times_ms(1_000), (1_000, 1_000));
    }

    #[test]
    fn those_gone_longest_are_forgotten_first() {
        let mut all = Presences::default();
        for number in 0..KEPT {
            all.came(operator(number), STANDING, 0);
        }
        all.went(operator(7), STANDING, (0, 0), 10);
        all.went(operator(8), STANDING, (0, 0), 5);
        all.came(operator(KEPT), STANDING, 20);
        assert!(!all.0.contains_key(&operator(8)) && all.0.contains_key(&operator(7)));
        assert_eq!(all.iter().count(), KEPT);
    }
}
