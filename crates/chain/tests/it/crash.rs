//! Killing the process, again and again, while it is under load.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, TxKind, U256, address},
    providers::Provider as _,
    signers::SignerSync as _,
};
use cortensor_chain::{Chain, Config, StatesKept};

use crate::harness::{CHAIN_ID, Client, signer};

const RECIPIENT: Address = address!("00000000000000000000000000000000000000ad");
const DIRECTORY: &str = "CHAIN_TEST_DIRECTORY";
const KILLS: usize = 8;
const SENDERS: usize = 4;
/// So few states are kept that a run of a second replaces the nodes of others many times.
const STATES_KEPT: u64 = 20;

/// Not a test: the process that is killed. It writes its URL to a file when it is ready.
#[tokio::test]
#[ignore = "started by the crash test as a process of its own"]
async fn node() {
    let directory = std::env::var(DIRECTORY).expect("started by the crash test");
    let mut config = Config::development(CHAIN_ID).with_directory(&directory);
    config.states = StatesKept::Last(STATES_KEPT.try_into().unwrap());
    config.limits.node_bytes_min = 1;
    let chain = Chain::start(config).await.unwrap();
    let partial = Path::new(&directory).join("url.partial");
    std::fs::write(&partial, chain.http_url()).unwrap();
    std::fs::rename(partial, Path::new(&directory).join("url")).unwrap();
    chain.stopped().await;
}

/// A child process that does not outlive the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL. A process that has ended already is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(directory: &Path) -> (Node, Client) {
    let url = directory.join("url");
    let _ = std::fs::remove_file(&url);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::node", "--ignored"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let node = Node(child);
    for _ in 0..1_200 {
        if let Ok(url) = std::fs::read_to_string(&url) {
            return (node, Client::new(&url));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the node did not start within a minute");
}

fn transfer(sender: usize, nonce: u64) -> Vec<u8> {
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(RECIPIENT),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let signature = signer(sender).sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718()
}

/// Sends until the node is gone; returns the transactions whose receipts were seen, with their blocks.
async fn load(client: Client, sender: usize) -> Vec<(B256, B256)> {
    let mut acknowledged = Vec::new();
    let Ok(first) = client.provider.get_transaction_count(signer(sender).address()).await else {
        return acknowledged;
    };
    for nonce in first.. {
        let Ok(sent) = client.provider.send_raw_transaction(&transfer(sender, nonce)).await else {
            return acknowledged;
        };
        let hash = *sent.tx_hash();
        loop {
            match client.provider.get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => break acknowledged.push((hash, receipt.block_hash.unwrap())),
                Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(_) => return acknowledged,
            }
        }
    }
    acknowledged
}

/// The states that are kept answer, each what its block made of the one before, and older ones are refused.
async fn check_states(client: &Client) {
    let head = client.provider.get_block_number().await.unwrap();
    let mut before = None;
    for number in head.saturating_sub(STATES_KEPT + 1)..=head {
        let balance = client.provider.get_balance(RECIPIENT).number(number).await;
        if number + STATES_KEPT <= head {
            assert!(balance.unwrap_err().to_string().contains("not kept by this node"), "block {number} of {head}");
            continue;
        }
        let balance = balance.unwrap_or_else(|error| panic!("block {number} of {head}: {error}"));
        let block = client.provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        let transfers = U256::from(block.transactions.len());
        assert!(before.is_none_or(|before| before + transfers == balance), "block {number} of {head}");
        before = Some(balance);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_transaction_is_lost_by_killing_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(B256, B256)> = Vec::new();
    for round in 0..=KILLS {
        let (node, client) = start(directory.path()).await;
        for (hash, block) in &acknowledged {
            let receipt = client.provider.get_transaction_receipt(*hash).await.unwrap();
            let receipt = receipt.unwrap_or_else(|| panic!("{hash} was lost in round {round}"));
            assert_eq!(receipt.block_hash, Some(*block), "{hash} moved to another block");
        }
        let total: u64 = {
            let mut total = 0;
            for sender in 0..SENDERS {
                total += client.provider.get_transaction_count(signer(sender).address()).await.unwrap();
            }
            total
        };
        assert_eq!(client.provider.get_balance(RECIPIENT).await.unwrap(), U256::from(total), "state and nonces agree");
        assert!(total >= acknowledged.len() as u64);
        check_states(&client).await;
        if round == KILLS {
            break;
        }
        let loads: Vec<_> = (0..SENDERS).map(|sender| tokio::spawn(load(client.clone(), sender))).collect();
        // Different moments in the life of a block.
        tokio::time::sleep(Duration::from_millis(300 + 97 * round as u64)).await;
        drop(node);
        for load in loads {
            acknowledged.extend(load.await.unwrap());
        }
    }
    assert!(acknowledged.len() > KILLS, "the nodes did work: {}", acknowledged.len());
}
