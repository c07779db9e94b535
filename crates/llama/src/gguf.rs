//! Reads the metadata at the head of a GGUF file (versions 2 and 3), without llama.cpp.
//!
//! Guarantees: bounded memory and time on any input, clear errors. Does not read weights, nor check what llama.cpp checks
//! when it loads the file.

use alloy_primitives::{B256, Keccak256, keccak256};
use std::{
    collections::BTreeMap,
    io::{self, Read},
};

/// Most key-value pairs.
const MAX_PAIRS: u64 = 1 << 16;
/// Most bytes of one string.
const MAX_STRING: u64 = 16 << 20;
/// Most tensors.
const MAX_TENSORS: u64 = 1 << 18;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u64 = 8;
/// Most elements of one array.
const MAX_ARRAY: u64 = 1 << 24;

/// Why a file's metadata could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Reading failed, or the file ends within the metadata.
    #[error("the file could not be read")]
    Io(#[from] io::Error),
    /// Not GGUF.
    #[error("the file does not begin with the letters GGUF")]
    Magic,
    /// A version that is not known here.
    #[error("GGUF version {0} is not supported, only 2 and 3")]
    Version(u32),
    /// A count or length beyond all reason.
    #[error("{what} is {value}, more than {limit}")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A value type that the format does not have.
    #[error("value type {0} does not exist")]
    Type(u32),
}

/// The metadata that a manifest needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    strings: BTreeMap<String, String>,
    integers: BTreeMap<String, u64>,
    /// Hash of all `tokenizer.*` values but the chat templates: keccak-256 over the hashes of the pairs, sorted by key.
    pub tokenizer: B256,
}

impl Metadata {
    /// Reads from the beginning of a file.
    ///
    /// # Errors
    /// When it cannot be read, is no GGUF, or breaks a bound.
    pub fn read(input: &mut impl Read) -> Result<Self, GgufError> {
        let mut reader = Reader { input, hash: None };
        let (_, pairs) = reader.counts()?;
        let mut metadata = Self::default();
        let mut tokenizer = BTreeMap::new();
        for _ in 0..pairs {
            let key = reader.string()?;
            let hashed = key.starts_with("tokenizer.") && !key.starts_with("tokenizer.chat_template");
            reader.hash = hashed.then(Keccak256::new);
            match reader.value()? {
                Value::String(text) => drop(metadata.strings.insert(key.clone(), text)),
                Value::Integer(number) => drop(metadata.integers.insert(key.clone(), number)),
                Value::Other => {}
            }
            if let Some(hash) = reader.hash.take() {
                tokenizer.insert(key, hash.finalize());
            }
        }
        metadata.tokenizer = combine(&tokenizer);
        Ok(metadata)
    }

    /// A string value.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<&str> {
        self.strings.get(key).map(String::as_str)
    }

    /// An unsigned integer value.
    #[must_use]
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.integers.get(key).copied()
    }
}

/// Names and types of a file's tensors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tensors(Vec<(String, u32)>);

impl Tensors {
    /// Reads from the beginning of a file.
    pub(crate) fn read(input: &mut impl Read) -> Result<Self, GgufError> {
        let mut reader = Reader { input, hash: None };
        let (tensors, pairs) = reader.counts()?;
        for _ in 0..pairs {
            reader.string()?;
            reader.value()?;
        }
        let mut found = Vec::new();
        for _ in 0..tensors {
            let name = reader.string()?;
            let dimensions = u64::from(reader.u32()?);
            for _ in 0..bounded("the number of dimensions", dimensions, MAX_DIMENSIONS)? {
                reader.u64()?;
            }
            found.push((name, reader.u32()?));
            reader.u64()?; // where its weights are
        }
        Ok(Self(found))
    }

    /// Each tensor's name and the number of its type (`enum ggml_type` in ggml.h).
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, kind)| (name.as_str(), *kind))
    }
}

/// All keys of a file and their values as they are written, type included.
pub(crate) fn raw_pairs(input: &mut impl Read) -> Result<Vec<(String, Vec<u8>)>, GgufError> {
    let mut recorder = Recorder { input, bytes: Vec::new() };
    let mut reader = Reader { input: &mut recorder, hash: None };
    let (_, count) = reader.counts()?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = reader.string()?;
        reader.input.bytes.clear();
        reader.value()?;
        pairs.push((key, std::mem::take(&mut reader.input.bytes)));
    }
    Ok(pairs)
}

/// Keeps what is read.
struct Recorder<'a, R> {
    input: &'a mut R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Recorder<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

fn combine(pairs: &BTreeMap<String, B256>) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(b"cortensor tokenizer v1");
    for (key, value) in pairs {
        hash.update(keccak256(key.as_bytes()));
        hash.update(value);
    }
    hash.finalize()
}

fn bounded(what: &'static str, value: u64, limit: u64) -> Result<u64, GgufError> {
    if value > limit { Err(GgufError::TooLarge { what, value, limit }) } else { Ok(value) }
}

enum Value {
    String(String),
    Integer(u64),
    Other,
}

struct Reader<'a, R> {
    input: &'a mut R,
    hash: Option<Keccak256>,
}

impl<R: Read> Reader<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), GgufError> {
        self.input.read_exact(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(buffer);
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        self.fill(&mut buffer)?;
        Ok(buffer)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Reads up to the first key: the number of tensors and of key-value pairs.
    fn counts(&mut self) -> Result<(u64, u64), GgufError> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(GgufError::Magic);
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = bounded("the number of tensors", self.u64()?, MAX_TENSORS)?;
        Ok((tensors, bounded("the number of key-value pairs", self.u64()?, MAX_PAIRS)?))
    }

    fn string(&mut self) -> Result<String, GgufError> {
        let mut left = usize::try_from(bounded("the length of a string", self.u64()?, MAX_STRING)?).unwrap_or(0);
        let mut text = Vec::new();
        // In pieces, so that a wrong length costs no more memory than the file has bytes.
        let mut piece = [0; 4096];
        while left > 0 {
            let take = left.min(piece.len());
            self.fill(&mut piece[..take])?;
            text.extend_from_slice(&piece[..take]);
            left -= take;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn value(&mut self) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        if kind != 9 {
            return self.scalar(kind);
        }
        let element = self.u32()?;
        if element == 9 {
            return Err(GgufError::Type(element));
        }
        let count = bounded("the length of an array", self.u64()?, MAX_ARRAY)?;
        for _ in 0..count {
            self.scalar(element)?;
        }
        Ok(Value::Other)
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::Integer(u64::from(self.bytes::<1>()?[0])),
            2 => Value::Integer(u64::from(u16::from_le_bytes(self.bytes()?))),
            4 => Value::Integer(u64::from(self.u32()?)),
            10 => Value::Integer(self.u64()?),
            1 | 7 => {
                self.bytes::<1>()?;
                Value::Other
            }
            3 => {
                self.bytes::<2>()?;
                Value::Other
            }
            5 | 6 => {
                self.bytes::<4>()?;
                Value::Other
            }
            11 | 12 => {
                self.bytes::<8>()?;
                Value::Other
            }
            8 => Value::String(self.string()?),
            other => return Err(GgufError::Type(other)),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    fn file(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend_from_slice(&0_u64.to_le_bytes());
        out.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
        for (key, value) in pairs {
            text(&mut out, key);
            out.extend_from_slice(&8_u32.to_le_bytes());
            text(&mut out, value);
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Metadata, GgufError> {
        Metadata::read(&mut &bytes[..])
    }

    #[test]
    fn reads_strings_and_hashes_the_tokenizer() {
        let base = read(&file(&[("general.name", "x"), ("tokenizer.ggml.model", "gpt2")])).unwrap();
        assert_eq!(base.string("general.name"), Some("x"));
        let named = read(&file(&[("general.name", "y"), ("tokenizer.ggml.model", "gpt2")])).unwrap();
        assert_eq!(named.tokenizer, base.tokenizer);
        let template = [("tokenizer.ggml.model", "gpt2"), ("tokenizer.chat_template", "t")];
        assert_eq!(read(&file(&template)).unwrap().tokenizer, base.tokenizer);
        assert_ne!(read(&file(&[("tokenizer.ggml.model", "llama")])).unwrap().tokenizer, base.tokenizer);
    }

    #[test]
    fn refuses_what_is_not_gguf() {
        assert!(matches!(read(b"GGML\x03\0\0\0"), Err(GgufError::Magic)));
        assert!(matches!(read(b"GGUF\x01\0\0\0"), Err(GgufError::Version(1))));
        assert!(matches!(read(b"GGUF\x03"), Err(GgufError::Io(_))));
        let mut huge = b"GGUF\x03\0\0\0".to_vec();
        huge.extend_from_slice(&[0; 8]);
        huge.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&huge), Err(GgufError::TooLarge { .. })));
    }

    #[test]
    fn finds_the_types_of_tensors() {
        let mut file = file(&[("general.name", "x")]);
        file[8] = 2;
        for (name, kind) in [("a", 8_u32), ("b", 0)] {
            text(&mut file, name);
            file.extend_from_slice(&2_u32.to_le_bytes());
            file.extend_from_slice(&[1; 16]);
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&[0; 8]);
        }
        let tensors = Tensors::read(&mut &file[..]).unwrap();
        assert_eq!(tensors.kinds().collect::<Vec<_>>(), [("a", 8), ("b", 0)]);
        assert!(matches!(Tensors::read(&mut &file[..file.len() - 1]), Err(GgufError::Io(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..80) {
            let mut file = file(&[("general.name", "x"), ("tokenizer.ggml.model", "gpt2")]);
            let at = at.min(file.len());
            file.splice(at.., bytes);
            drop(read(&file));
            drop(Tensors::read(&mut &file[..]));
        }
    }
}
