//! A node's two keys: the operator key (secp256k1, signs receipts and countersignatures) and the transport key
//! (ed25519, names the node on the network).

use alloy::{
    primitives::{Address, B256, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cortensor_net::TransportSecret;
use cortensor_protocol::{Operator, Signature65, TransportKey};
use zeroize::Zeroizing;

const TRANSPORT: &[u8] = b"cortensor transport key v1";
const SESSION: &[u8] = b"cortensor session key v1";

/// The keys of one node. Secret parts are wiped on drop and never shown. The transport key is derived from the operator
/// key, so that one keystore holds both.
#[derive(Clone)]
pub struct Identity {
    operator: PrivateKeySigner,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.operator.address())
    }
}

impl Identity {
    /// From an operator key.
    #[must_use]
    pub const fn new(operator: PrivateKeySigner) -> Self {
        Self { operator }
    }

    /// The account.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator(self.operator.address())
    }

    /// The operator key itself, for sending transactions.
    #[must_use]
    pub const fn signer(&self) -> &PrivateKeySigner {
        &self.operator
    }

    /// The transport identity.
    #[must_use]
    pub fn transport_key(&self) -> TransportKey {
        self.transport_secret().public()
    }

    /// The transport secret, for the endpoint.
    #[must_use]
    pub fn transport_secret(&self) -> TransportSecret {
        TransportSecret::from_bytes(*derive(&self.operator, TRANSPORT, 0))
    }

    /// The transport key's signature that registration stores.
    #[must_use]
    pub fn bind_transport(&self, chain_id: u64, registry: Address) -> [u8; 64] {
        self.transport_secret().bind_to(chain_id, registry, self.operator())
    }

    /// The key of the `index`th session that this router runs for its API users.
    #[must_use]
    pub fn session_key(&self, index: u64) -> PrivateKeySigner {
        let secret = derive(&self.operator, SESSION, index);
        PrivateKeySigner::from_bytes(&B256::from(*secret))
            .expect("a keccak-256 output is below the curve order but for a chance of 2^-128")
    }

    /// Signs a 32-byte hash with the operator key.
    #[must_use]
    pub fn sign(&self, hash: B256) -> Signature65 {
        sign(&self.operator, hash)
    }
}

/// Signs a 32-byte hash with a local key.
#[must_use]
pub fn sign(key: &PrivateKeySigner, hash: B256) -> Signature65 {
    key.sign_hash_sync(&hash).expect("signing with a key in memory cannot fail").into()
}

fn derive(operator: &PrivateKeySigner, purpose: &[u8], index: u64) -> Zeroizing<[u8; 32]> {
    let secret = Zeroizing::new([operator.to_bytes().as_slice(), purpose, &index.to_be_bytes()].concat());
    Zeroizing::new(keccak256(secret.as_slice()).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::binding;

    #[test]
    fn both_bindings_verify() {
        let identity = Identity::new(PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap());
        let registry = Address::repeat_byte(4);
        let signature = identity.bind_transport(7, registry);
        let key = identity.transport_key();
        assert!(binding::verify_transport(key, &signature, 7, registry, identity.operator()));
        let hash = B256::repeat_byte(9);
        assert_eq!(identity.sign(hash).recover(hash), Ok(identity.operator().0));
    }

    #[test]
    fn session_keys_differ_and_repeat() {
        let identity = Identity::new(PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap());
        assert_ne!(identity.session_key(1).address(), identity.session_key(2).address());
        assert_eq!(identity.session_key(1).address(), identity.session_key(1).address());
        assert!(!format!("{identity:?}").contains("0101"), "a secret must not be shown");
    }
}
