//! `net_*`, `web3_*` and `rpc_modules`.

use std::{collections::BTreeMap, sync::Arc};

use alloy::primitives::{Address, B256, Bytes, U64, keccak256};
use jsonrpsee::{
    Methods,
    core::{RpcResult, async_trait},
    proc_macros::rpc,
};
use serde::{Deserialize, Serialize};

use super::{Api, error::RpcError};

#[rpc(server)]
pub(super) trait Network {
    #[method(name = "net_version")]
    fn version(&self) -> RpcResult<String>;
    #[method(name = "net_listening")]
    fn listening(&self) -> RpcResult<bool>;
    #[method(name = "net_peerCount")]
    fn peer_count(&self) -> RpcResult<U64>;
    #[method(name = "web3_clientVersion")]
    fn client_version(&self) -> RpcResult<String>;
    #[method(name = "web3_sha3")]
    fn sha3(&self, bytes: Bytes) -> RpcResult<B256>;
    /// What made a block final; null for a block that a single validator made.
    #[method(name = "cortensor_getCertificate")]
    fn certificate(&self, number: U64) -> RpcResult<Option<serde_json::Value>>;
    /// The peers that can be reached, and the last block that each one told of.
    #[method(name = "cortensor_peers")]
    fn peers(&self) -> RpcResult<Vec<PeerHead>>;
    /// This validator's part of one signature for all, that the block was decided; for a contract on another chain. Null where it
    /// has no key, and for a block that a single validator made.
    #[method(name = "cortensor_getCheckpointShare")]
    async fn share(&self, number: U64, chain_id: U64, contract: Address) -> RpcResult<Option<serde_json::Value>>;
    #[method(name = "rpc_modules")]
    fn modules(&self) -> RpcResult<BTreeMap<String, String>>;
}

/// A peer of this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PeerHead {
    transport_key: B256,
    /// Zero before it told of any.
    number: U64,
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    NetworkServer::into_rpc(NetworkApi(api)).into()
}

struct NetworkApi(Arc<Api>);

#[async_trait]
impl NetworkServer for NetworkApi {
    fn version(&self) -> RpcResult<String> {
        Ok(self.0.core.config.chain_id.to_string())
    }

    fn listening(&self) -> RpcResult<bool> {
        Ok(true)
    }

    fn peer_count(&self) -> RpcResult<U64> {
        Ok(U64::from(self.0.core.peers.lock().len()))
    }

    fn peers(&self) -> RpcResult<Vec<PeerHead>> {
        let peers = self.0.core.peers.lock();
        Ok(peers.iter().map(|(key, number)| PeerHead { transport_key: *key, number: U64::from(*number) }).collect())
    }

    fn client_version(&self) -> RpcResult<String> {
        Ok(format!("cortensor/v{}/{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH))
    }

    fn sha3(&self, bytes: Bytes) -> RpcResult<B256> {
        Ok(keccak256(bytes))
    }

    fn certificate(&self, number: U64) -> RpcResult<Option<serde_json::Value>> {
        let number = number.to();
        let snapshot = self.0.core.snapshot();
        let certificate = snapshot.certificate(number).map_err(RpcError::from)?;
        let header = snapshot.header(number).map_err(RpcError::from)?;
        let shown = self.0.answers.show_certificate.zip(header).zip(certificate);
        Ok(shown.and_then(|((show, header), certificate)| show(&header.header, &certificate)))
    }

    async fn share(&self, number: U64, chain_id: U64, contract: Address) -> RpcResult<Option<serde_json::Value>> {
        let share = self.0.costly(move |api| {
            let Some(share) = &api.answers.share_checkpoint else { return Ok(None) };
            let snapshot = api.core.snapshot();
            let certificate = snapshot.certificate(number.to())?;
            let header = snapshot.header(number.to())?;
            Ok(header
                .zip(certificate)
                .and_then(|(header, bytes)| share(&header.header, &bytes, (chain_id.to(), contract))))
        });
        Ok(share.await?)
    }

    fn modules(&self) -> RpcResult<BTreeMap<String, String>> {
        let names = ["cortensor", "debug", "eth", "net", "rpc", "txpool", "web3"];
        Ok(names.into_iter().map(|name| (name.to_owned(), "1.0".to_owned())).collect())
    }
}
