//! Audits: everything that it takes to go through a miner's answer again.

use crate::{
    generation::{GenerationRequest, InvalidRequest},
    id::TokenId,
    receipt::{ReceiptFile, SignedReceipt, VerifyError},
    signature::Domain,
    task::SignedHeader,
    trace::{self, Evidence, TraceError, TraceToken},
};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// One answer of one miner, opened: what was asked, what the miner signed, and the records under its trace root. Miners
/// keep the cases of their answers and show them to the guards that are drawn for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What the client signed.
    pub header: SignedHeader,
    /// The request that the header binds.
    pub request: GenerationRequest,
    /// What the miner signed.
    pub receipt: SignedReceipt,
    /// Output of the task that came from other miners before this one took over.
    pub before: Vec<TokenId>,
    /// Salt of the trace.
    pub salt: B256,
    /// The token part of the records.
    pub tokens: Vec<TraceToken>,
    /// The evidence part: one for each token.
    pub evidence: Vec<Evidence>,
}

/// How a case contradicts itself or its receipt. Whoever signed the receipt answers for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The request is not what the header binds.
    #[error("the request is not the one that the header binds")]
    Request,
    /// The request breaks a bound that miners check.
    #[error("the request is not valid")]
    Invalid(#[source] InvalidRequest),
    /// The receipt does not answer the header, does not add up, or is not signed by its miner.
    #[error("the receipt does not hold")]
    Receipt(#[source] VerifyError),
    /// Not as many records as the receipt counts.
    #[error("the receipt commits to {counted} records, {shown} are shown")]
    Count {
        /// By the receipt.
        counted: u64,
        /// In the case.
        shown: usize,
    },
    /// Not as many earlier tokens as the receipt says.
    #[error("the receipt begins after {counted} tokens, {shown} are shown")]
    Before {
        /// By the receipt.
        counted: u32,
        /// In the case.
        shown: usize,
    },
    /// A record is malformed.
    #[error("a record is malformed")]
    Record(#[source] TraceError),
    /// The records are not those under the root.
    #[error("the records do not have the trace root that the miner signed")]
    Root,
}

impl Case {
    /// The case of a receipt file whose evidence was opened, where no other miner had a part in the answer. `None` where
    /// something of that is missing.
    #[must_use]
    pub fn of(file: &ReceiptFile) -> Option<Self> {
        let whole = file.receipt.receipt.first_token == 0 && file.opened.len() == file.tokens.len();
        Some(Self {
            header: file.header.clone(),
            request: file.request.clone().filter(|_| whole)?,
            receipt: file.receipt.clone(),
            before: Vec::new(),
            salt: file.salt,
            tokens: file.tokens.clone(),
            evidence: file.opened.clone(),
        })
    }

    /// Checks everything that needs neither model nor chain. That the header is signed by the session's key, and that the
    /// receipt's miner is the one under audit, is for the caller to check.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, domain: &Domain) -> Result<(), CaseError> {
        if self.header.header.bound() != self.request.bound() {
            return Err(CaseError::Request);
        }
        self.request.check().map_err(CaseError::Invalid)?;
        self.receipt.verify(domain, &self.header.header).map_err(CaseError::Receipt)?;
        let receipt = &self.receipt.receipt;
        if receipt.records() != self.tokens.len() as u64 {
            return Err(CaseError::Count { counted: receipt.records(), shown: self.tokens.len() });
        }
        if usize::try_from(receipt.first_token) != Ok(self.before.len()) {
            return Err(CaseError::Before { counted: receipt.first_token, shown: self.before.len() });
        }
        trace::check(&self.tokens, &self.evidence).map_err(CaseError::Record)?;
        let evidence = trace::evidence_leaves(self.salt, self.tokens.len(), &self.evidence);
        let root = trace::root(self.salt, &self.tokens, &evidence);
        if root == Some(receipt.trace_root) { Ok(()) } else { Err(CaseError::Root) }
    }

    /// The task's output up to the end of this miner's part, the token that ended it included.
    #[must_use]
    pub fn output(&self) -> Vec<TokenId> {
        self.before.iter().copied().chain(self.tokens.iter().map(|token| token.id)).collect()
    }
}
