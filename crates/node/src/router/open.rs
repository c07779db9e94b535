//! Receipts with the miner's evidence opened, for whoever wants to go through an answer again.

use super::{Inner, pool::Miner};
use cortensor_gateway::ServiceError;
use cortensor_protocol::{
    Case, ReceiptFile,
    wire::{TaskOpen, TaskReply},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A miner has this long to show a case.
const SHOW_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
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
            let Some(case) = show(&miner, id).await.map_err(|why| unavailable(&why))? else { continue };
            let opened = ReceiptFile { opened: case.evidence, ..file.clone() };
            opened.verify().map_err(|error| unavailable(&format!("what it showed is not what it signed: {error}")))?;
            *file = opened;
        }
        Ok(files)
    }
}

async fn show(miner: &Arc<Miner>, id: alloy::primitives::B256) -> Result<Option<Case>, String> {
    let asking = async {
        let mut channel = miner.connection.open_task(&TaskOpen::Audit(id)).await.map_err(|e| e.to_string())?;
        channel.recv().await.map_err(|e| e.to_string())
    };
    match timeout(SHOW_TIMEOUT, asking).await {
        Ok(Ok(Some(TaskReply::Case(case)))) => Ok(case.map(|case| *case)),
        Ok(Ok(Some(TaskReply::Failed(why)))) => Err(why.to_string()),
        Ok(Ok(_)) => Err("it did not answer".into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("it took too long".into()),
    }
}
