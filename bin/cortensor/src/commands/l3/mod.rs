//! `cortensor l3`: a private network, its members, and what they can show of it.

mod audit_file;
mod create;
mod export;
mod join;
mod verify;

use crate::{
    cli::l3::{HomeArgs, L3Command},
    output,
};
use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
    transports::http::reqwest::Url,
};
use cortensor_chain::{RIGHT_SEND, WEI_PER_COIN};
use cortensor_consensus::home;
use cortensor_contracts::{
    ConnectError, Contracts, Deployment, Members, Provider, Wallet, access_token, connect_as,
    keystore::{self, PasswordSource},
    server_name,
};
use cortensor_protocol::Wei;
use eyre::{Context, eyre};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What a member's folder says of its network.
const HOME_FILE: &str = "l3.json";
/// The member's encrypted key.
const ACCOUNT_FILE: &str = "account.key.json";
/// Its password.
const PASSWORD_FILE: &str = "account.password";
/// Addresses of the contracts.
const DEPLOYMENT_FILE: &str = "deployment.json";
/// Members that are listed.
const LISTED_MAX: usize = 10_000;

pub(crate) async fn run(command: L3Command) -> eyre::Result<ExitCode> {
    match command {
        L3Command::Create(arguments) => Box::pin(create::run(&arguments)).await,
        L3Command::Invite(arguments) => join::invite(&arguments).await,
        L3Command::Join(arguments) => join::join(&arguments).await,
        L3Command::Remove { member, home } => remove(member, &home).await,
        L3Command::Members { home, json } => members(&home, json).await,
        L3Command::Token { home, server, minutes } => token(&home, server, minutes),
        L3Command::Send { to, coins, cor, home } => send(to, coins, cor, &home).await,
        L3Command::ExportAudit(arguments) => export::run(&arguments).await,
        L3Command::VerifyAudit { file, network, signer, json } => verify::run(&file, &network, signer, json),
    }
}

/// The network of a member's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// What it is called.
    name: String,
    /// Its chain.
    chain_id: u64,
    /// Its member registry.
    members: Address,
    /// Nodes that may be read, the first first.
    rpc: Vec<String>,
}

/// A member's folder.
struct Home {
    folder: PathBuf,
    network: Described,
    account: PrivateKeySigner,
}

impl Home {
    fn open(arguments: &HomeArgs) -> eyre::Result<Self> {
        let folder = arguments.folder.clone();
        let network: Described = home::read(&folder.join(HOME_FILE))
            .wrap_err("this is no folder that `cortensor l3 create` or `cortensor l3 join` wrote")?;
        let account =
            account_of(&folder)?.ok_or_else(|| eyre!("there is no {ACCOUNT_FILE} in {}", folder.display()))?;
        Ok(Self { folder, network, account })
    }

    async fn provider(&self) -> eyre::Result<Provider> {
        any_of(&self.network.rpc, &self.account).await
    }

    /// The account, at a node that answers.
    async fn wallet(&self) -> eyre::Result<Wallet> {
        Ok(Wallet::new(self.provider().await?, self.account.clone()).await?)
    }

    fn members(&self, provider: &Provider) -> Members {
        Members::new(provider.clone(), self.network.members)
    }

    fn contracts(&self, provider: &Provider) -> eyre::Result<Contracts> {
        Ok(self.deployment()?.contracts(provider))
    }

    fn deployment(&self) -> eyre::Result<Deployment> {
        let path = self.folder.join(DEPLOYMENT_FILE);
        Deployment::load(&path)?.ok_or_else(|| eyre!("there is no {}", path.display()))
    }
}

/// The account of a member's folder; none where the folder is another's.
pub(crate) fn account_of(folder: &Path) -> eyre::Result<Option<PrivateKeySigner>> {
    if !folder.join(ACCOUNT_FILE).exists() {
        return Ok(None);
    }
    let password = PasswordSource::File(folder.join(PASSWORD_FILE)).get()?;
    Ok(Some(keystore::open(&folder.join(ACCOUNT_FILE), &password)?))
}

/// The first of these nodes that answers this reader.
async fn any_of(urls: &[String], reader: &PrivateKeySigner) -> eyre::Result<Provider> {
    let mut refused = None;
    for url in urls {
        match connect_as(url, reader).await {
            Ok(provider) => return Ok(provider),
            // One that answers and says no counts for more than one that is away.
            Err(error @ ConnectError::Private { .. }) => refused = Some(error),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or_else(|| eyre!("the folder names no node"), Into::into))
}

/// Makes an account under a random password that lies beside it.
fn write_account(folder: &Path) -> eyre::Result<PrivateKeySigner> {
    let password = B256::from(rand::random::<[u8; 32]>()).to_string();
    super::network::write_secret(&folder.join(PASSWORD_FILE), &password)?;
    // A random password of 256 bits needs no costly derivation.
    let strength = keystore::Strength::DevelopmentOnly;
    Ok(keystore::create(&folder.join(ACCOUNT_FILE), &keystore::Password::new(password)?, strength)?)
}

async fn remove(member: Address, home: &HomeArgs) -> eyre::Result<ExitCode> {
    let home = Home::open(home)?;
    let wallet = home.wallet().await?;
    let removed = home.members(wallet.provider()).remove(&wallet, member).await?;
    output::say(format!("{member} was removed in block {}: from the next one on it is nobody", removed.block));
    Ok(ExitCode::SUCCESS)
}

async fn members(home: &HomeArgs, json: bool) -> eyre::Result<ExitCode> {
    let home = Home::open(home)?;
    for member in home.members(&home.provider().await?).members(LISTED_MAX).await? {
        if json {
            output::json(&member)?;
        } else {
            let may = if member.rights & RIGHT_SEND == 0 { "reads" } else { "reads and sends" };
            output::say(format!("{}  {may}, since block {}", member.account, member.joined_at));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn token(home: &HomeArgs, server: Option<String>, minutes: u64) -> eyre::Result<ExitCode> {
    let home = Home::open(home)?;
    let server = match server {
        Some(server) => server,
        None => server_name(&Url::parse(home.network.rpc.first().ok_or_else(|| eyre!("the folder names no node"))?)?),
    };
    output::say(access_token(&home.account, home.network.chain_id, &server, minutes * 60));
    Ok(ExitCode::SUCCESS)
}

async fn send(to: Address, coins: u64, cor: u64, home: &HomeArgs) -> eyre::Result<ExitCode> {
    let home = Home::open(home)?;
    let wallet = home.wallet().await?;
    if coins > 0 {
        wallet.send_native(to, WEI_PER_COIN * U256::from(coins)).await?;
    }
    if cor > 0 {
        let token = home.contracts(wallet.provider())?.token;
        token.transfer(&wallet, to, Wei(u128::from(cor) * Wei::COR.0)).await?;
    }
    output::say(format!("{to} got {coins} coins and {cor} COR"));
    Ok(ExitCode::SUCCESS)
}
