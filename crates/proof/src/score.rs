//! What audits have shown about one miner: an e-process, a CUSUM beside it, and the state that follows.
//!
//! For each charge there is an e-process: the product of likelihood ratios, kept as the sum of their logarithms. For an honest
//! miner each ever reaches x with a probability of at most 1/x, however often one looks (Ville's inequality), so one of the two
//! reaches 2x with at most 1/x: the levels are a bit higher than for one sum. A CUSUM is the same sum, never below zero, so that long honesty cannot be saved up before cheating; as it starts anew after each fall it has no
//! such bound, and convicts at a higher level only. The contract `Scores` keeps the same numbers by the same rules; this
//! is for guards, routers and simulations that want to know what it will say. Integers alone.
#![deny(clippy::float_arithmetic)]

use crate::evidence::{CHARGES, PPM, Weighed};
pub use cortensor_protocol::State;

/// Where sums of evidence stop, either way: 40 bits with the sign, as the contract keeps them. Eight million bits say all.
const EVIDENCE_MAX: i64 = (1 << 39) - 1;

/// Where CUSUMs stop: 32 bits, far above every level.
const CUSUM_MAX: i64 = u32::MAX as i64;

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
    /// Levels are log2 of 2·10², 2·10⁴ and 2·10⁶, rounded up, and 40 bits.
    fn default() -> Self {
        Self {
            watch: 500_948,
            suspend: 936_360,
            convict: 1_371_772,
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
    /// What it weighs.
    pub evidence: Weighed,
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
    /// For each charge, the sum of all audits; below zero speaks for honesty. Within 40 bits of an integer, as the contract's.
    pub evidence: [i64; CHARGES],
    /// The same, never below zero, and within 32 bits of an integer.
    pub cusum: [i64; CHARGES],
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
        for (charge, added) in outcome.evidence.0.into_iter().map(i64::from).enumerate() {
            self.evidence[charge] = (self.evidence[charge] + added).clamp(-EVIDENCE_MAX, EVIDENCE_MAX);
            self.cusum[charge] = (self.cusum[charge] + added).clamp(0, CUSUM_MAX);
        }
        self.jobs = self.jobs.saturating_add(1);
        self.tokens = self.tokens.saturating_add(outcome.tokens);
        let before = self.state;
        self.state = self.state_for(policy, outcome.hard, outcome.may_convict);
        self.state == State::Slashed && before != State::Slashed
    }

    /// The state that the miner would have after an audit, if a committee stood behind it. Where that is worse than the
    /// state now, the audit needs the committee of that state.
    #[must_use]
    pub fn state_after(&self, policy: &Policy, evidence: Weighed, hard: bool) -> State {
        let mut next = *self;
        next.record(policy, &Outcome { evidence, tokens: 0, hard, may_convict: true });
        next.state
    }

    /// Convicts a miner that contradicted itself under its own signature.
    pub const fn convict(&mut self) {
        self.state = State::Slashed;
    }

    /// Evidence for the charge that more speaks for.
    #[must_use]
    pub fn highest_evidence(&self) -> i64 {
        self.evidence[0].max(self.evidence[1])
    }

    /// The same of the CUSUM.
    #[must_use]
    pub fn highest_cusum(&self) -> i64 {
        self.cusum[0].max(self.cusum[1])
    }

    /// Only a conviction is final.
    fn state_for(&self, policy: &Policy, hard: bool, may_convict: bool) -> State {
        let beyond = hard || self.highest_evidence() >= policy.convict || self.highest_cusum() >= policy.convict_cusum;
        if self.state == State::Slashed || (may_convict && beyond) {
            return State::Slashed;
        }
        let level = self.highest_evidence().max(self.highest_cusum());
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
        let cusum = self.highest_cusum();
        if self.state >= State::Suspended || cusum >= policy.suspend {
            return 0;
        }
        let (jobs, prior) = (u64::from(self.jobs), u64::from(policy.reputation_jobs));
        let proved = u64::from(PPM) * (jobs + prior) / (jobs + 2 * prior);
        let room = i128::from(policy.suspend - cusum);
        u32::try_from(i128::from(proved) * room / i128::from(policy.suspend)).expect("at most a million")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BIT: i32 = 1 << 16;

    fn audit(bits: i32) -> Outcome {
        Outcome { evidence: Weighed([-100 * BIT, bits * BIT]), tokens: 100, hard: false, may_convict: true }
    }

    #[test]
    fn states_follow_the_levels_and_only_conviction_is_final() {
        let policy = Policy::default();
        let mut score = Score::default();
        assert!(!score.record(&policy, &audit(8)));
        assert_eq!((score.state, score.rate_ppm(&policy)), (State::Watched, 500_000));
        assert!(!score.record(&policy, &audit(7)));
        assert_eq!((score.state, score.reputation_ppm(&policy)), (State::Suspended, 0));
        score.record(&policy, &audit(-10));
        assert_eq!((score.state, score.rate_ppm(&policy)), (State::Good, 200_000), "still new");
        assert!(!score.record(&policy, &Outcome { may_convict: false, ..audit(15) }), "no committee stands behind it");
        assert_eq!(score.state, State::Suspended);
        assert!(score.record(&policy, &audit(1)), "21 bits with a committee");
        assert!(!score.record(&policy, &audit(1)), "convicted once");
        score.record(&policy, &audit(-60));
        assert_eq!(score.state, State::Slashed);
    }

    #[test]
    fn a_wrong_structure_convicts_at_once_with_a_committee() {
        let (policy, hard) = (Policy::default(), Outcome { hard: true, ..audit(16) });
        assert!(Score::default().record(&policy, &hard));
        assert!(!Score::default().record(&policy, &Outcome { may_convict: false, ..hard }));
        assert_eq!(Score::default().state_after(&policy, Weighed::default(), true), State::Slashed);
        assert_eq!(Score::default().state_after(&policy, Weighed([15 * BIT, 0]), false), State::Suspended);
    }

    #[test]
    fn long_honesty_saves_nothing_up() {
        let policy = Policy::default();
        let mut score = Score::default();
        for _ in 0..10_000 {
            score.record(&policy, &audit(-3));
        }
        assert_eq!((score.evidence[1], score.cusum, score.rate_ppm(&policy)), (-30_000 << 16, [0; 2], 30_000));
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
        assert_eq!(Score { cusum: [policy.suspend / 2, 7], ..Score::default() }.reputation_ppm(&policy), 250_000);
    }

    proptest! {
        #[test]
        fn nothing_overflows(steps in prop::collection::vec((any::<[i32; 2]>(), any::<bool>()), 0..50)) {
            let policy = Policy::default();
            let mut score = Score::default();
            for (evidence, may_convict) in steps {
                let evidence = Weighed(evidence);
                let worse = score.state_after(&policy, evidence, false);
                score.record(&policy, &Outcome { evidence, tokens: u64::MAX, hard: false, may_convict });
                for (evidence, cusum) in score.evidence.into_iter().zip(score.cusum) {
                    prop_assert!(cusum >= 0 && cusum >= evidence.min(0));
                }
                prop_assert!(score.state <= worse);
                prop_assert!(score.reputation_ppm(&policy) < 1_000_000);
            }
        }
    }
}
