//! The certificate of `contracts/artifacts/consensus.json`, which the contract `Checkpoints` accepts, proves its block here too.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use cortensor_protocol::consensus::{Certificate, Domain, Signature, ValidatorSet};
use serde_json::Value;

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn what_a_contract_takes_for_decided_is_decided_here() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/consensus.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (addresses, powers): (Vec<Address>, Vec<u64>) =
        (parsed(&vectors["set"]["validators"]), parsed(&vectors["set"]["powers"]));
    let set = ValidatorSet::from_parts(&addresses, &powers).unwrap();
    let set_hash: B256 = parsed(&vectors["set"]["hash"]);
    assert_eq!(set.hash(), set_hash);
    let (block_hash, header): (B256, Bytes) = (parsed(&vectors["blockHash"]), parsed(&vectors["header"]));
    assert_eq!(keccak256(header), block_hash);

    let (signers, packed): (U256, Bytes) = (parsed(&vectors["signers"]), parsed(&vectors["signatures"]));
    let signatures = Certificate::unpack_signatures(signers, &packed, addresses.len()).unwrap();
    let (height, round) = (parsed(&vectors["height"]), parsed(&vectors["round"]));
    let mut certificate = Certificate { height, round, block_hash, set, signatures };
    let domain = Domain::new(parsed(&vectors["chainId"]));
    assert_eq!(certificate.verify(&domain, height, block_hash, set_hash), Ok(()));
    certificate.signatures[0] = Signature::new([0; 65]);
    assert!(certificate.verify(&domain, height, block_hash, set_hash).is_err(), "two of four are not enough");
}
