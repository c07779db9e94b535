//! [`ChainView`] of a permissioned network: who is no member does not exist.
//!
//! A node without membership is not registered, and a session whose owner or router is without it is not open, whatever
//! the other contracts say. Answers are at most [`LIFETIME`] old, however long those of the view below are kept.

use crate::{
    chain_view::{ChainReadError, ChainView},
    contracts_view::describe,
    ledger::SessionTerms,
};
use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use cortensor_contracts::Members;
use cortensor_protocol::{CapabilityRecord, Guarantee, ModelId, NodeRecord, Operator, SessionId, Standing, Wei};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How old an answer may be: less than a block takes.
const LIFETIME: Duration = Duration::from_millis(200);
/// Answers kept at most.
const ENTRIES_MAX: usize = 4_096;

/// A view that knows members only.
#[derive(Clone)]
pub struct MembersView {
    inner: Arc<dyn ChainView>,
    members: Members,
    known: Arc<Mutex<HashMap<Address, (Instant, bool)>>>,
}

impl std::fmt::Debug for MembersView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MembersView").field("members", &self.members).finish_non_exhaustive()
    }
}

impl MembersView {
    /// What `inner` shows of the members of a network.
    #[must_use]
    pub fn new(inner: Arc<dyn ChainView>, members: Members) -> Self {
        Self { inner, members, known: Arc::default() }
    }

    async fn belongs(&self, account: Address) -> Result<bool, ChainReadError> {
        if let Some((since, belongs)) = self.known.lock().get(&account)
            && since.elapsed() < LIFETIME
        {
            return Ok(*belongs);
        }
        let asked = Instant::now();
        let belongs = self.members.is_member(account, 0).await.map_err(|error| ChainReadError(describe(&error)))?;
        let mut known = self.known.lock();
        if known.len() >= ENTRIES_MAX {
            known.clear();
        }
        known.insert(account, (asked, belongs));
        Ok(belongs)
    }
}

#[async_trait]
impl ChainView for MembersView {
    async fn node(&self, operator: Operator) -> Result<Option<NodeRecord>, ChainReadError> {
        if self.belongs(operator.0).await? { self.inner.node(operator).await } else { Ok(None) }
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionTerms>, ChainReadError> {
        let Some(terms) = self.inner.session(id).await? else { return Ok(None) };
        let both = self.belongs(terms.owner).await? && self.belongs(terms.router.0).await?;
        Ok(both.then_some(terms))
    }

    async fn standing(&self, miner: Operator) -> Result<Standing, ChainReadError> {
        self.inner.standing(miner).await
    }

    async fn capability(&self, miner: Operator, model: ModelId) -> Result<Option<CapabilityRecord>, ChainReadError> {
        self.inner.capability(miner, model).await
    }

    async fn guarantee(&self, miner: Operator, fee: Wei) -> Result<Guarantee, ChainReadError> {
        self.inner.guarantee(miner, fee).await
    }

    async fn audits(&self, guard: Operator, receipt: B256) -> Result<bool, ChainReadError> {
        self.inner.audits(guard, receipt).await
    }
}
