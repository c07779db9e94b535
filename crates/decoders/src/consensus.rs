//! What validators take from each other and from their own log, and what a light client takes from anyone.

use cortensor_bls::{KeyBytes, PublicKey, Signature, SignatureBytes};
use cortensor_consensus::{
    message::{LogEntry, Message},
    node::decodes_as_block,
};
use cortensor_protocol::{
    consensus::Certificate,
    light::{Limits, Proof, Trusted},
};

/// A message of a peer: what is accepted encodes to itself, but for lists of votes that say some things twice.
pub(crate) fn message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::decode(bytes) else { return false };
    let encoded = message.encode();
    assert_eq!(Message::decode(&encoded).as_ref(), Ok(&message));
    if !matches!(message, Message::Polka(_) | Message::RoundOver(_)) {
        assert_eq!(encoded, bytes);
    }
    true
}

/// An entry of the consensus log.
pub(crate) fn log(bytes: &[u8]) -> bool {
    let Ok(entry) = LogEntry::decode(bytes) else { return false };
    assert_eq!(LogEntry::decode(&entry.encode()), Ok(entry));
    true
}

/// A block as it is proposed, and a certificate: bytes that are both would be a wonder.
pub(crate) fn block(bytes: &[u8]) -> bool {
    let certificate = Certificate::decode(bytes).is_ok_and(|certificate| {
        assert_eq!(certificate.encode().as_ref(), bytes);
        // Most are forged, which is what verification is for.
        let _ = certificate.verify_signatures(&cortensor_protocol::consensus::Domain::new(1));
        true
    });
    certificate | decodes_as_block(bytes)
}

/// A light client's proof: its form, then everything that it claims.
pub(crate) fn light(bytes: &[u8]) -> bool {
    let Ok(proof) = Proof::parse(&String::from_utf8_lossy(bytes)) else { return false };
    let text = serde_json::to_string(&proof).expect("a proof is made of strings and numbers");
    assert_eq!(Proof::parse(&text).as_ref(), Ok(&proof));
    // Begun at the proof's own first set, so that mutations get past the first certificate.
    let first = proof.epochs.first().unwrap_or(&proof.block);
    let (chain_id, set_hash) = (proof.chain_id.to(), first.certificate.set.hash());
    let genesis = Trusted { chain_id, epoch_blocks: 5, number: 0, set_hash, timestamp: 0 };
    let limits = Limits { trust_seconds: Some(100), age: Some((1_200, 10_000)) };
    drop(proof.verify(genesis, None, limits));
    true
}

/// A key and a signature of checkpoints, as contracts encode them.
pub(crate) fn points(bytes: &[u8]) -> bool {
    let key = KeyBytes::try_from(bytes).ok().and_then(|bytes| Some((bytes, PublicKey::decode(&bytes).ok()?)));
    let signature =
        SignatureBytes::try_from(bytes).ok().and_then(|bytes| Some((bytes, Signature::decode(&bytes).ok()?)));
    assert!(key.is_none_or(|(bytes, key)| key.encode() == bytes));
    assert!(signature.is_none_or(|(bytes, signature)| signature.encode() == bytes));
    key.is_some() || signature.is_some()
}
