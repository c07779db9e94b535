//! Transactions between nodes: what clients hand in here goes to every peer, what peers send goes into the pool.
//!
//! Listed peers know each other, so what comes from one of them is not passed on; what comes from a stranger is. Every
//! queue is bounded, and a full one drops: a client whose transaction is lost sends it again.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Bytes, keccak256};
use cortensor_chain::{Access, VerifiedTransaction};
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
/// Transactions recovered on one thread.
const CHUNK: usize = 64;

/// Transactions that a peer sent.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: TransportKey,
    /// The peer is one of those that every node lists.
    pub(crate) listed: bool,
    pub(crate) transactions: Vec<Bytes>,
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
        let mut batch = vec![first.encoded().clone()];
        while batch.len() < BATCH_MAX
            && let Ok(next) = outbound.try_recv()
        {
            batch.push(next.encoded().clone());
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
    while let Some(Incoming { from, listed, transactions }) = incoming.recv().await {
        let pool = access.clone();
        let taken = tokio::task::spawn_blocking(move || take_all(&pool, &transactions)).await;
        let Ok(Taken { fresh, malformed }) = taken else { continue };
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

struct Taken {
    fresh: Vec<Bytes>,
    malformed: bool,
}

fn take_all(access: &Access, transactions: &[Bytes]) -> Taken {
    let unknown: Vec<_> = transactions.iter().filter(|one| !access.knows(keccak256(one))).collect();
    let decode =
        |chunk: &[&Bytes]| -> Vec<_> { chunk.iter().map(|encoded| access.verify((*encoded).clone())).collect() };
    let decoded: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = unknown
            .chunks(CHUNK.max(unknown.len().div_ceil(4)))
            .map(|chunk| scope.spawn(move || decode(chunk)))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    let malformed = decoded.iter().any(Result::is_err);
    let fresh = decoded.into_iter().flatten().filter_map(|transaction| {
        let encoded = transaction.encoded().clone();
        // The pool may refuse what it took elsewhere: heads differ for a moment, and so do pools.
        access.submit(transaction).is_ok().then_some(encoded)
    });
    Taken { fresh: fresh.collect(), malformed }
}
