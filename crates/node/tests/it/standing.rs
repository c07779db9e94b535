//! What the chain says of a miner decides what a router gives it; and clients that say where a request may go.

use crate::world::{World, eventually, question};
use cortensor_contracts::bindings::scores::{
    IScores,
    Scores::{recordCall, setWritersCall},
};
use cortensor_engine::mock::MockConfig;
use cortensor_node::localnet::LocalNetConfig;
use cortensor_protocol::Operator;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Evidence of ten bits against a miner makes it watched, of fifteen suspended (`Scores.Parameters`).
const BIT: i32 = 65_536;

async fn world(miners: usize) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let lifetime = Duration::from_millis(100);
    let config = LocalNetConfig { chain_view_lifetime: lifetime, ..LocalNetConfig::new(folder.path().to_owned()) };
    let engines = (0..miners).map(|_| MockConfig { answer_tokens: 3, ..MockConfig::default() }).collect();
    (World::with(config, engines).await, folder)
}

/// Lets the network's owner write into the scores what audits would.
async fn record(world: &World, miner: Operator, evidence: i32) {
    let (wallet, scores) = (&world.net.wallet, world.net.deployment.scores);
    let writers = setWritersCall { auditor_: wallet.address(), court_: wallet.address() };
    wallet.call(scores, &writers).await.unwrap();
    let added = IScores::Weighed { computation: 0, sampling: evidence };
    let call = recordCall { miner: miner.0, added, tokens: 100, hard: false, mayConvict: false };
    wallet.call(scores, &call).await.unwrap();
}

fn miner(world: &World, index: usize) -> Operator {
    world.net.miners[index].identity.operator()
}

async fn node(world: &World, operator: Operator) -> Value {
    let nodes = world.get("/v1/nodes").await;
    let found = nodes.as_array().unwrap().iter().find(|node| node["operator"] == json!(operator));
    found.unwrap_or_else(|| panic!("{operator} is not in {nodes}")).clone()
}

/// Who answered each of so many questions, one after the other.
async fn answered(world: &World, questions: usize) -> BTreeMap<String, usize> {
    let mut by_miner = BTreeMap::new();
    for number in 0..questions {
        let answer = world.stream(question(&format!("question {number}"), 3), async |_| ()).await;
        assert_eq!(answer.error, None);
        let task = world.get(&format!("/v1/tasks/{}", answer.task)).await;
        let attempt = task["attempts"].as_array().unwrap().last().unwrap().clone();
        assert!(attempt["reason"].as_str().unwrap().contains("reputation"), "{attempt}");
        *by_miner.entry(attempt["miner"].as_str().unwrap().to_lowercase()).or_insert(0) += 1;
    }
    by_miner
}

fn key(operator: Operator) -> String {
    operator.to_string().to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_miner_gets_nothing_and_is_told_so() {
    let (world, _folder) = world(2).await;
    let (bad, good) = (miner(&world, 0), miner(&world, 1));
    let before = node(&world, bad).await;
    assert_eq!((&before["standing"], &before["reputation_ppm"]), (&json!("good"), &json!(500_000)));
    record(&world, bad, 15 * BIT).await;
    eventually("the router knows", async || node(&world, bad).await["state"] == "suspended").await;
    assert_eq!(answered(&world, 12).await, BTreeMap::from([(key(good), 12)]));
    let nodes = world.get("/v1/nodes").await;
    assert_eq!(nodes[0]["operator"], json!(good), "the better one comes first");
    let reason = nodes[1]["reasons"]["reputation_ppm"].as_str().unwrap();
    assert!(reason.contains("1 audits over 100 tokens"), "{reason}");
    // Whoever names it learns why it does not answer.
    let mut named = question("you", 3);
    named["cortensor"] = json!({"miner": bad});
    let (status, refusal) = world.post(&named).await;
    assert_eq!(status, 503, "{refusal}");
    assert!(refusal["error"]["message"].as_str().unwrap().contains("suspended"), "{refusal}");
    // Its audits speak for it again.
    record(&world, bad, -15 * BIT).await;
    eventually("it is back", async || node(&world, bad).await["state"] == "ready").await;
    let (status, answer) = world
        .post(&json!({"stream": false, "stream_options": null, "cortensor": {"miner": bad},
        "model": "mock", "max_tokens": 3, "messages": [{"role": "user", "content": "back?"}]}))
        .await;
    assert_eq!(status, 200, "{answer}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_miner_gets_less() {
    let (world, _folder) = world(2).await;
    let (watched, good) = (miner(&world, 0), miner(&world, 1));
    record(&world, watched, 10 * BIT).await;
    eventually("the router knows", async || node(&world, watched).await["standing"] == "watched").await;
    let by_miner = answered(&world, 20).await;
    assert!(by_miner.get(&key(good)).copied().unwrap_or(0) >= 15, "{by_miner:?}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_it_is_to_go_or_nowhere() {
    let (world, _folder) = world(3).await;
    for index in 0..3 {
        let wanted = miner(&world, index);
        let mut body = question("you", 3);
        body["cortensor"] = json!({"miner": wanted, "min_tier": "A"});
        let answer = world.stream(body, async |_| ()).await;
        assert_eq!(answer.error, None);
        let receipts = world.receipts(&answer.task).await;
        assert_eq!(receipts[0].receipt.receipt.miner, wanted);
        assert_eq!(receipts[0].header.header.min_tier.to_string(), "A", "the demand is in what the session signs");
    }
    let nobody = Operator::from(alloy::primitives::Address::repeat_byte(0x77));
    let request = world.http.post(world.url("/v1/chat/completions")).bearer_auth(&world.net.api_key);
    let mut body = question("you", 3);
    body["stream"] = json!(false);
    body["stream_options"] = Value::Null;
    let response = request.header("cortensor-miner", nobody.to_string()).json(&body).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status == 404 && text.contains("is not connected to this router"), "{status} {text}");
    let request = world.http.post(world.url("/v1/chat/completions")).bearer_auth(&world.net.api_key);
    let response = request.header("cortensor-min-tier", "Z").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 400);
    world.net.shutdown().await.unwrap();
}
