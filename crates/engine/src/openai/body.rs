//! Requests in the upstream's words. What the upstream would silently ignore is refused by name.

use super::config::Flavour;
use crate::{EngineError, chat::role_name};
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, SamplingParams, Tool, ToolCall, ToolChoice, ToolFormat,
    sampling::{Micro, SignedMicro},
};
use serde_json::{Map, Value, json};

/// What a request needs to know of its upstream.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    pub(super) flavour: Flavour,
    pub(super) model: String,
    pub(super) logprobs: bool,
    /// The upstream reports token ids when asked (vLLM).
    pub(super) token_ids: bool,
    pub(super) continues: bool,
    /// Log-probabilities are asked for with every generation, not only where the client wants them.
    pub(super) traced: bool,
    pub(super) tool_format: ToolFormat,
}

/// How the upstream is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Token by token.
    Stream,
    /// In one piece.
    Whole,
}

/// A generation as the upstream takes it.
#[derive(Debug)]
pub(super) struct Body {
    /// `/chat/completions` or `/completions`.
    pub(super) path: &'static str,
    pub(super) json: Value,
}

fn unsupported(parameter: &'static str, problem: impl Into<String>) -> EngineError {
    EngineError::Unsupported { parameter, problem: problem.into() }
}

impl Dialect {
    /// The request for an answer that goes on after `resume` (empty from the start), with at most `max_tokens` more.
    pub(super) fn generation(
        &self,
        request: &GenerationRequest,
        resume: Resume<'_>,
        max_tokens: u32,
        form: Form,
    ) -> Result<Body, EngineError> {
        let mut json = Map::new();
        json.insert("model".into(), self.model.as_str().into());
        if form == Form::Stream {
            json.insert("stream".into(), true.into());
            json.insert("stream_options".into(), self.stream_options());
        }
        json.insert("max_tokens".into(), max_tokens.into());
        let path = self.prompt(&mut json, request, resume)?;
        self.sampling(&mut json, &request.sampling)?;
        if !request.stop.is_empty() {
            json.insert("stop".into(), request.stop.clone().into());
        }
        if let Some(seed) = request.seed {
            json.insert("seed".into(), self.seed(seed).into());
        }
        self.format(&mut json, &request.response_format)?;
        self.log_probabilities(&mut json, request.logprobs, path)?;
        Ok(Body { path, json: json.into() })
    }

    fn stream_options(&self) -> Value {
        match self.flavour {
            // The prompt's length then comes with the first chunk instead of the last.
            Flavour::Vllm | Flavour::Sglang => json!({ "include_usage": true, "continuous_usage_stats": true }),
            _ => json!({ "include_usage": true }),
        }
    }

    fn prompt(
        &self,
        json: &mut Map<String, Value>,
        request: &GenerationRequest,
        resume: Resume<'_>,
    ) -> Result<&'static str, EngineError> {
        match &request.prompt {
            Prompt::Chat { messages, tools, tool_choice } => {
                let mut messages: Vec<Value> = messages.iter().map(message).collect();
                self.continuation(json, &mut messages, resume)?;
                json.insert("messages".into(), messages.into());
                self.tools(json, tools, tool_choice)?;
                Ok("/chat/completions")
            }
            Prompt::Text(text) => {
                json.insert("prompt".into(), format!("{text}{}", resume.text).into());
                Ok("/completions")
            }
            Prompt::Tokens(tokens) => {
                if !self.flavour.tokenizes() {
                    return Err(unsupported("prompt", "this model's upstream takes no token ids; send text"));
                }
                if resume.tokens.is_empty() && !resume.text.is_empty() {
                    return Err(unsupported("prompt", "an answer to token ids cannot be continued from text"));
                }
                let all: Vec<u32> = tokens.iter().chain(resume.tokens).copied().collect();
                json.insert("prompt".into(), all.into());
                Ok("/completions")
            }
        }
    }

    /// Puts the begun answer at the end of the conversation and tells the upstream to go on with it.
    fn continuation(
        &self,
        json: &mut Map<String, Value>,
        messages: &mut Vec<Value>,
        resume: Resume<'_>,
    ) -> Result<(), EngineError> {
        if resume.text.is_empty() {
            return Ok(());
        }
        if !self.continues || resume.text.contains("<tool_call>") {
            return Err(unsupported(
                "messages",
                "this model's upstream cannot continue an answer that was begun elsewhere",
            ));
        }
        messages.push(json!({ "role": "assistant", "content": resume.text }));
        if self.flavour != Flavour::Ollama {
            json.insert("continue_final_message".into(), true.into());
            json.insert("add_generation_prompt".into(), false.into());
        }
        Ok(())
    }

    fn tools(&self, json: &mut Map<String, Value>, tools: &[Tool], choice: &ToolChoice) -> Result<(), EngineError> {
        if tools.is_empty() || *choice == ToolChoice::None {
            return Ok(());
        }
        if self.tool_format == ToolFormat::None {
            return Err(unsupported("tools", "this model does not call tools; leave them out"));
        }
        json.insert("tools".into(), tools.iter().map(tool).collect::<Result<Vec<_>, _>>()?.into());
        json.insert(
            "tool_choice".into(),
            match choice {
                ToolChoice::Auto | ToolChoice::None => "auto".into(),
                ToolChoice::Required => "required".into(),
                ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
            },
        );
        Ok(())
    }

    fn sampling(&self, json: &mut Map<String, Value>, sampling: &SamplingParams) -> Result<(), EngineError> {
        json.insert("temperature".into(), decimal(sampling.temperature).into());
        json.insert("top_p".into(), decimal(sampling.top_p).into());
        let mut signed = |name: &str, value: SignedMicro| {
            if value != SignedMicro(0) {
                json.insert(name.into(), (f64::from(value.0) / 1e6).into());
            }
        };
        signed("presence_penalty", sampling.presence_penalty);
        signed("frequency_penalty", sampling.frequency_penalty);
        let own = matches!(self.flavour, Flavour::Vllm | Flavour::Sglang | Flavour::LlamaServer);
        if own {
            // llama-server and some model configurations have defaults of their own here, so "no limit" is said too.
            json.insert("top_k".into(), if sampling.top_k == 0 { self.no_top_k() } else { sampling.top_k.into() });
            json.insert("min_p".into(), decimal(sampling.min_p).into());
            let name = if self.flavour == Flavour::LlamaServer { "repeat_penalty" } else { "repetition_penalty" };
            json.insert(name.into(), decimal(sampling.repeat_penalty).into());
        } else {
            let kind = self.flavour.name();
            let refuse = |name, set: bool| match set {
                true => {
                    Err(unsupported(name, format!("is not supported by this model's upstream ({kind}); leave it out")))
                }
                false => Ok(()),
            };
            refuse("top_k", sampling.top_k != 0)?;
            refuse("min_p", sampling.min_p != Micro(0))?;
            refuse("repeat_penalty", sampling.repeat_penalty != Micro::ONE)?;
            refuse("logit_bias", self.flavour == Flavour::Ollama && !sampling.logit_bias.is_empty())?;
        }
        if !sampling.logit_bias.is_empty() {
            let bias =
                sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), (f64::from(bias.0) / 1e6).into()));
            json.insert("logit_bias".into(), Value::Object(bias.collect()));
        }
        Ok(())
    }

    fn no_top_k(&self) -> Value {
        if self.flavour == Flavour::LlamaServer { 0.into() } else { (-1).into() }
    }

    /// Folded to what the upstream's integer holds; equal seeds stay equal.
    fn seed(&self, seed: u64) -> u64 {
        match self.flavour {
            Flavour::LlamaServer | Flavour::Ollama => seed & 0x7fff_ffff,
            _ => seed & 0x7fff_ffff_ffff_ffff,
        }
    }

    fn format(&self, json: &mut Map<String, Value>, format: &ResponseFormat) -> Result<(), EngineError> {
        let value = match format {
            ResponseFormat::Text => return Ok(()),
            ResponseFormat::JsonObject => json!({ "type": "json_object" }),
            ResponseFormat::JsonSchema(schema) => {
                let schema: Value = serde_json::from_str(schema)
                    .map_err(|error| unsupported("response_format", format!("the schema is not JSON: {error}")))?;
                let named = json!({ "name": "answer", "schema": schema, "strict": true });
                json!({ "type": "json_schema", "json_schema": named })
            }
            ResponseFormat::Grammar(grammar) if self.flavour == Flavour::LlamaServer => {
                json.insert("grammar".into(), grammar.as_str().into());
                return Ok(());
            }
            ResponseFormat::Grammar(_) => {
                return Err(unsupported("grammar", "this model's upstream takes no GBNF; use a JSON schema"));
            }
        };
        json.insert("response_format".into(), value);
        Ok(())
    }

    fn log_probabilities(
        &self,
        json: &mut Map<String, Value>,
        wanted: Option<u8>,
        path: &str,
    ) -> Result<(), EngineError> {
        if !self.logprobs {
            return match wanted {
                Some(_) => Err(unsupported("logprobs", "this model's upstream reports no log-probabilities")),
                None => Ok(()),
            };
        }
        if wanted.is_none() && !self.traced {
            return Ok(());
        }
        // llama-server reports nothing at all when no alternative is asked for; the assembler drops those not wanted.
        let top = wanted.unwrap_or(0).max(1);
        if path == "/chat/completions" {
            json.insert("logprobs".into(), true.into());
            json.insert("top_logprobs".into(), top.into());
        } else {
            json.insert("logprobs".into(), top.into());
        }
        if self.token_ids {
            json.insert("return_token_ids".into(), true.into());
        }
        Ok(())
    }

    /// The request whose answer tells a conversation's tokens: vLLM's `/tokenize`, llama-server's `/apply-template`.
    pub(super) fn template(
        &self,
        messages: &[ChatMessage],
        tools: &[Tool],
        choice: &ToolChoice,
    ) -> Result<Value, EngineError> {
        let mut json = Map::new();
        json.insert("model".into(), self.model.as_str().into());
        json.insert("messages".into(), messages.iter().map(message).collect());
        json.insert("add_generation_prompt".into(), true.into());
        self.tools(&mut json, tools, choice)?;
        json.remove("tool_choice");
        Ok(json.into())
    }

    /// Asks vLLM for the log-probabilities of tokens that are given.
    pub(super) fn scoring(&self, tokens: &[u32], top: u8) -> Value {
        json!({
            "model": self.model, "prompt": tokens, "max_tokens": 1, "temperature": 0,
            "prompt_logprobs": top.max(1), "return_token_ids": true,
        })
    }
}

/// Output that another node already delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [u32],
}

fn decimal(value: Micro) -> f64 {
    f64::from(value.0) / 1e6
}

fn message(message: &ChatMessage) -> Value {
    let mut json = Map::new();
    json.insert("role".into(), role_name(message.role).into());
    let silent = message.content.is_empty() && !message.tool_calls.is_empty();
    json.insert("content".into(), if silent { Value::Null } else { message.content.as_str().into() });
    if !message.tool_calls.is_empty() {
        json.insert("tool_calls".into(), message.tool_calls.iter().map(call).collect());
    }
    if let Some(id) = &message.tool_call_id {
        json.insert("tool_call_id".into(), id.as_str().into());
    }
    if let Some(name) = &message.name {
        json.insert("name".into(), name.as_str().into());
    }
    json.into()
}

fn call(call: &ToolCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn tool(tool: &Tool) -> Result<Value, EngineError> {
    let parameters: Value = serde_json::from_str(&tool.parameters)
        .map_err(|error| unsupported("tools", format!("the parameters of {:?} are not JSON: {error}", tool.name)))?;
    let function = json!({ "name": tool.name, "description": tool.description, "parameters": parameters });
    Ok(json!({ "type": "function", "function": function }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::Role;

    fn dialect(flavour: Flavour) -> Dialect {
        Dialect {
            flavour,
            model: "m".into(),
            logprobs: false,
            token_ids: false,
            continues: flavour.continues(),
            traced: true,
            tool_format: ToolFormat::Native,
        }
    }

    fn request() -> GenerationRequest {
        GenerationRequest {
            model: "public".into(),
            prompt: Prompt::Chat {
                messages: vec![ChatMessage::text(Role::User, "hi")],
                tools: vec![],
                tool_choice: ToolChoice::Auto,
            },
            sampling: SamplingParams { temperature: Micro(700_000), ..SamplingParams::default() },
            seed: Some(u64::MAX),
            max_tokens: 9,
            stop: vec!["END".into()],
            response_format: ResponseFormat::Text,
            logprobs: None,
        }
    }

    #[track_caller]
    fn check(flavour: Flavour, change: impl FnOnce(&mut GenerationRequest), resume: &str, expect: &str) {
        let mut request = request();
        change(&mut request);
        let body =
            dialect(flavour).generation(&request, Resume { text: resume, tokens: &[] }, 9, Form::Stream).unwrap();
        assert_eq!(body.json, serde_json::from_str::<Value>(expect).unwrap());
    }

    #[track_caller]
    fn refused(flavour: Flavour, change: impl FnOnce(&mut GenerationRequest), resume: &str, parameter: &str) {
        let mut request = request();
        change(&mut request);
        let error =
            dialect(flavour).generation(&request, Resume { text: resume, tokens: &[] }, 9, Form::Stream).unwrap_err();
        assert!(matches!(&error, EngineError::Unsupported { parameter: name, .. } if *name == parameter), "{error}");
    }

    #[test]
    fn a_plain_request() {
        check(
            Flavour::Generic,
            |_| (),
            "",
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":9,
            "messages":[{"role":"user","content":"hi"}],"temperature":0.7,"top_p":1.0,"stop":["END"],"seed":9223372036854775807}"#,
        );
    }

    #[test]
    fn flavours_have_their_own_names() {
        check(
            Flavour::Vllm,
            |r| r.sampling.top_k = 40,
            "so far",
            r#"{"model":"m","stream":true,
            "stream_options":{"include_usage":true,"continuous_usage_stats":true},"max_tokens":9,
            "continue_final_message":true,"add_generation_prompt":false,
            "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"so far"}],
            "temperature":0.7,"top_p":1.0,"top_k":40,"min_p":0.0,"repetition_penalty":1.0,"stop":["END"],"seed":9223372036854775807}"#,
        );
        check(
            Flavour::LlamaServer,
            |r| r.response_format = ResponseFormat::Grammar("g".into()),
            "",
            r#"{"model":"m","stream":true,
            "stream_options":{"include_usage":true},"max_tokens":9,"messages":[{"role":"user","content":"hi"}],
            "temperature":0.7,"top_p":1.0,"top_k":0,"min_p":0.0,"repeat_penalty":1.0,"stop":["END"],"seed":2147483647,"grammar":"g"}"#,
        );
    }

    #[test]
    fn a_whole_answer_is_asked_for_without_a_stream_and_a_trace_only_where_one_is_wanted() {
        let dialect = Dialect { logprobs: true, token_ids: true, traced: false, ..dialect(Flavour::Vllm) };
        let whole = dialect.generation(&request(), Resume::default(), 9, Form::Whole).unwrap().json;
        for absent in ["stream", "stream_options", "logprobs", "return_token_ids"] {
            assert_eq!(whole.get(absent), None, "{absent}");
        }
        let wanted = GenerationRequest { logprobs: Some(2), ..request() };
        let wanted = dialect.generation(&wanted, Resume::default(), 9, Form::Whole).unwrap().json;
        assert_eq!((&wanted["logprobs"], &wanted["top_logprobs"]), (&json!(true), &json!(2)));
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        refused(Flavour::Generic, |r| r.sampling.top_k = 1, "", "top_k");
        refused(Flavour::Ollama, |r| r.sampling.min_p = Micro(1), "", "min_p");
        refused(Flavour::Ollama, |r| r.sampling.repeat_penalty = Micro(1), "", "repeat_penalty");
        refused(Flavour::Ollama, |r| r.sampling.logit_bias = vec![(1, SignedMicro(1))], "", "logit_bias");
        refused(Flavour::Vllm, |r| r.response_format = ResponseFormat::Grammar("g".into()), "", "grammar");
        refused(Flavour::Vllm, |r| r.logprobs = Some(0), "", "logprobs");
        refused(Flavour::Generic, |_| (), "so far", "messages");
        refused(Flavour::Vllm, |_| (), "a <tool_call>", "messages");
        refused(Flavour::Generic, |r| r.prompt = Prompt::Tokens(vec![1]), "", "prompt");
    }

    #[test]
    fn tools_and_their_results() {
        let dialect = dialect(Flavour::Vllm);
        let mut json = Map::new();
        let weather = Tool { name: "w".into(), description: String::new(), parameters: r#"{"type":"object"}"#.into() };
        dialect.tools(&mut json, &[weather], &ToolChoice::Named("w".into())).unwrap();
        assert_eq!(json["tools"][0]["function"]["parameters"]["type"], "object");
        assert_eq!(json["tool_choice"]["function"]["name"], "w");
        let calls = vec![ToolCall { id: "1".into(), name: "w".into(), arguments: "{}".into() }];
        let asked = message(&ChatMessage { tool_calls: calls, ..ChatMessage::text(Role::Assistant, "") });
        assert_eq!(asked["content"], Value::Null);
        assert_eq!(asked["tool_calls"][0]["function"]["arguments"], "{}");
        let result = message(&ChatMessage { tool_call_id: Some("1".into()), ..ChatMessage::text(Role::Tool, "sun") });
        assert_eq!(result, json!({ "role": "tool", "content": "sun", "tool_call_id": "1" }));
    }

    #[test]
    fn log_probabilities_are_asked_for_where_there_are_any() {
        let dialect = Dialect { logprobs: true, token_ids: true, ..dialect(Flavour::Vllm) };
        let chat = dialect.generation(&request(), Resume::default(), 9, Form::Stream).unwrap();
        assert_eq!((&chat.json["logprobs"], &chat.json["top_logprobs"]), (&json!(true), &json!(1)));
        assert_eq!(chat.json["return_token_ids"], true);
        let text = GenerationRequest { prompt: Prompt::Text("a".into()), logprobs: Some(3), ..request() };
        let resume = Resume { text: "b", tokens: &[] };
        let text = dialect.generation(&text, resume, 9, Form::Stream).unwrap();
        assert_eq!(
            (text.path, &text.json["prompt"], &text.json["logprobs"]),
            ("/completions", &json!("ab"), &json!(3))
        );
    }
}
