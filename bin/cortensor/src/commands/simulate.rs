//! `cortensor simulate`: what honesty and cheating earn under the audits' parameters.

use crate::{cli::SimulateArgs, output};
use cortensor_economics::{Outcome, Parameters, Report, Strategy, simulate};
use cortensor_node::config::parse_cor;
use cortensor_protocol::Wei;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Fails when a cheat earned at least what honesty did.
pub(crate) async fn run(arguments: SimulateArgs) -> eyre::Result<ExitCode> {
    let parameters = parameters(&arguments)?;
    output::progress(&format!("{} nodes, {} epochs, seed {}", parameters.nodes, parameters.epochs, parameters.seed));
    let simulated = parameters.clone();
    let report = tokio::task::spawn_blocking(move || simulate(&simulated)).await??;
    if arguments.json {
        for outcome in &report.outcomes {
            output::json(&outcome_json(outcome))?;
        }
        output::json(&market_json(&report, &parameters))?;
    } else {
        show(&report, &parameters);
    }
    Ok(if report.profitable_cheats().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parameters(arguments: &SimulateArgs) -> eyre::Result<Parameters> {
    let mut parameters = Parameters {
        nodes: arguments.nodes.get(),
        epochs: arguments.epochs.get(),
        seed: arguments.seed,
        ..Parameters::default()
    };
    // Selective nodes turn half-way.
    parameters.honest_epochs = parameters.epochs / 2;
    if let Some(ppm) = arguments.audit_ppm {
        let policy = &mut parameters.policy;
        (policy.newcomer_ppm, policy.floor_ppm, policy.suspicious_ppm) = (ppm, ppm, ppm);
    }
    if let Some(ppm) = arguments.collusion_ppm {
        parameters.collusion_ppm = ppm;
    }
    if let Some(pay) = &arguments.guard_pay {
        parameters.guard_pay = cor(pay)?;
    }
    if let Some(stake) = &arguments.stake {
        parameters.stake = cor(stake)?;
    }
    Ok(parameters)
}

fn cor(text: &str) -> eyre::Result<u128> {
    Ok(parse_cor(text).map_err(|why| eyre::eyre!(why))?.0)
}

fn outcome_json(outcome: &Outcome) -> Value {
    let times =
        |times: &[u32]| json!({"median": Outcome::percentile(times, 50), "p99": Outcome::percentile(times, 99)});
    json!({
        "name": format!("simulate/{}", outcome.strategy.name()),
        "nodes": outcome.nodes,
        "total_wei": outcome.net.to_string(),
        "per_node_and_epoch_wei": outcome.per_epoch.to_string(),
        "of_honest_ppm": outcome.of_honest_ppm,
        "suspended_ppm": outcome.suspended_ppm,
        "convictions": outcome.convictions,
        "epochs_to_suspension": times(&outcome.noticed_after),
        "epochs_to_conviction": times(&outcome.convicted_after),
        "audits_to_conviction": times(&outcome.audits_to_convict),
    })
}

fn market_json(report: &Report, parameters: &Parameters) -> Value {
    let flows = &report.flows;
    let profitable: Vec<_> = report.profitable_cheats().into_iter().map(Strategy::name).collect();
    json!({
        "name": "simulate/market",
        "served": report.served,
        "audits": report.audits,
        "findings": report.findings,
        "fees_wei": (u128::from(report.served) * parameters.fee).to_string(),
        "minted_wei": flows.minted.to_string(),
        "burnt_wei": flows.burnt.to_string(),
        "guards_wei": flows.guards.to_string(),
        "guards_unpaid_wei": flows.guards_unpaid.to_string(),
        "pool_wei": flows.pool.to_string(),
        "profitable_cheats": profitable,
    })
}

fn show(report: &Report, parameters: &Parameters) {
    output::say(
        "strategy               nodes     COR a node and epoch    of honest  suspended  convictions   epochs to conviction",
    );
    for outcome in &report.outcomes {
        output::say(row(outcome).trim_end());
    }
    let fees = u128::from(report.served) * parameters.fee;
    let flows = &report.flows;
    output::say(format!(
        "\n{} requests for {}, {} audits with {} findings; minted {}, burnt {}",
        report.served,
        Wei(fees),
        report.audits,
        report.findings,
        signed(flows.minted),
        signed(flows.burnt),
    ));
    output::say(format!(
        "guards were paid {} and are owed {}; their pool holds {}",
        signed(flows.guards),
        signed(flows.guards_unpaid),
        signed(flows.pool),
    ));
    let profitable: Vec<_> = report.profitable_cheats().into_iter().map(Strategy::name).collect();
    match profitable.as_slice() {
        [] => output::say("no cheat earned as much as honesty"),
        cheats => output::say(format!("these earned at least as much as honesty: {}", cheats.join(", "))),
    }
}

fn row(outcome: &Outcome) -> String {
    let time = |percent| Outcome::percentile(&outcome.convicted_after, percent);
    let times = match (outcome.strategy.is_dishonest(), time(50), time(99)) {
        (true, Some(median), Some(late)) => format!("{median} (p99 {late})"),
        _ => String::new(),
    };
    format!(
        "{:<21} {:>6} {:>24} {:>11.2}% {:>9.2}% {:>12} {:>22}",
        outcome.strategy.name(),
        outcome.nodes,
        // Six decimals are enough to compare.
        signed(outcome.per_epoch / 1_000_000_000_000 * 1_000_000_000_000),
        outcome.of_honest_ppm as f64 / 1e4,
        f64::from(outcome.suspended_ppm) / 1e4,
        outcome.convictions,
        times,
    )
}

fn signed(amount: i128) -> String {
    format!("{}{}", if amount < 0 { "-" } else { "" }, Wei(amount.unsigned_abs()))
}
