//! A miner's earnings: what each session owes it, what it holds signed vouchers for, and what it has redeemed.
//!
//! A voucher is kept only when both signatures fit the session on chain; it is on disk before the router is told that it
//! was taken.

use crate::{
    journal::{Journal, StoreError, TableName, Write, decode, encode},
    ledger::SessionTerms,
};
use cortensor_protocol::{Countersignature, Domain, SessionId, Signature65, SignedVoucher, Wei, voucher::VoucherError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Tables of a miner's store.
pub const TABLES: &[TableName] = &[EARNINGS, EVIDENCE];
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
    Store(#[from] StoreError),
}

/// The earnings of one miner.
#[derive(Debug)]
pub struct Earnings {
    journal: Arc<Journal>,
    domain: Domain,
    accounts: Mutex<HashMap<SessionId, Account>>,
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
        Ok(Self { journal, domain, accounts: Mutex::new(accounts) })
    }

    /// Work of a session without a voucher.
    #[must_use]
    pub fn unpaid(&self, session: SessionId) -> Wei {
        self.accounts.lock().get(&session).map(Account::unpaid).unwrap_or_default()
    }

    /// Every account.
    #[must_use]
    pub fn accounts(&self) -> Vec<(SessionId, Account)> {
        self.accounts.lock().iter().map(|(session, account)| (*session, account.clone())).collect()
    }

    /// Counts a signed receipt.
    ///
    /// It is stored with the voucher that pays it: until then it is only this miner's own claim.
    pub fn earn(&self, session: SessionId, amount: Wei) {
        let mut accounts = self.accounts.lock();
        let account = accounts.entry(session).or_default();
        account.earned = account.earned + amount;
    }

    /// Takes a voucher: checks it, stores it, and only then returns.
    ///
    /// # Errors
    /// When it is invalid, falls, promises too much, contradicts an earlier one, or cannot be stored.
    pub fn take(&self, terms: &SessionTerms, voucher: SignedVoucher) -> Result<(), TakeError> {
        voucher.verify(&self.domain, terms.session_key, terms.router)?;
        let total = voucher.countersignature.session_total;
        if total > terms.spendable {
            return Err(TakeError::Overcommitted { total, deposit: terms.spendable });
        }
        let mut accounts = self.accounts.lock();
        let mut account = accounts.get(&terms.id).cloned().unwrap_or_default();
        if let Some(held) = &account.voucher {
            if *held == voucher {
                return Ok(());
            }
            self.check_against(held, &voucher)?;
        }
        // A voucher may pay for work that died with its task stream, which this miner never counted as earned.
        account.earned = account.earned.max(voucher.voucher.cumulative_amount);
        account.voucher = Some(voucher);
        self.store(terms.id, &account)?;
        accounts.insert(terms.id, account);
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

    /// Notes what the chain has paid.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn redeemed(&self, session: SessionId, cumulative: Wei) -> Result<(), StoreError> {
        let mut accounts = self.accounts.lock();
        let mut account = accounts.get(&session).cloned().unwrap_or_default();
        account.redeemed = account.redeemed.max(cumulative);
        self.store(session, &account)?;
        accounts.insert(session, account);
        Ok(())
    }

    /// Vouchers worth at least `least` more than what was redeemed, at most `limit`, the most valuable first.
    #[must_use]
    pub fn redeemable(&self, least: Wei, limit: usize) -> Vec<SignedVoucher> {
        let worth = |account: &Account| account.promised().saturating_sub(account.redeemed);
        let mut open: Vec<(Wei, SignedVoucher)> = self
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
        let entries = self.journal.scan(EVIDENCE, &[], 1024)?;
        entries.iter().map(|(_, bytes)| decode("contradiction", bytes)).collect()
    }

    fn store(&self, session: SessionId, account: &Account) -> Result<(), StoreError> {
        self.journal.commit(&[Write::Put(EARNINGS, session.0.to_vec(), encode(&(session, account)))])
    }
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

    #[test]
    fn a_taken_voucher_survives_a_restart_and_pays_once() {
        let world = world();
        let earnings = world.open();
        earnings.earn(world.terms.id, Wei(10));
        assert_eq!(earnings.unpaid(world.terms.id), Wei(10));
        earnings.take(&world.terms, world.voucher(10, 1, 10)).unwrap();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).unwrap();
        assert_eq!(earnings.unpaid(world.terms.id), Wei(0));
        drop(earnings);
        let earnings = world.open();
        assert_eq!(earnings.redeemable(Wei(1), 9), vec![world.voucher(10, 1, 10)]);
        earnings.redeemed(world.terms.id, Wei(10)).unwrap();
        assert!(earnings.redeemable(Wei(1), 9).is_empty());
    }

    #[test]
    fn two_vouchers_with_one_sequence_number_become_evidence() {
        let world = world();
        let earnings = world.open();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).unwrap();
        assert!(matches!(earnings.take(&world.terms, world.voucher(11, 1, 11)), Err(TakeError::Contradiction)));
        assert_eq!(earnings.contradictions().unwrap().len(), 1);
        assert_eq!(earnings.accounts()[0].1.promised(), Wei(10));
    }

    #[test]
    fn bad_vouchers_change_nothing() {
        let world = world();
        let earnings = world.open();
        earnings.take(&world.terms, world.voucher(10, 1, 10)).unwrap();
        assert!(matches!(earnings.take(&world.terms, world.voucher(9, 2, 10)), Err(TakeError::Falls { .. })));
        assert!(matches!(
            earnings.take(&world.terms, world.voucher(20, 3, 1001)),
            Err(TakeError::Overcommitted { .. })
        ));
        let mut forged = world.voucher(20, 3, 20);
        forged.signature = forged.router_signature;
        assert!(matches!(earnings.take(&world.terms, forged), Err(TakeError::Invalid(_))));
        assert_eq!(earnings.accounts()[0].1.promised(), Wei(10));
    }
}
