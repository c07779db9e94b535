//! Why a contract refused, in words: custom errors of all our contracts, `require` messages and Solidity panics.
//!
//! One table over all contracts decodes a refusal, because they call each other: opening a session can fail with
//! an error of the token. Decoding never fails; what nothing fits is shown by its selector.

use crate::artifact;
use alloy::{
    dyn_abi::{DynSolValue, ErrorExt},
    json_abi::Error,
    primitives::{Bytes, Selector},
    sol_types::{Panic, PanicKind, Revert as Message, SolError},
    transports::{RpcError, TransportError},
};
use std::{collections::BTreeMap, fmt, sync::LazyLock};

/// A refusal by a contract, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    name: String,
    arguments: Vec<(String, String)>,
    data: Bytes,
}

static ERRORS: LazyLock<BTreeMap<Selector, Error>> = LazyLock::new(|| {
    artifact::all().into_iter().flat_map(|a| a.abi.errors()).map(|error| (error.selector(), error.clone())).collect()
});

impl Revert {
    /// Decodes what a reverting call returned.
    #[must_use]
    pub fn decode(data: &Bytes) -> Self {
        let (name, arguments) = message(data).or_else(|| custom(data)).unwrap_or_else(|| (unknown(data), Vec::new()));
        Self { name, arguments, data: data.clone() }
    }

    /// The error's name in the contract, such as `StakeBelowMinimum`; `Error` for a `require` message, `Panic` for a
    /// broken assertion.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the custom error of that name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The text of one argument: integers in decimal, accounts with their checksum, bytes in hexadecimal.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the call returned.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The refusal inside an RPC error, if the node reported one.
    pub(crate) fn from_rpc(error: &TransportError) -> Option<Self> {
        let RpcError::ErrorResp(payload) = error else { return None };
        if let Some(data) = payload.as_revert_data() {
            return Some(Self::decode(&data));
        }
        // Code 3 is what nodes answer for a revert (EIP-1474's successors); without data it was `revert()`.
        (payload.code == 3).then(|| Self::decode(&Bytes::new()))
    }
}

fn message(data: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    if let Ok(Message { reason }) = Message::abi_decode(data) {
        return Some(("Error".into(), vec![("message".into(), reason)]));
    }
    let Panic { code } = Panic::abi_decode(data).ok()?;
    let kind = u32::try_from(code).ok().and_then(PanicKind::from_number);
    let text = kind.map_or_else(|| format!("{code:#x}"), |kind| kind.as_str().to_owned());
    Some(("Panic".into(), vec![("kind".into(), text)]))
}

fn custom(data: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let error = ERRORS.get(&Selector::try_from(data.get(..4)?).ok()?)?;
    let decoded = error.decode_error(data).ok()?;
    let values = error.inputs.iter().zip(&decoded.body);
    Some((error.name.clone(), values.map(|(input, value)| (input.name.clone(), show(value))).collect()))
}

fn unknown(data: &Bytes) -> String {
    match data.get(..4) {
        Some(selector) => format!("unknown error {}", alloy::hex::encode_prefixed(selector)),
        None => "reverted without a reason".into(),
    }
}

fn show(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::Address(value) => value.to_string(),
        DynSolValue::String(value) => value.clone(),
        DynSolValue::Bytes(value) => alloy::hex::encode_prefixed(value),
        DynSolValue::FixedBytes(value, length) => alloy::hex::encode_prefixed(&value[..*length]),
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.arguments.is_empty() {
            return Ok(());
        }
        let mut separator = "(";
        for (name, value) in &self.arguments {
            write!(f, "{separator}{name}{}{value}", if name.is_empty() { "" } else { " " })?;
            separator = ", ";
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::{registry::NodeRegistry, sessions::Sessions, token::CortensorToken};
    use alloy::primitives::{Address, U256};

    fn check(data: Vec<u8>, expect: &str) {
        assert_eq!(Revert::decode(&data.into()).to_string(), expect);
    }

    #[test]
    fn custom_errors_of_every_contract_read_as_text() {
        check(
            NodeRegistry::StakeBelowMinimum { role: 2, stake: 5, minimum: 10 }.abi_encode(),
            "StakeBelowMinimum(role 2, stake 5, minimum 10)",
        );
        check(Sessions::NotEquivocation {}.abi_encode(), "NotEquivocation");
        check(
            CortensorToken::ERC20InsufficientBalance {
                sender: Address::ZERO,
                balance: U256::from(1),
                needed: U256::from(2),
            }
            .abi_encode(),
            "ERC20InsufficientBalance(sender 0x0000000000000000000000000000000000000000, balance 1, needed 2)",
        );
    }

    #[test]
    fn messages_and_panics_read_as_text() {
        check(Message { reason: "no".into() }.abi_encode(), "Error(message no)");
        check(Panic { code: U256::from(0x11) }.abi_encode(), "Panic(kind arithmetic underflow or overflow)");
    }

    #[test]
    fn what_nothing_fits_keeps_its_selector() {
        check(vec![1, 2, 3, 4, 5], "unknown error 0x01020304");
        check(vec![], "reverted without a reason");
        check(vec![1], "reverted without a reason");
    }

    #[test]
    fn truncated_errors_do_not_panic() {
        let mut data = NodeRegistry::StakeBelowMinimum { role: 2, stake: 5, minimum: 10 }.abi_encode();
        data.truncate(40);
        check(data, "unknown error 0x83f8f3e4");
    }

    #[test]
    fn arguments_are_found_by_name() {
        let data = NodeRegistry::StakeBelowMinimum { role: 2, stake: 5, minimum: 10 }.abi_encode();
        let revert = Revert::decode(&data.into());
        assert!(revert.is("StakeBelowMinimum"));
        assert_eq!(revert.argument("minimum"), Some("10"));
        assert_eq!(revert.argument("maximum"), None);
    }
}
