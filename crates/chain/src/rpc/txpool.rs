//! `txpool_*`: what waits, and whether it could run.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{consensus::Transaction as _, primitives::U64, rpc::types::Transaction};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};
use serde::Serialize;

use super::{Api, resolve::pending};
use crate::transaction::VerifiedTransaction;

/// Transactions by checksummed sender and decimal nonce, the keys that go-ethereum uses.
type ByNonce<T> = BTreeMap<String, BTreeMap<String, T>>;

/// Waiting transactions in two groups.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Groups<T> {
    pending: T,
    queued: T,
}

#[rpc(server, namespace = "txpool")]
pub(super) trait TransactionPool {
    #[method(name = "status")]
    fn status(&self) -> RpcResult<Groups<U64>>;
    #[method(name = "content", blocking)]
    fn content(&self) -> RpcResult<Groups<ByNonce<Transaction>>>;
    #[method(name = "inspect", blocking)]
    fn inspect(&self) -> RpcResult<Groups<ByNonce<String>>>;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    TransactionPoolServer::into_rpc(PoolApi(api)).into()
}

struct PoolApi(Arc<Api>);

impl PoolApi {
    fn group<T>(&self, show: impl Fn(&VerifiedTransaction) -> T) -> Groups<ByNonce<T>> {
        let mut groups = Groups { pending: ByNonce::new(), queued: ByNonce::new() };
        for (executable, transaction) in self.0.core.with_pool(crate::pool::Pool::content) {
            let group = if executable { &mut groups.pending } else { &mut groups.queued };
            let nonce = transaction.envelope().nonce().to_string();
            group.entry(transaction.sender().to_string()).or_default().insert(nonce, show(&transaction));
        }
        groups
    }
}

impl TransactionPoolServer for PoolApi {
    fn status(&self) -> RpcResult<Groups<U64>> {
        let (pending, queued) = self.0.core.with_pool(crate::pool::Pool::counts);
        Ok(Groups { pending: U64::from(pending), queued: U64::from(queued) })
    }

    fn content(&self) -> RpcResult<Groups<ByNonce<Transaction>>> {
        Ok(self.group(pending))
    }

    fn inspect(&self) -> RpcResult<Groups<ByNonce<String>>> {
        Ok(self.group(|transaction| {
            let tx = transaction.envelope();
            let to = tx.to().map_or_else(|| "contract creation".to_owned(), |to| to.to_string());
            format!("{to}: {} wei + {} gas × {} wei", tx.value(), tx.gas_limit(), tx.max_fee_per_gas())
        }))
    }
}
