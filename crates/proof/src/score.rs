//! What audits have shown about one miner: an e-process, a CUSUM beside it, and the state that follows.
//!
//! The e-process is the product of likelihood ratios, kept as the sum of their logarithms: for an honest miner it ever
//! reaches x with a probability of at most 1/x, however often one looks (Ville's inequality). The CUSUM is the same sum,
//! never below zero, so that long honesty cannot be saved up before cheating; as it starts anew after each fall it has no
//! such bound, and convicts at a higher level only. The contract `Scores` keeps the same numbers by the same rules; this
//! is for guards, routers and simulations that want to know what it will say. Integers alone.
#![deny(clippy::float_arithmetic)]

use crate::evidence::PPM;
pub use cortensor_protocol::State;

/// Levels in 1/65,536 bit, rates in millionths; `Scores.Parameters`. The defaults are those that are deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Evidence or CUSUM from which on a miner is watched.
    pub watch: i64,
    /// Evidence or CUSUM from which on it is suspended.
    pub suspend: i64,
    /// Evidence from which on a committee's audit convicts.
    pub convict: i64,
    /// CUSUM from which on a committee's audit convicts.
    pub convict_cusum: i64,
    /// Settled audits for which a miner counts as new.
    pub newcomer_jobs: u32,
    /// Audit rate of new miners.
    pub newcomer_ppm: u32,
    /// Audit rate of all others in good standing.
    pub floor_ppm: u32,
    /// Audit rate of those that are not.
    pub suspicious_ppm: u32,
    /// Settled audits after which a miner without blemish has two thirds of all reputation.
    pub reputation_jobs: u32,
}

impl Default for Policy {
    /// Levels are log2 of 10², 10⁴ and 10⁶, and 40 bits.
    fn default() -> Self {
        Self {
            watch: 435_412,
            suspend: 870_824,
            convict: 1_306_236,
            convict_cusum: 2_621_440,
            newcomer_jobs: 40,
            newcomer_ppm: 200_000,
            floor_ppm: 30_000,
            suspicious_ppm: 500_000,
            reputation_jobs: 40,
        }
    }
}

/// A settled audit, as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// Evidence in 1/65,536 bit, clipped.
    pub evidence: i64,
    /// Tokens that were checked.
    pub tokens: u64,
    /// The structure was wrong, or the records were not shown.
    pub hard: bool,
    /// Whether a committee large enough stands behind it.
    pub may_convict: bool,
}

/// A miner's score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Score {
    /// Sum of all audits; below zero speaks for honesty.
    pub evidence: i64,
    /// The same, never below zero.
    pub cusum: i64,
    /// Audits that were settled.
    pub jobs: u32,
    /// Tokens that they checked.
    pub tokens: u64,
    /// What follows.
    pub state: State,
}

impl Score {
    /// Adds a settled audit; true if this one convicted the miner.
    pub fn record(&mut self, policy: &Policy, outcome: &Outcome) -> bool {
        self.evidence = self.evidence.saturating_add(outcome.evidence);
        self.cusum = self.cusum.saturating_add(outcome.evidence).max(0);
        self.jobs = self.jobs.saturating_add(1);
        self.tokens = self.tokens.saturating_add(outcome.tokens);
        let before = self.state;
        self.state = self.state_for(policy, outcome.hard, outcome.may_convict);
        self.state == State::Slashed && before != State::Slashed
    }

    /// The state that the miner would have after an audit, if a committee stood behind it. Where that is worse than the
    /// state now, the audit needs the committee of that state.
    #[must_use]
    pub fn state_after(&self, policy: &Policy, evidence: i64, hard: bool) -> State {
        let mut next = *self;
        next.record(policy, &Outcome { evidence, tokens: 0, hard, may_convict: true });
        next.state
    }

    /// Convicts a miner that contradicted itself under its own signature.
    pub const fn convict(&mut self) {
        self.state = State::Slashed;
    }

    /// Only a conviction is final.
    fn state_for(&self, policy: &Policy, hard: bool, may_convict: bool) -> State {
        let beyond = hard || self.evidence >= policy.convict || self.cusum >= policy.convict_cusum;
        if self.state == State::Slashed || (may_convict && beyond) {
            return State::Slashed;
        }
        let level = self.evidence.max(self.cusum);
        if level >= policy.suspend {
            State::Suspended
        } else if level >= policy.watch {
            State::Watched
        } else {
            State::Good
        }
    }

    /// The part of the miner's receipts that is drawn for audits from now on, in millionths.
    #[must_use]
    pub fn rate_ppm(&self, policy: &Policy) -> u32 {
        match self.state {
            State::Good if self.jobs < policy.newcomer_jobs => policy.newcomer_ppm,
            State::Good => policy.floor_ppm,
            _ => policy.suspicious_ppm,
        }
    }

    /// From half of everything for one that was never audited to just below all of it; less the nearer the CUSUM comes
    /// to suspension; in millionths.
    #[must_use]
    pub fn reputation_ppm(&self, policy: &Policy) -> u32 {
        if self.state >= State::Suspended || self.cusum >= policy.suspend {
            return 0;
        }
        let (jobs, prior) = (u64::from(self.jobs), u64::from(policy.reputation_jobs));
        let proved = u64::from(PPM) * (jobs + prior) / (jobs + 2 * prior);
        let room = i128::from(policy.suspend - self.cusum);
        u32::try_from(i128::from(proved) * room / i128::from(policy.suspend)).expect("at most a million")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BIT: i64 = 1 << 16;

    fn audit(bits: i64) -> Outcome {
        Outcome { evidence: bits * BIT, tokens: 100, hard: false, may_convict: true }
    }

    #[test]
    fn states_follow_the_levels_and_only_conviction_is_final() {
        let policy = Policy::default();
        let mut score = Score::default();
        assert!(!score.record(&policy, &audit(7)));
        assert_eq!((score.state, score.rate_ppm(&policy)), (State::Watched, 500_000));
        assert!(!score.record(&policy, &audit(7)));
        assert_eq!((score.state, score.reputation_ppm(&policy)), (State::Suspended, 0));
        score.record(&policy, &audit(-10));
        assert_eq!((score.state, score.rate_ppm(&policy)), (State::Good, 200_000), "still new");
        assert!(!score.record(&policy, &Outcome { may_convict: false, ..audit(16) }), "no committee stands behind it");
        assert_eq!(score.state, State::Suspended);
        assert!(score.record(&policy, &audit(1)), "20 bits with a committee");
        assert!(!score.record(&policy, &audit(1)), "convicted once");
        score.record(&policy, &audit(-60));
        assert_eq!(score.state, State::Slashed);
    }

    #[test]
    fn a_wrong_structure_convicts_at_once_with_a_committee() {
        let (policy, hard) = (Policy::default(), Outcome { hard: true, ..audit(16) });
        assert!(Score::default().record(&policy, &hard));
        assert!(!Score::default().record(&policy, &Outcome { may_convict: false, ..hard }));
        assert_eq!(Score::default().state_after(&policy, 0, true), State::Slashed);
        assert_eq!(Score::default().state_after(&policy, 14 * BIT, false), State::Suspended);
    }

    #[test]
    fn long_honesty_saves_nothing_up() {
        let policy = Policy::default();
        let mut score = Score::default();
        for _ in 0..10_000 {
            score.record(&policy, &audit(-3));
        }
        assert_eq!((score.evidence, score.cusum, score.rate_ppm(&policy)), (-30_000 * BIT, 0, 30_000));
        let until = |state| {
            let mut score = score;
            (1..).find(|_| {
                score.record(&policy, &audit(4));
                score.state >= state
            })
        };
        assert_eq!(until(State::Watched), Some(2));
        assert_eq!(until(State::Suspended), Some(4));
        assert_eq!(until(State::Slashed), Some(10), "40 bits of CUSUM");
    }

    #[test]
    fn reputation_grows_with_audits() {
        let policy = Policy::default();
        let after = |jobs| Score { jobs, ..Score::default() }.reputation_ppm(&policy);
        assert_eq!((after(0), after(40), after(4_000)), (500_000, 666_666, 990_196));
        assert_eq!(Score { cusum: policy.suspend / 2, ..Score::default() }.reputation_ppm(&policy), 250_000);
    }

    proptest! {
        #[test]
        fn nothing_overflows(steps in prop::collection::vec((any::<i64>(), any::<bool>()), 0..50)) {
            let policy = Policy::default();
            let mut score = Score::default();
            for (evidence, may_convict) in steps {
                let worse = score.state_after(&policy, evidence, false);
                score.record(&policy, &Outcome { evidence, tokens: u64::MAX, hard: false, may_convict });
                prop_assert!(score.cusum >= 0 && score.cusum >= score.evidence.min(0));
                prop_assert!(score.state <= worse);
                prop_assert!(score.reputation_ppm(&policy) < 1_000_000);
            }
        }
    }
}
