//! Receipts with what their tier bought, and with the miner's evidence opened for whoever wants to go through an answer
//! again.

use super::Inner;
use crate::audit::show;
use cortensor_gateway::ServiceError;
use cortensor_protocol::ReceiptFile;
use std::time::Duration;
use tokio::time::timeout;

/// The chain has this long to say what a miner's audits buy.
const GUARANTEE_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Says of each receipt what its tier bought. Where the chain cannot be read now, it stays unsaid.
    pub(super) async fn with_guarantees(&self, mut files: Vec<ReceiptFile>) -> Vec<ReceiptFile> {
        for file in &mut files {
            let receipt = &file.receipt.receipt;
            let reading = timeout(GUARANTEE_TIMEOUT, self.chain.guarantee(receipt.miner, receipt.amount)).await;
            match reading {
                Ok(Ok(bought)) => file.guarantee = Some(bought.of_tier(receipt.tier)),
                Ok(Err(error)) => tracing::debug!(%error, "what a receipt's tier bought cannot be read"),
                Err(_) => break,
            }
        }
        files
    }

    /// Asks each receipt's miner for the evidence that it signed, and puts it into the file once it is the right one.
    /// Receipts of backends that give no evidence stay as they are.
    pub(super) async fn opened(&self, mut files: Vec<ReceiptFile>) -> Result<Vec<ReceiptFile>, ServiceError> {
        for file in files.iter_mut().filter(|file| !file.tokens.is_empty() && file.opened.is_empty()) {
            let operator = file.receipt.receipt.miner;
            let unavailable = |why: &str| {
                ServiceError::Unavailable(format!("the miner {operator} does not show its evidence now: {why}"))
            };
            let miner = self.pool.get(operator).ok_or_else(|| unavailable("it is not connected; ask again later"))?;
            let id = file.receipt.receipt.signing_hash(&self.config.domain);
            let Some(case) = show(&miner.connection, id).await.map_err(|why| unavailable(&why))? else { continue };
            let opened = ReceiptFile { opened: case.evidence, ..file.clone() };
            opened.verify().map_err(|error| unavailable(&format!("what it showed is not what it signed: {error}")))?;
            *file = opened;
        }
        Ok(files)
    }
}
