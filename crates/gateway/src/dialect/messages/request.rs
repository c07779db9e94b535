//! The request of a message and its conversion into the network's terms.

use super::answer::MessageAnswer;
use crate::{
    config::GatewayConfig,
    dialect::{
        Plan,
        chat::refuse_strict,
        parameters::{self, SamplingInput, refuse},
        union::TextOrList,
    },
    error::ApiError,
};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, Routing, Tool, ToolCall, ToolChoice,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

/// A message. Parameters that this network does not offer are refused by name unless their value asks for nothing.
/// `cache_control` is accepted anywhere: prompts with a common beginning find each other by content.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessageRequest {
    /// Name of the model.
    model: String,
    /// Extension: `{"miner": "0x…"}` names the one miner that may serve this, `{"min_tier": "A"}` the least tier.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    cortensor: Routing,
    /// Most output tokens.
    max_tokens: u32,
    /// The conversation, oldest first.
    messages: Vec<MessagesTurn>,
    /// Instructions of the application: text, or parts of kind `text`.
    system: Option<TextOrList<Block>>,
    /// 0 (greedy) to 1; 1 if absent.
    temperature: Option<f64>,
    /// 0 to 1.
    top_p: Option<f64>,
    /// Only the so many most probable tokens.
    top_k: Option<i64>,
    /// Texts at which the output ends.
    stop_sequences: Option<Vec<String>>,
    /// Whether to stream the answer.
    stream: Option<bool>,
    /// Functions that the model may call.
    tools: Option<Vec<MessagesTool>>,
    /// Whether and which must be called.
    tool_choice: Option<MessagesToolChoice>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    metadata: Option<Value>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    cache_control: Option<Value>,
    /// Only `auto` and `standard_only`.
    service_tier: Option<Value>,
    /// Only `{"type": "disabled"}`.
    thinking: Option<Value>,
    /// Refused.
    container: Option<Value>,
    /// Refused.
    mcp_servers: Option<Value>,
    /// Refused.
    context_management: Option<Value>,
    /// Form of the output.
    output_config: Option<OutputConfig>,
}

/// A message whose tokens are to be counted: what of [`MessageRequest`] reaches the prompt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountRequest {
    /// Name of the model.
    model: String,
    /// The conversation, oldest first.
    messages: Vec<MessagesTurn>,
    /// Instructions of the application: text, or parts of kind `text`.
    system: Option<TextOrList<Block>>,
    /// Functions that the model may call.
    tools: Option<Vec<MessagesTool>>,
    /// Whether and which must be called.
    tool_choice: Option<MessagesToolChoice>,
    /// Accepted; not used.
    cache_control: Option<Value>,
    /// Only `{"type": "disabled"}`.
    thinking: Option<Value>,
    /// Refused.
    mcp_servers: Option<Value>,
    /// Refused.
    context_management: Option<Value>,
    /// Form of the output.
    output_config: Option<OutputConfig>,
}

/// Form of the output.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputConfig {
    format: Option<OutputFormat>,
    /// Refused.
    effort: Option<Value>,
}

/// A schema that the output must fit; always enforced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputFormat {
    /// Only `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    #[schema(value_type = Object)]
    schema: Option<Box<RawValue>>,
}

/// One message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesTurn {
    /// Who speaks.
    role: MessagesRole,
    /// What is said: text, or blocks.
    content: TextOrList<Block>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessagesRole {
    /// The user, also with results of tools.
    User,
    /// The model.
    Assistant,
}

/// A block of content: `text`, `tool_use` or `tool_result`; other kinds are refused by name.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(no_recursion)]
pub(crate) struct Block {
    #[serde(rename = "type")]
    kind: String,
    /// For `text`.
    text: Option<String>,
    /// For `tool_use`.
    id: Option<String>,
    /// For `tool_use`.
    name: Option<String>,
    /// For `tool_use`: the arguments.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// For `tool_result`.
    tool_use_id: Option<String>,
    /// For `tool_result`: text, or blocks of kind `text`.
    content: Option<TextOrList<Block>>,
    /// For `tool_result`.
    is_error: Option<bool>,
}

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesTool {
    /// Only `custom`.
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    /// JSON Schema of the arguments.
    #[schema(value_type = Option<Object>)]
    input_schema: Option<Box<RawValue>>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    cache_control: Option<Value>,
    /// `true` only if a call must be made (`tool_choice`); otherwise the schema guides the model, unenforced.
    strict: Option<bool>,
}

/// Whether and which tool must be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesToolChoice {
    /// `auto`, `any`, `tool` or `none`.
    #[serde(rename = "type")]
    kind: String,
    /// For `tool`.
    name: Option<String>,
    /// Whether at most one call may be made.
    disable_parallel_tool_use: Option<bool>,
}

impl CountRequest {
    /// The request whose prompt is counted.
    pub(crate) fn plan(self, config: &GatewayConfig) -> Result<GenerationRequest, ApiError> {
        let request = MessageRequest {
            model: self.model,
            cortensor: Routing::default(),
            max_tokens: 1,
            messages: self.messages,
            system: self.system,
            temperature: None,
            top_p: None,
            top_k: None,
            stop_sequences: None,
            stream: None,
            tools: self.tools,
            tool_choice: self.tool_choice,
            metadata: None,
            cache_control: self.cache_control,
            service_tier: None,
            thinking: self.thinking,
            container: None,
            mcp_servers: self.mcp_servers,
            context_management: self.context_management,
            output_config: self.output_config,
        };
        Ok(request.plan(config)?.requests.pop().expect("a message is one request"))
    }
}

impl MessageRequest {
    /// Puts the request into the network's terms.
    pub(crate) fn plan(self, _config: &GatewayConfig) -> Result<Plan<MessageAnswer>, ApiError> {
        self.refuse_unsupported()?;
        let sampling = SamplingInput {
            temperature: self.temperature,
            temperature_max: 1.0,
            top_p: self.top_p,
            top_k: self.top_k,
            ..SamplingInput::default()
        };
        let sampling = sampling.check()?;
        if self.max_tokens == 0 {
            return Err(ApiError::value("max_tokens", "must be at least 1"));
        }
        let mut stop = self.stop_sequences.unwrap_or_default();
        let answer = MessageAnswer::new(self.model.clone(), stop.clone());
        let one_call = self.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use == Some(true));
        let choice = self.tool_choice.map(tool_choice).transpose()?.unwrap_or_default();
        let prompt = Prompt::Chat {
            messages: conversation(self.system, self.messages)?,
            tools: tools(self.tools.unwrap_or_default(), &choice)?,
            tool_choice: choice,
        };
        if one_call {
            parameters::allow_one_call(&prompt, &mut stop);
        }
        let request = GenerationRequest {
            model: self.model,
            prompt,
            sampling,
            seed: None,
            max_tokens: self.max_tokens,
            stop,
            response_format: self.output_config.map_or(Ok(ResponseFormat::Text), output_format)?,
            logprobs: None,
        };
        Ok(Plan { requests: vec![request], stream: self.stream.unwrap_or(false), answer, routing: self.cortensor })
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let tier = self.service_tier.as_ref();
        refuse("service_tier", tier, &["auto", "standard_only"], "use auto or leave it out")?;
        let disabled = self.thinking.as_ref().is_some_and(|thinking| thinking["type"] == "disabled");
        let thinking = self.thinking.as_ref().filter(|_| !disabled);
        refuse("thinking", thinking, &[], "leave it out")?;
        refuse("container", self.container.as_ref(), &[], "there are no containers; leave it out")?;
        refuse("mcp_servers", self.mcp_servers.as_ref(), &[], "offer tools and call the servers yourself")?;
        refuse("context_management", self.context_management.as_ref(), &[], "shorten the messages yourself")?;
        let effort = self.output_config.as_ref().and_then(|config| config.effort.as_ref());
        refuse("output_config.effort", effort, &[], "leave it out")
    }
}

fn output_format(config: OutputConfig) -> Result<ResponseFormat, ApiError> {
    match config.format {
        None => Ok(ResponseFormat::Text),
        Some(format) if format.kind == "json_schema" => {
            parameters::json_schema("output_config.format.schema".into(), format.schema.as_deref())
        }
        Some(_) => Err(ApiError::value("output_config.format.type", "must be json_schema")),
    }
}

/// System instructions and messages in the network's form; a message with results of tools becomes several.
fn conversation(system: Option<TextOrList<Block>>, input: Vec<MessagesTurn>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut messages = Vec::with_capacity(input.len() + 1);
    if let Some(system) = system {
        messages.push(ChatMessage::text(Role::System, text_only("system", system)?));
    }
    if input.is_empty() {
        return Err(ApiError::value("messages", "must not be empty"));
    }
    for (at, message) in input.into_iter().enumerate() {
        let path = format!("messages[{at}].content");
        match (message.role, message.content) {
            (MessagesRole::User, TextOrList::Text(text)) => messages.push(ChatMessage::text(Role::User, text)),
            (MessagesRole::Assistant, TextOrList::Text(text)) => {
                messages.push(ChatMessage::text(Role::Assistant, text));
            }
            (MessagesRole::User, TextOrList::List(blocks)) => user_blocks(&path, blocks, &mut messages)?,
            (MessagesRole::Assistant, TextOrList::List(blocks)) => messages.push(assistant_blocks(&path, blocks)?),
        }
    }
    Ok(messages)
}

fn required(path: &str, at: usize, field: &str, value: Option<String>) -> Result<String, ApiError> {
    value.ok_or_else(|| ApiError::value(format!("{path}[{at}].{field}"), "is required"))
}

fn refused_kind(path: &str, at: usize, kind: &str) -> ApiError {
    ApiError::unsupported(format!("{path}[{at}].type"), format!("{kind:?} blocks cannot be read here; send text"))
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(more);
}

fn text_only(path: &str, content: TextOrList<Block>) -> Result<String, ApiError> {
    let blocks = match content {
        TextOrList::Text(text) => return Ok(text),
        TextOrList::List(blocks) => blocks,
    };
    let mut joined = String::new();
    for (at, block) in blocks.into_iter().enumerate() {
        if block.kind != "text" {
            return Err(refused_kind(path, at, &block.kind));
        }
        append(&mut joined, &required(path, at, "text", block.text)?);
    }
    Ok(joined)
}

/// Results of tools become messages of their own, before the text that stands with them.
fn user_blocks(path: &str, blocks: Vec<Block>, messages: &mut Vec<ChatMessage>) -> Result<(), ApiError> {
    let mut text = String::new();
    let mut has_text = false;
    let mut has_result = false;
    for (at, block) in blocks.into_iter().enumerate() {
        match block.kind.as_str() {
            "text" => {
                has_text = true;
                append(&mut text, &required(path, at, "text", block.text)?);
            }
            "tool_result" => {
                has_result = true;
                let id = required(path, at, "tool_use_id", block.tool_use_id)?;
                let content = block.content.map(|content| text_only(&format!("{path}[{at}].content"), content));
                let mut content = content.transpose()?.unwrap_or_default();
                if block.is_error == Some(true) {
                    content.insert_str(0, "Error: ");
                }
                let message = ChatMessage::text(Role::Tool, content);
                messages.push(ChatMessage { tool_call_id: Some(id), ..message });
            }
            kind => return Err(refused_kind(path, at, kind)),
        }
    }
    if has_text || !has_result {
        messages.push(ChatMessage::text(Role::User, text));
    }
    Ok(())
}

fn assistant_blocks(path: &str, blocks: Vec<Block>) -> Result<ChatMessage, ApiError> {
    let mut message = ChatMessage::text(Role::Assistant, "");
    for (at, block) in blocks.into_iter().enumerate() {
        match block.kind.as_str() {
            "text" => append(&mut message.content, &required(path, at, "text", block.text)?),
            "tool_use" => message.tool_calls.push(ToolCall {
                id: required(path, at, "id", block.id)?,
                name: required(path, at, "name", block.name)?,
                arguments: block.input.map_or_else(|| "{}".to_owned(), |input| input.get().to_owned()),
            }),
            kind => return Err(refused_kind(path, at, kind)),
        }
    }
    Ok(message)
}

fn tools(input: Vec<MessagesTool>, choice: &ToolChoice) -> Result<Vec<Tool>, ApiError> {
    let convert = |(at, tool): (usize, MessagesTool)| {
        let path = format!("tools[{at}]");
        if tool.kind.as_deref().is_some_and(|kind| kind != "custom") {
            return Err(ApiError::unsupported(format!("{path}.type"), "only custom tools are"));
        }
        let forcing = r#"set tool_choice to {"type": "any"} or {"type": "tool", "name": …}"#;
        refuse_strict(format!("{path}.strict"), tool.strict, choice, forcing)?;
        let tool = parameters::tool(&path, tool.name, tool.description, tool.input_schema.as_deref());
        tool.map_err(|error| match error.param.as_deref().and_then(|param| param.strip_suffix(".parameters")) {
            Some(path) => ApiError::value(format!("{path}.input_schema"), "must be a JSON Schema object"),
            None => error,
        })
    };
    input.into_iter().enumerate().map(convert).collect()
}

fn tool_choice(input: MessagesToolChoice) -> Result<ToolChoice, ApiError> {
    match (input.kind.as_str(), input.name) {
        ("auto", None) => Ok(ToolChoice::Auto),
        ("any", None) => Ok(ToolChoice::Required),
        ("none", None) => Ok(ToolChoice::None),
        ("tool", Some(name)) => Ok(ToolChoice::Named(name)),
        ("tool", None) => Err(ApiError::value("tool_choice.name", "is required")),
        ("auto" | "any" | "none", Some(_)) => Err(ApiError::value("tool_choice.name", "belongs to the type tool")),
        (other, _) => {
            Err(ApiError::value("tool_choice.type", format!("must be auto, any, tool or none, got {other:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;
    use serde_json::json;

    fn plan(change: &Value) -> Result<Plan<MessageAnswer>, ApiError> {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        json::parse::<MessageRequest>(body.to_string().as_bytes(), 64)?.plan(&GatewayConfig::default())
    }

    fn refused(change: &Value, param: &str) {
        assert_eq!(plan(change).unwrap_err().param.as_deref(), Some(param), "{change}");
    }

    fn messages(change: &Value) -> Vec<ChatMessage> {
        let Prompt::Chat { messages, .. } = plan(change).unwrap().requests.remove(0).prompt else { panic!("a chat") };
        messages
    }

    #[test]
    fn a_conversation_with_tools_is_converted() {
        let messages =
            messages(&json!({"system": [{"type": "text", "text": "be kind", "cache_control": {}}], "messages": [
                {"role": "user", "content": "weather?"},
                {"role": "assistant", "content": [{"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "t1", "name": "w", "input": {"at": "Rome"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "none", "is_error": true},
                    {"type": "text", "text": "and now?"}]},
            ]}));
        let shape: Vec<_> = messages.iter().map(|message| (message.role, message.content.as_str())).collect();
        assert_eq!(
            shape,
            [
                (Role::System, "be kind"),
                (Role::User, "weather?"),
                (Role::Assistant, "Let me see."),
                (Role::Tool, "sun"),
                (Role::Tool, "Error: none"),
                (Role::User, "and now?"),
            ]
        );
        assert_eq!(messages[2].tool_calls[0].arguments, r#"{"at": "Rome"}"#.replace(": ", ":"));
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("t1"));
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        refused(&json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), "thinking");
        refused(&json!({"mcp_servers": [{"url": "x"}]}), "mcp_servers");
        refused(&json!({"output_config": {"effort": "high"}}), "output_config.effort");
        refused(&json!({"output_config": {"format": {"type": "json_schema"}}}), "output_config.format.schema");
        refused(&json!({"temperature": 1.5}), "temperature");
        refused(&json!({"max_tokens": 0}), "max_tokens");
        refused(&json!({"messages": []}), "messages");
        refused(&json!({"seed": 1}), "seed");
        let image = json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": ""}}]}]);
        refused(&json!({ "messages": image }), "messages[0].content[0].type");
        refused(&json!({"messages": [{"role": "system", "content": ""}]}), "messages[0].role");
        refused(&json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), "tools[0].type");
        refused(&json!({"tools": [{"name": "f", "input_schema": 5}]}), "tools[0].input_schema");
        refused(&json!({"tool_choice": {"type": "tool"}}), "tool_choice.name");
        assert!(
            plan(&json!({"thinking": {"type": "disabled"}, "metadata": {"user_id": "u"}, "service_tier": "auto"}))
                .is_ok()
        );
    }

    #[test]
    fn schemas_are_passed_on_as_written() {
        let format = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
        let plan = plan(&json!({ "output_config": format })).unwrap();
        assert_eq!(plan.requests[0].response_format, ResponseFormat::JsonSchema(r#"{"type":"object"}"#.into()));
    }

    #[test]
    fn a_missing_limit_is_named() {
        let error = json::parse::<MessageRequest>(br#"{"model":"m","messages":[]}"#, 9).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("max_tokens"));
    }

    #[test]
    fn one_call_at_a_time_ends_at_the_closing_tag() {
        let plan = plan(&json!({
            "tools": [{"name": "f", "input_schema": {"type": "object"}}], "stop_sequences": ["X"],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        }))
        .unwrap();
        assert_eq!(plan.requests[0].stop, ["X", "</tool_call>"]);
    }

    proptest! {
        #[test]
        fn no_request_panics(value in ".{0,40}") {
            for text in [format!(r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":{value}}}]}}"#), value] {
                if let Ok(request) = json::parse::<MessageRequest>(text.as_bytes(), 64) {
                    let _ = request.plan(&GatewayConfig::default());
                }
            }
        }
    }
}
