//! What holding signatures together costs beside recovering each: `batch`.
#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::time::Instant;

use alloy_primitives::{B256, Signature, U256, keccak256};
use cortensor_signatures::{Claim, StatedKey, all_hold};
use secp256k1::{Message, SECP256K1, SecretKey, ecdsa::RecoverableSignature};

type Signed = (Claim, RecoverableSignature);

fn signed(key: u64, content: u64) -> Signed {
    let secret = SecretKey::from_byte_array(keccak256(key.to_be_bytes()).0).expect("a digest is a key");
    let digest: B256 = keccak256(content.to_be_bytes());
    let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &secret);
    let (parity, bytes) = signed.serialize_compact();
    let (r, s) = bytes.split_at(32);
    let signature = Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), i32::from(parity) == 1);
    let key = secret.public_key(SECP256K1).serialize_uncompressed();
    let key = StatedKey(key[1..].try_into().expect("64 bytes follow the first"));
    (Claim { digest, signature, key }, signed)
}

fn main() {
    println!("signatures  keys   recovered one by one  held together  ratio");
    for (count, keys) in [(8, 8), (32, 32), (128, 128), (128, 16), (512, 512), (512, 64), (2_048, 2_048), (2_048, 64)] {
        let all: Vec<Signed> = (0..count).map(|index| signed(index % keys, index)).collect();
        let claims: Vec<_> = all.iter().map(|(claim, _)| *claim).collect();
        let rounds = (20_000 / count).max(1);
        let (mut one_by_one, mut together) = (0.0, 0.0);
        for _ in 0..rounds {
            let start = Instant::now();
            for (claim, signature) in &all {
                let key = SECP256K1.recover_ecdsa(Message::from_digest(claim.digest.0), signature);
                assert_eq!(key.expect("it was signed").serialize_uncompressed()[1..], claim.key.0);
            }
            one_by_one += start.elapsed().as_secs_f64();
            let start = Instant::now();
            assert!(all_hold(&claims, &mut rand::rng()), "what was signed holds");
            together += start.elapsed().as_secs_f64();
        }
        let each = |seconds: f64| seconds * 1e6 / (rounds * count) as f64;
        let (one_by_one, together) = (each(one_by_one), each(together));
        println!("{count:10}  {keys:5}  {one_by_one:17.1} µs  {together:10.1} µs  {:5.2}", one_by_one / together);
    }
}
