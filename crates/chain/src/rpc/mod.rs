//! The Ethereum JSON-RPC server: HTTP and WebSocket on one port.
//!
//! Answers have the shapes, codes and messages of go-ethereum, so viem, ethers, alloy, cast and Foundry scripts work
//! unmodified. Every body, batch, subscription, filter, range and simulation is bounded by [`crate::Limits`]. Keys are
//! not held: `eth_accounts` is empty and nothing signs. On a permissioned chain only members are answered ([`door`]).

mod call;
mod dev;
mod door;
mod error;
mod eth;
mod fees;
mod filters;
mod logs;
mod network;
mod resolve;
mod subscribe;
mod trace;
mod txpool;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use jsonrpsee::{
    Methods, RpcModule,
    server::{
        BatchRequestConfig, PingConfig, RandomStringIdProvider, ServerConfig, ServerHandle,
        middleware::{http::ProxyGetRequestLayer, rpc::RpcServiceBuilder},
    },
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{Any, CorsLayer};

use crate::{
    consensus::{Answers, SealRequest},
    core::Core,
};
use error::RpcError;

/// Where development methods ask for a block.
pub(crate) type SealSender = mpsc::Sender<SealRequest>;

/// A WebSocket client that does not answer pings for this long is disconnected.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Messages that may wait for a slow WebSocket client.
const MESSAGES_BUFFERED: u32 = 1_024;

/// What request handlers share.
pub(crate) struct Api {
    core: Arc<Core>,
    filters: filters::Filters,
    answers: Answers,
    /// Bounds simulations, traces and queries that run at once.
    simulations: Arc<Semaphore>,
}

impl Api {
    /// Runs costly work on a blocking thread; excess callers wait in line.
    async fn costly<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        let permit = Arc::clone(&self.simulations).acquire_owned().await;
        let permit = permit.map_err(|_| RpcError::internal("the server is shutting down"))?;
        crate::metrics::Metrics::add(&self.core.metrics.simulations, 1);
        let api = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = work(&api);
            drop(permit);
            outcome
        });
        outcome.await.map_err(|error| RpcError::internal(&error))?
    }
}

/// A listening server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
    methods: Methods,
}

impl Server {
    /// Answers one request without a socket; none if it is no JSON-RPC call.
    pub(crate) async fn call(&self, request: &str) -> Option<String> {
        let answered = self.methods.raw_json_request(request, 1).await;
        answered.ok().map(|(answer, _)| answer.get().to_owned())
    }

    /// Stops accepting and waits until open requests are answered.
    pub(crate) async fn stop(&self) {
        // An error means that it has stopped already.
        let _ = self.handle.stop();
        self.handle.clone().stopped().await;
    }
}

/// Starts the server.
pub(crate) async fn serve(
    core: Arc<Core>,
    answers: Answers,
    seal: Option<SealSender>,
    stop: CancellationToken,
) -> io::Result<Server> {
    let limits = core.config.limits;
    let module = module(Arc::clone(&core), answers, seal, stop.clone()).map_err(io::Error::other)?;
    let methods = Methods::from(module.clone());
    let config = ServerConfig::builder()
        .max_request_body_size(limits.request_bytes_max)
        .max_response_body_size(limits.response_bytes_max)
        .max_connections(limits.connections_max)
        .max_subscriptions_per_connection(limits.subscriptions_per_connection_max)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.batch_calls_max))
        .set_message_buffer_capacity(MESSAGES_BUFFERED)
        .enable_ws_ping(PingConfig::new().ping_interval(PING_INTERVAL))
        .set_id_provider(RandomStringIdProvider::new(32))
        .build();
    let cors = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    let gate = RpcServiceBuilder::new().layer(door::GateLayer(Arc::clone(&core)));
    // Listening comes first: the address is one of the names that tokens are made for.
    let socket = std::net::TcpListener::bind(core.config.listen)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let sockets = jsonrpsee::server::Server::builder().set_config(config.clone()).to_service_builder();
    let sockets = sockets.set_rpc_middleware(gate.clone());
    let door = door::Door::new(core, address, sockets, methods.clone(), stop);
    let listener = jsonrpsee::server::Server::builder()
        .set_config(config)
        .set_rpc_middleware(gate)
        .set_http_middleware(
            tower::ServiceBuilder::new().layer(cors).layer(door::DoorLayer(door)).layer(health_layer()?),
        )
        .build_from_tcp(socket)?;
    Ok(Server { address, handle: listener.start(module), methods })
}

/// `GET /health` answers like `eth_chainId`, for load balancers that only speak plain HTTP.
fn health_layer() -> io::Result<ProxyGetRequestLayer> {
    ProxyGetRequestLayer::new([("/health", "eth_chainId")]).map_err(io::Error::other)
}

fn module(
    core: Arc<Core>,
    answers: Answers,
    seal: Option<SealSender>,
    stop: CancellationToken,
) -> Result<RpcModule<()>, jsonrpsee::core::RegisterMethodError> {
    let api = Arc::new(Api {
        filters: filters::Filters::new(&core.config.limits),
        simulations: Arc::new(Semaphore::new(core.config.limits.simulations_max)),
        core: Arc::clone(&core),
        answers,
    });
    let mut module = RpcModule::new(());
    module.merge(eth::methods(Arc::clone(&api)))?;
    module.merge(filters::methods(Arc::clone(&api)))?;
    module.merge(trace::methods(Arc::clone(&api)))?;
    module.merge(txpool::methods(Arc::clone(&api)))?;
    module.merge(network::methods(Arc::clone(&api)))?;
    module.merge(subscribe::methods(api, stop))?;
    if let Some(seal) = seal.filter(|_| core.config.dev) {
        module.merge(dev::methods(core, seal))?;
    }
    Ok(module)
}
