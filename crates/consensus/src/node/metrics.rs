//! Counters of one node's consensus, for the process around it to publish.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The block being decided.
    pub height: AtomicU64,
    /// The attempt at it.
    pub round: AtomicU64,
    /// Rounds that began after the first of their height.
    pub extra_rounds: AtomicU64,
    /// Blocks taken over from peers with their certificates.
    pub blocks_adopted: AtomicU64,
    /// Messages received.
    pub messages_received: AtomicU64,
    /// Messages sent, counted once for each receiver.
    pub messages_sent: AtomicU64,
    /// Bytes sent, counted once for each receiver.
    pub bytes_sent: AtomicU64,
    /// Times that the log was made durable.
    pub log_syncs: AtomicU64,
    /// Transactions of clients sent to peers.
    pub transactions_spread: AtomicU64,
    /// Transactions of clients that peers were not told of, because there were too many at once.
    pub transactions_unspread: AtomicU64,
    /// Transactions taken from peers.
    pub transactions_received: AtomicU64,
    /// Validators seen signing two things of which they may sign one.
    pub evidence: AtomicU64,
    /// Times that a peer sent what no honest node sends.
    pub blames: AtomicU64,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }
}
