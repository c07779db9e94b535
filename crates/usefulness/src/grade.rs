//! Grades that a judge gives two answers, and the score that they make.

use crate::{MAX_SCORE, NEUTRAL};
use serde::{Deserialize, Serialize};

/// The best grade.
pub const BEST: u8 = 4;

/// Weighted grades of a perfect answer.
pub const POINTS_MAX: u32 = BEST as u32 * 8;

/// One answer's grades, each 0 to [`BEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grades {
    /// It does what was asked, in the form that was asked for.
    pub follows: u8,
    /// What it says is right.
    pub correct: u8,
    /// Nothing that was asked for is missing.
    pub complete: u8,
    /// It is clear and no longer than it must be.
    pub clear: u8,
}

impl Grades {
    /// Weighted sum, at most [`POINTS_MAX`]: being right counts most.
    #[must_use]
    pub fn points(self) -> u32 {
        let [follows, correct, complete, clear] =
            [self.follows, self.correct, self.complete, self.clear].map(|grade| u32::from(grade.min(BEST)));
        2 * follows + 3 * correct + 2 * complete + clear
    }
}

/// Grades of two answers, in the order in which they were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Of the answer that was shown first.
    pub one: Grades,
    /// Of the other.
    pub two: Grades,
}

/// Why a judge's reply is no grading.
#[derive(Debug, thiserror::Error)]
#[error("the reply is not a grading in the form that was asked for")]
pub struct GradeError(#[source] serde_json::Error);

impl Pair {
    /// Reads a judge's reply.
    ///
    /// # Errors
    /// When it is not the JSON that the schema of [`crate::prompt`] asks for.
    pub fn read(reply: &str) -> Result<Self, GradeError> {
        serde_json::from_str(reply.trim()).map_err(GradeError)
    }

    /// How many points the first has more.
    fn lead(self) -> i64 {
        i64::from(self.one.points()) - i64::from(self.two.points())
    }
}

/// The score of an answer that was shown first in `forward` and second in `reverse`, each time beside the judge's own.
/// It is better or worse only where both orders say so, and then by the smaller of the two differences; else the judge
/// goes by the place, and it is a tie.
#[must_use]
pub fn score(forward: Pair, reverse: Pair) -> u32 {
    let (first, second) = (forward.lead(), -reverse.lead());
    let neutral = i64::from(NEUTRAL);
    let score = if first > 0 && second > 0 {
        neutral + i64::from(MAX_SCORE - NEUTRAL) * first.min(second) / i64::from(POINTS_MAX)
    } else if first < 0 && second < 0 {
        neutral + neutral * first.max(second) / i64::from(POINTS_MAX)
    } else {
        neutral
    };
    u32::try_from(score).expect("between zero and the highest score")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grades(value: u8) -> Grades {
        Grades { follows: value, correct: value, complete: value, clear: value }
    }

    fn pair(one: u8, two: u8) -> Pair {
        Pair { one: grades(one), two: grades(two) }
    }

    #[test]
    fn both_orders_must_agree() {
        assert_eq!(score(pair(4, 0), pair(0, 4)), MAX_SCORE);
        assert_eq!(score(pair(0, 4), pair(4, 0)), 0);
        assert_eq!(score(pair(3, 3), pair(3, 3)), NEUTRAL);
        assert_eq!(score(pair(4, 0), pair(4, 0)), NEUTRAL, "whoever comes first");
        assert_eq!(score(pair(0, 4), pair(0, 4)), NEUTRAL, "whoever comes last");
        assert_eq!(score(pair(4, 0), pair(3, 4)), 1_125_000, "the smaller difference");
        assert_eq!(score(pair(4, 0), pair(4, 4)), NEUTRAL);
    }

    #[test]
    fn replies_in_another_form_are_no_grading() {
        let good = r#" {"one":{"follows":4,"correct":3,"complete":2,"clear":1},"two":{"follows":0,"correct":0,"complete":0,"clear":0}} "#;
        assert_eq!(Pair::read(good).unwrap().one.points(), 8 + 9 + 4 + 1);
        for bad in ["", "{}", &good.replace("clear", "bright"), &good.replace("4", "-1"), &good.replace("4", "4.5")] {
            assert!(Pair::read(bad).is_err(), "{bad}");
        }
        assert_eq!(Pair::read(&good.replace('4', "200")).unwrap().one.points(), 8 + 9 + 4 + 1, "no more than the best");
    }

    proptest! {
        #[test]
        fn a_score_is_fair(a in prop::array::uniform4(0u8..=4), b in prop::array::uniform4(0u8..=4)) {
            let grades = |[follows, correct, complete, clear]: [u8; 4]| Grades { follows, correct, complete, clear };
            let (answer, own) = (grades(a), grades(b));
            let value = score(Pair { one: answer, two: own }, Pair { one: own, two: answer });
            prop_assert!(value <= MAX_SCORE);
            prop_assert_eq!(value.cmp(&NEUTRAL), answer.points().cmp(&own.points()));
            // A judge that only looks at the place says nothing.
            prop_assert_eq!(score(Pair { one: answer, two: own }, Pair { one: answer, two: own }), NEUTRAL);
        }
    }
}
