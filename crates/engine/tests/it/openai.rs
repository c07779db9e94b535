//! The remote backend against a real HTTP server that behaves, and misbehaves, as servers do.

use crate::{
    support::{Collected, chat, collect, eventually, job, next, run},
    upstream::{Answer, Nature, Piece, Upstream, delta},
};
use axum::http::StatusCode;
use cortensor_engine::{
    Engine, EngineError, EngineEvent, Job,
    openai::{ConnectError, Flavour, KeySource, OpenAiConfig, OpenAiEngine},
};
use cortensor_protocol::{FinishReason, GenerationRequest, Prompt, Tier, Tool, ToolChoice, sampling::LogProb};
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn config(upstream: &Upstream) -> OpenAiConfig {
    OpenAiConfig::new(&upstream.url, "m")
}

async fn connected(owner: &'static str) -> (Upstream, Arc<OpenAiEngine>) {
    with(Nature::of(owner), |_| ()).await
}

async fn with(nature: Nature, change: impl FnOnce(&mut OpenAiConfig)) -> (Upstream, Arc<OpenAiEngine>) {
    let upstream = Upstream::start(nature).await;
    let mut config = config(&upstream);
    change(&mut config);
    let engine = OpenAiEngine::connect(config).await.unwrap();
    (upstream, engine)
}

async fn answer(owner: &'static str, answer: Answer) -> Collected {
    let (upstream, engine) = connected(owner).await;
    upstream.next(answer);
    run(&*engine, job(chat("hi"))).await
}

/// A connection that waits for little.
async fn hasty() -> (Upstream, Arc<OpenAiEngine>) {
    let short = Duration::from_millis(80);
    with(Nature::of("x"), |config| (config.first_timeout, config.idle_timeout) = (short, short)).await
}

#[tokio::test]
async fn the_probe_finds_out_what_the_upstream_can_do() {
    let cases = [
        ("vllm", Flavour::Vllm, Tier::B, 2048, 8, "vLLM 9.9 (remote)"),
        ("llamacpp", Flavour::LlamaServer, Tier::C, 1024, 3, "llama-server b1 (remote)"),
        ("library", Flavour::Ollama, Tier::C, 2048, 8, "Ollama 9.9 (remote)"),
        ("sglang", Flavour::Sglang, Tier::C, 2048, 8, "SGLang (remote)"),
        ("somebody", Flavour::Generic, Tier::C, 2048, 8, "OpenAI-compatible server (remote)"),
    ];
    for (owner, flavour, tier, context, slots, build) in cases {
        let (_upstream, engine) = connected(owner).await;
        let info = engine.info();
        assert_eq!((engine.flavour(), info.tier, info.context, info.slots), (flavour, tier, context, slots));
        assert_eq!((info.build.as_str(), info.embeds, info.manifest.embedding_length), (build, true, 2));
        assert_eq!((info.manifest.name.as_str(), info.manifest.vocabulary), ("m", 1000));
        engine.health().await.unwrap();
    }
    let bare = Nature { logprobs: false, embeddings: false, ..Nature::of("x") };
    let (_upstream, engine) = with(bare, |config| config.name = Some("public".into())).await;
    assert_eq!((engine.info().tier, engine.info().embeds), (Tier::D, false));
    assert_eq!(engine.info().manifest.name, "public");
    let (_upstream, engine) = with(Nature::of("vllm"), |config| config.tier_max = Tier::C).await;
    assert_eq!(engine.info().tier, Tier::C);
    assert!(engine.score(&[1], &[2], 1).await.is_err());
}

#[tokio::test]
async fn connecting_fails_with_what_to_change() {
    let upstream = Upstream::start(Nature { key: Some("secret"), ..Nature::of("x") }).await;
    let refused = OpenAiEngine::connect(config(&upstream)).await.err().unwrap();
    assert_eq!(refused, ConnectError::Unreachable("the upstream answered 401: Incorrect API key provided".into()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let keyed = OpenAiConfig { key: KeySource::File(file.path().into()), ..config(&upstream) };
    OpenAiEngine::connect(keyed.clone()).await.unwrap();
    assert!(upstream.seen().last().unwrap().authorization.as_deref() == Some("Bearer secret"));
    let unknown = OpenAiEngine::connect(OpenAiConfig { model: "n".into(), ..keyed }).await.err().unwrap();
    assert_eq!(unknown, ConnectError::UnknownModel { model: "n".into(), listed: "other, m".into() });
    let url = upstream.url.clone();
    let bad = OpenAiEngine::connect(OpenAiConfig::new("http://user:pw@h", "m")).await.err().unwrap();
    assert!(matches!(bad, ConnectError::Config(_)), "{bad}");
    drop(upstream);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = OpenAiEngine::connect(OpenAiConfig::new(format!("http://{free}"), "m")).await.err().unwrap();
    assert!(
        matches!(&gone, ConnectError::Unreachable(why) if why.contains("cannot be reached") && !why.contains(&url)),
        "{gone}"
    );
}

#[tokio::test]
async fn an_answer_streams_through() {
    let (upstream, engine) = connected("x").await;
    upstream.next(Answer::texts(&["Hel", "lo", " \u{20ac}"]));
    let request = GenerationRequest { seed: Some(5), stop: vec!["\n".into()], logprobs: Some(1), ..chat("hi") };
    let answer = run(&*engine, job(request)).await;
    assert_eq!((answer.text().as_str(), answer.tokens.len()), ("Hello \u{20ac}", 3));
    let (reason, usage) = answer.finish.unwrap();
    assert_eq!((reason, usage.input_tokens, usage.output_tokens), (FinishReason::EndOfSequence, 7, 3));
    let sent = &upstream.generations()[0];
    assert_eq!((&sent["model"], &sent["seed"], &sent["max_tokens"]), (&json!("m"), &json!(5), &json!(64)));
    assert_eq!((&sent["logprobs"], &sent["top_logprobs"], &sent["stop"]), (&json!(true), &json!(1), &json!(["\n"])));
    assert_eq!(engine.load().active, 0);
}

#[tokio::test]
async fn bodies_may_be_cut_anywhere() {
    let body = "\u{feff}: hello\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\u{20ac}\"}}]}\r\n\r\nevent: x\r\ndata:{\"choices\":\r\ndata: \
        [{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]";
    let bytes: Vec<Piece> = body.bytes().map(|byte| Piece::Bytes(vec![byte].into())).collect();
    let answer = answer("x", Answer::Stream(bytes)).await;
    assert_eq!((answer.text().as_str(), answer.reason()), ("a\u{20ac}b", Some(FinishReason::EndOfSequence)));
}

#[tokio::test]
async fn token_ids_and_log_probabilities_come_through() {
    let token = |token: &str, logprob: f32| {
        json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes(), "top_logprobs": [
        { "token": token, "logprob": logprob, "bytes": token.as_bytes() }] })
    };
    let chunk = |text: &str, ids: &[u32], logprobs: &[serde_json::Value]| json!({ "choices": [{ "delta": { "content": text }, "token_ids": ids, "logprobs": { "content": logprobs } }] });
    let (upstream, engine) = connected("vllm").await;
    upstream.next(Answer::chunks(&[
        chunk("ab", &[4, 5], &[token("a", -0.5), token("b", -1.0)]),
        json!({ "choices": [{ "delta": {}, "finish_reason": "length" }], "usage": { "prompt_tokens": 3, "completion_tokens": 2 } }),
    ]));
    let request = GenerationRequest { logprobs: Some(1), ..chat("hi") };
    let answer = run(&*engine, job(request)).await;
    assert_eq!((answer.prompt.as_slice(), answer.ids().as_slice()), (&[11, 12, 13][..], &[4, 5][..]));
    assert_eq!(answer.started.input_tokens, 3);
    assert_eq!(answer.tokens[1].logprob, Some(LogProb(-1024)));
    assert_eq!(answer.tokens[1].top[0].bytes, b"b");
    assert_eq!(answer.reason(), Some(FinishReason::Length));
    assert_eq!(upstream.generations()[0]["return_token_ids"], true);
    assert_eq!(engine.tokenize(&chat("hi")).await.unwrap(), [11, 12, 13]);
}

#[tokio::test]
async fn given_tokens_are_scored() {
    let (_upstream, engine) = connected("vllm").await;
    let scored = engine.score(&[9, 9], &[20, 1], 2).await.unwrap();
    assert_eq!((scored[0].token, scored[0].logprob), (20, LogProb(-2048)));
    assert_eq!(scored[0].top, [(1, LogProb(-102)), (20, LogProb(-2048))]);
    assert_eq!((scored[1].token, scored[1].logprob), (1, LogProb(-102)));
}

#[tokio::test]
async fn embeddings_are_normalised_and_in_order() {
    let (_upstream, engine) = connected("x").await;
    let (vectors, tokens) = engine.embed(&["a".into(), "b".into()]).await.unwrap();
    assert_eq!((vectors[0].as_slice(), tokens), (&[1.0, 0.0][..], 2));
    assert!((vectors[1][0] - 0.6).abs() < 1e-6 && (vectors[1][1] - 0.8).abs() < 1e-6);
    assert!(engine.embed(&[]).await.is_err());
}

#[tokio::test]
async fn tool_calls_arrive_in_hermes_form() {
    let (upstream, engine) = connected("vllm").await;
    upstream.next(Answer::chunks(&[
        delta(json!({ "tool_calls": [{ "index": 0, "id": "c", "function": { "name": "w", "arguments": "{\"a\"" } }] })),
        delta(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": ": 1}" } }] })),
        json!({ "choices": [{ "delta": {}, "finish_reason": "tool_calls" }], "usage": { "completion_tokens": 20 } }),
    ]));
    let tool = Tool { name: "w".into(), description: String::new(), parameters: "{\"type\":\"object\"}".into() };
    let Prompt::Chat { messages, .. } = chat("hi").prompt else { panic!("chat makes a chat prompt") };
    let prompt = Prompt::Chat { messages, tools: vec![tool], tool_choice: ToolChoice::Required };
    let answer = run(&*engine, job(GenerationRequest { prompt, ..chat("") })).await;
    assert_eq!(answer.text(), "<tool_call>\n{\"name\": \"w\", \"arguments\": {\"a\": 1}}\n</tool_call>");
    assert_eq!(answer.finish.unwrap().1.output_tokens, 19);
    assert_eq!(upstream.generations()[0]["tool_choice"], "required");
}

#[tokio::test]
async fn a_prompt_that_nobody_counts_is_charged_low() {
    let (upstream, engine) = connected("x").await;
    upstream.next(Answer::chunks(&[
        delta(json!({ "content": "OK" })),
        json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }),
    ]));
    let answer = run(&*engine, job(chat("What is a receipt?"))).await;
    assert_eq!((answer.started.input_tokens, answer.finish.unwrap().1.input_tokens), (0, 3));
}

#[tokio::test]
async fn a_begun_answer_is_continued_where_the_upstream_can() {
    for (owner, flag) in [("vllm", json!(true)), ("llamacpp", json!(true)), ("library", json!(null))] {
        let (upstream, engine) = connected(owner).await;
        let resumed = Job { resume_text: "once upon".into(), resume_tokens: 3, ..job(chat("a story")) };
        run(&*engine, resumed).await;
        let sent = &upstream.generations()[0];
        assert_eq!(sent["messages"][1], json!({ "role": "assistant", "content": "once upon" }));
        assert_eq!((&sent["continue_final_message"], &sent["max_tokens"]), (&flag, &json!(61)));
    }
    let (upstream, engine) = connected("x").await;
    let resumed = Job { resume_text: "once upon".into(), resume_tokens: 3, ..job(chat("a story")) };
    let refused = engine.generate(resumed).await.unwrap_err();
    assert!(matches!(refused, EngineError::Unsupported { parameter: "messages", .. }), "{refused}");
    let plain = GenerationRequest { prompt: Prompt::Text("tale: ".into()), ..chat("") };
    run(&*engine, Job { resume_text: "once".into(), resume: vec![7], resume_tokens: 1, ..job(plain) }).await;
    let sent = &upstream.generations()[0];
    assert_eq!((&sent["prompt"], &sent["max_tokens"]), (&json!("tale: once"), &json!(63)));
    assert_eq!(upstream.seen().last().unwrap().path, "/v1/completions");
}

#[tokio::test]
async fn nothing_is_asked_for_an_answer_that_is_complete() {
    let (upstream, engine) = connected("vllm").await;
    let full = GenerationRequest { max_tokens: 2, ..chat("a") };
    let answer =
        run(&*engine, Job { resume: vec![1, 2], resume_tokens: 2, resume_text: "ab".into(), ..job(full) }).await;
    assert_eq!((answer.reason(), answer.tokens.len()), (Some(FinishReason::Length), 0));
    assert_eq!(upstream.generations().len(), 0);
}

#[tokio::test]
async fn refusals_keep_their_meaning() {
    let (upstream, engine) = connected("x").await;
    let cases = [
        (429, json!({ "error": { "message": "slow down" } }), EngineError::Busy { slots: 8 }),
        (
            400,
            json!({ "error": { "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 5000 } }),
            EngineError::ContextLength { prompt: 5000, output: 64, context: 2048 },
        ),
        (
            400,
            json!({ "error": { "message": "must be positive", "param": "temperature" } }),
            EngineError::Unsupported {
                parameter: "temperature",
                problem: "the upstream refuses it: must be positive".into(),
            },
        ),
        (500, json!({ "detail": "boom" }), EngineError::Backend("the upstream answered 500: boom".into())),
        (503, json!({ "error": "loading" }), EngineError::Backend("the upstream answered 503: loading".into())),
        (302, json!({}), EngineError::Backend("the upstream answered 302: {}".into())),
    ];
    for (status, body, expect) in cases {
        upstream.next(Answer::Json(StatusCode::from_u16(status).unwrap(), body.to_string()));
        let answer = run(&*engine, job(chat("hi"))).await;
        assert_eq!(answer.error, Some(expect));
    }
    assert_eq!(engine.load().active, 0);
}

#[tokio::test]
async fn broken_answers_fail_with_the_tokens_so_far() {
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let cut = answer("x", Answer::raw(&[token, "data: {\"cho"], Some(Piece::Cut))).await;
    assert_eq!((cut.text().as_str(), cut.finish), ("a", None));
    assert!(cut.failure().contains("broke off"), "{}", cut.failure());
    let closed = answer("x", Answer::raw(&[token], None)).await;
    assert!(closed.failure().contains("in the middle"), "{}", closed.failure());
    let wrong = answer("x", Answer::raw(&[token, "data: {nonsense}\n\n"], None)).await;
    assert!(wrong.failure().contains("other than a completion"), "{}", wrong.failure());
    let typed = answer("x", Answer::raw(&["data: {\"choices\":7}\n\n"], None)).await;
    assert!(typed.failure().contains("other than a completion"), "{}", typed.failure());
    let error = answer("x", Answer::raw(&[token, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"], None)).await;
    assert!(error.failure().contains("out of memory"), "{}", error.failure());
    let named = answer("x", Answer::raw(&["error: {\"code\":500,\"message\":\"slot gone\"}\n\n"], None)).await;
    assert!(named.failure().contains("slot gone"), "{}", named.failure());
    let huge = "data: ".to_owned() + &"x".repeat(2 << 20);
    let huge = answer("x", Answer::raw(&[&huge], Some(Piece::Hang))).await;
    assert!(huge.failure().contains("line of more than"), "{}", huge.failure());
}

#[tokio::test]
async fn an_answer_that_was_complete_survives_a_broken_end() {
    let last = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}\n\n";
    let cut = answer("x", Answer::raw(&[last], Some(Piece::Cut))).await;
    assert_eq!((cut.text().as_str(), cut.reason()), ("a", Some(FinishReason::Length)));
    let (upstream, engine) = hasty().await;
    upstream.next(Answer::raw(&[last], Some(Piece::Hang)));
    assert_eq!(run(&*engine, job(chat("hi"))).await.reason(), Some(FinishReason::Length));
}

#[tokio::test]
async fn servers_that_do_not_stream_are_understood() {
    let body = json!({ "choices": [{ "message": { "content": "whole" }, "finish_reason": "stop" }], "usage": { "completion_tokens": 3 } });
    let whole = answer("x", Answer::Json(StatusCode::OK, body.to_string())).await;
    assert_eq!((whole.text().as_str(), whole.tokens.len()), ("whole", 2));
    let nonsense = answer("x", Answer::Json(StatusCode::OK, "[1]".into())).await;
    assert!(nonsense.failure().contains("other than a completion"), "{}", nonsense.failure());
    let empty = answer("x", Answer::Json(StatusCode::OK, "{}".into())).await;
    assert!(empty.failure().contains("in the middle"), "{}", empty.failure());
}

#[tokio::test]
async fn silence_is_not_waited_for_forever() {
    let (upstream, engine) = hasty().await;
    upstream.next(Answer::Silence);
    let silent = run(&*engine, job(chat("hi"))).await;
    assert!(silent.failure().contains("did not answer within"), "{}", silent.failure());
    upstream.next(Answer::raw(&[": still loading\n\n"], Some(Piece::Hang)));
    let begun = run(&*engine, job(chat("hi"))).await;
    assert!(begun.failure().contains("did not begin to answer"), "{}", begun.failure());
    upstream.next(Answer::raw(&["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"], Some(Piece::Hang)));
    let stalled = run(&*engine, job(chat("hi"))).await;
    assert!(stalled.failure().contains("went silent"), "{}", stalled.failure());
    assert_eq!(stalled.text(), "a");
}

fn hanging() -> Answer {
    Answer::raw(&["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"], Some(Piece::Hang))
}

#[tokio::test]
async fn cancelling_closes_the_upstreams_connection() {
    let (upstream, engine) = connected("x").await;
    upstream.next(hanging());
    let first = job(chat("hi"));
    let cancel = first.cancel.clone();
    let mut generation = engine.generate(first).await.unwrap();
    while !matches!(next(&mut generation).await, Some(EngineEvent::Token(_))) {}
    assert_eq!((upstream.open_streams(), engine.load().active), (1, 1));
    cancel.cancel();
    let end = collect(generation).await;
    assert_eq!(end.finish.map(|(reason, usage)| (reason, usage.output_tokens)), Some((FinishReason::Cancelled, 1)));
    eventually("the upstream notices", || upstream.open_streams() == 0).await;

    upstream.next(hanging());
    let mut generation = engine.generate(job(chat("hi"))).await.unwrap();
    while !matches!(next(&mut generation).await, Some(EngineEvent::Token(_))) {}
    drop(generation);
    eventually("the upstream notices", || upstream.open_streams() == 0).await;
    eventually("the slot is free", || engine.load().active == 0 && engine.load().kv_used == 0).await;
}

#[tokio::test]
async fn a_stop_text_closes_the_connection_too() {
    let (upstream, engine) = connected("x").await;
    upstream
        .next(Answer::raw(&["data: {\"choices\":[{\"delta\":{\"content\":\"one END two\"}}]}\n\n"], Some(Piece::Hang)));
    let answer = run(&*engine, job(GenerationRequest { stop: vec!["END".into()], ..chat("hi") })).await;
    assert_eq!((answer.text().as_str(), answer.reason()), ("one ", Some(FinishReason::Stop)));
    eventually("the upstream notices", || upstream.open_streams() == 0).await;
}

#[tokio::test]
async fn slots_and_queue_are_bounded() {
    let (upstream, engine) = with(Nature::of("x"), |config| (config.slots, config.queue) = (Some(1), 1)).await;
    upstream.next(hanging());
    let mut first = engine.generate(job(chat("hi"))).await.unwrap();
    while !matches!(next(&mut first).await, Some(EngineEvent::Token(_))) {}
    let second = engine.generate(job(chat("hi"))).await.unwrap();
    let refused = engine.generate(job(chat("hi"))).await.unwrap_err();
    assert_eq!(refused, EngineError::Busy { slots: 1 });
    assert_eq!((engine.load().active, engine.load().queued), (1, 1));
    drop(first);
    assert_eq!(collect(second).await.text(), "word");
    eventually("all is free", || engine.load().active + engine.load().queued == 0).await;
}
