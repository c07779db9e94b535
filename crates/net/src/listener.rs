//! The router's side: takes connections in, and opens tasks on them.

use crate::{
    close::{CloseCode, Closed},
    endpoint::{Endpoint, Limits, close, peer_key},
    frame::{FrameError, FrameReader, FrameWriter},
    handshake::{Admission, Control, Ends, HANDSHAKE_BYTES_MAX, HandshakeError, OperatorSigner, RouterSide},
    task::TaskChannel,
};
use cortensor_protocol::{
    Operator, TransportKey,
    manifest::ModelOffer,
    wire::{Hello, MAX_OFFERS, MinerControl, RouterControl, TaskOpen},
};
use iroh::endpoint::{Connection, Incoming, VarInt};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Control messages that wait at most, in each direction.
const CONTROLS_QUEUED: usize = 64;

/// How a router takes miners in.
#[derive(Clone)]
pub struct ListenConfig {
    /// Chain whose registry counts.
    pub chain_id: u64,
    /// Signs for the router.
    pub signer: Arc<dyn OperatorSigner>,
    /// Who may come in.
    pub admission: Arc<dyn Admission>,
    /// How often a miner reports its load. One that misses ten reports is cut off.
    pub heartbeat: Duration,
    /// Most miners at once.
    pub miners_max: usize,
    /// Most handshakes at once; further connections are turned away until one ends.
    pub handshakes_max: usize,
}

impl ListenConfig {
    /// With the recommended numbers.
    #[must_use]
    pub fn new(chain_id: u64, signer: Arc<dyn OperatorSigner>, admission: Arc<dyn Admission>) -> Self {
        let heartbeat = Duration::from_secs(1);
        Self { chain_id, signer, admission, heartbeat, miners_max: 4_096, handshakes_max: 256 }
    }
}

/// A miner that was taken in.
#[derive(Debug)]
pub struct AcceptedMiner {
    /// Opens tasks and sends control messages; clones share the connection.
    pub connection: MinerConnection,
    /// The miner's heartbeats and news, in order. Ends with the connection. A reader that stalls stalls the miner.
    pub controls: mpsc::Receiver<MinerControl>,
}

/// Takes miners in until it is dropped. Connections that were handed over live on.
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<AcceptedMiner>,
    _stop: DropGuard,
}

impl Listener {
    /// Begins to take miners in. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(endpoint: &Endpoint, config: ListenConfig) -> Self {
        let (deliver, accepted) = mpsc::channel(config.handshakes_max.max(1));
        let stop = CancellationToken::new();
        let doorman = Doorman {
            endpoint: endpoint.clone(),
            miners: Arc::new(Semaphore::new(config.miners_max)),
            handshakes: Arc::new(Semaphore::new(config.handshakes_max)),
            config: Arc::new(config),
            deliver,
        };
        tokio::spawn(doorman.run(stop.clone()));
        Self { accepted, _stop: stop.drop_guard() }
    }

    /// The next miner, or `None` when the endpoint is closed. May be cancelled.
    pub async fn accept(&mut self) -> Option<AcceptedMiner> {
        self.accepted.recv().await
    }
}

#[derive(Clone)]
struct Doorman {
    endpoint: Endpoint,
    config: Arc<ListenConfig>,
    miners: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    deliver: mpsc::Sender<AcceptedMiner>,
}

impl Doorman {
    async fn run(self, stop: CancellationToken) {
        // Dropping the set ends the handshakes that are under way.
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                incoming = self.endpoint.inner().accept() => {
                    let Some(incoming) = incoming else { return };
                    match self.handshakes.clone().try_acquire_owned() {
                        Ok(permit) => {
                            under_way.spawn(self.clone().receive(incoming, permit));
                        }
                        Err(_) => incoming.refuse(),
                    }
                }
                Some(_) = under_way.join_next() => {}
            }
        }
    }

    async fn receive(self, incoming: Incoming, _permit: OwnedSemaphorePermit) {
        let limits = self.endpoint.limits().clone();
        let connection = match tokio::time::timeout(limits.connect, incoming).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!("an incoming connection failed: {error:#}"),
            Err(_) => return tracing::debug!("an incoming connection took too long"),
        };
        // Miners open no streams: the router opens them all.
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(0));
        let peer = peer_key(&connection);
        match self.handshake(&connection, &limits).await {
            Ok(miner) => {
                tracing::info!(miner = %miner.connection.operator(), %peer, "miner connected");
                // Fails only when the router is going away, which closes the connection with the miner dropped.
                let _ = self.deliver.send(miner).await;
            }
            Err(HandshakeError::Refused { code, message }) => {
                tracing::info!(%peer, ?code, "miner refused: {message}");
                // The refusal must arrive before the close that would overtake it.
                let _ = tokio::time::timeout(limits.handshake_step, connection.closed()).await;
                close(&connection, CloseCode::Refused, &message);
            }
            Err(error) => {
                tracing::debug!(%peer, "handshake failed: {error}");
                let code = match error {
                    HandshakeError::Timeout { .. } => CloseCode::Timeout,
                    _ => CloseCode::Malformed,
                };
                close(&connection, code, &error.to_string());
            }
        }
    }

    async fn handshake(&self, connection: &Connection, limits: &Limits) -> Result<AcceptedMiner, HandshakeError> {
        let (send, receive) = connection.open_bi().await.map_err(|error| HandshakeError::Frame {
            step: "challenge",
            source: FrameError::Connection(error.into()),
        })?;
        let writer = FrameWriter::new(send);
        writer.prioritise();
        let mut control = Control { writer, reader: FrameReader::new(receive, HANDSHAKE_BYTES_MAX) };
        let ends = Ends { dialer: peer_key(connection), acceptor: self.endpoint.key() };
        let side = RouterSide {
            chain_id: self.config.chain_id,
            signer: &self.config.signer,
            admission: &self.config.admission,
            heartbeat: self.config.heartbeat,
        };
        let place = self.miners.clone().try_acquire_owned().ok();
        let hello = side.run(&mut control, ends, limits, place.is_none()).await?;
        Ok(MinerConnection::start(connection.clone(), control, hello, limits, self.config.heartbeat, place))
    }
}

/// A connection to a miner that was taken in. Clones share it.
#[derive(Clone, Debug)]
pub struct MinerConnection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: Connection,
    operator: Operator,
    peer: TransportKey,
    agent: String,
    offers: Mutex<Arc<[ModelOffer]>>,
    controls: mpsc::Sender<RouterControl>,
    open_timeout: Duration,
}

impl Drop for Shared {
    fn drop(&mut self) {
        close(&self.connection, CloseCode::Done, "");
    }
}

/// Why a task could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The miner takes no further stream or does not read.
    #[error("the miner took no new task within {0:?}")]
    Timeout(Duration),
    /// The connection is gone, or the task is too large to send.
    #[error("the task could not be sent")]
    Frame(#[from] FrameError),
}

impl MinerConnection {
    /// Whether both are clones of one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn start(
        connection: Connection,
        control: Control,
        hello: Hello,
        limits: &Limits,
        heartbeat: Duration,
        place: Option<OwnedSemaphorePermit>,
    ) -> AcceptedMiner {
        /// Heartbeats that may stay away.
        const MISSED_MAX: u32 = 10;
        let (controls, outgoing) = mpsc::channel(CONTROLS_QUEUED);
        let (incoming, received) = mpsc::channel(CONTROLS_QUEUED);
        let shared = Arc::new(Shared {
            connection: connection.clone(),
            operator: hello.miner,
            peer: peer_key(&connection),
            agent: hello.agent,
            offers: Mutex::new(hello.offers.into()),
            controls,
            open_timeout: limits.open_task,
        });
        let attendant = Attendant {
            connection,
            shared: Arc::downgrade(&shared),
            incoming,
            outgoing,
            silence: heartbeat.max(limits.dead_after) * MISSED_MAX,
        };
        tokio::spawn(async move {
            attendant.run(control).await;
            drop(place);
        });
        AcceptedMiner { connection: Self(shared), controls: received }
    }

    /// The miner's account, which signed this connection.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.0.operator
    }

    /// The miner's transport key, proved by the transport.
    #[must_use]
    pub fn peer(&self) -> TransportKey {
        self.0.peer
    }

    /// Name and version of its software.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.0.agent
    }

    /// What it offers now; follows [`MinerControl::Offers`].
    #[must_use]
    pub fn offers(&self) -> Arc<[ModelOffer]> {
        self.0.offers.lock().clone()
    }

    /// Opens a task's stream and sends the task.
    ///
    /// # Errors
    /// When the miner takes no new stream in time, or the connection is gone.
    pub async fn open_task(&self, open: &TaskOpen) -> Result<TaskChannel, OpenError> {
        let opened = tokio::time::timeout(self.0.open_timeout, async {
            let (send, receive) =
                self.0.connection.open_bi().await.map_err(|error| FrameError::Connection(error.into()))?;
            let mut writer = FrameWriter::new(send);
            writer.send(open).await?;
            Ok(TaskChannel::new(writer, receive))
        });
        opened.await.unwrap_or(Err(OpenError::Timeout(self.0.open_timeout)))
    }

    /// Sends a control message; waits while too many are in line.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&self, control: RouterControl) -> Result<(), Closed> {
        self.0.controls.send(control).await.map_err(|_| self.close_reason())
    }

    /// Ends the connection and with it all its tasks.
    pub fn close(&self, code: CloseCode, reason: &str) {
        close(&self.0.connection, code, reason);
    }

    /// Resolves when the connection ends, with the way in which it did.
    pub async fn closed(&self) -> Closed {
        self.0.connection.closed().await.into()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Round-trip time of the path in use, where one is measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.connection.paths().iter().find(iroh::endpoint::Path::is_selected).map(|path| path.rtt())
    }

    fn close_reason(&self) -> Closed {
        self.0.connection.close_reason().map_or(Closed::Locally, Closed::from)
    }
}

/// Looks after one connection's control stream.
struct Attendant {
    connection: Connection,
    shared: std::sync::Weak<Shared>,
    incoming: mpsc::Sender<MinerControl>,
    outgoing: mpsc::Receiver<RouterControl>,
    silence: Duration,
}

impl Attendant {
    async fn run(self, control: Control) {
        let Self { connection, shared, incoming, mut outgoing, silence } = self;
        let Control { mut writer, mut reader } = control;
        let write = async {
            while let Some(message) = outgoing.recv().await {
                writer.send(&message).await?;
            }
            // Every handle was dropped, which closes the connection.
            std::future::pending::<Result<(), FrameError>>().await
        };
        let read = async {
            loop {
                let next = tokio::time::timeout(silence, reader.next::<MinerControl>());
                match next.await.map_err(|_| CloseCode::Silent)? {
                    Ok(Some(message)) => receive(message, &shared, &incoming).await?,
                    Ok(None) => return Err::<(), _>(CloseCode::Done),
                    Err(FrameError::Connection(_)) => return Err(CloseCode::Done),
                    Err(_) => return Err(CloseCode::Malformed),
                }
            }
        };
        let code = tokio::select! {
            result = read => result.err().unwrap_or(CloseCode::Done),
            _ = write => CloseCode::Done,
            _ = connection.closed() => CloseCode::Done,
        };
        close(&connection, code, "");
    }
}

async fn receive(
    message: MinerControl,
    shared: &std::sync::Weak<Shared>,
    incoming: &mpsc::Sender<MinerControl>,
) -> Result<(), CloseCode> {
    if let MinerControl::Offers(offers) = &message {
        if offers.len() > MAX_OFFERS {
            return Err(CloseCode::Malformed);
        }
        if let Some(shared) = shared.upgrade() {
            *shared.offers.lock() = offers.clone().into();
        }
    }
    // A router that listens no more keeps the connection for its tasks; the messages are dropped.
    let _ = incoming.send(message).await;
    Ok(())
}
