//! Who reads, where a chain answers only members of its network.

use super::wallet::open_keystore;
use alloy::signers::local::PrivateKeySigner;
use cortensor_contracts::{Provider, connect_as};
use std::{path::PathBuf, sync::OnceLock};

/// The keystore that `--access` names, for the whole process.
static READER: OnceLock<PathBuf> = OnceLock::new();

/// Remembers who reads. Called once, before any command runs.
pub(crate) fn read_with(keystore: Option<PathBuf>) {
    if let Some(keystore) = keystore {
        // There is one command line.
        let _ = READER.set(keystore);
    }
}

/// Connects to a chain, as whom `--access` names.
pub(crate) async fn connect(rpc: &str) -> eyre::Result<Provider> {
    Ok(match READER.get() {
        Some(keystore) => connect_as(rpc, &open_keystore(keystore).await?).await?,
        None => cortensor_contracts::connect(rpc).await?,
    })
}

/// The same, but where nobody is named, as whose key is at hand anyway.
pub(crate) async fn connect_with(rpc: &str, key: &PrivateKeySigner) -> eyre::Result<Provider> {
    if READER.get().is_some() { connect(rpc).await } else { Ok(connect_as(rpc, key).await?) }
}
