//! The configuration of a relayer.

use crate::config::{ConfigError, read_toml};
use cortensor_protocol::consensus::VALIDATORS_MAX;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A configuration to begin with.
pub const RELAY_TEMPLATE: &str = include_str!("relay.toml");

/// One of the chains.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSection {
    /// JSON-RPC.
    pub rpc: String,
    /// Keystore of the account that pays for gas there.
    pub keystore: PathBuf,
    /// File with its password; without one it comes from the environment, or from a person.
    pub password_file: Option<PathBuf>,
}

/// What a validator adds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestSection {
    /// Keystore of the consensus key.
    pub keystore: PathBuf,
    /// File with its password; without one it comes from the environment, or from a person.
    pub password_file: Option<PathBuf>,
}

/// Which block of the upper chain is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalBlock {
    /// The one that its node says.
    Finalized,
    /// The one with so many after it.
    Confirmations(u64),
}

/// When one signature stands for all validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// Where it is estimated to be cheaper than the certificate.
    Cheaper,
    /// Wherever enough validators give their share.
    Always,
}

/// Checkpoints with one signature for all validators.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateSection {
    /// JSON-RPC of the validators that are asked for their shares.
    pub shares: Vec<String>,
    /// When to take it.
    pub prefer: Preference,
    /// Pay for adding up a set's keys when the gas that checkpoints save pays it back within so many of them.
    pub repaid_within: u64,
}

/// How often, and what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySection {
    /// Seconds between two looks at the chains.
    pub interval_seconds: u64,
    /// Whether to hand out what came over the bridge, paying the gas for those it belongs to.
    pub claim: bool,
    /// Whether to fix each next epoch's set of validators, paying the gas for it.
    pub advance: bool,
    /// Which block of the upper chain is final.
    pub finality: FinalBlock,
    /// Only blocks of the upper chain whose number is a multiple of this are attested: the same for all validators.
    pub stride_blocks: u64,
}

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayFile {
    /// The chain that is settled on.
    pub upper: EndSection,
    /// The chain of validators.
    pub lower: EndSection,
    /// File with the contracts of both ends.
    pub settlement: PathBuf,
    /// File with the contracts of the chain of validators, as `cortensor deploy` writes it.
    pub deployment: PathBuf,
    /// How often, and what.
    pub relay: RelaySection,
    /// Only for validators.
    pub attest: Option<AttestSection>,
    /// Without it every checkpoint comes with its certificate.
    pub aggregate: Option<AggregateSection>,
}

impl RelayFile {
    /// Reads a relayer's configuration.
    ///
    /// # Errors
    /// When it cannot be read or is no such configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file: Self = read_toml(path)?;
        if file.relay.stride_blocks == 0 {
            let problem = "must be at least 1".to_owned();
            return Err(ConfigError::Value { path: path.to_owned(), field: "relay.stride_blocks", problem });
        }
        if file.aggregate.as_ref().is_some_and(|section| section.shares.len() > VALIDATORS_MAX) {
            let problem = format!("names more validators than a set may have, {VALIDATORS_MAX}");
            return Err(ConfigError::Value { path: path.to_owned(), field: "aggregate.shares", problem });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, RELAY_TEMPLATE).unwrap();
        let file = RelayFile::read(&path).unwrap();
        assert_eq!(file.relay.finality, FinalBlock::Finalized);
        assert!(file.attest.is_none() && file.aggregate.is_none());
        std::fs::write(&path, RELAY_TEMPLATE.replace("stride_blocks = 32", "stride_blocks = 0")).unwrap();
        assert!(matches!(RelayFile::read(&path), Err(ConfigError::Value { field: "relay.stride_blocks", .. })));
        let (head, commented) = RELAY_TEMPLATE.split_once("# [aggregate]").unwrap();
        let settings = ["shares", "prefer", "repaid_within"];
        let uncomment = |text: String, name: &str| text.replace(&format!("\n# {name} ="), &format!("\n{name} ="));
        let section = settings.into_iter().fold(format!("[aggregate]{commented}"), uncomment);
        std::fs::write(&path, format!("{head}{section}")).unwrap();
        let aggregate = RelayFile::read(&path).unwrap().aggregate.unwrap();
        assert_eq!((aggregate.prefer, aggregate.shares.len()), (Preference::Cheaper, 2));
        let many: Vec<String> = (0..=VALIDATORS_MAX).map(|index| format!("{index:?}")).collect();
        let many = format!("shares = [{}]", many.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "));
        let line = section.lines().find(|line| line.starts_with("shares")).unwrap();
        std::fs::write(&path, format!("{head}{}", section.replace(line, &many))).unwrap();
        assert!(matches!(RelayFile::read(&path), Err(ConfigError::Value { field: "aggregate.shares", .. })));
    }
}
