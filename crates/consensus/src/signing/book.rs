//! What a signer has signed, on disk: it signs nothing lower, and nothing different.
//!
//! Of the highest height every statement is kept, so that a validator that replays its log gets the same signatures again. Written and
//! synced before a signature leaves.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::wire::Place;

/// Most statements of one height: three for each of more rounds than ever come.
const STATEMENTS_MAX: usize = 30_000;

/// Why something is not signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum Refusal {
    #[error("height {height}, round {round}, step {step} is before what was signed already")]
    Past { height: u64, round: u32, step: u8 },
    #[error("something different was signed at height {height}, round {round}, step {step}")]
    Different { height: u64, round: u32, step: u8 },
    #[error("too many statements at one height")]
    TooMany,
    #[error("what was signed could not be written down: {0}")]
    Write(io::Error),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    height: u64,
    /// By round and step.
    statements: BTreeMap<u32, BTreeMap<u8, B256>>,
}

/// The book of one key, open in one process only.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    signed: Signed,
    _lock: File,
}

impl Book {
    /// Opens the book, or begins one. One that is damaged, or open elsewhere, is refused.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
        let taken = |error| io::Error::other(format!("{} is in use by another signer: {error}", path.display()));
        lock.try_lock().map_err(taken)?;
        let signed = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Signed::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), signed, _lock: lock })
    }

    /// Notes that this digest is about to be signed, if it may be.
    pub(super) fn admit(&mut self, place: Place, digest: B256) -> Result<(), Refusal> {
        let Place { height, round, step } = place;
        if height < self.signed.height {
            return Err(Refusal::Past { height, round, step });
        }
        let mut next =
            if height > self.signed.height { Signed { height, ..Signed::default() } } else { self.signed.clone() };
        match next.statements.get(&round).and_then(|steps| steps.get(&step)) {
            Some(signed) if *signed == digest => return Ok(()),
            Some(_) => return Err(Refusal::Different { height, round, step }),
            None => {}
        }
        let last =
            next.statements.last_key_value().and_then(|(round, steps)| Some((*round, *steps.last_key_value()?.0)));
        if last.is_some_and(|last| (round, step) < last) {
            return Err(Refusal::Past { height, round, step });
        }
        if next.statements.values().map(BTreeMap::len).sum::<usize>() >= STATEMENTS_MAX {
            return Err(Refusal::TooMany);
        }
        next.statements.entry(round).or_default().insert(step, digest);
        self.write(&next).map_err(Refusal::Write)?;
        self.signed = next;
        Ok(())
    }

    fn write(&self, signed: &Signed) -> io::Result<()> {
        let draft = self.path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(signed).expect("plain values have a JSON form"))?;
        File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(height: u64, round: u32, step: u8) -> Place {
        Place { height, round, step }
    }

    #[test]
    fn nothing_lower_and_nothing_different_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signed.json");
        let (a, b) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let mut book = Book::open(&path).unwrap();
        assert!(Book::open(&path).is_err(), "one at a time");
        for step in 0..3 {
            book.admit(place(7, 0, step), a).unwrap();
        }
        book.admit(place(7, 2, 1), b).unwrap();
        drop(book);
        let mut book = Book::open(&path).unwrap();
        book.admit(place(7, 0, 1), a).expect("the same again");
        assert!(matches!(book.admit(place(7, 0, 1), b), Err(Refusal::Different { .. })));
        assert!(matches!(book.admit(place(7, 1, 1), a), Err(Refusal::Past { .. })), "a round that was left out");
        assert!(matches!(book.admit(place(6, 9, 2), a), Err(Refusal::Past { .. })));
        book.admit(place(8, 0, 1), b).unwrap();
        assert!(matches!(book.admit(place(7, 0, 1), a), Err(Refusal::Past { .. })), "the height is over");
        drop(book);
        std::fs::write(&path, "{").unwrap();
        assert!(Book::open(&path).is_err(), "a damaged book is not begun anew");
    }
}
