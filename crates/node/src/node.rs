//! A node that is a process of its own: its keys, its chain and the contracts there, from its configuration.

use crate::{
    chain_view::{CachedView, ChainView},
    config::{ChainSection, NodeSection},
    contracts_view::ContractsView,
    identity::Identity,
    members_view::MembersView,
};
use alloy::signers::local::PrivateKeySigner;
use cortensor_contracts::{
    ConnectError, Contracts, Deployment, DeploymentFileError, ReadError, VerifyError, Wallet, connect_as,
};
use cortensor_net::{BindError, Endpoint, NetConfig};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How old an answer of the chain may be that a role acts on.
const VIEW_LIFETIME: Duration = Duration::from_secs(10);

/// How often the members of a permissioned network are asked for again.
const RECHECK: Duration = Duration::from_millis(500);

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No chain answers.
    #[error("cannot reach the chain")]
    Connect(#[from] ConnectError),
    /// The file with the contracts' addresses is of no use.
    #[error("cannot use the deployment file")]
    Deployment(#[from] DeploymentFileError),
    /// There is no such file.
    #[error("there is no {0}: `cortensor deploy` writes one, and `cortensor up` keeps one in its data folder")]
    NoDeployment(PathBuf),
    /// The contracts are others, or not there.
    #[error("the deployment file does not fit the chain")]
    Verify(#[from] VerifyError),
    /// The chain could not be asked for its number.
    #[error("cannot read the chain")]
    Read(#[from] ReadError),
    /// The data folder cannot be made.
    #[error("cannot make {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A node with its keys and its chain.
#[derive(Debug)]
pub struct Node {
    /// Its keys.
    pub identity: Identity,
    /// Its account.
    pub wallet: Wallet,
    /// Where the contracts are.
    pub deployment: Deployment,
    /// Clients of them.
    pub contracts: Contracts,
}

impl Node {
    /// Connects to the chain, checks that the contracts stand there, and makes the data folder.
    ///
    /// # Errors
    /// Names what is not there or does not fit.
    pub async fn open(chain: &ChainSection, node: &NodeSection, signer: PrivateKeySigner) -> Result<Self, NodeError> {
        let provider = connect_as(&chain.rpc, &signer).await?;
        let deployment =
            Deployment::load(&chain.deployment)?.ok_or_else(|| NodeError::NoDeployment(chain.deployment.clone()))?;
        deployment.verify(&provider).await?;
        let identity = Identity::new(signer);
        let wallet = Wallet::new(provider.clone(), identity.signer().clone()).await?;
        std::fs::create_dir_all(&node.data).map_err(|source| NodeError::Folder { path: node.data.clone(), source })?;
        let contracts = deployment.contracts(&provider);
        Ok(Self { identity, wallet, deployment, contracts })
    }

    /// The chain as its services read it.
    #[must_use]
    pub fn view(&self) -> Arc<dyn ChainView> {
        let direct = Arc::new(ContractsView::new(self.contracts.clone()));
        let cached = Arc::new(CachedView::new(direct, VIEW_LIFETIME));
        match &self.contracts.members {
            Some(members) => Arc::new(MembersView::new(cached, members.clone())),
            None => cached,
        }
    }

    /// How often those that it is connected to are looked up again: on a permissioned network, where whoever leaves is cut off.
    #[must_use]
    pub fn recheck(&self) -> Option<Duration> {
        self.contracts.members.is_some().then_some(RECHECK)
    }

    /// Its encrypted transport.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn endpoint(&self, node: &NodeSection) -> Result<Endpoint, BindError> {
        let mut config = NetConfig::new(self.identity.transport_secret(), node.listen);
        config.relays.clone_from(&node.relays);
        Endpoint::bind(config).await
    }
}
