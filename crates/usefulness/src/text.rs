//! What can be said of a text without understanding it: loops, characters that say nothing, refusals, fences left open.

use crate::PPM;
use std::collections::HashSet;

/// Most characters of a text that are looked at.
const MAX_CHARS: usize = 65_536;
/// Longest period of a loop, in characters.
const MAX_PERIOD: usize = 200;
/// Shorter repetitions are not called a loop.
const LEAST_LOOP: usize = 80;
/// Words of a phrase whose repetition is counted.
const PHRASE_WORDS: usize = 8;
/// Fewer phrases tell nothing.
const LEAST_PHRASES: usize = 24;
/// A longer run of letters is no word of any language that separates words.
const LONGEST_WORD: usize = 60;
/// An opening is looked for a refusal in so many characters.
const OPENING_CHARS: usize = 240;

/// Openings by which models refuse, in lower case with plain apostrophes.
const REFUSALS: &[&str] = &[
    "i can't help",
    "i cannot help",
    "i can't assist",
    "i cannot assist",
    "i'm unable to",
    "i am unable to",
    "i won't be able to",
    "i'm not able to",
    "i am not able to",
    "i can't provide",
    "i cannot provide",
    "i can't fulfill",
    "i cannot fulfill",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "sorry, i can't",
    "i must decline",
    "as an ai language model, i cannot",
    "ich kann dir dabei nicht helfen",
    "ich kann ihnen dabei nicht helfen",
    "je ne peux pas vous aider",
    "no puedo ayudarte con",
    "не могу помочь с",
    "我无法协助",
    "我不能帮助",
];

fn share(part: usize, whole: usize) -> u32 {
    let ppm = part as u64 * u64::from(PPM) / (whole.max(1) as u64);
    u32::try_from(ppm).unwrap_or(u32::MAX)
}

/// The part of the text, in ppm, that is a loop at its end or a phrase said before.
pub(crate) fn repetition_ppm(text: &str) -> u32 {
    tail_loop_ppm(text).max(phrases_ppm(text))
}

/// The part of the text that the longest loop at its end takes up.
fn tail_loop_ppm(text: &str) -> u32 {
    let chars: Vec<char> = text.trim_end().chars().rev().take(MAX_CHARS).collect();
    let longest = (1..=MAX_PERIOD.min(chars.len() / 4)).map(|period| {
        let repeated = chars.iter().zip(&chars[period..]).take_while(|(later, earlier)| later == earlier).count();
        if repeated >= LEAST_LOOP.max(3 * period) { repeated } else { 0 }
    });
    share(longest.max().unwrap_or(0), chars.len())
}

/// The part of the text's phrases that occurred before in it.
fn phrases_ppm(text: &str) -> u32 {
    let words: Vec<&str> = text.split_whitespace().take(MAX_CHARS / 4).collect();
    let phrases = words.len().saturating_sub(PHRASE_WORDS - 1);
    if phrases < LEAST_PHRASES {
        return 0;
    }
    let different: HashSet<&[&str]> = words.windows(PHRASE_WORDS).collect();
    share(phrases - different.len(), phrases)
}

/// The part of the text that says nothing: characters that stand for no text, and runs of letters too long for a word.
pub(crate) fn nonsense_ppm(text: &str) -> u32 {
    let (mut all, mut nothing, mut run) = (0, 0, 0);
    for c in text.chars().take(MAX_CHARS) {
        all += 1;
        let is_void = c == char::REPLACEMENT_CHARACTER
            || (c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
            || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}');
        nothing += usize::from(is_void);
        // Only scripts that separate words have long runs to speak of.
        run = if c.is_alphabetic() && (c as u32) < 0x2e80 { run + 1 } else { 0 };
        nothing += usize::from(run > LONGEST_WORD);
    }
    share(nothing, all)
}

/// Whether the text opens with a refusal.
pub(crate) fn refuses(text: &str) -> bool {
    let opening: String = text.trim_start().chars().take(OPENING_CHARS).collect();
    let opening = opening.to_lowercase().replace('’', "'");
    REFUSALS.iter().any(|phrase| opening.contains(phrase))
}

/// Whether a block of code is left open.
pub(crate) fn is_cut_off(text: &str) -> bool {
    text.lines().filter(|line| line.trim_start().starts_with("```")).count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "The harbour was quiet before dawn. Two boats lay at the quay, their nets still wet, and somebody had \
        left a lamp burning in the second one. Nobody came for it until the sun stood over the breakwater and the gulls had \
        found the fish that fell beside the crates on the evening before.";

    #[test]
    fn loops_are_found_and_prose_is_not() {
        assert_eq!(repetition_ppm(PROSE), 0);
        assert_eq!(repetition_ppm(""), 0);
        assert_eq!(repetition_ppm("short short short"), 0);
        assert!(repetition_ppm(&"again and again. ".repeat(40)) > 900_000);
        assert!(repetition_ppm(&format!("{PROSE} {}", "no no no no no ".repeat(60))) > 600_000);
        assert!(repetition_ppm(&"a".repeat(70_000)) > 900_000);
        // The same sentences in changing order: no loop, but said before.
        let sentences = ["one two three four five six seven eight.", "nine ten eleven twelve and so on it goes."];
        let shuffled: String = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1].map(|at: usize| sentences[at]).join(" ");
        assert!(repetition_ppm(&shuffled) > 500_000);
    }

    #[test]
    fn what_says_nothing_is_counted() {
        assert_eq!(nonsense_ppm(PROSE), 0);
        assert_eq!(nonsense_ppm("漢字かな交じり文は単語を分けない".repeat(10).as_str()), 0);
        assert_eq!(nonsense_ppm(""), 0);
        assert!(nonsense_ppm("\u{fffd}\u{fffd}ab") == 500_000);
        assert!(nonsense_ppm(&"x".repeat(600)) > 800_000);
    }

    #[test]
    fn refusals_stand_at_the_beginning() {
        assert!(refuses("  I’m sorry, but I can’t help with that."));
        assert!(refuses("Ich kann dir dabei nicht helfen."));
        assert!(!refuses(PROSE));
        assert!(!refuses(&format!("{PROSE} I cannot help smiling.")));
    }

    #[test]
    fn open_fences_are_found() {
        assert!(is_cut_off("see:\n```rust\nfn f() {"));
        assert!(!is_cut_off("see:\n```rust\nfn f() {}\n```\ndone"));
    }
}
