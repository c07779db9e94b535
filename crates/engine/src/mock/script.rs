//! What the simulator answers where the request prescribes a form: a tool call, or JSON that fits the schema.

use super::unsupported;
use crate::EngineError;
use cortensor_protocol::{ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, Tool, ToolChoice};
use serde_json::{Map, Value, json};

/// Deepest nesting of a made-up value; what lies deeper becomes null.
const MAX_DEPTH: usize = 24;
/// Most values in a made-up document.
const MAX_VALUES: usize = 4096;

/// The prescribed answer, or `None` when the answer is free text.
pub(super) fn script(request: &GenerationRequest) -> Result<Option<String>, EngineError> {
    if let Prompt::Chat { messages, tools, tool_choice } = &request.prompt
        && let Some(tool) = called(messages, tools, tool_choice)
    {
        let arguments = serde_json::from_str(&tool.parameters).map_or(json!({}), |schema| example(&schema));
        let call = json!({ "name": tool.name, "arguments": arguments });
        return Ok(Some(format!("<tool_call>\n{call}\n</tool_call>")));
    }
    match &request.response_format {
        ResponseFormat::Text => Ok(None),
        ResponseFormat::JsonObject => Ok(Some(json!({ "answer": "simulated" }).to_string())),
        ResponseFormat::JsonSchema(schema) => match serde_json::from_str(schema) {
            Ok(schema) => Ok(Some(example(&schema).to_string())),
            Err(error) => Err(unsupported("response_format", &format!("the schema is not JSON: {error}"))),
        },
        ResponseFormat::Grammar(_) => Err(unsupported("grammar", "the simulator follows no grammar")),
    }
}

/// The tool that must be called, or that the last user message names.
fn called<'a>(messages: &[ChatMessage], tools: &'a [Tool], choice: &ToolChoice) -> Option<&'a Tool> {
    match choice {
        ToolChoice::None => None,
        ToolChoice::Required => tools.first(),
        ToolChoice::Named(name) => tools.iter().find(|tool| tool.name == *name),
        ToolChoice::Auto => {
            let last = messages.last().filter(|message| message.role == Role::User)?;
            tools.iter().find(|tool| last.content.contains(&tool.name))
        }
    }
}

/// A small document that fits the common parts of JSON Schema.
fn example(schema: &Value) -> Value {
    Maker { root: schema, left: MAX_VALUES }.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> Maker<'a> {
    fn make(&mut self, schema: &'a Value, depth: usize) -> Value {
        if depth > MAX_DEPTH || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(target) = schema["$ref"].as_str() {
            let target = self.root.pointer(target.trim_start_matches('#'));
            return target.map_or(Value::Null, |target| self.make(target, depth + 1));
        }
        if let Some(fixed) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return fixed.clone();
        }
        if let Some(first) = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].get(0)) {
            return self.make(first, depth + 1);
        }
        self.typed(schema, depth)
    }

    fn typed(&mut self, schema: &'a Value, depth: usize) -> Value {
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        match kind {
            Some("string") => text(schema).into(),
            Some("integer" | "number") => number(schema),
            Some("boolean") => true.into(),
            Some("null") => Value::Null,
            Some("array") => self.array(schema, depth),
            None if schema.get("properties").is_none() => json!("simulated"),
            _ => self.object(schema, depth),
        }
    }

    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let count = schema["minItems"].as_u64().unwrap_or(1).min(64);
        (0..count).map(|_| self.make(&schema["items"], depth + 1)).collect()
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        let mut fields = Map::new();
        for name in required.iter().filter_map(Value::as_str) {
            fields.insert(name.to_owned(), self.make(&schema["properties"][name], depth + 1));
        }
        Value::Object(fields)
    }
}

fn text(schema: &Value) -> String {
    let bound = |key: &str| schema[key].as_u64().and_then(|length| usize::try_from(length).ok());
    let shortest = bound("minLength").unwrap_or(0).min(4096);
    let mut text = "simulated".to_owned();
    text.extend(std::iter::repeat_n('x', shortest.saturating_sub(text.len())));
    text.truncate(bound("maxLength").unwrap_or(text.len()).max(shortest));
    text
}

fn number(schema: &Value) -> Value {
    let above = schema["exclusiveMinimum"].as_i64().map(|bound| (bound.saturating_add(1)).into());
    let below = schema["maximum"].as_f64().filter(|bound| *bound < 1.0).map(|_| schema["maximum"].clone());
    above.or_else(|| schema.get("minimum").cloned()).or(below).unwrap_or_else(|| 1.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, expect: &str) {
        assert_eq!(example(&serde_json::from_str(schema).unwrap()).to_string(), expect, "{schema}");
    }

    #[test]
    fn examples_fit_their_schemas() {
        check(
            r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b","a"]}"#,
            r#"{"b":"simulated","a":1}"#,
        );
        check(r#"{"type":"array","items":{"enum":["x","y"]},"minItems":2}"#, r#"["x","x"]"#);
        check(r#"{"type":"string","maxLength":3}"#, r#""sim""#);
        check(r#"{"type":"string","minLength":11}"#, r#""simulatedxx""#);
        check(r#"{"type":"number","minimum":2.5}"#, "2.5");
        check(r#"{"type":"integer","maximum":-4}"#, "-4");
        check(r#"{"type":["null","string"]}"#, "null");
        check(r##"{"$ref":"#/$defs/a","$defs":{"a":{"const":7}}}"##, "7");
        check(r#"{"anyOf":[{"type":"boolean"},{"type":"null"}]}"#, "true");
    }

    #[test]
    fn endless_schemas_end() {
        let endless = r##"{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}},"required":["a","b"]}"##;
        let value = example(&serde_json::from_str(endless).unwrap());
        assert!(value.to_string().len() < 200_000);
        check(r##"{"$ref":"#"}"##, "null");
    }
}
