//! The simulator: determinism, resumption, limits, queueing, failures, and very many streams.

use crate::support::{Collected, Seeded, chat, collect, eventually, job, next, run};
use cortensor_engine::{
    Engine, EngineError, EngineEvent, Job,
    mock::{Failure, MockConfig, MockConfigError, MockEngine},
};
use cortensor_protocol::{
    FinishReason, GenerationRequest, Prompt, ResponseFormat, Tier, Tool, ToolChoice, ToolFormat, manifest::Load,
};
use std::{sync::Arc, time::Duration};

fn start(change: impl FnOnce(&mut MockConfig)) -> Arc<MockEngine> {
    let mut config = MockConfig::default();
    change(&mut config);
    MockEngine::start(config).unwrap()
}

fn long(text: &str) -> GenerationRequest {
    GenerationRequest { max_tokens: 4000, ..chat(text) }
}

#[tokio::test]
async fn answers_depend_on_prompt_and_seed_and_nothing_else() {
    let engine = start(|_| ());
    let first = run(&*engine, job(chat("hello"))).await;
    assert!(!first.tokens.is_empty());
    assert_eq!(engine.detokenize(&first.ids()), first.text());
    assert_eq!(run(&*engine, job(chat("hello"))).await.ids(), first.ids());
    assert_eq!(run(&*start(|_| ()), job(chat("hello"))).await.ids(), first.ids());
    assert_ne!(run(&*engine, job(chat("hallo"))).await.ids(), first.ids());
    assert_ne!(run(&*start(|config| config.seed = 1), job(chat("hello"))).await.ids(), first.ids());
    let other = Job { sampler: Box::new(Seeded { seed: 2, top: 0 }), ..job(chat("hello")) };
    assert_ne!(run(&*engine, other).await.ids(), first.ids());
}

/// The answer of one engine, broken off after `cut` tokens and continued by another, against the whole.
async fn check_resumed(tier: Tier, whole: &Collected, cut: usize, request: &GenerationRequest) {
    let second = start(|config| config.tier = tier);
    let text: String = whole.tokens[..cut].iter().map(|token| token.text.as_str()).collect();
    let resume = if tier >= Tier::B { whole.ids()[..cut].to_vec() } else { vec![] };
    let rest = run(&*second, Job { resume, resume_text: text.clone(), ..job(request.clone()) }).await;
    assert_eq!(text + &rest.text(), whole.text(), "cut at {cut}");
    assert_eq!(rest.reason(), whole.reason());
    assert_eq!(rest.tokens.len() + cut, whole.tokens.len());
    assert_eq!(rest.finish.unwrap().1.output_tokens, u32::try_from(rest.tokens.len()).unwrap());
}

#[tokio::test]
async fn another_engine_goes_on_where_the_first_stopped() {
    for tier in [Tier::A, Tier::D] {
        let request = chat("tell me a story");
        let whole = run(&*start(|config| config.tier = tier), job(request.clone())).await;
        for cut in 0..=whole.tokens.len() {
            check_resumed(tier, &whole, cut, &request).await;
        }
    }
}

#[tokio::test]
async fn a_stop_text_is_found_across_the_hand_over() {
    let request = chat("tell me a story");
    let plain = run(&*start(|_| ()), job(request.clone())).await;
    let text = plain.text();
    let stop = text.get(20..32).unwrap().to_owned();
    let request = GenerationRequest { stop: vec![stop.clone()], ..request };
    let whole = run(&*start(|_| ()), job(request.clone())).await;
    assert_eq!(whole.reason(), Some(FinishReason::Stop));
    assert_eq!(whole.text(), text[..text.find(&stop).unwrap()]);
    for cut in 0..=whole.tokens.len() {
        check_resumed(Tier::A, &whole, cut, &request).await;
    }
}

#[tokio::test]
async fn limits_end_the_answer() {
    let engine = start(|_| ());
    let five = run(&*engine, job(GenerationRequest { max_tokens: 5, ..chat("a") })).await;
    assert_eq!((five.tokens.len(), five.reason()), (5, Some(FinishReason::Length)));
    assert_eq!(five.finish.unwrap().1.output_tokens, 5);
    let all = run(&*engine, job(long("a"))).await;
    assert_eq!(all.reason(), Some(FinishReason::EndOfSequence));
    assert!((20..=130).contains(&all.tokens.len()), "{}", all.tokens.len());

    let small = start(|config| config.context = 60);
    let prompt = small.tokenize(&chat("a")).await.unwrap().len();
    let full = run(&*small, job(long("a"))).await;
    assert_eq!((full.tokens.len() + prompt, full.reason()), (60, Some(FinishReason::Length)));
    let refused = small.generate(job(chat(&"word ".repeat(60)))).await.unwrap_err();
    assert!(matches!(refused, EngineError::ContextLength { context: 60, .. }), "{refused}");
}

#[tokio::test]
async fn prompts_are_counted_and_cached() {
    let engine = start(|_| ());
    let request = chat(&"the same beginning ".repeat(20));
    let tokens = engine.tokenize(&request).await.unwrap();
    let first = run(&*engine, job(request.clone())).await;
    assert_eq!(first.prompt, tokens);
    assert_eq!(first.started.input_tokens, u32::try_from(tokens.len()).unwrap());
    assert_eq!(first.started.cached_input_tokens, 0);
    let again = run(&*engine, job(request)).await;
    assert!(again.started.cached_input_tokens > first.started.input_tokens - 17);

    let direct = GenerationRequest { prompt: Prompt::Tokens(tokens), ..chat("") };
    assert_eq!(run(&*engine, job(direct)).await.ids(), first.ids());
    let unknown = GenerationRequest { prompt: Prompt::Tokens(vec![512]), ..chat("") };
    let refused = engine.generate(job(unknown)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unsupported { parameter: "prompt", .. }), "{refused}");
}

#[tokio::test]
async fn log_probabilities_agree_with_scoring() {
    let engine = start(|_| ());
    let request = GenerationRequest { logprobs: Some(3), ..chat("count") };
    let answer = run(&*engine, job(request.clone())).await;
    let scored = engine.score(&answer.prompt, &answer.ids(), 3).await.unwrap();
    assert_eq!(scored.len(), answer.tokens.len());
    for (token, scored) in answer.tokens.iter().zip(&scored) {
        assert_eq!(token.id, Some(scored.token));
        assert!((token.logprob.unwrap().0 - scored.logprob.0).abs() <= 2);
        let ids: Vec<u32> = token.top.iter().map(|top| top.id.unwrap()).collect();
        assert_eq!(ids, scored.top.iter().map(|top| top.0).collect::<Vec<_>>());
        assert_eq!(ids.len(), 3);
    }
}

#[tokio::test]
async fn tiers_tell_less() {
    let request = GenerationRequest { logprobs: Some(2), ..chat("hello") };
    let whole = run(&*start(|_| ()), job(request.clone())).await;
    let c = run(&*start(|config| config.tier = Tier::C), job(request.clone())).await;
    assert!(c.prompt.is_empty() && c.started == whole.started && c.text() == whole.text());
    assert!(c.tokens.iter().all(|token| token.id.is_none() && token.logprob.is_some() && token.top.len() == 2));
    let d = run(&*start(|config| config.tier = Tier::D), job(request)).await;
    assert!(d.tokens.iter().all(|token| token.id.is_none() && token.logprob.is_none() && token.top.is_empty()));
    assert_eq!(d.text(), whole.text());
}

#[tokio::test]
async fn requests_beyond_slots_wait_and_beyond_the_queue_are_refused() {
    let engine = start(|config| (config.slots, config.queue) = (2, 1));
    engine.inject(Failure::StallAfter(1));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(engine.generate(job(chat("a"))).await.unwrap());
    }
    let refused = engine.generate(job(chat("a"))).await.unwrap_err();
    assert_eq!(refused, EngineError::Busy { slots: 2 });
    eventually("two run and one waits", || matches!(engine.load(), Load { active: 2, queued: 1, .. })).await;
    assert!(engine.load().kv_used > 0);
    let third = held.pop().unwrap();
    held.clear();
    let mut third = third;
    assert!(matches!(next(&mut third).await, Some(EngineEvent::Started { .. })));
    drop(third);
    eventually("all slots are free", || engine.load().active == 0 && engine.load().kv_used == 0).await;
}

#[tokio::test]
async fn memory_is_shared_out_in_order() {
    let engine = start(|config| config.kv_tokens = 200);
    let refused = engine.generate(job(long("a"))).await.unwrap_err();
    assert!(matches!(refused, EngineError::ContextLength { context: 200, .. }), "{refused}");
    engine.inject(Failure::StallAfter(1));
    let request = GenerationRequest { max_tokens: 100, ..chat("a") };
    let first = engine.generate(job(request.clone())).await.unwrap();
    engine.inject(Failure::None);
    let second = engine.generate(job(request)).await.unwrap();
    eventually("the second waits for memory", || matches!(engine.load(), Load { active: 1, queued: 1, .. })).await;
    drop(first);
    assert!(collect(second).await.finish.is_some());
}

#[tokio::test]
async fn cancelling_ends_a_generation_and_says_so() {
    let engine = start(|config| (config.speed_percent, config.decode_tokens_per_second) = (100, 200));
    let job = job(long("a"));
    let cancel = job.cancel.clone();
    let mut generation = engine.generate(job).await.unwrap();
    while !matches!(next(&mut generation).await, Some(EngineEvent::Token(_))) {}
    cancel.cancel();
    let end = collect(generation).await;
    assert_eq!(end.reason(), Some(FinishReason::Cancelled));
    eventually("the slot is free", || engine.load().active == 0).await;
}

#[tokio::test]
async fn cancelling_ends_what_waits_or_stalls_too() {
    let engine = start(|config| config.slots = 1);
    engine.inject(Failure::StallAfter(1));
    let jobs = [job(chat("a")), job(chat("b"))];
    let cancels: Vec<_> = jobs.iter().map(|job| job.cancel.clone()).collect();
    let mut generations = Vec::new();
    for job in jobs {
        generations.push(engine.generate(job).await.unwrap());
    }
    eventually("one stalls and one waits", || matches!(engine.load(), Load { active: 1, queued: 1, .. })).await;
    cancels.iter().for_each(tokio_util::sync::CancellationToken::cancel);
    for generation in generations {
        assert_eq!(collect(generation).await.reason(), Some(FinishReason::Cancelled));
    }
    eventually("all is free", || engine.load().active + engine.load().queued == 0).await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_nobody_up() {
    let engine = start(|_| ());
    let slow = engine.generate(job(long("a"))).await.unwrap();
    for _ in 0..3 {
        assert!(run(&*engine, job(chat("b"))).await.finish.is_some());
    }
    let expect = run(&*engine, job(long("a"))).await;
    assert_eq!(collect(slow).await.ids(), expect.ids());
}

#[tokio::test]
async fn failures_happen_as_injected() {
    let engine = start(|_| ());
    engine.inject(Failure::FailAfter(3));
    let failed = run(&*engine, job(chat("a"))).await;
    assert_eq!(failed.tokens.len(), 3);
    assert!(matches!(failed.error, Some(EngineError::Backend(_))));

    engine.inject(Failure::GarbageAfter(2));
    let garbage = run(&*engine, job(chat("a"))).await;
    assert_eq!(garbage.tokens.len(), 64);
    assert!(garbage.tokens[..2].iter().all(|token| token.id.unwrap() < 512));
    assert!(garbage.tokens[2..].iter().all(|token| token.id.unwrap() >= 512));

    engine.inject(Failure::Refuse);
    assert!(matches!(engine.generate(job(chat("a"))).await, Err(EngineError::Busy { .. })));

    engine.inject(Failure::SlowStart(Duration::from_millis(60)));
    let before = std::time::Instant::now();
    assert!(run(&*engine, job(chat("a"))).await.finish.is_some());
    assert!(before.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_stalled_stream_stays_open() {
    let engine = start(|_| ());
    engine.inject(Failure::StallAfter(2));
    let mut generation = engine.generate(job(chat("a"))).await.unwrap();
    for _ in 0..3 {
        assert!(next(&mut generation).await.is_some());
    }
    engine.inject(Failure::None);
    for _ in 0..5 {
        assert!(run(&*engine, job(chat("b"))).await.finish.is_some());
    }
    assert_eq!(generation.try_next(), None);
    assert_eq!(engine.load().active, 1);
}

#[tokio::test]
async fn a_crash_breaks_every_stream_off_until_the_restart() {
    let engine = start(|_| ());
    engine.inject(Failure::StallAfter(1));
    let bystander = engine.generate(job(chat("a"))).await.unwrap();
    engine.inject(Failure::CrashAfter(4));
    let crashed = run(&*engine, job(chat("b"))).await;
    assert_eq!((crashed.tokens.len(), crashed.finish, &crashed.error), (4, None, &None));
    let bystander = collect(bystander).await;
    assert_eq!((bystander.finish, &bystander.error), (None, &None));
    assert!(engine.health().await.is_err());
    assert!(matches!(engine.generate(job(chat("a"))).await, Err(EngineError::Backend(_))));
    assert_eq!(engine.load(), Load { kv_total: engine.load().kv_total, ..Load::default() });
    engine.restart();
    assert!(engine.health().await.is_ok());
    assert!(run(&*engine, job(chat("a"))).await.finish.is_some());
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: String::new(),
        parameters: r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#.into(),
    }
}

fn with_tool(text: &str, tool_choice: ToolChoice) -> GenerationRequest {
    let Prompt::Chat { messages, .. } = chat(text).prompt else { unreachable!("chat makes a chat prompt") };
    let prompt = Prompt::Chat { messages, tools: vec![weather()], tool_choice };
    GenerationRequest { prompt, max_tokens: 400, ..chat("") }
}

#[tokio::test]
async fn prescribed_forms_are_kept() {
    let engine = start(|_| ());
    let call = "<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":\"simulated\"}}\n</tool_call>";
    for request in [with_tool("x", ToolChoice::Required), with_tool("call weather", ToolChoice::Auto)] {
        let answer = run(&*engine, job(request)).await;
        assert_eq!((answer.text().as_str(), answer.reason()), (call, Some(FinishReason::EndOfSequence)));
    }
    for request in [with_tool("x", ToolChoice::Auto), with_tool("call weather", ToolChoice::None)] {
        assert!(!run(&*engine, job(request)).await.text().contains("tool_call"));
    }
    let schema = ResponseFormat::JsonSchema(r#"{"type":"array","items":{"type":"integer"}}"#.into());
    let json = GenerationRequest { response_format: schema, ..chat("x") };
    assert_eq!(run(&*engine, job(json)).await.text(), "[1]");
    let grammar = GenerationRequest { response_format: ResponseFormat::Grammar("root ::= \"a\"".into()), ..chat("x") };
    let refused = engine.generate(job(grammar)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unsupported { parameter: "grammar", .. }));
    let toolless = start(|config| config.tool_format = ToolFormat::None);
    let refused = toolless.generate(job(with_tool("x", ToolChoice::Auto))).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unsupported { parameter: "tools", .. }));
}

#[tokio::test]
async fn embeddings_are_unit_vectors() {
    let engine = start(|_| ());
    let (vectors, tokens) = engine.embed(&["a red fox".into(), String::new()]).await.unwrap();
    assert_eq!(vectors.len(), 2);
    assert!(tokens > 0);
    for vector in vectors {
        assert_eq!(vector.len(), 64);
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }
    assert!(start(|config| config.embedding_length = 0).embed(&["a".into()]).await.is_err());
}

#[tokio::test]
async fn a_simulator_cannot_pose_as_a_model() {
    let named = |name: &str| MockConfig { name: name.into(), ..MockConfig::default() };
    let posing = MockEngine::start(named("llama-3")).err();
    assert_eq!(posing, Some(MockConfigError::Name("llama-3".into())));
    let engine = MockEngine::start(named("mock-small")).unwrap();
    assert_eq!(engine.info().manifest.name, "mock-small");
    assert!(engine.info().build.contains("simulated"));
    let none = MockEngine::start(MockConfig { slots: 0, ..MockConfig::default() }).err();
    assert!(matches!(none, Some(MockConfigError::Range { field: "slots", .. })));
}

#[tokio::test]
async fn ten_thousand_idle_streams() {
    const STREAMS: u32 = 10_000;
    let engine = start(|config| (config.slots, config.kv_tokens) = (STREAMS + 1, u64::from(STREAMS) * 200));
    engine.inject(Failure::StallAfter(1));
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(engine.generate(job(GenerationRequest { max_tokens: 8, ..chat("a") })).await.unwrap());
    }
    for stream in &mut streams {
        assert!(matches!(next(stream).await, Some(EngineEvent::Started { .. })));
        assert!(matches!(next(stream).await, Some(EngineEvent::Token(_))));
    }
    assert_eq!(engine.load().active, STREAMS);
    engine.inject(Failure::None);
    assert!(run(&*engine, job(chat("b"))).await.finish.is_some());
    drop(streams);
    eventually("all are gone", || engine.load().active == 0 && engine.load().kv_used == 0).await;
}
