//! `cortensor l3 invite|join`: from a file to a membership.
//!
//! An invitation holds the key of a one-time account with a few coins. Whoever has it can send one thing: that an account
//! of its own joins, which takes the coins over.

use super::{DEPLOYMENT_FILE, Described, HOME_FILE, Home, any_of, create, write_account};
use crate::{
    cli::l3::{InviteArgs, JoinArgs},
    commands::network::write_secret,
    output,
};
use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, TxKind, U256, hex},
    providers::Provider as _,
    rpc::types::TransactionReceipt,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolCall as _,
};
use cortensor_chain::{RIGHT_SEND, WEI_PER_COIN};
use cortensor_consensus::home::{self, Network, Node};
use cortensor_contracts::{Deployment, join_call};
use cortensor_net::{NodeAddress, TransportSecret};
use eyre::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, process::ExitCode};

/// Gas of a joining.
const JOIN_GAS: u64 = 500_000;
/// Most that is paid for a unit of it.
const JOIN_FEE_WEI: u128 = 20_000_000_000;
const DAY_SECONDS: u64 = 24 * 3600;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    /// The network, as its members know it.
    network: Described,
    /// Its block 0.
    chain: Network,
    /// Its contracts.
    deployment: Deployment,
    /// The nodes to connect to.
    peers: Vec<NodeAddress>,
    /// Coins of the one-time account, in wei.
    coins_wei: U256,
    /// The key of the one-time account: who has it can join.
    key: B256,
}

pub(super) async fn invite(arguments: &InviteArgs) -> eyre::Result<ExitCode> {
    let home = Home::open(&arguments.home)?;
    let wallet = home.wallet().await?;
    let node: Node = home::read(&home.folder.join(home::NODE_FILE))?;
    let once = PrivateKeySigner::random();
    let invitation = Invitation {
        network: home.network.clone(),
        chain: home::read(&home.folder.join(home::NETWORK_FILE))?,
        deployment: home.deployment()?,
        peers: node.peers,
        coins_wei: WEI_PER_COIN * U256::from(arguments.coins),
        key: once.to_bytes(),
    };
    // First the file: what is lost then is an invitation that nobody knows of.
    write_secret(&arguments.out, &serde_json::to_string_pretty(&invitation)?)?;
    wallet.send_native(once.address(), invitation.coins_wei).await?;
    let rights = if arguments.read_only { 0 } else { RIGHT_SEND };
    let lifetime = arguments.days * DAY_SECONDS;
    home.members(wallet.provider()).invite(&wallet, once.address(), rights, lifetime).await?;
    output::say(format!(
        "{} is written: whoever has it can join {} once, within {} days",
        arguments.out.display(),
        home.network.name,
        arguments.days
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn join(arguments: &JoinArgs) -> eyre::Result<ExitCode> {
    let invitation: Invitation = home::read(&arguments.invitation)?;
    let folder = &arguments.folder;
    if folder.join(HOME_FILE).exists() {
        bail!("{} holds a member already", folder.display());
    }
    std::fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let account = write_account(folder)?;
    let listen = SocketAddr::from(([0, 0, 0, 0], arguments.peer_port));
    let node = Node::new(create::local(arguments.rpc_port), listen, invitation.peers.clone());
    let transport = create::write_node(folder, &invitation.chain, node)?;
    invitation.deployment.save(&folder.join(DEPLOYMENT_FILE))?;
    take_up(&invitation, &account, &transport).await?;
    let mut network = invitation.network;
    network.rpc.insert(0, format!("http://127.0.0.1:{}", arguments.rpc_port));
    home::write(&folder.join(HOME_FILE), &network)?;
    let shown = folder.display();
    output::say(format!("{} is a member of {}", account.address(), network.name));
    output::say(format!("  cortensor chain run --home {shown}      # a node of its own"));
    output::say(format!("  cortensor l3 token --home {shown}       # for other programs"));
    Ok(ExitCode::SUCCESS)
}

/// Sends the one thing that whoever is invited may send.
async fn take_up(invitation: &Invitation, account: &PrivateKeySigner, transport: &TransportSecret) -> eyre::Result<()> {
    let once = PrivateKeySigner::from_bytes(&invitation.key).wrap_err("the invitation holds no key")?;
    let provider = any_of(&invitation.network.rpc, &once)
        .await
        .wrap_err("the invitation does not count (used, taken back, or too old), or no node answers")?;
    let signed = joining(invitation, &once, account, transport)?;
    let encoded = hex::encode_prefixed(signed.encoded_2718());
    let receipt: TransactionReceipt = provider
        .raw_request("eth_sendRawTransactionSync".into(), [encoded])
        .await
        .wrap_err("the network did not take the joining")?;
    ensure!(receipt.status(), "the invitation was refused in block {:?}", receipt.block_number);
    Ok(())
}

fn joining(
    invitation: &Invitation,
    once: &PrivateKeySigner,
    account: &PrivateKeySigner,
    transport: &TransportSecret,
) -> eyre::Result<TxEnvelope> {
    let contract: Address = invitation.network.members;
    let chain_id = invitation.network.chain_id;
    let call = join_call(contract, chain_id, once.address(), account, transport.public());
    let cost = U256::from(JOIN_GAS) * U256::from(JOIN_FEE_WEI);
    let transaction = TxEip1559 {
        chain_id,
        nonce: 0,
        gas_limit: JOIN_GAS,
        max_fee_per_gas: JOIN_FEE_WEI,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(contract),
        value: invitation.coins_wei.saturating_sub(cost),
        input: call.abi_encode().into(),
        ..TxEip1559::default()
    };
    let signature = once.sign_hash_sync(&transaction.signature_hash())?;
    Ok(transaction.into_signed(signature).into())
}
