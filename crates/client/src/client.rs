//! The client itself: connects to a router, asks, pays, ends the session.

use super::{
    answer::Answer,
    book::{Book, Objection, Rules, Verdict},
    http::{self, ClientError},
};
use alloy::{
    primitives::{Address, B256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use cortensor_protocol::{
    ChatMessage, Domain, GenerationRequest, ModelId, Operator, Price, Prompt, Proposal, ReceiptFile, ResponseFormat,
    Role, RouterFacts, Routing, SamplingParams, SessionAccess, SessionId, Signature65, SignedClose, SignedTask,
    SignedVoucher, TaskHeader, TaskId, Tier, ToolFormat, Voucher, Wei,
    client::{EmbeddingAnswer, SignedEmbedding, TokenCountAnswer, VoucherSignature},
    task::{Bound, SignedHeader, derive_seed},
    wire::EmbedTask,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How long an access token is valid.
const ACCESS_SECONDS: u64 = 3600;
/// A token is replaced this long before its end.
const ACCESS_MARGIN_SECONDS: u64 = 300;
/// How long a header is valid.
const HEADER_SECONDS: u64 = 600;
/// How long the list of models is trusted.
const MODELS_FRESH: Duration = Duration::from_secs(5);
/// A router that does not answer at all is given up after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Texts are embedded within this time.
const EMBED_TIMEOUT: Duration = Duration::from_secs(120);
/// Everything else is answered within this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What the chain says of the session: what the client holds its router to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The session.
    pub session: SessionId,
    /// Its router.
    pub router: Operator,
    /// The chain and contract that it is on.
    pub domain: Domain,
    /// Highest price that it accepts.
    pub max_price: Price,
    /// Lowest tier that it accepts.
    pub min_tier: Tier,
}

/// How a client is made.
#[derive(Clone)]
pub struct Options {
    router_url: String,
    terms: Terms,
    key: PrivateKeySigner,
    book: Option<PathBuf>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("router_url", &self.router_url)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A client of the router at `router_url` whose session's key is `key`. Its book is in memory only: see
    /// [`Options::book`].
    #[must_use]
    pub fn new(router_url: impl Into<String>, terms: Terms, key: PrivateKeySigner) -> Self {
        Self { router_url: router_url.into(), terms, key, book: None }
    }

    /// Keeps the book in this file. A client without one can go on with a session only as long as it runs.
    #[must_use]
    pub fn book(mut self, path: impl Into<PathBuf>) -> Self {
        self.book = Some(path.into());
        self
    }
}

/// A model that the router offers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Model {
    /// Name to use in requests.
    pub name: String,
    /// Manifest id.
    pub id: ModelId,
    /// Lowest price on offer.
    pub price: Price,
    /// Best tier on offer.
    pub tier: Tier,
    /// Longest context, in tokens.
    pub context: u32,
    /// How many miners serve it now.
    pub miners: u32,
    /// Whether it embeds.
    pub embeds: bool,
    /// How tool calls are written.
    pub tool_format: ToolFormat,
    /// Unix time in seconds since when the router knows it.
    pub created: u64,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    cortensor: Model,
}

/// What was paid.
#[derive(Clone, Debug, Default)]
pub struct Payment {
    /// What was signed for beyond what was signed before.
    pub amount: Wei,
    /// The vouchers, with both signatures.
    pub vouchers: Vec<SignedVoucher>,
    /// What was not signed, and why.
    pub objections: Vec<Objection>,
    /// Deliveries of tasks that still run.
    pub waiting: usize,
}

/// What a client and its answers share.
pub(crate) struct Shared {
    pub(crate) book: Mutex<Book>,
}

/// A client of one session.
pub struct Client {
    http: reqwest::Client,
    base: String,
    terms: Terms,
    key: PrivateKeySigner,
    shared: Arc<Shared>,
    store: Option<PathBuf>,
    /// The last one that was used.
    nonce: Mutex<u64>,
    access: Mutex<(String, u64)>,
    models: Mutex<Option<(Instant, HashMap<String, Model>)>>,
    /// Payments are made one at a time.
    paying: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// What a header says of a request.
#[derive(Clone, Copy)]
struct Asked {
    bound: Bound,
    max_tokens: u32,
    seed: Option<u64>,
    input_max: u32,
}

/// A request to one miner only, where one is named. The tier is in the header.
fn routed(request: reqwest::RequestBuilder, routing: Routing) -> reqwest::RequestBuilder {
    match routing.miner {
        Some(miner) => request.header(Routing::MINER_HEADER, miner.to_string()),
        None => request,
    }
}

fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn sign(key: &PrivateKeySigner, hash: B256) -> Signature65 {
    key.sign_hash_sync(&hash).expect("signing with a key in memory cannot fail").into()
}

fn http_client() -> Result<reqwest::Client, ClientError> {
    cortensor_contracts::install_tls();
    Ok(reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?)
}

/// The router's address, whether or not it was given with the version's path.
fn base_of(url: &str) -> String {
    url.trim_end_matches('/').trim_end_matches("/v1").to_owned()
}

async fn ask_facts(http: &reqwest::Client, base: &str) -> Result<RouterFacts, ClientError> {
    http::json(http.get(format!("{base}/v1/router")).timeout(CALL_TIMEOUT), "description of a router").await
}

/// What a router says of itself: what has to be known before a session with it is opened.
///
/// # Errors
/// When it cannot be reached, or is no router.
pub async fn router_facts(url: &str) -> Result<RouterFacts, ClientError> {
    ask_facts(&http_client()?, &base_of(url)).await
}

impl Client {
    /// Connects to a router and makes sure that it is the session's.
    ///
    /// # Errors
    /// When the router cannot be reached or is another than the session's, or the book cannot be read.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let Options { router_url, terms, key, book: store } = options;
        let (http, base) = (http_client()?, base_of(&router_url));
        let facts = ask_facts(&http, &base).await?;
        if facts.operator != terms.router || facts.domain != terms.domain {
            return Err(ClientError::OtherRouter(format!(
                "the session is with the router {} on chain {}, this is {} on chain {}",
                terms.router, terms.domain.chain_id, facts.operator, facts.domain.chain_id
            )));
        }
        let book = match &store {
            Some(path) => load(path, terms.session)?,
            None => Book::new(terms.session),
        };
        let nonce = Mutex::new(book.last_nonce());
        let shared = Arc::new(Shared { book: Mutex::new(book) });
        let access = Mutex::new((String::new(), 0));
        let (models, paying) = (Mutex::new(None), tokio::sync::Mutex::new(()));
        Ok(Self { http, base, terms, key, shared, store, nonce, access, models, paying })
    }

    /// What the session is held to.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Everything that this client has signed for.
    #[must_use]
    pub fn signed(&self) -> Wei {
        self.shared.book.lock().signed()
    }

    /// A plain question, with the usual settings.
    #[must_use]
    pub fn question(&self, model: &str, text: &str) -> GenerationRequest {
        let messages = vec![ChatMessage::text(Role::User, text)];
        GenerationRequest {
            model: model.into(),
            prompt: Prompt::Chat { messages, tools: Vec::new(), tool_choice: cortensor_protocol::ToolChoice::Auto },
            sampling: SamplingParams::default(),
            seed: None,
            max_tokens: 256,
            stop: Vec::new(),
            response_format: ResponseFormat::Text,
            logprobs: None,
        }
    }

    /// Models that can be used now.
    ///
    /// # Errors
    /// When the router cannot be asked.
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        let list: ModelList = http::json(self.get("/v1/models"), "list of models").await?;
        let models: Vec<Model> = list.data.into_iter().map(|entry| entry.cortensor).collect();
        let by_name = models.iter().map(|model| (model.name.clone(), model.clone())).collect();
        *self.models.lock() = Some((Instant::now(), by_name));
        Ok(models)
    }

    async fn model(&self, name: &str) -> Result<Model, ClientError> {
        let known =
            self.models.lock().as_ref().and_then(|(read, models)| {
                (read.elapsed() < MODELS_FRESH).then(|| models.get(name).cloned()).flatten()
            });
        if let Some(model) = known {
            return Ok(model);
        }
        let models = self.models().await?;
        models.into_iter().find(|model| model.name == name).ok_or_else(|| ClientError::UnknownModel(name.into()))
    }

    /// Signs and sends a request. Where unsigned work has reached the credit limit, pays and tries once more.
    ///
    /// # Errors
    /// When the request is out of bounds, the router refuses it, or something is charged that does not hold up.
    pub async fn generate(&self, request: GenerationRequest) -> Result<Answer, ClientError> {
        self.generate_routed(request, Routing::default()).await
    }

    /// Like [`Self::generate`], at one miner or from one tier upward.
    ///
    /// # Errors
    /// As [`Self::generate`]; and when that miner, or a miner of that tier, is not there.
    pub async fn generate_routed(
        &self,
        mut request: GenerationRequest,
        routing: Routing,
    ) -> Result<Answer, ClientError> {
        let model = self.model(&request.model).await?;
        request.max_tokens = request.max_tokens.min(model.context);
        request.check()?;
        match self.ask(model.id, &request, routing).await {
            Err(ClientError::Refused(refusal)) if refusal.status == 402 => {
                self.pay_or_object().await?;
                self.ask(model.id, &request, routing).await
            }
            other => other,
        }
    }

    async fn ask(&self, model: ModelId, request: &GenerationRequest, routing: Routing) -> Result<Answer, ClientError> {
        let input_max = request.prompt.input_tokens_max();
        let asked = Asked { bound: request.bound(), max_tokens: request.max_tokens, seed: request.seed, input_max };
        let header = self.header(model, asked, routing)?;
        let task = header.header.task;
        let body = SignedTask { header, request: request.clone() };
        match http::send(routed(self.post("/v1/tasks").json(&body), routing)).await {
            Ok(response) => Ok(Answer::new(task, self.shared.clone(), response)),
            Err(error) => {
                self.shared.book.lock().end(task, false);
                Err(error)
            }
        }
    }

    /// Embeds texts; one vector for each.
    ///
    /// # Errors
    /// When the router refuses.
    pub async fn embed(
        &self,
        model: &str,
        inputs: Vec<String>,
        routing: Routing,
    ) -> Result<(TaskId, EmbeddingAnswer), ClientError> {
        let id = self.model(model).await?.id;
        let input_max = EmbedTask::input_tokens_max(&inputs);
        let asked = Asked { bound: EmbedTask::bound(&inputs), max_tokens: 1, seed: None, input_max };
        let header = self.header(id, asked, routing)?;
        let task = header.header.task;
        let body = SignedEmbedding { header, model: model.into(), inputs };
        let answer = http::json(
            routed(self.post("/v1/tasks/embeddings").json(&body), routing).timeout(EMBED_TIMEOUT),
            "embedding",
        )
        .await;
        self.shared.book.lock().end(task, answer.is_ok());
        Ok((task, answer?))
    }

    /// How many tokens a request's prompt has. Nothing is signed and nothing is paid.
    ///
    /// # Errors
    /// When the router refuses, or no miner of the model counts.
    pub async fn count_tokens(&self, request: &GenerationRequest) -> Result<u32, ClientError> {
        let counting = self.post("/v1/tasks/count").json(request).timeout(CALL_TIMEOUT);
        http::json::<TokenCountAnswer>(counting, "count of tokens").await.map(|answer| answer.input_tokens)
    }

    /// Signs a header and notes the task in the book, on disk where it has a file.
    fn header(&self, model: ModelId, asked: Asked, routing: Routing) -> Result<SignedHeader, ClientError> {
        let Asked { bound, max_tokens, seed, input_max } = asked;
        let now = unix();
        // Microseconds since 1970: above every number that was used before, also by a client that has lost its book.
        let clock = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let nonce = {
            let mut last = self.nonce.lock();
            *last = clock.max(last.saturating_add(1));
            *last
        };
        let task = TaskId::derive(self.terms.session, nonce);
        let header = TaskHeader {
            task,
            session: self.terms.session,
            model,
            request_hash: bound.request_hash,
            sampling: bound.sampling,
            seed: derive_seed(task, nonce, B256::from(rand::random::<[u8; 32]>()), model, seed),
            max_tokens,
            min_tier: routing.tier(self.terms.min_tier),
            client_nonce: nonce,
            deadline: now.as_secs() + HEADER_SECONDS,
        };
        let mut book = self.shared.book.lock();
        book.ask(&header, input_max);
        self.save(&book)?;
        drop(book);
        let signature = sign(&self.key, header.signing_hash(&self.terms.domain));
        Ok(SignedHeader { header, signature })
    }

    /// Receipts of a task, one for each miner that finished or handed over properly; with the evidence that each miner
    /// signed where it is to be opened.
    ///
    /// # Errors
    /// When the router cannot be asked or knows none.
    pub async fn receipts(&self, task: TaskId, open: bool) -> Result<Vec<ReceiptFile>, ClientError> {
        http::json(self.get(&format!("/v1/tasks/{task}/receipts?open={open}")), "list of receipts").await
    }

    /// A task as the router tells it, in the form that the caller reads.
    ///
    /// # Errors
    /// When the router cannot be asked or does not know it.
    pub async fn task<T: DeserializeOwned>(&self, task: TaskId) -> Result<T, ClientError> {
        http::json(self.get(&format!("/v1/tasks/{task}")), "task").await
    }

    /// The nodes that the router knows, in the form that the caller reads.
    ///
    /// # Errors
    /// When the router cannot be asked.
    pub async fn nodes<T: DeserializeOwned>(&self) -> Result<Vec<T>, ClientError> {
        http::json(self.get("/v1/nodes"), "list of nodes").await
    }

    /// The session as the router keeps it, in the form that the caller reads.
    ///
    /// # Errors
    /// When the router cannot be asked.
    pub async fn session<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        http::json(self.get("/v1/session"), "session").await
    }

    /// What the router asks to be signed.
    ///
    /// # Errors
    /// When the router cannot be asked.
    pub async fn proposals(&self) -> Result<Vec<Proposal>, ClientError> {
        http::json(self.get("/v1/session/vouchers"), "list of proposals").await
    }

    /// Checks what is charged, signs what holds up, and says what does not.
    ///
    /// # Errors
    /// When the router cannot be asked, refuses a signature that it asked for, or the book cannot be written.
    pub async fn pay(&self) -> Result<Payment, ClientError> {
        let _one_at_a_time = self.paying.lock().await;
        let mut by_miner: BTreeMap<Operator, Vec<Proposal>> = BTreeMap::new();
        for proposal in self.proposals().await? {
            by_miner.entry(proposal.voucher.miner).or_default().push(proposal);
        }
        let mut payment = Payment::default();
        for (miner, proposals) in by_miner {
            let before = self.shared.book.lock().newest(miner).map(|voucher| voucher.cumulative_amount);
            self.judge(miner, &proposals, &mut payment).await?;
            let newest = self.shared.book.lock().newest(miner).cloned();
            // Also one that was signed before and did not arrive.
            if let Some(voucher) = newest.filter(|newest| proposals.iter().any(|p| p.voucher == *newest)) {
                let amount = voucher.cumulative_amount.saturating_sub(before.unwrap_or_default());
                payment.vouchers.push(self.send_voucher(voucher).await?);
                payment.amount = payment.amount + amount;
            }
        }
        Ok(payment)
    }

    async fn pay_or_object(&self) -> Result<Payment, ClientError> {
        let mut payment = self.pay().await?;
        match payment.objections.pop() {
            Some(objection) => Err(ClientError::Overcharged(objection)),
            None => Ok(payment),
        }
    }

    /// Takes one miner's proposals into the book, as far as they hold up, and saves it.
    async fn judge(&self, miner: Operator, all: &[Proposal], payment: &mut Payment) -> Result<(), ClientError> {
        let newest = self.shared.book.lock().newest(miner).cloned();
        let signed = all.iter().position(|p| Some(&p.voucher) == newest.as_ref()).map_or(0, |at| at + 1);
        let rules =
            Rules { domain: self.terms.domain, session_key: self.key.address(), max_price: self.terms.max_price };
        for (at, proposal) in all.iter().enumerate().skip(signed) {
            let task = proposal.charge.task;
            let receipt = match proposal.charge.receipt {
                Some(leaf) => {
                    let files = self.receipts(task, false).await?;
                    files.into_iter().find(|file| file.receipt.receipt.leaf(&rules.domain) == leaf)
                }
                None => None,
            };
            match self.shared.book.lock().judge(proposal, receipt.as_ref(), &rules) {
                Verdict::Sign => {}
                Verdict::Wait => {
                    payment.waiting += all.len() - at;
                    break;
                }
                Verdict::Object(problem) => {
                    payment.objections.push(Objection { task, miner, problem });
                    break;
                }
            }
        }
        self.save(&self.shared.book.lock())
    }

    async fn send_voucher(&self, voucher: Voucher) -> Result<SignedVoucher, ClientError> {
        let signature = sign(&self.key, voucher.signing_hash(&self.terms.domain));
        let body = VoucherSignature { voucher: voucher.clone(), signature };
        let request = self.post("/v1/session/vouchers").json(&body).timeout(CALL_TIMEOUT);
        let signed: SignedVoucher = http::json(request, "voucher").await?;
        let valid = signed.verify(&self.terms.domain, self.key.address(), self.terms.router).is_ok();
        if valid && signed.voucher == voucher { Ok(signed) } else { Err(ClientError::Malformed("voucher")) }
    }

    /// Pays what is owed and ends the session: with the answer the owner gets the rest of the deposit at once
    /// ([`cortensor_contracts::SessionsClient::close_with_router`]).
    ///
    /// # Errors
    /// When tasks still run, or something is charged that does not hold up; the session can then be closed on chain
    /// without its router, after the grace period.
    pub async fn close(&self) -> Result<SignedClose, ClientError> {
        self.pay_or_object().await?;
        let request = self.post("/v1/session/close").timeout(CALL_TIMEOUT);
        let signed: SignedClose = http::json(request, "final total").await?;
        let signer = signed.signature.recover(signed.close.signing_hash(&self.terms.domain));
        let own = signed.close.session == self.terms.session && signed.close.final_total == self.signed();
        if own && signer == Ok(self.terms.router.0) { Ok(signed) } else { Err(ClientError::Malformed("final total")) }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(self.access()).timeout(CALL_TIMEOUT)
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).bearer_auth(self.access())
    }

    /// The access token, signed anew when it is about to end.
    fn access(&self) -> String {
        let now = unix().as_secs();
        let mut access = self.access.lock();
        if access.1 < now + ACCESS_MARGIN_SECONDS {
            let (session, expires) = (self.terms.session, now + ACCESS_SECONDS);
            let signature = sign(&self.key, SessionAccess::signing_hash(session, expires, &self.terms.domain));
            *access = (SessionAccess { session, expires, signature }.to_string(), expires);
        }
        access.0.clone()
    }

    /// The key's address.
    #[must_use]
    pub fn session_key(&self) -> Address {
        self.key.address()
    }

    fn save(&self, book: &Book) -> Result<(), ClientError> {
        self.store.as_ref().map_or(Ok(()), |path| save(path, book))
    }
}

/// The file of a book.
#[derive(Serialize, Deserialize)]
struct Stored<B> {
    version: u32,
    book: B,
}

fn store_error(path: &Path, why: impl std::fmt::Display) -> ClientError {
    ClientError::Store { path: path.display().to_string(), why: why.to_string() }
}

fn load(path: &Path, session: SessionId) -> Result<Book, ClientError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Book::new(session)),
        Err(error) => return Err(store_error(path, error)),
    };
    let stored: Stored<Book> = serde_json::from_slice(&bytes).map_err(|error| store_error(path, error))?;
    if stored.version != 1 || stored.book.session() != session {
        return Err(store_error(path, "it is of another session or version: give each session a file of its own"));
    }
    let mut book = stored.book;
    book.restarted();
    Ok(book)
}

/// Replaces the file whole, so that a crash leaves either the old or the new one.
fn save(path: &Path, book: &Book) -> Result<(), ClientError> {
    let part = path.with_extension("part");
    let bytes = serde_json::to_vec(&Stored { version: 1, book }).map_err(|error| store_error(path, error))?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| store_error(path, error))?;
    }
    std::fs::write(&part, bytes).map_err(|error| store_error(path, error))?;
    std::fs::rename(&part, path).map_err(|error| store_error(path, error))
}
