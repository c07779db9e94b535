//! The gateway over real sockets, in front of a scripted service.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::cast_precision_loss)]

mod bounds;
mod dialects;
mod http;
mod native;
#[path = "../support/scripted.rs"]
#[allow(dead_code, unreachable_pub)]
mod scripted;

use cortensor_gateway::{GatewayConfig, ServeError, serve};
use http::{Answer, request, send};
use scripted::{KEY, Scripted, Seen};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Longest wait for something that must happen; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig { drain_timeout: Duration::from_secs(20), ..GatewayConfig::default() };
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Scripted::default());
        let (seen, shutdown) = (service.seen.clone(), CancellationToken::new());
        let task = tokio::spawn(serve(listener, service, config, shutdown.clone()));
        Self { address, seen, shutdown, task }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {KEY}");
        send(self.address, &request("POST", path, &[("authorization", &bearer)], &body.to_string())).await
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.address, &request("GET", path, &[("x-api-key", KEY)], "")).await
    }

    /// Waits until a counter of the service has this value.
    async fn until(&self, counter: impl Fn(&Seen) -> &AtomicUsize, holds: impl Fn(usize) -> bool) {
        let reached = async {
            loop {
                let changed = self.seen.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(counter(&self.seen).load(SeqCst)) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the service gets there");
    }
}

/// A chat with one message.
fn chat(words: &str) -> Value {
    serde_json::json!({"model": "scripted", "messages": [{"role": "user", "content": words}]})
}

/// A streamed chat with one message.
fn stream(words: &str) -> Value {
    let mut body = chat(words);
    body["stream"] = true.into();
    body
}
