//! Changes of the rules from a height on (rules U1 to U3 of docs/spec/consensus.md).
//!
//! What a program does not know about an upgrade is kept when the file is read, so that the program runs until the block
//! before and then says what it lacks. It must not go on by itself: the others execute that block by other rules.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most upgrades that a network's file names.
pub const UPGRADES_MAX: usize = 64;
/// The hard forks that this program executes by.
const HARD_FORKS: &[&str] = &["osaka"];

/// A change of the rules.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Upgrade {
    /// What people call it.
    pub name: String,
    /// The first block under the new rules.
    pub height: u64,
    /// Gas limit of the blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_limit: Option<u64>,
    /// The contract that powers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validators_contract: Option<Address>,
    /// The EVM's rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_fork: Option<String>,
    /// The least version of the program, as `1.2.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What this program has never heard of.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// Upgrades that cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Too many.
    #[error("there are more than {UPGRADES_MAX} upgrades in network.json")]
    Count,
    /// Not in rising order, or at block 0.
    #[error("the heights of the upgrades in network.json must rise from 1 on")]
    Order,
}

/// An upgrade before which this program has to stop.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "block {height} begins the upgrade {name:?}, which {lack}. This program is version {}: put in one that knows it and \
     start again",
    env!("CARGO_PKG_VERSION")
)]
pub struct Unknown {
    /// The first block that this program cannot execute.
    pub height: u64,
    /// The upgrade.
    pub name: String,
    /// What this program lacks.
    pub lack: String,
}

impl Upgrade {
    /// What this program lacks for it.
    fn lack(&self) -> Option<String> {
        if let Some(other) = self.other.keys().next() {
            return Some(format!("changes {other:?}"));
        }
        if let Some(fork) = self.hard_fork.as_deref().filter(|fork| !HARD_FORKS.contains(fork)) {
            return Some(format!("asks for the hard fork {fork:?}"));
        }
        let program = self.program.as_deref()?;
        match (version(program), version(env!("CARGO_PKG_VERSION"))) {
            (Some(wanted), Some(own)) if wanted <= own => None,
            _ => Some(format!("asks for version {program}")),
        }
    }
}

fn version(text: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Whether a list can be.
///
/// # Errors
/// When it cannot.
pub fn check(upgrades: &[Upgrade]) -> Result<(), UpgradeError> {
    if upgrades.len() > UPGRADES_MAX {
        return Err(UpgradeError::Count);
    }
    let heights = [0].into_iter().chain(upgrades.iter().map(|upgrade| upgrade.height));
    if heights.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(UpgradeError::Order) }
}

/// The first upgrade that this program does not know.
#[must_use]
pub fn first_unknown(upgrades: &[Upgrade]) -> Option<Unknown> {
    upgrades.iter().find_map(|upgrade| {
        let (height, name) = (upgrade.height, upgrade.name.clone());
        upgrade.lack().map(|lack| Unknown { height, name, lack })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Vec<Upgrade> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_not_known_is_said() {
        let check = |upgrade: &str, expect: Option<&str>| {
            let upgrades = parse(&format!(r#"[{{"name": "n", "height": 7{upgrade}}}]"#));
            let found = first_unknown(&upgrades).map(|unknown| unknown.to_string());
            match (&found, expect) {
                (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
                (found, expect) => assert_eq!(found.as_deref(), expect),
            }
            assert_eq!(parse(&serde_json::to_string(&upgrades).unwrap()), upgrades);
        };
        check(r#", "gas_limit": 5000000"#, None);
        check(r#", "hard_fork": "osaka", "program": "0.0.1""#, None);
        check(r#", "hard_fork": "tomorrow""#, Some("asks for the hard fork \"tomorrow\""));
        check(r#", "program": "999.0.0""#, Some("asks for version 999.0.0"));
        check(r#", "program": "new""#, Some("asks for version new"));
        check(r#", "teleport": true"#, Some("changes \"teleport\""));
    }

    #[test]
    fn heights_rise() {
        let at = |heights: &[u64]| {
            let upgrade = |height: &u64| parse(&format!(r#"[{{"name": "n", "height": {height}}}]"#)).remove(0);
            check(&heights.iter().map(upgrade).collect::<Vec<_>>())
        };
        assert_eq!(at(&[1, 5, 9]), Ok(()));
        assert_eq!(at(&[0]), Err(UpgradeError::Order));
        assert_eq!(at(&[5, 5]), Err(UpgradeError::Order));
        assert_eq!(at(&(1..=65).collect::<Vec<_>>()), Err(UpgradeError::Count));
    }
}
