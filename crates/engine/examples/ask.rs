//! Asks one question of an OpenAI-compatible server through the remote backend and prints every event.
//!
//! `cargo run -p cortensor-engine --example ask -- http://127.0.0.1:8080 MODEL "question" [begun answer]`

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use cortensor_engine::{
    Engine, EngineEvent, Job,
    openai::{OpenAiConfig, OpenAiEngine},
};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, Sampled, SamplingParams, Step, TokenSampler,
    ToolChoice,
};
use tokio_util::sync::CancellationToken;

struct Unused;

impl TokenSampler for Unused {
    fn sample(&mut self, _: Step<'_>) -> Sampled {
        unreachable!("the upstream samples")
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, model, question, rest @ ..] = arguments.as_slice() else {
        return Err("usage: ask URL MODEL QUESTION [BEGUN ANSWER]".into());
    };
    let engine = OpenAiEngine::connect(OpenAiConfig::new(url, model)).await?;
    println!("{:#?}", engine.info());
    let messages = vec![ChatMessage::text(Role::User, question)];
    let request = GenerationRequest {
        model: model.clone(),
        prompt: match question.strip_prefix("text:") {
            Some(text) => Prompt::Text(text.into()),
            None => Prompt::Chat { messages, tools: vec![], tool_choice: ToolChoice::Auto },
        },
        sampling: SamplingParams::default(),
        seed: Some(1),
        max_tokens: 48,
        stop: vec![],
        response_format: ResponseFormat::Text,
        logprobs: (engine.info().tier > cortensor_protocol::Tier::D).then_some(2),
    };
    let job = Job {
        request,
        resume: vec![],
        resume_tokens: 0,
        resume_text: rest.first().cloned().unwrap_or_default(),
        sampler: Box::new(Unused),
        cancel: CancellationToken::new(),
    };
    let mut generation = engine.generate(job).await?;
    while let Some(event) = generation.next().await {
        match event {
            EngineEvent::Token(token) => {
                println!("{:?} {:?} {:?} {:?}", token.id, token.text, token.logprob, token.top);
            }
            other => println!("{other:?}"),
        }
    }
    println!("{:?} {:?}", engine.speed(), engine.load());
    println!("health: {:?}", engine.health().await);
    Ok(())
}
