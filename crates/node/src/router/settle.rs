//! Settlement: the one place where a router's books change, are signed and become durable.
//!
//! Tasks hand in what was delivered; one thread takes all that has gathered, records it, signs one voucher for each
//! (session, miner) pair it touched, commits everything in one transaction and only then answers. So the cost of
//! signing and of `fsync` is shared by all tasks that finish together, and an answer is called complete only when its
//! receipt and voucher are on disk.

use crate::{
    identity::{self, Identity},
    journal::{Entry, Journal, StoreError, TableName, Write, decode, encode},
    ledger::{LedgerError, Owed, SessionBook, SessionTerms},
};
use alloy::signers::local::PrivateKeySigner;
use cortensor_protocol::{
    Charge, Domain, Operator, Price, Proposal, ReceiptFile, SessionId, Signature65, SignedVoucher, TaskHeader, TaskId,
    Voucher, Wei, signature::RecoverError, task::SignedHeader,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};
use tokio::sync::oneshot;

/// Tables of a router's store.
pub const TABLES: &[TableName] = &[BOOKS, VOUCHERS, PROPOSALS, RECEIPTS, TASKS, API_KEYS];
const BOOKS: TableName = "session-books";
const VOUCHERS: TableName = "vouchers";
/// Proposals that wallet clients have not signed, by session, miner and number.
const PROPOSALS: TableName = "proposals";
const RECEIPTS: TableName = "receipts";
const TASKS: TableName = "tasks";
/// Hashes of API keys.
pub(super) const API_KEYS: TableName = "api-keys";

/// Most settlements that wait for the thread; a task beyond that waits to hand its own in.
const QUEUE: usize = 4096;
/// Most settlements that one transaction commits.
const BATCH: usize = 512;
/// Most proposals that one session may leave unsigned.
const PROPOSALS_MAX: usize = 256;

/// Who signs a session's headers and vouchers.
#[derive(Clone, Debug)]
pub enum SessionSigner {
    /// This router, for its API-key users.
    Router(PrivateKeySigner),
    /// The client itself, with this much unsigned work tolerated.
    Client {
        /// Credit limit.
        credit: Wei,
    },
}

/// How a stored session is signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoredSigner {
    Router(u64),
    Client(Wei),
}

struct Session {
    book: SessionBook,
    stored_signer: StoredSigner,
    signer: SessionSigner,
    /// Newest voucher with both signatures, per miner.
    signed: BTreeMap<Operator, SignedVoucher>,
    /// What a wallet client was asked to sign, oldest first, each with its number.
    proposed: BTreeMap<Operator, VecDeque<(u64, Proposal)>>,
}

impl Session {
    /// The voucher that pays a miner's part in a task; none while its client has not signed for it.
    fn payment(&self, miner: Operator, task: TaskId) -> Option<SignedVoucher> {
        let unsigned = self.proposed.get(&miner).into_iter().flatten().any(|(_, open)| open.charge.task == task);
        if unsigned { None } else { self.signed.get(&miner).cloned() }
    }

    /// What is owed and not signed for.
    fn outstanding(&self) -> Wei {
        let signed: Wei = self.signed.values().map(|voucher| voucher.voucher.cumulative_amount).sum();
        self.book.total.saturating_sub(signed)
    }
}

/// What a finished attempt hands in.
#[derive(Debug)]
pub struct Delivery {
    /// The session that pays.
    pub session: SessionId,
    /// The task.
    pub task: TaskId,
    /// The miner that delivered.
    pub miner: Operator,
    /// What it is owed; may be nothing.
    pub owed: Owed,
    /// The receipt, where the miner gave a valid one.
    pub receipt: Option<Box<ReceiptFile>>,
    /// The task's record as it is to be shown, already encoded; none while the task goes on.
    pub record: Option<Vec<u8>>,
}

/// What settlement answers.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The voucher that now pays the miner; none for a wallet session until its client has signed.
    pub voucher: Option<SignedVoucher>,
}

/// Why a settlement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The books refuse.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// This router does not keep that session.
    #[error("this router keeps no session {0}")]
    UnknownSession(SessionId),
    /// The disk refuses.
    #[error("the books could not be written: {0}")]
    Store(String),
    /// The thread is gone, because the disk refused before or the router is shutting down.
    #[error("the router is not settling any more: look at its log, then restart it")]
    Stopped,
    /// A client's signature is of no use.
    #[error("the signature is invalid")]
    Signature(#[source] RecoverError),
    /// A client's signature is by another key.
    #[error("the voucher is not signed by the session's key {expected}")]
    WrongKey {
        /// The session's key.
        expected: alloy::primitives::Address,
    },
    /// The session is signed for by this router, not by its client.
    #[error("this session is signed for by its router: ask with its API key")]
    NotYours,
    /// A client signed something that it was not asked to sign.
    #[error(
        "this voucher was not proposed by this router, or is older than one already signed: fetch the outstanding vouchers again"
    )]
    NotProposed,
}

enum Command {
    Deliver(Box<Delivery>, oneshot::Sender<Result<Settled, SettleError>>),
    Open(Box<Session>, oneshot::Sender<Result<(), SettleError>>),
    Sign(Box<Voucher>, Signature65, oneshot::Sender<Result<Settled, SettleError>>),
    Put(Write, oneshot::Sender<Result<(), SettleError>>),
}

type Sessions = Arc<Mutex<HashMap<SessionId, Session>>>;

/// Handle on the settlement thread; cheap to clone.
#[derive(Clone)]
pub struct Settlement {
    commands: mpsc::SyncSender<Command>,
    sessions: Sessions,
    journal: Arc<Journal>,
    identity: Identity,
    domain: Domain,
    running: Arc<AtomicBool>,
}

impl std::fmt::Debug for Settlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settlement").finish_non_exhaustive()
    }
}

/// Money set aside for one task. What is left of it goes back to the session when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    /// The nonce of the task.
    pub nonce: u64,
    session: SessionId,
    left: Wei,
    settlement: Settlement,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

impl Reservation {
    /// Settles a delivery out of this reservation.
    ///
    /// # Errors
    /// When the delivery costs more than is left, or the books cannot be written.
    pub async fn settle(&mut self, delivery: Delivery) -> Result<Settled, SettleError> {
        let amount = delivery.owed.amount;
        if amount > self.left {
            return Err(LedgerError::Exhausted { available: self.left, needed: amount }.into());
        }
        // The thread moves this part from reserved to owed; should it fail, the amount stays reserved rather than
        // becoming free to be promised twice.
        self.left = self.left.saturating_sub(amount);
        let (answer, answered) = oneshot::channel();
        self.settlement.send(Command::Deliver(Box::new(delivery), answer)).await?;
        answered.await.map_err(|_| SettleError::Stopped)?
    }

    /// Gives back what is left now: the task is over.
    pub fn release(&mut self) {
        let left = std::mem::take(&mut self.left);
        if let Some(session) = self.settlement.sessions.lock().get_mut(&self.session) {
            session.book.release(left);
        }
    }

    /// What is left.
    #[must_use]
    pub const fn left(&self) -> Wei {
        self.left
    }
}

impl Settlement {
    /// Loads the books and starts the thread.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(journal: Arc<Journal>, identity: Identity, domain: Domain) -> Result<Self, StoreError> {
        let sessions: Sessions = Arc::new(Mutex::new(load(&journal, &identity)?));
        let (commands, inbox) = mpsc::sync_channel(QUEUE);
        let running = Arc::new(AtomicBool::new(true));
        let worker = Worker {
            journal: journal.clone(),
            sessions: sessions.clone(),
            identity: identity.clone(),
            domain,
            running: running.clone(),
        };
        std::thread::Builder::new()
            .name("settlement".into())
            .spawn(move || worker.run(&inbox))
            .map_err(StoreError::Folder)?;
        Ok(Self { commands, sessions, journal, identity, domain, running })
    }

    /// Whether the books can be written. Once they could not, they stay closed until a restart.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    async fn send(&self, command: Command) -> Result<(), SettleError> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(SettleError::Stopped),
            Err(mpsc::TrySendError::Full(command)) => {
                let commands = self.commands.clone();
                let sent = tokio::task::spawn_blocking(move || commands.send(command)).await;
                sent.ok().and_then(Result::ok).ok_or(SettleError::Stopped)
            }
        }
    }

    /// Takes a session into the books. A session that is there already keeps its accounts.
    ///
    /// `router_key` is the index of the session key for a session that this router runs ([`Identity::session_key`]).
    ///
    /// # Errors
    /// When the books cannot be written.
    pub async fn open(&self, terms: SessionTerms, router_key: Option<u64>, credit: Wei) -> Result<(), SettleError> {
        if self.sessions.lock().contains_key(&terms.id) {
            return Ok(());
        }
        let stored_signer = router_key.map_or(StoredSigner::Client(credit), StoredSigner::Router);
        let session = new_session(SessionBook::new(terms), stored_signer, &self.identity);
        let (answer, answered) = oneshot::channel();
        self.send(Command::Open(Box::new(session), answer)).await?;
        answered.await.map_err(|_| SettleError::Stopped)?
    }

    /// Takes in what has changed on chain: a deposit that was raised, a key that was replaced. It is stored with the next
    /// delivery, and read from the chain again after a restart.
    pub fn refresh(&self, terms: SessionTerms) {
        if let Some(session) = self.sessions.lock().get_mut(&terms.id) {
            session.book.terms = terms;
        }
    }

    /// Stores a record of another kind, durably, in order with the settlements.
    pub(super) async fn put(&self, write: Write) -> Result<(), SettleError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Put(write, answer)).await?;
        answered.await.map_err(|_| SettleError::Stopped)?
    }

    /// Sets money aside for a task of a session that this router signs for.
    ///
    /// # Errors
    /// When the session is unknown, over, has too little left, or is signed for by its client.
    pub fn reserve(&self, id: SessionId, needed: Wei, now_seconds: u64) -> Result<Reservation, SettleError> {
        self.reserve_with(id, needed, |session| match session.signer {
            SessionSigner::Router(_) => Ok(session.book.reserve(needed, now_seconds)?),
            SessionSigner::Client { .. } => Err(SettleError::NotYours),
        })
    }

    /// Sets money aside for a task that a wallet client signed under its own nonce.
    ///
    /// # Errors
    /// When the session is unknown, over, has too little left, is not the client's, its client owes signatures, or the
    /// nonce was used before.
    pub fn reserve_numbered(
        &self,
        id: SessionId,
        nonce: u64,
        needed: Wei,
        now_seconds: u64,
    ) -> Result<Reservation, SettleError> {
        self.reserve_with(id, needed, |session| {
            let SessionSigner::Client { credit } = session.signer else { return Err(SettleError::NotYours) };
            let outstanding = session.outstanding() + session.book.reserved;
            let unsigned: usize = session.proposed.values().map(VecDeque::len).sum();
            if outstanding + needed > credit || unsigned >= PROPOSALS_MAX {
                return Err(LedgerError::Credit { outstanding, needed, limit: credit }.into());
            }
            session.book.reserve_numbered(nonce, needed, now_seconds)?;
            Ok(nonce)
        })
    }

    fn reserve_with(
        &self,
        id: SessionId,
        needed: Wei,
        draw: impl FnOnce(&mut Session) -> Result<u64, SettleError>,
    ) -> Result<Reservation, SettleError> {
        if !self.is_running() {
            return Err(SettleError::Stopped);
        }
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&id).ok_or(SettleError::UnknownSession(id))?;
        let nonce = draw(session)?;
        Ok(Reservation { nonce, session: id, left: needed, settlement: self.clone() })
    }

    /// Signs a header for a session that this router runs; `None` for a wallet session.
    #[must_use]
    pub fn sign_header(&self, header: TaskHeader) -> Option<SignedHeader> {
        let sessions = self.sessions.lock();
        let SessionSigner::Router(key) = &sessions.get(&header.session)?.signer else { return None };
        let key = key.clone();
        drop(sessions);
        let signature = identity::sign(&key, header.signing_hash(&self.domain));
        Some(SignedHeader { header, signature })
    }

    /// What the books say of a session.
    #[must_use]
    pub fn book(&self, id: SessionId) -> Option<SessionBook> {
        self.sessions.lock().get(&id).map(|session| session.book.clone())
    }

    /// A session's terms.
    #[must_use]
    pub fn terms(&self, id: SessionId) -> Option<SessionTerms> {
        self.sessions.lock().get(&id).map(|session| session.book.terms.clone())
    }

    /// Whether a session is in the books and its client signs for it.
    #[must_use]
    pub fn is_signed_by_client(&self, id: SessionId) -> bool {
        self.sessions.lock().get(&id).is_some_and(|session| matches!(session.signer, SessionSigner::Client { .. }))
    }

    /// Every session in the books.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.lock().keys().copied().collect()
    }

    /// Highest price that a session accepts.
    #[must_use]
    pub fn max_price(&self, id: SessionId) -> Option<Price> {
        self.sessions.lock().get(&id).map(|session| session.book.terms.max_price)
    }

    /// Marks a session as closing: no new work is reserved from it.
    pub fn close(&self, id: SessionId) {
        if let Some(session) = self.sessions.lock().get_mut(&id) {
            session.book.closing = true;
        }
    }

    /// Newest vouchers of a miner over all sessions, at most `limit`: what it is handed when it comes back.
    #[must_use]
    pub fn vouchers_of(&self, miner: Operator, limit: usize) -> Vec<SignedVoucher> {
        self.sessions.lock().values().filter_map(|session| session.signed.get(&miner).cloned()).take(limit).collect()
    }

    /// What a wallet client has yet to sign; for each miner the oldest first.
    #[must_use]
    pub fn proposals(&self, id: SessionId) -> Vec<Proposal> {
        let sessions = self.sessions.lock();
        let Some(session) = sessions.get(&id) else { return Vec::new() };
        session.proposed.values().flatten().map(|(_, proposal)| proposal.clone()).collect()
    }

    /// Takes a wallet client's signature on a proposed voucher, countersigns it and makes it durable. A signature that was
    /// taken before is answered with the same voucher again.
    ///
    /// # Errors
    /// When the voucher was not proposed, or the signature is not the session key's.
    pub async fn accept_signature(&self, voucher: Voucher, signature: Signature65) -> Result<Settled, SettleError> {
        let expected = self.terms(voucher.session).ok_or(SettleError::UnknownSession(voucher.session))?.session_key;
        let found = signature.recover(voucher.signing_hash(&self.domain)).map_err(SettleError::Signature)?;
        if found != expected {
            return Err(SettleError::WrongKey { expected });
        }
        let (answer, answered) = oneshot::channel();
        self.send(Command::Sign(Box::new(voucher), signature, answer)).await?;
        answered.await.map_err(|_| SettleError::Stopped)?
    }

    /// The stored receipts of a task, each with the newest voucher of its miner where that pays it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn receipts(&self, task: TaskId) -> Result<Vec<ReceiptFile>, StoreError> {
        let entries = self.journal.scan(RECEIPTS, task.0.as_slice(), 64)?;
        let mut files: Vec<ReceiptFile> =
            entries.iter().map(|(_, bytes)| decode("receipt", bytes)).collect::<Result<_, _>>()?;
        let sessions = self.sessions.lock();
        for file in &mut files {
            let receipt = &file.receipt.receipt;
            file.voucher = sessions.get(&receipt.session).and_then(|session| session.payment(receipt.miner, task));
        }
        Ok(files)
    }

    /// The stored record of a task.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn task(&self, task: TaskId) -> Result<Option<Vec<u8>>, StoreError> {
        self.journal.get(TASKS, task.0.as_slice())
    }

    /// Every stored entry of a small table.
    pub(super) fn scan(&self, table: TableName, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.journal.scan(table, &[], limit)
    }
}

fn new_session(book: SessionBook, stored_signer: StoredSigner, identity: &Identity) -> Session {
    let signer = match stored_signer {
        StoredSigner::Router(index) => SessionSigner::Router(identity.session_key(index)),
        StoredSigner::Client(credit) => SessionSigner::Client { credit },
    };
    Session { book, stored_signer, signer, signed: BTreeMap::new(), proposed: BTreeMap::new() }
}

fn load(journal: &Journal, identity: &Identity) -> Result<HashMap<SessionId, Session>, StoreError> {
    let mut sessions = HashMap::new();
    for (_, bytes) in journal.scan(BOOKS, &[], usize::MAX)? {
        let (book, signer): (SessionBook, StoredSigner) = decode("session book", &bytes)?;
        sessions.insert(book.terms.id, new_session(book, signer, identity));
    }
    for (_, bytes) in journal.scan(VOUCHERS, &[], usize::MAX)? {
        let voucher: SignedVoucher = decode("voucher", &bytes)?;
        if let Some(session) = sessions.get_mut(&voucher.voucher.session) {
            session.signed.insert(voucher.voucher.miner, voucher);
        }
    }
    // Keys end in the number, so they come in order.
    for (key, bytes) in journal.scan(PROPOSALS, &[], usize::MAX)? {
        let proposal: Proposal = decode("proposal", &bytes)?;
        let number = key.last_chunk().map(|number| u64::from_be_bytes(*number));
        let number = number.ok_or(StoreError::Corrupt { what: "proposal's key" })?;
        if let Some(session) = sessions.get_mut(&proposal.voucher.session) {
            session.proposed.entry(proposal.voucher.miner).or_default().push_back((number, proposal));
        }
    }
    Ok(sessions)
}

fn proposal_key(session: SessionId, miner: Operator, number: u64) -> Vec<u8> {
    [session.0.as_slice(), miner.0.as_slice(), &number.to_be_bytes()].concat()
}

type Answer = Box<dyn FnOnce(Result<(), String>, &HashMap<SessionId, Session>) + Send>;

struct Worker {
    journal: Arc<Journal>,
    sessions: Sessions,
    identity: Identity,
    domain: Domain,
    running: Arc<AtomicBool>,
}

/// What one batch has gathered.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    answers: Vec<Answer>,
    /// Accounts that need a new voucher.
    touched: BTreeSet<(SessionId, Operator)>,
    /// Books that changed.
    books: BTreeSet<SessionId>,
    /// Vouchers that wallet clients signed.
    client_signed: Vec<(Voucher, Signature65)>,
}

impl Worker {
    fn run(self, inbox: &mpsc::Receiver<Command>) {
        while let Ok(first) = inbox.recv() {
            let commands = std::iter::once(first).chain(inbox.try_iter().take(BATCH - 1));
            let mut batch = Batch::default();
            {
                let mut sessions = self.sessions.lock();
                for command in commands {
                    apply(&mut sessions, command, &mut batch);
                }
            }
            if !self.finish(batch) {
                // The books in memory are ahead of the disk now. Going on could sign what was never stored, so this
                // thread ends: every later settlement fails with a clear error until the router is restarted.
                self.running.store(false, Ordering::Release);
                return;
            }
        }
    }

    /// Signs, commits and answers. Returns false when the disk refused.
    fn finish(&self, mut batch: Batch) -> bool {
        self.sign_touched(&mut batch);
        self.countersign_clients(&mut batch);
        self.store_books(&mut batch);
        let outcome = self.journal.commit(&batch.writes);
        if let Err(error) = &outcome {
            tracing::error!(code = "R-SETTLE-001", %error, source = ?std::error::Error::source(error), "the books cannot be written: settlement stops");
        }
        let failed = outcome.is_err();
        let outcome = outcome.map_err(|error| error.to_string());
        let sessions = self.sessions.lock();
        for answer in batch.answers {
            answer(outcome.clone(), &sessions);
        }
        !failed
    }

    /// One voucher for each account that was touched, signed outside the lock.
    fn sign_touched(&self, batch: &mut Batch) {
        for (id, miner) in std::mem::take(&mut batch.touched) {
            let drawn = {
                let mut sessions = self.sessions.lock();
                sessions.get_mut(&id).and_then(|session| match &session.signer {
                    SessionSigner::Router(key) => {
                        let key = key.clone();
                        session.book.next_voucher(miner).map(|(voucher, counter)| (key, voucher, counter))
                    }
                    SessionSigner::Client { .. } => None,
                })
            };
            let Some((key, voucher, countersignature)) = drawn else { continue };
            let signed = SignedVoucher {
                signature: identity::sign(&key, voucher.signing_hash(&self.domain)),
                router_signature: self.identity.sign(countersignature.signing_hash(&self.domain)),
                voucher,
                countersignature,
            };
            self.keep(signed, batch);
        }
    }

    /// Countersigns what wallet clients signed.
    fn countersign_clients(&self, batch: &mut Batch) {
        for (voucher, signature) in std::mem::take(&mut batch.client_signed) {
            let countersignature = {
                let mut sessions = self.sessions.lock();
                let Some(session) = sessions.get_mut(&voucher.session) else { continue };
                session.book.countersign(&voucher)
            };
            let router_signature = self.identity.sign(countersignature.signing_hash(&self.domain));
            self.keep(SignedVoucher { voucher, signature, countersignature, router_signature }, batch);
        }
    }

    fn keep(&self, signed: SignedVoucher, batch: &mut Batch) {
        let key = [signed.voucher.session.0.as_slice(), signed.voucher.miner.0.as_slice()].concat();
        batch.writes.push(Write::Put(VOUCHERS, key, encode(&signed)));
        batch.books.insert(signed.voucher.session);
        if let Some(session) = self.sessions.lock().get_mut(&signed.voucher.session) {
            session.signed.insert(signed.voucher.miner, signed);
        }
    }

    fn store_books(&self, batch: &mut Batch) {
        let sessions = self.sessions.lock();
        for id in std::mem::take(&mut batch.books) {
            if let Some(session) = sessions.get(&id) {
                let stored = encode(&(session.book.to_store(), session.stored_signer));
                batch.writes.push(Write::Put(BOOKS, id.0.to_vec(), stored));
            }
        }
    }
}

fn apply(sessions: &mut HashMap<SessionId, Session>, command: Command, batch: &mut Batch) {
    match command {
        Command::Deliver(delivery, answer) => deliver(sessions, *delivery, answer, batch),
        Command::Open(session, answer) => {
            batch.books.insert(session.book.terms.id);
            sessions.entry(session.book.terms.id).or_insert(*session);
            batch.answers.push(Box::new(move |outcome, _| drop(answer.send(outcome.map_err(SettleError::Store)))));
        }
        Command::Put(write, answer) => {
            batch.writes.push(write);
            batch.answers.push(Box::new(move |outcome, _| drop(answer.send(outcome.map_err(SettleError::Store)))));
        }
        Command::Sign(voucher, signature, answer) => sign_client(sessions, *voucher, signature, answer, batch),
    }
}

fn deliver(
    sessions: &mut HashMap<SessionId, Session>,
    delivery: Delivery,
    answer: oneshot::Sender<Result<Settled, SettleError>>,
    batch: &mut Batch,
) {
    let Delivery { session: id, task, miner, owed, receipt, record } = delivery;
    let Some(session) = sessions.get_mut(&id) else {
        drop(answer.send(Err(SettleError::UnknownSession(id))));
        return;
    };
    let is_owed = owed.amount > Wei::ZERO || owed.receipt.is_some();
    if is_owed {
        if let Err(error) = session.book.record(miner, &owed) {
            drop(answer.send(Err(error.into())));
            return;
        }
        batch.books.insert(id);
        match session.signer {
            SessionSigner::Router(_) => drop(batch.touched.insert((id, miner))),
            SessionSigner::Client { .. } => batch.writes.extend(propose(session, miner, task, &owed)),
        }
    }
    if let Some(file) = receipt {
        let receipt = &file.receipt.receipt;
        let key = [receipt.task.0.as_slice(), &receipt.first_token.to_be_bytes()].concat();
        batch.writes.push(Write::Put(RECEIPTS, key, encode(&*file)));
    }
    if let Some(record) = record {
        batch.writes.push(Write::Put(TASKS, task.0.to_vec(), record));
    }
    batch.answers.push(Box::new(move |outcome, sessions| {
        let voucher = sessions.get(&id).and_then(|session| session.signed.get(&miner).cloned());
        let settled = outcome.map(|()| Settled { voucher }).map_err(SettleError::Store);
        drop(answer.send(settled));
    }));
}

/// Adds what was delivered to what the client is asked to sign; returns what is to be stored.
fn propose(session: &mut Session, miner: Operator, task: TaskId, owed: &Owed) -> Option<Write> {
    let voucher = session.book.miners.get(&miner)?.voucher.clone();
    let queue = session.proposed.entry(miner).or_default();
    let number = queue.back().map_or(0, |(last, _)| last + 1);
    let charge = Charge {
        task,
        input_tokens: owed.input_tokens,
        output_tokens: owed.output_tokens,
        amount: owed.amount,
        receipt: owed.receipt,
    };
    let proposal = Proposal { voucher, charge };
    let write = Write::Put(PROPOSALS, proposal_key(proposal.voucher.session, miner, number), encode(&proposal));
    queue.push_back((number, proposal));
    Some(write)
}

/// Accepts a wallet client's signature on something that was proposed.
fn sign_client(
    sessions: &mut HashMap<SessionId, Session>,
    voucher: Voucher,
    signature: Signature65,
    answer: oneshot::Sender<Result<Settled, SettleError>>,
    batch: &mut Batch,
) {
    let (id, miner) = (voucher.session, voucher.miner);
    let Some(session) = sessions.get_mut(&id) else {
        drop(answer.send(Err(SettleError::UnknownSession(id))));
        return;
    };
    let known = session.signed.get(&miner).is_some_and(|signed| signed.voucher == voucher);
    if !known && !batch.client_signed.iter().any(|(taken, _)| *taken == voucher) {
        let Some(taken) = take_proposed(session, &voucher) else {
            drop(answer.send(Err(SettleError::NotProposed)));
            return;
        };
        batch.writes.extend(taken);
        batch.client_signed.push((voucher, signature));
    }
    batch.answers.push(Box::new(move |outcome, sessions| {
        let voucher = sessions.get(&id).and_then(|session| session.signed.get(&miner).cloned());
        drop(answer.send(outcome.map(|()| Settled { voucher }).map_err(SettleError::Store)));
    }));
}

/// Takes a voucher and all before it off what is proposed; returns what is to be removed from the store, or `None` when
/// the voucher was not proposed.
fn take_proposed(session: &mut Session, voucher: &Voucher) -> Option<Vec<Write>> {
    let queue = session.proposed.get_mut(&voucher.miner)?;
    let position = queue.iter().position(|(_, proposal)| proposal.voucher == *voucher)?;
    let key = |number| proposal_key(voucher.session, voucher.miner, number);
    let removed = queue.drain(..=position).map(|(number, _)| Write::Delete(PROPOSALS, key(number))).collect();
    if queue.is_empty() {
        session.proposed.remove(&voucher.miner);
    }
    Some(removed)
}
