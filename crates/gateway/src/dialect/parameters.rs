//! Checks that several dialects share: ranges of numbers, neutral values of what is not offered, tools, schemas.

use super::union::TextOrList;
use crate::{error::ApiError, tool_calls::SINGLE_CALL_STOP};
use cortensor_protocol::{
    Prompt, ResponseFormat, SamplingParams, TokenId, Tool, ToolChoice,
    sampling::{Micro, SignedMicro},
};
use serde::Deserialize;
use serde_json::{Number, Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};
use utoipa::ToSchema;

/// Sampling parameters as clients write them, whatever the dialect calls the request.
#[derive(Debug, Default)]
pub(crate) struct SamplingInput<'a> {
    pub(crate) temperature: Option<f64>,
    pub(crate) temperature_max: f64,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) logit_bias: Option<&'a BTreeMap<String, f64>>,
}

impl SamplingInput<'_> {
    /// Checks every range.
    pub(crate) fn check(&self) -> Result<SamplingParams, ApiError> {
        let top_k = match self.top_k {
            None | Some(-1) => 0,
            Some(value) => u32::try_from(value)
                .map_err(|_| ApiError::value("top_k", format!("must be -1 (no limit) or at least 0, got {value}")))?,
        };
        let repeat = decimal("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        Ok(SamplingParams {
            temperature: decimal("temperature", self.temperature, 0.0, self.temperature_max)?.unwrap_or(Micro::ONE),
            top_k,
            top_p: decimal("top_p", self.top_p, 0.0, 1.0)?.unwrap_or(Micro::ONE),
            min_p: decimal("min_p", self.min_p, 0.0, 1.0)?.unwrap_or_default(),
            presence_penalty: signed("presence_penalty", self.presence_penalty, 2.0)?,
            frequency_penalty: signed("frequency_penalty", self.frequency_penalty, 2.0)?,
            repeat_penalty: repeat.unwrap_or(Micro::ONE),
            logit_bias: self.logit_bias.map(biases).transpose()?.unwrap_or_default(),
        })
    }
}

fn decimal(param: &'static str, value: Option<f64>, low: f64, high: f64) -> Result<Option<Micro>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let fits = (low..=high).contains(&value);
    let parsed = fits.then(|| Micro::from_f64(value)).flatten();
    parsed.map(Some).ok_or_else(|| ApiError::value(param, format!("must be from {low} to {high}, got {value}")))
}

fn signed(param: &'static str, value: Option<f64>, most: f64) -> Result<SignedMicro, ApiError> {
    let value = value.unwrap_or_default();
    let fits = (-most..=most).contains(&value);
    let parsed = fits.then(|| SignedMicro::from_f64(value)).flatten();
    parsed.ok_or_else(|| ApiError::value(param, format!("must be from -{most} to {most}, got {value}")))
}

fn biases(map: &BTreeMap<String, f64>) -> Result<Vec<(TokenId, SignedMicro)>, ApiError> {
    let one = |(id, bias): (&String, &f64)| {
        let param = || format!("logit_bias.{id}");
        let token = id.parse().map_err(|_| ApiError::value(param(), "keys are token ids"))?;
        let fits = (-100.0..=100.0).contains(bias);
        let bias = fits.then(|| SignedMicro::from_f64(*bias)).flatten();
        Ok((token, bias.ok_or_else(|| ApiError::value(param(), "must be from -100 to 100"))?))
    };
    map.iter().map(one).collect()
}

/// Refuses a parameter that is not offered, unless its value asks for nothing: `null`, or one of `neutral`.
pub(crate) fn refuse(
    param: impl Into<Cow<'static, str>>,
    value: Option<&Value>,
    neutral: &[&str],
    advice: &str,
) -> Result<(), ApiError> {
    let harmless = match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(text)) => neutral.contains(&text.as_str()),
        Some(Value::Array(items)) => items.iter().all(|item| item.as_str().is_some_and(|text| neutral.contains(&text))),
        Some(Value::Number(number)) => neutral.contains(&number.to_string().as_str()),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(true)) => neutral.contains(&"true"),
    };
    if harmless { Ok(()) } else { Err(ApiError::unsupported(param, advice)) }
}

/// The client's seed: any 64-bit integer, signed or not.
#[expect(clippy::cast_sign_loss, reason = "a seed is a bit pattern; every integer keeps its own")]
pub(crate) fn seed(value: Option<&Number>) -> Result<Option<u64>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let parsed = value.as_u64().or_else(|| value.as_i64().map(|value| value as u64));
    parsed.map(Some).ok_or_else(|| ApiError::value("seed", "must be a 64-bit integer"))
}

/// Stop texts.
pub(crate) fn stops(value: Option<TextOrList<String>>) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(TextOrList::Text(text)) => vec![text],
        Some(TextOrList::List(list)) => list,
    }
}

/// The number of choices.
pub(crate) fn choices(param: &'static str, n: Option<u32>, most: usize) -> Result<usize, ApiError> {
    let n = usize::try_from(n.unwrap_or(1)).unwrap_or(usize::MAX);
    if (1..=most).contains(&n) {
        Ok(n)
    } else {
        Err(ApiError::value(param, format!("must be from 1 to {most}, got {n}")))
    }
}

/// Checks one tool and puts it into the network's form.
pub(crate) fn tool(
    path: &str,
    name: String,
    description: Option<String>,
    parameters: Option<&RawValue>,
) -> Result<Tool, ApiError> {
    check_name(&format!("{path}.name"), &name)?;
    let parameters = match parameters.map(RawValue::get) {
        None | Some("null") => r#"{"type":"object","properties":{}}"#.to_owned(),
        Some(text) if text.starts_with('{') => text.to_owned(),
        Some(_) => return Err(ApiError::value(format!("{path}.parameters"), "must be a JSON Schema object")),
    };
    Ok(Tool { name, description: description.unwrap_or_default(), parameters })
}

/// Checks a name of a function, a tool or a speaker.
pub(crate) fn check_name(param: &str, name: &str) -> Result<(), ApiError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'.';
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(ApiError::value(param.to_owned(), "must be 1 to 64 letters, digits, underscores, dots or dashes"))
}

/// A schema as the output's form.
pub(crate) fn json_schema(param: String, schema: Option<&RawValue>) -> Result<ResponseFormat, ApiError> {
    match schema.map(RawValue::get) {
        Some(text) if text.starts_with('{') => Ok(ResponseFormat::JsonSchema(text.to_owned())),
        _ => Err(ApiError::value(param, "must be a JSON Schema object")),
    }
}

/// Makes a generation end after its first tool call.
pub(crate) fn allow_one_call(prompt: &Prompt, stop: &mut Vec<String>) {
    if parses_tools(prompt) {
        stop.push(SINGLE_CALL_STOP.to_owned());
    }
}

/// Whether the output of this prompt may hold tool calls.
pub(crate) fn parses_tools(prompt: &Prompt) -> bool {
    matches!(prompt, Prompt::Chat { tools, tool_choice, .. } if !tools.is_empty() && *tool_choice != ToolChoice::None)
}

/// Whether a prompt has tools at all.
pub(crate) fn has_tools(prompt: &Prompt) -> bool {
    matches!(prompt, Prompt::Chat { tools, .. } if !tools.is_empty())
}

/// One part of a message's content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
pub(crate) struct ContentPart {
    /// `text`; parts of other kinds are refused by name.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The text.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// What an assistant said instead of an answer.
    #[serde(default)]
    pub(crate) refusal: Option<String>,
}

/// Joins the text of parts of the given kinds, and refuses other kinds by name.
pub(crate) fn joined_text(path: &str, content: TextOrList<ContentPart>, kinds: &[&str]) -> Result<String, ApiError> {
    let parts = match content {
        TextOrList::Text(text) => return Ok(text),
        TextOrList::List(parts) => parts,
    };
    let mut joined = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        if !kinds.contains(&part.kind.as_str()) {
            let advice = format!("this network takes text only, not {:?}", part.kind);
            return Err(ApiError::unsupported(format!("{path}[{at}].type"), advice));
        }
        let text = if part.kind == "refusal" { part.refusal } else { part.text };
        let missing = || ApiError::value(format!("{path}[{at}].text"), "is required");
        if at > 0 {
            joined.push('\n');
        }
        joined.push_str(&text.ok_or_else(missing)?);
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_are_checked_by_name() {
        let check = |change: fn(&mut SamplingInput<'_>), expect: Option<&str>| {
            let mut input = SamplingInput { temperature_max: 2.0, ..SamplingInput::default() };
            change(&mut input);
            assert_eq!(input.check().err().and_then(|error| error.param).as_deref(), expect);
        };
        check(|_| (), None);
        check(|i| i.temperature = Some(2.1), Some("temperature"));
        check(|i| i.temperature = Some(f64::NAN), Some("temperature"));
        check(|i| i.top_p = Some(-0.1), Some("top_p"));
        check(|i| i.top_k = Some(-2), Some("top_k"));
        check(|i| i.top_k = Some(-1), None);
        check(|i| i.presence_penalty = Some(2.5), Some("presence_penalty"));
        check(|i| i.repetition_penalty = Some(0.0), Some("repetition_penalty"));
    }

    #[test]
    fn biases_name_their_token() {
        let map = BTreeMap::from([("7".to_owned(), -100.0)]);
        assert_eq!(biases(&map).unwrap(), [(7, SignedMicro(-100_000_000))]);
        let map = BTreeMap::from([("x".to_owned(), 1.0)]);
        assert_eq!(biases(&map).unwrap_err().param.as_deref(), Some("logit_bias.x"));
    }

    #[test]
    fn neutral_values_are_let_through() {
        for value in [json!(null), json!(false), json!("auto"), json!([]), json!({}), json!(1)] {
            assert!(refuse("p", Some(&value), &["auto", "1"], "no").is_ok(), "{value}");
        }
        for value in [json!(true), json!("flex"), json!(["x"]), json!({"a": 1}), json!(2)] {
            assert_eq!(refuse("p", Some(&value), &["auto", "1"], "no").unwrap_err().code, "unsupported_parameter");
        }
    }

    #[test]
    fn seeds_keep_their_bits() {
        assert_eq!(seed(Some(&(-1).into())), Ok(Some(u64::MAX)));
        assert_eq!(seed(Some(&u64::MAX.into())), Ok(Some(u64::MAX)));
        assert!(seed(Number::from_f64(0.5).as_ref()).is_err());
    }

    #[test]
    fn parts_are_joined_and_images_refused_by_name() {
        let part = |kind: &str, text: &str| ContentPart { kind: kind.into(), text: Some(text.into()), refusal: None };
        let joined = joined_text("c", TextOrList::List(vec![part("text", "a"), part("text", "b")]), &["text"]);
        assert_eq!(joined.unwrap(), "a\nb");
        let error = joined_text("c", TextOrList::List(vec![part("text", "a"), part("image_url", "")]), &["text"]);
        assert_eq!(error.unwrap_err().param.as_deref(), Some("c[1].type"));
    }
}
