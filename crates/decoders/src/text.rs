//! What people and their programs write: bodies, configuration, addresses; and what models write.

use crate::choice;
use alloy::primitives::Address;
use cortensor_gateway::{Api, Asked, GatewayConfig, read_body};
use cortensor_net::NodeAddress;
use cortensor_node::config::{AnyFile, parse_cor};
use cortensor_protocol::{ModelId, SessionId, TaskId, Wei};
use std::{fmt::Display, path::Path, str::FromStr};

/// Bodies of every API.
pub(crate) fn bodies(bytes: &[u8]) -> bool {
    let (kind, body) = choice(bytes);
    let apis = [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings];
    let api = apis[usize::from(kind) % apis.len()];
    match read_body(api, body, &GatewayConfig::default()) {
        Ok(Asked::Generations(requests)) => {
            assert!(!requests.is_empty());
            for request in &requests {
                // Bounds that only the whole network has; a refusal is as good as a pass.
                drop(request.check());
                let _ = request.hash();
            }
            true
        }
        Ok(Asked::Embeddings(texts)) => !texts.is_empty(),
        Err(refused) => {
            assert!(!refused.code.is_empty() && !refused.message.is_empty());
            false
        }
    }
}

/// A model's output with tool calls: however it is cut, the result is the same.
pub(crate) fn tool_calls(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let whole = cortensor_gateway::tool_calls([&*text]);
    let single = cortensor_gateway::tool_calls(text.split("").filter(|piece| !piece.is_empty()));
    assert_eq!(whole, single);
    !whole.1.is_empty()
}

/// A configuration file or a file of contract addresses.
pub(crate) fn configuration(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let deployment = serde_json::from_str::<cortensor_contracts::Deployment>(&text).is_ok();
    deployment || AnyFile::parse(Path::new("node.toml"), &text).is_ok()
}

/// Addresses, amounts and ids: what is read is written in a form that reads as the same.
pub(crate) fn names(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let amount = parse_cor(&text).inspect(|amount| {
        let shown = amount.to_string();
        let shown = shown.strip_suffix(" COR").expect("amounts are shown in COR");
        assert_eq!(parse_cor(shown), Ok(*amount));
    });
    let wei = serde_json::from_str::<Wei>(&text).is_ok();
    let ids = round_trips::<TaskId>(&text) | round_trips::<SessionId>(&text) | round_trips::<ModelId>(&text);
    amount.is_ok() | wei | ids | round_trips::<NodeAddress>(&text) | round_trips::<Address>(&text)
}

fn round_trips<T: FromStr + Display + PartialEq>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert!(value.to_string().parse().ok() == Some(value), "{text:?} reads back as another");
    true
}
