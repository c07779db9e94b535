//! The request of a response and its conversion into the network's terms.

use super::answer::{Echo, ResponsesAnswer, ToolEcho};
use crate::{
    config::GatewayConfig,
    dialect::{
        Plan,
        chat::{FORCING, named_choice, refuse_strict, top_logprobs},
        parameters::{self, ContentPart, SamplingInput, joined_text, refuse},
        union::{NameOrObject, TextOrList},
    },
    error::ApiError,
};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, Routing, Tool, ToolCall, ToolChoice,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;
use utoipa::ToSchema;

const TEXT_KINDS: [&str; 3] = ["input_text", "output_text", "text"];
const ASSISTANT_KINDS: [&str; 4] = ["input_text", "output_text", "text", "refusal"];
const LOGPROBS: &str = "message.output_text.logprobs";

/// A response. Parameters that this network does not offer are refused by name unless their value asks for nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponsesRequest {
    /// Name of the model.
    model: String,
    /// Extension: `{"miner": "0x…"}` names the one miner that may serve this, `{"min_tier": "A"}` the least tier.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    cortensor: Routing,
    /// A text, or items: messages, function calls and their outputs.
    input: TextOrList<ItemInput>,
    /// Instructions of the application, put before the input.
    instructions: Option<String>,
    /// Most output tokens.
    max_output_tokens: Option<u32>,
    /// 0 (greedy) to 2; 1 if absent.
    temperature: Option<f64>,
    /// 0 to 1.
    top_p: Option<f64>,
    /// How many alternatives to report with each token; needs `include`.
    top_logprobs: Option<u32>,
    /// Only `message.output_text.logprobs`.
    include: Option<Vec<String>>,
    /// Form of the output.
    text: Option<TextInput>,
    /// Functions that the model may call.
    tools: Option<Vec<ResponsesTool>>,
    /// `none`, `auto`, `required`, or a function.
    tool_choice: Option<NameOrObject<ResponsesToolChoice>>,
    /// Whether several calls may be made in one answer.
    parallel_tool_calls: Option<bool>,
    /// Whether to stream the answer.
    stream: Option<bool>,
    /// Options of the stream.
    stream_options: Option<StreamOptionsInput>,
    /// Given back in the answer.
    metadata: Option<BTreeMap<String, String>>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    user: Option<String>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    safety_identifier: Option<String>,
    /// Accepted; requests with a common beginning find each other by content.
    #[expect(dead_code, reason = "read to be accepted")]
    prompt_cache_key: Option<String>,
    /// Only `false`: nothing is stored.
    store: Option<Value>,
    /// Refused: send the whole conversation as `input`.
    previous_response_id: Option<Value>,
    /// Refused: send the whole conversation as `input`.
    conversation: Option<Value>,
    /// Only `false`.
    background: Option<Value>,
    /// Only `disabled`.
    truncation: Option<Value>,
    /// Refused.
    reasoning: Option<Value>,
    /// Only `auto` and `default`.
    service_tier: Option<Value>,
    /// Refused.
    prompt: Option<Value>,
    /// Refused.
    max_tool_calls: Option<Value>,
}

/// An item of the input: a message, a function call of the model's, or its output.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemInput {
    /// `message` (also if absent), `function_call` or `function_call_output`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// For a message.
    role: Option<ResponsesRole>,
    /// For a message: text, or parts of kind `input_text` or `output_text`.
    content: Option<TextOrList<ContentPart>>,
    /// For a call and its output.
    call_id: Option<String>,
    /// For a call.
    name: Option<String>,
    /// For a call: JSON text.
    arguments: Option<String>,
    /// For an output: text, or parts.
    output: Option<TextOrList<ContentPart>>,
    /// Accepted, as answers carry it.
    #[expect(dead_code, reason = "read to be accepted")]
    id: Option<String>,
    /// Accepted, as answers carry it.
    #[expect(dead_code, reason = "read to be accepted")]
    status: Option<String>,
    /// Only empty.
    phase: Option<Value>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResponsesRole {
    /// The application.
    System,
    /// The application, by its newer name.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// Form of the output.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextInput {
    format: Option<FormatInput>,
    /// Only `medium`.
    verbosity: Option<Value>,
}

/// Form of the output.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormatInput {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    /// For `json_schema`; always enforced.
    #[schema(value_type = Option<Object>)]
    schema: Option<Box<RawValue>>,
    #[expect(dead_code, reason = "a label for the client's own use")]
    name: Option<String>,
    #[expect(dead_code, reason = "a label for the client's own use")]
    description: Option<String>,
    #[expect(dead_code, reason = "the schema is enforced in any case")]
    strict: Option<bool>,
}

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponsesTool {
    /// Only `function`.
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    /// JSON Schema of the arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Box<RawValue>>,
    /// `true` only if a call must be made (`tool_choice`); otherwise the schema guides the model, unenforced.
    strict: Option<bool>,
}

/// A function that must be called.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponsesToolChoice {
    /// Only `function`.
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
}

/// Options of a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptionsInput {
    /// Only `false`.
    include_obfuscation: Option<Value>,
}

impl ResponsesRequest {
    /// Puts the request into the network's terms.
    pub(crate) fn plan(mut self, _config: &GatewayConfig) -> Result<Plan<ResponsesAnswer>, ApiError> {
        self.refuse_unsupported()?;
        let sampling = SamplingInput {
            temperature: self.temperature,
            temperature_max: 2.0,
            top_p: self.top_p,
            ..SamplingInput::default()
        };
        let sampling = sampling.check()?;
        if self.max_output_tokens == Some(0) {
            return Err(ApiError::value("max_output_tokens", "must be at least 1"));
        }
        let logprobs = self.logprobs()?;
        let format = self.text.take().and_then(|text| text.format);
        let response_format = format.map(output_format).transpose()?.unwrap_or_default();
        let choice = self.tool_choice.clone().map(tool_choice).transpose()?.unwrap_or_default();
        let tools = tools(self.tools.take().unwrap_or_default(), &choice)?;
        let echo = self.echo(&tools);
        let messages = conversation(self.instructions, self.input)?;
        let prompt = Prompt::Chat { messages, tools, tool_choice: choice };
        let mut stop = Vec::new();
        if self.parallel_tool_calls == Some(false) {
            parameters::allow_one_call(&prompt, &mut stop);
        }
        let answer = ResponsesAnswer::new(self.model.clone(), echo, logprobs.is_some());
        let request = GenerationRequest {
            model: self.model,
            prompt,
            sampling,
            seed: None,
            max_tokens: self.max_output_tokens.unwrap_or(0),
            stop,
            response_format,
            logprobs,
        };
        Ok(Plan { requests: vec![request], stream: self.stream.unwrap_or(false), answer, routing: self.cortensor })
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let stateless = "nothing is stored; send the whole conversation as input";
        refuse("store", self.store.as_ref(), &[], "nothing is stored; send false or leave it out")?;
        refuse("previous_response_id", self.previous_response_id.as_ref(), &[], stateless)?;
        refuse("conversation", self.conversation.as_ref(), &[], stateless)?;
        refuse("background", self.background.as_ref(), &[], "stream the answer instead")?;
        refuse("truncation", self.truncation.as_ref(), &["disabled"], "shorten the input yourself")?;
        refuse("reasoning", self.reasoning.as_ref(), &[], "leave it out")?;
        refuse("service_tier", self.service_tier.as_ref(), &["auto", "default"], "use auto or leave it out")?;
        refuse("prompt", self.prompt.as_ref(), &[], "send the prompt's text as input")?;
        refuse("max_tool_calls", self.max_tool_calls.as_ref(), &[], "there are no tools of the server's own")?;
        let verbosity = self.text.as_ref().and_then(|text| text.verbosity.as_ref());
        refuse("text.verbosity", verbosity, &["medium"], "say in the input how long answers should be")?;
        let padding = self.stream_options.as_ref().and_then(|options| options.include_obfuscation.as_ref());
        refuse("stream_options.include_obfuscation", padding, &[], "frames are not padded; leave it out")?;
        let other = self.include.iter().flatten().find(|include| include.as_str() != LOGPROBS);
        other.map_or(Ok(()), |other| Err(ApiError::unsupported("include", format!("{other:?} is not kept here"))))
    }

    fn logprobs(&self) -> Result<Option<u8>, ApiError> {
        let wanted = self.include.as_ref().is_some_and(|include| !include.is_empty());
        match (wanted, self.top_logprobs) {
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => Err(ApiError::value("top_logprobs", format!("needs {LOGPROBS:?} in include"))),
            (true, top) => top_logprobs("top_logprobs", top.unwrap_or(0)).map(Some),
        }
    }

    /// What the answer repeats of the request.
    fn echo(&self, tools: &[Tool]) -> Echo {
        let choice = self.tool_choice.as_ref().and_then(|choice| serde_json::to_value(choice).ok());
        Echo {
            instructions: self.instructions.clone(),
            max_output_tokens: self.max_output_tokens,
            metadata: self.metadata.clone().unwrap_or_default(),
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            tool_choice: choice.unwrap_or_else(|| "auto".into()),
            tools: tools.iter().filter_map(ToolEcho::new).collect(),
        }
    }
}

fn conversation(instructions: Option<String>, input: TextOrList<ItemInput>) -> Result<Vec<ChatMessage>, ApiError> {
    let mut messages: Vec<_> = instructions.map(|text| ChatMessage::text(Role::System, text)).into_iter().collect();
    let items = match input {
        TextOrList::Text(text) => {
            messages.push(ChatMessage::text(Role::User, text));
            return Ok(messages);
        }
        TextOrList::List(items) => items,
    };
    if items.is_empty() {
        return Err(ApiError::value("input", "must not be empty"));
    }
    for (at, item) in items.into_iter().enumerate() {
        add_item(&format!("input[{at}]"), item, &mut messages)?;
    }
    Ok(messages)
}

fn add_item(path: &str, item: ItemInput, messages: &mut Vec<ChatMessage>) -> Result<(), ApiError> {
    let missing = |field: &str| ApiError::value(format!("{path}.{field}"), "is required");
    refuse(format!("{path}.phase"), item.phase.as_ref(), &[], "leave it out")?;
    match item.kind.as_deref() {
        None | Some("message") => {
            let role = item.role.ok_or_else(|| missing("role"))?;
            let content = item.content.ok_or_else(|| missing("content"))?;
            let (role, kinds): (_, &[&str]) = match role {
                ResponsesRole::System | ResponsesRole::Developer => (Role::System, &TEXT_KINDS),
                ResponsesRole::User => (Role::User, &TEXT_KINDS),
                ResponsesRole::Assistant => (Role::Assistant, &ASSISTANT_KINDS),
            };
            messages.push(ChatMessage::text(role, joined_text(&format!("{path}.content"), content, kinds)?));
        }
        Some("function_call") => {
            let call = ToolCall {
                id: item.call_id.ok_or_else(|| missing("call_id"))?,
                name: item.name.ok_or_else(|| missing("name"))?,
                arguments: item.arguments.ok_or_else(|| missing("arguments"))?,
            };
            // Calls follow the text of the same turn, and each other.
            match messages.last_mut() {
                Some(last) if last.role == Role::Assistant => last.tool_calls.push(call),
                _ => messages.push(ChatMessage { tool_calls: vec![call], ..ChatMessage::text(Role::Assistant, "") }),
            }
        }
        Some("function_call_output") => {
            let id = item.call_id.ok_or_else(|| missing("call_id"))?;
            let output = item.output.ok_or_else(|| missing("output"))?;
            let text = joined_text(&format!("{path}.output"), output, &TEXT_KINDS)?;
            messages.push(ChatMessage { tool_call_id: Some(id), ..ChatMessage::text(Role::Tool, text) });
        }
        Some(other) => {
            let advice = format!("{other:?} items cannot be read here; send messages, calls and their outputs");
            return Err(ApiError::unsupported(format!("{path}.type"), advice));
        }
    }
    Ok(())
}

fn tools(input: Vec<ResponsesTool>, choice: &ToolChoice) -> Result<Vec<Tool>, ApiError> {
    let convert = |(at, tool): (usize, ResponsesTool)| {
        let path = format!("tools[{at}]");
        if tool.kind != "function" {
            return Err(ApiError::unsupported(format!("{path}.type"), "only function tools are"));
        }
        refuse_strict(format!("{path}.strict"), tool.strict, choice, FORCING)?;
        let name = tool.name.ok_or_else(|| ApiError::value(format!("{path}.name"), "is required"))?;
        parameters::tool(&path, name, tool.description, tool.parameters.as_deref())
    };
    input.into_iter().enumerate().map(convert).collect()
}

fn tool_choice(input: NameOrObject<ResponsesToolChoice>) -> Result<ToolChoice, ApiError> {
    match input {
        NameOrObject::Name(name) => named_choice(&name),
        NameOrObject::Object(ResponsesToolChoice { kind, name }) if kind == "function" => {
            name.map(ToolChoice::Named).ok_or_else(|| ApiError::value("tool_choice.name", "is required"))
        }
        NameOrObject::Object(_) => Err(ApiError::unsupported("tool_choice.type", "only function is")),
    }
}

fn output_format(input: FormatInput) -> Result<ResponseFormat, ApiError> {
    match (input.kind.as_str(), input.schema) {
        ("text", None) => Ok(ResponseFormat::Text),
        ("json_object", None) => Ok(ResponseFormat::JsonObject),
        ("json_schema", schema) => parameters::json_schema("text.format.schema".into(), schema.as_deref()),
        ("text" | "json_object", Some(_)) => Err(ApiError::value("text.format.schema", "belongs to json_schema")),
        (other, _) => {
            let problem = format!("must be text, json_object or json_schema, got {other:?}");
            Err(ApiError::value("text.format.type", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;
    use serde_json::json;

    fn plan(change: &Value) -> Result<Plan<ResponsesAnswer>, ApiError> {
        let mut body = json!({"model": "m", "input": "hi"});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        json::parse::<ResponsesRequest>(body.to_string().as_bytes(), 64)?.plan(&GatewayConfig::default())
    }

    fn refused(change: &Value, param: &str) {
        assert_eq!(plan(change).unwrap_err().param.as_deref(), Some(param), "{change}");
    }

    #[test]
    fn items_become_a_conversation() {
        let plan = plan(&json!({"instructions": "be kind", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "w", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "w", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        ]}))
        .unwrap();
        let Prompt::Chat { messages, .. } = &plan.requests[0].prompt else { panic!("a chat") };
        let shape: Vec<_> = messages.iter().map(|m| (m.role, m.content.as_str(), m.tool_calls.len())).collect();
        assert_eq!(
            shape,
            [
                (Role::System, "be kind", 0),
                (Role::User, "weather?", 0),
                (Role::Assistant, "Let me see.", 2),
                (Role::Tool, "sun", 0),
            ]
        );
        assert_eq!(plan.requests[0].max_tokens, 0);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        refused(&json!({"store": true}), "store");
        refused(&json!({"previous_response_id": "resp_1"}), "previous_response_id");
        refused(&json!({"background": true}), "background");
        refused(&json!({"reasoning": {"effort": "high"}}), "reasoning");
        refused(&json!({"include": ["reasoning.encrypted_content"]}), "include");
        refused(&json!({"tools": [{"type": "web_search"}]}), "tools[0].type");
        refused(&json!({"max_output_tokens": 0}), "max_output_tokens");
        refused(&json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type");
        let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]);
        refused(&json!({ "input": image }), "input[0].content[0].type");
        refused(&json!({"text": {"format": {"type": "json_schema", "name": "n"}}}), "text.format.schema");
        assert!(plan(&json!({"store": false, "truncation": "disabled", "previous_response_id": null})).is_ok());
    }

    #[test]
    fn forms_and_logprobs_arrive() {
        let plan = plan(&json!({
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
            "include": ["message.output_text.logprobs"], "top_logprobs": 2,
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false}],
            "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        }))
        .unwrap();
        let request = &plan.requests[0];
        assert_eq!(request.response_format, ResponseFormat::JsonSchema(r#"{"type":"object"}"#.into()));
        assert_eq!((request.logprobs, request.stop.len()), (Some(2), 1));
        assert!(matches!(&request.prompt, Prompt::Chat { tool_choice: ToolChoice::Named(name), .. } if name == "f"));
    }

    proptest! {
        #[test]
        fn no_request_panics(value in ".{0,40}") {
            for text in [format!(r#"{{"model":"m","input":[{value}]}}"#), value] {
                if let Ok(request) = json::parse::<ResponsesRequest>(text.as_bytes(), 64) {
                    let _ = request.plan(&GatewayConfig::default());
                }
            }
        }
    }
}
