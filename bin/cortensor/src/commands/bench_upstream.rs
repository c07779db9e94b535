//! `cortensor bench-upstream`: the fast server that `bench router` puts behind every path.
//!
//! It speaks as much of OpenAI's HTTP API as routers need, and always says the same words: 32 tokens, whole or as a
//! stream of 32 chunks with a pause between them, as a model would make. It works as little as possible, so that what is
//! measured is what stands in front of it.

use super::up::stop_signal;
use crate::{cli::BenchUpstreamArgs, output};
use eyre::{Context, ensure};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The name of its model.
pub(crate) const MODEL: &str = "bench";
/// Tokens of its answers, and chunks of its streams.
pub(crate) const TOKENS: usize = 32;
/// Largest request that it takes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// One token's text.
fn token(at: usize) -> String {
    format!(" word{at:02}")
}

/// The whole answer.
pub(crate) fn answer() -> String {
    (0..TOKENS).map(token).collect()
}

/// Everything that it ever says.
struct Words {
    whole: Vec<u8>,
    /// What is written one after the other; the first has the head, the last the end.
    stream: Vec<Vec<u8>>,
    models: Vec<u8>,
    fine: Vec<u8>,
    unknown: Vec<u8>,
    pause: Duration,
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

impl Words {
    fn new(pause: Duration) -> Self {
        let usage = serde_json::json!({ "prompt_tokens": 7, "completion_tokens": TOKENS, "total_tokens": 7 + TOKENS });
        let whole = serde_json::json!({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": MODEL, "usage": usage,
            "choices": [{
                "index": 0, "message": { "role": "assistant", "content": answer() }, "finish_reason": "length",
            }],
        });
        let models = serde_json::json!({
            "object": "list", "data": [{ "id": MODEL, "object": "model", "owned_by": "bench", "max_model_len": 8192 }],
        });
        Self {
            whole: response("200 OK", &whole.to_string()),
            stream: (0..TOKENS).map(|at| stream_piece(at, &usage)).collect(),
            models: response("200 OK", &models.to_string()),
            fine: response("200 OK", "{}"),
            unknown: response("404 Not Found", r#"{"error":{"message":"there is no such thing here"}}"#),
            pause,
        }
    }
}

/// What is written with one token of a stream.
fn stream_piece(at: usize, usage: &serde_json::Value) -> Vec<u8> {
    let chunk = |choices: serde_json::Value| {
        serde_json::json!({
            "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices,
        })
    };
    let mut delta = serde_json::json!({ "content": token(at) });
    if at == 0 {
        delta["role"] = "assistant".into();
    }
    let last = at + 1 == TOKENS;
    let finish = last.then_some("length");
    let text = chunk(serde_json::json!([{ "index": 0, "delta": delta, "finish_reason": finish }]));
    let mut events = format!("data: {text}\n\n");
    if last {
        let mut counted = chunk(serde_json::json!([]));
        counted["usage"] = usage.clone();
        events += &format!("data: {counted}\n\ndata: [DONE]\n\n");
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (head, end) = (if at == 0 { head } else { "" }, if last { "0\r\n\r\n" } else { "" });
    format!("{head}{:x}\r\n{events}\r\n{end}", events.len()).into_bytes()
}

pub(crate) async fn run(arguments: BenchUpstreamArgs) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    output::json(&serde_json::json!({ "url": format!("http://{}", listener.local_addr()?) }))?;
    let words = Arc::new(Words::new(Duration::from_micros(arguments.pause_us)));
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let words = words.clone();
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &words).await {
                    tracing::debug!(%error, "a connection broke off");
                }
            });
        }
    };
    tokio::select! {
        () = signal => Ok(ExitCode::SUCCESS),
        ended = accepting => ended,
    }
}

/// One connection: request after request.
async fn serve(mut stream: TcpStream, words: &Words) -> eyre::Result<()> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(end) = request_end(&bytes)? {
                break end;
            }
            ensure!(bytes.len() < REQUEST_BYTES_MAX, "a request is too large");
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        answer_request(&mut stream, &bytes[..end], words).await?;
        bytes.drain(..end);
    }
}

/// Where the first request ends, if it is all there.
fn request_end(bytes: &[u8]) -> eyre::Result<Option<usize>> {
    let Some(head) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).wrap_err("the head of a request is not text")?;
    let length = text.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length: usize = length.unwrap_or("0").parse().wrap_err("content-length")?;
    let end = head + 4 + length.min(REQUEST_BYTES_MAX);
    Ok((bytes.len() >= end).then_some(end))
}

async fn answer_request(stream: &mut TcpStream, request: &[u8], words: &Words) -> eyre::Result<()> {
    let generation = request.starts_with(b"POST /v1/chat/completions");
    if generation && (find(request, b"\"stream\":true").is_some() || find(request, b"\"stream\": true").is_some()) {
        for (at, piece) in words.stream.iter().enumerate() {
            if at > 0 && !words.pause.is_zero() {
                tokio::time::sleep(words.pause).await;
            }
            stream.write_all(piece).await?;
        }
        return Ok(());
    }
    let said = match request {
        _ if generation => &words.whole,
        request if request.starts_with(b"GET /v1/models") => &words.models,
        request if request.starts_with(b"GET ") => &words.fine,
        _ => &words.unknown,
    };
    Ok(stream.write_all(said).await?)
}

/// Where `part` first is in `bytes`.
pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_body_does() {
        let whole = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(request_end(whole).unwrap(), Some(whole.len() - 3));
        assert_eq!(request_end(&whole[..whole.len() - 4]).unwrap(), None);
        assert_eq!(request_end(b"GET / HTTP/1.1\r\n\r\n").unwrap(), Some(18));
        assert!(request_end(b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_stream_has_its_head_first_and_its_end_last() {
        let words = Words::new(Duration::ZERO);
        assert_eq!(words.stream.len(), TOKENS);
        assert!(words.stream[0].starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(words.stream[TOKENS - 1].ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"));
    }
}
