//! The log on disk: what this validator said and saw about the block being decided.
//!
//! Records of one height follow each other, each with its length and checksum; the first names the height. What
//! [`Wal::sync`] returned for survives loss of power. A torn end is cut off when the file is opened; nothing that was
//! synced is ever behind it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::message::{BLOCK_BYTES_MAX, LogEntry};

/// The first bytes of the file: its kind and version.
const MAGIC: &[u8; 8] = b"CORWAL\x00\x01";
/// Bytes before a record's content: its length and the beginning of its BLAKE3 hash.
const HEAD_BYTES: usize = 4 + 8;
/// Most bytes of a record.
const RECORD_BYTES_MAX: usize = BLOCK_BYTES_MAX + 1024;
/// Most bytes read back; a height with more rounds than that has never been sent from here.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why the log cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalError {
    /// Reading or writing failed.
    #[error("the consensus log {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{} is no consensus log of this version", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The chain's data is older than the log.
    #[error(
        "{} is about block {log}, but the chain's data ends before block {next}: the data is older than what this \
         validator has signed. Restore newer data, or run without the validator's key",
        path.display()
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// The height that it is about.
        log: u64,
        /// The height that the data says comes next.
        next: u64,
    },
    /// There is data but no log.
    #[error(
        "the consensus log {} is missing although the chain has blocks: without it this validator might contradict what \
         it has signed. Restore it; or, when no other copy of this validator has run in the last minutes, start once \
         with --new-log",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Wal {
    file: Arc<File>,
    path: PathBuf,
    pending: Vec<u8>,
    height: u64,
    /// The file is to be emptied before anything is written.
    clear: bool,
}

impl Wal {
    /// Opens the log and reads what it holds about the next block. `create` allows a missing one.
    pub(crate) fn open(path: &Path, next: u64, create: bool) -> Result<(Self, Vec<LogEntry>), WalError> {
        let failed = |source| WalError::Io { path: path.to_owned(), source };
        if !create && !path.exists() {
            return Err(WalError::Missing { path: path.to_owned() });
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let fresh = bytes.len() < MAGIC.len();
        if !fresh && !bytes.starts_with(MAGIC) {
            return Err(WalError::Kind { path: path.to_owned() });
        }
        let (records, whole) = records(bytes.get(MAGIC.len()..).unwrap_or_default());
        let height = records.first().and_then(|first| (*first).try_into().ok().map(u64::from_be_bytes));
        if let Some(log) = height.filter(|height| *height > next) {
            return Err(WalError::Ahead { path: path.to_owned(), log, next });
        }
        let current = height == Some(next);
        let entries = if current { entries(&records[1..]) } else { Vec::new() };
        file.set_len((MAGIC.len() + whole) as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut wal =
            Self { file: Arc::new(file), path: path.to_owned(), pending: Vec::new(), height: next, clear: false };
        if !current {
            wal.begin(next);
        }
        Ok((wal, entries))
    }

    /// Forgets everything and begins with this height, from the next [`Wal::sync`] on.
    pub(crate) fn begin(&mut self, height: u64) {
        self.clear = true;
        self.height = height;
        self.pending.clear();
        self.record(&height.to_be_bytes());
    }

    /// The height that it is about.
    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    /// Adds an entry, which is durable after the next [`Wal::sync`].
    pub(crate) fn append(&mut self, entry: &LogEntry) {
        self.record(&entry.encode());
    }

    fn record(&mut self, content: &[u8]) {
        let length = u32::try_from(content.len()).expect("an entry holds one block at most");
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(&checksum(content));
        self.pending.extend_from_slice(content);
    }

    /// Makes everything added durable.
    pub(crate) async fn sync(&mut self) -> Result<(), WalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (file, pending, clear) = (Arc::clone(&self.file), std::mem::take(&mut self.pending), self.clear);
        self.clear = false;
        let written = tokio::task::spawn_blocking(move || write(&file, &pending, clear)).await;
        let failed = |source| WalError::Io { path: self.path.clone(), source };
        written.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
    }
}

fn write(mut file: &File, bytes: &[u8], clear: bool) -> io::Result<()> {
    if clear {
        // The old height's records may come back after a crash in between; they are recognised by their height.
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(MAGIC)?;
    }
    file.write_all(bytes)?;
    file.sync_data()
}

fn checksum(content: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(content);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// The whole records from the beginning, and how many bytes they are.
fn records(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut records, mut place) = (Vec::new(), 0);
    while let Some(head) = bytes.get(place..place + HEAD_BYTES) {
        let length = u32::from_be_bytes(*head.first_chunk().expect("a head has twelve bytes")) as usize;
        let start = place + HEAD_BYTES;
        let content = bytes.get(start..start + length).filter(|_| length <= RECORD_BYTES_MAX);
        let Some(content) = content.filter(|content| checksum(content) == head[4..]) else { break };
        records.push(content);
        place = start + length;
    }
    (records, place)
}

fn entries(records: &[&[u8]]) -> Vec<LogEntry> {
    // A record with a good checksum was written by this program.
    records.iter().map_while(|record| LogEntry::decode(record).ok()).collect()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes};

    use super::*;

    fn entry(byte: u8) -> LogEntry {
        LogEntry::Block { hash: B256::repeat_byte(byte), bytes: Bytes::from(vec![byte; 100]) }
    }

    async fn written(path: &Path, height: u64, count: u8) {
        let (mut wal, _) = Wal::open(path, height, true).unwrap();
        for byte in 0..count {
            wal.append(&entry(byte));
        }
        wal.sync().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_synced_comes_back_for_its_height_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        written(&path, 7, 3).await;
        let (mut wal, entries) = Wal::open(&path, 7, false).unwrap();
        assert_eq!(entries, [entry(0), entry(1), entry(2)]);
        wal.append(&entry(3));
        wal.sync().await.unwrap();
        assert_eq!(Wal::open(&path, 7, false).unwrap().1.len(), 4);
        wal.begin(8);
        wal.append(&entry(9));
        wal.sync().await.unwrap();
        assert_eq!(Wal::open(&path, 8, false).unwrap().1, [entry(9)]);
        assert!(matches!(Wal::open(&path, 7, false), Err(WalError::Ahead { log: 8, next: 7, .. })));
        assert!(Wal::open(&path, 9, false).unwrap().1.is_empty());
    }

    #[tokio::test]
    async fn a_torn_end_is_cut_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        written(&path, 7, 3).await;
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut wal, entries) = Wal::open(&path, 7, false).unwrap();
            let expect: Vec<_> = (0..3).map(entry).take(entries.len()).collect();
            assert_eq!(entries, expect);
            wal.append(&entry(8));
            wal.sync().await.unwrap();
            let again = Wal::open(&path, 7, false).unwrap().1;
            assert_eq!(again.len(), entries.len() + 1, "cut at {length}");
        }
    }

    #[test]
    fn a_missing_or_foreign_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        assert!(matches!(Wal::open(&path, 5, false), Err(WalError::Missing { .. })));
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(Wal::open(&path, 5, true), Err(WalError::Kind { .. })));
    }
}
