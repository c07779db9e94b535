//! A small server with OpenAI's API on a real socket. Like most of its kind it tells the size of a prompt only at the
//! end, and nothing of its tokens.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// The name of its model, and what it always says.
pub const MODEL: &str = "parrot";
pub const WORDS: [&str; 4] = ["so ", "it ", "goes", "."];

#[derive(Default)]
struct Shared {
    streams: AtomicU32,
    wholes: AtomicU32,
    /// While this is above zero, answers wait.
    held: AtomicU32,
    go: Notify,
}

#[derive(Clone)]
pub struct Upstream {
    pub url: String,
    shared: Arc<Shared>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let for_connections = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = for_connections.clone();
                // A client that leaves ends its connection with an error, which is what some tests do.
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self { url, shared }
    }

    /// How many answers were asked for as a stream and whole.
    pub fn asked(&self) -> (u32, u32) {
        (self.shared.streams.load(Relaxed), self.shared.wholes.load(Relaxed))
    }

    /// Lets answers wait from now on, or go.
    pub fn hold(&self, held: bool) {
        self.shared.held.store(u32::from(held), Relaxed);
        self.shared.go.notify_waiters();
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            if first.is_empty() {
                first = line;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let answer = answer(&first, &String::from_utf8(body).unwrap(), shared).await;
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

async fn answer(first: &str, body: &str, shared: &Shared) -> String {
    let response = |status: &str, kind: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    if first.starts_with("GET /v1/models") {
        let list = format!(r#"{{"data":[{{"id":"{MODEL}","owned_by":"somebody"}}]}}"#);
        return response("200 OK", "application/json", &list);
    }
    if !first.starts_with("POST /v1/chat/completions") {
        return response("404 Not Found", "application/json", "{}");
    }
    let usage = format!(r#""usage":{{"prompt_tokens":9,"completion_tokens":{}}}"#, WORDS.len());
    while shared.held.load(Relaxed) > 0 {
        let go = shared.go.notified();
        if shared.held.load(Relaxed) > 0 {
            go.await;
        }
    }
    if !body.contains(r#""stream":true"#) {
        shared.wholes.fetch_add(1, Relaxed);
        let text = WORDS.concat();
        let whole = format!(r#"{{"choices":[{{"message":{{"content":"{text}"}},"finish_reason":"length"}}],{usage}}}"#);
        return response("200 OK", "application/json", &whole);
    }
    shared.streams.fetch_add(1, Relaxed);
    let chunk = |word: &&str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n");
    let mut events: String = WORDS.iter().map(chunk).collect();
    events += "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    events += &format!("data: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n");
    response("200 OK", "text/event-stream", &events)
}
