//! Every dialect, whole and streamed, and its errors.

use crate::{
    Server, chat,
    http::{Answer, request, send},
    scripted::KEY,
    stream,
};
use serde_json::{Value, json};

fn deltas(answer: &Answer) -> Vec<Value> {
    let (last, chunks) = answer.data().split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
    assert_eq!(last, "[DONE]");
    chunks.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}])
}

#[tokio::test]
async fn a_chat_is_answered() {
    let server = Server::start().await;
    let answer = server.post("/v1/chat/completions", &chat("say Hello there")).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["completion_tokens"], 3);
    let task = answer.header("x-cortensor-task").unwrap();
    assert!(task.starts_with("0x") && task.len() == 66, "{task}");
    assert!(body["id"].as_str().unwrap().ends_with(&task[2..34]));
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
}

#[tokio::test]
async fn a_chat_is_streamed() {
    let server = Server::start().await;
    let mut body = stream("say Hello there");
    body["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(answer.header("x-cortensor-task").is_some());
    let chunks = deltas(&answer);
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello there");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 10);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn several_choices_are_several_tasks() {
    let server = Server::start().await;
    let mut body = chat("say x");
    body["n"] = 3.into();
    let answer = server.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.headers("x-cortensor-task"), answer.json()["choices"].as_array().unwrap().len()), (3, 3));
    body["stream"] = true.into();
    let answer = server.post("/v1/chat/completions", &body).await;
    let mut finished: Vec<_> = deltas(&answer)
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop")
        .map(|chunk| chunk["choices"][0]["index"].as_u64().unwrap())
        .collect();
    finished.sort_unstable();
    assert_eq!(finished, [0, 1, 2]);
}

#[tokio::test]
async fn tools_are_called_whole_and_streamed() {
    let server = Server::start().await;
    let mut body = chat("weather?");
    body["tools"] = tools();
    let whole = server.post("/v1/chat/completions", &body).await.json();
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &json!("Let me check."))
    );
    assert_eq!(choice["message"]["tool_calls"][1]["function"]["arguments"], r#"{"city": "Oslo"}"#);
    body["stream"] = true.into();
    let answer = server.post("/v1/chat/completions", &body).await;
    let calls: Vec<_> = deltas(&answer)
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["index"].as_u64())
        .collect();
    assert_eq!(calls, [0, 1]);
}

#[tokio::test]
async fn one_call_only_where_asked() {
    let server = Server::start().await;
    let mut body = chat("weather?");
    body["tools"] = tools();
    body["parallel_tool_calls"] = false.into();
    let whole = server.post("/v1/chat/completions", &body).await.json();
    assert_eq!(whole["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn tools_are_refused_for_a_model_without() {
    let server = Server::start().await;
    let mut body = chat("weather?");
    body["tools"] = tools();
    body["model"] = "plain".into();
    let answer = server.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("tools")));
}

#[tokio::test]
async fn an_early_failure_has_its_own_status_even_in_a_stream() {
    let server = Server::start().await;
    let answer = server.post("/v1/chat/completions", &stream("refuse")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("context_length_exceeded")));
    assert!(answer.header("x-cortensor-task").is_some(), "what failed can be looked up too");
    let answer = server.post("/v1/chat/completions", &stream("busy")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("2")));
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_event() {
    let server = Server::start().await;
    let answer = server.post("/v1/chat/completions", &stream("break this now")).await;
    assert_eq!(answer.status, 200);
    let last: Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "unavailable");
    let answer = server.post("/v1/chat/completions", &chat("break this now")).await;
    assert_eq!(answer.status, 503);

    let body = json!({"model": "scripted", "max_tokens": 99, "stream": true,
                      "messages": [{"role": "user", "content": "break this now"}]});
    let answer = server.post("/v1/messages", &body).await;
    assert!(answer.body.contains("event: error\ndata: {\"type\":\"error\""), "{}", answer.body);
    let body = json!({"model": "scripted", "stream": true, "input": "break this now"});
    let answer = server.post("/v1/responses", &body).await;
    assert!(answer.body.contains("event: response.failed\n"), "{}", answer.body);
}

#[tokio::test]
async fn errors_have_the_shape_of_their_dialect() {
    let server = Server::start().await;
    let wrong = [("authorization", "Bearer wrong")];
    let answer = send(server.address, &request("POST", "/v1/chat/completions", &wrong, "{}")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    let answer = send(server.address, &request("POST", "/v1/messages", &[], "{}")).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (401, &json!("authentication_error")));
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    let mut body = chat("x");
    body["model"] = "nobody".into();
    let answer = server.post("/v1/chat/completions", &body).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (404, &json!("model")));
    let version = [("x-api-key", KEY), ("anthropic-version", "1999-01-01")];
    let answer = send(server.address, &request("POST", "/v1/messages", &version, "{}")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("anthropic-version"));
}

#[tokio::test]
async fn bad_bodies_are_explained() {
    let server = Server::start().await;
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str())];
    for (body, code) in [
        ("{\"model\": ", "invalid_json"),
        ("nonsense", "invalid_json"),
        ("\u{0}\u{1}", "invalid_json"),
        ("[]", "invalid_type"),
        (&"[".repeat(100_000), "json_too_deep"),
        (r#"{"model":"scripted","messages":[{"role":"user","content":7}]}"#, "invalid_type"),
    ] {
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"] {
            let answer = send(server.address, &request("POST", path, &headers, body)).await;
            assert_eq!(answer.status, 400, "{path} {body}");
            if path.contains("chat") {
                assert_eq!(answer.json()["error"]["code"], code);
            }
        }
    }
    let text = request("POST", "/v1/completions", &headers, "{}").replace("application/json", "text/plain");
    assert_eq!(send(server.address, &text).await.status, 415);
}

#[tokio::test]
async fn completions_continue_texts_and_tokens() {
    let server = Server::start().await;
    let body = json!({"model": "scripted", "prompt": ["say a", "say b"], "logprobs": 2});
    let whole = server.post("/v1/completions", &body).await.json();
    assert_eq!(whole["choices"][1]["text"], "b");
    assert_eq!(whole["choices"][0]["logprobs"]["top_logprobs"][0]["alt1"], -0.5);
    let body = json!({"model": "scripted", "prompt": [1, 2, 3], "stream": true, "max_tokens": 2});
    let answer = server.post("/v1/completions", &body).await;
    let chunks = deltas(&answer);
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "You said");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn embeddings_come_in_both_encodings() {
    let server = Server::start().await;
    let body = json!({"model": "scripted", "input": ["a", "bcd"]});
    let whole = server.post("/v1/embeddings", &body).await;
    assert!(whole.header("x-cortensor-task").is_some());
    assert_eq!(whole.json()["data"][1]["embedding"], json!([3.0, 0.5, -1.0]));
    let body = json!({"model": "scripted", "input": "a", "encoding_format": "base64"});
    assert_eq!(server.post("/v1/embeddings", &body).await.json()["data"][0]["embedding"], "AACAPwAAAD8AAIC/");
    let body = json!({"model": "plain", "input": "a"});
    assert_eq!(server.post("/v1/embeddings", &body).await.json()["error"]["param"], "model");
}

#[tokio::test]
async fn responses_are_answered_and_streamed() {
    let server = Server::start().await;
    let body = json!({"model": "scripted", "input": "say Hello there"});
    let whole = server.post("/v1/responses", &body).await.json();
    assert_eq!(
        (&whole["status"], &whole["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!("Hello there"))
    );
    let body = json!({"model": "scripted", "input": "weather?", "stream": true,
                      "tools": [{"type": "function", "name": "weather"}]});
    let answer = server.post("/v1/responses", &body).await;
    let last: Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
    assert_eq!(last["type"], "response.completed");
    let kinds: Vec<_> =
        last["response"]["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "function_call", "function_call"]);
}

#[tokio::test]
async fn messages_are_answered_and_streamed() {
    let server = Server::start().await;
    let mut body = json!({"model": "scripted", "max_tokens": 99, "stop_sequences": ["!"],
                          "messages": [{"role": "user", "content": "say Hello! there"}]});
    let whole = server.post("/v1/messages", &body).await.json();
    assert_eq!((&whole["content"][0]["text"], &whole["stop_sequence"]), (&json!("Hello"), &json!("!")));
    body["stream"] = true.into();
    body["tools"] = json!([{"name": "weather", "input_schema": {"type": "object"}}]);
    let answer = server.post("/v1/messages", &body).await;
    let events: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((events[0], *events.last().unwrap()), ("message_start", "message_stop"));
    assert!(answer.body.contains(r#""stop_reason":"tool_use""#));
    assert!(answer.body.contains(r#""input_tokens":5,"cache_creation_input_tokens":0,"cache_read_input_tokens":2"#));
}
