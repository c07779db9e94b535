//! The bytes of every token, which of them end a generation, and a trie over the bytes for grammar masks.
//!
//! Guarantees: reading a piece costs no call into llama.cpp. Built once for a model.

use crate::ffi::Model;
use cortensor_protocol::TokenId;
use std::sync::OnceLock;

/// Control tokens that are nevertheless part of the answer's text: what a reader of tool calls and of reasoning looks for.
const VISIBLE_MARKS: [&[u8]; 6] =
    [b"<tool_call>", b"</tool_call>", b"<tool_response>", b"</tool_response>", b"<think>", b"</think>"];

/// All tokens of a model.
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token's bytes begin; one more entry than tokens.
    starts: Vec<u32>,
    ends: Vec<bool>,
    trie: OnceLock<Trie>,
}

impl Vocabulary {
    /// Reads the vocabulary of a model.
    pub(crate) fn new(model: &Model) -> Self {
        let pieces = (0..model.vocabulary()).map(|token| {
            let id = index(token);
            let ends = model.ends_generation(id);
            let mut piece = Vec::new();
            model.piece(id, &mut piece);
            if ends || model.is_control(id) && !VISIBLE_MARKS.contains(&piece.as_slice()) {
                piece.clear();
            }
            (piece, ends)
        });
        Self::from_pieces(pieces)
    }

    /// From the bytes of every token and whether it ends a generation.
    pub(crate) fn from_pieces(pieces: impl IntoIterator<Item = (Vec<u8>, bool)>) -> Self {
        let mut vocabulary = Self { bytes: Vec::new(), starts: vec![0], ends: Vec::new(), trie: OnceLock::new() };
        for (piece, ends) in pieces {
            vocabulary.bytes.extend_from_slice(&piece);
            let end = u32::try_from(vocabulary.bytes.len()).expect("a vocabulary has less than 4 GiB of text");
            vocabulary.starts.push(end);
            vocabulary.ends.push(ends);
        }
        vocabulary
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of a token, empty for control tokens and those out of range.
    pub(crate) fn piece(&self, token: TokenId) -> &[u8] {
        let at = token as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Whether a token ends the generation.
    pub(crate) fn ends_generation(&self, token: TokenId) -> bool {
        self.ends.get(token as usize).copied().unwrap_or(false)
    }

    /// The trie of all pieces; built when first asked for.
    pub(crate) fn trie(&self) -> &Trie {
        self.trie.get_or_init(|| Trie::new(self))
    }
}

/// One byte on the way to tokens, in depth-first order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrieNode {
    /// The byte.
    pub(crate) byte: u8,
    /// Bytes before it.
    pub(crate) depth: u32,
    /// Index of the next node that is not below this one.
    pub(crate) next: u32,
    /// Tokens that end here: a range of [`Trie::tokens`].
    pub(crate) tokens: (u32, u32),
}

/// All pieces as a tree of bytes, flattened, so that a mask is one walk over an array with subtrees skipped.
pub(crate) struct Trie {
    /// In depth-first order.
    pub(crate) nodes: Vec<TrieNode>,
    /// Token ids, by node.
    pub(crate) tokens: Vec<TokenId>,
}

impl Trie {
    fn new(vocabulary: &Vocabulary) -> Self {
        let count = u32::try_from(vocabulary.len()).expect("token ids are u32");
        let mut order: Vec<u32> = (0..count).filter(|&token| !vocabulary.piece(token).is_empty()).collect();
        order.sort_unstable_by(|&a, &b| vocabulary.piece(a).cmp(vocabulary.piece(b)).then(a.cmp(&b)));
        let mut trie = Self { nodes: Vec::new(), tokens: Vec::with_capacity(order.len()) };
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        for token in order {
            let piece = vocabulary.piece(token);
            let shared = piece.iter().zip(before).take_while(|(a, b)| a == b).count();
            trie.close(&mut path, shared);
            for (depth, &byte) in piece.iter().enumerate().skip(shared) {
                path.push(trie.nodes.len());
                let at = index(trie.tokens.len());
                trie.nodes.push(TrieNode { byte, depth: index(depth), next: 0, tokens: (at, at) });
            }
            trie.tokens.push(token);
            let end = index(trie.tokens.len());
            trie.nodes[*path.last().expect("the piece is not empty")].tokens.1 = end;
            before = piece;
        }
        trie.close(&mut path, 0);
        trie
    }

    fn close(&mut self, path: &mut Vec<usize>, depth: usize) {
        let next = index(self.nodes.len());
        for node in path.drain(depth.min(path.len())..) {
            self.nodes[node].next = next;
        }
    }
}

fn index(value: usize) -> u32 {
    u32::try_from(value).expect("a vocabulary has less than 4 GiB of text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trie_holds_every_piece_once() {
        let pieces = ["b", "", "ab", "a", "abc", "b", "ba"];
        let vocabulary = Vocabulary::from_pieces(pieces.iter().map(|piece| (piece.as_bytes().to_vec(), false)));
        let trie = vocabulary.trie();
        let mut path: Vec<u8> = Vec::new();
        let mut found = Vec::new();
        for node in &trie.nodes {
            path.truncate(node.depth as usize);
            path.push(node.byte);
            for &token in &trie.tokens[node.tokens.0 as usize..node.tokens.1 as usize] {
                assert_eq!(path, vocabulary.piece(token));
                found.push(token);
            }
        }
        found.sort_unstable();
        assert_eq!(found, [0, 2, 3, 4, 5, 6]);
        assert_eq!(trie.nodes[0].next, 3, "a, ab, abc");
    }
}
