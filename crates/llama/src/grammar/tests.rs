//! Grammars against texts, and random outputs of schemas against what the schemas say.

use super::{GrammarError, Matcher, for_request, gbnf, machine::Mask};
use crate::vocabulary::Vocabulary;
use cortensor_protocol::{
    ChatMessage, GenerationRequest, Prompt, ResponseFormat, Role, SamplingParams, Tool, ToolChoice,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn matcher(source: &str) -> Result<Matcher, GrammarError> {
    let (rules, root) = gbnf::parse(source)?;
    Matcher::new(rules.compile(root)?)
}

fn whole(mut matcher: Matcher, text: &str) -> bool {
    matcher.accept(text.as_bytes()).is_ok() && matcher.may_end()
}

fn check(grammar: &str, yes: &[&str], no: &[&str]) {
    for text in yes {
        assert!(whole(matcher(grammar).unwrap(), text), "{grammar} should match {text:?}");
    }
    for text in no {
        assert!(!whole(matcher(grammar).unwrap(), text), "{grammar} should not match {text:?}");
    }
}

#[test]
fn gbnf_means_what_it_says() {
    check("root ::= \"a\" [b-d]* | \"x\"", &["a", "abcd", "x"], &["", "b", "ax", "ae"]);
    check("root ::= ([0-9]{2} \"-\"){1,2} x?\nx ::= \"!\"", &["12-", "12-34-", "12-!"], &["1-", "12", "12-34-56-"]);
    check("root ::= [^a\\n]+ # comment\n", &["b", "é日"], &["", "a", "b\n"]);
    check("root ::= \"\\x41\\u00e9\\U0001F600\" .", &["Aé😀z", "Aé😀é"], &["Aé😀", "A"]);
    check("root ::= ws \"(\" root \")\" | \"\"\nws ::= \" \"*", &["", "()", " ( ())", "((()))"], &["(", ")("]);
    check("root ::= (\n  \"a\" |\n  \"b\"\n)+\n", &["abba"], &["c"]);
    check("root ::= (\"a\"?)* \"b\"", &["b", "aab"], &["a"]);
    check("root ::= [a-c]{3}", &["abc"], &["ab", "abca"]);
    check("root ::= [é-ü]+", &["éü"], &["e"]);
}

#[test]
fn errors_say_where_and_what() {
    let error = |source: &str| matcher(source).unwrap_err();
    assert!(matches!(error("root ::= \"a\"\nx = b"), GrammarError::Syntax { line: 2, .. }));
    assert_eq!(error("x ::= \"a\""), GrammarError::Undefined("root".into()));
    assert_eq!(error("root ::= b"), GrammarError::Undefined("b".into()));
    assert_eq!(error("root ::= root \"a\" | \"b\""), GrammarError::LeftRecursion("root".into()));
    assert!(matches!(error("root ::= x\nx ::= y? x \"a\"\ny ::= \"b\""), GrammarError::LeftRecursion(_)));
    assert_eq!(error("root ::= root"), GrammarError::DeadEnd);
    assert!(matches!(error("root ::= (\"a\""), GrammarError::Syntax { .. }));
    assert!(matches!(error("root ::= [b-a]"), GrammarError::Syntax { .. }));
    assert!(matches!(error("root ::= \"a\"{3,2}"), GrammarError::TooLarge(_)));
    assert!(matches!(error(&format!("root ::= {}", "(".repeat(500))), GrammarError::TooLarge(_)));
}

#[test]
fn ambiguity_is_bounded() {
    let mut hard = matcher("root ::= a\na ::= \"x\" | a2 | a2 a2\na2 ::= \"x\" a | \"x\" a a | \"x\" a a a").unwrap();
    for _ in 0..2000 {
        match hard.accept(b"x") {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, GrammarError::TooAmbiguous);
                return;
            }
        }
    }
}

fn request(format: ResponseFormat) -> GenerationRequest {
    GenerationRequest {
        model: "m".into(),
        prompt: Prompt::Text("x".into()),
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 1,
        stop: vec![],
        response_format: format,
        logprobs: None,
    }
}

fn of_schema(schema: &Value) -> Result<Matcher, String> {
    let request = request(ResponseFormat::JsonSchema(schema.to_string()));
    for_request(&request).map(|matcher| matcher.unwrap()).map_err(|error| error.to_string())
}

fn schema(schema: &Value, yes: &[&str], no: &[&str]) {
    for text in yes {
        assert!(whole(of_schema(schema).unwrap(), text), "{schema} should allow {text}");
    }
    for text in no {
        assert!(!whole(of_schema(schema).unwrap(), text), "{schema} should not allow {text}");
    }
}

#[test]
fn schemas_of_objects() {
    let person = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "x": {"type": "null"}},
        "required": ["name"]
    });
    let yes = [r#"{"name":"a"}"#, r#"{ "name": "a", "age": 3 }"#, "{\n  \"name\": \"\\u00e9\\n\",\n  \"x\": null\n}"];
    schema(
        &person,
        &yes,
        &[r#"{}"#, r#"{"age":3,"name":"a"}"#, r#"{"name":"a","y":1}"#, r#"{"name":"a",}"#, r#"{"name":"\ud800"}"#],
    );
    let optional = json!({"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}});
    schema(
        &optional,
        &["{}", r#"{"a":1}"#, r#"{"b":2,"c":3}"#, r#"{"a":1,"c":3}"#],
        &[r#"{,"b":2}"#, r#"{"b":2,"a":1}"#],
    );
    let map = json!({"type": "object", "additionalProperties": {"type": "boolean"}});
    schema(&map, &["{}", r#"{"any thing":true,"b":false}"#], &[r#"{"a":1}"#]);
    let mixed = json!({"type": "object", "properties": {"ab": {"const": 1}}, "required": ["ab"], "additionalProperties": {"const": 2}});
    schema(&mixed, &[r#"{"ab":1,"a":2,"abc":2,"b":2}"#], &[r#"{"ab":2}"#, r#"{"ab":1,"ab":2}"#, r#"{"a":2}"#]);
    schema(&json!({"type": "object", "additionalProperties": false}), &["{}"], &[r#"{"a":1}"#]);
    schema(&json!({}), &["1", r#"[{"a":[]}]"#, "null"], &["", "{]"]);
}

#[test]
fn schemas_of_values() {
    schema(
        &json!({"type": "integer", "minimum": -5, "maximum": 120}),
        &["-5", "-1", "0", "7", "99", "120"],
        &["-6", "121", "007", "1.5"],
    );
    schema(
        &json!({"type": "integer", "exclusiveMinimum": 17, "maximum": 1000}),
        &["18", "300", "1000"],
        &["17", "1001"],
    );
    schema(&json!({"type": "integer", "minimum": 100}), &["100", "12345"], &["99", "-100"]);
    schema(&json!({"type": "number", "minimum": 0, "maximum": 1}), &["0", "0.25", "1"], &["1.5", "-0.5", "2"]);
    schema(&json!({"type": "number", "minimum": -2, "maximum": -1}), &["-1", "-1.5", "-2"], &["-0.5", "-2.5", "1"]);
    schema(&json!({"type": "number"}), &["-1.5e+10", "0", "12.25"], &["01", "1.", ".5"]);
    schema(
        &json!({"type": "string", "minLength": 2, "maxLength": 3}),
        &["\"ab\"", "\"é😀\\n\""],
        &["\"a\"", "\"abcd\""],
    );
    schema(&json!({"type": "string", "pattern": "^\\d+\"\\w$"}), &[r#""12\"x""#], &[r#""x\"x""#, r#""12"x""#]);
    schema(&json!({"type": "string", "pattern": "b|c$"}), &["\"abz\"", "\"ac\""], &["\"a\"", "\"ca\""]);
    schema(&json!({"type": "string", "format": "date"}), &["\"2024-02-28\""], &["\"2024-02-30\"", "\"24-1-1\""]);
    schema(&json!({"type": ["string", "null"]}), &["\"\"", "null"], &["1"]);
    schema(&json!({"enum": [1, "a", null, {"k": [1]}]}), &["1", "\"a\"", "null", r#"{"k":[1]}"#], &["2"]);
    schema(&json!({"type": "string", "enum": [1, "a"]}), &["\"a\""], &["1"]);
    schema(
        &json!({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}),
        &["[null]", "[null, null]"],
        &["[]", "[null,null,null]"],
    );
    schema(
        &json!({"prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "maxItems": 3}),
        &["[1,2]", "[1, 2, 3]"],
        &["[1]", "[1,2,3,3]"],
    );
    schema(&json!({"type": "array", "maxItems": 0}), &["[]"], &["[1]"]);
}

#[test]
fn schemas_that_combine() {
    schema(&json!({"anyOf": [{"type": "null"}, {"const": 5}]}), &["null", "5"], &["6"]);
    let tree = json!({
        "$defs": {"node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"]}},
        "$ref": "#/$defs/node"
    });
    schema(&tree, &[r#"{"next":null}"#, r#"{"next":{"next":{"next":null}}}"#], &[r#"{"next":{}}"#]);
    let all = json!({"allOf": [
        {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"const": 2}}, "required": ["b"]}
    ]});
    schema(&all, &[r#"{"a":1,"b":2}"#], &[r#"{"a":1}"#]);
    let one = json!({"oneOf": [{"type": "string"}, {"type": "integer"}]});
    schema(&one, &["\"a\"", "1"], &["null"]);
    assert!(of_schema(&json!({"oneOf": [{"type": "number"}, {"type": "integer"}]})).unwrap_err().contains("oneOf"));
    for bad in [
        json!({"not": {}}),
        json!({"type": "object", "patternProperties": {}}),
        json!({"type": "object", "minProperties": 1}),
        json!({"type": "array", "contains": {}}),
        json!({"if": {}}),
        json!(false),
        json!(3),
        json!({"type": "thing"}),
        json!({"$ref": "http://example.com/"}),
        json!({"$ref": "#"}),
        json!({"type": "string", "format": "colour"}),
        json!({"nullable": true}),
    ] {
        assert!(of_schema(&bad).is_err(), "{bad}");
    }
}

/// One token for each byte, and one that ends the output.
fn bytes() -> Vocabulary {
    let pieces = (0..=255_u8).map(|byte| (vec![byte], false));
    Vocabulary::from_pieces(pieces.chain([(Vec::new(), true)]))
}

/// Follows the masks with random choices; the end is taken when it is allowed and the budget is used up.
fn wander(mut matcher: Matcher, choices: &[u8]) -> Option<Vec<u8>> {
    let vocabulary = bytes();
    let mut out = Vec::new();
    for at in 0..4000 {
        let mask = matcher.mask(&vocabulary).unwrap();
        assert!(mask.any(), "no way on after {:?}", String::from_utf8_lossy(&out));
        if mask.allows(256) && (at >= choices.len() || choices[at] < 64) {
            return Some(out);
        }
        let allowed: Vec<u8> = (0..=255).filter(|&byte| mask.allows(u32::from(byte))).collect();
        if allowed.is_empty() {
            return Some(out);
        }
        // Past the budget, closing characters come first.
        let closing = allowed.iter().find(|byte| b"\"}]".contains(byte));
        let byte = match choices.get(at) {
            Some(&choice) => allowed[usize::from(choice) % allowed.len()],
            None => *closing.unwrap_or(&allowed[0]),
        };
        matcher.accept(&[byte]).unwrap();
        out.push(byte);
    }
    None
}

proptest! {
    #[test]
    fn what_a_schema_allows_is_valid(choices in prop::collection::vec(any::<u8>(), 0..120)) {
        let schema = json!({
            "type": "object",
            "properties": {
                "s": {"type": "string", "minLength": 1, "maxLength": 5},
                "n": {"type": "number", "minimum": -3, "maximum": 12},
                "p": {"type": "string", "pattern": "^a?[\"b\\\\]{2}"},
                "l": {"type": "array", "items": {"type": ["boolean", "null"]}, "maxItems": 3}
            },
            "required": ["s", "l"]
        });
        if let Some(out) = wander(of_schema(&schema).unwrap(), &choices) {
            let text = String::from_utf8(out).unwrap();
            let value: Value = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert!((1..=5).contains(&value["s"].as_str().unwrap().chars().count()));
            prop_assert!(value["l"].as_array().unwrap().iter().all(|item| item.is_boolean() || item.is_null()));
            prop_assert!(value["n"].is_null() || (-3.0..=12.0).contains(&value["n"].as_f64().unwrap()));
            prop_assert!(value.as_object().unwrap().keys().all(|key| ["s", "n", "p", "l"].contains(&key.as_str())));
        }
    }

    #[test]
    fn any_object_is_valid(choices in prop::collection::vec(any::<u8>(), 0..200)) {
        let matcher = for_request(&request(ResponseFormat::JsonObject)).unwrap().unwrap();
        if let Some(out) = wander(matcher, &choices) {
            let text = String::from_utf8(out).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()), "{}", text);
        }
    }

    #[test]
    fn naturals_are_exactly_those_between(min in 0_u64..3000, length in 0_u64..3000, probe in 0_u64..7000) {
        let max = min + length;
        let schema = json!({"type": "integer", "minimum": min, "maximum": max});
        let matches = whole(of_schema(&schema).unwrap(), &probe.to_string());
        prop_assert_eq!(matches, (min..=max).contains(&probe));
    }

    #[test]
    fn no_source_breaks_the_parsers(source in "(root ::= )?[\\PC\n\"()\\[\\]{}|*+?:=a-c0-9,-]{0,80}") {
        drop(matcher(&source));
        drop(of_schema(&Value::String(source.clone())));
        drop(for_request(&request(ResponseFormat::JsonSchema(source.clone()))));
        drop(of_schema(&json!({"type": "string", "pattern": source})));
    }
}

#[test]
fn masks_agree_with_acceptance_and_are_kept() {
    let pieces = ["a", "ab", "abc", "b", "c", "}", "é", "\u{1f600}"];
    let pieces = pieces.iter().map(|piece| (piece.as_bytes().to_vec(), false));
    let half = [(b"\xc3".to_vec(), false), (b"\xa9".to_vec(), false), (Vec::new(), true)];
    let vocabulary = Vocabulary::from_pieces(pieces.chain(half));
    let grammar = "root ::= \"a\" [bé]* \"c\"?";
    let mut matcher_ = matcher(grammar).unwrap();
    let allowed = |mask: &Mask| (0..11).filter(|&token| mask.allows(token)).collect::<Vec<u32>>();
    assert_eq!(allowed(&matcher_.mask(&vocabulary).unwrap()), [0, 1, 2]);
    matcher_.accept(b"ab").unwrap();
    let first = matcher_.mask(&vocabulary).unwrap();
    assert_eq!(allowed(&first), [3, 4, 6, 8, 10]);
    matcher_.accept(b"b").unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &matcher_.mask(&vocabulary).unwrap()));
    matcher_.accept(b"\xc3").unwrap();
    assert_eq!(allowed(&matcher_.mask(&vocabulary).unwrap()), [9], "half a character, and no end");
    matcher_.accept(b"\xa9c").unwrap();
    assert_eq!(allowed(&matcher_.mask(&vocabulary).unwrap()), [10]);
    let mut logits = vec![1.0; 11];
    matcher_.mask(&vocabulary).unwrap().apply(&mut logits);
    assert!(logits[..10].iter().all(|logit| *logit == f32::NEG_INFINITY) && logits[10] == 1.0);
    assert_eq!(matcher_.accept(b"c"), Err(GrammarError::DeadEnd));
}

#[test]
fn tools_may_be_called_beside_a_format_and_must_be_when_required() {
    let tool = |name: &str| Tool {
        name: name.into(),
        description: String::new(),
        parameters: json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}).to_string(),
    };
    let ask = |choice| GenerationRequest {
        prompt: Prompt::Chat {
            messages: vec![ChatMessage::text(Role::User, "x")],
            tools: vec![tool("f"), tool("g")],
            tool_choice: choice,
        },
        ..request(ResponseFormat::JsonSchema("{\"const\": 1}".into()))
    };
    let allows = |choice, text: &str| whole(for_request(&ask(choice)).unwrap().unwrap(), text);
    let call = |name: &str| format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"n\": 1}}}}\n</tool_call>");
    assert!(allows(ToolChoice::Auto, "1") && allows(ToolChoice::Auto, &call("f")));
    assert!(allows(ToolChoice::None, "1") && !allows(ToolChoice::None, &call("f")));
    assert!(!allows(ToolChoice::Required, "1") && allows(ToolChoice::Required, &call("g")));
    assert!(allows(ToolChoice::Required, &format!("{}\n{}", call("g"), call("f"))));
    assert!(allows(ToolChoice::Named("g".into()), &call("g")) && !allows(ToolChoice::Named("g".into()), &call("f")));
}
