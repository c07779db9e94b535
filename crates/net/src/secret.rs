//! The transport key of a node (ed25519): by it a node is known on the network. Erased from memory when dropped.

use cortensor_protocol::{Operator, TransportKey, binding::transport_message};
use std::fmt;
use zeroize::Zeroizing;

/// The secret half. It shows itself neither in logs nor in serialised form.
#[derive(Clone)]
pub struct TransportSecret(Zeroizing<[u8; 32]>);

impl TransportSecret {
    /// From the 32 bytes of the secret scalar's seed (RFC 8032).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh one from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// The bytes, for a keystore.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half, under which the node is registered.
    #[must_use]
    pub fn public(&self) -> TransportKey {
        TransportKey(self.key().public().as_bytes().into())
    }

    /// The signature by which this key agrees to belong to `operator`, stored by the registry
    /// ([`cortensor_protocol::binding`]).
    #[must_use]
    pub fn bind_to(&self, chain_id: u64, registry: alloy_primitives::Address, operator: Operator) -> [u8; 64] {
        self.key().sign(&transport_message(chain_id, registry, operator)).to_bytes()
    }

    pub(crate) fn key(&self) -> iroh::SecretKey {
        iroh::SecretKey::from_bytes(&self.0)
    }
}

impl fmt::Debug for TransportSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportSecret(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use cortensor_protocol::binding::verify_transport;

    #[test]
    fn binds_to_one_operator_and_stays_secret() {
        let secret = TransportSecret::from_bytes([9; 32]);
        let (registry, operator) = (Address::repeat_byte(1), Operator(Address::repeat_byte(2)));
        let signature = secret.bind_to(1, registry, operator);
        assert!(verify_transport(secret.public(), &signature, 1, registry, operator));
        assert!(!verify_transport(secret.public(), &signature, 2, registry, operator));
        assert!(!format!("{secret:?}").contains(&hex::encode([9u8; 32])));
    }
}
