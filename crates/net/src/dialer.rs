//! The miner's side: one supervisor per router, which connects, stays connected, reports the load and hands work in.

use crate::{
    address::NodeAddress,
    backoff::{Backoff, jitter},
    close::{CloseCode, Closed},
    endpoint::{Endpoint, close, peer_key},
    frame::{FrameError, FrameReader},
    handshake::{
        Accepted, Control, Ends, HANDSHAKE_BYTES_MAX, HandshakeError, HelloBody, MinerSide, OperatorSigner, RouterCheck,
    },
    task::{CONTROL_BYTES_MAX, IncomingTask, TaskControls, TaskReplies},
};
use cortensor_protocol::{
    Operator, SignedVoucher,
    manifest::{Load, ModelOffer, Speed},
    wire::{FailureCode, MAX_FRAME_BYTES, MinerControl, RefusalCode, RouterControl, TaskFailure, TaskOpen, TaskReply},
};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How a miner works for one router.
#[derive(Clone)]
pub struct DialConfig {
    /// The router.
    pub router: NodeAddress,
    /// Chain whose registry counts.
    pub chain_id: u64,
    /// Signs for the miner.
    pub signer: Arc<dyn OperatorSigner>,
    /// Which routers it works for.
    pub check: Arc<dyn RouterCheck>,
    /// Name and version of this software.
    pub agent: String,
    /// First wait after a lost connection; doubles up to `retry_most`.
    pub retry_first: Duration,
    /// Longest wait between two attempts.
    pub retry_most: Duration,
    /// Wait after a refusal, whose cause a person must remove (stake may be added, say).
    pub retry_refused: Duration,
}

impl DialConfig {
    /// With the recommended times.
    #[must_use]
    pub fn new(
        router: NodeAddress,
        chain_id: u64,
        signer: Arc<dyn OperatorSigner>,
        check: Arc<dyn RouterCheck>,
        agent: impl Into<String>,
    ) -> Self {
        Self {
            router,
            chain_id,
            signer,
            check,
            agent: agent.into(),
            retry_first: Duration::from_millis(250),
            retry_most: Duration::from_secs(30),
            retry_refused: Duration::from_secs(30),
        }
    }
}

/// What several dialers of one miner share: what it offers and how loaded it is go in, work and news come out.
#[derive(Clone, Debug)]
pub struct DialEnds {
    /// What is offered; a change is told to the router.
    pub offers: watch::Receiver<Vec<ModelOffer>>,
    /// Load and speed per offer, in the offers' order; reported at each heartbeat and, when changed, in between.
    pub loads: watch::Receiver<Vec<(Load, Speed)>>,
    /// Takes the work. When it is full, the router is told *busy*.
    pub tasks: mpsc::Sender<IncomingTask>,
    /// Takes the news. A receiver that stalls stalls the router's control stream, never the work.
    pub events: mpsc::Sender<RouterEvent>,
}

/// News from one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterEvent {
    /// Which router.
    pub router: NodeAddress,
    /// What happened.
    pub news: RouterNews,
}

/// What happened between a miner and a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterNews {
    /// The router took this miner in.
    Connected {
        /// The router's account.
        operator: Operator,
        /// Newest voucher per session that the miner may have missed.
        vouchers: Vec<SignedVoucher>,
    },
    /// A voucher whose task stream is gone.
    Voucher(Box<SignedVoucher>),
    /// The router is going away.
    Draining,
    /// The connection ended; the next attempt follows by itself.
    Disconnected(Closed),
    /// One side refused the other; tried again later.
    Refused {
        /// Stable code.
        code: RefusalCode,
        /// What to do about it.
        message: String,
    },
}

/// What a dialer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialState {
    /// Connecting or shaking hands.
    Connecting,
    /// Connected to this router.
    Connected(Operator),
    /// Waiting for the next attempt.
    Waiting {
        /// What went wrong, for a person.
        problem: String,
        /// How long from the moment at which the state was set.
        retry_in: Duration,
    },
    /// Stopped.
    Stopped,
}

/// A running supervisor. Dropping it ends the connection and the supervisor.
#[derive(Debug)]
pub struct Dialer {
    router: NodeAddress,
    state: watch::Receiver<DialState>,
    drain: CancellationToken,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Dialer {
    /// The router that it dials.
    #[must_use]
    pub fn router(&self) -> &NodeAddress {
        &self.router
    }

    /// What it is doing, to look at or to wait on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<DialState> {
        self.state.clone()
    }

    /// Tells the router to send no new work. Work under way goes on; new tasks that cross the message are refused with
    /// *draining*. A connection lost from now on is not taken up again.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the connection, telling the router, and waits until that is done.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // A supervisor that panicked has said so already and holds nothing any more.
            let _ = task.await;
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts a supervisor for one router. Must be called within a tokio runtime.
#[must_use]
pub fn dial(endpoint: &Endpoint, config: DialConfig, ends: DialEnds) -> Dialer {
    let (state, watch_state) = watch::channel(DialState::Connecting);
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let router = config.router.clone();
    let supervisor = Supervisor {
        endpoint: endpoint.clone(),
        slots: Arc::new(Semaphore::new(endpoint.limits().tasks_per_connection as usize)),
        config,
        ends,
        state,
        drain: drain.clone(),
        stop: stop.clone(),
    };
    let task = tokio::spawn(supervisor.run());
    Dialer { router, state: watch_state, drain, stop, task: Some(task) }
}

/// How one connection, or the attempt at one, came to its end.
enum End {
    Refused { code: RefusalCode, message: String },
    Failed(String),
    Lost(Closed),
}

struct Supervisor {
    endpoint: Endpoint,
    config: DialConfig,
    ends: DialEnds,
    slots: Arc<Semaphore>,
    state: watch::Sender<DialState>,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        /// A connection that lived so long was a success.
        const STABLE: Duration = Duration::from_secs(10);
        let mut backoff = Backoff::new(self.config.retry_first, self.config.retry_most);
        loop {
            self.state.send_replace(DialState::Connecting);
            let begin = Instant::now();
            let stop = self.stop.clone();
            let end = self.connect_and_serve().await;
            if self.drain.is_cancelled() || stop.is_cancelled() {
                break;
            }
            if begin.elapsed() > STABLE {
                backoff.reset();
            }
            let (problem, retry_in) = self.tell(end, &mut backoff).await;
            tracing::warn!(router = %self.config.router, ?retry_in, "not connected: {problem}");
            self.state.send_replace(DialState::Waiting { problem, retry_in });
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.drain.cancelled() => break,
                () = tokio::time::sleep(retry_in) => {}
            }
        }
        self.state.send_replace(DialState::Stopped);
    }

    /// Reports an end, and says for a person what it was and when the next attempt comes.
    async fn tell(&self, end: End, backoff: &mut Backoff) -> (String, Duration) {
        match end {
            End::Refused { code, message } => {
                let problem = format!("refused ({code:?}): {message}");
                self.news(RouterNews::Refused { code, message }).await;
                (problem, jitter(self.config.retry_refused, rand::random()))
            }
            End::Lost(closed) => {
                let problem = closed.to_string();
                self.news(RouterNews::Disconnected(closed)).await;
                (problem, backoff.next(rand::random()))
            }
            End::Failed(problem) => (problem, backoff.next(rand::random())),
        }
    }

    async fn news(&self, news: RouterNews) {
        let event = RouterEvent { router: self.config.router.clone(), news };
        let stop = self.stop.clone();
        // A miner that listens no more is stopping.
        let _ = stop.run_until_cancelled(self.ends.events.send(event)).await;
    }

    /// One connection from its beginning to its end.
    async fn connect_and_serve(&self) -> End {
        let stopped = || End::Lost(Closed::Locally);
        let connection = match self.stop.run_until_cancelled(self.endpoint.connect(&self.config.router)).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => return End::Failed(describe(&error)),
            None => return stopped(),
        };
        // Whatever ends this function ends the connection, also when the supervisor is aborted with its runtime.
        let _guard = CloseGuard(connection.clone());
        let (accepted, control) = match self.stop.run_until_cancelled(self.handshake(&connection)).await {
            Some(Ok(done)) => done,
            Some(Err(HandshakeError::Refused { code, message })) => return End::Refused { code, message },
            Some(Err(error)) => return End::Failed(describe(&error)),
            None => return stopped(),
        };
        tracing::info!(router = %self.config.router, operator = %accepted.router, "connected to router");
        self.state.send_replace(DialState::Connected(accepted.router));
        let vouchers = accepted.vouchers.clone();
        self.news(RouterNews::Connected { operator: accepted.router, vouchers }).await;
        End::Lost(self.serve(&connection, control, &accepted).await)
    }

    async fn handshake(&self, connection: &Connection) -> Result<(Accepted, Control), HandshakeError> {
        let limits = self.endpoint.limits();
        let step = "challenge";
        let opened = tokio::time::timeout(limits.handshake_step, connection.accept_bi()).await;
        let (send, receive) = opened
            .map_err(|_| HandshakeError::Timeout { step, after: limits.handshake_step })?
            .map_err(|error| HandshakeError::Frame { step, source: FrameError::Connection(error.into()) })?;
        let writer = crate::frame::FrameWriter::new(send);
        writer.prioritise();
        let mut control = Control { writer, reader: FrameReader::new(receive, HANDSHAKE_BYTES_MAX) };
        let ends = Ends { dialer: self.endpoint.key(), acceptor: peer_key(connection) };
        let offers = self.ends.offers.borrow().clone();
        let side = MinerSide {
            chain_id: self.config.chain_id,
            signer: &self.config.signer,
            check: &self.config.check,
            hello: HelloBody { offers, agent: self.config.agent.clone() },
        };
        let accepted = side.run(&mut control, ends, limits).await?;
        Ok((accepted, control))
    }

    /// Works until the connection ends.
    async fn serve(&self, connection: &Connection, control: Control, accepted: &Accepted) -> Closed {
        let Control { writer, reader } = control;
        let mut report = pin!(self.report(writer, accepted.heartbeat));
        let mut listen = pin!(self.listen(reader));
        let code = tokio::select! {
            code = &mut report => code,
            code = &mut listen => code,
            () = self.take_work(connection, accepted.router) => CloseCode::Done,
            () = self.stop.cancelled() => CloseCode::Leaving,
        };
        // Before the control stream is dropped, whose end would reach the router without the reason.
        close(connection, code, "");
        connection.closed().await.into()
    }

    /// Heartbeats, changed offers, and the wish to drain. Returns when the stream is gone.
    async fn report(&self, mut writer: crate::frame::FrameWriter, heartbeat: Duration) -> CloseCode {
        let mut loads = self.ends.loads.clone();
        let mut offers = self.ends.offers.clone();
        let mut told = false;
        let mut least = tokio::time::interval(heartbeat);
        least.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        loop {
            let quiet = last.map_or(Duration::ZERO, |last| (heartbeat / 4).saturating_sub(last.elapsed()));
            let message = tokio::select! {
                () = self.drain.cancelled(), if !told => {
                    told = true;
                    MinerControl::Draining
                }
                Ok(()) = offers.changed() => MinerControl::Offers(offers.borrow_and_update().clone()),
                Ok(()) = changed_after(&mut loads, quiet) => MinerControl::Heartbeat(loads.borrow_and_update().clone()),
                _ = least.tick() => MinerControl::Heartbeat(loads.borrow_and_update().clone()),
            };
            if matches!(message, MinerControl::Heartbeat(_)) {
                last = Some(Instant::now());
            }
            if writer.send(&message).await.is_err() {
                return CloseCode::Done;
            }
        }
    }

    /// The router's control messages. Returns when the stream is gone.
    async fn listen(&self, mut reader: FrameReader) -> CloseCode {
        loop {
            match reader.next().await {
                Ok(Some(RouterControl::Voucher(voucher))) => self.news(RouterNews::Voucher(voucher)).await,
                Ok(Some(RouterControl::Draining)) => self.news(RouterNews::Draining).await,
                Ok(None) | Err(FrameError::Connection(_)) => return CloseCode::Done,
                Err(_) => return CloseCode::Malformed,
            }
        }
    }

    /// Takes task streams until the connection is gone. Streams beyond the bound are told *busy*.
    async fn take_work(&self, connection: &Connection, router: Operator) {
        let router_key = peer_key(connection);
        let mut arriving = JoinSet::new();
        loop {
            let (send, receive) = tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => stream,
                    Err(_) => return,
                },
                Some(_) = arriving.join_next() => continue,
            };
            let Ok(permit) = self.slots.clone().try_acquire_owned() else {
                refuse(send, receive, FailureCode::Busy, "this connection carries as many tasks as it may");
                continue;
            };
            let arrival = Arrival {
                tasks: self.ends.tasks.clone(),
                drain: self.drain.clone(),
                wait: self.endpoint.limits().open_task,
                router,
                router_key,
            };
            arriving.spawn(arrival.take(send, receive, permit));
        }
    }
}

/// Resolves when the loads changed, but not before `quiet` has passed.
async fn changed_after(
    loads: &mut watch::Receiver<Vec<(Load, Speed)>>,
    quiet: Duration,
) -> Result<(), watch::error::RecvError> {
    tokio::time::sleep(quiet).await;
    loads.changed().await
}

/// A task stream until it is handed to the miner.
struct Arrival {
    tasks: mpsc::Sender<IncomingTask>,
    drain: CancellationToken,
    wait: Duration,
    router: Operator,
    router_key: cortensor_protocol::TransportKey,
}

impl Arrival {
    async fn take(self, send: SendStream, receive: RecvStream, permit: OwnedSemaphorePermit) {
        let replies = TaskReplies::new(send, permit);
        // The first message may be large; what follows on the same stream is small, but shares its buffer.
        let mut reader = FrameReader::new(receive, MAX_FRAME_BYTES);
        let open: TaskOpen = match tokio::time::timeout(self.wait, reader.next()).await {
            Ok(Ok(Some(open))) => open,
            Ok(Ok(None)) => return,
            Ok(Err(FrameError::Malformed(_))) => return replies.abort(CloseCode::Malformed),
            Ok(Err(_)) => return,
            Err(_) => return replies.abort(CloseCode::Timeout),
        };
        reader.set_limit(CONTROL_BYTES_MAX);
        if self.drain.is_cancelled() {
            return fail(replies, FailureCode::Draining, "this miner takes no new work").await;
        }
        let task = IncomingTask {
            router: self.router,
            router_key: self.router_key,
            open,
            replies,
            controls: TaskControls(reader),
        };
        match self.tasks.try_send(task) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(task)) => {
                fail(task.replies, FailureCode::Busy, "this miner's queue is full").await;
            }
            Err(mpsc::error::TrySendError::Closed(task)) => {
                fail(task.replies, FailureCode::Draining, "this miner is stopping").await;
            }
        }
    }
}

async fn fail(mut replies: TaskReplies, code: FailureCode, message: &str) {
    let failed = TaskReply::Failed(TaskFailure { code, message: message.into() });
    // A router that is gone needs no answer.
    if replies.send(failed).await.is_ok() {
        let _ = replies.finish().await;
    }
}

/// Answers a stream for which there is no place, without waiting: the answer fits the peer's window.
fn refuse(send: SendStream, receive: RecvStream, code: FailureCode, message: &str) {
    let failed = TaskReply::Failed(TaskFailure { code, message: message.into() });
    tokio::spawn(async move {
        let mut writer = crate::frame::FrameWriter::new(send);
        // A router that is gone needs no answer.
        let _ = tokio::time::timeout(Duration::from_secs(1), writer.send(&failed)).await;
        writer.finish();
        drop(receive);
    });
}

/// Closes a connection when dropped, so that an aborted supervisor leaves none behind.
struct CloseGuard(Connection);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        close(&self.0, CloseCode::Done, "");
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
