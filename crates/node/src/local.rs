//! One engine behind the HTTP API, without a network and without money: for trying a model, and for putting this API in
//! front of a server that runs already.
//!
//! Guarantees: no more requests at once than set, the rest is refused as busy; with a key set, nobody gets in without it;
//! a client that leaves ends its generation. There are no tasks to look up, no receipts and no sessions, and it says so.

use crate::{endpoint_key::EndpointKey, router::now_seconds};
use alloy::primitives::B256;
use async_trait::async_trait;
use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job};
use cortensor_gateway::{
    Caller, Credentials, Embeddings, EventSource, InferenceService, ModelCard, NodeView, Readiness, ServiceError,
    ServiceEvent, ServiceGeneration, SessionView, TaskView,
};
use cortensor_proof::SeededSampler;
use cortensor_protocol::{
    GenerationRequest, ModelId, Price, ReceiptFile, Routing, SessionId, TaskId, TokenEvent, ToolFormat,
    task::derive_seed,
};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Most tokens that are passed on as one event when the engine is ahead of the client.
const TOKENS_PER_EVENT: usize = 32;

/// Serves one engine to whoever reaches it.
pub struct LocalService {
    engine: Arc<dyn Engine>,
    model: ModelId,
    key: EndpointKey,
    places: Arc<Semaphore>,
    places_max: usize,
    started: u64,
}

impl std::fmt::Debug for LocalService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalService").field("model", &self.model).finish_non_exhaustive()
    }
}

impl LocalService {
    /// Serves `engine` to at most `requests_max` requests at once; with a `key`, to those who send it.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, key: Option<&str>, requests_max: usize) -> Self {
        let places_max = requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            model: engine.info().manifest.id(),
            engine,
            key: EndpointKey::new(key),
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            started: now_seconds(),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        self.places.clone().try_acquire_owned().map_err(|_| ServiceError::Busy {
            message: format!("{} requests are running, which is the limit: try again in a moment", self.places_max),
            retry_after: Duration::from_secs(1),
        })
    }

    fn own(&self, model: &str) -> Result<(), ServiceError> {
        if model == self.engine.info().manifest.name {
            return Ok(());
        }
        Err(ServiceError::UnknownModel { model: model.to_owned() })
    }

    /// Whether this engine is what the request may go to.
    fn check(&self, routing: Routing) -> Result<(), ServiceError> {
        let invalid =
            |parameter: &str, problem: String| Err(ServiceError::Invalid { parameter: parameter.into(), problem });
        if routing.miner.is_some() {
            return invalid("miner", "there is one engine here and no miners: leave it out".into());
        }
        let tier = self.engine.info().tier;
        match routing.min_tier {
            Some(least) if tier < least => invalid("min_tier", format!("this engine is of tier {tier}, not {least}")),
            _ => Ok(()),
        }
    }

    /// Everything before the engine: a place, the model, the job.
    fn prepare(&self, mut request: GenerationRequest) -> Result<(OwnedSemaphorePermit, TaskId, Job), ServiceError> {
        request.check()?;
        self.own(&request.model)?;
        let place = self.place()?;
        request.max_tokens = request.max_tokens.min(self.engine.info().context.max(1));
        let task = TaskId(B256::from(rand::random::<[u8; 32]>()));
        let seed = match request.seed {
            // The same request with the same seed has the same answer, whatever its task is called.
            Some(_) => derive_seed(TaskId::default(), 0, B256::ZERO, self.model, request.seed),
            None => derive_seed(task, 0, task.0, self.model, None),
        };
        let sampler = SeededSampler::new(seed, request.sampling.clone(), request.logprobs.unwrap_or(0));
        let job = Job {
            request,
            resume: Vec::new(),
            resume_tokens: 0,
            resume_text: String::new(),
            sampler: Box::new(sampler),
            cancel: CancellationToken::new(),
        };
        Ok((place, task, job))
    }

    fn running(&self, place: OwnedSemaphorePermit, task: TaskId, generation: Generation) -> ServiceGeneration {
        let events = Box::new(Source { generation, early: None, _place: place });
        ServiceGeneration { task, tool_format: self.tool_format(), events }
    }

    fn tool_format(&self) -> ToolFormat {
        self.engine.info().manifest.tool_format
    }
}

/// The engine's events in the service's terms.
struct Source {
    generation: Generation,
    /// The event after the tokens that were passed on together.
    early: Option<EngineEvent>,
    _place: OwnedSemaphorePermit,
}

impl Source {
    /// This token and those that are there already.
    fn gather(&mut self, first: TokenEvent) -> Vec<TokenEvent> {
        let mut tokens = vec![first];
        while tokens.len() < TOKENS_PER_EVENT {
            match self.generation.try_next() {
                Some(EngineEvent::Token(token)) => tokens.push(token),
                other => {
                    self.early = other;
                    break;
                }
            }
        }
        tokens
    }
}

impl EventSource for Source {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>> {
        let event = match self.early.take() {
            Some(event) => Some(event),
            None => match self.generation.poll_next(cx) {
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(event.map(|event| match event {
            EngineEvent::Started { usage, .. } => ServiceEvent::Started(usage),
            EngineEvent::Token(token) => ServiceEvent::Tokens(self.gather(token)),
            EngineEvent::Finished { reason, stop, tail, usage } => ServiceEvent::Finished { reason, stop, tail, usage },
            EngineEvent::Failed(error) => ServiceEvent::Failed(service_error(&error)),
        }))
    }
}

fn service_error(error: &EngineError) -> ServiceError {
    let message = error.to_string();
    match error {
        EngineError::Busy { .. } => ServiceError::Busy {
            message: format!("{message}: try again in a moment"),
            retry_after: Duration::from_secs(1),
        },
        EngineError::ContextLength { .. } => ServiceError::ContextLength(message),
        EngineError::Unsupported { parameter, problem } => {
            ServiceError::Invalid { parameter: (*parameter).into(), problem: problem.clone() }
        }
        _ => ServiceError::Unavailable(message),
    }
}

fn no_books(what: &str) -> ServiceError {
    ServiceError::NotFound(format!("there are no {what} here: `cortensor serve` has no network and takes no money"))
}

#[async_trait]
impl InferenceService for LocalService {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, ServiceError> {
        self.key.admit(credentials, SessionId::default())
    }

    async fn generate(
        &self,
        _caller: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        self.check(routing)?;
        let (place, task, job) = self.prepare(request)?;
        let generation = self.engine.generate(job).await.map_err(|error| service_error(&error))?;
        Ok(self.running(place, task, generation))
    }

    async fn generate_whole(
        &self,
        _caller: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        self.check(routing)?;
        let (place, task, job) = self.prepare(request)?;
        let generation = self.engine.generate_whole(job).await.map_err(|error| service_error(&error))?;
        Ok(self.running(place, task, generation))
    }

    async fn embed(
        &self,
        _caller: &Caller,
        model: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        self.check(routing)?;
        self.own(model)?;
        let _place = self.place()?;
        let (vectors, input_tokens) = self.engine.embed(&inputs).await.map_err(|error| service_error(&error))?;
        Ok(Embeddings { task: TaskId(B256::from(rand::random::<[u8; 32]>())), vectors, input_tokens })
    }

    async fn count_tokens(&self, _caller: &Caller, request: GenerationRequest) -> Result<u32, ServiceError> {
        self.own(&request.model)?;
        let _place = self.place()?;
        let tokens = self.engine.tokenize(&request).await.map_err(|error| service_error(&error))?;
        Ok(u32::try_from(tokens.len()).unwrap_or(u32::MAX))
    }

    async fn models(&self) -> Vec<ModelCard> {
        let info = self.engine.info();
        vec![ModelCard {
            name: info.manifest.name.clone(),
            id: self.model,
            price: Price::default(),
            tier: info.tier,
            context: info.context,
            miners: 1,
            embeds: info.embeds,
            tool_format: self.tool_format(),
            created: self.started,
        }]
    }

    async fn nodes(&self) -> Vec<NodeView> {
        Vec::new()
    }

    async fn task(&self, _caller: &Caller, _id: TaskId) -> Result<TaskView, ServiceError> {
        Err(no_books("records of tasks"))
    }

    async fn receipts(&self, _caller: &Caller, _id: TaskId, _open: bool) -> Result<Vec<ReceiptFile>, ServiceError> {
        Err(no_books("receipts"))
    }

    async fn session(&self, _caller: &Caller) -> Result<SessionView, ServiceError> {
        Err(no_books("sessions"))
    }

    async fn readiness(&self) -> Readiness {
        let state = match self.engine.health().await {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        Readiness { ready: state == "ok", checks: vec![("engine".into(), state)] }
    }

    fn metrics(&self, _text: &mut String) {}
}
