//! Rules that change at a height, on four validators whose program knows the change or does not.

use std::time::Duration;

use cortensor_consensus::{
    home::{self, Network},
    upgrade::Upgrade,
};

use crate::cluster::{Cluster, number};

const PATIENCE: Duration = Duration::from_secs(40);

fn upgrades(json: &str) -> Vec<Upgrade> {
    serde_json::from_str(json).unwrap()
}

const KNOWN: &str = r#"{ "name": "wider", "height": 8, "gas_limit": 90000000, "hard_fork": "osaka" }"#;

#[tokio::test]
async fn known_rules_change_at_their_height_and_unknown_ones_stop_everybody_before() {
    let unknown = r#"{ "name": "beyond", "height": 14, "teleport": true }"#;
    let mut cluster = Cluster::tuned(4, 0, |network, node| {
        network.upgrades = upgrades(&format!("[{KNOWN}, {unknown}]"));
        node.empty_block_ms = 50;
    });
    cluster.start_all();
    cluster.reach(0, 9, PATIENCE).await;
    for (block, gas_limit) in [(7, 120_000_000), (8, 90_000_000)] {
        assert_eq!(number(&cluster.block(0, block).await["gasLimit"]), gas_limit, "block {block}");
    }
    for index in 0..4 {
        cluster.wait_for_end(index).await;
        let said = cluster.log(index);
        assert!(said.contains("block 14 begins the upgrade \"beyond\", which changes \"teleport\""), "{said}");
    }
    let said = cluster.start_in_vain(2).await;
    assert!(said.contains("begins the upgrade \"beyond\""), "{said}");
    // A program that knows it: here, an upgrade that this program knows, too.
    for member in &cluster.members {
        let path = member.folder.join(home::NETWORK_FILE);
        let mut network: Network = home::read(&path).unwrap();
        network.upgrades =
            upgrades(&format!(r#"[{KNOWN}, {{ "name": "beyond", "height": 14, "gas_limit": 95000000 }}]"#));
        home::write(&path, &network).unwrap();
    }
    cluster.start_all();
    cluster.reach(3, 16, PATIENCE).await;
    assert_eq!(number(&cluster.block(3, 13).await["gasLimit"]), 90_000_000);
    assert_eq!(number(&cluster.block(3, 14).await["gasLimit"]), 95_000_000);
    cluster.assert_same_chain(&[0, 1, 2, 3]).await;
}
