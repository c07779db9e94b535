//! Nodes as the chain knows them.

use crate::{
    binding,
    id::{Operator, TransportKey},
    units::Wei,
};
use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The roles that a node is registered for, as a bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleSet(pub u8);

impl RoleSet {
    /// Matches requests to miners and countersigns vouchers.
    pub const ROUTER: Self = Self(1);
    /// Runs models.
    pub const MINER: Self = Self(2);
    /// Replays answers.
    pub const GUARD: Self = Self(4);
    /// Orders blocks.
    pub const VALIDATOR: Self = Self(8);
    /// Keeps blobs.
    pub const STORAGE: Self = Self(16);

    /// Whether every role of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::ROUTER, "router"),
            (Self::MINER, "miner"),
            (Self::GUARD, "guard"),
            (Self::VALIDATOR, "validator"),
            (Self::STORAGE, "storage"),
        ];
        let mut separator = "";
        for (role, name) in names {
            if self.contains(role) {
                write!(f, "{separator}{name}")?;
                separator = "+";
            }
        }
        Ok(())
    }
}

/// A node's entry in the `NodeRegistry` contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its hot key's account, under which it is registered.
    pub operator: Operator,
    /// The account that staked for it.
    pub owner: Address,
    /// Where its earnings go.
    pub payout: Address,
    /// What it does.
    pub roles: RoleSet,
    /// Stake that can be slashed.
    pub stake: Wei,
    /// Registered, staked enough for its roles, and not leaving.
    pub active: bool,
    /// Its transport identity.
    pub transport_key: TransportKey,
    /// The transport key's own signature over [`binding::transport_message`].
    #[serde(with = "hex_64")]
    pub transport_signature: [u8; 64],
}

impl NodeRecord {
    /// Whether the transport key really agreed to belong to this operator.
    #[must_use]
    pub fn transport_is_bound(&self, chain_id: u64, registry: Address) -> bool {
        binding::verify_transport(self.transport_key, &self.transport_signature, chain_id, registry, self.operator)
    }
}

mod hex_64 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(text).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("a transport signature has 64 bytes"))
    }
}
