//! Scoring and embeddings.

use crate::support::{TestSampler, chat, job, load, run, shared};
use cortensor_engine::{Engine, EngineError, Job};

#[tokio::test]
async fn scores_agree_with_what_generation_reported() {
    let engine = shared();
    let sampler = Box::new(TestSampler { seed: Some(7), top: 4 });
    let answer = run(&engine, Job { sampler, ..job(chat("What is the capital of France?")) }).await;
    assert!(answer.tokens.len() > 2);
    let scored = engine.score(&answer.prompt, &answer.ids(), 4).await.unwrap();
    assert_eq!(scored.len(), answer.tokens.len());
    for (scored, token) in scored.iter().zip(&answer.tokens) {
        assert_eq!(Some(scored.token), token.id);
        // One pass and step by step use different kernels: 0.1 nat is far above their noise and far below another model's.
        assert!((scored.logprob.nats() - token.logprob.unwrap().nats()).abs() < 0.1, "{scored:?} {token:?}");
        assert_eq!(scored.top.len(), 4);
        assert!((scored.top[0].1.nats() - token.top[0].logprob.nats()).abs() < 0.1);
        assert!(!token.top[0].bytes.is_empty() || engine.info().manifest.vocabulary > token.top[0].id.unwrap());
    }
}

#[tokio::test]
async fn scoring_in_pieces_gives_the_same() {
    let engine = shared();
    let small = load(|config| {
        config.batch = 8.try_into().unwrap();
        config.micro_batch = config.batch;
    });
    let answer = run(&engine, job(chat("Who are you?"))).await;
    let whole = engine.score(&answer.prompt, &answer.ids(), 2).await.unwrap();
    let pieces = small.score(&answer.prompt, &answer.ids(), 2).await.unwrap();
    assert_eq!(whole.len(), pieces.len());
    for (a, b) in whole.iter().zip(&pieces) {
        assert!((a.logprob.nats() - b.logprob.nats()).abs() < 0.1, "{a:?} {b:?}");
    }
    assert!(engine.score(&answer.prompt, &[], 2).await.unwrap().is_empty());
    let error = engine.score(&answer.prompt, &vec![1; 300], 0).await.unwrap_err();
    assert!(matches!(error, EngineError::ContextLength { .. }), "{error:?}");
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn embeddings_have_unit_length_and_put_like_beside_like() {
    let engine = shared();
    let texts = [
        "The capital of France is Paris.",
        "Paris is the capital of France.",
        "Two plus three is five.",
        "Two plus three is five.",
    ];
    let (vectors, tokens) = engine.embed(&texts.map(String::from)).await.unwrap();
    assert_eq!(vectors.len(), 4);
    assert!(tokens > 12);
    for vector in &vectors {
        assert_eq!(vector.len(), engine.info().manifest.embedding_length as usize);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-4);
    }
    assert!((cosine(&vectors[2], &vectors[3]) - 1.0).abs() < 1e-5);
    assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]));
    let error = engine.embed(&["word ".repeat(400)]).await.unwrap_err();
    assert!(matches!(error, EngineError::ContextLength { .. }), "{error:?}");
}

#[tokio::test]
async fn side_jobs_do_not_disturb_a_generation() {
    let engine = load(|_| ());
    let alone = run(&engine, job(chat("What do bees make?"))).await;
    let texts = ["bees".to_owned(), "honey".to_owned()];
    let (beside, embedded, scored) = tokio::join!(
        run(&engine, job(chat("What do bees make?"))),
        engine.embed(&texts),
        engine.score(&alone.prompt, &[1, 2, 3], 1),
    );
    assert_eq!(beside.ids(), alone.ids());
    assert_eq!((embedded.unwrap().0.len(), scored.unwrap().len()), (2, 3));
}

#[tokio::test]
async fn speeds_are_measured() {
    let engine = load(|config| config.warm_up = true);
    let speed = engine.speed();
    assert!(speed.decode_tokens_per_second > 0 && speed.prefill_tokens_per_second > 0, "{speed:?}");
}
