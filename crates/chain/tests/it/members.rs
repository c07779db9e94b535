//! A permissioned chain: who is answered, whose transactions are taken, and what no validator can smuggle past that.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    network::TransactionBuilder as _,
    primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256},
    providers::Provider as _,
    rpc::types::TransactionRequest,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall, SolConstructor as _, SolStruct as _, SolValue as _, eip712_domain},
};
use cortensor_chain::{Chain, ChainHandle, CheckError, Config, Permissions, RIGHT_SEND};
use cortensor_protocol::{Access, Signature65};
use serde_json::{Value, json};
use soketto::handshake::{Client as Handshake, ServerResponse, client::Header};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::{
    consensus::{accept, propose, puppet_of},
    harness::{CHAIN_ID, signer},
};

sol! {
    struct Newcomer { address account; uint32 rights; bytes32 transportKey; }

    contract Members {
        constructor(address initialOwner, Newcomer[] first);
        function invite(bytes32 invitation, uint32 rights, uint64 lifetime) external;
        function join(address account, bytes32 transportKey, bytes signature) external payable;
        function remove(address account) external;
        function setRights(address account, uint32 rights) external;
    }

    struct Join { address invitation; bytes32 transportKey; }
}

/// The accounts: the founder, a member, one that joins, and a stranger.
const FOUNDER: usize = 0;
const MEMBER: usize = 1;
const GUEST: usize = 2;
const STRANGER: usize = 3;
const ONCE: usize = 4;

fn contract() -> Address {
    signer(FOUNDER).address().create(0)
}

fn config() -> Config {
    let permissions = Permissions {
        members: contract(),
        founder: signer(FOUNDER).address(),
        server_names: vec!["node.example:8545".to_owned()],
    };
    Config { permissions: Some(permissions), ..Config::development(CHAIN_ID) }
}

/// The creation of the contract, with founder and member.
fn creation() -> Bytes {
    let artifact = include_str!("../../../../contracts/artifacts/Members.json");
    let artifact: Value = serde_json::from_str(artifact).unwrap();
    let code = hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap();
    let newcomer = |index: usize, rights: u32| Newcomer {
        account: signer(index).address(),
        rights,
        transportKey: B256::repeat_byte(1 + u8::try_from(index).unwrap()),
    };
    let first = vec![newcomer(FOUNDER, u32::MAX), newcomer(MEMBER, RIGHT_SEND)];
    let arguments = Members::constructorCall { initialOwner: signer(FOUNDER).address(), first }.abi_encode();
    [code, arguments].concat().into()
}

fn token(reader: &PrivateKeySigner, server: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let access = Access { chain_id: CHAIN_ID, server: server.to_owned(), expires: now + 60 };
    let signature = reader.sign_hash_sync(&access.signing_hash()).unwrap();
    access.signed(Signature65::from(signature)).to_string()
}

/// A permissioned chain, spoken to as different people.
struct Closed {
    chain: ChainHandle,
    nonces: [u64; 8],
}

impl Closed {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { chain: Chain::start(config()).await.unwrap(), nonces: [0; 8] }
    }

    /// One whose contract stands.
    async fn founded() -> Self {
        let mut closed = Self::start().await;
        let creation = closed.sign(FOUNDER, TxKind::Create, creation(), 0);
        let receipt = closed.send(FOUNDER, &creation).await.unwrap();
        assert_eq!(receipt["contractAddress"], json!(contract()));
        assert_eq!(receipt["status"], "0x1");
        closed
    }

    fn name(&self) -> String {
        self.chain.address().to_string()
    }

    fn sign(&mut self, from: usize, to: TxKind, input: Bytes, value: u64) -> Bytes {
        let transaction = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonces[from],
            gas_limit: 4_000_000,
            max_fee_per_gas: 10_000_000_000,
            max_priority_fee_per_gas: 1,
            to,
            value: U256::from(value),
            input,
            ..TxEip1559::default()
        };
        let signature = signer(from).sign_hash_sync(&transaction.signature_hash()).unwrap();
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
    }

    /// Status and body of a POST with this token.
    async fn post(&self, token: Option<&str>, body: Value) -> (u16, Value) {
        let client = alloy::transports::http::reqwest::Client::new();
        let request = client.post(self.chain.http_url()).header("content-type", "application/json");
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    async fn call(&self, reader: usize, method: &str, params: Value) -> (u16, Value) {
        let token = token(&signer(reader), &self.name());
        self.post(Some(&token), json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await
    }

    /// Hands in a transaction as this reader; its receipt, or the error's text.
    async fn send(&mut self, reader: usize, encoded: &Bytes) -> Result<Value, String> {
        let (status, answer) = self.call(reader, "eth_sendRawTransactionSync", json!([encoded])).await;
        match answer.get("result") {
            Some(receipt) => {
                let from: Address = serde_json::from_value(receipt["from"].clone()).unwrap();
                let index = (0..8).find(|index| signer(*index).address() == from).unwrap();
                self.nonces[index] += 1;
                Ok(receipt.clone())
            }
            None => Err(format!("{status} {}", answer["error"]["message"].as_str().unwrap_or_default())),
        }
    }

    async fn transact(&mut self, from: usize, to: Address, call: impl SolCall) -> Result<Value, String> {
        let encoded = self.sign(from, TxKind::Call(to), call.abi_encode().into(), 0);
        self.send(from, &encoded).await
    }

    async fn transfer(&mut self, from: usize, reader: usize) -> Result<Value, String> {
        let encoded = self.sign(from, TxKind::Call(Address::repeat_byte(0xae)), Bytes::new(), 1);
        self.send(reader, &encoded).await
    }

    /// Whether somebody is answered.
    async fn reads(&self, reader: usize) -> bool {
        let (status, answer) = self.call(reader, "eth_blockNumber", json!([])).await;
        assert_eq!(status == 200, answer.get("result").is_some(), "{answer}");
        status == 200
    }

    fn joining(&mut self, invited: usize, member: usize) -> Bytes {
        let domain = eip712_domain! {
            name: "Cortensor Members", version: "1", chain_id: CHAIN_ID, verifying_contract: contract(),
        };
        let transport_key = B256::repeat_byte(77);
        let join = Join { invitation: signer(invited).address(), transportKey: transport_key };
        let signature = signer(member).sign_hash_sync(&join.eip712_signing_hash(&domain)).unwrap();
        let signature = Bytes::copy_from_slice(&signature.as_bytes());
        let account = signer(member).address();
        let call = Members::joinCall { account, transportKey: transport_key, signature };
        self.sign(invited, TxKind::Call(contract()), call.abi_encode().into(), 7)
    }

    async fn invite(&mut self, index: usize) {
        let invitation = keccak256(signer(index).address().abi_encode());
        let invite = Members::inviteCall { invitation, rights: RIGHT_SEND, lifetime: 3_600 };
        self.transact(FOUNDER, contract(), invite).await.unwrap();
    }
}

#[tokio::test]
async fn before_the_contract_stands_its_founder_is_alone() {
    let mut closed = Closed::start().await;
    assert!(closed.reads(FOUNDER).await);
    assert!(!closed.reads(MEMBER).await);
    let refused = closed.transfer(MEMBER, FOUNDER).await.unwrap_err();
    assert!(refused.contains("is not a member"), "{refused}");
    let creation = closed.sign(FOUNDER, TxKind::Create, creation(), 0);
    closed.send(FOUNDER, &creation).await.unwrap();
    assert!(closed.reads(MEMBER).await);
    closed.transfer(MEMBER, MEMBER).await.unwrap();
}

#[tokio::test]
async fn only_tokens_of_members_for_this_server_are_answered() {
    let closed = Closed::founded().await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": [] });
    let check = async |token: Option<String>, status: u16, word: &str| {
        let (found, answer) = closed.post(token.as_deref(), body.clone()).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer.to_string().contains(word), "{answer} does not mention {word}");
    };
    let member = signer(MEMBER);
    check(None, 401, "private").await;
    check(Some("cor1.00".into()), 401, "not a token").await;
    check(Some(token(&member, "other.example:1")), 401, "for other.example:1").await;
    check(Some(token(&signer(STRANGER), &closed.name())), 401, "not a member").await;
    check(Some(token(&member, &closed.name())), 200, "0x1").await;
    check(Some(token(&member, "node.example:8545")), 200, "0x1").await;
    // Batches and the health route are reads, too.
    let batch = json!([body, body]);
    assert_eq!(closed.post(None, batch.clone()).await.0, 401);
    let (status, answer) = closed.post(Some(&token(&member, &closed.name())), batch).await;
    assert_eq!((status, answer.as_array().map(Vec::len)), (200, Some(2)));
    let health = alloy::transports::http::reqwest::get(format!("{}/health", closed.chain.http_url())).await.unwrap();
    assert_eq!(health.status().as_u16(), 401);
}

#[tokio::test]
async fn an_invitation_joins_and_does_nothing_else() {
    let mut closed = Closed::founded().await;
    assert!(!closed.reads(ONCE).await);
    closed.invite(ONCE).await;
    let (status, answer) = closed.call(ONCE, "eth_blockNumber", json!([])).await;
    assert_eq!(status, 200);
    assert_eq!(answer["error"]["code"], -32001, "it reads nothing: {answer}");
    let refused = closed.transfer(ONCE, ONCE).await.unwrap_err();
    assert!(refused.contains("is not a member"), "{refused}");
    let before = closed.chain.head().number;
    let joining = closed.joining(ONCE, GUEST);
    assert_eq!(closed.send(ONCE, &joining).await.unwrap()["status"], "0x1");
    assert_eq!(closed.chain.head().number, before + 1);
    assert!(closed.reads(GUEST).await);
    assert!(!closed.reads(ONCE).await, "it was used");
    closed.transfer(GUEST, GUEST).await.unwrap();
}

#[tokio::test]
async fn who_may_only_read_sends_nothing() {
    let mut closed = Closed::founded().await;
    let rights = Members::setRightsCall { account: signer(MEMBER).address(), rights: 0 };
    closed.transact(FOUNDER, contract(), rights).await.unwrap();
    assert!(closed.reads(MEMBER).await);
    let refused = closed.transfer(MEMBER, MEMBER).await.unwrap_err();
    assert!(refused.contains("may send transactions"), "{refused}");
}

#[tokio::test]
async fn a_removed_member_is_nobody_from_the_next_block_on() {
    let mut closed = Closed::founded().await;
    // One that waits behind a gap must not wait for the member to come back.
    closed.nonces[MEMBER] = 1;
    let waiting = closed.sign(MEMBER, TxKind::Call(Address::repeat_byte(0xae)), Bytes::new(), 1);
    closed.call(MEMBER, "eth_sendRawTransaction", json!([waiting])).await;
    let stream = TcpStream::connect(closed.chain.address()).await.unwrap();
    let host = closed.name();
    let bearer = format!("Bearer {}", token(&signer(MEMBER), &host));
    let mut handshake = Handshake::new(stream.compat(), &host, "/");
    let headers = [Header { name: "authorization", value: bearer.as_bytes() }];
    handshake.set_headers(&headers);
    assert!(matches!(handshake.handshake().await.unwrap(), ServerResponse::Accepted { .. }));
    let (mut sender, mut receiver) = handshake.into_builder().finish();
    sender.send_text(r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#).await.unwrap();
    sender.flush().await.unwrap();
    let mut message = Vec::new();
    receiver.receive_data(&mut message).await.unwrap();
    assert!(closed.reads(MEMBER).await);
    let removal = Members::removeCall { account: signer(MEMBER).address() };
    let removed = closed.transact(FOUNDER, contract(), removal).await.unwrap()["blockNumber"].clone();
    assert!(!closed.reads(MEMBER).await);
    closed.nonces[MEMBER] = 0;
    let refused = closed.transfer(MEMBER, FOUNDER).await.unwrap_err();
    assert!(refused.contains("is not a member"), "{refused}");
    let (_, pool) = closed.call(FOUNDER, "txpool_status", json!([])).await;
    assert_eq!(pool["result"], json!({ "pending": "0x0", "queued": "0x0" }), "what waited is gone");
    closed.transfer(FOUNDER, FOUNDER).await.unwrap();
    // The socket may have told of the block of the removal; then it is closed.
    let rest = async {
        loop {
            message.clear();
            match receiver.receive_data(&mut message).await {
                Ok(_) => {
                    let told: Value = serde_json::from_slice(&message).unwrap();
                    assert!(hex_number(&told["params"]["result"]["number"]) <= hex_number(&removed), "{told}");
                }
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), rest).await.expect("the socket is closed");
}

fn hex_number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test]
async fn a_socket_needs_a_token() {
    let closed = Closed::founded().await;
    let stream = TcpStream::connect(closed.chain.address()).await.unwrap();
    let host = closed.name();
    let mut handshake = Handshake::new(stream.compat(), &host, "/");
    assert!(matches!(handshake.handshake().await.unwrap(), ServerResponse::Rejected { status_code: 401 }));
}

/// A validator whose node lets everybody in proposes a stranger's transaction: the others refuse the block.
#[tokio::test]
async fn a_block_with_a_strangers_transaction_is_refused() {
    let (closed, closed_orders) = puppet_of(config()).await;
    let (open, open_orders) = puppet_of(Config { permissions: None, ..config() }).await;
    assert_eq!(closed.chain.head(), open.chain.head());
    let founding = TransactionRequest::default().with_from(signer(FOUNDER).address()).with_deploy_code(creation());
    drop(open.client.provider.send_transaction(founding).await.unwrap());
    let block = propose(&open_orders).await;
    accept(&closed_orders, block.clone()).await.unwrap();
    accept(&open_orders, block).await.unwrap();
    let transfer = |from: usize| {
        TransactionRequest::default()
            .with_from(signer(from).address())
            .with_to(Address::repeat_byte(0xae))
            .with_value(U256::from(1))
    };
    drop(open.client.provider.send_transaction(transfer(STRANGER)).await.unwrap());
    let smuggled = propose(&open_orders).await;
    let refused = accept(&closed_orders, smuggled).await.unwrap_err();
    let stranger = signer(STRANGER).address();
    assert!(matches!(refused, CheckError::NotMember { index: 0, sender } if sender == stranger), "{refused}");
}
