//! An engine behind the API without a network, and a network on a server that tells little.

use crate::{
    upstream::{MODEL, Upstream, WORDS},
    world::{World, eventually, question, read_stream},
};
use cortensor_engine::{
    Engine,
    mock::{MockConfig, MockEngine},
    openai::{OpenAiConfig, OpenAiEngine},
};
use cortensor_gateway::GatewayConfig;
use cortensor_node::{local::LocalService, localnet::LocalNetConfig};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A server over one engine; it stops with this.
struct Served {
    url: String,
    http: reqwest::Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    async fn start(engine: Arc<dyn Engine>, key: Option<&str>, requests_max: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let service = Arc::new(LocalService::new(engine, key, requests_max));
        tokio::spawn(cortensor_gateway::serve(listener, service, GatewayConfig::default(), stop.clone()));
        cortensor_contracts::install_tls();
        Self { url, http: reqwest::Client::new(), _stop: stop.drop_guard() }
    }

    async fn ask(&self, key: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(key).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }
}

fn plain(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 8, "messages": [{ "role": "user", "content": "How goes it?" }] })
}

async fn parrot(upstream: &Upstream, slots: u32, queue: u32) -> Arc<dyn Engine> {
    let mut config = OpenAiConfig::new(&upstream.url, MODEL);
    (config.slots, config.queue, config.traced) = (Some(slots), queue, false);
    OpenAiEngine::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_asked_as_the_client_asks() {
    let upstream = Upstream::start().await;
    let served = Served::start(parrot(&upstream, 4, 4).await, None, 8).await;
    let (_, probes) = upstream.asked();
    let (status, answer) = served.ask("any", &plain(MODEL)).await;
    assert_eq!((status, answer["choices"][0]["message"]["content"].as_str()), (200, Some("so it goes.")));
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(9), &json!(4)));
    assert_eq!(upstream.asked(), (0, probes + 1));
    let mut body = plain(MODEL);
    (body["stream"], body["stream_options"]) = (true.into(), json!({ "include_usage": true }));
    let url = format!("{}/v1/chat/completions", served.url);
    let streamed = read_stream(&served.http, &url, "any", body, async |_| ()).await;
    assert_eq!((streamed.text.as_str(), streamed.finish.as_deref()), ("so it goes.", Some("length")));
    assert_eq!(streamed.usage["completion_tokens"], WORDS.len());
    assert_eq!(upstream.asked(), (1, probes + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_beyond_the_bound_is_told_to_come_again() {
    let upstream = Upstream::start().await;
    let engine = parrot(&upstream, 1, 1).await;
    let served = Arc::new(Served::start(engine.clone(), None, 2).await);
    upstream.hold(true);
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let served = served.clone();
            tokio::spawn(async move { served.ask("any", &plain(MODEL)).await })
        })
        .collect();
    let refused = async || served.ask("any", &plain(MODEL)).await;
    // Were a third one sent before, it would take the place of one of these.
    eventually("both are held", async || engine.load().active + engine.load().queued == 2).await;
    assert_eq!(refused().await.0, 429);
    upstream.hold(false);
    for asked in asking {
        assert_eq!(asked.await.unwrap().0, 200);
    }
    assert_eq!(refused().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_keeps_others_out_and_there_are_no_books() {
    let engine = MockEngine::start(MockConfig::default()).unwrap();
    let served = Served::start(engine, Some("open sesame"), 8).await;
    assert_eq!(served.ask("open", &plain("mock")).await.0, 401);
    assert_eq!(served.ask("open sesame", &plain("mock")).await.0, 200);
    assert_eq!(served.ask("open sesame", &plain("other")).await.0, 404);
    let mut seeded = plain("mock");
    (seeded["seed"], seeded["temperature"]) = (7.into(), 1.0.into());
    let once = served.ask("open sesame", &seeded).await.1;
    let again = served.ask("open sesame", &seeded).await.1;
    assert_eq!(once["choices"], again["choices"], "the same seed gives the same answer");
    let task = format!("{}/v1/tasks/{}", served.url, "0x".to_owned() + &"0".repeat(64));
    let response = served.http.get(task).bearer_auth("open sesame").send().await.unwrap();
    assert_eq!(response.status(), 404);
}

/// Such a server is what most miners that do not run llama.cpp themselves have.
#[tokio::test(flavor = "multi_thread")]
async fn the_network_pays_a_prompt_whose_size_comes_last() {
    let upstream = Upstream::start().await;
    let engine = OpenAiEngine::connect(OpenAiConfig::new(&upstream.url, MODEL)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let world = World::over(LocalNetConfig::new(folder.path().to_owned()), engine).await;
    let mut body = question("How goes it?", 8);
    body["model"] = MODEL.into();
    // This server knows no seeds for which it answers alike, but takes them.
    let streamed = world.stream(body, async |_| ()).await;
    assert_eq!((streamed.text.as_str(), &streamed.error), ("so it goes.", &None));
    assert_eq!(streamed.usage["prompt_tokens"], 9);
    let receipts = world.receipts(&streamed.task).await;
    assert_eq!((receipts.len(), receipts[0].receipt.receipt.input_tokens), (1, 9));
    let total = world.vouchers_arrive().await;
    assert_eq!(total, receipts[0].receipt.receipt.amount);
}
