//! The load: so many connections kept open, each asking again as soon as it has its answer, every answer checked.

use super::super::bench_upstream::{MODEL, TOKENS, answer, find};
use eyre::{Context, bail, ensure, eyre};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer in one piece.
    Whole,
    /// A stream of 32 chunks.
    Stream,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Whole, Self::Stream];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Stream => "stream",
        }
    }
}

/// Who is asked, and with which key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) key: Option<String>,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    latencies: Vec<Duration>,
}

impl Seen {
    /// A latency that so many thousandths of the requests did not exceed, in microseconds.
    pub(super) fn quantile_us(&mut self, thousandths: usize) -> f64 {
        self.latencies.sort_unstable();
        let at = (self.latencies.len().saturating_sub(1)) * thousandths / 1000;
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

/// Asks `requests` times over `connections` connections.
pub(super) async fn run(place: &Place, kind: Kind, requests: u32, connections: u32) -> eyre::Result<Seen> {
    let request: Arc<[u8]> = request(place, kind).into();
    let begun = Arc::new(AtomicU32::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..connections.min(requests) {
        let (request, begun, address) = (request.clone(), begun.clone(), place.address);
        clients.spawn(async move { client(address, &request, kind, &begun, requests).await });
    }
    let mut seen = Seen::default();
    while let Some(client) = clients.join_next().await {
        seen.latencies.extend(client??);
    }
    Ok(seen)
}

fn request(place: &Place, kind: Kind) -> Vec<u8> {
    let mut body = serde_json::json!({
        "model": MODEL, "max_tokens": TOKENS,
        "messages": [
            { "role": "system", "content": "You are a helpful assistant that answers briefly." },
            { "role": "user", "content": "Please tell me what a cumulative voucher is and why it is cheap to redeem." },
        ],
    });
    if kind == Kind::Stream {
        body["stream"] = true.into();
        body["stream_options"] = serde_json::json!({ "include_usage": true });
    }
    let (body, address) = (body.to_string(), place.address);
    let key = place.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{key}content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn client(
    address: SocketAddr,
    request: &[u8],
    kind: Kind,
    begun: &AtomicU32,
    requests: u32,
) -> eyre::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await.wrap_err_with(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (mut latencies, mut bytes) = (Vec::new(), Vec::with_capacity(64 << 10));
    while begun.fetch_add(1, Relaxed) < requests {
        bytes.clear();
        let asked = Instant::now();
        stream.write_all(request).await?;
        let body = tokio::time::timeout(PATIENCE, read(&mut stream, &mut bytes)).await;
        let body = body.map_err(|_| eyre!("no answer within {PATIENCE:?}"))??;
        latencies.push(asked.elapsed());
        check(&bytes[..body], &bytes[body..], kind)?;
    }
    Ok(latencies)
}

/// Reads one answer to its end and tells where its body begins.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> eyre::Result<usize> {
    let mut head = None;
    loop {
        ensure!(bytes.len() < ANSWER_BYTES_MAX, "an answer is too large");
        if stream.read_buf(bytes).await? == 0 {
            bail!("the connection was closed in the middle of an answer: {}", String::from_utf8_lossy(bytes));
        }
        if head.is_none() {
            head = parse_head(bytes)?;
        }
        match head {
            Some((body, Some(length))) if bytes.len() >= body + length => return Ok(body),
            Some((body, None)) if bytes.ends_with(b"0\r\n\r\n") => return Ok(body),
            _ => {}
        }
    }
}

/// Where the body begins and its length, or none for one in chunks, once the head is there.
fn parse_head(bytes: &[u8]) -> eyre::Result<Option<(usize, Option<usize>)>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).wrap_err("the head of an answer is not text")?;
    let length = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length = length.map(str::parse).transpose().wrap_err("content-length")?;
    Ok(Some((end + 4, length)))
}

/// The status, every word, and what was counted.
fn check(head: &[u8], body: &[u8], kind: Kind) -> eyre::Result<()> {
    let wrong = |what: &str| eyre!("{what}: {}", String::from_utf8_lossy(body));
    ensure!(head.starts_with(b"HTTP/1.1 200"), wrong("an answer is not a success"));
    let body = std::str::from_utf8(body).map_err(|_| wrong("an answer is not text"))?;
    let text: String = contents(body).collect();
    ensure!(text == answer(), wrong("an answer has other words"));
    let counted = format!("\"completion_tokens\":{TOKENS}");
    ensure!(body.replace(": ", ":").contains(&counted), wrong("an answer counts other tokens"));
    let done = kind == Kind::Whole || body.contains("data: [DONE]");
    ensure!(done, wrong("a stream did not end"));
    Ok(())
}

/// Every `"content"` in a body, whole or in chunks. The words of the bench have nothing that JSON escapes.
fn contents(body: &str) -> impl Iterator<Item = &str> {
    body.split("\"content\":").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_is_noticed() {
        let body = |text: &str, count: usize| {
            format!("{{\"content\": \"{text}\", \"usage\": {{\"completion_tokens\": {count}}}}}")
        };
        let ok = b"HTTP/1.1 200 OK\r\n\r\n";
        assert!(check(ok, body(&answer(), TOKENS).as_bytes(), Kind::Whole).is_ok());
        assert!(check(ok, body(&answer(), TOKENS - 1).as_bytes(), Kind::Whole).is_err());
        assert!(check(ok, body(&answer()[1..], TOKENS).as_bytes(), Kind::Whole).is_err());
        assert!(check(ok, body(&answer(), TOKENS).as_bytes(), Kind::Stream).is_err(), "no end");
        assert!(check(b"HTTP/1.1 500 No\r\n\r\n", body(&answer(), TOKENS).as_bytes(), Kind::Whole).is_err());
    }

    #[test]
    fn quantiles() {
        let mut seen = Seen { latencies: (1..=101).rev().map(Duration::from_micros).collect() };
        assert_eq!((seen.quantile_us(500), seen.quantile_us(990)), (51.0, 100.0));
        assert_eq!(Seen::default().quantile_us(500), 0.0);
    }
}
