//! The database: blocks, receipts, indices, code, current state and trie nodes in one redb file.
//!
//! Guarantees: [`Store::commit`] writes a block with its transactions, receipts and certificate in one transaction with
//! immediate durability, so after a crash a block is there completely or not at all; a [`Snapshot`] shows the chain
//! exactly as it was after one block, whatever is committed meanwhile. The state that follows from a block waits in memory
//! (`layers.rs`) and is written with that of its neighbours; whoever opens the database executes again what was not
//! written (`replay.rs`). The trie nodes of the last states are kept, or those of all (`generations.rs`); blocks and receipts
//! are kept for ever. Opening verifies the whole file before anything is served, which takes time
//! in proportion to its size. It interprets no transaction.

mod copying;
mod export;
mod generations;
mod import;
mod layers;
#[cfg(test)]
mod pruned;
mod record;
mod snapshot;
mod write;

pub use import::{Ancestry, Import, ImportError};
pub(crate) use record::{Receipt, StoredHeader};
pub(crate) use snapshot::Snapshot;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use alloy::{
    consensus::{Header, Sealed},
    primitives::{Address, B256, Bytes, U256},
};
use parking_lot::{Mutex, RwLock};
use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use revm::bytecode::Bytecode;
use thiserror::Error;

use self::{
    generations::{Collector, Pace, Progress},
    layers::{Layer, Layers, NodeCache},
    snapshot::StoredNodes,
};
use crate::{
    config::{Config, StatesKept, Storage},
    state::StateUpdate,
    transaction::VerifiedTransaction,
};

/// The layout below; a file with another number is refused.
const SCHEMA_VERSION: u64 = 3;
/// The layout without a second generation of trie nodes: all its tables are those of today.
const SCHEMA_ONE_GENERATION: u64 = 2;
/// The name of the database inside its directory.
const FILE_NAME: &str = "chain.redb";
/// Contracts whose analysed code is kept in memory.
const CODE_CACHE_ENTRIES: usize = 1_024;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const HEADERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("headers");
const NUMBERS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("numbers");
const TRANSACTIONS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("transactions");
const RECEIPTS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("receipts");
const POSITIONS: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("positions");
const CERTIFICATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("certificates");
const CODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("codes");
const ACCOUNTS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("accounts");
const SLOTS: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("slots");
const NODES: TableDefinition<'_, &[u8; 32], (u64, u32)> = TableDefinition::new("nodes");
const NODE_CHUNKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("node chunks");

/// The block in META whose state the tables show.
const STATE_NUMBER: &str = "state";

/// A database operation that failed. The chain stops making blocks when it sees one: guessing would be worse.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    /// The disk is full.
    #[error("there is no space left for the chain's data: free some and start again, nothing is lost")]
    Full,
    /// The node began with a copy of a later state.
    #[error("block {number} is not kept by this node, which began with a copy of a later state")]
    NotKept {
        /// Which block.
        number: u64,
    },
    /// A record does not decode.
    #[error("the database holds a damaged {what}")]
    Damaged {
        /// Which kind of record.
        what: &'static str,
    },
    /// The state is incomplete.
    #[error("the state could not be read")]
    State(#[from] crate::state::StateError),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error) if is_full(&error) => Self::Full,
            error => Self::Database(Box::new(error)),
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl revm::database_interface::DBErrorMarker for StoreError {}

/// Why a database could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be created.
    #[error("cannot create {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the file open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not as it was written.
    #[error(
        "{} is damaged: {reason}. Move its folder away and start again, so that the blocks are fetched from peers; a \
         validator keeps its consensus log. An older copy of the folder will do as well",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// The file has another layout.
    #[error("the data was written by another version (layout {found}, expected {SCHEMA_VERSION})")]
    Schema {
        /// The layout found.
        found: u64,
    },
    /// The file belongs to another chain.
    #[error("the data belongs to the chain with genesis {found}, not to the configured one with genesis {expected}")]
    Genesis {
        /// The genesis hash found.
        found: B256,
        /// The genesis hash that the configuration gives.
        expected: B256,
    },
    /// A stored block does not give its own header when it is executed.
    #[error(
        "block {number} does not follow from the state before it; restore the data from a copy, or remove it and let this node catch up"
    )]
    Replay {
        /// The block.
        number: u64,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A block with everything that its execution produced, ready to be written.
#[derive(Debug)]
pub(crate) struct BlockWrite {
    pub(crate) header: Sealed<Header>,
    /// Bytes of the block's encoding.
    pub(crate) size: u64,
    pub(crate) transactions: Vec<Arc<VerifiedTransaction>>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) state: StateUpdate,
    /// Per account: whether its slots are erased first, and the slots written.
    pub(crate) slots: Vec<SlotWrite>,
    pub(crate) codes: Vec<(B256, Bytes)>,
}

/// What a block did to the slots of one account.
#[derive(Debug)]
pub(crate) struct SlotWrite {
    pub(crate) address: Address,
    pub(crate) wiped: bool,
    pub(crate) slots: Vec<(U256, U256)>,
}

/// Analysed code by hash. Analysis walks the whole code, so it is done once per contract, not once per call.
#[derive(Debug, Default)]
pub(crate) struct CodeCache(RwLock<HashMap<B256, Bytecode>>);

impl CodeCache {
    fn get(&self, hash: B256) -> Option<Bytecode> {
        self.0.read().get(&hash).cloned()
    }

    fn put(&self, hash: B256, code: Bytecode) {
        let mut entries = self.0.write();
        if entries.len() >= CODE_CACHE_ENTRIES {
            entries.clear();
        }
        entries.insert(hash, code);
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
    codes: Arc<CodeCache>,
    cache: Arc<NodeCache>,
    /// What the tables do not show yet.
    layers: Mutex<Layers>,
    kept: StatesKept,
    collector: Mutex<Collector>,
}

impl Store {
    /// Opens the database, creating it when there is none.
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let mut builder = Database::builder();
        // Without the check a file that was changed from outside would make the database panic some time later.
        builder
            .set_cache_size(config.limits.database_cache_bytes)
            .set_check_integrity_on_open(true)
            .set_repair_callback(|session| {
                let percent = session.progress() * 100.0;
                tracing::info!("checking the chain's data: {percent:.0} % done");
            });
        let database = match &config.storage {
            Storage::Memory => {
                builder.create_with_backend(redb::backends::InMemoryBackend::new()).map_err(StoreError::from)?
            }
            Storage::Directory(directory) => open_file(&builder, directory.clone())?,
        };
        Self::on(database, config.states, Pace::with(config.limits.node_bytes_min))
    }

    fn on(database: Database, kept: StatesKept, pace: Pace) -> Result<Self, OpenError> {
        check_schema(&database)?;
        let progress = Progress::read(&database.begin_read().map_err(StoreError::from)?)?;
        let collector = Mutex::new(Collector::new(kept, pace, progress));
        let layers = Mutex::default();
        Ok(Self { database, codes: Arc::default(), cache: Arc::default(), layers, kept, collector })
    }

    /// The chain as of the last block whose state is known, which is the last one unless the data was just opened; none when
    /// there is not even a genesis block.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let layers = self.layers.lock().clone();
        let (codes, cache) = (Arc::clone(&self.codes), Arc::clone(&self.cache));
        Snapshot::open(&self.database.begin_read()?, layers, codes, cache, self.kept)
    }

    /// Writes one block. When this returns, the block survives a crash of the process or the machine.
    pub(crate) fn commit(&self, block: BlockWrite, certificate: &[u8]) -> Result<(), StoreError> {
        let (genesis, root) = (block.header.number == 0, block.header.state_root);
        let mut collector = self.collector.lock();
        if collector.is_copying() {
            collector.read_ahead(&StoredNodes::open(&self.database.begin_read()?)?, block.state.nodes.len())?;
        }
        let transaction = self.database.begin_write()?;
        write::block(&transaction, &block, certificate)?;
        let layers = self.with(block);
        if !genesis && !layers.are_full() {
            transaction.commit()?;
            self.stand_on(layers, false);
            return Ok(());
        }
        write::state(&transaction, &layers)?;
        let progress = collector.write(&transaction, &layers, root)?;
        transaction.commit()?;
        collector.written(progress);
        self.stand_on(layers, true);
        Ok(())
    }

    /// Takes in the state of a block that is stored already.
    pub(crate) fn restore(&self, block: BlockWrite) {
        let layers = self.with(block);
        self.stand_on(layers, false);
    }

    /// The layers with one more.
    fn with(&self, block: BlockWrite) -> Layers {
        for (hash, code) in &block.codes {
            self.codes.put(*hash, Bytecode::new_raw(code.clone()));
        }
        let mut layers = self.layers.lock().clone();
        layers.push(Layer::of(block));
        layers
    }

    fn stand_on(&self, layers: Layers, settled: bool) {
        if !settled {
            *self.layers.lock() = layers;
            return;
        }
        for (hash, node) in layers.oldest_first().flat_map(|layer| &layer.nodes) {
            self.cache.put(*hash, node);
        }
        *self.layers.lock() = Layers::default();
    }
}

/// Makes the tables of a new database, or sees whether these are ours.
fn check_schema(database: &Database) -> Result<(), OpenError> {
    let write = || -> Result<Option<u64>, StoreError> {
        let transaction = database.begin_write()?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("schema")?.map(|value| value.value().try_into().map(u64::from_be_bytes)).transpose();
        let found = found.map_err(|_| StoreError::Damaged { what: "layout number" })?;
        if found.is_none_or(|found| found == SCHEMA_ONE_GENERATION) {
            meta.insert("schema", SCHEMA_VERSION.to_be_bytes().as_slice())?;
            write::create_tables(&transaction)?;
        }
        drop(meta);
        transaction.commit()?;
        Ok(found)
    };
    match write()? {
        Some(found) if found != SCHEMA_VERSION && found != SCHEMA_ONE_GENERATION => Err(OpenError::Schema { found }),
        _ => Ok(()),
    }
}

fn open_file(builder: &Builder, directory: PathBuf) -> Result<Database, OpenError> {
    if let Err(source) = std::fs::create_dir_all(&directory) {
        return Err(OpenError::Directory { path: directory, source });
    }
    let path = directory.join(FILE_NAME);
    match builder.create(&path) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(OpenError::InUse { path }),
        Err(error) => Err(match error.into() {
            redb::Error::Io(error) if is_full(&error) => StoreError::Full.into(),
            redb::Error::Io(error) if !is_damage(&error) => {
                OpenError::File { path, source: Box::new(redb::Error::Io(error)) }
            }
            other => OpenError::Damaged { path, reason: other.to_string() },
        }),
    }
}

/// What reading says of a file that is no database, or cut short.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// The block whose state the tables show; none before block 0 is written.
fn state_number(transaction: &redb::ReadTransaction) -> Result<Option<u64>, StoreError> {
    let number = transaction.open_table(META)?.get(STATE_NUMBER)?;
    let number = number.map(|number| number.value().try_into().map(u64::from_be_bytes)).transpose();
    number.map_err(|_| StoreError::Damaged { what: "number of the state's block" })
}

fn slot_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}
