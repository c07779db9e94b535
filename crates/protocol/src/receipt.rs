//! Receipts: a miner's signed statement of what it delivered, and the file in which one is kept and checked offline.
//!
//! A receipt commits to every token by a Merkle root ([`crate::trace`]). It does not contain the text: the [`ReceiptFile`]
//! adds what a checker needs, and [`ReceiptFile::verify`] checks everything that can be checked without the model and
//! without the chain.

use crate::{
    binding,
    generation::{FinishReason, GenerationRequest},
    id::{Operator, TokenId},
    manifest::Tier,
    merkle,
    signature::{Domain, RecoverError, Signature65},
    standing::Guarantee,
    task::{SignedHeader, TaskHeader},
    trace::{self, Evidence, TraceError, TraceToken},
    units::{Price, Wei},
    voucher::{SignedVoucher, VoucherError},
};
use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

/// EIP-712 form, as later contracts hash it.
mod sol_types {
    alloy_sol_types::sol! {
        struct Receipt {
            bytes32 task;
            bytes32 session;
            bytes32 header;
            bytes32 model;
            address miner;
            bytes32 promptHash;
            bytes32 traceRoot;
            uint32 firstToken;
            uint32 inputTokens;
            uint32 outputTokens;
            uint8 finish;
            uint8 tier;
            uint128 inputPrice;
            uint128 outputPrice;
            uint128 amount;
            uint64 finishedAt;
        }
    }
}

/// What a miner says that it did for one task (or for the part of a task that it took over).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`TaskHeader::signing_hash`] of the header that it served.
    pub header_hash: B256,
    /// The header's task.
    pub task: crate::TaskId,
    /// The header's session.
    pub session: crate::SessionId,
    /// The header's model.
    pub model: crate::ModelId,
    /// Who did it.
    pub miner: Operator,
    /// keccak-256 of the prompt's token ids (u32, little endian); zero where the backend does not tell.
    pub prompt_hash: B256,
    /// [`trace::root`] over the [`Self::records`] that this miner made.
    pub trace_root: B256,
    /// Index in the task of the first token that this miner produced: above 0 after a hand-over.
    pub first_token: u32,
    /// Prompt tokens charged: 0 when the task was handed on before it was finished.
    pub input_tokens: u32,
    /// Tokens produced by this miner.
    pub output_tokens: u32,
    /// Why it ended.
    pub finish: FinishReason,
    /// What of it can be checked.
    pub tier: Tier,
    /// The agreed price.
    pub price: Price,
    /// [`Price::cost`] of the counts above.
    pub amount: Wei,
    /// Unix time in seconds, by the miner's clock.
    pub finished_at: u64,
}

impl Receipt {
    /// Records of the trace: one for each output token and, where the model itself ended the answer before a backend of
    /// tier A, one for the token that ended it.
    #[must_use]
    pub fn records(&self) -> u64 {
        let closing =
            self.finish == FinishReason::EndOfSequence && self.tier == Tier::A && self.trace_root != B256::ZERO;
        u64::from(self.output_tokens) + u64::from(closing)
    }

    /// What the miner's operator key signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&sol_types::Receipt {
            task: self.task.0,
            session: self.session.0,
            header: self.header_hash,
            model: self.model.0,
            miner: self.miner.0,
            promptHash: self.prompt_hash,
            traceRoot: self.trace_root,
            firstToken: self.first_token,
            inputTokens: self.input_tokens,
            outputTokens: self.output_tokens,
            finish: self.finish as u8,
            tier: self.tier as u8,
            inputPrice: self.price.input.0,
            outputPrice: self.price.output.0,
            amount: self.amount.0,
            finishedAt: self.finished_at,
        })
    }

    /// Leaf of this receipt in the receipts tree that vouchers commit to.
    #[must_use]
    pub fn leaf(&self, domain: &Domain) -> B256 {
        merkle::leaf(self.signing_hash(domain).as_slice())
    }
}

/// A receipt with its miner's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Signature of the miner's operator key.
    pub signature: Signature65,
}

/// keccak-256 of a prompt's token ids.
#[must_use]
pub fn prompt_hash(tokens: &[TokenId]) -> B256 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    keccak256([b"cortensor prompt v1".as_slice(), &bytes].concat())
}

/// Everything needed to check one receipt without the network: `cortensor receipt verify FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    /// Format of this file: 2.
    pub version: u32,
    /// The chain and contract that the signatures are for.
    pub domain: Domain,
    /// The registry that binds the miner's transport key.
    pub registry: Address,
    /// The session's key, which signed the header and the voucher.
    pub session_key: Address,
    /// The session's router, which countersigned.
    pub router: Operator,
    /// What was asked.
    pub header: SignedHeader,
    /// What was answered.
    pub receipt: SignedReceipt,
    /// Salt of the trace.
    pub salt: B256,
    /// The tokens that the receipt commits to: [`Receipt::records`] of them.
    pub tokens: Vec<TraceToken>,
    /// The evidence leaves of the trace, one for each window of tokens.
    pub evidence: Vec<B256>,
    /// The evidence itself, where the miner has opened it: one record for each token, or empty.
    pub opened: Vec<Evidence>,
    /// What was asked, for an audit; absent where only the receipt was kept.
    pub request: Option<GenerationRequest>,
    /// The text that was delivered, for a person to read. Only a holder of the model can check it against the tokens.
    pub text: String,
    /// The voucher that paid it; absent where the task was not paid yet.
    pub voucher: Option<SignedVoucher>,
    /// What the tier bought, as the router read it from the chain when it showed this file; nobody signs it. `cortensor
    /// receipt verify` asks the chain anew.
    #[serde(default)]
    pub guarantee: Option<Guarantee>,
}

/// What is wrong with a receipt file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Written by a version that this one does not know.
    #[error("this file has version {0}; this program reads version 2")]
    Version(u32),
    /// A signature names no signer.
    #[error("the {what} carries an invalid signature")]
    Signature {
        /// Which statement.
        what: &'static str,
        /// Why.
        #[source]
        source: RecoverError,
    },
    /// A signature is somebody else's.
    #[error("the {what} is signed by {found}, expected {expected}")]
    Signer {
        /// Which statement.
        what: &'static str,
        /// Who signed.
        found: Address,
        /// Who should have.
        expected: Address,
    },
    /// Two parts of the file speak of different things.
    #[error("the receipt's {0} is not the header's")]
    Mismatch(&'static str),
    /// The tokens are not those that the receipt commits to.
    #[error("the tokens do not have the trace root that the miner signed")]
    Trace,
    /// The opened evidence is not in canonical form.
    #[error("the opened evidence is malformed")]
    Evidence(#[source] TraceError),
    /// The opened evidence is not what the receipt commits to.
    #[error("the opened evidence does not have the leaves that the miner signed")]
    Opened,
    /// The number of tokens is not the receipt's.
    #[error("the receipt commits to {counted} tokens, the file holds {held}")]
    Count {
        /// By the receipt.
        counted: u64,
        /// In the file.
        held: usize,
    },
    /// More tokens than the header allows.
    #[error("the task was allowed {allowed} output tokens and reached {reached}")]
    TooLong {
        /// By the header.
        allowed: u32,
        /// First token plus output tokens.
        reached: u64,
    },
    /// The amount is not the price times the counts.
    #[error("the receipt charges {charged}, its own price and counts come to {due}")]
    Amount {
        /// By the receipt.
        charged: Wei,
        /// By arithmetic.
        due: Wei,
    },
    /// Served below the tier that the client demanded.
    #[error("the client demanded tier {demanded}, the receipt is of tier {served}")]
    Tier {
        /// By the header.
        demanded: Tier,
        /// By the receipt.
        served: Tier,
    },
    /// The voucher is not valid.
    #[error("the voucher is invalid")]
    Voucher(#[source] VoucherError),
    /// The voucher pays another session or miner.
    #[error("the voucher is of another session or miner")]
    OtherVoucher,
    /// The voucher is worth less than this receipt alone.
    #[error("the voucher pays {paid} in all, this receipt alone is worth {due}")]
    Underpaid {
        /// By the voucher.
        paid: Wei,
        /// By the receipt.
        due: Wei,
    },
}

impl SignedReceipt {
    /// Checks that a receipt answers `header` and adds up, and that its miner signed it.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, domain: &Domain, header: &TaskHeader) -> Result<(), VerifyError> {
        let receipt = &self.receipt;
        check_signer("receipt", self.signature, receipt.signing_hash(domain), receipt.miner.0)?;
        for (same, what) in [
            (receipt.header_hash == header.signing_hash(domain), "header hash"),
            (receipt.task == header.task, "task"),
            (receipt.session == header.session, "session"),
            (receipt.model == header.model, "model"),
        ] {
            if !same {
                return Err(VerifyError::Mismatch(what));
            }
        }
        let reached = u64::from(receipt.first_token) + u64::from(receipt.output_tokens);
        if reached > u64::from(header.max_tokens) {
            return Err(VerifyError::TooLong { allowed: header.max_tokens, reached });
        }
        if receipt.tier < header.min_tier {
            return Err(VerifyError::Tier { demanded: header.min_tier, served: receipt.tier });
        }
        let due =
            receipt.price.cost(receipt.input_tokens.into(), receipt.output_tokens.into()).unwrap_or(Wei(u128::MAX));
        if due != receipt.amount {
            return Err(VerifyError::Amount { charged: receipt.amount, due });
        }
        Ok(())
    }
}

fn check_signer(what: &'static str, signature: Signature65, hash: B256, expected: Address) -> Result<(), VerifyError> {
    let found = signature.recover(hash).map_err(|source| VerifyError::Signature { what, source })?;
    if found == expected { Ok(()) } else { Err(VerifyError::Signer { what, found, expected }) }
}

impl ReceiptFile {
    /// Checks structure, signatures, counts, amounts and the commitment, against nothing but the file.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        if self.version != 2 {
            return Err(VerifyError::Version(self.version));
        }
        let header = &self.header.header;
        check_signer("header", self.header.signature, header.signing_hash(&self.domain), self.session_key)?;
        self.receipt.verify(&self.domain, header)?;
        let receipt = &self.receipt.receipt;
        if receipt.records() != self.tokens.len() as u64 {
            return Err(VerifyError::Count { counted: receipt.records(), held: self.tokens.len() });
        }
        if trace::root(self.salt, &self.tokens, &self.evidence) != Some(receipt.trace_root) {
            return Err(VerifyError::Trace);
        }
        if self.request.as_ref().is_some_and(|request| request.hash() != header.request_hash) {
            return Err(VerifyError::Mismatch("request"));
        }
        self.verify_opened()?;
        self.voucher.as_ref().map_or(Ok(()), |voucher| self.verify_voucher(voucher))
    }

    fn verify_opened(&self) -> Result<(), VerifyError> {
        if self.opened.is_empty() {
            return Ok(());
        }
        trace::check(&self.tokens, &self.opened).map_err(VerifyError::Evidence)?;
        if trace::evidence_leaves(self.salt, self.tokens.len(), &self.opened) == self.evidence {
            Ok(())
        } else {
            Err(VerifyError::Opened)
        }
    }

    fn verify_voucher(&self, voucher: &SignedVoucher) -> Result<(), VerifyError> {
        let receipt = &self.receipt.receipt;
        voucher.verify(&self.domain, self.session_key, self.router).map_err(VerifyError::Voucher)?;
        if voucher.voucher.session != receipt.session || voucher.voucher.miner != receipt.miner {
            return Err(VerifyError::OtherVoucher);
        }
        if voucher.voucher.cumulative_amount < receipt.amount {
            return Err(VerifyError::Underpaid { paid: voucher.voucher.cumulative_amount, due: receipt.amount });
        }
        Ok(())
    }

    /// Whether the miner's registry entry, as read from the chain, belongs to this receipt's signer.
    #[must_use]
    pub fn miner_is(&self, record: &crate::NodeRecord) -> bool {
        record.operator == self.receipt.receipt.miner
            && binding::verify_transport(
                record.transport_key,
                &record.transport_signature,
                self.domain.chain_id,
                self.registry,
                record.operator,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionId, TaskId, sampling::Seed, signature::tests::sign};

    fn file() -> ReceiptFile {
        let domain = Domain { chain_id: 5, sessions: Address::repeat_byte(8) };
        let session = SessionId(B256::repeat_byte(1));
        let header = TaskHeader {
            task: TaskId::derive(session, 1),
            session,
            model: crate::ModelId(B256::repeat_byte(2)),
            request_hash: B256::repeat_byte(3),
            sampling: B256::repeat_byte(9),
            seed: Seed::repeat_byte(4),
            max_tokens: 100,
            min_tier: Tier::D,
            client_nonce: 1,
            deadline: 10,
        };
        let (session_key, header_signature) = sign(1, header.signing_hash(&domain));
        let tokens: Vec<_> = (0..41).map(|id| TraceToken { id, logprob: crate::LogProb(-7) }).collect();
        let salt = B256::repeat_byte(6);
        let opened = vec![Evidence::NONE; 41];
        let evidence = trace::evidence_leaves(salt, 41, &opened);
        let (miner, _) = sign(2, B256::ZERO);
        let price = Price { input: Wei(1_000_000), output: Wei(3_000_000) };
        let receipt = Receipt {
            header_hash: header.signing_hash(&domain),
            task: header.task,
            session,
            model: header.model,
            miner: Operator(miner),
            prompt_hash: prompt_hash(&[1, 2, 3]),
            trace_root: trace::root(salt, &tokens, &evidence).unwrap(),
            first_token: 0,
            input_tokens: 3,
            output_tokens: 40,
            finish: FinishReason::EndOfSequence,
            tier: Tier::A,
            price,
            amount: Wei(123),
            finished_at: 9,
        };
        let (_, signature) = sign(2, receipt.signing_hash(&domain));
        ReceiptFile {
            version: 2,
            domain,
            registry: Address::ZERO,
            session_key,
            router: Operator::default(),
            header: SignedHeader { header, signature: header_signature },
            receipt: SignedReceipt { receipt, signature },
            salt,
            tokens,
            evidence,
            opened,
            request: None,
            text: "x".into(),
            voucher: None,
            guarantee: None,
        }
    }

    /// Changes a file, signs the receipt again as its miner, and expects that error.
    fn check(change: impl FnOnce(&mut ReceiptFile), expect: &Result<(), VerifyError>) {
        let mut file = file();
        change(&mut file);
        file.receipt.signature = sign(2, file.receipt.receipt.signing_hash(&file.domain)).1;
        assert_eq!(&file.verify(), expect);
    }

    #[test]
    fn an_honest_file_holds_and_survives_json() {
        check(|_| (), &Ok(()));
        let text = serde_json::to_string_pretty(&file()).unwrap();
        assert_eq!(serde_json::from_str::<ReceiptFile>(&text).unwrap(), file());
    }

    #[test]
    fn every_lie_is_named() {
        check(|f| f.tokens[33].id = 7, &Err(VerifyError::Trace));
        check(|f| f.salt = B256::ZERO, &Err(VerifyError::Trace));
        check(|f| f.tokens.truncate(40), &Err(VerifyError::Count { counted: 41, held: 40 }));
        check(|f| f.evidence.truncate(1), &Err(VerifyError::Trace));
        check(
            |f| f.opened[3].sketch.exponent = 9,
            &Err(VerifyError::Evidence(TraceError::Record(3, "the sketch is not in canonical form"))),
        );
        check(|f| f.opened[40].alternatives[0] = TraceToken { id: 99, ..TraceToken::NONE }, &Err(VerifyError::Opened));
        check(|f| f.opened.truncate(40), &Err(VerifyError::Evidence(TraceError::Count { tokens: 41, evidence: 40 })));
        check(|f| f.request = Some(crate::generation::tests::request()), &Err(VerifyError::Mismatch("request")));
        check(|f| f.receipt.receipt.amount = Wei(124), &Err(VerifyError::Amount { charged: Wei(124), due: Wei(123) }));
        check(|f| f.receipt.receipt.model.0 = B256::ZERO, &Err(VerifyError::Mismatch("model")));
        check(|f| f.receipt.receipt.first_token = 61, &Err(VerifyError::TooLong { allowed: 100, reached: 101 }));
        check(|f| f.version = 1, &Err(VerifyError::Version(1)));
    }

    #[test]
    fn somebody_elses_signature_is_named() {
        let mut file = file();
        let (other, signature) = sign(3, file.receipt.receipt.signing_hash(&file.domain));
        file.receipt.signature = signature;
        let expected = file.receipt.receipt.miner.0;
        assert_eq!(file.verify(), Err(VerifyError::Signer { what: "receipt", found: other, expected }));
    }
}
