//! Tokens with which members of a permissioned network read its nodes' JSON-RPC.
//!
//! A token is made by whoever reads, from its own key, and says until when and at which server it counts; nobody issues it.
//! Whether its signer may read is the server's to know. One that was copied serves at that one server until it ends.

use crate::signature::Signature65;
use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolStruct as _, eip712_domain};
use std::{fmt, str::FromStr};

/// Longest time that a token may count, in seconds.
pub const ACCESS_SECONDS_MAX: u64 = 3_600;
/// Most bytes of a server's name.
const SERVER_BYTES_MAX: usize = 255;
/// What a token begins with.
const VERSION: &str = "cor1";

mod sol {
    alloy_sol_types::sol! {
        struct Access {
            string server;
            uint64 expires;
        }
    }
}

/// What a token says: EIP-712 `Access(string server,uint64 expires)`, domain {"Cortensor Access", "1", chain}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The chain that is read.
    pub chain_id: u64,
    /// Host and port of the server, as its reader calls it.
    pub server: String,
    /// Unix seconds from which on it does not count any more.
    pub expires: u64,
}

impl Access {
    /// The hash that the reader signs.
    #[must_use]
    pub fn signing_hash(&self) -> B256 {
        let domain = eip712_domain! { name: "Cortensor Access", version: "1", chain_id: self.chain_id, };
        sol::Access { server: self.server.clone(), expires: self.expires }.eip712_signing_hash(&domain)
    }

    /// The token of this and its signature.
    #[must_use]
    pub fn signed(self, signature: Signature65) -> AccessToken {
        AccessToken { server: self.server, expires: self.expires, signature }
    }
}

/// A token as it is sent: `cor1.<server in hex>.<expires>.<signature in hex>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// Host and port of the server.
    pub server: String,
    /// Unix seconds from which on it does not count any more.
    pub expires: u64,
    /// The reader's.
    pub signature: Signature65,
}

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of the form cor1.SERVER.EXPIRES.SIGNATURE")]
pub struct MalformedToken;

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// For another server.
    #[error("the token is for {0}, not for this server")]
    Server(String),
    /// Too old.
    #[error("the token ended {0} s ago")]
    Over(u64),
    /// It would count for too long.
    #[error("the token counts for {0} s, at most {ACCESS_SECONDS_MAX} are accepted")]
    TooLong(u64),
    /// Signed by nobody.
    #[error("the token's signature is none")]
    Signature,
}

impl AccessToken {
    /// Who made it, if it counts here and now. `names` are those of the server.
    ///
    /// # Errors
    /// Says why it does not count.
    pub fn reader(&self, chain_id: u64, names: &[String], now: u64) -> Result<Address, AccessError> {
        if !names.contains(&self.server) {
            return Err(AccessError::Server(self.server.clone()));
        }
        let left = self.expires.checked_sub(now).filter(|left| *left > 0);
        match left {
            None => return Err(AccessError::Over(now - self.expires)),
            Some(left) if left > ACCESS_SECONDS_MAX => return Err(AccessError::TooLong(left)),
            Some(_) => {}
        }
        let access = Access { chain_id, server: self.server.clone(), expires: self.expires };
        self.signature.recover(access.signing_hash()).map_err(|_| AccessError::Signature)
    }
}

impl fmt::Display for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, signature) = (hex::encode(&self.server), hex::encode(self.signature.0));
        write!(f, "{VERSION}.{server}.{}.{signature}", self.expires)
    }
}

impl FromStr for AccessToken {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, MalformedToken> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(MalformedToken);
        let (version, server, expires, signature) = (part()?, part()?, part()?, part()?);
        let canonical = !expires.starts_with(['0', '+']);
        if version != VERSION || parts.next().is_some() || server.len() > 2 * SERVER_BYTES_MAX || !canonical {
            return Err(MalformedToken);
        }
        let server = hex::decode(server).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let signature = hex::decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            server: server.ok_or(MalformedToken)?,
            expires: expires.parse().map_err(|_| MalformedToken)?,
            signature: Signature65(signature.ok_or(MalformedToken)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::tests::sign;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn token(server: &str, expires: u64) -> (Address, AccessToken) {
        let access = Access { chain_id: 7, server: server.into(), expires };
        let (reader, signature) = sign(3, access.signing_hash());
        (reader, access.signed(signature))
    }

    fn check(server: &str, expires: u64, expect: Result<(), AccessError>) {
        let (reader, token) = token(server, expires);
        let token: AccessToken = token.to_string().parse().unwrap();
        let names = ["node.example:8545".to_owned(), "[::1]:8545".to_owned()];
        assert_eq!(token.reader(7, &names, NOW), expect.map(|()| reader));
    }

    #[test]
    fn a_token_counts_at_its_server_until_it_ends() {
        check("node.example:8545", NOW + 1, Ok(()));
        check("[::1]:8545", NOW + ACCESS_SECONDS_MAX, Ok(()));
        check("[::1]:8545", NOW, Err(AccessError::Over(0)));
        check("[::1]:8545", NOW - 9, Err(AccessError::Over(9)));
        check("[::1]:8545", NOW + ACCESS_SECONDS_MAX + 1, Err(AccessError::TooLong(ACCESS_SECONDS_MAX + 1)));
        check("other.example:8545", NOW + 1, Err(AccessError::Server("other.example:8545".into())));
    }

    #[test]
    fn on_another_chain_it_is_somebody_elses() {
        let (reader, token) = token("a:1", NOW + 60);
        assert_ne!(token.reader(8, &["a:1".to_owned()], NOW), Ok(reader));
        let later = AccessToken { expires: NOW + 61, ..token };
        assert_ne!(later.reader(7, &["a:1".to_owned()], NOW), Ok(reader));
    }

    #[test]
    fn the_text_is_as_documented() {
        let (_, token) = token("a:1", NOW);
        let expect = format!("cor1.613a31.{NOW}.{}", hex::encode(token.signature.0));
        assert_eq!(token.to_string(), expect);
        for wrong in ["", "cor1", "cor2.613a31.1.00", "cor1.613a31.1.00", "cor1.zz.1.00"] {
            assert_eq!(wrong.parse::<AccessToken>(), Err(MalformedToken), "{wrong}");
        }
        assert_eq!(expect.replace(".18", ".+18").parse::<AccessToken>(), Err(MalformedToken));
        assert_eq!(format!("{expect}.").parse::<AccessToken>(), Err(MalformedToken));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,300}") {
            if let Ok(token) = text.parse::<AccessToken>() {
                prop_assert_eq!(token.to_string().parse::<AccessToken>(), Ok(token));
            }
        }
    }
}
