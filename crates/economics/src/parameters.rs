//! What a simulation is made of. The defaults are what the contracts are deployed with, and a market that is plausible.

use crate::evidence::NoiseModel;
use cortensor_proof::score::Policy;

/// Quality that weighs fully; simulated miners all have a million.
pub(crate) const BEST_QUALITY_PPM: u128 = 1_500_000;

/// One COR in wei.
pub(crate) const COR: u128 = 1_000_000_000_000_000_000;

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// Serves what was asked for.
    Honest,
    /// Is registered and serves nothing.
    Idle,
    /// Serves a cheaper model for a tenth of the requests.
    Lazy,
    /// Serves a cheaper model always.
    Cheating,
    /// Honest for long, then cheats always.
    Selective,
    /// Serves a cheaper model for a tenth of the requests while nothing at all speaks against it, else is honest.
    Careful,
    /// Cheats always, and has friends among the guards.
    Colluding,
    /// Honest, and asks itself with what capacity is left, through its own router, for the emission.
    SelfDealing,
    /// Asks itself and answers with a cheaper model.
    SelfDealingCheaply,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Honest,
        Self::Idle,
        Self::Lazy,
        Self::Cheating,
        Self::Selective,
        Self::Careful,
        Self::Colluding,
        Self::SelfDealing,
        Self::SelfDealingCheaply,
    ];

    /// What a reader calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Idle => "idle",
            Self::Lazy => "lazy",
            Self::Cheating => "cheating",
            Self::Selective => "selective",
            Self::Careful => "careful",
            Self::Colluding => "colluding",
            Self::SelfDealing => "self_dealing",
            Self::SelfDealingCheaply => "self_dealing_cheaply",
        }
    }

    /// Whether it tries to earn what it has not worked for.
    #[must_use]
    pub const fn is_dishonest(self) -> bool {
        !matches!(self, Self::Honest | Self::Idle)
    }
}

/// Everything that can be set. Amounts are wei, shares basis points (of 10,000) or millionths, times epochs of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Miners.
    pub nodes: u32,
    /// Epochs.
    pub epochs: u32,
    /// What every random decision comes from.
    pub seed: u64,
    /// Nodes of each strategy, in millionths of all; the rest is honest.
    pub mix_ppm: Vec<(Strategy, u32)>,

    /// Requests that a node can serve in an epoch.
    pub capacity: u32,
    /// Requests that a node of full reputation gets in an epoch.
    pub demand: u32,
    /// Output tokens of a request, which an audit checks.
    pub answer_tokens: u32,
    /// What a request costs its client.
    pub fee: u128,
    /// What serving it costs, of the fee.
    pub cost_bps: u32,
    /// What serving a cheaper model costs, of the fee.
    pub cheap_cost_bps: u32,
    /// Of the fee, for the router.
    pub router_bps: u32,
    /// Of the fee, for the protocol: guards and rewards.
    pub protocol_bps: u32,
    /// Of the protocol's share, for the guards' pool; the rest is for rewards.
    pub guard_bps: u32,
    /// Most new tokens in an epoch, before it is halved.
    pub emission: u128,
    /// Epochs after which the emission is halved, and again.
    pub halving_epochs: u32,
    /// Of the protocol's share of the fees that weigh, what rewards are at most, in millionths.
    pub reward_cap_ppm: u32,

    /// A miner's stake.
    pub stake: u128,
    /// Part of the stake that a conviction takes.
    pub slash_bps: u32,
    /// Part of a slash that is burnt.
    pub burn_bps: u32,
    /// Part of a slash for the client.
    pub client_bps: u32,
    /// For each finding in agreement with the outcome.
    pub guard_pay: u128,
    /// For each finding outside.
    pub guard_penalty: u128,

    /// Levels and audit rates.
    pub policy: Policy,
    /// Most evidence of one audit for each charge, in 1/65,536 bit.
    pub clip: i32,
    /// Least size of a committee that convicts.
    pub minimum_committee: u32,
    /// Committees, by round.
    pub committees: [u32; 4],
    /// Guards on the side of colluding miners, in millionths.
    pub collusion_ppm: u32,
    /// Epochs from an answer to its first committee.
    pub draw_epochs: u32,
    /// Epochs of one round of a committee: commitments, findings, the beacon of the next.
    pub round_epochs: u32,
    /// Epochs of the appeal window.
    pub appeal_epochs: u32,
    /// Unpaid network tasks that a suspended node is audited on, in an epoch.
    pub probation_audits: u32,

    /// Noise of honest machines.
    pub honest: NoiseModel,
    /// Noise of the cheaper model.
    pub cheaper: NoiseModel,
    /// Requests that lazy and careful nodes cheat on, in millionths.
    pub lazy_ppm: u32,
    /// Epochs that a selective node is honest for.
    pub honest_epochs: u32,
    /// Epochs after which a convicted operator is back with a new stake and a new name.
    pub return_epochs: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            nodes: 10_000,
            epochs: 1_000,
            seed: 1,
            mix_ppm: vec![
                (Strategy::Idle, 50_000),
                (Strategy::Lazy, 50_000),
                (Strategy::Cheating, 50_000),
                (Strategy::Selective, 50_000),
                (Strategy::Careful, 50_000),
                (Strategy::Colluding, 50_000),
                (Strategy::SelfDealing, 50_000),
                (Strategy::SelfDealingCheaply, 50_000),
            ],
            capacity: 200,
            demand: 100,
            answer_tokens: 256,
            // 1,000 tokens in and 500 out at the local network's prices.
            fee: COR * 15 / 10_000,
            cost_bps: 6_000,
            // Saves 45 % of the fee, as in the design.
            cheap_cost_bps: 1_500,
            router_bps: 500,
            protocol_bps: 200,
            guard_bps: 10_000,
            emission: 200 * COR,
            halving_epochs: 17_520,
            reward_cap_ppm: 500_000,
            stake: 10_000 * COR,
            slash_bps: 5_000,
            burn_bps: 4_000,
            client_bps: 3_000,
            guard_pay: COR / 1_000,
            guard_penalty: COR / 100,
            policy: Policy::default(),
            clip: 1_572_864,
            minimum_committee: 3,
            committees: [1, 3, 7, 21],
            collusion_ppm: 100_000,
            draw_epochs: 1,
            round_epochs: 7,
            appeal_epochs: 12,
            probation_audits: 2,
            honest: NoiseModel::HONEST,
            cheaper: NoiseModel::CHEAPER,
            lazy_ppm: 100_000,
            honest_epochs: 500,
            return_epochs: 1,
        }
    }
}

impl Parameters {
    /// Nodes of a strategy.
    pub(crate) fn count(&self, strategy: Strategy) -> u32 {
        let of = |ppm: u32| u32::try_from(u64::from(self.nodes) * u64::from(ppm) / 1_000_000).unwrap_or(u32::MAX);
        let named =
            |wanted: Strategy| self.mix_ppm.iter().filter(|(s, _)| *s == wanted).map(|(_, ppm)| of(*ppm)).sum::<u32>();
        let others: u32 = Strategy::ALL.into_iter().filter(|s| *s != Strategy::Honest).map(named).sum();
        if strategy == Strategy::Honest { self.nodes.saturating_sub(others) } else { named(strategy) }
    }

    /// So many basis points of an amount, rounded down.
    pub(crate) fn part(amount: u128, bps: u32) -> u128 {
        amount.saturating_mul(u128::from(bps)) / 10_000
    }
}
