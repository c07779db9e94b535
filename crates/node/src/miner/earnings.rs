//! A miner's earnings: what each session owes it, what it holds signed vouchers for, and what it has redeemed.
//!
//! A voucher is kept only when both signatures fit the session on chain; it is on disk before the router is told that it
//! was taken. Vouchers that arrive together share one write, and of those of one session only the most valuable is
//! checked: a voucher is cumulative, so it pays for what the others pay for.

use crate::{
    journal::{Journal, StoreError, TableName, Write, decode, encode},
    ledger::SessionTerms,
};
use cortensor_protocol::{Countersignature, Domain, SessionId, Signature65, SignedVoucher, Wei, voucher::VoucherError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::oneshot;

/// Tables of a miner's store.
pub(super) const TABLES: &[TableName] = &[EARNINGS, EVIDENCE];
const EARNINGS: TableName = "earnings";
const EVIDENCE: TableName = "router-contradictions";

/// One session's account at this miner.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Worth of all receipts that this miner signed.
    pub earned: Wei,
    /// Newest voucher.
    pub voucher: Option<SignedVoucher>,
    /// Paid out on chain.
    pub redeemed: Wei,
}

impl Account {
    /// What the voucher is worth.
    #[must_use]
    pub fn promised(&self) -> Wei {
        self.voucher.as_ref().map(|voucher| voucher.voucher.cumulative_amount).unwrap_or_default()
    }

    /// Work without a voucher.
    #[must_use]
    pub fn unpaid(&self) -> Wei {
        self.earned.saturating_sub(self.promised())
    }
}

/// Two statements of one router that convict it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// The first statement and its signature.
    pub first: (Countersignature, Signature65),
    /// The second.
    pub second: (Countersignature, Signature65),
}

/// Why a voucher was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Signatures.
    #[error(transparent)]
    Invalid(#[from] VoucherError),
    /// Lower than one already held.
    #[error("the voucher is worth {offered}, one worth {held} is held already")]
    Falls {
        /// By this voucher.
        offered: Wei,
        /// By the one that is held.
        held: Wei,
    },
    /// The router promised more than there is.
    #[error("the router countersigned {total} in all, the session holds {deposit}")]
    Overcommitted {
        /// By the countersignature.
        total: Wei,
        /// On chain.
        deposit: Wei,
    },
    /// The router contradicts what it signed before. Both statements are kept as evidence.
    #[error("the router contradicts an earlier countersignature; both are kept as evidence")]
    Contradiction,
    /// The disk refuses.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// This miner is going away.
    #[error("the miner is stopping")]
    Stopped,
}

impl From<StoreError> for TakeError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// A voucher that waits to be taken.
#[derive(Debug)]
struct Offer {
    terms: SessionTerms,
    voucher: SignedVoucher,
    answer: oneshot::Sender<Result<(), TakeError>>,
}

/// The earnings of one miner.
#[derive(Debug)]
pub struct Earnings {
    shared: Arc<Shared>,
    /// Whoever has the turn stores everything that waits.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    journal: Arc<Journal>,
    domain: Domain,
    accounts: Mutex<HashMap<SessionId, Account>>,
    /// One for each task that ends at most, so bounded as tasks are.
    waiting: Mutex<Vec<Offer>>,
    /// Held while the store is written, which `accounts` never is.
    writing: Mutex<()>,
}

impl Earnings {
    /// Loads the accounts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(journal: Arc<Journal>, domain: Domain) -> Result<Self, StoreError> {
        let mut accounts = HashMap::new();
        for (_, bytes) in journal.scan(EARNINGS, &[], usize::MAX)? {
            let (session, account): (SessionId, Account) = decode("earnings account", &bytes)?;
            accounts.insert(session, account);
        }
        let (accounts, waiting, writing) = (Mutex::new(accounts), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { journal, domain, accounts, waiting, writing });
        Ok(Self { shared, turn: tokio::sync::Mutex::default() })
    }

    /// Work of a session without a voucher.
    #[must_use]
    pub fn unpaid(&self, session: SessionId) -> Wei {
        self.shared.accounts.lock().get(&session).map(Account::unpaid).unwrap_or_default()
    }

    /// Every account.
    #[must_use]
    pub fn accounts(&self) -> Vec<(SessionId, Account)> {
        self.shared.accounts.lock().iter().map(|(session, account)| (*session, account.clone())).collect()
    }

    /// Counts a signed receipt.
    ///
    /// It is stored with the voucher that pays it: until then it is only this miner's own claim.
    pub fn earn(&self, session: SessionId, amount: Wei) {
        let mut accounts = self.shared.accounts.lock();
        let account = accounts.entry(session).or_default();
        account.earned = account.earned + amount;
    }

    /// Takes a voucher: checks it, stores it, and only then returns. One that is covered by what is held is fine as well:
    /// vouchers of tasks that end together overtake each other.
    ///
    /// # Errors
    /// When it is invalid, falls, promises too much, contradicts an earlier one, or cannot be stored.
    pub async fn take(&self, terms: &SessionTerms, voucher: SignedVoucher) -> Result<(), TakeError> {
        if self.shared.covers(&voucher) {
            return Ok(());
        }
        let (answer, mut answered) = oneshot::channel();
        self.shared.waiting.lock().push(Offer { terms: terms.clone(), voucher, answer });
        let _turn = tokio::select! {
            biased;
            taken = &mut answered => return taken.unwrap_or(Err(TakeError::Stopped)),
            turn = self.turn.lock() => turn,
        };
        if let Ok(taken) = answered.try_recv() {
            return taken;
        }
        let shared = self.shared.clone();
        let stored = tokio::task::spawn_blocking(move || shared.take_waiting()).await;
        stored.map_err(|_| TakeError::Stopped)?;
        answered.await.unwrap_or(Err(TakeError::Stopped))
    }

    /// Notes what the chain has paid.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn redeemed(&self, session: SessionId, cumulative: Wei) -> Result<(), StoreError> {
        let _writing = self.shared.writing.lock();
        let mut account = self.shared.account(session);
        account.redeemed = account.redeemed.max(cumulative);
        self.shared.journal.commit(&[stored(session, &account)])?;
        self.shared.accounts.lock().entry(session).or_default().redeemed = account.redeemed;
        Ok(())
    }

    /// Vouchers worth at least `least` more than what was redeemed, at most `limit`, the most valuable first.
    #[must_use]
    pub fn redeemable(&self, least: Wei, limit: usize) -> Vec<SignedVoucher> {
        let worth = |account: &Account| account.promised().saturating_sub(account.redeemed);
        let mut open: Vec<(Wei, SignedVoucher)> = self
            .shared
            .accounts
            .lock()
            .values()
            .filter(|account| worth(account) >= least.max(Wei(1)))
            .filter_map(|account| Some((worth(account), account.voucher.clone()?)))
            .collect();
        open.sort_by_key(|(worth, _)| std::cmp::Reverse(*worth));
        open.into_iter().take(limit).map(|(_, voucher)| voucher).collect()
    }

    /// Evidence against routers that kept two books.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn contradictions(&self) -> Result<Vec<Contradiction>, StoreError> {
        let entries = self.shared.journal.scan(EVIDENCE, &[], 1024)?;
        entries.iter().map(|(_, bytes)| decode("contradiction", bytes)).collect()
    }
}

fn stored(session: SessionId, account: &Account) -> Write {
    Write::Put(EARNINGS, session.0.to_vec(), encode(&(session, account)))
}

impl Shared {
    fn account(&self, session: SessionId) -> Account {
        self.accounts.lock().get(&session).cloned().unwrap_or_default()
    }

    /// Whether a voucher adds nothing to the one that is held.
    fn covers(&self, voucher: &SignedVoucher) -> bool {
        let accounts = self.accounts.lock();
        let held = accounts.get(&voucher.voucher.session).and_then(|account| account.voucher.as_ref());
        held.is_some_and(|held| covers(held, voucher))
    }

    /// Takes everything that waits, with one write, and answers it.
    fn take_waiting(&self) {
        let _writing = self.writing.lock();
        let mut offers = std::mem::take(&mut *self.waiting.lock());
        offers.sort_by_key(|offer| std::cmp::Reverse(offer.voucher.voucher.cumulative_amount));
        let (mut changed, mut decided) = (HashMap::new(), Vec::new());
        for Offer { terms, voucher, answer } in offers {
            decided.push((self.decide(&terms, voucher, &mut changed), answer));
        }
        let writes: Vec<Write> = changed.iter().map(|(session, account)| stored(*session, account)).collect();
        let failed = match self.journal.commit_if_any(&writes) {
            Ok(()) => None,
            Err(error) => Some(Arc::new(error)),
        };
        if failed.is_none() {
            self.keep(changed);
        }
        for (taken, answer) in decided {
            let taken = taken.and_then(|()| failed.clone().map_or(Ok(()), |error| Err(TakeError::Store(error))));
            // A task that no longer waits needs no answer; what was stored counts all the same.
            let _ = answer.send(taken);
        }
    }

    /// Puts what was stored into memory, where work may have been counted meanwhile.
    fn keep(&self, changed: HashMap<SessionId, Account>) {
        let mut accounts = self.accounts.lock();
        for (session, stored) in changed {
            let account = accounts.entry(session).or_default();
            account.earned = account.earned.max(stored.promised());
            account.voucher = stored.voucher;
        }
    }

    /// Decides about one voucher, on top of what was decided in the same batch.
    fn decide(
        &self,
        terms: &SessionTerms,
        voucher: SignedVoucher,
        changed: &mut HashMap<SessionId, Account>,
    ) -> Result<(), TakeError> {
        let mut account = changed.get(&terms.id).cloned().unwrap_or_else(|| self.account(terms.id));
        if account.voucher.as_ref().is_some_and(|held| covers(held, &voucher)) {
            return Ok(());
        }
        voucher.verify(&self.domain, terms.session_key, terms.router)?;
        let total = voucher.countersignature.session_total;
        if total > terms.spendable {
            return Err(TakeError::Overcommitted { total, deposit: terms.spendable });
        }
        if let Some(held) = &account.voucher {
            self.check_against(held, &voucher)?;
        }
        // A voucher may pay for work that died with its task stream, which this miner never counted as earned.
        account.earned = account.earned.max(voucher.voucher.cumulative_amount);
        account.voucher = Some(voucher);
        changed.insert(terms.id, account);
        Ok(())
    }

    fn check_against(&self, held: &SignedVoucher, offered: &SignedVoucher) -> Result<(), TakeError> {
        if held.countersignature.contradicts(&offered.countersignature) {
            let contradiction = Contradiction {
                first: (held.countersignature.clone(), held.router_signature),
                second: (offered.countersignature.clone(), offered.router_signature),
            };
            let key = held.voucher.session.0.to_vec();
            self.journal.commit(&[Write::Put(EVIDENCE, key, encode(&contradiction))])?;
            return Err(TakeError::Contradiction);
        }
        let (held, offered) = (held.voucher.cumulative_amount, offered.voucher.cumulative_amount);
        if offered < held { Err(TakeError::Falls { offered, held }) } else { Ok(()) }
    }
}

/// Whether `offered` is no newer than `held` and pays for no more. Whoever signed it has nothing to gain from it, so its
/// signatures do not matter, unless it contradicts: then it is looked at.
fn covers(held: &SignedVoucher, offered: &SignedVoucher) -> bool {
    held.voucher.session == offered.voucher.session
        && offered.countersignature.sequence <= held.countersignature.sequence
        && offered.voucher.cumulative_amount <= held.voucher.cumulative_amount
        && !held.countersignature.contradicts(&offered.countersignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::sign;
    use alloy::{
        primitives::{Address, B256},
        signers::local::PrivateKeySigner,
    };
    use cortensor_protocol::{Operator, Price, Tier, Voucher};

    struct World {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        domain: Domain,
        client: PrivateKeySigner,
        router: PrivateKeySigner,
        terms: SessionTerms,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (client, router) = (PrivateKeySigner::random(), PrivateKeySigner::random());
        let terms = SessionTerms {
            id: SessionId(B256::repeat_byte(1)),
            owner: Address::ZERO,
            session_key: client.address(),
            router: Operator(router.address()),
            spendable: Wei(1000),
            max_price: Price::default(),
            model: None,
            min_tier: Tier::D,
            expiry: u64::MAX,
            accepting: true,
        };
        let path = folder.path().join("miner.redb");
        let domain = Domain { chain_id: 1, sessions: Address::repeat_byte(7) };
        World { _folder: folder, path, domain, client, router, terms }
    }

    impl World {
        fn open(&self) -> Earnings {
            Earnings::load(Arc::new(Journal::open(&self.path, TABLES).unwrap()), self.domain).unwrap()
        }

        fn voucher(&self, amount: u128, sequence: u64, total: u128) -> SignedVoucher {
            let mut voucher = Voucher::empty(self.terms.id, Operator::default());
            voucher.cumulative_amount = Wei(amount);
            let countersignature = Countersignature {
                voucher_hash: voucher.struct_hash(),
                session: self.terms.id,
                sequence,
                session_total: Wei(total),
            };
            SignedVoucher {
                signature: sign(&self.client, voucher.signing_hash(&self.domain)),
                router_signature: sign(&self.router, countersignature.signing_hash(&self.domain)),
                voucher,
                countersignature,
            }
        }
    }

    #[tokio::test]
    async fn a_taken_voucher_survives_a_restart_and_pays_once() {
        let world = world();
        let earnings = world.open();
        earnings.earn(world.terms.id, Wei(10));
        assert_eq!(earnings.unpaid(world.terms.id), Wei(10));
        earnings.take(&world.terms, world.voucher(10, 1, 10)).await.unwrap();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).await.unwrap();
        assert_eq!(earnings.unpaid(world.terms.id), Wei(0));
        drop(earnings);
        let earnings = world.open();
        assert_eq!(earnings.redeemable(Wei(1), 9), vec![world.voucher(10, 1, 10)]);
        earnings.redeemed(world.terms.id, Wei(10)).unwrap();
        assert!(earnings.redeemable(Wei(1), 9).is_empty());
    }

    #[tokio::test]
    async fn two_vouchers_with_one_sequence_number_become_evidence() {
        let world = world();
        let earnings = world.open();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).await.unwrap();
        assert!(matches!(earnings.take(&world.terms, world.voucher(11, 1, 11)).await, Err(TakeError::Contradiction)));
        assert_eq!(earnings.contradictions().unwrap().len(), 1);
        assert_eq!(earnings.accounts()[0].1.promised(), Wei(10));
    }

    /// Tasks that end together are handed vouchers that overtake each other.
    #[tokio::test]
    async fn vouchers_that_come_together_or_late_are_taken_and_the_newest_counts() {
        let world = world();
        let earnings = world.open();
        let vouchers = [3, 1, 2, 3].map(|at| world.voucher(10 * u128::from(at), at, 10 * u128::from(at)));
        let taken = vouchers.map(|voucher| earnings.take(&world.terms, voucher));
        assert!(futures::future::join_all(taken).await.iter().all(Result::is_ok));
        earnings.take(&world.terms, world.voucher(20, 2, 20)).await.unwrap();
        assert_eq!(earnings.redeemable(Wei(1), 9), vec![world.voucher(30, 3, 30)]);
        drop(earnings);
        assert_eq!(world.open().redeemable(Wei(1), 9), vec![world.voucher(30, 3, 30)]);
        assert!(world.open().contradictions().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_older_voucher_that_contradicts_is_evidence_all_the_same() {
        let world = world();
        let earnings = world.open();
        earnings.take(&world.terms, world.voucher(30, 3, 30)).await.unwrap();
        let older = earnings.take(&world.terms, world.voucher(10, 2, 40)).await;
        assert!(matches!(older, Err(TakeError::Contradiction)));
        assert_eq!(earnings.contradictions().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn bad_vouchers_change_nothing() {
        let world = world();
        let earnings = world.open();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).await.unwrap();
        assert!(matches!(earnings.take(&world.terms, world.voucher(9, 2, 10)).await, Err(TakeError::Falls { .. })));
        assert!(matches!(
            earnings.take(&world.terms, world.voucher(20, 3, 1001)).await,
            Err(TakeError::Overcommitted { .. })
        ));
        let mut forged = world.voucher(20, 3, 20);
        forged.signature = forged.router_signature;
        assert!(matches!(earnings.take(&world.terms, forged).await, Err(TakeError::Invalid(_))));
        assert_eq!(earnings.accounts()[0].1.promised(), Wei(10));
    }
}
