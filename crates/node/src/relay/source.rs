//! Where certificates come from.

use alloy::{primitives::U64, providers::Provider as _, transports::TransportError};
use async_trait::async_trait;
use cortensor_contracts::{Provider, lanes::CertifiedBlock};

/// Why there is no answer about a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The node did not answer, or answered with something else.
    #[error("the node does not answer `cortensor_getCertificate`; is it a chain of validators?")]
    Rpc(#[from] TransportError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Knows what decided a block.
#[async_trait]
pub trait CertificateSource: Send + Sync {
    /// The block of this height with its certificate; `None` where there is none.
    async fn certificate(&self, height: u64) -> Result<Option<CertifiedBlock>, SourceError>;
}

/// Asks a node of the chain of validators.
pub struct RpcCertificates(pub Provider);

#[async_trait]
impl CertificateSource for RpcCertificates {
    async fn certificate(&self, height: u64) -> Result<Option<CertifiedBlock>, SourceError> {
        Ok(self.0.raw_request("cortensor_getCertificate".into(), (U64::from(height),)).await?)
    }
}
