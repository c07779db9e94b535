//! Requests as they come in service: several languages, code, JSON, short and long, at temperatures 0, 0.7 and 1.

use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, SamplingParams, ToolChoice, sampling::Micro,
};
use std::ops::Range;

/// Questions with a place for a subject.
const QUESTIONS: [&str; 14] = [
    "What is {}, and why does it matter?",
    "Tell me a short story about {}.",
    "Give me three reasons to think about {}.",
    "Explain {} to a child of eight.",
    "Erkläre mir bitte in einfachen Worten: {}.",
    "¿Qué debería saber todo el mundo sobre {}?",
    "Racontez-moi l'histoire de {} en quelques phrases.",
    "请用简单的话介绍一下 {}。",
    "{} について三つの文で説明してください。",
    "Расскажи коротко о том, что такое {}.",
    "اكتب فقرة قصيرة عن {}.",
    "{} के बारे में कुछ रोचक बातें बताइए।",
    "Escreva um poema curto sobre {}.",
    "Who are you, and what do you know of {}?",
];

const SUBJECTS: [&str; 18] = [
    "the moon",
    "bread",
    "a lighthouse",
    "prime numbers",
    "the capital of France",
    "rain",
    "a miner",
    "bicycles",
    "the colour blue",
    "winter",
    "honey bees",
    "electricity",
    "old maps",
    "the sea",
    "a session",
    "tea",
    "glass",
    "trees",
];

const CODE: [&str; 6] = [
    "def {}(values):\n    \"\"\"Returns the sum of the squares.\"\"\"\n    total = 0\n",
    "fn {}(input: &str) -> Option<u32> {\n    let mut parts = input.split(',');\n",
    "SELECT {}.name, COUNT(*) FROM orders JOIN",
    "function {}(items) {\n  const seen = new Map();\n  for (const item of items) {\n",
    "#include <stdio.h>\nint {}(int n) {\n  if (n < 2) return n;\n",
    "{ \"name\": \"{}\", \"version\": 3, \"entries\": [ { \"id\": 1,",
];

const NAMES: [&str; 7] = ["compute", "parse", "collect", "merge", "visit", "count", "handle"];

/// Temperatures in turn, in millionths.
const TEMPERATURES: [u32; 3] = [700_000, 0, 1_000_000];

/// How long requests may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tokens of an answer.
    pub output: u32,
    /// Longest context of the engines, in tokens.
    pub context: u32,
}

/// The requests with these numbers for a model; all different.
#[must_use]
pub fn requests(model: &str, numbers: Range<usize>, limits: Limits) -> Vec<GenerationRequest> {
    numbers.map(|at| request(model, at, limits)).collect()
}

fn request(model: &str, at: usize, limits: Limits) -> GenerationRequest {
    let (prompt, response_format) = match at % 10 {
        7 => (Prompt::Text(code(at / 10)), ResponseFormat::Text),
        8 => (chat(&[long(at / 10, limits)]), ResponseFormat::Text),
        9 => (chat(&[format!("As JSON: {}", question(at))]), ResponseFormat::JsonObject),
        5 => (chat(&[question(at), "Of course. Shall I go on?".into(), question(at + 1)]), ResponseFormat::Text),
        _ => (chat(&[question(at)]), ResponseFormat::Text),
    };
    let sampling = SamplingParams {
        temperature: Micro(TEMPERATURES[at % TEMPERATURES.len()]),
        top_p: if at % 4 == 3 { Micro(950_000) } else { Micro::ONE },
        ..SamplingParams::default()
    };
    GenerationRequest {
        model: model.to_owned(),
        prompt,
        sampling,
        seed: None,
        max_tokens: limits.output.max(1),
        stop: Vec::new(),
        response_format,
        logprobs: None,
    }
}

fn question(at: usize) -> String {
    // The number keeps requests apart when the questions are used up.
    let text = QUESTIONS[at % QUESTIONS.len()].replace("{}", SUBJECTS[at / 3 % SUBJECTS.len()]);
    if at < QUESTIONS.len() { text } else { format!("({at}) {text}") }
}

/// A question as a person might ask it, of about four thousand.
#[must_use]
pub fn small_talk(number: u32) -> String {
    let number = number as usize;
    let [first, second] = [number / 14 % 18, number / 252 % 17].map(|at| SUBJECTS[at]);
    let subject = if first == second { first.to_owned() } else { format!("{first} and {second}") };
    QUESTIONS[number % QUESTIONS.len()].replace("{}", &subject)
}

fn code(at: usize) -> String {
    let name = format!("{}_{at}", NAMES[at % NAMES.len()]);
    CODE[at % CODE.len()].replace("{}", &name)
}

/// A list of facts with a question about one of them. At most one token a byte, so it surely fits.
fn long(at: usize, limits: Limits) -> String {
    let room = limits.context.saturating_sub(limits.output + 192) as usize;
    let wanted = (room / 4 * (1 + at % 3)).min(6_000);
    let mut text = String::from("Read this list. ");
    for line in 0.. {
        let fact = format!("{}. {} is number {}. ", line, SUBJECTS[(line + at) % SUBJECTS.len()], (line * 7 + at) % 97);
        if text.len() + fact.len() > wanted {
            break;
        }
        text.push_str(&fact);
    }
    text + "Which number is tea?"
}

/// A conversation in which the user begins and ends.
fn chat(said: &[String]) -> Prompt {
    let role = |at: usize| if at.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let messages = said.iter().enumerate().map(|(at, text)| ChatMessage::text(role(at), text.as_str())).collect();
    Prompt::Chat { messages, tools: Vec::new(), tool_choice: ToolChoice::Auto }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn requests_differ_are_valid_and_fit() {
        let limits = Limits { output: 64, context: 1_024 };
        let requests = requests("m", 0..500, limits);
        let different: HashSet<_> = requests.iter().map(GenerationRequest::hash).collect();
        assert_eq!(different.len(), requests.len());
        for request in &requests {
            request.check().unwrap();
        }
        let long = requests.iter().filter_map(|request| match &request.prompt {
            Prompt::Chat { messages, .. } => messages.iter().map(|message| message.content.len()).max(),
            _ => None,
        });
        let longest = long.max().unwrap();
        assert!((500..=1_024 - 64).contains(&longest), "{longest}");
    }
}
