//! Driving one task to its end: choose a miner, stream its tokens, and when it fails go on with another from the last
//! delivered token.
//!
//! Guarantees: the client sees every token once and in order; each miner is owed exactly what it delivered (the prompt is
//! paid once, to the miner that finishes); a finished answer is announced only after its receipt was checked and its
//! payment is durable; a client that leaves frees its miner.

use super::{
    check::{Expected, ReceiptProblem, check_receipt},
    metrics::Metrics,
    pool::{InFlight, Miner, Pool},
    service::blocks,
    settle::{Delivery, Reservation, Settled},
    speed::Watch,
    tasks::{TaskLog, TaskRecord},
};
use crate::ledger::{Owed, SessionTerms};
use alloy::primitives::{Address, B256};
use cortensor_gateway::{ServiceError, ServiceEvent};
use cortensor_net::TaskChannel;
use cortensor_protocol::{
    Domain, FinishReason, GenerationRequest, ModelOffer, Operator, Price, ReceiptFile, Routing, SignedReceipt,
    TaskHeader, TokenEvent, TokenId, ToolFormat, TraceToken, Usage, Wei,
    task::SignedHeader,
    wire::{FailureCode, GenerateTask, RouterControl, TaskControl, TaskFailure, TaskOpen, TaskReply},
};
use cortensor_scheduler::{BlockHash, NoChoice, PrefixIndex, Rejection, Request, Settings, choose};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

/// Bounds of dispatching.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// Most miners that are tried for one task; busy ones do not count.
    pub attempts_max: u32,
    /// A miner must take a task up within this time.
    pub open_timeout: Duration,
    /// The first token must come within this time.
    pub first_token_timeout: Duration,
    /// Further tokens must come within this time of each other.
    pub stall_timeout: Duration,
    /// After a cancellation, a miner has this long to send its receipt.
    pub cancel_grace: Duration,
    /// A miner has this long to acknowledge its voucher before its stream is closed.
    pub pay_timeout: Duration,
    /// Tasks that may wait for a free miner.
    pub queue_max: usize,
    /// How long they wait.
    pub queue_timeout: Duration,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            attempts_max: 4,
            open_timeout: Duration::from_secs(3),
            first_token_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(1),
            pay_timeout: Duration::from_secs(5),
            queue_max: 1024,
            queue_timeout: Duration::from_secs(30),
        }
    }
}

/// One task with all that it needs.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) header: SignedHeader,
    pub(super) request: GenerationRequest,
    pub(super) terms: SessionTerms,
    pub(super) reservation: Reservation,
    /// The highest price that was reserved for.
    pub(super) price_limit: Price,
    /// Most tokens that the prompt can have.
    pub(super) input_max: u32,
    pub(super) blocks: Vec<BlockHash>,
    pub(super) record: TaskRecord,
    /// Where it may go.
    pub(super) routing: Routing,
}

impl Work {
    /// A task that is signed for and whose cost is set aside.
    pub(super) fn new(
        header: SignedHeader,
        request: GenerationRequest,
        terms: SessionTerms,
        reservation: Reservation,
        price_limit: Price,
        routing: Routing,
    ) -> Self {
        let TaskHeader { task, model, .. } = header.header;
        Self {
            input_max: request.prompt.input_tokens_max(),
            blocks: blocks(model, &request.prompt),
            record: TaskRecord::new(task, terms.id, &request.model),
            header,
            request,
            terms,
            reservation,
            price_limit,
            routing,
        }
    }
}

/// What the client has been sent so far.
#[derive(Debug, Default)]
struct Progress {
    ids: Vec<TokenId>,
    text: String,
    usage: Usage,
    started: bool,
    /// How many tokens, also where their ids are not known.
    count: u32,
}

/// How an attempt ended.
enum Ended {
    /// The task is over, for better or worse.
    Over,
    /// This miner has no room; the task has not begun there.
    Busy,
    /// Another miner may go on.
    Failed(TaskFailure),
}

/// Dispatches tasks. One per router.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) pool: Arc<Pool>,
    pub(super) tasks: TaskLog,
    pub(super) affinity: Mutex<PrefixIndex>,
    pub(super) settings: Settings,
    pub(super) config: DispatchConfig,
    pub(super) domain: Domain,
    pub(super) registry: Address,
    pub(super) queue: Semaphore,
    pub(super) metrics: Metrics,
}

type Accepted = Option<oneshot::Sender<Result<ToolFormat, ServiceError>>>;

/// The two ends through which a task talks to its client.
struct Client {
    events: mpsc::Sender<ServiceEvent>,
    accepted: Accepted,
}

impl Client {
    fn accept(&mut self, format: ToolFormat) {
        if let Some(accepted) = self.accepted.take() {
            // The client may be gone; then the closed event channel ends the task.
            let _ = accepted.send(Ok(format));
        }
    }

    /// Reports an error: as the answer to the request if nothing was answered yet, else as the stream's last event.
    async fn fail(&mut self, error: ServiceError) {
        match self.accepted.take() {
            Some(accepted) => drop(accepted.send(Err(error))),
            None => drop(self.events.send(ServiceEvent::Failed(error)).await),
        }
    }
}

impl Dispatcher {
    /// Drives a task to its end.
    pub(super) async fn run(
        self: Arc<Self>,
        mut work: Work,
        events: mpsc::Sender<ServiceEvent>,
        accepted: oneshot::Sender<Result<ToolFormat, ServiceError>>,
    ) {
        let mut client = Client { events, accepted: Some(accepted) };
        let mut progress = Progress::default();
        let mut excluded = Vec::new();
        let mut last = None;
        let queue_deadline = Instant::now() + self.config.queue_timeout;
        while work.record.attempts() < self.config.attempts_max {
            let chosen = tokio::select! {
                chosen = self.choose(&work, &progress, &excluded, queue_deadline) => chosen,
                () = client.events.closed() => return self.abandon(&mut work, &progress, "cancelled").await,
            };
            let (miner, offer, in_flight, reason) = match chosen {
                Ok(chosen) => chosen,
                Err(error) => {
                    let error = last.map_or(error, |failure| explain(&failure));
                    self.abandon(&mut work, &progress, "failed").await;
                    return client.fail(error).await;
                }
            };
            tracing::debug!(task = %work.header.header.task, miner = %miner.operator, %reason, "dispatching");
            let attempt = Attempt { dispatcher: &self, miner, offer, in_flight };
            match attempt.run(&mut work, &mut progress, &mut client, reason).await {
                Ended::Over => return,
                Ended::Busy => excluded.push((attempt.miner.operator, true)),
                Ended::Failed(failure) if failure.code.may_retry() => {
                    excluded.push((attempt.miner.operator, false));
                    last = Some(failure);
                }
                Ended::Failed(failure) => {
                    self.abandon(&mut work, &progress, "failed").await;
                    return client.fail(explain(&failure)).await;
                }
            }
        }
        self.abandon(&mut work, &progress, "failed").await;
        let error = last.map_or_else(|| ServiceError::Unavailable("no miner took the task".into()), |f| explain(&f));
        client.fail(error).await;
    }

    /// Chooses a miner, waiting in the bounded queue while all that could serve are full.
    async fn choose(
        &self,
        work: &Work,
        progress: &Progress,
        excluded: &[(Operator, bool)],
        deadline: Instant,
    ) -> Result<(Arc<Miner>, ModelOffer, InFlight, String), ServiceError> {
        let mut place = None;
        let mut excluded: Vec<(Operator, bool)> = excluded.to_vec();
        loop {
            let changed = self.pool.changed.notified();
            let operators = excluded.iter().map(|(operator, _)| *operator).collect();
            let none = match self.choose_now(work, progress, operators) {
                Ok(chosen) => return Ok(chosen),
                Err(none) => none,
            };
            let busy = excluded.iter().any(|(_, busy)| *busy);
            if !none.is_temporary() && !busy {
                return Err(refusal(&none, &work.request.model));
            }
            if place.is_none() {
                place = Some(self.queue.try_acquire().map_err(|_| too_busy("the queue is full"))?);
            }
            // Whoever said "busy" may be asked again once something has changed, and at the latest after a while.
            let wait = deadline.min(Instant::now() + Duration::from_millis(250));
            drop(timeout_at(wait, changed).await);
            excluded.retain(|(_, busy)| !busy);
            if Instant::now() >= deadline {
                return Err(too_busy("every miner is busy"));
            }
        }
    }

    fn choose_now(
        &self,
        work: &Work,
        progress: &Progress,
        excluded: Vec<Operator>,
    ) -> Result<(Arc<Miner>, ModelOffer, InFlight, String), NoChoice> {
        let mut workers = self.pool.snapshots();
        let held = self.affinity.lock().lookup(&work.blocks);
        for worker in &mut workers {
            if let Some((_, bytes)) = held.iter().find(|(operator, _)| *operator == worker.operator) {
                worker.prefix_tokens = u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
            }
        }
        let header = &work.header.header;
        let prompt_tokens = work.input_max / u32::try_from(BYTES_PER_TOKEN).unwrap_or(4);
        let request = Request {
            model: header.model,
            prompt_tokens,
            max_tokens: header.max_tokens,
            resume_tokens: progress.count,
            price_limit: work.price_limit,
            min_tier: work.routing.tier(header.min_tier),
            context_needed: prompt_tokens / 2,
            excluded,
            only: work.routing.miner,
            embeddings: false,
        };
        let choice = choose(&workers, &request, &self.settings, rand::random())?;
        let miner = self.pool.get(choice.operator);
        let begun = miner.and_then(|miner| self.pool.begin(&miner, header.model).map(|begun| (miner, begun)));
        let Some((miner, (offer, in_flight))) = begun else {
            // It left between the snapshot and now: look again without it.
            let excluded = [request.excluded, vec![choice.operator]].concat();
            return self.choose_now(work, progress, excluded);
        };
        self.affinity.lock().insert(&work.blocks, choice.operator);
        Ok((miner, offer, in_flight, choice.reason.to_string()))
    }

    /// Notes and stores a task that ends without an answer. What was delivered was settled with each attempt.
    async fn abandon(&self, work: &mut Work, progress: &Progress, state: &str) {
        work.record.ended(state, Usage { output_tokens: progress.count, ..progress.usage });
        self.tasks.note(&work.record);
        self.metrics.ended(state);
        let nothing = Owed { input_tokens: 0, output_tokens: 0, amount: Wei::ZERO, receipt: None };
        let delivery = Delivery {
            session: work.terms.id,
            task: work.header.header.task,
            miner: Operator::default(),
            owed: nothing,
            receipt: None,
            record: Some(work.record.encoded()),
        };
        if let Err(error) = work.reservation.settle(delivery).await {
            tracing::warn!(%error, "the record of a failed task could not be stored");
        }
    }
}

/// What a token of English text has in bytes, roughly; used for estimates only.
pub(super) const BYTES_PER_TOKEN: usize = 4;

fn too_busy(why: &str) -> ServiceError {
    let message = format!("{why}: try again in a moment, or use another router");
    ServiceError::Busy { message, retry_after: Duration::from_secs(1) }
}

/// What a client is told when nobody can be chosen.
pub(super) fn refusal(none: &NoChoice, model: &str) -> ServiceError {
    let serving = || {
        let others = |why: &&Rejection| !matches!(why, Rejection::Model | Rejection::NotNamed);
        none.rejections.iter().map(|(_, why)| why).filter(others)
    };
    let context = |why: &Rejection| match why {
        Rejection::Context { offered, .. } => Some(*offered),
        _ => None,
    };
    // Every miner of the model would serve it, were it shorter.
    if serving().count() > 0
        && let Some(longest) = serving().map(context).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
    {
        let message = format!("the prompt is longer than the longest context on offer, {longest} tokens: shorten it");
        return ServiceError::ContextLength(message);
    }
    let tier = |why: &Rejection| match why {
        Rejection::Tier { offered, demanded } => Some((*offered, *demanded)),
        _ => None,
    };
    if serving().count() > 0
        && let Some((best, demanded)) =
            serving().map(tier).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
    {
        let problem = format!(
            "no miner of this model is of tier {demanded}; the best on offer is {best}: demand less, or choose another \
             model (GET /v1/nodes)"
        );
        return ServiceError::Invalid { parameter: "min_tier".into(), problem };
    }
    if none.model_is_offered() {
        ServiceError::Unavailable(none.to_string())
    } else {
        ServiceError::UnknownModel { model: model.to_owned() }
    }
}

fn explain(failure: &TaskFailure) -> ServiceError {
    let message = failure.message.clone();
    match failure.code {
        FailureCode::InvalidRequest => {
            let (parameter, problem) = message.split_once(": ").unwrap_or(("request", &message));
            ServiceError::Invalid { parameter: parameter.into(), problem: problem.into() }
        }
        FailureCode::ContextLength => ServiceError::ContextLength(message),
        FailureCode::Payment => ServiceError::Payment(message),
        FailureCode::Busy | FailureCode::Draining => too_busy(&message),
        FailureCode::UnknownModel | FailureCode::Engine => {
            ServiceError::Unavailable(format!("every miner that was tried failed; the last one said: {message}"))
        }
    }
}

fn failure(code: FailureCode, message: impl Into<String>) -> TaskFailure {
    TaskFailure { code, message: message.into() }
}

/// One miner's try at a task.
struct Attempt<'a> {
    dispatcher: &'a Dispatcher,
    miner: Arc<Miner>,
    offer: ModelOffer,
    in_flight: InFlight,
}

/// What this miner has delivered of the task.
#[derive(Default)]
struct Share {
    first_token: u32,
    tokens: Vec<TraceToken>,
    text: String,
    input_tokens: u32,
    prompt_hash: B256,
    /// Its times; `None` before it began.
    watch: Option<Watch>,
}

impl Share {
    /// Takes the prompt's size from the end of the answer, where the miner's upstream did not tell it at the start.
    fn learn_prompt(&mut self, told: u32, input_max: u32) -> Result<(), TaskFailure> {
        if self.input_tokens > 0 || self.prompt_hash != B256::ZERO {
            return Ok(());
        }
        self.input_tokens = within(told, input_max)?;
        Ok(())
    }
}

/// A prompt's size as a miner tells it, if the prompt can have it.
fn within(told: u32, input_max: u32) -> Result<u32, TaskFailure> {
    if told > input_max {
        let problem = format!("it counts {told} prompt tokens, the prompt has at most {input_max}");
        return Err(failure(FailureCode::Engine, problem));
    }
    Ok(told)
}

/// The next thing that happens to an attempt.
enum Step {
    Reply(TaskReply),
    Lost(String),
    ClientGone,
}

/// What a finished miner said.
struct Finish {
    reason: FinishReason,
    stop: Option<u8>,
    tail: String,
    usage: Usage,
    receipt: Box<SignedReceipt>,
    salt: B256,
    closing: Option<TraceToken>,
    evidence: Vec<B256>,
}

impl Attempt<'_> {
    async fn run(&self, work: &mut Work, progress: &mut Progress, client: &mut Client, reason: String) -> Ended {
        let open = self.open(work, progress);
        let opened = timeout(self.dispatcher.config.open_timeout, self.miner.connection.open_task(&open));
        let mut channel = match opened.await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return self.not_begun(work, reason, &error.to_string()),
            Err(_) => return self.not_begun(work, reason, "it did not take the task up in time"),
        };
        let mut share = Share { first_token: progress.count, ..Share::default() };
        let mut limit = self.dispatcher.config.first_token_timeout;
        let beside = u64::from(self.in_flight.beside()) * u64::from(self.dispatcher.settings.sharing_permille);
        share.watch = Some(Watch::start(u32::try_from(1_000 + beside).unwrap_or(u32::MAX)));
        let mut noted = false;
        loop {
            match next(&mut channel, &client.events, limit).await {
                Step::ClientGone => return self.cancel(channel, work, progress, share).await,
                Step::Lost(why) => {
                    return self.broke_off(work, &share, failure(FailureCode::Engine, why)).await;
                }
                Step::Reply(TaskReply::Failed(busy)) if busy.code == FailureCode::Busy && !noted => return Ended::Busy,
                Step::Reply(reply) => {
                    if !noted {
                        work.record.attempt(self.miner.operator, reason.clone(), share.first_token);
                        self.dispatcher.tasks.note(&work.record);
                        noted = true;
                    }
                    match self.reply(reply, work, progress, &mut share, client).await {
                        Ok(None) => {}
                        Ok(Some(finish)) => return self.finish(channel, work, progress, share, finish, client).await,
                        Err(why) => return self.broke_off(work, &share, why).await,
                    }
                    if !share.tokens.is_empty() {
                        limit = self.dispatcher.config.stall_timeout;
                    }
                }
            }
        }
    }

    fn open(&self, work: &Work, progress: &Progress) -> TaskOpen {
        TaskOpen::Generate(Box::new(GenerateTask {
            header: work.header.clone(),
            request: work.request.clone(),
            price: self.offer.price,
            resume_tokens: progress.count,
            resume: progress.ids.clone(),
            resume_text: progress.text.clone(),
        }))
    }

    fn not_begun(&self, work: &mut Work, reason: String, why: &str) -> Ended {
        work.record.attempt(self.miner.operator, reason, 0);
        work.record.attempt_ended(why, Wei::ZERO);
        self.miner.count(false);
        Ended::Failed(failure(FailureCode::Engine, why))
    }

    /// Takes one message in; returns the finish when it was one.
    async fn reply(
        &self,
        reply: TaskReply,
        work: &mut Work,
        progress: &mut Progress,
        share: &mut Share,
        client: &mut Client,
    ) -> Result<Option<Finish>, TaskFailure> {
        match reply {
            TaskReply::Started { input_tokens, cached_input_tokens, prompt_hash } => {
                (share.input_tokens, share.prompt_hash) = (within(input_tokens, work.input_max)?, prompt_hash);
                client.accept(self.offer.manifest.tool_format);
                if !progress.started {
                    progress.started = true;
                    progress.usage = Usage { input_tokens, cached_input_tokens, output_tokens: 0 };
                    drop(client.events.send(ServiceEvent::Started(progress.usage)).await);
                }
                Ok(None)
            }
            TaskReply::Tokens(events) => {
                self.tokens(&events, work, progress, share)?;
                client.accept(self.offer.manifest.tool_format);
                // A client that is gone is noticed at the next step.
                drop(client.events.send(ServiceEvent::Tokens(events)).await);
                Ok(None)
            }
            TaskReply::Finished { finish: reason, stop, tail, usage, receipt, salt, closing, evidence } => {
                Ok(Some(Finish { reason, stop, tail, usage, receipt, salt, closing, evidence }))
            }
            TaskReply::Failed(why) => Err(why),
            TaskReply::Embedded { .. } | TaskReply::Paid | TaskReply::Counted(_) | TaskReply::Case(_) => {
                Err(failure(FailureCode::Engine, "it sent a message that does not belong here"))
            }
        }
    }

    /// Records tokens, refusing what no honest miner sends.
    fn tokens(
        &self,
        events: &[TokenEvent],
        work: &mut Work,
        progress: &mut Progress,
        share: &mut Share,
    ) -> Result<(), TaskFailure> {
        let garbage = |why: &str| Err(failure(FailureCode::Engine, format!("it sent garbage: {why}")));
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        if count == 0 || progress.count.saturating_add(count) > work.header.header.max_tokens {
            return garbage("more tokens than the task allows, or none");
        }
        let vocabulary = self.offer.manifest.vocabulary;
        if events.iter().any(|event| event.id.is_some_and(|id| vocabulary > 0 && id >= vocabulary)) {
            return garbage("a token that is not in the vocabulary");
        }
        for event in events {
            progress.ids.extend(event.id);
            progress.text.push_str(&event.text);
            share.text.push_str(&event.text);
            share.tokens.push(TraceToken::told(event.id, event.logprob));
        }
        progress.count += count;
        if let Some(watch) = &mut share.watch {
            watch.tokens(count);
        }
        work.record.tokens(count);
        self.dispatcher.metrics.tokens(count);
        Ok(())
    }

    /// The answer is complete: check the receipt, settle, tell the client, pay the miner.
    async fn finish(
        &self,
        channel: TaskChannel,
        work: &mut Work,
        progress: &mut Progress,
        mut share: Share,
        finish: Finish,
        client: &mut Client,
    ) -> Ended {
        if let Err(why) = share.learn_prompt(finish.usage.input_tokens, work.input_max) {
            return self.broke_off(work, &share, why).await;
        }
        let usage = Usage {
            input_tokens: share.input_tokens,
            cached_input_tokens: finish.usage.cached_input_tokens,
            output_tokens: progress.count,
        };
        if let Some(watch) = share.watch {
            // What another miner had delivered before is read in like the prompt.
            let read = share.input_tokens.saturating_add(share.first_token);
            self.in_flight.saw(&watch, read.saturating_sub(usage.cached_input_tokens));
        }
        let (reason, stop, tail) = (finish.reason, finish.stop, finish.tail.clone());
        if reason == FinishReason::Cancelled {
            let why = failure(FailureCode::Engine, "it broke the answer off");
            return self.broke_off(work, &share, why).await;
        }
        match self.settle_finished(work, share, finish, usage, "finished").await {
            Ok(settled) => {
                client.accept(self.offer.manifest.tool_format);
                // Who is told that the task is over may close the session, or spend the rest.
                work.reservation.release();
                drop(client.events.send(ServiceEvent::Finished { reason, stop, tail, usage }).await);
                self.pay(channel, settled);
                Ended::Over
            }
            Err(Broken::Receipt(problem)) => {
                let why = failure(FailureCode::Engine, format!("its receipt is wrong: {problem}"));
                work.record.attempt_ended(&why.to_string(), Wei::ZERO);
                self.miner.count(false);
                tracing::warn!(code = "R-RECEIPT-001", miner = %self.miner.operator, %problem, "a receipt was refused");
                Ended::Failed(why)
            }
            Err(Broken::Books(error)) => {
                client.fail(ServiceError::Internal(error)).await;
                Ended::Over
            }
        }
    }

    /// Checks the receipt and makes it and its payment durable.
    async fn settle_finished(
        &self,
        work: &mut Work,
        mut share: Share,
        finish: Finish,
        usage: Usage,
        state: &str,
    ) -> Result<Settled, Broken> {
        let receipt = &finish.receipt.receipt;
        let output_tokens = u32::try_from(share.tokens.len()).unwrap_or(u32::MAX);
        share.tokens.extend(finish.closing);
        let expected = Expected {
            domain: &self.dispatcher.domain,
            header: &work.header.header,
            miner: self.miner.operator,
            price: self.offer.price,
            tier: self.offer.tier,
            first_token: share.first_token,
            input_tokens: share.input_tokens,
            prompt_hash: share.prompt_hash,
            output_tokens,
            tokens: &share.tokens,
            evidence: &finish.evidence,
            salt: finish.salt,
        };
        check_receipt(&finish.receipt, &expected).map_err(Broken::Receipt)?;
        let owed = Owed {
            input_tokens: receipt.input_tokens.into(),
            output_tokens: receipt.output_tokens.into(),
            amount: receipt.amount,
            receipt: Some(receipt.leaf(&self.dispatcher.domain)),
        };
        work.record.attempt_ended(state, receipt.amount);
        work.record.ended(state, usage);
        self.dispatcher.tasks.note(&work.record);
        let file = ReceiptFile {
            version: 2,
            domain: self.dispatcher.domain,
            registry: self.dispatcher.registry,
            session_key: work.terms.session_key,
            router: work.terms.router,
            header: work.header.clone(),
            receipt: *finish.receipt,
            salt: finish.salt,
            tokens: share.tokens,
            evidence: finish.evidence,
            opened: Vec::new(),
            request: Some(work.request.clone()),
            text: share.text + &finish.tail,
            voucher: None,
            guarantee: None,
        };
        let delivery = Delivery {
            session: work.terms.id,
            task: work.header.header.task,
            miner: self.miner.operator,
            owed,
            receipt: Some(Box::new(file)),
            record: Some(work.record.encoded()),
        };
        let settled = work.reservation.settle(delivery).await.map_err(|error| Broken::Books(error.to_string()))?;
        self.miner.count(true);
        self.dispatcher.metrics.ended(state);
        Ok(settled)
    }

    /// Hands the voucher over without making the client wait for it.
    fn pay(&self, mut channel: TaskChannel, settled: Settled) {
        let Some(voucher) = settled.voucher else { return };
        let (limit, miner) = (self.dispatcher.config.pay_timeout, self.miner.operator);
        tokio::spawn(async move {
            let paying = async {
                channel.send(&TaskControl::Pay(Box::new(voucher))).await?;
                channel.recv().await
            };
            // A voucher that is not acknowledged is not lost: it is durable here, and cumulative, so the next one or
            // the next connection brings it.
            match timeout(limit, paying).await {
                Ok(Ok(Some(TaskReply::Paid))) => {}
                Ok(Ok(Some(TaskReply::Failed(why)))) => tracing::warn!(%miner, %why, "a miner refused its voucher"),
                other => tracing::debug!(%miner, ?other, "a voucher was not acknowledged"),
            }
        });
    }

    /// The miner failed: what it delivered is owed to it, and the task may go on elsewhere.
    async fn broke_off(&self, work: &mut Work, share: &Share, why: TaskFailure) -> Ended {
        self.miner.count(false);
        tracing::info!(miner = %self.miner.operator, %why, delivered = share.tokens.len(), "an attempt failed");
        if let Err(error) = self.settle_partial(work, share, &why.to_string()).await {
            return Ended::Failed(failure(FailureCode::Engine, error));
        }
        Ended::Failed(why)
    }

    /// Owes the miner the tokens that it delivered; it signed no receipt for them, so no input is charged.
    async fn settle_partial(&self, work: &mut Work, share: &Share, why: &str) -> Result<(), String> {
        let output_tokens = share.tokens.len() as u64;
        let amount = self.offer.price.cost(0, output_tokens).unwrap_or(Wei::ZERO);
        work.record.attempt_ended(why, amount);
        self.dispatcher.tasks.note(&work.record);
        if amount == Wei::ZERO {
            return Ok(());
        }
        let delivery = Delivery {
            session: work.terms.id,
            task: work.header.header.task,
            miner: self.miner.operator,
            owed: Owed { input_tokens: 0, output_tokens, amount, receipt: None },
            receipt: None,
            record: None,
        };
        let settled = work.reservation.settle(delivery).await.map_err(|error| error.to_string())?;
        if let Some(voucher) = settled.voucher {
            // If the miner is gone, it is handed this voucher when it comes back.
            if let Err(error) = self.miner.connection.send(RouterControl::Voucher(Box::new(voucher))).await {
                tracing::debug!(miner = %self.miner.operator, %error, "a voucher waits for its miner to come back");
            }
        }
        Ok(())
    }

    /// The client left: stop the miner, take its receipt if it is quick, and owe it what it delivered.
    async fn cancel(
        &self,
        mut channel: TaskChannel,
        work: &mut Work,
        progress: &mut Progress,
        mut share: Share,
    ) -> Ended {
        let deadline = Instant::now() + self.dispatcher.config.cancel_grace;
        let asked = channel.send(&TaskControl::Cancel).await.is_ok();
        while asked && let Ok(Ok(Some(reply))) = timeout_at(deadline, channel.recv()).await {
            match reply {
                TaskReply::Tokens(events) => {
                    if self.tokens(&events, work, progress, &mut share).is_err() {
                        break;
                    }
                }
                TaskReply::Finished { finish: reason, stop, tail, usage, receipt, salt, closing, evidence } => {
                    if share.learn_prompt(usage.input_tokens, work.input_max).is_err() {
                        break;
                    }
                    let usage_total = Usage { output_tokens: progress.count, ..progress.usage };
                    let finish = Finish { reason, stop, tail, usage, receipt, salt, closing, evidence };
                    match self.settle_finished(work, share, finish, usage_total, "cancelled").await {
                        Ok(settled) => self.pay(channel, settled),
                        Err(problem) => tracing::warn!(%problem, "a cancelled task could not be settled"),
                    }
                    return Ended::Over;
                }
                TaskReply::Started { .. } => {}
                _ => break,
            }
        }
        if let Err(error) = self.settle_partial(work, &share, "the client left").await {
            tracing::warn!(%error, "a cancelled task could not be settled");
        }
        self.dispatcher.abandon(work, progress, "cancelled").await;
        Ended::Over
    }
}

/// Why a finished answer could not be settled.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Receipt(ReceiptProblem),
    #[error("{0}")]
    Books(String),
}

async fn next(channel: &mut TaskChannel, client: &mpsc::Sender<ServiceEvent>, limit: Duration) -> Step {
    tokio::select! {
        biased;
        () = client.closed() => Step::ClientGone,
        reply = timeout(limit, channel.recv()) => match reply {
            Ok(Ok(Some(reply))) => Step::Reply(reply),
            Ok(Ok(None)) => Step::Lost("it closed the stream without finishing".into()),
            Ok(Err(error)) => Step::Lost(error.to_string()),
            Err(_) => Step::Lost(format!("it sent nothing for {} ms", limit.as_millis())),
        },
    }
}
