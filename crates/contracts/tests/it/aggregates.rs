//! Checkpoints with one signature for all validators, on both kinds of chain, and vectors shared with the contracts' own tests.

use crate::world::signer;
use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, U256, address, keccak256},
    providers::Provider as _,
    rlp,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolConstructor as _,
};
use cortensor_bls::{
    Aggregate, CheckpointStatement, Place, PublicKey, SecretKey, Signature, members_hash, registration_digest,
    sum_record,
};
use cortensor_contracts::{
    BlockRange, ChainTime as _, Wallet, artifact,
    bindings::{checkpoint_keys::CheckpointKeys as keys_sol, checkpoints::Checkpoints as sol},
    connect,
    lanes::{CertifiedBlock, CheckpointKeys, Checkpoints},
};
use cortensor_protocol::consensus::{Domain, ValidatorSet, VoteKind};
use serde_json::json;
use std::collections::HashMap;

const LOWER_CHAIN: u64 = 31_338;

fn keys() -> Vec<PrivateKeySigner> {
    (1..=4u8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()).collect()
}

fn secret(key: &PrivateKeySigner) -> SecretKey {
    SecretKey::derive(&key.to_bytes())
}

fn set() -> ValidatorSet {
    ValidatorSet::equal(&keys().iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap()
}

fn public() -> HashMap<Address, PublicKey> {
    keys().iter().map(|key| (key.address(), secret(key).public_key())).collect()
}

/// In the order of the set.
fn ordered() -> Vec<PublicKey> {
    set().parts().0.iter().map(|validator| public()[validator]).collect()
}

fn certified(number: u64, timestamp: u64) -> CertifiedBlock {
    let extra_data = Bytes::copy_from_slice(set().hash().as_slice());
    let header: Bytes = rlp::encode(&Header { number, timestamp, extra_data, ..Header::default() }).into();
    let digest = Domain::new(LOWER_CHAIN).vote(VoteKind::Precommit, number, 0, keccak256(&header));
    let sign = |key: &PrivateKeySigner| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes());
    CertifiedBlock::assemble(header, 0, set(), &keys().iter().map(sign).collect::<Vec<_>>()).unwrap()
}

fn statement(block: &CertifiedBlock, chain_id: u64) -> CheckpointStatement {
    let height = block.decode_header().unwrap().number;
    CheckpointStatement { chain_id, height, block_hash: block.hash(), set_hash: set().hash() }
}

/// Signed by those whose bit in the order of the set is set.
fn aggregate(digest: B256, signing: u8) -> Aggregate {
    let (validators, _) = set().parts();
    let signs = |key: &PrivateKeySigner| {
        let place = validators.iter().position(|validator| *validator == key.address()).unwrap();
        signing >> place & 1 == 1
    };
    let signed: HashMap<Address, Signature> =
        keys().iter().filter(|key| signs(key)).map(|key| (key.address(), secret(key).sign(digest))).collect();
    Aggregate::assemble(&validators, &public(), &signed).unwrap()
}

pub(crate) async fn one_signature_stands_for_all(url: &str) {
    let provider = connect(url).await.unwrap();
    let wallet = Wallet::new(provider.clone(), signer(0)).await.unwrap();
    let code = [artifact::CHECKPOINT_KEYS.bytecode.as_ref(), &keys_sol::constructorCall {}.abi_encode()].concat();
    let (keys_at, _) = wallet.create(code.into()).await.unwrap();
    let time = provider.chain_time().await.unwrap();
    let constructor = sol::constructorCall {
        chainId_: U256::from(LOWER_CHAIN),
        epochLength_: 100,
        trustPeriod_: 86_400,
        initialOwner: wallet.address(),
        keys_: keys_at,
        genesis: certified(0, time).header,
    };
    let code = [artifact::CHECKPOINTS.bytecode.as_ref(), &constructor.abi_encode()].concat();
    let (at, _) = wallet.create(code.into()).await.unwrap();
    let checkpoints = Checkpoints::new(provider.clone(), at);
    let registry: CheckpointKeys = checkpoints.keys().await.unwrap().unwrap();
    let (validators, _) = set().parts();

    assert_eq!(registry.key_hashes(&validators).await.unwrap(), [None; 4]);
    for key in keys() {
        registry.register(&wallet, &key).await.unwrap();
    }
    let twice = registry.register(&wallet, &keys()[0]).await.unwrap_err();
    assert!(twice.revert().unwrap().is("AlreadyRegistered"), "{twice}");
    let hashes: Vec<_> = ordered().iter().map(|key| Some(key.hash())).collect();
    assert_eq!(registry.key_hashes(&validators).await.unwrap(), hashes);
    let range = BlockRange { from: 0, to: provider.get_block_number().await.unwrap() };
    let found: HashMap<_, _> = registry.registered(&validators[..3], range).await.unwrap().into_iter().collect();
    assert_eq!(found.len(), 3, "only those who were asked for");
    assert!(found.iter().all(|(validator, key)| public()[validator] == *key));

    let block = certified(7, time);
    let digest = statement(&block, LOWER_CHAIN).digest(checkpoints.place(wallet.chain_id()));
    let early = checkpoints.submit_aggregated(&wallet, &block, &aggregate(digest, 0b1111)).await.unwrap_err();
    assert!(early.revert().unwrap().is("SumMismatch"), "{early}");
    registry.aggregate(&wallet, &validators, &ordered()).await.unwrap();
    let sum = PublicKey::sum(&ordered()).unwrap().encode();
    assert_eq!(registry.sum(&validators).await.unwrap(), sum_record(U256::from(15), &sum));

    let elsewhere = statement(&block, LOWER_CHAIN + 1).digest(checkpoints.place(wallet.chain_id()));
    for (forged, refusal) in [
        (aggregate(elsewhere, 0b1111), "SignatureInvalid"),
        (aggregate(digest, 0b0011), "QuorumMissing"),
        (Aggregate { signers: U256::from(15), absent_keys: Bytes::new(), ..aggregate(digest, 0b0111) }, "SumMismatch"),
    ] {
        let error = checkpoints.submit_aggregated(&wallet, &block, &forged).await.unwrap_err();
        assert!(error.revert().unwrap().is(refusal), "{refusal}: {error}");
    }
    // Four signatures cost less than a pairing.
    let three = aggregate(digest, 0b1101);
    let (certificate, one) = checkpoints.estimate(&wallet, &block, &three).await.unwrap();
    assert!(certificate < one, "{certificate} and {one}");
    checkpoints.submit_aggregated(&wallet, &block, &three).await.unwrap();
    assert_eq!(checkpoints.block_hash(7).await.unwrap(), Some(block.hash()));
}

#[test]
fn vectors_are_those_of_the_contracts() {
    let place = Place { chain_id: 31_337, contract: address!("00000000000000000000000000000000000000ab") };
    let block = certified(7, 1_800_000_000);
    let digest = statement(&block, LOWER_CHAIN).digest(place);
    let (validators, powers) = set().parts();
    let one = aggregate(digest, 0b1011);
    let first = keys().into_iter().find(|key| key.address() == validators[0]).unwrap();
    let registration = registration_digest(place, validators[0], ordered()[0].hash());
    let vectors = json!({
        "chainId": LOWER_CHAIN,
        "place": { "chainId": place.chain_id, "contract": place.contract },
        "validators": validators,
        "powers": powers,
        "setHash": set().hash(),
        "members": members_hash(&validators),
        "keys": ordered().iter().map(PublicKey::encode).collect::<Vec<_>>(),
        "height": 7,
        "blockHash": block.hash(),
        "checkpointDigest": digest,
        "keyed": one.keyed,
        "signers": one.signers,
        "key": one.key,
        "absentKeys": one.absent_keys,
        "signature": one.signature,
        "registration": {
            "digest": registration,
            "possession": secret(&first).prove_possession(registration).encode(),
        },
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/checkpoint-keys.json");
    let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    if std::env::var_os("CORTENSOR_UPDATE_ABI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let hint = "out of date: CORTENSOR_UPDATE_ABI=1 cargo test -p cortensor-contracts --test it vectors_are";
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{hint}");
}
