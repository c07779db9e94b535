//! The seam between the HTTP API and whatever serves it: the router implements [`InferenceService`].
//!
//! The gateway speaks HTTP dialects and knows nothing of miners, scheduling or the chain.

use async_trait::async_trait;
use cortensor_protocol::{
    CapabilityRecord, Class, FinishReason, GenerationRequest, ModelId, Operator, Price, Proposal, ReceiptFile,
    RouterFacts, Routing, SessionId, SignedClose, SignedTask, SignedVoucher, TaskId, Tier, TokenEvent, ToolFormat,
    Usage, Wei,
    client::{SignedEmbedding, VoucherSignature},
    generation::InvalidRequest,
    manifest::{Load, Speed},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::mpsc;

/// What a client showed to be let in.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// `Authorization: Bearer …` or `x-api-key: …`: an API key, or a session's access token.
    pub api_key: Option<String>,
    /// Where the request came from.
    pub peer: Option<IpAddr>,
}

/// A client that was let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Stable name of the key, safe to log (not the key).
    pub key_id: String,
    /// The session that pays for it.
    pub session: SessionId,
    /// Whether it may use the operator's own pages (sessions of others, keys).
    pub admin: bool,
}

/// Why the service did not do something. Each API shows it in its own shape, with [`ServiceError::code`] and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// 401.
    #[error("{0}")]
    Unauthorized(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 400: a parameter is wrong or not supported by the model.
    #[error("{parameter}: {problem}")]
    Invalid {
        /// In the API's spelling.
        parameter: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// 400 `context_length_exceeded`.
    #[error("{0}")]
    ContextLength(String),
    /// 404: no miner serves this model.
    #[error("no miner on this network serves the model {model:?}; GET /v1/models lists those that are served")]
    UnknownModel {
        /// As the client wrote it.
        model: String,
    },
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 402: the session is exhausted, expired or over its credit limit.
    #[error("{0}")]
    Payment(String),
    /// 429 with Retry-After: this key is over its limit, or every miner is busy and the queue is full.
    #[error("{message}")]
    Busy {
        /// What is full, and what to do.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// 503: nobody serves just now.
    #[error("{0}")]
    Unavailable(String),
    /// 504.
    #[error("{0}")]
    Timeout(String),
    /// 500: a fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidRequest> for ServiceError {
    fn from(invalid: InvalidRequest) -> Self {
        Self::Invalid { parameter: invalid.parameter.into(), problem: invalid.problem }
    }
}

/// Events of one generation, in order: any number of `Tokens`, then one `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceEvent {
    /// The prompt was taken in.
    Started(Usage),
    /// One or more tokens.
    Tokens(Vec<TokenEvent>),
    /// Done; receipt and voucher are durable.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Which of the request's stop texts ended it, where the backend tells.
        stop: Option<u8>,
        /// Text held back until the end; append it to the output.
        tail: String,
        /// What was used.
        usage: Usage,
    },
    /// Broken off, after every other miner was tried.
    Failed(ServiceError),
}

/// Where a generation's events come from. It is polled by the client's own connection, so that a service which needs no
/// task in between does not pay for one.
pub trait EventSource: Send {
    /// The next event; `None` after the last.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>>;
}

impl EventSource for mpsc::Receiver<ServiceEvent> {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>> {
        self.poll_recv(cx)
    }
}

/// A running generation. Dropping it cancels the work within a second.
pub struct ServiceGeneration {
    /// Its task.
    pub task: TaskId,
    /// How the model writes tool calls.
    pub tool_format: ToolFormat,
    /// Its events; bounded, so a slow reader slows its own miner slot only.
    pub events: Box<dyn EventSource>,
}

impl std::fmt::Debug for ServiceGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceGeneration").field("task", &self.task).finish_non_exhaustive()
    }
}

/// A model that can be used now.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ModelCard {
    /// Name to use in requests.
    pub name: String,
    /// Manifest id.
    #[schema(value_type = String)]
    pub id: ModelId,
    /// Lowest price on offer, in wei of COR per 1,000,000 LLM tokens.
    #[schema(value_type = Object)]
    pub price: Price,
    /// Best tier on offer.
    #[schema(value_type = String)]
    pub tier: Tier,
    /// Longest context on offer, in LLM tokens.
    pub context: u32,
    /// How many miners serve it now.
    pub miners: u32,
    /// Whether it embeds.
    pub embeds: bool,
    /// How tool calls are written.
    #[schema(value_type = String)]
    pub tool_format: ToolFormat,
    /// Unix time in seconds since when this router knows it.
    pub created: u64,
}

/// A node as this router sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeView {
    /// Its account.
    #[schema(value_type = String)]
    pub operator: Operator,
    /// `ready`, `draining`; `suspended` or `slashed`, which get no work; `unreachable`, which was here before.
    pub state: String,
    /// What audits have shown: `good`, `watched`, `suspended`, `slashed`.
    pub standing: String,
    /// Reputation in millionths; 500,000 is what a node has that was never audited.
    pub reputation_ppm: u32,
    /// Sum of the evidence of all audits in 1/65,536 bit; below zero speaks for honesty.
    pub evidence: i64,
    /// Audits that were settled.
    pub audits: u32,
    /// Share of the time since this router first saw it that it was connected, in millionths.
    pub uptime_ppm: u32,
    /// Where each number comes from.
    pub reasons: BTreeMap<String, String>,
    /// What it serves.
    pub models: Vec<NodeModelView>,
    /// Unix time in milliseconds of its last sign of life.
    pub last_seen_ms: u64,
    /// Tasks finished through this router.
    pub tasks_finished: u64,
    /// Tasks that it failed here.
    pub tasks_failed: u64,
}

/// One model of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeModelView {
    /// Name of the model.
    pub name: String,
    /// What can be checked.
    #[schema(value_type = String)]
    pub tier: Tier,
    /// Name, version and class of the engine.
    pub build: String,
    /// Asked price.
    #[schema(value_type = Object)]
    pub price: Price,
    /// Load at the last heartbeat.
    #[schema(value_type = Object)]
    pub load: Load,
    /// Class by what drawn guards measured; absent while none has.
    #[schema(value_type = Option<String>)]
    pub class: Option<Class>,
    /// What they measured.
    #[schema(value_type = Option<Object>)]
    pub capability: Option<CapabilityRecord>,
    /// Speed as requests are given out by it: what this router saw, else what guards measured, else what the node claims.
    #[schema(value_type = Object)]
    pub speed: Speed,
    /// Where each number comes from.
    pub reasons: BTreeMap<String, String>,
    /// Sequences at once, as offered.
    pub slots: u32,
    /// Longest context, as offered.
    pub context: u32,
}

/// One attempt at a task by one miner, with the reason for the choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptView {
    /// The miner.
    #[schema(value_type = String)]
    pub miner: Operator,
    /// Why it was chosen: the policy's own words and numbers.
    pub reason: String,
    /// Index of the first token that it was to deliver.
    pub first_token: u32,
    /// Tokens that it delivered.
    pub output_tokens: u32,
    /// What it is owed for that, in wei.
    #[schema(value_type = String)]
    pub owed: Wei,
    /// How it ended: `running`, `finished`, or the failure.
    pub outcome: String,
}

/// A task and the decisions made about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TaskId,
    /// The session that pays.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Name of the model.
    pub model: String,
    /// `running`, `finished`, `failed`, `cancelled`.
    pub state: String,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    /// Time to the first token in milliseconds, once there was one.
    pub first_token_ms: Option<u64>,
    /// Time to the end in milliseconds.
    pub duration_ms: Option<u64>,
    /// Every miner that was tried, in order.
    pub attempts: Vec<AttemptView>,
    /// What was used.
    #[schema(value_type = Object)]
    pub usage: Usage,
}

/// A session as this router keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// What was deposited.
    #[schema(value_type = String)]
    pub deposit: Wei,
    /// What is owed to miners in all.
    #[schema(value_type = String)]
    pub spent: Wei,
    /// Unix time in seconds.
    pub expiry: u64,
    /// `open`, `closing`, `closed`.
    pub state: String,
    /// Vouchers countersigned so far.
    pub sequence: u64,
}

/// Whether the service can take work, and if not, why and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// All checks passed.
    pub ready: bool,
    /// Each check with `ok` or what is wrong.
    pub checks: Vec<(String, String)>,
}

/// Texts embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// The task.
    pub task: TaskId,
    /// One vector per text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub input_tokens: u32,
}

/// What the HTTP API needs.
#[async_trait]
pub trait InferenceService: Send + Sync + 'static {
    /// Lets a client in.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, ServiceError>;

    /// Begins a generation; returns once a miner has accepted it (or none would).
    async fn generate(
        &self,
        caller: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError>;

    /// Begins a generation whose answer the client wants in one piece, which some services get at less cost. The events
    /// are the same.
    async fn generate_whole(
        &self,
        caller: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        self.generate(caller, request, routing).await
    }

    /// Embeds texts.
    async fn embed(
        &self,
        caller: &Caller,
        model: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError>;

    /// Counts the tokens of a request's prompt, chat template included. Costs nothing.
    async fn count_tokens(&self, _caller: &Caller, _request: GenerationRequest) -> Result<u32, ServiceError> {
        let advice = "this endpoint cannot count tokens; the usage of an answer tells how many its prompt had";
        Err(ServiceError::NotFound(advice.into()))
    }

    /// Models that can be used now.
    async fn models(&self) -> Vec<ModelCard>;

    /// Nodes that this router knows.
    async fn nodes(&self) -> Vec<NodeView>;

    /// A task of this caller's.
    async fn task(&self, caller: &Caller, id: TaskId) -> Result<TaskView, ServiceError>;

    /// The receipts of a task, one per miner that finished or handed over properly; with the evidence that each miner
    /// signed when it is to be opened.
    async fn receipts(&self, caller: &Caller, id: TaskId, open: bool) -> Result<Vec<ReceiptFile>, ServiceError>;

    /// The caller's session.
    async fn session(&self, caller: &Caller) -> Result<SessionView, ServiceError>;

    /// Whether it can take work.
    async fn readiness(&self) -> Readiness;

    /// Adds the service's own metrics to the text that Prometheus reads.
    fn metrics(&self, text: &mut String);

    /// The service of clients that sign for their own sessions, where there is one.
    fn sessions(&self) -> Option<&dyn SessionService> {
        None
    }
}

/// What clients need that sign for their own sessions.
#[async_trait]
pub trait SessionService: Send + Sync {
    /// What a client needs to know before it opens a session.
    fn facts(&self) -> RouterFacts;

    /// Begins a generation that the client signed; returns once a miner has accepted it (or none would).
    async fn generate(
        &self,
        caller: &Caller,
        task: SignedTask,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError>;

    /// Embeds texts that the client signed for.
    async fn embed(&self, caller: &Caller, task: SignedEmbedding, routing: Routing)
    -> Result<Embeddings, ServiceError>;

    /// What the client is asked to sign; for each miner the oldest first.
    async fn proposals(&self, caller: &Caller) -> Result<Vec<Proposal>, ServiceError>;

    /// Takes a signature on a proposed voucher; returns the voucher with the countersignature, durable.
    async fn pay(&self, caller: &Caller, signed: VoucherSignature) -> Result<SignedVoucher, ServiceError>;

    /// Ends the session: no new work is taken, and the owner can close it on chain at once.
    async fn close(&self, caller: &Caller) -> Result<SignedClose, ServiceError>;
}
