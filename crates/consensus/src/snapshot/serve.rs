//! Making copies of the state from time to time, and giving them to those who ask.

use std::time::Duration;

use alloy::primitives::Bytes;
use cortensor_chain::{Access, ExportError, Exports};

use super::message::{CertifiedHeader, EPOCHS_MAX, Offer, PARENTS_MAX, SnapshotMessage};

/// How often it is looked whether the next copy is due.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a node gives to those who begin with a copy.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    access: Access,
    exports: Exports,
    epoch_blocks: u64,
}

impl Service {
    pub(crate) fn new(access: Access, exports: Exports, epoch_blocks: u64) -> Self {
        Self { access, exports, epoch_blocks }
    }

    /// The chain that it copies.
    pub(crate) fn access(&self) -> Access {
        self.access.clone()
    }

    /// Copies the state whenever this many blocks have passed, until stopped.
    pub(crate) async fn copy_regularly(self, every_blocks: u64) {
        if every_blocks == 0 {
            return;
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let service = self.clone();
            let copied = tokio::task::spawn_blocking(move || service.copy_if_due(every_blocks)).await;
            match copied {
                Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the state was not copied"),
                Ok(Ok(Some(block))) => tracing::info!(block, "the state was copied for nodes that begin with it"),
                Ok(Ok(None)) | Err(_) => {}
            }
        }
    }

    fn copy_if_due(&self, every_blocks: u64) -> Result<Option<u64>, ExportError> {
        let newest = self.exports.blocks()?.first().copied().unwrap_or_default();
        if self.access.height() < newest.saturating_add(every_blocks) {
            return Ok(None);
        }
        Ok(self.access.copy_state(&self.exports)?.map(|manifest| manifest.block))
    }

    /// The answer to a question; none to what is no question. What cannot be read now is answered as what is not there.
    pub(crate) fn answer(&self, question: &SnapshotMessage) -> Option<SnapshotMessage> {
        Some(match *question {
            SnapshotMessage::WantEpochs { from } => SnapshotMessage::Epochs(self.epochs(from)),
            SnapshotMessage::WantOffer { block } => SnapshotMessage::Offer(self.offer(block).map(Box::new)),
            SnapshotMessage::WantChunk { block, index } => {
                let bytes = readable(self.exports.chunk(block, index)).unwrap_or_default();
                SnapshotMessage::Chunk { block, index, bytes }
            }
            _ => return None,
        })
    }

    fn certified(&self, number: u64) -> Result<Option<CertifiedHeader>, ExportError> {
        let known = self.access.certified(number)?;
        Ok(known
            .map(|(header, certificate)| CertifiedHeader { header: alloy_rlp::encode(&header).into(), certificate }))
    }

    fn epochs(&self, from: u64) -> Vec<CertifiedHeader> {
        let step = self.epoch_blocks.max(1);
        let numbers = (0..EPOCHS_MAX as u64).map_while(|epoch| from.checked_add(epoch.checked_mul(step)?));
        numbers.map_while(|number| readable(self.certified(number))).collect()
    }

    /// The copy of this block, or the newest of which the block can be shown.
    fn offer(&self, block: u64) -> Option<Offer> {
        let mut blocks = readable(self.exports.blocks().map(Some))?;
        // Stable: the one asked for first, then the newest.
        blocks.sort_by_key(|copied| *copied != block);
        blocks.into_iter().find_map(|number| readable(self.offer_of(number)))
    }

    fn offer_of(&self, number: u64) -> Result<Option<Offer>, ExportError> {
        let Some(manifest) = self.exports.manifest(number)? else { return Ok(None) };
        let Some(block) = self.certified(number)? else { return Ok(None) };
        let mut parents = Vec::new();
        for back in (1..=PARENTS_MAX as u64).map_while(|back| number.checked_sub(back)) {
            let Some(header) = self.access.header(back)? else { break };
            parents.push(Bytes::from(alloy_rlp::encode(&header)));
        }
        Ok(Some(Offer { manifest, block, parents }))
    }
}

/// What was read. That something cannot be is this node's trouble and nobody else's: its log says so.
fn readable<T>(read: Result<Option<T>, ExportError>) -> Option<T> {
    read.unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "something for nodes that begin cannot be read");
        None
    })
}
