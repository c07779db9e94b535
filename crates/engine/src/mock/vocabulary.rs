//! The simulator's tokens: the end of sequence, every byte, and words with the space before them.
//!
//! Any text can be encoded and comes back unchanged. Texts made of word tokens encode to the same tokens again.

use cortensor_protocol::TokenId;
use std::collections::HashMap;

/// The token that ends an answer.
pub(super) const END: TokenId = 0;
/// The first word token; before it come the end and 256 bytes.
pub(super) const FIRST_WORD: TokenId = 257;
/// Fewest tokens: the end, the bytes and the written words.
pub const MIN_VOCABULARY: u32 = 320;
/// Most tokens.
pub const MAX_VOCABULARY: u32 = 8192;

const WORDS: [&str; 60] = [
    ".", ",", " the", " of", " and", " to", " in", " is", " you", " that", " it", " for", " was", " on", " are", " as",
    " with", " they", " at", " be", " this", " have", " from", " or", " one", " had", " by", " word", " but", " not",
    " what", " all", " were", " we", " when", " your", " can", " said", " there", " use", " an", " each", " which",
    " she", " do", " how", " their", " if", " will", " up", " other", " about", " out", " many", " then", " them",
    " these", " so", " some", " her",
];
const ONSETS: [&str; 16] = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st"];
const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];

pub(super) struct Vocabulary {
    pieces: Vec<Vec<u8>>,
    words: HashMap<Vec<u8>, TokenId>,
    longest: usize,
}

impl Vocabulary {
    pub(super) fn new(size: u32) -> Self {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let mut pieces: Vec<Vec<u8>> = std::iter::once(Vec::new()).chain(bytes).collect();
        pieces.extend(WORDS.iter().map(|word| word.as_bytes().to_vec()));
        let made_up = (0..).map(made_up_word).filter(|word| !WORDS.contains(&word.as_str()));
        let size = usize::try_from(size).expect("at most 8192");
        let missing = size.saturating_sub(pieces.len());
        pieces.extend(made_up.take(missing).map(String::into_bytes));
        let numbered = pieces.iter().zip(0..).skip(usize::try_from(FIRST_WORD).expect("257"));
        let words: HashMap<_, _> = numbered.map(|(piece, token)| (piece.clone(), token)).collect();
        let longest = words.keys().map(Vec::len).max().unwrap_or(1);
        Self { pieces, words, longest }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes of a token; none for the end and for tokens that do not exist.
    pub(super) fn piece(&self, token: TokenId) -> &[u8] {
        usize::try_from(token).ok().and_then(|at| self.pieces.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The longest word at every place, single bytes where there is none.
    pub(super) fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut rest = text.as_bytes();
        let mut tokens = Vec::with_capacity(rest.len() / 2);
        while let Some(&first) = rest.first() {
            // Words begin with one of these, so that most bytes need no look-up.
            let longest = if b" .,".contains(&first) { self.longest.min(rest.len()) } else { 0 };
            let word = (1..=longest).rev().find_map(|length| Some((length, *self.words.get(&rest[..length])?)));
            let (length, token) = word.unwrap_or((1, TokenId::from(first) + 1));
            tokens.push(token);
            rest = &rest[length..];
        }
        tokens
    }
}

/// The word of a number: ` ba`, ` da`, …, then two and more syllables.
fn made_up_word(number: u32) -> String {
    let (mut number, mut word) = (number, String::new());
    loop {
        let at = usize::try_from(number % 80).expect("below 80");
        word = format!("{}{}{word}", ONSETS[at % 16], VOWELS[at / 16]);
        if number < 80 {
            return format!(" {word}");
        }
        number = number / 80 - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_distinct_and_of_the_wanted_number() {
        for size in [MIN_VOCABULARY, 512, 1024, MAX_VOCABULARY] {
            let vocabulary = Vocabulary::new(size);
            assert_eq!(vocabulary.len(), usize::try_from(size).unwrap());
            assert_eq!(vocabulary.words.len(), vocabulary.len() - 257);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,80}") {
            let vocabulary = Vocabulary::new(512);
            let bytes: Vec<u8> = vocabulary.encode(&text).iter().flat_map(|&token| vocabulary.piece(token)).copied().collect();
            prop_assert_eq!(bytes, text.as_bytes());
        }

        #[test]
        fn words_encode_to_themselves(tokens in prop::collection::vec(FIRST_WORD..8192, 0..40)) {
            let vocabulary = Vocabulary::new(8192);
            let bytes: Vec<u8> = tokens.iter().flat_map(|&token| vocabulary.piece(token)).copied().collect();
            prop_assert_eq!(vocabulary.encode(std::str::from_utf8(&bytes).unwrap()), tokens);
        }
    }
}
