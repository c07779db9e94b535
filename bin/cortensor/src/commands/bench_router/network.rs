//! The full path as processes of its own: a chain with the contracts, a router, and a miner on the bench's upstream.

use super::{
    super::bench_upstream::MODEL,
    load::Place,
    process::{Process, run},
};
use alloy::{
    primitives::{Address, U256},
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use cortensor_chain::DEVELOPMENT_KEYS;
use cortensor_contracts::{
    Deployment, Wallet, connect,
    keystore::{self, Password, Strength},
};
use cortensor_protocol::Wei;
use eyre::{Context, bail, ensure, eyre};
use std::{
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

/// Guards keys of a network that lives as long as the benchmark.
const PASSWORD: &str = "bench";
/// What a node is given: more than its stake and its session.
const FUNDS_COR: u128 = 100_000;

/// The running network.
pub(super) struct Network {
    pub(super) chain: Process,
    pub(super) router: Process,
    pub(super) miner: Process,
    pub(super) place: Place,
    folder: PathBuf,
}

/// Where the nodes find their chain.
struct Site<'a> {
    folder: &'a Path,
    rpc: String,
    deployment: PathBuf,
}

impl Network {
    /// Starts it on an upstream; what it writes goes under `folder`.
    pub(super) async fn start(folder: &Path, upstream: &str, connections: u32) -> eyre::Result<Self> {
        let arguments = ["chain", "--data", "chain", "--listen", "127.0.0.1:0", "--json"];
        let (chain, ready) = Process::daemon(folder, PASSWORD, &arguments).await?;
        let rpc = text(&ready, "rpc")?;
        run(folder, PASSWORD, &["deploy", "--rpc", &rpc, "--out", "deployment.json", "--json"]).await?;
        let site = Site { folder, rpc, deployment: folder.join("deployment.json") };
        let (router, ready) = site.router().await?;
        let api = text(&ready, "api_url")?;
        let key_file = text(&ready, "api_key_file")?;
        let key = std::fs::read_to_string(&key_file).wrap_err(key_file)?.trim().to_owned();
        let miner = site.miner(&text(&ready, "address")?, upstream, connections).await?;
        let address = api.strip_prefix("http://").unwrap_or(&api).parse().wrap_err("the router's address")?;
        let network =
            Self { chain, router, miner, place: Place { address, key: Some(key) }, folder: folder.to_owned() };
        network.await_model(&api).await?;
        Ok(network)
    }

    /// Waits until the router has the miner.
    async fn await_model(&self, api: &str) -> eyre::Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        for _ in 0..300 {
            let models =
                http.get(format!("{api}/v1/models")).bearer_auth(self.place.key.as_deref().unwrap_or_default());
            if models.send().await?.text().await?.contains(&format!("\"{MODEL}\"")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the miner did not come to the router within 30 seconds; see {}", self.folder.display())
    }

    pub(super) async fn stop(self) -> eyre::Result<()> {
        self.miner.stop().await?;
        self.router.stop().await?;
        self.chain.stop().await
    }
}

impl Site<'_> {
    /// The part of a configuration that all nodes have, with a funded key.
    async fn node(&self, name: &str, listen: SocketAddr, stake: u64) -> eyre::Result<String> {
        let keystore = self.folder.join(format!("{name}-key.json"));
        let key = keystore::create(&keystore, &Password::new(PASSWORD)?, Strength::DevelopmentOnly)?;
        self.fund(key.address()).await?;
        let data = self.folder.join(format!("{name}-data"));
        Ok(format!(
            "[chain]\nrpc = {:?}\ndeployment = {:?}\n[node]\nkeystore = {keystore:?}\ndata = {data:?}\nlisten = \"{listen}\"\nstake_cor = {stake}\n",
            self.rpc, self.deployment
        ))
    }

    async fn fund(&self, account: Address) -> eyre::Result<()> {
        let provider = connect(&self.rpc).await?;
        let wallet = Wallet::new(provider.clone(), PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0])?).await?;
        let deployment = Deployment::load(&self.deployment)?.ok_or_else(|| eyre!("there is no deployment"))?;
        let token = deployment.contracts(&provider).token;
        token.transfer(&wallet, account, Wei(FUNDS_COR * Wei::COR.0)).await?;
        // Coins for gas: ten of them.
        let coins = TransactionRequest::default().to(account).value(U256::from(10u128 * Wei::COR.0));
        let sender = ProviderBuilder::new().wallet(wallet.signer().clone()).connect_provider(provider);
        let receipt = sender.send_transaction(coins).await?.get_receipt().await?;
        ensure!(receipt.status(), "a node could not be given coins for gas");
        Ok(())
    }

    async fn register(&self, kind: &str, config: &Path) -> eyre::Result<()> {
        let arguments = [kind.as_ref(), "--config".as_ref(), config.as_os_str(), "--register".as_ref()];
        run(self.folder, PASSWORD, &arguments).await.map(drop)
    }

    async fn serve(&self, kind: &str, config: &Path) -> eyre::Result<(Process, serde_json::Value)> {
        let arguments = [kind.as_ref(), "--config".as_ref(), config.as_os_str(), "--json".as_ref()];
        Process::daemon(self.folder, PASSWORD, &arguments).await
    }

    async fn router(&self) -> eyre::Result<(Process, serde_json::Value)> {
        // The transport's port must be known to the miner: one that is free now.
        let listen = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let node = self.node("router", listen, 10_000).await?;
        let path = self.folder.join("router.toml");
        let own = "[router]\nhttp = \"127.0.0.1:0\"\nsession_deposit_cor = 50000\nsession_max_price_cor = 10\n";
        std::fs::write(&path, node + own)?;
        self.register("router", &path).await?;
        self.serve("router", &path).await
    }

    async fn miner(&self, router: &str, upstream: &str, connections: u32) -> eyre::Result<Process> {
        let node = self.node("miner", SocketAddr::from(([127, 0, 0, 1], 0)), 1_000).await?;
        let path = self.folder.join("miner.toml");
        let own = format!(
            "[miner]\nrouters = [{router:?}]\n[[miner.model]]\nbackend = {{ kind = \"openai\", url = \"{upstream}/v1\", model = {MODEL:?}, slots = {connections} }}\ninput_price_cor = \"0.5\"\noutput_price_cor = \"2\"\n"
        );
        std::fs::write(&path, node + &own)?;
        self.register("miner", &path).await?;
        Ok(self.serve("miner", &path).await?.0)
    }
}

fn text(ready: &serde_json::Value, field: &str) -> eyre::Result<String> {
    let text = ready.get(field).and_then(serde_json::Value::as_str);
    text.map(ToOwned::to_owned).ok_or_else(|| eyre!("a process said nothing of its {field}: {ready}"))
}
