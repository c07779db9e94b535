//! Stop texts and UTF-8, byte by byte: turns token pieces into text that is safe to deliver.
//!
//! Guarantees: what is released never contains a stop text nor the beginning of one that later completes; the result
//! depends on the bytes alone, not on how they were cut into pieces, so that a hand-over in the middle of a stop text
//! changes nothing; a character is released only when all of its bytes are there. It does not know tokens, and does not
//! bound the number of stop texts (`GenerationRequest::check` does).

/// What one piece released.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Released {
    /// Text that became certain; may be empty.
    pub text: String,
    /// A stop text is complete: `text` is the last there is, and later pieces release nothing.
    pub stopped: bool,
}

/// One stop text with its Knuth-Morris-Pratt failure table and the length of its prefix that the output now ends in.
#[derive(Clone, Debug)]
struct Pattern {
    /// Place in the list that was given.
    place: u8,
    bytes: Vec<u8>,
    failure: Vec<usize>,
    matched: usize,
}

impl Pattern {
    fn new(place: usize, text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut failure = vec![0; bytes.len()];
        let mut length = 0;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = failure[length - 1];
            }
            length += usize::from(bytes[at] == bytes[length]);
            failure[at] = length;
        }
        Self { place: u8::try_from(place).unwrap_or(u8::MAX), bytes, failure, matched: 0 }
    }

    /// Takes one byte; true when the text is complete.
    fn push(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.failure[self.matched - 1];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
        self.matched == self.bytes.len()
    }
}

/// Finds stop texts in a growing output and reassembles UTF-8.
///
/// The output ends where the first stop text becomes complete; of two that complete with the same byte, the longer one
/// counts. The stop text itself is not part of the output.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Bytes not yet released: first an unfinished character (at most 3 bytes), then the possible beginning of a stop text.
    held: Vec<u8>,
    /// The stop text that is complete.
    stopped: Option<u8>,
}

impl StopMatcher {
    /// A matcher for these texts; empty ones are ignored.
    #[must_use]
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Self {
        let texts = stops.iter().map(AsRef::as_ref).enumerate().filter(|(_, stop): &(usize, &str)| !stop.is_empty());
        let patterns = texts.map(|(place, stop)| Pattern::new(place, stop)).collect();
        Self { patterns, held: Vec::new(), stopped: None }
    }

    /// Takes the bytes of one token and releases what is certain.
    pub fn push(&mut self, piece: &[u8]) -> Released {
        if self.stopped() {
            return Released { text: String::new(), stopped: true };
        }
        for &byte in piece {
            self.held.push(byte);
            if let Some((length, place)) = self.step(byte) {
                self.stopped = Some(place);
                self.held.truncate(self.held.len() - length);
                let rest = std::mem::take(&mut self.held);
                return Released { text: String::from_utf8_lossy(&rest).into_owned(), stopped: true };
            }
        }
        let undecided = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        Released { text: self.release(undecided), stopped: false }
    }

    /// Takes bytes that another node already delivered, so that a stop text which began there is still found. True when
    /// a stop text was already complete, which means that nothing is left to generate.
    pub fn prime(&mut self, piece: &[u8]) -> bool {
        self.push(piece).stopped
    }

    /// Ends the output without a stop text: what was held back. An unfinished character becomes U+FFFD.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }

    /// Whether a stop text is complete.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Which of the stop texts is complete: its place in the list.
    #[must_use]
    pub fn stopped_by(&self) -> Option<u8> {
        self.stopped
    }

    /// Bytes held back at the moment.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Feeds every pattern; the length of the longest one that is complete, and its place.
    fn step(&mut self, byte: u8) -> Option<(usize, u8)> {
        let feed = |pattern: &mut Pattern| pattern.push(byte).then_some((pattern.bytes.len(), pattern.place));
        self.patterns.iter_mut().filter_map(feed).max_by_key(|(length, _)| *length)
    }

    /// Releases all held bytes but the last `undecided` ones and an unfinished character.
    fn release(&mut self, undecided: usize) -> String {
        let free = self.held.len() - undecided;
        // A stop text begins with a whole character, so what stands before its possible beginning cannot go on after it.
        let ready = if undecided == 0 { free - unfinished(&self.held[..free]) } else { free };
        let text = String::from_utf8_lossy(&self.held[..ready]).into_owned();
        self.held.drain(..ready);
        text
    }
}

/// Length of the unfinished character at the end of `bytes`, 0 when there is none.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(chunk) if !chunk.invalid().is_empty() && could_continue(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    }
}

/// Whether an invalid sequence is the beginning of a valid character rather than an error.
fn could_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, directly: the shortest prefix that ends in a stop text, less the longest such text.
    fn naive(stops: &[String], bytes: &[u8]) -> (Vec<u8>, bool) {
        for end in 1..=bytes.len() {
            let complete = stops.iter().filter(|stop| bytes[..end].ends_with(stop.as_bytes()));
            if let Some(length) = complete.map(String::len).max() {
                return (bytes[..end - length].to_vec(), true);
            }
        }
        (bytes.to_vec(), false)
    }

    fn run(stops: &[String], pieces: &[Vec<u8>]) -> (String, bool, Vec<String>) {
        let mut matcher = StopMatcher::new(stops);
        let mut texts = Vec::new();
        for piece in pieces {
            texts.push(matcher.push(piece).text);
        }
        let stopped = matcher.stopped();
        let tail = if stopped { String::new() } else { matcher.finish() };
        (texts.concat() + &tail, stopped, texts)
    }

    #[test]
    fn the_stop_text_that_ended_it_is_told() {
        let stopped_by = |text: &str| {
            let mut matcher = StopMatcher::new(&["END", "", "xx", "xxEND"]);
            matcher.push(text.as_bytes());
            matcher.stopped_by()
        };
        assert_eq!(stopped_by("a xx"), Some(2));
        assert_eq!(stopped_by("a END"), Some(0));
        assert_eq!(stopped_by("a EN"), None);
        let mut longest = StopMatcher::new(&["D", "END"]);
        longest.push(b"END");
        assert_eq!(longest.stopped_by(), Some(1));
    }

    fn check(stops: &[&str], pieces: &[&[u8]], expect: &[&str], stopped: bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let (_, found, texts) = run(&stops, &pieces);
        assert_eq!((texts, found), (expect.iter().map(ToString::to_string).collect(), stopped));
    }

    #[test]
    fn holds_back_what_may_become_a_stop_text() {
        check(&["STOP"], &[b"go S", b"TO", b"P on"], &["go ", "", ""], true);
        check(&["STOP"], &[b"go S", b"TA", b"P"], &["go ", "STA", "P"], false);
        check(&["\n\n"], &[b"a\n", b"b\n", b"\nc"], &["a", "\nb", ""], true);
        check(&["aab"], &[b"aaa", b"ab"], &["a", "a"], true);
        check(&["abc", "b"], &[b"a", b"b"], &["", "a"], true);
        check(&["bc", "abc"], &[b"xab", b"c"], &["x", ""], true);
        check(&[], &[b"all ", b"of it"], &["all ", "of it"], false);
    }

    #[test]
    fn waits_for_whole_characters() {
        check(&[], &[b"\xe2\x82", b"\xac!"], &["", "\u{20ac}!"], false);
        check(&[], &[b"\xf0", b"\x9f\x98", b"\x80"], &["", "", "\u{1f600}"], false);
        check(&["\u{e9}"], &[b"caf\xc3", b"\xa9"], &["caf", ""], true);
        check(&["\u{e9}"], &[b"\xc3", b"\xa8"], &["", "\u{e8}"], false);
        check(&[], &[b"\xff", b"a\xe2", b"b"], &["\u{fffd}", "a", "\u{fffd}b"], false);
    }

    #[test]
    fn the_end_releases_the_rest() {
        let mut matcher = StopMatcher::new(&["STOP"]);
        assert_eq!(matcher.push(b"a ST").text, "a ");
        assert_eq!(matcher.held(), 2);
        assert_eq!(matcher.finish(), "ST");
        let mut matcher = StopMatcher::new::<&str>(&[]);
        assert_eq!(matcher.push(b"a\xe2\x82").text, "a");
        assert_eq!(matcher.finish(), "\u{fffd}");
    }

    #[test]
    fn a_stop_text_across_a_hand_over_is_found() {
        let mut matcher = StopMatcher::new(&["STOP"]);
        assert!(!matcher.prime(b"go ST"));
        assert_eq!(matcher.push(b"OP"), Released { text: String::new(), stopped: true });
        assert_eq!(matcher.push(b"more"), Released { text: String::new(), stopped: true });
    }

    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![8 => prop::sample::select(b"abc".to_vec()), 2 => prop::sample::select(b"\xc3\xa9\xe2\x82\xac\xff".to_vec())];
        prop::collection::vec(prop::collection::vec(byte, 0..6), 0..12)
    }

    fn stops() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[abc\u{e9}\u{20ac}]{1,4}", 0..4)
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(stops in stops(), pieces in pieces()) {
            let bytes = pieces.concat();
            let (text, stopped, _) = run(&stops, &pieces);
            let (expect, expect_stopped) = naive(&stops, &bytes);
            prop_assert_eq!(stopped, expect_stopped);
            prop_assert_eq!(text, String::from_utf8_lossy(&expect));
        }

        #[test]
        fn never_holds_more_than_it_must(stops in stops(), pieces in pieces()) {
            let longest = stops.iter().map(String::len).max().unwrap_or(0);
            let mut matcher = StopMatcher::new(&stops);
            for piece in pieces {
                matcher.push(&piece);
                prop_assert!(matcher.held() < longest.max(4));
            }
        }
    }
}
