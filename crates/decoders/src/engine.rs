//! What engines read: model files, answers of upstream servers, chat templates, grammars; what judges take from miners.

use crate::{choice, texts};
use alloy::primitives::B256;
use cortensor_engine::{EngineEvent, chat::ChatTemplate, openai::read_stream};
use cortensor_llama::{Metadata, allowed_next};
use cortensor_protocol::{
    ChatMessage, FinishReason, GenerationRequest, Prompt, ResponseFormat, Role, SamplingParams, Tool, ToolCall,
    ToolChoice,
};
use cortensor_usefulness::{
    PPM,
    checks::{Answer, check},
    prompt::{JudgeModel, Order, Tag, grading},
};

fn request(prompt: Prompt) -> GenerationRequest {
    GenerationRequest {
        model: "m".into(),
        prompt,
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 64,
        stop: Vec::new(),
        response_format: ResponseFormat::Text,
        logprobs: None,
    }
}

/// The head of a model file.
pub(crate) fn gguf(bytes: &[u8]) -> bool {
    Metadata::read(&mut &bytes[..]).is_ok()
}

/// An upstream's stream: one end at most, and nothing after it.
pub(crate) fn upstream(bytes: &[u8]) -> bool {
    let (options, stream) = choice(bytes);
    let mut request = request(Prompt::Text("x".into()));
    request.max_tokens = u32::from(options >> 2);
    request.stop = if options & 1 == 1 { vec!["stop".into(), "\n\n".into()] } else { Vec::new() };
    request.logprobs = (options & 2 == 2).then_some(3);
    let pieces: Vec<&[u8]> = stream.chunks(11).collect();
    let Ok(events) = read_stream(&request, &pieces) else { return false };
    let ends = events.iter().filter(|event| matches!(event, EngineEvent::Finished { .. })).count();
    let tokens = events.iter().filter(|event| matches!(event, EngineEvent::Token(_))).count();
    assert_eq!(ends, 1);
    assert!(tokens <= usize::from(options >> 2), "{tokens} tokens");
    assert!(matches!(events.last(), Some(EngineEvent::Finished { .. })));
    true
}

/// A hostile template over a hostile conversation.
pub(crate) fn template(bytes: &[u8]) -> bool {
    let [source, system, user, schema] = texts(bytes);
    let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") else { return false };
    let call = ToolCall { id: "1".into(), name: user.clone(), arguments: schema.clone() };
    let messages = [
        ChatMessage::text(Role::System, system.clone()),
        ChatMessage::text(Role::User, user),
        ChatMessage { tool_calls: vec![call], ..ChatMessage::text(Role::Assistant, "") },
    ];
    let tools = [Tool { name: "f".into(), description: system, parameters: schema }];
    template.render(&messages, &tools, true).is_ok()
}

/// A grammar, a schema or the schema of a tool, and an output that follows it so far.
pub(crate) fn grammar(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes);
    let [source, output] = texts(rest);
    let pieces: Vec<Vec<u8>> =
        ["a", "1", "\"", "{", "}", "[", "]", ",", ":", " ", "\n", "true", "\"a\":", "é", "-", ".", "<tool_call>"]
            .map(Vec::from)
            .into();
    let allowed = allowed_next(&constrained(kind, source), output.as_bytes(), &pieces);
    allowed.is_ok()
}

/// What a miner answered, as a judge takes it: however it is made, the score has its bounds and the judge is shown one request,
/// two answers and nothing else. Accepted where no check decides against it.
pub(crate) fn judgement(bytes: &[u8]) -> bool {
    let (kind, rest) = choice(bytes);
    let [source, text] = texts(rest);
    let request = constrained(kind, source);
    let checked = check(&Answer { request: &request, text: &text, finish: FinishReason::EndOfSequence });
    assert!(checked.score_ppm() <= PPM && (checked.score_ppm() == 0 || !checked.is_decided()));
    let (tag, model) = (Tag::of(B256::ZERO), JudgeModel { name: "judge", context: 8_192 });
    for order in [Order::Forward, Order::Reverse] {
        let Prompt::Chat { messages, .. } = grading(&request, (&text, "own"), order, &tag, &model).prompt else {
            panic!("a grading is a chat");
        };
        let marks: Vec<usize> = messages.iter().map(|message| message.content.matches(tag.as_str()).count()).collect();
        assert_eq!(marks, [1, 4]);
    }
    !checked.is_decided()
}

fn constrained(kind: u8, source: String) -> GenerationRequest {
    let tool = |parameters| Tool { name: "f".into(), description: String::new(), parameters };
    let chat =
        |tools, tool_choice| Prompt::Chat { messages: vec![ChatMessage::text(Role::User, "x")], tools, tool_choice };
    match kind % 4 {
        0 => {
            GenerationRequest { response_format: ResponseFormat::Grammar(source), ..request(Prompt::Text("x".into())) }
        }
        1 => GenerationRequest {
            response_format: ResponseFormat::JsonSchema(source),
            ..request(Prompt::Text("x".into()))
        },
        2 => request(chat(vec![tool(source)], ToolChoice::Required)),
        _ => GenerationRequest {
            response_format: ResponseFormat::JsonSchema(source.clone()),
            ..request(chat(vec![tool(source)], ToolChoice::Auto))
        },
    }
}
