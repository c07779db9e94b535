//! Which log a node goes on with.
//!
//! A node without the validator's key signs nothing, so it needs no log of before; but it notes where it began to follow.
//! Once the chain has gone on from there, whatever the validator's log was about is decided, and the validator
//! may begin a new one, also where the old one is damaged or missing (rule L4 of docs/spec/consensus.md).

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::{
    BftConfig,
    wal::{Lacking, Wal, WalError},
};
use crate::message::LogEntry;

/// The log that this node writes from block `next` on, with what it holds about it.
pub(super) async fn open_log(config: &BftConfig, next: u64) -> Result<(Wal, Vec<LogEntry>), WalError> {
    let note = config.log.with_extension("followed");
    let failed = |source| WalError::Io { path: note.clone(), source };
    let since = read(&note).map_err(failed)?;
    if config.signer.is_none() {
        if since.is_none() {
            write(&note, next).map_err(failed)?;
        }
        return follow(&config.log.with_extension("following"), next);
    }
    let gone_on = next == 1 || since.is_some_and(|since| since < next);
    let lacking = match (config.new_log, gone_on) {
        (true, _) => Lacking::New,
        (false, true) => Lacking::GoneOn,
        (false, false) => Lacking::Refused,
    };
    let (mut wal, entries) = Wal::open(&config.log, next, lacking)?;
    if since.is_some() {
        // From here on something may be signed; the note is not needed any more, since the log says so itself.
        wal.sync().await?;
        fs::remove_file(&note).map_err(failed)?;
    }
    Ok((wal, entries))
}

/// Notes that the data came from others up to wherever it is now, not from this validator's own work.
///
/// # Errors
/// When the note cannot be written.
pub fn note_followed(log: &Path) -> io::Result<()> {
    write(&log.with_extension("followed"), 1)
}

/// A log for this run only.
fn follow(path: &Path, next: u64) -> Result<(Wal, Vec<LogEntry>), WalError> {
    Wal::remove(path)?;
    Wal::open(path, next, Lacking::New)
}

/// The block before which this node began to follow, if it did since the validator last ran.
fn read(note: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(note) {
        // A note that was not finished was never relied on.
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(note: &Path, next: u64) -> io::Result<()> {
    let mut file = File::create(note)?;
    writeln!(file, "{next}")?;
    file.sync_all()
}
