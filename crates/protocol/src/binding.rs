//! Binding of a transport identity (ed25519) to a registered account (secp256k1), proved by both keys.
//!
//! The transport key signs [`transport_message`] once, at registration; the chain stores that signature and every peer
//! verifies it. The operator key signs [`session_hash`] on every connection, over both ends' transport keys, so that a
//! stolen registration or a recorded handshake is of no use to another peer.

use crate::{
    id::{Operator, TransportKey},
    signature::{RecoverError, Signature65},
};
use alloy_primitives::{Address, B256, U256, keccak256};
use ed25519_dalek::{Signature, VerifyingKey};

/// What the transport key signs: `"cortensor transport binding v1" ‖ chain id (32 bytes) ‖ registry ‖ operator`.
#[must_use]
pub fn transport_message(chain_id: u64, registry: Address, operator: Operator) -> Vec<u8> {
    let mut message = b"cortensor transport binding v1".to_vec();
    message.extend_from_slice(&U256::from(chain_id).to_be_bytes::<32>());
    message.extend_from_slice(registry.as_slice());
    message.extend_from_slice(operator.0.as_slice());
    message
}

/// Whether `key` signed [`transport_message`] (RFC 8032, strict verification).
#[must_use]
pub fn verify_transport(
    key: TransportKey,
    signature: &[u8; 64],
    chain_id: u64,
    registry: Address,
    operator: Operator,
) -> bool {
    VerifyingKey::from_bytes(&key.0.0).is_ok_and(|key| {
        key.verify_strict(&transport_message(chain_id, registry, operator), &Signature::from_bytes(signature)).is_ok()
    })
}

/// What an operator key signs when its node connects: both transport keys and the accepting side's fresh challenge.
#[must_use]
pub fn session_hash(dialer: TransportKey, acceptor: TransportKey, challenge: [u8; 32]) -> B256 {
    let domain = keccak256(b"cortensor connection v1");
    keccak256([domain.as_slice(), dialer.0.as_slice(), acceptor.0.as_slice(), &challenge].concat())
}

/// The operator that signed a connection.
///
/// # Errors
/// When the signature is malformed or fits no key.
pub fn recover_operator(
    dialer: TransportKey,
    acceptor: TransportKey,
    challenge: [u8; 32],
    signature: &Signature65,
) -> Result<Operator, RecoverError> {
    signature.recover(session_hash(dialer, acceptor, challenge)).map(Operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn a_binding_holds_for_one_operator_on_one_chain() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let transport = TransportKey(B256::from(key.verifying_key().to_bytes()));
        let (registry, operator) = (Address::repeat_byte(1), Operator(Address::repeat_byte(2)));
        let signature = key.sign(&transport_message(1, registry, operator)).to_bytes();
        assert!(verify_transport(transport, &signature, 1, registry, operator));
        assert!(!verify_transport(transport, &signature, 2, registry, operator));
        assert!(!verify_transport(transport, &signature, 1, registry, Operator(registry)));
        assert!(!verify_transport(TransportKey(B256::ZERO), &signature, 1, registry, operator));
        assert!(!verify_transport(transport, &[0; 64], 1, registry, operator));
    }
}
