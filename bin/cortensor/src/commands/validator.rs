//! `cortensor chain init|run|status`: validators that decide a chain together.

use super::up::stop_signal;
use crate::{
    cli::{ChainInitArgs, ChainRunArgs},
    output,
};
use alloy::primitives::{Address, B256, U256};
use cortensor_chain::{DEVELOPMENT_ADDRESSES, WEI_PER_COIN};
use cortensor_consensus::{
    home::{self, Network, NetworkMembers, Node},
    set::NamedPower,
};
use cortensor_contracts::keystore::{self, Password, PasswordSource, Strength};
use cortensor_net::{NodeAddress, TransportSecret};
use eyre::{Context, bail, eyre};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// All powers together, as the Validators contract has them.
const TOTAL_POWER: u64 = 1_000_000_000;
const COINS_FUNDED: u64 = 10_000;
const GAS_LIMIT: u64 = 120_000_000;

/// A validator whose folder is being written.
pub(crate) struct Member {
    /// What it signs votes with.
    pub(crate) address: Address,
    /// Where its peers reach it.
    pub(crate) peer: NodeAddress,
    /// Where its JSON-RPC server listens.
    pub(crate) rpc: SocketAddr,
    listen: SocketAddr,
}

pub(crate) fn init(arguments: &ChainInitArgs) -> eyre::Result<ExitCode> {
    for (home, member) in write_network(arguments, None)? {
        output::say(format!("{}  {}  JSON-RPC http://{}", home.display(), member.address, member.rpc));
    }
    output::say(
        "Each validator runs with `cortensor chain run --home FOLDER`; more than two thirds are needed for a block.",
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes the folders of a network's validators, and tells where they are. With `permissions` only members may use it, and its
/// nodes can be read from elsewhere.
pub(crate) fn write_network(
    arguments: &ChainInitArgs,
    permissions: Option<NetworkMembers>,
) -> eyre::Result<Vec<(PathBuf, Member)>> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let count = arguments.validators;
    let members = (0..count).map(|index| write_keys(arguments, index)).collect::<eyre::Result<Vec<_>>>()?;
    let network = Network { members: permissions, ..network(arguments, &members)? };
    let peers: Vec<_> = members.iter().map(|member| member.peer.clone()).collect();
    let mut written = Vec::with_capacity(members.len());
    for (index, member) in members.into_iter().enumerate() {
        let home = folder.join(format!("node-{index}"));
        let mut node = Node::new(member.rpc, member.listen, peers.clone());
        node.empty_block_ms = arguments.empty_block_ms;
        if network.members.is_some() && !member.listen.ip().is_loopback() {
            node.rpc = SocketAddr::new(member.listen.ip(), member.rpc.port());
            node.rpc_names = vec![format!("{}:{}", arguments.host, member.rpc.port())];
        }
        home::write(&home.join(home::NETWORK_FILE), &network)?;
        home::write(&home.join(home::NODE_FILE), &node)?;
        written.push((home, member));
    }
    Ok(written)
}

/// Makes the keys of one validator, encrypted under a random password that lies beside them.
fn write_keys(arguments: &ChainInitArgs, index: u16) -> eyre::Result<Member> {
    let home = arguments.folder.join(format!("node-{index}"));
    if home.join(home::NETWORK_FILE).exists() {
        bail!("{} holds a node already", home.display());
    }
    std::fs::create_dir_all(&home).wrap_err_with(|| format!("cannot make {}", home.display()))?;
    let password: B256 = B256::from(rand::random::<[u8; 32]>());
    write_secret(&home.join(home::PASSWORD_FILE), &password.to_string())?;
    let password = Password::new(password.to_string())?;
    // A random password of 256 bits needs no costly derivation.
    let strength = Strength::DevelopmentOnly;
    let signer = keystore::create(&home.join(home::VALIDATOR_KEY_FILE), &password, strength)?;
    let transport = TransportSecret::generate();
    write_secret(&home.join(home::TRANSPORT_KEY_FILE), &B256::from(*transport.to_bytes()).to_string())?;
    let port = |first: u16| first.checked_add(index).ok_or_else(|| eyre!("there are no ports above 65535"));
    let ip: IpAddr = if arguments.host == "127.0.0.1" { [127, 0, 0, 1].into() } else { [0, 0, 0, 0].into() };
    let (rpc, listen) = (port(arguments.rpc_port)?, port(arguments.peer_port)?);
    Ok(Member {
        address: signer.address(),
        peer: NodeAddress::new(transport.public(), &arguments.host, listen)?,
        rpc: SocketAddr::new([127, 0, 0, 1].into(), rpc),
        listen: SocketAddr::new(ip, listen),
    })
}

fn network(arguments: &ChainInitArgs, members: &[Member]) -> eyre::Result<Network> {
    let funded = arguments.fund.iter().copied();
    let test_accounts = DEVELOPMENT_ADDRESSES.into_iter().filter(|_| arguments.fund_test_accounts);
    let balance = WEI_PER_COIN * U256::from(COINS_FUNDED);
    let count = members.len() as u64;
    let power = |index: usize| TOTAL_POWER / count + if index == 0 { TOTAL_POWER % count } else { 0 };
    let named = members.iter().enumerate();
    Ok(Network {
        chain_id: arguments.chain_id,
        timestamp: SystemTime::now().duration_since(UNIX_EPOCH).wrap_err("the clock is before 1970")?.as_secs(),
        gas_limit: GAS_LIMIT,
        validators: named.map(|(index, one)| NamedPower { address: one.address, power: power(index) }).collect(),
        epoch_blocks: arguments.epoch_blocks,
        validators_contract: arguments.validators_contract,
        members: None,
        balances_wei: funded.chain(test_accounts).map(|address| (address, balance)).collect::<BTreeMap<_, _>>(),
    })
}

/// Writes a file that only its owner may read and that must not be there yet.
pub(crate) fn write_secret(path: &Path, text: &str) -> eyre::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.wrap_err_with(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "{text}").wrap_err_with(|| format!("cannot write {}", path.display()))
}

pub(crate) async fn run(arguments: ChainRunArgs) -> eyre::Result<ExitCode> {
    let stop = stop_signal()?;
    let key = if arguments.follow { None } else { validator_key(&arguments.home)? };
    let signs = key.is_some();
    let node = home::start(&arguments.home, key, arguments.new_log).await?;
    let chain = &node.chain;
    if arguments.json {
        output::json(&serde_json::json!({
            "rpc": chain.http_url(), "ws": chain.ws_url(), "chain_id": chain.chain_id(),
            "block": chain.head().number, "validator": signs,
        }))?;
    } else {
        let role = if signs { "a validator" } else { "a follower" };
        output::say(format!("chain {} at block {}, {role}", chain.chain_id(), chain.head().number));
        output::say(format!("  JSON-RPC {}   {}", chain.http_url(), chain.ws_url()));
    }
    tokio::select! {
        () = stop => output::progress("stopping"),
        () = chain.stopped() => output::progress("the chain stopped by itself; see the log above"),
    }
    node.chain.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

/// The validator's key of a folder, opened with the password beside it or, without that, one that a person gives.
pub(crate) fn validator_key(home: &Path) -> eyre::Result<Option<B256>> {
    let path = home.join(home::VALIDATOR_KEY_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let file = home.join(home::PASSWORD_FILE);
    let ask = || rpassword::prompt_password(format!("password of {}: ", path.display()));
    let source = if file.exists() { PasswordSource::File(file) } else { PasswordSource::Prompt(&ask) };
    let signer = keystore::open(&path, &source.get()?)?;
    Ok(Some(signer.to_bytes()))
}

pub(crate) async fn status(home: &Path) -> eyre::Result<ExitCode> {
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    let network: Network = home::read(&home.join(home::NETWORK_FILE))?;
    let call = async |method: &str, params: serde_json::Value| -> eyre::Result<serde_json::Value> {
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = reqwest::Client::new().post(format!("http://{}", node.rpc)).timeout(Duration::from_secs(5));
        let answer = request.header("content-type", "application/json").body(body).send().await;
        let text = answer.wrap_err_with(|| format!("no node answers at {}", node.rpc))?.text().await?;
        Ok(serde_json::from_str::<serde_json::Value>(&text)?["result"].take())
    };
    cortensor_contracts::install_tls();
    let block = call("eth_getBlockByNumber", serde_json::json!(["latest", false])).await?;
    let peers = call("net_peerCount", serde_json::json!([])).await?;
    let certificate = call("cortensor_getCertificate", serde_json::json!([block["number"]])).await?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("0x0").to_owned();
    let number: U256 = text(&block["number"]).parse()?;
    output::say(format!("chain {} at block {number}, {}", network.chain_id, text(&block["hash"])));
    output::say(format!("  peers       {}", text(&peers).parse::<U256>()?));
    if let Some(validators) = certificate["validators"].as_array() {
        let signers: U256 = text(&certificate["signers"]).parse()?;
        let round: U256 = text(&certificate["round"]).parse()?;
        output::say(format!(
            "  decided by  {} of {} validators, round {round}",
            signers.count_ones(),
            validators.len()
        ));
        for (index, (address, power)) in
            validators.iter().zip(certificate["powers"].as_array().into_iter().flatten()).enumerate()
        {
            let mark = if signers.bit(index) { "signed" } else { "absent" };
            output::say(format!("  {}  {mark}  power {}", text(address), text(power).parse::<U256>()?));
        }
    }
    Ok(ExitCode::SUCCESS)
}
