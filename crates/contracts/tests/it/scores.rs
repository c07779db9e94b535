//! The contract weighs and judges as `cortensor-proof` says, to the last bit; and what is simulated is what is deployed.

use crate::world::World;
use alloy::{
    network::TransactionBuilder as _,
    primitives::{Address, B256, keccak256},
    providers::Provider as _,
    rpc::types::TransactionRequest,
    sol_types::SolCall as _,
};
use cortensor_contracts::{
    AuditsParameters, CourtParameters, DeployParameters, ScoresParameters,
    audits::{Profile, Score as OnChain},
    bindings::scores::{
        IScores,
        Scores::{recordCall, setWritersCall, weighCall},
    },
};
use cortensor_economics::Parameters;
use cortensor_proof::{
    evidence::{BINS, Counts, STATISTICS, Table, Weighed},
    score::{Outcome, Policy, Score},
};
use cortensor_protocol::{ModelId, Operator};

/// Numbers that differ from each other, always the same ones.
fn number(seed: u64) -> u64 {
    u64::from_be_bytes(keccak256(seed.to_be_bytes())[..8].try_into().unwrap())
}

fn table(seed: u64) -> Table {
    let ratio = |charge: usize, row: usize, bin: usize| {
        let [a, b, c, d, ..] = number(seed * 1_000 + ((charge * STATISTICS + row) * BINS + bin) as u64).to_be_bytes();
        i32::from_be_bytes([a, b, c, d]) >> (seed % 3 * 8)
    };
    Table {
        ratios: std::array::from_fn(|charge| {
            std::array::from_fn(|row| std::array::from_fn(|bin| ratio(charge, row, bin)))
        }),
    }
}

pub(crate) async fn scores_weigh_as_the_proof_says(url: &str) {
    let world = World::bare(url).await;
    let scores = &world.contracts.scores;
    let (model, classes) = (ModelId(keccak256("model")), (keccak256("miner"), keccak256("guard")));
    for seed in 1..5 {
        let table = table(seed);
        let version = u32::try_from(seed).unwrap();
        let profile = Profile { version, content_hash: B256::repeat_byte(1), ratios: table.ratios };
        scores.register_profile(&world.deployer, model, classes, &profile).await.unwrap();
        for round in 0..4u64 {
            let mut counts = Counts { tokens: u32::MAX, ..Counts::default() };
            for (place, count) in counts.bins.as_flattened_mut().iter_mut().enumerate() {
                let [a, b, ..] = number(seed * 77_777 + round * 100 + place as u64).to_be_bytes();
                *count = u16::from_be_bytes([a, b]) >> (round * 4);
            }
            let bins: [[u16; BINS]; STATISTICS] = counts.bins;
            let clip = if round < 2 { i32::MAX } else { 24 << 16 };
            let call = weighCall { model: model.0, minerClass: classes.0, guardClass: classes.1, bins, clip };
            let request = TransactionRequest::default().with_to(scores.address()).with_input(call.abi_encode());
            let answer = world.provider.call(request).await.unwrap();
            let weighed = weighCall::abi_decode_returns(&answer).unwrap();
            let expect = table.clipped(&counts, clip);
            assert_eq!(Weighed([weighed.computation, weighed.sampling]), expect, "seed {seed}, round {round}");
        }
    }
}

pub(crate) async fn scores_judge_as_the_proof_says(url: &str) {
    let world = World::bare(url).await;
    let (scores, wallet) = (&world.contracts.scores, &world.deployer);
    // The test takes the auditor's place.
    let writers = setWritersCall { auditor_: wallet.address(), court_: wallet.address() };
    wallet.call(scores.address(), &writers).await.unwrap();
    let policy = Policy::default();
    let bits = [-3, 7, 7, -16, -16, 2, 5, -1, 16, -9, 3, 16, 16, 16, -2];
    for (miner, may_convict_from) in [(1u8, 0usize), (2, 10), (3, 99)] {
        let mut expect = Score::default();
        let address = Address::repeat_byte(miner);
        for (step, bits) in bits.into_iter().enumerate() {
            let may_convict = step >= may_convict_from;
            let evidence = Weighed([bits * 65_536 + 17, bits * -30_000 - 5]);
            let outcome = Outcome { evidence, tokens: 100, hard: step == 13, may_convict };
            expect.record(&policy, &outcome);
            let Outcome { evidence, tokens, hard, may_convict } = outcome;
            let [computation, sampling] = evidence.0;
            let added = IScores::Weighed { computation, sampling };
            let call = recordCall { miner: address, added, tokens, hard, mayConvict: may_convict };
            wallet.call(scores.address(), &call).await.unwrap();
            let found = scores.score(Operator(address)).await.unwrap();
            let OnChain { computation, sampling, computation_cusum, sampling_cusum, jobs, tokens, state } = found;
            assert_eq!([computation, sampling], expect.evidence);
            assert_eq!([computation_cusum, sampling_cusum].map(i64::from), expect.cusum);
            assert_eq!((jobs, tokens), (expect.jobs, expect.tokens));
            assert_eq!(state as u8, expect.state as u8, "miner {miner}, step {step}");
            assert_eq!(scores.rate_ppm(Operator(address)).await.unwrap(), expect.rate_ppm(&policy));
            assert_eq!(scores.reputation_ppm(Operator(address)).await.unwrap(), expect.reputation_ppm(&policy));
        }
    }
}

#[test]
fn what_is_simulated_is_what_is_deployed() {
    let simulated = Parameters::default();
    let ScoresParameters {
        watch,
        suspend,
        convict,
        convict_cusum,
        newcomer_jobs,
        newcomer_ppm,
        floor_ppm,
        suspicious_ppm,
        reputation_jobs,
        ..
    } = ScoresParameters::default();
    let policy = Policy {
        watch: watch.into(),
        suspend: suspend.into(),
        convict: convict.into(),
        convict_cusum: convict_cusum.into(),
        newcomer_jobs,
        newcomer_ppm,
        floor_ppm,
        suspicious_ppm,
        reputation_jobs,
    };
    assert_eq!(simulated.policy, policy);
    let court = CourtParameters::default();
    assert_eq!((simulated.guard_pay, simulated.guard_penalty), (court.guard_pay.0, court.guard_penalty.0));
    assert_eq!(simulated.slash_bps, u32::from(court.committee_slash_bps));
    assert_eq!((simulated.burn_bps, simulated.client_bps), (u32::from(court.burn_bps), u32::from(court.client_bps)));
    assert_eq!(simulated.collusion_ppm, court.collusion_ppm);
    let audits = AuditsParameters::public();
    assert_eq!((simulated.clip, simulated.minimum_committee), (audits.clip, u32::from(audits.minimum_committee)));
    let hours = |seconds: u32| seconds.div_ceil(3_600);
    // One more epoch, for the beacon of the next committee.
    assert_eq!(simulated.round_epochs, hours(audits.commit_window_s + audits.reveal_window_s) + 1);
    assert_eq!(simulated.appeal_epochs, hours(audits.appeal_window_s));
    let deployed = DeployParameters::public(Address::repeat_byte(1));
    let shares = (u32::from(deployed.sessions.router_bps), u32::from(deployed.sessions.protocol_bps));
    assert_eq!((simulated.router_bps, simulated.protocol_bps), shares);
    assert_eq!(simulated.stake, deployed.minimum_stakes.miner.0);
    let rewards = deployed.rewards;
    assert_eq!((simulated.emission, simulated.halving_epochs), (rewards.emission.0, rewards.halving_epochs));
    assert_eq!((simulated.reward_cap_ppm, simulated.guard_bps), (rewards.cap_ppm, u32::from(rewards.guard_bps)));
}
