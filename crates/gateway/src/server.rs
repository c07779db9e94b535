//! The server: accepts connections within bounds, and lets them end when it is told to stop.
//!
//! Guarantees: a client that is slow to send a head, a body, or to read an answer is cut off after a set time; the
//! number of connections is bounded; on shutdown no new request is taken and running ones have a set time to end.
//! HTTP/1.1 only; TLS and HTTP/2 belong to the proxy in front.

use crate::{
    app::Peer,
    config::{GatewayConfig, InvalidConfig},
    metrics::Metrics,
    routes,
    service::InferenceService,
};
use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

/// Pause after a failed accept; the usual cause is that file descriptors have run out, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Failed accepts in a row after which the listener is taken to be broken.
const ACCEPT_FAILURES_MAX: u32 = 200;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes buffered for one connection, heads included.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// Why the server ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The listener failed again and again.
    #[error("the listener failed {failures} times in a row")]
    Accept {
        /// How often.
        failures: u32,
        /// The last failure.
        source: io::Error,
    },
}

/// Serves the API on `listener` until `shutdown` is cancelled and running requests have ended or had their time.
///
/// # Errors
/// When a setting cannot work, or the listener breaks.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn InferenceService>,
    config: GatewayConfig,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    config.check()?;
    let drain_timeout = config.drain_timeout;
    let server = Server::new(service, config);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let result = server.accept(&listener, &connections, &shutdown, &abort).await;
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were still running when their time was over");
        abort.cancel();
        connections.wait().await;
    }
    result
}

struct Server {
    router: Router,
    http: http1::Builder,
    write_timeout: Duration,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Server {
    fn new(service: Arc<dyn InferenceService>, config: GatewayConfig) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(CONNECTION_BUFFER_BYTES);
        let metrics = Arc::new(Metrics::default());
        Self {
            http,
            write_timeout: config.write_timeout,
            places: Arc::new(Semaphore::new(config.connections_max.min(Semaphore::MAX_PERMITS))),
            router: routes::with_metrics(service, config, metrics.clone()),
            metrics,
        }
    }

    /// Takes in connections until the shutdown.
    async fn accept(
        &self,
        listener: &TcpListener,
        connections: &TaskTracker,
        shutdown: &CancellationToken,
        abort: &CancellationToken,
    ) -> Result<(), ServeError> {
        let mut failures = 0;
        loop {
            let accepted = async {
                let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
                listener.accept().await.map(|(stream, address)| (stream, address, place))
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, address, place)) => {
                    failures = 0;
                    let task = self.connection(stream, Peer(address.ip()), place, shutdown.clone());
                    let abort = abort.clone();
                    connections.spawn(async move {
                        tokio::select! {
                            () = abort.cancelled() => (),
                            () = task => (),
                        }
                    });
                }
                Err(source) => {
                    failures += 1;
                    tracing::warn!(error = %source, "could not accept a connection");
                    if failures >= ACCEPT_FAILURES_MAX {
                        return Err(ServeError::Accept { failures, source });
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection; on shutdown it ends with the request that is running.
    fn connection(
        &self,
        stream: TcpStream,
        peer: Peer,
        place: OwnedSemaphorePermit,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            // An axum router is always ready.
            router.clone().call(request)
        });
        let io = TokioIo::new(WriteTimeout::new(stream, self.write_timeout));
        let serving = self.http.serve_connection(io, service);
        let metrics = self.metrics.clone();
        metrics.connections.fetch_add(1, Relaxed);
        let counted = Counted { metrics, _place: place };
        async move {
            let _counted = counted;
            let mut serving = std::pin::pin!(serving);
            let result = tokio::select! {
                result = serving.as_mut() => result,
                () = shutdown.cancelled() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a connection broke off");
            }
        }
    }
}

/// Counts a connection while it lives, and holds its place.
struct Counted {
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Relaxed);
    }
}

/// A stream whose writes fail when the other side has not read for a while.
struct WriteTimeout {
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write is waiting. Made at the first write that has to wait, which few connections ever see.
    waiting: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl WriteTimeout {
    fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, limit, waiting: None, armed: false }
    }

    /// Passes on a result, or fails when there has been none for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.armed = false;
            return result;
        }
        let deadline = Instant::now() + self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, data);
        this.watch(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, data);
        this.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
