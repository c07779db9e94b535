//! The grammar of a request: from its response format, its tools and the model's way of writing tool calls.

use super::{
    GrammarError,
    expr::{Expr, RuleId, Rules},
    gbnf,
    machine::Matcher,
    schema,
};
use cortensor_engine::EngineError;
use cortensor_protocol::{GenerationRequest, Prompt, ResponseFormat, Tool, ToolChoice};
use serde_json::Value;

/// Most calls that a forced answer makes.
const MAX_CALLS: u32 = 8;

/// The grammar that the answer to `request` must follow, if any.
pub(crate) fn for_request(request: &GenerationRequest) -> Result<Option<Matcher>, EngineError> {
    let unsupported =
        |parameter| move |error: GrammarError| EngineError::Unsupported { parameter, problem: error.to_string() };
    let (tools, choice): (&[Tool], ToolChoice) = match &request.prompt {
        Prompt::Chat { tools, tool_choice, .. } => (tools, tool_choice.clone()),
        Prompt::Text(_) | Prompt::Tokens(_) => (&[], ToolChoice::None),
    };
    if let ToolChoice::Required | ToolChoice::Named(_) = choice {
        let mut rules = Rules::default();
        let calls = forced_calls(&mut rules, tools, &choice).map_err(unsupported("tools"))?;
        return finish(rules, calls).map(Some).map_err(unsupported("tools"));
    }
    let (mut rules, mut root) = match &request.response_format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => json_object(),
        ResponseFormat::JsonSchema(source) => json_schema(source).map_err(unsupported("response_format"))?,
        ResponseFormat::Grammar(source) => gbnf::parse(source).map_err(unsupported("response_format"))?,
    };
    if choice == ToolChoice::Auto && !tools.is_empty() {
        // The model may answer in the wanted form or call a tool.
        let calls = forced_calls(&mut rules, tools, &ToolChoice::Required).map_err(unsupported("tools"))?;
        root = rules.add("answer-or-call", Expr::Choice(vec![Expr::Rule(root), Expr::Rule(calls)]));
    }
    finish(rules, root).map(Some).map_err(unsupported("response_format"))
}

fn finish(rules: Rules, root: RuleId) -> Result<Matcher, GrammarError> {
    Matcher::new(rules.compile(root)?)
}

fn json_object() -> (Rules, RuleId) {
    let mut rules = Rules::default();
    let root = schema::add_any_object(&mut rules);
    (rules, root)
}

fn json_schema(source: &str) -> Result<(Rules, RuleId), GrammarError> {
    let value = schema::read(source)?;
    let mut rules = Rules::default();
    let root = schema::add(&mut rules, &value)?;
    Ok((rules, root))
}

/// One call for a named function, one to [`MAX_CALLS`] calls otherwise, in the Hermes form.
fn forced_calls(rules: &mut Rules, tools: &[Tool], choice: &ToolChoice) -> Result<RuleId, GrammarError> {
    let mut calls = Vec::new();
    for tool in tools {
        if matches!(choice, ToolChoice::Named(name) if *name != tool.name) {
            continue;
        }
        let arguments = arguments(rules, tool)?;
        let name = Value::String(tool.name.clone()).to_string();
        calls.push(Expr::Sequence(vec![
            Expr::text(format!("<tool_call>\n{{\"name\": {name}, \"arguments\": ")),
            Expr::Rule(arguments),
            Expr::text("}\n</tool_call>"),
        ]));
    }
    let call = rules.add("call", Expr::Choice(calls));
    let more = Expr::Sequence(vec![Expr::text("\n"), Expr::Rule(call)]);
    let more = if matches!(choice, ToolChoice::Named(_)) { Expr::empty() } else { more.times(0, Some(MAX_CALLS - 1)) };
    Ok(rules.add("calls", Expr::Sequence(vec![Expr::Rule(call), more])))
}

fn arguments(rules: &mut Rules, tool: &Tool) -> Result<RuleId, GrammarError> {
    let source = if tool.parameters.trim().is_empty() { "{}" } else { tool.parameters.as_str() };
    let value = schema::read(source)?;
    let free = value.as_object().is_some_and(|map| !map.contains_key("type") && !map.contains_key("properties"));
    if free && value.get("$ref").is_none() && value.get("anyOf").is_none() && value.get("allOf").is_none() {
        return Ok(schema::add_any_object(rules));
    }
    schema::add(rules, &value)
}
