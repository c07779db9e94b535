//! Four validators decide by what the contract says, while others join, are caught lying, fall silent, come back and leave.

use crate::network::{Network, Node, RECIPIENT, Traffic, cortensor, until};
use alloy::{
    primitives::{Address, U256},
    providers::Provider as _,
};
use cortensor_chain::WEI_PER_COIN;
use cortensor_contracts::{
    Wallet,
    bindings::validators::{IValidators, Validators as sol},
    keystore::{self, Password, Strength},
};
use cortensor_protocol::{Operator, Wei};
use std::{path::PathBuf, time::Duration};

const EPOCH_BLOCKS: u32 = 40;
const BLOCK_MS: u32 = 50;
/// Longest wait for what takes a few epochs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Someone who stakes.
struct Staker {
    keystore: PathBuf,
    password: PathBuf,
    operator: Operator,
}

impl Staker {
    /// With so much COR and some coins from the founder.
    async fn new(network: &Network, founder: &Wallet, name: &str, cor: u128) -> Self {
        let keystore = network.folder.path().join(format!("{name}.json"));
        let password = network.folder.path().join(format!("{name}.password"));
        std::fs::write(&password, "a password of a test").unwrap();
        let secret = Password::new("a password of a test".to_owned()).unwrap();
        let address = keystore::create(&keystore, &secret, Strength::DevelopmentOnly).unwrap().address();
        founder.send_native(address, U256::from(100) * WEI_PER_COIN).await.unwrap();
        let token = &network.nodes[0].contracts.token;
        token.transfer(founder, address, Wei(cor * Wei::COR.0)).await.unwrap();
        Self { keystore, password, operator: Operator(address) }
    }

    /// `cortensor chain validator …` with this account, for the node of a folder.
    fn validator(&self, node: &Node, arguments: &[&str]) -> String {
        let (home, keystore) = (node.home.to_str().unwrap(), self.keystore.to_str().unwrap());
        let all = [&["chain", "validator"], arguments, &["--home", home, "--operator", keystore]].concat();
        cortensor(&all, Some(&self.password))
    }
}

/// Governance makes jails short: who was not seen for two epochs gets in, and out one later.
async fn shorten_jail(network: &Network, founder: &Wallet) {
    let next = IValidators::Parameters {
        sunsetEpoch: 730,
        bootstrapStake: 1_000_000 * Wei::COR.0,
        absentEpochs: 1,
        jailEpochs: 0,
    };
    let validators = network.nodes[0].contracts.validators.address();
    founder.call(validators, &sol::setParametersCall { next }).await.unwrap();
}

/// Waits until the powers of two keys are to each other as they should be, on each of these nodes.
async fn compare(network: &Network, nodes: &[usize], keys: [Address; 2], holds: impl Fn(u64, u64) -> bool) {
    for index in nodes {
        let node = &network.nodes[*index];
        until(&format!("node {index} has the powers of {keys:?} as they should be"), PATIENCE, || async {
            holds(node.power_of(keys[0]).await, node.power_of(keys[1]).await).then_some(())
        })
        .await;
    }
}

/// Waits until each of these nodes has this power for the key, in a set that its newest headers name.
async fn power_becomes(network: &Network, nodes: &[usize], key: Address, holds: impl Fn(u64) -> bool) {
    for index in nodes {
        let node = &network.nodes[*index];
        until(&format!("node {index} knows the power of {key}"), PATIENCE, || async {
            holds(node.power_of(key).await).then_some(())
        })
        .await;
        let height = node.height().await;
        let set = node.contracts.validators.set_at(height).await.unwrap();
        let header = node.provider.get_block_by_number((height - 1).into()).await.unwrap().unwrap().header;
        if height / u64::from(EPOCH_BLOCKS) == (height + 1) / u64::from(EPOCH_BLOCKS) {
            assert_eq!(header.inner.extra_data.as_ref(), set.hash().as_slice(), "node {index}, block {height}");
        }
    }
}

async fn signs(node: &Node, key: Address) {
    until(&format!("{key} signs"), PATIENCE, || async {
        let height = node.height().await;
        node.signers(height).await.contains(&key).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn powers_follow_stake_and_conduct() {
    let mut network = Network::init(4, EPOCH_BLOCKS, BLOCK_MS).await;
    network.start_all();
    let first = [0, 1, 2, 3];
    let founder = network.founder().await;
    let traffic = Traffic::begin(&network);
    shorten_jail(&network, &founder).await;

    // Two join; one of them stakes more later.
    let (honest, liar) = (network.join().await, network.join().await);
    network.nodes[honest].start();
    network.nodes[liar].start();
    let good = Staker::new(&network, &founder, "good", 400_000).await;
    let bad = Staker::new(&network, &founder, "bad", 300_000).await;
    let (good_key, bad_key) = (network.nodes[honest].key(), network.nodes[liar].key());
    for (staker, index) in [(&good, honest), (&bad, liar)] {
        let node = &network.nodes[index];
        let head = network.nodes[0].height().await;
        until("the new node has caught up", PATIENCE, || async { (node.height().await >= head).then_some(()) }).await;
        staker.validator(node, &["add", "--stake", "200000"]);
    }
    power_becomes(&network, &[0, 1, 2, 3, honest, liar], good_key, |power| power > 0).await;
    power_becomes(&network, &first, bad_key, |power| power > 0).await;
    signs(&network.nodes[0], good_key).await;
    signs(&network.nodes[0], bad_key).await;
    // Equal stakes come to equal powers, whoever was first; more stake to more.
    compare(&network, &first, [good_key, bad_key], |good, bad| bad > 0 && good.abs_diff(bad) <= 2).await;
    good.validator(&network.nodes[honest], &["add", "--stake", "400000"]);
    compare(&network, &first, [good_key, bad_key], |good, bad| bad > 0 && good > bad + bad / 10).await;

    // The same key on two machines: it signs twice, and the others prove it.
    let twin = network.twin(liar).await;
    network.nodes[twin].start();
    let contracts = &network.nodes[0].contracts;
    until("the double vote is proved", PATIENCE, || async {
        contracts.equivocations.is_proven(bad_key).await.unwrap().then_some(())
    })
    .await;
    let left = contracts.registry.slashable(bad.operator).await.unwrap();
    assert_eq!(left, Wei(100_000 * Wei::COR.0), "half of the stake is gone");
    network.nodes[twin].kill();
    network.nodes[liar].kill();
    power_becomes(&network, &first, bad_key, |power| power == 0).await;

    // Silence: jailed, and out again.
    network.nodes[honest].kill();
    let contracts = &network.nodes[0].contracts;
    until("the silent one is jailed", PATIENCE, || async {
        contracts.validators.candidate(good.operator).await.unwrap().unwrap().jailed_until
    })
    .await;
    power_becomes(&network, &first, good_key, |power| power == 0).await;
    network.nodes[honest].start();
    let contracts = &network.nodes[0].contracts;
    until("the jail opens", PATIENCE, || async {
        let until = contracts.validators.candidate(good.operator).await.unwrap().unwrap().jailed_until.unwrap();
        (contracts.validators.current_epoch().await.unwrap() >= u64::from(until)).then_some(())
    })
    .await;
    let head = network.nodes[0].height().await;
    let back = &network.nodes[honest];
    until("it has caught up", PATIENCE, || async { (back.height().await >= head).then_some(()) }).await;
    good.validator(back, &["unjail"]);
    power_becomes(&network, &first, good_key, |power| power > 0).await;
    signs(&network.nodes[0], good_key).await;

    // Leaving, with the stake asked back.
    good.validator(&network.nodes[honest], &["leave", "--unstake"]);
    power_becomes(&network, &first, good_key, |power| power == 0).await;
    assert_eq!(network.nodes[honest].terminate(), 0);

    let listed =
        cortensor(&["chain", "validator", "list", "--json", "--home", network.nodes[0].home.to_str().unwrap()], None);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["validators"].as_array().unwrap().len(), 4, "{listed}");
    let sent = traffic.end();
    assert!(sent > 50, "only {sent} transfers");
    for index in first {
        let provider = &network.nodes[index].provider;
        until("all transfers are in blocks", PATIENCE, || async {
            (provider.get_balance(RECIPIENT).await.unwrap() >= U256::from(sent)).then_some(())
        })
        .await;
    }
    network.assert_same_chain(&first).await;
}
