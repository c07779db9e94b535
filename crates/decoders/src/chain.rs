//! What the chain takes from anyone: JSON-RPC calls and raw transactions.

use alloy::primitives::Bytes;
use cortensor_chain::{Chain, ChainHandle, Config, Sealing, VerifiedTransaction};
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// A chain in memory, without the methods of development chains; one for the whole process.
fn chain() -> &'static (Runtime, ChainHandle) {
    static CHAIN: OnceLock<(Runtime, ChainHandle)> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let runtime = Runtime::new().expect("threads can be started");
        let config = Config { dev: false, ..Config::development(31_337) };
        // Sealing seldom: what is tried here is the reading of calls, not the making of blocks.
        let config = config.with_sealing(Sealing::Interval(3_600_000));
        let chain = runtime.block_on(Chain::start(config)).expect("a chain in memory starts");
        (runtime, chain)
    })
}

/// One JSON-RPC call. The answer is JSON with a result or an error.
pub(crate) fn rpc(bytes: &[u8]) -> bool {
    let (runtime, chain) = chain();
    let text = String::from_utf8_lossy(bytes);
    let Some(answer) = runtime.block_on(chain.request(&text)) else { return false };
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("answers are JSON");
    assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
    answer.get("result").is_some()
}

/// A raw transaction: what is accepted encodes to the bytes that came.
pub(crate) fn transaction(bytes: &[u8]) -> bool {
    let Ok(transaction) = VerifiedTransaction::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(transaction.encoded().as_ref(), bytes);
    let again =
        VerifiedTransaction::try_from(transaction.envelope().clone()).expect("what was verified verifies again");
    assert_eq!((again.hash(), again.sender()), (transaction.hash(), transaction.sender()));
    let _ = (transaction.cost_max(), transaction.effective_tip(1), transaction.created_contract());
    true
}
