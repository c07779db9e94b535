//! Certificates and messages: vectors shared with the contracts' own tests, and what a checkpoint costs.

use crate::{anvil::Anvil, world::signer};
use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, U256, address, keccak256},
    rlp,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolConstructor as _,
};
use cortensor_contracts::{
    ChainTime as _, Wallet, artifact,
    bindings::checkpoints::Checkpoints as sol,
    connect,
    lanes::{CertifiedBlock, Checkpoints, Message, Messages},
};
use cortensor_protocol::consensus::{Domain, ValidatorSet, VoteKind};
use serde_json::json;

const CHAIN: u64 = 31_338;
const FOREIGN: u64 = 31_337;

fn keys(count: u16, salt: u16) -> Vec<PrivateKeySigner> {
    let key =
        |i: u16| PrivateKeySigner::from_bytes(&keccak256([i.to_be_bytes(), salt.to_be_bytes()].concat())).unwrap();
    (0..count).map(key).collect()
}

fn set_of(keys: &[PrivateKeySigner]) -> ValidatorSet {
    ValidatorSet::equal(&keys.iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap()
}

fn header(number: u64, timestamp: u64, next: &ValidatorSet) -> Bytes {
    let extra_data = Bytes::copy_from_slice(next.hash().as_slice());
    let header = Header { number, timestamp, extra_data, state_root: keccak256("state"), ..Header::default() };
    rlp::encode(&header).into()
}

/// Signed by just more than two thirds, those of the front of the set.
fn certify(header: Bytes, number: u64, keys: &[PrivateKeySigner]) -> CertifiedBlock {
    let set = set_of(keys);
    let digest = Domain::new(CHAIN).vote(VoteKind::Precommit, number, 1, keccak256(&header));
    let front = &set.parts().0[..keys.len() * 2 / 3 + 1];
    let signers = keys.iter().filter(|key| front.contains(&key.address()));
    let signed: Vec<_> = signers.map(|key| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes())).collect();
    CertifiedBlock::assemble(header, 1, set, &signed).unwrap()
}

#[test]
fn vectors_are_those_of_the_contracts() {
    let (keys, time) = (keys(4, 0), 1_800_000_000);
    let set = set_of(&keys);
    let anchor = header(0, time, &set);
    let block = certify(header(7, time, &set), 7, &keys);
    block.check(CHAIN).unwrap();
    let outbox = address!("00000000000000000000000000000000000000ab");
    let message = |index: u32| Message {
        index,
        sender: Address::repeat_byte(1),
        target: Address::repeat_byte(2),
        data: format!("message {index}").into_bytes().into(),
    };
    let mut messages = Messages::default();
    for index in 0..5 {
        assert!(messages.push(message(index), message(index).leaf(CHAIN, outbox, FOREIGN)));
    }
    let (proved, place) = (message(3), messages.inclusion(3, 5).unwrap());
    let (signers, signatures) = block.certificate.packed_signatures();
    let vectors = json!({
        "chainId": CHAIN,
        "timestamp": time,
        "set": { "validators": set.parts().0, "powers": set.parts().1, "hash": set.hash() },
        "anchor": anchor,
        "header": block.header,
        "height": 7,
        "round": 1,
        "blockHash": block.hash(),
        "precommitDigest": Domain::new(CHAIN).vote(VoteKind::Precommit, 7, 1, block.hash()),
        "signers": signers,
        "signatures": signatures,
        "foreign": { "chainId": FOREIGN, "number": 9, "digest": Domain::new(CHAIN).foreign_block(FOREIGN, 9, block.hash()) },
        "message": {
            "outbox": outbox,
            "index": proved.index,
            "sender": proved.sender,
            "target": proved.target,
            "data": proved.data,
            "leaf": proved.leaf(CHAIN, outbox, FOREIGN),
            "count": place.count,
            "root": place.root,
            "path": place.path,
            "accumulator": messages.accumulator(5).unwrap(),
        },
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/consensus.json");
    let text = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    if std::env::var_os("CORTENSOR_UPDATE_ABI").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let hint = "out of date: CORTENSOR_UPDATE_ABI=1 cargo test -p cortensor-contracts --test it vectors_are";
    assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{hint}");
}

/// Printed for docs/spec/settlement.md: whole transactions on an Ethereum node, one inside an epoch for each size of set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_costs_what_the_documents_say() {
    const EPOCH: u32 = 4;
    let anvil = Anvil::start().await;
    let provider = connect(anvil.url()).await.unwrap();
    let wallet = Wallet::new(provider.clone(), signer(0)).await.unwrap();
    let time = provider.chain_time().await.unwrap();
    let sizes = [4u16, 10, 20, 50, 100];
    let first = keys(sizes[0], 1);
    let constructor = sol::constructorCall {
        chainId_: U256::from(CHAIN),
        epochLength_: EPOCH,
        trustPeriod_: 86_400,
        initialOwner: wallet.address(),
        keys_: Address::ZERO,
        genesis: header(0, time, &set_of(&first)),
    };
    let code = [artifact::CHECKPOINTS.bytecode.as_ref(), &constructor.abi_encode()].concat();
    let (address, _) = wallet.create(code.into()).await.unwrap();
    let checkpoints = Checkpoints::new(provider, address);
    let mut current = first;
    for ((salt, epoch), size) in (2u16..).zip(0u64..).zip(sizes) {
        let (inside, last) = (u64::from(EPOCH) * epoch + 2, u64::from(EPOCH) * (epoch + 1) - 1);
        let block = certify(header(inside, time, &set_of(&current)), inside, &current);
        let gas = checkpoints.submit(&wallet, &block).await.unwrap().gas_used;
        println!("a checkpoint by {size} validators: {gas} gas");
        assert!(gas < 105_000 + 7_000 * u64::from(size), "{size} validators: {gas}");
        let next = keys(sizes[usize::from(salt - 1) % sizes.len()], salt);
        let end = certify(header(last, time, &set_of(&next)), last, &current);
        checkpoints.submit(&wallet, &end).await.unwrap();
        let trust = checkpoints.trust_of(epoch + 1).await.unwrap().unwrap();
        assert_eq!(trust.set_hash, set_of(&next).hash());
        current = next;
    }
    let zero = CertifiedBlock::assemble(header(99, time, &set_of(&current)), 1, set_of(&current), &[]).unwrap();
    let error = checkpoints.submit(&wallet, &zero).await.unwrap_err();
    assert!(error.revert().is_some(), "{error}");
    assert_eq!(checkpoints.block_hash(1).await.unwrap(), None::<B256>);
}
