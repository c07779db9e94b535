//! `cortensor deploy`: the contracts onto any EVM chain.

use super::wallet::open_keystore;
use crate::{cli::DeployArgs, output};
use alloy::signers::local::PrivateKeySigner;
use cortensor_chain::DEVELOPMENT_KEYS;
use cortensor_contracts::{DeployParameters, Wallet, connect_as, deploy_once};
use eyre::bail;
use std::process::ExitCode;

/// Chains on which the well-known development account may deploy.
const DEVELOPMENT_CHAINS: [u64; 3] =
    [cortensor_node::localnet::L1_CHAIN_ID, cortensor_node::localnet::L2_CHAIN_ID, 1337];

pub(crate) async fn run(arguments: DeployArgs) -> eyre::Result<ExitCode> {
    let signer = match &arguments.keystore {
        Some(path) => open_keystore(path).await?,
        None => PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0])?,
    };
    let provider = connect_as(&arguments.rpc, &signer).await?;
    let wallet = Wallet::new(provider.clone(), signer).await?;
    if arguments.keystore.is_none() && !DEVELOPMENT_CHAINS.contains(&wallet.chain_id()) {
        bail!(
            "chain {} is not a development chain: name the account that deploys with --keystore FILE (make one with `cortensor wallet new FILE`)",
            wallet.chain_id()
        );
    }
    let parameters = if arguments.public {
        DeployParameters::public(wallet.address())
    } else {
        DeployParameters::development(wallet.address())
    };
    output::progress(&format!("deploying to chain {} from {}", wallet.chain_id(), wallet.address()));
    let deployment = deploy_once(&wallet, &parameters, &arguments.out).await?;
    deployment.verify(&provider).await?;
    if arguments.json {
        output::json(&deployment)?;
    } else {
        output::say(format!("deployed on chain {} and written to {}", deployment.chain_id, arguments.out.display()));
        for (name, address) in [
            ("token", deployment.token),
            ("registry", deployment.registry),
            ("models", deployment.models),
            ("sessions", deployment.sessions),
            ("guards", deployment.guards),
            ("scores", deployment.scores),
            ("court", deployment.court),
            ("batches", deployment.batches),
            ("audits", deployment.audits),
            ("rewards", deployment.rewards),
            ("capabilities", deployment.capabilities),
            ("usefulness", deployment.usefulness),
            ("validators", deployment.validators),
            ("equivocations", deployment.equivocations),
        ] {
            output::say(format!("  {name:<13} {address}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
