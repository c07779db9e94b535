//! Nodes as clients see them: every number with where it comes from, best first.

use super::{
    pool::{Miner, Pool, Served},
    presence::Presence,
};
use cortensor_gateway::{NodeModelView, NodeView};
use cortensor_protocol::{Operator, Standing, State};
use cortensor_scheduler::SpeedSource;
use std::collections::BTreeMap;

fn reasons<const N: usize>(reasons: [(&str, String); N]) -> BTreeMap<String, String> {
    reasons.into_iter().map(|(number, reason)| (number.to_owned(), reason)).collect()
}

/// What a standing says, and where from.
fn standing_reasons(standing: &Standing, presence: &Presence, now_ms: u64) -> BTreeMap<String, String> {
    let Standing { jobs, tokens, rate_ppm, epoch, .. } = standing;
    let chain = format!("the contract Scores as of epoch {epoch}: {jobs} audits over {tokens} tokens");
    let (connected, known) = presence.times_ms(now_ms);
    reasons([
        ("standing", format!("{chain}; {rate_ppm} ppm of its receipts are audited from now on")),
        ("reputation_ppm", chain.clone()),
        ("evidence", format!("{chain}; 1/65,536 bit, below zero speaks for honesty")),
        ("uptime_ppm", format!("connected to this router for {} of {} s", connected / 1_000, known / 1_000)),
        ("tasks", "counted by this router since it was started".to_owned()),
    ])
}

fn model_view(miner: &Miner, served: &Served) -> NodeModelView {
    let snapshot = miner.snapshot(served);
    let (speed, source) = snapshot.speed();
    let speed_reason = match source {
        SpeedSource::Router => format!("seen by this router in {} answers", served.seen_answers()),
        SpeedSource::Network => "measured by drawn guards".to_owned(),
        SpeedSource::Claim => "claimed by the node; nobody has measured it yet".to_owned(),
        SpeedSource::Assumed => "nobody says".to_owned(),
    };
    let capability_reason = served.capability.map_or_else(
        || "no drawn guard has measured this node with this model yet".to_owned(),
        |record| {
            let drifted = if record.drifted { "; the newest one was far from those before it" } else { "" };
            format!(
                "the contract Capabilities: average of {} measurements of drawn guards up to epoch {}{drifted}",
                record.measurements, record.epoch
            )
        },
    );
    let full = &served.full;
    NodeModelView {
        name: full.manifest.name.clone(),
        tier: full.tier,
        build: full.build.clone(),
        price: full.price,
        load: served.load,
        class: served.capability.map(|record| record.measured.class()),
        capability: served.capability,
        speed,
        reasons: reasons([
            ("speed", speed_reason),
            ("class", capability_reason.clone()),
            ("capability", capability_reason),
            ("slots", format!("offered by the node; {} count when requests are given out", snapshot.slots())),
            ("context", format!("offered by the node; {} count when requests are given out", snapshot.context())),
            ("price", "asked by the node".to_owned()),
            ("load", "the node's last heartbeat".to_owned()),
        ]),
        slots: full.slots,
        context: full.context,
    }
}

fn state(miner: &Miner) -> String {
    match miner.standing().state {
        state @ (State::Suspended | State::Slashed) => state.to_string(),
        State::Good | State::Watched if miner.is_draining() => "draining".into(),
        State::Good | State::Watched => "ready".into(),
    }
}

fn view(operator: Operator, miner: Option<&Miner>, presence: &Presence, now_ms: u64) -> NodeView {
    let standing = miner.map_or(presence.standing, Miner::standing);
    let tasks = miner.map_or((0, 0), Miner::tasks);
    NodeView {
        operator,
        state: miner.map_or_else(|| "unreachable".into(), state),
        standing: standing.state.to_string(),
        reputation_ppm: standing.reputation_ppm,
        evidence: standing.evidence,
        audits: standing.jobs,
        uptime_ppm: presence.uptime_ppm(now_ms),
        reasons: standing_reasons(&standing, presence, now_ms),
        models: miner
            .map(|miner| miner.served().iter().map(|served| model_view(miner, served)).collect())
            .unwrap_or_default(),
        last_seen_ms: miner.map_or(presence.last_ms, Miner::last_seen_ms),
        tasks_finished: presence.tasks.0 + tasks.0,
        tasks_failed: presence.tasks.1 + tasks.1,
    }
}

/// Whoever would be given work first comes first: connected and of good standing, then class, reputation and uptime.
fn rank(node: &NodeView) -> impl Ord + use<> {
    let place = match node.state.as_str() {
        "ready" => 0,
        "draining" => 1,
        "suspended" | "slashed" => 2,
        _ => 3,
    };
    let class = node.models.iter().filter_map(|model| model.class).max();
    use std::cmp::Reverse;
    (place, Reverse(class), Reverse(node.reputation_ppm), Reverse(node.uptime_ppm), node.operator)
}

impl Pool {
    /// Every node that this router knows, best first.
    #[must_use]
    pub(super) fn nodes(&self, now_ms: u64) -> Vec<NodeView> {
        let (presences, miners) = (self.presences.read(), self.miners());
        let mut nodes: Vec<NodeView> = presences
            .iter()
            .map(|(operator, presence)| view(*operator, miners.get(operator).map(|miner| &**miner), presence, now_ms))
            .collect();
        nodes.sort_by_cached_key(rank);
        nodes
    }
}
