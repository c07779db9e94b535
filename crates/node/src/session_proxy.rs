//! A local OpenAI-compatible endpoint for somebody who signs for a session of their own: the gateway on this side, a
//! [`Client`] towards the router on the other. Applications speak plain OpenAI to it; keys never leave this machine.
//!
//! Guarantees: nothing is signed that the client's book does not account for; after each answer what is owed is paid in the
//! background; whoever reaches the endpoint shows its key.

use crate::endpoint_key::EndpointKey;
use async_trait::async_trait;
use cortensor_client::{Answer, Client, ClientError, Model, Refusal};
use cortensor_gateway::{
    Caller, Credentials, Embeddings, InferenceService, ModelCard, NodeView, Readiness, ServiceError, ServiceEvent,
    ServiceGeneration, SessionView, TaskView,
};
use cortensor_protocol::{GenerationRequest, ReceiptFile, Routing, TaskId, TaskUpdate};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Events between the router's stream and the application's.
const EVENTS: usize = 64;

/// The endpoint; cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionProxy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    /// What applications show.
    key: EndpointKey,
    /// Whether a payment is under way that has not begun to look.
    paying: AtomicBool,
}

impl SessionProxy {
    /// An endpoint over `client`, for applications that show `api_key`.
    #[must_use]
    pub fn new(client: Client, api_key: &str) -> Self {
        let key = EndpointKey::new(Some(api_key));
        Self { inner: Arc::new(Inner { client, key, paying: AtomicBool::new(false) }) }
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Pays in the background. Calls that come while one waits to begin are one.
    fn pay_soon(&self) {
        if self.inner.paying.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.inner.clone();
        tokio::spawn(async move {
            inner.paying.store(false, Ordering::Release);
            match inner.client.pay().await {
                Ok(payment) => {
                    for objection in payment.objections {
                        tracing::warn!(code = "C-PAY-001", %objection, "a charge does not hold up and is not paid");
                    }
                }
                Err(error) => {
                    tracing::warn!(code = "C-PAY-002", %error, "could not pay; it is tried again after the next answer");
                }
            }
        });
    }
}

/// A refusal of the router, as this endpoint gives it on.
fn refusal(refusal: Refusal) -> ServiceError {
    let Refusal { status, code, parameter, message, retry_after } = refusal;
    match (status, code.as_str()) {
        (400, "context_length_exceeded") => ServiceError::ContextLength(message),
        (400, _) => {
            let parameter = parameter.unwrap_or_else(|| "request".into());
            let problem = message.strip_prefix(&format!("{parameter}: ")).map_or(message.clone(), str::to_owned);
            ServiceError::Invalid { parameter, problem }
        }
        (401 | 403, _) => ServiceError::Forbidden(message),
        (402, _) => ServiceError::Payment(message),
        (404, _) => ServiceError::NotFound(message),
        (429, _) => ServiceError::Busy { message, retry_after: retry_after.unwrap_or(Duration::from_secs(1)) },
        (503, _) => ServiceError::Unavailable(message),
        (504, _) => ServiceError::Timeout(message),
        _ => ServiceError::Internal(message),
    }
}

fn failed(error: ClientError) -> ServiceError {
    match error {
        ClientError::Refused(why) => refusal(why),
        ClientError::UnknownModel(model) => ServiceError::UnknownModel { model },
        ClientError::Invalid(why) => why.into(),
        ClientError::Overcharged(objection) => ServiceError::Payment(objection.to_string()),
        ClientError::Store { .. } => ServiceError::Internal(error.to_string()),
        error => ServiceError::Unavailable(error.to_string()),
    }
}

/// Puts the router's events into the gateway's. Text that was let go at the end goes with the finish.
#[derive(Default)]
struct Translation {
    tail: String,
}

impl Translation {
    fn event(&mut self, update: TaskUpdate) -> Option<ServiceEvent> {
        match update {
            TaskUpdate::Started { usage, .. } => Some(ServiceEvent::Started(usage)),
            TaskUpdate::Tokens { text, tokens } => {
                let known: usize = tokens.iter().map(|token| token.text.len()).sum();
                self.tail.push_str(text.get(known..).unwrap_or_default());
                (!tokens.is_empty()).then_some(ServiceEvent::Tokens(tokens))
            }
            TaskUpdate::Finished { reason, stop, usage } => {
                Some(ServiceEvent::Finished { reason, stop, tail: std::mem::take(&mut self.tail), usage })
            }
            TaskUpdate::Failed { .. } => None,
        }
    }
}

/// Reads an answer to its end, or until the application leaves.
async fn forward(proxy: SessionProxy, mut answer: Answer, events: mpsc::Sender<ServiceEvent>) {
    let mut translation = Translation::default();
    loop {
        let update = tokio::select! {
            update = answer.next() => update,
            () = events.closed() => break,
        };
        let event = match update {
            Ok(Some(update)) => translation.event(update),
            Ok(None) => break,
            Err(error) => Some(ServiceEvent::Failed(failed(error))),
        };
        let Some(event) = event else { continue };
        let over = matches!(event, ServiceEvent::Failed(_) | ServiceEvent::Finished { .. });
        if events.send(event).await.is_err() || over {
            break;
        }
    }
    drop(answer);
    proxy.pay_soon();
}

fn card(model: Model) -> ModelCard {
    let Model { name, id, price, tier, context, miners, embeds, tool_format, created } = model;
    ModelCard { name, id, price, tier, context, miners, embeds, tool_format, created }
}

#[async_trait]
impl InferenceService for SessionProxy {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, ServiceError> {
        self.inner.key.admit(credentials, self.inner.client.terms().session)
    }

    async fn generate(
        &self,
        _: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        let mut answer = self.inner.client.generate_routed(request, routing).await.map_err(failed)?;
        let task = answer.task();
        let first = answer.next().await.map_err(failed)?;
        let Some(TaskUpdate::Started { tool_format, usage }) = first else {
            return Err(ServiceError::Unavailable("the router's stream does not begin as it should".into()));
        };
        let (events, receiver) = mpsc::channel(EVENTS);
        // The channel is empty, so there is room.
        let _ = events.try_send(ServiceEvent::Started(usage));
        tokio::spawn(forward(self.clone(), answer, events));
        Ok(ServiceGeneration { task, tool_format, events: Box::new(receiver) })
    }

    async fn embed(
        &self,
        _: &Caller,
        model: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        let embedded = self.inner.client.embed(model, inputs, routing).await.map_err(failed);
        self.pay_soon();
        let (task, answer) = embedded?;
        Ok(Embeddings { task, vectors: answer.vectors, input_tokens: answer.input_tokens })
    }

    async fn count_tokens(&self, _: &Caller, request: GenerationRequest) -> Result<u32, ServiceError> {
        self.inner.client.count_tokens(&request).await.map_err(failed)
    }

    async fn models(&self) -> Vec<ModelCard> {
        match self.inner.client.models().await {
            Ok(models) => models.into_iter().map(card).collect(),
            Err(error) => {
                tracing::warn!(%error, "the router's models cannot be listed");
                Vec::new()
            }
        }
    }

    async fn nodes(&self) -> Vec<NodeView> {
        self.inner.client.nodes().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the router's nodes cannot be listed");
            Vec::new()
        })
    }

    async fn task(&self, _: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        self.inner.client.task(id).await.map_err(failed)
    }

    async fn receipts(&self, _: &Caller, id: TaskId, open: bool) -> Result<Vec<ReceiptFile>, ServiceError> {
        self.inner.client.receipts(id, open).await.map_err(failed)
    }

    async fn session(&self, _: &Caller) -> Result<SessionView, ServiceError> {
        self.inner.client.session().await.map_err(failed)
    }

    async fn readiness(&self) -> Readiness {
        let router = match self.inner.client.models().await {
            Ok(models) if models.is_empty() => "no model is served yet".to_owned(),
            Ok(_) => "ok".into(),
            Err(error) => error.to_string(),
        };
        Readiness { ready: router == "ok", checks: vec![("router".into(), router)] }
    }

    fn metrics(&self, text: &mut String) {
        let signed = self.inner.client.signed();
        text.push_str("# HELP cortensor_session_signed_wei What this endpoint has signed for.\n");
        text.push_str("# TYPE cortensor_session_signed_wei counter\n");
        text.push_str(&format!("cortensor_session_signed_wei {}\n", signed.0));
    }
}
