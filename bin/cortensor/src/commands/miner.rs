//! `cortensor miner`: a miner as a process of its own.

use super::{roles, up::stop_signal, wallet::open_keystore};
use crate::{
    cli::RoleArgs,
    engines::{self, EngineOptions},
    output,
};
use cortensor_contracts::Wallet;
use cortensor_engine::{
    Engine,
    openai::{KeySource, OpenAiConfig, OpenAiEngine},
};
use cortensor_node::{
    config::{BackendSection, MINER_TEMPLATE, MinerFile, TrapSection},
    miner::{Miner, MinerService, Offering},
    node::Node,
    traps::{Setter, Traps},
};
use cortensor_protocol::RoleSet;
use eyre::{Context, bail};
use std::{path::Path, process::ExitCode, sync::Arc};
use tokio_util::sync::CancellationToken;

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
    let traps = match (&file.miner.traps, offerings.first_mut()) {
        (Some(_), Some(first)) => {
            let traps = Traps::open(&file.node.data.join("traps.redb"))?;
            first.engine = traps.engine(Arc::clone(&first.engine));
            Some(traps)
        }
        _ => None,
    };
    let service = MinerService::start(&node, &file, offerings).await?;
    let stop = CancellationToken::new();
    if let (Some(traps), Some(section)) = (traps, &file.miner.traps) {
        let setter = setter(&node, section, &service.miner, &file.node.data).await?;
        tokio::spawn(traps.keep_setting(setter, stop.child_token()));
    }
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
    stop.cancel();
    if !service.stop().await {
        output::progress("some answers did not end in time and were cut off; what they delivered is paid");
    }
    Ok(ExitCode::SUCCESS)
}

/// Who sets this miner's traps.
async fn setter(node: &Node, section: &TrapSection, miner: &Miner, data: &Path) -> eyre::Result<Setter> {
    let key = open_keystore(&section.keystore).await?;
    let model = miner.offers().first().map(|offer| offer.manifest.name.clone()).unwrap_or_default();
    Ok(Setter {
        contracts: node.contracts.clone(),
        wallet: Wallet::new(node.wallet.provider().clone(), key).await?,
        miner: miner.clone(),
        client: roles::client(node, &section.router, section.session, &section.session_keystore, data).await?,
        model,
        policy: section.policy(),
    })
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
