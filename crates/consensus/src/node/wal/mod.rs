//! The log on disk: what this validator said and saw about the block being decided.
//!
//! Two files take turns, one for even and one for odd heights, so that while one is begun anew the other still tells how
//! far the log had come. What [`Wal::sync`] returned for survives loss of power. A torn end is cut off when a file is
//! opened; what was durable and is not readable any more, and a log that is older than the chain's data, are refused: a
//! validator that forgot what it signed might sign something else (rules L1 to L4 of docs/spec/consensus.md).
//!
//! What nothing on the same disk can tell: that both files were put back to, or cut to, how they once were at this height.

mod frame;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use self::frame::Scan;
use crate::message::LogEntry;

/// The first bytes of a file: its kind and version.
const MAGIC: &[u8; 8] = b"CORWAL\x00\x02";
/// Most bytes of a file. A height with more rounds than that has never been.
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
    /// The disk is full.
    #[error("there is no space left for the consensus log {}: free some and start again, nothing is lost", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another kind of file.
    #[error("{} is no consensus log of this version", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The chain's data is older than the log.
    #[error(
        "the consensus log {} is about block {log}, but the chain's data ends before block {next}: the data is older \
         than what this validator has signed. Start with --follow until block {log} is there, then without",
        path.display()
    )]
    Ahead {
        /// The log.
        path: PathBuf,
        /// The height that it is about.
        log: u64,
        /// The height that the data says comes next.
        next: u64,
    },
    /// There is data but no log, or an older one.
    #[error(
        "the consensus log {} {found}, but the chain's data ends before block {next}: this validator might contradict \
         what it has signed. Start with --follow until the chain has gone on, then without; or, when no other copy of \
         this validator has run in the last minutes, start once with --new-log",
        path.display()
    )]
    Missing {
        /// The log.
        path: PathBuf,
        /// What there is.
        found: String,
        /// The height that the data says comes next.
        next: u64,
    },
    /// What was durable is not readable any more.
    #[error(
        "the consensus log {} is damaged: this validator might contradict what it has signed. Start with --follow until \
         the chain has gone on, then without; if that is refused as well, wait until nothing of before can be pending \
         and start once with --new-log",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What to do with a log that is missing, damaged, or older than the chain's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Refuse it.
    Refused,
    /// The data has gone on while this node signed nothing: what the log was about is decided.
    GoneOn,
    /// Begin a new one.
    New,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Wal {
    files: [Arc<File>; 2],
    path: PathBuf,
    /// Entries to be written, each with its length.
    pending: Vec<u8>,
    height: u64,
    /// The height's file is to be emptied before anything is written.
    clear: bool,
}

/// The files of a log: of even heights and of odd ones.
fn paths(path: &Path) -> [PathBuf; 2] {
    ["0", "1"].map(|slot| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(slot);
        name.into()
    })
}

fn slot(height: u64) -> usize {
    usize::from(!height.is_multiple_of(2))
}

impl Wal {
    /// Opens the log and reads what it holds about the next block.
    pub(crate) fn open(path: &Path, next: u64, lacking: Lacking) -> Result<(Self, Vec<LogEntry>), WalError> {
        let paths = paths(path);
        let contents = [read(&paths[0])?, read(&paths[1])?];
        let scans =
            [0, 1].map(|slot| contents[slot].as_ref().filter(|bytes| !bytes.is_empty()).map(|bytes| scan(bytes)));
        let missing = contents.iter().all(Option::is_none);
        let resumed = judge(path, next, lacking, missing, &paths, &scans)?;
        let (entries, whole) = match &scans[slot(next)] {
            Some(scan) if resumed => (entries(scan).expect("judged not to be damaged"), scan.whole as u64),
            _ => (Vec::new(), 0),
        };
        let files = [Arc::new(open_file(&paths[0])?), Arc::new(open_file(&paths[1])?)];
        let mut wal = Self { files, path: path.to_owned(), pending: Vec::new(), height: next, clear: !resumed };
        if resumed {
            let mut file: &File = &wal.files[slot(next)];
            let cut = file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0)));
            cut.map_err(|source| wal.failed(source))?;
        }
        if !resumed {
            wal.begin(next);
        }
        Ok((wal, entries))
    }

    /// Removes a log's files.
    pub(crate) fn remove(path: &Path) -> Result<(), WalError> {
        for path in paths(path) {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(WalError::Io { path, source }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets the height before the last one and begins with this height, from the next [`Wal::sync`] on.
    pub(crate) fn begin(&mut self, height: u64) {
        self.clear = true;
        self.height = height;
        self.pending.clear();
    }

    /// The height that it is about.
    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    /// Adds an entry, which is durable after the next [`Wal::sync`].
    pub(crate) fn append(&mut self, entry: &LogEntry) {
        let content = entry.encode();
        let length = u32::try_from(content.len()).expect("an entry holds one block at most");
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(&content);
    }

    /// Makes everything added durable, and that this height has begun.
    pub(crate) async fn sync(&mut self) -> Result<(), WalError> {
        if self.pending.is_empty() && !self.clear {
            return Ok(());
        }
        let (file, clear) = (Arc::clone(&self.files[slot(self.height)]), self.clear);
        let frame = frame::encode(self.height, &std::mem::take(&mut self.pending));
        self.clear = false;
        let written = tokio::task::spawn_blocking(move || write(&file, &frame, clear)).await;
        written.map_err(|error| self.failed(io::Error::other(error)))?.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> WalError {
        let path = paths(&self.path)[slot(self.height)].clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WalError::Full { path },
            _ => WalError::Io { path, source },
        }
    }
}

/// Whether the log goes on with the next block (true) or is begun with it (false), or why it cannot be used.
fn judge(
    path: &Path,
    next: u64,
    lacking: Lacking,
    missing: bool,
    paths: &[PathBuf; 2],
    scans: &[Option<Scan<'_>>; 2],
) -> Result<bool, WalError> {
    let newest = scans.iter().flatten().filter_map(|scan| scan.height).max();
    if let Some(log) = newest.filter(|newest| *newest > next) {
        return Err(WalError::Ahead { path: path.to_owned(), log, next });
    }
    if lacking == Lacking::New {
        return Ok(newest == Some(next) && !scans.iter().flatten().any(|scan| scan.damaged));
    }
    for (path, scan) in paths.iter().zip(scans) {
        let Some(scan) = scan else { continue };
        let over = lacking == Lacking::GoneOn && scan.height.is_some_and(|height| height < next);
        if scan.damaged && !over {
            return Err(WalError::Damaged { path: path.clone() });
        }
    }
    let (path, found) = match newest {
        Some(newest) if newest + 1 >= next => return Ok(newest == next),
        _ if lacking == Lacking::GoneOn => return Ok(false),
        Some(newest) => (path.to_owned(), format!("is about block {newest}")),
        None if missing => (path.to_owned(), "is missing".to_owned()),
        None => (path.to_owned(), "is empty".to_owned()),
    };
    Err(WalError::Missing { path, found, next })
}

/// What a file holds; nothing if it was never synced, none if there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, WalError> {
    let failed = |source| WalError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::Error::other("longer than any log")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    // The first sync writes the first bytes and a frame at once.
    if bytes.len() < MAGIC.len() || bytes.iter().all(|byte| *byte == 0) {
        bytes.clear();
    } else if !bytes.starts_with(MAGIC) {
        return Err(WalError::Kind { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

fn open_file(path: &Path) -> Result<File, WalError> {
    let failed = |source| WalError::Io { path: path.to_owned(), source };
    let created = !path.exists();
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    if created && let Some(folder) = path.parent() {
        // The file's name has to survive, too.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(file)
}

fn write(mut file: &File, frame: &[u8], clear: bool) -> io::Result<()> {
    if clear {
        // Old records may come back after a crash in between; they are recognised by their height.
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[MAGIC, frame].concat())?;
    } else {
        file.write_all(frame)?;
    }
    file.sync_data()
}

/// A file's frames. One whose checksum holds but that is no list of entries counts as damaged, too: what it was about is not
/// known.
fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut scan = frame::scan(bytes, MAGIC.len());
    scan.damaged |= entries(&scan).is_none();
    scan
}

/// The entries of all frames; none if something in them is no entry.
fn entries(scan: &Scan<'_>) -> Option<Vec<LogEntry>> {
    let mut entries = Vec::new();
    for frame in &scan.frames {
        let mut rest = frame.content;
        while !rest.is_empty() {
            let (length, more) = rest.split_first_chunk()?;
            let (entry, more) = more.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            entries.push(LogEntry::decode(entry).ok()?);
            rest = more;
        }
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes};

    use super::*;

    const REFUSED: Lacking = Lacking::Refused;

    fn entry(byte: u8) -> LogEntry {
        LogEntry::Block { hash: B256::repeat_byte(byte), bytes: Bytes::from(vec![byte; 100]) }
    }

    /// The height before, then `count` entries about this one, each synced by itself.
    async fn written(path: &Path, height: u64, count: u8) -> PathBuf {
        let (mut wal, _) = Wal::open(path, height - 1, Lacking::New).unwrap();
        wal.append(&entry(99));
        wal.sync().await.unwrap();
        wal.begin(height);
        for byte in 0..count {
            wal.append(&entry(byte));
            wal.sync().await.unwrap();
        }
        paths(path)[slot(height)].clone()
    }

    #[tokio::test]
    async fn what_was_synced_comes_back_for_its_height_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        written(&path, 7, 3).await;
        let (mut wal, entries) = Wal::open(&path, 7, REFUSED).unwrap();
        assert_eq!(entries, [entry(0), entry(1), entry(2)]);
        wal.append(&entry(3));
        wal.sync().await.unwrap();
        assert_eq!(Wal::open(&path, 7, REFUSED).unwrap().1.len(), 4);
        wal.begin(8);
        wal.append(&entry(9));
        wal.sync().await.unwrap();
        assert_eq!(Wal::open(&path, 8, REFUSED).unwrap().1, [entry(9)]);
        assert!(matches!(Wal::open(&path, 7, REFUSED), Err(WalError::Ahead { log: 8, next: 7, .. })));
        assert!(matches!(Wal::open(&path, 7, Lacking::New), Err(WalError::Ahead { .. })));
        assert!(Wal::open(&path, 9, REFUSED).unwrap().1.is_empty());
    }

    #[tokio::test]
    async fn a_torn_end_is_cut_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let file = written(&path, 7, 3).await;
        let whole = std::fs::read(&file).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            let (mut wal, entries) = Wal::open(&path, 7, REFUSED).unwrap();
            let expect: Vec<_> = (0..3).map(entry).take(entries.len()).collect();
            assert_eq!(entries, expect);
            wal.append(&entry(8));
            wal.sync().await.unwrap();
            let again = Wal::open(&path, 7, REFUSED).unwrap().1;
            assert_eq!(again.len(), entries.len() + 1, "cut at {length}");
        }
    }

    #[tokio::test]
    async fn a_changed_byte_is_refused_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let last = written(&path, 7, 3).await;
        let expect = Wal::open(&path, 7, REFUSED).unwrap().1;
        for file in [last, paths(&path)[slot(6)].clone()] {
            let whole = std::fs::read(&file).unwrap();
            for place in 0..whole.len() {
                let mut changed = whole.clone();
                changed[place] ^= 1;
                std::fs::write(&file, &changed).unwrap();
                match Wal::open(&path, 7, REFUSED) {
                    Ok((_, entries)) => assert_eq!(entries, expect, "byte {place}"),
                    Err(WalError::Damaged { .. } | WalError::Kind { .. }) => {}
                    Err(other) => panic!("byte {place}: {other}"),
                }
            }
            std::fs::write(&file, &whole).unwrap();
        }
    }

    #[tokio::test]
    async fn a_log_that_is_missing_emptied_or_behind_is_refused_until_the_chain_has_gone_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let refused = |next, expect: &str| {
            let error = Wal::open(&path, next, REFUSED).unwrap_err().to_string();
            assert!(error.contains(expect), "{error} does not mention {expect}");
        };
        refused(5, "is missing");
        for path in paths(&path) {
            std::fs::write(path, b"").unwrap();
        }
        refused(5, "is empty");
        written(&path, 7, 1).await;
        refused(9, "is about block 7");
        assert!(Wal::open(&path, 9, Lacking::GoneOn).unwrap().1.is_empty());
        let mut damaged = std::fs::read(&paths(&path)[1]).unwrap();
        damaged[60] ^= 1;
        let second = [damaged.clone(), frame::encode(7, b"")].concat();
        std::fs::write(&paths(&path)[1], &second).unwrap();
        refused(7, "damaged");
        assert!(Wal::open(&path, 7, Lacking::GoneOn).is_err());
        assert!(Wal::open(&path, 8, Lacking::GoneOn).is_ok());
        std::fs::write(&paths(&path)[1], b"something else").unwrap();
        assert!(matches!(Wal::open(&path, 7, Lacking::New), Err(WalError::Kind { .. })));
    }

    /// A checksum says that a frame is as it was written, not that this program can read it.
    #[tokio::test]
    async fn what_cannot_be_read_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        let file = written(&path, 7, 2).await;
        let whole = std::fs::read(&file).unwrap();
        for content in [b"\0\0\0\x01\xff".as_slice(), b"\0\0\0\x09cut", b"\0\0"] {
            std::fs::write(&file, [whole.clone(), frame::encode(7, content)].concat()).unwrap();
            assert!(matches!(Wal::open(&path, 7, REFUSED), Err(WalError::Damaged { .. })), "{content:?}");
            assert!(Wal::open(&path, 7, Lacking::New).unwrap().1.is_empty());
        }
    }
}
