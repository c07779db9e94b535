//! `eth_subscribe` over WebSocket.
//!
//! Subscriptions follow the head's number and read blocks from the database, so a slow client falls behind without
//! costing memory and without missing a block. Announcements of waiting transactions are best effort: a client that
//! falls far behind misses some.

use std::sync::Arc;

use alloy::rpc::types::{
    Filter, Log,
    pubsub::{Params, SubscriptionKind},
};
use jsonrpsee::{
    Extensions, Methods, PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink, core::SubscriptionResult,
    proc_macros::rpc,
};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{
    Api,
    door::Caller,
    error::RpcError,
    logs::{block_logs, check_filter},
    resolve::{pending, rpc_header},
};

#[rpc(server, namespace = "eth")]
pub(super) trait Subscribe {
    #[subscription(name = "subscribe" => "subscription", unsubscribe = "unsubscribe", item = serde_json::Value, with_extensions)]
    async fn subscribe(&self, kind: SubscriptionKind, params: Option<Params>) -> SubscriptionResult;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>, stop: CancellationToken) -> Methods {
    SubscribeServer::into_rpc(SubscribeApi { api, stop }).into()
}

struct SubscribeApi {
    api: Arc<Api>,
    stop: CancellationToken,
}

/// Why a subscription ended: the client went away, or the chain cannot be read.
struct Ended;

/// Who subscribed.
struct Reader {
    sink: SubscriptionSink,
    /// None on a chain that everybody may read.
    caller: Option<Caller>,
}

impl Reader {
    /// Sends to whoever may still read: a removed member hears nothing of the next block.
    async fn send<T: Serialize>(&self, api: &Api, value: &T) -> Result<(), Ended> {
        if self.caller.is_some_and(|caller| !caller.may_subscribe(&api.core)) {
            return Err(Ended);
        }
        let sink = &self.sink;
        let message = SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), value).map_err(|_| Ended)?;
        sink.send(message).await.map_err(|_| Ended)
    }
}

#[jsonrpsee::core::async_trait]
impl SubscribeServer for SubscribeApi {
    async fn subscribe(
        &self,
        sink: PendingSubscriptionSink,
        extensions: &Extensions,
        kind: SubscriptionKind,
        params: Option<Params>,
    ) -> SubscriptionResult {
        let subscription = match parse(kind, params) {
            Ok(subscription) => subscription,
            Err(error) => {
                sink.reject(error).await;
                return Ok(());
            }
        };
        let mut next = self.api.snapshot().head().header.number + 1;
        let announcements = self.api.core.announcements.subscribe();
        let reader = Reader { sink: sink.accept().await?, caller: extensions.get().copied() };
        let (api, stop) = (Arc::clone(&self.api), self.stop.clone());
        tokio::spawn(async move {
            let feed = async {
                match subscription {
                    Subscription::Heads => follow(&api, &reader, &mut next, None).await,
                    Subscription::Logs(filter) => follow(&api, &reader, &mut next, Some(&filter)).await,
                    Subscription::Pending { full } => announce(&api, &reader, announcements, full).await,
                    Subscription::Syncing => reader.send(&api, &false).await,
                }
            };
            tokio::select! {
                _ = feed => {}
                () = reader.sink.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }
}

enum Subscription {
    Heads,
    Logs(Box<Filter>),
    Pending { full: bool },
    Syncing,
}

fn parse(kind: SubscriptionKind, params: Option<Params>) -> Result<Subscription, RpcError> {
    match (kind, params.unwrap_or_default()) {
        (SubscriptionKind::NewHeads, _) => Ok(Subscription::Heads),
        (SubscriptionKind::Logs, Params::None) => Ok(Subscription::Logs(Box::default())),
        (SubscriptionKind::Logs, Params::Logs(filter)) => {
            check_filter(&filter)?;
            Ok(Subscription::Logs(filter))
        }
        (SubscriptionKind::NewPendingTransactions, Params::None) => Ok(Subscription::Pending { full: false }),
        (SubscriptionKind::NewPendingTransactions, Params::Bool(full)) => Ok(Subscription::Pending { full }),
        (SubscriptionKind::Syncing, _) => Ok(Subscription::Syncing),
        (kind, _) => Err(RpcError::params(format!("{kind:?} cannot be subscribed to with these parameters"))),
    }
}

/// Sends every block from `next` on, or its matching logs, as blocks are committed.
async fn follow(api: &Arc<Api>, reader: &Reader, next: &mut u64, filter: Option<&Filter>) -> Result<(), Ended> {
    let mut head = api.core.head_number.subscribe();
    loop {
        let last = *head.borrow_and_update();
        while *next <= last {
            match filter {
                None => {
                    let header = api.snapshot().header(*next).map_err(|_| Ended)?.ok_or(Ended)?;
                    reader.send(api, &rpc_header(&header)).await?;
                }
                Some(filter) => {
                    for log in logs_of(api, filter, *next)? {
                        reader.send(api, &log).await?;
                    }
                }
            }
            *next += 1;
        }
        head.changed().await.map_err(|_| Ended)?;
    }
}

fn logs_of(api: &Api, filter: &Filter, number: u64) -> Result<Vec<Log>, Ended> {
    let snapshot = api.snapshot();
    let stored = snapshot.header(number).map_err(|_| Ended)?.ok_or(Ended)?;
    let mut logs = Vec::new();
    if filter.matches_bloom(stored.header.logs_bloom) {
        block_logs(&snapshot, filter, &stored, &mut logs).map_err(|_| Ended)?;
    }
    Ok(logs)
}

async fn announce(
    api: &Api,
    reader: &Reader,
    mut announcements: tokio::sync::broadcast::Receiver<alloy::primitives::B256>,
    full: bool,
) -> Result<(), Ended> {
    loop {
        let hash = match announcements.recv().await {
            Ok(hash) => hash,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Err(Ended),
        };
        if !full {
            reader.send(api, &hash).await?;
        } else if let Some(transaction) = api.core.with_pool(|pool| pool.get(hash)) {
            reader.send(api, &pending(&transaction)).await?;
        }
    }
}
