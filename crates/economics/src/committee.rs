//! Committees: who is asked about an answer, until enough agree, as `Audits` does it.

use crate::{parameters::Parameters, random::Random};
use cortensor_proof::{
    evidence::Weighed,
    score::{Score, State},
};

/// What came of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What counts in the miner's score; `None` where no committee could agree.
    pub evidence: Option<Weighed>,
    /// Size of the committee that decided.
    pub size: u32,
    /// Rounds that it took.
    pub rounds: u32,
    /// Findings in agreement with the outcome.
    pub agreed: u32,
    /// Findings outside.
    pub outside: u32,
}

/// What guards find: the truth, or what the miner's friends among them say.
pub(crate) struct Case {
    pub truth: Weighed,
    pub lie: Weighed,
    /// Friends among the guards, in millionths.
    pub friends_ppm: u32,
}

/// Asks one guard, and larger committees while the finding would make the miner's state worse or no two thirds agree.
pub(crate) fn judge(case: &Case, score: &Score, parameters: &Parameters, random: &mut Random) -> Verdict {
    let (mut honest, mut friends) = (0, 0);
    let mut verdict = Verdict { evidence: None, size: 0, rounds: 0, agreed: 0, outside: 0 };
    for (round, size) in (0..).zip(parameters.committees) {
        let lying = if case.friends_ppm == 0 {
            0
        } else {
            (0..size).map(|_| u32::from(random.happens(case.friends_ppm))).sum()
        };
        (honest, friends) = (honest + size - lying, friends + lying);
        let found = if (size - lying) * 3 >= size * 2 {
            Some(case.truth)
        } else if lying * 3 >= size * 2 {
            Some(case.lie)
        } else {
            None
        };
        verdict = Verdict { evidence: found, size, rounds: round + 1, agreed: 0, outside: 0 };
        if found.is_some_and(|evidence| round >= round_needed(score, evidence, parameters)) {
            break;
        }
    }
    match verdict.evidence {
        Some(evidence) if evidence == case.truth => (verdict.agreed, verdict.outside) = (honest, friends),
        Some(_) => (verdict.agreed, verdict.outside) = (friends, honest),
        None => {}
    }
    verdict
}

/// What makes a miner's state worse needs the committee of that state.
fn round_needed(score: &Score, evidence: Weighed, parameters: &Parameters) -> u32 {
    let next = score.state_after(&parameters.policy, evidence, false);
    if evidence.highest() <= 0 || next <= score.state {
        return 0;
    }
    match next {
        State::Good => 0,
        State::Watched => 1,
        State::Suspended => 2,
        State::Slashed => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evidence for one charge.
    fn bits(bits: i32) -> Weighed {
        Weighed([bits << 16, -1 << 16])
    }

    fn check(truth: i32, friends_ppm: u32) -> Verdict {
        let case = Case { truth: bits(truth), lie: bits(-1), friends_ppm };
        judge(&case, &Score::default(), &Parameters::default(), &mut Random::new(3))
    }

    #[test]
    fn worse_states_take_larger_committees() {
        assert_eq!(check(-2, 0), Verdict { evidence: Some(bits(-2)), size: 1, rounds: 1, agreed: 1, outside: 0 });
        assert_eq!((check(3, 0).size, check(8, 0).size, check(16, 0).size, check(21, 0).size), (1, 3, 7, 21));
        assert_eq!(check(16, 0).agreed, 11, "1, 3 and 7");
    }

    #[test]
    fn friends_decide_only_where_they_are_two_thirds() {
        let all = check(16, 1_000_000);
        assert_eq!((all.evidence, all.size, all.agreed), (Some(bits(-1)), 1, 1));
        let mut random = Random::new(9);
        let case = Case { truth: bits(16), lie: bits(-1), friends_ppm: 100_000 };
        let verdicts: Vec<_> =
            (0..10_000).map(|_| judge(&case, &Score::default(), &Parameters::default(), &mut random)).collect();
        let fooled = verdicts.iter().filter(|verdict| verdict.evidence == Some(bits(-1))).count();
        assert!((1_100..1_400).contains(&fooled), "the first guard is a friend, or two of three: {fooled}");
        assert!(verdicts.iter().any(|verdict| verdict.outside > 0 && verdict.evidence == Some(bits(16))));
    }
}
