//! Transactions between nodes: what clients hand in here goes to every peer, what peers send goes into the pool.
//!
//! Listed peers know each other, so what comes from one of them is not passed on; what comes from a stranger is. Every
//! queue is bounded, and a full one drops: a client whose transaction is lost sends it again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy::primitives::keccak256;
use cortensor_chain::{Access, StatedTransaction, VerifiedTransaction};
use cortensor_net::{Lane, Peers};
use cortensor_protocol::TransportKey;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};

use super::metrics::Metrics;
use crate::message::Message;

/// Transactions sent in one message.
const BATCH_MAX: usize = 512;
/// How long the first of a message waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(2);
/// Messages whose transactions are checked together.
const MESSAGES_MAX: usize = 64;
/// Threads that check transactions of peers at once.
const THREADS: usize = 4;
/// Fewer transactions are not shared out between threads: together they are cheaper.
const CHUNK: usize = 512;

/// Transactions that a peer sent.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: TransportKey,
    /// The peer is one of those that every node lists.
    pub(crate) listed: bool,
    pub(crate) transactions: Vec<StatedTransaction>,
}

/// Spreads what clients hand in, until the chain is gone.
pub(crate) async fn spread(
    mut outbound: broadcast::Receiver<Arc<VerifiedTransaction>>,
    peers: Peers,
    metrics: Arc<Metrics>,
) {
    loop {
        let first = match outbound.recv().await {
            Ok(first) => first,
            Err(RecvError::Lagged(missed)) => {
                Metrics::add(&metrics.transactions_unspread, missed);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        tokio::time::sleep(BATCH_WAIT).await;
        let mut batch = vec![first.stated()];
        while batch.len() < BATCH_MAX
            && let Ok(next) = outbound.try_recv()
        {
            batch.push(next.stated());
        }
        Metrics::add(&metrics.transactions_spread, batch.len() as u64);
        peers.broadcast(Lane::Bulk, &Message::Transactions(batch).encode().into(), None);
    }
}

/// Takes in what peers send, until nobody sends any more.
pub(crate) async fn take_in(
    mut incoming: mpsc::Receiver<Incoming>,
    access: Access,
    peers: Peers,
    blame: mpsc::Sender<TransportKey>,
    metrics: Arc<Metrics>,
) {
    let mut messages = Vec::new();
    // Whatever came while the last ones were checked is checked together.
    while incoming.recv_many(&mut messages, MESSAGES_MAX).await > 0 {
        let (pool, heard) = (access.clone(), std::mem::take(&mut messages));
        let taken = tokio::task::spawn_blocking(move || take_all(&pool, &heard)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "transactions of peers were lost: this is a fault of this program, please report it");
            Vec::new()
        });
        for Taken { from, listed, fresh, malformed } in taken {
            Metrics::add(&metrics.transactions_received, fresh.len() as u64);
            if malformed {
                // Whoever counts may be gone already.
                let _ = blame.try_send(from);
            }
            if !listed && !fresh.is_empty() {
                peers.broadcast(Lane::Bulk, &Message::Transactions(fresh).encode().into(), Some(from));
            }
        }
    }
}

/// What came of one message.
struct Taken {
    from: TransportKey,
    listed: bool,
    fresh: Vec<StatedTransaction>,
    malformed: bool,
}

fn take_all(access: &Access, messages: &[Incoming]) -> Vec<Taken> {
    let mut seen = HashSet::new();
    let mut unknown = Vec::new();
    let mut sources = Vec::new();
    for (source, message) in messages.iter().enumerate() {
        for transaction in &message.transactions {
            let hash = keccak256(&transaction.encoded);
            // One that states another key for the same transaction must not hide what the others say.
            if seen.insert((hash, transaction.key)) && !access.knows(hash) {
                unknown.push(transaction.clone());
                sources.push(source);
            }
        }
    }
    let chunk = CHUNK.max(unknown.len().div_ceil(THREADS));
    let verified: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = unknown.chunks(chunk).map(|chunk| scope.spawn(move || access.verify(chunk))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("decoding and checking do not panic")).collect()
    });
    let taken = |one: &Incoming| Taken { from: one.from, listed: one.listed, fresh: Vec::new(), malformed: false };
    let mut taken: Vec<_> = messages.iter().map(taken).collect();
    for (result, source) in verified.into_iter().zip(sources) {
        let Ok(transaction) = result else {
            taken[source].malformed = true;
            continue;
        };
        let stated = transaction.stated();
        // The pool may refuse what it took elsewhere: heads differ for a moment, and so do pools.
        if access.submit(transaction).is_ok() {
            taken[source].fresh.push(stated);
        }
    }
    taken
}
