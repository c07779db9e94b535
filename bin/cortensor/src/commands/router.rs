//! `cortensor router`: a router as a process of its own.

use super::{roles, up::stop_signal};
use crate::{cli::RoleArgs, output};
use cortensor_gateway::GatewayConfig;
use cortensor_node::{
    config::{ROUTER_TEMPLATE, RouterFile},
    node::Node,
    router::{AdmissionConfig, DispatchConfig, Router, RouterConfig, accept_miners, now_seconds},
};
use cortensor_protocol::{Price, RoleSet, Tier, Wei};
use eyre::{Context, eyre};
use std::{path::Path, process::ExitCode, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(arguments: RoleArgs) -> eyre::Result<ExitCode> {
    if arguments.init {
        let keystore = |text: &str| Ok(toml::from_str::<RouterFile>(text)?.node.keystore);
        roles::init(&arguments.config, ROUTER_TEMPLATE, keystore).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = RouterFile::read(&arguments.config)?;
    let node = roles::open(&file.chain, &file.node).await?;
    if arguments.register {
        roles::register(&node, RoleSet::ROUTER, file.node.stake_cor).await?;
        return Ok(ExitCode::SUCCESS);
    }
    roles::must_be_active(&node, RoleSet::ROUTER, "router").await?;
    serve(file, node, arguments.json).await
}

async fn serve(file: RouterFile, node: Node, json: bool) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let config = RouterConfig {
        store: file.node.data.join("router.redb"),
        domain: node.deployment.domain(),
        registry: node.deployment.registry,
        dispatch: DispatchConfig::default(),
        scheduler: cortensor_scheduler::Settings::default(),
        credit: file.router.client_credit_cor,
    };
    let router = Router::start(node.identity.clone(), node.view(), config)?;
    let endpoint = node.endpoint(&file.node).await?;
    let stop = CancellationToken::new();
    let admission = AdmissionConfig {
        recheck: node.recheck(),
        ..AdmissionConfig::new(node.deployment.chain_id, node.deployment.registry)
    };
    let accepting = tokio::spawn(accept_miners(router.clone(), endpoint.clone(), admission, stop.child_token()));
    let key = api_key(&file, &node, &router).await?;
    let listener =
        TcpListener::bind(file.router.http).await.wrap_err_with(|| format!("cannot listen on {}", file.router.http))?;
    let address = listener.local_addr()?;
    let serving =
        cortensor_gateway::serve(listener, Arc::new(router.clone()), GatewayConfig::default(), stop.child_token());
    let serving = tokio::spawn(serving);
    let dial = roles::dial_address(&endpoint)?;
    if json {
        output::json(&serde_json::json!({
            "api_url": format!("http://{address}"), "api_key_file": key, "operator": router.operator(), "address": dial,
        }))?;
    } else {
        output::say(format!("router {} is up", router.operator()));
        output::say(format!("  API       http://{address}/v1   key in {}", key.display()));
        output::say(format!("  miners    put this into their configuration: {dial}"));
    }
    signal.await;
    output::progress("stopping: running answers go on to their end");
    stop.cancel();
    serving.await??;
    // The accept loop only waits for miners; there is nothing of it to save.
    accepting.abort();
    endpoint.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The API key in the data folder, with a session behind it; both are made when they are missing.
async fn api_key(file: &RouterFile, node: &Node, router: &Router) -> eyre::Result<std::path::PathBuf> {
    let path = file.node.data.join("api-key");
    let known = match std::fs::read_to_string(&path) {
        Ok(key) => Some(key.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
    };
    if let Some(session) = known.as_deref().and_then(|key| router.session_of(key))
        && let Some(session) = node.contracts.sessions.session(session).await?
        && session.accepts_work(now_seconds())
    {
        return Ok(path);
    }
    output::progress("opening a session for the API key");
    let price = Wei(u128::from(file.router.session_max_price_cor) * Wei::COR.0);
    let deposit = Wei(u128::from(file.router.session_deposit_cor) * Wei::COR.0);
    let index = router.settlement().sessions().len() as u64;
    let request = cortensor_contracts::OpenRequest {
        deposit,
        session_key: node.identity.session_key(index).address(),
        key_limit: deposit,
        router: router.operator(),
        model: None,
        max_price: Price { input: price, output: price },
        min_tier: Tier::D,
        expiry: now_seconds() + 30 * 24 * 3600,
    };
    let opened = node.contracts.sessions.open(&node.wallet, &request).await?;
    let session =
        node.contracts.sessions.session(opened.id).await?.ok_or_else(|| eyre!("the session is not on chain"))?;
    let key = match known {
        Some(key) => router.adopt_api_session(session.into(), index, &key, true).await.map(|()| key)?,
        None => router.open_api_session(session.into(), index, true).await?,
    };
    write(&path, &key)?;
    Ok(path)
}

fn write(path: &Path, key: &str) -> eyre::Result<()> {
    cortensor_node::localnet::write_secret(path, key).wrap_err_with(|| format!("cannot write {}", path.display()))
}
