//! What the commands of routers and miners have in common: keys, chain, registration.

use super::wallet::{create_keystore, load_deployment, open_keystore};
use crate::output;
use cortensor_contracts::{Contracts, Deployment, NodeRegistration, TransportBinding, Wallet, connect};
use cortensor_net::{Endpoint, NetConfig};
use cortensor_node::{
    chain_view::{CachedView, ChainView},
    config::{ChainSection, NodeSection},
    contracts_view::ContractsView,
    identity::Identity,
};
use cortensor_protocol::{RoleSet, Wei};
use eyre::{Context, bail, eyre};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A node with its keys and its chain.
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) wallet: Wallet,
    pub(crate) deployment: Deployment,
    pub(crate) contracts: Contracts,
}

impl Node {
    pub(crate) async fn open(chain: &ChainSection, node: &NodeSection) -> eyre::Result<Self> {
        let provider = connect(&chain.rpc).await?;
        let deployment = load_deployment(&chain.deployment)?;
        deployment.verify(&provider).await.wrap_err("the deployment file does not fit the chain")?;
        let identity = Identity::new(open_keystore(&node.keystore).await?);
        let wallet = Wallet::new(provider.clone(), identity.signer().clone()).await?;
        std::fs::create_dir_all(&node.data).wrap_err_with(|| format!("cannot make {}", node.data.display()))?;
        let contracts = deployment.contracts(&provider);
        Ok(Self { identity, wallet, deployment, contracts })
    }

    pub(crate) fn view(&self) -> Arc<dyn ChainView> {
        let direct = Arc::new(ContractsView::new(self.contracts.clone()));
        Arc::new(CachedView::new(direct, Duration::from_secs(10)))
    }

    pub(crate) async fn endpoint(&self, node: &NodeSection) -> eyre::Result<Endpoint> {
        let mut config = NetConfig::new(self.identity.transport_secret(), node.listen);
        config.relays = node.relays.clone();
        Ok(Endpoint::bind(config).await?)
    }

    pub(crate) async fn register(&self, roles: RoleSet, stake_cor: u64) -> eyre::Result<()> {
        let operator = self.identity.operator();
        if let Some(record) = self.contracts.registry.node(operator).await? {
            output::say(format!("{operator} is registered already: {} with {} staked", record.roles, record.stake));
            return Ok(());
        }
        let stake = Wei(u128::from(stake_cor) * Wei::COR.0);
        let held = self.contracts.token.balance_of(operator.0).await?;
        if held < stake {
            bail!("{operator} holds {held} and is to stake {stake}: send it the difference, and some coins for gas");
        }
        let registration = NodeRegistration {
            operator,
            payout: operator.0,
            roles,
            stake,
            transport: TransportBinding {
                key: self.identity.transport_key(),
                signature: self.identity.bind_transport(self.deployment.chain_id, self.deployment.registry),
            },
            claims: Vec::new(),
            consent: None,
        };
        self.contracts.registry.register(&self.wallet, &registration).await?;
        output::say(format!("{operator} is registered as {roles} with {stake} staked"));
        Ok(())
    }

    pub(crate) async fn must_be_active(&self, roles: RoleSet, name: &str) -> eyre::Result<()> {
        let operator = self.identity.operator();
        match self.contracts.registry.node(operator).await? {
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
