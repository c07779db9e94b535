//! Bounds, cancellation, slow readers, faults of one job.

use crate::support::{chat, collect, job, load, refused, request, run, shared, text};
use cortensor_engine::{Engine, EngineError, EngineEvent, Generation, Job};
use cortensor_llama::{LlamaConfig, LlamaEngine, LoadError};
use cortensor_protocol::{FinishReason, Prompt, Sampled, Step, TokenSampler};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A job that runs until the context is full: 200 tokens and more.
fn long() -> Job {
    let mut request = text("Once");
    request.max_tokens = 100_000;
    // Never ends by itself.
    request.response_format = cortensor_protocol::ResponseFormat::Grammar("root ::= [a-z ] root".into());
    job(request)
}

async fn collect_rest(mut generation: Generation) -> Option<FinishReason> {
    while let Some(event) = generation.next().await {
        if let EngineEvent::Finished { reason, .. } = event {
            return Some(reason);
        }
    }
    None
}

#[tokio::test]
async fn the_context_bounds_prompt_and_output() {
    let engine = shared();
    let words = "word ".repeat(400);
    let error = refused(&engine, job(text(&words))).await;
    assert!(matches!(error, EngineError::ContextLength { prompt, context: 256, .. } if prompt >= 256), "{error:?}");
    let answer = run(&engine, long()).await;
    assert_eq!(answer.reason, FinishReason::Length);
    assert_eq!(answer.prompt.len() + answer.tokens.len(), 256);
}

#[tokio::test]
async fn beyond_slots_and_queue_it_is_busy() {
    let engine = load(|config| {
        config.slots = 1.try_into().unwrap();
        config.queue = 1;
    });
    let cancel = CancellationToken::new();
    let first = engine.generate(Job { cancel: cancel.clone(), ..long() }).await.unwrap();
    let second = engine.generate(job(chat("Who are you?"))).await.unwrap();
    assert_eq!(engine.generate(job(chat("x"))).await.unwrap_err(), EngineError::Busy { slots: 1 });
    assert_eq!(Engine::load(&*engine).active + Engine::load(&*engine).queued, 2);
    cancel.cancel();
    assert_eq!(collect(first).await.unwrap().reason, FinishReason::Cancelled);
    // The one that waited takes the slot, and room for another is free again.
    let third = engine.generate(job(chat("x"))).await.unwrap();
    assert!(!collect(second).await.unwrap().tokens.is_empty());
    collect(third).await.unwrap();
}

#[tokio::test]
async fn a_dropped_generation_frees_its_slot() {
    let engine = load(|config| {
        config.slots = 1.try_into().unwrap();
        config.queue = 1;
    });
    for _ in 0..20 {
        let mut generation = engine.generate(long()).await.unwrap();
        generation.next().await.unwrap();
        drop(generation);
        // Would be refused as busy after two rounds if slots leaked; waits for the slot otherwise.
        run(&engine, job(chat("Who are you?"))).await;
    }
}

#[tokio::test]
async fn a_job_cancelled_while_it_waits_ends_at_once() {
    let engine = load(|config| config.slots = 1.try_into().unwrap());
    let (running, waiting) = (CancellationToken::new(), CancellationToken::new());
    let mut first = engine.generate(Job { cancel: running.clone(), ..long() }).await.unwrap();
    first.next().await.unwrap();
    let second = engine.generate(Job { cancel: waiting.clone(), ..long() }).await.unwrap();
    waiting.cancel();
    let answer = collect(second).await.unwrap();
    assert_eq!((answer.reason, answer.usage), (FinishReason::Cancelled, Default::default()));
    running.cancel();
    assert_eq!(collect_rest(first).await, Some(FinishReason::Cancelled));
}

#[tokio::test]
async fn a_slow_reader_pauses_only_itself() {
    let engine = load(|config| {
        config.slots = 2.try_into().unwrap();
        config.event_buffer = 4;
    });
    let slow = engine.generate(long()).await.unwrap();
    // Nobody reads the first; ten others pass it.
    for _ in 0..10 {
        assert!(!run(&engine, job(chat("What colour is the sky?"))).await.tokens.is_empty());
    }
    assert_eq!(Engine::load(&*engine).active, 1, "it waits, and is not dropped");
    let answer = collect(slow).await.unwrap();
    assert_eq!(answer.reason, FinishReason::Length);
    assert_eq!(answer.prompt.len() + answer.tokens.len(), 256);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_name() {
    let engine = shared();
    let parameter = |error| match error {
        EngineError::Unsupported { parameter, .. } => parameter,
        other => panic!("{other:?}"),
    };
    let bad = request(Prompt::Tokens(vec![1, 1_000_000]));
    assert_eq!(parameter(refused(&engine, job(bad)).await), "prompt");
    let resume = vec![u32::MAX];
    assert_eq!(parameter(refused(&engine, Job { resume, ..job(chat("x")) }).await), "resume");
    assert_eq!(parameter(engine.score(&[u32::MAX], &[1], 0).await.unwrap_err()), "prompt");
    assert_eq!(parameter(engine.score(&[], &[1], 0).await.unwrap_err()), "prompt");
    assert_eq!(parameter(engine.embed(&[]).await.unwrap_err()), "input");
}

struct Broken(bool);

impl TokenSampler for Broken {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        assert!(!self.0, "broken on purpose at step {}", step.index);
        Sampled { token: u32::MAX, logprob: Default::default(), top: vec![] }
    }
}

#[tokio::test]
async fn a_broken_sampler_fails_its_own_job_only() {
    let engine = load(|_| ());
    let beside = engine.generate(long()).await.unwrap();
    for panics in [true, false] {
        let error = refused(&engine, Job { sampler: Box::new(Broken(panics)), ..job(chat("x")) }).await;
        assert!(matches!(&error, EngineError::Backend(text) if text.contains("sampler")), "{error:?}");
    }
    assert_eq!(collect(beside).await.unwrap().reason, FinishReason::Length);
    engine.health().await.unwrap();
}

/// Takes longer than readers may wait, and goes on only when the reader has all earlier tokens.
struct InStep {
    read: Arc<AtomicU32>,
}

impl TokenSampler for InStep {
    #[expect(clippy::disallowed_methods, reason = "a sampler runs on the engine's own thread, which may block")]
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        // Longer than readers wait to be woken.
        std::thread::sleep(Duration::from_millis(8));
        let began = Instant::now();
        while self.read.load(SeqCst) < step.index {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "token {} is due and an earlier one still held back",
                step.index
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        crate::support::TestSampler { seed: None, top: 0 }.sample(step)
    }
}

#[tokio::test]
async fn tokens_of_a_slow_model_are_handed_over_one_by_one() {
    let engine = load(|_| ());
    let read = Arc::new(AtomicU32::new(0));
    let sampler = Box::new(InStep { read: Arc::clone(&read) });
    let mut generation = engine.generate(Job { sampler, ..job(text("Once upon a time")) }).await.unwrap();
    loop {
        match generation.next().await.unwrap() {
            EngineEvent::Token(_) => drop(read.fetch_add(1, SeqCst)),
            EngineEvent::Finished { .. } => break,
            EngineEvent::Failed(error) => panic!("{error}"),
            EngineEvent::Started { .. } => {}
        }
    }
    assert!(read.load(SeqCst) > 4);
}

#[tokio::test]
async fn dropping_the_engine_ends_every_job() {
    let engine = load(|config| config.slots = 1.try_into().unwrap());
    let running = engine.generate(long()).await.unwrap();
    let waiting = engine.generate(long()).await.unwrap();
    drop(engine);
    for (mut generation, name) in [(running, "running"), (waiting, "waiting")] {
        let mut last = None;
        while let Some(event) = generation.next().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(EngineEvent::Failed(EngineError::Backend(_)))), "{name}: {last:?}");
    }
}

#[test]
fn files_and_settings_that_cannot_work_are_refused() {
    let missing = LlamaEngine::load(LlamaConfig::new("does-not-exist.gguf")).unwrap_err();
    assert!(matches!(missing, LoadError::Io { .. }), "{missing:?}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"not a model").unwrap();
    let wrong = LlamaEngine::load(LlamaConfig::new(file.path())).unwrap_err();
    assert!(matches!(wrong, LoadError::Gguf { .. }), "{wrong:?}");
    let mut cut = tempfile::NamedTempFile::new().unwrap();
    let whole = std::fs::read(crate::support::model_path()).unwrap();
    cut.write_all(&whole[..whole.len() / 2]).unwrap();
    let cut = LlamaEngine::load(LlamaConfig::new(cut.path())).unwrap_err();
    assert!(matches!(cut, LoadError::Model { .. }), "{cut:?}");
    let mut config = crate::support::config();
    config.slots = 1000.try_into().unwrap();
    assert!(matches!(LlamaEngine::load(config), Err(LoadError::Setting { setting: "slots", .. })));
}
