//! Validators in network namespaces of their own, whose network breaks in two and heals. Needs root; says so where it is not.

use crate::network::{Network, Traffic, start_in, until};
use serde_json::Value;
use std::{process::Command, time::Duration};

const VALIDATORS: u16 = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long a half is watched doing nothing.
const STANDSTILL: Duration = Duration::from_secs(4);

/// Runs `ip` or `tc`; whether it did it.
fn system(program: &str, arguments: &str) -> bool {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

fn must(arguments: &str) {
    assert!(system("ip", arguments), "ip {arguments}");
}

/// Two switches with a cable between them, and on each of them half of the namespaces. Every namespace has a second way, to
/// this process alone, for JSON-RPC. All of it goes with the test.
struct Cables {
    tag: String,
}

impl Drop for Cables {
    fn drop(&mut self) {
        for index in 0..VALIDATORS {
            system("ip", &format!("netns del {}", self.namespace(index)));
        }
        for side in ["a", "b"] {
            system("ip", &format!("link del {}s{side}", self.tag));
        }
        system("ip", &format!("link del {}la", self.tag));
    }
}

impl Cables {
    /// None where the system does not let this process have any.
    fn lay() -> Option<Self> {
        let cables = Self { tag: format!("cx{}", std::process::id() % 100_000) };
        let tag = &cables.tag;
        if !system("ip", &format!("link add {tag}sa type bridge")) {
            return None;
        }
        must(&format!("link add {tag}sb type bridge"));
        must(&format!("link add {tag}la type veth peer name {tag}lb"));
        for side in ["a", "b"] {
            must(&format!("link set {tag}l{side} master {tag}s{side}"));
            must(&format!("link set {tag}l{side} up"));
            must(&format!("link set {tag}s{side} up"));
        }
        for index in 0..VALIDATORS {
            cables.plug(index);
        }
        Some(cables)
    }

    fn namespace(&self, index: u16) -> String {
        format!("{}n{index}", self.tag)
    }

    fn plug(&self, index: u16) {
        let (tag, namespace, side) = (&self.tag, self.namespace(index), if index < VALIDATORS / 2 { "a" } else { "b" });
        must(&format!("netns add {namespace}"));
        must(&format!("link add {tag}p{index} type veth peer name peers netns {namespace}"));
        must(&format!("link set {tag}p{index} master {tag}s{side} up"));
        must(&format!("link add {tag}m{index} type veth peer name client netns {namespace}"));
        must(&format!("addr add 10.78.{index}.1/30 dev {tag}m{index}"));
        must(&format!("link set {tag}m{index} up"));
        must(&format!("-n {namespace} addr add 10.78.{index}.2/30 dev client"));
        must(&format!("-n {namespace} addr add 10.77.0.{}/24 dev peers", index + 1));
        for device in ["lo", "client", "peers"] {
            must(&format!("-n {namespace} link set {device} up"));
        }
        let slow = format!("-n {namespace} qdisc add dev peers root netem delay 50ms");
        if !system("tc", &slow) && index == 0 {
            eprintln!("this kernel has no netem: the partition is tested without a latency of 50 ms");
        }
    }

    /// Cuts or mends the cable between the switches.
    fn halves(&self, joined: bool) {
        must(&format!("link set {}la {}", self.tag, if joined { "up" } else { "down" }));
    }

    /// Pulls one validator's plug, or puts it in again.
    fn plugged(&self, index: u16, plugged: bool) {
        must(&format!("link set {}p{index} {}", self.tag, if plugged { "up" } else { "down" }));
    }
}

/// Gives the nodes the addresses of their namespaces.
fn move_apart(network: &mut Network) {
    for index in 0..VALIDATORS {
        let file = network.nodes[usize::from(index)].home.join("node.json");
        let mut node: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        node["rpc"] = format!("10.78.{index}.2:8545").into();
        node["listen"] = format!("10.77.0.{}:26600", index + 1).into();
        for (place, peer) in node["peers"].as_array_mut().unwrap().iter_mut().enumerate() {
            let key = peer.as_str().unwrap().split('@').next().unwrap().to_owned();
            *peer = format!("{key}@10.77.0.{}:26600", place + 1).into();
        }
        std::fs::write(&file, node.to_string()).unwrap();
        network.nodes[usize::from(index)].move_to(&format!("http://10.78.{index}.2:8545"));
    }
}

async fn heights(network: &Network) -> Vec<u64> {
    let mut heights = Vec::new();
    for node in &network.nodes {
        heights.push(node.height().await);
    }
    heights
}

async fn all_reach(network: &Network, height: u64) {
    until(&format!("all reach block {height}"), PATIENCE, || async {
        heights(network).await.iter().all(|head| *head >= height).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_in_two_halves_stands_still_and_heals_without_a_fork() {
    let Some(cables) = Cables::lay() else {
        eprintln!("SKIPPED: this process may not make network namespaces; run as root to test partitions");
        return;
    };
    let mut network = Network::init(VALIDATORS, 100, 100).await;
    move_apart(&mut network);
    for index in 0..VALIDATORS {
        let node = &mut network.nodes[usize::from(index)];
        node.run(start_in(&cables.namespace(index), &node.home));
    }
    all_reach(&network, 5).await;
    let traffic = Traffic::begin(&network);

    cables.halves(false);
    // A block that both halves had already voted for may still come.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = heights(&network).await;
    tokio::time::sleep(STANDSTILL).await;
    let after = heights(&network).await;
    assert!(after.iter().zip(&before).all(|(after, before)| after - before <= 1), "{before:?} {after:?}");
    cables.halves(true);
    let highest = *after.iter().max().unwrap();
    all_reach(&network, highest + 5).await;

    // One alone: the others go on, and it catches up.
    cables.plugged(3, false);
    let before = heights(&network).await;
    until("three go on", PATIENCE, || async { (heights(&network).await[0] > before[0] + 8).then_some(()) }).await;
    let after = heights(&network).await;
    assert!(after[3] <= before[3] + 2, "{before:?} {after:?}");
    cables.plugged(3, true);
    all_reach(&network, after[0] + 5).await;
    assert!(traffic.end() > 10);
    network.assert_same_chain(&[0, 1, 2, 3]).await;
}
