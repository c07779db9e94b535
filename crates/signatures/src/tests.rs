//! Batches held against libsecp256k1.

use alloy_primitives::U256;
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};
use secp256k1::{Message, SECP256K1, SecretKey};

use super::*;

/// A signature by one of a few keys.
pub(crate) fn claim(key: u64, content: u64) -> Claim {
    let secret = SecretKey::from_byte_array(keccak256(key.to_be_bytes()).0).unwrap();
    let digest = keccak256(content.to_be_bytes());
    let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &secret);
    let (parity, bytes) = signed.serialize_compact();
    let (r, s) = bytes.split_at(32);
    let signature = Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), i32::from(parity) == 1);
    let stated = StatedKey(secret.public_key(SECP256K1).serialize_uncompressed()[1..].try_into().unwrap());
    Claim { digest, signature, key: stated }
}

fn hold(claims: &[Claim]) -> bool {
    all_hold(claims, &mut StdRng::seed_from_u64(7))
}

const ORDER: U256 = alloy_primitives::uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What was signed holds, however many, by however many keys, even the same thing several times.
    #[test]
    fn true_claims_hold(keys in prop::collection::vec((0_u64..20, 0_u64..50), 0..150)) {
        let claims: Vec<_> = keys.into_iter().map(|(key, content)| claim(key, content)).collect();
        prop_assert!(hold(&claims));
    }

    /// One changed bit anywhere in one claim is noticed.
    #[test]
    fn a_false_one_among_true_ones_is_noticed(count in 1_usize..60, at: prop::sample::Index, bit in 0_usize..1_281) {
        let mut claims: Vec<_> = (0..count as u64).map(|index| claim(index % 7, index)).collect();
        let changed = &mut claims[at.index(count)];
        let signature = changed.signature;
        let flip = |value: U256, bit: usize| value ^ (U256::from(1) << (bit % 256));
        match bit / 256 {
            0 => changed.digest.0[bit / 8] ^= 1 << (bit % 8),
            1 => changed.signature = Signature::new(flip(signature.r(), bit), signature.s(), signature.v()),
            2 => changed.signature = Signature::new(signature.r(), flip(signature.s(), bit), signature.v()),
            5 => changed.signature = Signature::new(signature.r(), signature.s(), !signature.v()),
            _ => changed.key.0[(bit - 768) / 8] ^= 1 << (bit % 8),
        }
        prop_assert!(!hold(&claims));
    }
}

#[test]
fn claims_that_make_up_for_each_other_do_not_hold() {
    // Without random weights the two errors would cancel out: each nonce point is taken for its mirror image.
    let one = claim(1, 1);
    let mirrored = |claim: Claim| {
        let (r, s, v) = (claim.signature.r(), claim.signature.s(), claim.signature.v());
        Claim { signature: Signature::new(r, ORDER - s, !v), ..claim }
    };
    assert!(hold(&[one, mirrored(one)]), "both forms of a signature are of its key");
    let wrong =
        Claim { signature: Signature::new(one.signature.r(), ORDER - one.signature.s(), one.signature.v()), ..one };
    assert!(!hold(&[wrong]));
    let also = Claim { signature: Signature::new(one.signature.r(), one.signature.s(), !one.signature.v()), ..one };
    assert!(!hold(&[wrong, also]) && !hold(&[also, wrong, one]));
    let (two, three) = (claim(2, 2), claim(3, 3));
    assert!(!hold(&[Claim { key: three.key, ..two }, Claim { key: two.key, ..three }]), "keys exchanged");
    assert!(
        !hold(&[Claim { digest: three.digest, ..two }, Claim { digest: two.digest, ..three }]),
        "digests exchanged"
    );
}

#[test]
fn what_is_no_number_or_no_point_is_false() {
    let good = claim(1, 1);
    let with = |r, s| Claim { signature: Signature::new(r, s, good.signature.v()), ..good };
    let (r, s) = (good.signature.r(), good.signature.s());
    for bad in [
        with(U256::ZERO, s),
        with(r, U256::ZERO),
        with(ORDER, s),
        with(r, ORDER),
        with(U256::MAX, U256::MAX),
        with(r + ORDER, s),
    ] {
        assert!(!hold(&[bad]) && !hold(&[claim(2, 2), bad]));
    }
    for key in [[0; 64], [0xff; 64], [1; 64]] {
        assert!(!hold(&[Claim { key: StatedKey(key), ..good }]));
    }
    assert!(hold(&[]));
}

#[test]
fn a_stated_key_has_the_address_that_it_has_elsewhere() {
    let secret = SecretKey::from_byte_array(alloy_primitives::hex!(
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    ));
    let stated = StatedKey(secret.unwrap().public_key(SECP256K1).serialize_uncompressed()[1..].try_into().unwrap());
    assert_eq!(stated.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
}
