//! Gas estimates: enough, not much more than enough, and right when inner calls can fail.

use alloy::{
    network::TransactionBuilder as _,
    primitives::{U256, address},
    providers::Provider as _,
    rpc::types::TransactionRequest,
};
use serde_json::json;

use crate::harness::{Probe, World, call_json, request, signer};

#[tokio::test]
async fn a_transfer_costs_exactly_its_intrinsic_gas() {
    let world = World::new().await;
    let transfer = TransactionRequest::default()
        .with_from(signer(0).address())
        .with_to(address!("00000000000000000000000000000000000000bb"))
        .with_value(U256::from(1));
    assert_eq!(world.client.provider.estimate_gas(transfer).await.unwrap(), 21_000);
}

#[tokio::test]
async fn an_inner_call_that_must_succeed_gets_enough() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let insist = request(probe, Probe::insistCall { slots: U256::from(40) });
    let estimate = client.provider.estimate_gas(insist.clone()).await.unwrap();
    let starved = client.raw(
        "eth_call",
        json!([{ "from": signer(0).address(), "to": probe,
        "data": insist.input.input().unwrap(), "gas": format!("{:#x}", estimate * 97 / 100) }, "latest"]),
    );
    starved.await.expect_err("three per cent less is not enough");
    assert!(client.send(insist.with_gas_limit(estimate)).await.status());
}

#[tokio::test]
async fn a_tolerated_inner_failure_does_not_pass_for_success() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let tolerate = request(probe, Probe::tolerateCall { slots: U256::from(40) });
    let estimate = client.provider.estimate_gas(tolerate.clone()).await.unwrap();
    assert!(estimate > 40 * 22_100, "{estimate} does not pay for what the inner call writes");
    assert!(client.send(tolerate.with_gas_limit(estimate)).await.status());
    assert!(client.call(probe, Probe::innerCall {}).await, "the inner call had enough gas");
}

#[tokio::test]
async fn refunded_gas_is_asked_for_first() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let refund = request(probe, Probe::refundCall { slots: U256::from(20) });
    let estimate = client.provider.estimate_gas(refund.clone()).await.unwrap();
    let receipt = client.send(refund.with_gas_limit(estimate)).await;
    assert!(receipt.status());
    assert!(receipt.gas_used < estimate * 9 / 10, "{} was refunded from {estimate}", receipt.gas_used);
}

#[tokio::test]
async fn what_cannot_be_afforded_is_refused_with_the_reason() {
    let world = World::new().await;
    let client = &world.client;
    let probe = client.deploy_probe().await;
    let mut call = call_json(probe, Probe::burnCall { slots: U256::from(2_000) });
    call["gas"] = json!("0xf4240");
    let (code, message) = client.refusal("eth_estimateGas", json!([call])).await;
    assert_eq!((code, message.as_str()), (-32000, "gas required exceeds allowance (1000000)"));

    let mut call = call_json(probe, Probe::workCall {});
    call["from"] = json!(address!("00000000000000000000000000000000000000cc"));
    call["gasPrice"] = json!("0x3b9aca00");
    let (_, message) = client.refusal("eth_estimateGas", json!([call])).await;
    assert_eq!(message, "gas required exceeds allowance (0)");
    call["value"] = json!("0x1");
    let (_, message) = client.refusal("eth_estimateGas", json!([call])).await;
    assert_eq!(message, "insufficient funds for transfer");
}
