//! The router as the gateway sees it.

use super::{
    Inner, Router,
    dispatch::{BYTES_PER_TOKEN, Work},
    pool::NamedModel,
    settle::SettleError,
    tasks::{now_ms, now_seconds},
};
use crate::ledger::{LedgerError, SessionTerms};
use alloy::primitives::B256;
use async_trait::async_trait;
use cortensor_gateway::{
    Caller, Credentials, Embeddings, InferenceService, ModelCard, NodeView, Readiness, ServiceError, ServiceGeneration,
    SessionService, SessionView, TaskView,
};
use cortensor_protocol::{
    GenerationRequest, ModelId, Price, Prompt, ReceiptFile, Routing, SessionAccess, SessionId, TaskHeader, TaskId,
    Tier, Wei,
    task::{Bound, SignedHeader, derive_seed},
};
use cortensor_scheduler::{BlockHash, WorkerSnapshot, prompt_blocks};
use tokio::sync::{mpsc, oneshot};

/// Events between a task's driver and its HTTP stream: enough to smooth, too few to hide a slow reader.
const EVENTS: usize = 64;
/// A header may be used for this long.
const HEADER_LIFETIME_SECONDS: u64 = 600;

impl From<SettleError> for ServiceError {
    fn from(error: SettleError) -> Self {
        let text = error.to_string();
        match error {
            SettleError::Ledger(
                LedgerError::Exhausted { .. }
                | LedgerError::Expired(_)
                | LedgerError::Closing
                | LedgerError::Credit { .. },
            )
            | SettleError::UnknownSession(_) => Self::Payment(text),
            SettleError::Ledger(LedgerError::Nonce(_)) => {
                Self::Invalid { parameter: "header.client_nonce".into(), problem: text }
            }
            SettleError::Signature(_)
            | SettleError::WrongKey { .. }
            | SettleError::NotProposed
            | SettleError::NotYours => Self::Forbidden(text),
            SettleError::Store(_) | SettleError::Stopped => Self::Internal(text),
        }
    }
}

/// The blocks of a prompt by which a miner that holds its beginning is recognised.
pub(super) fn blocks(model: ModelId, prompt: &Prompt) -> Vec<BlockHash> {
    prompt_blocks(model, &prefix_bytes(prompt))
}

fn prefix_bytes(prompt: &Prompt) -> Vec<u8> {
    match prompt {
        Prompt::Text(text) => text.clone().into_bytes(),
        Prompt::Tokens(tokens) => tokens.iter().flat_map(|token| token.to_le_bytes()).collect(),
        Prompt::Chat { messages, tools, .. } => {
            let mut bytes = Vec::with_capacity(4096);
            tools.iter().for_each(|tool| bytes.extend_from_slice(tool.parameters.as_bytes()));
            for message in messages {
                bytes.push(message.role as u8);
                bytes.extend_from_slice(message.content.as_bytes());
            }
            bytes
        }
    }
}

/// The highest price among the offers that a session can accept, which is what has to be reserved.
pub(super) fn price_limit(workers: &[WorkerSnapshot], model: ModelId, terms: &SessionTerms) -> Option<Price> {
    let offers = workers.iter().filter(|worker| worker.offer.model == model);
    offers
        .map(|worker| worker.offer.price)
        .filter(|price| price.within(&terms.max_price))
        .reduce(|a, b| Price { input: a.input.max(b.input), output: a.output.max(b.output) })
}

/// What a header says of a request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) bound: Bound,
    pub(super) max_tokens: u32,
    /// The client's, where it gave one.
    pub(super) seed: Option<u64>,
    pub(super) min_tier: Tier,
}

impl Inner {
    pub(super) fn terms(&self, session: SessionId) -> Result<SessionTerms, ServiceError> {
        self.settlement.terms(session).ok_or_else(|| SettleError::UnknownSession(session).into())
    }

    pub(super) fn model(&self, name: &str, terms: &SessionTerms, routing: Routing) -> Result<NamedModel, ServiceError> {
        let unknown = || match routing.miner {
            Some(miner) if self.pool.get(miner).is_none() => {
                let message =
                    format!("the miner {miner} is not connected to this router; GET /v1/nodes lists those that are");
                ServiceError::NotFound(message)
            }
            Some(miner) => ServiceError::NotFound(format!("the miner {miner} does not serve the model {name:?}")),
            None => ServiceError::UnknownModel { model: name.to_owned() },
        };
        let model = self.pool.resolve(name, routing.miner).ok_or_else(unknown)?;
        match terms.model {
            Some(only) if only != model.id => {
                Err(ServiceError::Forbidden(format!("this session pays for the model {only} only")))
            }
            _ => Ok(model),
        }
    }

    /// A header for a request of a session that this router signs for.
    pub(super) fn header(
        &self,
        terms: &SessionTerms,
        model: ModelId,
        asked: Asked,
        nonce: u64,
    ) -> Result<SignedHeader, ServiceError> {
        let Asked { bound, max_tokens, seed, min_tier } = asked;
        let task = TaskId::derive(terms.id, nonce);
        // The beacon of the chain replaces these random bits when audits arrive; the miner chooses neither.
        let beacon = B256::from(rand::random::<[u8; 32]>());
        let header = TaskHeader {
            task,
            session: terms.id,
            model,
            request_hash: bound.request_hash,
            sampling: bound.sampling,
            seed: derive_seed(task, nonce, beacon, model, seed),
            max_tokens,
            min_tier,
            client_nonce: nonce,
            deadline: now_seconds() + HEADER_LIFETIME_SECONDS,
        };
        let unsigned =
            || ServiceError::Forbidden("this session is signed for by its own client, not by an API key".into());
        self.settlement.sign_header(header).ok_or_else(unsigned)
    }

    /// What the price of a request is held to, and the most that it can cost.
    pub(super) fn bounds(
        &self,
        terms: &SessionTerms,
        model: ModelId,
        input_max: u32,
        output_max: u32,
    ) -> Result<(Price, Wei), ServiceError> {
        let limit = price_limit(&self.pool.snapshots(), model, terms).ok_or_else(|| {
            ServiceError::Payment("every miner of this model asks more than this session accepts".into())
        })?;
        Ok((limit, limit.cost(input_max.into(), output_max.into()).unwrap_or(Wei(u128::MAX))))
    }

    /// Everything that is decided before a miner is looked for, for a session that this router signs for.
    fn prepare(&self, caller: &Caller, mut request: GenerationRequest, routing: Routing) -> Result<Work, ServiceError> {
        let terms = self.terms(caller.session)?;
        let model = self.model(&request.model, &terms, routing)?;
        request.max_tokens = request.max_tokens.min(model.context.max(1));
        let input_max = request.prompt.input_tokens_max();
        let (price_limit, needed) = self.bounds(&terms, model.id, input_max, request.max_tokens)?;
        let reservation = self.settlement.reserve(terms.id, needed, now_seconds())?;
        let asked = Asked {
            bound: request.bound(),
            max_tokens: request.max_tokens,
            seed: request.seed,
            min_tier: routing.tier(terms.min_tier),
        };
        let header = self.header(&terms, model.id, asked, reservation.nonce)?;
        Ok(Work::new(header, request, terms, reservation, price_limit, routing))
    }

    /// Hands a task to the dispatcher; returns once a miner has accepted it.
    pub(super) async fn dispatch(&self, work: Work) -> Result<ServiceGeneration, ServiceError> {
        let task = work.header.header.task;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (accepted, acceptance) = oneshot::channel();
        tokio::spawn(self.dispatcher.clone().run(work, events, accepted));
        let gone = |_| ServiceError::Internal("the task ended without an answer".into());
        let tool_format = acceptance.await.map_err(gone)??;
        Ok(ServiceGeneration { task, tool_format, events: Box::new(receiver) })
    }

    fn own(&self, caller: &Caller, session: SessionId, id: TaskId) -> Result<(), ServiceError> {
        if caller.admin || caller.session == session {
            return Ok(());
        }
        // The same words as for a task that does not exist, so that ids cannot be probed.
        Err(no_task(id))
    }
}

fn no_task(id: TaskId) -> ServiceError {
    ServiceError::NotFound(format!("this router knows no task {id}"))
}

#[async_trait]
impl InferenceService for Router {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, ServiceError> {
        let missing = "no API key was given: send it as `Authorization: Bearer sk-cor-…`";
        let key = credentials.api_key.as_deref().ok_or_else(|| ServiceError::Unauthorized(missing.into()))?;
        if SessionAccess::is_form_of(key) {
            return self.inner.authenticate_session(key).await;
        }
        let unknown = "this router does not know the API key: check it, or ask the router's operator for one";
        self.inner.keys.find(key).ok_or_else(|| ServiceError::Unauthorized(unknown.into()))
    }

    async fn generate(
        &self,
        caller: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        request.check()?;
        self.inner.dispatch(self.inner.prepare(caller, request, routing)?).await
    }

    async fn embed(
        &self,
        caller: &Caller,
        model: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        self.inner.embed(caller, model, inputs, None, routing).await
    }

    async fn count_tokens(&self, caller: &Caller, request: GenerationRequest) -> Result<u32, ServiceError> {
        self.inner.count_tokens(caller, request).await
    }

    async fn models(&self) -> Vec<ModelCard> {
        self.inner.pool.models(self.inner.started)
    }

    async fn nodes(&self) -> Vec<NodeView> {
        self.inner.pool.nodes(now_ms())
    }

    async fn task(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        let view = match self.inner.dispatcher.tasks.get(id) {
            Some(view) => view,
            None => {
                let stored =
                    self.inner.settlement.task(id).map_err(|error| ServiceError::Internal(error.to_string()))?;
                let stored = stored.ok_or_else(|| no_task(id))?;
                serde_json::from_slice(&stored).map_err(|error| ServiceError::Internal(error.to_string()))?
            }
        };
        self.inner.own(caller, view.session, id)?;
        Ok(view)
    }

    async fn receipts(&self, caller: &Caller, id: TaskId, open: bool) -> Result<Vec<ReceiptFile>, ServiceError> {
        let files = self.inner.settlement.receipts(id).map_err(|error| ServiceError::Internal(error.to_string()))?;
        let Some(first) = files.first() else { return Err(no_task(id)) };
        self.inner.own(caller, first.receipt.receipt.session, id)?;
        let files = self.inner.with_guarantees(files).await;
        if open { self.inner.opened(files).await } else { Ok(files) }
    }

    async fn session(&self, caller: &Caller) -> Result<SessionView, ServiceError> {
        let unknown = || ServiceError::from(SettleError::UnknownSession(caller.session));
        let book = self.inner.settlement.book(caller.session).ok_or_else(unknown)?;
        let expired = now_seconds() >= book.terms.expiry;
        Ok(SessionView {
            id: book.terms.id,
            deposit: book.terms.spendable,
            spent: book.total,
            expiry: book.terms.expiry,
            state: if book.closing || expired { "closing" } else { "open" }.into(),
            sequence: book.sequence,
        })
    }

    async fn readiness(&self) -> Readiness {
        let miners = if self.inner.pool.is_empty() { "no miner is connected yet".into() } else { "ok".to_owned() };
        let chain = match self.inner.chain.node(self.operator()).await {
            Ok(Some(record)) if record.active => "ok".into(),
            Ok(Some(_)) => "this router is not active in the registry: add stake".into(),
            Ok(None) => "this router is not registered: run `cortensor router register`".into(),
            Err(error) => error.to_string(),
        };
        let books = if self.inner.settlement.is_running() {
            "ok"
        } else {
            "cannot be written: see the log, then restart the router"
        };
        let checks =
            vec![("miners".to_owned(), miners), ("registry".to_owned(), chain), ("books".to_owned(), books.into())];
        Readiness { ready: checks.iter().all(|(_, state)| state == "ok"), checks }
    }

    fn sessions(&self) -> Option<&dyn SessionService> {
        Some(self)
    }

    fn metrics(&self, text: &mut String) {
        self.inner.dispatcher.metrics.write(text, self.inner.pool.len());
    }
}

/// Rough number of tokens of a text, for estimates.
pub(super) fn estimated_tokens(bytes: usize) -> u32 {
    u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX)
}
