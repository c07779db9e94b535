//! The seeds of what validators send, write down and prove.

use crate::seeds::Seed;
use alloy::{
    consensus::{
        Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, SignableTransaction as _, TrieAccount,
        TxEip1559, TxEnvelope,
    },
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, Signature, U64, U256, keccak256},
    rlp,
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_chain::{KEY_BYTES, ProposedBlock, StatedKey, StatedTransaction};
use cortensor_consensus::{
    message::{DecidedBlock, Message, Part},
    signing::WireVote,
};
use cortensor_protocol::{
    consensus::{CertifiedBlock, Domain, ValidatorSet, VoteKind},
    light::{Account, AccountProof, Proof, TransactionProof, ordered_proof},
};

const CHAIN: u64 = 7;
const SOMEBODY: Address = Address::repeat_byte(0x11);

pub(crate) fn all() -> Vec<Seed> {
    let light = vec![("light", "account-and-receipt", serde_json::to_vec(&proof()).unwrap())];
    [messages(), blocks(), light, points()].concat()
}

fn stated() -> Vec<StatedTransaction> {
    let key = Some(StatedKey([7; KEY_BYTES]));
    vec![
        StatedTransaction { encoded: Bytes::from_static(b"x"), key },
        StatedTransaction { encoded: Bytes::new(), key: None },
    ]
}

fn keys() -> Vec<PrivateKeySigner> {
    (1..=4_u8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()).collect()
}

fn set() -> ValidatorSet {
    ValidatorSet::equal(&keys().iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap()
}

fn tagged(tag: u8, content: &impl rlp::Encodable) -> Vec<u8> {
    [vec![tag], rlp::encode(content)].concat()
}

fn messages() -> Vec<Seed> {
    let block = B256::repeat_byte(9);
    let key = &keys()[0];
    let digest = Domain::new(CHAIN).vote(VoteKind::Prevote, 3, 1, block);
    let signature = key.sign_hash_sync(&digest).unwrap().as_bytes().into();
    let vote = WireVote { kind: 1, height: 3, round: 1, block_hash: block, validator: key.address(), signature };
    let part = Part { height: 3, block, index: 1, total: 2, bytes: Bytes::from_static(b"abc") };
    let decided =
        DecidedBlock { block: Bytes::from_static(b"x"), certificate: certify(&header(4)).certificate.encode() };
    vec![
        ("consensus", "vote", tagged(1, &vote)),
        ("consensus", "part", Message::Part(part).encode()),
        ("consensus", "want", Message::Want { height: 3, block }.encode()),
        ("consensus", "status", Message::Status { height: 77 }.encode()),
        ("consensus", "request", Message::SyncRequest { from: 5 }.encode()),
        ("consensus", "decided", Message::Decided(decided).encode()),
        ("consensus", "transactions", Message::Transactions(stated()).encode()),
        ("log", "vote", tagged(1, &vote)),
        ("log", "timeout", tagged(4, &vec![1_u32, 3])),
    ]
}

fn blocks() -> Vec<Seed> {
    let header = Header { transactions_root: root(&transactions()), ..header(4) };
    let transactions = transactions().into_iter().map(Bytes::from).collect();
    let block = rlp::encode(ProposedBlock { header, transactions });
    let beacon = rlp::encode(alloy::primitives::FixedBytes::<65>::repeat_byte(1));
    let mut bytes = Vec::new();
    rlp::Header { list: true, payload_length: block.len() + beacon.len() }.encode(&mut bytes);
    bytes.extend([block, beacon].concat());
    vec![("block", "block", bytes), ("block", "certificate", certify(&self::header(4)).certificate.encode().to_vec())]
}

fn points() -> Vec<Seed> {
    let secret = cortensor_bls::SecretKey::derive(&B256::repeat_byte(1));
    let (key, signature) = (secret.public_key().encode(), secret.sign(B256::repeat_byte(2)).encode());
    vec![("points", "key", key.to_vec()), ("points", "signature", signature.to_vec())]
}

fn transactions() -> Vec<Vec<u8>> {
    let signature = Signature::test_signature();
    let transaction = |nonce| TxEnvelope::from(TxEip1559 { nonce, ..TxEip1559::default() }.into_signed(signature));
    (0..3).map(|nonce| transaction(nonce).encoded_2718()).collect()
}

fn receipts() -> Vec<Vec<u8>> {
    let receipt = |gas: u64| Receipt::<alloy::primitives::Log> {
        status: Eip658Value::Eip658(true),
        cumulative_gas_used: gas * 21_000,
        logs: Vec::new(),
    };
    let bloom = alloy::primitives::Bloom::ZERO;
    (1..=3).map(|gas| ReceiptEnvelope::Eip1559(ReceiptWithBloom::new(receipt(gas), bloom)).encoded_2718()).collect()
}

fn root(items: &[Vec<u8>]) -> B256 {
    keccak256(&ordered_proof(items, 0)[0])
}

fn account() -> TrieAccount {
    TrieAccount { nonce: 3, balance: U256::from(77), ..TrieAccount::default() }
}

/// A state of one account is one leaf.
fn leaf() -> Bytes {
    let path = Bytes::from([&[0x20], keccak256(SOMEBODY).as_slice()].concat());
    rlp::encode(vec![path, rlp::encode(account()).into()]).into()
}

fn header(number: u64) -> Header {
    Header {
        number,
        timestamp: 100 + number,
        state_root: keccak256(leaf()),
        transactions_root: root(&transactions()),
        receipts_root: root(&receipts()),
        extra_data: set().hash().into(),
        ..Header::default()
    }
}

fn certify(header: &Header) -> CertifiedBlock {
    let bytes = Bytes::from(rlp::encode(header));
    let digest = Domain::new(CHAIN).vote(VoteKind::Precommit, header.number, 0, keccak256(&bytes));
    let sign = |key: &PrivateKeySigner| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes());
    CertifiedBlock::assemble(bytes, 0, set(), &keys().iter().take(3).map(sign).collect::<Vec<_>>()).unwrap()
}

fn proof() -> Proof {
    let mut proof = Proof::new(CHAIN, None, vec![certify(&header(4))], certify(&header(6)));
    let TrieAccount { nonce, balance, storage_root, code_hash } = account();
    let account = Some(Account { nonce: U64::from(nonce), balance, storage_root, code_hash });
    proof.account = Some(AccountProof { address: SOMEBODY, account, proof: vec![leaf()], slots: Vec::new() });
    proof.transaction = Some(TransactionProof {
        index: U64::from(1),
        transaction: transactions()[1].clone().into(),
        transaction_proof: ordered_proof(&transactions(), 1),
        receipt: receipts()[1].clone().into(),
        receipt_proof: ordered_proof(&receipts(), 1),
    });
    proof
}
