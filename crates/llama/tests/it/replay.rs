//! Replay with the protocol's own sampler: what a guard finds of a trace that was recorded while it was generated, and what
//! the hidden state is that both see.

use crate::support::{TestSampler, chat, collect, job, load, request, run, shared};
use cortensor_engine::{Engine, EngineError, Job, Replay};
use cortensor_llama::LlamaEngine;
use cortensor_proof::{Recording, Replayer, SeededSampler, replay::Finding};
use cortensor_protocol::{
    GenerationRequest, Prompt, ResponseFormat, Sampled, SamplingParams, Step, TokenId, TokenSampler,
    trace::{NO_TOKEN, Sketch},
};
use std::sync::{Arc, Mutex};

fn recording(request: GenerationRequest) -> (Job, Recording) {
    let (sampler, recording) = SeededSampler::recording([7; 32].into(), request.sampling.clone(), 4);
    (Job { sampler: Box::new(sampler), ..job(request) }, recording)
}

async fn findings(
    engine: &Arc<LlamaEngine>,
    request: GenerationRequest,
    output: &[TokenId],
    from: u32,
) -> Vec<Finding> {
    let (replayer, findings) = Replayer::new([7; 32].into(), request.sampling.clone(), output.to_vec());
    let replay = Replay { request, output: output.to_vec(), from, sampler: Box::new(replayer) };
    engine.replay(replay).await.unwrap();
    findings.take()
}

#[tokio::test]
async fn a_guard_of_the_exact_class_finds_every_record_as_it_is() {
    let miner = load(|config| config.exact = true);
    let guard = load(|config| (config.exact, config.batch) = (true, 9.try_into().unwrap()));
    for (at, question) in ["Who are you?", "What do bees make?", "Tell me a story about a fox."].into_iter().enumerate()
    {
        let (first, recorded) = recording(chat(question));
        let (beside, _) = recording(chat("What is a receipt?"));
        let (_, answer) = tokio::join!(run(&miner, beside), run(&miner, first));
        let records = recorded.take();
        // The token that ended the answer was drawn as well.
        let output: Vec<TokenId> = records.iter().map(|(token, _)| token.id).collect();
        assert_eq!(output[..answer.tokens.len()], answer.ids());
        let found = findings(&guard, chat(question), &output, u32::try_from(at).unwrap()).await;
        assert_eq!(found.len(), records.len() - at);
        for (found, (token, evidence)) in found.iter().zip(&records[at..]) {
            assert_eq!((found.token, found.evidence, found.margin), (*token, *evidence, 0));
            assert_ne!(evidence.sketch, Sketch::NONE);
        }
    }
}

#[tokio::test]
async fn a_guard_of_another_kind_finds_nearly_the_same() {
    let (miner, guard) = (shared(), load(|config| config.exact = true));
    let (job, recorded) = recording(chat("What is the capital of France?"));
    run(&miner, job).await;
    let records = recorded.take();
    let output: Vec<TokenId> = records.iter().map(|(token, _)| token.id).collect();
    for (found, (token, evidence)) in
        findings(&guard, chat("What is the capital of France?"), &output, 0).await.iter().zip(&records)
    {
        // A tenth of a nat, and a hundredth of the squared length: far above rounding, far below another model.
        assert!(found.margin < 102 && found.logprob_difference(*token) < 102, "{found:?} {token:?}");
        assert!(found.sketch_distance_q20(evidence).unwrap() < 1 << 14, "{found:?} {evidence:?}");
    }
}

/// Keeps what it is shown.
#[derive(Default)]
struct Watcher {
    hidden: Arc<Mutex<Vec<Vec<f32>>>>,
    allowed: Arc<Mutex<Vec<usize>>>,
}

impl TokenSampler for Watcher {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        let allowed = step.logits.iter().filter(|logit| logit.is_finite()).count();
        self.allowed.lock().unwrap().push(allowed);
        self.hidden.lock().unwrap().push(step.hidden.unwrap().to_vec());
        Sampled { token: 0, logprob: Default::default(), top: vec![] }
    }

    fn wants_hidden(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_hidden_state_is_what_embeddings_are_made_of() {
    let engine = shared();
    let text = "The capital of France is Paris.";
    let tokens = engine.tokenize(&request(Prompt::Text(text.into()))).await.unwrap();
    let watcher = Watcher::default();
    let hidden = Arc::clone(&watcher.hidden);
    let output = [&tokens[1..], &[0]].concat();
    let prompt = Prompt::Tokens(tokens[..1].to_vec());
    let replay = Replay { request: request(prompt), output, from: 0, sampler: Box::new(watcher) };
    engine.replay(replay).await.unwrap();
    let hidden = std::mem::take(&mut *hidden.lock().unwrap());
    assert_eq!(hidden.len(), tokens.len());
    let (vectors, count) = engine.embed(&[text.into()]).await.unwrap();
    assert_eq!(count as usize, tokens.len());
    let sum: Vec<f32> = (0..vectors[0].len()).map(|at| hidden.iter().map(|state| state[at]).sum()).collect();
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    let cosine: f32 = sum.iter().zip(&vectors[0]).map(|(a, b)| a / length * b).sum();
    assert!(cosine > 0.999, "{cosine}");
}

#[tokio::test]
async fn hidden_states_reach_only_those_who_want_them() {
    let engine = shared();
    let plain = run(&engine, job(chat("What do bees make?"))).await;
    let watcher = Watcher::default();
    let hidden = Arc::clone(&watcher.hidden);
    let watched = Job { sampler: Box::new(watcher), ..job(chat("Who are you?")) };
    let (beside, watched) = tokio::join!(run(&engine, job(chat("What do bees make?"))), run(&engine, watched));
    // The one beside it asserts that it is shown none, and answers as it does alone.
    assert_eq!(beside.ids(), plain.ids());
    assert!(hidden.lock().unwrap().len() >= watched.tokens.len());
}

#[tokio::test]
async fn a_grammar_masks_as_it_did_and_nothing_follows_what_it_refuses() {
    let engine = load(|config| config.exact = true);
    let mut asked = chat("Is honey sweet?");
    asked.response_format = ResponseFormat::Grammar(r#"root ::= "yes" | "no""#.into());
    let (job, recorded) = recording(asked.clone());
    let answer = run(&engine, job).await;
    assert!(["yes", "no"].contains(&answer.text().as_str()), "{}", answer.text());
    let records = recorded.take();
    let output: Vec<TokenId> = records.iter().map(|(token, _)| token.id).collect();
    let found = findings(&engine, asked.clone(), &output, 0).await;
    assert_eq!(found.len(), records.len());
    assert!(found.iter().all(|found| found.margin == 0), "{found:?}");
    // A token that the grammar does not allow, then whatever.
    let watcher = Watcher::default();
    let allowed = Arc::clone(&watcher.allowed);
    let output = vec![output[0], 0, 1, NO_TOKEN];
    engine.replay(Replay { request: asked, output, from: 0, sampler: Box::new(watcher) }).await.unwrap();
    let allowed = allowed.lock().unwrap();
    assert!(allowed[0] > 0 && allowed[0] < 300, "{allowed:?}");
    assert_eq!(allowed[2..], [0], "{allowed:?}");
}

struct Panics;

impl TokenSampler for Panics {
    fn sample(&mut self, _: Step<'_>) -> Sampled {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_and_harms_nobody() {
    let engine = shared();
    let replay = |output: Vec<TokenId>, from, sampler| {
        let request = GenerationRequest { sampling: SamplingParams::default(), ..chat("Who are you?") };
        engine.replay(Replay { request, output, from, sampler })
    };
    let quiet = || Box::new(TestSampler { seed: None, top: 0 });
    for output in [vec![u32::MAX], vec![NO_TOKEN, 1], vec![1; 300]] {
        let error = replay(output, 0, quiet()).await.unwrap_err();
        assert!(matches!(error, EngineError::Unsupported { .. } | EngineError::ContextLength { .. }), "{error:?}");
    }
    let error = replay(vec![1, 2], 0, Box::new(Panics)).await.unwrap_err();
    assert!(matches!(&error, EngineError::Backend(problem) if problem.contains("on purpose")), "{error:?}");
    // Beyond the end there is nothing to show, and the prompt's tokens are told nevertheless.
    let prompt = engine.tokenize(&chat("Who are you?")).await.unwrap();
    assert_eq!(replay(vec![1, 2], 2, Box::new(Panics)).await.unwrap(), prompt);
    assert_eq!(replay(vec![], 0, Box::new(Panics)).await.unwrap(), prompt);
    assert!(collect(engine.generate(job(chat("Who are you?"))).await.unwrap()).await.is_ok());
}
