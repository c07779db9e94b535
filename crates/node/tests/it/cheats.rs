//! Miners that cheat with a real model, beside an honest one, in one network: guards find them by a profile that was
//! calibrated here, and the chain takes their stake.

use crate::world::{World, eventually_in};
use cortensor_calibrate::{
    Cheat, Dishonest,
    study::{Plan, record, study, suspects},
};
use cortensor_contracts::{ScoresParameters, audits::State};
use cortensor_engine::Engine;
use cortensor_llama::{
    LlamaConfig, LlamaEngine,
    bench::{Quantisation, write_quantised},
};
use cortensor_node::{guard::class_of, localnet::LocalNetConfig};
use cortensor_proof::{
    calibration::Terms,
    profile::{Pair, Profile},
};
use cortensor_protocol::{Operator, Wei};
use serde_json::json;
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Four committees, one after the other, each of an epoch and more.
const A_CONVICTION: Duration = Duration::from_secs(300);

fn load(path: &Path) -> Arc<dyn Engine> {
    let mut config = LlamaConfig::new(path);
    config.context_per_sequence = 1_024;
    config.threads = NonZeroU32::new(1);
    config.queue = 64;
    LlamaEngine::load(config).unwrap()
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/cortensor-tiny-q8_0.gguf")
}

async fn calibrated(engine: &Arc<dyn Engine>, cheaper: &Arc<dyn Engine>) -> Profile {
    let plan = Plan { answers: 400, cheat_answers: 24, tokens: 96, ..Plan::default() };
    let honest = record(&**engine, &plan).await.unwrap();
    let suspects = suspects(std::slice::from_ref(cheaper), &[]);
    let study = study(&honest, engine, &**engine, &suspects, &plan, &|_| ()).await.unwrap();
    let class = class_of(&**engine);
    let pair = Pair { model: engine.info().manifest.id(), miner_class: class, guard_class: class };
    study.profile(pair, 1, &Terms::default()).unwrap()
}

/// Asks one miner by name. An answer may be refused once the miner is suspended.
async fn ask(world: &World, miner: Operator, text: &str) -> bool {
    let body = json!({
        "model": "cortensor-tiny", "max_tokens": 96, "temperature": 1.0, "cortensor": {"miner": miner},
        "messages": [{"role": "user", "content": text}],
    });
    world.post(&body).await.0 == 200
}

/// One network of an honest miner and one for each cheat, every answer audited. `make test` runs it: `cargo test -p
/// cortensor-node --test it cheats:: -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two and a half minutes, most of it epochs; make test runs it"]
async fn every_cheat_with_a_real_model_is_slashed_and_an_honest_miner_is_not() {
    crate::audit::logs();
    let folder = tempfile::tempdir().unwrap();
    let lower = folder.path().join("q4_0.gguf");
    write_quantised(&bundled(), &lower, Quantisation::Q4_0).unwrap();
    let (honest, cheaper) = (load(&bundled()), load(&lower));
    let profile = calibrated(&honest, &cheaper).await;
    let cheats = [
        Cheat::Weights(Arc::clone(&cheaper)),
        Cheat::CutPrompt(25),
        Cheat::AlteredPrompt(4),
        Cheat::Seed,
        Cheat::OpenSeed,
        Cheat::Cached,
        Cheat::Injected(16),
        Cheat::EarlyStop(3),
        Cheat::Padding,
        Cheat::CheapText(cheaper),
    ];
    let mut engines = vec![Arc::clone(&honest)];
    let dishonest = |cheat: &Cheat| Arc::new(Dishonest::new(Arc::clone(&honest), cheat.clone())) as Arc<dyn Engine>;
    engines.extend(cheats.iter().map(dishonest));
    let config = LocalNetConfig {
        guards: 4,
        profiles: vec![profile],
        deposit: Wei(10_000 * Wei::COR.0),
        ..LocalNetConfig::new(folder.path().to_owned())
    };
    let world = World::over_all(config, engines).await;
    let (contracts, wallet) = (&world.net.contracts, &world.net.wallet);
    let everything =
        ScoresParameters { newcomer_ppm: 1_000_000, suspicious_ppm: 1_000_000, ..ScoresParameters::default() };
    contracts.scores.set_parameters(wallet, everything).await.unwrap();
    for local in &world.net.miners {
        contracts.batches.refresh_rate(wallet, local.miner.operator()).await.unwrap();
    }
    contracts.court.fund(wallet, Wei(100 * Wei::COR.0)).await.unwrap();
    // Classes count from the epoch after the one in which they were declared; before, nothing is weighed.
    let declared = contracts.guards.next_epoch().await.unwrap();
    eventually_in("the classes count", Duration::from_secs(60), async || {
        contracts.guards.next_epoch().await.unwrap() > declared + 1
    })
    .await;
    let operators: Vec<Operator> = world.net.miners.iter().map(|local| local.miner.operator()).collect();
    for text in
        ["Tell me a short story about the moon.", "Write a small poem about rain.", "Who are you?", "What is a miner?"]
    {
        for operator in &operators {
            ask(&world, *operator, text).await;
        }
    }
    for (operator, cheat) in operators[1..].iter().zip(&cheats) {
        let what = format!("the miner is slashed that cheats by: {}", cheat.name());
        eventually_in(&what, A_CONVICTION, async || {
            // Whoever is not convicted yet is asked more, as long as the router lets it.
            let state = contracts.scores.score(*operator).await.unwrap().state;
            if state != State::Slashed {
                ask(&world, *operator, "Tell me about the sea.").await;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            state == State::Slashed
        })
        .await;
        let stake = contracts.registry.node(*operator).await.unwrap().unwrap().stake;
        assert!(stake < Wei(1_000 * Wei::COR.0), "{}: {stake}", cheat.name());
    }
    let score = contracts.scores.score(operators[0]).await.unwrap();
    assert!(score.jobs > 0 && score.evidence() < 0, "{score:?}");
    assert_eq!(score.state, State::Good, "{score:?}");
    world.net.shutdown().await.unwrap();
}
