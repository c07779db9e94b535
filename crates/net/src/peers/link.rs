//! One connection between peers: a stream for each lane and direction, messages with their length in front.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::{Buf as _, Bytes, BytesMut};
use cortensor_protocol::TransportKey;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::{Lane, Outlets, PeerEvent};
use crate::{close::CloseCode, endpoint::close};

/// Bytes that may wait to be sent in one lane.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Messages that may wait to be sent in one lane.
const QUEUED_MAX: usize = 8_192;
/// Messages written at once.
const BATCH_MAX: usize = 256;
/// Bytes read at once.
const READ_BYTES: usize = 128 << 10;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The sending half.
#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    connection: Connection,
    urgent: Queue,
    bulk: Queue,
}

#[derive(Debug)]
struct Queue {
    messages: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    async fn start(connection: &Connection, lane: Lane) -> Option<Self> {
        let mut stream = connection.open_uni().await.ok()?;
        // A peer knows the lane by the stream's first byte. Failing, the stream has ended, as the writer will see.
        let _ = stream.set_priority((lane == Lane::Urgent).into());
        stream.write_all(&[(lane == Lane::Bulk).into()]).await.ok()?;
        let (messages, queued) = mpsc::channel(QUEUED_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write(stream, queued, Arc::clone(&bytes)));
        Some(Self { messages, bytes })
    }

    fn send(&self, message: &Bytes) -> bool {
        let before = self.bytes.fetch_add(message.len(), Ordering::Relaxed);
        let taken = before + message.len() <= QUEUED_BYTES_MAX && self.messages.try_send(message.clone()).is_ok();
        if !taken {
            self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        }
        taken
    }
}

impl Link {
    /// Opens the streams of a connection; none when it ends meanwhile.
    pub(super) async fn start(connection: &Connection) -> Option<Self> {
        let urgent = Queue::start(connection, Lane::Urgent).await?;
        let bulk = Queue::start(connection, Lane::Bulk).await?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Some(Self { id, connection: connection.clone(), urgent, bulk })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn send(&self, lane: Lane, message: &Bytes) -> bool {
        let queue = match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        };
        message.len() <= lane.message_bytes_max() && queue.send(message)
    }

    pub(super) fn close(&self, code: CloseCode) {
        close(&self.connection, code, "");
    }
}

async fn write(mut stream: SendStream, mut queued: mpsc::Receiver<Bytes>, bytes: Arc<AtomicUsize>) {
    let (mut batch, mut chunks) = (Vec::with_capacity(BATCH_MAX), Vec::with_capacity(2 * BATCH_MAX));
    while queued.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut sizes = 0;
        for message in batch.drain(..) {
            sizes += message.len();
            let length = u32::try_from(message.len()).expect("lanes bound messages far below 4 GiB");
            chunks.push(Bytes::copy_from_slice(&length.to_be_bytes()));
            chunks.push(message);
        }
        // The receiving half sees why the connection ended.
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
        bytes.fetch_sub(sizes, Ordering::Relaxed);
    }
}

/// Receives on both of the peer's streams until the connection ends or the peer breaks the rules.
pub(super) async fn receive(connection: &Connection, peer: TransportKey, outlets: &Outlets) {
    let both = async {
        let first = connection.accept_uni().await.ok()?;
        let second = connection.accept_uni().await.ok()?;
        tokio::select! {
            end = read(first, peer, outlets) => end,
            end = read(second, peer, outlets) => end,
        }
    };
    both.await;
}

/// Reads one stream to its end; none for every way in which it may end.
async fn read(mut stream: RecvStream, peer: TransportKey, outlets: &Outlets) -> Option<()> {
    let mut lane = [0];
    stream.read_exact(&mut lane).await.ok()?;
    let (lane, outlet) = match lane[0] {
        0 => (Lane::Urgent, &outlets.urgent),
        1 => (Lane::Bulk, &outlets.bulk),
        _ => return None,
    };
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = take(&mut buffer, lane.message_bytes_max()).ok()? {
            outlet.send(PeerEvent::Message(peer, message)).await.ok()?;
        }
        let chunk = stream.read_chunk(READ_BYTES).await.ok()??;
        buffer.extend_from_slice(&chunk);
    }
}

/// A message announced longer than allowed.
#[derive(Debug)]
struct TooLong;

fn take(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, TooLong> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > bytes_max {
        return Err(TooLong);
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}
