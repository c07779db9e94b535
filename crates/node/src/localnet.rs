//! A whole network in one process: two chains, the contracts, a router and miners, over real sockets on this machine.
//!
//! It is what `cortensor up` and `cortensor demo` run, and what the end-to-end tests talk to. Nothing in it is a
//! stand-in: the roles are the same services that run as processes of their own, and they meet through JSON-RPC, the
//! encrypted transport and HTTP. Its keys are development keys; it belongs on a loopback address.

mod ground;

use crate::{
    chain_view::{CachedView, ChainView},
    contracts_view::{ContractsView, describe},
    guard::{self, Guard, GuardConfig, declare_class, register_profile},
    identity::Identity,
    miner::{
        Miner, MinerConfig, Offering,
        batches::{BatchPolicy, keep_committing},
        cases::Retention,
        link::{LinkConfig, work},
    },
    router::{AdmissionConfig, DispatchConfig, Router, RouterConfig, accept_miners},
};
use alloy::{primitives::U256, providers::Provider as _};
use cortensor_chain::{Chain, ChainHandle, Config as ChainConfig, DEVELOPMENT_ADDRESSES};
use cortensor_contracts::{Contracts, DeployParameters, Deployment, Wallet, connect, keystore};
use cortensor_engine::Engine;
use cortensor_gateway::GatewayConfig;
use cortensor_net::{Endpoint, NetConfig, NodeAddress};
use cortensor_proof::profile::Profile;
use cortensor_protocol::{Price, SessionId, Wei};
use ground::Ground;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Password of the local network's keystores. They hold development keys: it guards nothing.
pub const DEVELOPMENT_PASSWORD: &str = "cortensor-development";
/// Chain id of the local L1.
pub const L1_CHAIN_ID: u64 = 31_337;
/// Chain id of the local L2.
pub const L2_CHAIN_ID: u64 = 31_338;

/// What a local network is made of.
#[derive(Clone, Debug)]
pub struct LocalNetConfig {
    /// Where everything is kept; started again on the same folder, it goes on where it stopped.
    pub data: PathBuf,
    /// Address of the HTTP API; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address of L1's JSON-RPC.
    pub l1_listen: SocketAddr,
    /// Address of L2's JSON-RPC.
    pub l2_listen: SocketAddr,
    /// JSON-RPC of a chain that takes L1's place.
    pub l1_rpc: Option<String>,
    /// JSON-RPC of a chain that takes L2's place. The first three development accounts need coins on it.
    pub l2_rpc: Option<String>,
    /// What the miners ask for.
    pub price: Price,
    /// What the session of the API key holds.
    pub deposit: Wei,
    /// Unsigned work that the router tolerates from clients that sign for their own sessions.
    pub credit: Wei,
    /// How old an answer of the chain may be that the roles act on.
    pub chain_view_lifetime: Duration,
    /// What the contracts are deployed with, where they do not stand yet.
    pub parameters: Box<DeployParameters>,
    /// What guards, judges and miners are paid from beside the fees.
    pub pools: Pools,
    /// How many guards audit the miners, each with the first miner's engine and an account of its own.
    pub guards: usize,
    /// How often a guard looks at the chain.
    pub guard_interval: Duration,
    /// Calibrated profiles, registered at the start and given to the guards.
    pub profiles: Vec<Profile>,
    /// When the miners commit to their receipts.
    pub batches: BatchPolicy,
    /// Bounds of the router.
    pub dispatch: DispatchConfig,
    /// Bounds of the HTTP API.
    pub gateway: GatewayConfig,
}

/// Pools that the deployer fills from its own tokens, at each start up to these amounts. On a public chain governance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Pays guards for findings, and for measurements that they were challenged to make.
    pub guards: Wei,
    /// Pays judges.
    pub judges: Wei,
    /// Pays miners for proved work, beside the protocol's share of the fees.
    pub emission: Wei,
}

impl Default for Pools {
    /// A hundred thousand audits, fifty thousand judgements, and emission for as long as anybody tries it out.
    fn default() -> Self {
        Self { guards: Wei(100 * Wei::COR.0), judges: Wei(100 * Wei::COR.0), emission: Wei(10_000 * Wei::COR.0) }
    }
}

impl LocalNetConfig {
    /// On any free ports of the loopback interface.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data,
            listen: any,
            l1_listen: any,
            l2_listen: any,
            l1_rpc: None,
            l2_rpc: None,
            price: Price { input: Wei(Wei::COR.0 / 2), output: Wei(2 * Wei::COR.0) },
            deposit: Wei(1_000 * Wei::COR.0),
            credit: Wei(Wei::COR.0 / 10),
            chain_view_lifetime: Duration::from_secs(10),
            parameters: Box::new(DeployParameters {
                treasury: DEVELOPMENT_ADDRESSES[3],
                ..DeployParameters::development(DEVELOPMENT_ADDRESSES[0])
            }),
            pools: Pools::default(),
            guards: 0,
            guard_interval: Duration::from_millis(500),
            profiles: Vec::new(),
            batches: BatchPolicy { interval: Duration::from_secs(1), size: 1_000, age: Duration::from_secs(3) },
            dispatch: DispatchConfig { stall_timeout: Duration::from_secs(20), ..DispatchConfig::default() },
            gateway: GatewayConfig::default(),
        }
    }
}

/// Why a local network did not start, with the step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {why}")]
pub struct LocalNetError {
    /// What was being done.
    pub step: &'static str,
    /// What went wrong, with its causes.
    pub why: String,
}

fn at<E: std::error::Error>(step: &'static str) -> impl FnOnce(E) -> LocalNetError {
    move |error| LocalNetError { step, why: describe(&error) }
}

/// One miner of the network.
pub struct LocalMiner {
    /// The service.
    pub miner: Miner,
    /// Its keys.
    pub identity: Identity,
    endpoint: Mutex<Endpoint>,
    stop: Mutex<CancellationToken>,
}

impl LocalMiner {
    /// Cuts this miner off in the middle of whatever it does: its transport is gone, its streams break.
    pub async fn kill(&self) {
        let endpoint = self.endpoint.lock().clone();
        endpoint.close().await;
        self.stop.lock().cancel();
    }
}

/// One guard of the network.
pub struct LocalGuard {
    /// The service.
    pub guard: Guard,
    /// Its keys.
    pub identity: Identity,
    endpoint: Endpoint,
}

/// A chain of the network.
pub enum LocalChain {
    /// Of its own, in this process.
    Own(ChainHandle),
    /// Somebody else's.
    At {
        /// Its JSON-RPC.
        url: String,
        /// Its EIP-155 identifier.
        chain_id: u64,
    },
}

impl LocalChain {
    async fn start(config: ChainConfig, rpc: Option<&String>, step: &'static str) -> Result<Self, LocalNetError> {
        let Some(url) = rpc else { return Chain::start(config).await.map(Self::Own).map_err(at(step)) };
        let provider = connect(url).await.map_err(at(step))?;
        let chain_id = provider.get_chain_id().await.map_err(at(step))?;
        Ok(Self::At { url: url.clone(), chain_id })
    }

    /// Its JSON-RPC over HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        match self {
            Self::Own(chain) => chain.http_url(),
            Self::At { url, .. } => url.clone(),
        }
    }

    /// Its EIP-155 identifier.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        match self {
            Self::Own(chain) => chain.chain_id(),
            Self::At { chain_id, .. } => *chain_id,
        }
    }

    /// Resolves when a chain of this process makes no more blocks.
    pub async fn stopped(&self) {
        match self {
            Self::Own(chain) => chain.stopped().await,
            Self::At { .. } => std::future::pending().await,
        }
    }

    async fn shutdown(self, step: &'static str) -> Result<(), LocalNetError> {
        match self {
            Self::Own(chain) => chain.shutdown().await.map_err(at(step)),
            Self::At { .. } => Ok(()),
        }
    }
}

/// A running network.
pub struct LocalNet {
    /// L1.
    pub l1: LocalChain,
    /// L2, which carries the contracts.
    pub l2: LocalChain,
    /// Where the contracts are.
    pub deployment: Deployment,
    /// Clients of the contracts.
    pub contracts: Contracts,
    /// The funded development account, which staked for the nodes.
    pub wallet: Wallet,
    /// The account that pays for the API key's session.
    pub client: Wallet,
    /// The account that published the model.
    pub publisher: Wallet,
    /// The router.
    pub router: Router,
    /// The miners.
    pub miners: Vec<LocalMiner>,
    /// The guards.
    pub guards: Vec<LocalGuard>,
    /// A key for the API.
    pub api_key: String,
    /// The session that pays for it.
    pub session: SessionId,
    /// Address of the HTTP API.
    pub address: SocketAddr,
    chain: Arc<dyn ChainView>,
    router_endpoint: Endpoint,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// Tells a person what is going on.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

impl LocalNet {
    /// Starts everything, with one miner for each engine.
    ///
    /// # Errors
    /// Names the step that failed and why.
    pub async fn start(
        config: LocalNetConfig,
        engines: Vec<Arc<dyn Engine>>,
        progress: Progress<'_>,
    ) -> Result<Self, LocalNetError> {
        let first =
            engines.first().ok_or_else(|| LocalNetError { step: "starting", why: "no engine was given".into() })?;
        let model = first.info().manifest.id();
        let keys = Keys::open(config.data.clone(), engines.len(), config.guards).await?;
        progress("starting the chains");
        let (l1, l2) = chains(&config, &keys).await?;
        progress("deploying the contracts");
        let ground = Ground::prepare(&config, &l2.http_url()).await?;
        progress("registering the model, the router and the miners");
        ground.register(&config, &keys, &engines).await?;
        for profile in &config.profiles {
            let registered = register_profile(&ground.contracts, &ground.wallet, profile).await;
            registered.map_err(at("registering a profile"))?;
        }
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let view = Arc::new(ContractsView::new(ground.contracts.clone()));
        let chain: Arc<dyn ChainView> = Arc::new(CachedView::new(view, config.chain_view_lifetime));
        progress("starting the router");
        let router = start_router(&config, &ground.deployment, &chain, &keys.router)?;
        let router_endpoint = endpoint(&keys.router).await?;
        let admission = AdmissionConfig {
            standing_refresh: config.chain_view_lifetime,
            ..AdmissionConfig::new(ground.deployment.chain_id, ground.deployment.registry)
        };
        tracker.spawn(accept_miners(router.clone(), router_endpoint.clone(), admission, stop.child_token()));
        progress("starting the miners");
        let guards = start_guards(&config, &ground, &chain, &keys, &engines, (&stop, &tracker)).await?;
        let linker = Linker {
            deployment: &ground.deployment,
            chain: &chain,
            router: &router_endpoint,
            guards: &guards,
            stop: &stop,
            tracker: &tracker,
        };
        let miners = start_miners(&config, &linker, &keys, engines.clone()).await?;
        for (local, engine) in miners.iter().zip(&engines).filter(|_| config.guards > 0) {
            let wallet = ground.wallet_of(&local.identity).await?;
            declare_class(&ground.contracts, &wallet, &**engine).await.map_err(at("declaring a class"))?;
            let (miner, contracts) = (local.miner.clone(), ground.contracts.clone());
            tracker.spawn(keep_committing(miner, contracts, wallet, config.batches, stop.child_token()));
        }
        progress("opening a session for the API key");
        let (session, api_key) = ground.session(&router, &keys, &config, model).await?;
        let address = serve_http(&config, &router, &stop, &tracker).await?;
        let Ground { deployment, contracts, wallet, client, publisher } = ground;
        let net = Self {
            l1,
            l2,
            deployment,
            contracts,
            wallet,
            client,
            publisher,
            router,
            miners,
            guards,
            api_key,
            session,
            address,
            chain,
            router_endpoint,
            stop,
            tracker,
        };
        net.await_miners().await?;
        Ok(net)
    }

    /// The API's URL, without a path.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts a killed miner again: a new transport endpoint with the same keys, earnings and engine.
    ///
    /// # Errors
    /// When it cannot listen or does not connect in time.
    pub async fn revive(&self, index: usize) -> Result<(), LocalNetError> {
        let local = &self.miners[index];
        let linker = Linker {
            deployment: &self.deployment,
            chain: &self.chain,
            router: &self.router_endpoint,
            guards: &self.guards,
            stop: &self.stop,
            tracker: &self.tracker,
        };
        let (endpoint, stop) = linker.connect(&local.miner, &local.identity).await?;
        *local.endpoint.lock() = endpoint;
        *local.stop.lock() = stop;
        self.await_miners().await
    }

    /// Where miners dial the router.
    #[must_use]
    pub fn router_address(&self) -> Option<NodeAddress> {
        self.router_endpoint.node_address()
    }

    async fn await_miners(&self) -> Result<(), LocalNetError> {
        for _ in 0..200 {
            if self.router.miners() >= self.miners.len() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let why = format!("{} of {} connected within 10 seconds", self.router.miners(), self.miners.len());
        Err(LocalNetError { step: "waiting for the miners", why })
    }

    /// Stops everything in order: no new requests, running ones to their end, then the chains.
    ///
    /// # Errors
    /// When a chain does not close cleanly.
    pub async fn shutdown(self) -> Result<(), LocalNetError> {
        self.stop.cancel();
        self.tracker.close();
        // What does not end by itself within the bound is cut off; everything that was acknowledged is durable.
        if tokio::time::timeout(Duration::from_secs(10), self.tracker.wait()).await.is_err() {
            tracing::warn!("some work did not end within 10 seconds and was cut off");
        }
        for miner in &self.miners {
            let endpoint = miner.endpoint.lock().clone();
            endpoint.close().await;
        }
        for guard in &self.guards {
            guard.endpoint.close().await;
        }
        self.router_endpoint.close().await;
        self.l2.shutdown("stopping L2").await?;
        self.l1.shutdown("stopping L1").await
    }
}

/// The keys of the network's nodes, in keystores under the data folder.
struct Keys {
    router: Identity,
    miners: Vec<Identity>,
    guards: Vec<Identity>,
    data: PathBuf,
}

impl Keys {
    /// Opening keystores is computing, which has no place on the threads that serve.
    async fn open(data: PathBuf, miners: usize, guards: usize) -> Result<Self, LocalNetError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(&data, miners, guards)).await;
        opened.map_err(at("opening the keystores"))?
    }

    fn open_blocking(data: &Path, miners: usize, guards: usize) -> Result<Self, LocalNetError> {
        let folder = data.join("keys");
        std::fs::create_dir_all(&folder).map_err(at("making the data folder"))?;
        let password = keystore::Password::new(DEVELOPMENT_PASSWORD).map_err(at("reading the password"))?;
        let key = |name: String| -> Result<Identity, LocalNetError> {
            let path = folder.join(name);
            let signer = if path.exists() {
                keystore::open(&path, &password)
            } else {
                keystore::create(&path, &password, keystore::Strength::DevelopmentOnly)
            };
            signer.map(Identity::new).map_err(at("opening a keystore"))
        };
        let router = key("router.json".into())?;
        let miners = (1..=miners).map(|index| key(format!("miner-{index}.json"))).collect::<Result<_, _>>()?;
        let guards = (1..=guards).map(|index| key(format!("guard-{index}.json"))).collect::<Result<_, _>>()?;
        Ok(Self { router, miners, guards, data: data.to_owned() })
    }
}

async fn chains(config: &LocalNetConfig, keys: &Keys) -> Result<(LocalChain, LocalChain), LocalNetError> {
    let mut l2 =
        ChainConfig::development(L2_CHAIN_ID).with_directory(config.data.join("l2")).with_listen(config.l2_listen);
    for identity in std::iter::once(&keys.router).chain(&keys.miners).chain(&keys.guards) {
        l2 = l2.with_balance(identity.operator().0, coins(100));
    }
    let l1 = ChainConfig::development(L1_CHAIN_ID).with_directory(config.data.join("l1")).with_listen(config.l1_listen);
    let l1 = LocalChain::start(l1, config.l1_rpc.as_ref(), "starting L1").await?;
    let l2 = LocalChain::start(l2, config.l2_rpc.as_ref(), "starting L2").await?;
    Ok((l1, l2))
}

/// So many of a chain's own coins, in their smallest unit.
fn coins(whole: u64) -> U256 {
    U256::from(whole) * U256::from(10).pow(U256::from(18))
}

async fn endpoint(identity: &Identity) -> Result<Endpoint, LocalNetError> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Endpoint::bind(NetConfig::new(identity.transport_secret(), listen)).await.map_err(at("opening the transport"))
}

fn start_router(
    config: &LocalNetConfig,
    deployment: &Deployment,
    chain: &Arc<dyn ChainView>,
    identity: &Identity,
) -> Result<Router, LocalNetError> {
    let router_config = RouterConfig {
        store: config.data.join("router.redb"),
        domain: deployment.domain(),
        registry: deployment.registry,
        dispatch: config.dispatch.clone(),
        scheduler: cortensor_scheduler::Settings::default(),
        credit: config.credit,
    };
    Router::start(identity.clone(), chain.clone(), router_config).map_err(at("opening the books"))
}

async fn start_miners(
    config: &LocalNetConfig,
    linker: &Linker<'_>,
    keys: &Keys,
    engines: Vec<Arc<dyn Engine>>,
) -> Result<Vec<LocalMiner>, LocalNetError> {
    let mut miners = Vec::new();
    for (identity, engine) in keys.miners.iter().zip(engines) {
        let miner = start_miner(config, linker.deployment, linker.chain, identity, engine)?;
        let (endpoint, stop) = linker.connect(&miner, identity).await?;
        let (endpoint, stop) = (Mutex::new(endpoint), Mutex::new(stop));
        miners.push(LocalMiner { miner, identity: identity.clone(), endpoint, stop });
    }
    Ok(miners)
}

/// Starts the guards, each registered by itself: one that shares an owner with a miner is never drawn for it.
async fn start_guards(
    config: &LocalNetConfig,
    ground: &Ground,
    chain: &Arc<dyn ChainView>,
    keys: &Keys,
    engines: &[Arc<dyn Engine>],
    (stop, tracker): (&CancellationToken, &TaskTracker),
) -> Result<Vec<LocalGuard>, LocalNetError> {
    let mut guards = Vec::new();
    let place = (ground.deployment.chain_id, ground.deployment.registry);
    for identity in &keys.guards {
        let wallet = ground.guard(identity, engines).await?;
        let guard_config = GuardConfig {
            store: config.data.join(format!("guard-{}.redb", identity.operator())),
            domain: ground.deployment.domain(),
            from_block: ground.deployment.block,
            interval: config.guard_interval,
        };
        let contracts = ground.contracts.clone();
        let engines: Vec<Arc<dyn Engine>> = engines.iter().take(1).cloned().collect();
        let guard = Guard::start(identity.clone(), contracts, wallet, engines, config.profiles.clone(), guard_config)
            .map_err(at("opening a guard's store"))?;
        let endpoint = endpoint(identity).await?;
        let (listening, view) = (endpoint.clone(), chain.clone());
        tracker.spawn(guard::accept_miners(guard.clone(), listening, view, place, stop.child_token()));
        tracker.spawn(guard.clone().keep_auditing(stop.child_token()));
        tracker.spawn(guard.clone().keep_judging(stop.child_token()));
        guards.push(LocalGuard { guard, identity: identity.clone(), endpoint });
    }
    Ok(guards)
}

async fn serve_http(
    config: &LocalNetConfig,
    router: &Router,
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<SocketAddr, LocalNetError> {
    let listener = TcpListener::bind(config.listen).await.map_err(at("listening for HTTP"))?;
    let address = listener.local_addr().map_err(at("listening for HTTP"))?;
    let service = Arc::new(router.clone());
    let serving = cortensor_gateway::serve(listener, service, config.gateway.clone(), stop.child_token());
    tracker.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(code = "R-HTTP-001", error = %describe(&error), "the HTTP API stopped");
        }
    });
    Ok(address)
}

/// What connecting a miner takes.
struct Linker<'a> {
    deployment: &'a Deployment,
    chain: &'a Arc<dyn ChainView>,
    router: &'a Endpoint,
    guards: &'a [LocalGuard],
    stop: &'a CancellationToken,
    tracker: &'a TaskTracker,
}

impl Linker<'_> {
    /// Opens a miner's transport and keeps it connected to the router until it is stopped.
    async fn connect(
        &self,
        miner: &Miner,
        identity: &Identity,
    ) -> Result<(Endpoint, CancellationToken), LocalNetError> {
        let endpoint = endpoint(identity).await?;
        let stop = self.stop.child_token();
        let config = LinkConfig {
            recheck: None,
            chain_id: self.deployment.chain_id,
            registry: self.deployment.registry,
            routers: self.router.node_address().into_iter().collect(),
            guards: self.guards.iter().filter_map(|local| local.endpoint.node_address()).collect(),
        };
        let working = work(miner.clone(), identity.clone(), endpoint.clone(), self.chain.clone(), config, stop.clone());
        self.tracker.spawn(working);
        Ok((endpoint, stop))
    }
}

fn start_miner(
    config: &LocalNetConfig,
    deployment: &Deployment,
    chain: &Arc<dyn ChainView>,
    identity: &Identity,
    engine: Arc<dyn Engine>,
) -> Result<Miner, LocalNetError> {
    let miner_config = MinerConfig {
        store: config.data.join(format!("miner-{}.redb", identity.operator())),
        domain: deployment.domain(),
        credit: Wei(Wei::COR.0),
        pay_timeout: Duration::from_secs(5),
        retention: Retention::default(),
    };
    let offering = Offering { engine, price: config.price };
    Miner::start(identity.clone(), chain.clone(), vec![offering], miner_config).map_err(at("opening the earnings"))
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// When the file cannot be written.
pub fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()
}
