//! Whether a JSON value fits a JSON Schema, as far as that can be said with certainty.
//!
//! Judged are the keywords that say what a value is made of (`type`, `enum`, `const`, `properties`, `required`,
//! `additionalProperties`, `items`, `prefixItems`, the bounds on lengths and numbers, `allOf`, `anyOf`, `oneOf`, local
//! `$ref`). Others (`pattern`, `format` and what later drafts add) are not judged: a value is never called unfit for
//! them. Depth and work are bounded; beyond the bounds nothing is called unfit either. Numbers are compared as
//! decimals, not as floats.

use serde_json::{Number, Value};
use std::cmp::Ordering;

/// Deepest nesting that is looked at.
const MAX_DEPTH: usize = 64;
/// Most comparisons of a value with a schema.
const MAX_STEPS: usize = 100_000;

/// Where and how a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct Misfit {
    /// JSON pointer to the part that does not fit.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Checks `value` against `schema`.
///
/// # Errors
/// The first part that certainly does not fit.
pub fn check(schema: &Value, value: &Value) -> Result<(), Misfit> {
    let mut checker = Checker { root: schema, steps: MAX_STEPS, depth: 0 };
    checker.check(schema, value, &mut Vec::new())
}

struct Checker<'a> {
    root: &'a Value,
    steps: usize,
    depth: usize,
}

type Path = Vec<String>;

fn misfit<T>(path: &Path, problem: impl Into<String>) -> Result<T, Misfit> {
    let path = path.iter().fold(String::from("$"), |whole, part| whole + "/" + part);
    Err(Misfit { path, problem: problem.into() })
}

impl<'a> Checker<'a> {
    fn check(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> Result<(), Misfit> {
        if self.steps == 0 || self.depth == MAX_DEPTH {
            return Ok(());
        }
        self.steps -= 1;
        self.depth += 1;
        let result = self.check_parts(schema, value, path);
        self.depth -= 1;
        result
    }

    fn check_parts(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> Result<(), Misfit> {
        if *schema == Value::Bool(false) {
            return misfit(path, "is not allowed here");
        }
        if let Some(target) = schema["$ref"].as_str() {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Ok(()), |target| self.check(target, value, path));
        }
        check_kind(schema, value, path)?;
        check_bounds(schema, value, path)?;
        self.check_object(schema, value, path)?;
        self.check_array(schema, value, path)?;
        self.check_combined(schema, value, path)
    }

    fn check_object(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> Result<(), Misfit> {
        let Value::Object(fields) = value else { return Ok(()) };
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(missing) = required.iter().filter_map(Value::as_str).find(|name| !fields.contains_key(*name)) {
            return misfit(path, format!("lacks {missing:?}"));
        }
        let properties = schema["properties"].as_object();
        // What a pattern allows is not judged.
        let open = schema.get("patternProperties").is_some();
        for (name, field) in fields {
            let known = properties.and_then(|properties| properties.get(name));
            let rest = schema.get("additionalProperties").filter(|_| !open);
            let Some(expected) = known.or(rest) else { continue };
            path.push(name.clone());
            self.check(expected, field, path)?;
            path.pop();
        }
        Ok(())
    }

    fn check_array(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> Result<(), Misfit> {
        let Value::Array(items) = value else { return Ok(()) };
        let first = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            let Some(expected) = first.get(index).or_else(|| schema.get("items")) else { continue };
            path.push(index.to_string());
            self.check(expected, item, path)?;
            path.pop();
        }
        if schema["uniqueItems"] == Value::Bool(true) && items.len() <= 256 {
            let repeated = |(place, item): (usize, &Value)| items[..place].iter().any(|other| equal(other, item));
            if items.iter().enumerate().any(repeated) {
                return misfit(path, "holds an item twice");
            }
        }
        Ok(())
    }

    fn check_combined(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> Result<(), Misfit> {
        let all = schema["allOf"].as_array().map_or(&[][..], Vec::as_slice);
        for part in all {
            self.check(part, value, path)?;
        }
        for (key, one) in [("anyOf", false), ("oneOf", true)] {
            let Some(choices) = schema[key].as_array() else { continue };
            let fitting = choices.iter().filter(|choice| self.fits(choice, value, path)).count();
            // A part that is not judged may tell two choices apart: only no choice at all is certain.
            if fitting == 0 {
                return misfit(path, format!("fits {} of {key}", if one { "not one" } else { "none" }));
            }
        }
        Ok(())
    }

    fn fits(&mut self, schema: &'a Value, value: &Value, path: &mut Path) -> bool {
        let depth = path.len();
        let result = self.check(schema, value, path).is_ok();
        path.truncate(depth);
        result
    }
}

fn check_kind(schema: &Value, value: &Value, path: &Path) -> Result<(), Misfit> {
    if let Some(fixed) = schema.get("const")
        && !equal(fixed, value)
    {
        return misfit(path, "is not the one value that is allowed");
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.iter().any(|choice| equal(choice, value))
    {
        return misfit(path, "is none of the values that are allowed");
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    if kinds.iter().any(|kind| is_of(value, kind)) { Ok(()) } else { misfit(path, format!("is not of type {kinds:?}")) }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "number" => value.is_number(),
        "integer" => {
            value.as_number().is_some_and(|number| Decimal::of(number).is_none_or(|number| number.exponent >= 0))
        }
        // A type that this reader does not know is not judged.
        _ => true,
    }
}

fn check_bounds(schema: &Value, value: &Value, path: &Path) -> Result<(), Misfit> {
    let size = match value {
        Value::String(text) => Some((text.chars().count(), "minLength", "maxLength")),
        Value::Array(items) => Some((items.len(), "minItems", "maxItems")),
        Value::Object(fields) => Some((fields.len(), "minProperties", "maxProperties")),
        _ => None,
    };
    if let Some((size, least, most)) = size {
        let size = size as u64;
        if schema[least].as_u64().is_some_and(|bound| size < bound) {
            return misfit(path, format!("is shorter than {least}"));
        }
        if schema[most].as_u64().is_some_and(|bound| size > bound) {
            return misfit(path, format!("is longer than {most}"));
        }
    }
    let Some(number) = value.as_number() else { return Ok(()) };
    let against = |key: &str| schema[key].as_number().and_then(|bound| compare(number, bound));
    let broken = [
        ("minimum", against("minimum") == Some(Ordering::Less)),
        ("maximum", against("maximum") == Some(Ordering::Greater)),
        ("exclusiveMinimum", matches!(against("exclusiveMinimum"), Some(Ordering::Less | Ordering::Equal))),
        ("exclusiveMaximum", matches!(against("exclusiveMaximum"), Some(Ordering::Greater | Ordering::Equal))),
    ];
    match broken.into_iter().find(|(_, broken)| *broken) {
        Some((key, _)) => misfit(path, format!("is beyond {key}")),
        None => Ok(()),
    }
}

/// Equality of JSON: numbers by value, objects in any order.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).map_or(a == b, Ordering::is_eq),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

/// `mantissa · 10^exponent`, the mantissa without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    mantissa: i128,
    exponent: i32,
}

impl Decimal {
    /// `None` beyond 30 digits.
    fn of(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = [whole, fraction].concat();
        if all.len() > 30 {
            return None;
        }
        let mut mantissa: i128 = all.parse().ok()?;
        let mut exponent: i32 = exponent.trim_start_matches('+').parse().ok()?;
        exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent = exponent.checked_add(1)?;
        }
        Some(Self { mantissa, exponent: if mantissa == 0 { 0 } else { exponent } })
    }
}

/// `None` where the numbers lie too far apart or are too long to be compared digit by digit.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    let (a, b) = (Decimal::of(a)?, Decimal::of(b)?);
    let least = a.exponent.min(b.exponent);
    let scaled = |number: Decimal| {
        let places = u32::try_from(number.exponent.checked_sub(least)?).ok()?;
        number.mantissa.checked_mul(10i128.checked_pow(places)?)
    };
    Some(scaled(a)?.cmp(&scaled(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn path_of(schema: &Value, value: &Value) -> Option<String> {
        check(schema, value).err().map(|misfit| misfit.path)
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let schema = json!({
            "type": "object", "required": ["name", "ages"], "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "minLength": 2},
                "ages": {"type": "array", "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150}, "maxItems": 3},
                "kind": {"enum": ["a", 1, null]},
                "next": {"$ref": "#"},
            },
        });
        let table = [
            (json!({"name": "ab", "ages": [1, 149]}), None),
            (json!({"name": "ab", "ages": [1.0]}), None),
            (json!({"name": "ab", "ages": [1.5]}), Some("$/ages/0")),
            (json!({"name": "ab", "ages": [150]}), Some("$/ages/0")),
            (json!({"name": "ab", "ages": [-1]}), Some("$/ages/0")),
            (json!({"name": "ab", "ages": [1, 2, 3, 4]}), Some("$/ages")),
            (json!({"name": "a", "ages": []}), Some("$/name")),
            (json!({"name": "ab"}), Some("$")),
            (json!({"name": "ab", "ages": [], "more": 1}), Some("$/more")),
            (json!({"name": "ab", "ages": [], "kind": 1.0}), None),
            (json!({"name": "ab", "ages": [], "kind": "b"}), Some("$/kind")),
            (json!({"name": "ab", "ages": [], "next": {"name": "ab"}}), Some("$/next")),
            (json!([]), Some("$")),
        ];
        for (value, expect) in table {
            assert_eq!(path_of(&schema, &value).as_deref(), expect, "{value}");
        }
    }

    #[test]
    fn choices_and_what_is_not_judged() {
        let schema = json!({"anyOf": [{"type": "string", "pattern": "^x"}, {"const": 3}]});
        assert_eq!(path_of(&schema, &json!("y")), None, "patterns are not judged");
        assert_eq!(path_of(&schema, &json!(3.0)), None);
        assert_eq!(path_of(&schema, &json!(4)).as_deref(), Some("$"));
        assert_eq!(path_of(&json!({"type": "new kind"}), &json!(4)), None);
        assert_eq!(path_of(&json!({"uniqueItems": true}), &json!([1, {"a": 1}, {"a": 1.0}])).as_deref(), Some("$"));
        assert_eq!(path_of(&json!(true), &json!(4)), None);
        assert_eq!(path_of(&json!(false), &json!(4)).as_deref(), Some("$"));
    }

    #[test]
    fn schemas_without_end_end() {
        let endless = json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]});
        let _ = check(&endless, &json!(1));
    }

    proptest! {
        #[test]
        fn decimals_compare_as_integers_do(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(compare(&a.into(), &b.into()), Some(a.cmp(&b)));
        }

        #[test]
        fn a_value_fits_itself(text in "\\PC{0,20}", number in any::<i32>()) {
            let value = json!({"text": text, "number": number, "list": [number, text]});
            prop_assert_eq!(check(&json!({"const": value}), &value), Ok(()));
            prop_assert_eq!(check(&json!({"not known": 1, "enum": [value]}), &value), Ok(()));
        }
    }
}
