//! Guards measure the miners that the beacon draws them for, as ordinary clients, and routers choose by what they found.

use crate::world::{World, eventually_in, own_session};
use alloy::primitives::Address;
use cortensor_capability::{Limits, Plan, Target, TargetError, measure};
use cortensor_engine::mock::{MockConfig, MockEngine};
use cortensor_node::{guard::RouterTarget, localnet::LocalNetConfig};
use cortensor_protocol::{Operator, Wei};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

fn config() -> MockConfig {
    MockConfig {
        speed_percent: 100,
        decode_tokens_per_second: 300,
        answer_tokens: 64,
        slots: 2,
        ..MockConfig::default()
    }
}

async fn world(folder: &tempfile::TempDir) -> World {
    let config_of = LocalNetConfig {
        guards: 2,
        chain_view_lifetime: Duration::from_millis(200),
        ..LocalNetConfig::new(folder.path().to_owned())
    };
    World::over(config_of, MockEngine::start(config()).unwrap()).await
}

fn limits() -> Limits {
    Limits { repeats: 2, context_max: 256, ..Limits::brief() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_behind_a_router_is_measured_by_whoever_pays() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(&folder).await;
    let engine: Arc<MockEngine> = MockEngine::start(config()).unwrap();
    let (client, miner) = (Arc::new(own_session(&world).await), world.net.miners[0].miner.operator());
    let domain = world.net.deployment.domain();
    let target = RouterTarget::new(client.clone(), miner, engine.clone(), domain, (2_048, 2));
    let measured = measure(&target, &Plan::new([1; 32].into(), limits())).await;
    let found = measured.capability;
    assert!((100..=330).contains(&found.decode_tokens_per_second), "{measured:?}");
    assert_eq!(found.trace_ppm, Some(1_000_000), "{measured:?}");
    assert_eq!(found.context_tokens, 2_048, "{measured:?}");
    assert!(measured.tokens <= u64::from(limits().tokens_max), "{measured:?}");
    assert!(client.signed() > Wei::ZERO, "it was paid like anybody's work");
    let nobody = Operator(Address::repeat_byte(0x55));
    let gone = RouterTarget::new(client, nobody, engine, domain, (2_048, 2));
    let refused = gone.ask(gone_request(), false).await.unwrap_err();
    assert!(matches!(refused, TargetError::Failed(ref why) if why.contains("is not connected")), "{refused}");
    world.net.shutdown().await.unwrap();
}

fn gone_request() -> cortensor_protocol::GenerationRequest {
    use cortensor_protocol::{ChatMessage, Prompt, ResponseFormat, Role, SamplingParams, ToolChoice};
    cortensor_protocol::GenerationRequest {
        model: "mock".into(),
        prompt: Prompt::Chat {
            messages: vec![ChatMessage::text(Role::User, "hello")],
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
        },
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 4,
        stop: Vec::new(),
        response_format: ResponseFormat::Text,
        logprobs: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawn_guard_measures_and_the_router_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(&folder).await;
    let stop = CancellationToken::new();
    let mut running = Vec::new();
    for local in &world.net.guards {
        let (guard, client) = (local.guard.clone(), own_session(&world).await);
        running.push(tokio::spawn(guard.keep_measuring(client, limits(), stop.clone())));
    }
    let (capabilities, miner) = (&world.net.contracts.capabilities, world.net.miners[0].miner.operator());
    let models = world.get("/v1/models").await;
    let model = models["data"][0]["cortensor"]["id"].as_str().unwrap().parse().unwrap();
    eventually_in("the miner is measured", Duration::from_secs(90), async || {
        capabilities.record(miner, model).await.unwrap().is_some()
    })
    .await;
    let record = capabilities.record(miner, model).await.unwrap().unwrap();
    assert!(record.measured.decode_tokens_per_second > 50, "{record:?}");
    assert_eq!(record.measured.trace_ppm, Some(1_000_000), "{record:?}");
    eventually_in("the router shows it", Duration::from_secs(30), async || {
        let nodes = world.get("/v1/nodes").await;
        nodes[0]["models"][0]["class"] != Value::Null
    })
    .await;
    let nodes = world.get("/v1/nodes").await;
    let shown = &nodes[0]["models"][0];
    let reason = shown["reasons"]["capability"].as_str().unwrap();
    assert!(reason.contains("measurements of drawn guards"), "{shown}");
    assert!(world.net.guards.iter().any(|local| local.guard.measured().1 > 0), "what it cost can be seen");
    stop.cancel();
    for task in running {
        task.await.unwrap();
    }
    world.net.shutdown().await.unwrap();
}
