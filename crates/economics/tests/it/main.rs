//! Whether cheating pays: at the deployed parameters it must not, and the simulation must be able to say otherwise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use cortensor_economics::{EvidenceSamples, NoiseModel, Parameters, Report, Strategy, simulate};
use cortensor_proof::{evidence::Weighed, score::Policy};

fn small() -> Parameters {
    Parameters { nodes: 400, epochs: 600, honest_epochs: 200, ..Parameters::default() }
}

fn run(parameters: &Parameters) -> Report {
    let report = simulate(parameters).unwrap();
    assert!(report.flows.is_balanced(), "{:?}", report.flows);
    report
}

fn no_audits() -> Policy {
    Policy { newcomer_ppm: 0, floor_ppm: 0, suspicious_ppm: 0, ..Policy::default() }
}

#[test]
fn no_cheat_beats_honesty_at_the_deployed_parameters() {
    for seed in 1..4 {
        let report = run(&Parameters { seed, ..small() });
        assert_eq!(report.profitable_cheats(), [], "{:#?}", report.outcomes);
        let honest = report.outcome(Strategy::Honest).unwrap();
        assert!(honest.per_epoch > 0 && honest.convictions == 0 && honest.suspended_ppm == 0);
        for strategy in [Strategy::Cheating, Strategy::Selective, Strategy::Colluding, Strategy::SelfDealingCheaply] {
            let outcome = report.outcome(strategy).unwrap();
            assert!(outcome.convictions >= outcome.nodes, "{strategy:?} is convicted: {outcome:?}");
        }
    }
}

#[test]
fn without_audits_cheating_pays() {
    let report = run(&Parameters { policy: no_audits(), ..small() });
    let profitable = report.profitable_cheats();
    // All but paying oneself: that costs more than rewards give, and without an audit there are none.
    let selfish = |s: &Strategy| matches!(s, Strategy::SelfDealing | Strategy::SelfDealingCheaply);
    let cheats: Vec<_> = Strategy::ALL.into_iter().filter(|s| s.is_dishonest() && !selfish(s)).collect();
    assert_eq!(profitable, cheats, "{:#?}", report.outcomes);
    assert_eq!(report.audits, 0);
}

#[test]
fn the_stake_is_what_makes_cheating_cost() {
    let returns = |slash_bps| run(&Parameters { slash_bps, ..small() }).outcome(Strategy::Cheating).unwrap().per_epoch;
    assert!(returns(0) > 0, "who loses nothing comes back under a new name and earns");
    assert!(returns(100) < 0, "a hundredth of the stake is more than a cheat saves before its conviction");
}

/// Self-dealing without computing anything: what it costs is the protocol's share alone, and rewards are capped below that.
#[test]
fn rewards_above_the_protocols_share_would_pay_self_dealing() {
    // Answers that cost nothing, and audits that raise no reputation: what self-dealing buys otherwise is left out.
    let policy = Policy { reputation_jobs: 1, ..Policy::default() };
    let free = |reward_cap_ppm| {
        let mix_ppm = vec![(Strategy::SelfDealing, 200_000)];
        let emission = 10_000 * 10u128.pow(18);
        let parameters = Parameters { cost_bps: 0, emission, mix_ppm, policy, reward_cap_ppm, ..small() };
        run(&parameters).profitable_cheats()
    };
    assert_eq!(free(Parameters::default().reward_cap_ppm), []);
    assert_eq!(free(900_000), [], "the most that governance can set");
    assert_eq!(free(4_000_000), [Strategy::SelfDealing], "the simulation sees what the cap prevents");
}

#[test]
fn idle_is_not_guilty() {
    let report = run(&small());
    let idle = report.outcome(Strategy::Idle).unwrap();
    assert_eq!((idle.net, idle.convictions, idle.suspended_ppm), (0, 0, 0));
}

#[test]
fn a_majority_of_the_guards_can_protect_a_cheat() {
    let captured = Parameters { collusion_ppm: 900_000, guard_penalty: 0, ..small() };
    assert!(run(&captured).profitable_cheats().contains(&Strategy::Colluding), "the simulation sees a captured court");
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let parameters = Parameters { nodes: 100, epochs: 100, ..Parameters::default() };
    assert_eq!(run(&parameters), run(&parameters));
    assert_ne!(run(&parameters), run(&Parameters { seed: 2, ..parameters }));
}

#[test]
fn evidence_tells_the_cheaper_model() {
    let samples = EvidenceSamples::draw(NoiseModel::HONEST, NoiseModel::CHEAPER, 256, 1 << 20, 1).unwrap();
    let highest = |samples: &[Weighed]| samples.iter().map(|weighed| i64::from(weighed.highest())).collect::<Vec<_>>();
    let mean = |samples: &[Weighed]| highest(samples).iter().sum::<i64>() / i64::try_from(samples.len()).unwrap();
    assert!(mean(&samples.honest) < 0 && mean(&samples.cheap) > 15 << 16);
    assert!(i64::from(samples.whitewash.highest()) <= *highest(&samples.honest).iter().min().unwrap());
    let hidden = EvidenceSamples::draw(NoiseModel::HONEST, NoiseModel::HONEST, 256, 1 << 20, 1);
    assert!(hidden.is_err(), "what looks like honest noise makes no profile");
}

#[test]
fn impossible_parameters_are_refused() {
    let check = |change: &dyn Fn(&mut Parameters), why: &str| {
        let mut parameters = Parameters::default();
        change(&mut parameters);
        assert!(simulate(&parameters).unwrap_err().to_string().contains(why));
    };
    check(&|p| p.nodes = 0, "at least one");
    check(&|p| p.mix_ppm.push((Strategy::Lazy, 900_000)), "more than all nodes");
    check(&|p| p.protocol_bps = 9_501, "more than all of it");
    check(&|p| p.burn_bps = 7_001, "shares of a slash");
}

/// The protocol's share of the fees pays for audits at the deployed thousandth of a COR for each finding; at a tenth of a
/// COR, which is 67 times the fee of a request, an honest market could not pay for its audits.
#[test]
fn what_guards_are_paid_must_fit_the_fees() {
    let honest = |guard_pay| run(&Parameters { mix_ppm: vec![], guard_pay, ..small() }).flows;
    let deployed = honest(Parameters::default().guard_pay);
    assert!(deployed.guards_unpaid * 5 < deployed.guards && deployed.pool >= 0, "{deployed:?}");
    let generous = honest(10u128.pow(17));
    assert!(generous.guards_unpaid > 10 * generous.guards, "{generous:?}");
}
