//! `cortensor chain run|status`: one of the validators that decide a chain together.

use super::{
    node_metrics::{self, Sources},
    up::stop_signal,
};
use crate::{cli::ChainRunArgs, output};
use alloy::{primitives::U256, signers::local::PrivateKeySigner};
use cortensor_chain::MetricsSnapshot;
use cortensor_consensus::home::{self, Network, Node, Running};
use cortensor_contracts::{
    ConnectError, Deployment, Wallet, access_token, connect_as,
    keystore::{self, PasswordSource},
};
use cortensor_node::validator::Duties;
use eyre::Context;
use std::{path::Path, process::ExitCode, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the contracts stand, in a node's folder.
pub(crate) const DEPLOYMENT_FILE: &str = "deployment.json";
/// Longest and shortest time between two looks at what a validator has to do beside voting.
const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(100);
/// For how long a token for one look at a node counts.
const TOKEN_SECONDS: u64 = 60;

pub(crate) async fn run(arguments: ChainRunArgs) -> eyre::Result<ExitCode> {
    let stop = stop_signal()?;
    let key = if arguments.follow { None } else { validator_key(&arguments.home)? };
    let signs = key.is_some();
    let bytes = key.as_ref().map(PrivateKeySigner::to_bytes);
    let node = home::start(&arguments.home, bytes, arguments.new_log).await?;
    let stop_duties = CancellationToken::new();
    let duties = match key {
        Some(key) => duties(&arguments.home, key, &node).await?,
        None => None,
    };
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
    let head = chain.head().number;
    node.chain.shutdown().await?;
    output::progress(&format!("stopped at block {head} or the one after it; what was signed beyond is in the log"));
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

/// What the validator does beside voting, where the contracts are known.
async fn duties(home: &Path, key: PrivateKeySigner, node: &Running) -> eyre::Result<Option<Duties>> {
    let Some(deployment) = Deployment::load(&home.join(DEPLOYMENT_FILE))? else { return Ok(None) };
    let file: Node = home::read(&home.join(home::NODE_FILE))?;
    let provider = match connect_as(&node.chain.http_url(), &key).await {
        Err(error @ ConnectError::Private { .. }) => {
            tracing::warn!(%error, "this validator votes and does nothing else: start it again when it is a member");
            return Ok(None);
        }
        answered => answered?,
    };
    let contracts = deployment.contracts(&provider);
    let wallet = Wallet::new(provider, key).await?;
    let every = Duration::from_millis(file.empty_block_ms).clamp(LOOK_MIN, LOOK_MAX);
    Ok(Some(Duties::new(wallet, contracts, &home.join(home::EVIDENCE_FILE), every)))
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

pub(crate) async fn status(home: &Path) -> eyre::Result<ExitCode> {
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    let network: Network = home::read(&home.join(home::NETWORK_FILE))?;
    // A private network answers whoever the folder belongs to.
    let reader = match &network.members {
        Some(_) => super::l3::account_of(home)?.map_or_else(|| validator_key(home), |key| Ok(Some(key)))?,
        None => None,
    };
    let token = reader.map(|reader| access_token(&reader, network.chain_id, &node.rpc.to_string(), TOKEN_SECONDS));
    let call = async |method: &str, params: serde_json::Value| -> eyre::Result<serde_json::Value> {
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = reqwest::Client::new().post(format!("http://{}", node.rpc)).timeout(Duration::from_secs(5));
        let request = match &token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.header("content-type", "application/json").body(body).send().await;
        let text = answer.wrap_err_with(|| format!("no node answers at {}", node.rpc))?.text().await?;
        Ok(serde_json::from_str::<serde_json::Value>(&text)?["result"].take())
    };
    cortensor_contracts::install_tls();
    let block = call("eth_getBlockByNumber", serde_json::json!(["latest", false])).await?;
    let peers = call("net_peerCount", serde_json::json!([])).await?;
    let certificate = call("cortensor_getCertificate", serde_json::json!([block["number"]])).await?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("0x0").to_owned();
    let number: U256 = text(&block["number"]).parse()?;
    output::say(format!("chain {} at block {number}, {}", network.chain_id, text(&block["hash"])));
    output::say(format!("  peers       {}", text(&peers).parse::<U256>()?));
    if let Some(validators) = certificate["validators"].as_array() {
        let signers: U256 = text(&certificate["signers"]).parse()?;
        let round: U256 = text(&certificate["round"]).parse()?;
        output::say(format!(
            "  decided by  {} of {} validators, round {round}",
            signers.count_ones(),
            validators.len()
        ));
        for (index, (address, power)) in
            validators.iter().zip(certificate["powers"].as_array().into_iter().flatten()).enumerate()
        {
            let mark = if signers.bit(index) { "signed" } else { "absent" };
            output::say(format!("  {}  {mark}  power {}", text(address), text(power).parse::<U256>()?));
        }
    }
    Ok(ExitCode::SUCCESS)
}
