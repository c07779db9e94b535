//! Checking a miner's receipt against what it really delivered.

use alloy::primitives::B256;
use cortensor_protocol::{
    Domain, Operator, Price, SignedReceipt, TaskHeader, Tier,
    receipt::VerifyError,
    trace::{self, TraceToken},
};

/// What the router saw.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) domain: &'a Domain,
    pub(super) header: &'a TaskHeader,
    pub(super) miner: Operator,
    pub(super) price: Price,
    pub(super) tier: Tier,
    pub(super) first_token: u32,
    pub(super) input_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) prompt_hash: B256,
    /// What was delivered, and the token that ended the answer where the miner told it.
    pub(super) tokens: &'a [TraceToken],
    pub(super) evidence: &'a [B256],
    pub(super) salt: B256,
}

/// How a receipt differs from what was delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReceiptProblem {
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    #[error("its {what} says {claimed}, {seen} was seen")]
    Lie { what: &'static str, claimed: String, seen: String },
    #[error("it does not commit to the tokens that were delivered")]
    Trace,
}

/// Checks a receipt; one that passes is worth exactly what was delivered at the agreed price.
pub(super) fn check_receipt(signed: &SignedReceipt, expected: &Expected<'_>) -> Result<(), ReceiptProblem> {
    signed.verify(expected.domain, expected.header)?;
    let receipt = &signed.receipt;
    same("miner", receipt.miner, expected.miner)?;
    same("input tokens", receipt.input_tokens, expected.input_tokens)?;
    same("output tokens", receipt.output_tokens, expected.output_tokens)?;
    same("records", receipt.records(), expected.tokens.len() as u64)?;
    same("first token", receipt.first_token, expected.first_token)?;
    same("tier", receipt.tier, expected.tier)?;
    same("input price", receipt.price.input, expected.price.input)?;
    same("output price", receipt.price.output, expected.price.output)?;
    same("prompt hash", receipt.prompt_hash, expected.prompt_hash)?;
    let root = trace::root(expected.salt, expected.tokens, expected.evidence);
    if root == Some(receipt.trace_root) { Ok(()) } else { Err(ReceiptProblem::Trace) }
}

fn same<T: PartialEq + Copy + std::fmt::Display>(
    what: &'static str,
    claimed: T,
    seen: T,
) -> Result<(), ReceiptProblem> {
    if claimed == seen {
        Ok(())
    } else {
        Err(ReceiptProblem::Lie { what, claimed: claimed.to_string(), seen: seen.to_string() })
    }
}
