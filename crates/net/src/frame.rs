//! Frames over QUIC streams: length, then one message ([`cortensor_protocol::wire`]).
//!
//! Memory follows what has arrived, never what a peer announces. Reading and writing can be broken off at any await
//! point and taken up again without losing or repeating a byte.

use crate::close::{CloseCode, Closed};
use bytes::{Buf, Bytes, BytesMut};
use cortensor_protocol::wire::{self, DecodeError};
use iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes taken from the transport at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES: usize = 64 * 1024;

/// Bytes of a frame's length.
const HEADER_BYTES: usize = 4;

/// Why a stream gives or takes no more messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer sent something that is not a message; the stream was ended with [`CloseCode::Malformed`].
    #[error("the peer broke the protocol")]
    Malformed(#[source] DecodeError),
    /// The stream ended in the middle of a message.
    #[error("the stream ended in the middle of a message")]
    Truncated,
    /// The peer ended the stream.
    #[error("the peer ended the stream ({0:?})")]
    Ended(CloseCode),
    /// The connection is gone.
    #[error("the connection is gone: {0}")]
    Connection(Closed),
    /// The message to be sent is above the bound.
    #[error("the message is too large to send")]
    TooLarge(#[source] DecodeError),
    /// The stream was already finished by this side.
    #[error("the stream was finished before")]
    Finished,
}

/// Collects bytes and gives messages. Free of I/O.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
}

impl FrameBuffer {
    /// For messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit: limit.min(wire::MAX_FRAME_BYTES) }
    }

    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing is left over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the announced length is above the bound or the bytes are not a message; the stream is of no use after that.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DecodeError> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(DecodeError::TooLarge(length));
        }
        let Some(body) = self.bytes.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
        let message = wire::decode(body)?;
        self.bytes.advance(HEADER_BYTES + length);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: FrameBuffer,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, limit: usize) -> Self {
        Self { stream, buffer: FrameBuffer::new(limit) }
    }

    /// Bounds the messages from here on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.buffer.limit = limit.min(wire::MAX_FRAME_BYTES);
    }

    /// The next message, or `None` when the peer finished the stream. May be cancelled.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.try_next()? {
                return Ok(Some(message));
            }
            match self.stream.read_chunk(CHUNK_BYTES).await {
                Ok(Some(chunk)) => self.buffer.push(&chunk),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Truncated),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A message that has already arrived.
    pub(crate) fn try_next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        self.buffer.take().map_err(|error| {
            // Fails only when the stream has ended already, which is what is wanted.
            let _ = self.stream.stop(CloseCode::Malformed.varint());
            FrameError::Malformed(error)
        })
    }
}

/// Writes messages to a stream.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    stream: SendStream,
    pending: Vec<Bytes>,
}

impl FrameWriter {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Puts a message behind those that wait to be written; [`Self::flush`] writes them.
    pub(crate) fn queue<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.pending.push(wire::encode(message).map_err(FrameError::TooLarge)?.into());
        Ok(())
    }

    /// Writes what is queued, as fast as the peer takes it. May be cancelled and called again.
    pub(crate) async fn flush(&mut self) -> Result<(), FrameError> {
        while !self.pending.is_empty() {
            let mut rest = self.pending.as_mut_slice();
            self.stream.write_many_chunks(&mut rest).await?;
            let left = rest.len();
            self.pending.drain(..self.pending.len() - left);
        }
        Ok(())
    }

    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        self.queue(message)?;
        self.flush().await
    }

    /// Nothing more will come. Unwritten messages are dropped.
    pub(crate) fn finish(&mut self) {
        // Fails only when the stream has ended already, which is what is wanted.
        let _ = self.stream.finish();
    }

    pub(crate) fn reset(&mut self, code: CloseCode) {
        // As above.
        let _ = self.stream.reset(code.varint());
    }

    /// Written before other streams of the connection.
    pub(crate) fn prioritise(&self) {
        // As above.
        let _ = self.stream.set_priority(1);
    }

    /// Resolves when the peer stopped reading, or has read everything after a finish.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            // Either way the peer reads no more.
            let _ = stopped.await;
        }
    }
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Ended(code.into()),
            ReadError::ConnectionLost(error) => Self::Connection(error.into()),
            ReadError::ClosedStream => Self::Finished,
            ReadError::ZeroRttRejected => Self::Connection(Closed::Broken("0-RTT was rejected".into())),
        }
    }
}

impl From<WriteError> for FrameError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::Ended(code.into()),
            WriteError::ConnectionLost(error) => Self::Connection(error.into()),
            WriteError::ClosedStream => Self::Finished,
            WriteError::ZeroRttRejected => Self::Connection(Closed::Broken("0-RTT was rejected".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::wire::{FailureCode, MAX_FRAME_BYTES, TaskFailure, TaskReply};
    use proptest::prelude::*;

    fn failed(message: &str) -> TaskReply {
        TaskReply::Failed(TaskFailure { code: FailureCode::Busy, message: message.into() })
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_before_its_bytes_arrive() {
        let mut buffer = FrameBuffer::new(100);
        buffer.push(&101u32.to_be_bytes());
        assert_eq!(buffer.take::<TaskReply>(), Err(DecodeError::TooLarge(101)));
        let mut buffer = FrameBuffer::new(usize::MAX);
        buffer.push(&u32::MAX.to_be_bytes());
        assert!(matches!(buffer.take::<TaskReply>(), Err(DecodeError::TooLarge(length)) if length > MAX_FRAME_BYTES));
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut buffer = FrameBuffer::new(MAX_FRAME_BYTES);
        buffer.push(&wire::encode(&failed(&"x".repeat(1 << 20))).unwrap());
        assert!(buffer.take::<TaskReply>().unwrap().is_some());
        assert!(buffer.bytes.capacity() <= KEPT_BYTES);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_the_bytes_are_cut(
            texts in prop::collection::vec(".{0,40}", 0..8), cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let sent: Vec<_> = texts.iter().map(|text| failed(text)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|message| wire::encode(message).unwrap()).collect();
            let (mut buffer, mut got, mut rest) = (FrameBuffer::new(1_000), vec![], bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                buffer.push(now);
                while let Some(message) = buffer.take::<TaskReply>().unwrap() {
                    got.push(message);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = FrameBuffer::new(500);
            buffer.push(&bytes);
            while let Ok(Some(_)) = buffer.take::<TaskReply>() {}
        }
    }
}
