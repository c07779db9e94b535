//! `cortensor wallet`: accounts in encrypted keystores.

use crate::{cli::WalletCommand, output};
use alloy::{
    primitives::{Address, utils::format_ether},
    providers::Provider,
    signers::local::PrivateKeySigner,
};
use cortensor_contracts::{
    Deployment,
    keystore::{self, Password, PasswordError, PasswordSource, Strength},
};
use cortensor_protocol::Operator;
use eyre::{Context, bail, eyre};
use std::{io::IsTerminal, path::Path, process::ExitCode};
use zeroize::Zeroizing;

/// Environment variable with the password of keystores.
const PASSWORD: &str = "CORTENSOR_PASSWORD";
/// Environment variable with the path of a file that holds it.
const PASSWORD_FILE: &str = "CORTENSOR_PASSWORD_FILE";

pub(crate) async fn run(command: WalletCommand) -> eyre::Result<ExitCode> {
    match command {
        WalletCommand::New { keystore } => {
            let signer = create_keystore(&keystore).await?;
            output::say(format!("{}", signer.address()));
            output::progress(&format!("the encrypted key is in {}: keep it and its password safe", keystore.display()));
        }
        WalletCommand::Balance { account, rpc, deployment, json } => balance(&account, &rpc, &deployment, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The password of keystores: from a file, the environment, or a person at a terminal. A new one is asked for twice.
fn password(new: bool) -> eyre::Result<Password> {
    let password = if let Some(path) = std::env::var_os(PASSWORD_FILE) {
        PasswordSource::File(path.into()).get()
    } else if std::env::var_os(PASSWORD).is_some() {
        PasswordSource::Environment(PASSWORD.into()).get()
    } else if std::io::stdin().is_terminal() {
        ask(new)?
    } else {
        return Err(eyre!(
            "no password: set {PASSWORD_FILE} to a file that holds it, or {PASSWORD} to itself, or use a terminal"
        ));
    };
    Ok(password?)
}

/// Asks at the terminal, without showing what is typed.
fn ask(new: bool) -> eyre::Result<Result<Password, PasswordError>> {
    let typed = Zeroizing::new(rpassword::prompt_password("password of the keystore: ")?);
    if new && *typed != *Zeroizing::new(rpassword::prompt_password("the same again: ")?) {
        bail!("the two passwords differ; nothing was made");
    }
    Ok(Password::new(typed.as_str()))
}

/// Opens a keystore.
pub(crate) async fn open_keystore(path: &Path) -> eyre::Result<PrivateKeySigner> {
    open_keystore_with(path, None).await
}

/// Opens a keystore whose password may be in a file of its own.
pub(crate) async fn open_keystore_with(path: &Path, file: Option<&Path>) -> eyre::Result<PrivateKeySigner> {
    let shown = path.display().to_string();
    let (path, file) = (path.to_owned(), file.map(Path::to_owned));
    let secret = move || match file {
        Some(file) => Ok(PasswordSource::File(file).get()?),
        None => password(false),
    };
    // Deriving the key takes a second of computing, and a person takes longer to type.
    let opened = tokio::task::spawn_blocking(move || Ok::<_, eyre::Report>(keystore::open(&path, &secret()?)?));
    opened.await?.wrap_err_with(|| format!("cannot open the keystore {shown}"))
}

/// Makes a keystore with a new key; never overwrites one.
pub(crate) async fn create_keystore(path: &Path) -> eyre::Result<PrivateKeySigner> {
    let shown = path.display().to_string();
    let path = path.to_owned();
    let made = move || Ok::<_, eyre::Report>(keystore::create(&path, &password(true)?, Strength::Standard)?);
    tokio::task::spawn_blocking(made).await?.wrap_err_with(|| format!("cannot make the keystore {shown}"))
}

async fn balance(account: &str, rpc: &str, deployment: &Path, json: bool) -> eyre::Result<()> {
    let address = match account.parse::<Address>() {
        Ok(address) => address,
        Err(_) => keystore::account(Path::new(account))?
            .ok_or_else(|| eyre!("{account} is neither an address nor a keystore that names its account"))?,
    };
    let provider = super::access::connect(rpc).await?;
    let contracts = load_deployment(deployment)?.contracts(&provider);
    let coins = provider.get_balance(address).await?;
    let cor = contracts.token.balance_of(address).await?;
    let credit = contracts.sessions.credit_of(address).await?;
    let court = contracts.court.credit_of(address).await?;
    let rewards = contracts.rewards.claimable(Operator(address), contracts.guards.next_epoch().await?).await?;
    if json {
        return output::json(&serde_json::json!({
            "address": address, "coins_wei": coins.to_string(), "cor_wei": cor, "withdrawable_wei": credit,
            "court_wei": court, "rewards_wei": rewards.amount,
        }));
    }
    output::say(format!("{address}"));
    output::say(format!("  {} coins for gas", format_ether(coins)));
    output::say(format!("  {cor}"));
    output::say(format!("  {credit} can be withdrawn from the sessions contract"));
    output::say(format!("  {court} can be withdrawn from the court"));
    output::say(format!("  {} of rewards for {} epochs are not claimed", rewards.amount, rewards.epochs));
    Ok(())
}

/// Reads a deployment file.
pub(crate) fn load_deployment(path: &Path) -> eyre::Result<Deployment> {
    Deployment::load(path)?.ok_or_else(|| {
        eyre!(
            "there is no {}: `cortensor deploy` writes one, and `cortensor up` keeps one in its data folder",
            path.display()
        )
    })
}
