//! Network tasks from a seed: prompts, lengths, schemas. Pure, and the same for everybody who has the seed.

use alloy_primitives::{B256, keccak256};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, SamplingParams, Tool, ToolChoice,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Words that prompts are made of.
const WORDS: [&str; 32] = [
    "river", "stone", "garden", "winter", "letter", "bridge", "window", "forest", "candle", "market", "harbour",
    "engine", "mirror", "feather", "island", "teacher", "painter", "thunder", "village", "library", "orchard",
    "compass", "blanket", "kitchen", "morning", "journey", "lantern", "meadow", "planet", "silver", "whistle",
    "copper",
];

/// Bounds of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of all prompts and answers together.
    pub tokens_max: u32,
    /// Time of the whole.
    pub time_max: Duration,
    /// Time of one request.
    pub request_time_max: Duration,
    /// Longest context that is tried, in LLM tokens; a node that works up to there is believed what it offers.
    pub context_max: u32,
    /// Requests at once at most; a node that still gets faster there is believed what it offers.
    pub concurrency_max: u32,
    /// Times that each number is measured.
    pub repeats: u32,
}

impl Default for Limits {
    /// About as much as a few minutes on a laptop cost: at most 60,000 tokens.
    fn default() -> Self {
        Self {
            tokens_max: 60_000,
            time_max: Duration::from_secs(300),
            request_time_max: Duration::from_secs(60),
            context_max: 4_096,
            concurrency_max: 8,
            repeats: 3,
        }
    }
}

impl Limits {
    /// As little as shows that everything works.
    #[must_use]
    pub fn brief() -> Self {
        Self {
            tokens_max: 6_000,
            time_max: Duration::from_secs(60),
            context_max: 512,
            concurrency_max: 2,
            repeats: 1,
            ..Self::default()
        }
    }
}

/// The tasks of one measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: B256,
    /// Its bounds.
    pub limits: Limits,
}

/// A schema to be kept to: an object whose properties are all required and have few possible values, so that an answer
/// which keeps to it is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Names, with the values of each.
    properties: Vec<(String, Vec<Value>)>,
}

impl Schema {
    /// As JSON Schema.
    #[must_use]
    pub fn text(&self) -> String {
        let property = |(name, values): &(String, Vec<Value>)| {
            let kind = if values[0].is_boolean() { json!({"type": "boolean"}) } else { json!({"enum": values}) };
            (name.clone(), kind)
        };
        let properties: serde_json::Map<String, Value> = self.properties.iter().map(property).collect();
        let names: Vec<&String> = self.properties.iter().map(|(name, _)| name).collect();
        json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
            .to_string()
    }

    /// Whether a text is one JSON object of exactly this form.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        let Ok(Value::Object(found)) = serde_json::from_str::<Value>(text.trim()) else { return false };
        let kept = |(name, values): &(String, Vec<Value>)| found.get(name).is_some_and(|value| values.contains(value));
        found.len() == self.properties.len() && self.properties.iter().all(kept)
    }
}

impl Plan {
    /// The plan that follows from a seed.
    #[must_use]
    pub const fn new(seed: B256, limits: Limits) -> Self {
        Self { seed, limits }
    }

    /// 64 bits that follow from the seed, the purpose and two numbers.
    fn bits(&self, purpose: &str, number: u32, step: u32) -> u64 {
        let (number, step) = (number.to_be_bytes(), step.to_be_bytes());
        let bytes = [self.seed.as_slice(), purpose.as_bytes(), number.as_slice(), step.as_slice()];
        let hash = keccak256(bytes.concat());
        u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"))
    }

    fn word(&self, purpose: &str, number: u32, step: u32) -> &'static str {
        let index = self.bits(purpose, number, step) % (WORDS.len() as u64);
        WORDS[usize::try_from(index).expect("below 32")]
    }

    /// So many words; no two numbers begin alike, so that no cache helps.
    pub(crate) fn words(&self, number: u32, count: u32) -> String {
        let mut text = format!("{:016x}", self.bits("prompt", number, 0));
        for step in 1..count.max(1) {
            text.push(' ');
            text.push_str(self.word("prompt", number, step));
        }
        text
    }

    fn chat(&self, model: &str, number: u32, text: String, max_tokens: u32) -> GenerationRequest {
        let messages = vec![ChatMessage::text(Role::User, text)];
        GenerationRequest {
            model: model.to_owned(),
            prompt: Prompt::Chat { messages, tools: Vec::new(), tool_choice: ToolChoice::Auto },
            sampling: SamplingParams::default(),
            seed: Some(self.bits("seed", number, 0)),
            max_tokens,
            stop: Vec::new(),
            response_format: ResponseFormat::Text,
            logprobs: None,
        }
    }

    /// A long prompt and next to no answer.
    pub(crate) fn reading(&self, model: &str, number: u32, words: u32, max_tokens: u32) -> GenerationRequest {
        let text = format!("{} Which of these words came first?", self.words(number, words));
        self.chat(model, number, text, max_tokens)
    }

    /// A short prompt and a long answer.
    pub(crate) fn telling(&self, model: &str, number: u32, max_tokens: u32) -> GenerationRequest {
        let word = |step| self.word("story", number, step);
        let text = format!("Tell me a long story about a {}, a {} and a {}.", word(0), word(1), word(2));
        self.chat(model, number, text, max_tokens)
    }

    /// A tool that must be called, and its name.
    pub(crate) fn calling(&self, model: &str, number: u32, max_tokens: u32) -> (GenerationRequest, String) {
        let name = format!("find_{}", self.word("tool", number, 0));
        let place = self.word("tool", number, 1);
        let schema = json!({
            "type": "object", "properties": {"place": {"enum": [place, self.word("tool", number, 2)]}},
            "required": ["place"], "additionalProperties": false,
        });
        let tool = Tool { name: name.clone(), description: "Finds a thing".into(), parameters: schema.to_string() };
        let mut request = self.chat(model, number, format!("Call {name} for the {place}."), max_tokens);
        if let Prompt::Chat { tools, tool_choice, .. } = &mut request.prompt {
            (*tools, *tool_choice) = (vec![tool], ToolChoice::Required);
        }
        (request, name)
    }

    /// A schema that must be kept to.
    pub(crate) fn filling(&self, model: &str, number: u32, max_tokens: u32) -> (GenerationRequest, Schema) {
        let count = 2 + u32::try_from(self.bits("schema", number, 0) % 3).expect("below 3");
        let property = |step: u32| {
            let name = format!("{}_{step}", self.word("schema", number, 3 * step));
            let values = match self.bits("kind", number, step) % 3 {
                0 => vec![json!(true), json!(false)],
                1 => vec![json!(1), json!(2), json!(3)],
                _ => vec![json!(self.word("schema", number, 3 * step + 1)), json!("none of them")],
            };
            (name, values)
        };
        let schema = Schema { properties: (1..=count).map(property).collect() };
        let mut request = self.chat(model, number, "Fill in the form as you like.".into(), max_tokens);
        request.response_format = ResponseFormat::JsonSchema(schema.text());
        (request, schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(byte: u8) -> Plan {
        Plan::new(B256::repeat_byte(byte), Limits::default())
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(plan(1).reading("m", 3, 50, 1), plan(1).reading("m", 3, 50, 1));
        assert_ne!(plan(1).words(3, 50), plan(2).words(3, 50));
        assert_eq!(plan(1).filling("m", 1, 9).1, plan(1).filling("m", 1, 9).1);
    }

    #[test]
    fn no_two_prompts_share_a_beginning() {
        let plan = plan(7);
        let mut beginnings: Vec<String> = (0..100).map(|number| plan.words(number, 5)[..16].to_owned()).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        assert_eq!(beginnings.len(), 100);
        assert_eq!(plan.words(1, 40).split(' ').count(), 40);
    }

    #[test]
    fn a_schema_takes_what_fits_and_nothing_else() {
        for number in 0..20 {
            let (request, schema) = plan(9).filling("m", number, 64);
            assert_eq!(request.check(), Ok(()));
            let fits: serde_json::Map<String, Value> =
                schema.properties.iter().map(|(name, values)| (name.clone(), values[0].clone())).collect();
            assert!(schema.accepts(&Value::Object(fits.clone()).to_string()), "{}", schema.text());
            let mut more = fits.clone();
            more.insert("more".into(), json!(1));
            let mut less = fits.clone();
            less.pop_first_key();
            let mut wrong = fits;
            *wrong.values_mut().next().unwrap() = json!("something else");
            for text in [Value::Object(more), Value::Object(less), Value::Object(wrong)] {
                assert!(!schema.accepts(&text.to_string()), "{text}");
            }
            assert!(!schema.accepts("no JSON"));
        }
    }

    trait PopFirst {
        fn pop_first_key(&mut self);
    }

    impl PopFirst for serde_json::Map<String, Value> {
        fn pop_first_key(&mut self) {
            let first = self.keys().next().unwrap().clone();
            self.remove(&first);
        }
    }
}
