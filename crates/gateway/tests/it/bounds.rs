//! Clients that leave, are slow, send too much or too fast; and the end of the server.

use crate::{
    PATIENCE, Server, chat,
    http::{read, request, send},
    scripted::KEY,
    stream,
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

fn post(body: &str) -> String {
    let bearer = format!("Bearer {KEY}");
    request("POST", "/v1/chat/completions", &[("authorization", &bearer)], body)
}

/// Opens a stream and reads until the answer holds `text`.
async fn open(server: &Server, words: &str, text: &str) -> TcpStream {
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    connection.write_all(post(&stream(words).to_string()).as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let count = timeout(PATIENCE, connection.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "the stream ended before {text:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    connection
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_frees_its_generation() {
    let server = Server::start().await;
    let connection = open(&server, "slow", "tick").await;
    assert_eq!(server.seen.running.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(connection);
    server.until(|seen| &seen.cancelled, |count| count == 1).await;
    server.until(|seen| &seen.running, |count| count == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_token_frees_its_generation() {
    let server = Server::start().await;
    for body in [stream("silent"), chat("silent")] {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        connection.write_all(post(&body.to_string()).as_bytes()).await.unwrap();
        server.until(|seen| &seen.running, |count| count == 1).await;
        drop(connection);
        server.until(|seen| &seen.running, |count| count == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_shows_in_the_metrics() {
    let server = Server::start().await;
    drop(open(&server, "slow", "tick").await);
    server.until(|seen| &seen.running, |count| count == 0).await;
    let text = server.get("/metrics").await.body;
    assert!(text.contains("cortensor_http_streams_cancelled_total{route=\"/v1/chat/completions\"} 1"), "{text}");
}

#[tokio::test]
async fn a_slow_reader_holds_its_own_generation_back_and_is_cut_off() {
    let server = Server::with(|config| config.write_timeout = Duration::from_secs(2)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut connection = socket.connect(server.address).await.unwrap();
    connection.write_all(post(&stream("flood").to_string()).as_bytes()).await.unwrap();
    server.until(|seen| &seen.running, |count| count == 1).await;
    // Nothing is read: the buffers fill, the generation stops being taken from, and the time runs out.
    server.until(|seen| &seen.running, |count| count == 0).await;
    let sent = server.seen.sent.load(std::sync::atomic::Ordering::SeqCst);
    assert!(sent < 1_000_000, "{sent} events were buffered for a client that reads nothing");
    assert_eq!(server.post("/v1/chat/completions", &chat("say x")).await.status, 200);
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_and_then_given_up() {
    let server = Server::with(|config| {
        config.first_event_wait = Duration::from_millis(10);
        config.keep_alive = Duration::from_millis(20);
        config.stall_timeout = Duration::from_millis(100);
    })
    .await;
    let answer = server.post("/v1/chat/completions", &stream("silent")).await;
    assert!(answer.body.starts_with(": keep-alive\n\n"), "{}", answer.body);
    let last: serde_json::Value = serde_json::from_str(answer.data().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "timeout");
    server.until(|seen| &seen.running, |count| count == 0).await;
}

#[tokio::test]
async fn a_whole_answer_that_takes_too_long_is_given_up() {
    let server = Server::with(|config| config.answer_timeout = Duration::from_millis(50)).await;
    let answer = server.post("/v1/chat/completions", &chat("silent")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &json!("timeout")));
    server.until(|seen| &seen.running, |count| count == 0).await;
}

#[tokio::test]
async fn bodies_are_bounded_announced_or_not() {
    let server = Server::with(|config| config.body_bytes_max = 1000).await;
    let answer = server.post("/v1/chat/completions", &chat(&"x".repeat(5000))).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &json!("body_too_large")));
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = post("").replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n");
    let answer = send(server.address, &format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off() {
    let server = Server::with(|config| {
        config.header_timeout = Duration::from_millis(100);
        config.body_timeout = Duration::from_millis(100);
    })
    .await;
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    connection.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut rest = Vec::new();
    // The connection ends, with or without an answer.
    let _ = timeout(PATIENCE, connection.read_to_end(&mut rest)).await.expect("a slow head is cut off");
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let text = post("{\"model\":\"scripted\"}");
    connection.write_all(&text.as_bytes()[..text.len() - 3]).await.unwrap();
    let answer = timeout(PATIENCE, read(&mut connection)).await.expect("a slow body is cut off");
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn requests_at_once_are_bounded() {
    let server = Server::with(|config| config.in_flight_max = 1).await;
    let held = open(&server, "slow", "tick").await;
    let answer = server.post("/v1/chat/completions", &chat("say x")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(send(server.address, &request("GET", "/healthz", &[], "")).await.status, 200);
    drop(held);
    server.until(|seen| &seen.running, |count| count == 0).await;
    assert_eq!(server.post("/v1/chat/completions", &chat("say x")).await.status, 200);
}

#[tokio::test]
async fn a_key_has_its_own_bounds() {
    let server = Server::with(|config| config.key_in_flight_max = 1).await;
    let _held = open(&server, "slow", "tick").await;
    assert_eq!(server.post("/v1/chat/completions", &chat("say x")).await.status, 429);

    let server = Server::with(|config| (config.key_requests_per_second, config.key_burst) = (1, 2)).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(server.get("/v1/models").await.status);
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn running_requests_may_end_after_a_shutdown_begins() {
    let server = Server::start().await;
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let text = post(&chat("say Goodbye").to_string());
    // The head and all but the last byte: the request is running when the shutdown begins.
    let (most, last) = text.split_at(text.len() - 1);
    connection.write_all(most.as_bytes()).await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    tokio::task::yield_now().await;
    while !server.get("/metrics").await.body.contains("cortensor_http_in_flight 1") {}
    server.shutdown.cancel();
    connection.write_all(last.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, read(&mut connection)).await.unwrap();
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Goodbye");
    timeout(PATIENCE, server.task).await.expect("the server ends").unwrap().unwrap();
    drop(idle);
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let server = Server::with(|config| config.drain_timeout = Duration::from_millis(50)).await;
    let _connection = open(&server, "slow", "tick").await;
    server.shutdown.cancel();
    server.until(|seen| &seen.running, |count| count == 0).await;
    timeout(PATIENCE, server.task).await.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_refused() {
    let server = Server::with(|config| config.in_flight_max = 0).await;
    let error = server.task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("in_flight_max"), "{error}");
}

#[tokio::test]
async fn garbage_on_the_wire_does_no_harm() {
    let server = Server::start().await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\r\n\r\n\r\n", &[0xff; 4096]] {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        connection.write_all(garbage).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // A refusal or a closed connection; the server lives.
        let _ = timeout(PATIENCE, connection.read_to_end(&mut rest)).await.expect("the connection ends");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}
