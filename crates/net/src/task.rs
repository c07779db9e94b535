//! One task, one stream: the router's end ([`TaskChannel`]) and the miner's ([`IncomingTask`]).
//!
//! A reader that does not keep up stops its writer through QUIC's flow control; nothing is buffered without bound.
//! Dropping an end tells the other: the router's replies stop being read, the miner's controls end.

use crate::{
    close::CloseCode,
    frame::{FrameError, FrameReader, FrameWriter},
};
use cortensor_protocol::{
    Operator, TokenEvent, TransportKey,
    wire::{MAX_FRAME_BYTES, TaskControl, TaskOpen, TaskReply},
};
use iroh::endpoint::{RecvStream, SendStream};
use tokio::sync::OwnedSemaphorePermit;

/// Most bytes of a [`TaskControl`].
pub(crate) const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// Most tokens that are put into one frame.
const TOKENS_PER_FRAME_MAX: usize = 1_024;

/// The router's end of a task.
#[derive(Debug)]
pub struct TaskChannel {
    sender: TaskSender,
    receiver: TaskReceiver,
}

impl TaskChannel {
    pub(crate) fn new(send: FrameWriter, receive: RecvStream) -> Self {
        Self { sender: TaskSender(send), receiver: TaskReceiver(FrameReader::new(receive, MAX_FRAME_BYTES)) }
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// When the stream or the connection is gone.
    pub async fn send(&mut self, control: &TaskControl) -> Result<(), FrameError> {
        self.sender.send(control).await
    }

    /// The miner's next reply, or `None` when it finished the stream. May be cancelled.
    ///
    /// # Errors
    /// When the miner broke the protocol, ended the stream or is gone.
    pub async fn recv(&mut self) -> Result<Option<TaskReply>, FrameError> {
        self.receiver.recv().await
    }

    /// A reply that has already arrived.
    ///
    /// # Errors
    /// When the miner broke the protocol.
    pub fn try_recv(&mut self) -> Result<Option<TaskReply>, FrameError> {
        self.receiver.try_recv()
    }

    /// Both directions apart, for two tasks. The stream lives until both are dropped.
    #[must_use]
    pub fn split(self) -> (TaskSender, TaskReceiver) {
        (self.sender, self.receiver)
    }
}

/// The router's sending half.
#[derive(Debug)]
pub struct TaskSender(FrameWriter);

impl TaskSender {
    /// Sends a control message. May be cancelled; the message is then sent with the next one.
    ///
    /// # Errors
    /// When the stream or the connection is gone.
    pub async fn send(&mut self, control: &TaskControl) -> Result<(), FrameError> {
        self.0.send(control).await
    }
}

/// The router's receiving half.
#[derive(Debug)]
pub struct TaskReceiver(FrameReader);

impl TaskReceiver {
    /// The miner's next reply, or `None` when it finished the stream. May be cancelled.
    ///
    /// # Errors
    /// When the miner broke the protocol, ended the stream or is gone.
    pub async fn recv(&mut self) -> Result<Option<TaskReply>, FrameError> {
        self.0.next().await
    }

    /// A reply that has already arrived.
    ///
    /// # Errors
    /// When the miner broke the protocol.
    pub fn try_recv(&mut self) -> Result<Option<TaskReply>, FrameError> {
        self.0.try_next()
    }
}

/// A task as it arrives at a miner.
#[derive(Debug)]
pub struct IncomingTask {
    /// The router's account.
    pub router: Operator,
    /// The router's transport key.
    pub router_key: TransportKey,
    /// What is asked.
    pub open: TaskOpen,
    /// Takes the replies. The task counts against the connection's bound until this is dropped.
    pub replies: TaskReplies,
    /// Gives the router's control messages.
    pub controls: TaskControls,
}

/// The miner's sending half.
#[derive(Debug)]
pub struct TaskReplies {
    writer: FrameWriter,
    tokens: Vec<TokenEvent>,
    _permit: OwnedSemaphorePermit,
}

impl TaskReplies {
    pub(crate) fn new(send: SendStream, permit: OwnedSemaphorePermit) -> Self {
        Self { writer: FrameWriter::new(send), tokens: Vec::new(), _permit: permit }
    }

    /// Puts a reply in line without sending it. Tokens that follow each other share a frame. The caller flushes before
    /// it queues without end.
    ///
    /// # Errors
    /// When the reply is too large.
    pub fn queue(&mut self, reply: TaskReply) -> Result<(), FrameError> {
        match reply {
            TaskReply::Tokens(mut tokens) => {
                self.tokens.append(&mut tokens);
                if self.tokens.len() >= TOKENS_PER_FRAME_MAX { self.seal() } else { Ok(()) }
            }
            other => {
                self.seal()?;
                self.writer.queue(&other)
            }
        }
    }

    /// Sends what is in line, as fast as the router takes it. May be cancelled and called again; nothing is lost.
    ///
    /// # Errors
    /// When the router stopped reading or is gone.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.seal()?;
        self.writer.flush().await
    }

    /// Queues and flushes.
    ///
    /// # Errors
    /// As these.
    pub async fn send(&mut self, reply: TaskReply) -> Result<(), FrameError> {
        self.queue(reply)?;
        self.flush().await
    }

    /// Sends what is in line and ends the stream.
    ///
    /// # Errors
    /// When the router stopped reading or is gone.
    pub async fn finish(mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.writer.finish();
        Ok(())
    }

    /// Resolves when the router stopped reading or is gone: nobody waits for this task any more.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.writer.stopped()
    }

    /// Ends the stream at once with a code; what is in line is dropped.
    pub fn abort(mut self, code: CloseCode) {
        self.writer.reset(code);
    }

    fn seal(&mut self) -> Result<(), FrameError> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        self.writer.queue(&TaskReply::Tokens(std::mem::take(&mut self.tokens)))
    }
}

/// The miner's receiving half.
#[derive(Debug)]
pub struct TaskControls(pub(crate) FrameReader);

impl TaskControls {
    /// The router's next control message, or `None` when it finished the stream (its end was dropped). May be cancelled.
    ///
    /// # Errors
    /// When the router broke the protocol, ended the stream or is gone.
    pub async fn recv(&mut self) -> Result<Option<TaskControl>, FrameError> {
        self.0.next().await
    }
}
