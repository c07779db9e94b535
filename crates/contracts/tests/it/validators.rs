//! Sets of validators from stake, and what double votes cost.

use crate::world::{World, cor};
use alloy::{
    primitives::{B256, Bytes, keccak256},
    providers::Provider as _,
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_contracts::{ChainTime as _, SignedVote};
use cortensor_protocol::{
    Operator, RoleSet,
    consensus::{Domain, TOTAL_POWER, ValidatorSet, VoteKind},
};

fn vote(key: &PrivateKeySigner, chain_id: u64, block_hash: B256) -> SignedVote {
    let hash = Domain::new(chain_id).vote(VoteKind::Precommit, 7, 0, block_hash);
    let signature = Bytes::copy_from_slice(&key.sign_hash_sync(&hash).unwrap().as_bytes());
    SignedVote { kind: 2, height: 7, round: 0, block_hash, signature }
}

impl World {
    /// Makes empty blocks until the next epoch of validators has begun.
    async fn next_validator_epoch(&self) {
        let length = u64::from(self.contracts.validators.epoch_length_blocks().await.unwrap());
        let height = self.provider.get_block_number().await.unwrap();
        for _ in height..(height / length + 1) * length {
            let _: serde_json::Value = self.provider.raw_request("evm_mine".into(), ()).await.unwrap();
        }
    }
}

pub(crate) async fn a_validator_joins_and_is_banned(url: &str) {
    let world = World::bare(url).await;
    let (validators, wallet) = (&world.contracts.validators, &world.miners[0]);
    let first = ValidatorSet::equal(&[world.deployer.address()]).unwrap();
    let height = world.provider_block().await;
    assert_eq!(validators.set_at(height).await.unwrap(), first, "the deployer decides alone");

    let operator = Operator(wallet.address());
    world.contracts.token.transfer(&world.deployer, wallet.address(), cor(2_000)).await.unwrap();
    world.register(wallet, RoleSet::VALIDATOR, cor(2_000)).await;
    let key = PrivateKeySigner::random();
    let deadline = world.provider.chain_time().await.unwrap() + 60;
    validators.join(wallet, operator, &key, deadline).await.unwrap();
    assert_eq!(validators.candidate(operator).await.unwrap().unwrap().key, key.address());
    assert!(!validators.has_advanced().await.unwrap());
    validators.advance(wallet).await.unwrap();
    assert!(validators.has_advanced().await.unwrap());
    let again = validators.advance(wallet).await.unwrap_err();
    assert!(again.revert().unwrap().is("AlreadyAdvanced"));
    world.next_validator_epoch().await;

    let set = validators.set_at(world.provider_block().await).await.unwrap();
    assert_eq!(set.total_power(), TOTAL_POWER);
    assert!(set.power_of(key.address()).unwrap() < TOTAL_POWER / 3, "less than a third moves");
    let call = cortensor_contracts::bindings::validators::Validators::nextSetHashCall {};
    let raw = alloy::rpc::types::TransactionRequest::default()
        .to(validators.address())
        .input(alloy::sol_types::SolCall::abi_encode(&call).into());
    let carried = world.provider.call(raw).await.unwrap();
    assert_eq!(carried.as_ref(), set.hash().as_slice(), "header and Rust hash alike");

    let chain_id = world.deployment.chain_id;
    let [a, b] = [vote(&key, chain_id, keccak256("a")), vote(&key, chain_id, keccak256("b"))];
    let foreign = vote(&key, chain_id + 1, keccak256("b"));
    let equivocations = &world.contracts.equivocations;
    let refused = equivocations.prove_votes(&world.reporter, [&a, &foreign], B256::ZERO).await.unwrap_err();
    assert!(refused.revert().unwrap().is("SignersDiffer"));
    equivocations.prove_votes(&world.reporter, [&a, &b], B256::ZERO).await.unwrap();
    assert!(equivocations.is_proven(key.address()).await.unwrap());
    assert_eq!(world.slashable(wallet).await, cor(1_000));
    assert_eq!(validators.candidate(operator).await.unwrap(), None);
}
