//! What the commands of routers and miners have in common: keys, chain, registration.

use super::wallet::{create_keystore, open_keystore};
use crate::output;
use cortensor_client::{Client, Options, Terms};
use cortensor_contracts::{NodeRegistration, TransportBinding};
use cortensor_net::Endpoint;
use cortensor_node::{
    config::{ChainSection, NodeSection},
    node::Node,
};
use cortensor_protocol::{RoleSet, SessionId, Wei};
use eyre::{Context, bail, eyre};
use std::path::{Path, PathBuf};

/// Opens a node's keystore and its chain.
pub(crate) async fn open(chain: &ChainSection, node: &NodeSection) -> eyre::Result<Node> {
    let signer = open_keystore(&node.keystore).await?;
    Ok(Node::open(chain, node, signer).await?)
}

/// Registers a node and puts up its stake, unless it is registered.
pub(crate) async fn register(node: &Node, roles: RoleSet, stake_cor: u64) -> eyre::Result<()> {
    let operator = node.identity.operator();
    if let Some(record) = node.contracts.registry.node(operator).await? {
        output::say(format!("{operator} is registered already: {} with {} staked", record.roles, record.stake));
        return Ok(());
    }
    let stake = Wei(u128::from(stake_cor) * Wei::COR.0);
    let held = node.contracts.token.balance_of(operator.0).await?;
    if held < stake {
        bail!("{operator} holds {held} and is to stake {stake}: send it the difference, and some coins for gas");
    }
    let registration = NodeRegistration {
        operator,
        payout: operator.0,
        roles,
        stake,
        transport: TransportBinding {
            key: node.identity.transport_key(),
            signature: node.identity.bind_transport(node.deployment.chain_id, node.deployment.registry),
        },
        claims: Vec::new(),
        consent: None,
    };
    node.contracts.registry.register(&node.wallet, &registration).await?;
    output::say(format!("{operator} is registered as {roles} with {stake} staked"));
    Ok(())
}

/// Says what to do where a node may not serve.
pub(crate) async fn must_be_active(node: &Node, roles: RoleSet, name: &str) -> eyre::Result<()> {
    let operator = node.identity.operator();
    match node.contracts.registry.node(operator).await? {
        Some(record) if record.active && record.roles.contains(roles) => Ok(()),
        Some(record) => bail!(
            "{operator} is registered as {} with {} staked, but is not an active {name}: add stake, or end its unbonding",
            record.roles,
            record.stake
        ),
        None => bail!(
            "{operator} is not registered: send it COR for the stake and coins for gas, then run `cortensor {name} --config FILE --register`"
        ),
    }
}

/// A client of a router that pays from a session whose key is in a keystore.
pub(crate) async fn client(
    node: &Node,
    router: &str,
    id: SessionId,
    keystore: &Path,
    data: &Path,
) -> eyre::Result<Client> {
    let session = node.contracts.sessions.session(id).await?.ok_or_else(|| eyre!("the chain knows no session {id}"))?;
    let key = open_keystore(keystore).await?;
    if session.session_key != Some(key.address()) {
        bail!("{} does not hold the key of session {id}", keystore.display());
    }
    let terms = Terms {
        session: id,
        router: session.router,
        domain: node.deployment.domain(),
        max_price: session.max_price,
        min_tier: session.min_tier,
    };
    Ok(Client::connect(Options::new(router, terms, key).book(data.join(format!("{id}.json")))).await?)
}

/// Where miners on this machine dial a router.
pub(crate) fn dial_address(endpoint: &Endpoint) -> eyre::Result<String> {
    let address = endpoint.node_address().ok_or_else(|| eyre!("the transport has no address"))?;
    Ok(address.to_string())
}

/// Writes a configuration and makes the key that it names; overwrites neither.
pub(crate) async fn init(
    path: &Path,
    template: &str,
    keystore: impl FnOnce(&str) -> eyre::Result<PathBuf>,
) -> eyre::Result<()> {
    if path.exists() {
        bail!("{} is there already; it is not overwritten", path.display());
    }
    let keystore = keystore(template)?;
    if keystore.exists() {
        output::progress(&format!("{} is there already and is used", keystore.display()));
    } else {
        let signer = create_keystore(&keystore).await?;
        output::say(format!("the account of this node is {}", signer.address()));
    }
    std::fs::write(path, template).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    output::say(format!(
        "{} is written: edit it, then check it with `cortensor doctor --config {}`",
        path.display(),
        path.display()
    ));
    Ok(())
}
