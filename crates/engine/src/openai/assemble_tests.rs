//! The assembler against the chunk shapes of the servers that exist, and against random ones.

use super::*;
use proptest::prelude::*;

fn start(limit: u32, stops: &[&str]) -> Assembler {
    Assembler::new(Start {
        prompt: vec![],
        prompt_floor: 2,
        limit,
        top: 1,
        stops: StopMatcher::new(stops),
        stop_texts: stops.iter().map(ToString::to_string).collect(),
    })
}

/// All events of these chunks, or the error.
fn feed(assembler: &mut Assembler, chunks: &[&str], done: bool) -> Result<Vec<EngineEvent>, EngineError> {
    let mut events = Vec::new();
    for chunk in chunks {
        events.extend(assembler.chunk(serde_json::from_str(chunk).unwrap())?);
    }
    events.extend(assembler.end(done)?);
    Ok(events)
}

fn run(chunks: &[&str]) -> (Vec<String>, String, FinishReason, Usage) {
    summary(feed(&mut start(100, &[]), chunks, true).unwrap())
}

/// The texts of the tokens, the tail, the reason and the usage of a whole generation.
fn summary(events: Vec<EngineEvent>) -> (Vec<String>, String, FinishReason, Usage) {
    let mut events = events.into_iter();
    assert!(matches!(events.next(), Some(EngineEvent::Started { .. })));
    let mut texts = Vec::new();
    for event in events.by_ref() {
        match event {
            EngineEvent::Token(token) => texts.push(token.text),
            EngineEvent::Finished { reason, tail, usage, .. } => {
                assert_eq!(events.next(), None);
                return (texts, tail, reason, usage);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    panic!("it did not finish");
}

#[test]
fn plain_chunks_are_tokens() {
    let (texts, tail, reason, usage) = run(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        r#"{"choices":[{"delta":{"content":"Hel"}}]}"#,
        r#"{"choices":[{"delta":{"content":"lo"},"logprobs":null}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
    ]);
    assert_eq!(
        (texts.as_slice(), tail.as_str(), reason),
        (&["Hel".to_owned(), "lo".into()][..], "", FinishReason::EndOfSequence)
    );
    assert_eq!(usage, Usage { input_tokens: 7, cached_input_tokens: 4, output_tokens: 2 });
}

#[test]
fn reported_tokens_are_counted_one_by_one() {
    let mut assembler = start(100, &[]);
    let events = feed(&mut assembler, &[
        r#"{"prompt_token_ids":[5,6],"choices":[{"delta":{"content":"ab"},"token_ids":[8,9],"logprobs":{"content":[
            {"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"z","logprob":-2}]},
            {"token":"b","logprob":-1.0}]}}]}"#,
        r#"{"choices":[{"delta":{"content":"\u20ac"},"token_ids":[1,2],"logprobs":{"content":[{"token":"\ufffd"},{"token":"\ufffd"}]}}]}"#,
        r#"{"choices":[{"delta":{"content":""},"token_ids":[3],"logprobs":{"content":[{"token":"<eos>","logprob":0}]},"finish_reason":"stop"}]}"#,
        r#"{"usage":{"prompt_tokens":2,"completion_tokens":5}}"#,
    ], true).unwrap();
    assert!(matches!(&events[0], EngineEvent::Started { prompt, .. } if prompt == &[5, 6]));
    let EngineEvent::Token(first) = &events[1] else { panic!("{events:?}") };
    assert_eq!((first.id, first.text.as_str(), first.logprob, first.top.len()), (Some(8), "a", Some(LogProb(-512)), 1));
    let (texts, _, _, usage) = summary(events);
    assert_eq!((texts.join("|").as_str(), usage.output_tokens), ("a|b||\u{20ac}", 4));
}

#[test]
fn tool_calls_arrive_in_pieces_and_leave_whole() {
    let (texts, tail, reason, usage) = run(&[
        r#"{"choices":[{"delta":{"content":"Look."}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","type":"function","function":{"name":"w","arguments":""}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"name":"v","arguments":"{oops"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}],"usage":{"completion_tokens":13}}"#,
    ]);
    let text = texts.concat() + &tail;
    let calls = "<tool_call>\n{\"name\": \"w\", \"arguments\": {\"a\":1}}\n</tool_call>\n<tool_call>\n{\"name\": \"v\", \"arguments\": \"{oops\"}\n</tool_call>";
    assert_eq!(text, format!("Look.{calls}"));
    assert_eq!((reason, usage.output_tokens, texts.len()), (FinishReason::EndOfSequence, 12, 12));
}

#[test]
fn whole_answers_are_one_chunk() {
    let (texts, tail, _, _) = run(&[r#"{"choices":[{"message":{"role":"assistant","reasoning":"hm","content":null,
        "tool_calls":[{"id":"x","function":{"name":"w","arguments":{"a":1}}}]},"finish_reason":"tool_calls"}]}"#]);
    assert_eq!(
        texts.concat() + &tail,
        "<think>hm</think><tool_call>\n{\"name\": \"w\", \"arguments\": {\"a\":1}}\n</tool_call>"
    );
    let (texts, ..) =
        run(&[r#"{"choices":[{"text":"plain","finish_reason":"length"}],"usage":{"completion_tokens":3}}"#]);
    assert_eq!(texts, ["plain", "", ""]);
}

#[test]
fn reasoning_is_marked_as_models_mark_it() {
    let chunks = [
        r#"{"choices":[{"delta":{"reasoning_content":"a","reasoning":"a"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#,
        r#"{"choices":[{"delta":{"content":"c"}}]}"#,
        r#"{"choices":[{"finish_reason":"stop"}]}"#,
    ];
    assert_eq!(run(&chunks).0, ["<think>a", "b", "</think>c"]);
    let cut = [chunks[0], r#"{"choices":[{"finish_reason":"stop"}]}"#];
    assert_eq!((run(&cut).0.concat(), run(&cut).1), ("<think>a".into(), "</think>".into()));
}

#[test]
fn stop_texts_hold_even_if_the_upstream_ignores_them() {
    let chunks = [r#"{"choices":[{"delta":{"content":"one EN"}}]}"#, r#"{"choices":[{"delta":{"content":"D two"}}]}"#];
    let mut assembler = start(100, &["END"]);
    let (texts, tail, reason, _) = summary(feed(&mut assembler, &chunks, false).unwrap());
    assert_eq!((texts.concat() + &tail, reason), ("one ".into(), FinishReason::Stop));
    let told = [r#"{"choices":[{"delta":{"content":"one "},"finish_reason":"stop","stop_reason":"END"}]}"#];
    assert_eq!(summary(feed(&mut start(9, &["END"]), &told, true).unwrap()).2, FinishReason::Stop);
}

#[test]
fn an_upstream_that_goes_on_is_cut_off() {
    let chunk = r#"{"choices":[{"delta":{"content":"x"}}]}"#;
    let (texts, _, reason, usage) = summary(feed(&mut start(2, &[]), &[chunk, chunk, chunk, chunk], false).unwrap());
    assert_eq!((texts.len(), reason, usage.output_tokens), (2, FinishReason::Length, 2));
}

#[test]
fn broken_streams_fail() {
    let fails = |chunks: &[&str], done: bool, expect: &str| {
        let error = feed(&mut start(100, &[]), chunks, done).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let text = r#"{"choices":[{"delta":{"content":"x"}}]}"#;
    fails(&[text], false, "in the middle");
    fails(&[], true, "in the middle");
    fails(&[text, r#"{"error":{"message":"out of memory"}}"#], true, "out of memory");
    fails(&[r#"{"choices":[{"finish_reason":"content_filter"}]}"#], true, "content filter");
    fails(&[r#"{"choices":[{"finish_reason":"abort"}]}"#], true, "abort");
    fails(
        &[r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#],
        true,
        "without a name",
    );
    let endless = format!(
        r#"{{"choices":[{{"delta":{{"tool_calls":[{{"function":{{"arguments":"{}"}}}}]}}}}]}}"#,
        "x".repeat(300_000)
    );
    fails(&[endless.as_str(); 4], true, "more than 1048576 bytes");
}

#[test]
fn a_cancelled_answer_keeps_its_count() {
    let mut assembler = start(100, &["xy"]);
    assembler.chunk(serde_json::from_str(r#"{"choices":[{"delta":{"content":"abx"}}]}"#).unwrap()).unwrap();
    let EngineEvent::Finished { reason, tail, usage, .. } = assembler.cancel() else { panic!("not an end") };
    assert_eq!((reason, tail.as_str(), usage.output_tokens), (FinishReason::Cancelled, "x", 1));
}

fn chunks() -> impl Strategy<Value = Vec<String>> {
    let parts = [
        r#"{}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":null}"#,
        r#"{"choices":[{}]}"#,
        r#"{"choices":[{"delta":{"content":"ab"}}]}"#,
        r#"{"choices":[{"delta":{"content":"END"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning":"r"}}]}"#,
        r#"{"choices":[{"delta":{"content":"q"},"logprobs":{"content":[{"token":"q","logprob":-1,"id":4}]}}]}"#,
        r#"{"choices":[{"text":"t","logprobs":{"tokens":["t"],"token_logprobs":[-1],"top_logprobs":[{"t":-1,"u":-2}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"delta":{"content":"z"},"finish_reason":"length"}]}"#,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":6}}"#,
        r#"{"usage":{"completion_tokens":4294967295}}"#,
        r#"{"error":"e"}"#,
        r#"{"error":null}"#,
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()).prop_map(ToOwned::to_owned), 0..16)
}

proptest! {
    /// Whatever comes in whatever order: one start, then tokens within the limit, then one end or an error.
    #[test]
    fn events_are_always_well_formed(chunks in chunks(), done in any::<bool>()) {
        let mut assembler = start(12, &["END"]);
        let (mut events, mut failed) = (Vec::new(), false);
        for chunk in &chunks {
            match assembler.chunk(serde_json::from_str(chunk).unwrap()) {
                Ok(more) => events.extend(more),
                Err(_) => failed = true,
            }
            if failed || assembler.ended() {
                break;
            }
        }
        if !failed {
            match assembler.end(done) {
                Ok(more) => events.extend(more),
                Err(_) => failed = true,
            }
        }
        let tokens = events.iter().filter(|event| matches!(event, EngineEvent::Token(_))).count();
        prop_assert!(tokens <= 12);
        prop_assert_eq!(usize::try_from(assembler.emitted()).unwrap(), tokens);
        let ends = events.iter().filter(|event| matches!(event, EngineEvent::Finished { .. })).count();
        prop_assert_eq!(ends, usize::from(!failed));
        for (at, event) in events.iter().enumerate() {
            prop_assert_eq!(matches!(event, EngineEvent::Started { .. }), at == 0);
            let last = at + 1 == events.len();
            prop_assert_eq!(matches!(event, EngineEvent::Finished { .. }), last && !failed);
        }
    }
}
