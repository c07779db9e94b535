//! A small durable store with group commit: many tasks hand in writes, one thread commits them together, and each is
//! told once its writes are on disk.
//!
//! Guarantee: a write that was acknowledged survives a kill of the process and a loss of power (one `fsync` per batch).
//! A batch is one transaction: it is there whole or not at all.

use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;

/// A table of the store. Keys and values are bytes; their types live with their owners.
pub type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(TableName, Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(TableName, Vec<u8>),
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Name of a table, as it is kept in a [`Write`].
pub type TableName = &'static str;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or written: permissions, a full disk, another process.
    #[error(
        "the data file cannot be used: check that the disk has room, that the folder is writable and that no other process runs on it"
    )]
    Database(#[source] Box<redb::Error>),
    /// The folder cannot be made.
    #[error("the data folder cannot be made")]
    Folder(#[source] std::io::Error),
    /// What is stored does not decode.
    #[error("the data file holds a {what} that this version cannot read")]
    Corrupt {
        /// What kind of record.
        what: &'static str,
    },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// The store.
#[derive(Debug)]
pub struct Journal {
    database: Database,
}

const fn table(name: &'static str) -> Table {
    TableDefinition::new(name)
}

impl Journal {
    /// Opens the store, making the file and its tables where they are missing.
    ///
    /// # Errors
    /// When the folder or the file cannot be used.
    pub fn open(path: &Path, tables: &[TableName]) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(StoreError::Folder)?;
        }
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        for name in tables {
            transaction.open_table(table(name))?;
        }
        transaction.commit()?;
        Ok(Self { database })
    }

    /// Commits all writes as one durable transaction, in order.
    ///
    /// # Errors
    /// When the disk refuses; then none of them is stored.
    pub fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        for write in writes {
            match write {
                Write::Put(name, key, value) => {
                    transaction.open_table(table(name))?.insert(key.as_slice(), value.as_slice())?;
                }
                Write::Delete(name, key) => {
                    transaction.open_table(table(name))?.remove(key.as_slice())?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// As [`Self::commit`], but does not trouble the disk for nothing.
    ///
    /// # Errors
    /// When the disk refuses; then none of them is stored.
    pub fn commit_if_any(&self, writes: &[Write]) -> Result<(), StoreError> {
        if writes.is_empty() { Ok(()) } else { self.commit(writes) }
    }

    /// One value.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, name: TableName, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.database.begin_read()?.open_table(table(name))?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    /// Every entry whose key begins with `prefix`, in order of keys, at most `limit`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn scan(&self, name: TableName, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let table = self.database.begin_read()?.open_table(table(name))?;
        let mut found = Vec::new();
        for entry in table.range(prefix..)? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) || found.len() == limit {
                break;
            }
            found.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(found)
    }
}

/// Encodes a record.
#[must_use]
pub fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("postcard encodes every record type into a growing buffer")
}

/// Decodes a record.
///
/// # Errors
/// When the bytes are not such a record.
pub fn decode<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Corrupt { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TableName = "a";

    #[test]
    fn committed_writes_are_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/store.redb");
        let journal = Journal::open(&path, &[A]).unwrap();
        let put = |k: &[u8], v: &[u8]| Write::Put(A, k.to_vec(), v.to_vec());
        journal.commit(&[put(b"k1", b"1"), put(b"k2", b"2"), put(b"l", b"3")]).unwrap();
        journal.commit(&[Write::Delete(A, b"k1".to_vec())]).unwrap();
        drop(journal);
        let journal = Journal::open(&path, &[A]).unwrap();
        assert_eq!(journal.get(A, b"k1").unwrap(), None);
        assert_eq!(journal.scan(A, b"k", 9).unwrap(), vec![(b"k2".to_vec(), b"2".to_vec())]);
        assert_eq!(journal.scan(A, b"", 1).unwrap().len(), 1);
    }

    #[test]
    fn a_second_process_on_the_same_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let _first = Journal::open(&path, &[A]).unwrap();
        assert!(matches!(Journal::open(&path, &[A]), Err(StoreError::Database(_))));
    }
}
