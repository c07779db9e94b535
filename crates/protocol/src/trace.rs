//! Traces: what a miner commits to for every token, in 33 bytes, and the Merkle tree over salted windows of them.
//!
//! A record has two parts. The *token* part (id and log-probability) was delivered to the client. The *evidence* part
//! (what the model would have said instead, and a sketch of its hidden state) stays with the miner until an audit. They
//! are separate leaves of one tree, so that router and client check what they were delivered against the root without
//! seeing the evidence. docs/spec/traces.md numbers the rules.

use crate::{id::TokenId, merkle, sampling::LogProb};
use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// Tokens in one window: two leaves of the trace.
pub const WINDOW_TOKENS: usize = 32;

/// Alternatives of one token.
pub const ALTERNATIVES: usize = 4;

/// The id that stands for "not told" and "no such token": ids are below 2²⁴ − 1.
pub const NO_TOKEN: TokenId = 0xff_ffff;

/// Bytes of a token record.
pub const TOKEN_BYTES: usize = 5;

/// Bytes of an evidence record.
pub const EVIDENCE_BYTES: usize = ALTERNATIVES * TOKEN_BYTES + Sketch::BYTES;

/// A token and its log-probability under the model's own distribution (temperature 1, after a grammar's mask, before
/// penalties, bias and truncation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceToken {
    /// The token; [`NO_TOKEN`] where an upstream does not tell ids.
    pub id: TokenId,
    /// Its log-probability; 0 where an upstream does not tell.
    pub logprob: LogProb,
}

impl TraceToken {
    /// A place that holds no token.
    pub const NONE: Self = Self { id: NO_TOKEN, logprob: LogProb(i16::MIN) };

    /// As an engine told it: ids that do not fit, and what was not told, become [`NO_TOKEN`] and 0.
    #[must_use]
    pub fn told(id: Option<TokenId>, logprob: Option<LogProb>) -> Self {
        Self { id: id.filter(|id| *id < NO_TOKEN).unwrap_or(NO_TOKEN), logprob: logprob.unwrap_or(LogProb(0)) }
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.id.to_be_bytes()[1..]);
        bytes.extend_from_slice(&self.logprob.0.to_be_bytes());
    }

    fn read(bytes: [u8; TOKEN_BYTES]) -> Self {
        let [a, b, c, d, e] = bytes;
        Self { id: u32::from_be_bytes([0, a, b, c]), logprob: LogProb(i16::from_be_bytes([d, e])) }
    }
}

/// A projection of the final normalised hidden state on eight random directions: mantissas of seven bits that share an
/// exponent of eight. Component k is `m_k · 2^((e − 128) / 8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Sketch {
    /// The shared exponent in eighths of an octave, biased by 128; 0 only for [`Self::NONE`].
    pub exponent: u8,
    /// The mantissas, within ±[`Self::MANTISSA_MAX`].
    pub mantissas: [i8; Self::COMPONENTS],
}

impl Sketch {
    /// Directions.
    pub const COMPONENTS: usize = 8;
    /// Bytes of its encoding.
    pub const BYTES: usize = 8;
    /// Largest magnitude of a mantissa.
    pub const MANTISSA_MAX: i8 = 63;
    /// The largest magnitude of a canonical sketch's mantissas is at least this, unless its exponent is the least.
    pub const MANTISSA_TOP: i8 = 56;
    /// No hidden state was seen.
    pub const NONE: Self = Self { exponent: 0, mantissas: [0; Self::COMPONENTS] };

    /// Exponent, then the mantissas from the first on, each in seven bits of two's complement.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let bits = self
            .mantissas
            .iter()
            .fold(u64::from(self.exponent), |bits, mantissa| bits << 7 | u64::from(mantissa.cast_unsigned() & 0x7f));
        bits.to_be_bytes()
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let bits = u64::from_be_bytes(bytes);
        let [exponent, ..] = bytes;
        let mut mantissas = [0; Self::COMPONENTS];
        for (place, mantissa) in (1u32..).zip(&mut mantissas) {
            let [.., low] = (bits >> (56 - 7 * place)).to_be_bytes();
            // Seven bits, the sign carried into the eighth.
            *mantissa = (low << 1).cast_signed() >> 1;
        }
        Self { exponent, mantissas }
    }

    fn is_canonical(&self) -> bool {
        let largest = self.mantissas.iter().map(|mantissa| mantissa.unsigned_abs()).max().unwrap_or(0);
        let most = Self::MANTISSA_MAX.unsigned_abs();
        match self.exponent {
            0 => largest == 0,
            1 => largest > 0 && largest <= most,
            _ => largest >= Self::MANTISSA_TOP.unsigned_abs() && largest <= most,
        }
    }
}

/// What a miner commits to beside the token: the evidence part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Evidence {
    /// The most probable tokens other than the chosen one, best first, ties to the lower id; then [`TraceToken::NONE`].
    pub alternatives: [TraceToken; ALTERNATIVES],
    /// Of the hidden state from which the token was drawn.
    pub sketch: Sketch,
}

impl Evidence {
    /// Nothing was seen.
    pub const NONE: Self = Self { alternatives: [TraceToken::NONE; ALTERNATIVES], sketch: Sketch::NONE };

    fn write(&self, bytes: &mut Vec<u8>) {
        self.alternatives.iter().for_each(|alternative| alternative.write(bytes));
        bytes.extend_from_slice(&self.sketch.to_bytes());
    }

    fn read(bytes: &[u8; EVIDENCE_BYTES]) -> Self {
        let mut evidence = Self::NONE;
        let (alternatives, sketch) = bytes.split_at(ALTERNATIVES * TOKEN_BYTES);
        for (alternative, bytes) in evidence.alternatives.iter_mut().zip(alternatives.as_chunks().0) {
            *alternative = TraceToken::read(*bytes);
        }
        if let ([sketch], []) = sketch.as_chunks() {
            evidence.sketch = Sketch::from_bytes(*sketch);
        }
        evidence
    }

    fn check(&self, chosen: TraceToken) -> Result<(), &'static str> {
        let used = self.alternatives.iter().take_while(|other| other.id != NO_TOKEN).count();
        let (used, unused) = self.alternatives.split_at(used);
        if unused.iter().any(|other| *other != TraceToken::NONE) {
            return Err("an alternative follows an unused place, or an unused place is not empty");
        }
        if used.iter().any(|other| other.logprob.0 > 0) {
            return Err("an alternative has a positive log-probability");
        }
        if used.windows(2).any(|pair| pair[0].logprob < pair[1].logprob) {
            return Err("the alternatives are not in order");
        }
        let repeated = |(place, other): (usize, &TraceToken)| used[..place].iter().any(|before| before.id == other.id);
        if used.iter().any(|other| other.id == chosen.id) || used.iter().enumerate().any(repeated) {
            return Err("a token stands twice in a record");
        }
        if self.sketch.is_canonical() { Ok(()) } else { Err("the sketch is not in canonical form") }
    }
}

/// Why bytes are not a window, or tokens and evidence not a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not a whole number of records, or more than a window holds.
    #[error("{0} bytes are not 1 to 32 records")]
    Length(usize),
    /// Not one evidence record for each token record.
    #[error("{tokens} tokens have {evidence} evidence records")]
    Count {
        /// Token records.
        tokens: usize,
        /// Evidence records.
        evidence: usize,
    },
    /// A record has more than one encoding, or claims what cannot be.
    #[error("record {0}: {1}")]
    Record(usize, &'static str),
}

/// The bytes of the token part of a window (after its salt).
#[must_use]
pub fn encode_tokens(window: &[TraceToken]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(window.len() * TOKEN_BYTES);
    window.iter().for_each(|token| token.write(&mut bytes));
    bytes
}

/// The bytes of the evidence part of a window (after its salt).
#[must_use]
pub fn encode_evidence(window: &[Evidence]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(window.len() * EVIDENCE_BYTES);
    window.iter().for_each(|evidence| evidence.write(&mut bytes));
    bytes
}

fn records<const BYTES: usize>(bytes: &[u8]) -> Result<&[[u8; BYTES]], TraceError> {
    match bytes.as_chunks() {
        (records, []) if (1..=WINDOW_TOKENS).contains(&records.len()) => Ok(records),
        _ => Err(TraceError::Length(bytes.len())),
    }
}

/// Reads a window. Every pair of byte strings that passes is the only encoding of what it returns.
///
/// # Errors
/// Says which record is wrong and how.
pub fn decode_window(tokens: &[u8], evidence: &[u8]) -> Result<(Vec<TraceToken>, Vec<Evidence>), TraceError> {
    let tokens: Vec<TraceToken> = records(tokens)?.iter().map(|bytes| TraceToken::read(*bytes)).collect();
    let evidence: Vec<Evidence> = records(evidence)?.iter().map(Evidence::read).collect();
    check(&tokens, &evidence)?;
    Ok((tokens, evidence))
}

/// Checks that every record is in canonical form.
///
/// # Errors
/// Says which record is wrong and how.
pub fn check(tokens: &[TraceToken], evidence: &[Evidence]) -> Result<(), TraceError> {
    if tokens.len() != evidence.len() {
        return Err(TraceError::Count { tokens: tokens.len(), evidence: evidence.len() });
    }
    for (place, (token, evidence)) in tokens.iter().zip(evidence).enumerate() {
        if token.logprob.0 > 0 {
            return Err(TraceError::Record(place, "the token has a positive log-probability"));
        }
        if token.id > NO_TOKEN {
            return Err(TraceError::Record(place, "the token's id has more than 24 bits"));
        }
        evidence.check(*token).map_err(|problem| TraceError::Record(place, problem))?;
    }
    Ok(())
}

/// The salt of one window: without it, nobody can guess a leaf.
#[must_use]
pub fn window_salt(salt: B256, window: u64) -> B256 {
    keccak256([salt.as_slice(), &window.to_be_bytes()].concat())
}

fn leaf(salt: B256, bytes: &[u8]) -> B256 {
    merkle::leaf(&[salt.as_slice(), bytes].concat())
}

/// The leaves of the token parts, one for each window.
#[must_use]
pub fn token_leaves(salt: B256, tokens: &[TraceToken]) -> Vec<B256> {
    let windows = (0u64..).zip(tokens.chunks(WINDOW_TOKENS));
    windows.map(|(index, window)| leaf(window_salt(salt, index), &encode_tokens(window))).collect()
}

/// The leaves of the evidence parts of `tokens` tokens, one for each window. Without any evidence each stands for an
/// empty window, which says that the backend gave none.
#[must_use]
pub fn evidence_leaves(salt: B256, tokens: usize, evidence: &[Evidence]) -> Vec<B256> {
    let window = |index: usize| {
        let start = (index * WINDOW_TOKENS).min(evidence.len());
        let end = (start + WINDOW_TOKENS).min(evidence.len());
        leaf(window_salt(salt, index as u64), &encode_evidence(&evidence[start..end]))
    };
    (0..tokens.div_ceil(WINDOW_TOKENS)).map(window).collect()
}

/// All leaves of a trace: of each window first the token part, then the evidence part. `None` when there is not one
/// evidence leaf for each window.
#[must_use]
pub fn leaves(salt: B256, tokens: &[TraceToken], evidence: &[B256]) -> Option<Vec<B256>> {
    let tokens = token_leaves(salt, tokens);
    (tokens.len() == evidence.len()).then(|| tokens.into_iter().zip(evidence).flat_map(|(a, b)| [a, *b]).collect())
}

/// The root that a receipt commits to: zero for no token, `None` when there is not one evidence leaf for each window.
#[must_use]
pub fn root(salt: B256, tokens: &[TraceToken], evidence: &[B256]) -> Option<B256> {
    leaves(salt, tokens, evidence).map(|leaves| merkle::root(&leaves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(id: TokenId, logprob: i16) -> TraceToken {
        TraceToken { id, logprob: LogProb(logprob) }
    }

    fn evidence() -> Evidence {
        Evidence {
            alternatives: [token(7, -1), token(8, -1), token(1, -9000), TraceToken::NONE],
            sketch: Sketch { exponent: 130, mantissas: [63, -63, 0, 1, -1, 20, -20, 5] },
        }
    }

    /// The bytes are part of the protocol: contracts read them.
    #[test]
    fn golden_bytes() {
        assert_eq!(hex::encode(encode_tokens(&[token(0x01_02_03, -2)])), "010203fffe");
        let expected = "000007ffff000008ffff000001dcd8ffffff8000827f04001fe53605";
        let bytes = encode_evidence(&[evidence()]);
        assert_eq!(bytes.len(), EVIDENCE_BYTES);
        assert_eq!(hex::encode(&bytes), expected);
        assert_eq!(TOKEN_BYTES + EVIDENCE_BYTES, 33);
        let root =
            root(B256::repeat_byte(1), &[token(5, -2)], &evidence_leaves(B256::repeat_byte(1), 1, &[evidence()]));
        assert_eq!(root.unwrap().to_string(), "0xf1dde0880a48ebae3657fec4818a3bbd3a4e3f794b2603af955a9e9cb84d582c");
    }

    #[test]
    fn a_leaf_for_each_part_of_each_window() {
        let tokens: Vec<_> = (0..70).map(|id| token(id, -1)).collect();
        let salt = B256::repeat_byte(9);
        let none = evidence_leaves(salt, 70, &[]);
        let some = evidence_leaves(salt, 70, &[Evidence::NONE; 70]);
        assert_eq!((none.len(), some.len()), (3, 3));
        assert_ne!(none, some);
        let all = leaves(salt, &tokens, &some).unwrap();
        assert_eq!(all.len(), 6);
        let path = merkle::proof(&all, 4).unwrap();
        assert!(merkle::verify(root(salt, &tokens, &some).unwrap(), all[4], 4, 6, &path));
        assert_eq!(root(salt, &tokens, &some[1..]), None);
        assert_eq!(root(salt, &[], &[]), Some(B256::ZERO));
    }

    #[test]
    fn what_is_not_canonical_is_refused_by_name() {
        let good = evidence();
        let chosen = token(3, -5);
        let refused = |change: fn(&mut Evidence), why: &str| {
            let mut evidence = evidence();
            change(&mut evidence);
            let bytes = encode_evidence(&[good, evidence]);
            let problem = decode_window(&encode_tokens(&[chosen, chosen]), &bytes).unwrap_err().to_string();
            assert!(problem.starts_with("record 1: ") && problem.contains(why), "{problem}");
        };
        refused(|e| e.alternatives[0].logprob = LogProb(1), "positive");
        refused(|e| e.alternatives[2].logprob = LogProb(0), "in order");
        refused(|e| e.alternatives[1].id = 3, "twice");
        refused(|e| e.alternatives[1].id = 7, "twice");
        refused(|e| e.alternatives[1] = TraceToken::NONE, "unused");
        refused(|e| e.alternatives[3].logprob = LogProb(-1), "unused");
        refused(|e| e.sketch.mantissas = [1; 8], "sketch");
        refused(|e| e.sketch.mantissas[0] = -64, "sketch");
        refused(|e| e.sketch.exponent = 0, "sketch");
        assert_eq!(decode_window(&[], &[]), Err(TraceError::Length(0)));
        assert_eq!(decode_window(&[0; 5 * 33], &[]), Err(TraceError::Length(165)));
        let one = encode_tokens(&[chosen]);
        assert_eq!(
            decode_window(&one, &encode_evidence(&[good; 2])),
            Err(TraceError::Count { tokens: 1, evidence: 2 })
        );
        let positive = encode_tokens(&[token(3, 1)]);
        assert!(matches!(decode_window(&positive, &encode_evidence(&[good])), Err(TraceError::Record(0, _))));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back_the_same(
            tokens in prop::collection::vec(any::<u8>(), 0..64), evidence in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let cut = tokens.len() - tokens.len() % TOKEN_BYTES;
            for tokens in [&tokens[..], &tokens[..cut]] {
                if let Ok((read, seen)) = decode_window(tokens, &evidence) {
                    prop_assert_eq!(encode_tokens(&read), tokens);
                    prop_assert_eq!(encode_evidence(&seen), evidence.as_slice());
                }
            }
        }

        #[test]
        fn a_sketch_survives_its_bytes(exponent in any::<u8>(), mantissas in prop::array::uniform8(-64i8..=63)) {
            let sketch = Sketch { exponent, mantissas };
            prop_assert_eq!(Sketch::from_bytes(sketch.to_bytes()), sketch);
        }
    }
}
