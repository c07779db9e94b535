//! BLS signatures of checkpoints over BLS12-381: one signature and one key stand for any number of validators
//! (docs/spec/settlement.md, section 4.7).
//!
//! Keys are in G2, signatures in G1. Points are encoded as the precompiles of EIP-2537 take them. A [`PublicKey`] or a
//! [`Signature`] that was decoded is on its curve and in its subgroup, and is not the point at infinity. Pure; which keys are
//! registered, and who may sign what, is known elsewhere. Secrets show themselves nowhere and are wiped when dropped.

mod aggregate;
mod digest;
mod point;

pub use aggregate::{Aggregate, members_hash, sum_record};
pub use digest::{CheckpointStatement, Place, registration_digest};
pub use point::{
    KEY_BYTES, KeyBytes, PointError, PublicKey, SIGNATURE_BYTES, SecretKey, Share, Signature, SignatureBytes,
};
