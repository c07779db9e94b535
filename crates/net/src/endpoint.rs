//! A node's place on the network: one UDP socket, one transport key.

use crate::{address::NodeAddress, close::CloseCode, secret::TransportSecret};
use cortensor_protocol::{TransportKey, wire};
use iroh::{
    EndpointAddr, RelayMode, RelayUrl, TransportAddr,
    endpoint::{Connection, IdleTimeout, QuicTransportConfig, QuicTransportConfigBuilder, VarInt, presets},
};
use std::{net::SocketAddr, time::Duration};

/// Bounds and times of the transport.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A peer from which nothing came for so long is dead. Between 300 ms and 15 s.
    pub dead_after: Duration,
    /// Longest wait for one step of the handshake.
    pub handshake_step: Duration,
    /// Longest wait for a connection to come about, name resolution included.
    pub connect: Duration,
    /// Longest wait for a new task's stream to be taken and its first message to be written or read.
    pub open_task: Duration,
    /// Tasks that one connection carries at once; a miner answers further ones with *busy*.
    pub tasks_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dead_after: Duration::from_secs(3),
            handshake_step: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            open_task: Duration::from_secs(10),
            tasks_per_connection: 16_384,
        }
    }
}

/// Whether peers are looked up by their key in public directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Discovery {
    /// They are not: peers are reached at the addresses they are configured with.
    #[default]
    Off,
    /// Through iroh's public DNS and pkarr servers, which learn this node's address.
    PublicDns,
}

/// What an endpoint is made of.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// The node's identity.
    pub secret: TransportSecret,
    /// Where to listen (UDP). Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Relay servers (`https://…`) through which nodes behind NAT reach each other; none by default.
    /// `tests/relay` shows a router and a miner that meet through one only.
    pub relays: Vec<String>,
    /// Public directories; off by default.
    pub discovery: Discovery,
    /// Bounds and times.
    pub limits: Limits,
}

impl NetConfig {
    /// Listens at `listen`, without relay or directory.
    #[must_use]
    pub fn new(secret: TransportSecret, listen: SocketAddr) -> Self {
        Self { secret, listen, relays: Vec::new(), discovery: Discovery::Off, limits: Limits::default() }
    }
}

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be listened at: taken, not this machine's, or forbidden.
    #[error("cannot listen at {address} (UDP): {problem}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        problem: String,
    },
    /// Not a relay's URL.
    #[error("{url:?} is not the URL of a relay: {problem}")]
    Relay {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConnectError {
    #[error("{place} does not resolve")]
    Resolve {
        place: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer from {place}: {problem}")]
    Unreachable { place: String, problem: String },
}

/// A bound endpoint. Clones share it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: iroh::Endpoint,
    relays: Vec<RelayUrl>,
    limits: Limits,
    protocol: &'static [u8],
}

impl Endpoint {
    /// Binds the socket and begins to listen.
    ///
    /// # Errors
    /// When the address cannot be listened at or a relay's URL is malformed.
    pub async fn bind(config: NetConfig) -> Result<Self, BindError> {
        let transport = transport_config(&config.limits);
        Self::bind_for(config, wire::ALPN, transport).await
    }

    /// Binds the socket for another protocol than that of routers and miners.
    pub(crate) async fn bind_for(
        config: NetConfig,
        protocol: &'static [u8],
        transport: QuicTransportConfig,
    ) -> Result<Self, BindError> {
        let relays = config.relays.iter().map(|url| parse_relay(url)).collect::<Result<Vec<_>, _>>()?;
        let listen = |problem: String| BindError::Listen { address: config.listen, problem };
        let builder = match config.discovery {
            Discovery::Off => iroh::Endpoint::builder(presets::Minimal),
            Discovery::PublicDns => iroh::Endpoint::builder(presets::N0),
        };
        let relay_mode =
            if relays.is_empty() { RelayMode::Disabled } else { RelayMode::custom(relays.iter().cloned()) };
        let inner = builder
            .relay_mode(relay_mode)
            .secret_key(config.secret.key())
            .alpns(vec![protocol.to_vec()])
            .transport_config(transport)
            .clear_ip_transports()
            .bind_addr(config.listen)
            .map_err(|error| listen(error.to_string()))?
            .bind()
            .await
            .map_err(|error| listen(format!("{error:#}")))?;
        Ok(Self { inner, relays, limits: config.limits, protocol })
    }

    /// The node's identity.
    #[must_use]
    pub fn key(&self) -> TransportKey {
        TransportKey(self.inner.id().as_bytes().into())
    }

    /// Where it listens. An unspecified address (`0.0.0.0`) means every interface.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.bound_sockets().into_iter().next()
    }

    /// This node's address for others, at the place where it listens. An unspecified address is given as the loopback
    /// one, which only this machine can use; a public node tells its own name instead ([`NodeAddress::new`]).
    #[must_use]
    pub fn node_address(&self) -> Option<NodeAddress> {
        let local = self.local_address()?;
        let ip = match local.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        NodeAddress::new(self.key(), &ip.to_string(), local.port()).ok()
    }

    /// Bounds and times.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Closes all connections, telling the peers, and then the socket.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    pub(crate) fn inner(&self) -> &iroh::Endpoint {
        &self.inner
    }

    /// Connects to a node at its configured place, or through this node's relays.
    pub(crate) async fn connect(&self, address: &NodeAddress) -> Result<Connection, ConnectError> {
        let unreachable = |problem: String| ConnectError::Unreachable { place: address.place(), problem };
        let attempt = async {
            let places =
                address.resolve().await.map_err(|source| ConnectError::Resolve { place: address.place(), source })?;
            let id = iroh::PublicKey::from_bytes(&address.key().0).map_err(|error| unreachable(error.to_string()))?;
            let direct = places.into_iter().map(TransportAddr::Ip);
            let relayed = self.relays.iter().cloned().map(TransportAddr::Relay);
            let target = EndpointAddr::from_parts(id, direct.chain(relayed));
            self.inner.connect(target, self.protocol).await.map_err(|error| unreachable(format!("{error:#}")))
        };
        tokio::time::timeout(self.limits.connect, attempt)
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("gave up after {:?}", self.limits.connect))))
    }
}

fn parse_relay(url: &str) -> Result<RelayUrl, BindError> {
    url.parse().map_err(|error| BindError::Relay { url: url.to_owned(), problem: format!("{error}") })
}

/// Keep-alives four times as often as silence is allowed; windows such that a stalled stream holds at most 256 KiB.
pub(crate) fn transport_config(limits: &Limits) -> QuicTransportConfig {
    transport_builder(limits).build()
}

pub(crate) fn transport_builder(limits: &Limits) -> QuicTransportConfigBuilder {
    const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
    const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;
    /// Streams beyond the bound on tasks, so that these can be told *busy*; one is the control stream.
    const SPARE_STREAMS: u32 = 16;
    let dead_after = limits.dead_after.clamp(Duration::from_millis(300), Duration::from_secs(15));
    let keep_alive = dead_after / 4;
    let idle = IdleTimeout::try_from(dead_after).expect("15 seconds fit a QUIC idle timeout");
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.tasks_per_connection.saturating_add(SPARE_STREAMS)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(keep_alive)
        .default_path_max_idle_timeout(dead_after)
        .default_path_keep_alive_interval(keep_alive)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
}

/// Ends a connection with a code and a text, unless it has ended already: the first reason stands.
pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    if connection.close_reason().is_none() {
        connection.close(code.varint(), reason.as_bytes());
    }
}

/// The peer's identity, proved by the TLS handshake.
pub(crate) fn peer_key(connection: &Connection) -> TransportKey {
    TransportKey(connection.remote_id().as_bytes().into())
}
