//! A router's books: what each session has deposited, promised and owes, to the wei. Pure; the settlement thread drives
//! it and makes it durable.
//!
//! Invariants, kept by every method:
//! - `total` is the sum of all miners' cumulative amounts, and `total + reserved` never exceeds the deposit;
//! - a voucher's amounts never fall, and no sequence number is ever used twice;
//! - a client nonce is handed out once.

use alloy::primitives::{Address, B256};
use cortensor_protocol::{
    Countersignature, ModelId, Operator, Price, SessionId, Tier, Voucher, Wei, units::TokenCount, voucher::Account,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the chain says of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTerms {
    /// Its id.
    pub id: SessionId,
    /// The account that opened it and gets the rest back.
    pub owner: Address,
    /// The key that signs headers and vouchers.
    pub session_key: Address,
    /// The router that countersigns.
    pub router: Operator,
    /// What vouchers may come to: the deposit, or the key's limit where that is lower.
    pub spendable: Wei,
    /// Highest price that it accepts.
    pub max_price: Price,
    /// The only model that it pays for, where it names one.
    pub model: Option<ModelId>,
    /// Lowest tier that it accepts.
    pub min_tier: Tier,
    /// Unix time in seconds after which it pays for no new work.
    pub expiry: u64,
    /// Whether it pays for new work: open, with a key.
    pub accepting: bool,
}

/// Why the books refuse something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Not enough left.
    #[error(
        "the session has {available} left, this request may cost up to {needed}: ask for fewer tokens or open a larger session"
    )]
    Exhausted {
        /// Deposit less what is owed and reserved.
        available: Wei,
        /// The most that the request can cost.
        needed: Wei,
    },
    /// Over.
    #[error("the session expired at unix time {0}: open a new one")]
    Expired(u64),
    /// The owner is closing it.
    #[error("the session is being closed: open a new one")]
    Closing,
    /// The client signed this number before, or one far above it.
    #[error("the nonce {0} was used before or is too old: sign the task again under a higher one")]
    Nonce(u64),
    /// Unsigned work is at the limit.
    #[error(
        "{outstanding} of work is running or not paid by a signed voucher yet and this task may cost {needed}; the credit limit is {limit}: sign the outstanding vouchers first, or ask for fewer tokens"
    )]
    Credit {
        /// What is not signed for.
        outstanding: Wei,
        /// The most that the task can cost.
        needed: Wei,
        /// What is tolerated.
        limit: Wei,
    },
}

/// What one finished piece of work adds to a miner's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Prompt tokens charged.
    pub input_tokens: TokenCount,
    /// Output tokens delivered.
    pub output_tokens: TokenCount,
    /// What they cost.
    pub amount: Wei,
    /// Leaf of the miner's receipt; none where the miner died before it signed one.
    pub receipt: Option<B256>,
}

/// Which nonces a client that numbers its own tasks has used: the highest, and which of those shortly before it. Tasks that
/// are sent at once may arrive in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NonceWindow {
    highest: u64,
    /// Bit i stands for `highest - i`.
    used: u128,
}

impl NonceWindow {
    /// Takes a nonce. Returns false if it was taken before, or is too old to tell.
    pub const fn take(&mut self, nonce: u64) -> bool {
        if nonce > self.highest {
            let ahead = nonce - self.highest;
            self.used = if ahead < 128 { self.used << ahead } else { 0 };
            self.used |= 1;
            self.highest = nonce;
            return true;
        }
        let behind = self.highest - nonce;
        if behind >= 128 || self.used & (1 << behind) != 0 {
            return false;
        }
        self.used |= 1 << behind;
        true
    }

    /// The window after a restart: everything up to a block's end counts as used.
    const fn to_store(self) -> Self {
        Self { highest: (self.highest / NONCE_BLOCK + 1).saturating_mul(NONCE_BLOCK), used: u128::MAX }
    }
}

/// One session's book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBook {
    /// What the chain says.
    pub terms: SessionTerms,
    /// Sequence of the newest countersignature.
    pub sequence: u64,
    /// Sum over all miners.
    pub total: Wei,
    /// Promised to running work; not stored, since no work survives a restart.
    #[serde(skip)]
    pub reserved: Wei,
    /// The next client nonce, stored ahead of use (see [`NONCE_BLOCK`]).
    pub next_nonce: u64,
    /// Nonces that a client of its own drew.
    pub client_nonces: NonceWindow,
    /// Whether the owner asked to close it.
    pub closing: bool,
    /// Accounts.
    pub miners: BTreeMap<Operator, Account>,
}

/// Nonces are made durable in blocks of this many: after a crash the rest of a block is skipped, never used again.
pub const NONCE_BLOCK: u64 = 1 << 20;

impl SessionBook {
    /// An empty book.
    #[must_use]
    pub const fn new(terms: SessionTerms) -> Self {
        Self {
            terms,
            sequence: 0,
            total: Wei::ZERO,
            reserved: Wei::ZERO,
            next_nonce: 1,
            client_nonces: NonceWindow { highest: 0, used: 0 },
            closing: false,
            miners: BTreeMap::new(),
        }
    }

    /// What is neither owed nor reserved.
    #[must_use]
    pub const fn available(&self) -> Wei {
        self.terms.spendable.saturating_sub(self.total).saturating_sub(self.reserved)
    }

    /// Sets the most that a request can cost aside, before it is dispatched, and hands out its nonce.
    ///
    /// # Errors
    /// When the session is over or has too little left.
    pub fn reserve(&mut self, needed: Wei, now_seconds: u64) -> Result<u64, LedgerError> {
        self.set_aside(needed, now_seconds)?;
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        Ok(nonce)
    }

    /// The same for a client that numbers its own tasks: refuses a number that it used before.
    ///
    /// # Errors
    /// When the session is over or has too little left, or the nonce was used before.
    pub fn reserve_numbered(&mut self, nonce: u64, needed: Wei, now_seconds: u64) -> Result<(), LedgerError> {
        if !{ self.client_nonces }.take(nonce) {
            return Err(LedgerError::Nonce(nonce));
        }
        self.set_aside(needed, now_seconds)?;
        self.client_nonces.take(nonce);
        Ok(())
    }

    fn set_aside(&mut self, needed: Wei, now_seconds: u64) -> Result<(), LedgerError> {
        if self.closing {
            return Err(LedgerError::Closing);
        }
        if now_seconds >= self.terms.expiry {
            return Err(LedgerError::Expired(self.terms.expiry));
        }
        let available = self.available();
        if needed > available {
            return Err(LedgerError::Exhausted { available, needed });
        }
        self.reserved = self.reserved + needed;
        Ok(())
    }

    /// Gives back what was set aside and not used.
    pub const fn release(&mut self, amount: Wei) {
        self.reserved = self.reserved.saturating_sub(amount);
    }

    /// Moves `owed` from what was reserved to the miner's account.
    ///
    /// # Errors
    /// When the amount is above what was reserved for it; then nothing changes.
    pub fn record(&mut self, miner: Operator, owed: &Owed) -> Result<(), LedgerError> {
        if owed.amount > self.reserved {
            return Err(LedgerError::Exhausted { available: self.reserved, needed: owed.amount });
        }
        self.reserved = self.reserved.saturating_sub(owed.amount);
        self.total = self.total + owed.amount;
        let session = self.terms.id;
        let account = self.miners.entry(miner).or_insert_with(|| Account::new(session, miner));
        account.add(owed.amount, owed.input_tokens, owed.output_tokens, owed.receipt);
        Ok(())
    }

    /// The miner's newest voucher with the countersignature to be signed; takes the next sequence number.
    ///
    /// Returns `None` for a miner without an account.
    pub fn next_voucher(&mut self, miner: Operator) -> Option<(Voucher, Countersignature)> {
        let voucher = self.miners.get(&miner)?.voucher.clone();
        let countersignature = self.countersign(&voucher);
        Some((voucher, countersignature))
    }

    /// The countersignature to be signed for a voucher that this book stated, now or earlier; takes the next sequence
    /// number. The total is the book's, so it never falls.
    pub fn countersign(&mut self, voucher: &Voucher) -> Countersignature {
        self.sequence += 1;
        Countersignature {
            voucher_hash: voucher.struct_hash(),
            session: self.terms.id,
            sequence: self.sequence,
            session_total: self.total,
        }
    }

    /// The book as it is to be stored: with nonces ahead of those handed out.
    #[must_use]
    pub fn to_store(&self) -> Self {
        let mut stored = self.clone();
        stored.next_nonce = (self.next_nonce / NONCE_BLOCK + 1) * NONCE_BLOCK;
        stored.client_nonces = self.client_nonces.to_store();
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn book(deposit: u128) -> SessionBook {
        SessionBook::new(SessionTerms {
            id: SessionId(B256::repeat_byte(1)),
            owner: Address::ZERO,
            session_key: Address::ZERO,
            router: Operator::default(),
            spendable: Wei(deposit),
            max_price: Price::default(),
            model: None,
            min_tier: Tier::D,
            expiry: 100,
            accepting: true,
        })
    }

    fn owed(amount: u128) -> Owed {
        Owed { input_tokens: 1, output_tokens: 2, amount: Wei(amount), receipt: Some(B256::repeat_byte(3)) }
    }

    #[test]
    fn refuses_what_the_deposit_does_not_cover() {
        let mut book = book(10);
        assert_eq!(book.reserve(Wei(6), 0), Ok(1));
        assert_eq!(book.reserve(Wei(5), 0), Err(LedgerError::Exhausted { available: Wei(4), needed: Wei(5) }));
        book.release(Wei(6));
        assert_eq!(book.reserve(Wei(10), 0), Ok(2));
        assert_eq!(book.reserve(Wei(0), 100), Err(LedgerError::Expired(100)));
    }

    #[test]
    fn an_unreserved_amount_is_not_recorded() {
        let mut book = book(10);
        book.reserve(Wei(3), 0).unwrap();
        let before = book.clone();
        assert!(book.record(Operator::default(), &owed(4)).is_err());
        assert_eq!(book, before);
    }

    #[test]
    fn a_client_uses_each_of_its_nonces_once_in_any_order() {
        let mut book = book(1000);
        let mut reserve = |nonce| book.reserve_numbered(nonce, Wei(1), 0);
        assert_eq!([5, 7, 6, 200].map(&mut reserve), [Ok(()), Ok(()), Ok(()), Ok(())]);
        for used in [5, 6, 7, 200, 72] {
            assert_eq!(reserve(used), Err(LedgerError::Nonce(used)));
        }
        assert_eq!(reserve(73), Ok(()));
        let mut restarted = book.to_store();
        assert_eq!(restarted.reserve_numbered(201, Wei(1), 0), Err(LedgerError::Nonce(201)), "skipped, not repeated");
        assert_eq!(restarted.reserve_numbered(NONCE_BLOCK + 1, Wei(1), 0), Ok(()));
    }

    #[test]
    fn a_refused_request_uses_no_nonce() {
        let mut book = book(1);
        assert!(book.reserve_numbered(1, Wei(2), 0).is_err());
        assert_eq!(book.reserve_numbered(1, Wei(1), 0), Ok(()));
    }

    #[test]
    fn a_restart_never_repeats_a_nonce() {
        let mut book = book(10);
        let used = book.reserve(Wei(1), 0).unwrap();
        let mut restarted = book.to_store();
        assert!(restarted.reserve(Wei(1), 0).unwrap() > used);
    }

    proptest! {
        #[test]
        fn the_books_balance_whatever_happens(
            steps in prop::collection::vec((0u8..4, 0u8..3, 0u128..40), 0..60), deposit in 0u128..500,
        ) {
            let mut book = book(deposit);
            let mut newest: BTreeMap<Operator, Wei> = BTreeMap::new();
            let mut countersigned: Vec<Countersignature> = Vec::new();
            for (action, miner, amount) in steps {
                let miner = Operator(Address::repeat_byte(miner));
                match action {
                    0 => { let _ = book.reserve(Wei(amount), 0); }
                    1 => book.release(Wei(amount)),
                    2 => { let _ = book.record(miner, &owed(amount)); }
                    _ => if let Some((voucher, counter)) = book.next_voucher(miner) {
                        let before = newest.insert(miner, voucher.cumulative_amount);
                        prop_assert!(before.is_none_or(|before| before <= voucher.cumulative_amount));
                        prop_assert!(countersigned.iter().all(|other| !other.contradicts(&counter)));
                        countersigned.push(counter);
                    },
                }
                let sum: Wei = book.miners.values().map(|account| account.voucher.cumulative_amount).sum();
                prop_assert_eq!(sum, book.total);
                prop_assert!(book.total + book.reserved <= Wei(deposit));
            }
        }
    }
}
