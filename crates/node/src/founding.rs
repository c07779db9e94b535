//! The contracts of a new chain in its block 0: deployed on a chain in memory, whose state then begins the new one.
//!
//! So validators have their powers from the contract from the first epoch on, and nobody has to deploy anything on a
//! chain that is running already. Logs of the deployment do not come along.

use alloy::{
    eips::eip2935::HISTORY_STORAGE_ADDRESS,
    primitives::{Address, U256},
    signers::local::PrivateKeySigner,
};
use cortensor_chain::{Chain, Config, Genesis, GenesisAccount, StartError, StopError, StoreError, WEI_PER_COIN};
use cortensor_contracts::{
    ConnectError, DeployError, DeployParameters, Deployment, ReadError, Wallet, connect, deploy,
};
use std::collections::BTreeMap;

/// Why block 0 could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoundingError {
    /// The chain in memory did not start.
    #[error("cannot start a chain in memory to deploy on")]
    Start(#[from] StartError),
    /// Nor could it be reached.
    #[error("cannot reach the chain in memory")]
    Connect(#[from] ConnectError),
    /// Its account is not usable.
    #[error("cannot use the founder's account")]
    Wallet(#[source] ReadError),
    /// Deploying failed.
    #[error("cannot deploy the contracts")]
    Deploy(#[from] DeployError),
    /// Its state could not be read.
    #[error("cannot read the state of the chain in memory")]
    Export(#[from] StoreError),
    /// The contracts would believe that epochs had passed.
    #[error("deploying takes {0} blocks, and an epoch must be longer than that")]
    Epoch(u64),
    /// It did not stop in order.
    #[error("the chain in memory failed")]
    Stop(#[from] StopError),
}

/// What a new chain begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Where the contracts stand, from block 0 on.
    pub deployment: Deployment,
    /// They and their founder, whose first transactions made them; without a balance.
    pub accounts: BTreeMap<Address, GenesisAccount>,
    /// Unix time from which on they exist, in seconds.
    pub timestamp: u64,
}

/// Deploys the contracts as `founder` would on the chain `chain_id`, and takes what that gives.
///
/// # Errors
/// When the parameters cannot be deployed.
pub async fn found(
    chain_id: u64,
    founder: PrivateKeySigner,
    parameters: &DeployParameters,
) -> Result<Founding, FoundingError> {
    let account = founder.address();
    let balance = GenesisAccount { balance_wei: WEI_PER_COIN, ..GenesisAccount::default() };
    let mut config = Config::development(chain_id);
    config.genesis = Genesis { accounts: BTreeMap::from([(account, balance)]), ..Genesis::default() };
    let chain = Chain::start(config).await?;
    let provider = connect(&chain.http_url()).await?;
    let wallet = Wallet::new(provider, founder).await.map_err(FoundingError::Wallet)?;
    let deployed = deploy(&wallet, parameters).await;
    let (mut accounts, head) = (chain.export_accounts()?, chain.head());
    drop(wallet);
    chain.shutdown().await?;
    if head.number >= u64::from(parameters.validators.epoch_length_blocks) {
        return Err(FoundingError::Epoch(head.number));
    }
    let deployment = Deployment { block: 0, ..deployed? };
    // The hashes of blocks that the new chain does not have stay behind, and so do those who were paid for them.
    accounts.remove(&HISTORY_STORAGE_ADDRESS);
    accounts.retain(|address, entry| *address == account || !entry.code.is_empty());
    accounts.entry(account).or_default().balance_wei = U256::ZERO;
    Ok(Founding { deployment, accounts, timestamp: head.timestamp })
}
