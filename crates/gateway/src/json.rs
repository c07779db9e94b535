//! Reading JSON bodies: bounded in depth, typed, and with errors that name the offending field.

use crate::error::ApiError;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

/// Parses a body. Nesting beyond `depth_max` is refused before anything is built from it.
///
/// # Errors
/// 400 with the path of the offending field (`messages[2].content`) as `param` where there is one.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], depth_max: usize) -> Result<T, ApiError> {
    if !depth_within(body, depth_max) {
        let message = format!("the body nests arrays and objects deeper than {depth_max} levels; flatten it");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "json_too_deep", message));
    }
    // Paths are tracked only when something is wrong: the second pass costs nothing to those who send valid requests.
    serde_json::from_slice(body).or_else(|_| parse_tracking_paths(body))
}

fn parse_tracking_paths<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| explain(&error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| explain(".", &error))?;
    Ok(value)
}

/// Puts serde's words into ours.
fn explain(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    if error.classify() != serde_json::error::Category::Data {
        let message = format!("the body is not valid JSON: {text}");
        return ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    }
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let parent = if path == "." { "" } else { path };
    if let Some(field) = quoted_after(text, "unknown field `") {
        let name = joined(parent, field);
        let message = format!("{name} is not a parameter of this API; leave it out");
        return ApiError::invalid("unknown_parameter", name, message);
    }
    if let Some(field) = quoted_after(text, "missing field `") {
        let name = joined(parent, field);
        let message = format!("{name} is required");
        return ApiError::invalid("missing_required_parameter", name, message);
    }
    if parent.is_empty() {
        return ApiError::new(StatusCode::BAD_REQUEST, "invalid_type", format!("the body is not as expected: {text}"));
    }
    ApiError::invalid("invalid_type", parent.to_owned(), format!("{parent}: {text}"))
}

fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.split('`').next()
}

/// The path of a field of `parent`. Unknown fields are already part of the path that is reported for them.
fn joined(parent: &str, field: &str) -> String {
    let own = parent == field || parent.strip_suffix(field).is_some_and(|rest| rest.ends_with('.'));
    match (parent, own) {
        ("", _) => field.to_owned(),
        (_, true) => parent.to_owned(),
        _ => format!("{parent}.{field}"),
    }
}

/// Whether brackets nest at most `depth_max` deep, strings left aside. Invalid JSON may pass; the parser refuses it.
fn depth_within(body: &[u8], depth_max: usize) -> bool {
    let mut depth = 0usize;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => (),
        }
    }
    true
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        items: Vec<Inner>,
        #[serde(default)]
        count: Option<u32>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
    }

    fn check(body: &str, code: &str, param: Option<&str>) {
        let error = parse::<Outer>(body.as_bytes(), 4).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (code, param), "{error:?}");
    }

    #[test]
    fn errors_name_the_offending_field() {
        check(r#"{"items":[{"name":"a"},{"name":3}]}"#, "invalid_type", Some("items[1].name"));
        check(r#"{"items":[{"name":"a"},{}]}"#, "missing_required_parameter", Some("items[1].name"));
        check(r#"{"items":[{"name":"a","x":1}]}"#, "unknown_parameter", Some("items[0].x"));
        check(r#"{"items":[],"y":1}"#, "unknown_parameter", Some("y"));
        check(r#"{"items":[],"count":-1}"#, "invalid_type", Some("count"));
        check("{}", "missing_required_parameter", Some("items"));
    }

    #[test]
    fn what_is_not_json_is_said_to_be_none() {
        check(r#"{"items":["#, "invalid_json", None);
        check("", "invalid_json", None);
        check(r#"{"items":[]} x"#, "invalid_json", None);
        check("[]", "invalid_type", None);
        check("\u{0}", "invalid_json", None);
    }

    #[test]
    fn depth_is_bounded_and_strings_do_not_count() {
        check("[[[[[]]]]]", "json_too_deep", None);
        let text = r#"{"items":[{"name":"[[[[[[{{{{\"[[[["}]}"#;
        assert_eq!(parse::<Outer>(text.as_bytes(), 4).unwrap().items[0].name, "[[[[[[{{{{\"[[[[");
        let deep = "[".repeat(1 << 20);
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes(), 64).unwrap_err().code, "json_too_deep");
    }

    proptest! {
        #[test]
        fn no_input_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Outer>(&body, 8);
            let _ = parse::<serde_json::Value>(&body, 8);
        }
    }
}
