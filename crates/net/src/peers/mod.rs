//! A mesh of equal nodes that send each other messages: what validators speak over.
//!
//! A node dials every peer that it lists and takes in whoever dials it, up to a bound; a message goes over the newest
//! connection to its receiver, so that a restarted peer is reached at once. Messages are bytes in one of two lanes, of
//! which the urgent one is never behind the other. Guarantees: peers are who their transport keys say; queues, frames,
//! connections and retries are bounded; where only some may be peers, nobody else is told anything. What it does not do: deliver for certain. What does not fit a queue or is under
//! way when a connection ends is lost; those who need it ask again.

mod link;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cortensor_protocol::TransportKey;
use iroh::endpoint::VarInt;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::link::Link;
use crate::{
    Backoff, BindError, NodeAddress,
    close::CloseCode,
    endpoint::{Endpoint, NetConfig, close, peer_key, transport_builder},
};

/// The protocol's name in the TLS handshake.
const PROTOCOL: &[u8] = b"cortensor-peers/1";
/// Connections to one peer at once: one dialled, one taken in, and their successors.
const LINKS_PER_PEER_MAX: usize = 4;
/// Urgent messages received that wait to be read.
const URGENT_QUEUED_MAX: usize = 1_024;
/// Bulk messages received that wait to be read.
const BULK_QUEUED_MAX: usize = 16;
/// Bytes that a stream may be ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Waits between attempts to dial.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How soon a message has to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes and what is being voted on: at most 256 KiB each.
    Urgent,
    /// Everything else: at most 20 MiB each.
    Bulk,
}

impl Lane {
    /// Most bytes of one message.
    #[must_use]
    pub fn message_bytes_max(self) -> usize {
        match self {
            Self::Urgent => 256 << 10,
            Self::Bulk => 20 << 20,
        }
    }
}

/// Says who may be a peer at this moment. Asked at each connection and before each message.
pub trait PeerAdmission: std::fmt::Debug + Send + Sync {
    /// Whether this node may be spoken to.
    fn admits(&self, peer: TransportKey) -> bool;
}

/// What a mesh is made of.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// Key, place and times.
    pub net: NetConfig,
    /// Whom to dial.
    pub peers: Vec<NodeAddress>,
    /// Most nodes that are not in `peers` and may connect.
    pub strangers_max: usize,
    /// Who may be a peer; without it everybody may, within `strangers_max`.
    pub admission: Option<Arc<dyn PeerAdmission>>,
}

/// News from the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The peer can be reached.
    Connected(TransportKey),
    /// It cannot any more.
    Disconnected(TransportKey),
    /// It says this.
    Message(TransportKey, Bytes),
}

/// Where news come out, lane by lane. Reading slowly slows the senders down.
#[derive(Debug)]
pub struct PeersEvents {
    /// Connections, and urgent messages.
    pub urgent: mpsc::Receiver<PeerEvent>,
    /// Bulk messages.
    pub bulk: mpsc::Receiver<PeerEvent>,
}

#[derive(Clone, Debug)]
struct Outlets {
    urgent: mpsc::Sender<PeerEvent>,
    bulk: mpsc::Sender<PeerEvent>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    outlets: Outlets,
    /// The connections to each peer, the newest last.
    links: Mutex<HashMap<TransportKey, Vec<Link>>>,
    listed: Vec<TransportKey>,
    strangers: Arc<Semaphore>,
    admission: Option<Arc<dyn PeerAdmission>>,
}

/// A mesh. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

impl Peers {
    /// Binds the socket, listens, and dials everybody listed until stopped.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub async fn start(config: PeersConfig) -> Result<(Self, PeersEvents), BindError> {
        let transport = transport_builder(&config.net.limits)
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(2))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .build();
        let endpoint = Endpoint::bind_for(config.net, PROTOCOL, transport).await?;
        let (urgent, urgent_events) = mpsc::channel(URGENT_QUEUED_MAX);
        let (bulk, bulk_events) = mpsc::channel(BULK_QUEUED_MAX);
        let shared = Arc::new(Shared {
            endpoint,
            outlets: Outlets { urgent, bulk },
            links: Mutex::default(),
            listed: config.peers.iter().map(NodeAddress::key).collect(),
            strangers: Arc::new(Semaphore::new(config.strangers_max)),
            admission: config.admission,
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).listen());
        for peer in config.peers.into_iter().filter(|peer| peer.key() != shared.endpoint.key()) {
            tasks.spawn(Arc::clone(&shared).dial(peer));
        }
        let stopped = stop.clone();
        tokio::spawn(async move {
            stopped.cancelled().await;
            // Dropping the set ends the tasks.
            drop(tasks);
        });
        let events = PeersEvents { urgent: urgent_events, bulk: bulk_events };
        Ok((Self { shared, _stop: Arc::new(stop.drop_guard()) }, events))
    }

    /// This node's key and place.
    #[must_use]
    pub fn address(&self) -> Option<NodeAddress> {
        self.shared.endpoint.node_address()
    }

    /// Peers that can be reached now.
    #[must_use]
    pub fn connected(&self) -> Vec<TransportKey> {
        self.shared.links.lock().keys().copied().collect()
    }

    /// Sends to one peer. False when it cannot be reached, does not read fast enough, or the message is too long.
    pub fn send(&self, to: TransportKey, lane: Lane, message: &Bytes) -> bool {
        if !self.shared.admits(to) {
            return false;
        }
        let links = self.shared.links.lock();
        links.get(&to).and_then(|links| links.last()).is_some_and(|link| link.send(lane, message))
    }

    /// Sends to everybody who can be reached but one; tells how many that is.
    pub fn broadcast(&self, lane: Lane, message: &Bytes, except: Option<TransportKey>) -> usize {
        let links = self.shared.links.lock();
        let others = links.iter().filter(|(peer, _)| Some(**peer) != except && self.shared.admits(**peer));
        others.filter(|(_, links)| links.last().is_some_and(|link| link.send(lane, message))).count()
    }

    /// Ends all connections to a peer; it may come back.
    pub fn drop_peer(&self, peer: TransportKey) {
        for link in self.shared.links.lock().get(&peer).into_iter().flatten() {
            link.close(CloseCode::Malformed);
        }
    }

    /// Ends the connections to all who may not be peers any more.
    pub fn expel(&self) {
        let links = self.shared.links.lock();
        for (peer, links) in links.iter().filter(|(peer, _)| !self.shared.admits(**peer)) {
            tracing::info!(%peer, "a peer does not belong any more");
            for link in links {
                link.close(CloseCode::Refused);
            }
        }
    }

    /// Closes everything, telling the peers.
    pub async fn close(&self) {
        self.shared.endpoint.close().await;
    }
}

impl Shared {
    fn admits(&self, peer: TransportKey) -> bool {
        self.admission.as_ref().is_none_or(|admission| admission.admits(peer))
    }

    async fn listen(self: Arc<Self>) {
        let mut links = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.endpoint.inner().accept() => {
                    let Some(incoming) = incoming else { return };
                    let shared = Arc::clone(&self);
                    links.spawn(async move {
                        let connect = shared.endpoint.limits().connect;
                        if let Ok(Ok(connection)) = tokio::time::timeout(connect, incoming).await {
                            shared.take_in(connection).await;
                        }
                    });
                }
                Some(_) = links.join_next() => {}
            }
        }
    }

    async fn take_in(&self, connection: iroh::endpoint::Connection) {
        let peer = peer_key(&connection);
        if !self.admits(peer) {
            tracing::info!(%peer, "a node that does not belong was turned away");
            return close(&connection, CloseCode::Refused, "you are not a member of this network");
        }
        let place = Arc::clone(&self.strangers).try_acquire_owned().ok();
        let listed = self.listed.contains(&peer);
        if !listed && place.is_none() {
            return close(&connection, CloseCode::Refused, "no room for more peers");
        }
        let _place = place.filter(|_| !listed);
        self.serve(peer, connection).await;
    }

    async fn dial(self: Arc<Self>, peer: NodeAddress) {
        let mut backoff = Backoff::new(REDIAL.0, REDIAL.1);
        loop {
            match self.endpoint.connect(&peer).await {
                Ok(connection) if !self.admits(peer.key()) => close(&connection, CloseCode::Refused, ""),
                Ok(connection) => {
                    let began = Instant::now();
                    self.serve(peer.key(), connection).await;
                    // Whoever turns this node away at once is not asked at once again.
                    if began.elapsed() > REDIAL.1 {
                        backoff.reset();
                    }
                }
                Err(error) => tracing::debug!(%peer, %error, "a peer cannot be reached"),
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    /// Sends and receives over a connection until it ends.
    async fn serve(&self, peer: TransportKey, connection: iroh::endpoint::Connection) {
        let Some(link) = Link::start(&connection).await else { return };
        let id = link.id();
        let first = {
            let mut links = self.links.lock();
            let links = links.entry(peer).or_default();
            if links.len() >= LINKS_PER_PEER_MAX {
                links.remove(0).close(CloseCode::Replaced);
            }
            links.push(link);
            links.len() == 1
        };
        if first {
            self.tell(PeerEvent::Connected(peer)).await;
        }
        link::receive(&connection, peer, &self.outlets).await;
        close(&connection, CloseCode::Done, "");
        let last = {
            let mut links = self.links.lock();
            let left = links.get_mut(&peer).map_or(0, |links| {
                links.retain(|link| link.id() != id);
                links.len()
            });
            if left == 0 {
                links.remove(&peer);
            }
            left == 0
        };
        if last {
            self.tell(PeerEvent::Disconnected(peer)).await;
        }
    }

    async fn tell(&self, event: PeerEvent) {
        // Fails only when nobody listens any more, who then needs no news either.
        let _ = self.outlets.urgent.send(event).await;
    }
}
