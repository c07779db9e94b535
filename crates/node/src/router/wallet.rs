//! Clients that sign for their own sessions: how they are let in, what they must have signed before a miner is looked for,
//! and how they pay.
//!
//! Guarantees: a task is begun only under a header that the session's key signed for exactly this request, and under a
//! number that it never used before; unsigned work never exceeds the credit limit; a signed voucher is durable before it is
//! answered, and is on its way to its miner.

use super::{CloseError, Inner, Router, dispatch::Work, settle::SettleError, tasks::now_seconds};
use crate::ledger::SessionTerms;
use async_trait::async_trait;
use cortensor_gateway::{Caller, Embeddings, ServiceError, ServiceGeneration, SessionService};
use cortensor_protocol::{
    ModelId, Proposal, RouterFacts, Routing, SessionAccess, SessionId, SignedClose, SignedTask, SignedVoucher, TaskId,
    client::{ACCESS_SECONDS_MAX, SignedEmbedding, VoucherSignature},
    task::{Bound, SignedHeader},
    wire::RouterControl,
};
use std::time::Duration;

/// Unknown sessions that are looked up on chain at once.
pub(super) const ADOPTING_MAX: usize = 16;
/// Clocks of clients may be ahead of ours by this much.
const CLOCK_SKEW_SECONDS: u64 = 300;

fn invalid(parameter: &str, problem: impl Into<String>) -> ServiceError {
    ServiceError::Invalid { parameter: parameter.into(), problem: problem.into() }
}

impl Inner {
    /// Lets the holder of a session's key in. A session that names this router is taken into the books when its client
    /// first shows itself.
    pub(super) async fn authenticate_session(&self, text: &str) -> Result<Caller, ServiceError> {
        let unauthorized = |why: String| ServiceError::Unauthorized(why);
        let access: SessionAccess = text.parse().map_err(|error| unauthorized(format!("{error}")))?;
        let now = now_seconds();
        if access.expires <= now {
            return Err(unauthorized("the session token has expired: sign a new one".into()));
        }
        if access.expires > now + ACCESS_SECONDS_MAX + CLOCK_SKEW_SECONDS {
            return Err(unauthorized(format!("a session token is valid for at most {ACCESS_SECONDS_MAX} s")));
        }
        let signer = access.signer(&self.config.domain);
        let known = self.settlement.terms(access.session);
        if known.as_ref().is_none_or(|terms| signer != Ok(terms.session_key)) {
            // New here, or its key was replaced.
            let terms = self.session_on_chain(access.session).await?;
            if signer != Ok(terms.session_key) {
                return Err(unauthorized("the session token is not signed by the session's key".into()));
            }
            match known {
                Some(_) => self.settlement.refresh(terms),
                None => self.settlement.open(terms, None, self.config.credit).await?,
            }
        }
        Ok(Caller { key_id: format!("session {}", access.session), session: access.session, admin: false })
    }

    /// A session that can be served here, as the chain has it.
    async fn session_on_chain(&self, id: SessionId) -> Result<SessionTerms, ServiceError> {
        let _place = self.adopting.try_acquire().map_err(|_| ServiceError::Busy {
            message: "too many new sessions are being looked up: try again in a moment".into(),
            retry_after: Duration::from_secs(1),
        })?;
        let terms = self.chain.session(id).await.map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        let terms = terms.ok_or_else(|| {
            ServiceError::Payment(format!("the chain knows no open session {id}: open one that names this router"))
        })?;
        if terms.router != self.identity.operator() {
            let message =
                format!("session {id} names the router {}, this is {}", terms.router, self.identity.operator());
            return Err(ServiceError::Forbidden(message));
        }
        Ok(terms)
    }

    /// Takes in what the chain says of a session now, and checks that its owner has not begun to close it.
    async fn open_terms(&self, id: SessionId) -> Result<SessionTerms, ServiceError> {
        let on_chain = self.chain.session(id).await.map_err(|error| ServiceError::Unavailable(error.to_string()))?;
        let Some(terms) = on_chain.filter(|terms| terms.accepting) else {
            self.settlement.close(id);
            return Err(ServiceError::Payment(format!("session {id} is closed or being closed: open a new one")));
        };
        if self.settlement.terms(id).as_ref() != Some(&terms) {
            self.settlement.refresh(terms.clone());
        }
        Ok(terms)
    }

    /// Checks that a header is the session key's and is about this request.
    pub(super) fn check_header(
        &self,
        signed: &SignedHeader,
        terms: &SessionTerms,
        model: ModelId,
        bound: Bound,
    ) -> Result<(), ServiceError> {
        let header = &signed.header;
        let now = now_seconds();
        if header.session != terms.id {
            return Err(invalid("header.session", "is not the session of the token"));
        }
        if header.task != TaskId::derive(header.session, header.client_nonce) {
            return Err(invalid("header.task", "does not follow from session and nonce"));
        }
        if header.sampling != bound.sampling {
            return Err(invalid("header.sampling", "is not the hash of this request's sampling parameters"));
        }
        if header.request_hash != bound.request_hash {
            return Err(invalid("header.request_hash", "is not the hash of this request"));
        }
        if header.model != model {
            return Err(invalid("header.model", format!("is not the model of that name, which is {model}")));
        }
        if header.min_tier < terms.min_tier {
            return Err(invalid("header.min_tier", "is below what the session accepts"));
        }
        if header.deadline <= now {
            return Err(invalid("header.deadline", "has passed: check this machine's clock"));
        }
        if signed.signature.recover(header.signing_hash(&self.config.domain)) != Ok(terms.session_key) {
            return Err(ServiceError::Forbidden("the header is not signed by the session's key".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl SessionService for Router {
    fn facts(&self) -> RouterFacts {
        let config = &self.inner.config;
        RouterFacts {
            operator: self.operator(),
            domain: config.domain,
            registry: config.registry,
            credit: config.credit,
        }
    }

    async fn generate(
        &self,
        caller: &Caller,
        task: SignedTask,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        let SignedTask { header, request } = task;
        request.check()?;
        let inner = &self.inner;
        let terms = inner.open_terms(caller.session).await?;
        let model = inner.model(&request.model, &terms, routing)?;
        if request.max_tokens > model.context {
            return Err(invalid("request.max_tokens", format!("is above the model's context, {}", model.context)));
        }
        if header.header.max_tokens != request.max_tokens {
            return Err(invalid("header.max_tokens", "is not the request's"));
        }
        inner.check_header(&header, &terms, model.id, request.bound())?;
        let (limit, needed) = inner.bounds(&terms, model.id, request.prompt.input_tokens_max(), request.max_tokens)?;
        let nonce = header.header.client_nonce;
        let reservation = inner.settlement.reserve_numbered(terms.id, nonce, needed, now_seconds())?;
        inner.dispatch(Work::new(header, request, terms, reservation, limit, routing)).await
    }

    async fn embed(
        &self,
        caller: &Caller,
        task: SignedEmbedding,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        self.inner.open_terms(caller.session).await?;
        self.inner.embed(caller, &task.model, task.inputs, Some(task.header), routing).await
    }

    async fn proposals(&self, caller: &Caller) -> Result<Vec<Proposal>, ServiceError> {
        Ok(self.inner.settlement.proposals(caller.session))
    }

    async fn pay(&self, caller: &Caller, signed: VoucherSignature) -> Result<SignedVoucher, ServiceError> {
        let VoucherSignature { voucher, signature } = signed;
        if voucher.session != caller.session {
            return Err(invalid("voucher.session", "is not the session of the token"));
        }
        let miner = voucher.miner;
        let settled = self.inner.settlement.accept_signature(voucher, signature).await?;
        let signed = settled.voucher.ok_or(SettleError::Stopped)?;
        // A miner that is away is handed it when it comes back.
        if let Some(miner) = self.inner.pool.get(miner)
            && let Err(error) = miner.connection.send(RouterControl::Voucher(Box::new(signed.clone()))).await
        {
            tracing::debug!(miner = %miner.operator, %error, "a voucher waits for its miner to come back");
        }
        Ok(signed)
    }

    async fn close(&self, caller: &Caller) -> Result<SignedClose, ServiceError> {
        if !self.inner.settlement.is_signed_by_client(caller.session) {
            return Err(SettleError::NotYours.into());
        }
        match self.close_session(caller.session) {
            Ok((close, signature)) => Ok(SignedClose { close, signature }),
            Err(error @ CloseError::Unknown(_)) => Err(ServiceError::NotFound(error.to_string())),
            Err(error @ CloseError::Running) => {
                Err(ServiceError::Busy { message: error.to_string(), retry_after: Duration::from_secs(1) })
            }
            Err(error @ CloseError::Unsigned) => Err(ServiceError::Payment(error.to_string())),
        }
    }
}
