//! `cortensor miner`: a miner as a process of its own.

use super::{
    roles::{self, Node},
    up::stop_signal,
};
use crate::{
    cli::RoleArgs,
    engines::{self, EngineOptions},
    output,
};
use cortensor_engine::{
    Engine,
    openai::{KeySource, OpenAiConfig, OpenAiEngine},
};
use cortensor_net::NodeAddress;
use cortensor_node::{
    config::{BackendSection, MINER_TEMPLATE, MinerFile},
    guard::declare_class,
    miner::{
        Miner, MinerConfig, Offering,
        batches::keep_committing,
        cases::Retention,
        link::{LinkConfig, work},
        redeem::keep_redeeming,
    },
};
use cortensor_protocol::{RoleSet, Wei};
use eyre::{Context, bail};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) async fn run(arguments: RoleArgs) -> eyre::Result<ExitCode> {
    if arguments.init {
        let keystore = |text: &str| Ok(toml::from_str::<MinerFile>(text)?.node.keystore);
        roles::init(&arguments.config, MINER_TEMPLATE, keystore).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = MinerFile::read(&arguments.config)?;
    let node = Node::open(&file.chain, &file.node).await?;
    if arguments.register {
        node.register(RoleSet::MINER, file.node.stake_cor).await?;
        return Ok(ExitCode::SUCCESS);
    }
    node.must_be_active(RoleSet::MINER, "miner").await?;
    serve(file, node, arguments.json).await
}

async fn serve(file: MinerFile, node: Node, json: bool) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let routers = file.miner.routers.iter().map(|text| text.parse::<NodeAddress>()).collect::<Result<Vec<_>, _>>()?;
    let guards = file.miner.guards.iter().map(|text| text.parse::<NodeAddress>()).collect::<Result<Vec<_>, _>>()?;
    let mut offerings = Vec::new();
    for model in &file.miner.model {
        let price = model.price().map_err(|problem| eyre::eyre!(problem))?;
        output::progress("loading a model");
        offerings.push(Offering { engine: engine(&model.backend, &file.node.data).await?, price });
    }
    let config = MinerConfig {
        store: file.node.data.join("miner.redb"),
        domain: node.deployment.domain(),
        credit: Wei::COR,
        pay_timeout: Duration::from_secs(10),
        retention: Retention::default(),
    };
    if let Some(first) = offerings.first() {
        declare_class(&node.contracts, &node.wallet, &*first.engine).await?;
    }
    let miner = Miner::start(node.identity.clone(), node.view(), offerings, config)?;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let endpoint = node.endpoint(&file.node).await?;
    let link = LinkConfig { chain_id: node.deployment.chain_id, registry: node.deployment.registry, routers, guards };
    tracker.spawn(work(miner.clone(), node.identity.clone(), endpoint.clone(), node.view(), link, stop.child_token()));
    let redeeming = keep_redeeming(
        miner.clone(),
        node.contracts.clone(),
        node.wallet.clone(),
        file.redeem_policy(),
        stop.child_token(),
    );
    tracker.spawn(redeeming);
    tracker.spawn(keep_committing(
        miner.clone(),
        node.contracts.clone(),
        node.wallet.clone(),
        file.batch_policy(),
        stop.child_token(),
    ));
    if json {
        output::json(&serde_json::json!({ "operator": miner.operator(), "offers": miner.offers() }))?;
    } else {
        output::say(format!("miner {} is up", miner.operator()));
        for offer in miner.offers() {
            output::say(format!(
                "  {} at {} in, {} out per million tokens",
                offer.manifest.name, offer.price.input, offer.price.output
            ));
        }
    }
    signal.await;
    output::progress("stopping: running answers go on to their end");
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(Duration::from_secs(30), tracker.wait()).await.is_err() {
        output::progress("some answers did not end within 30 seconds and were cut off; what they delivered is paid");
    }
    endpoint.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The engine of a backend.
pub(crate) async fn engine(backend: &BackendSection, data: &Path) -> eyre::Result<Arc<dyn Engine>> {
    match backend {
        BackendSection::Bundled => engines::llama(&engines::bundled(data)?, EngineOptions::default()).await,
        BackendSection::Llama { path, slots, threads, context, exact } => {
            let options = EngineOptions {
                slots: slots.map(Into::into),
                threads: threads.map(Into::into),
                context: context.map(Into::into),
                exact: *exact,
            };
            engines::llama(path, options).await
        }
        BackendSection::Openai { .. } => Ok(openai(backend).await?),
    }
}

/// Connects to a server with OpenAI's API.
pub(crate) async fn openai(backend: &BackendSection) -> eyre::Result<Arc<OpenAiEngine>> {
    let BackendSection::Openai { url, model, key_env, slots } = backend else { bail!("not an upstream") };
    let mut config = OpenAiConfig::new(url, model);
    config.slots = slots.map(Into::into).or(config.slots);
    if let Some(name) = key_env {
        config.key = KeySource::Environment(name.clone());
    }
    OpenAiEngine::connect(config).await.wrap_err_with(|| format!("cannot use {url}"))
}
