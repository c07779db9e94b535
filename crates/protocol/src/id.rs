//! Identifiers, each its own type so that two of them cannot be swapped.

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = alloy_primitives::hex::FromHexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<B256> for $name {
            fn from(hash: B256) -> Self {
                Self(hash)
            }
        }
    };
}

hash_id!(
    /// A session: a deposit on chain from which vouchers are paid. Assigned by the `Sessions` contract.
    SessionId
);
hash_id!(
    /// One request for one generation. `n` choices of one API call are `n` tasks.
    TaskId
);
hash_id!(
    /// A model, named by the hash of its manifest ([`crate::ModelManifest::id`]).
    ModelId
);

impl TaskId {
    /// Derives the id from the session and a nonce that the session's client never uses twice.
    #[must_use]
    pub fn derive(session: SessionId, client_nonce: u64) -> Self {
        let mut bytes = [0u8; 72];
        bytes[..32].copy_from_slice(b"cortensor task id v1\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes[32..64].copy_from_slice(session.0.as_slice());
        bytes[64..].copy_from_slice(&client_nonce.to_be_bytes());
        Self(keccak256(bytes))
    }
}

/// The EVM account under which a node is registered: its hot key, which signs receipts, countersignatures and bindings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Operator(pub Address);

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operator({})", self.0)
    }
}

impl FromStr for Operator {
    type Err = alloy_primitives::hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl From<Address> for Operator {
    fn from(address: Address) -> Self {
        Self(address)
    }
}

/// The ed25519 public key by which a node is known on the transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransportKey(pub B256);

impl fmt::Display for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey({self})")
    }
}

/// A token of a model's vocabulary. Vocabularies stay below 2²⁴ (traces store ids as u24).
pub type TokenId = u32;
