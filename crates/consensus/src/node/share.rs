//! A validator's part of a checkpoint's one signature (docs/spec/settlement.md, section 4.7).
//!
//! Made when somebody asks, of what the chain holds: a decided block, which never changes. So nothing has to be remembered, and
//! whoever asks learns nothing but that the block was decided. A validator whose key is kept by another process has no part.

use std::sync::Arc;

use alloy::consensus::{Header, Sealed};
use cortensor_bls::{CheckpointStatement, Place, Share};
use cortensor_chain::ShareCheckpoint;
use cortensor_protocol::consensus::Certificate;

use crate::signing::Keeper;

/// Signs for this validator; none where its key is elsewhere.
pub(super) fn sharer(chain_id: u64, keeper: &Keeper) -> Option<ShareCheckpoint> {
    let Keeper::Local(signer) = keeper else { return None };
    let (key, validator) = (signer.checkpoint_key(), signer.address().0);
    Some(Arc::new(move |header: &Sealed<Header>, certificate: &[u8], (upper, contract)| {
        let set_hash = Certificate::decode(certificate).ok()?.set.hash();
        let (height, block_hash) = (header.number, header.hash());
        let statement = CheckpointStatement { chain_id, height, block_hash, set_hash };
        let signature = key.sign(statement.digest(Place { chain_id: upper, contract })).encode();
        serde_json::to_value(Share { validator, signature }).ok()
    }))
}
