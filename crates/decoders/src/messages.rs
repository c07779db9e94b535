//! What nodes send each other and keep: frames, signatures, receipts, records, proofs.

use crate::choice;
use alloy::primitives::{Address, B256};
use cortensor_net::FrameBuffer;
use cortensor_node::{
    journal,
    ledger::SessionTerms,
    miner::earnings::{Account, Contradiction},
};
use cortensor_protocol::{
    Countersignature, Domain, Operator, ReceiptFile, SessionId, SignedReceipt, SignedVoucher, TaskHeader, TransportKey,
    binding, merkle,
    task::SignedHeader,
    wire::{self, Challenge, Hello, MinerControl, RouterControl, TaskControl, TaskOpen, TaskReply, Welcome},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

const DOMAIN: Domain = Domain { chain_id: 31_337, sessions: Address::repeat_byte(7) };

/// Frames of each message type, in pieces.
pub(crate) fn wire(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes);
    match kind % 8 {
        0 => frames::<Challenge>(rest),
        1 => frames::<Hello>(rest),
        2 => frames::<Welcome>(rest),
        3 => frames::<MinerControl>(rest),
        4 => frames::<RouterControl>(rest),
        5 => frames::<TaskOpen>(rest),
        6 => frames::<TaskReply>(rest),
        _ => frames::<TaskControl>(rest),
    }
}

fn frames<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) -> bool {
    let mut buffer = FrameBuffer::new(wire::MAX_FRAME_BYTES);
    let mut taken = 0;
    for piece in bytes.chunks(7) {
        buffer.push(piece);
        loop {
            match buffer.take::<T>() {
                Ok(Some(message)) => {
                    encodes_to_itself(&message);
                    taken += 1;
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    taken > 0
}

/// Compared as text, since floats that are no number differ from themselves.
fn encodes_to_itself<T: Serialize + DeserializeOwned + Debug>(message: &T) {
    let encoded = wire::encode(message).expect("a message that fitted into a frame fits again");
    let again: T = wire::decode(&encoded[4..]).expect("what was encoded here decodes");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
}

/// What carries signatures, and their verification.
pub(crate) fn signed(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes);
    match kind % 5 {
        0 => decoded::<SignedHeader>(rest).is_some_and(|signed| {
            // Whether a key is recovered depends on the bytes; that it returns is what matters.
            let _ = signed.signature.recover(signed.header.signing_hash(&DOMAIN));
            true
        }),
        1 => decoded::<SignedVoucher>(rest).is_some_and(|voucher| {
            drop(voucher.verify(&DOMAIN, Address::ZERO, Operator::default()));
            true
        }),
        2 => decoded::<(SignedReceipt, TaskHeader)>(rest).is_some_and(|(receipt, header)| {
            drop(receipt.verify(&DOMAIN, &header));
            true
        }),
        3 => decoded::<(Countersignature, Countersignature)>(rest).is_some_and(|(first, second)| {
            assert_eq!(first.contradicts(&second), second.contradicts(&first));
            true
        }),
        _ => decoded::<Hello>(rest).is_some_and(|hello| {
            let hash = binding::session_hash(TransportKey::default(), TransportKey::default(), [0; 32]);
            let _ = hello.signature.recover(hash);
            true
        }),
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    wire::decode(bytes).ok()
}

/// A receipt file, as `cortensor receipt verify` reads it.
pub(crate) fn receipt(bytes: &[u8]) -> bool {
    let Ok(receipt) = serde_json::from_slice::<ReceiptFile>(bytes) else { return false };
    let text = serde_json::to_string(&receipt).expect("a receipt is made of strings and numbers");
    let again: ReceiptFile = serde_json::from_str(&text).expect("what was written here reads back");
    assert_eq!(receipt, again);
    // Most are forged, which is what verification is for.
    drop(receipt.verify());
    true
}

/// Records of the miner's and the router's stores.
pub(crate) fn store(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes);
    match kind % 3 {
        0 => record::<(SessionId, Account)>(rest),
        1 => record::<Contradiction>(rest),
        _ => record::<SessionTerms>(rest),
    }
}

fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = journal::decode::<T>("record", bytes) else { return false };
    let again: T = journal::decode("record", &journal::encode(&value)).expect("what was encoded here decodes");
    assert_eq!(value, again);
    true
}

/// Proofs: any path against any place, and each leaf of a list against its own.
pub(crate) fn merkle(bytes: &[u8]) -> bool {
    let (count, rest) = choice(bytes);
    let (index, rest) = choice(rest);
    let hashes: Vec<B256> = rest.chunks_exact(32).map(B256::from_slice).collect();
    let (index, count) = (usize::from(index), usize::from(count));
    let [root, leaf, path @ ..] = hashes.as_slice() else { return false };
    let forged = merkle::verify(*root, *leaf, index, count, path);
    let whole = merkle::root(&hashes);
    match merkle::proof(&hashes, index) {
        Some(path) => assert!(merkle::verify(whole, hashes[index], index, hashes.len(), &path)),
        None => assert!(index >= hashes.len()),
    }
    forged || index < hashes.len()
}

/// Calibration profiles: one encoding each, and a table that follows.
pub(crate) fn profile(bytes: &[u8]) -> bool {
    let Ok(profile) = cortensor_proof::profile::Profile::decode(bytes) else { return false };
    assert_eq!(profile.encode(), bytes, "another encoding was accepted");
    assert!(profile.parts().temper_ppm.iter().all(|temper| *temper > 0) && profile.honest_mismatch_ppm() <= 1_000_000);
    assert!(profile.table().ratios.as_flattened().iter().flatten().all(|ratio| ratio.unsigned_abs() < 33 << 16));
    assert!(
        !cortensor_proof::report::table(&profile).is_empty() && !cortensor_proof::report::plot(&profile).is_empty()
    );
    true
}
