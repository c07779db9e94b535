//! Tests of pruning: random blocks against a model that forgets nothing, cut off at any write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use alloy::{
    consensus::{EMPTY_ROOT_HASH, Header, Sealable as _, TrieAccount, constants::KECCAK_EMPTY},
    primitives::{Address, B256, U256, keccak256},
};
use parking_lot::Mutex;
use proptest::{collection::vec, prelude::*};
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend};

use super::{
    BlockWrite, META, OpenError, SCHEMA_ONE_GENERATION, SlotWrite, Store,
    generations::{Pace, Progress, TABLES},
};
use crate::{
    config::StatesKept,
    nodes::{Reference, references},
    state::{AccountChange, AccountFields, EthTrieStore, NodeReader, StateError, StateStore as _, StateUpdate},
};

/// Bytes in memory that outlive the database on them. After so many writes every further one fails: as if the process had
/// been killed there.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// None while nothing is to fail.
    writes_left: Option<Arc<AtomicU64>>,
    writes: Arc<AtomicU64>,
}

impl Disk {
    fn cut_after(&self, writes: u64) -> Self {
        Self { writes_left: Some(Arc::new(AtomicU64::new(writes))), ..self.clone() }
    }

    fn use_up(&self) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let Some(left) = &self.writes_left else { return Ok(()) };
        let one_less = |left: u64| left.checked_sub(1);
        let outcome = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        outcome.map(|_| ()).map_err(|_| io::Error::other("cut off"))
    }

    fn open(&self, kept: StatesKept, pace: Pace) -> Result<Store, OpenError> {
        let database = Database::builder().create_with_backend(self.clone()).map_err(super::StoreError::from)?;
        Store::on(database, kept, pace)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.use_up()?;
        self.bytes.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.use_up()?;
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// One account touched by a block: which, one of its slots, and a value. Few of each, so that nodes come back, and are in
/// several places at once.
type Touch = (u8, u8, u8);

/// A chain of blocks with every node that there ever was.
#[derive(Default)]
struct Model {
    accounts: BTreeMap<Address, TrieAccount>,
    nodes: HashMap<B256, Vec<u8>>,
    blocks: Vec<(Header, Vec<AccountChange>, StateUpdate)>,
}

impl NodeReader for Model {
    fn node(&self, hash: B256) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.nodes.get(&hash).cloned())
    }
}

impl Model {
    fn of(blocks: &[Vec<Touch>]) -> Self {
        let mut model = Self::default();
        for touches in blocks {
            model.push(touches);
        }
        model
    }

    fn root(&self) -> B256 {
        self.blocks.last().map_or(EMPTY_ROOT_HASH, |(header, ..)| header.state_root)
    }

    fn push(&mut self, touches: &[Touch]) {
        let touches: BTreeMap<u8, Touch> = touches.iter().map(|touch| (touch.0, *touch)).collect();
        let changes: Vec<_> = touches.into_values().map(|touch| self.change(touch)).collect();
        let update = EthTrieStore.apply(self, self.root(), &changes).unwrap();
        for (address, account) in &update.accounts {
            match account {
                Some(account) => self.accounts.insert(*address, *account),
                None => self.accounts.remove(address),
            };
        }
        self.nodes.extend(update.nodes.clone());
        let number = self.blocks.len() as u64;
        self.blocks.push((Header { number, state_root: update.root, ..Header::default() }, changes, update));
    }

    fn change(&self, (account, slot, value): Touch) -> AccountChange {
        let address = Address::from_word(keccak256([account]));
        let gone = slot == 0 && value == 0;
        let fields = AccountFields { nonce: u64::from(value % 3), balance: U256::from(1), code_hash: KECCAK_EMPTY };
        let slots = [(U256::from(slot), U256::from(value)), (U256::from(slot + 1), U256::from(value / 2))];
        AccountChange {
            address,
            before: self.accounts.get(&address).copied(),
            after: (!gone).then_some(fields),
            wiped: gone,
            slots: if gone { Vec::new() } else { slots.to_vec() },
        }
    }

    fn write(&self, number: usize) -> BlockWrite {
        let (header, changes, state) = &self.blocks[number];
        let slots = changes.iter().map(|change| {
            let AccountChange { address, wiped, slots, .. } = change.clone();
            SlotWrite { address, wiped, slots }
        });
        BlockWrite {
            header: header.clone().seal_slow(),
            size: 0,
            transactions: Vec::new(),
            receipts: Vec::new(),
            state: state.clone(),
            slots: slots.collect(),
            codes: Vec::new(),
        }
    }

    /// The nodes of the state after a block.
    fn state(&self, number: usize) -> BTreeSet<B256> {
        let (mut seen, root) = (BTreeSet::new(), self.blocks[number].0.state_root);
        let mut open: Vec<_> =
            (root != EMPTY_ROOT_HASH).then_some(Reference { hash: root, storage: false }).into_iter().collect();
        while let Some(Reference { hash, storage }) = open.pop() {
            seen.insert(hash);
            open.extend(references(&self.nodes[&hash], storage).unwrap());
        }
        seen
    }

    /// Executes stored blocks again, then commits further ones up to this.
    fn go_on(&self, store: &Store, blocks: usize) -> Result<(), super::StoreError> {
        let first = match store.snapshot()? {
            Some(snapshot) => usize::try_from(snapshot.head().header.number).unwrap() + 1,
            None => 0,
        };
        for number in first..blocks {
            let stored = match store.snapshot()? {
                Some(snapshot) => snapshot.header(number as u64)?.is_some(),
                None => false,
            };
            if stored { store.restore(self.write(number)) } else { store.commit(self.write(number), &[])? }
        }
        Ok(())
    }

    /// The states that are to be kept are there to the last node, and the others are refused.
    fn check(&self, store: &Store, kept: u64) {
        self.check_some(store, kept, u64::MAX);
    }

    /// The same of no more than so many states that are kept, the oldest ones.
    fn check_some(&self, store: &Store, kept: u64, most: u64) {
        let Some(snapshot) = store.snapshot().unwrap() else { return };
        let head = snapshot.head().header.number;
        let oldest = (head + 1).saturating_sub(kept);
        for number in 0..=head {
            let header = snapshot.header(number).unwrap().expect("headers are kept").header;
            assert_eq!(snapshot.must_keep_state(&header).is_ok(), number >= oldest, "block {number} of {head}");
        }
        for number in (oldest..=head).take(usize::try_from(most).unwrap_or(usize::MAX)) {
            for hash in self.state(usize::try_from(number).unwrap()) {
                assert_eq!(snapshot.stored_node(hash).as_ref(), Some(&self.nodes[&hash]), "block {number} of {head}");
            }
        }
    }
}

fn last(blocks: u64) -> StatesKept {
    StatesKept::Last(NonZeroU64::new(blocks).unwrap())
}

/// Nodes in the tables, and the generation.
fn stored(store: &Store) -> (u64, u64) {
    let transaction = store.database.begin_read().unwrap();
    let rows = TABLES.map(|tables| transaction.open_table(tables.places).unwrap().len().unwrap());
    (rows.iter().sum(), Progress::read(&transaction).unwrap().generation)
}

fn touches(accounts: u8, each: usize) -> impl Strategy<Value = Vec<Touch>> {
    vec((0..accounts, 0_u8..12, 0_u8..5), 0..each)
}

fn pace() -> impl Strategy<Value = Pace> {
    (1..4_u64, 1..40_usize, 1..60_usize).prop_map(|(chunks_min, copied, dropped)| Pace { chunks_min, copied, dropped })
}

/// State is written after every sixteenth block: with 17 nothing is kept beyond what must be.
fn kept() -> impl Strategy<Value = u64> {
    prop_oneof![1..50_u64, Just(17), Just(18)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_states_that_are_kept_are_whole(
        blocks in vec(touches(60, 12), 60..220), kept in kept(), pace in pace(),
    ) {
        let model = Model::of(&blocks);
        let store = Disk::default().open(last(kept), pace).unwrap();
        for number in 1..=blocks.len() {
            model.go_on(&store, number).unwrap();
            model.check_some(&store, kept, if number % 20 == 0 { u64::MAX } else { 1 });
        }
    }

    /// Killed at any write, twice, and with another number of states each time.
    #[test]
    fn whenever_it_is_cut_off_the_states_that_are_kept_are_whole(
        blocks in vec(touches(60, 12), 60..200), kept in [kept(), kept()], pace in pace(), cuts in [0..1_000_u64, 0..1_000],
    ) {
        let (model, whole) = (Model::of(&blocks), Disk::default());
        model.go_on(&whole.open(last(kept[0]), pace).unwrap(), blocks.len()).unwrap();
        let writes = whole.writes.load(Ordering::Relaxed);
        let disk = Disk::default();
        for (cut, kept) in cuts.into_iter().zip(kept) {
            // May end before, while, and after the database is opened; the second time it has less to do.
            let failing = disk.cut_after(writes * cut / 1_000);
            if let Ok(store) = failing.open(last(kept), pace) {
                let _cut_off = model.go_on(&store, blocks.len());
            }
        }
        let kept = kept[0].min(kept[1]);
        let store = disk.open(last(kept), pace).unwrap();
        let written = store.snapshot().unwrap().map_or(0, |snapshot| snapshot.head().header.number);
        model.go_on(&store, usize::try_from(written).unwrap()).unwrap();
        model.check(&store, kept);
        model.go_on(&store, blocks.len()).unwrap();
        model.check(&store, kept);
    }
}

/// The same accounts change for ever.
fn long_run() -> Model {
    let block = |number: u64| -> Vec<Touch> {
        let pick = |index: u64| keccak256([number.to_be_bytes(), index.to_be_bytes()].concat());
        (0..8).map(pick).map(|bytes| (bytes[0], bytes[1] % 12, 1 + bytes[2] % 200)).collect()
    };
    Model::of(&(0..1_600).map(block).collect::<Vec<_>>())
}

const LONG_RUN_PACE: Pace = Pace { chunks_min: 1, copied: 16, dropped: 64 };

#[test]
fn what_is_stored_stays_bounded_and_an_archive_keeps_everything() {
    let (model, kept, pace) = (long_run(), 20, LONG_RUN_PACE);
    let disks = [Disk::default(), Disk::default()];
    let [pruned, archive] =
        [(&disks[0], last(kept)), (&disks[1], StatesKept::All)].map(|(disk, kept)| disk.open(kept, pace).unwrap());
    let (mut most, mut bytes) = ([0; 2], [0; 2]);
    for number in (0..model.blocks.len()).step_by(16) {
        model.go_on(&pruned, number).unwrap();
        model.go_on(&archive, number).unwrap();
        let half = usize::from(number >= model.blocks.len() / 2);
        most[half] = most[half].max(stored(&pruned).0);
        bytes[half] = disks[0].bytes.lock().len();
    }
    let (everything, generation) = stored(&archive);
    assert_eq!(generation, 0);
    assert!(stored(&pruned).1 >= 8, "{:?}", stored(&pruned));
    assert!(most[1] * 4 <= most[0] * 5, "{most:?}");
    assert!(most[1] * 4 <= everything, "{most:?} {everything}");
    assert!(bytes[1] * 4 <= bytes[0] * 5 && bytes[1] * 2 <= disks[1].bytes.lock().len(), "{bytes:?}");
    model.check_some(&archive, u64::MAX, 40);
    model.check(&pruned, kept);
}

/// An archive that becomes a pruned node, and the other way round: what is kept from then on is kept.
#[test]
fn the_choice_can_be_changed() {
    let (model, disk, pace) = (long_run(), Disk::default(), LONG_RUN_PACE);
    for (blocks, kept) in [(300, None), (500, Some(30)), (900, None), (930, Some(10)), (1_600, Some(400))] {
        let kept = kept.map_or(StatesKept::All, last);
        model.go_on(&disk.open(kept, pace).unwrap(), blocks).unwrap();
    }
    let store = disk.open(last(400), pace).unwrap();
    model.go_on(&store, 1_600).unwrap();
    model.check(&store, 400);
    let store = {
        drop(store);
        disk.open(StatesKept::All, pace).unwrap()
    };
    model.go_on(&store, 1_600).unwrap();
    assert!(store.snapshot().unwrap().unwrap().stored_node(model.blocks[200].0.state_root).is_none(), "it was pruned");
}

#[test]
fn a_database_of_the_layout_before_goes_on() {
    let (model, disk, pace) = (long_run(), Disk::default(), LONG_RUN_PACE);
    let store = disk.open(StatesKept::All, pace).unwrap();
    model.go_on(&store, 100).unwrap();
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", SCHEMA_ONE_GENERATION.to_be_bytes().as_slice()).unwrap();
    transaction.delete_table(TABLES[1].places).unwrap();
    transaction.delete_table(TABLES[1].chunks).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let store = disk.open(last(7), pace).unwrap();
    model.go_on(&store, 300).unwrap();
    model.check(&store, 7);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", 1_u64.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = disk.open(last(7), pace).expect_err("its layout is unknown");
    assert!(matches!(error, OpenError::Schema { found: 1 }), "{error}");
}
