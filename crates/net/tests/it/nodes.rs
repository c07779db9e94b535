//! Nodes for the tests: real keys, real endpoints on loopback, and a registry that the test controls.

use alloy_primitives::{Address, B256, Signature};
use async_trait::async_trait;
use cortensor_net::{
    AcceptedMiner, Admission, DialConfig, DialEnds, DialState, Dialer, Endpoint, IncomingTask, Limits, ListenConfig,
    Listener, NetConfig, NodeAddress, OperatorSigner, RouterCheck, RouterEvent, RouterNews, TransportSecret,
    WelcomeExtras, dial,
};
use cortensor_protocol::{
    ModelManifest, Operator, Price, Signature65, TaskHeader, TaskId, Tier, ToolFormat, TransportKey,
    manifest::{Load, ModelOffer, Speed},
    task::SignedHeader,
    wire::{Challenge, EmbedTask, Hello, RefusalCode, TaskOpen},
};
use k256::ecdsa::SigningKey;
use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Chain of all nodes here.
pub(crate) const CHAIN: u64 = 31_337;

/// No test waits longer for anything that must happen.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it happens in time")
}

/// An operator's key; `claims` lets it pretend to be another.
pub(crate) struct Key {
    key: SigningKey,
    claims: Operator,
}

impl Key {
    pub(crate) fn new(byte: u8) -> Arc<Self> {
        let key = SigningKey::from_slice(&[byte; 32]).unwrap();
        let claims = Operator(Address::from_private_key(&key));
        Arc::new(Self { key, claims })
    }

    pub(crate) fn pretending(byte: u8, claims: Operator) -> Arc<Self> {
        Arc::new(Self { key: SigningKey::from_slice(&[byte; 32]).unwrap(), claims })
    }
}

impl OperatorSigner for Key {
    fn operator(&self) -> Operator {
        self.claims
    }

    fn sign_hash(&self, hash: B256) -> Signature65 {
        let (signature, recovery) = self.key.sign_prehash_recoverable(hash.as_slice()).unwrap();
        Signature::from_signature_and_parity(signature, recovery.is_y_odd()).into()
    }
}

/// Who is registered with which transport key.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<Operator, TransportKey>>);

impl Registry {
    pub(crate) fn register(&self, operator: Operator, key: TransportKey) {
        self.0.lock().unwrap().insert(operator, key);
    }

    fn judge(&self, operator: Operator, key: TransportKey) -> Result<(), (RefusalCode, String)> {
        match self.0.lock().unwrap().get(&operator) {
            None => Err((RefusalCode::NotRegistered, format!("{operator} is not registered"))),
            Some(registered) if *registered != key => {
                Err((RefusalCode::BadBinding, format!("{operator} is registered with another transport key")))
            }
            Some(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Admission for Registry {
    async fn admit(&self, peer: TransportKey, hello: &Hello) -> Result<WelcomeExtras, (RefusalCode, String)> {
        self.judge(hello.miner, peer).map(|()| WelcomeExtras::default())
    }
}

#[async_trait]
impl RouterCheck for Registry {
    async fn check(&self, peer: TransportKey, challenge: &Challenge) -> Result<(), (RefusalCode, String)> {
        self.judge(challenge.router, peer)
    }
}

/// Short times, so that failures are seen soon, but long enough for a loaded machine.
pub(crate) fn limits() -> Limits {
    Limits { dead_after: Duration::from_secs(2), ..Limits::default() }
}

pub(crate) async fn endpoint_at(byte: u8, listen: SocketAddr, limits: Limits) -> Endpoint {
    let config = NetConfig { limits, ..NetConfig::new(TransportSecret::from_bytes([byte; 32]), listen) };
    Endpoint::bind(config).await.unwrap()
}

pub(crate) async fn endpoint(byte: u8) -> Endpoint {
    endpoint_at(byte, "127.0.0.1:0".parse().unwrap(), limits()).await
}

/// A router, registered, with its listener.
pub(crate) struct Router {
    pub(crate) endpoint: Endpoint,
    pub(crate) listener: Listener,
    pub(crate) address: NodeAddress,
    pub(crate) signer: Arc<Key>,
}

pub(crate) fn listen_config(signer: Arc<Key>, registry: &Arc<Registry>) -> ListenConfig {
    ListenConfig { heartbeat: Duration::from_millis(200), ..ListenConfig::new(CHAIN, signer, registry.clone()) }
}

impl Router {
    pub(crate) async fn start(byte: u8, registry: &Arc<Registry>) -> Self {
        Self::start_at(byte, registry, "127.0.0.1:0".parse().unwrap(), |_| ()).await
    }

    pub(crate) async fn start_at(
        byte: u8,
        registry: &Arc<Registry>,
        listen: SocketAddr,
        change: impl FnOnce(&mut ListenConfig),
    ) -> Self {
        let signer = Key::new(byte);
        let endpoint = endpoint_at(byte, listen, limits()).await;
        registry.register(signer.operator(), endpoint.key());
        let mut config = listen_config(signer.clone(), registry);
        change(&mut config);
        let listener = Listener::start(&endpoint, config);
        let address = endpoint.node_address().unwrap();
        Self { endpoint, listener, address, signer }
    }

    pub(crate) async fn accept(&mut self) -> AcceptedMiner {
        soon(self.listener.accept()).await.unwrap()
    }
}

/// A miner's side: endpoint, key, and the ends of its channels.
pub(crate) struct Miner {
    pub(crate) endpoint: Endpoint,
    pub(crate) signer: Arc<Key>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) offers: watch::Sender<Vec<ModelOffer>>,
    pub(crate) loads: watch::Sender<Vec<(Load, Speed)>>,
    pub(crate) tasks: mpsc::Receiver<IncomingTask>,
    pub(crate) events: mpsc::Receiver<RouterEvent>,
    ends: DialEnds,
}

impl Miner {
    /// Registered under its key.
    pub(crate) async fn start(byte: u8, registry: &Arc<Registry>) -> Self {
        let miner = Self::unregistered(byte, registry, limits(), 1_024).await;
        registry.register(miner.signer.operator(), miner.endpoint.key());
        miner
    }

    pub(crate) async fn unregistered(byte: u8, registry: &Arc<Registry>, limits: Limits, queue: usize) -> Self {
        let endpoint = endpoint_at(byte, "127.0.0.1:0".parse().unwrap(), limits).await;
        let (offers, watch_offers) = watch::channel(vec![offer("small")]);
        let (loads, watch_loads) = watch::channel(vec![(Load::default(), Speed::default())]);
        let (send_tasks, tasks) = mpsc::channel(queue);
        let (send_events, events) = mpsc::channel(64);
        let ends = DialEnds { offers: watch_offers, loads: watch_loads, tasks: send_tasks, events: send_events };
        Self { endpoint, signer: Key::new(byte), registry: registry.clone(), offers, loads, tasks, events, ends }
    }

    pub(crate) fn config(&self, router: &NodeAddress) -> DialConfig {
        let (signer, check) = (self.signer.clone(), self.registry.clone());
        DialConfig {
            retry_first: Duration::from_millis(50),
            retry_most: Duration::from_millis(500),
            retry_refused: Duration::from_millis(100),
            ..DialConfig::new(router.clone(), CHAIN, signer, check, "test/1")
        }
    }

    pub(crate) fn dial(&self, router: &NodeAddress) -> Dialer {
        self.dial_with(self.config(router))
    }

    pub(crate) fn dial_with(&self, config: DialConfig) -> Dialer {
        dial(&self.endpoint, config, self.ends.clone())
    }

    /// The next news that is not about a lost connection.
    pub(crate) async fn news(&mut self) -> RouterNews {
        loop {
            match soon(self.events.recv()).await.unwrap().news {
                RouterNews::Disconnected(_) => {}
                news => return news,
            }
        }
    }

    pub(crate) async fn refusal(&mut self) -> RefusalCode {
        match self.news().await {
            RouterNews::Refused { code, message } => {
                assert!(!message.is_empty());
                code
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    pub(crate) async fn task(&mut self) -> IncomingTask {
        soon(self.tasks.recv()).await.unwrap()
    }
}

pub(crate) async fn connected(dialer: &Dialer) {
    soon(dialer.state().wait_for(|state| matches!(state, DialState::Connected(_)))).await.unwrap();
}

pub(crate) fn offer(name: &str) -> ModelOffer {
    ModelOffer {
        manifest: ModelManifest {
            name: name.into(),
            weights_blake3: B256::ZERO,
            weights_sha256: B256::ZERO,
            tokenizer: B256::ZERO,
            chat_template: B256::ZERO,
            quantisation: "Q8_0".into(),
            context_length: 512,
            kv_cache: "f16".into(),
            vocabulary: 1_000,
            embedding_length: 0,
            tool_format: ToolFormat::None,
            licence: String::new(),
        },
        price: Price::default(),
        tier: Tier::A,
        build: "none".into(),
        context: 512,
        slots: 4,
        speed: Speed::default(),
    }
}

/// A small task that carries a text.
pub(crate) fn task(text: &str) -> TaskOpen {
    let header = TaskHeader {
        task: TaskId::default(),
        session: B256::ZERO.into(),
        model: B256::ZERO.into(),
        request_hash: B256::ZERO,
        sampling: B256::ZERO,
        seed: B256::ZERO,
        max_tokens: 1,
        min_tier: Tier::D,
        client_nonce: 0,
        deadline: 0,
    };
    let header = SignedHeader { header, signature: Signature65([7; 65]) };
    TaskOpen::Embed(Box::new(EmbedTask { header, inputs: vec![text.into()], price: Price::default() }))
}

/// The text of such a task.
pub(crate) fn text_of(open: &TaskOpen) -> &str {
    match open {
        TaskOpen::Embed(embed) => &embed.inputs[0],
        TaskOpen::Generate(_) | TaskOpen::Count(_) | TaskOpen::Audit(_) => panic!("the tests send embeddings"),
    }
}
