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

    /// The answer to a question; none to what is no question, or cannot be read now.
    pub(crate) fn answer(&self, question: &SnapshotMessage) -> Option<SnapshotMessage> {
        match *question {
            SnapshotMessage::WantEpochs { from } => Some(SnapshotMessage::Epochs(self.epochs(from))),
            SnapshotMessage::WantOffer { block } => {
                let offer = self.offer(block).inspect_err(|error| tracing::warn!(%error, "a copy cannot be read"));
                Some(SnapshotMessage::Offer(offer.ok()?.map(Box::new)))
            }
            SnapshotMessage::WantChunk { block, index } => {
                let bytes = self.exports.chunk(block, index).ok()?.unwrap_or_default();
                Some(SnapshotMessage::Chunk { block, index, bytes })
            }
            _ => None,
        }
    }

    fn certified(&self, number: u64) -> Option<CertifiedHeader> {
        let (header, certificate) = self.access.certified(number).ok()??;
        Some(CertifiedHeader { header: alloy_rlp::encode(&header).into(), certificate })
    }

    fn epochs(&self, from: u64) -> Vec<CertifiedHeader> {
        let step = self.epoch_blocks.max(1);
        let numbers = (0..EPOCHS_MAX as u64).map_while(|epoch| from.checked_add(epoch.checked_mul(step)?));
        numbers.map_while(|number| self.certified(number)).collect()
    }

    /// The copy of this block, or the newest of which the block can be shown.
    fn offer(&self, block: u64) -> Result<Option<Offer>, ExportError> {
        let mut blocks = self.exports.blocks()?;
        // Stable: the one asked for first, then the newest.
        blocks.sort_by_key(|copied| *copied != block);
        for number in blocks {
            let Some(manifest) = self.exports.manifest(number)? else { continue };
            let Some(block) = self.certified(number) else { continue };
            let parents = (1..=PARENTS_MAX as u64).map_while(|back| number.checked_sub(back));
            let header = |number| self.access.header(number).ok().flatten();
            let parents = parents.map_while(header).map(|header| Bytes::from(alloy_rlp::encode(&header))).collect();
            return Ok(Some(Offer { manifest, block, parents }));
        }
        Ok(None)
    }
}
