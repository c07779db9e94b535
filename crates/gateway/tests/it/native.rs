//! The network's own routes, and those for operators.

use crate::{
    Server, chat,
    http::{request, send},
    scripted::KEY,
};
use cortensor_gateway::{Cors, openapi_json};
use cortensor_protocol::{Routing, Tier};
use serde_json::{Value, json};

#[tokio::test]
async fn sessions_tasks_and_receipts_are_shown() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/session").await.json()["deposit"], "1000000000000000000");
    let id = format!("0x{}", "11".repeat(32));
    assert_eq!(server.get(&format!("/v1/tasks/{id}")).await.json()["attempts"][0]["reason"], "the only one");
    assert_eq!(server.get(&format!("/v1/tasks/{id}/receipts")).await.json(), json!([]));
    assert_eq!(server.get("/v1/tasks/12").await.status, 400);
    let missing = format!("/v1/tasks/0x{}", "00".repeat(32));
    assert_eq!(server.get(&missing).await.json()["error"]["code"], "not_found");
    assert_eq!(server.get("/v1/nodes").await.json(), json!([]));
    assert_eq!(send(server.address, &request("GET", "/v1/session", &[], "")).await.status, 401);
}

#[tokio::test]
async fn a_request_says_where_it_may_go_in_its_body_or_in_headers() {
    let server = Server::start().await;
    let miner = format!("0x{}", "22".repeat(20));
    let routing = json!({"miner": miner, "min_tier": "B"});
    let words = json!([{"role": "user", "content": "say x"}]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "scripted", "messages": words, "cortensor": routing})),
        ("/v1/completions", json!({"model": "scripted", "prompt": "say x", "cortensor": routing})),
        ("/v1/responses", json!({"model": "scripted", "input": "say x", "cortensor": routing})),
        ("/v1/messages", json!({"model": "scripted", "max_tokens": 5, "messages": words, "cortensor": routing})),
        ("/v1/embeddings", json!({"model": "scripted", "input": "x", "cortensor": routing})),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let wanted = Routing { miner: Some(miner.parse().unwrap()), min_tier: Some(Tier::B) };
    assert_eq!(*server.seen.routed.lock().unwrap(), [wanted; 5]);
    // A header says more than the body.
    let bearer = format!("Bearer {KEY}");
    let with = async |header: (&str, &str)| {
        let mut body = chat("say x");
        body["cortensor"] = routing.clone();
        let headers = [("authorization", bearer.as_str()), header];
        send(server.address, &request("POST", "/v1/chat/completions", &headers, &body.to_string())).await
    };
    assert_eq!(with(("cortensor-min-tier", "A")).await.status, 200);
    let last = server.seen.routed.lock().unwrap().last().copied();
    assert_eq!(last, Some(Routing { min_tier: Some(Tier::A), ..wanted }));
    for header in [("cortensor-min-tier", "E"), ("cortensor-miner", "0x12")] {
        let refused = with(header).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert_eq!(refused.json()["error"]["param"], header.0);
    }
    let unknown = json!({"model": "scripted", "messages": words, "cortensor": {"region": "eu"}});
    assert_eq!(server.post("/v1/chat/completions", &unknown).await.status, 400);
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let server = Server::start().await;
    let list = server.get("/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("scripted")));
    assert_eq!(server.get("/v1/models/plain").await.json()["cortensor"]["tool_format"], "none");
    assert_eq!(server.get("/v1/models/no/such").await.status, 404);
}

#[tokio::test]
async fn operators_see_health_and_metrics() {
    let server = Server::start().await;
    let bare = async |path: &str| send(server.address, &request("GET", path, &[], "")).await;
    assert_eq!(bare("/healthz").await.body, "ok\n");
    assert_eq!(bare("/readyz").await.json()["ready"], true);
    server.post("/v1/chat/completions", &chat("say x")).await;
    let text = bare("/metrics").await.body;
    for expect in [
        "cortensor_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1",
        "cortensor_http_time_to_first_token_seconds_count{route=\"/v1/chat/completions\"} 1",
        "cortensor_http_tokens_total{kind=\"input\"} 7",
        "cortensor_http_in_flight 0",
        "scripted_tasks_total 1",
    ] {
        assert!(text.contains(expect), "{expect} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_is_no_route_says_where_to_look() {
    let server = Server::start().await;
    let answer = server.get("/v1/nothing").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("unknown_route")));
    let answer = server.get("/v1/chat/completions").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = server.post("/v1/messages/batches", &json!({})).await;
    assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("error")));
}

#[tokio::test]
async fn a_sensible_request_id_is_kept() {
    let server = Server::start().await;
    let answer = send(server.address, &request("GET", "/v1/models", &[("x-request-id", "mine-1")], "")).await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let long = "x".repeat(200);
    let answer = send(server.address, &request("GET", "/v1/models", &[("x-request-id", &long)], "")).await;
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
}

#[tokio::test]
async fn browsers_are_let_in_where_set() {
    let server = Server::with(|config| config.cors = Cors::Origins(vec!["https://app.example".into()])).await;
    let ask = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let answer = send(server.address, &request("OPTIONS", "/v1/chat/completions", &ask, "")).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
    let ask = [("origin", "https://other.example"), ("access-control-request-method", "POST")];
    let answer = send(server.address, &request("OPTIONS", "/v1/chat/completions", &ask, "")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

/// The committed document is the one that the types give. `CORTENSOR_WRITE_OPENAPI=1` writes it anew.
#[tokio::test]
async fn the_committed_openapi_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/openapi.json");
    if std::env::var_os("CORTENSOR_WRITE_OPENAPI").is_some() {
        std::fs::write(path, openapi_json()).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == openapi_json(), "run again with CORTENSOR_WRITE_OPENAPI=1");
    let server = Server::start().await;
    let served = send(server.address, &request("GET", "/openapi.json", &[], "")).await.json();
    let schemas = served["components"]["schemas"].as_object().unwrap();
    let mut references = Vec::new();
    collect_references(&served, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and missing");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value {
            Value::String(target) if key == "$ref" => found.push(target.clone()),
            value => collect_references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => (),
    }
}
