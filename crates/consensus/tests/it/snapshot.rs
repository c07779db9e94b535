//! A node that begins with a copy of the state: from honest peers and liars, killed on the way, and what it then knows.

use std::{fs, path::Path, time::Duration};

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use cortensor_chain::{Exports, Manifest};
use cortensor_consensus::home::{self, Node};
use serde_json::json;

use crate::cluster::{Cluster, number, spawn, transfer};

const PATIENCE: Duration = Duration::from_secs(60);
const FOLLOWER: usize = 4;
const EPOCH: u64 = 5;
/// Enough for several chunks.
const ACCOUNTS: u64 = 56_000;
/// Init code that writes slots 1 to 3 and leaves one byte of code.
const WRITER: &str = "0x60016001556002600255600360035560015ff3";

fn account(index: u64) -> Address {
    Address::from_slice(&keccak256(index.to_be_bytes())[12..])
}

/// Four validators whose copies of a state of several chunks do not change any more, and a follower without data.
async fn cluster() -> (Cluster, Vec<Exports>) {
    let mut cluster = Cluster::tuned(4, 1, |network, node| {
        network.epoch_blocks = EPOCH;
        network.balances_wei.extend((0..ACCOUNTS).map(|index| (account(index), U256::from(index + 1))));
        (node.empty_block_ms, node.copy_every_blocks) = (50, 12);
    });
    for index in 0..FOLLOWER {
        cluster.start(index);
    }
    for nonce in 0..5 {
        cluster.send(0, &transfer(0, nonce)).await.unwrap();
    }
    let deployed = crate::cluster::deployment(1, 0, WRITER.parse().unwrap());
    cluster.send(0, &deployed).await.unwrap();
    let copies: Vec<_> = (0..FOLLOWER)
        .map(|index| cluster.members[index].folder.join(home::DATA_FOLDER).join(home::COPIES_FOLDER))
        .map(Exports::new)
        .collect();
    for _ in 0..2_500 {
        if copies.iter().all(|copies| !copies.blocks().unwrap().is_empty()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for index in 0..FOLLOWER {
        cluster.kill(index);
        let path = cluster.members[index].folder.join(home::NODE_FILE);
        let node = Node { copy_every_blocks: 0, ..home::read(&path).unwrap() };
        home::write(&path, &node).unwrap();
    }
    (cluster, copies)
}

fn copied(exports: &Exports) -> Manifest {
    let block = exports.blocks().unwrap()[0];
    exports.manifest(block).unwrap().unwrap()
}

fn file(folder: &Path, block: u64, name: &str) -> std::path::PathBuf {
    folder.join(home::DATA_FOLDER).join(home::COPIES_FOLDER).join(block.to_string()).join(name)
}

#[tokio::test]
async fn a_node_begins_with_a_copy_although_peers_lie_and_it_is_killed() {
    let (mut cluster, copies) = cluster().await;
    let block = copied(&copies[3]).block;
    assert!(copied(&copies[3]).chunks.len() >= 3, "a state of several chunks is wanted");
    // One sends other chunks than it promised, one promises what leads to another state, one has lost a chunk.
    let liar = |index: usize, name: &str| file(&cluster.members[index].folder, copied(&copies[index]).block, name);
    fs::write(liar(0, "1"), b"something else").unwrap();
    let mut forged = copied(&copies[1]);
    let mut chunk = copies[1].chunk(forged.block, 0).unwrap().unwrap().to_vec();
    let at = chunk.windows(32).position(|window| window == B256::ZERO.as_slice()).unwrap_or(30);
    chunk[at] ^= 1;
    forged.chunks[0] = keccak256(&chunk);
    fs::write(liar(1, "0"), &chunk).unwrap();
    fs::write(liar(1, "manifest"), alloy_rlp::encode(&forged)).unwrap();
    fs::remove_file(liar(2, "1")).unwrap();
    for index in 0..FOLLOWER {
        cluster.start(index);
    }
    // Killed a few times on the way, wherever it is.
    for after in [150, 300, 450] {
        let mut process = spawn(&cluster.members[FOLLOWER].folder, &["--sync-snapshot"]);
        tokio::time::sleep(Duration::from_millis(after)).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    cluster.try_start(FOLLOWER, &["--sync-snapshot"]).unwrap();
    let head = cluster.height(0).await;
    cluster.reach(FOLLOWER, head + 3, PATIENCE).await;
    for number in block..=head {
        let same = cluster.block(0, number + 1).await["hash"] == cluster.block(FOLLOWER, number + 1).await["hash"];
        assert!(same, "block {}", number + 1);
    }
    assert_state(&cluster, block).await;
    assert_rest(&mut cluster, block).await;
}

/// What was copied is there, and what was not is said to be missing.
async fn assert_state(cluster: &Cluster, block: u64) {
    let contract = "0x8464135c8F25Da09e49BC8782676a84730C318bC";
    for (method, params) in [
        ("eth_getBalance", json!([account(777), "latest"])),
        ("eth_getProof", json!([account(29_999), [], format!("{block:#x}")])),
        ("eth_getProof", json!([contract, [B256::with_last_byte(2)], format!("{block:#x}")])),
        ("eth_getCode", json!([contract, "latest"])),
    ] {
        let expected = cluster.call(0, method, params.clone()).await;
        assert!(!expected.is_null(), "{method}");
        assert_eq!(cluster.call(FOLLOWER, method, params).await, expected, "{method}");
    }
    // Validators may have heard different two thirds; the block that they signed is the same.
    let last_of_epoch = json!([format!("{:#x}", EPOCH - 1)]);
    let theirs = cluster.call(0, "cortensor_getCertificate", last_of_epoch.clone()).await;
    let ours = cluster.call(FOLLOWER, "cortensor_getCertificate", last_of_epoch).await;
    assert!(ours["header"].is_string() && ours["signatures"].is_string(), "{ours}");
    assert_eq!(ours["header"], theirs["header"]);
    let slot = cluster.call(FOLLOWER, "eth_getStorageAt", json!([contract, "0x3", "latest"])).await;
    assert_eq!(number(&slot), 3);
    let refused = cluster.answer(FOLLOWER, "eth_getBalance", json!([account(1), "0x0"])).await.unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().contains("not kept by this node"), "{refused}");
    let logs = json!([{ "fromBlock": "0x0", "toBlock": "latest" }]);
    let refused = cluster.answer(FOLLOWER, "eth_getLogs", logs).await.unwrap();
    assert!(refused["error"]["message"].as_str().unwrap().contains("not kept by this node"), "{refused}");
}

/// The node restarts without the option, and passes on what it knows.
async fn assert_rest(cluster: &mut Cluster, block: u64) {
    cluster.kill(FOLLOWER);
    cluster.try_start(FOLLOWER, &["--sync-snapshot"]).unwrap();
    assert!(cluster.height(FOLLOWER).await > block);
    cluster.kill(FOLLOWER);
    cluster.start(FOLLOWER);
    let head = cluster.height(0).await;
    cluster.reach(FOLLOWER, head + 2, PATIENCE).await;
}

#[tokio::test]
async fn without_an_honest_copy_nothing_begins() {
    let folder = tempfile::tempdir().unwrap();
    let exports = Exports::new(folder.path().join("none"));
    assert!(exports.blocks().unwrap().is_empty() && exports.manifest(3).unwrap().is_none());
    assert_eq!(exports.chunk(3, 0).unwrap(), None::<Bytes>);
}
