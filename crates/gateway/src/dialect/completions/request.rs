//! The request of a completion and its conversion into the network's terms.

use super::answer::CompletionAnswer;
use crate::{
    config::GatewayConfig,
    dialect::{
        Plan,
        chat::{StreamOptions, repeated, top_logprobs},
        parameters::{self, SamplingInput, refuse},
        union::{PromptItem, TextOrList},
    },
    error::ApiError,
};
use cortensor_protocol::{GenerationRequest, Prompt, ResponseFormat, Routing};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Output tokens where the client sets no limit; this API has always had this one.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// A completion: text or tokens to continue as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionRequest {
    /// Name of the model.
    model: String,
    /// Extension: `{"miner": "0x…"}` names the one miner that may serve this, `{"min_tier": "A"}` the least tier.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    cortensor: Routing,
    /// A text, a list of token ids, or a list of either.
    prompt: TextOrList<PromptItem>,
    /// Most output tokens; 16 if absent.
    max_tokens: Option<u32>,
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
    /// Number of answers to each prompt.
    n: Option<u32>,
    /// How many alternatives to report with each token, up to 20.
    logprobs: Option<u32>,
    /// Whether to stream the answer.
    stream: Option<bool>,
    /// Options of the stream.
    stream_options: Option<StreamOptions>,
    /// Accepted; not used.
    #[expect(dead_code, reason = "read to be accepted")]
    user: Option<String>,
    /// Only `false`.
    echo: Option<Value>,
    /// Refused.
    suffix: Option<Value>,
    /// Only 1 or the value of `n`.
    best_of: Option<u32>,
}

impl CompletionRequest {
    /// Puts the request into the network's terms.
    pub(crate) fn plan(mut self, config: &GatewayConfig) -> Result<Plan<CompletionAnswer>, ApiError> {
        refuse("echo", self.echo.as_ref(), &[], "put the prompt before the answer yourself")?;
        refuse("suffix", self.suffix.as_ref(), &[""], "models here only continue a text")?;
        if self.best_of.is_some_and(|best| best > 1 && Some(best) != self.n) {
            return Err(ApiError::unsupported("best_of", "ask for n answers and choose yourself"));
        }
        let stream = self.stream.unwrap_or(false);
        let include_usage = self.include_usage(stream)?;
        let n = parameters::choices("n", self.n, config.choices_max)?;
        let prompt = std::mem::replace(&mut self.prompt, TextOrList::Text(String::new()));
        let prompts = prompts(prompt)?;
        if prompts.len().saturating_mul(n) > config.choices_max {
            let problem = format!("prompts times n come to {}, the most is {}", prompts.len() * n, config.choices_max);
            return Err(ApiError::value("prompt", problem));
        }
        let logprobs = self.logprobs.map(|top| top_logprobs("logprobs", top)).transpose()?;
        let sampling = self.sampling().check()?;
        let (seed, stop) = (parameters::seed(self.seed.as_ref())?, parameters::stops(self.stop.take()));
        let answer = CompletionAnswer::new(self.model.clone(), include_usage, logprobs);
        let request = |prompt| GenerationRequest {
            model: self.model.clone(),
            prompt,
            sampling: sampling.clone(),
            seed,
            max_tokens: self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            stop: stop.clone(),
            response_format: ResponseFormat::Text,
            logprobs,
        };
        if self.max_tokens == Some(0) {
            return Err(ApiError::value("max_tokens", "must be at least 1"));
        }
        let requests = prompts.into_iter().flat_map(|prompt| repeated(request(prompt), n)).collect();
        Ok(Plan { requests, stream, answer, routing: self.cortensor })
    }

    fn include_usage(&self, stream: bool) -> Result<bool, ApiError> {
        self.stream_options.as_ref().map_or(Ok(false), |options| options.include_usage(stream))
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
}

/// One prompt for each text, each list of tokens, or all tokens of a flat list. Never empty.
fn prompts(input: TextOrList<PromptItem>) -> Result<Vec<Prompt>, ApiError> {
    let items = match input {
        TextOrList::Text(text) => return Ok(vec![Prompt::Text(text)]),
        TextOrList::List(items) => items,
    };
    if items.is_empty() {
        return Err(ApiError::value("prompt", "must not be empty"));
    }
    let flat: Vec<u32> =
        items.iter().filter_map(|item| if let PromptItem::Token(id) = item { Some(*id) } else { None }).collect();
    if flat.len() == items.len() {
        return Ok(vec![Prompt::Tokens(flat)]);
    }
    let one = |(at, item)| match item {
        PromptItem::Text(text) => Ok(Prompt::Text(text)),
        PromptItem::Tokens(tokens) => Ok(Prompt::Tokens(tokens)),
        PromptItem::Token(_) => {
            Err(ApiError::value(format!("prompt[{at}]"), "a single token stands among whole prompts"))
        }
    };
    items.into_iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use proptest::prelude::*;
    use serde_json::json;

    fn plan(change: &Value) -> Result<Plan<CompletionAnswer>, ApiError> {
        let mut body = json!({"model": "m", "prompt": "Once"});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        json::parse::<CompletionRequest>(body.to_string().as_bytes(), 64)?.plan(&GatewayConfig::default())
    }

    fn check(prompt: &Value, expect: Result<Vec<Prompt>, &str>) {
        let found = plan(&json!({ "prompt": prompt }))
            .map(|plan| plan.requests.into_iter().map(|request| request.prompt).collect::<Vec<_>>());
        match (found, expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(error), Err(param)) => assert_eq!(error.param.as_deref(), Some(param)),
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn every_form_of_prompt_is_read() {
        check(&json!("a"), Ok(vec![Prompt::Text("a".into())]));
        check(&json!(["a", "b"]), Ok(vec![Prompt::Text("a".into()), Prompt::Text("b".into())]));
        check(&json!([1, 2]), Ok(vec![Prompt::Tokens(vec![1, 2])]));
        check(&json!([[1], [2, 3]]), Ok(vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]));
        check(&json!([[1], 2]), Err("prompt[1]"));
        check(&json!([]), Err("prompt"));
        check(&json!([[1, "x"]]), Err("prompt[0][1]"));
        check(&json!(vec!["a"; 9]), Err("prompt"));
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (change, param) in [
            (json!({"echo": true}), "echo"),
            (json!({"suffix": "end"}), "suffix"),
            (json!({"best_of": 3}), "best_of"),
            (json!({"n": 0}), "n"),
            (json!({"logprobs": 21}), "logprobs"),
            (json!({"max_tokens": 0}), "max_tokens"),
        ] {
            assert_eq!(plan(&change).unwrap_err().param.as_deref(), Some(param));
        }
        assert!(plan(&json!({"echo": false, "suffix": null, "best_of": 1, "user": "u"})).is_ok());
    }

    #[test]
    fn choices_of_a_prompt_stand_together() {
        let plan = plan(&json!({"prompt": ["a", "b"], "n": 2, "seed": 1})).unwrap();
        let texts: Vec<_> = plan.requests.iter().map(|request| (request.prompt.clone(), request.seed)).collect();
        let (a, b) = (Prompt::Text("a".into()), Prompt::Text("b".into()));
        assert_eq!(texts, [(a.clone(), Some(1)), (a, Some(2)), (b.clone(), Some(1)), (b, Some(2))]);
    }

    proptest! {
        #[test]
        fn no_prompt_panics(value in ".{0,40}") {
            let text = format!(r#"{{"model":"m","prompt":{value}}}"#);
            if let Ok(request) = json::parse::<CompletionRequest>(text.as_bytes(), 64) {
                let _ = request.plan(&GatewayConfig::default());
            }
        }
    }
}
