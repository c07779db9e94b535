//! Reading private networks: a fresh token for each while, signed by a member's key, beside every request.
//!
//! A server that turns a request away says which chain it serves; the token names that chain and the server as it was dialled,
//! so it serves nowhere else. Who holds the key decides; nothing is sent to servers that ask for no token.

use crate::connection::machine_time;
use alloy::{
    rpc::json_rpc::{RequestPacket, ResponsePacket},
    signers::{SignerSync as _, local::PrivateKeySigner},
    transports::{
        TransportError,
        http::reqwest::{Url, header::HeaderValue},
    },
};
use cortensor_protocol::{ACCESS_SECONDS_MAX, Access, Signature65};
use serde::Deserialize;
use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// How long a token made for requests counts, in seconds.
const LIFETIME_SECONDS: u64 = 600;
/// It is replaced when so much of that is left.
const RENEW_SECONDS: u64 = 120;

/// A token with which `reader` may read the server called `server`, for `lifetime_s` seconds from now, at most an hour.
#[must_use]
pub fn access_token(reader: &PrivateKeySigner, chain_id: u64, server: &str, lifetime_s: u64) -> String {
    let expires = machine_time() + lifetime_s.min(ACCESS_SECONDS_MAX);
    let access = Access { chain_id, server: server.to_owned(), expires };
    let signature = reader.sign_hash_sync(&access.signing_hash()).expect("a local key signs every hash");
    access.signed(Signature65::from(signature)).to_string()
}

/// Host and port of a server, as tokens name it.
#[must_use]
pub fn server_name(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// JSON-RPC's code for a request that its sender may not make.
const REFUSED: i64 = -32001;

/// What a server says beside turning somebody away.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    chain_id: u64,
}

/// The chain that a server wants a token for, if that is why it answered nothing.
pub(crate) fn asked_for(error: &TransportError) -> Option<u64> {
    let refused = error.as_error_resp().filter(|error| error.code == REFUSED)?;
    let asked: Asked = serde_json::from_str(refused.data.as_ref()?.get()).ok()?;
    Some(asked.chain_id)
}

/// Puts a token beside each request.
#[derive(Clone)]
pub(crate) struct AccessLayer(Arc<Tokens>);

impl AccessLayer {
    pub(crate) fn new(reader: PrivateKeySigner, chain_id: u64, url: &Url) -> Self {
        Self(Arc::new(Tokens { reader, chain_id, server: server_name(url), current: Mutex::default() }))
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessService { tokens: Arc::clone(&self.0), inner }
    }
}

struct Tokens {
    reader: PrivateKeySigner,
    chain_id: u64,
    server: String,
    /// The header, and when it ends.
    current: Mutex<Option<(HeaderValue, u64)>>,
}

impl Tokens {
    fn header(&self) -> HeaderValue {
        let now = machine_time();
        let mut current = self.current.lock().expect("nobody panics with this lock");
        if let Some((header, ends)) = &*current
            && *ends > now + RENEW_SECONDS
        {
            return header.clone();
        }
        let token = access_token(&self.reader, self.chain_id, &self.server, LIFETIME_SECONDS);
        let mut header =
            HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is digits, letters and dots");
        header.set_sensitive(true);
        *current = Some((header.clone(), now + LIFETIME_SECONDS));
        header
    }
}

/// See [`AccessLayer`].
#[derive(Clone)]
pub(crate) struct AccessService<S> {
    tokens: Arc<Tokens>,
    inner: S,
}

impl<S> Service<RequestPacket> for AccessService<S>
where
    S: Service<RequestPacket, Response = ResponsePacket, Error = TransportError>,
{
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut packet: RequestPacket) -> Self::Future {
        // The headers of a batch are those of all its requests together.
        if let Some(first) = packet.requests_mut().first_mut() {
            first.headers_mut().insert("authorization", self.tokens.header());
        }
        self.inner.call(packet)
    }
}
