//! Copies of a whole state in files of bounded size, for nodes that begin with it instead of with block 0.
//!
//! A copy is a manifest and chunks. It is written in the order of addresses and slots, so that every node that copies the
//! state after one block writes the same bytes, and a chunk begun with one peer is completed with another. Rules Y1 to Y4
//! of docs/spec/consensus.md. Nothing here is believed: whoever takes a copy in computes its root (`import`).

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use alloy::{
    consensus::{Header, Sealed, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use alloy_rlp::{Decodable as _, Encodable as _, RlpDecodable, RlpEncodable};
use thiserror::Error;

use crate::store::StoreError;

/// A chunk ends with the first piece that makes it this long.
const CHUNK_BYTES: usize = 1 << 20;
/// Slots of one account in one piece.
pub(crate) const SLOTS_PER_PIECE_MAX: usize = 4_096;
/// Most bytes of a chunk: a full one, and the piece that was begun.
pub const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + (1 << 20);
/// Most chunks of a copy.
pub const CHUNKS_MAX: usize = 1 << 18;
/// Copies that are kept: whoever takes one in has until the one after the next.
const COPIES_KEPT: usize = 2;
const MANIFEST_FILE: &str = "manifest";

/// What a copy is of, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Manifest {
    /// The block after which the state is.
    pub block: u64,
    /// Its hash.
    pub block_hash: B256,
    /// The state's root.
    pub state_root: B256,
    /// The keccak-256 of each chunk.
    pub chunks: Vec<B256>,
}

/// An account, or more slots of the one before.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Piece {
    pub(crate) address: Address,
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
    /// The code, if this is the first account of the chunk that has it.
    pub(crate) code: Bytes,
    pub(crate) slots: Vec<SlotValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct SlotValue {
    pub(crate) slot: U256,
    pub(crate) value: U256,
}

/// Why a state could not be copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files could not be written or read.
    #[error("copies of the state cannot be kept in {}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There would be more chunks than anybody takes.
    #[error("the state is too large to be copied")]
    TooLarge,
}

/// The folder in which a node keeps copies of its state.
#[derive(Clone, Debug)]
pub struct Exports {
    folder: PathBuf,
}

impl Exports {
    /// Copies in this folder, which need not exist.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn failed(&self, source: io::Error) -> ExportError {
        ExportError::Io { path: self.folder.clone(), source }
    }

    /// The blocks of which there are copies, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn blocks(&self) -> Result<Vec<u64>, ExportError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        // Unfinished copies have names that are no numbers.
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// What the copy of the state after this block is made of; none if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self, block: u64) -> Result<Option<Manifest>, ExportError> {
        let bytes = self.read(block, MANIFEST_FILE, 64 + CHUNKS_MAX * 33)?;
        let decode = |bytes: Vec<u8>| Manifest::decode(&mut bytes.as_slice());
        let damaged = |_| self.failed(io::Error::new(io::ErrorKind::InvalidData, "the manifest of a copy is damaged"));
        bytes.map(decode).transpose().map_err(damaged)
    }

    /// One of its chunks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn chunk(&self, block: u64, index: u32) -> Result<Option<Bytes>, ExportError> {
        Ok(self.read(block, &index.to_string(), CHUNK_BYTES_MAX)?.map(Bytes::from))
    }

    fn read(&self, block: u64, name: &str, most: usize) -> Result<Option<Vec<u8>>, ExportError> {
        let file = match File::open(self.folder.join(block.to_string()).join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes).map_err(|error| self.failed(error))?;
        Ok(Some(bytes))
    }

    /// Removes old copies and what was not finished.
    fn tidy(&self) -> Result<(), ExportError> {
        let kept: Vec<_> = self.blocks()?.into_iter().take(COPIES_KEPT).map(|block| block.to_string()).collect();
        for entry in fs::read_dir(&self.folder).map_err(|error| self.failed(error))?.flatten() {
            if !kept.iter().any(|name| **name == *entry.file_name()) {
                fs::remove_dir_all(entry.path()).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    pub(crate) fn begin(&self, header: &Sealed<Header>) -> Result<Writer<'_>, ExportError> {
        fs::create_dir_all(&self.folder).map_err(|error| self.failed(error))?;
        self.tidy()?;
        let unfinished = self.folder.join(format!("{}.unfinished", header.number));
        fs::create_dir(&unfinished).map_err(|error| self.failed(error))?;
        let (block, block_hash, state_root) = (header.number, header.hash(), header.state_root);
        let manifest = Manifest { block, block_hash, state_root, chunks: Vec::new() };
        Ok(Writer { exports: self, unfinished, manifest, buffer: Vec::new(), codes: HashSet::new() })
    }
}

/// Writes one copy. Until [`Writer::finish`] it is not there.
pub(crate) struct Writer<'a> {
    exports: &'a Exports,
    unfinished: PathBuf,
    manifest: Manifest,
    buffer: Vec<u8>,
    /// Codes that the chunk being written holds.
    codes: HashSet<B256>,
}

impl Writer<'_> {
    /// Adds an account with some of its slots, or further slots of the same account.
    pub(crate) fn add(
        &mut self,
        address: Address,
        account: &TrieAccount,
        slots: Vec<SlotValue>,
        code: impl FnOnce(B256) -> Result<Bytes, StoreError>,
    ) -> Result<(), ExportError> {
        let code_hash = account.code_hash;
        let fresh = code_hash != KECCAK_EMPTY && self.codes.insert(code_hash);
        let code = if fresh { code(code_hash)? } else { Bytes::new() };
        let (nonce, balance) = (account.nonce, account.balance);
        Piece { address, nonce, balance, code_hash, code, slots }.encode(&mut self.buffer);
        if self.buffer.len() >= CHUNK_BYTES { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> Result<(), ExportError> {
        let index = self.manifest.chunks.len();
        if index >= CHUNKS_MAX {
            return Err(ExportError::TooLarge);
        }
        self.manifest.chunks.push(keccak256(&self.buffer));
        write_synced(&self.unfinished.join(index.to_string()), &self.buffer).map_err(|e| self.exports.failed(e))?;
        self.buffer.clear();
        self.codes.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Manifest, ExportError> {
        if !self.buffer.is_empty() {
            self.end_chunk()?;
        }
        let written = write_synced(&self.unfinished.join(MANIFEST_FILE), &alloy_rlp::encode(&self.manifest));
        let named = written
            .and_then(|()| fs::rename(&self.unfinished, self.exports.folder.join(self.manifest.block.to_string())));
        named.map_err(|error| self.exports.failed(error))?;
        self.exports.tidy()?;
        Ok(self.manifest)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The pieces of a chunk; none when it is malformed.
pub(crate) fn pieces(mut chunk: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    while !chunk.is_empty() {
        let piece = Piece::decode(&mut chunk).ok().filter(|piece| piece.slots.len() <= SLOTS_PER_PIECE_MAX)?;
        pieces.push(piece);
    }
    Some(pieces)
}
