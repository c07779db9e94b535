//! Connecting to an Ethereum JSON-RPC endpoint over HTTP or HTTPS, with bounded waiting.
//!
//! [`connect`] asks for the chain id before it returns, so that a wrong address is found at once and named in the error.

use crate::{
    access::{AccessLayer, asked_for},
    read::ReadError,
};
use alloy::{
    eips::BlockId,
    primitives::Address,
    providers::{Provider as _, RootProvider},
    rpc::client::RpcClient,
    signers::local::PrivateKeySigner,
    transports::{
        TransportError,
        http::reqwest::{self, Url},
    },
};
use std::{
    net::IpAddr,
    str::FromStr,
    sync::Once,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A connection to a chain; cheap to clone.
pub type Provider = RootProvider;

/// Why an endpoint is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not a URL.
    #[error("{url:?} is not a URL; expected something like http://127.0.0.1:8545")]
    Url {
        /// What was given.
        url: String,
        /// Why it does not parse.
        source: <Url as FromStr>::Err,
    },
    /// Neither `http` nor `https`.
    #[error("{url}: only http and https endpoints are supported, not {scheme}")]
    Scheme {
        /// The endpoint.
        url: Url,
        /// Its scheme.
        scheme: String,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up an HTTP client")]
    Client(#[source] reqwest::Error),
    /// A private network, and whoever asks does not belong to it.
    #[error("{url} answers members of its network only, {}", .reader.map_or_else(|| "and nobody was named who reads".to_owned(), |reader| format!("not {reader}")))]
    Private {
        /// The endpoint, without credentials and path.
        url: String,
        /// Who asked.
        reader: Option<Address>,
        /// What the server said.
        source: TransportError,
    },
    /// Nothing answers as an Ethereum node there.
    #[error("no Ethereum node answers at {url}; is it running?")]
    Unreachable {
        /// The endpoint, without credentials and path.
        url: String,
        /// What went wrong.
        source: TransportError,
    },
}

/// An endpoint and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Longest wait for a TCP and TLS connection.
    pub connect_timeout: Duration,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
    /// Who reads, where the server answers only members of its network.
    pub reader: Option<PrivateKeySigner>,
}

impl Endpoint {
    /// An endpoint with 5 seconds to connect and 30 to answer.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let (connect_timeout, request_timeout) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { url: url.into(), connect_timeout, request_timeout, reader: None }
    }

    /// The same for this reader.
    #[must_use]
    pub fn read_by(self, reader: PrivateKeySigner) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// A connection, without checking that anything answers.
    ///
    /// # Errors
    /// When the URL is malformed or no HTTP client can be made.
    pub fn provider(&self) -> Result<Provider, ConnectError> {
        let (client, url) = self.client()?;
        Ok(RootProvider::new(RpcClient::new_http_with_client(client, url)))
    }

    /// A connection that shows a token with each request.
    fn provider_with_token(&self, reader: &PrivateKeySigner, chain_id: u64) -> Result<Provider, ConnectError> {
        let (client, url) = self.client()?;
        let layer = AccessLayer::new(reader.clone(), chain_id, &url);
        Ok(RootProvider::new(RpcClient::builder().layer(layer).http_with_client(client, url)))
    }

    fn client(&self) -> Result<(reqwest::Client, Url), ConnectError> {
        install_tls();
        let url = self.parsed()?;
        let mut client = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout)
            .timeout(self.request_timeout)
            .pool_max_idle_per_host(16);
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        Ok((client.build().map_err(ConnectError::Client)?, url))
    }

    /// A connection to an endpoint that answers.
    ///
    /// # Errors
    /// When the URL is malformed or nothing answers there as an Ethereum node.
    pub async fn connect(&self) -> Result<Provider, ConnectError> {
        let mut provider = self.provider()?;
        let mut answer = provider.get_chain_id().await;
        if let Err(error) = &answer
            && let Some((chain_id, reader)) = asked_for(error).zip(self.reader.as_ref())
        {
            provider = self.provider_with_token(reader, chain_id)?;
            answer = provider.get_chain_id().await;
        }
        match answer {
            Ok(_) => Ok(provider),
            Err(source) if asked_for(&source).is_some() => Err(ConnectError::Private {
                url: shown(&self.parsed()?),
                reader: self.reader.as_ref().map(|r| r.address()),
                source,
            }),
            Err(source) => Err(ConnectError::Unreachable { url: shown(&self.parsed()?), source }),
        }
    }

    fn parsed(&self) -> Result<Url, ConnectError> {
        let url = Url::parse(&self.url).map_err(|source| ConnectError::Url { url: self.url.clone(), source })?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            scheme => Err(ConnectError::Scheme { scheme: scheme.to_owned(), url }),
        }
    }
}

/// Connects to `url` with the default timeouts.
///
/// # Errors
/// When the URL is malformed or nothing answers there as an Ethereum node.
pub async fn connect(url: &str) -> Result<Provider, ConnectError> {
    Endpoint::new(url).connect().await
}

/// Connects for this reader, who may be asked whether it is a member of a private network.
///
/// # Errors
/// When the URL is malformed, nothing answers there as an Ethereum node, or it does not answer this reader.
pub async fn connect_as(url: &str, reader: &PrivateKeySigner) -> Result<Provider, ConnectError> {
    Endpoint::new(url).read_by(reader.clone()).connect().await
}

/// Chooses the cryptography of TLS for this process, once. [`connect`] does so by itself.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    // The only failure is that somebody else chose before, and any choice serves.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Scheme, host and port: paths and credentials of hosted endpoints are secrets.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The clock that contracts see.
pub trait ChainTime {
    /// About the timestamp of the next block, in seconds since 1970: the later of the newest block's and this
    /// machine's. A chain that seals on demand may have made no block for hours, and one whose time was moved is ahead.
    ///
    /// # Errors
    /// When the endpoint fails.
    fn chain_time(&self) -> impl Future<Output = Result<u64, ReadError>> + Send;
}

impl ChainTime for Provider {
    async fn chain_time(&self) -> Result<u64, ReadError> {
        let block = self.get_block(BlockId::latest()).await?;
        let newest = block.ok_or(ReadError::BlockMissing(BlockId::latest()))?.header.timestamp;
        Ok(newest.max(machine_time()))
    }
}

/// Seconds since 1970 by this machine's clock; zero when it stands before that.
pub(crate) fn machine_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_and_foreign_urls_are_named() {
        assert!(matches!(Endpoint::new("nonsense").provider(), Err(ConnectError::Url { .. })));
        assert!(matches!(Endpoint::new("ftp://host").provider(), Err(ConnectError::Scheme { .. })));
        assert!(Endpoint::new("https://host/key").provider().is_ok());
    }

    #[test]
    fn errors_show_no_secret_path() {
        let url = Url::parse("https://user:pass@rpc.example:8443/v2/secret").unwrap();
        assert_eq!(shown(&url), "https://rpc.example:8443");
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (url, expect) in [
            ("http://127.0.0.1:8545", true),
            ("http://[::1]:8545", true),
            ("http://localhost:1", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expect, "{url}");
        }
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_an_error() {
        // Port 9 (discard) is closed on any sane machine; connecting is refused at once.
        assert!(matches!(connect("http://127.0.0.1:9").await, Err(ConnectError::Unreachable { .. })));
    }
}
