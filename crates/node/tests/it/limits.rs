//! What is refused, with which status, and what the answer says to do.

use crate::world::{World, eventually, question, slow};
use cortensor_engine::{Engine, mock::MockConfig};
use cortensor_node::localnet::LocalNetConfig;
use cortensor_node::router::DispatchConfig;
use cortensor_protocol::Wei;
use serde_json::json;
use std::time::Duration;

fn plain(max_tokens: u32) -> serde_json::Value {
    json!({"model": "mock", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_unknown_models_are_named() {
    let world = World::start(vec![MockConfig::default()]).await;
    let url = world.url("/v1/chat/completions");
    let refused = world.http.post(&url).bearer_auth("sk-cor-wrong").json(&plain(5)).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let long = "the fox and the owl ".repeat(5000);
    let (status, body) = world.post(&json!({"model": "mock", "messages": [{"role": "user", "content": long}]})).await;
    assert_eq!((status, body["error"]["code"].as_str()), (400, Some("context_length_exceeded")), "{body}");
    let (status, body) = world.post(&json!({"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}]})).await;
    assert_eq!(status, 404, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("/v1/models"), "{body}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_session_is_402_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = LocalNetConfig { deposit: Wei(Wei::COR.0 / 1000), ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = World::with(config, vec![MockConfig::default()]).await;
    // A thousandth of a COR buys 500 output tokens at 2 COR per million.
    let (status, body) = world.post(&plain(5000)).await;
    assert_eq!(status, 402, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("larger session"), "{body}");
    let (status, body) = world.post(&plain(10)).await;
    assert_eq!(status, 200, "what is left is still good: {body}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_network_answers_429_with_retry_after() {
    let folder = tempfile::tempdir().unwrap();
    let dispatch = DispatchConfig { queue_timeout: Duration::from_millis(600), ..DispatchConfig::default() };
    let config = LocalNetConfig { dispatch, ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = World::with(config, vec![MockConfig { slots: 1, queue: 0, ..slow() }]).await;
    let request = |text: &str| {
        world.http.post(world.url("/v1/chat/completions")).bearer_auth(&world.net.api_key).json(&question(text, 1500))
    };
    let running = request("first").send().await.unwrap();
    assert_eq!(running.status(), 200);
    let refused = request("second").send().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    drop(running);
    eventually("the miner is free again", async || world.engines[0].load().active == 0).await;
    assert_eq!(request("third").send().await.unwrap().status(), 200);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_does_not_hold_others_up() {
    let world = World::start(vec![MockConfig { answer_tokens: 4000, ..MockConfig::default() }]).await;
    let request = world.http.post(world.url("/v1/chat/completions")).bearer_auth(&world.net.api_key);
    let unread = request.json(&question("read me slowly", 4000)).send().await.unwrap();
    assert_eq!(unread.status(), 200);
    for _ in 0..3 {
        let other = world.stream(question("quick", 30), async |_| ()).await;
        assert_eq!((other.error, other.usage["completion_tokens"].as_u64()), (None, Some(30)));
    }
    drop(unread);
    eventually("the unread answer is given up", async || world.engines[0].load().active == 0).await;
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_streams_at_once_all_end_well() {
    let engine = MockConfig { slots: 200, queue: 400, kv_tokens: 10_000_000, ..slow() };
    let world = World::start(vec![engine.clone(), engine]).await;
    let streams = (0..300).map(|_| world.stream(question("all together", 20), async |_| ()));
    let all = futures::future::join_all(streams).await;
    for streamed in &all {
        assert_eq!((&streamed.error, streamed.usage["completion_tokens"].as_u64()), (&None, Some(20)));
    }
    world.vouchers_arrive().await;
    let book = world.net.router.settlement().book(world.net.session).unwrap();
    assert_eq!(book.miners.values().map(|account| account.voucher.cumulative_output_tokens).sum::<u64>(), 6000);
    assert_eq!(book.reserved, Wei::ZERO, "nothing stays reserved");
    world.net.shutdown().await.unwrap();
}
