//! The benchmark runs and its rows make sense. What they say is not tested: a test machine has other work.

use crate::support::TestSampler;
use cortensor_llama::bench::{BenchConfig, BenchError, exact, run, traced};
use cortensor_protocol::TokenSampler;

#[tokio::test]
async fn rows_for_prefill_and_decode_at_each_concurrency() {
    let mut config = BenchConfig::new(crate::support::model_path());
    (config.prompt_tokens, config.output_tokens, config.rounds) = (40, 5, 1);
    config.concurrency = vec![1, 3];
    let rows = run(&config).await.unwrap();
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["engine.prefill.1", "engine.decode.1", "engine.prefill.3", "engine.decode.3"]);
    for row in &rows {
        assert!(row.value > 0.0 && row.peer_value > 0.0 && (row.ratio - row.value / row.peer_value).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_python_that_cannot_measure_is_an_error() {
    for python in ["does-not-exist", "/bin/false"] {
        let mut config = BenchConfig::new(crate::support::model_path());
        (config.rounds, config.concurrency, config.python) = (1, vec![1], Some(python.into()));
        let error = run(&config).await.unwrap_err();
        assert!(matches!(error, BenchError::Python(_)), "{python}: {error}");
    }
}

#[tokio::test]
async fn rows_for_tracing_and_for_the_exact_class() {
    let mut config = BenchConfig::new(crate::support::model_path());
    (config.prompt_tokens, config.output_tokens, config.rounds, config.concurrency) = (40, 5, 1, vec![2]);
    let made = std::sync::Mutex::new(Vec::new());
    let make = |traced| -> Box<dyn TokenSampler> {
        made.lock().unwrap().push(traced);
        Box::new(TestSampler { seed: Some(1), top: 0 })
    };
    let rows = [traced(&config, &make).await.unwrap(), exact(&config, &make).await.unwrap()].concat();
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    let expected =
        ["engine.prefill.2.traced", "engine.decode.2.traced", "engine.prefill.2.exact", "engine.decode.2.exact"];
    assert_eq!(names, expected);
    assert!(rows.iter().all(|row| row.value > 0.0 && row.peer_value > 0.0));
    // Two requests for the prefill and two for the decoding of each side; of the four sides one is traced.
    let made = made.into_inner().unwrap();
    assert_eq!((made.len(), made.iter().filter(|traced| **traced).count()), (16, 4));
}
