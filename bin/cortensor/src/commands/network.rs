//! `cortensor chain init|join`: the folders of a network's nodes.
//!
//! A network is `network.json`, equal on all nodes, with the contracts in block 0; where they stand is `deployment.json`.

use super::{validator::DEPLOYMENT_FILE, wallet::open_keystore};
use crate::{
    cli::{ChainInitArgs, ChainJoinArgs},
    output,
};
use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
};
use cortensor_chain::{DEVELOPMENT_ADDRESSES, GenesisAccount, WEI_PER_COIN};
use cortensor_consensus::home::{self, Network, NetworkMembers, Node};
use cortensor_contracts::{
    DeployParameters, Deployment,
    keystore::{self, Password, Strength},
};
use cortensor_net::{NodeAddress, TransportSecret};
use cortensor_node::founding::{Founding, found};
use cortensor_protocol::{Wei, consensus::ValidatorSet};
use eyre::{Context, bail, eyre};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Coins of the founder and of accounts that are to be funded.
const COINS_FUNDED: u64 = 10_000;
/// Coins of each first validator, for gas.
const COINS_FOR_GAS: u64 = 100;
const GAS_LIMIT: u64 = 120_000_000;
/// The founder's key and its password, where none is named.
const FOUNDER_KEY_FILE: &str = "founder.key.json";
const FOUNDER_PASSWORD_FILE: &str = "founder.password";

/// A node whose folder is being written.
pub(crate) struct Member {
    /// The validator's; none for a follower.
    pub(crate) address: Option<Address>,
    /// Where its peers reach it.
    pub(crate) peer: NodeAddress,
    /// Where its JSON-RPC server listens.
    pub(crate) rpc: SocketAddr,
    listen: SocketAddr,
}

/// Where a node is to be reached.
struct Place<'a> {
    host: &'a str,
    rpc_port: u16,
    peer_port: u16,
}

pub(crate) async fn init(arguments: ChainInitArgs) -> eyre::Result<ExitCode> {
    for (home, member) in write_network(&arguments, None).await? {
        let address = member.address.map(|address| address.to_string()).unwrap_or_default();
        output::say(format!("{}  {address}  JSON-RPC http://{}", home.display(), member.rpc));
    }
    if !arguments.bare && arguments.founder.is_none() {
        let key = arguments.folder.join(FOUNDER_KEY_FILE);
        output::say(format!("{} owns the contracts and the first COR: keep it and its password safe", key.display()));
    }
    output::say(
        "Each validator runs with `cortensor chain run --home FOLDER`; more than two thirds are needed for a block.",
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn join(arguments: &ChainJoinArgs) -> eyre::Result<ExitCode> {
    let (home, member) = (arguments.home.display(), write_joined(arguments)?);
    output::say(format!("{home}  {}  JSON-RPC http://{}", member.peer, member.rpc));
    if let Some(address) = member.address {
        output::say(format!(
            "{address} signs nothing before it has power: start it with `cortensor chain run --home {home}`, then `cortensor chain validator add`"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the folder of one more node.
pub(crate) fn write_joined(arguments: &ChainJoinArgs) -> eyre::Result<Member> {
    let network: Network = home::read(&arguments.network.join(home::NETWORK_FILE))?;
    let model: Node = home::read(&arguments.network.join(home::NODE_FILE))?;
    let deployment = Deployment::load(&arguments.network.join(DEPLOYMENT_FILE))?;
    let place = Place { host: &arguments.host, rpc_port: arguments.rpc_port, peer_port: arguments.peer_port };
    let member = write_keys(&arguments.home, &place, !arguments.follow)?;
    let mut peers = model.peers;
    peers.push(member.peer.clone());
    let node = Node { rpc: member.rpc, listen: member.listen, peers, signer: None, metrics: None, ..model };
    write_home(&arguments.home, &network, &node, deployment.as_ref())?;
    Ok(member)
}

/// Writes the folders of a network's validators, and tells where they are. With `permissions` only members may use it, and its
/// nodes can be read from elsewhere.
pub(crate) async fn write_network(
    arguments: &ChainInitArgs,
    permissions: Option<NetworkMembers>,
) -> eyre::Result<Vec<(PathBuf, Member)>> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let mut members = Vec::new();
    for index in 0..arguments.validators {
        let port = |first: u16| first.checked_add(index).ok_or_else(|| eyre!("there are no ports above 65535"));
        let (rpc_port, peer_port) = (port(arguments.rpc_port)?, port(arguments.peer_port)?);
        let home = folder.join(format!("node-{index}"));
        let member = write_keys(&home, &Place { host: &arguments.host, rpc_port, peer_port }, true)?;
        members.push((home, member));
    }
    let keys: Vec<_> = members.iter().filter_map(|(_, member)| member.address).collect();
    let set = ValidatorSet::equal(&keys)?;
    let founding = if arguments.bare { None } else { Some(founding(arguments, &set).await?) };
    let network = Network { members: permissions, ..network(arguments, &set, founding.as_ref())? };
    let peers: Vec<_> = members.iter().map(|(_, member)| member.peer.clone()).collect();
    for (home, member) in &members {
        let mut node = Node::new(member.rpc, member.listen, peers.clone());
        node.empty_block_ms = arguments.empty_block_ms;
        if network.members.is_some() && !member.listen.ip().is_loopback() {
            node.rpc = SocketAddr::new(member.listen.ip(), member.rpc.port());
            node.rpc_names = vec![format!("{}:{}", arguments.host, member.rpc.port())];
        }
        let from_first = member.rpc.port() - arguments.rpc_port;
        let port = arguments.metrics_port.and_then(|first| first.checked_add(from_first));
        node.metrics = port.map(|port| SocketAddr::new([127, 0, 0, 1].into(), port));
        write_home(home, &network, &node, founding.as_ref().map(|founding| &founding.deployment))?;
    }
    Ok(members)
}

fn write_home(home: &Path, network: &Network, node: &Node, deployment: Option<&Deployment>) -> eyre::Result<()> {
    home::write(&home.join(home::NETWORK_FILE), network)?;
    home::write(&home.join(home::NODE_FILE), node)?;
    if let Some(deployment) = deployment {
        deployment.save(&home.join(DEPLOYMENT_FILE))?;
    }
    Ok(())
}

/// The contracts of block 0, and the founder's coins.
async fn founding(arguments: &ChainInitArgs, set: &ValidatorSet) -> eyre::Result<Founding> {
    let founder = founder(arguments).await?;
    let account = founder.address();
    let mut parameters =
        if arguments.public { DeployParameters::public(account) } else { DeployParameters::development(account) };
    parameters.initial_supply = Wei(u128::from(arguments.supply) * Wei::COR.0);
    parameters.validators.epoch_length_blocks = arguments.epoch_blocks;
    parameters.validators.bootstrap = Some(set.clone());
    let mut founding = found(arguments.chain_id, founder, &parameters).await?;
    let coins = U256::from(COINS_FUNDED) * WEI_PER_COIN;
    founding.accounts.entry(account).or_default().balance_wei = coins;
    Ok(founding)
}

async fn founder(arguments: &ChainInitArgs) -> eyre::Result<PrivateKeySigner> {
    match &arguments.founder {
        Some(path) => open_keystore(path).await,
        None => write_key(&arguments.folder, FOUNDER_KEY_FILE, FOUNDER_PASSWORD_FILE),
    }
}

/// Makes the keys of one node.
fn write_keys(home: &Path, place: &Place<'_>, validates: bool) -> eyre::Result<Member> {
    if home.join(home::NETWORK_FILE).exists() {
        bail!("{} holds a node already", home.display());
    }
    std::fs::create_dir_all(home).wrap_err_with(|| format!("cannot make {}", home.display()))?;
    let signer = match validates {
        true => Some(write_key(home, home::VALIDATOR_KEY_FILE, home::PASSWORD_FILE)?),
        false => None,
    };
    let transport = TransportSecret::generate();
    write_secret(&home.join(home::TRANSPORT_KEY_FILE), &B256::from(*transport.to_bytes()).to_string())?;
    let ip: IpAddr = if place.host == "127.0.0.1" { [127, 0, 0, 1].into() } else { [0, 0, 0, 0].into() };
    Ok(Member {
        address: signer.map(|signer| signer.address()),
        peer: NodeAddress::new(transport.public(), place.host, place.peer_port)?,
        rpc: SocketAddr::new([127, 0, 0, 1].into(), place.rpc_port),
        listen: SocketAddr::new(ip, place.peer_port),
    })
}

/// Makes a key, encrypted under a random password that lies beside it.
fn write_key(folder: &Path, key: &str, password_file: &str) -> eyre::Result<PrivateKeySigner> {
    let password: B256 = B256::from(rand::random::<[u8; 32]>());
    write_secret(&folder.join(password_file), &password.to_string())?;
    let password = Password::new(password.to_string())?;
    // A random password of 256 bits needs no costly derivation.
    Ok(keystore::create(&folder.join(key), &password, Strength::DevelopmentOnly)?)
}

fn network(arguments: &ChainInitArgs, set: &ValidatorSet, founding: Option<&Founding>) -> eyre::Result<Network> {
    let coins = |count: u64| U256::from(count) * WEI_PER_COIN;
    let test_accounts = DEVELOPMENT_ADDRESSES.into_iter().filter(|_| arguments.fund_test_accounts);
    let funded = arguments.fund.iter().copied().chain(test_accounts).map(|address| (address, coins(COINS_FUNDED)));
    let validators = set.validators().iter().map(|member| (member.address, coins(COINS_FOR_GAS)));
    let accounts: BTreeMap<Address, GenesisAccount> =
        founding.map(|founding| founding.accounts.clone()).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).wrap_err("the clock is before 1970")?.as_secs();
    Ok(Network {
        chain_id: arguments.chain_id,
        timestamp: founding.map_or(now, |founding| founding.timestamp),
        gas_limit: GAS_LIMIT,
        validators: set.validators().to_vec(),
        epoch_blocks: arguments.epoch_blocks.into(),
        validators_contract: founding.map(|founding| founding.deployment.validators).or(arguments.validators_contract),
        accounts,
        members: None,
        balances_wei: validators.chain(funded).collect(),
        upgrades: Vec::new(),
    })
}

/// Writes a file that only its owner may read and that must not be there yet.
pub(crate) fn write_secret(path: &Path, text: &str) -> eyre::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.wrap_err_with(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "{text}").wrap_err_with(|| format!("cannot write {}", path.display()))
}
