//! `cortensor up`: the whole network on this machine until Ctrl-C or SIGTERM.

use super::{calibrate, model::served_model};
use crate::{
    cli::UpArgs,
    engines::{self, EngineOptions},
    output,
};
use cortensor_chain::{DEVELOPMENT_ADDRESSES, DEVELOPMENT_KEYS};
use cortensor_contracts::Deployment;
use cortensor_engine::{
    Engine,
    mock::{MockConfig, MockEngine},
};
use cortensor_node::localnet::{LocalNet, LocalNetConfig};
use eyre::Context;
use std::{path::Path, process::ExitCode, sync::Arc};

pub(crate) async fn run(arguments: UpArgs) -> eyre::Result<ExitCode> {
    // The handler is there before anything starts, so that a signal during the start also ends in a clean stop.
    let stop = stop_signal()?;
    tokio::pin!(stop);
    std::fs::create_dir_all(&arguments.data).wrap_err_with(|| format!("cannot make {}", arguments.data.display()))?;
    output::progress("loading the model");
    let engines = engines(&arguments).await?;
    let model = engines[0].info().manifest.name.clone();
    let profiles = calibrate::stored(&arguments.data, &*engines[0])?;
    let weighs = !profiles.is_empty();
    let config = LocalNetConfig {
        listen: arguments.listen,
        l1_listen: arguments.l1_listen,
        l2_listen: arguments.l2_listen,
        l1_rpc: arguments.chains.l1_rpc.clone(),
        l2_rpc: arguments.chains.l2_rpc.clone(),
        guards: usize::from(arguments.guards),
        profiles,
        ..LocalNetConfig::new(arguments.data.clone())
    };
    let net = LocalNet::start(config, engines, &output::progress).await?;
    if arguments.json {
        output::json(&ready(&net, &arguments.data))?;
    } else {
        welcome(&net, &model, &arguments.data, weighs);
    }
    tokio::select! {
        () = &mut stop => output::progress("stopping"),
        () = net.l2.stopped() => output::progress("L2 stopped by itself; see the log above"),
    }
    net.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves on Ctrl-C or SIGTERM.
pub(crate) fn stop_signal() -> eyre::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).wrap_err("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).wrap_err("cannot listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn engines(arguments: &UpArgs) -> eyre::Result<Vec<Arc<dyn Engine>>> {
    let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
    for _ in 0..arguments.miners {
        if arguments.simulate {
            engines.push(MockEngine::start(MockConfig::default())?);
            continue;
        }
        let path = match &arguments.model {
            Some(path) => path.clone(),
            None => served_model(&arguments.data)?,
        };
        engines.push(engines::llama(&path, EngineOptions::default()).await?);
    }
    Ok(engines)
}

/// The addresses of a deployment, by contract.
fn contracts(deployment: &Deployment) -> serde_json::Value {
    let mut all = serde_json::json!(deployment);
    if let Some(fields) = all.as_object_mut() {
        fields.retain(|name, _| name != "chain_id" && name != "block");
    }
    all
}

fn ready(net: &LocalNet, data: &Path) -> serde_json::Value {
    serde_json::json!({
        "api_url": net.api_url(),
        "api_key": net.api_key,
        "l1_rpc": net.l1.http_url(),
        "l2_rpc": net.l2.http_url(),
        "chain_id": net.deployment.chain_id,
        "contracts": contracts(&net.deployment),
        "deployment": data.join("deployment.json"),
        "funded_account": {
            "address": DEVELOPMENT_ADDRESSES[0],
            "private_key": DEVELOPMENT_KEYS[0],
        },
        "session": net.session,
        "router": net.router.operator(),
        "guards": net.guards.iter().map(|local| local.identity.operator()).collect::<Vec<_>>(),
        "miners": net.miners.iter().map(|miner| miner.identity.operator()).collect::<Vec<_>>(),
    })
}

fn welcome(net: &LocalNet, model: &str, data: &Path, weighs: bool) {
    let (url, key) = (net.api_url(), &net.api_key);
    let guards = match net.guards.len() {
        1 => "one guard".to_owned(),
        count => format!("{count} guards"),
    };
    output::say(format!("\nThe network is up: {} miners, one router, {guards}, L1 and L2.\n", net.miners.len()));
    output::say(format!("  API       {url}/v1"));
    output::say(format!("  API key   {key}"));
    output::say(format!("  L1 RPC    {}   (chain {})", net.l1.http_url(), net.l1.chain_id()));
    output::say(format!(
        "  L2 RPC    {}   (chain {}, carries the contracts)",
        net.l2.http_url(),
        net.deployment.chain_id
    ));
    output::say(format!("  contracts {}", data.join("deployment.json").display()));
    output::say(format!("  model     {model}"));
    if !net.guards.is_empty() {
        output::say(if weighs {
            "  audits    contradictions, and evidence by this machine's profile\n"
        } else {
            "  audits    contradictions only: `cortensor calibrate run` makes the profile that evidence needs\n"
        });
    }
    output::say(format!(
        "curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n  -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Who are you?\"}}]}}'\n"
    ));
    output::say(format!(
        "from openai import OpenAI\nclient = OpenAI(base_url=\"{url}/v1\", api_key=\"{key}\")\nprint(client.chat.completions.create(model=\"{model}\", messages=[{{\"role\": \"user\", \"content\": \"Who are you?\"}}]).choices[0].message.content)\n"
    ));
    output::say("Or, in another terminal: cortensor chat \"Who are you?\"      Ctrl-C stops everything.");
}
