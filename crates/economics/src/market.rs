//! The simulation: epoch by epoch, what is served, audited, settled and paid.

use crate::{
    committee::{Case, Verdict, judge},
    evidence::EvidenceSamples,
    node::{Node, Work},
    parameters::{Parameters, Strategy},
    random::Random,
    report::{Flows, Outcome, Report},
};
use cortensor_proof::{
    calibration::Unseparable,
    score::{self, State},
};

/// Why parameters cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// Something is zero, or shares are more than all.
    #[error("{0}")]
    Parameters(&'static str),
    /// The cheaper model cannot be told from honest noise.
    #[error("the noise makes no profile")]
    Noise(#[from] Unseparable),
}

/// An audit that waits for its windows to pass.
struct Pending {
    node: usize,
    name: u32,
    outcome: score::Outcome,
}

/// Times from the first cheat, of one strategy.
#[derive(Clone, Debug, Default)]
struct Times {
    noticed: Vec<u32>,
    convicted: Vec<u32>,
    audits: Vec<u32>,
}

struct Market<'a> {
    parameters: &'a Parameters,
    samples: EvidenceSamples,
    random: Random,
    nodes: Vec<Node>,
    /// By the epoch in which they are settled, in a circle.
    pending: Vec<Vec<Pending>>,
    times: Vec<Times>,
    flows: Flows,
    served: u64,
    audits: u64,
    findings: u64,
}

/// Runs a simulation.
///
/// # Errors
/// When the parameters contradict themselves, or describe noise that hides the cheaper model.
pub fn simulate(parameters: &Parameters) -> Result<Report, SimulateError> {
    check(parameters).map_err(SimulateError::Parameters)?;
    let Parameters { honest, cheaper, answer_tokens, clip, seed, .. } = *parameters;
    let samples = EvidenceSamples::draw(honest, cheaper, answer_tokens, clip, seed)?;
    let mut market = Market::new(parameters, samples);
    for epoch in 0..parameters.epochs {
        market.settle(epoch);
        market.serve(epoch);
    }
    Ok(market.report())
}

fn check(parameters: &Parameters) -> Result<(), &'static str> {
    let Parameters { nodes, epochs, capacity, answer_tokens, .. } = *parameters;
    if [nodes, epochs, capacity, answer_tokens].contains(&0) {
        return Err("nodes, epochs, capacity and tokens are at least one");
    }
    if parameters.mix_ppm.iter().map(|(_, ppm)| u64::from(*ppm)).sum::<u64>() > 1_000_000 {
        return Err("the strategies are more than all nodes");
    }
    if parameters.router_bps + parameters.protocol_bps > 10_000 || parameters.slash_bps > 10_000 {
        return Err("shares of a fee or a stake are more than all of it");
    }
    if parameters.burn_bps + parameters.client_bps > 10_000 {
        return Err("shares of a slash are more than all of it");
    }
    Ok(())
}

/// Amounts are far below 2^127: the supply has 90 bits.
fn signed(amount: u128) -> i128 {
    i128::try_from(amount).expect("amounts of the token have 90 bits")
}

impl<'a> Market<'a> {
    fn new(parameters: &'a Parameters, samples: EvidenceSamples) -> Self {
        let of = |strategy| std::iter::repeat_n(Node::new(strategy), parameters.count(strategy) as usize);
        let longest = longest_audit(parameters) as usize;
        Self {
            parameters,
            samples,
            random: Random::new(parameters.seed),
            nodes: Strategy::ALL.into_iter().flat_map(of).collect(),
            pending: (0..=longest).map(|_| Vec::new()).collect(),
            times: vec![Times::default(); Strategy::ALL.len()],
            flows: Flows::default(),
            served: 0,
            audits: 0,
            findings: 0,
        }
    }

    /// Adds the audits to the scores whose windows have passed.
    fn settle(&mut self, epoch: u32) {
        let slot = epoch as usize % self.pending.len();
        for Pending { node, name, outcome } in std::mem::take(&mut self.pending[slot]) {
            let node = &mut self.nodes[node];
            if node.name != name {
                continue;
            }
            let convicted = node.score.record(&self.parameters.policy, &outcome);
            let times = &mut self.times[node.strategy as usize];
            if let Some((since, audits)) = node.first_cheat {
                if node.score.state >= State::Suspended && !node.noticed {
                    node.noticed = true;
                    times.noticed.push(epoch - since);
                }
                if convicted {
                    times.convicted.push(epoch - since);
                    times.audits.push(node.score.jobs - audits);
                }
            } else if convicted {
                // An honest node: its time is not counted, its conviction is.
                times.convicted.push(0);
            }
            if convicted {
                slash(node, self.parameters, &mut self.flows);
                node.convicted(self.parameters, epoch);
            }
        }
    }

    /// Everybody serves; what is drawn is audited; emission is shared.
    fn serve(&mut self, epoch: u32) {
        let mut weights = vec![0u128; self.nodes.len()];
        for (index, weight) in weights.iter_mut().enumerate() {
            let work = self.nodes[index].work(self.parameters, epoch);
            self.pay(index, &work);
            self.audit(index, &work, epoch);
            let node = &mut self.nodes[index];
            node.suspended_epochs += u32::from(node.score.state >= State::Suspended);
            *weight = node.count(self.parameters);
        }
        self.reward(epoch, &weights);
    }

    /// Fees and costs of an epoch's work.
    fn pay(&mut self, index: usize, work: &Work) {
        let Parameters { fee, cost_bps, cheap_cost_bps, router_bps, protocol_bps, .. } = *self.parameters;
        let (node, flows) = (&mut self.nodes[index], &mut self.flows);
        let of = |requests: u32, amount: u128| signed(u128::from(requests) * amount);
        let (router, protocol) = (Parameters::part(fee, router_bps), Parameters::part(fee, protocol_bps));
        let share = fee - router - protocol;

        flows.clients -= of(work.jobs, fee);
        flows.routers += of(work.jobs, router);
        let shared = u128::from(work.jobs + work.own) * protocol;
        let guards = Parameters::part(shared, self.parameters.guard_bps);
        flows.pool += signed(guards);
        flows.fees += signed(shared - guards);
        node.uncounted += shared;
        // A node that asks itself does so through its own router.
        let earned = of(work.jobs, share) - of(work.own, protocol);

        let cheap_of = |jobs: u32, ppm: u32| u128::from(jobs) * u128::from(ppm);
        let cheap_micros = cheap_of(work.jobs, work.cheap_ppm) + cheap_of(work.own, work.own_cheap_ppm);
        let all_micros = cheap_of(work.jobs + work.own + work.probation, 1_000_000);
        let (full, cheap) = (Parameters::part(fee, cost_bps), Parameters::part(fee, cheap_cost_bps));
        let computing = signed((cheap_micros * cheap + (all_micros - cheap_micros) * full) / 1_000_000);
        flows.computing += computing;
        node.balance += earned - computing;
        flows.miners += earned - computing;
        self.served += u64::from(work.jobs + work.own);
    }

    /// Draws audits among an epoch's answers and has them judged.
    fn audit(&mut self, index: usize, work: &Work, epoch: u32) {
        let node = &mut self.nodes[index];
        if work.cheap_ppm > 0 || (work.own > 0 && work.own_cheap_ppm > 0) {
            node.first_cheat.get_or_insert((epoch, node.score.jobs));
        }
        let rate_ppm = node.score.rate_ppm(&self.parameters.policy);
        let chance = u32::try_from((u64::from(rate_ppm) << 16) / 1_000_000).expect("at most 65,536");
        for (answers, cheap_ppm) in [(work.jobs, work.cheap_ppm), (work.own, work.own_cheap_ppm)] {
            let drawn = self.random.count(answers, chance);
            (0..drawn).for_each(|_| self.examine(index, cheap_ppm, epoch));
        }
        if rate_ppm > 0 {
            (0..work.probation).for_each(|_| self.examine(index, 0, epoch));
        }
    }

    fn examine(&mut self, index: usize, cheap_ppm: u32, epoch: u32) {
        let is_cheap = cheap_ppm > 0 && self.random.happens(cheap_ppm);
        let samples = if is_cheap { &self.samples.cheap } else { &self.samples.honest };
        let count = u32::try_from(samples.len()).expect("a few thousand");
        let truth = samples[self.random.below(count) as usize];
        let node = &self.nodes[index];
        let friends_ppm = if node.strategy == Strategy::Colluding { self.parameters.collusion_ppm } else { 0 };
        let case = Case { truth, lie: self.samples.whitewash, friends_ppm };
        let verdict = judge(&case, &node.score, self.parameters, &mut self.random);
        self.audits += 1;
        self.findings += u64::from(verdict.agreed + verdict.outside);
        self.pay_guards(index, &verdict);
        let Some(evidence) = verdict.evidence else { return };
        let Parameters { draw_epochs, round_epochs, appeal_epochs, answer_tokens, minimum_committee, .. } =
            *self.parameters;
        let due = epoch + draw_epochs + round_epochs * verdict.rounds + appeal_epochs;
        let may_convict = verdict.size >= minimum_committee;
        let outcome = score::Outcome { evidence, tokens: u64::from(answer_tokens), hard: false, may_convict };
        let slot = due as usize % self.pending.len();
        self.pending[slot].push(Pending { node: index, name: self.nodes[index].name, outcome });
    }

    /// Findings in agreement are paid as far as the pool reaches; the others pay. A colluding miner bears its friends' part.
    fn pay_guards(&mut self, index: usize, verdict: &Verdict) {
        let Parameters { guard_pay, guard_penalty, .. } = *self.parameters;
        let wages = signed(u128::from(verdict.agreed) * guard_pay);
        let paid = wages.min(self.flows.pool.max(0));
        self.flows.pool -= paid;
        self.flows.guards += paid;
        self.flows.guards_unpaid += wages - paid;
        if verdict.outside > 0 {
            let penalty = signed(u128::from(verdict.outside) * guard_penalty);
            let friends_lost = verdict.evidence != Some(self.samples.whitewash);
            if friends_lost {
                self.nodes[index].balance -= penalty;
                self.flows.miners -= penalty;
            } else {
                self.flows.guards -= penalty;
            }
            self.flows.pool += penalty;
        }
    }

    /// Shares rewards by weight, as `Rewards` does: fees first, then emission, never more than the cap.
    fn reward(&mut self, epoch: u32, weights: &[u128]) {
        let Parameters { emission, halving_epochs, reward_cap_ppm, .. } = *self.parameters;
        let total: u128 = weights.iter().sum();
        if total == 0 {
            return;
        }
        let emission = emission.checked_shr(epoch / halving_epochs.max(1)).unwrap_or(0);
        let fees = self.flows.fees.unsigned_abs();
        let pot = (total * u128::from(reward_cap_ppm) / 1_000_000).min(fees + emission);
        let mut from_fees = signed(pot.min(fees));
        self.flows.fees -= from_fees;
        for (node, weight) in self.nodes.iter_mut().zip(weights) {
            let share = signed(pot * weight / total);
            node.balance += share;
            self.flows.miners += share;
            let taken = share.min(from_fees);
            from_fees -= taken;
            self.flows.minted += share - taken;
        }
        // What rounding left.
        self.flows.fees += from_fees;
    }

    fn report(mut self) -> Report {
        let epochs = self.parameters.epochs;
        let mut outcomes = Vec::new();
        let mut honest = 0;
        for strategy in Strategy::ALL {
            let nodes: Vec<&Node> = self.nodes.iter().filter(|node| node.strategy == strategy).collect();
            let count = u32::try_from(nodes.len()).expect("the nodes have 32 bits");
            if count == 0 {
                continue;
            }
            let net: i128 = nodes.iter().map(|node| node.balance).sum();
            let time = u64::from(count) * u64::from(epochs);
            let per_epoch = net / i128::from(time);
            if strategy == Strategy::Honest {
                honest = per_epoch;
            }
            let suspended: u64 = nodes.iter().map(|node| u64::from(node.suspended_epochs)).sum();
            let mut times = std::mem::take(&mut self.times[strategy as usize]);
            [&mut times.noticed, &mut times.convicted, &mut times.audits]
                .into_iter()
                .for_each(|times| times.sort_unstable());
            let of_honest = per_epoch * 1_000_000 / honest.max(1);
            outcomes.push(Outcome {
                strategy,
                nodes: count,
                net,
                per_epoch,
                of_honest_ppm: i64::try_from(of_honest).unwrap_or(if of_honest < 0 { i64::MIN } else { i64::MAX }),
                suspended_ppm: u32::try_from(suspended * 1_000_000 / time).expect("at most a million"),
                convictions: u32::try_from(times.convicted.len()).unwrap_or(u32::MAX),
                noticed_after: times.noticed,
                convicted_after: times.convicted,
                audits_to_convict: times.audits,
            });
        }
        Report { outcomes, flows: self.flows, served: self.served, audits: self.audits, findings: self.findings }
    }
}

/// Epochs from an answer to its settlement at most.
fn longest_audit(parameters: &Parameters) -> u32 {
    let rounds = u32::try_from(parameters.committees.len()).expect("four");
    parameters.draw_epochs + parameters.round_epochs * rounds + parameters.appeal_epochs
}

/// Takes a part of the stake; who asked itself gets the client's part of it back.
fn slash(node: &mut Node, parameters: &Parameters, flows: &mut Flows) {
    let slashed = Parameters::part(parameters.stake, parameters.slash_bps);
    let (burnt, client) =
        (Parameters::part(slashed, parameters.burn_bps), Parameters::part(slashed, parameters.client_bps));
    let is_own = matches!(node.strategy, Strategy::SelfDealing | Strategy::SelfDealingCheaply);
    let returned = if is_own { client } else { 0 };
    let lost = signed(slashed) - signed(returned);
    node.balance -= lost;
    flows.miners -= lost;
    flows.clients += signed(client - returned);
    flows.burnt += signed(burnt);
    flows.pool += signed(slashed - burnt - client);
}
