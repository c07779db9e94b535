//! Subscriptions over a WebSocket on the same port.

use alloy::{network::TransactionBuilder as _, primitives::U256, rpc::types::TransactionRequest};
use cortensor_chain::{Config, Sealing};
use serde_json::{Value, json};
use soketto::handshake::{Client as Handshake, ServerResponse};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::harness::{CHAIN_ID, Token, World, request, signer};

/// A WebSocket that speaks JSON.
struct Socket {
    sender: soketto::Sender<Compat<TcpStream>>,
    receiver: soketto::Receiver<Compat<TcpStream>>,
    calls: u64,
}

impl Socket {
    async fn open(world: &World) -> Self {
        let address = world.chain.address();
        let stream = TcpStream::connect(address).await.unwrap();
        let host = address.to_string();
        let mut handshake = Handshake::new(stream.compat(), &host, "/");
        assert!(matches!(handshake.handshake().await.unwrap(), ServerResponse::Accepted { .. }));
        let (sender, receiver) = handshake.into_builder().finish();
        Self { sender, receiver, calls: 0 }
    }

    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let received =
            tokio::time::timeout(std::time::Duration::from_secs(30), self.receiver.receive_data(&mut message));
        received.await.expect("a message within half a minute").unwrap();
        serde_json::from_slice(&message).unwrap()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let call = json!({ "jsonrpc": "2.0", "id": self.calls, "method": method, "params": params });
        self.sender.send_text(call.to_string()).await.unwrap();
        self.sender.flush().await.unwrap();
        self.next().await
    }

    /// The payload of the next notification of this subscription.
    async fn notification(&mut self, subscription: &Value) -> Value {
        let message = self.next().await;
        assert_eq!(message["method"], "eth_subscription", "{message}");
        assert_eq!(&message["params"]["subscription"], subscription, "{message}");
        message["params"]["result"].clone()
    }
}

#[tokio::test]
async fn heads_arrive_one_by_one_without_a_gap() {
    let world = World::with(Config::development(CHAIN_ID).with_sealing(Sealing::Interval(5))).await;
    let mut socket = Socket::open(&world).await;
    let subscription = socket.call("eth_subscribe", json!(["newHeads"])).await["result"].clone();
    let mut parent = None;
    for _ in 0..50 {
        let head = socket.notification(&subscription).await;
        if let Some(parent) = parent {
            assert_eq!(head["parentHash"], parent);
        }
        parent = Some(head["hash"].clone());
    }
}

#[tokio::test]
async fn logs_and_waiting_transactions_are_announced() {
    let world = World::new().await;
    let token = world.client.deploy_token().await;
    let mut logs = Socket::open(&world).await;
    let mut waiting = Socket::open(&world).await;
    let topics = json!([null, signer(0).address().into_word()]);
    let log_id =
        logs.call("eth_subscribe", json!(["logs", { "address": token, "topics": topics }])).await["result"].clone();
    let waiting_id = waiting.call("eth_subscribe", json!(["newPendingTransactions"])).await["result"].clone();
    let plain = TransactionRequest::default().with_to(token).with_gas_limit(50_000);
    let unrelated = world.client.send(plain.with_from(signer(2).address())).await;
    let receipt = world.client.send(request(token, Token::transferCall { to: token, value: U256::from(3) })).await;
    let log = logs.notification(&log_id).await;
    assert_eq!(log["transactionHash"], json!(receipt.transaction_hash));
    assert_eq!(log["blockHash"], json!(receipt.block_hash));
    for hash in [unrelated.transaction_hash, receipt.transaction_hash] {
        assert_eq!(waiting.notification(&waiting_id).await, json!(hash));
    }
    // The same socket serves plain calls, and a subscription ends when asked to.
    assert_eq!(logs.call("eth_chainId", json!([])).await["result"], "0x1092");
    assert_eq!(logs.call("eth_unsubscribe", json!([log_id])).await["result"], json!(true));
    world.client.send(request(token, Token::transferCall { to: token, value: U256::from(3) })).await;
    assert_eq!(logs.call("eth_blockNumber", json!([])).await["result"], "0x4", "no log in between");
}

#[tokio::test]
async fn subscriptions_are_bounded_and_checked() {
    let mut config = Config::development(CHAIN_ID);
    config.limits.subscriptions_per_connection_max = 2;
    let world = World::with(config).await;
    let mut socket = Socket::open(&world).await;
    let error = socket.call("eth_subscribe", json!(["nonsense"])).await;
    assert_eq!(error["error"]["code"], -32602, "{error}");
    let error = socket.call("eth_subscribe", json!(["logs", true])).await;
    assert_eq!(error["error"]["code"], -32602, "{error}");
    for _ in 0..2 {
        assert!(socket.call("eth_subscribe", json!(["newHeads"])).await["result"].is_string());
    }
    let error = socket.call("eth_subscribe", json!(["newHeads"])).await;
    assert!(error["error"].is_object(), "a third subscription is too many: {error}");
    // Stopping the chain does not wait for subscribers.
    world.chain.shutdown().await.unwrap();
}
