//! Counters of one chain, for the process that embeds it to publish.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that the chain's parts add to.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) blocks: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) gas_used: AtomicU64,
    pub(crate) pool_refused: AtomicU64,
    pub(crate) pool_invalid: AtomicU64,
    pub(crate) build_micros: AtomicU64,
    pub(crate) commit_micros: AtomicU64,
    pub(crate) simulations: AtomicU64,
    pub(crate) recovery_cpu: CpuTime,
    pub(crate) execution_cpu: CpuTime,
    pub(crate) root_cpu: CpuTime,
    pub(crate) commit_cpu: CpuTime,
}

/// Processor time that threads spent in one phase of the work.
#[derive(Debug, Default)]
pub(crate) struct CpuTime(AtomicU64);

impl CpuTime {
    /// Runs a closure and adds the processor time that this thread needed for it.
    pub(crate) fn spend<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_nanos();
        let result = work();
        self.0.fetch_add(thread_nanos().saturating_sub(before), Ordering::Relaxed);
        result
    }

    fn micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed) / 1_000
    }
}

/// Processor time of this thread so far, in nanoseconds.
fn thread_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).unwrap_or(0)
}

/// What a chain has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// The number of the last committed block.
    pub head_number: u64,
    /// Blocks committed.
    pub blocks: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Gas used by committed transactions.
    pub gas_used: u64,
    /// Transactions that could run now.
    pub pool_pending: u64,
    /// Transactions behind a nonce gap.
    pub pool_queued: u64,
    /// Transactions that the pool refused.
    pub pool_refused: u64,
    /// Transactions that the pool took and execution then found impossible.
    pub pool_invalid: u64,
    /// Time spent executing transactions and computing roots, in microseconds.
    pub build_micros: u64,
    /// Time spent making blocks durable, in microseconds.
    pub commit_micros: u64,
    /// Calls, estimates, traces and log queries served.
    pub simulations: u64,
    /// Processor time for decoding transactions and recovering their senders, in microseconds.
    pub recovery_cpu_micros: u64,
    /// Processor time for running transactions, in microseconds.
    pub execution_cpu_micros: u64,
    /// Processor time for state, transaction and receipt roots, in microseconds.
    pub root_cpu_micros: u64,
    /// Processor time for writing blocks and adjusting the pool, in microseconds.
    pub commit_cpu_micros: u64,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds the time since `start`.
    pub(crate) fn add_since(counter: &AtomicU64, start: std::time::Instant) {
        Self::add(counter, u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn snapshot(&self, head_number: u64, (pending, queued): (usize, usize)) -> MetricsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MetricsSnapshot {
            head_number,
            blocks: read(&self.blocks),
            transactions: read(&self.transactions),
            gas_used: read(&self.gas_used),
            pool_pending: pending as u64,
            pool_queued: queued as u64,
            pool_refused: read(&self.pool_refused),
            pool_invalid: read(&self.pool_invalid),
            build_micros: read(&self.build_micros),
            commit_micros: read(&self.commit_micros),
            simulations: read(&self.simulations),
            recovery_cpu_micros: self.recovery_cpu.micros(),
            execution_cpu_micros: self.execution_cpu.micros(),
            root_cpu_micros: self.root_cpu.micros(),
            commit_cpu_micros: self.commit_cpu.micros(),
        }
    }
}
