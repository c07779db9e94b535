//! The task header: what a client's session key signs before any work is done.

use crate::{
    id::{ModelId, SessionId, TaskId},
    manifest::Tier,
    sampling::Seed,
    signature::{Domain, Signature65},
};
use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// EIP-712 forms, exactly as the contracts hash them.
mod sol_types {
    alloy_sol_types::sol! {
        struct TaskHeader {
            bytes32 task;
            bytes32 session;
            bytes32 model;
            bytes32 requestHash;
            bytes32 sampling;
            bytes32 seed;
            uint32 maxTokens;
            uint8 minTier;
            uint64 clientNonce;
            uint64 deadline;
        }
    }
}

/// The hashes by which a header binds a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of the whole request.
    pub request_hash: B256,
    /// Of its sampling parameters; zero where nothing is sampled.
    pub sampling: B256,
}

/// Binds a request to a session, a model and a seed before a miner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHeader {
    /// [`TaskId::derive`] of session and nonce.
    pub task: TaskId,
    /// The session that pays.
    pub session: SessionId,
    /// The model's manifest.
    pub model: ModelId,
    /// [`crate::GenerationRequest::hash`].
    pub request_hash: B256,
    /// [`crate::SamplingParams::hash`]: what a contract needs of the request to check a choice.
    pub sampling: B256,
    /// Seed of the sampling noise: [`derive_seed`].
    pub seed: Seed,
    /// Most output tokens of the task.
    pub max_tokens: u32,
    /// The least tier that the client accepts.
    pub min_tier: Tier,
    /// Number that this session never uses twice.
    pub client_nonce: u64,
    /// Unix time in seconds after which no work may be begun.
    pub deadline: u64,
}

impl TaskHeader {
    /// What it binds.
    #[must_use]
    pub const fn bound(&self) -> Bound {
        Bound { request_hash: self.request_hash, sampling: self.sampling }
    }

    /// What the session key signs.
    #[must_use]
    pub fn signing_hash(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&sol_types::TaskHeader {
            task: self.task.0,
            session: self.session.0,
            model: self.model.0,
            requestHash: self.request_hash,
            sampling: self.sampling,
            seed: self.seed,
            maxTokens: self.max_tokens,
            minTier: self.min_tier as u8,
            clientNonce: self.client_nonce,
            deadline: self.deadline,
        })
    }
}

/// A header with its session key's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The header.
    pub header: TaskHeader,
    /// Signature of the session key.
    pub signature: Signature65,
}

/// The seed of a task: `keccak256(domain ‖ task ‖ nonce ‖ beacon ‖ model)`. A miner chooses none of these.
///
/// A client that gave its own `seed` wants the same answer to the same request: then task, nonce and beacon are left
/// out, and the model and the client's number alone decide.
#[must_use]
pub fn derive_seed(task: TaskId, client_nonce: u64, beacon: B256, model: ModelId, client_seed: Option<u64>) -> Seed {
    let mut bytes = Vec::with_capacity(160);
    match client_seed {
        Some(seed) => {
            bytes.extend_from_slice(b"cortensor client seed v1");
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        None => {
            bytes.extend_from_slice(b"cortensor task seed v1");
            bytes.extend_from_slice(task.0.as_slice());
            bytes.extend_from_slice(&client_nonce.to_be_bytes());
            bytes.extend_from_slice(beacon.as_slice());
        }
    }
    bytes.extend_from_slice(model.0.as_slice());
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_seed_repeats_across_tasks_and_no_seed_does_not() {
        let seed = |task: u8, client| {
            derive_seed(TaskId(B256::repeat_byte(task)), task.into(), B256::ZERO, ModelId::default(), client)
        };
        assert_eq!(seed(1, Some(42)), seed(2, Some(42)));
        assert_ne!(seed(1, Some(42)), seed(1, Some(43)));
        assert_ne!(seed(1, None), seed(2, None));
    }
}
