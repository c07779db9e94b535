//! Tool calls in an answer's text: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use crate::schema;
use cortensor_protocol::{Tool, ToolChoice};
use serde_json::Value;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Most calls of one answer that are looked at.
const MAX_CALLS: usize = 64;

/// What is wrong with an answer's calls, if anything is.
pub(crate) fn fault(text: &str, tools: &[Tool], choice: &ToolChoice) -> Option<String> {
    let mut called = Vec::new();
    for part in text.split(OPEN).skip(1).take(MAX_CALLS) {
        let Some((call, _)) = part.split_once(CLOSE) else { return Some("a tool call is not closed".into()) };
        match read(call, tools) {
            Ok(name) => called.push(name),
            Err(problem) => return Some(problem),
        }
    }
    match choice {
        ToolChoice::Required if called.is_empty() => Some("no tool is called where one must be".into()),
        ToolChoice::Named(name) if !called.contains(name) => Some(format!("the tool {name:?} is not called")),
        ToolChoice::None if !called.is_empty() => Some("a tool is called where none may be".into()),
        _ => None,
    }
}

/// The name of the tool that a call names, once its arguments fit.
fn read(call: &str, tools: &[Tool]) -> Result<String, String> {
    let call: Value = serde_json::from_str(call.trim()).map_err(|_| "a tool call is not JSON".to_owned())?;
    let name = call["name"].as_str().ok_or("a tool call names no tool")?;
    let tool = tools.iter().find(|tool| tool.name == name).ok_or_else(|| format!("there is no tool {name:?}"))?;
    let arguments = match &call["arguments"] {
        // Some models write the arguments as JSON within a string.
        Value::String(text) => serde_json::from_str(text).map_err(|_| format!("arguments of {name:?} are not JSON"))?,
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    if !arguments.is_object() {
        return Err(format!("arguments of {name:?} are no object"));
    }
    // A schema that is no JSON was checked at the boundary; it constrains nothing here.
    let parameters: Value = serde_json::from_str(&tool.parameters).unwrap_or(Value::Bool(true));
    schema::check(&parameters, &arguments).map_err(|misfit| format!("arguments of {name:?}: {misfit}"))?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Tool> {
        let parameters = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
        vec![Tool { name: "weather".into(), description: String::new(), parameters: parameters.into() }]
    }

    #[test]
    fn calls_are_held_to_their_schema() {
        let good = r#"<tool_call>{"name": "weather", "arguments": {"city": "Ulm"}}</tool_call>"#;
        let table = [
            (good.to_owned(), true),
            ("no call".into(), true),
            (good.replace("weather", "time"), false),
            (good.replace("\"Ulm\"", "5"), false),
            (good.replace("city", "town"), false),
            (good.replace("{\"city\": \"Ulm\"}", r#""{\"city\":\"Ulm\"}""#), true),
            (good.replace("{\"city\": \"Ulm\"}", "[1]"), false),
            (good.replace("</tool_call>", ""), false),
            (good.replace("\"name\"", "name"), false),
        ];
        for (text, fits) in table {
            assert_eq!(fault(&text, &tools(), &ToolChoice::Auto).is_none(), fits, "{text}");
        }
        for (choice, with, without) in [
            (ToolChoice::Auto, true, true),
            (ToolChoice::None, false, true),
            (ToolChoice::Required, true, false),
            (ToolChoice::Named("weather".into()), true, false),
        ] {
            assert_eq!(fault(good, &tools(), &choice).is_none(), with, "{choice:?}");
            assert_eq!(fault("text", &tools(), &choice).is_none(), without, "{choice:?}");
        }
    }
}
