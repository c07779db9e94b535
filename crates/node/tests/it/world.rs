//! A local network with simulated engines, and a client that reads its streams.

use alloy::signers::local::PrivateKeySigner;
use cortensor_client::{Client, Options, Terms};
use cortensor_contracts::OpenRequest;
use cortensor_engine::{
    Engine,
    mock::{MockConfig, MockEngine},
};
use cortensor_node::{
    localnet::{LocalNet, LocalNetConfig},
    router::now_seconds,
};
use cortensor_protocol::{Price, ReceiptFile, Tier, Wei};
use futures::StreamExt;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};

pub struct World {
    pub net: LocalNet,
    pub engines: Vec<Arc<MockEngine>>,
    pub http: reqwest::Client,
    _folder: Option<tempfile::TempDir>,
}

/// What a stream brought.
#[derive(Debug, Default)]
pub struct Streamed {
    pub task: String,
    pub text: String,
    pub pieces: usize,
    pub finish: Option<String>,
    pub error: Option<String>,
    pub usage: Value,
}

/// An engine that is slow enough to be interrupted.
pub fn slow() -> MockConfig {
    MockConfig { speed_percent: 100, decode_tokens_per_second: 100, answer_tokens: 80, ..MockConfig::default() }
}

impl World {
    pub async fn start(engines: Vec<MockConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = LocalNetConfig::new(folder.path().to_owned());
        config.dispatch.stall_timeout = Duration::from_secs(5);
        let mut world = Self::with(config, engines).await;
        world._folder = Some(folder);
        world
    }

    pub async fn at(path: &Path, engines: Vec<MockConfig>) -> Self {
        Self::with(LocalNetConfig::new(path.to_owned()), engines).await
    }

    pub async fn with(config: LocalNetConfig, engines: Vec<MockConfig>) -> Self {
        let engines: Vec<_> = engines.into_iter().map(|config| MockEngine::start(config).unwrap()).collect();
        let handed = engines.iter().map(|engine| engine.clone() as Arc<dyn Engine>).collect();
        let net = LocalNet::start(config, handed, &|_| ()).await.unwrap();
        Self { net, engines, http: reqwest::Client::new(), _folder: None }
    }

    /// On an engine of any kind.
    pub async fn over(config: LocalNetConfig, engine: Arc<dyn Engine>) -> Self {
        Self::over_all(config, vec![engine]).await
    }

    /// With a miner for each engine.
    pub async fn over_all(config: LocalNetConfig, engines: Vec<Arc<dyn Engine>>) -> Self {
        let net = LocalNet::start(config, engines, &|_| ()).await.unwrap();
        Self { net, engines: Vec::new(), http: reqwest::Client::new(), _folder: None }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.net.api_url())
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.http.get(self.url(path)).bearer_auth(&self.net.api_key).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    pub async fn post(&self, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url("/v1/chat/completions")).bearer_auth(&self.net.api_key).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    /// Streams an answer, calling `at` after each piece.
    pub async fn stream(&self, body: Value, at: impl AsyncFnMut(&Streamed)) -> Streamed {
        read_stream(&self.http, &self.url("/v1/chat/completions"), &self.net.api_key, body, at).await
    }

    pub async fn receipts(&self, task: &str) -> Vec<ReceiptFile> {
        serde_json::from_value(self.get(&format!("/v1/tasks/{task}/receipts")).await).unwrap()
    }

    /// Waits until the miners hold vouchers for all that the books promise.
    pub async fn vouchers_arrive(&self) -> Wei {
        let total = self.net.router.settlement().book(self.net.session).unwrap().total;
        eventually("every voucher is held by its miner", async || {
            let accounts = self.net.miners.iter().flat_map(|local| local.miner.earnings().accounts());
            accounts.map(|(_, account)| account.promised()).sum::<Wei>() == total
        })
        .await;
        total
    }
}

/// A client with a session of its own.
pub async fn own_session(world: &World) -> Client {
    let net = &world.net;
    let key = PrivateKeySigner::random();
    let max_price = Price { input: Wei(10 * Wei::COR.0), output: Wei(10 * Wei::COR.0) };
    let request = OpenRequest {
        deposit: Wei(50 * Wei::COR.0),
        session_key: key.address(),
        key_limit: Wei(50 * Wei::COR.0),
        router: net.router.operator(),
        model: None,
        max_price,
        min_tier: Tier::D,
        expiry: now_seconds() + 3600,
    };
    let session = net.contracts.sessions.open(&net.client, &request).await.unwrap().id;
    let domain = net.deployment.domain();
    let terms = Terms { session, router: net.router.operator(), domain, max_price, min_tier: Tier::D };
    Client::connect(Options::new(world.url(""), terms, key)).await.unwrap()
}

/// A question that asks for a stream with a fixed seed.
pub fn question(text: &str, max_tokens: u32) -> Value {
    json!({
        "model": "mock", "stream": true, "max_tokens": max_tokens, "seed": 7, "temperature": 1.0,
        "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": text}],
    })
}

pub async fn read_stream(
    http: &reqwest::Client,
    url: &str,
    key: &str,
    body: Value,
    mut at: impl AsyncFnMut(&Streamed),
) -> Streamed {
    let response = http.post(url).bearer_auth(key).json(&body).send().await.unwrap();
    let mut streamed = Streamed::default();
    if !response.status().is_success() {
        streamed.error = Some(response.text().await.unwrap());
        return streamed;
    }
    streamed.task = response.headers()["x-cortensor-task"].to_str().unwrap().to_owned();
    let (mut bytes, mut pending) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = bytes.next().await {
        pending.extend_from_slice(&chunk.unwrap());
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if take_line(&mut streamed, std::str::from_utf8(&line).unwrap().trim_end()) {
                at(&streamed).await;
            }
        }
    }
    streamed
}

/// Takes one line in; true if it brought text.
fn take_line(streamed: &mut Streamed, line: &str) -> bool {
    let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else { return false };
    let event: Value = serde_json::from_str(data).unwrap();
    if let Some(error) = event["error"]["message"].as_str() {
        streamed.error = Some(error.to_owned());
    }
    if event["usage"].is_object() {
        streamed.usage = event["usage"].clone();
    }
    if let Some(finish) = event["choices"][0]["finish_reason"].as_str() {
        streamed.finish = Some(finish.to_owned());
    }
    let Some(text) = event["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) else {
        return false;
    };
    streamed.text.push_str(text);
    streamed.pieces += 1;
    true
}

/// Waits for something that must come true, for at most half a minute.
pub async fn eventually(what: &str, check: impl AsyncFnMut() -> bool) {
    eventually_in(what, Duration::from_secs(30), check).await;
}

pub async fn eventually_in(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while began.elapsed() < limit {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("did not come true: {what}");
}
