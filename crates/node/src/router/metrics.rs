//! Counters of a router, in Prometheus' text form.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    finished: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    output_tokens: AtomicU64,
}

impl Metrics {
    /// A task ended in this state.
    pub(super) fn ended(&self, state: &str) {
        let counter = match state {
            "finished" => &self.finished,
            "cancelled" => &self.cancelled,
            _ => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Tokens were delivered.
    pub(super) fn tokens(&self, count: u32) {
        self.output_tokens.fetch_add(count.into(), Relaxed);
    }

    /// Adds the counters to `text`.
    pub(super) fn write(&self, text: &mut String, miners: usize) {
        text.push_str("# HELP cortensor_router_tasks_total Tasks that ended, by how they ended.\n");
        text.push_str("# TYPE cortensor_router_tasks_total counter\n");
        let states = [("finished", &self.finished), ("failed", &self.failed), ("cancelled", &self.cancelled)];
        for (state, counter) in states {
            let _ = writeln!(text, "cortensor_router_tasks_total{{state=\"{state}\"}} {}", counter.load(Relaxed));
        }
        text.push_str("# HELP cortensor_router_output_tokens_total Tokens delivered by miners.\n");
        text.push_str("# TYPE cortensor_router_output_tokens_total counter\n");
        let _ = writeln!(text, "cortensor_router_output_tokens_total {}", self.output_tokens.load(Relaxed));
        text.push_str("# HELP cortensor_router_miners Miners connected now.\n# TYPE cortensor_router_miners gauge\n");
        let _ = writeln!(text, "cortensor_router_miners {miners}");
    }
}
