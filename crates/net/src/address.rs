//! Where a node is: `<transport key, 64 hex digits>@<host>:<port>`, as configuration files and command lines name it.

use cortensor_protocol::TransportKey;
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};

/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A node's identity and where to reach it. The key is part of it: a connection to another node at the same place fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeAddress {
    key: TransportKey,
    host: String,
    port: u16,
}

/// Why a text is not a node's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNodeAddressError {
    /// No `@`.
    #[error("expected <transport key>@<host>:<port>, got no '@'")]
    NoAt,
    /// The key is not 64 hex digits.
    #[error("the transport key before '@' has 64 hex digits, got {0:?}")]
    Key(String),
    /// The key's digits are no point of the curve.
    #[error("{0} is not an ed25519 public key")]
    NotAKey(TransportKey),
    /// No port, or one beyond 65,535, or 0.
    #[error("expected a port from 1 to 65535 after the last ':', got {0:?}")]
    Port(String),
    /// The host is empty, too long, or has characters that no host name has.
    #[error("{0:?} is neither a host name, an IPv4 address, nor an IPv6 address in brackets")]
    Host(String),
}

impl NodeAddress {
    /// From parts; an IPv6 address is written without brackets.
    ///
    /// # Errors
    /// When the host or the port could not be written down.
    pub fn new(key: TransportKey, host: &str, port: u16) -> Result<Self, ParseNodeAddressError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = if bare.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{bare}]") } else { host.to_owned() };
        format!("{key}@{host}:{port}").parse()
    }

    /// The node's identity.
    #[must_use]
    pub fn key(&self) -> TransportKey {
        self.key
    }

    /// Its socket addresses, asked of the system's resolver unless the host is an address already.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        const ADDRESSES_MAX: usize = 16;
        if let Ok(address) = self.place().parse() {
            return Ok(vec![address]);
        }
        Ok(tokio::net::lookup_host(self.place()).await?.take(ADDRESSES_MAX).collect())
    }

    /// `host:port`, IPv6 addresses in brackets.
    #[must_use]
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.place())
    }
}

impl FromStr for NodeAddress {
    type Err = ParseNodeAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, place) = text.split_once('@').ok_or(ParseNodeAddressError::NoAt)?;
        let key = parse_key(key)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(|| ParseNodeAddressError::Port(place.to_owned()))?;
        let port = parse_port(port).ok_or_else(|| ParseNodeAddressError::Port(port.to_owned()))?;
        let host = parse_host(host).ok_or_else(|| ParseNodeAddressError::Host(host.to_owned()))?;
        Ok(Self { key, host, port })
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = ParseNodeAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeAddress> for String {
    fn from(address: NodeAddress) -> Self {
        address.to_string()
    }
}

fn parse_key(text: &str) -> Result<TransportKey, ParseNodeAddressError> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseNodeAddressError::Key(text.to_owned()))?;
    let key = TransportKey(bytes.into());
    iroh::PublicKey::from_bytes(&bytes).map_err(|_| ParseNodeAddressError::NotAKey(key))?;
    Ok(key)
}

/// Digits only: `u16::from_str` would also take a sign.
fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

fn parse_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok()?;
        return Some(address.to_string());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(allowed)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransportSecret;
    use proptest::prelude::*;

    fn key() -> TransportKey {
        TransportSecret::from_bytes([1; 32]).public()
    }

    fn check(place: &str, expect: Option<&str>) {
        let parsed = format!("{}@{place}", key()).parse::<NodeAddress>();
        assert_eq!(parsed.ok().map(|address| address.place()).as_deref(), expect, "{place}");
    }

    #[test]
    fn places() {
        check("127.0.0.1:7000", Some("127.0.0.1:7000"));
        check("router.example.org:1", Some("router.example.org:1"));
        check("[::1]:7000", Some("[::1]:7000"));
        check("[0:0::1]:7000", Some("[::1]:7000"));
        for bad in
            ["", ":7000", "host", "host:", "host:0", "host:70000", "host:+7", "::1:7000", "[::1:7", "a b:7", "a@b:7"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn errors_name_the_part() {
        assert_eq!("x".parse::<NodeAddress>(), Err(ParseNodeAddressError::NoAt));
        assert_eq!("ab@h:1".parse::<NodeAddress>(), Err(ParseNodeAddressError::Key("ab".into())));
        // y = 2 is on no point of the curve.
        let off = format!("02{}@h:1", "00".repeat(31));
        assert!(matches!(off.parse::<NodeAddress>(), Err(ParseNodeAddressError::NotAKey(_))));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_without_panic(text in ".{0,120}") {
            let _ = text.parse::<NodeAddress>();
        }

        #[test]
        fn what_parses_reads_back_the_same(
            seed in any::<[u8; 32]>(), host in "[a-z0-9.-]{1,40}|\\[::[0-9a-f]{1,4}\\]", port in 1u16..,
        ) {
            let text = format!("{}@{host}:{port}", TransportSecret::from_bytes(seed).public());
            let address: NodeAddress = text.parse().unwrap();
            prop_assert_eq!(address.to_string().parse::<NodeAddress>().unwrap(), address);
        }
    }
}
