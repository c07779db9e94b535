//! A running chain, a wallet that has coins, and raw JSON-RPC.

use alloy::{
    network::{EthereumWallet, TransactionBuilder as _},
    primitives::{Address, Bytes, U256, hex},
    providers::{DynProvider, Provider as _, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol,
    sol_types::{SolCall, SolValue as _},
};
use cortensor_chain::{Chain, ChainHandle, Config, DEVELOPMENT_KEYS};
use serde_json::{Value, json};

pub(crate) const CHAIN_ID: u64 = 4_242;

sol! {
    interface Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        function balanceOf(address account) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
    }

    interface Probe {
        error Custom(uint256 code, string text);
        function inner() external view returns (bool);
        function work() external view returns (uint256);
        function failReason() external pure;
        function failCustom() external pure;
        function failPanic(uint256 divisor) external pure returns (uint256);
        function failEmpty() external pure;
        function failInvalid() external pure;
        function burn(uint256 slots) external;
        function tolerate(uint256 slots) external returns (bool success);
        function insist(uint256 slots) external;
        function refund(uint256 slots) external;
        function environment() external view returns (uint256 number, uint256 time, uint256 chain, uint256 baseFee, bytes32 parent, uint256 random);
        function sender() external view returns (address, uint256);
    }
}

/// A chain and a client of it.
pub(crate) struct World {
    pub(crate) chain: ChainHandle,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::development(CHAIN_ID)).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let chain = Chain::start(config).await.expect("the chain starts");
        let client = Client::new(&chain.http_url());
        Self { chain, client }
    }
}

/// Talks to a chain over HTTP; signs with development keys.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) provider: DynProvider,
    http: alloy::rpc::client::RpcClient,
}

pub(crate) fn signer(index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[index]).unwrap()
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        // Built with the rest of the workspace, the HTTP client comes without a TLS provider of its own. A second
        // installation is refused, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut wallet = EthereumWallet::from(signer(0));
        for index in 1..DEVELOPMENT_KEYS.len() {
            wallet.register_signer(signer(index));
        }
        let parsed: alloy::transports::http::reqwest::Url = url.parse().unwrap();
        let provider =
            ProviderBuilder::new().with_simple_nonce_management().wallet(wallet).connect_http(parsed.clone()).erased();
        provider.client().set_poll_interval(std::time::Duration::from_millis(20));
        Self { url: url.to_owned(), provider, http: alloy::rpc::client::RpcClient::new_http(parsed) }
    }

    /// Sends from development account 0 and waits for the receipt.
    pub(crate) async fn send(&self, request: TransactionRequest) -> TransactionReceipt {
        let request = TransactionRequest { from: request.from.or(Some(signer(0).address())), ..request };
        self.provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap()
    }

    pub(crate) async fn deploy(&self, code: &str, arguments: &[u8]) -> TransactionReceipt {
        let code = [hex::decode(code.trim()).unwrap(), arguments.to_vec()].concat();
        let receipt = self.send(TransactionRequest::default().with_deploy_code(code)).await;
        assert!(receipt.status(), "the contract deploys");
        receipt
    }

    pub(crate) async fn deploy_token(&self) -> Address {
        let code = include_str!("../../contracts/token.hex");
        self.deploy(code, &U256::from(1_000_000).abi_encode()).await.contract_address.unwrap()
    }

    pub(crate) async fn deploy_probe(&self) -> Address {
        self.deploy(include_str!("../../contracts/probe.hex"), &[]).await.contract_address.unwrap()
    }

    /// Calls a method of a contract in the state and environment of the head.
    pub(crate) async fn call<C: SolCall>(&self, to: Address, call: C) -> C::Return {
        let output = self.provider.call(request(to, call)).latest().await.unwrap();
        C::abi_decode_returns(&output).unwrap()
    }

    /// The result of a raw JSON-RPC call, or its error object.
    pub(crate) async fn raw(&self, method: &'static str, parameters: Value) -> Result<Value, Value> {
        match self.http.request::<Value, Value>(method, parameters).await {
            Ok(result) => Ok(result),
            Err(error) => Err(serde_json::to_value(error.as_error_resp().expect("an answer from the server")).unwrap()),
        }
    }

    /// The code and message of the error that a raw call must give.
    pub(crate) async fn refusal(&self, method: &'static str, parameters: Value) -> (i64, String) {
        let error = self.raw(method, parameters).await.expect_err("the call is refused");
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    }

    /// Posts a body as it is and returns status and answer.
    pub(crate) async fn post(&self, body: impl Into<Vec<u8>>) -> (u16, String) {
        let client = alloy::transports::http::reqwest::Client::new();
        let request = client.post(&self.url).header("content-type", "application/json").body(body.into());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "calls are built in place")]
pub(crate) fn request(to: Address, call: impl SolCall) -> TransactionRequest {
    TransactionRequest::default().with_from(signer(0).address()).with_to(to).with_input(Bytes::from(call.abi_encode()))
}

#[allow(clippy::needless_pass_by_value, reason = "calls are built in place")]
pub(crate) fn call_json(to: Address, call: impl SolCall) -> Value {
    json!({ "from": signer(0).address(), "to": to, "data": Bytes::from(call.abi_encode()) })
}
