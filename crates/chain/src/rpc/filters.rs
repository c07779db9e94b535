//! Filters that clients poll: `eth_newFilter` and its kin.
//!
//! A filter remembers up to which block it was polled, so nothing is lost between polls however long they take; one that
//! nobody polls expires. Filters for waiting transactions hold a bounded buffer and lose the oldest when it overflows.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{B256, U256},
    rpc::types::{Filter, FilterChanges, FilterId, Log},
};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::TryRecvError};

use super::{Api, error::RpcError, logs::check_filter};
use crate::config::Limits;

/// Hashes that one poll returns.
const HASHES_MAX: usize = 20_000;

enum Kind {
    Logs(Box<Filter>),
    Blocks,
    Pending(broadcast::Receiver<B256>),
}

struct Entry {
    kind: Kind,
    /// The first block that the next poll reports.
    next: u64,
    polled: Instant,
}

/// Installed filters.
pub(super) struct Filters {
    entries: Mutex<HashMap<u64, Entry>>,
    count_max: usize,
    idle_max: Duration,
    last: std::sync::atomic::AtomicU64,
}

impl Filters {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            entries: Mutex::default(),
            count_max: limits.filters_max,
            idle_max: Duration::from_secs(limits.filter_idle_seconds_max),
            last: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn install(&self, kind: Kind, next: u64) -> Result<U256, RpcError> {
        let mut entries = self.entries.lock();
        let now = Instant::now();
        entries.retain(|_, entry| now.duration_since(entry.polled) < self.idle_max);
        if entries.len() >= self.count_max {
            return Err(RpcError::Limit(format!("{} filters are installed: remove one", self.count_max)));
        }
        let id = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        entries.insert(id, Entry { kind, next, polled: now });
        Ok(U256::from(id))
    }

    fn remove(&self, id: &FilterId) -> bool {
        number(id).is_some_and(|id| self.entries.lock().remove(&id).is_some())
    }

    fn log_filter(&self, id: &FilterId) -> Result<Filter, RpcError> {
        let mut entries = self.entries.lock();
        let entry = number(id).and_then(|id| entries.get_mut(&id)).ok_or_else(not_found)?;
        entry.polled = Instant::now();
        match &entry.kind {
            Kind::Logs(filter) => Ok((**filter).clone()),
            _ => Err(not_found()),
        }
    }

    /// What happened since the last poll, up to block `head`.
    fn poll(&self, id: &FilterId, head: u64) -> Result<Poll, RpcError> {
        let mut entries = self.entries.lock();
        let entry = number(id).and_then(|id| entries.get_mut(&id)).ok_or_else(not_found)?;
        entry.polled = Instant::now();
        let first = entry.next;
        match &mut entry.kind {
            Kind::Pending(hashes) => Ok(Poll::Hashes(drain(hashes))),
            kind => {
                entry.next = first.max(head + 1);
                Ok(match kind {
                    Kind::Logs(filter) => Poll::Logs(filter.clone(), first),
                    _ => Poll::Blocks(first),
                })
            }
        }
    }
}

enum Poll {
    Logs(Box<Filter>, u64),
    Blocks(u64),
    Hashes(Vec<B256>),
}

fn number(id: &FilterId) -> Option<u64> {
    match id {
        FilterId::Num(number) => Some(*number),
        FilterId::Str(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
    }
}

fn not_found() -> RpcError {
    RpcError::refused("filter not found")
}

fn drain(hashes: &mut broadcast::Receiver<B256>) -> Vec<B256> {
    let mut drained = Vec::new();
    while drained.len() < HASHES_MAX {
        match hashes.try_recv() {
            Ok(hash) => drained.push(hash),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    drained
}

impl Api {
    fn changes(&self, id: &FilterId) -> Result<FilterChanges, RpcError> {
        let snapshot = self.snapshot();
        let head = snapshot.head().header.number;
        match self.filters.poll(id, head)? {
            Poll::Hashes(hashes) => Ok(FilterChanges::Hashes(hashes)),
            Poll::Logs(_, first) | Poll::Blocks(first) if first > head => Ok(FilterChanges::Empty),
            Poll::Logs(filter, first) => Ok(FilterChanges::Logs(self.logs_between(&snapshot, &filter, first, head)?)),
            Poll::Blocks(first) => {
                let numbers = first.max(head.saturating_sub(HASHES_MAX as u64 - 1))..=head;
                let hashes = numbers.filter_map(|number| snapshot.block_hash(number).transpose());
                Ok(FilterChanges::Hashes(hashes.collect::<Result<_, _>>()?))
            }
        }
    }
}

#[rpc(server, namespace = "eth")]
pub(super) trait FilterMethods {
    #[method(name = "newFilter")]
    fn new_filter(&self, filter: Filter) -> RpcResult<U256>;
    #[method(name = "newBlockFilter")]
    fn new_block_filter(&self) -> RpcResult<U256>;
    #[method(name = "newPendingTransactionFilter")]
    fn new_pending_transaction_filter(&self) -> RpcResult<U256>;
    #[method(name = "getFilterChanges")]
    async fn filter_changes(&self, id: FilterId) -> RpcResult<FilterChanges>;
    #[method(name = "getFilterLogs")]
    async fn filter_logs(&self, id: FilterId) -> RpcResult<Vec<Log>>;
    #[method(name = "uninstallFilter")]
    fn uninstall_filter(&self, id: FilterId) -> RpcResult<bool>;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    FilterMethodsServer::into_rpc(FilterApi(api)).into()
}

struct FilterApi(Arc<Api>);

impl FilterApi {
    fn next_block(&self) -> u64 {
        self.0.snapshot().head().header.number + 1
    }
}

#[jsonrpsee::core::async_trait]
impl FilterMethodsServer for FilterApi {
    fn new_filter(&self, filter: Filter) -> RpcResult<U256> {
        check_filter(&filter)?;
        let next = filter.get_from_block().unwrap_or(0).max(self.next_block());
        Ok(self.0.filters.install(Kind::Logs(Box::new(filter)), next)?)
    }

    fn new_block_filter(&self) -> RpcResult<U256> {
        Ok(self.0.filters.install(Kind::Blocks, self.next_block())?)
    }

    fn new_pending_transaction_filter(&self) -> RpcResult<U256> {
        let hashes = self.0.core.announcements.subscribe();
        Ok(self.0.filters.install(Kind::Pending(hashes), 0)?)
    }

    async fn filter_changes(&self, id: FilterId) -> RpcResult<FilterChanges> {
        Ok(self.0.costly(move |api| api.changes(&id)).await?)
    }

    async fn filter_logs(&self, id: FilterId) -> RpcResult<Vec<Log>> {
        let filter = self.0.filters.log_filter(&id)?;
        Ok(self.0.costly(move |api| api.logs(&filter)).await?)
    }

    fn uninstall_filter(&self, id: FilterId) -> RpcResult<bool> {
        Ok(self.0.filters.remove(&id))
    }
}
