//! What can be said of an answer without a judge.
//!
//! A *hard* finding decides alone: the request prescribed a form and the answer does not have it, or there is no
//! answer. The others only take part of the score away, because they may have a reason that a program does not see.

use crate::{PPM, schema, text, tools};
use cortensor_protocol::{FinishReason, GenerationRequest, Prompt, ResponseFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer and what it answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub request: &'a GenerationRequest,
    /// What was delivered.
    pub text: &'a str,
    /// Why it ended.
    pub finish: FinishReason,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// There is an answer.
    Empty,
    /// It has the form that was asked for.
    Form,
    /// Its tool calls exist and have the arguments that their schemas ask for.
    ToolCalls,
    /// It does not refuse.
    Refusal,
    /// It does not say the same again and again.
    Repetition,
    /// It is made of text.
    Nonsense,
    /// It ends where it is complete.
    CutOff,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Whether it decides alone.
    pub hard: bool,
    /// What is left of the score by this check alone, in ppm; 0 where it is hard.
    pub score_ppm: u32,
    /// Why, for people to read.
    pub reason: String,
}

/// What all checks found; without findings the score is whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Only what is wrong.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether the answer is worth nothing, whatever a judge says.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.findings.iter().any(|finding| finding.hard)
    }

    /// The part of a judge's score that is left, in ppm.
    #[must_use]
    pub fn score_ppm(&self) -> u32 {
        let left = |score: u64, finding: &Finding| score * u64::from(finding.score_ppm) / u64::from(PPM);
        let score = self.findings.iter().fold(u64::from(PPM), left);
        u32::try_from(score).expect("at most a million")
    }
}

/// What a refusal leaves: it may have been called for.
const REFUSAL_PPM: u32 = 500_000;
/// What a block of code that is left open leaves.
const CUT_OFF_PPM: u32 = 700_000;
/// Repetition up to here is nothing unusual.
const REPETITION_FREE_PPM: u32 = 300_000;
/// Signs of nonsense up to here are nothing unusual.
const NONSENSE_FREE_PPM: u32 = 20_000;
/// From here on nonsense leaves nothing.
const NONSENSE_ALL_PPM: u32 = 300_000;
/// Requests for fewer tokens may have an empty answer.
const LEAST_TOKENS: u32 = 4;

/// Goes through all checks. An answer that was cut off by the request's own limit or by its client is not blamed for
/// what is missing.
#[must_use]
pub fn check(answer: &Answer<'_>) -> Checked {
    let found =
        [empty(answer), form(answer), tool_calls(answer), refusal(answer), repetition(answer), nonsense(answer)];
    Checked { findings: found.into_iter().chain([cut_off(answer)]).flatten().collect() }
}

fn is_whole(answer: &Answer<'_>) -> bool {
    matches!(answer.finish, FinishReason::EndOfSequence | FinishReason::Stop)
}

fn hard(check: Check, reason: impl Into<String>) -> Finding {
    Finding { check, hard: true, score_ppm: 0, reason: reason.into() }
}

fn soft(check: Check, score_ppm: u32, reason: impl Into<String>) -> Finding {
    Finding { check, hard: false, score_ppm, reason: reason.into() }
}

/// All up to `free`, nothing from `all` on, and evenly less between.
fn falling(found: u32, free: u32, all: u32) -> u32 {
    let beyond = u64::from(found.clamp(free, all) - free);
    let left = u64::from(PPM) - u64::from(PPM) * beyond / u64::from(all - free);
    u32::try_from(left).expect("at most a million")
}

fn empty(answer: &Answer<'_>) -> Option<Finding> {
    let excused = answer.finish == FinishReason::Cancelled || answer.request.max_tokens < LEAST_TOKENS;
    // A stop text may come first.
    let stopped = answer.finish == FinishReason::Stop;
    (answer.text.trim().is_empty() && !excused && !stopped).then(|| hard(Check::Empty, "there is no answer"))
}

/// A tool call stands in place of the form that is asked of text.
fn is_call(answer: &Answer<'_>) -> bool {
    matches!(&answer.request.prompt, Prompt::Chat { tools, .. } if !tools.is_empty())
        && answer.text.contains("<tool_call>")
}

fn form(answer: &Answer<'_>) -> Option<Finding> {
    if !is_whole(answer) || is_call(answer) || answer.text.trim().is_empty() {
        return None;
    }
    let asked = match &answer.request.response_format {
        // Engines that follow a grammar cannot leave it; there is no second reader of grammars here.
        ResponseFormat::Text | ResponseFormat::Grammar(_) => return None,
        ResponseFormat::JsonObject => Value::from_iter([("type", "object")]),
        ResponseFormat::JsonSchema(schema) => serde_json::from_str(schema).ok()?,
    };
    let Ok(value) = serde_json::from_str::<Value>(answer.text.trim()) else {
        return Some(hard(Check::Form, "JSON was asked for, and this is none"));
    };
    schema::check(&asked, &value).err().map(|misfit| hard(Check::Form, misfit.to_string()))
}

fn tool_calls(answer: &Answer<'_>) -> Option<Finding> {
    let Prompt::Chat { tools, tool_choice, .. } = &answer.request.prompt else { return None };
    if tools.is_empty() || !is_whole(answer) {
        return None;
    }
    tools::fault(answer.text, tools, tool_choice).map(|problem| hard(Check::ToolCalls, problem))
}

fn refusal(answer: &Answer<'_>) -> Option<Finding> {
    text::refuses(answer.text).then(|| soft(Check::Refusal, REFUSAL_PPM, "it refuses"))
}

fn repetition(answer: &Answer<'_>) -> Option<Finding> {
    let repeated = text::repetition_ppm(answer.text);
    let reason = format!("{repeated} ppm of it was said before");
    (repeated > REPETITION_FREE_PPM)
        .then(|| soft(Check::Repetition, falling(repeated, REPETITION_FREE_PPM, PPM), reason))
}

fn nonsense(answer: &Answer<'_>) -> Option<Finding> {
    let nothing = text::nonsense_ppm(answer.text);
    let reason = format!("{nothing} ppm of it is no text");
    (nothing > NONSENSE_FREE_PPM)
        .then(|| soft(Check::Nonsense, falling(nothing, NONSENSE_FREE_PPM, NONSENSE_ALL_PPM), reason))
}

fn cut_off(answer: &Answer<'_>) -> Option<Finding> {
    let open = answer.finish == FinishReason::EndOfSequence && text::is_cut_off(answer.text);
    open.then(|| soft(Check::CutOff, CUT_OFF_PPM, "a block of code is left open"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::{ChatMessage, Role, SamplingParams, Tool, ToolChoice};
    use proptest::prelude::*;

    fn request(change: impl FnOnce(&mut GenerationRequest)) -> GenerationRequest {
        let mut request = GenerationRequest {
            model: "m".into(),
            prompt: Prompt::Text("p".into()),
            sampling: SamplingParams::default(),
            seed: None,
            max_tokens: 100,
            stop: Vec::new(),
            response_format: ResponseFormat::Text,
            logprobs: None,
        };
        change(&mut request);
        request
    }

    fn found(request: &GenerationRequest, text: &str, finish: FinishReason) -> Vec<(Check, bool)> {
        let checked = check(&Answer { request, text, finish });
        assert_eq!(checked.is_decided(), checked.findings.iter().any(|finding| finding.hard));
        checked.findings.iter().map(|finding| (finding.check, finding.hard)).collect()
    }

    #[test]
    fn plain_answers_have_nothing_wrong() {
        let plain = request(|_| ());
        assert_eq!(found(&plain, "Paris.", FinishReason::EndOfSequence), []);
        assert_eq!(check(&Answer { request: &plain, text: "Paris.", finish: FinishReason::Length }).score_ppm(), PPM);
    }

    #[test]
    fn what_is_asked_for_decides_alone() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#;
        let json = request(|request| request.response_format = ResponseFormat::JsonSchema(schema.into()));
        let end = FinishReason::EndOfSequence;
        assert_eq!(found(&json, " {\"a\": 1}\n", end), []);
        assert_eq!(found(&json, "{\"a\": \"1\"}", end), [(Check::Form, true)]);
        assert_eq!(found(&json, "Sure! {\"a\": 1}", end), [(Check::Form, true)]);
        assert_eq!(found(&json, "{\"a\": ", FinishReason::Length), [], "the client's own limit");
        assert_eq!(found(&json, "", end), [(Check::Empty, true)]);
        let object = request(|request| request.response_format = ResponseFormat::JsonObject);
        assert_eq!(found(&object, "[1]", end), [(Check::Form, true)]);
        assert_eq!(check(&Answer { request: &object, text: "[1]", finish: end }).score_ppm(), 0);
    }

    #[test]
    fn calls_stand_for_the_form() {
        let tool = Tool { name: "f".into(), description: String::new(), parameters: "{}".into() };
        let request = request(|request| {
            request.response_format = ResponseFormat::JsonObject;
            request.prompt = Prompt::Chat {
                messages: vec![ChatMessage::text(Role::User, "x")],
                tools: vec![tool],
                tool_choice: ToolChoice::Auto,
            };
        });
        let call = |name: &str| format!("<tool_call>{{\"name\":\"{name}\",\"arguments\":{{}}}}</tool_call>");
        assert_eq!(found(&request, &call("f"), FinishReason::EndOfSequence), []);
        assert_eq!(found(&request, &call("g"), FinishReason::EndOfSequence), [(Check::ToolCalls, true)]);
    }

    #[test]
    fn the_rest_takes_a_part_away() {
        let plain = request(|_| ());
        let end = FinishReason::EndOfSequence;
        let looping = "round and round it goes. ".repeat(50);
        assert_eq!(found(&plain, &looping, end), [(Check::Repetition, false)]);
        assert!(check(&Answer { request: &plain, text: &looping, finish: end }).score_ppm() < 100_000);
        assert_eq!(found(&plain, "I'm unable to do this.", end), [(Check::Refusal, false)]);
        assert_eq!(found(&plain, "\u{fffd}\u{fffd}\u{fffd}a", end), [(Check::Nonsense, false)]);
        assert_eq!(found(&plain, "```\nx", end), [(Check::CutOff, false)]);
        assert_eq!(found(&plain, "```\nx", FinishReason::Length), []);
        let both = check(&Answer { request: &plain, text: "I'm unable to.\n```\nx", finish: end });
        assert_eq!(both.score_ppm(), 350_000);
    }

    proptest! {
        #[test]
        fn any_text_has_a_score(text in "\\PC{0,200}|(.{0,3}){0,200}", finish in 0u8..4) {
            let finish = FinishReason::from_u8(finish).unwrap();
            for format in [ResponseFormat::Text, ResponseFormat::JsonObject] {
                let request = request(|request| request.response_format = format);
                let checked = check(&Answer { request: &request, text: &text, finish });
                prop_assert!(checked.score_ppm() <= PPM);
                prop_assert!(!checked.is_decided() || checked.score_ppm() == 0);
            }
        }

        #[test]
        fn more_found_leaves_less(a in 0u32..=PPM, b in 0u32..=PPM) {
            let left = |found| falling(found, REPETITION_FREE_PPM, PPM);
            prop_assert!(a > b || left(a) >= left(b));
        }
    }
}
