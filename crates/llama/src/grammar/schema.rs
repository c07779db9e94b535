//! JSON Schema as an expression: every output that the grammar allows is valid under the schema.
//!
//! The reverse does not hold: properties come in the schema's order, optional ones may be left out, and properties that
//! the schema neither names nor describes are not written. Keywords that cannot be enforced are refused by name;
//! annotations are ignored. Supported: `type` (also a list), `properties`, `required`, `additionalProperties`, `items`,
//! `prefixItems`, `minItems`, `maxItems`, `enum`, `const`, `anyOf`, `oneOf` (where no two can hold at once), `allOf`, `$ref`
//! within the document (recursion included), `pattern`, `minLength`, `maxLength`, common `format`s, and bounds of numbers.

use super::{
    GrammarError, MAX_SOURCE_BYTES,
    expr::{Expr, MAX_DEPTH, RuleId, Rules},
    pattern,
};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most schemas of a document, references counted once.
const MAX_SCHEMAS: usize = 4096;
/// Most repetitions that a length or a count may ask for.
const MAX_COUNT: u64 = 16_384;

const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "strict",
    "contentMediaType",
    "contentEncoding",
];

/// Reads a schema's text.
pub(super) fn read(source: &str) -> Result<Value, GrammarError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(GrammarError::TooLarge("a schema has at most 128 KiB"));
    }
    // serde_json bounds the nesting at 128.
    serde_json::from_str(source).map_err(|error| GrammarError::Syntax {
        line: error.line(),
        problem: format!("the schema is not JSON: {error}"),
    })
}

/// Adds the rules of `schema` and returns the one that matches its instances.
pub(super) fn add(rules: &mut Rules, schema: &Value) -> Result<RuleId, GrammarError> {
    let mut converter = Converter { json: Json::add(rules), rules, document: schema, places: HashMap::new() };
    converter.place("#", schema, 0)
}

/// Adds the rules for any JSON object.
pub(super) fn add_any_object(rules: &mut Rules) -> RuleId {
    Json::add(rules).object
}

/// Rules for JSON without a schema.
#[derive(Clone, Copy)]
struct Json {
    space: RuleId,
    value: RuleId,
    object: RuleId,
    string: RuleId,
    number: RuleId,
    integer: RuleId,
    character: RuleId,
}

impl Json {
    fn add(rules: &mut Rules) -> Self {
        // Bounded, because a weak model may otherwise write white space for ever.
        let indent = Expr::Sequence(vec![Expr::text("\n"), Expr::one_of(" \t").times(0, Some(20))]);
        let space = rules.add("space", Expr::Choice(vec![Expr::empty(), Expr::text(" "), indent]));
        let character = rules.add("character", json_character());
        let quoted = Expr::Sequence(vec![Expr::text("\""), Expr::Rule(character).times(0, None), Expr::text("\"")]);
        let string = rules.add("string", quoted);
        let digits = |most| digit().times(0, Some(most));
        let whole =
            Expr::Choice(vec![Expr::text("0"), Expr::Sequence(vec![Expr::Class(vec![('1', '9')]), digits(15)])]);
        let integer = Expr::Sequence(vec![Expr::text("-").optional(), whole]);
        let integer = rules.add("integer", integer);
        let fraction = Expr::Sequence(vec![Expr::text("."), digit().times(1, Some(16))]);
        let exponent =
            Expr::Sequence(vec![Expr::one_of("eE"), Expr::one_of("+-").optional(), digit().times(1, Some(2))]);
        let number = Expr::Sequence(vec![Expr::Rule(integer), fraction.optional(), exponent.optional()]);
        let number = rules.add("number", number);
        let (value, object, array) = (rules.declare("value"), rules.declare("object"), rules.declare("array"));
        let choices = [object, array, string, number].map(Expr::Rule).into_iter();
        let words = ["true", "false", "null"].map(Expr::text);
        rules.define(value, Expr::Choice(choices.chain(words).collect()));
        let json = Self { space, value, object, string, number, integer, character };
        rules.define(object, json.map_of(Expr::Rule(string), Expr::Rule(value)));
        rules.define(array, json.list_of(&Expr::Rule(value), 0, None));
        json
    }

    fn space(self) -> Expr {
        Expr::Rule(self.space)
    }

    fn pair(self, key: Expr, value: Expr) -> Expr {
        Expr::Sequence(vec![key, Expr::text(":"), self.space(), value])
    }

    fn comma(self) -> Expr {
        Expr::Sequence(vec![Expr::text(","), self.space()])
    }

    fn map_of(self, key: Expr, value: Expr) -> Expr {
        let pair = self.pair(key, value);
        let more = Expr::Sequence(vec![self.comma(), pair.clone()]).times(0, None);
        let inside = Expr::Sequence(vec![self.space(), pair, more, self.space()]);
        Expr::Sequence(vec![Expr::text("{"), inside.optional(), Expr::text("}")])
    }

    fn list_of(self, item: &Expr, min: u32, max: Option<u32>) -> Expr {
        if max == Some(0) {
            return Expr::text("[]");
        }
        let another = Expr::Sequence(vec![self.comma(), item.clone()]);
        let more = another.times(min.saturating_sub(1), max.map(|max| max - 1));
        let inside = Expr::Sequence(vec![self.space(), item.clone(), more, self.space()]);
        let inside = if min == 0 { inside.optional() } else { inside };
        Expr::Sequence(vec![Expr::text("["), inside, Expr::text("]")])
    }
}

fn digit() -> Expr {
    Expr::Class(vec![('0', '9')])
}

/// A character of a string: raw, a short escape, or `\u` with anything but half of a surrogate pair.
fn json_character() -> Expr {
    let hex = || Expr::Class(vec![('0', '9'), ('a', 'f'), ('A', 'F')]);
    let plain = Expr::Sequence(vec![
        Expr::Class(vec![('0', '9'), ('a', 'c'), ('e', 'f'), ('A', 'C'), ('E', 'F')]),
        hex().times(3, Some(3)),
    ]);
    let low = Expr::Sequence(vec![Expr::one_of("dD"), Expr::Class(vec![('0', '7')]), hex().times(2, Some(2))]);
    let code = Expr::Sequence(vec![Expr::text("u"), Expr::Choice(vec![plain, low])]);
    let escape = Expr::Sequence(vec![Expr::text("\\"), Expr::Choice(vec![Expr::one_of("\"\\/bfnrt"), code])]);
    Expr::Choice(vec![Expr::Class(vec![(' ', '!'), ('#', '['), (']', char::MAX)]), escape])
}

struct Converter<'a> {
    rules: &'a mut Rules,
    document: &'a Value,
    json: Json,
    /// Rules of places already visited, by JSON pointer.
    places: HashMap<String, RuleId>,
}

fn fail<T>(at: &str, problem: impl Into<String>) -> Result<T, GrammarError> {
    Err(GrammarError::Schema { at: at.into(), problem: problem.into() })
}

impl<'a> Converter<'a> {
    /// The rule of the schema at a place of the document.
    fn place(&mut self, at: &str, schema: &Value, depth: usize) -> Result<RuleId, GrammarError> {
        if let Some(&rule) = self.places.get(at) {
            return Ok(rule);
        }
        if self.places.len() >= MAX_SCHEMAS {
            return Err(GrammarError::TooLarge("a document has at most 4,096 schemas"));
        }
        if depth > MAX_DEPTH {
            return Err(GrammarError::TooLarge("the schema is nested too deeply"));
        }
        let rule = self.rules.declare(at);
        self.places.insert(at.into(), rule);
        let expr = self.schema(at, schema, depth)?;
        self.rules.define(rule, expr);
        Ok(rule)
    }

    fn child(&mut self, at: &str, key: &str, schema: &Value, depth: usize) -> Result<Expr, GrammarError> {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        self.place(&at, schema, depth + 1).map(Expr::Rule)
    }

    fn schema(&mut self, at: &str, schema: &Value, depth: usize) -> Result<Expr, GrammarError> {
        let map = match schema {
            Value::Bool(true) => return Ok(Expr::Rule(self.json.value)),
            Value::Bool(false) => return fail(at, "the schema false allows nothing"),
            Value::Object(map) => map,
            _ => return fail(at, "a schema is an object or a boolean"),
        };
        if let Some(target) = map.get("$ref") {
            only(at, map, &["$ref"])?;
            return self.reference(at, target, depth);
        }
        if let Some(values) = values(schema) {
            only(at, map, &["enum", "const", "type"])?;
            return enumeration(at, map, &values);
        }
        for (key, convert) in [("anyOf", Self::any_of as Keyword<'a>), ("oneOf", Self::one_of)] {
            if let Some(value) = map.get(key) {
                only(at, map, &[key])?;
                return convert(self, at, value, depth);
            }
        }
        if map.contains_key("allOf") {
            let merged = self.merged(at, map, depth)?;
            return self.schema(at, &Value::Object(merged), depth + 1);
        }
        self.typed(at, map, depth)
    }

    fn reference(&mut self, at: &str, target: &Value, depth: usize) -> Result<Expr, GrammarError> {
        let (pointer, schema) = self.resolve(at, target)?;
        self.place(&pointer, schema, depth + 1).map(Expr::Rule)
    }

    fn resolve(&self, at: &str, target: &Value) -> Result<(String, &'a Value), GrammarError> {
        let Some(pointer) = target.as_str() else { return fail(at, "$ref is a text") };
        let Some(path) = pointer.strip_prefix('#') else {
            return fail(at, "only $ref within the document (\"#/…\") is supported");
        };
        match self.document.pointer(path) {
            Some(schema) => Ok((pointer.into(), schema)),
            None => fail(at, format!("$ref {pointer:?} points nowhere")),
        }
    }

    fn any_of(&mut self, at: &str, value: &Value, depth: usize) -> Result<Expr, GrammarError> {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
            return fail(at, "anyOf and oneOf are lists with at least one schema");
        };
        let choices = schemas
            .iter()
            .enumerate()
            .map(|(index, schema)| self.child(at, &format!("anyOf/{index}"), schema, depth))
            .collect::<Result<_, _>>()?;
        Ok(Expr::Choice(choices))
    }

    fn one_of(&mut self, at: &str, value: &Value, depth: usize) -> Result<Expr, GrammarError> {
        let schemas = value.as_array().map(Vec::as_slice).unwrap_or_default();
        for (index, one) in schemas.iter().enumerate() {
            if schemas[..index].iter().any(|other| !self.disjoint(one, other)) {
                return fail(
                    at,
                    "two schemas of oneOf may hold at once; use anyOf, or a property with different const",
                );
            }
        }
        self.any_of(at, value, depth)
    }

    /// Whether surely no value fits both.
    fn disjoint(&self, one: &Value, other: &Value) -> bool {
        let (one, other) = (self.followed(one), self.followed(other));
        if let (Some(a), Some(b)) = (types(one), types(other)) {
            let overlap = |a: &str, b: &str| a == b || matches!((a, b), ("integer", "number") | ("number", "integer"));
            if !a.iter().any(|a| b.iter().any(|b| overlap(a, b))) {
                return true;
            }
        }
        if let (Some(a), Some(b)) = (values(one), values(other)) {
            return !a.iter().any(|a| b.contains(a));
        }
        let required = |schema: &Value, key: &str| {
            schema["required"].as_array().is_some_and(|list| list.iter().any(|name| name == key))
        };
        one["properties"].as_object().is_some_and(|properties| {
            properties.iter().any(|(key, schema)| {
                let both = required(one, key) && required(other, key);
                let (a, b) = (values(self.followed(schema)), values(self.followed(&other["properties"][key])));
                both && matches!((a, b), (Some(a), Some(b)) if !a.iter().any(|a| b.contains(a)))
            })
        })
    }

    fn followed<'b>(&self, schema: &'b Value) -> &'b Value
    where
        'a: 'b,
    {
        match schema.get("$ref") {
            Some(target) => self.resolve("#", target).map_or(schema, |(_, schema)| schema),
            None => schema,
        }
    }

    /// The members of `allOf` and what stands beside it, as one schema. Members may not contradict each other.
    fn merged(&self, at: &str, map: &Map<String, Value>, depth: usize) -> Result<Map<String, Value>, GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarError::TooLarge("the schema is nested too deeply"));
        }
        let mut all = map.clone();
        let Some(Value::Array(members)) = all.remove("allOf") else {
            return fail(at, "allOf is a list of schemas");
        };
        for member in members {
            let Value::Object(member) = self.followed(&member).clone() else {
                return fail(at, "a member of allOf is an object");
            };
            let member = if member.contains_key("allOf") { self.merged(at, &member, depth + 1)? } else { member };
            for (key, value) in member {
                merge_keyword(at, &mut all, key, value)?;
            }
        }
        Ok(all)
    }

    fn typed(&mut self, at: &str, map: &Map<String, Value>, depth: usize) -> Result<Expr, GrammarError> {
        let kinds = match map.get("type") {
            Some(_) => match types(&Value::Object(map.clone())) {
                Some(kinds) if !kinds.is_empty() => kinds.iter().map(ToString::to_string).collect(),
                _ => return fail(at, "type is a text or a list of texts"),
            },
            None => implied_types(map),
        };
        if kinds.is_empty() {
            only(at, map, &["type"])?;
            return Ok(Expr::Rule(self.json.value));
        }
        let mut allowed = vec!["type"];
        let mut choices = Vec::new();
        for kind in &kinds {
            let (keywords, convert) = keywords_of(kind);
            let Some(convert) = convert else { return fail(at, format!("there is no type {kind:?}")) };
            allowed.extend(keywords);
            choices.push((kind, convert));
        }
        only(at, map, &allowed)?;
        let choices: Vec<Expr> =
            choices.into_iter().map(|(_, convert)| convert(self, at, map, depth)).collect::<Result<_, _>>()?;
        Ok(Expr::Choice(choices))
    }

    fn object(&mut self, at: &str, map: &Map<String, Value>, depth: usize) -> Result<Expr, GrammarError> {
        let properties = match map.get("properties") {
            None => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return fail(at, "properties is an object"),
        };
        let required = names(at, map.get("required"))?;
        let additional = self.additional(at, map, &properties, depth)?;
        if properties.is_empty() && required.is_empty() {
            return Ok(match additional {
                None if map.contains_key("additionalProperties") => Expr::text("{}"),
                None => Expr::Rule(self.json.object),
                Some((key, value)) => self.json.map_of(key, value),
            });
        }
        let mut pairs = Vec::new();
        for (name, schema) in &properties {
            let value =
                self.child(at, &format!("properties/{}", name.replace('~', "~0").replace('/', "~1")), schema, depth)?;
            pairs.push((
                self.json.pair(literal(&Value::String(name.clone())), value),
                required.contains(&name.as_str()),
            ));
        }
        for name in required.iter().filter(|name| !properties.contains_key(**name)) {
            let value = additional.as_ref().map_or(Expr::Rule(self.json.value), |(_, value)| value.clone());
            pairs.push((self.json.pair(literal(&Value::String((*name).into())), value), true));
        }
        Ok(self.members(pairs, additional))
    }

    /// Key and value of properties that are not named, where the schema describes them.
    fn additional(
        &mut self,
        at: &str,
        map: &Map<String, Value>,
        properties: &Map<String, Value>,
        depth: usize,
    ) -> Result<Option<(Expr, Expr)>, GrammarError> {
        let schema = match map.get("additionalProperties") {
            None | Some(Value::Bool(false)) => return Ok(None),
            // Named properties are enough to be valid; without any, `true` asks for a free object.
            Some(Value::Bool(true)) if !properties.is_empty() => return Ok(None),
            Some(schema) => schema,
        };
        let value = self.child(at, "additionalProperties", schema, depth)?;
        let mut excluded: Vec<String> = properties.keys().cloned().collect();
        excluded.extend(names(at, map.get("required"))?.into_iter().map(str::to_owned));
        let key = if excluded.is_empty() { Expr::Rule(self.json.string) } else { self.other_key(&excluded) };
        Ok(Some((key, value)))
    }

    /// A quoted text other than these: letters, digits, `_` and `-` only, which keeps escapes out of the comparison.
    fn other_key(&mut self, excluded: &[String]) -> Expr {
        let inside = self.other_text(&excluded.iter().map(|name| name.chars().collect()).collect::<Vec<_>>());
        Expr::Sequence(vec![Expr::text("\""), inside, Expr::text("\"")])
    }

    fn other_text(&mut self, excluded: &[Vec<char>]) -> Expr {
        let word = || Expr::Class(vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_'), ('-', '-')]);
        let mut firsts: Vec<char> = excluded.iter().filter_map(|name| name.first().copied()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let free: Vec<(char, char)> = ('0'..='z')
            .filter(|c| (c.is_ascii_alphanumeric() || "_-".contains(*c)) && !firsts.contains(c))
            .map(|c| (c, c))
            .collect();
        let mut choices = Vec::new();
        if !excluded.iter().any(Vec::is_empty) {
            choices.push(Expr::empty());
        }
        if !free.is_empty() {
            choices.push(Expr::Sequence(vec![Expr::Class(free), word().times(0, None)]));
        }
        for first in firsts.into_iter().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)) {
            let rest = excluded.iter().filter(|name| name.first() == Some(&first)).map(|name| name[1..].to_vec());
            let rest = self.other_text(&rest.collect::<Vec<_>>());
            let rule = self.rules.add("other-key", rest);
            choices.push(Expr::Sequence(vec![Expr::text(first.to_string()), Expr::Rule(rule)]));
        }
        Expr::Choice(choices)
    }

    /// The members of an object in order, commas between those that are written.
    fn members(&mut self, pairs: Vec<(Expr, bool)>, additional: Option<(Expr, Expr)>) -> Expr {
        let json = self.json;
        let more = additional.map(|(key, value)| json.pair(key, value));
        let comma_more = more.clone().map(|pair| Expr::Sequence(vec![json.comma(), pair]).times(0, None));
        // What may follow, from the last property back: once after nothing was written, once after something was.
        let mut after_some = comma_more.clone().unwrap_or_else(Expr::empty);
        let mut after_none = match (more, comma_more) {
            (Some(pair), Some(rest)) => Expr::Sequence(vec![pair, rest]).optional(),
            _ => Expr::empty(),
        };
        for (pair, required) in pairs.into_iter().rev() {
            let pair = Expr::Rule(self.rules.add("pair", pair));
            let some = Expr::Rule(self.rules.add("rest", after_some));
            let none = Expr::Rule(self.rules.add("rest", after_none));
            let first = Expr::Sequence(vec![pair.clone(), some.clone()]);
            let next = Expr::Sequence(vec![json.comma(), pair, some.clone()]);
            after_none = if required { first } else { Expr::Choice(vec![first, none]) };
            after_some = if required { next } else { Expr::Choice(vec![next, some]) };
        }
        let inside = Expr::Sequence(vec![json.space(), after_none, json.space()]);
        Expr::Sequence(vec![Expr::text("{"), inside, Expr::text("}")])
    }

    fn array(&mut self, at: &str, map: &Map<String, Value>, depth: usize) -> Result<Expr, GrammarError> {
        if map.get("uniqueItems").is_some_and(|unique| unique != &Value::Bool(false)) {
            return fail(at, "uniqueItems cannot be enforced");
        }
        let min = count(at, map, "minItems")?.unwrap_or(0);
        let max = count(at, map, "maxItems")?;
        if max.is_some_and(|max| max < min) {
            return fail(at, "maxItems is below minItems");
        }
        let first = match map.get("prefixItems") {
            None => Vec::new(),
            Some(Value::Array(schemas)) => schemas.clone(),
            Some(_) => return fail(at, "prefixItems is a list of schemas"),
        };
        let rest = match map.get("items") {
            Some(Value::Bool(false)) => None,
            None if !first.is_empty() => None,
            None | Some(Value::Bool(true)) => Some(Expr::Rule(self.json.value)),
            Some(schema) => Some(self.child(at, "items", schema, depth)?),
        };
        if first.is_empty() {
            return match rest {
                Some(item) => Ok(self.json.list_of(&item, min, max)),
                None if min == 0 => Ok(Expr::text("[]")),
                None => fail(at, "items is false, and minItems is not 0"),
            };
        }
        self.tuple(at, &first, rest, (min, max), depth)
    }

    fn tuple(
        &mut self,
        at: &str,
        first: &[Value],
        rest: Option<Expr>,
        (min, max): (u32, Option<u32>),
        depth: usize,
    ) -> Result<Expr, GrammarError> {
        let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
        if max.is_some_and(|max| max < length) {
            return fail(at, "maxItems is below the number of prefixItems");
        }
        let mut items = Vec::new();
        for (index, schema) in first.iter().enumerate() {
            if index > 0 {
                items.push(self.json.comma());
            }
            items.push(self.child(at, &format!("prefixItems/{index}"), schema, depth)?);
        }
        let missing = min.saturating_sub(length);
        match rest {
            Some(item) => {
                let another = Expr::Sequence(vec![self.json.comma(), item]);
                items.push(another.times(missing, max.map(|max| max - length)));
            }
            None if missing > 0 => return fail(at, "minItems is above the number of prefixItems"),
            None => {}
        }
        let space = self.json.space();
        Ok(Expr::Sequence(vec![Expr::text("["), space.clone(), Expr::Sequence(items), space, Expr::text("]")]))
    }

    fn string(&mut self, at: &str, map: &Map<String, Value>, _: usize) -> Result<Expr, GrammarError> {
        let min = count(at, map, "minLength")?.unwrap_or(0);
        let max = count(at, map, "maxLength")?;
        let bounded = min > 0 || max.is_some();
        let content = match (map.get("pattern"), map.get("format")) {
            (None, None) if !bounded => return Ok(Expr::Rule(self.json.string)),
            (None, None) if max.is_some_and(|max| max < min) => return fail(at, "maxLength is below minLength"),
            (None, None) => Expr::Rule(self.json.character).times(min, max),
            (Some(_), Some(_)) => return fail(at, "pattern beside format cannot be enforced; use one"),
            _ if bounded => return fail(at, "minLength and maxLength beside pattern or format cannot be enforced"),
            (Some(Value::String(text)), None) => text_pattern(at, text)?,
            (None, Some(Value::String(format))) => match format_pattern(format) {
                Some(text) => text_pattern(at, text)?,
                None => return fail(at, format!("the format {format:?} is not supported; use pattern")),
            },
            _ => return fail(at, "pattern and format are texts"),
        };
        Ok(Expr::Sequence(vec![Expr::text("\""), content, Expr::text("\"")]))
    }

    fn integer(&mut self, at: &str, map: &Map<String, Value>, _: usize) -> Result<Expr, GrammarError> {
        let (min, max) = bounds(at, map, true)?;
        match (min, max) {
            (None, None) => Ok(Expr::Rule(self.json.integer)),
            (Some(min), Some(max)) if min > max => fail(at, "maximum is below minimum"),
            _ => Ok(integers(min, max)),
        }
    }

    fn number(&mut self, at: &str, map: &Map<String, Value>, _: usize) -> Result<Expr, GrammarError> {
        let (min, max) = bounds(at, map, false)?;
        match (min, max) {
            (None, None) => Ok(Expr::Rule(self.json.number)),
            (Some(min), Some(max)) if min > max => fail(at, "maximum is below minimum"),
            _ => Ok(decimals(min, max)),
        }
    }

    fn boolean(&mut self, _: &str, _: &Map<String, Value>, _: usize) -> Result<Expr, GrammarError> {
        Ok(Expr::Choice(vec![Expr::text("true"), Expr::text("false")]))
    }

    fn null(&mut self, _: &str, _: &Map<String, Value>, _: usize) -> Result<Expr, GrammarError> {
        Ok(Expr::text("null"))
    }
}

type Keyword<'a> = fn(&mut Converter<'a>, &str, &Value, usize) -> Result<Expr, GrammarError>;
type Kind<'a> = fn(&mut Converter<'a>, &str, &Map<String, Value>, usize) -> Result<Expr, GrammarError>;

fn keywords_of<'a>(kind: &str) -> (&'static [&'static str], Option<Kind<'a>>) {
    match kind {
        "object" => (&["properties", "required", "additionalProperties"], Some(Converter::object)),
        "array" => (&["items", "prefixItems", "minItems", "maxItems", "uniqueItems"], Some(Converter::array)),
        "string" => (&["minLength", "maxLength", "pattern", "format"], Some(Converter::string)),
        "integer" => {
            (&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"], Some(Converter::integer))
        }
        "number" => (&["minimum", "maximum", "format"], Some(Converter::number)),
        "boolean" => (&[], Some(Converter::boolean)),
        "null" => (&[], Some(Converter::null)),
        _ => (&[], None),
    }
}

/// The type that a schema without `type` speaks of.
fn implied_types(map: &Map<String, Value>) -> Vec<String> {
    let speaks_of =
        |kind: &&str| keywords_of(kind).0.iter().any(|keyword| *keyword != "format" && map.contains_key(*keyword));
    ["object", "array", "string", "integer"]
        .iter()
        .find(|kind| speaks_of(kind))
        .map(|kind| if *kind == "integer" { "number".into() } else { (*kind).into() })
        .into_iter()
        .collect()
}

/// Refuses keywords other than these and annotations.
fn only(at: &str, map: &Map<String, Value>, allowed: &[&str]) -> Result<(), GrammarError> {
    let known = |key: &str| allowed.contains(&key) || ANNOTATIONS.contains(&key) || key.starts_with("x-");
    match map.keys().find(|key| !known(key)) {
        Some(key) => fail(at, format!("{key:?} is not supported here")),
        None => Ok(()),
    }
}

fn types(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(kind) => Some(vec![kind.as_str()]),
        Value::Array(kinds) => kinds.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The values that a schema with `const` or `enum` allows.
fn values(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn enumeration(at: &str, map: &Map<String, Value>, values: &[&Value]) -> Result<Expr, GrammarError> {
    let kinds =
        types(&Value::Object(map.clone())).map(|kinds| kinds.iter().map(ToString::to_string).collect::<Vec<_>>());
    let fits = |value: &Value| {
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => value.is_null(),
        };
        kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| is(kind)))
    };
    let choices: Vec<Expr> = values.iter().filter(|value| fits(value)).map(|value| literal(value)).collect();
    if choices.is_empty() { fail(at, "enum and type allow no value") } else { Ok(Expr::Choice(choices)) }
}

fn names<'b>(at: &str, list: Option<&'b Value>) -> Result<Vec<&'b str>, GrammarError> {
    match list {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => {
            names.iter().map(|name| name.as_str().map_or_else(|| fail(at, "required is a list of texts"), Ok)).collect()
        }
        Some(_) => fail(at, "required is a list of texts"),
    }
}

fn count(at: &str, map: &Map<String, Value>, key: &str) -> Result<Option<u32>, GrammarError> {
    match map.get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|&count| count <= MAX_COUNT) {
            Some(count) => Ok(u32::try_from(count).ok()),
            None => fail(at, format!("{key} is a whole number up to {MAX_COUNT}")),
        },
    }
}

fn merge_keyword(at: &str, all: &mut Map<String, Value>, key: String, value: Value) -> Result<(), GrammarError> {
    let Some(present) = all.get_mut(&key) else {
        all.insert(key, value);
        return Ok(());
    };
    match (present, value) {
        (Value::Object(present), Value::Object(value)) if key == "properties" => {
            for (name, schema) in value {
                if present.get(&name).is_some_and(|other| *other != schema) {
                    return fail(at, format!("allOf describes the property {name:?} twice"));
                }
                present.insert(name, schema);
            }
        }
        (Value::Array(present), Value::Array(value)) if key == "required" => {
            let new: Vec<Value> = value.into_iter().filter(|name| !present.contains(name)).collect();
            present.extend(new);
        }
        (present, value) if *present == value || ANNOTATIONS.contains(&key.as_str()) => {}
        _ => return fail(at, format!("allOf says different things about {key:?}")),
    }
    Ok(())
}

/// A value as compact JSON.
fn literal(value: &Value) -> Expr {
    Expr::text(value.to_string())
}

fn text_pattern(at: &str, text: &str) -> Result<Expr, GrammarError> {
    if text.len() > 4096 {
        return Err(GrammarError::TooLarge("a pattern has at most 4,096 characters"));
    }
    pattern::string_content(text).or_else(|problem| fail(at, problem))
}

fn format_pattern(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => {
            r"^[0-9]{4}-((01|03|05|07|08|10|12)-(0[1-9]|[12][0-9]|3[01])|(04|06|09|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))$"
        }
        "time" => r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
        "date-time" => {
            r"^[0-9]{4}-((01|03|05|07|08|10|12)-(0[1-9]|[12][0-9]|3[01])|(04|06|09|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
        }
        "uuid" => r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "ipv4" => {
            r"^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$"
        }
        "email" => r"^[a-z0-9]([a-z0-9_+-]|\.[a-z0-9]){0,62}@([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\.){1,4}[a-z]{2,12}$",
        "hostname" => r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\.){0,4}[a-z]{2,12}$",
        "uri" => r"^https?://([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\.){1,4}[a-z]{2,12}(/[A-Za-z0-9._~-]{0,64}){0,8}$",
        _ => return None,
    })
}

/// Bounds as whole numbers, both inclusive.
fn bounds(at: &str, map: &Map<String, Value>, whole: bool) -> Result<(Option<i64>, Option<i64>), GrammarError> {
    let read = |key: &str| match map.get(key) {
        None => Ok(None),
        // JSON writes some whole numbers with a fraction (`1.0`), and the limits below keep sums from overflowing.
        Some(value) => match value.as_i64().or_else(|| whole_f64(value)).filter(|number| number.abs() < 10_i64.pow(15))
        {
            Some(number) => Ok(Some(number)),
            None => fail(at, format!("{key} is a whole number below 10^15")),
        },
    };
    let (min, max) = (read("minimum")?, read("maximum")?);
    if !whole {
        return Ok((min, max));
    }
    let above = read("exclusiveMinimum")?.map(|number| number + 1);
    let below = read("exclusiveMaximum")?.map(|number| number - 1);
    Ok((min.max(above), [max, below].into_iter().flatten().min()))
}

fn whole_f64(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

/// Whole numbers between two bounds.
fn integers(min: Option<i64>, max: Option<i64>) -> Expr {
    let most = 10_i64.pow(15) - 1;
    let (min, max) = (min.unwrap_or(-most), max.unwrap_or(most));
    let mut choices = Vec::new();
    if min < 0 {
        let magnitude = naturals((-max).max(1).unsigned_abs(), min.unsigned_abs());
        choices.push(Expr::Sequence(vec![Expr::text("-"), magnitude]));
    }
    if max >= 0 {
        choices.push(naturals(min.max(0).unsigned_abs(), max.unsigned_abs()));
    }
    Expr::Choice(choices)
}

/// Natural numbers between two bounds, without leading zeros.
fn naturals(min: u64, max: u64) -> Expr {
    let mut choices = Vec::new();
    let mut low = min;
    while low <= max {
        let digits = low.max(1).ilog10() + 1;
        let high = max.min(10_u64.pow(digits) - 1);
        choices.push(digit_range(&low.to_string(), &high.to_string()));
        low = high + 1;
    }
    Expr::Choice(choices)
}

/// Texts of digits of one length between two such texts.
fn digit_range(low: &str, high: &str) -> Expr {
    let (Some(a), Some(b)) = (low.chars().next(), high.chars().next()) else { return Expr::empty() };
    let (low_rest, high_rest) = (&low[1..], &high[1..]);
    let length = u32::try_from(low_rest.len()).unwrap_or(0);
    let zeros = "0".repeat(low_rest.len());
    let nines = "9".repeat(low_rest.len());
    if a == b {
        return Expr::Sequence(vec![Expr::text(a.to_string()), digit_range(low_rest, high_rest)]);
    }
    let step = |c: char, by: i8| char::from((c as u8).saturating_add_signed(by));
    let (mut from, mut to) = (a, b);
    let mut choices = Vec::new();
    if low_rest != zeros {
        choices.push(Expr::Sequence(vec![Expr::text(a.to_string()), digit_range(low_rest, &nines)]));
        from = step(a, 1);
    }
    if high_rest != nines {
        choices.push(Expr::Sequence(vec![Expr::text(b.to_string()), digit_range(&zeros, high_rest)]));
        to = step(b, -1);
    }
    if from <= to {
        choices.push(Expr::Sequence(vec![Expr::Class(vec![(from, to)]), digit().times(length, Some(length))]));
    }
    Expr::Choice(choices)
}

/// Decimal numbers between two whole bounds.
fn decimals(min: Option<i64>, max: Option<i64>) -> Expr {
    let most = 10_i64.pow(15) - 1;
    let (min, max) = (min.unwrap_or(-most), max.unwrap_or(most));
    let fraction = || Expr::Sequence(vec![Expr::text("."), digit().times(1, Some(16))]).optional();
    let mut choices = vec![integers(Some(min), Some(max))];
    if max > 0 {
        let whole = naturals(min.max(0).unsigned_abs(), (max - 1).unsigned_abs());
        if min < max {
            choices.push(Expr::Sequence(vec![whole, fraction()]));
        }
    }
    if min < 0 && min < max {
        let whole = naturals((-max).max(0).unsigned_abs(), (-min - 1).unsigned_abs());
        choices.push(Expr::Sequence(vec![Expr::text("-"), whole, fraction()]));
    }
    Expr::Choice(choices)
}
