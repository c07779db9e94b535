//! Serving one task: check who pays, run it, stream the tokens, sign the receipt, take the voucher.

use super::{
    Offering,
    cases::{self, Cases, Retention},
    earnings::{self, Earnings},
};
use crate::{
    chain_view::{ChainReadError, ChainView},
    contracts_view::describe,
    identity::Identity,
    journal::{Journal, StoreError},
    ledger::SessionTerms,
    records::{Records, records},
    router::now_seconds,
};
use alloy::primitives::B256;
use cortensor_engine::{EngineError, EngineEvent, Generation, Job};
use cortensor_net::{IncomingTask, TaskControls, TaskReplies};
use cortensor_proof::SeededSampler;
use cortensor_protocol::{
    Case, Domain, Evidence, FinishReason, ModelId, ModelOffer, Operator, Price, Receipt, SignedReceipt, TaskId,
    TokenEvent, TraceToken, Usage, Wei,
    manifest::{Load, Speed, Tier},
    receipt::prompt_hash,
    task::SignedHeader,
    trace,
    wire::{CountTask, EmbedTask, FailureCode, GenerateTask, TaskControl, TaskFailure, TaskOpen, TaskReply},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Most tokens that are put into one message when the engine is ahead of the network.
const TOKENS_PER_MESSAGE: usize = 32;

/// What a miner needs to know.
#[derive(Clone, Debug)]
pub struct MinerConfig {
    /// Where its earnings are kept.
    pub store: PathBuf,
    /// The chain and contract of the sessions.
    pub domain: Domain,
    /// Work without a voucher that is tolerated from one session.
    pub credit: Wei,
    /// A router has this long to send the voucher after the receipt.
    pub pay_timeout: Duration,
    /// Which answers are kept for audits.
    pub retention: Retention,
}

/// A miner's core; cheap to clone.
#[derive(Clone)]
pub struct Miner {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    config: MinerConfig,
    chain: Arc<dyn ChainView>,
    earnings: Earnings,
    cases: Cases,
    offerings: Vec<Offering>,
}

impl std::fmt::Debug for Miner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Miner").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

/// The router's two ends of a task.
struct Peer<'a> {
    replies: &'a mut TaskReplies,
    controls: &'a mut TaskControls,
}

/// What a task has produced.
#[derive(Default)]
struct Produced {
    tokens: Vec<TraceToken>,
    prompt_hash: B256,
    usage: Usage,
    started: bool,
    announced: bool,
}

fn refuse(code: FailureCode, message: impl Into<String>) -> TaskFailure {
    TaskFailure { code, message: message.into() }
}

fn engine_failure(error: &EngineError) -> TaskFailure {
    let code = match error {
        EngineError::Busy { .. } => FailureCode::Busy,
        EngineError::ContextLength { .. } => FailureCode::ContextLength,
        EngineError::Unsupported { .. } => FailureCode::InvalidRequest,
        _ => FailureCode::Engine,
    };
    refuse(code, error.to_string())
}

impl Miner {
    /// Opens the earnings.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn start(
        identity: Identity,
        chain: Arc<dyn ChainView>,
        offerings: Vec<Offering>,
        config: MinerConfig,
    ) -> Result<Self, StoreError> {
        let tables = [earnings::TABLES, cases::TABLES].concat();
        let journal = Arc::new(Journal::open(&config.store, &tables)?);
        let earnings = Earnings::load(Arc::clone(&journal), config.domain)?;
        let cases = Cases::load(journal, config.retention)?;
        Ok(Self { inner: Arc::new(Inner { identity, config, chain, earnings, cases, offerings }) })
    }

    /// The miner's account.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.inner.identity.operator()
    }

    /// What it has earned.
    #[must_use]
    pub fn earnings(&self) -> &Earnings {
        &self.inner.earnings
    }

    /// The answers that it can open.
    #[must_use]
    pub fn cases(&self) -> &Cases {
        &self.inner.cases
    }

    /// What it offers.
    #[must_use]
    pub fn offers(&self) -> Vec<ModelOffer> {
        self.inner.offerings.iter().map(Offering::offer).collect()
    }

    /// Load and speed of each offer, in the offers' order.
    #[must_use]
    pub fn report(&self) -> Vec<(Load, Speed)> {
        self.inner.offerings.iter().map(|offering| (offering.engine.load(), offering.engine.speed())).collect()
    }

    /// Takes a voucher that came outside a task: for work whose stream broke.
    pub async fn late_voucher(&self, voucher: cortensor_protocol::SignedVoucher) {
        let session = voucher.voucher.session;
        if let Err(why) = self.inner.take_voucher(voucher).await {
            tracing::warn!(code = "M-VOUCHER-001", %session, %why, "a voucher was not taken");
        }
    }

    /// Serves one task to its end. Never panics on what the other side sends.
    pub async fn serve(&self, task: IncomingTask) {
        let IncomingTask { open, router, mut replies, mut controls, .. } = task;
        let mut peer = Peer { replies: &mut replies, controls: &mut controls };
        let failed = match open {
            TaskOpen::Generate(open) => self.inner.generate(&mut peer, *open).await,
            TaskOpen::Embed(open) => self.inner.embed(&mut peer, *open).await,
            TaskOpen::Count(open) => self.inner.count(&mut peer, *open).await,
            TaskOpen::Audit(id) => self.inner.open_case(&mut peer, router, id).await,
        };
        // If the router is gone there is nobody to tell, and nothing more to do.
        if let Err(failure) = failed {
            tracing::debug!(%failure, "a task ended without a receipt");
            let _ = replies.queue(TaskReply::Failed(failure));
        }
        let _ = replies.finish().await;
    }
}

impl Inner {
    async fn generate(&self, task: &mut Peer<'_>, open: GenerateTask) -> Result<(), TaskFailure> {
        open.request.check().map_err(|error| refuse(FailureCode::InvalidRequest, error.to_string()))?;
        if open.header.header.bound() != open.request.bound() {
            return Err(refuse(FailureCode::InvalidRequest, "request: is not the one that its header binds"));
        }
        let resumed = open.resume_tokens;
        if !open.resume.is_empty() && u32::try_from(open.resume.len()) != Ok(resumed) {
            return Err(refuse(FailureCode::InvalidRequest, "resume: the number of tokens is not the one stated"));
        }
        let (terms, offering) = self.admit(&open.header, open.price, open.request.max_tokens).await?;
        let cancel = CancellationToken::new();
        let header = &open.header.header;
        let alternatives = open.request.logprobs.unwrap_or(0);
        let (sampler, recording) = SeededSampler::recording(header.seed, open.request.sampling.clone(), alternatives);
        let job = Job {
            sampler: Box::new(sampler),
            request: open.request.clone(),
            resume: open.resume.clone(),
            resume_tokens: resumed,
            resume_text: open.resume_text,
            cancel: cancel.clone(),
        };
        let mut generation = offering.engine.generate(job).await.map_err(|error| engine_failure(&error))?;
        let mut produced = Produced::default();
        let Ending { reason, stop, tail } = self.stream(task, &mut generation, &cancel, &mut produced).await?;
        let salt = B256::from(rand::random::<[u8; 32]>());
        let usage = produced.usage;
        let outcome = Outcome {
            price: open.price,
            tier: offering.engine.info().tier,
            first_token: resumed,
            finish: reason,
            salt,
        };
        let trace = Trace::new(produced.tokens, recording.take(), &outcome);
        let receipt = Box::new(self.receipt(&open.header, usage.input_tokens, produced.prompt_hash, &trace, &outcome));
        let Trace { closing, tokens, opened, evidence, .. } = trace;
        if !opened.is_empty() {
            let receipt = SignedReceipt::clone(&receipt);
            let (header, request, before) = (open.header.clone(), open.request, open.resume);
            self.keep_case(Case { header, request, receipt, before, salt, tokens, evidence: opened }).await?;
        }
        self.earnings.earn(terms.id, receipt.receipt.amount);
        let finished = TaskReply::Finished { finish: reason, stop, tail, usage, receipt, salt, closing, evidence };
        self.send(task, finished).await?;
        self.await_payment(task, header.task).await
    }

    /// Checks that somebody will pay for the work, and finds the engine.
    async fn admit(
        &self,
        signed: &SignedHeader,
        price: Price,
        max_tokens: u32,
    ) -> Result<(SessionTerms, &Offering), TaskFailure> {
        let header = &signed.header;
        let offering = self.offering(header.model)?;
        if !offering.price.within(&price) {
            return Err(refuse(FailureCode::Payment, "the price is below what this miner asks"));
        }
        if header.max_tokens < max_tokens || offering.engine.info().tier < header.min_tier {
            return Err(refuse(FailureCode::InvalidRequest, "header: does not allow this work at this tier"));
        }
        if header.deadline < now_seconds() {
            return Err(refuse(FailureCode::InvalidRequest, "header: its deadline has passed"));
        }
        if header.task != TaskId::derive(header.session, header.client_nonce) {
            return Err(refuse(
                FailureCode::InvalidRequest,
                "header: the task id does not belong to its session and nonce",
            ));
        }
        let terms = self.payer(signed).await?;
        if !price.within(&terms.max_price) || terms.model.is_some_and(|only| only != header.model) {
            return Err(refuse(FailureCode::Payment, "the session does not pay for this model at this price"));
        }
        Ok((terms, offering))
    }

    /// The session that pays, if it is open, signed this header, and is not behind with its vouchers.
    async fn payer(&self, signed: &SignedHeader) -> Result<SessionTerms, TaskFailure> {
        let header = &signed.header;
        // A failed read is never taken for "no session": the router may try another miner.
        let session =
            self.chain.session(header.session).await.map_err(|e| refuse(FailureCode::Engine, e.to_string()))?;
        let terms = session.ok_or_else(|| refuse(FailureCode::Payment, "the chain knows no such open session"))?;
        let signer = signed.signature.recover(header.signing_hash(&self.config.domain));
        if signer != Ok(terms.session_key) {
            return Err(refuse(FailureCode::Payment, "the header is not signed by the session's key"));
        }
        if !terms.accepting || now_seconds() >= terms.expiry {
            return Err(refuse(FailureCode::Payment, "the session has expired or is being closed"));
        }
        let unpaid = self.earnings.unpaid(header.session);
        if unpaid >= self.config.credit {
            let message = format!("{unpaid} of this session's work is not paid by a voucher yet");
            return Err(refuse(FailureCode::Payment, message));
        }
        Ok(terms)
    }

    /// Streams the generation to the router until it ends or the client leaves.
    async fn stream(
        &self,
        task: &mut Peer<'_>,
        generation: &mut Generation,
        cancel: &CancellationToken,
        produced: &mut Produced,
    ) -> Result<Ending, TaskFailure> {
        loop {
            let event = tokio::select! {
                event = generation.next() => event,
                control = task.controls.recv(), if !cancel.is_cancelled() => {
                    match control {
                        Ok(Some(TaskControl::Cancel)) => cancel.cancel(),
                        _ => return Err(refuse(FailureCode::Engine, "the router left")),
                    }
                    continue;
                }
            };
            let mut batch = Vec::new();
            let ended = take(event, produced, &mut batch)?;
            let ended = match ended {
                None => gather(generation, produced, &mut batch)?,
                ended => ended,
            };
            if let Some(started) = produced.start_message() {
                self.send(task, started).await?;
            }
            if !batch.is_empty() {
                self.send(task, TaskReply::Tokens(batch)).await?;
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    async fn send(&self, task: &mut Peer<'_>, reply: TaskReply) -> Result<(), TaskFailure> {
        task.replies.send(reply).await.map_err(|error| refuse(FailureCode::Engine, format!("the router left: {error}")))
    }

    fn receipt(
        &self,
        header: &SignedHeader,
        input_tokens: u32,
        prompt_hash: B256,
        trace: &Trace,
        outcome: &Outcome,
    ) -> SignedReceipt {
        let output_tokens = trace.output_tokens;
        let cost = outcome.price.cost(input_tokens.into(), output_tokens.into());
        let receipt = Receipt {
            header_hash: header.header.signing_hash(&self.config.domain),
            task: header.header.task,
            session: header.header.session,
            model: header.header.model,
            miner: self.identity.operator(),
            prompt_hash,
            trace_root: trace.root,
            first_token: outcome.first_token,
            input_tokens,
            output_tokens,
            finish: outcome.finish,
            tier: outcome.tier,
            price: outcome.price,
            amount: cost.unwrap_or(Wei::ZERO),
            finished_at: now_seconds(),
        };
        let signature = self.identity.sign(receipt.signing_hash(&self.config.domain));
        SignedReceipt { receipt, signature }
    }

    /// Waits for the voucher that pays the receipt. Without one the session's credit shrinks.
    async fn await_payment(&self, task: &mut Peer<'_>, id: TaskId) -> Result<(), TaskFailure> {
        let voucher = match timeout(self.config.pay_timeout, task.controls.recv()).await {
            Ok(Ok(Some(TaskControl::Pay(voucher)))) => *voucher,
            _ => {
                tracing::debug!(task = %id, "no voucher came with this task; it is counted against the session's credit");
                return Ok(());
            }
        };
        self.take_voucher(voucher).await.map_err(|why| refuse(FailureCode::Payment, why))?;
        self.send(task, TaskReply::Paid).await
    }

    async fn take_voucher(&self, voucher: cortensor_protocol::SignedVoucher) -> Result<(), String> {
        let terms = self.chain.session(voucher.voucher.session).await.map_err(|error| error.to_string())?;
        let terms = terms.ok_or_else(|| "the chain knows no such open session".to_owned())?;
        if voucher.voucher.miner != self.identity.operator() {
            return Err("it pays another miner".into());
        }
        self.earnings.take(&terms, voucher).await.map_err(|error| error.to_string())
    }

    /// Counts a prompt's tokens. Only an active router can ask, and only as often as it may have streams open at once.
    async fn count(&self, task: &mut Peer<'_>, open: CountTask) -> Result<(), TaskFailure> {
        open.request.check().map_err(|error| refuse(FailureCode::InvalidRequest, error.to_string()))?;
        let tokens = self.offering(open.model)?.engine.tokenize(&open.request).await;
        let tokens = tokens.map_err(|error| engine_failure(&error))?;
        self.send(task, TaskReply::Counted(u32::try_from(tokens.len()).unwrap_or(u32::MAX))).await
    }

    async fn keep_case(&self, case: Case) -> Result<(), TaskFailure> {
        let id = case.receipt.receipt.signing_hash(&self.config.domain);
        self.cases.keep(id, &case).await.map_err(|error| {
            let why = describe(&error);
            tracing::error!(code = "M-CASE-001", %why, "an answer was not finished, because it could not be opened later");
            refuse(FailureCode::Engine, "this miner cannot store what an audit needs")
        })
    }

    /// Shows a case to who may see it. Others learn nothing, not even whether there is one.
    async fn open_case(&self, task: &mut Peer<'_>, asker: Operator, id: B256) -> Result<(), TaskFailure> {
        let stored = self.cases.get(id).map_err(|error| refuse(FailureCode::Engine, describe(&error)))?;
        let case = match stored {
            Some(case) if self.may_see(&case, asker, id).await? => Some(Box::new(case)),
            _ => None,
        };
        self.send(task, TaskReply::Case(case)).await
    }

    /// The router whose task it was has seen all of it but the evidence; a guard must have been drawn for it.
    async fn may_see(&self, case: &Case, asker: Operator, id: B256) -> Result<bool, TaskFailure> {
        let failed = |error: ChainReadError| refuse(FailureCode::Engine, error.to_string());
        let session = self.chain.session(case.header.header.session).await.map_err(failed)?;
        if session.is_some_and(|terms| terms.router == asker) {
            return Ok(true);
        }
        self.chain.audits(asker, id).await.map_err(failed)
    }

    fn offering(&self, model: ModelId) -> Result<&Offering, TaskFailure> {
        let found = self.offerings.iter().find(|offering| offering.model() == model);
        found.ok_or_else(|| refuse(FailureCode::UnknownModel, "this miner does not serve the model"))
    }

    async fn embed(&self, task: &mut Peer<'_>, open: EmbedTask) -> Result<(), TaskFailure> {
        if open.header.header.bound() != EmbedTask::bound(&open.inputs) || open.inputs.len() > 2048 {
            return Err(refuse(FailureCode::InvalidRequest, "input: is not what the header binds, or too long"));
        }
        let (terms, offering) = self.admit(&open.header, open.price, 0).await?;
        let (vectors, input_tokens) = offering.engine.embed(&open.inputs).await.map_err(|e| engine_failure(&e))?;
        let outcome = Outcome {
            price: open.price,
            tier: offering.engine.info().tier,
            first_token: 0,
            finish: FinishReason::EndOfSequence,
            salt: B256::ZERO,
        };
        let receipt = Box::new(self.receipt(&open.header, input_tokens, B256::ZERO, &Trace::default(), &outcome));
        self.earnings.earn(terms.id, receipt.receipt.amount);
        self.send(task, TaskReply::Embedded { vectors, input_tokens, receipt }).await?;
        self.await_payment(task, open.header.header.task).await
    }
}

/// How a generation ended.
struct Ending {
    reason: FinishReason,
    stop: Option<u8>,
    tail: String,
}

/// What a receipt says beside the tokens.
struct Outcome {
    price: Price,
    tier: Tier,
    first_token: u32,
    finish: FinishReason,
    salt: B256,
}

/// What a receipt commits to.
#[derive(Default)]
struct Trace {
    output_tokens: u32,
    closing: Option<TraceToken>,
    /// What was delivered, and the closing token.
    tokens: Vec<TraceToken>,
    /// The evidence part of each of these, or nothing where the backend gives none.
    opened: Vec<Evidence>,
    /// One leaf of `opened` for each window.
    evidence: Vec<B256>,
    root: B256,
}

impl Trace {
    /// Of the tokens that were delivered and what the sampler recorded of them, which is nothing where the backend draws
    /// its tokens by itself.
    fn new(delivered: Vec<TraceToken>, recorded: Vec<(TraceToken, Evidence)>, outcome: &Outcome) -> Self {
        let output_tokens = u32::try_from(delivered.len()).unwrap_or(u32::MAX);
        let Records { closing, tokens, opened } = records(delivered, recorded, outcome.finish, outcome.tier);
        let evidence = trace::evidence_leaves(outcome.salt, tokens.len(), &opened);
        let root = trace::root(outcome.salt, &tokens, &evidence).expect("there is one leaf for each window");
        Self { output_tokens, closing, tokens, opened, evidence, root }
    }
}

impl Produced {
    /// The message that announces the prompt, once.
    fn start_message(&mut self) -> Option<TaskReply> {
        if self.announced || !self.started {
            return None;
        }
        self.announced = true;
        Some(TaskReply::Started {
            input_tokens: self.usage.input_tokens,
            cached_input_tokens: self.usage.cached_input_tokens,
            prompt_hash: self.prompt_hash,
        })
    }
}

/// Takes one event in; returns how the generation ended if it did.
fn take(
    event: Option<EngineEvent>,
    produced: &mut Produced,
    batch: &mut Vec<TokenEvent>,
) -> Result<Option<Ending>, TaskFailure> {
    match event {
        Some(EngineEvent::Started { prompt, usage }) => {
            produced.started = true;
            produced.usage = usage;
            produced.prompt_hash = if prompt.is_empty() { B256::ZERO } else { prompt_hash(&prompt) };
            Ok(None)
        }
        Some(EngineEvent::Token(token)) => {
            produced.tokens.push(TraceToken::told(token.id, token.logprob));
            batch.push(token);
            Ok(None)
        }
        Some(EngineEvent::Finished { reason, stop, tail, usage }) => {
            produced.usage = usage;
            Ok(Some(Ending { reason, stop, tail }))
        }
        Some(EngineEvent::Failed(error)) => Err(engine_failure(&error)),
        None => Err(refuse(FailureCode::Engine, "the engine ended without a word")),
    }
}

/// Takes in what is there already, so that an engine ahead of the network costs one message for many tokens.
fn gather(
    generation: &mut Generation,
    produced: &mut Produced,
    batch: &mut Vec<TokenEvent>,
) -> Result<Option<Ending>, TaskFailure> {
    while batch.len() < TOKENS_PER_MESSAGE {
        let Some(event) = generation.try_next() else { break };
        if let Some(ended) = take(Some(event), produced, batch)? {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}
