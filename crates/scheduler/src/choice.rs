//! The choice itself: filters, ranking, pool, draw, and the reason that is kept with the task.

use crate::{
    cost::cost_us,
    expected_time::{Estimate, Measured, estimate},
    filter::{Rejection, admit},
    power_of_two, prefix,
    snapshot::{Request, Settings, SpeedSource, WorkerSnapshot},
};
use cortensor_protocol::{Operator, State};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A worker, and why this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The worker.
    pub operator: Operator,
    /// Its position in the slice of snapshots that was passed in.
    pub index: usize,
    /// Why.
    pub reason: Reason,
}

/// How the last step was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Policy {
    /// Nobody else came near.
    Only,
    /// The better of two drawn.
    PowerOfTwo,
    /// The same, among those that hold the prompt's beginning.
    Prefix,
}

/// Why a worker was chosen. Bounded in size, whatever the number of workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// How the last step was made.
    pub policy: Policy,
    /// When the request should be done.
    pub estimate: Estimate,
    /// What it was ranked by ([`crate::cost`]).
    pub cost_us: u64,
    /// Cost of the best candidate, which may be another one.
    pub best_cost_us: u64,
    /// Tokens of the prompt that it probably holds.
    pub prefix_tokens: u32,
    /// Its reputation in thousandths, 1,000 being neutral, as it counted.
    pub reputation_permille: u32,
    /// What audits have shown about it.
    pub state: State,
    /// Who says how fast it is.
    pub speed: SpeedSource,
    /// Workers that were known.
    pub workers: u32,
    /// How many passed the filters.
    pub eligible: u32,
    /// From how many the draw was made.
    pub pool: u32,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us / 1_000;
        let estimate = &self.estimate;
        write!(
            f,
            "expected in {} ms (wait {}, prompt {}, output {}) at the speed {}; {}, reputation {} per mille; {} of {} workers \
             could serve it; ",
            ms(estimate.total_us()),
            ms(estimate.wait_us),
            ms(estimate.prefill_us),
            ms(estimate.decode_us),
            self.speed,
            self.state,
            self.reputation_permille,
            self.eligible,
            self.workers
        )?;
        match self.policy {
            Policy::Only => write!(f, "no other came near"),
            Policy::PowerOfTwo => write!(f, "better of two drawn from the best {}", self.pool),
            Policy::Prefix => write!(
                f,
                "better of two drawn from {} that hold the prompt's beginning ({} tokens)",
                self.pool, self.prefix_tokens
            ),
        }
    }
}

/// Nobody could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct NoChoice {
    /// Why each worker was refused, in the order passed in.
    pub rejections: Vec<(Operator, Rejection)>,
}

impl NoChoice {
    /// Whether waiting may help: some worker serves the request but has no room now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.rejections.iter().any(|(_, rejection)| rejection.is_temporary())
    }

    /// Whether any worker at all offers the model.
    #[must_use]
    pub fn model_is_offered(&self) -> bool {
        self.rejections.iter().any(|(_, rejection)| *rejection != Rejection::Model)
    }
}

impl fmt::Display for NoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let serving: Vec<_> = self.rejections.iter().filter(|(_, why)| *why != Rejection::Model).collect();
        if serving.is_empty() {
            return write!(f, "none of {} connected workers serves the model", self.rejections.len());
        }
        write!(f, "no worker can take the request:")?;
        for (operator, why) in serving.iter().take(SHOWN) {
            write!(f, " {operator} {why};")?;
        }
        match serving.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A worker that passed the filters. Ordered by cost, then by account, so that the order is total and does not depend
/// on the order of the snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    cost_us: u64,
    operator: Operator,
    index: usize,
    estimate: Estimate,
}

/// Chooses a worker. `random` is 64 fresh random bits; the same bits give the same choice.
///
/// # Errors
/// When the filters leave nobody; says why for each worker.
pub fn choose(
    workers: &[WorkerSnapshot],
    request: &Request,
    settings: &Settings,
    random: u64,
) -> Result<Choice, NoChoice> {
    let mut candidates = rank(workers, request, settings);
    let Some(best) = candidates.first().copied() else {
        let why = |w: &WorkerSnapshot| admit(w, request, settings).err().map(|why| (w.operator, why));
        return Err(NoChoice { rejections: workers.iter().filter_map(why).collect() });
    };
    let eligible = candidates.len();
    candidates.truncate(near_the_best(&candidates, settings));
    let holds = |c: &Candidate| prefix::holds(&workers[c.index], request, settings);
    let by_prefix = candidates.iter().any(holds);
    if by_prefix {
        candidates.retain(holds);
    }
    candidates.truncate(usize::from(settings.pool.max(1)));
    let chosen = candidates[power_of_two::draw(candidates.len(), random)];
    let policy = match (by_prefix, candidates.len()) {
        (true, _) => Policy::Prefix,
        (false, 1) => Policy::Only,
        (false, _) => Policy::PowerOfTwo,
    };
    let reason = Reason {
        policy,
        estimate: chosen.estimate,
        cost_us: chosen.cost_us,
        best_cost_us: best.cost_us,
        prefix_tokens: workers[chosen.index].prefix_tokens,
        reputation_permille: workers[chosen.index].standing(settings).clamped(),
        state: workers[chosen.index].state,
        speed: workers[chosen.index].speed().1,
        workers: count(workers.len()),
        eligible: count(eligible),
        pool: count(candidates.len()),
    };
    Ok(Choice { operator: chosen.operator, index: chosen.index, reason })
}

/// Those that pass the filters, best first.
fn rank(workers: &[WorkerSnapshot], request: &Request, settings: &Settings) -> Vec<Candidate> {
    let mut measured = Measured::default();
    let mut admitted = Vec::with_capacity(workers.len());
    for (index, worker) in workers.iter().enumerate() {
        if admit(worker, request, settings).is_ok() {
            measured.add(worker.speed().0);
            admitted.push(index);
        }
    }
    let candidate = |index: usize| {
        let worker = &workers[index];
        let estimate = estimate(worker, request, &measured, settings);
        let cost_us = cost_us(worker, request, &estimate, settings);
        Candidate { cost_us, operator: worker.operator, index, estimate }
    };
    let mut candidates: Vec<_> = admitted.into_iter().map(candidate).collect();
    candidates.sort_unstable();
    candidates
}

/// How many candidates are within the tolerance of the best.
fn near_the_best(candidates: &[Candidate], settings: &Settings) -> usize {
    let best = u128::from(candidates.first().map_or(0, |best| best.cost_us));
    let limit = best + best * u128::from(settings.tolerance_permille) / 1_000;
    candidates.partition_point(|candidate| u128::from(candidate.cost_us) <= limit)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
