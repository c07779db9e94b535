//! `cortensor l3 create`: everything that a private network begins with.
//!
//! The validators run here once, for as long as it takes to deploy: until its `Members` contract stands the chain takes
//! transactions of its founder only, and the deployment makes founder and validators its first members at once.

use super::{ACCOUNT_FILE, DEPLOYMENT_FILE, Described, HOME_FILE, PASSWORD_FILE, write_account};
use crate::{
    cli::{ChainInitArgs, l3::CreateArgs},
    commands::{
        network::{self, Member},
        validator,
    },
    output,
};
use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use cortensor_chain::RIGHT_SEND;
use cortensor_consensus::home::{self, KeyFrom, Network, NetworkMembers, Node, Running};
use cortensor_contracts::{DeployParameters, Deployment, Members, Newcomer, Wallet, connect_as, deploy};
use cortensor_net::TransportSecret;
use cortensor_node::relay::RELAY_TEMPLATE;
use eyre::{Context, bail, ensure, eyre};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// How long the validators may take to reach one height.
const LEVEL_POLLS_MAX: usize = 600;
const LEVEL_POLL: Duration = Duration::from_millis(100);

/// A validator with its folder.
type Validators = Vec<(PathBuf, Member)>;

pub(super) async fn run(arguments: &CreateArgs) -> eyre::Result<ExitCode> {
    let folder = &arguments.folder;
    if folder.join(HOME_FILE).exists() {
        bail!("{} holds a network already", folder.display());
    }
    std::fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let founder = write_account(folder)?;
    let chain_id = arguments.chain_id.unwrap_or_else(|| u64::from(rand::random::<u32>()).max(2));
    let init = chain_arguments(arguments, chain_id, &founder);
    let members = NetworkMembers { contract: founder.address().create(0), founder: founder.address() };
    let validators = network::write_network(&init, Some(members.clone())).await?;
    let transport = write_own_node(arguments, &validators)?;
    let network = Described {
        name: arguments.name.clone(),
        chain_id,
        members: members.contract,
        rpc: validators.iter().map(|(_, member)| format!("http://{}:{}", arguments.host, member.rpc.port())).collect(),
    };
    output::progress("starting the validators to deploy the contracts");
    let deployment = Box::pin(found(arguments, &validators, &founder, transport)).await?;
    name_validators_contract(folder, &validators, &deployment)?;
    if let Some(parent) = &arguments.parent_rpc {
        write_relay(folder, parent, &network.rpc[0])?;
    }
    home::write(&folder.join(HOME_FILE), &network)?;
    explain(arguments, &network, &validators);
    Ok(ExitCode::SUCCESS)
}

fn chain_arguments(arguments: &CreateArgs, chain_id: u64, founder: &PrivateKeySigner) -> ChainInitArgs {
    ChainInitArgs {
        folder: arguments.folder.clone(),
        validators: arguments.validators,
        chain_id,
        host: arguments.host.clone(),
        rpc_port: arguments.rpc_port,
        peer_port: arguments.peer_port,
        metrics_port: None,
        empty_block_ms: arguments.empty_block_ms,
        fund: vec![founder.address()],
        fund_test_accounts: false,
        founder: None,
        supply: 0,
        public: false,
        // The contracts come with the first transactions, so that all that is ever logged of members is in blocks.
        bare: true,
        validators_contract: None,
        epoch_blocks: arguments.epoch_blocks,
    }
}

/// The founder's folder is that of a node, too, which follows the validators.
fn write_own_node(arguments: &CreateArgs, validators: &Validators) -> eyre::Result<TransportSecret> {
    let port =
        |first: u16| first.checked_add(arguments.validators).ok_or_else(|| eyre!("there are no ports above 65535"));
    let (rpc, listen) = (port(arguments.rpc_port)?, port(arguments.peer_port)?);
    let peers = validators.iter().map(|(_, member)| member.peer.clone()).collect();
    let folder = &arguments.folder;
    let network: Network = home::read(&validators[0].0.join(home::NETWORK_FILE))?;
    let node = Node::new(local(rpc), SocketAddr::from(([0, 0, 0, 0], listen)), peers);
    write_node(folder, &network, &node)
}

pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Writes what a node of a member needs beside its account.
pub(super) fn write_node(folder: &Path, network: &Network, node: &Node) -> eyre::Result<TransportSecret> {
    let transport = TransportSecret::generate();
    let secret = B256::from(*transport.to_bytes()).to_string();
    network::write_secret(&folder.join(home::TRANSPORT_KEY_FILE), &secret)?;
    home::write(&folder.join(home::NETWORK_FILE), network)?;
    home::write(&folder.join(home::NODE_FILE), node)?;
    Ok(transport)
}

/// Runs the validators for as long as the founder deploys.
async fn found(
    arguments: &CreateArgs,
    validators: &Validators,
    founder: &PrivateKeySigner,
    transport: TransportSecret,
) -> eyre::Result<Deployment> {
    let mut running = Vec::with_capacity(validators.len());
    for (folder, _) in validators {
        let key = validator::validator_key(folder)?.as_ref().map(PrivateKeySigner::to_bytes);
        running.push(home::start(folder, key.map_or(KeyFrom::Nobody, KeyFrom::Key), false).await?);
    }
    let provider = connect_as(&running[0].chain.http_url(), founder).await?;
    let wallet = Wallet::new(provider, founder.clone()).await?;
    let mut first = vec![Newcomer { account: founder.address(), rights: u32::MAX, transport_key: transport.public() }];
    first.extend(validators.iter().filter_map(|(_, member)| {
        member.address.map(|account| Newcomer { account, rights: RIGHT_SEND, transport_key: member.peer.key() })
    }));
    let members = Members::deploy(&wallet, &first).await?;
    let network: Network = home::read(&validators[0].0.join(home::NETWORK_FILE))?;
    let deployment = deploy(&wallet, &parameters(arguments, &network, founder)?).await?;
    let deployment = Deployment { members: Some(members.address()), ..deployment };
    deployment.verify(wallet.provider()).await?;
    level(&running).await?;
    for node in running {
        node.chain.shutdown().await?;
    }
    Ok(deployment)
}

/// What the contracts are made with. The first set of validators is the network's, whatever the file says.
fn parameters(arguments: &CreateArgs, network: &Network, founder: &PrivateKeySigner) -> eyre::Result<DeployParameters> {
    let mut parameters: DeployParameters = match &arguments.parameters {
        Some(path) => home::read(path)?,
        None => DeployParameters::development(founder.address()),
    };
    parameters.validators.bootstrap = Some(network.first_set()?);
    parameters.validators.epoch_length_blocks = arguments.epoch_blocks;
    Ok(parameters)
}

/// Waits until all validators have one head, so that none is left behind when they stop.
async fn level(running: &[Running]) -> eyre::Result<()> {
    for _ in 0..LEVEL_POLLS_MAX {
        let heads: Vec<u64> = running.iter().map(|node| node.chain.head().number).collect();
        if heads.iter().all(|head| *head + 1 >= heads[0]) {
            return Ok(());
        }
        tokio::time::sleep(LEVEL_POLL).await;
    }
    bail!("the validators do not come to one height")
}

/// From the next start on, powers come from the contract, on all nodes at once, and validators do their duties there.
fn name_validators_contract(folder: &Path, validators: &Validators, deployment: &Deployment) -> eyre::Result<()> {
    let folders = validators.iter().map(|(folder, _)| folder.as_path()).chain([folder]);
    for folder in folders {
        deployment.save(&folder.join(DEPLOYMENT_FILE))?;
        let path = folder.join(home::NETWORK_FILE);
        let network: Network = home::read(&path)?;
        home::write(&path, &Network { validators_contract: Some(deployment.validators), ..network })?;
    }
    Ok(())
}

/// A relayer that pays on both chains with the founder's account and carries checkpoints only.
fn write_relay(folder: &Path, parent: &str, own: &str) -> eyre::Result<()> {
    let password = format!("password_file = \"{PASSWORD_FILE}\"");
    let lower = format!("{ACCOUNT_FILE}\"\n{password}");
    let changes = [
        ("http://127.0.0.1:8545", parent),
        ("http://127.0.0.1:8546", own),
        ("upper-key.json", ACCOUNT_FILE),
        ("# password_file = \"upper.password\"", password.as_str()),
        ("lower-key.json\"", lower.as_str()),
        ("claim = true", "claim = false"),
    ];
    let mut text = RELAY_TEMPLATE.to_owned();
    for (from, to) in changes {
        ensure!(text.contains(from), "the relayer's template has no {from}");
        text = text.replacen(from, to, 1);
    }
    let path = folder.join("relay.toml");
    std::fs::write(&path, text).wrap_err_with(|| format!("cannot write {}", path.display()))
}

fn explain(arguments: &CreateArgs, network: &Described, validators: &Validators) {
    let folder = arguments.folder.display();
    output::say(format!("{} is written: chain {}, {} validators", network.name, network.chain_id, validators.len()));
    output::say("Run each validator, on this machine or where you move its folder:");
    for (home, _) in validators {
        output::say(format!("  cortensor chain run --home {}", home.display()));
    }
    output::say("Then, with the founder's folder:");
    output::say(format!("  cortensor l3 invite --home {folder} --out invitation.json"));
    output::say(format!("  cortensor l3 token --home {folder}      # for other programs: Authorization: Bearer …"));
    if arguments.parent_rpc.is_some() {
        output::say(format!("  cd {folder} && cortensor relay deploy|run --config relay.toml"));
    }
    output::say("Whoever has the founder's folder decides who belongs: keep it and account.password apart.");
}
