//! Models of any size with random weights, for measuring and for tests. They answer nonsense.

use crate::{
    ffi::{self, quantise},
    gguf::{GgufError, raw_pairs},
};
use llama_cpp_sys_2 as sys;
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Tensors begin at multiples of this, GGUF's default.
const ALIGNMENT: u64 = 32;
/// GGUF's number for a 32-bit integer value.
const KIND_U32: u32 = 4;

/// The shape of a Llama model. Widths that are multiples of 256 can be quantised to every type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of the hidden state.
    pub width: u32,
    /// Layers.
    pub layers: u32,
    /// Attention heads.
    pub heads: u32,
    /// Heads of keys and values.
    pub key_value_heads: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Longest context.
    pub context: u32,
}

impl Default for Shape {
    /// A model that computes in milliseconds and still has sums long enough for differences to show.
    fn default() -> Self {
        Self { width: 256, layers: 3, heads: 4, key_value_heads: 2, feed_forward: 768, context: 1024 }
    }
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "llama.cpp's own names")]
#[expect(non_camel_case_types, reason = "llama.cpp's own names")]
pub enum Quantisation {
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K_M,
    Q4_K_M,
    Q5_K_M,
    Q6_K,
    IQ4_XS,
}

impl Quantisation {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K_M,
        Self::Q4_K_M,
        Self::Q5_K_M,
        Self::Q6_K,
        Self::IQ4_XS,
    ];

    const fn raw(self) -> sys::llama_ftype {
        match self {
            Self::F16 => sys::LLAMA_FTYPE_MOSTLY_F16,
            Self::BF16 => sys::LLAMA_FTYPE_MOSTLY_BF16,
            Self::Q4_0 => sys::LLAMA_FTYPE_MOSTLY_Q4_0,
            Self::Q4_1 => sys::LLAMA_FTYPE_MOSTLY_Q4_1,
            Self::Q5_0 => sys::LLAMA_FTYPE_MOSTLY_Q5_0,
            Self::Q5_1 => sys::LLAMA_FTYPE_MOSTLY_Q5_1,
            Self::Q8_0 => sys::LLAMA_FTYPE_MOSTLY_Q8_0,
            Self::Q2_K => sys::LLAMA_FTYPE_MOSTLY_Q2_K,
            Self::Q3_K_M => sys::LLAMA_FTYPE_MOSTLY_Q3_K_M,
            Self::Q4_K_M => sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
            Self::Q5_K_M => sys::LLAMA_FTYPE_MOSTLY_Q5_K_M,
            Self::Q6_K => sys::LLAMA_FTYPE_MOSTLY_Q6_K,
            Self::IQ4_XS => sys::LLAMA_FTYPE_MOSTLY_IQ4_XS,
        }
    }
}

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UntrainedError {
    /// A file could not be read or written.
    #[error("cannot read or write a model file")]
    Io(#[from] io::Error),
    /// The file that the tokenizer is taken from is no GGUF file.
    #[error("the tokenizer's file cannot be used")]
    Donor(#[from] GgufError),
    /// The shape is none.
    #[error("the widths and heads do not fit each other")]
    Shape,
    /// llama.cpp refused.
    #[error("llama.cpp could not quantise; its log (target \"llama.cpp\") says why")]
    Quantise,
}

/// Writes a model of 32-bit weights with the tokenizer of `donor`, a Llama model.
///
/// # Errors
/// The shape is impossible, or a file cannot be read or written.
pub fn write_untrained(donor: &Path, out: &Path, shape: &Shape) -> Result<(), UntrainedError> {
    // A multiple of zero is zero alone, so none of these may be zero.
    if !shape.width.is_multiple_of(2 * shape.heads)
        || !shape.heads.is_multiple_of(shape.key_value_heads)
        || shape.heads == 0
    {
        return Err(UntrainedError::Shape);
    }
    let pairs = raw_pairs(&mut BufReader::new(File::open(donor)?))?;
    let vocabulary = pairs.iter().find(|(key, _)| key == "llama.vocab_size").ok_or(UntrainedError::Shape)?;
    let vocabulary = vocabulary.1.last_chunk().copied().map(u32::from_le_bytes).ok_or(UntrainedError::Shape)?;
    let pairs = with_shape(pairs, shape);
    let tensors = tensors(shape, vocabulary);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(out)?);
    let head = head(&pairs, &tensors);
    out.write_all(&head)?;
    let mut random = Random(0x1234_5678_9abc_def1);
    for tensor in &tensors {
        out.write_all(&vec![0; usize::try_from(padding(tensor.offset)).unwrap_or(0)])?;
        write_weights(&mut out, tensor, &mut random)?;
    }
    out.flush()?;
    Ok(())
}

/// Writes `from` in another quantisation.
///
/// # Errors
/// llama.cpp refuses.
pub fn write_quantised(from: &Path, to: &Path, kind: Quantisation) -> Result<(), UntrainedError> {
    ffi::initialise();
    let threads = std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1));
    // Written beside and renamed, so that what has the name is whole.
    let partial = to.with_extension("partial");
    if !quantise(from, &partial, kind.raw(), threads) {
        return Err(UntrainedError::Quantise);
    }
    std::fs::rename(&partial, to)?;
    Ok(())
}

/// A model of `shape` in `kind` in `folder`, named after both.
///
/// # Errors
/// As [`write_untrained`] and [`write_quantised`].
pub fn untrained(donor: &Path, folder: &Path, shape: &Shape, kind: Quantisation) -> Result<PathBuf, UntrainedError> {
    let name = format!("untrained-{}x{}", shape.width, shape.layers);
    let (whole, out) = (folder.join(format!("{name}-f32.gguf")), folder.join(format!("{name}-{kind:?}.gguf")));
    if !whole.exists() {
        write_untrained(donor, &whole, shape)?;
    }
    write_quantised(&whole, &out, kind)?;
    Ok(out)
}

struct Tensor {
    name: String,
    /// Width and number of rows; vectors have one.
    size: (u32, u32),
    /// Where it begins, before padding.
    offset: u64,
}

fn padding(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT) - offset
}

fn tensors(shape: &Shape, vocabulary: u32) -> Vec<Tensor> {
    let width = shape.width;
    let narrow = width / shape.heads * shape.key_value_heads;
    let mut sizes = vec![
        ("token_embd.weight".to_owned(), (width, vocabulary)),
        ("output_norm.weight".into(), (width, 1)),
        ("output.weight".into(), (width, vocabulary)),
    ];
    for layer in 0..shape.layers {
        let parts = [
            ("attn_norm", (width, 1)),
            ("attn_q", (width, width)),
            ("attn_k", (width, narrow)),
            ("attn_v", (width, narrow)),
            ("attn_output", (width, width)),
            ("ffn_norm", (width, 1)),
            ("ffn_gate", (width, shape.feed_forward)),
            ("ffn_up", (width, shape.feed_forward)),
            ("ffn_down", (shape.feed_forward, width)),
        ];
        sizes.extend(parts.map(|(name, size)| (format!("blk.{layer}.{name}.weight"), size)));
    }
    let mut offset = 0;
    let place = |(name, size): (String, (u32, u32))| {
        let tensor = Tensor { name, size, offset };
        offset += padding(offset) + 4 * u64::from(size.0) * u64::from(size.1);
        tensor
    };
    sizes.into_iter().map(place).collect()
}

/// The donor's pairs, with what describes the shape replaced.
fn with_shape(pairs: Vec<(String, Vec<u8>)>, shape: &Shape) -> Vec<(String, Vec<u8>)> {
    let numbers = [
        ("general.file_type", 0),
        ("llama.context_length", shape.context),
        ("llama.embedding_length", shape.width),
        ("llama.block_count", shape.layers),
        ("llama.feed_forward_length", shape.feed_forward),
        ("llama.attention.head_count", shape.heads),
        ("llama.attention.head_count_kv", shape.key_value_heads),
        ("llama.rope.dimension_count", shape.width / shape.heads),
    ];
    let replace = |(key, value): (String, Vec<u8>)| {
        let number = numbers.iter().find(|(name, _)| *name == key);
        let value = number.map_or(value, |(_, number)| [KIND_U32, *number].map(u32::to_le_bytes).concat());
        (key, value)
    };
    pairs.into_iter().map(replace).collect()
}

/// Everything before the weights.
fn head(pairs: &[(String, Vec<u8>)], tensors: &[Tensor]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        text(&mut out, key);
        out.extend(value);
    }
    for tensor in tensors {
        text(&mut out, &tensor.name);
        let (width, rows) = tensor.size;
        let dimensions = if rows == 1 { vec![width] } else { vec![width, rows] };
        out.extend(u32::try_from(dimensions.len()).unwrap_or(0).to_le_bytes());
        for dimension in dimensions {
            out.extend(u64::from(dimension).to_le_bytes());
        }
        out.extend(0_u32.to_le_bytes());
        out.extend((tensor.offset + padding(tensor.offset)).to_le_bytes());
    }
    out.resize(out.len() + usize::try_from(padding(out.len() as u64)).unwrap_or(0), 0);
    out
}

fn write_weights(out: &mut impl Write, tensor: &Tensor, random: &mut Random) -> io::Result<()> {
    let (width, rows) = tensor.size;
    #[expect(clippy::cast_possible_truncation, reason = "a scale")]
    let scale = if tensor.name == "token_embd.weight" { 1.0 } else { (3.0 / f64::from(width)).sqrt() as f32 };
    for _ in 0..u64::from(width) * u64::from(rows) {
        let value = if rows == 1 { 1.0 + 0.1 * random.next() } else { scale * random.next() };
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// xorshift64*, for weights that need no quality.
struct Random(u64);

impl Random {
    /// Between -1 and 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let value = bits as f32 / 8_388_608.0 - 1.0;
        value
    }
}
