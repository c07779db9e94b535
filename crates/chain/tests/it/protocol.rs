//! The JSON-RPC server itself: shapes, batches, bounds, nonsense, development methods, filters.

use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionBuilder as _,
    primitives::{U256, address, keccak256},
    providers::Provider as _,
    rpc::types::TransactionRequest,
};
use cortensor_chain::{Config, DEVELOPMENT_ADDRESSES, Sealing};
use serde_json::{Value, json};

use crate::harness::{CHAIN_ID, Token, World, request, signer};

#[tokio::test]
async fn plain_questions_have_plain_answers() {
    let world = World::new().await;
    let client = &world.client;
    let check = async |method: &'static str, parameters: Value, expect: Value| {
        assert_eq!(client.raw(method, parameters).await.unwrap(), expect, "{method}");
    };
    check("eth_chainId", json!([]), json!("0x1092")).await;
    check("net_version", json!([]), json!("4242")).await;
    check("net_listening", json!([]), json!(true)).await;
    check("net_peerCount", json!([]), json!("0x0")).await;
    check("eth_syncing", json!([]), json!(false)).await;
    check("eth_accounts", json!([]), json!([])).await;
    check("eth_blockNumber", json!([]), json!("0x0")).await;
    check("web3_sha3", json!(["0x68656c6c6f"]), json!(keccak256("hello"))).await;
    check("eth_getBlockByNumber", json!(["0x10", false]), json!(null)).await;
    check("eth_getBlockByHash", json!([keccak256("none"), true]), json!(null)).await;
    check("eth_getTransactionReceipt", json!([keccak256("none")]), json!(null)).await;
    check("eth_getTransactionByBlockNumberAndIndex", json!(["latest", "0x0"]), json!(null)).await;
    check("eth_getUncleCountByBlockNumber", json!(["latest"]), json!("0x0")).await;
    check("eth_getBlockTransactionCountByNumber", json!(["earliest"]), json!("0x0")).await;
    check("eth_getBalance", json!([DEVELOPMENT_ADDRESSES[0]]), json!("0x21e19e0c9bab2400000")).await;
    let version = client.raw("web3_clientVersion", json!([])).await.unwrap();
    assert!(version.as_str().unwrap().starts_with("cortensor/v"), "{version}");
    let pending = client.raw("eth_getBlockByNumber", json!(["pending", false])).await.unwrap();
    assert_eq!(pending["number"], "0x1");
    for tag in ["safe", "finalized"] {
        let block = client.raw("eth_getBlockByNumber", json!([tag, false])).await.unwrap();
        assert_eq!(block["number"], "0x0", "{tag}");
    }
}

#[tokio::test]
async fn batches_errors_and_nonsense_are_answered_in_order() {
    let mut config = Config::development(CHAIN_ID);
    config.limits.batch_calls_max = 3;
    config.limits.request_bytes_max = 10_000;
    let world = World::with(config).await;
    let client = &world.client;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_nothing", "params": [] },
        { "jsonrpc": "2.0", "id": "three", "method": "eth_getBalance", "params": ["0x12"] },
    ]);
    let (status, body) = client.post(batch.to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(answers[0]["result"], "0x1092");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["error"]["code"], -32602);
    assert_eq!(answers[2]["id"], "three");

    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let (_, body) = client.post(json!([call, call, call, call]).to_string()).await;
    assert!(body.contains("error"), "a batch of four is too large: {body}");
    let (status, body) = client.post("[".repeat(20_000)).await;
    assert!(status == 413 || body.contains("error"), "{status} {body}");
    for nonsense in ["", "{", "null", "[]", "{}", "\u{0}", r#"{"jsonrpc":"2.0","id":1,"method":5}"#] {
        let (_, body) = client.post(nonsense).await;
        assert!(body.contains("error"), "{nonsense:?} gives {body:?}");
    }
    // A GET is for load balancers, and the server still stands.
    let health = alloy::transports::http::reqwest::get(format!("{}/health", client.url)).await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
    assert_eq!(client.provider.get_chain_id().await.unwrap(), CHAIN_ID);
}

#[tokio::test]
async fn no_parameters_make_the_server_panic() {
    let world = World::new().await;
    let client = &world.client;
    client.deploy_token().await;
    let huge = format!("{:#x}", U256::MAX);
    let far = format!("{:#x}", u64::MAX);
    let zero = json!("0x0000000000000000000000000000000000000000");
    let nonsense: Vec<(&'static str, Value)> = vec![
        ("eth_call", json!([{ "gas": far, "gasPrice": "0xffffffffffffffffffffffffffffffff", "value": huge }])),
        ("eth_call", json!([{ "to": zero, "data": "0x00", "input": "0x01" }])),
        ("eth_call", json!([{ "maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2" }])),
        ("eth_call", json!([{ "gasPrice": "0x1", "maxFeePerGas": "0x2" }])),
        ("eth_call", json!([{ "chainId": "0x1", "to": zero }])),
        ("eth_call", json!([{}, far])),
        ("eth_estimateGas", json!([{ "gas": far, "value": huge, "gasPrice": "0x1" }])),
        ("eth_estimateGas", json!([{ "to": zero, "value": huge }])),
        ("eth_estimateGas", json!([{ "data": format!("0x{}", "00".repeat(60_000)) }])),
        ("eth_feeHistory", json!([far, "latest", [50.0, 10.0]])),
        ("eth_feeHistory", json!(["0x1", far, []])),
        ("eth_feeHistory", json!(["0x1", "latest", vec![1.0; 1_000]])),
        ("eth_getLogs", json!([{ "fromBlock": far, "toBlock": "0x0" }])),
        ("eth_getLogs", json!([{ "fromBlock": far, "toBlock": far }])),
        ("eth_getLogs", json!([{ "blockHash": keccak256("x") }])),
        ("eth_getLogs", json!([{ "address": vec![zero.clone(); 3] , "topics": [null, null, null, null, null] }])),
        ("eth_getProof", json!([zero, vec!["0x1"; 5_000], "latest"])),
        ("eth_getStorageAt", json!([zero, format!("0x{}", "f".repeat(70)), "latest"])),
        ("eth_getTransactionCount", json!([zero, far])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["latest", "not a number"])),
        ("eth_getFilterChanges", json!(["0xdead"])),
        ("eth_getFilterChanges", json!([{}])),
        ("eth_sendRawTransaction", json!(["0x"])),
        ("eth_sendRawTransaction", json!(["0x02c0"])),
        ("eth_sendRawTransaction", json!([format!("0x{}", "f9".repeat(2_000))])),
        ("debug_traceTransaction", json!([keccak256("x"), { "tracer": "nonsense" }])),
        ("debug_traceCall", json!([{}, far, {}])),
        ("debug_traceBlockByNumber", json!(["0x0", {}])),
        ("evm_setNextBlockTimestamp", json!(["nonsense"])),
        ("eth_subscribe", json!(["newHeads"])),
    ];
    for (method, parameters) in nonsense {
        let error = client.raw(method, parameters.clone()).await.expect_err(method);
        let code = error["code"].as_i64().unwrap();
        assert!([-32602, -32000, -32601, -32005, -32603, 3].contains(&code), "{method} {parameters}: {error}");
        assert_ne!(error["message"], "internal error", "{method} {parameters}");
    }
    assert_eq!(client.provider.get_block_number().await.unwrap(), 1, "the chain still answers");
    assert_eq!(client.raw("eth_getBlockTransactionCountByNumber", json!(["0x1"])).await.unwrap(), "0x1");
    let access = client.raw("eth_createAccessList", json!([{ "to": zero, "data": "0x1234" }])).await.unwrap();
    assert_eq!(access["accessList"], json!([]));
}

#[tokio::test]
async fn log_queries_are_bounded() {
    let mut config = Config::development(CHAIN_ID);
    config.limits.log_blocks_max = 3;
    config.limits.log_results_max = 2;
    let world = World::with(config).await;
    let client = &world.client;
    let token = client.deploy_token().await;
    for _ in 0..5 {
        client.send(request(token, Token::transferCall { to: token, value: U256::from(1) })).await;
    }
    let (code, message) = client.refusal("eth_getLogs", json!([{ "fromBlock": "0x0", "toBlock": "latest" }])).await;
    assert_eq!(code, -32005, "{message}");
    let (code, message) = client.refusal("eth_getLogs", json!([{ "fromBlock": "0x1", "toBlock": "0x3" }])).await;
    assert_eq!(code, -32005, "{message}");
    let logs = client.raw("eth_getLogs", json!([{ "fromBlock": "0x1", "toBlock": "0x2" }])).await.unwrap();
    assert_eq!(logs.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn filters_report_what_happened_between_polls() {
    let mut config = Config::development(CHAIN_ID);
    config.limits.filters_max = 3;
    let world = World::with(config).await;
    let client = &world.client;
    let token = client.deploy_token().await;
    let blocks = client.raw("eth_newBlockFilter", json!([])).await.unwrap();
    let logs = client.raw("eth_newFilter", json!([{ "address": token }])).await.unwrap();
    let waiting = client.raw("eth_newPendingTransactionFilter", json!([])).await.unwrap();
    let (code, _) = client.refusal("eth_newBlockFilter", json!([])).await;
    assert_eq!(code, -32005, "a fourth filter is too many");
    let changes = async |id: &Value| client.raw("eth_getFilterChanges", json!([id])).await.unwrap();
    assert_eq!(changes(&blocks).await, json!([]));
    let mut receipts = Vec::new();
    for value in 1..=2 {
        receipts.push(client.send(request(token, Token::transferCall { to: token, value: U256::from(value) })).await);
    }
    let hashes: Vec<_> = receipts.iter().map(|receipt| receipt.block_hash.unwrap()).collect();
    assert_eq!(changes(&blocks).await, json!(hashes));
    assert_eq!(changes(&blocks).await, json!([]));
    let found = changes(&logs).await;
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!(found[1]["transactionHash"], json!(receipts[1].transaction_hash));
    assert_eq!(changes(&logs).await, json!([]));
    let hashes: Vec<_> = receipts.iter().map(|receipt| receipt.transaction_hash).collect();
    assert_eq!(changes(&waiting).await, json!(hashes));
    let all = client.raw("eth_getFilterLogs", json!([logs])).await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "without a range a filter means the head");
    assert_eq!(client.raw("eth_uninstallFilter", json!([logs])).await.unwrap(), json!(true));
    assert_eq!(client.raw("eth_uninstallFilter", json!([logs])).await.unwrap(), json!(false));
    assert_eq!(client.refusal("eth_getFilterChanges", json!([logs])).await, (-32000, "filter not found".to_owned()));
}

#[tokio::test]
async fn development_methods_move_time_and_make_blocks() {
    let world = World::new().await;
    let client = &world.client;
    let before = now(&world).await;
    client.raw("evm_mine", json!([])).await.unwrap();
    client.raw("evm_increaseTime", json!([86_400])).await.unwrap();
    client.raw("anvil_mine", json!(["0x3", "0xa"])).await.unwrap();
    assert_eq!(client.provider.get_block_number().await.unwrap(), 4);
    let after = now(&world).await;
    assert!(after >= before + 86_400 + 20, "{before} {after}");
    client.raw("evm_setNextBlockTimestamp", json!([after + 1_000])).await.unwrap();
    let to = address!("00000000000000000000000000000000000000ac");
    let transfer = TransactionRequest::default().with_from(signer(0).address()).with_to(to).with_value(U256::from(1));
    client.send(transfer).await;
    assert_eq!(now(&world).await, after + 1_000);
    let (code, _) = client.refusal("evm_setNextBlockTimestamp", json!([5])).await;
    assert_eq!(code, -32602);

    let mut config = Config::development(CHAIN_ID);
    config.dev = false;
    let world = World::with(config).await;
    assert_eq!(world.client.refusal("evm_mine", json!([])).await.0, -32601);
    assert_eq!(world.client.refusal("evm_increaseTime", json!([1])).await.0, -32601);
}

async fn now(world: &World) -> u64 {
    let block = world.client.provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    block.header.timestamp
}

#[tokio::test]
async fn blocks_come_at_an_interval_even_when_empty() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(Sealing::Both(20))).await;
    let mut blocks = world.chain.blocks();
    while blocks.head().number < 5 {
        blocks.changed().await.unwrap();
    }
    let head = world.chain.head();
    assert_eq!(head.gas_used, 0);
    world.chain.shutdown().await.unwrap();
    assert!(head.number >= 5);
    // Following ends with the chain; if it did not, this would never return.
    while blocks.changed().await.is_ok() {}
}
