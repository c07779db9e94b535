//! Making a database from a copy of a state.
//!
//! Chunks are taken in one after the other into a file beside the real one, each durable with how far it is, so that a
//! killed node goes on where it was. The file becomes the chain's database only once the root of everything taken in
//! is that of the block. What was worked out on the way (roots of incomplete states) stays in it as unused nodes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy::{
    consensus::{EMPTY_ROOT_HASH, Header, Sealable as _, Sealed, constants::KECCAK_EMPTY},
    primitives::{Address, B256, Bytes, keccak256},
    rlp::Decodable as _,
};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use thiserror::Error;

use super::{
    ACCOUNTS, BlockWrite, CERTIFICATES, CODES, FILE_NAME, HEADERS, META, NUMBERS, OpenError, SCHEMA_VERSION, SlotWrite,
    StoreError, StoredHeader,
    generations::{self, Collector, Pace},
    layers::{Layer, Layers},
    record::decode_account,
    snapshot::StoredNodes,
    write,
};
use crate::{
    config::{Config, StatesKept, Storage},
    export::{Manifest, Piece, pieces},
    genesis::genesis_block,
    state::{AccountChange, AccountFields, EthTrieStore, StateStore as _, StateUpdate},
};

/// The file that becomes the database.
const IMPORT_NAME: &str = "import.redb";

/// Why a copy was not taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Chains in memory begin with block 0.
    #[error("a chain without a folder cannot begin with a copy of a state")]
    Memory,
    /// There is a chain already.
    #[error("{} exists: a chain that has begun goes on from where it is", path.display())]
    Exists {
        /// The database.
        path: PathBuf,
    },
    /// The folder or its files cannot be used.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration gives no block 0.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Whoever gave this chunk, or the manifest, lies.
    #[error("chunk {index} is {problem}")]
    Chunk {
        /// Which.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Whoever gave the manifest lies.
    #[error("the chunks make a state with root {found}, that of the block has {expected}")]
    Root {
        /// What they make.
        found: B256,
        /// What the header says.
        expected: B256,
    },
}

impl ImportError {
    /// Whether it is the fault of whoever gave the copy.
    #[must_use]
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::Chunk { .. } | Self::Root { .. })
    }
}

/// The blocks that a chain knows whose state was copied: enough to go on, and to convince others.
#[derive(Clone, Debug)]
pub struct Ancestry {
    /// The block with the state.
    pub block: Header,
    /// What made it final.
    pub certificate: Bytes,
    /// The blocks before it, the newest first; execution looks back at most 256.
    pub parents: Vec<Header>,
    /// The last blocks of earlier epochs with their certificates, by which others follow.
    pub epochs: Vec<(Header, Bytes)>,
}

#[derive(Clone, Debug, RlpEncodable, RlpDecodable)]
struct Progress {
    /// The hash of the manifest that is being taken in.
    manifest: B256,
    chunks: u64,
    root: B256,
}

/// A copy being taken in.
pub struct Import {
    database: Database,
    folder: PathBuf,
    manifest: Manifest,
    progress: Progress,
    genesis: Sealed<Header>,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Import").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Import {
    /// Whether this chain has no database yet, so that it may begin with a copy.
    #[must_use]
    pub fn is_wanted(config: &Config) -> bool {
        matches!(&config.storage, Storage::Directory(folder) if !folder.join(FILE_NAME).exists())
    }

    /// The block whose copy was being taken in when the node last ran.
    #[must_use]
    pub fn unfinished(config: &Config) -> Option<u64> {
        let Storage::Directory(folder) = &config.storage else { return None };
        fs::read_to_string(folder.join("import.block")).ok()?.trim().parse().ok()
    }

    /// Begins to take in a copy, or goes on with it.
    ///
    /// # Errors
    /// When the files cannot be used, or there is a chain already.
    pub fn open(config: &Config, manifest: Manifest) -> Result<Self, ImportError> {
        let Storage::Directory(folder) = &config.storage else { return Err(ImportError::Memory) };
        let path = folder.join(FILE_NAME);
        if path.exists() {
            return Err(ImportError::Exists { path });
        }
        let genesis = genesis_block(config, &EthTrieStore)?.header;
        let failed = |source| ImportError::Io { path: folder.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        fs::write(folder.join("import.block"), manifest.block.to_string()).map_err(failed)?;
        let hash = keccak256(alloy_rlp::encode(&manifest));
        let path = folder.join(IMPORT_NAME);
        let found = path.exists().then(|| open_database(&path).and_then(|database| Ok((read(&database)?, database))));
        let (progress, database) = match found {
            Some(Ok((Some(progress), database))) if progress.manifest == hash => (progress, database),
            found => {
                // Of another block, or not readable: nothing of it helps.
                drop(found);
                remove(&path)?;
                let progress = Progress { manifest: hash, chunks: 0, root: EMPTY_ROOT_HASH };
                (progress, open_database(&path)?)
            }
        };
        Ok(Self { database, folder: folder.clone(), manifest, progress, genesis })
    }

    /// The chunk that comes next; none when all are there.
    #[must_use]
    pub fn next_chunk(&self) -> Option<u32> {
        let next = usize::try_from(self.progress.chunks).ok().filter(|next| *next < self.manifest.chunks.len())?;
        u32::try_from(next).ok()
    }

    /// Takes in the next chunk. When this returns it is durable.
    ///
    /// # Errors
    /// When it is not the one in the manifest, or cannot be written.
    pub fn add(&mut self, chunk: &[u8]) -> Result<(), ImportError> {
        let index = self.next_chunk().map_or(usize::MAX, |index| index as usize);
        let wrong = |problem| ImportError::Chunk { index, problem };
        let expected = self.manifest.chunks.get(index).ok_or(wrong("more than there are"))?;
        if keccak256(chunk) != *expected {
            return Err(wrong("not what its hash says"));
        }
        let pieces = pieces(chunk).ok_or(wrong("malformed"))?;
        let codes = self.codes(&pieces)?.ok_or(wrong("without a code that it needs"))?;
        let changes = self.changes(pieces)?.ok_or(wrong("not in order"))?;
        let nodes = self.nodes()?;
        let update = EthTrieStore.apply(&nodes, self.progress.root, &changes).map_err(StoreError::from)?;
        drop(nodes);
        self.progress.chunks += 1;
        self.progress.root = update.root;
        self.write(codes, changes, update)?;
        Ok(())
    }

    /// The codes of a chunk; none if one is missing or another.
    fn codes(&self, pieces: &[Piece]) -> Result<Option<Vec<(B256, Bytes)>>, StoreError> {
        let known = self.database.begin_read()?.open_table(CODES)?;
        let mut codes: Vec<(B256, Bytes)> = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.code_hash != KECCAK_EMPTY) {
            let hash = piece.code_hash;
            if piece.code.is_empty() {
                if !codes.iter().any(|(known, _)| *known == hash) && known.get(&hash.0)?.is_none() {
                    return Ok(None);
                }
            } else if keccak256(&piece.code) == hash {
                codes.push((hash, piece.code.clone()));
            } else {
                return Ok(None);
            }
        }
        Ok(Some(codes))
    }

    /// What a chunk adds, account by account; none if an account comes back.
    fn changes(&self, pieces: Vec<Piece>) -> Result<Option<Vec<AccountChange>>, StoreError> {
        let accounts = self.database.begin_read()?.open_table(ACCOUNTS)?;
        let last = accounts.last()?.map(|(address, _)| Address::new(*address.value()));
        let mut changes: Vec<AccountChange> = Vec::new();
        for Piece { address, nonce, balance, code_hash, slots, .. } in pieces {
            let slots = slots.into_iter().map(|one| (one.slot, one.value));
            if let Some(change) = changes.last_mut().filter(|change| change.address == address) {
                change.slots.extend(slots);
                continue;
            }
            let before = accounts.get(&address.0.0)?.map(|record| decode_account(record.value())).transpose()?;
            let previous = changes.last().map(|change| change.address).or(last);
            if previous.is_some_and(|previous| previous > address || previous == address && before.is_none()) {
                return Ok(None);
            }
            let after = Some(AccountFields { nonce, balance, code_hash });
            changes.push(AccountChange { address, before, after, wiped: false, slots: slots.collect() });
        }
        Ok(Some(changes))
    }

    fn nodes(&self) -> Result<StoredNodes, StoreError> {
        StoredNodes::open(&self.database.begin_read()?)
    }

    /// Writes what a chunk adds, as if the block had done it.
    fn write(
        &self,
        codes: Vec<(B256, Bytes)>,
        changes: Vec<AccountChange>,
        state: StateUpdate,
    ) -> Result<(), StoreError> {
        let header = Header { number: self.manifest.block, ..Header::default() };
        let header = Sealed::new_unchecked(header, self.manifest.block_hash);
        let slots = changes.into_iter().filter(|change| !change.slots.is_empty());
        let slots = slots.map(|AccountChange { address, slots, .. }| SlotWrite { address, wiped: false, slots });
        let (slots, transactions, receipts) = (slots.collect(), Vec::new(), Vec::new());
        let mut layers = Layers::default();
        layers.push(Layer::of(BlockWrite { header, size: 0, transactions, receipts, state, slots, codes }));
        let transaction = self.database.begin_write()?;
        write::state(&transaction, &layers)?;
        let collector = Collector::new(StatesKept::All, Pace::with(0), generations::Progress::default());
        collector.write(&transaction, &layers, self.progress.root)?;
        transaction.open_table(META)?.insert("import", alloy_rlp::encode(&self.progress).as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes the chain's database of what was taken in.
    ///
    /// # Errors
    /// When the root is another than the block's, or the files cannot be written.
    pub fn finish(self, ancestry: &Ancestry) -> Result<(), ImportError> {
        let (found, expected) = (self.progress.root, ancestry.block.state_root);
        if found != expected || self.next_chunk().is_some() {
            let folder = self.folder.clone();
            drop(self);
            remove(&folder.join(IMPORT_NAME))?;
            return Err(ImportError::Root { found, expected });
        }
        self.write_ancestry(ancestry)?;
        let Self { database, folder, .. } = self;
        drop(database);
        let failed = |source| ImportError::Io { path: folder.clone(), source };
        fs::rename(folder.join(IMPORT_NAME), folder.join(FILE_NAME)).map_err(failed)?;
        fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        fs::remove_file(folder.join("import.block")).map_err(failed)
    }

    fn write_ancestry(&self, ancestry: &Ancestry) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        let epochs = ancestry.epochs.iter().map(|(header, certificate)| (header, Some(certificate)));
        let parents = ancestry.parents.iter().map(|header| (header, None));
        let block = (&ancestry.block, Some(&ancestry.certificate));
        for (header, certificate) in parents.chain(epochs).chain([block, (self.genesis.inner(), None)]) {
            let header = header.clone().seal_slow();
            // Their bodies are not here, nor therefore their sizes.
            let record = StoredHeader::encode(&header, 0, 0);
            transaction.open_table(HEADERS)?.insert(header.number, record.as_slice())?;
            transaction.open_table(NUMBERS)?.insert(&header.hash().0, header.number)?;
            if let Some(certificate) = certificate {
                transaction.open_table(CERTIFICATES)?.insert(header.number, certificate.as_ref())?;
            }
        }
        transaction.open_table(META)?.remove("import")?;
        transaction.commit()?;
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let database = Database::builder().set_check_integrity_on_open(true).create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("schema", SCHEMA_VERSION.to_be_bytes().as_slice())?;
    write::create_tables(&transaction)?;
    transaction.commit()?;
    Ok(database)
}

fn read(database: &Database) -> Result<Option<Progress>, StoreError> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get("import")?.and_then(|record| Progress::decode(&mut record.value()).ok()))
}

fn remove(path: &Path) -> Result<(), ImportError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ImportError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
