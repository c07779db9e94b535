//! A chain of four validators that settles on anvil: everything as processes, set up by the commands that operators use.

use crate::{
    anvil::Anvil,
    network::{CHAIN_ID, Daemon, Network, Node, cortensor, provider, start, until},
};
use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256},
    providers::Provider as _,
    rpc::types::Filter,
    signers::local::PrivateKeySigner,
    sol_types::{SolCall as _, SolEvent as _},
};
use cortensor_chain::{DEVELOPMENT_ADDRESSES, DEVELOPMENT_KEYS};
use cortensor_contracts::{
    BlockRange, Deployment, Provider, Token, Wallet,
    bindings::checkpoints::Checkpoints as sol,
    keystore::{self, Password, Strength},
    lanes::{Checkpoints, Messages, Settlement},
};
use cortensor_protocol::Wei;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const EPOCH_BLOCKS: u32 = 40;
const BLOCK_MS: u32 = 50;
const STRIDE: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "a password of a test";

const fn cor(amount: u128) -> Wei {
    Wei(amount * Wei::COR.0)
}

async fn wallet(provider: &Provider, index: usize) -> Wallet {
    Wallet::new(provider.clone(), PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[index]).unwrap()).await.unwrap()
}

/// The files of one relayer.
struct Relayer {
    config: PathBuf,
    log: PathBuf,
}

impl Relayer {
    /// Pays with a development account, or below with the one of a keystore; attests as the validator of a folder.
    fn write(network: &Network, upper: &str, index: usize, lower: Option<(&Path, &Path)>, claim: bool) -> Self {
        let folder = network.folder.path();
        let (own, password) = (folder.join(format!("payer-{index}.json")), folder.join("payers.password"));
        std::fs::write(&password, PASSWORD).unwrap();
        if !own.exists() {
            let signer = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[index]).unwrap();
            let secret = Password::new(PASSWORD.to_owned()).unwrap();
            keystore::import(&own, &signer, &secret, Strength::DevelopmentOnly).unwrap();
        }
        let (lower_key, lower_password) = lower.unwrap_or((&own, &password));
        let home = &network.nodes[index % 4].home;
        let text = format!(
            "settlement = {:?}\ndeployment = {:?}\n\
             [upper]\nrpc = {upper:?}\nkeystore = {own:?}\npassword_file = {password:?}\n\
             [lower]\nrpc = {:?}\nkeystore = {lower_key:?}\npassword_file = {lower_password:?}\n\
             [relay]\ninterval_seconds = 1\nclaim = {claim}\nadvance = false\n\
             finality = {{ confirmations = 0 }}\nstride_blocks = {STRIDE}\n\
             [attest]\nkeystore = {:?}\npassword_file = {:?}\n\
             [aggregate]\nshares = {:?}\nprefer = \"always\"\nrepaid_within = 0\n",
            folder.join("settlement.json"),
            home.join("deployment.json"),
            rpc_of(&network.nodes[index % 4]),
            home.join("validator.key.json"),
            home.join("validator.password"),
            network.nodes.iter().map(rpc_of).collect::<Vec<_>>(),
        );
        let config = folder.join(format!("relay-{index}-{claim}.toml"));
        std::fs::write(&config, text).unwrap();
        Self { config, log: folder.join(format!("relay-{index}.log")) }
    }

    fn run(&self) -> Daemon {
        start(&["relay", "run", "--config", self.config.to_str().unwrap()], &self.log)
    }
}

fn rpc_of(node: &Node) -> String {
    let text = std::fs::read_to_string(node.home.join("node.json")).unwrap();
    let node: serde_json::Value = serde_json::from_str(&text).unwrap();
    format!("http://{}", node["rpc"].as_str().unwrap())
}

/// Every validator registers its BLS key above.
fn register_keys(network: &Network, anvil: &Anvil) {
    let folder = network.folder.path();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (settlement, payer) = (path("settlement.json"), path("payer-1.json"));
    for node in &network.nodes {
        let arguments = ["chain", "validator", "key", "--home", node.home.to_str().unwrap(), "--rpc", anvil.url()];
        let arguments = [&arguments[..], &["--settlement", &settlement, "--payer", &payer]].concat();
        let said = cortensor(&arguments, Some(&folder.join("payers.password")));
        assert!(said.contains(&node.key().to_string()), "{said}");
    }
}

/// How many checkpoints came with one signature for all.
async fn aggregated(upper: &Provider, checkpoints: Address) -> usize {
    let filter = Filter::new().address(checkpoints).event_signature(sol::CheckpointAccepted::SIGNATURE_HASH);
    let mut count = 0;
    for log in upper.get_logs(&filter.from_block(0)).await.unwrap() {
        let sent = upper.get_transaction_by_hash(log.transaction_hash.unwrap()).await.unwrap().unwrap();
        count += usize::from(sent.input().starts_with(&sol::submitAggregatedCall::SELECTOR));
    }
    count
}

/// Ends the stride of the upper chain's blocks, so that there is a block to attest.
async fn end_stride(upper: &Provider) {
    let head = upper.get_block_number().await.unwrap();
    for _ in 0..(STRIDE - head % STRIDE) % STRIDE {
        let _: serde_json::Value = upper.raw_request("evm_mine".into(), ()).await.unwrap();
    }
}

/// Both ends, deployed by commands.
async fn set_up(network: &Network, anvil: &Anvil) -> (Settlement, Token) {
    let folder = network.folder.path();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (template, upper_file) = (path("template.toml"), path("upper.json"));
    cortensor(&["relay", "init", "--config", &template], None);
    cortensor(&["deploy", "--rpc", anvil.url(), "--out", &upper_file], None);
    let upper = Deployment::load(Path::new(&upper_file)).unwrap().unwrap();
    let founder = (folder.join("founder.key.json"), folder.join("founder.password"));
    let relayer = Relayer::write(network, anvil.url(), 0, Some((&founder.0, &founder.1)), true);
    let (token, governance) = (upper.token.to_string(), DEVELOPMENT_ADDRESSES[0].to_string());
    let config = relayer.config.to_str().unwrap();
    cortensor(&["relay", "deploy", "--config", config, "--token", &token, "--governance", &governance], None);
    let settlement = Settlement::load(&folder.join("settlement.json")).unwrap().unwrap();
    (settlement, Token::new(provider(anvil.url()).await, upper.token))
}

/// A fifth validator with stake that came over the bridge.
async fn add_validator(network: &mut Network, staker: &Wallet, password: &Path) -> Address {
    let fifth = network.join().await;
    network.nodes[fifth].start();
    let keystore = network.folder.path().join("staker.json");
    let secret = Password::new(PASSWORD.to_owned()).unwrap();
    keystore::import(&keystore, staker.signer(), &secret, Strength::DevelopmentOnly).unwrap();
    let head = network.nodes[0].height().await;
    let node = &network.nodes[fifth];
    until("the fifth has caught up", PATIENCE, || async { (node.height().await >= head).then_some(()) }).await;
    let (home, keystore) = (node.home.to_str().unwrap(), keystore.to_str().unwrap());
    let arguments = ["chain", "validator", "add", "--stake", "300000", "--home", home, "--operator", keystore];
    cortensor(&arguments, Some(password));
    node.key()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_cross_and_get_out_when_all_validators_are_dead() {
    let anvil = Anvil::start().await;
    let mut network = Network::init_with(4, EPOCH_BLOCKS, BLOCK_MS, &["--supply", "0"]).await;
    network.start_all();
    let upper = provider(anvil.url()).await;
    let (settlement, upper_token) = set_up(&network, &anvil).await;
    let lower = network.nodes[0].provider.clone();
    let lower_token = network.nodes[0].contracts.token.clone();
    let relays: Vec<_> = (1..4).map(|index| Relayer::write(&network, anvil.url(), index, None, true)).collect();
    register_keys(&network, &anvil);
    let running: Vec<_> = relays.iter().map(Relayer::run).collect();
    let (upper_bridge, lower_bridge) = (settlement.upper.bridge(&upper), settlement.lower.bridge(&lower));
    let (holder, staker) = (wallet(&upper, 0).await, wallet(&lower, 5).await);

    // Down: three of four validators attest the block in which it was locked.
    upper_bridge.send(&holder, staker.address(), cor(300_100)).await.unwrap();
    until("what was locked is minted", PATIENCE, || async {
        end_stride(&upper).await;
        (lower_token.balance_of(staker.address()).await.unwrap() == cor(300_100)).then_some(())
    })
    .await;

    // It is staked: the set changes, and checkpoints go on into epochs of the new one.
    let checkpoints = Checkpoints::new(upper.clone(), settlement.upper.blocks);
    until("a checkpoint has one signature for all", PATIENCE, || async {
        (aggregated(&upper, settlement.upper.blocks).await > 0).then_some(())
    })
    .await;
    let old = checkpoints.latest().await.unwrap() / u64::from(EPOCH_BLOCKS);
    let password = network.folder.path().join("payers.password");
    let key = add_validator(&mut network, &staker, &password).await;
    let node = &network.nodes[0];
    until("the fifth has power", PATIENCE, || async { (node.power_of(key).await > 0).then_some(()) }).await;
    let epoch = node.height().await / u64::from(EPOCH_BLOCKS);
    let trusted = async |epoch: u64| checkpoints.trust_of(epoch).await.unwrap().map(|trust| trust.set_hash);
    until("L1 trusts the new set's successor", PATIENCE, || async { trusted(epoch + 1).await }).await;
    let [before, after]: [Option<B256>; 2] = [trusted(old).await, trusted(epoch).await];
    assert!(after.is_some() && before != after && epoch > old, "epochs {old} and {epoch}: {before:?} {after:?}");

    // Up: a certificate of the block in which it was burnt.
    let home = DEVELOPMENT_ADDRESSES[7];
    lower_bridge.send(&staker, home, cor(40)).await.unwrap();
    until("what was burnt is released", PATIENCE, || async {
        (upper_token.balance_of(home).await.unwrap() == cor(40)).then_some(())
    })
    .await;

    // From here on nobody hands anything out. The chain dies after a checkpoint; what was burnt before it gets out.
    for relay in running {
        assert_eq!(relay.terminate(), 0);
    }
    let quiet = Relayer::write(&network, anvil.url(), 1, None, false).run();
    lower_bridge.send(&staker, home, cor(60)).await.unwrap();
    let outbox = settlement.lower.outbox(&lower);
    let (inbox, head) = (settlement.upper.inbox(&upper), lower.get_block_number().await.unwrap());
    let accumulator = outbox.accumulator_at(head).await.unwrap();
    until("the last message is proven", PATIENCE, || async {
        inbox.is_known(accumulator).await.unwrap().then_some(())
    })
    .await;
    let mut messages = Messages::default();
    for message in outbox.messages(BlockRange { from: 0, to: head }).await.unwrap() {
        let leaf = message.leaf(CHAIN_ID, outbox.address(), settlement.upper.chain_id);
        assert!(messages.push(message, leaf));
    }
    for node in &mut network.nodes {
        node.kill();
    }
    quiet.kill();
    let place = messages.inclusion(1, 2).unwrap();
    upper_bridge.claim(&wallet(&upper, 8).await, &messages.all()[1], &place).await.unwrap();
    assert_eq!(upper_token.balance_of(home).await.unwrap(), cor(100));
    let locked = upper_token.balance_of(settlement.upper.bridge).await.unwrap();
    assert_eq!(locked, cor(300_000), "what is staked down there");
    anvil.kill().await;
}
