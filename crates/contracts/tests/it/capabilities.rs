//! Measurements through the typed client: a drawn guard's record, drift, a challenge that fails and one that holds.

use crate::world::{World, cor};
use alloy::primitives::B256;
use cortensor_contracts::{
    CapabilitiesParameters, Wallet,
    audits::{Capabilities, RoundStatus, measurement_commitment},
};
use cortensor_protocol::{Capability, ModelId, Operator, RoleSet, Wei};

const MODEL: ModelId = ModelId(B256::repeat_byte(7));
const SALT: B256 = B256::repeat_byte(3);

fn able(speed: u32) -> Capability {
    Capability {
        prefill_tokens_per_second: 20 * speed,
        decode_tokens_per_second: speed,
        total_decode_tokens_per_second: 3 * speed,
        concurrency: 4,
        context_tokens: 4_096,
        tools_ppm: None,
        schema_ppm: Some(1_000_000),
        trace_ppm: Some(1_000_000),
    }
}

/// Two guards, and confirmations never.
async fn prepare(world: &World) {
    let contracts = &world.contracts;
    for guard in [&world.reporter, &world.publisher] {
        contracts.token.transfer(&world.deployer, guard.address(), cor(1_000)).await.unwrap();
        world.register(guard, RoleSet::GUARD, cor(500)).await;
        contracts.guards.enroll(guard).await.unwrap();
    }
    let alone = CapabilitiesParameters { confirmation_ppm: 0, ..CapabilitiesParameters::development() };
    contracts.capabilities.set_parameters(&world.deployer, alone).await.unwrap();
    assert_eq!(contracts.capabilities.parameters().await.unwrap(), alone);
}

/// Ends the running epoch and opens the round of its beacon; says which and who measures.
async fn open_round(world: &World) -> (B256, Vec<Operator>) {
    let (guards, capabilities) = (&world.contracts.guards, &world.contracts.capabilities);
    let (epoch, miner) = (guards.current_epoch().await.unwrap(), world.miner(0));
    assert_eq!(capabilities.duty(epoch, miner, MODEL).await.unwrap(), None, "the beacon is not known yet");
    world.pass(guards.epoch_length_s().await.unwrap().into()).await;
    guards.record_beacon(&world.client, epoch).await.unwrap();
    let duty = capabilities.duty(epoch, miner, MODEL).await.unwrap().unwrap();
    capabilities.open(&world.client, epoch, miner, MODEL).await.unwrap();
    let id = Capabilities::id_of(epoch, miner, MODEL);
    let round = capabilities.round(id).await.unwrap();
    assert_eq!((round.status, &round.guards), (RoundStatus::Open, &duty.guards));
    assert_ne!(duty.seed, B256::ZERO);
    (id, duty.guards)
}

fn wallet_of(world: &World, guard: Operator) -> &Wallet {
    [&world.reporter, &world.publisher].into_iter().find(|wallet| wallet.address() == guard.0).unwrap()
}

async fn measure(world: &World, measured: &Capability) {
    let (id, guards) = open_round(world).await;
    assert_eq!(guards.len(), 1);
    world.contracts.capabilities.reveal(wallet_of(world, guards[0]), id, measured, SALT).await.unwrap();
}

/// Both guards measure for a challenge.
async fn challenge(world: &World, measured: &Capability) {
    let capabilities = &world.contracts.capabilities;
    capabilities.challenge(&world.client, world.miner(0), MODEL).await.unwrap();
    let (id, guards) = open_round(world).await;
    assert_eq!(guards.len(), 2, "there are no more");
    for guard in &guards {
        let commitment = measurement_commitment(*guard, id, measured, SALT);
        capabilities.commit(wallet_of(world, *guard), id, commitment).await.unwrap();
        assert_eq!(capabilities.said(id, *guard).await.unwrap(), (true, false));
    }
    for guard in &guards {
        capabilities.reveal(wallet_of(world, *guard), id, measured, SALT).await.unwrap();
    }
    assert_eq!(capabilities.round(id).await.unwrap().status, RoundStatus::Settled);
    assert_eq!(capabilities.said(id, guards[0]).await.unwrap(), (true, true));
}

pub(crate) async fn what_guards_measure_is_the_record_until_it_is_challenged(url: &str) {
    let world = World::start(url).await;
    prepare(&world).await;
    let (capabilities, miner) = (&world.contracts.capabilities, world.miner(0));
    assert_eq!(capabilities.record(miner, MODEL).await.unwrap(), None);
    let early = capabilities.challenge(&world.client, miner, MODEL).await.unwrap_err();
    assert!(early.revert().unwrap().is("NothingToChallenge"), "{early:?}");

    measure(&world, &able(100)).await;
    let record = capabilities.record(miner, MODEL).await.unwrap().unwrap();
    assert_eq!((record.measured, record.measurements, record.drifted), (able(100), 1, false));
    measure(&world, &able(20)).await;
    let record = capabilities.record(miner, MODEL).await.unwrap().unwrap();
    assert_eq!((record.measured.decode_tokens_per_second, record.drift_ppm, record.drifted), (80, 800_000, true));

    let CapabilitiesParameters { challenge_bond, challenge_fee, .. } = capabilities.parameters().await.unwrap();
    challenge(&world, &able(20)).await;
    let record = capabilities.record(miner, MODEL).await.unwrap().unwrap();
    assert_eq!(record.measured, able(20), "the record was wrong and is replaced");
    assert_eq!(capabilities.credit_of(world.client.address()).await.unwrap(), challenge_bond);
    challenge(&world, &able(21)).await;
    let payout = world.contracts.registry.node(miner).await.unwrap().unwrap().payout;
    assert_eq!(capabilities.credit_of(payout).await.unwrap(), challenge_bond, "it was right the second time");
    for guard in [&world.reporter, &world.publisher] {
        // Two challenges, two guards: each has earned one fee.
        assert_eq!(capabilities.credit_of(guard.address()).await.unwrap(), challenge_fee);
        capabilities.withdraw(&world.client, guard.address()).await.unwrap();
    }
    assert_eq!(capabilities.credit_of(world.reporter.address()).await.unwrap(), Wei::ZERO);
}
