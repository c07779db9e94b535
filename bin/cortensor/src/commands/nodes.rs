//! `cortensor nodes`: who there is, the best first, and where each number comes from.

use super::wallet::load_deployment;
use crate::{
    api::{Api, key},
    cli::NodesArgs,
    output,
};
use cortensor_contracts::{Contracts, NodeEntry};
use cortensor_gateway::NodeView;
use cortensor_protocol::{CapabilityRecord, RoleSet, Standing, Wei};
use eyre::{Context, eyre};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::{cmp::Reverse, process::ExitCode};

/// Most nodes that are read from the chain.
const NODES_MAX: usize = 10_000;
/// Most models of each that are asked about.
const MODELS_MAX: usize = 32;
/// Nodes that the chain is asked about at once.
const AT_ONCE: usize = 8;

/// One line of the table, and what is behind it.
struct Row {
    cells: [String; 8],
    why: Vec<(String, String)>,
    json: Value,
}

const HEADINGS: [&str; 8] = ["NODE", "STATE", "CLASS", "TOK/S", "REPUTATION", "EVIDENCE", "UPTIME", "PRICE OR STAKE"];

pub(crate) async fn run(arguments: NodesArgs) -> eyre::Result<ExitCode> {
    let rows = match (&arguments.rpc, &arguments.deployment) {
        (Some(rpc), Some(deployment)) => {
            let provider = super::access::connect(rpc).await?;
            let deployment = load_deployment(deployment)?;
            deployment.verify(&provider).await.wrap_err("the deployment file does not fit the chain")?;
            from_chain(&deployment.contracts(&provider)).await?
        }
        _ => {
            let api = Api::new(&arguments.api, &key(&arguments.data)?)?;
            from_router(api.get("/v1/nodes").await?)?
        }
    };
    show(&rows, &arguments)?;
    Ok(ExitCode::SUCCESS)
}

fn percent(ppm: u32) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}

/// Evidence in bits, with one decimal.
fn bits(evidence: i64) -> String {
    let tenths = i128::from(evidence) * 10 / i128::from(cortensor_contracts::audits::EVIDENCE_PER_BIT);
    format!("{}{}.{} bit", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10)
}

fn from_router(nodes: Value) -> eyre::Result<Vec<Row>> {
    let nodes: Vec<NodeView> = serde_json::from_value(nodes).wrap_err("the API's nodes cannot be read")?;
    nodes.into_iter().map(router_row).collect()
}

fn router_row(node: NodeView) -> eyre::Result<Row> {
    let class = node.models.iter().filter_map(|model| model.class).max();
    let speed = node.models.iter().map(|model| model.speed.decode_tokens_per_second).max().unwrap_or(0);
    let cheapest = node.models.iter().map(|model| model.price.output).min();
    let mut why: Vec<_> = node.reasons.iter().map(|(number, reason)| (number.clone(), reason.clone())).collect();
    for model in &node.models {
        why.extend(model.reasons.iter().map(|(number, reason)| (format!("{} {number}", model.name), reason.clone())));
    }
    let cells = [
        node.operator.to_string(),
        node.state.clone(),
        class.map_or_else(|| "not measured".into(), |class| class.to_string()),
        if speed == 0 { "-".into() } else { speed.to_string() },
        percent(node.reputation_ppm),
        bits(node.evidence),
        percent(node.uptime_ppm),
        cheapest.map_or_else(|| "-".into(), |price: Wei| format!("{price} a million out")),
    ];
    Ok(Row { cells, why, json: serde_json::to_value(node)? })
}

async fn from_chain(contracts: &Contracts) -> eyre::Result<Vec<Row>> {
    let epoch = contracts.guards.current_epoch().await?;
    let nodes = contracts.registry.nodes(NODES_MAX).await?;
    let miners = nodes.into_iter().filter(|node| node.record.roles.contains(RoleSet::MINER));
    let models = contracts.models.page(0, MODELS_MAX).await?;
    let models = &models;
    let rows = futures::stream::iter(miners)
        .map(|node| async move {
            let standing = contracts.scores.standing(node.record.operator, epoch).await?;
            let mut measured = Vec::new();
            for model in models {
                measured.extend(contracts.capabilities.record(node.record.operator, model.id).await?);
            }
            Ok::<_, eyre::Report>((node, standing, measured))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>();
    let mut rows = rows.await.map_err(|error| eyre!("the chain cannot be read: {error}"))?;
    rows.sort_by_key(|(node, standing, _)| {
        (!node.record.active, standing.state, Reverse(standing.reputation_ppm), Reverse(node.record.stake))
    });
    Ok(rows.iter().map(|(node, standing, measured)| chain_row(node, standing, measured)).collect())
}

fn chain_row(node: &NodeEntry, standing: &Standing, measured: &[CapabilityRecord]) -> Row {
    let record = &node.record;
    let state = if record.active { standing.state.to_string() } else { "inactive".into() };
    let Standing { jobs, tokens, rate_ppm, epoch, .. } = standing;
    let scores = format!("the contract Scores as of epoch {epoch}: {jobs} audits over {tokens} tokens");
    let router = "only a router knows: ask one with --api".to_owned();
    let best = measured.iter().max_by_key(|record| record.measured.class());
    let class = best.map_or_else(
        || "no drawn guard has measured this node yet".to_owned(),
        |best| format!("the contract Capabilities: {} measurements up to epoch {}", best.measurements, best.epoch),
    );
    let why = vec![
        ("state".into(), format!("{scores}; {rate_ppm} ppm of its receipts are audited from now on")),
        ("reputation_ppm".into(), scores.clone()),
        ("evidence".into(), scores),
        ("stake".into(), "the contract NodeRegistry".into()),
        ("class, speed".into(), class),
        ("uptime, price".into(), router),
    ];
    let cells = [
        record.operator.to_string(),
        state.clone(),
        best.map_or_else(|| "not measured".into(), |best| best.measured.class().to_string()),
        best.map_or_else(|| "-".into(), |best| best.measured.decode_tokens_per_second.to_string()),
        percent(standing.reputation_ppm),
        bits(standing.evidence),
        "-".into(),
        record.stake.to_string(),
    ];
    let json = json!({
        "operator": record.operator, "state": state, "standing": standing, "stake": record.stake,
        "registered_at": node.registered_at, "measured": measured, "reasons": why.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    Row { cells, why, json }
}

fn show(rows: &[Row], arguments: &NodesArgs) -> eyre::Result<()> {
    if arguments.json {
        return rows.iter().try_for_each(|row| output::json(&row.json));
    }
    if rows.is_empty() {
        output::say("no node is known");
        return Ok(());
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    output::say(line(&HEADINGS));
    for row in rows {
        output::say(line(&row.cells.each_ref().map(String::as_str)));
        if arguments.why {
            row.why.iter().for_each(|(number, reason)| output::say(format!("    {number}: {reason}")));
        }
    }
    Ok(())
}
