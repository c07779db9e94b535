//! A small chain whose set changes every epoch, proofs of it, and everything that can be wrong with them.

use super::{proof::*, *};
use crate::{
    consensus::{ValidatorSet, VoteKind},
    signature::tests::sign,
};
use alloy_consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, SignableTransaction as _, TxEip1559, TxEnvelope,
};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, KECCAK256_EMPTY, Log, Signature, U64, U256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer};
use proptest::prelude::*;
use std::sync::OnceLock;

const CHAIN: u64 = 7;
const EPOCH: u64 = 5;
const SOMEBODY: Address = Address::repeat_byte(0x11);

/// The keys that decide an epoch: four of six, others each time.
fn keys(epoch: u64) -> Vec<u8> {
    (0..4).map(|index| u8::try_from((epoch + index) % 6).unwrap() + 1).collect()
}

fn set(epoch: u64) -> ValidatorSet {
    let address = |key: &u8| sign(*key, B256::ZERO).0;
    ValidatorSet::equal(&keys(epoch).iter().map(address).collect::<Vec<_>>()).unwrap()
}

fn trie(items: &[(B256, Vec<u8>)], key: B256) -> (B256, Vec<Bytes>) {
    let mut leaves: Vec<_> = items.iter().map(|(key, leaf)| (Nibbles::unpack(key), leaf)).collect();
    leaves.sort_unstable_by_key(|(key, _)| *key);
    let retainer = ProofRetainer::new(vec![Nibbles::unpack(key)]);
    let mut builder = HashBuilder::default().with_proof_retainer(retainer);
    for (key, leaf) in leaves {
        builder.add_leaf(key, leaf);
    }
    let root = builder.root();
    (root, builder.take_proof_nodes().into_nodes_sorted().into_iter().map(|(_, node)| node).collect())
}

fn slot(number: u64) -> B256 {
    B256::from(U256::from(number))
}

fn storage() -> Vec<(B256, Vec<u8>)> {
    (1..20).map(|number| (keccak256(slot(number)), alloy_rlp::encode(U256::from(number * 100)))).collect()
}

fn account() -> Account {
    let storage_root = trie(&storage(), B256::ZERO).0;
    Account { nonce: U64::from(3), balance: U256::from(77), storage_root, code_hash: KECCAK256_EMPTY }
}

fn state() -> Vec<(B256, Vec<u8>)> {
    let plain = |byte: u8| TrieAccount { nonce: u64::from(byte), ..TrieAccount::default() };
    let others = (50..90).map(|byte| (keccak256(Address::repeat_byte(byte)), alloy_rlp::encode(plain(byte))));
    let Account { nonce, balance, storage_root, code_hash } = account();
    let somebody = TrieAccount { nonce: nonce.to(), balance, storage_root, code_hash };
    others.chain([(keccak256(SOMEBODY), alloy_rlp::encode(somebody))]).collect()
}

fn transactions() -> (Vec<Vec<u8>>, Vec<Vec<u8>>, B256) {
    let signature = Signature::test_signature();
    let transaction = |nonce| TxEnvelope::from(TxEip1559 { nonce, ..TxEip1559::default() }.into_signed(signature));
    let log = Log::new_unchecked(SOMEBODY, vec![B256::repeat_byte(1)], Bytes::from_static(b"log"));
    let receipt = |index: u64| {
        let status = Eip658Value::Eip658(!index.is_multiple_of(3));
        let receipt = Receipt { status, cumulative_gas_used: index * 21_000, logs: vec![log.clone()] };
        ReceiptEnvelope::Eip1559(ReceiptWithBloom::new(receipt, Default::default())).encoded_2718()
    };
    let all: Vec<_> = (0..200).map(transaction).collect();
    let hash = *all[130].tx_hash();
    (all.iter().map(TxEnvelope::encoded_2718).collect(), (0..200).map(receipt).collect(), hash)
}

fn root(items: &[Vec<u8>]) -> B256 {
    keccak256(&ordered_proof(items, 0)[0])
}

fn header(number: u64) -> Header {
    let (transactions, receipts, _) = transactions();
    Header {
        number,
        timestamp: 1_000 + number * 10,
        state_root: trie(&state(), B256::ZERO).0,
        transactions_root: root(&transactions),
        receipts_root: root(&receipts),
        extra_data: set((number + 1) / EPOCH).hash().into(),
        ..Header::default()
    }
}

fn certify(header: &Header, chain: u64, epoch: u64, signers: usize) -> CertifiedBlock {
    let bytes = Bytes::from(alloy_rlp::encode(header));
    let digest = Domain::new(chain).vote(VoteKind::Precommit, header.number, 0, keccak256(&bytes));
    let signed: Vec<_> = keys(epoch).iter().take(signers).map(|key| sign(*key, digest)).collect();
    let signed: Vec<_> = signed.into_iter().map(|(who, by)| (who, by.0)).collect();
    CertifiedBlock::assemble(bytes, 0, set(epoch), &signed).unwrap()
}

fn certified(number: u64) -> CertifiedBlock {
    certify(&header(number), CHAIN, number / EPOCH, 3)
}

fn genesis() -> Trusted {
    Trusted { chain_id: CHAIN, epoch_blocks: EPOCH, number: 0, set_hash: set(0).hash(), timestamp: 1_000 }
}

/// Of block 17, with an account and a transaction.
fn proof() -> Proof {
    let mut proof = Proof::new(CHAIN, None, [4, 9, 14].map(certified).to_vec(), certified(17));
    let slots = [7, 999].map(|number| SlotProof {
        slot: slot(number),
        value: U256::from(if number == 7 { 700 } else { 0 }),
        proof: trie(&storage(), keccak256(slot(number))).1,
    });
    let path = trie(&state(), keccak256(SOMEBODY)).1;
    proof.account =
        Some(AccountProof { address: SOMEBODY, account: Some(account()), proof: path, slots: slots.to_vec() });
    let (transactions, receipts, _) = transactions();
    proof.transaction = Some(TransactionProof {
        index: U64::from(130),
        transaction: transactions[130].clone().into(),
        transaction_proof: ordered_proof(&transactions, 130),
        receipt: receipts[130].clone().into(),
        receipt_proof: ordered_proof(&receipts, 130),
    });
    proof
}

fn text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", text(source)))
}

#[test]
fn a_proof_shows_a_block_an_account_and_a_receipt() {
    let written = serde_json::to_string(&proof()).unwrap();
    let read = Proof::parse(&written).unwrap();
    assert_eq!(read, proof());
    let verified = read.verify(genesis(), None, Limits { trust_seconds: Some(50), age: Some((1_200, 30)) }).unwrap();
    assert_eq!((verified.header.number, verified.power), (17, (750_000_000, 1_000_000_000)));
    let transaction = verified.transaction.unwrap();
    let (_, _, hash) = transactions();
    assert_eq!((transaction.hash, transaction.index, transaction.success), (hash, 130, true));
    assert_eq!(transaction.logs[0].address, SOMEBODY);
    assert_eq!(verified.account.unwrap().slots[0].value, U256::from(700));
}

#[test]
fn trust_may_begin_at_any_header() {
    for begin in [0, 3, 4, 7, 9, 16] {
        let trusted = Bytes::from(alloy_rlp::encode(header(begin)));
        let hash = keccak256(&trusted);
        let epochs: Vec<_> = [4, 9, 14].into_iter().filter(|last| *last > begin).map(certified).collect();
        let proof = Proof::new(CHAIN, Some(trusted), epochs, certified(17));
        proof.verify(genesis(), Some(hash), Limits::default()).unwrap_or_else(|error| panic!("{begin}: {error}"));
        let other = proof.verify(genesis(), Some(B256::repeat_byte(1)), Limits::default()).unwrap_err();
        assert!(text(&other).contains("begins with the header"), "{other}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_reason() {
    let check = |change: &dyn Fn(&mut Proof), limits: Limits, expect: &str| {
        let mut proof = proof();
        change(&mut proof);
        let found = proof.verify(genesis(), None, limits).map_or_else(|error| text(&error), |_| "proved".to_owned());
        assert!(found.contains(expect), "{found:?} does not mention {expect:?}");
    };
    let any = Limits::default();
    check(&|_| (), any, "proved");
    check(&|proof| proof.chain_id = U64::from(8), any, "chain 8, not of chain 7");
    check(&|proof| proof.block = certify(&header(17), 8, 3, 3), any, "signature");
    check(&|proof| proof.block = certify(&header(17), CHAIN, 3, 2), any, "not more than two thirds");
    check(&|proof| proof.block = certify(&header(17), CHAIN, 2, 4), any, "commits to");
    check(&|proof| proof.block = certified(21), any, "of epoch 4");
    check(&|proof| proof.block = certified(12), any, "is not above block 14");
    check(&|proof| drop(proof.epochs.pop()), any, "of epoch 3");
    check(&|proof| drop(proof.epochs.remove(1)), any, "epoch 1 ends with block 9");
    check(&|proof| proof.epochs[1] = certified(8), any, "epoch 1 ends with block 9");
    check(&|proof| proof.epochs.insert(1, certified(4)), any, "epoch 1 ends with block 9");
    check(&|proof| proof.trusted_header = Some(Bytes::new()), any, "block 0 is trusted");
    let forged = Header { extra_data: set(9).hash().into(), ..header(9) };
    check(&|proof| proof.epochs[1] = certify(&forged, CHAIN, 1, 3), any, "commits to");
    let inside = Header { extra_data: set(8).hash().into(), ..header(17) };
    check(&|proof| proof.block = certify(&inside, CHAIN, 3, 3), any, "do not name the set");
    let nobody = Header { extra_data: Bytes::new(), ..header(14) };
    check(&|proof| proof.epochs[2] = certify(&nobody, CHAIN, 2, 3), any, "do not name the set");
    let early = Header { timestamp: 5, ..header(14) };
    check(&|proof| proof.epochs[2] = certify(&early, CHAIN, 2, 3), any, "older than the one before");
    check(&|_| (), Limits { trust_seconds: Some(49), age: None }, "50 s younger");
    check(&|_| (), Limits { trust_seconds: None, age: Some((2_000, 100)) }, "830 s old");
}

#[test]
fn what_does_not_stand_in_the_block_is_refused() {
    let check = |change: &dyn Fn(&mut Proof), expect: &str| {
        let mut proof = proof();
        change(&mut proof);
        let found = proof.verify(genesis(), None, Limits::default());
        let found = found.map_or_else(|error| text(&error), |_| "proved".to_owned());
        assert!(found.contains(expect), "{found:?} does not mention {expect:?}");
    };
    let of = |proof: &mut Proof| proof.account.clone().unwrap();
    check(&|proof| proof.account.as_mut().unwrap().account.as_mut().unwrap().balance = U256::MAX, "the account");
    check(&|proof| proof.account = Some(AccountProof { account: None, ..of(proof) }), "the account");
    check(&|proof| proof.account.as_mut().unwrap().address = Address::ZERO, "the account");
    check(&|proof| drop(proof.account.as_mut().unwrap().proof.pop()), "the account");
    check(&|proof| proof.account.as_mut().unwrap().proof.push(Bytes::from_static(b"more")), "the account");
    check(&|proof| proof.account.as_mut().unwrap().slots[0].value = U256::from(701), "a slot");
    check(&|proof| proof.account.as_mut().unwrap().slots[1].value = U256::from(1), "a slot");
    check(&|proof| proof.account.as_mut().unwrap().slots[0].value = U256::ZERO, "a slot");
    check(&|proof| proof.transaction.as_mut().unwrap().index = U64::from(131), "the transaction");
    let receipt = |proof: &mut Proof, index: usize| {
        let (_, receipts, _) = transactions();
        let transaction = proof.transaction.as_mut().unwrap();
        transaction.receipt = receipts[index].clone().into();
        transaction.receipt_proof = ordered_proof(&receipts, index as u64);
    };
    check(&|proof| receipt(proof, 129), "the receipt");
    let absent = trie(&state(), keccak256(Address::ZERO)).1;
    let nobody = AccountProof { address: Address::ZERO, account: None, proof: absent, slots: Vec::new() };
    check(&|proof| proof.account = Some(nobody.clone()), "proved");
    let slots = proof().account.unwrap().slots;
    check(&|proof| proof.account = Some(AccountProof { slots: slots.clone(), ..nobody.clone() }), "does not exist");
}

#[test]
fn there_is_one_form_of_each_proof() {
    let written = serde_json::to_string(&proof()).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        assert!(Proof::parse(&written.replacen(from, to, 1)).is_err(), "{to}");
    };
    refused("\"chainId\":\"0x7\"", "\"chainId\":\"0x07\"");
    refused("\"chainId\":\"0x7\"", "\"chainId\":7");
    refused("\"version\":1", "\"version\":2");
    refused("\"version\":1", "\"version\":1,\"version\":1");
    refused("\"version\":1", "\"version\":1,\"more\":1");
    refused("\"trustedHeader\":null,", "");
    refused("\"powers\":[", "\"extra\":0,\"powers\":[");
    refused("0x1111", "0X1111");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A digit of a proof that is changed makes it prove nothing, except in what is not looked at.
    #[test]
    fn no_changed_digit_proves_anything(place in 0_usize..1_000_000, digit in 0_usize..16) {
        static WRITTEN: OnceLock<String> = OnceLock::new();
        let mut written = WRITTEN.get_or_init(|| serde_json::to_string(&proof()).unwrap()).clone().into_bytes();
        let places: Vec<_> = (0..written.len()).filter(|place| written[*place].is_ascii_hexdigit()).collect();
        let place = places[place % places.len()];
        let digit = b"0123456789abcdef"[digit];
        prop_assume!(written[place] != digit);
        written[place] = digit;
        if let Ok(changed) = Proof::parse(std::str::from_utf8(&written).unwrap()) {
            prop_assert!(changed.verify(genesis(), None, Limits::default()).is_err());
        }
    }
}
