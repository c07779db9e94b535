//! The cases of a miner's answers: what it must be able to show when one is audited.
//!
//! A case is on disk before its receipt leaves the miner, since a receipt that cannot be opened counts against whoever
//! signed it. Cases that are handed in together share one write. They are kept for as long as an audit may still be opened
//! and judged, and never more than a bound, to which the batches add that are not over: what is committed to is kept until
//! everything that was drawn of its batch is opened.

use super::batches::{BATCH_MAX, BATCHES, Pending};
use crate::{
    journal::{Journal, StoreError, TableName, Write, decode, encode},
    router::now_seconds,
};
use alloy::primitives::B256;
use cortensor_protocol::Case;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// Cases by the signing hash of their receipt.
const CASES: TableName = "cases";
/// Order in which they came: time of the receipt and hash, so that the oldest are found first.
const CASE_ORDER: TableName = "case-order";
/// Receipts that are in no batch yet, in the same order.
const UNBATCHED: TableName = "unbatched";
/// The tables that this module needs.
pub(super) const TABLES: &[TableName] = &[CASES, CASE_ORDER, UNBATCHED, BATCHES];

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// For how long: at least until the longest audit is over.
    pub age: Duration,
    /// The most cases.
    pub count: usize,
}

impl Default for Retention {
    /// Seven days, which the longest audit of a public chain takes; 200,000 answers: about 2 GB with answers of 256 tokens.
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 3600), count: 200_000 }
    }
}

/// Why a case was not kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The disk refused it.
    #[error("the answer could not be stored for audits")]
    Store(#[source] Arc<StoreError>),
    /// The process is stopping.
    #[error("this miner is stopping")]
    Stopped,
}

struct Offer {
    id: B256,
    case: Vec<u8>,
    at: u64,
    answer: oneshot::Sender<Result<(), KeepError>>,
}

/// The cases of one miner.
#[derive(Clone)]
pub struct Cases {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Arc<Journal>,
    retention: Retention,
    waiting: Mutex<Vec<Offer>>,
    /// Whose turn it is to write for all that wait.
    turn: tokio::sync::Mutex<()>,
    /// Locked before `unbatched`.
    order: Mutex<VecDeque<(u64, B256)>>,
    unbatched: Mutex<VecDeque<(u64, B256)>>,
    /// Locked after `unbatched`.
    held: Mutex<Held>,
}

/// What batches that are not over hold back from being removed.
#[derive(Debug, Default)]
struct Held {
    /// Their receipts.
    receipts: HashSet<B256>,
    /// Those of them whose time is over, with the time of the receipt: removed with their batch.
    overdue: HashMap<B256, u64>,
}

impl std::fmt::Debug for Cases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cases").field("retention", &self.shared.retention).finish_non_exhaustive()
    }
}

fn read_order(journal: &Journal, table: TableName) -> Result<VecDeque<(u64, B256)>, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "case" };
    let entries = journal.scan(table, &[], usize::MAX)?;
    let parse = |(key, _): &(Vec<u8>, Vec<u8>)| {
        let (at, id) = key.split_first_chunk::<8>().ok_or_else(corrupt)?;
        Ok((u64::from_be_bytes(*at), B256::try_from(id).map_err(|_| corrupt())?))
    };
    entries.iter().map(parse).collect()
}

fn read_batches(journal: &Journal, limit: usize) -> Result<Vec<Pending>, StoreError> {
    journal.scan(BATCHES, &[], limit)?.iter().map(|(_, bytes)| decode("batch", bytes)).collect()
}

/// What removes one case.
fn removal(at: u64, id: B256) -> [Write; 3] {
    let key = order_key(at, id);
    [Write::Delete(CASES, id.to_vec()), Write::Delete(CASE_ORDER, key.clone()), Write::Delete(UNBATCHED, key)]
}

fn order_key(at: u64, id: B256) -> Vec<u8> {
    [at.to_be_bytes().as_slice(), id.as_slice()].concat()
}

impl Cases {
    /// Opens what was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(journal: Arc<Journal>, retention: Retention) -> Result<Self, StoreError> {
        let order = Mutex::new(read_order(&journal, CASE_ORDER)?);
        let unbatched = Mutex::new(read_order(&journal, UNBATCHED)?);
        let batches = read_batches(&journal, usize::MAX)?;
        let receipts = batches.into_iter().flat_map(|batch| batch.receipts).collect();
        let held = Mutex::new(Held { receipts, overdue: HashMap::new() });
        let shared = Shared {
            journal,
            retention,
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            order,
            unbatched,
            held,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Keeps a case; it is on disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub async fn keep(&self, id: B256, case: &Case) -> Result<(), KeepError> {
        let (answer, mut stored) = oneshot::channel();
        let at = case.receipt.receipt.finished_at;
        self.shared.waiting.lock().push(Offer { id, case: encode(case), at, answer });
        let _turn = tokio::select! {
            biased;
            result = &mut stored => return result.unwrap_or(Err(KeepError::Stopped)),
            turn = self.shared.turn.lock() => turn,
        };
        if let Ok(result) = stored.try_recv() {
            return result;
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.write_waiting()).await.map_err(|_| KeepError::Stopped)?;
        stored.await.unwrap_or(Err(KeepError::Stopped))
    }

    /// The case of a receipt, if it is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, id: B256) -> Result<Option<Case>, StoreError> {
        let bytes = self.shared.journal.get(CASES, id.as_slice())?;
        bytes.map(|bytes| decode("case", &bytes)).transpose()
    }

    /// The receipt whose case this picks, among the newest `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, limit: usize, picks: impl Fn(&Case) -> bool) -> Result<Option<B256>, StoreError> {
        let newest: Vec<B256> = self.shared.order.lock().iter().rev().take(limit).map(|(_, id)| *id).collect();
        for id in newest {
            if self.get(id)?.is_some_and(|case| picks(&case)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The receipts of the next batch, if there are `size` of them or the oldest has waited for `age`.
    pub(super) fn due(&self, size: usize, age: Duration) -> Option<Vec<B256>> {
        let unbatched = self.shared.unbatched.lock();
        let (oldest, _) = unbatched.front()?;
        let waited = now_seconds().saturating_sub(*oldest) >= age.as_secs();
        (waited || unbatched.len() >= size).then(|| unbatched.iter().take(BATCH_MAX).map(|(_, id)| *id).collect())
    }

    /// Notes that the oldest receipts, which [`Self::due`] returned, are in a batch, and stores that batch with it.
    pub(super) fn batched(&self, batch: &Pending) -> Result<(), StoreError> {
        let mut unbatched = self.shared.unbatched.lock();
        let count = batch.receipts.len();
        let removed = unbatched.iter().take(count).map(|(at, id)| Write::Delete(UNBATCHED, order_key(*at, *id)));
        let put = Write::Put(BATCHES, batch.root().to_vec(), encode(batch));
        let writes: Vec<Write> = removed.chain([put]).collect();
        self.shared.journal.commit(&writes)?;
        unbatched.drain(..count);
        self.shared.held.lock().receipts.extend(&batch.receipts);
        Ok(())
    }

    /// The batches that are not over, at most `limit`.
    pub(super) fn batches(&self, limit: usize) -> Result<Vec<Pending>, StoreError> {
        read_batches(&self.shared.journal, limit)
    }

    /// Forgets a batch of which everything is opened that was drawn, and what it alone held back.
    pub(super) fn finished(&self, batch: &Pending) -> Result<(), StoreError> {
        let mut held = self.shared.held.lock();
        let overdue = batch.receipts.iter().filter_map(|id| held.overdue.get(id).map(|at| (*at, *id)));
        let mut writes: Vec<Write> = overdue.flat_map(|(at, id)| removal(at, id)).collect();
        writes.push(Write::Delete(BATCHES, batch.root().to_vec()));
        self.shared.journal.commit(&writes)?;
        for id in &batch.receipts {
            held.receipts.remove(id);
            held.overdue.remove(id);
        }
        Ok(())
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.order.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shared {
    fn write_waiting(&self) {
        let mut order = self.order.lock();
        let offers = std::mem::take(&mut *self.waiting.lock());
        if offers.is_empty() {
            return;
        }
        let mut unbatched = self.unbatched.lock();
        let mut held = self.held.lock();
        let leaving = self.leaving(&order, offers.len());
        let (kept, gone): (Vec<_>, Vec<_>) =
            order.iter().take(leaving).copied().partition(|(_, id)| held.receipts.contains(id));
        let mut writes: Vec<Write> = gone.iter().flat_map(|(at, id)| removal(*at, *id)).collect();
        for offer in &offers {
            writes.push(Write::Put(CASES, offer.id.to_vec(), offer.case.clone()));
            writes.push(Write::Put(CASE_ORDER, order_key(offer.at, offer.id), Vec::new()));
            writes.push(Write::Put(UNBATCHED, order_key(offer.at, offer.id), Vec::new()));
        }
        let stored = self.journal.commit(&writes).map_err(|error| KeepError::Store(Arc::new(error)));
        if stored.is_ok() {
            order.drain(..leaving);
            held.overdue.extend(kept.into_iter().map(|(at, id)| (id, at)));
            let gone: HashSet<B256> = gone.into_iter().map(|(_, id)| id).collect();
            // What cannot be opened any more must not be committed to.
            unbatched.retain(|(_, id)| !gone.contains(id));
            order.extend(offers.iter().map(|offer| (offer.at, offer.id)));
            unbatched.extend(offers.iter().map(|offer| (offer.at, offer.id)));
        }
        for offer in offers {
            // A task that no longer waits needs no answer.
            let _ = offer.answer.send(stored.clone());
        }
    }

    /// How many of the oldest are too old, or too many with `more` to come.
    fn leaving(&self, order: &VecDeque<(u64, B256)>, more: usize) -> usize {
        let oldest = now_seconds().saturating_sub(self.retention.age.as_secs());
        let surplus = (order.len() + more).saturating_sub(self.retention.count);
        order.iter().enumerate().take_while(|(place, (at, _))| *place < surplus || *at < oldest).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::{
        FinishReason, GenerationRequest, ModelId, Operator, Price, Prompt, Receipt, ResponseFormat, SamplingParams,
        SessionId, Signature65, SignedReceipt, TaskHeader, TaskId, Tier, Wei, task::SignedHeader,
    };

    fn case(finished_at: u64) -> Case {
        let signature = Signature65([7; 65]);
        let header = TaskHeader {
            task: TaskId::default(),
            session: SessionId::default(),
            model: ModelId::default(),
            request_hash: B256::ZERO,
            sampling: B256::ZERO,
            seed: B256::ZERO,
            max_tokens: 1,
            min_tier: Tier::D,
            client_nonce: 0,
            deadline: 0,
        };
        let request = GenerationRequest {
            model: "m".into(),
            prompt: Prompt::Text("p".into()),
            sampling: SamplingParams::default(),
            seed: None,
            max_tokens: 1,
            stop: Vec::new(),
            response_format: ResponseFormat::Text,
            logprobs: None,
        };
        let receipt = Receipt {
            header_hash: B256::ZERO,
            task: TaskId::default(),
            session: SessionId::default(),
            model: ModelId::default(),
            miner: Operator::default(),
            prompt_hash: B256::ZERO,
            trace_root: B256::ZERO,
            first_token: 0,
            input_tokens: 0,
            output_tokens: 0,
            finish: FinishReason::Length,
            tier: Tier::A,
            price: Price::default(),
            amount: Wei::ZERO,
            finished_at,
        };
        let (header, receipt) = (SignedHeader { header, signature }, SignedReceipt { receipt, signature });
        Case { header, request, receipt, before: vec![], salt: B256::ZERO, tokens: vec![], evidence: vec![] }
    }

    /// What a batch holds stays, also beyond the bound and a restart, until everything drawn of it is opened.
    #[tokio::test]
    async fn what_is_committed_to_stays_until_its_batch_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("miner.redb");
        let retention = Retention { count: 2, ..Retention::default() };
        let open = || Cases::load(Arc::new(Journal::open(&path, TABLES).unwrap()), retention).unwrap();
        let id = |byte| B256::repeat_byte(byte);
        let kept = |cases: &Cases| (1..=6).filter(|byte| cases.get(id(*byte)).unwrap().is_some()).collect::<Vec<u8>>();
        let mut cases = open();
        cases.keep(id(1), &case(now_seconds())).await.unwrap();
        cases.keep(id(2), &case(now_seconds())).await.unwrap();
        let batch = Pending { receipts: cases.due(2, Duration::from_secs(3600)).unwrap() };
        cases.batched(&batch).unwrap();
        for byte in 3..=5 {
            cases.keep(id(byte), &case(now_seconds())).await.unwrap();
            if byte == 4 {
                drop(cases);
                cases = open();
            }
        }
        assert_eq!(kept(&cases), [1, 2, 4, 5], "3 made room, what is committed to did not");
        assert_eq!(cases.batches(9).unwrap(), std::slice::from_ref(&batch));
        cases.finished(&batch).unwrap();
        cases.keep(id(6), &case(now_seconds())).await.unwrap();
        assert_eq!(kept(&cases), [5, 6], "what was overdue is gone with its batch");
        assert_eq!(cases.batches(9).unwrap(), []);
        drop(cases);
        assert_eq!(kept(&open()), [5, 6]);
    }

    /// The oldest beyond the bound is neither kept nor committed to any more, also after a restart.
    #[tokio::test]
    async fn what_is_too_much_is_forgotten_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("miner.redb");
        let retention = Retention { count: 2, ..Retention::default() };
        let open = || Cases::load(Arc::new(Journal::open(&path, TABLES).unwrap()), retention).unwrap();
        let id = |byte| B256::repeat_byte(byte);
        let cases = open();
        for byte in 1..=3 {
            cases.keep(id(byte), &case(now_seconds())).await.unwrap();
        }
        let check = |cases: &Cases| {
            assert_eq!(cases.len(), 2);
            assert_eq!(cases.get(id(1)).unwrap(), None);
            assert!(cases.get(id(3)).unwrap().is_some());
            assert_eq!(cases.due(3, Duration::from_secs(3600)), None);
            assert_eq!(cases.due(2, Duration::from_secs(3600)), Some(vec![id(2), id(3)]));
        };
        check(&cases);
        drop(cases);
        check(&open());
    }
}
