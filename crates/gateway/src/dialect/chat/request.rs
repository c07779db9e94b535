//! The request of a chat completion and its conversion into the network's terms.

use super::answer::ChatAnswer;
use crate::{
    config::GatewayConfig,
    dialect::{
        Plan,
        parameters::{self, ContentPart, SamplingInput, refuse},
        union::{NameOrObject, TextOrList},
    },
    error::ApiError,
};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, Routing, Tool, ToolCall, ToolChoice,
    generation::MAX_TOP_LOGPROBS,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A chat completion. Parameters that this network does not offer are refused by name unless their value asks for
/// nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    /// Name of the model.
    model: String,
    /// Extension: `{"miner": "0x…"}` names the one miner that may serve this, `{"min_tier": "A"}` the least tier.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    cortensor: Routing,
    /// The conversation, oldest first.
    messages: Vec<ChatMessageInput>,
    /// Most output tokens (older name).
    max_tokens: Option<u32>,
    /// Most output tokens.
    max_completion_tokens: Option<u32>,
    /// 0 (greedy) to 2; 1 if absent.
    temperature: Option<f64>,
    /// 0 to 1.
    top_p: Option<f64>,
    /// Extension: only the so many most probable tokens; -1 or 0 for no limit.
    top_k: Option<i64>,
    /// Extension: only tokens at least this probable, relative to the most probable.
    min_p: Option<f64>,
    /// -2 to 2.
    presence_penalty: Option<f64>,
    /// -2 to 2.
    frequency_penalty: Option<f64>,
    /// Extension: 1 is off.
    repetition_penalty: Option<f64>,
    /// Token ids and what is added to their logits, -100 to 100.
    logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed, model and request give the same answer.
    #[schema(value_type = Option<i64>)]
    seed: Option<serde_json::Number>,
    /// Texts at which the output ends.
    stop: Option<TextOrList<String>>,
    /// Number of answers; each is a task of its own and is paid in full.
    n: Option<u32>,
    /// Whether to report log-probabilities.
    logprobs: Option<bool>,
    /// How many alternatives to report with each token, up to 20.
    top_logprobs: Option<u32>,
    /// Form of the output.
    response_format: Option<ResponseFormatInput>,
    /// Functions that the model may call.
    tools: Option<Vec<ChatTool>>,
    /// `none`, `auto`, `required`, or a function.
    tool_choice: Option<NameOrObject<ChatToolChoice>>,
    /// Whether several calls may be made in one answer.
    parallel_tool_calls: Option<bool>,
    /// Whether to stream the answer.
    #[serde(default)]
    stream: Option<bool>,
    /// Options of the stream.
    stream_options: Option<StreamOptions>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    user: Option<String>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    metadata: Option<BTreeMap<String, String>>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    safety_identifier: Option<String>,
    /// Accepted; requests with a common beginning find each other by content.
    #[expect(dead_code, reason = "read to be accepted")]
    prompt_cache_key: Option<String>,
    /// Only `false`: nothing is stored.
    store: Option<Value>,
    /// Only `auto` and `default`.
    service_tier: Option<Value>,
    /// Only `["text"]`.
    modalities: Option<Value>,
    /// Only `none`.
    reasoning_effort: Option<Value>,
    /// Only `medium`.
    verbosity: Option<Value>,
    /// Refused.
    audio: Option<Value>,
    /// Refused.
    prediction: Option<Value>,
    /// Refused.
    web_search_options: Option<Value>,
    /// Refused: use `tools`.
    functions: Option<Value>,
    /// Refused: use `tool_choice`.
    function_call: Option<Value>,
}

/// One message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatMessageInput {
    /// Who speaks.
    role: ChatRole,
    /// What is said: text, or parts of kind `text`.
    content: Option<TextOrList<ContentPart>>,
    /// Name of the speaker.
    name: Option<String>,
    /// Calls that an assistant message made.
    tool_calls: Option<Vec<CallInput>>,
    /// For a tool message: the call that it answers.
    tool_call_id: Option<String>,
    /// What an assistant said instead of an answer.
    refusal: Option<String>,
    /// Only empty.
    annotations: Option<Value>,
    /// Refused.
    audio: Option<Value>,
    /// Refused: use `tool_calls`.
    function_call: Option<Value>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChatRole {
    /// The application.
    System,
    /// The application, by its newer name.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A call that an assistant message made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallInput {
    id: String,
    /// Only `function`.
    #[serde(rename = "type")]
    kind: Option<String>,
    function: CalledFunction,
    /// Position, as streams carry it.
    #[expect(dead_code, reason = "read to be accepted")]
    index: Option<u32>,
}

/// The function of a call.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CalledFunction {
    name: String,
    /// JSON text.
    arguments: String,
}

/// A tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatTool {
    /// Only `function`.
    #[serde(rename = "type")]
    kind: String,
    function: Option<FunctionInput>,
}

/// A function that may be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionInput {
    name: String,
    description: Option<String>,
    /// JSON Schema of the arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Box<RawValue>>,
    /// `true` only if a call must be made (`tool_choice`); otherwise the schema guides the model, unenforced.
    strict: Option<bool>,
}

/// A function that must be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatToolChoice {
    /// Only `function`.
    #[serde(rename = "type")]
    kind: String,
    function: Option<ChosenFunction>,
}

/// Its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChosenFunction {
    name: String,
}

/// Form of the output.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseFormatInput {
    /// `text`, `json_object`, `json_schema`, or the extension `grammar`.
    #[serde(rename = "type")]
    kind: String,
    /// For `json_schema`.
    json_schema: Option<SchemaInput>,
    /// For `grammar`: GBNF text.
    grammar: Option<String>,
}

/// A schema that the output must fit; always enforced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaInput {
    #[expect(dead_code, reason = "a label for the client's own use")]
    name: Option<String>,
    #[expect(dead_code, reason = "a label for the client's own use")]
    description: Option<String>,
    #[schema(value_type = Object)]
    schema: Option<Box<RawValue>>,
    #[expect(dead_code, reason = "the schema is enforced in any case")]
    strict: Option<bool>,
}

/// Options of a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Whether a last chunk reports the usage.
    include_usage: Option<bool>,
    /// Only `false`.
    include_obfuscation: Option<Value>,
}

impl ChatRequest {
    /// Puts the request into the network's terms.
    pub(crate) fn plan(mut self, config: &GatewayConfig) -> Result<Plan<ChatAnswer>, ApiError> {
        self.refuse_unsupported()?;
        let sampling = self.sampling().check()?;
        let stream = self.stream.unwrap_or(false);
        let include_usage = self.include_usage(stream)?;
        let logprobs = self.logprobs()?;
        let n = parameters::choices("n", self.n, config.choices_max)?;
        let seed = parameters::seed(self.seed.as_ref())?;
        let mut stop = parameters::stops(self.stop.take());
        let tool_choice = self.tool_choice.take().map(tool_choice).transpose()?.unwrap_or_default();
        let prompt = Prompt::Chat {
            messages: messages(std::mem::take(&mut self.messages))?,
            tools: tools(self.tools.take().unwrap_or_default(), &tool_choice)?,
            tool_choice,
        };
        if self.parallel_tool_calls == Some(false) {
            parameters::allow_one_call(&prompt, &mut stop);
        }
        let answer = ChatAnswer::new(self.model.clone(), include_usage, logprobs.is_some());
        let request = GenerationRequest {
            model: self.model,
            prompt,
            sampling,
            seed,
            max_tokens: limit(self.max_completion_tokens, self.max_tokens)?,
            stop,
            response_format: self.response_format.map(response_format).transpose()?.unwrap_or_default(),
            logprobs,
        };
        Ok(Plan { requests: repeated(request, n), stream, answer, routing: self.cortensor })
    }

    fn refuse_unsupported(&self) -> Result<(), ApiError> {
        let text_only = "this network takes and gives text";
        refuse("store", self.store.as_ref(), &[], "answers are not stored; leave it out")?;
        refuse("service_tier", self.service_tier.as_ref(), &["auto", "default"], "use auto or leave it out")?;
        refuse("modalities", self.modalities.as_ref(), &["text"], text_only)?;
        refuse("reasoning_effort", self.reasoning_effort.as_ref(), &["none"], "leave it out")?;
        refuse("verbosity", self.verbosity.as_ref(), &["medium"], "say in the messages how long answers should be")?;
        refuse("audio", self.audio.as_ref(), &[], text_only)?;
        refuse("prediction", self.prediction.as_ref(), &[], "leave it out")?;
        refuse("web_search_options", self.web_search_options.as_ref(), &[], "offer a search function in tools")?;
        refuse("functions", self.functions.as_ref(), &[], "use tools")?;
        refuse("function_call", self.function_call.as_ref(), &[], "use tool_choice")
    }

    fn sampling(&self) -> SamplingInput<'_> {
        SamplingInput {
            temperature: self.temperature,
            temperature_max: 2.0,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repetition_penalty: self.repetition_penalty,
            logit_bias: self.logit_bias.as_ref(),
        }
    }

    fn include_usage(&self, stream: bool) -> Result<bool, ApiError> {
        self.stream_options.as_ref().map_or(Ok(false), |options| options.include_usage(stream))
    }

    fn logprobs(&self) -> Result<Option<u8>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => Err(ApiError::value("top_logprobs", "needs logprobs to be true")),
            (true, top) => top_logprobs("top_logprobs", top.unwrap_or(0)).map(Some),
        }
    }
}

impl StreamOptions {
    /// Whether usage is to be reported.
    pub(crate) fn include_usage(&self, stream: bool) -> Result<bool, ApiError> {
        if !stream {
            return Err(ApiError::value("stream_options", "is only for streams; set stream to true"));
        }
        let advice = "frames are not padded; leave it out";
        refuse("stream_options.include_obfuscation", self.include_obfuscation.as_ref(), &[], advice)?;
        Ok(self.include_usage.unwrap_or(false))
    }
}

/// Checks a number of alternatives.
pub(crate) fn top_logprobs(param: &'static str, top: u32) -> Result<u8, ApiError> {
    let fits = u8::try_from(top).ok().filter(|top| *top <= MAX_TOP_LOGPROBS);
    fits.ok_or_else(|| ApiError::value(param, format!("must be from 0 to {MAX_TOP_LOGPROBS}, got {top}")))
}

/// The limit of output tokens from its two names; 0 where neither is given.
fn limit(newer: Option<u32>, older: Option<u32>) -> Result<u32, ApiError> {
    match (newer, older) {
        (Some(0), _) => Err(ApiError::value("max_completion_tokens", "must be at least 1")),
        (_, Some(0)) => Err(ApiError::value("max_tokens", "must be at least 1")),
        (Some(one), Some(other)) if one != other => {
            Err(ApiError::value("max_tokens", "differs from max_completion_tokens; give one of them"))
        }
        (newer, older) => Ok(newer.or(older).unwrap_or(0)),
    }
}

/// `n` times the same request; with a seed each has its own, so that they are not the same answer.
pub(crate) fn repeated(request: GenerationRequest, n: usize) -> Vec<GenerationRequest> {
    let mut requests = vec![request; n];
    for (at, request) in (0u64..).zip(&mut requests) {
        request.seed = request.seed.map(|seed| seed.wrapping_add(at));
    }
    requests
}

fn messages(input: Vec<ChatMessageInput>) -> Result<Vec<ChatMessage>, ApiError> {
    input.into_iter().enumerate().map(|(at, message)| message.convert(&format!("messages[{at}]"))).collect()
}

impl ChatMessageInput {
    fn convert(self, path: &str) -> Result<ChatMessage, ApiError> {
        refuse(format!("{path}.annotations"), self.annotations.as_ref(), &[], "leave it out")?;
        refuse(format!("{path}.audio"), self.audio.as_ref(), &[], "this network takes text only")?;
        refuse(format!("{path}.function_call"), self.function_call.as_ref(), &[], "use tool_calls")?;
        let role = match self.role {
            ChatRole::System | ChatRole::Developer => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
            ChatRole::Tool => Role::Tool,
        };
        let calls = self.tool_calls.unwrap_or_default();
        if !calls.is_empty() && role != Role::Assistant {
            return Err(ApiError::value(format!("{path}.tool_calls"), "only an assistant message makes calls"));
        }
        if (role == Role::Tool) != self.tool_call_id.is_some() {
            let problem = "is required in a tool message, and allowed in no other";
            return Err(ApiError::value(format!("{path}.tool_call_id"), problem));
        }
        if let Some(name) = &self.name {
            parameters::check_name(&format!("{path}.name"), name)?;
        }
        let content_path = format!("{path}.content");
        let content = match (self.content, self.refusal) {
            (Some(content), _) => parameters::joined_text(&content_path, content, kinds(role))?,
            (None, Some(refusal)) if role == Role::Assistant => refusal,
            (None, _) if role == Role::Assistant && !calls.is_empty() => String::new(),
            (None, _) => return Err(ApiError::value(content_path, "is required")),
        };
        let calls = calls.into_iter().enumerate();
        let calls = calls.map(|(at, call)| call.convert(&format!("{path}.tool_calls[{at}]")));
        let tool_calls = calls.collect::<Result<_, _>>()?;
        Ok(ChatMessage { role, content, tool_calls, tool_call_id: self.tool_call_id, name: self.name })
    }
}

fn kinds(role: Role) -> &'static [&'static str] {
    if role == Role::Assistant { &["text", "refusal"] } else { &["text"] }
}

impl CallInput {
    fn convert(self, path: &str) -> Result<ToolCall, ApiError> {
        match self.kind.as_deref() {
            None | Some("function") => {
                Ok(ToolCall { id: self.id, name: self.function.name, arguments: self.function.arguments })
            }
            Some(_) => Err(ApiError::unsupported(format!("{path}.type"), "only function calls are")),
        }
    }
}

fn tools(input: Vec<ChatTool>, choice: &ToolChoice) -> Result<Vec<Tool>, ApiError> {
    let convert = |(at, tool): (usize, ChatTool)| {
        let path = format!("tools[{at}]");
        if tool.kind != "function" {
            return Err(ApiError::unsupported(format!("{path}.type"), "only function tools are"));
        }
        let path = format!("{path}.function");
        let Some(function) = tool.function else { return Err(ApiError::value(path, "is required")) };
        refuse_strict(format!("{path}.strict"), function.strict, choice, FORCING)?;
        parameters::tool(&path, function.name, function.description, function.parameters.as_deref())
    };
    input.into_iter().enumerate().map(convert).collect()
}

/// How OpenAI's dialects make the model call.
pub(crate) const FORCING: &str = r#"set tool_choice to "required" or to a function"#;

/// A call that must be made is written under a grammar made of the schemas. Where the model may also write text, its
/// calls are free, and a promise that they fit would be false.
///
/// `forcing` says how the dialect makes the model call.
pub(crate) fn refuse_strict(
    param: String,
    strict: Option<bool>,
    choice: &ToolChoice,
    forcing: &str,
) -> Result<(), ApiError> {
    let forced = matches!(choice, ToolChoice::Required | ToolChoice::Named(_));
    if strict != Some(true) || forced {
        return Ok(());
    }
    let advice = format!("schemas of tools are enforced only if a call must be made; {forcing}, or leave strict out");
    Err(ApiError::unsupported(param, advice))
}

fn tool_choice(input: NameOrObject<ChatToolChoice>) -> Result<ToolChoice, ApiError> {
    match input {
        NameOrObject::Name(name) => named_choice(&name),
        NameOrObject::Object(ChatToolChoice { kind, function: Some(function) }) if kind == "function" => {
            Ok(ToolChoice::Named(function.name))
        }
        NameOrObject::Object(ChatToolChoice { kind, .. }) if kind == "function" => {
            Err(ApiError::value("tool_choice.function", "is required"))
        }
        NameOrObject::Object(_) => Err(ApiError::unsupported("tool_choice.type", "only function is")),
    }
}

/// A choice by its word.
pub(crate) fn named_choice(name: &str) -> Result<ToolChoice, ApiError> {
    match name {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        other => {
            Err(ApiError::value("tool_choice", format!("must be auto, none, required or a function, got {other:?}")))
        }
    }
}

fn response_format(input: ResponseFormatInput) -> Result<ResponseFormat, ApiError> {
    let path = "response_format";
    match (input.kind.as_str(), input.json_schema, input.grammar) {
        ("text", None, None) => Ok(ResponseFormat::Text),
        ("json_object", None, None) => Ok(ResponseFormat::JsonObject),
        ("json_schema", Some(input), None) => {
            parameters::json_schema(format!("{path}.json_schema.schema"), input.schema.as_deref())
        }
        ("json_schema", None, _) => Err(ApiError::value(format!("{path}.json_schema"), "is required")),
        ("grammar", None, Some(grammar)) => Ok(ResponseFormat::Grammar(grammar)),
        ("grammar", _, None) => Err(ApiError::value(format!("{path}.grammar"), "is required")),
        ("text" | "json_object" | "json_schema" | "grammar", ..) => {
            Err(ApiError::value(path, "has a field that belongs to another type"))
        }
        (other, ..) => {
            let problem = format!("must be text, json_object, json_schema or grammar, got {other:?}");
            Err(ApiError::value(format!("{path}.type"), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use cortensor_protocol::sampling::Micro;
    use proptest::prelude::*;
    use serde_json::json;

    fn plan(change: &Value) -> Result<Plan<ChatAnswer>, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        json::parse::<ChatRequest>(body.to_string().as_bytes(), 64)?.plan(&GatewayConfig::default())
    }

    fn refused(change: &Value, code: &str, param: &str) {
        let error = plan(change).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (code, Some(param)), "{error:?}");
        assert!(error.message.contains(param), "{error:?}");
    }

    #[test]
    fn a_plain_request_has_the_apis_defaults() {
        let plan = plan(&json!({})).unwrap();
        assert!(!plan.stream);
        let [request] = plan.requests.as_slice() else { panic!("one choice") };
        assert_eq!(request.sampling, cortensor_protocol::SamplingParams::default());
        assert_eq!((request.max_tokens, request.seed, request.logprobs), (0, None, None));
        assert_eq!(request.response_format, ResponseFormat::Text);
    }

    #[test]
    fn every_parameter_arrives() {
        let plan = plan(&json!({
            "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7,
            "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1, "logit_bias": {"5": -1},
            "stop": ["\n\n"], "n": 2, "logprobs": true, "top_logprobs": 3, "stream": true,
            "stream_options": {"include_usage": true}, "response_format": {"type": "json_object"},
            "user": "u", "metadata": {"a": "b"}, "store": false, "service_tier": "auto", "modalities": ["text"],
        }))
        .unwrap();
        assert!(plan.stream);
        let request = &plan.requests[1];
        assert_eq!((request.max_tokens, request.seed, request.logprobs), (9, Some(8), Some(3)));
        assert_eq!(request.sampling.temperature, Micro(500_000));
        assert_eq!((request.sampling.top_k, request.sampling.logit_bias.len()), (40, 1));
        assert_eq!(request.stop, ["\n\n"]);
        assert_eq!(request.response_format, ResponseFormat::JsonObject);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        refused(&json!({"store": true}), "unsupported_parameter", "store");
        refused(&json!({"audio": {"voice": "x"}}), "unsupported_parameter", "audio");
        refused(&json!({"modalities": ["text", "audio"]}), "unsupported_parameter", "modalities");
        refused(&json!({"functions": [{"name": "f"}]}), "unsupported_parameter", "functions");
        refused(&json!({"service_tier": "flex"}), "unsupported_parameter", "service_tier");
        refused(&json!({"best_of": 2}), "unknown_parameter", "best_of");
        refused(&json!({"n": 9}), "invalid_value", "n");
        refused(&json!({"top_logprobs": 2}), "invalid_value", "top_logprobs");
        refused(&json!({"logprobs": true, "top_logprobs": 21}), "invalid_value", "top_logprobs");
        refused(&json!({"stream_options": {"include_usage": true}}), "invalid_value", "stream_options");
        refused(&json!({"max_tokens": 0}), "invalid_value", "max_tokens");
        refused(&json!({"max_tokens": 1, "max_completion_tokens": 2}), "invalid_value", "max_tokens");
        refused(&json!({"temperature": "hot"}), "invalid_type", "temperature");
        refused(&json!({"response_format": {"type": "xml"}}), "invalid_value", "response_format.type");
    }

    #[test]
    fn messages_are_converted() {
        let plan = plan(&json!({"messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "q", "name": "ann"},
            {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null,
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ]}))
        .unwrap();
        let Prompt::Chat { messages, .. } = &plan.requests[0].prompt else { panic!("a chat") };
        assert_eq!(messages[0], ChatMessage::text(Role::System, "a\nb"));
        assert_eq!(messages[1].name.as_deref(), Some("ann"));
        assert_eq!(messages[2].tool_calls[0].name, "f");
        assert_eq!((messages[3].role, messages[3].tool_call_id.as_deref()), (Role::Tool, Some("c1")));
    }

    #[test]
    fn faulty_messages_are_named_by_their_path() {
        let with = |message: Value| json!({"messages": [{"role": "user", "content": "x"}, message]});
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]});
        refused(&with(image), "unsupported_parameter", "messages[1].content[0].type");
        refused(&with(json!({"role": "user", "content": 5})), "invalid_type", "messages[1].content");
        refused(&with(json!({"role": "user"})), "invalid_value", "messages[1].content");
        refused(&with(json!({"role": "robot", "content": ""})), "invalid_type", "messages[1].role");
        refused(&with(json!({"role": "tool", "content": ""})), "invalid_value", "messages[1].tool_call_id");
        refused(&with(json!({"content": ""})), "missing_required_parameter", "messages[1].role");
        refused(
            &with(json!({"role": "user", "content": "", "thoughts": 1})),
            "unknown_parameter",
            "messages[1].thoughts",
        );
    }

    #[test]
    fn tools_are_converted() {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
        let plan = plan(&json!({"tools": [tool], "parallel_tool_calls": false,
                                "tool_choice": {"type": "function", "function": {"name": "f"}}}))
        .unwrap();
        let Prompt::Chat { tools, tool_choice, .. } = &plan.requests[0].prompt else { panic!("a chat") };
        assert_eq!(tools[0].parameters, r#"{"type":"object"}"#);
        assert_eq!(*tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(plan.requests[0].stop, ["</tool_call>"]);
    }

    #[test]
    fn faulty_tools_are_named_by_their_path() {
        let with = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        refused(&with(json!({"name": "a b"})), "invalid_value", "tools[0].function.name");
        refused(&with(json!({"name": "f", "parameters": []})), "invalid_value", "tools[0].function.parameters");
        refused(&with(json!({"name": "f", "strict": true})), "unsupported_parameter", "tools[0].function.strict");
        let mut forced = with(json!({"name": "f", "strict": true}));
        forced["tool_choice"] = "required".into();
        assert!(plan(&forced).is_ok());
        refused(&json!({"tools": [{"type": "web_search"}]}), "unsupported_parameter", "tools[0].type");
        refused(&json!({"tool_choice": "maybe"}), "invalid_value", "tool_choice");
    }

    #[test]
    fn schemas_are_passed_on_as_written() {
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object"}}});
        let plan = plan(&json!({"response_format": format})).unwrap();
        assert_eq!(plan.requests[0].response_format, ResponseFormat::JsonSchema(r#"{"type":"object"}"#.into()));
        refused(&json!({"response_format": {"type": "json_schema"}}), "invalid_value", "response_format.json_schema");
    }

    proptest! {
        #[test]
        fn no_request_panics(key in "[a-z_]{1,12}", value in ".{0,40}") {
            for text in [format!(r#"{{"model":"m","messages":[],"{key}":{value}}}"#), value] {
                if let Ok(request) = json::parse::<ChatRequest>(text.as_bytes(), 64) {
                    let _ = request.plan(&GatewayConfig::default());
                }
            }
        }
    }
}
