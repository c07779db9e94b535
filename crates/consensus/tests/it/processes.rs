//! Four validators as processes that are killed, miss a majority, and catch up.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, number, transfer},
    world::Dice,
};

const RECIPIENT: &str = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn transfers_to_any_validator_reach_all_and_a_late_follower_has_every_block() {
    let mut cluster = Cluster::new(4, 1, 50);
    for index in 0..4 {
        cluster.start(index);
    }
    for nonce in 0..20 {
        let target = nonce as usize % 4;
        cluster.send(target, &transfer(0, nonce)).await.unwrap();
        cluster.send(target, &transfer(1, nonce)).await.unwrap();
    }
    for index in 0..4 {
        for _ in 0..500 {
            let balance = cluster.call(index, "eth_getBalance", json!([RECIPIENT, "latest"])).await;
            if number(&balance) == 40 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let balance = cluster.call(index, "eth_getBalance", json!([RECIPIENT, "latest"])).await;
        assert_eq!(number(&balance), 40, "on validator {index}");
    }
    cluster.start(4);
    let head = cluster.height(0).await;
    cluster.reach(4, head, Duration::from_secs(20)).await;
    cluster.assert_same_chain(&[0, 1, 2, 3, 4]).await;
    // A follower takes transactions, too.
    cluster.send(4, &transfer(0, 20)).await.unwrap();
    let mined = async {
        loop {
            let nonce = cluster
                .call(0, "eth_getTransactionCount", json!(["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "latest"]))
                .await;
            if number(&nonce) == 21 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), mined).await.unwrap();
    let shown = cluster.call(0, "cortensor_getCertificate", json!(["0x1"])).await;
    assert_eq!(shown["validators"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn three_go_on_without_one_and_two_wait_for_a_third() {
    let mut cluster = Cluster::new(4, 0, 50);
    cluster.start_all();
    cluster.reach(0, 5, Duration::from_secs(20)).await;
    cluster.kill(3);
    let before = cluster.height(0).await;
    cluster.reach(0, before + 6, Duration::from_secs(40)).await;
    cluster.kill(2);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stuck = cluster.height(0).await.max(cluster.height(1).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cluster.height(0).await <= stuck + 1);
    cluster.start(3);
    cluster.start(2);
    cluster.reach(0, stuck + 5, Duration::from_secs(40)).await;
    for index in 1..4 {
        cluster.reach(index, stuck + 5, Duration::from_secs(20)).await;
    }
    cluster.assert_same_chain(&[0, 1, 2, 3]).await;
}

#[tokio::test]
async fn a_storm_of_kills_leaves_one_chain() {
    let seed = std::env::var("CORTENSOR_SEED").map_or(7, |text| text.parse().unwrap());
    let mut dice = Dice::new(seed);
    let mut cluster = Cluster::new(4, 0, 20);
    cluster.start_all();
    let mut nonce = 0;
    for _ in 0..20 {
        let victim = dice.below(4) as usize;
        for _ in 0..10 {
            let target = dice.below(4) as usize;
            if cluster.runs(target) {
                let _ = cluster.send(target, &transfer(0, nonce)).await;
                nonce += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(250))).await;
        cluster.kill(victim);
        tokio::time::sleep(Duration::from_millis(dice.below(250))).await;
        cluster.start(victim);
    }
    let mut highest = 0;
    for index in 0..4 {
        highest = highest.max(cluster.height(index).await);
    }
    for index in 0..4 {
        cluster.reach(index, highest + 3, Duration::from_secs(40)).await;
    }
    let compared = cluster.assert_same_chain(&[0, 1, 2, 3]).await;
    assert!(compared >= highest + 3, "blocks after {compared} were not compared");
}
