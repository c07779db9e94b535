//! Deploying: once per record, checked against the chain, handed over where asked.

use crate::{
    anvil::Anvil,
    world::{World, signer},
};
use alloy::{primitives::Address, providers::Provider as _, signers::local::PrivateKeySigner};
use cortensor_contracts::{
    DeployError, DeployParameters, Deployment, EnsureError, VerifyError, Wallet, bindings::sessions::Sessions, connect,
    deploy, deploy_once,
};

pub(crate) async fn deploys_once_and_knows_its_own(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deployment.json");
    let provider = connect(url).await.unwrap();
    let deployer = Wallet::new(provider.clone(), signer(0)).await.unwrap();
    let parameters = DeployParameters::development(deployer.address());
    let first = deploy_once(&deployer, &parameters, &path).await.unwrap();
    let nonce = provider.get_transaction_count(deployer.address()).await.unwrap();
    assert_eq!(deploy_once(&deployer, &parameters, &path).await.unwrap(), first);
    assert_eq!(provider.get_transaction_count(deployer.address()).await.unwrap(), nonce, "nothing was sent");
    assert_eq!(first.contracts(&provider).sessions.parameters().await.unwrap(), parameters.sessions);

    let elsewhere = Deployment { chain_id: 1, ..first.clone() };
    assert!(matches!(elsewhere.verify(&provider).await, Err(VerifyError::WrongChain { expected: 1, .. })));
    let nothing = Deployment { models: Address::repeat_byte(9), ..first.clone() };
    assert!(matches!(nothing.verify(&provider).await, Err(VerifyError::NoCode { contract: "ModelRegistry", .. })));
    let swapped = Deployment { models: first.token, ..first.clone() };
    assert!(matches!(swapped.verify(&provider).await, Err(VerifyError::OtherCode { .. })));
    let second = deploy(&deployer, &parameters).await.unwrap();
    let mixed = Deployment { models: second.models, ..first.clone() };
    let error = mixed.verify(&provider).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unrelated { reference: "model registry", .. }), "{error}");
    let registry = &first.contracts(&provider).registry;
    registry.set_slasher(&deployer, first.sessions, false).await.unwrap();
    assert!(matches!(first.verify(&provider).await, Err(VerifyError::NotSlasher(_))));
    assert!(matches!(deploy_once(&deployer, &parameters, &path).await, Err(EnsureError::Stale(_))));

    let penniless = Wallet::new(provider, PrivateKeySigner::random()).await.unwrap();
    assert!(matches!(deploy(&penniless, &parameters).await, Err(DeployError::NoGas(..))));
}

pub(crate) async fn offers_contracts_to_their_owner(url: &str) {
    let provider = connect(url).await.unwrap();
    let deployer = Wallet::new(provider.clone(), signer(0)).await.unwrap();
    let owner = Wallet::new(provider.clone(), signer(1)).await.unwrap();
    let deployment = deploy(&deployer, &DeployParameters::public(owner.address())).await.unwrap();
    let Deployment { token, registry, models, sessions, scores, court, audits, batches, rewards, capabilities, .. } =
        deployment;
    for contract in [token, registry, models, sessions, scores, court, audits, batches, rewards, capabilities] {
        owner.call(contract, &Sessions::acceptOwnershipCall {}).await.unwrap();
    }
    let parameters = DeployParameters::development(owner.address()).sessions;
    let sessions = &deployment.contracts(&provider).sessions;
    let refused = sessions.set_parameters(&deployer, parameters).await.unwrap_err();
    assert!(refused.revert().unwrap().is("OwnableUnauthorizedAccount"));
    sessions.set_parameters(&owner, parameters).await.unwrap();
    assert_eq!(sessions.parameters().await.unwrap(), parameters);
    assert_eq!(sessions.treasury().await.unwrap(), rewards, "the protocol's share is for those who work");
}

/// A record of a chain that was thrown away does not pass on the chain that took its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_chain_is_noticed() {
    let first = Anvil::start().await;
    let deployment = World::bare(first.url()).await.deployment;
    first.kill().await;
    let second = Anvil::start().await;
    let provider = connect(second.url()).await.unwrap();
    assert!(matches!(deployment.verify(&provider).await, Err(VerifyError::NoCode { .. })));
}
