//! Vouchers: how a session pays, off chain, for any number of requests with one redemption.
//!
//! A voucher is cumulative: the newest replaces all before it. The session key signs it; the session's router
//! countersigns it with a sequence number and the session's running total. A router that signs totals above the
//! deposit, or two different things under one number, has signed the proof against itself.

use crate::{
    id::{Operator, SessionId},
    merkle::Accumulator,
    signature::{Domain, RecoverError, Signature65},
    units::{TokenCount, Wei},
};
use alloy_primitives::{Address, B256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};

/// EIP-712 forms, exactly as the contracts hash them.
mod sol_types {
    alloy_sol_types::sol! {
        struct Voucher {
            bytes32 session;
            address miner;
            uint128 cumulativeAmount;
            uint64 cumulativeInputTokens;
            uint64 cumulativeOutputTokens;
            bytes32 receiptsRoot;
        }
        struct Countersignature {
            bytes32 voucherHash;
            bytes32 session;
            uint64 sequence;
            uint128 sessionTotal;
        }
        struct Close {
            bytes32 session;
            uint64 finalSequence;
            uint128 finalTotal;
        }
    }
}

/// What one session owes one miner in all, so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The session that pays.
    pub session: SessionId,
    /// The miner that is paid.
    pub miner: Operator,
    /// Everything owed since the session opened.
    pub cumulative_amount: Wei,
    /// Input tokens since the session opened.
    pub cumulative_input_tokens: TokenCount,
    /// Output tokens since the session opened.
    pub cumulative_output_tokens: TokenCount,
    /// [`crate::merkle::Accumulator`] root over the receipts that this voucher pays.
    pub receipts_root: B256,
}

impl Voucher {
    /// A voucher for nothing: the state before the first task.
    #[must_use]
    pub fn empty(session: SessionId, miner: Operator) -> Self {
        Self {
            session,
            miner,
            cumulative_amount: Wei::ZERO,
            cumulative_input_tokens: 0,
            cumulative_output_tokens: 0,
            receipts_root: B256::ZERO,
        }
    }

    fn sol(&self) -> sol_types::Voucher {
        sol_types::Voucher {
            session: self.session.0,
            miner: self.miner.0,
            cumulativeAmount: self.cumulative_amount.0,
            cumulativeInputTokens: self.cumulative_input_tokens,
            cumulativeOutputTokens: self.cumulative_output_tokens,
            receiptsRoot: self.receipts_root,
        }
    }

    /// EIP-712 struct hash: what the countersignature names.
    #[must_use]
    pub fn struct_hash(&self) -> B256 {
        self.sol().eip712_hash_struct()
    }

    /// What the session key signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&self.sol())
    }
}

/// What one session owes one miner, and the receipts behind it. Router and client keep the same account and come to the
/// same vouchers, since both add to it here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Everything owed so far, as the next voucher states it.
    pub voucher: Voucher,
    /// Receipts that the voucher commits to.
    pub receipts: Accumulator,
}

impl Account {
    /// An account on which nothing is owed.
    #[must_use]
    pub fn new(session: SessionId, miner: Operator) -> Self {
        Self { voucher: Voucher::empty(session, miner), receipts: Accumulator::default() }
    }

    /// Adds one delivery; `receipt` is the leaf of the miner's receipt where it signed one.
    pub fn add(&mut self, amount: Wei, input_tokens: TokenCount, output_tokens: TokenCount, receipt: Option<B256>) {
        if let Some(leaf) = receipt {
            self.receipts.push(leaf);
        }
        let voucher = &mut self.voucher;
        voucher.cumulative_amount = voucher.cumulative_amount + amount;
        voucher.cumulative_input_tokens = voucher.cumulative_input_tokens.saturating_add(input_tokens);
        voucher.cumulative_output_tokens = voucher.cumulative_output_tokens.saturating_add(output_tokens);
        voucher.receipts_root = self.receipts.root();
    }
}

/// A router's promise that a voucher fits into the deposit together with all others of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersignature {
    /// [`Voucher::struct_hash`].
    pub voucher_hash: B256,
    /// The session.
    pub session: SessionId,
    /// Starts at 1 and rises by at least one with every voucher of the session, over all miners.
    pub sequence: u64,
    /// Sum of the newest cumulative amounts of all miners after this voucher.
    pub session_total: Wei,
}

impl Countersignature {
    /// What the router's operator key signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&sol_types::Countersignature {
            voucherHash: self.voucher_hash,
            session: self.session.0,
            sequence: self.sequence,
            sessionTotal: self.session_total.0,
        })
    }

    /// Whether two countersignatures of one router convict it of having kept two books.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        let (a, b) = if self.sequence <= other.sequence { (self, other) } else { (other, self) };
        self.session == other.session
            && if a.sequence == b.sequence {
                a.voucher_hash != b.voucher_hash || a.session_total != b.session_total
            } else {
                a.session_total > b.session_total
            }
    }
}

/// A router's statement of a session's final total, with which the owner gets the rest of the deposit at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClose {
    /// The session.
    pub session: SessionId,
    /// Sequence of its last voucher.
    pub final_sequence: u64,
    /// Total owed to all miners.
    pub final_total: Wei,
}

impl SessionClose {
    /// What the router's operator key signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&sol_types::Close {
            session: self.session.0,
            finalSequence: self.final_sequence,
            finalTotal: self.final_total.0,
        })
    }
}

/// A voucher with both signatures: what a miner keeps and redeems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoucher {
    /// The voucher.
    pub voucher: Voucher,
    /// Signature of the session key.
    pub signature: Signature65,
    /// The router's countersignature.
    pub countersignature: Countersignature,
    /// Signature of the router's operator key over it.
    pub router_signature: Signature65,
}

/// Why a voucher is not worth keeping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoucherError {
    /// The session key's signature names no signer.
    #[error("the voucher's signature is invalid")]
    Signature(#[source] RecoverError),
    /// The router's signature names no signer.
    #[error("the countersignature is invalid")]
    RouterSignature(#[source] RecoverError),
    /// Signed by somebody else.
    #[error("the voucher is signed by {found}, the session key is {expected}")]
    WrongSigner {
        /// Who signed.
        found: Address,
        /// Who should have.
        expected: Address,
    },
    /// Countersigned by somebody else.
    #[error("the voucher is countersigned by {found}, the session's router is {expected}")]
    WrongRouter {
        /// Who signed.
        found: Address,
        /// Who should have.
        expected: Address,
    },
    /// The countersignature names another voucher or session.
    #[error("the countersignature belongs to another voucher")]
    WrongVoucher,
}

impl SignedVoucher {
    /// Checks both signatures against the session's key and router.
    ///
    /// # Errors
    /// When either is invalid, by another account, or about another voucher.
    pub fn verify(&self, domain: &Domain, session_key: Address, router: Operator) -> Result<(), VoucherError> {
        if self.countersignature.voucher_hash != self.voucher.struct_hash()
            || self.countersignature.session != self.voucher.session
        {
            return Err(VoucherError::WrongVoucher);
        }
        let found = self.signature.recover(self.voucher.signing_hash(domain)).map_err(VoucherError::Signature)?;
        if found != session_key {
            return Err(VoucherError::WrongSigner { found, expected: session_key });
        }
        let hash = self.countersignature.signing_hash(domain);
        let found = self.router_signature.recover(hash).map_err(VoucherError::RouterSignature)?;
        if found != router.0 {
            return Err(VoucherError::WrongRouter { found, expected: router.0 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::tests::sign;

    fn domain() -> Domain {
        Domain { chain_id: 1, sessions: Address::repeat_byte(9) }
    }

    fn signed() -> (SignedVoucher, Address, Operator) {
        let mut voucher = Voucher::empty(SessionId(B256::repeat_byte(1)), Operator(Address::repeat_byte(2)));
        voucher.cumulative_amount = Wei(5);
        let (key, signature) = sign(1, voucher.signing_hash(&domain()));
        let countersignature = Countersignature {
            voucher_hash: voucher.struct_hash(),
            session: voucher.session,
            sequence: 1,
            session_total: Wei(5),
        };
        let (router, router_signature) = sign(2, countersignature.signing_hash(&domain()));
        (SignedVoucher { voucher, signature, countersignature, router_signature }, key, Operator(router))
    }

    #[test]
    fn verifies_only_the_right_parties() {
        let (voucher, key, router) = signed();
        assert_eq!(voucher.verify(&domain(), key, router), Ok(()));
        assert!(voucher.verify(&domain(), router.0, router).is_err());
        assert!(voucher.verify(&domain(), key, Operator(key)).is_err());
        let elsewhere = Domain { chain_id: 2, ..domain() };
        assert!(voucher.verify(&elsewhere, key, router).is_err(), "must not be replayed on another chain");
    }

    #[test]
    fn a_changed_amount_breaks_both_signatures() {
        let (mut voucher, key, router) = signed();
        voucher.voucher.cumulative_amount = Wei(6);
        assert_eq!(voucher.verify(&domain(), key, router), Err(VoucherError::WrongVoucher));
    }

    #[test]
    fn two_books_contradict_and_one_book_does_not() {
        let at = |sequence, total, voucher: u8| Countersignature {
            voucher_hash: B256::repeat_byte(voucher),
            session: SessionId::default(),
            sequence,
            session_total: Wei(total),
        };
        assert!(!at(1, 5, 1).contradicts(&at(1, 5, 1)));
        assert!(at(1, 5, 1).contradicts(&at(1, 5, 2)));
        assert!(at(1, 5, 1).contradicts(&at(2, 4, 2)));
        assert!(at(2, 4, 2).contradicts(&at(1, 5, 1)));
        assert!(!at(1, 5, 1).contradicts(&at(2, 9, 2)));
    }
}
