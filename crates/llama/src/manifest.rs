//! What exactly a GGUF file is: hashes in one pass over it, and the manifest.

use crate::{config::LoadError, gguf::Metadata};
use alloy_primitives::{B256, keccak256};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Hashes of a weights file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightHashes {
    /// BLAKE3.
    pub blake3: B256,
    /// SHA-256.
    pub sha256: B256,
}

/// Hashes a weights file in one pass; the parts of a split model count as one file, in order.
///
/// # Errors
/// A file cannot be read.
pub fn hash_weights(path: &Path) -> io::Result<WeightHashes> {
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    let (mut done, mut reported) = (0_u64, Instant::now());
    for part in parts(path) {
        let mut file = File::open(part)?;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            blake3.update(&buffer[..length]);
            sha256.update(&buffer[..length]);
            done += length as u64;
            if reported.elapsed() > Duration::from_secs(2) {
                reported = Instant::now();
                tracing::info!(path = %path.display(), mib = done >> 20, "hashing the weights");
            }
        }
    }
    Ok(WeightHashes { blake3: B256::from(*blake3.finalize().as_bytes()), sha256: B256::from_slice(&sha256.finalize()) })
}

/// The files of a model: `name-00001-of-00003.gguf` stands for three.
pub(crate) fn parts(path: &Path) -> Vec<PathBuf> {
    let split = || {
        let name = path.file_name()?.to_str()?;
        let (rest, total) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let base = rest.strip_suffix("-00001")?;
        let count: u32 = total.parse().ok().filter(|count| (1..=999).contains(count) && total.len() == 5)?;
        Some((1..=count).map(|part| path.with_file_name(format!("{base}-{part:05}-of-{total}.gguf"))).collect())
    };
    split().unwrap_or_else(|| vec![path.to_owned()])
}

/// Reads the metadata of a model.
pub(crate) fn metadata(path: &Path) -> Result<Metadata, LoadError> {
    let file = File::open(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })?;
    Metadata::read(&mut BufReader::with_capacity(1 << 16, file))
        .map_err(|source| LoadError::Gguf { path: path.to_owned(), source })
}

/// The name that clients use: the file's own, made fit for a URL and a JSON field.
pub(crate) fn model_name(metadata: &Metadata, path: &Path) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model");
    let name = metadata.string("general.name").filter(|name| !name.trim().is_empty()).unwrap_or(stem);
    let name: String = name
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c.to_ascii_lowercase() } else { '-' })
        .take(96)
        .collect();
    name
}

/// Hash of a chat template's text; zero when there is none.
pub(crate) fn template_hash(template: Option<&str>) -> B256 {
    template.map_or(B256::ZERO, |template| keccak256(template.as_bytes()))
}

/// The quantisation as llama.cpp names it, from `general.file_type` (`enum llama_ftype` in llama.h).
pub(crate) fn quantisation(metadata: &Metadata) -> String {
    let name = match metadata.integer("general.file_type") {
        Some(0) => "F32",
        Some(1) => "F16",
        Some(2) => "Q4_0",
        Some(3) => "Q4_1",
        Some(7) => "Q8_0",
        Some(8) => "Q5_0",
        Some(9) => "Q5_1",
        Some(10) => "Q2_K",
        Some(11) => "Q3_K_S",
        Some(12) => "Q3_K_M",
        Some(13) => "Q3_K_L",
        Some(14) => "Q4_K_S",
        Some(15) => "Q4_K_M",
        Some(16) => "Q5_K_S",
        Some(17) => "Q5_K_M",
        Some(18) => "Q6_K",
        Some(19) => "IQ2_XXS",
        Some(20) => "IQ2_XS",
        Some(21) => "Q2_K_S",
        Some(22) => "IQ3_XS",
        Some(23) => "IQ3_XXS",
        Some(24) => "IQ1_S",
        Some(25) => "IQ4_NL",
        Some(26) => "IQ3_S",
        Some(27) => "IQ3_M",
        Some(28) => "IQ2_S",
        Some(29) => "IQ2_M",
        Some(30) => "IQ4_XS",
        Some(31) => "IQ1_M",
        Some(32) => "BF16",
        Some(36) => "TQ1_0",
        Some(37) => "TQ2_0",
        Some(38) => "MXFP4",
        Some(39) => "NVFP4",
        Some(other) => return format!("ftype-{other}"),
        None => "unknown",
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn hashes_are_those_of_the_tools() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let hashes = hash_weights(file.path()).unwrap();
        // FIPS 180-2, appendix B.1, and the BLAKE3 test of the same input.
        let sha = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blake = "0x6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!((hashes.sha256.to_string(), hashes.blake3.to_string()), (sha.into(), blake.into()));
    }

    #[test]
    fn split_models_are_one() {
        let names = |path: &str| {
            let name = |part: &PathBuf| part.to_string_lossy().into_owned();
            parts(Path::new(path)).iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names("d/m-00001-of-00002.gguf"), ["d/m-00001-of-00002.gguf", "d/m-00002-of-00002.gguf"]);
        assert_eq!(names("d/m-of-2.gguf"), ["d/m-of-2.gguf"]);
        assert_eq!(names("d/m.gguf"), ["d/m.gguf"]);
    }
}
