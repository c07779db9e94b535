//! `cortensor chain run|sign`: one of the validators that decide a chain together.

use super::{
    node_metrics::{self, Sources},
    up::stop_signal,
    wallet::open_keystore,
};
use crate::{
    cli::{ChainRunArgs, ChainSignArgs, ChainSync},
    output,
};
use alloy::signers::local::PrivateKeySigner;
use cortensor_chain::MetricsSnapshot;
use cortensor_consensus::{
    home::{self, KeyFrom, Network, Node, Running},
    signing::{Signer, SigningServer},
};
use cortensor_contracts::{
    ConnectError, Deployment, Wallet, connect_as,
    keystore::{self, PasswordSource},
};
use cortensor_node::validator::Duties;
use cortensor_protocol::consensus::Domain;
use eyre::{Context, eyre};
use std::{path::Path, process::ExitCode, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the contracts stand, in a node's folder.
pub(crate) const DEPLOYMENT_FILE: &str = "deployment.json";
/// Where a signer listens, and what it has signed, in the folder that holds its key.
const SIGNER_SOCKET: &str = "signer.sock";
const SIGNED_FILE: &str = "signed.json";
/// Longest and shortest time between two looks at what a validator has to do beside voting.
const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(100);

pub(crate) async fn run(arguments: ChainRunArgs) -> eyre::Result<ExitCode> {
    let stop = stop_signal()?;
    if arguments.sync == ChainSync::Snapshot
        && let Some(block) = home::begin_with_copy(&arguments.home).await?
    {
        output::progress(&format!("began with a copy of the state after block {block}"));
    }
    let (from, key) = key_from(&arguments)?;
    let node = home::start(&arguments.home, from, arguments.new_log).await?;
    let signs = node.validator.is_some();
    let stop_duties = CancellationToken::new();
    let payer = match &arguments.operator {
        Some(keystore) => Some(open_keystore(keystore).await?),
        None => key,
    };
    let duties = duties(&arguments.home, payer, &node).await?;
    let watched = duties.as_ref().map(Duties::metrics);
    let duties = duties.map(|duties| tokio::spawn(duties.run(stop_duties.clone())));
    let listener = metrics_listener(&arguments.home).await?;
    let chain = &node.chain;
    if arguments.json {
        output::json(&serde_json::json!({
            "rpc": chain.http_url(), "ws": chain.ws_url(), "chain_id": chain.chain_id(),
            "block": chain.head().number, "validator": signs,
        }))?;
    } else {
        let role = if signs { "a validator" } else { "a follower" };
        output::say(format!("chain {} at block {}, {role}", chain.chain_id(), chain.head().number));
        output::say(format!("  JSON-RPC {}   {}", chain.http_url(), chain.ws_url()));
    }
    let sources = Sources { chain: || chain.metrics(), consensus: node.metrics.clone(), duties: watched };
    tokio::select! {
        () = stop => output::progress("stopping"),
        () = serve_metrics(listener, sources) => {}
        () = chain.stopped() => output::progress("the chain stopped by itself; see the log above"),
    }
    stop_duties.cancel();
    if let Some(duties) = duties {
        duties.await.wrap_err("the validator's duties ended abnormally")?;
    }
    node.chain.shutdown().await?;
    output::progress("stopped: what this node signed is in a block or in its log");
    Ok(ExitCode::SUCCESS)
}

/// Where signatures come from, and the key itself where it is in this process.
fn key_from(arguments: &ChainRunArgs) -> eyre::Result<(KeyFrom, Option<PrivateKeySigner>)> {
    let home = &arguments.home;
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    if arguments.follow {
        return Ok((KeyFrom::Nobody, None));
    }
    if let Some(socket) = node.signer {
        return Ok((KeyFrom::Socket(home.join(socket)), None));
    }
    let key = validator_key(home)?;
    let from = key.as_ref().map_or(KeyFrom::Nobody, |key| KeyFrom::Key(key.to_bytes()));
    Ok((from, key))
}

/// Keeps a validator's key apart from its node.
pub(crate) async fn sign(arguments: ChainSignArgs) -> eyre::Result<ExitCode> {
    let stop = stop_signal()?;
    let home = &arguments.home;
    let network: Network = home::read(&home.join(home::NETWORK_FILE))?;
    let key = validator_key(home)?.ok_or_else(|| eyre!("there is no validator's key in {}", home.display()))?;
    let signer = Signer::new(&key.to_bytes(), Domain::new(network.chain_id))?;
    let socket = arguments.socket.unwrap_or_else(|| home.join(SIGNER_SOCKET));
    let server = SigningServer::open(signer, network.chain_id, &home.join(SIGNED_FILE), &socket)?;
    output::say(format!("signing for {} at {}", key.address(), socket.display()));
    tokio::select! {
        () = stop => output::progress("stopping"),
        () = server.run() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Where `node.json` says that counters are to be served.
async fn metrics_listener(home: &Path) -> eyre::Result<Option<TcpListener>> {
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    match node.metrics {
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Ok(Some(listener.wrap_err_with(|| format!("cannot serve metrics at {address}"))?))
        }
        None => Ok(None),
    }
}

async fn serve_metrics<C: Fn() -> MetricsSnapshot>(listener: Option<TcpListener>, sources: Sources<C>) {
    match listener {
        Some(listener) => node_metrics::serve(listener, sources).await,
        None => std::future::pending().await,
    }
}

/// What the validator does beside voting, where the contracts are known and an account is there to pay for it.
async fn duties(home: &Path, payer: Option<PrivateKeySigner>, node: &Running) -> eyre::Result<Option<Duties>> {
    let Some(key) = node.validator else { return Ok(None) };
    let Some(deployment) = Deployment::load(&home.join(DEPLOYMENT_FILE))? else { return Ok(None) };
    let Some(payer) = payer else {
        tracing::warn!(
            "no signs of life, as no account pays for them: name the operator's with --operator, or be jailed"
        );
        return Ok(None);
    };
    let file: Node = home::read(&home.join(home::NODE_FILE))?;
    let provider = match connect_as(&node.chain.http_url(), &payer).await {
        Err(error @ ConnectError::Private { .. }) => {
            tracing::warn!(%error, "this validator votes and does nothing else: start it again when it is a member");
            return Ok(None);
        }
        answered => answered?,
    };
    let contracts = deployment.contracts(&provider);
    let wallet = Wallet::new(provider, payer).await?;
    let every = Duration::from_millis(file.empty_block_ms).clamp(LOOK_MIN, LOOK_MAX);
    Ok(Some(Duties::new(key, wallet, contracts, &home.join(home::EVIDENCE_FILE), every)))
}

/// The validator's key of a folder, opened with the password beside it or, without that, one that a person gives.
pub(crate) fn validator_key(home: &Path) -> eyre::Result<Option<PrivateKeySigner>> {
    let path = home.join(home::VALIDATOR_KEY_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let file = home.join(home::PASSWORD_FILE);
    let ask = || rpassword::prompt_password(format!("password of {}: ", path.display()));
    let source = if file.exists() { PasswordSource::File(file) } else { PasswordSource::Prompt(&ask) };
    Ok(Some(keystore::open(&path, &source.get()?)?))
}
