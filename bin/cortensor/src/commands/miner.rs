//! `cortensor miner`: a miner as a process of its own.

use super::{roles, up::stop_signal};
use crate::{
    cli::RoleArgs,
    engines::{self, EngineOptions},
    output,
};
use cortensor_engine::{
    Engine,
    openai::{KeySource, OpenAiConfig, OpenAiEngine},
};
use cortensor_node::{
    config::{BackendSection, MINER_TEMPLATE, MinerFile},
    miner::{MinerService, Offering},
    node::Node,
};
use cortensor_protocol::RoleSet;
use eyre::{Context, bail};
use std::{path::Path, process::ExitCode, sync::Arc};

pub(crate) async fn run(arguments: RoleArgs) -> eyre::Result<ExitCode> {
    if arguments.init {
        let keystore = |text: &str| Ok(toml::from_str::<MinerFile>(text)?.node.keystore);
        roles::init(&arguments.config, MINER_TEMPLATE, keystore).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = MinerFile::read(&arguments.config)?;
    let node = roles::open(&file.chain, &file.node).await?;
    if arguments.register {
        roles::register(&node, RoleSet::MINER, file.node.stake_cor).await?;
        return Ok(ExitCode::SUCCESS);
    }
    roles::must_be_active(&node, RoleSet::MINER, "miner").await?;
    serve(file, node, arguments.json).await
}

async fn serve(file: MinerFile, node: Node, json: bool) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let mut offerings = Vec::new();
    for model in &file.miner.model {
        let price = model.price().map_err(|problem| eyre::eyre!(problem))?;
        output::progress("loading a model");
        offerings.push(Offering { engine: engine(&model.backend, &file.node.data).await?, price });
    }
    let service = MinerService::start(&node, &file, offerings).await?;
    let miner = &service.miner;
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
    if !service.stop().await {
        output::progress("some answers did not end in time and were cut off; what they delivered is paid");
    }
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
