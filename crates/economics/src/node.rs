//! One miner: what it does in an epoch, by its strategy.

use crate::parameters::{BEST_QUALITY_PPM, Parameters, Strategy};
use cortensor_proof::score::{Score, State};

/// A miner, under the name that it has now.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub strategy: Strategy,
    /// How many names it had before.
    pub name: u32,
    pub score: Score,
    /// What it earned and lost so far, under all names.
    pub balance: i128,
    /// Since when it has this name.
    pub born: u32,
    /// First epoch and settled audits when it began to cheat under this name.
    pub first_cheat: Option<(u32, u32)>,
    /// Whether a suspension was noted since then.
    pub noticed: bool,
    /// Not in the market before this epoch.
    pub away_until: u32,
    pub suspended_epochs: u32,
    /// The protocol's share of its fees that was not counted for rewards yet.
    pub uncounted: u128,
}

/// What a node does in an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Requests of clients.
    pub jobs: u32,
    /// Of those, in millionths, answered by the cheaper model.
    pub cheap_ppm: u32,
    /// Requests of its own.
    pub own: u32,
    /// Of those.
    pub own_cheap_ppm: u32,
    /// Unpaid tasks of the network.
    pub probation: u32,
}

impl Node {
    pub(crate) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            name: 0,
            score: Score::default(),
            balance: 0,
            born: 0,
            first_cheat: None,
            noticed: false,
            away_until: 0,
            suspended_epochs: 0,
            uncounted: 0,
        }
    }

    /// Counts its fees for rewards, as `Rewards.count` does: not before its first settled audit, and when it has a reputation.
    pub(crate) fn count(&mut self, parameters: &Parameters) -> u128 {
        let reputation = u128::from(self.score.reputation_ppm(&parameters.policy));
        if self.score.jobs == 0 || reputation == 0 {
            return 0;
        }
        std::mem::take(&mut self.uncounted) * reputation / 1_000_000 * 1_000_000 / BEST_QUALITY_PPM
    }

    /// What it does now; its router sends work by reputation, and none to the suspended.
    pub(crate) fn work(&self, parameters: &Parameters, epoch: u32) -> Work {
        if self.strategy == Strategy::Idle || epoch < self.away_until {
            return Work::default();
        }
        if self.score.state >= State::Suspended {
            return Work { probation: parameters.probation_audits, ..Work::default() };
        }
        let reputation = u64::from(self.score.reputation_ppm(&parameters.policy));
        let jobs = u64::from(parameters.demand) * reputation / 1_000_000;
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX).min(parameters.capacity);
        let (own, own_cheap_ppm) = match self.strategy {
            Strategy::SelfDealing => (parameters.capacity - jobs, 0),
            Strategy::SelfDealingCheaply => (parameters.capacity - jobs, 1_000_000),
            _ => (0, 0),
        };
        Work { jobs, cheap_ppm: self.cheap_ppm(parameters, epoch), own, own_cheap_ppm, probation: 0 }
    }

    fn cheap_ppm(&self, parameters: &Parameters, epoch: u32) -> u32 {
        match self.strategy {
            Strategy::Cheating | Strategy::Colluding => 1_000_000,
            Strategy::Lazy => parameters.lazy_ppm,
            Strategy::Careful if self.score.state == State::Good && self.score.highest_cusum() == 0 => {
                parameters.lazy_ppm
            }
            Strategy::Selective if epoch - self.born >= parameters.honest_epochs => 1_000_000,
            _ => 0,
        }
    }

    /// Leaves the market under this name and comes back under another.
    pub(crate) fn convicted(&mut self, parameters: &Parameters, epoch: u32) {
        let back = epoch + parameters.return_epochs;
        let (balance, suspended_epochs) = (self.balance, self.suspended_epochs);
        *self = Self {
            name: self.name + 1,
            balance,
            suspended_epochs,
            born: back,
            away_until: back,
            ..Self::new(self.strategy)
        };
    }
}
