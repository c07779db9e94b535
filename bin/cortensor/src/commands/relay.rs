//! `cortensor relay`: blocks and messages between a chain of validators and the chain that it settles on.

use super::{
    up::stop_signal,
    wallet::{load_deployment, open_keystore_with},
};
use crate::{
    cli::{RelayCommand, RelayDeployArgs},
    output,
};
use alloy::{
    eips::BlockId,
    primitives::{Address, U256},
    providers::Provider as _,
    signers::local::PrivateKeySigner,
    sol_types::SolConstructor as _,
};
use cortensor_contracts::{
    Deployment, Endpoint, Wallet, artifact,
    bindings::token::CortensorToken,
    connect_as,
    lanes::{Ends, Settlement, SettlementParameters, SettlementTokens, deploy_settlement},
};
use cortensor_node::relay::{
    AggregateSection, Aggregator, EndSection, RELAY_TEMPLATE, Relay, RelayFile, RpcCertificates, RpcShares, ShareSource,
};
use cortensor_protocol::Wei;
use eyre::{Context, bail, ensure, eyre};
use std::{path::Path, process::ExitCode, sync::Arc};
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(command: RelayCommand) -> eyre::Result<ExitCode> {
    match command {
        RelayCommand::Init { config } => init(&config),
        RelayCommand::Deploy(arguments) => Box::pin(deploy(arguments)).await,
        RelayCommand::Run { config } => relay(&config).await,
    }
}

fn init(path: &Path) -> eyre::Result<ExitCode> {
    if path.exists() {
        bail!("{} is there already; it is not overwritten", path.display());
    }
    std::fs::write(path, RELAY_TEMPLATE).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    output::say(format!("{} is written: name both chains, their contracts and who pays for gas", path.display()));
    Ok(ExitCode::SUCCESS)
}

async fn deploy(arguments: RelayDeployArgs) -> eyre::Result<ExitCode> {
    let file = RelayFile::read(&arguments.config)?;
    ensure!(!file.settlement.exists(), "{} is there already; it is not overwritten", file.settlement.display());
    let deployment = load_deployment(&file.deployment)?;
    let wallets = Ends { upper: wallet(&file.upper, None).await?, lower: wallet(&file.lower, None).await? };
    let provider = wallets.lower.provider();
    deployment.verify(provider).await.wrap_err("the deployment file does not fit the lower chain")?;
    let contracts = deployment.contracts(provider);
    let head = provider.get_block(BlockId::latest()).await?.ok_or_else(|| eyre!("the lower chain has no block"))?;
    let anchor = head.header.inner;
    let set = contracts.validators.set_at(anchor.number + 1).await?.hash();
    ensure!(
        anchor.extra_data.as_ref() == set.as_slice(),
        "the lower chain's headers do not carry the hash of its validators' set: is it a chain of one validator?"
    );
    let parameters = SettlementParameters {
        governance: arguments.governance,
        delay_s: arguments.delay_hours * 3600,
        // Stake that leaves when a set is named has not left when the trust in it ends.
        trust_period_s: (contracts.registry.unbonding_delay().await? * 3 / 4).max(1),
        validators: deployment.validators,
        epoch_length_blocks: contracts.validators.epoch_length_blocks().await?,
        anchor,
    };
    let tokens = SettlementTokens { upper: arguments.token, lower: bridged_token(&wallets.lower, &deployment).await? };
    output::progress("deploying both ends");
    let settlement = deploy_settlement(&wallets, tokens, &parameters).await?;
    settlement.save(&file.settlement)?;
    output::say(format!("both ends stand; written to {}", file.settlement.display()));
    Ok(ExitCode::SUCCESS)
}

/// The token that the bridge mints on the lower chain: its COR, or, where some circulates already that no bridge backs, as
/// on a private network, one of its own.
async fn bridged_token(wallet: &Wallet, deployment: &Deployment) -> eyre::Result<Address> {
    let contracts = deployment.contracts(wallet.provider());
    if contracts.token.total_supply().await? == Wei::ZERO {
        return Ok(deployment.token);
    }
    output::progress("COR circulates on the lower chain already: what comes over the bridge is another token there");
    let holder = wallet.address();
    let constructor =
        CortensorToken::constructorCall { initialOwner: holder, initialHolder: holder, initialSupply: U256::ZERO };
    let code = [artifact::TOKEN.bytecode.as_ref(), &constructor.abi_encode()].concat();
    Ok(wallet.create(code.into()).await?.0)
}

async fn relay(path: &Path) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let file = RelayFile::read(path)?;
    let missing = || eyre!("there is no {}: it names the contracts of both ends", file.settlement.display());
    let settlement = Settlement::load(&file.settlement)?.ok_or_else(missing)?;
    let deployment = load_deployment(&file.deployment)?;
    let upper = wallet(&file.upper, Some(settlement.upper.chain_id)).await?;
    let lower = wallet(&file.lower, Some(settlement.lower.chain_id)).await?;
    let attester = match &file.attest {
        Some(section) => Some(open_keystore_with(&section.keystore, section.password_file.as_deref()).await?),
        None => None,
    };
    let certificates = Arc::new(RpcCertificates(lower.provider().clone()));
    let aggregator = match &file.aggregate {
        Some(section) => Some(aggregator(section, lower.signer()).await?),
        None => None,
    };
    let mut relay =
        Relay::new(&settlement, deployment.validators, (upper, lower), certificates, attester, file.relay.clone());
    if let Some(aggregator) = aggregator {
        relay = relay.with_aggregator(aggregator);
    }
    output::say(format!(
        "relaying between chain {} and chain {}",
        settlement.upper.chain_id, settlement.lower.chain_id
    ));
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.run(stop.clone()));
    signal.await;
    stop.cancel();
    running.await.wrap_err("the relayer ended abnormally")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the validators that the configuration names. One that cannot be reached now is asked again for each checkpoint.
async fn aggregator(section: &AggregateSection, reader: &PrivateKeySigner) -> eyre::Result<Aggregator> {
    let mut sources: Vec<Arc<dyn ShareSource>> = Vec::new();
    for url in &section.shares {
        let provider = match connect_as(url, reader).await {
            Ok(provider) => provider,
            Err(error) => {
                tracing::warn!(%error, url, "a validator does not answer yet");
                Endpoint::new(url.as_str()).provider()?
            }
        };
        sources.push(Arc::new(RpcShares(provider)));
    }
    Ok(Aggregator::new(sources, section.clone()))
}

/// The account that pays for gas on one of the chains; the chain is the one that the contracts stand on, where there are any.
async fn wallet(end: &EndSection, chain_id: Option<u64>) -> eyre::Result<Wallet> {
    let signer = open_keystore_with(&end.keystore, end.password_file.as_deref()).await?;
    let wallet = Wallet::new(connect_as(&end.rpc, &signer).await?, signer).await?;
    let found = wallet.chain_id();
    if let Some(expected) = chain_id.filter(|expected| *expected != found) {
        bail!("{} serves chain {found}; the contracts stand on chain {expected}", end.rpc);
    }
    Ok(wallet)
}
