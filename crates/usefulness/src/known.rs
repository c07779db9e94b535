//! Planted requests whose answer is known: what teaches whose word is worth how much.
//!
//! A trap setter asks an ordinary request, sees the answer, and commits to the scores that it deserves before any judge
//! is drawn. A judge cannot tell it from others.

use crate::MAX_SCORE;

/// An answer that is right, in any of these forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    accepted: Vec<Vec<String>>,
}

/// Scores that a right answer deserves: not far below what a judge answers itself.
const RIGHT: (u32, u32) = (850_000, MAX_SCORE);
/// Scores that a wrong answer deserves. A judge that answers wrongly itself finds it as good.
const WRONG: (u32, u32) = (0, 900_000);

impl Known {
    /// Any of `accepted`, as a sequence of words somewhere in the answer; those without a word are left out. `None`
    /// where no form is left.
    #[must_use]
    pub fn new(accepted: &[&str]) -> Option<Self> {
        let accepted: Vec<_> = accepted.iter().map(|form| words(form)).filter(|words| !words.is_empty()).collect();
        (!accepted.is_empty()).then_some(Self { accepted })
    }

    /// Whether an answer is right.
    #[must_use]
    pub fn is_right(&self, text: &str) -> bool {
        let said = words(text);
        self.accepted.iter().any(|form| said.windows(form.len()).any(|part| part == form.as_slice()))
    }

    /// The least and the highest score that the answer deserves: what the setter commits to.
    #[must_use]
    pub fn deserved(&self, text: &str) -> (u32, u32) {
        if self.is_right(text) { RIGHT } else { WRONG }
    }
}

/// Letters and digits in lower case; a point or comma within digits belongs to the number.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = vec![String::new()];
    for (place, c) in chars.iter().enumerate() {
        let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
        let within = matches!(c, '.' | ',') && digit(place.checked_sub(1)) && digit(Some(place + 1));
        let signed =
            *c == '-' && digit(Some(place + 1)) && place.checked_sub(1).is_none_or(|at| chars[at].is_whitespace());
        if c.is_alphanumeric() || within || signed {
            words.last_mut().expect("there is always one").extend(c.to_lowercase());
        } else {
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_as_words() {
        let known = Known::new(&["42", "forty-two"]).unwrap();
        for (text, right) in [
            ("It is 42.", true),
            ("**Forty two**!", true),
            ("It is 142.", false),
            ("It is 42.5", false),
            ("It is -42.", false),
            ("forty or two", false),
            ("", false),
        ] {
            assert_eq!(known.is_right(text), right, "{text}");
        }
        assert_eq!(known.deserved("42"), RIGHT);
        assert_eq!(known.deserved("41"), WRONG);
        assert_eq!(Known::new(&["", "!"]), None);
    }
}
