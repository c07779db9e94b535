//! A scripted [`InferenceService`] for tests and examples: what it answers is decided by words in the last message.
//!
//! `say X` answers X; `slow` sends a token every 20 ms without end; `flood` sends as fast as it can without end;
//! `silent` takes in the prompt and sends nothing; `break` fails in the middle; `refuse` fails before the first token;
//! `busy` is refused; `long` is too long. Anything else is echoed. Tools are called whenever they are offered.

use alloy_primitives::B256;
use async_trait::async_trait;
use cortensor_gateway::{
    AttemptView, Caller, Credentials, Embeddings, InferenceService, ModelCard, NodeView, Readiness, ServiceError,
    ServiceEvent, ServiceGeneration, SessionView, TaskView,
};
use cortensor_protocol::{
    FinishReason, GenerationRequest, LogProb, ModelId, Operator, Price, Prompt, ReceiptFile, ResponseFormat, Routing,
    SessionId, TaskId, Tier, TokenEvent, ToolChoice, ToolFormat, Usage, Wei, generation::TopToken,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// The key that is let in.
pub const KEY: &str = "test-key";
/// Most characters of a token.
const TOKEN_CHARS: usize = 4;

/// What happened, for tests to wait for.
#[derive(Debug, Default)]
pub struct Seen {
    /// Generations that run now.
    pub running: AtomicUsize,
    /// Generations whose reader left.
    pub cancelled: AtomicUsize,
    /// Events that were taken from all generations.
    pub sent: AtomicUsize,
    /// Where each request was to go.
    pub routed: Mutex<Vec<Routing>>,
    /// Fired whenever one of the counters changes.
    pub changed: Notify,
}

impl Seen {
    fn change(&self, counter: &AtomicUsize, up: bool) {
        if up {
            counter.fetch_add(1, SeqCst)
        } else {
            counter.fetch_sub(1, SeqCst)
        };
        self.changed.notify_waiters();
    }
}

/// The service.
#[derive(Debug, Default)]
pub struct Scripted {
    /// What happened.
    pub seen: Arc<Seen>,
    tasks: AtomicU64,
}

impl Scripted {
    fn next_task(&self) -> TaskId {
        TaskId::derive(SessionId::default(), self.tasks.fetch_add(1, SeqCst))
    }
}

/// One generation as it will be sent.
struct Script {
    request: GenerationRequest,
    words: String,
    seen: Arc<Seen>,
    events: mpsc::Sender<ServiceEvent>,
}

impl Script {
    async fn run(self) {
        let running = &self.seen.running;
        self.seen.change(running, true);
        if self.play().await.is_none() {
            self.seen.change(&self.seen.cancelled, true);
        }
        self.seen.change(running, false);
    }

    /// `None` when the reader left.
    async fn play(&self) -> Option<()> {
        let input_tokens = 7;
        let started = Usage { input_tokens, cached_input_tokens: 2, output_tokens: 0 };
        if self.words.contains("refuse") {
            return self.send(ServiceEvent::Failed(ServiceError::ContextLength("the prompt is too long".into()))).await;
        }
        self.send(ServiceEvent::Started(started)).await?;
        if self.words.contains("silent") {
            self.events.closed().await;
            return None;
        }
        loop {
            let pause = if self.words.contains("slow") { Some(Duration::from_millis(20)) } else { None };
            if pause.is_none() && !self.words.contains("flood") {
                break;
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            self.send(ServiceEvent::Tokens(vec![self.token("tick ")])).await?;
        }
        let (text, reason) = self.output();
        let mut output_tokens = 0;
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(TOKEN_CHARS) {
            if output_tokens == self.request.max_tokens {
                return self.finish(FinishReason::Length, output_tokens).await;
            }
            let piece: String = piece.iter().collect();
            self.send(ServiceEvent::Tokens(vec![self.token(&piece)])).await?;
            output_tokens += 1;
            if self.words.contains("break") && output_tokens == 2 {
                let gone = ServiceError::Unavailable("every miner left; ask again".into());
                return self.send(ServiceEvent::Failed(gone)).await;
            }
        }
        self.finish(reason, output_tokens).await
    }

    async fn finish(&self, reason: FinishReason, output_tokens: u32) -> Option<()> {
        let usage = Usage { input_tokens: 7, cached_input_tokens: 2, output_tokens };
        self.send(ServiceEvent::Finished { reason, stop: None, tail: String::new(), usage }).await
    }

    async fn send(&self, event: ServiceEvent) -> Option<()> {
        self.events.send(event).await.ok()?;
        self.seen.change(&self.seen.sent, true);
        Some(())
    }

    fn token(&self, text: &str) -> TokenEvent {
        let top = |rank: i16| TopToken {
            id: Some(100 + u32::from(rank.unsigned_abs())),
            bytes: if rank == 0 { text.into() } else { format!("alt{rank}").into() },
            logprob: LogProb(-256 - 256 * rank),
        };
        let wanted = i16::from(self.request.logprobs.unwrap_or(0));
        let logprob = self.request.logprobs.map(|_| LogProb(-256));
        TokenEvent { id: Some(100), text: text.into(), logprob, top: (0..wanted).map(top).collect() }
    }

    /// The whole output, cut at the first stop text.
    fn output(&self) -> (String, FinishReason) {
        let mut text = self.uncut();
        let cut = self.request.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        match cut {
            Some(at) => {
                text.truncate(at);
                (text, FinishReason::Stop)
            }
            None => (text, FinishReason::EndOfSequence),
        }
    }

    fn uncut(&self) -> String {
        if let Prompt::Chat { tools, tool_choice, messages } = &self.request.prompt
            && !tools.is_empty()
            && *tool_choice != ToolChoice::None
            && messages.last().is_some_and(|message| message.tool_call_id.is_none())
        {
            let call = |city: &str| {
                format!(r#"<tool_call>{{"name": "{}", "arguments": {{"city": "{city}"}}}}</tool_call>"#, tools[0].name)
            };
            return format!("Let me check.\n{}\n{}", call("Rome"), call("Oslo"));
        }
        match &self.request.response_format {
            ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_) => r#"{"answer": 42}"#.to_owned(),
            _ => match self.words.split_once("say ") {
                Some((_, words)) => words.to_owned(),
                None => format!("You said: {}", self.words),
            },
        }
    }
}

fn last_words(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat { messages, .. } => messages.last().map(|message| message.content.clone()).unwrap_or_default(),
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(tokens) => format!("{tokens:?}"),
    }
}

#[async_trait]
impl InferenceService for Scripted {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, ServiceError> {
        match credentials.api_key.as_deref() {
            Some(KEY) => Ok(Caller { key_id: "test".into(), session: SessionId::default(), admin: false }),
            Some(_) => Err(ServiceError::Unauthorized("this key is not known; ask the operator for one".into())),
            None => Err(ServiceError::Unauthorized("send a key as Authorization: Bearer YOUR_KEY".into())),
        }
    }

    async fn generate(
        &self,
        _: &Caller,
        request: GenerationRequest,
        routing: Routing,
    ) -> Result<ServiceGeneration, ServiceError> {
        self.seen.routed.lock().expect("no test panics while it holds this").push(routing);
        let words = last_words(&request.prompt);
        let tool_format = match request.model.as_str() {
            "scripted" => ToolFormat::Hermes,
            "plain" => ToolFormat::None,
            other => return Err(ServiceError::UnknownModel { model: other.to_owned() }),
        };
        if words.contains("busy") {
            let retry_after = Duration::from_secs(2);
            return Err(ServiceError::Busy { message: "every miner is busy; try again".into(), retry_after });
        }
        let (events, receiver) = mpsc::channel(16);
        let script = Script { request, words, seen: self.seen.clone(), events };
        tokio::spawn(script.run());
        Ok(ServiceGeneration { task: self.next_task(), tool_format, events: Box::new(receiver) })
    }

    async fn embed(
        &self,
        _: &Caller,
        _: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        self.seen.routed.lock().expect("no test panics while it holds this").push(routing);
        let vectors = inputs.iter().map(|text| vec![text.len() as f32, 0.5, -1.0]).collect();
        Ok(Embeddings { task: self.next_task(), vectors, input_tokens: 2 * inputs.len() as u32 })
    }

    /// A token for every word.
    async fn count_tokens(&self, _: &Caller, request: GenerationRequest) -> Result<u32, ServiceError> {
        let Prompt::Chat { messages, .. } = request.prompt else { unreachable!("only messages are counted") };
        let words = messages.iter().map(|message| message.content.split_whitespace().count()).sum::<usize>();
        Ok(u32::try_from(words).expect("tests are short"))
    }

    async fn models(&self) -> Vec<ModelCard> {
        let card = |name: &str, embeds, tool_format| ModelCard {
            name: name.to_owned(),
            id: ModelId(B256::repeat_byte(1)),
            price: Price { input: Wei(1), output: Wei(2) },
            tier: Tier::A,
            context: 4096,
            miners: 1,
            embeds,
            tool_format,
            created: 1_700_000_000,
        };
        vec![card("scripted", true, ToolFormat::Hermes), card("plain", false, ToolFormat::None)]
    }

    async fn nodes(&self) -> Vec<NodeView> {
        Vec::new()
    }

    async fn task(&self, _: &Caller, id: TaskId) -> Result<TaskView, ServiceError> {
        if id.0.is_zero() {
            return Err(ServiceError::NotFound(format!("there is no task {id} of yours")));
        }
        let attempt = AttemptView {
            miner: Operator::default(),
            reason: "the only one".into(),
            first_token: 0,
            output_tokens: 3,
            owed: Wei(5),
            outcome: "finished".into(),
        };
        Ok(TaskView {
            id,
            session: SessionId::default(),
            model: "scripted".into(),
            state: "finished".into(),
            created_ms: 1,
            first_token_ms: Some(2),
            duration_ms: Some(3),
            attempts: vec![attempt],
            usage: Usage::default(),
        })
    }

    async fn receipts(&self, _: &Caller, _: TaskId, _: bool) -> Result<Vec<ReceiptFile>, ServiceError> {
        Ok(Vec::new())
    }

    async fn session(&self, caller: &Caller) -> Result<SessionView, ServiceError> {
        Ok(SessionView {
            id: caller.session,
            deposit: Wei::COR,
            spent: Wei(5),
            expiry: 1_900_000_000,
            state: "open".into(),
            sequence: 1,
        })
    }

    async fn readiness(&self) -> Readiness {
        Readiness { ready: true, checks: vec![("miners".into(), "ok".into())] }
    }

    fn metrics(&self, text: &mut String) {
        text.push_str("scripted_tasks_total 1\n");
    }
}
