//! What came of a simulation.

use crate::parameters::Strategy;

/// Where money came from and went. Amounts are wei; what somebody lost is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// All miners.
    pub miners: i128,
    /// Clients: fees, and their parts of slashes.
    pub clients: i128,
    /// Routers.
    pub routers: i128,
    /// The guards' pool.
    pub pool: i128,
    /// Fees for rewards that nobody has yet.
    pub fees: i128,
    /// Guards, less penalties; those of colluding guards are their miners'.
    pub guards: i128,
    /// Burnt.
    pub burnt: i128,
    /// What computing cost.
    pub computing: i128,
    /// New tokens.
    pub minted: i128,
    /// What guards would have got, had the pool not been empty. Not part of the balance.
    pub guards_unpaid: i128,
}

impl Flows {
    /// Nothing appeared or vanished.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let Self { miners, clients, routers, pool, fees, guards, burnt, computing, minted, .. } = *self;
        miners + clients + routers + pool + fees + guards + burnt + computing == minted
    }
}

/// What became of a strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub strategy: Strategy,
    /// Nodes that followed it.
    pub nodes: u32,
    /// What they earned together, in wei.
    pub net: i128,
    /// What one of them earned in an epoch, in wei.
    pub per_epoch: i128,
    /// That over the same of honest nodes, in millionths.
    pub of_honest_ppm: i64,
    /// Part of their time that they were suspended, in millionths.
    pub suspended_ppm: u32,
    /// How often one of them was convicted.
    pub convictions: u32,
    /// Epochs from the first cheat under a name to suspension or conviction, ascending.
    pub noticed_after: Vec<u32>,
    /// Epochs from the first cheat under a name to its conviction, ascending.
    pub convicted_after: Vec<u32>,
    /// Settled audits from the first cheat under a name to its conviction, ascending.
    pub audits_to_convict: Vec<u32>,
}

impl Outcome {
    /// The value below which so many of a hundred lie; `None` where there are none.
    #[must_use]
    pub fn percentile(ascending: &[u32], percent: usize) -> Option<u32> {
        ascending.get(ascending.len().saturating_sub(1) * percent.min(100) / 100).copied()
    }
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// By strategy; honest first.
    pub outcomes: Vec<Outcome>,
    /// Where the money went.
    pub flows: Flows,
    /// Requests that were served.
    pub served: u64,
    /// Audits that were drawn.
    pub audits: u64,
    /// Findings of guards that they took.
    pub findings: u64,
}

impl Report {
    /// What became of a strategy; `None` where no node followed it.
    #[must_use]
    pub fn outcome(&self, strategy: Strategy) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.strategy == strategy)
    }

    /// The dishonest strategies that earned at least what honesty did.
    #[must_use]
    pub fn profitable_cheats(&self) -> Vec<Strategy> {
        let honest = self.outcome(Strategy::Honest).map_or(0, |outcome| outcome.per_epoch);
        let profitable = |outcome: &&Outcome| outcome.strategy.is_dishonest() && outcome.per_epoch >= honest;
        self.outcomes.iter().filter(profitable).map(|outcome| outcome.strategy).collect()
    }
}
