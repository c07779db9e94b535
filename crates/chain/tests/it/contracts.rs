//! Deployment, calls, logs, reverts and traces.

use alloy::{
    consensus::proofs::{calculate_receipt_root, calculate_transaction_root},
    network::TransactionBuilder as _,
    primitives::{Address, Bytes, U256, address, hex, keccak256},
    providers::Provider as _,
    rpc::types::{Filter, TransactionRequest},
    sol_types::{SolError as _, SolEvent as _},
};
use cortensor_chain::{CREATE2_DEPLOYER, Config, DEVELOPMENT_ADDRESSES};
use serde_json::json;

use crate::harness::{CHAIN_ID, Probe, Token, World, call_json, request, signer};

const RECIPIENT: Address = address!("00000000000000000000000000000000000000aa");

#[tokio::test]
async fn a_token_is_deployed_moved_and_its_logs_are_found() {
    let world = World::new().await;
    let client = &world.client;
    let token = client.deploy_token().await;
    let receipt = client.send(request(token, Token::transferCall { to: RECIPIENT, value: U256::from(5) })).await;
    assert!(receipt.status());
    assert_eq!(receipt.block_number, Some(2));
    assert_eq!(receipt.inner.logs().len(), 1);
    assert_eq!(client.call(token, Token::balanceOfCall { account: RECIPIENT }).await, U256::from(5));

    let filter = Filter::new().from_block(0).event_signature(Token::Transfer::SIGNATURE_HASH);
    let all = client.provider.get_logs(&filter).await.unwrap();
    assert_eq!(all.len(), 2, "minting and moving");
    let to_recipient = client.provider.get_logs(&filter.clone().topic2(RECIPIENT.into_word())).await.unwrap();
    assert_eq!(to_recipient.len(), 1);
    assert_eq!(to_recipient[0].transaction_hash, Some(receipt.transaction_hash));
    assert_eq!(to_recipient[0].log_index, Some(0));
    let by_hash = Filter::new().at_block_hash(receipt.block_hash.unwrap());
    assert_eq!(client.provider.get_logs(&by_hash).await.unwrap().len(), 1);
    let elsewhere = filter.address(RECIPIENT);
    assert!(client.provider.get_logs(&elsewhere).await.unwrap().is_empty());
}

#[tokio::test]
async fn headers_commit_to_what_the_server_shows() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(cortensor_chain::Sealing::Interval(200))).await;
    let client = &world.client;
    let mut waiting = Vec::new();
    for index in 0..5 {
        let request = TransactionRequest::default()
            .with_from(signer(index).address())
            .with_to(RECIPIENT)
            .with_value(U256::from(1));
        waiting.push(client.provider.send_transaction(request).await.unwrap());
    }
    let mut number = 0;
    for transaction in waiting {
        number = transaction.get_receipt().await.unwrap().block_number.unwrap();
    }
    let block = client.provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
    let receipts = client.provider.get_block_receipts(number.into()).await.unwrap().unwrap();
    let transactions: Vec<_> = block.transactions.txns().map(|tx| tx.inner.inner().clone()).collect();
    assert!(!transactions.is_empty());
    assert_eq!(calculate_transaction_root(&transactions), block.header.transactions_root);
    let receipts: Vec<_> = receipts.into_iter().map(|receipt| receipt.inner.map_logs(|log| log.inner)).collect();
    assert_eq!(calculate_receipt_root(&receipts), block.header.receipts_root);
    assert_eq!(block.header.inner.hash_slow(), block.header.hash);
    let parent = client.provider.get_block_by_number((number - 1).into()).await.unwrap().unwrap();
    assert_eq!(block.header.parent_hash, parent.header.hash);
}

#[tokio::test]
async fn reverts_come_with_reason_data_and_code() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let fail = async |call: serde_json::Value| client.raw("eth_call", json!([call, "latest"])).await.unwrap_err();

    let error = fail(call_json(probe, Probe::failReasonCall {})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(3), &json!("execution reverted: no reason at all")));
    let error = fail(call_json(probe, Probe::failCustomCall {})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(3), &json!("execution reverted")));
    let custom = Probe::Custom { code: U256::from(7), text: "seven".to_owned() };
    assert_eq!(error["data"], json!(Bytes::from(custom.abi_encode())));
    let error = fail(call_json(probe, Probe::failPanicCall { divisor: U256::ZERO })).await;
    assert!(error["message"].as_str().unwrap().starts_with("execution reverted: "), "{error}");
    let error = fail(call_json(probe, Probe::failEmptyCall {})).await;
    assert_eq!((&error["code"], &error["data"]), (&json!(3), &json!("0x")));
    let error = fail(call_json(probe, Probe::failInvalidCall {})).await;
    assert_eq!((&error["code"], &error["message"]), (&json!(-32000), &json!("invalid opcode: INVALID")));

    let estimate =
        client.raw("eth_estimateGas", json!([call_json(probe, Probe::failReasonCall {})])).await.unwrap_err();
    assert_eq!(estimate["message"], "execution reverted: no reason at all");
    let forced = request(probe, Probe::failReasonCall {}).with_gas_limit(100_000);
    let receipt = client.send(forced).await;
    assert!(!receipt.status(), "a forced failure is mined as such");
    assert!(receipt.inner.logs().is_empty());
}

#[tokio::test]
async fn traces_show_inner_calls() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let receipt = client.send(request(probe, Probe::insistCall { slots: U256::from(3) })).await;
    let options = json!({ "tracer": "callTracer" });
    let trace = client.raw("debug_traceTransaction", json!([receipt.transaction_hash, options])).await.unwrap();
    assert_eq!(trace["type"], "CALL");
    assert_eq!(trace["calls"].as_array().unwrap().len(), 1);
    assert_eq!(trace["calls"][0]["to"], json!(probe));
    assert_eq!(trace["gasUsed"], json!(format!("{:#x}", receipt.gas_used)));

    let steps = client.raw("debug_traceTransaction", json!([receipt.transaction_hash])).await.unwrap();
    assert!(steps["structLogs"].as_array().unwrap().len() > 100);
    let call = call_json(probe, Probe::failReasonCall {});
    let trace = client.raw("debug_traceCall", json!([call, "latest", options])).await.unwrap();
    assert_eq!(trace["revertReason"], "no reason at all");
    let block = client.raw("debug_traceBlockByNumber", json!(["latest", options])).await.unwrap();
    assert_eq!(block[0]["txHash"], json!(receipt.transaction_hash));
    let (code, _) = client.refusal("debug_traceTransaction", json!([keccak256("nothing"), options])).await;
    assert_eq!(code, -32000);
    let heavy = json!([call_json(probe, Probe::burnCall { slots: U256::from(700) }), "latest"]);
    let (code, message) =
        client.refusal("debug_traceCall", json!([heavy[0], heavy[1], { "enableMemory": true }])).await;
    assert_eq!(code, -32005, "{message}");
    let prestate = json!([receipt.transaction_hash, { "tracer": "prestateTracer" }]);
    let prestate = client.raw("debug_traceTransaction", prestate).await.unwrap();
    assert!(prestate[probe.to_string().to_lowercase()].is_object(), "{prestate}");
}

#[tokio::test]
async fn a_trace_replays_the_transactions_before_it() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(cortensor_chain::Sealing::Interval(300))).await;
    let client = &world.client;
    let token = client.deploy_token().await;
    // The second transfer spends what the first one brought, within one block.
    let middle = signer(1).address();
    let first = request(token, Token::transferCall { to: middle, value: U256::from(10) }).with_gas_limit(90_000);
    let second = request(token, Token::transferCall { to: RECIPIENT, value: U256::from(10) })
        .with_from(middle)
        .with_gas_limit(90_000)
        .with_max_priority_fee_per_gas(1)
        .with_max_fee_per_gas(10_000_000_000);
    let first = first.with_max_priority_fee_per_gas(1_000).with_max_fee_per_gas(10_000_000_000);
    let first = client.provider.send_transaction(first).await.unwrap();
    let second = client.provider.send_transaction(second).await.unwrap();
    let first = first.get_receipt().await.unwrap();
    let second = second.get_receipt().await.unwrap();
    assert!(first.status() && second.status());
    let trace = client
        .raw("debug_traceTransaction", json!([second.transaction_hash, { "tracer": "callTracer" }]))
        .await
        .unwrap();
    assert!(trace.get("error").is_none(), "{trace}");
    assert_eq!(trace["gasUsed"], json!(format!("{:#x}", second.gas_used)));
}

#[tokio::test]
async fn access_lists_name_what_is_touched_and_are_usable() {
    let world = World::new().await;
    let client = &world.client;
    let token = client.deploy_token().await;
    let transfer = request(token, Token::transferCall { to: RECIPIENT, value: U256::from(1) });
    let result = client.provider.create_access_list(&transfer).await.unwrap();
    assert_eq!(result.error, None);
    let item = result.access_list.0.iter().find(|item| item.address == token).expect("the token is listed");
    assert_eq!(item.storage_keys.len(), 2, "both balances");
    let receipt = client.send(transfer.access_list(result.access_list)).await;
    assert!(receipt.status());
    assert_eq!(U256::from(receipt.gas_used), result.gas_used);
}

#[tokio::test]
async fn the_deterministic_deployer_is_there() {
    let world = World::new().await;
    let client = &world.client;
    let code = hex::decode(include_str!("../../contracts/probe.hex").trim()).unwrap();
    let salt = keccak256("salt");
    let request =
        TransactionRequest::default().with_to(CREATE2_DEPLOYER).with_input([salt.to_vec(), code.clone()].concat());
    assert!(client.send(request).await.status());
    let deployed = CREATE2_DEPLOYER.create2(salt, keccak256(&code));
    assert_eq!(client.call(deployed, Probe::workCall {}).await, U256::ZERO);
}

#[tokio::test]
async fn contracts_see_the_chain_and_the_blocks_before() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let head = client.provider.get_block_by_number("latest".parse().unwrap()).await.unwrap().unwrap();
    let seen = client.call(probe, Probe::environmentCall {}).await;
    assert_eq!(seen.number, U256::from(head.header.number));
    assert_eq!(seen.time, U256::from(head.header.timestamp));
    assert_eq!(seen.chain, U256::from(CHAIN_ID));
    assert_eq!(seen.baseFee, U256::from(head.header.base_fee_per_gas.unwrap()));
    assert_eq!(seen.parent, head.header.parent_hash);
    assert_eq!(seen.random, U256::from_be_bytes(head.header.mix_hash.0));
    // EIP-2935: the history contract answers with the hash of an ancestor.
    let history = alloy::eips::eip2935::HISTORY_STORAGE_ADDRESS;
    let query = TransactionRequest::default().with_to(history).with_input(U256::ZERO.to_be_bytes_vec());
    let genesis = client.provider.get_block_by_number(0.into()).await.unwrap().unwrap();
    assert_eq!(client.provider.call(query).await.unwrap(), genesis.header.hash.to_vec());
    assert_eq!(
        client.provider.get_balance(DEVELOPMENT_ADDRESSES[9]).await.unwrap(),
        U256::from(10).pow(U256::from(22))
    );
}
