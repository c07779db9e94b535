//! The pool as clients meet it: nonces, prices, gaps, replacements, types.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEip7702, TxEnvelope, TxLegacy},
    eips::{eip2718::Encodable2718 as _, eip7702::Authorization},
    network::TransactionBuilder as _,
    primitives::{Address, B256, Bytes, TxKind, U256, address},
    providers::Provider as _,
    rpc::types::TransactionRequest,
    signers::SignerSync as _,
};
use cortensor_chain::{Config, DEVELOPMENT_ADDRESSES, Sealing};
use serde_json::json;

use crate::harness::{CHAIN_ID, Probe, World, signer};

const RECIPIENT: Address = address!("00000000000000000000000000000000000000ab");

/// A transfer of one wei that development account 1 signs.
fn transfer(change: impl FnOnce(&mut TxEip1559)) -> Bytes {
    let mut tx = TxEip1559 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(RECIPIENT),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    change(&mut tx);
    sign(tx)
}

fn sign(tx: TxEip1559) -> Bytes {
    let signature = signer(1).sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

#[tokio::test]
async fn refusals_have_the_messages_that_clients_match_on() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(Sealing::Interval(3_600_000))).await;
    let client = &world.client;
    let check = async |encoded: Bytes, expect: &str| {
        let (code, message) = client.refusal("eth_sendRawTransaction", json!([encoded])).await;
        assert_eq!(code, -32000, "{message}");
        assert!(message.contains(expect), "{message:?} does not contain {expect:?}");
    };
    check(transfer(|tx| tx.chain_id = 1), "invalid chain id for signer: have 1 want 4242").await;
    check(transfer(|tx| tx.gas_limit = 20_999), "intrinsic gas too low: gas 20999, minimum needed 21000").await;
    check(transfer(|tx| tx.gas_limit = 17_000_000), "transaction gas limit too high").await;
    check(transfer(|tx| tx.gas_limit = u64::MAX), "exceeds block gas limit").await;
    check(transfer(|tx| tx.max_fee_per_gas = 1), "max priority fee per gas higher than max fee per gas").await;
    check(transfer(|tx| tx.value = U256::MAX), "insufficient funds for gas * price + value").await;
    check(transfer(|tx| tx.nonce = u64::MAX), "nonce has max value").await;
    check(transfer(|tx| tx.input = vec![1; 200_000].into()), "oversized data").await;
    check(
        transfer(|tx| (tx.to, tx.gas_limit, tx.input) = (TxKind::Create, 10_000_000, vec![0; 50_000].into())),
        "max initcode size exceeded",
    )
    .await;
    check(Bytes::from_static(&[3, 0xc0]), "transaction type not supported").await;
    check(Bytes::from_static(b"\x02\xff\xff"), "rlp").await;
    check(Bytes::new(), "rlp").await;
    let mut longer = transfer(|_| ()).to_vec();
    longer.push(0);
    check(longer.into(), "rlp").await;

    client.raw("eth_sendRawTransaction", json!([transfer(|_| ())])).await.unwrap();
    check(transfer(|_| ()), "already known").await;
    check(transfer(|tx| tx.value = U256::from(2)), "replacement transaction underpriced").await;
    let bumped = transfer(|tx| (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (11_000_000_000, 1_100_000));
    client.raw("eth_sendRawTransaction", json!([bumped])).await.unwrap();
}

#[tokio::test]
async fn a_used_nonce_is_too_low() {
    let world = World::new().await;
    let client = &world.client;
    let receipt = client.raw("eth_sendRawTransactionSync", json!([transfer(|_| ())])).await.unwrap();
    assert_eq!(receipt["status"], "0x1");
    let again = transfer(|tx| tx.value = U256::from(3));
    let (_, message) = client.refusal("eth_sendRawTransaction", json!([again])).await;
    assert_eq!(message, "nonce too low: next nonce 1, tx nonce 0");
}

#[tokio::test]
async fn transactions_behind_a_gap_wait_until_it_closes() {
    let world = World::new().await;
    let client = &world.client;
    let sender = DEVELOPMENT_ADDRESSES[1];
    for nonce in [3, 2, 1] {
        client.raw("eth_sendRawTransaction", json!([transfer(|tx| tx.nonce = nonce)])).await.unwrap();
    }
    let status = client.raw("txpool_status", json!([])).await.unwrap();
    assert_eq!(status, json!({ "pending": "0x0", "queued": "0x3" }));
    assert_eq!(client.raw("eth_getTransactionCount", json!([sender, "pending"])).await.unwrap(), "0x0");
    let content = client.raw("txpool_content", json!([])).await.unwrap();
    assert_eq!(content["queued"][sender.to_string()].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(client.provider.get_block_number().await.unwrap(), 0);
    client.raw("eth_sendRawTransactionSync", json!([transfer(|_| ())])).await.unwrap();
    let last = client.raw("eth_sendRawTransactionSync", json!([transfer(|tx| tx.nonce = 4)])).await.unwrap();
    assert_eq!(last["status"], "0x1");
    assert_eq!(client.provider.get_balance(RECIPIENT).await.unwrap(), U256::from(5));
}

#[tokio::test]
async fn pending_counts_and_prices_order_what_waits() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(Sealing::Interval(700))).await;
    let client = &world.client;
    let mut hashes = Vec::new();
    for (index, tip) in [(2, 1_000_u128), (3, 3_000), (4, 2_000)] {
        let request = TransactionRequest::default()
            .with_from(signer(index).address())
            .with_to(RECIPIENT)
            .with_value(U256::from(1))
            .with_gas_limit(21_000)
            .with_max_fee_per_gas(10_000_000_000)
            .with_max_priority_fee_per_gas(tip);
        hashes.push((tip, client.provider.send_transaction(request).await.unwrap()));
    }
    let sender = DEVELOPMENT_ADDRESSES[2];
    assert_eq!(client.raw("eth_getTransactionCount", json!([sender, "pending"])).await.unwrap(), "0x1");
    assert_eq!(client.raw("eth_getTransactionCount", json!([sender, "latest"])).await.unwrap(), "0x0");
    let waiting = client.raw("eth_getTransactionByHash", json!([hashes[0].1.tx_hash()])).await.unwrap();
    assert_eq!(waiting["blockHash"], json!(null));
    let mut places = Vec::new();
    for (tip, waiting) in hashes {
        let receipt = waiting.get_receipt().await.unwrap();
        places.push((receipt.block_number, receipt.transaction_index, tip));
    }
    places.sort_unstable();
    let tips: Vec<_> = places.iter().map(|place| place.2).collect();
    assert_eq!(tips, [3_000, 2_000, 1_000], "{places:?}");
}

#[tokio::test]
async fn fees_follow_the_base_fee_and_go_where_they_belong() {
    let coinbase = address!("00000000000000000000000000000000000000c0");
    let mut config = Config::development(CHAIN_ID);
    config.coinbase = coinbase;
    let world = World::with(config).await;
    let client = &world.client;
    let sender = DEVELOPMENT_ADDRESSES[1];
    let before = client.provider.get_balance(sender).await.unwrap();
    let encoded = transfer(|tx| tx.max_priority_fee_per_gas = 5);
    let receipt = client.raw("eth_sendRawTransactionSync", json!([encoded])).await.unwrap();
    let base_fee =
        client.provider.get_block_by_number(1.into()).await.unwrap().unwrap().header.base_fee_per_gas.unwrap();
    assert_eq!(base_fee, 875_000_000, "an empty genesis lowers the base fee by an eighth");
    assert_eq!(receipt["effectiveGasPrice"], json!(format!("{:#x}", base_fee + 5)));
    assert_eq!(client.provider.get_balance(coinbase).await.unwrap(), U256::from(5 * 21_000));
    let spent = before - client.provider.get_balance(sender).await.unwrap();
    assert_eq!(spent, U256::from(21_000 * (base_fee + 5)) + U256::from(1));
}

#[tokio::test]
async fn legacy_and_access_list_transactions_are_mined() {
    let world = World::new().await;
    let client = &world.client;
    let legacy = TxLegacy {
        chain_id: Some(CHAIN_ID),
        gas_price: 2_000_000_000,
        gas_limit: 21_000,
        to: TxKind::Call(RECIPIENT),
        value: U256::from(4),
        ..TxLegacy::default()
    };
    let signature = signer(1).sign_hash_sync(&legacy.signature_hash()).unwrap();
    let encoded: Bytes = TxEnvelope::from(legacy.into_signed(signature)).encoded_2718().into();
    let receipt = client.raw("eth_sendRawTransactionSync", json!([encoded])).await.unwrap();
    assert_eq!((&receipt["type"], &receipt["status"]), (&json!("0x0"), &json!("0x1")));
    let unprotected = TxLegacy {
        chain_id: None,
        nonce: 1,
        gas_price: 2_000_000_000,
        gas_limit: 21_000,
        to: TxKind::Call(RECIPIENT),
        ..TxLegacy::default()
    };
    let signature = signer(1).sign_hash_sync(&unprotected.signature_hash()).unwrap();
    let unprotected: Bytes = TxEnvelope::from(unprotected.into_signed(signature)).encoded_2718().into();
    let mut strict = Config::development(CHAIN_ID);
    strict.dev = false;
    let (_, message) = World::with(strict).await.client.refusal("eth_sendRawTransaction", json!([unprotected])).await;
    assert_eq!(message, "only replay-protected (EIP-155) transactions allowed over RPC");
    client.raw("eth_sendRawTransactionSync", json!([unprotected])).await.unwrap();
    let raw = client.raw("eth_getRawTransactionByHash", json!([receipt["transactionHash"]])).await.unwrap();
    assert_eq!(raw, json!(encoded));
    let transaction = client.raw("eth_getTransactionByHash", json!([receipt["transactionHash"]])).await.unwrap();
    assert_eq!(transaction["from"], json!(DEVELOPMENT_ADDRESSES[1].to_string().to_lowercase()));
}

#[tokio::test]
async fn an_account_can_delegate_to_code() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let authority = signer(3);
    let authorization = Authorization { chain_id: U256::from(CHAIN_ID), address: probe, nonce: 0 };
    let signature = authority.sign_hash_sync(&authorization.signature_hash()).unwrap();
    let tx = TxEip7702 {
        chain_id: CHAIN_ID,
        gas_limit: 200_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: authority.address(),
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let signature = signer(1).sign_hash_sync(&tx.signature_hash()).unwrap();
    let encoded: Bytes = TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into();
    let receipt = client.raw("eth_sendRawTransactionSync", json!([encoded])).await.unwrap();
    assert_eq!((&receipt["type"], &receipt["status"]), (&json!("0x4"), &json!("0x1")));
    assert_eq!(client.call(authority.address(), Probe::workCall {}).await, U256::ZERO);
    // The delegating account can still send.
    let transfer =
        TransactionRequest::default().with_from(authority.address()).with_to(RECIPIENT).with_value(U256::from(1));
    assert!(client.send(transfer).await.status());
}

#[tokio::test]
async fn many_senders_at_once_lose_nothing() {
    let world = World::new().await;
    let client = &world.client;
    let tasks: Vec<_> = (0..10)
        .map(|index| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut hashes: Vec<B256> = Vec::new();
                for nonce in 0..30 {
                    let tx = TxEip1559 {
                        chain_id: CHAIN_ID,
                        nonce,
                        gas_limit: 21_000,
                        max_fee_per_gas: 10_000_000_000,
                        max_priority_fee_per_gas: 1,
                        to: TxKind::Call(RECIPIENT),
                        value: U256::from(1),
                        ..TxEip1559::default()
                    };
                    let signature = signer(index).sign_hash_sync(&tx.signature_hash()).unwrap();
                    let envelope = TxEnvelope::from(tx.into_signed(signature));
                    let hash = client.provider.send_raw_transaction(&envelope.encoded_2718()).await.unwrap();
                    hashes.push(*hash.tx_hash());
                }
                hashes
            })
        })
        .collect();
    let mut blocks = world.chain.blocks();
    let mut hashes = Vec::new();
    for task in tasks {
        hashes.extend(task.await.unwrap());
    }
    while world.chain.metrics().transactions < 300 {
        blocks.changed().await.unwrap();
    }
    for hash in hashes {
        assert!(client.provider.get_transaction_receipt(hash).await.unwrap().is_some_and(|receipt| receipt.status()));
    }
    assert_eq!(client.provider.get_balance(RECIPIENT).await.unwrap(), U256::from(300));
    let metrics = world.chain.metrics();
    assert_eq!((metrics.pool_pending, metrics.pool_queued, metrics.pool_invalid), (0, 0, 0));
}
