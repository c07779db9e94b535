//! `net_*`, `web3_*` and `rpc_modules`.

use std::{collections::BTreeMap, sync::Arc};

use alloy::primitives::{B256, Bytes, U64, keccak256};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};

use super::Api;

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
    #[method(name = "rpc_modules")]
    fn modules(&self) -> RpcResult<BTreeMap<String, String>>;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    NetworkServer::into_rpc(NetworkApi(api)).into()
}

struct NetworkApi(Arc<Api>);

impl NetworkServer for NetworkApi {
    fn version(&self) -> RpcResult<String> {
        Ok(self.0.core.config.chain_id.to_string())
    }

    fn listening(&self) -> RpcResult<bool> {
        Ok(true)
    }

    fn peer_count(&self) -> RpcResult<U64> {
        Ok(U64::ZERO)
    }

    fn client_version(&self) -> RpcResult<String> {
        Ok(format!("cortensor/v{}/{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH))
    }

    fn sha3(&self, bytes: Bytes) -> RpcResult<B256> {
        Ok(keccak256(bytes))
    }

    fn modules(&self) -> RpcResult<BTreeMap<String, String>> {
        let names = ["debug", "eth", "net", "rpc", "txpool", "web3"];
        Ok(names.into_iter().map(|name| (name.to_owned(), "1.0".to_owned())).collect())
    }
}
