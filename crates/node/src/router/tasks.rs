//! What is known of a task while it runs and after: which miners were tried, why, what they delivered and how it ended.

use cortensor_gateway::{AttemptView, TaskView};
use cortensor_protocol::{Operator, SessionId, TaskId, Usage, Wei};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Records kept in memory; older ones are read from the store.
const KEPT: usize = 4096;

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in seconds.
#[must_use]
pub fn now_seconds() -> u64 {
    now_ms() / 1000
}

/// The record of one task, owned by the driver that runs it.
#[derive(Debug)]
pub(super) struct TaskRecord {
    began: Instant,
    view: TaskView,
}

impl TaskRecord {
    /// A task that begins now.
    #[must_use]
    pub(super) fn new(id: TaskId, session: SessionId, model: &str) -> Self {
        let view = TaskView {
            id,
            session,
            model: model.to_owned(),
            state: "running".into(),
            created_ms: now_ms(),
            first_token_ms: None,
            duration_ms: None,
            attempts: Vec::new(),
            usage: Usage::default(),
        };
        Self { began: Instant::now(), view }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many miners were tried.
    #[must_use]
    pub(super) fn attempts(&self) -> u32 {
        u32::try_from(self.view.attempts.len()).unwrap_or(u32::MAX)
    }

    /// A miner is tried.
    pub(super) fn attempt(&mut self, miner: Operator, reason: String, first_token: u32) {
        self.view.attempts.push(AttemptView {
            miner,
            reason,
            first_token,
            output_tokens: 0,
            owed: Wei::ZERO,
            outcome: "running".into(),
        });
    }

    /// Tokens arrived from the miner that is being tried.
    pub(super) fn tokens(&mut self, count: u32) {
        if self.view.first_token_ms.is_none() {
            self.view.first_token_ms = Some(self.elapsed_ms());
        }
        if let Some(attempt) = self.view.attempts.last_mut() {
            attempt.output_tokens = attempt.output_tokens.saturating_add(count);
        }
    }

    /// The attempt ended, and the miner is owed this much.
    pub(super) fn attempt_ended(&mut self, outcome: &str, owed: Wei) {
        if let Some(attempt) = self.view.attempts.last_mut() {
            outcome.clone_into(&mut attempt.outcome);
            attempt.owed = owed;
        }
    }

    /// The task ended.
    pub(super) fn ended(&mut self, state: &str, usage: Usage) {
        state.clone_into(&mut self.view.state);
        self.view.duration_ms = Some(self.elapsed_ms());
        self.view.usage = usage;
    }

    /// As it is shown now.
    #[must_use]
    pub(super) fn view(&self) -> TaskView {
        self.view.clone()
    }

    /// As it is stored.
    #[must_use]
    pub(super) fn encoded(&self) -> Vec<u8> {
        serde_json::to_vec(&self.view).expect("a view has string keys and no failing serialiser")
    }
}

/// Recent tasks.
#[derive(Debug, Default)]
pub(super) struct TaskLog {
    recent: Mutex<(HashMap<TaskId, TaskView>, VecDeque<TaskId>)>,
}

impl TaskLog {
    /// Notes how a task stands now.
    pub(super) fn note(&self, record: &TaskRecord) {
        let mut recent = self.recent.lock();
        let (views, order) = &mut *recent;
        if views.insert(record.view.id, record.view()).is_none() {
            order.push_back(record.view.id);
            if order.len() > KEPT
                && let Some(oldest) = order.pop_front()
            {
                views.remove(&oldest);
            }
        }
    }

    /// A recent task.
    #[must_use]
    pub(super) fn get(&self, id: TaskId) -> Option<TaskView> {
        self.recent.lock().0.get(&id).cloned()
    }
}
