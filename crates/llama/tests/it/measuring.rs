//! The benchmark runs and its rows make sense. What they say is not tested: a test machine has other work.

use cortensor_llama::bench::{BenchConfig, BenchError, run};

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
