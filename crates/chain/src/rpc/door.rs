//! Who is answered on a permissioned chain: members, who show a token that their key signed.
//!
//! The token is checked before the request is read ([`DoorLayer`]), and whether its signer belongs as of the head before each
//! call ([`GateLayer`]). A WebSocket is closed as soon as its member does not belong any more. Whoever is invited may send
//! what it takes to join, and read nothing. On a chain without permissions everything passes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use alloy::primitives::Address;
use cortensor_protocol::AccessToken;
use futures::future::BoxFuture;
use jsonrpsee::{
    MethodResponse, Methods,
    core::{
        BoxError,
        middleware::{Batch, Notification, RpcServiceT},
    },
    server::{HttpBody, HttpRequest, HttpResponse, TowerServiceBuilder, stop_channel, ws::is_upgrade_request},
    types::{ErrorObjectOwned, Id, Request},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tower::{
    Layer, Service,
    layer::util::{Identity, Stack},
};

use crate::{core::Core, members::Admission};

/// JSON-RPC's code for a request that its sender may not make.
const REFUSED: i32 = -32001;
/// Tokens remembered, so that the signature of each is recovered once.
const TOKENS_MAX: usize = 4_096;
/// What somebody may call that is invited and does not belong yet.
const INVITED_METHODS: [&str; 3] = ["eth_chainId", "eth_sendRawTransaction", "eth_sendRawTransactionSync"];

/// Who is at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Member(Address),
    Invited(Address),
}

impl Caller {
    /// Whether it may go on reading.
    pub(super) fn may_subscribe(self, core: &Core) -> bool {
        matches!(self, Self::Member(account) if core.may_read(account))
    }

    fn may_call(self, core: &Core, method: &str) -> bool {
        match self {
            Self::Member(account) => core.may_read(account),
            Self::Invited(_) => INVITED_METHODS.contains(&method),
        }
    }
}

fn refusal() -> ErrorObjectOwned {
    ErrorObjectOwned::owned(REFUSED, "you are not a member of this network, or not any more", None::<()>)
}

/// Makes the services of WebSockets, each with an end of its own.
type Sockets = TowerServiceBuilder<Stack<GateLayer, Identity>, Identity>;

/// Checks tokens.
pub(super) struct Door {
    core: Arc<Core>,
    names: Vec<String>,
    tokens: Mutex<HashMap<String, Address>>,
    sockets: Sockets,
    methods: Methods,
    stop: CancellationToken,
}

impl Door {
    /// The door of a permissioned chain; none where everybody is let in.
    pub(super) fn new(
        core: Arc<Core>,
        address: SocketAddr,
        sockets: Sockets,
        methods: Methods,
        stop: CancellationToken,
    ) -> Option<Arc<Self>> {
        let mut names = core.admission.as_ref()?.permissions.server_names.clone();
        names.push(address.to_string());
        Some(Arc::new(Self { core, names, tokens: Mutex::default(), sockets, methods, stop }))
    }

    /// Who asks, or what is said to somebody who is not let in.
    fn admit(&self, request: &HttpRequest) -> Result<Caller, String> {
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
        let token = token.ok_or("this network is private: send a token of a member as `Authorization: Bearer …`")?;
        let account = self.signer(token)?;
        let Some(admission) = &self.core.admission else { return Ok(Caller::Member(account)) };
        if admission.roll().may_read(account) {
            return Ok(Caller::Member(account));
        }
        match self.invited(admission, account) {
            true => Ok(Caller::Invited(account)),
            false => Err(format!("{account} is not a member of this network, or not any more")),
        }
    }

    fn invited(&self, admission: &Admission, account: Address) -> bool {
        let invited = admission.is_invited(&self.core.head_view(), account);
        invited.unwrap_or_else(|error| {
            tracing::error!(%error, "an invitation cannot be read");
            false
        })
    }

    fn signer(&self, text: &str) -> Result<Address, String> {
        let token: AccessToken = text.parse().map_err(|error| format!("{error}"))?;
        let now = self.core.clock.now();
        if let Some(account) = self.tokens.lock().get(text).filter(|_| token.expires > now) {
            return Ok(*account);
        }
        let account = token.reader(self.core.config.chain_id, &self.names, now).map_err(|error| error.to_string())?;
        let mut tokens = self.tokens.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(text.to_owned(), account);
        Ok(account)
    }

    /// Serves a WebSocket until its member does not belong any more.
    fn open_socket(&self, caller: Caller, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, BoxError>> {
        let Some(admission) = &self.core.admission else {
            let chain_id = self.core.config.chain_id;
            return Box::pin(async move { Ok(answer(403, chain_id, "no members are known")) });
        };
        let (stopped, stop) = stop_channel();
        let mut service = self.sockets.clone().build(self.methods.clone(), stopped);
        let mut changes = admission.changes();
        let (core, chain_stop) = (Arc::clone(&self.core), self.stop.clone());
        tokio::spawn(async move {
            let removed = async { while caller.may_subscribe(&core) && changes.changed().await.is_ok() {} };
            tokio::select! {
                () = stop.clone().stopped() => {}
                () = removed => drop(stop.stop()),
                () = chain_stop.cancelled() => drop(stop.stop()),
            }
        });
        Box::pin(async move { service.call(request).await })
    }
}

/// What somebody hears who is turned away; the chain is named because a token is made for one.
fn answer(status: u16, chain_id: u64, message: &str) -> HttpResponse {
    let error = serde_json::json!({ "code": REFUSED, "message": message, "data": { "chainId": chain_id } });
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error });
    let mut response = HttpResponse::new(HttpBody::from(body.to_string()));
    *response.status_mut() = status.try_into().expect("these are statuses of HTTP");
    let headers = response.headers_mut();
    headers.insert("content-type", "application/json".parse().expect("a header's value"));
    headers.insert("www-authenticate", "Bearer realm=\"cortensor\"".parse().expect("a header's value"));
    // Whoever is turned away has no business with this connection.
    headers.insert("connection", "close".parse().expect("a header's value"));
    response
}

/// Lets requests with a token in.
#[derive(Clone)]
pub(super) struct DoorLayer(pub(super) Option<Arc<Door>>);

impl<S> Layer<S> for DoorLayer {
    type Service = DoorService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DoorService { door: self.0.clone(), inner }
    }
}

/// See [`DoorLayer`].
#[derive(Clone)]
pub(super) struct DoorService<S> {
    door: Option<Arc<Door>>,
    inner: S,
}

impl<S> Service<HttpRequest> for DoorService<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<HttpResponse, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest) -> Self::Future {
        let Some(door) = &self.door else { return Box::pin(self.inner.call(request)) };
        match door.admit(&request) {
            Err(why) => {
                let chain_id = door.core.config.chain_id;
                Box::pin(async move { Ok(answer(401, chain_id, &why)) })
            }
            Ok(caller) if is_upgrade_request(&request) => {
                request.extensions_mut().insert(caller);
                door.open_socket(caller, request)
            }
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
        }
    }
}

/// Holds every call against the newest block.
#[derive(Clone)]
pub(super) struct GateLayer(pub(super) Arc<Core>);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate { core: Arc::clone(&self.0), inner }
    }
}

/// See [`GateLayer`].
#[derive(Clone)]
pub(super) struct Gate<S> {
    core: Arc<Core>,
    inner: S,
}

impl<S> Gate<S> {
    /// Whether to pass a call on; calls inside the process come through no door and pass.
    fn passes(&self, caller: Option<&Caller>, method: &str) -> bool {
        caller.is_none_or(|caller| caller.may_call(&self.core, method))
    }
}

impl<S> RpcServiceT for Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let passes = self.passes(request.extensions().get(), request.method_name());
        let inner = self.inner.clone();
        async move {
            match passes {
                true => inner.call(request).await,
                false => MethodResponse::error(request.id, refusal()),
            }
        }
    }

    fn batch<'a>(&self, mut batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        // Whoever is only invited needs no batches.
        let passes = self.passes(batch.extensions().get(), "");
        let inner = self.inner.clone();
        async move {
            match passes {
                true => inner.batch(batch).await,
                false => MethodResponse::error(Id::Null, refusal()),
            }
        }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let inner = self.inner.clone();
        async move { inner.notification(notification).await }
    }
}
