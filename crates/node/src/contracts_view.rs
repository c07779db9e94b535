//! [`ChainView`] over the deployed contracts.

use crate::{
    chain_view::{ChainReadError, ChainView},
    ledger::SessionTerms,
};
use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use cortensor_contracts::{Contracts, SessionStatus};
use cortensor_protocol::{CapabilityRecord, Guarantee, ModelId, NodeRecord, Operator, SessionId, Standing, Wei};
use std::error::Error;

/// Reads the contracts of one deployment.
#[derive(Clone, Debug)]
pub struct ContractsView {
    contracts: Contracts,
}

impl ContractsView {
    /// A view on these contracts.
    #[must_use]
    pub const fn new(contracts: Contracts) -> Self {
        Self { contracts }
    }
}

/// An error with all its causes, for a person to read.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl From<cortensor_contracts::Session> for SessionTerms {
    fn from(session: cortensor_contracts::Session) -> Self {
        Self {
            id: session.id,
            owner: session.owner,
            spendable: session.spent + session.key_unspent(),
            accepting: session.status == SessionStatus::Open && session.session_key.is_some(),
            session_key: session.session_key.unwrap_or(Address::ZERO),
            router: session.router,
            max_price: session.max_price,
            model: session.model,
            min_tier: session.min_tier,
            expiry: session.expiry,
        }
    }
}

#[async_trait]
impl ChainView for ContractsView {
    async fn node(&self, operator: Operator) -> Result<Option<NodeRecord>, ChainReadError> {
        self.contracts.registry.node(operator).await.map_err(|error| ChainReadError(describe(&error)))
    }

    async fn session(&self, id: SessionId) -> Result<Option<SessionTerms>, ChainReadError> {
        let session = self.contracts.sessions.session(id).await.map_err(|error| ChainReadError(describe(&error)))?;
        Ok(session.filter(|session| session.status != SessionStatus::Closed).map(SessionTerms::from))
    }

    async fn standing(&self, miner: Operator) -> Result<Standing, ChainReadError> {
        let reading = async {
            let epoch = self.contracts.guards.current_epoch().await?;
            self.contracts.scores.standing(miner, epoch).await
        };
        reading.await.map_err(|error| ChainReadError(describe(&error)))
    }

    async fn capability(&self, miner: Operator, model: ModelId) -> Result<Option<CapabilityRecord>, ChainReadError> {
        let record = self.contracts.capabilities.record(miner, model).await;
        record.map_err(|error| ChainReadError(describe(&error)))
    }

    async fn guarantee(&self, miner: Operator, fee: Wei) -> Result<Guarantee, ChainReadError> {
        let bought = self.contracts.court.guarantee(miner, fee).await;
        bought.map_err(|error| ChainReadError(describe(&error)))
    }

    async fn audits(&self, guard: Operator, receipt: B256) -> Result<bool, ChainReadError> {
        let seats = self.contracts.audits.seats(receipt).await;
        let seats = seats.map_err(|error| ChainReadError(describe(&error)))?;
        if seats.iter().any(|seat| seat.guard == guard) {
            return Ok(true);
        }
        let judges = self.contracts.usefulness.judges(receipt).await;
        let judges = judges.map_err(|error| ChainReadError(describe(&error)))?;
        Ok(judges.iter().any(|judge| judge.operator == guard))
    }
}
