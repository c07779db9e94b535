//! Past states, proofs, overrides, and restarts.

use alloy::{
    consensus::TrieAccount,
    eips::BlockId,
    network::TransactionBuilder as _,
    primitives::{Address, B256, U256, address, keccak256},
    providers::Provider as _,
    rlp,
    rpc::types::{EIP1186AccountProofResponse, TransactionRequest},
};
use alloy_trie::{Nibbles, proof::verify_proof};
use cortensor_chain::{Chain, Config, DEVELOPMENT_ADDRESSES, OpenError, StartError, StatesKept};
use serde_json::json;

use crate::harness::{CHAIN_ID, Client, Probe, Token, World, call_json, request, signer};

const RECIPIENT: Address = address!("00000000000000000000000000000000000000dd");

fn verify(state_root: B256, proof: &EIP1186AccountProofResponse) {
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let expected = (!proof.is_empty()).then(|| rlp::encode(account));
    verify_proof(state_root, Nibbles::unpack(keccak256(proof.address)), expected, &proof.account_proof)
        .expect("the account's proof verifies");
    for slot in &proof.storage_proof {
        let expected = (!slot.value.is_zero()).then(|| rlp::encode(slot.value));
        let key = Nibbles::unpack(keccak256(slot.key.as_b256()));
        if proof.storage_hash != alloy::consensus::EMPTY_ROOT_HASH {
            verify_proof(proof.storage_hash, key, expected, &slot.proof).expect("the slot's proof verifies");
        }
    }
}

fn balance_slot(owner: Address) -> B256 {
    keccak256([owner.into_word(), B256::ZERO].concat())
}

#[tokio::test]
async fn proofs_verify_against_the_headers_state_root() {
    let world = World::new().await;
    let client = &world.client;
    let token = client.deploy_token().await;
    for value in 1..=3 {
        client.send(request(token, Token::transferCall { to: RECIPIENT, value: U256::from(value) })).await;
    }
    let slots = vec![balance_slot(signer(0).address()), balance_slot(RECIPIENT), balance_slot(token)];
    for number in 0..=4_u64 {
        let header = client.provider.get_block_by_number(number.into()).await.unwrap().unwrap().header;
        for account in [token, signer(0).address(), RECIPIENT] {
            let proof = client.provider.get_proof(account, slots.clone()).number(number).await.unwrap();
            verify(header.state_root, &proof);
        }
        let proof = client.provider.get_proof(token, slots.clone()).number(number).await.unwrap();
        let expected = [0, 0, 1, 3, 6][usize::try_from(number).unwrap()];
        assert_eq!(proof.storage_proof[1].value, U256::from(expected), "balance after block {number}");
    }
    let head = client.provider.get_block_by_number(4.into()).await.unwrap().unwrap().header;
    let mut forged = client.provider.get_proof(token, slots).await.unwrap();
    forged.balance += U256::from(1);
    let account = rlp::encode(TrieAccount { nonce: forged.nonce, balance: forged.balance, ..TrieAccount::default() });
    verify_proof(head.state_root, Nibbles::unpack(keccak256(token)), Some(account), &forged.account_proof)
        .expect_err("a forged balance does not verify");
}

#[tokio::test]
async fn every_past_state_can_be_asked() {
    let world = World::new().await;
    let client = &world.client;
    let token = client.deploy_token().await;
    for _ in 0..3 {
        client.send(request(token, Token::transferCall { to: RECIPIENT, value: U256::from(10) })).await;
    }
    for (number, expected) in [(1_u64, 0_u64), (2, 10), (3, 20), (4, 30)] {
        let call = call_json(token, Token::balanceOfCall { account: RECIPIENT });
        let output = client.raw("eth_call", json!([call, format!("{number:#x}")])).await.unwrap();
        assert_eq!(output, json!(B256::from(U256::from(expected))));
        let slot = json!([token, balance_slot(RECIPIENT), format!("{number:#x}")]);
        assert_eq!(client.raw("eth_getStorageAt", slot).await.unwrap(), json!(B256::from(U256::from(expected))));
        let nonce = client.provider.get_transaction_count(signer(0).address()).number(number).await.unwrap();
        assert_eq!(nonce, number);
    }
    assert_eq!(client.provider.get_code_at(token).number(0).await.unwrap().len(), 0);
    assert!(!client.provider.get_code_at(token).await.unwrap().is_empty());
    let (code, message) = client.refusal("eth_getBalance", json!([RECIPIENT, "0x63"])).await;
    assert_eq!((code, message.as_str()), (-32000, "header not found"));
    let by_hash = client.provider.get_block_by_number(1.into()).await.unwrap().unwrap().header.hash;
    let nonce = client.provider.get_transaction_count(signer(0).address()).block_id(BlockId::hash(by_hash)).await;
    assert_eq!(nonce.unwrap(), 1);
    let history = client.provider.get_fee_history(3, "latest".parse().unwrap(), &[10.0, 90.0]).await.unwrap();
    assert_eq!((history.oldest_block, history.base_fee_per_gas.len()), (2, 4));
    assert_eq!(history.reward.unwrap().len(), 3);
}

#[tokio::test]
async fn overrides_change_what_a_call_sees() {
    let world = World::new().await;
    let client = &world.client;
    let token = client.deploy_token().await;
    let probe = client.deploy_probe().await;
    let balance = call_json(token, Token::balanceOfCall { account: RECIPIENT });
    let slot = balance_slot(RECIPIENT);
    let value = B256::from(U256::from(77));
    let overrides = json!({ token.to_string(): { "stateDiff": { slot.to_string(): value } } });
    assert_eq!(client.raw("eth_call", json!([balance, "latest", overrides])).await.unwrap(), json!(value));
    let replaced = json!({ token.to_string(): { "state": {} } });
    let owner = call_json(token, Token::balanceOfCall { account: signer(0).address() });
    assert_eq!(client.raw("eth_call", json!([owner, "latest", replaced])).await.unwrap(), json!(B256::ZERO));
    // Code, balance, and a sender that is a contract.
    let code = client.provider.get_code_at(probe).await.unwrap();
    let elsewhere = address!("00000000000000000000000000000000000000ee");
    let mut call = call_json(elsewhere, Probe::senderCall {});
    call["from"] = json!(token);
    let overrides = json!({ elsewhere.to_string(): { "code": code }, token.to_string(): { "balance": "0x5" } });
    let output = client.raw("eth_call", json!([call, "latest", overrides])).await.unwrap();
    assert!(output.as_str().unwrap().ends_with('5'), "{output}");
    let time = call_json(probe, Probe::environmentCall {});
    let output =
        client.raw("eth_call", json!([time, "latest", {}, { "time": "0x1234", "number": "0x99" }])).await.unwrap();
    assert!(output.as_str().unwrap().contains("1234"), "{output}");
    let both = json!({ token.to_string(): { "state": {}, "stateDiff": {} } });
    assert_eq!(client.refusal("eth_call", json!([balance, "latest", both])).await.0, -32602);
}

#[tokio::test]
async fn a_restarted_chain_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::development(CHAIN_ID).with_directory(directory.path());
    let world = World::with(config.clone()).await;
    let token = world.client.deploy_token().await;
    let receipt = world.client.send(request(token, Token::transferCall { to: RECIPIENT, value: U256::from(9) })).await;
    let head = world.chain.head();
    let second = Chain::start(config.clone()).await.expect_err("the data is in use");
    assert!(matches!(second, StartError::Open(OpenError::InUse { .. })), "{second:?}");
    world.chain.shutdown().await.unwrap();

    let world = World::with(config.clone()).await;
    assert_eq!(world.chain.head(), head);
    let again = world.client.provider.get_transaction_receipt(receipt.transaction_hash).await.unwrap();
    assert_eq!(again, Some(receipt));
    assert_eq!(world.client.call(token, Token::balanceOfCall { account: RECIPIENT }).await, U256::from(9));
    let transfer = TransactionRequest::default().with_to(RECIPIENT).with_value(U256::from(1));
    assert_eq!(world.client.send(transfer).await.block_number, Some(head.number + 1));
    world.chain.shutdown().await.unwrap();

    let other = config.with_balance(RECIPIENT, U256::from(1));
    let error = Chain::start(other).await.expect_err("another genesis");
    assert!(matches!(error, StartError::Open(OpenError::Genesis { .. })), "{error:?}");
}

/// The state of the last blocks is only in memory when the process ends; what is on disk is executed again.
#[tokio::test]
async fn however_many_blocks_wait_for_their_state_to_be_written_none_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::development(CHAIN_ID).with_directory(directory.path());
    let (mut heads, mut receipts, mut token) = (Vec::new(), Vec::new(), None);
    // After 1, 3, 16, 17 and 40 blocks, which lie before, on and behind the moments of writing.
    for transfers in [0, 2, 13, 1, 23_u64] {
        let world = World::with(config.clone()).await;
        assert_eq!(world.chain.head().number, heads.len() as u64);
        let token = match token {
            Some(token) => token,
            None => *token.insert(world.client.deploy_token().await),
        };
        heads.extend((heads.is_empty()).then(|| world.chain.head()));
        for _ in 0..transfers {
            let call = request(token, Token::transferCall { to: RECIPIENT, value: U256::from(1) });
            receipts.push(world.client.send(call).await);
            heads.push(world.chain.head());
        }
        world.chain.shutdown().await.unwrap();
    }
    let token = token.unwrap();
    let mut fees = config.clone();
    fees.fees.change_denominator += 1;
    let error = Chain::start(fees).await.expect_err("other rules give other headers");
    assert!(matches!(error, StartError::Open(OpenError::Replay { .. })), "{error:?}");
    let world = World::with(config).await;
    let client = &world.client;
    for (transferred, head) in (0_u64..).zip(&heads) {
        let balance = Token::balanceOfCall { account: RECIPIENT };
        let block = client.provider.get_block_by_hash(head.hash()).await.unwrap().unwrap();
        assert_eq!(block.header.number, head.number);
        let past = request(token, balance);
        let answer = client.provider.call(past).block(BlockId::number(head.number)).await.unwrap();
        assert_eq!(U256::from_be_slice(&answer), U256::from(transferred), "after block {}", head.number);
        let proof = client.provider.get_proof(token, vec![balance_slot(RECIPIENT)]).number(head.number).await.unwrap();
        verify(head.state_root, &proof);
    }
    for receipt in receipts {
        let again = client.provider.get_transaction_receipt(receipt.transaction_hash).await.unwrap();
        assert_eq!(again, Some(receipt));
    }
}

/// What a pruned state is asked for is refused, and proofs of the states that are kept verify, before and after a restart.
#[tokio::test]
async fn a_pruned_chain_answers_about_its_last_states_and_no_others() {
    const KEPT: u64 = 12;
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::development(CHAIN_ID).with_directory(directory.path());
    (config.states, config.limits.node_bytes_min) = (StatesKept::Last(KEPT.try_into().unwrap()), 1);
    let world = World::with(config.clone()).await;
    let token = world.client.deploy_token().await;
    for _ in 0..120 {
        world.client.send(request(token, Token::transferCall { to: RECIPIENT, value: U256::from(1) })).await;
    }
    world.chain.shutdown().await.unwrap();
    let world = World::with(config).await;
    let (client, head) = (&world.client, world.chain.head().number);
    let balance = call_json(token, Token::balanceOfCall { account: RECIPIENT });
    for number in head + 1 - KEPT..=head {
        let header = client.provider.get_block_by_number(number.into()).await.unwrap().unwrap().header;
        let proof = client.provider.get_proof(token, vec![balance_slot(RECIPIENT)]).number(number).await.unwrap();
        verify(header.state_root, &proof);
        assert_eq!(proof.storage_proof[0].value, U256::from(number - 1));
        let output = client.raw("eth_call", json!([balance, format!("{number:#x}")])).await.unwrap();
        assert_eq!(output, json!(B256::from(U256::from(number - 1))));
    }
    for number in 0..=head - KEPT {
        let block = format!("{number:#x}");
        let asked = [
            ("eth_getBalance", json!([RECIPIENT, block])),
            ("eth_getProof", json!([token, [], block])),
            ("eth_call", json!([balance, block])),
        ];
        for (method, parameters) in asked {
            let (code, message) = client.refusal(method, parameters).await;
            assert!(code == -32000 && message.contains("not kept by this node"), "{method} {number}: {message}");
        }
        let block = client.provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        assert_eq!(block.transactions.len(), usize::from(number > 0), "blocks are kept");
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_port_is_refused() {
    let world = World::new().await;
    let config = Config::development(CHAIN_ID).with_listen(world.chain.address());
    let error = Chain::start(config).await.expect_err("the port is taken");
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    let client = Client::new(&world.chain.http_url());
    assert_eq!(
        client.provider.get_balance(DEVELOPMENT_ADDRESSES[0]).await.unwrap(),
        U256::from(10).pow(U256::from(22))
    );
}
