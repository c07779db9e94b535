//! Numbers that the engine's thread writes and others read: load, speed, liveness, the fault that ended it.

use cortensor_protocol::manifest::{Load, Speed};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Weight of the newest measurement in the moving averages.
const NEWEST: f32 = 0.1;
/// A step that takes longer than this means that the engine hangs.
const STEP_MAX: Duration = Duration::from_secs(300);

/// A moving average; 0 before the first measurement.
#[derive(Default)]
struct Average(AtomicU32);

impl Average {
    /// Only the engine's thread writes, so that no update is lost.
    fn add(&self, value: f32) {
        let before = f32::from_bits(self.0.load(Relaxed));
        let next = if before > 0.0 { before + NEWEST * (value - before) } else { value };
        if next.is_finite() {
            self.0.store(next.to_bits(), Relaxed);
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    fn get(&self) -> u32 {
        f32::from_bits(self.0.load(Relaxed)).round() as u32
    }
}

/// What one step computed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepWork {
    /// Sequences that decoded one token.
    pub(crate) decoded: usize,
    /// Prompt tokens taken in.
    pub(crate) prefilled: usize,
}

/// Shared numbers.
pub(crate) struct Gauges {
    pub(crate) slots: u32,
    pub(crate) kv_total: u64,
    /// Jobs accepted and not finished.
    pub(crate) admitted: Arc<AtomicU32>,
    /// Those of them that are in a slot.
    pub(crate) active: Arc<AtomicU32>,
    kv_used: AtomicU64,
    prefill: Average,
    decode: Average,
    stop: AtomicBool,
    fault: Mutex<Option<String>>,
    /// When the step in progress began.
    step: Mutex<Option<Instant>>,
}

impl Gauges {
    pub(crate) fn new(slots: u32, kv_total: u64) -> Self {
        Self {
            slots,
            kv_total,
            admitted: Arc::new(AtomicU32::new(0)),
            active: Arc::new(AtomicU32::new(0)),
            kv_used: AtomicU64::new(0),
            prefill: Average::default(),
            decode: Average::default(),
            stop: AtomicBool::new(false),
            fault: Mutex::new(None),
            step: Mutex::new(None),
        }
    }

    pub(crate) fn load(&self) -> Load {
        let active = self.active.load(Relaxed);
        Load {
            active,
            queued: self.admitted.load(Relaxed).saturating_sub(active),
            kv_used: self.kv_used.load(Relaxed),
            kv_total: self.kv_total,
        }
    }

    pub(crate) fn set_kv_used(&self, kv_used: usize) {
        self.kv_used.store(kv_used as u64, Relaxed);
    }

    pub(crate) fn speed(&self) -> Speed {
        Speed { prefill_tokens_per_second: self.prefill.get(), decode_tokens_per_second: self.decode.get() }
    }

    /// Counts a step towards the speeds of one sequence alone. Mixed steps tell nothing about either.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    pub(crate) fn measured(&self, work: StepWork, took: Duration) {
        let seconds = took.as_secs_f32().max(1e-9);
        match work {
            StepWork { decoded: 1, prefilled: 0 } => self.decode.add(1.0 / seconds),
            StepWork { decoded: 0, prefilled } if prefilled >= 16 => self.prefill.add(prefilled as f32 / seconds),
            _ => {}
        }
    }

    pub(crate) fn begin_step(&self) {
        *self.step.lock() = Some(Instant::now());
    }

    pub(crate) fn end_step(&self) {
        *self.step.lock() = None;
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub(crate) fn should_stop(&self) -> bool {
        self.stop.load(Relaxed)
    }

    pub(crate) fn set_fault(&self, fault: String) {
        self.fault.lock().get_or_insert(fault);
    }

    /// What is wrong with the engine, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Some(fault) = &*self.fault.lock() {
            return Some(fault.clone());
        }
        let began = (*self.step.lock())?;
        (began.elapsed() > STEP_MAX).then(|| format!("one step has taken {} s", began.elapsed().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_those_of_one_sequence_alone() {
        let gauges = Gauges::new(2, 100);
        assert_eq!(gauges.speed(), Speed::default());
        gauges.measured(StepWork { decoded: 2, prefilled: 0 }, Duration::from_millis(1));
        gauges.measured(StepWork { decoded: 1, prefilled: 9 }, Duration::from_millis(1));
        assert_eq!(gauges.speed(), Speed::default());
        gauges.measured(StepWork { decoded: 1, prefilled: 0 }, Duration::from_millis(10));
        gauges.measured(StepWork { decoded: 0, prefilled: 64 }, Duration::from_millis(64));
        assert_eq!(gauges.speed(), Speed { prefill_tokens_per_second: 1000, decode_tokens_per_second: 100 });
        gauges.measured(StepWork { decoded: 1, prefilled: 0 }, Duration::from_millis(5));
        assert_eq!(gauges.speed().decode_tokens_per_second, 110);
    }

    #[test]
    fn the_first_fault_stays() {
        let gauges = Gauges::new(1, 1);
        assert_eq!(gauges.fault(), None);
        gauges.set_fault("a".into());
        gauges.set_fault("b".into());
        assert_eq!(gauges.fault().as_deref(), Some("a"));
    }
}
