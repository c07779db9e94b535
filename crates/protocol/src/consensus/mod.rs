//! What validators of a chain sign, the sets they form, and the certificates that prove their decisions.
//!
//! Rules S, V and C of docs/spec/consensus.md. Everything here can be checked without state: by the validators, by a light
//! client, by whoever submits a checkpoint. Who votes when is not known here.

mod certificate;
mod digest;
mod set;

pub use certificate::{Certificate, CertificateError};
pub use digest::{Domain, VoteKind};
pub use set::{SetError, TOTAL_POWER, TOTAL_POWER_MAX, VALIDATORS_MAX, Validator, ValidatorSet};

use crate::signature::Signature65;
use alloy_primitives::{Address, B256, FixedBytes};

/// A validator's signature as `ecrecover` takes it: r, s, v with v 27 or 28.
pub type Signature = FixedBytes<65>;

/// Whose signature over this digest it is; none for a malformed or altered one (rule V4).
#[must_use]
pub fn recover(digest: B256, signature: &Signature) -> Option<Address> {
    Signature65(signature.0).recover(digest).ok()
}
