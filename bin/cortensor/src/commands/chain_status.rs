//! `cortensor chain status`: what the node of a folder knows of its chain, its peers and who decides.

use super::validator::validator_key;
use crate::output;
use alloy::primitives::{B256, Bytes, U64, U256};
use cortensor_consensus::home::{self, Network, Node};
use cortensor_contracts::access_token;
use cortensor_protocol::TransportKey;
use eyre::{Context, eyre};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

/// For how long a token for one look at a node counts.
const TOKEN_SECONDS: u64 = 60;
/// Longest wait for one answer of the node.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Head {
    number: U64,
    hash: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    transport_key: B256,
    number: U64,
}

/// What of a certificate is shown.
#[derive(Deserialize)]
struct Decision {
    round: U64,
    validators: Vec<Bytes>,
    powers: Vec<U64>,
    signers: U256,
}

/// A node's JSON-RPC, as the owner of its folder asks.
struct Asked {
    http: reqwest::Client,
    node: Node,
    token: Option<String>,
}

impl Asked {
    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> eyre::Result<T> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.http.post(format!("http://{}", self.node.rpc)).timeout(ANSWER_MAX).body(body);
        let request = request.header("content-type", "application/json");
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.wrap_err_with(|| format!("no node answers at {}", self.node.rpc))?;
        let status = answer.status();
        let text = answer.text().await?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|_| eyre!("{method}: {status}: {text}"))?;
        if let Some(error) = answer.get("error") {
            return Err(eyre!("{method}: {error}"));
        }
        serde_json::from_value(answer["result"].take()).wrap_err_with(|| format!("{method} answers something else"))
    }
}

pub(crate) async fn run(home: &Path) -> eyre::Result<ExitCode> {
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    let network: Network = home::read(&home.join(home::NETWORK_FILE))?;
    // A private network answers whoever the folder belongs to.
    let reader = match &network.members {
        Some(_) => super::l3::account_of(home)?.map_or_else(|| validator_key(home), |key| Ok(Some(key)))?,
        None => None,
    };
    let token = reader.map(|reader| access_token(&reader, network.chain_id, &node.rpc.to_string(), TOKEN_SECONDS));
    cortensor_contracts::install_tls();
    let asked = Asked { http: reqwest::Client::new(), node, token };
    let head: Head = asked.call("eth_getBlockByNumber", json!(["latest", false])).await?;
    let peers: Vec<Peer> = asked.call("cortensor_peers", json!([])).await?;
    let decision: Option<Decision> = asked.call("cortensor_getCertificate", json!([head.number])).await?;
    output::say(format!("chain {} at block {}, {}", network.chain_id, head.number.to::<u64>(), head.hash));
    say_peers(&asked.node, home::transport_key(home)?, head.number.to(), &peers);
    if let Some(decision) = decision {
        say_decision(&decision);
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that the folder lists, whether they can be reached or not, and then the others.
fn say_peers(node: &Node, own: TransportKey, head: u64, peers: &[Peer]) {
    let mut reached: BTreeMap<B256, u64> = peers.iter().map(|peer| (peer.transport_key, peer.number.to())).collect();
    output::say(format!("  peers       {}", reached.len()));
    // The list of a network's peers names this node too.
    for listed in node.peers.iter().filter(|listed| listed.key() != own) {
        let told = reached.remove(&listed.key().0).map(|number| behind(head, number));
        output::say(format!("  {:<22}  {}", listed.place(), told.as_deref().unwrap_or("not reached")));
    }
    for (key, number) in reached {
        output::say(format!("  {:<22}  {}", format!("{}…", &key.to_string()[2..14]), behind(head, number)));
    }
}

/// How far a peer was when it last told.
fn behind(head: u64, number: u64) -> String {
    match head.checked_sub(number) {
        _ if number == 0 => "has not told of a block yet".to_owned(),
        Some(0) => format!("block {number}"),
        Some(missing) => format!("block {number}, {missing} behind this node"),
        None => format!("block {number}, {} ahead of this node", number - head),
    }
}

fn say_decision(decision: &Decision) {
    let (signed, all) = (decision.signers.count_ones(), decision.validators.len());
    output::say(format!("  decided by  {signed} of {all} validators, round {}", decision.round.to::<u64>()));
    for (index, (address, power)) in decision.validators.iter().zip(&decision.powers).enumerate() {
        let mark = if decision.signers.bit(index) { "signed" } else { "absent" };
        output::say(format!("  {address}  {mark}  power {}", power.to::<u64>()));
    }
}
