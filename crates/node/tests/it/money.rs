//! Money from the deposit to the accounts, to the wei.

use crate::world::{World, question};
use cortensor_contracts::{Evidence, Wallet};
use cortensor_engine::mock::MockConfig;
use cortensor_node::{identity::sign, miner::redeem::redeem};
use cortensor_protocol::{Countersignature, SignedVoucher, Wei};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_receipted_paid_redeemed_and_the_rest_comes_back() {
    let world = World::start(vec![MockConfig::default(), MockConfig::default()]).await;
    let net = &world.net;
    let mut body = question("hello", 40);
    let streamed = world.stream(body.clone(), async |_| ()).await;
    assert_eq!(streamed.error, None);
    body["stream"] = json!(false);
    body.as_object_mut().unwrap().remove("stream_options");
    let (status, whole) = world.post(&body).await;
    assert_eq!(status, 200, "{whole:#}");
    assert_eq!(whole["choices"][0]["message"]["content"].as_str().unwrap(), streamed.text, "same seed, same text");
    let receipts = world.receipts(&streamed.task).await;
    receipts[0].verify().unwrap();
    assert_eq!(receipts[0].text, streamed.text);
    assert!(receipts[0].voucher.is_some());

    let owed = world.vouchers_arrive().await;
    assert!(owed > Wei::ZERO);
    let mut paid = Wei::ZERO;
    for local in &net.miners {
        let wallet = Wallet::new(net.client.provider().clone(), local.identity.signer().clone()).await.unwrap();
        if let Some(redeemed) = redeem(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap() {
            paid = paid + redeemed.paid();
        }
        let again = redeem(&local.miner, &net.contracts, &wallet, Wei(1)).await.unwrap();
        assert!(again.is_none(), "nothing is paid twice");
    }
    assert_eq!(paid, owed);
    let before = net.contracts.token.balance_of(net.client.address()).await.unwrap();
    let (close, signature) = net.router.close_session(net.session).unwrap();
    net.contracts.sessions.close_with_router(&net.client, &close, signature).await.unwrap();
    let refund = net.contracts.token.balance_of(net.client.address()).await.unwrap().saturating_sub(before);
    assert_eq!(refund + paid, Wei(1_000 * Wei::COR.0), "payments and refund are the deposit");
    let (status, refused) = world.post(&body).await;
    assert_eq!(status, 402, "a closed session pays for nothing: {refused}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_voucher_pays_nothing() {
    let world = World::start(vec![MockConfig::default()]).await;
    world.stream(question("hello", 40), async |_| ()).await;
    world.vouchers_arrive().await;
    let net = &world.net;
    let voucher = net.miners[0].miner.earnings().redeemable(Wei(1), 1).remove(0);
    let first = net.contracts.sessions.redeem(&net.wallet, &voucher).await.unwrap();
    assert_eq!(first.paid(), voucher.voucher.cumulative_amount);
    let escrow = net.contracts.token.balance_of(net.deployment.sessions).await.unwrap();
    if let Ok(second) = net.contracts.sessions.redeem(&net.wallet, &voucher).await {
        assert_eq!(second.paid(), Wei::ZERO);
    }
    assert_eq!(net.contracts.token.balance_of(net.deployment.sessions).await.unwrap(), escrow);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_with_two_books_is_convicted_by_its_miner() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(folder.path(), vec![MockConfig::default()]).await;
    world.stream(question("hello", 40), async |_| ()).await;
    world.vouchers_arrive().await;
    let net = &world.net;
    let held = net.miners[0].miner.earnings().redeemable(Wei(1), 1).remove(0);
    // The router's key signs another voucher under the same number, as a cheating router would.
    let router = open_router_key(folder.path());
    let domain = net.deployment.domain();
    let mut voucher = held.voucher.clone();
    voucher.cumulative_amount = voucher.cumulative_amount + Wei(1);
    let countersignature = Countersignature { voucher_hash: voucher.struct_hash(), ..held.countersignature.clone() };
    let forged = SignedVoucher {
        signature: sign(&router.session_key(0), voucher.signing_hash(&domain)),
        router_signature: router.sign(countersignature.signing_hash(&domain)),
        voucher,
        countersignature,
    };
    net.miners[0].miner.late_voucher(forged).await;
    let evidence = net.miners[0].miner.earnings().contradictions().unwrap().remove(0);
    let stake = net.contracts.registry.node(net.router.operator()).await.unwrap().unwrap().stake;
    let of = |(countersignature, signature): (Countersignature, _)| Evidence { countersignature, signature };
    let (first, second) = (of(evidence.first), of(evidence.second));
    net.contracts.sessions.prove_equivocation(&net.client, &first, &second).await.unwrap();
    let left = net.contracts.registry.node(net.router.operator()).await.unwrap().unwrap().stake;
    assert!(left < stake, "the stake must fall: {stake} to {left}");
    world.net.shutdown().await.unwrap();
}

fn open_router_key(data: &std::path::Path) -> cortensor_node::identity::Identity {
    use cortensor_contracts::keystore;
    let password = keystore::Password::new(cortensor_node::localnet::DEVELOPMENT_PASSWORD).unwrap();
    cortensor_node::identity::Identity::new(keystore::open(&data.join("keys/router.json"), &password).unwrap())
}
