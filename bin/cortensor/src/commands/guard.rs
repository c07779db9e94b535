//! `cortensor guard`: a guard as a process of its own.

use super::{calibrate, miner::engine, roles, up::stop_signal};
use crate::{cli::RoleArgs, output};
use cortensor_capability::Limits;
use cortensor_client::Client;
use cortensor_engine::Engine;
use cortensor_node::{
    config::{GUARD_TEMPLATE, GuardFile, MeasureSection},
    guard::{Guard, GuardConfig, accept_miners, declare_class, declare_judge},
    node::Node,
};
use cortensor_protocol::RoleSet;
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) async fn run(arguments: RoleArgs) -> eyre::Result<ExitCode> {
    if arguments.init {
        let keystore = |text: &str| Ok(toml::from_str::<GuardFile>(text)?.node.keystore);
        roles::init(&arguments.config, GUARD_TEMPLATE, keystore).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = GuardFile::read(&arguments.config)?;
    let node = roles::open(&file.chain, &file.node).await?;
    if arguments.register {
        roles::register(&node, RoleSet::GUARD, file.node.stake_cor).await?;
        return Ok(ExitCode::SUCCESS);
    }
    roles::must_be_active(&node, RoleSet::GUARD, "guard").await?;
    Box::pin(serve(file, node, arguments.json)).await
}

async fn serve(file: GuardFile, node: Node, json: bool) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let profiles = file.guard.profiles.iter().map(|path| calibrate::read(path)).collect::<eyre::Result<Vec<_>>>()?;
    let mut engines = Vec::new();
    for model in &file.guard.model {
        output::progress("loading a model");
        engines.push(engine(&model.backend, &file.node.data).await?);
    }
    if let Some(first) = engines.first() {
        declare_class(&node.contracts, &node.wallet, &**first).await?;
    }
    let judge = judges(&file, &node, &engines).await?;
    let operator = node.identity.operator();
    if !node.contracts.guards.is_enrolled(operator).await? {
        node.contracts.guards.enroll(&node.wallet).await?;
        output::progress("enrolled among the guards that may be drawn");
    }
    let models: Vec<String> = engines.iter().map(|engine| engine.info().manifest.name.clone()).collect();
    let config = GuardConfig {
        store: file.node.data.join("guard.redb"),
        domain: node.deployment.domain(),
        from_block: node.deployment.block,
        interval: Duration::from_secs(2),
    };
    let (view, place) = (node.view(), (node.deployment.chain_id, node.deployment.registry));
    let measuring = match &file.guard.measure {
        Some(section) => Some(measuring(section, &node, &file.node.data).await?),
        None => None,
    };
    let endpoint = node.endpoint(&file.node).await?;
    let guard = Guard::start(node.identity, node.contracts, node.wallet, engines, profiles, config)?;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    tracker.spawn(accept_miners(guard.clone(), endpoint.clone(), view, place, stop.child_token()));
    let measures = measuring.is_some();
    if let Some((client, limits)) = measuring {
        tracker.spawn(guard.clone().keep_measuring(client, limits, stop.child_token()));
    }
    tracker.spawn(guard.clone().keep_auditing(stop.child_token()));
    // Who does not judge any more still reveals what it committed to.
    tracker.spawn(guard.keep_judging(stop.child_token()));
    let dial = roles::dial_address(&endpoint)?;
    if json {
        output::json(
            &serde_json::json!({ "operator": operator, "address": dial, "models": models, "measures": measures, "judges": judge }),
        )?;
    } else {
        output::say(format!("guard {operator} is up"));
        output::say(format!("  audits    {}", models.join(", ")));
        if measures {
            output::say("  measures  miners that it is drawn for, with the session in its configuration");
        }
        output::say(format!("  judges    {}", if judge { models.first().map_or("", String::as_str) } else { "no" }));
        output::say(format!("  miners    put this into their configuration: {dial}"));
    }
    signal.await;
    output::progress("stopping: findings that are not revealed yet are revealed after the next start");
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    endpoint.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The session with which it measures.
async fn measuring(section: &MeasureSection, node: &Node, data: &Path) -> eyre::Result<(Client, Limits)> {
    let client = roles::client(node, &section.router, section.session, &section.keystore, data).await?;
    let limits = Limits { tokens_max: section.tokens_max, context_max: section.context_max, ..Limits::default() };
    Ok((client, limits))
}

/// Says on chain whether this guard judges; returns whether it does.
async fn judges(file: &GuardFile, node: &Node, engines: &[Arc<dyn Engine>]) -> eyre::Result<bool> {
    let engine = engines.first().map(|engine| &**engine).filter(|_| file.guard.judge);
    let accepted = declare_judge(&node.contracts, &node.wallet, engine).await?;
    if !accepted {
        output::progress("governance has not named a family for this model: it audits, and does not judge");
    }
    Ok(accepted && engine.is_some())
}
