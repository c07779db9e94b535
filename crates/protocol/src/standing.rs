//! What the chain says of a node: what audits have shown about it ([`Standing`]), and how able drawn guards found it
//! ([`CapabilityRecord`]).

use crate::{Capability, Tier, Wei};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the evidence against a miner amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Nothing against it.
    #[default]
    Good = 0,
    /// Audited more often, and given less work.
    Watched = 1,
    /// Gets no work until its audits speak for it.
    Suspended = 2,
    /// Convicted by a committee or by its own signature; final.
    Slashed = 3,
}

impl State {
    /// From the number that contracts carry.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        [Self::Good, Self::Watched, Self::Suspended, Self::Slashed].get(usize::from(value)).copied()
    }

    /// Whether it may be given work.
    #[must_use]
    pub const fn may_work(self) -> bool {
        matches!(self, Self::Good | Self::Watched)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Watched => "watched",
            Self::Suspended => "suspended",
            Self::Slashed => "slashed",
        })
    }
}

/// What audits have shown about a miner, as of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What follows.
    pub state: State,
    /// Reputation in millionths; [`Self::NEUTRAL_PPM`] for a miner that was never audited.
    pub reputation_ppm: u32,
    /// Sum of all evidence in 1/65,536 bit; below zero speaks for honesty.
    pub evidence: i64,
    /// Audits that were settled.
    pub jobs: u32,
    /// Tokens that those audits checked.
    pub tokens: u64,
    /// Part of its receipts that is audited from now on, in millionths.
    pub rate_ppm: u32,
    /// The epoch in which this was read.
    pub epoch: u32,
}

impl Standing {
    /// Reputation of a miner of which audits have said nothing yet.
    pub const NEUTRAL_PPM: u32 = 500_000;
}

/// What drawn guards measured of one node with one model, as the chain keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityRecord {
    /// Moving averages of what was measured.
    pub measured: Capability,
    /// The epoch of the newest measurement.
    pub epoch: u32,
    /// Measurements that went into it.
    pub measurements: u32,
    /// How far the newest measurement was from the average before it, at its farthest number, in millionths.
    pub drift_ppm: u32,
    /// Whether that is farther than the contract tolerates.
    pub drifted: bool,
}

/// What a client's tier buys it: what cheating on one of its requests costs the miner, by the contract's own parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantee {
    /// Part of the miner's receipts that is audited, in millionths.
    pub rate_ppm: u32,
    /// Chance that an audit of a cheat finds it, in millionths.
    pub detection_ppm: u32,
    /// Part of the guards that is assumed to side with the cheat, in millionths.
    pub collusion_ppm: u32,
    /// What a conviction takes from this miner.
    pub at_stake: Wei,
    /// What cheating on one request costs on average.
    pub expected_loss: Wei,
}

impl Guarantee {
    /// What of it a tier buys. Below B nothing can be repeated, so nobody is convicted of a cheaper model: nothing is at
    /// stake.
    #[must_use]
    pub fn of_tier(self, tier: Tier) -> Self {
        if tier >= Tier::B { self } else { Self { at_stake: Wei::ZERO, expected_loss: Wei::ZERO, ..self } }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ppm: u32| format!("{}.{:02} %", ppm / 10_000, ppm / 100 % 100);
        write!(
            f,
            "{} of its answers are audited, an audit finds a cheat in {} of cases with {} of the guards against it; {} at \
             stake; cheating on this answer costs {} on average",
            percent(self.rate_ppm),
            percent(self.detection_ppm),
            percent(self.collusion_ppm),
            self.at_stake,
            self.expected_loss
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_that_cannot_be_repeated_has_nothing_at_stake() {
        let full = Guarantee {
            rate_ppm: 30_000,
            detection_ppm: 950_000,
            collusion_ppm: 100_000,
            at_stake: Wei(Wei::COR.0),
            expected_loss: Wei(5),
        };
        for tier in [Tier::A, Tier::B] {
            assert_eq!(full.of_tier(tier), full);
        }
        for tier in [Tier::C, Tier::D] {
            let bought = full.of_tier(tier);
            assert_eq!((bought.rate_ppm, bought.at_stake, bought.expected_loss), (30_000, Wei::ZERO, Wei::ZERO));
        }
        assert!(full.to_string().starts_with("3.00 % of its answers are audited"), "{full}");
    }
}
