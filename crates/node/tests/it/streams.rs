//! Ten thousand streams that are open and silent, through everything: sockets, gateway, router, transport, miners.
//!
//! The clients are a process of their own, because the sockets of both sides would not fit into the files that one process
//! may open on many systems. Where even one side does not fit, the test takes as many streams as do, and says so.

use crate::world::{World, eventually};
use cortensor_engine::{
    Engine,
    mock::{Failure, MockConfig, MockEngine},
};
use cortensor_node::localnet::LocalNetConfig;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    sync::Semaphore,
    task::JoinSet,
};

const STREAMS: usize = 10_000;
/// Files that the process needs beside the streams' sockets.
const OTHER_FILES: usize = 1_000;
const MINERS: usize = 4;
/// Clients that begin at the same time.
const BEGINNING: usize = 64;
/// What a stream may cost in all roles together: measured at about half of it.
const KIB_PER_STREAM_MAX: usize = 96;
const PLACE: &str = "CORTENSOR_TEST_STREAMS";

/// Files that this process may open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1024)
}

fn memory_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Says one token and then nothing more.
fn silent(slots: usize) -> MockConfig {
    MockConfig {
        slots: u32::try_from(slots).unwrap(),
        queue: 64,
        kv_tokens: u64::MAX / 2,
        prefill_tokens_per_second: 100_000_000,
        ..MockConfig::default()
    }
}

async fn in_flight(world: &World) -> usize {
    let metrics = world.http.get(world.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("cortensor_http_in_flight ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_silent_streams_fit_into_bounded_memory() {
    let streams = STREAMS.min(files_max().saturating_sub(OTHER_FILES));
    if streams < STREAMS {
        println!("this process may open {} files: {streams} streams instead of {STREAMS}", files_max());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = LocalNetConfig::new(folder.path().to_owned());
    // Silence is what is wanted here.
    config.dispatch.stall_timeout = Duration::from_secs(3600);
    config.gateway.stall_timeout = Duration::from_secs(3600);
    let engines = (0..MINERS).map(|_| silent(streams.div_ceil(MINERS) * 2)).collect();
    let world = World::with(config, engines).await;
    world.engines.iter().for_each(|engine: &std::sync::Arc<MockEngine>| engine.inject(Failure::StallAfter(1)));
    let before = memory_kib();
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streams::clients", "--ignored", "--nocapture"])
        .env(PLACE, format!("{} {} {streams}", world.net.api_url().trim_start_matches("http://"), world.net.api_key))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(clients.stdout.take().unwrap()).lines();
    let all_open = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("all streams are open") {
                return;
            }
        }
        panic!("the clients ended early");
    };
    tokio::time::timeout(Duration::from_secs(600), all_open).await.expect("every stream brings a token");
    assert_eq!(in_flight(&world).await, streams);
    let active: u32 = world.engines.iter().map(|engine| engine.load().active).sum();
    assert_eq!(usize::try_from(active).unwrap(), streams, "every stream is a sequence at a miner");
    let each = (memory_kib() - before) / streams;
    println!("{streams} silent streams: {each} KiB each in gateway, router, transport and miner together");
    assert!(each <= KIB_PER_STREAM_MAX, "a silent stream holds {each} KiB");
    // The clients leave, and everything that they held is free again.
    drop(clients.stdin.take());
    assert!(clients.wait().await.unwrap().success());
    eventually("the miners are free", async || world.engines.iter().all(|engine| engine.load().active == 0)).await;
    eventually("the gateway is free", async || in_flight(&world).await == 0).await;
}

/// The clients' process; not a test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, in a process of its own"]
async fn clients() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let [address, key, count] = place.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let body = r#"{"model":"mock","stream":true,"max_tokens":16,"messages":[{"role":"user","content":"Be silent."}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (request, beginning) = (std::sync::Arc::new(request), std::sync::Arc::new(Semaphore::new(BEGINNING)));
    let mut opening = JoinSet::new();
    for _ in 0..count.parse::<usize>().unwrap() {
        let (address, request, beginning) = (address.to_owned(), request.clone(), beginning.clone());
        opening.spawn(async move {
            let _turn = beginning.acquire_owned().await.unwrap();
            open(&address, &request).await
        });
    }
    let streams = opening.join_all().await;
    println!("all streams are open");
    let mut end = Vec::new();
    tokio::io::stdin().read_to_end(&mut end).await.unwrap();
    drop(streams);
}

/// Asks, and reads until the first token is there.
async fn open(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(9).any(|window| window == b"\"content\"") {
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert!(read > 0 && bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
    }
    stream
}
