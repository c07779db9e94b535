//! A validator whose key is in another process: it signs, it stops with its signer, and it comes back.

use crate::network::{Daemon, Network, start, until};
use serde_json::Value;
use std::{path::Path, time::Duration};

const PATIENCE: Duration = Duration::from_secs(60);

fn signer(home: &Path) -> Daemon {
    start(&["chain", "sign", "--home", home.to_str().unwrap()], &home.join("signer.log"))
}

async fn signs(network: &Network, key: alloy::primitives::Address) {
    let observer = &network.nodes[1];
    let from = observer.height().await;
    until("the validator signs", PATIENCE, || async {
        let height = observer.height().await;
        (height > from && observer.signers(height).await.contains(&key)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_another_process_signs_and_nothing_is_signed_without_it() {
    let mut network = Network::init(4, 100, 100).await;
    let home = network.nodes[0].home.clone();
    let file = home.join("node.json");
    let mut node: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    node["signer"] = "signer.sock".into();
    std::fs::write(&file, node.to_string()).unwrap();
    let key = network.nodes[0].key();
    let apart = signer(&home);
    network.start_all();
    signs(&network, key).await;

    apart.kill();
    assert_ne!(network.nodes[0].wait(), 0, "a validator that cannot sign ends, and says so");
    let before = network.nodes[1].height().await;
    let others = &network.nodes[1];
    until("the others go on", PATIENCE, || async { (others.height().await > before + 3).then_some(()) }).await;

    let _apart = signer(&home);
    network.nodes[0].start();
    signs(&network, key).await;
    network.assert_same_chain(&[0, 1, 2, 3]).await;
}
