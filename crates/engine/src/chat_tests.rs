//! Chat templates: the shapes that common model families use, transformers' peculiarities, and hostile sources.

use super::*;
use proptest::prelude::*;

fn user(text: &str) -> ChatMessage {
    ChatMessage::text(Role::User, text)
}

fn assistant(text: &str) -> ChatMessage {
    ChatMessage::text(Role::Assistant, text)
}

fn system(text: &str) -> ChatMessage {
    ChatMessage::text(Role::System, text)
}

fn calling(name: &str, arguments: &str) -> ChatMessage {
    let call = ToolCall { id: "call_1".into(), name: name.into(), arguments: arguments.into() };
    ChatMessage { tool_calls: vec![call], ..assistant("") }
}

fn result(text: &str) -> ChatMessage {
    ChatMessage { tool_call_id: Some("call_1".into()), ..ChatMessage::text(Role::Tool, text) }
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: "Today's weather".into(),
        parameters: r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#.into(),
    }
}

fn render(source: &str, messages: &[ChatMessage]) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(messages, &[], true)
}

#[track_caller]
fn check(source: &str, messages: &[ChatMessage], expect: &str) {
    assert_eq!(render(source, messages).as_deref(), Ok(expect));
}

/// A source of a few lines, written as model files hold it: one long line, or indented lines that `trim_blocks` joins.
const PLAIN_CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

const HEADERS: &str = "{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = \"\" %}
{%- endif %}
{%- if strftime_now is defined %}
    {%- set date_string = strftime_now(\"%d %b %Y\") %}
{%- else %}
    {%- set date_string = \"26 Jul 2024\" %}
{%- endif %}
{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}
{{- \"Today Date: \" + date_string + \"\\n\\n\" + system_message + \"<|eot_id|>\" }}
{%- for message in messages %}
    {%- if message.role == 'ipython' or message.role == 'tool' %}
        {{- \"<|start_header_id|>ipython<|end_header_id|>\\n\\n\" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- \"<|eot_id|>\" }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception(\"This model only supports single tool-calls at once!\") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{\"name\": \"' + tool_call.name + '\", ' }}
        {{- '\"parameters\": ' }}
        {{- tool_call.arguments | tojson }}
        {{- \"}\" }}
        {{- \"<|eot_id|>\" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";

const ALTERNATING: &str = "{%- set ns = namespace(index=0) -%}
{{ bos_token }}{% for message in messages %}
{%- if (message['role'] == 'user') != (ns.index % 2 == 0) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{%- set ns.index = ns.index + 1 -%}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}\
{% generation %}{{ ' ' + message['content'].strip() + eos_token }}{%- endgeneration %}{% endif %}{% endfor %}";

#[test]
fn plain_chatml() {
    check(
        PLAIN_CHATML,
        &[system("Be brief."), user("Hi <b>&'\"")],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b>&'\"<|im_end|>\n<|im_start|>assistant\n",
    );
    let template = ChatTemplate::new(PLAIN_CHATML, "", "").unwrap();
    let done = template.render(&[user("a"), assistant("b")], &[], false).unwrap();
    assert_eq!(done, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n");
}

#[test]
fn headers_dates_and_single_tool_calls() {
    let start = "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nS<|eot_id|>";
    let end = "<|start_header_id|>assistant<|end_header_id|>\n\n";
    let ask = "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>";
    check(HEADERS, &[system(" S "), user("q\n")], &format!("{start}{ask}{end}"));
    let conversation =
        [system("S"), user("q"), calling("weather", r#"{"city":"Z\u00fcrich","n":1.0}"#), result("sunny")];
    let called = "{\"name\": \"weather\", \"parameters\": {\"city\": \"Z\u{fc}rich\", \"n\": 1.0}}<|eot_id|>";
    let answered = "<|start_header_id|>ipython<|end_header_id|>\n\nsunny<|eot_id|>";
    check(HEADERS, &conversation, &format!("{start}{ask}{end}{called}{answered}{end}"));

    let dated = ChatTemplate::new(HEADERS, "<s>", "").unwrap().with_date(Date::new(2026, 3, 5));
    assert!(dated.render(&[user("q")], &[], true).unwrap().contains("Today Date: 05 Mar 2026\n\n<|eot_id|>"));

    let mut twice = calling("weather", "{}");
    twice.tool_calls.push(twice.tool_calls[0].clone());
    let refused = render(HEADERS, &[user("q"), twice]);
    assert_eq!(refused, Err(TemplateError::Refused("This model only supports single tool-calls at once!".into())));
}

#[test]
fn alternating_roles_and_training_marks() {
    check(ALTERNATING, &[user(" a "), assistant(" b"), user("c")], "<s>[INST] a [/INST] b</s>[INST] c [/INST]");
    let refused = render(ALTERNATING, &[user("a"), user("b")]);
    assert!(matches!(refused, Err(TemplateError::Refused(ref text)) if text.starts_with("Conversation roles must")));
}

#[test]
fn the_default_describes_and_repeats_tools_in_hermes_form() {
    let template = ChatTemplate::chatml();
    let conversation =
        [system("Be brief."), user("q"), calling("weather", r#"{"city":"Rome"}"#), result("sun"), result("20")];
    let text = template.render(&conversation, &[weather()], true).unwrap();
    let tool = r#"{"type": "function", "function": {"name": "weather", "description": "Today's weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}"#;
    assert!(text.starts_with("<|im_start|>system\nBe brief.\n\nYou may call"), "{text}");
    assert!(text.contains(&format!("<tools>\n{tool}\n</tools>")), "{text}");
    let rest = "<|im_start|>user\nq<|im_end|>\n\
        <|im_start|>assistant\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call><|im_end|>\n\
        <|im_start|>user\n<tool_response>\nsun\n</tool_response>\n<tool_response>\n20\n</tool_response><|im_end|>\n\
        <|im_start|>assistant\n";
    assert!(text.ends_with(rest), "{text}");
    let plain = template.render(&[user("q")], &[], true).unwrap();
    assert_eq!(plain, "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn recursive_macros_over_schemas() {
    let source = "{%- macro kind(schema) -%}
{%- if schema.type == 'array' -%}list[{{ kind(schema['items']) }}]
{%- elif schema.type == 'object' -%}{
{%- for key, value in schema.properties.items() -%}{{ key }}:{{ kind(value) }}{{ ',' if not loop.last }}{%- endfor -%}}
{%- else -%}{{ schema.type }}{%- endif -%}
{%- endmacro -%}
{%- for tool in tools %}{{ tool.function.name }}={{ kind(tool.function.parameters) }}{% endfor -%}";
    let tool = Tool {
        parameters:
            r#"{"type":"object","properties":{"z":{"type":"array","items":{"type":"integer"}},"a":{"type":"string"}}}"#
                .into(),
        ..weather()
    };
    let template = ChatTemplate::new(source, "", "").unwrap();
    assert_eq!(template.render(&[user("q")], &[tool], true).unwrap(), "weather={z:list[integer],a:string}");
}

#[test]
fn tojson_writes_as_python_does() {
    let value = r#"{"b":[1,2.5,-3,1e300],"a":{"x":null,"y":true},"s":"<&'\"\n\u00e9","e":[],"o":{}}"#;
    let with = |filter: &str| {
        let source = format!("{{{{ messages[0].tool_calls[0].function.arguments | {filter} }}}}");
        render(&source, &[calling("f", value)]).unwrap()
    };
    assert_eq!(
        with("tojson"),
        "{\"b\": [1, 2.5, -3, 1e+300], \"a\": {\"x\": null, \"y\": true}, \"s\": \"<&'\\\"\\n\u{e9}\", \"e\": [], \"o\": {}}"
    );
    assert!(with("tojson(sort_keys=true)").starts_with("{\"a\": {\"x\": null"));
    assert!(with("tojson(ensure_ascii=true)").contains("\\u00e9"));
    assert!(with("tojson(indent=2)").starts_with("{\n  \"b\": [\n    1,\n    2.5,"));
    assert!(with("tojson(indent=2)").ends_with("\"e\": [],\n  \"o\": {}\n}"));
    assert!(with("tojson(separators=[',', ':'])").starts_with("{\"b\":[1,2.5,"));
}

#[test]
fn arguments_that_are_not_json_stay_text() {
    let source = "{{ messages[0].tool_calls[0].function.arguments }}";
    check(source, &[calling("f", "{broken")], "{broken");
}

#[test]
fn python_methods_and_loop_controls() {
    let source = "{%- for part in messages[0].content.split('|') %}{% if part.startswith('#') %}{% continue %}{% endif %}\
        {{ part.upper() }};{% endfor %}{{ messages[0].get('missing', 'none') }}{{ messages[-1].content.rstrip() }}{{ messages[::-1][0].role }}";
    check(source, &[user("a|#b|c ")], "A;C ;nonea|#b|cuser");
}

#[test]
fn hostile_templates_are_bounded() {
    let exhausted = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'x' * 99999999 }}{{ 'x' * 99999999 }}",
    ];
    for source in exhausted {
        assert_eq!(render(source, &[user("q")]), Err(TemplateError::Exhausted), "{source}");
    }
    let recursion = render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", &[user("q")]);
    assert!(matches!(recursion, Err(TemplateError::Failed { .. })), "{recursion:?}");
    let include = render("{% include '/etc/passwd' %}", &[user("q")]);
    assert!(matches!(include, Err(TemplateError::Failed { .. })), "{include:?}");
    let large = ChatTemplate::new(&"x".repeat(MAX_TEMPLATE_BYTES + 1), "", "");
    assert_eq!(large.unwrap_err(), TemplateError::TooLarge { bytes: MAX_TEMPLATE_BYTES + 1 });
    let syntax = ChatTemplate::new("\n{% if %}", "", "");
    assert!(matches!(syntax, Err(TemplateError::Syntax { line: 2, .. })), "{syntax:?}");
}

#[test]
fn long_conversations_fit() {
    let long: Vec<ChatMessage> = (0..2000).map(|_| user(&"word ".repeat(500))).collect();
    let text = ChatTemplate::chatml().render(&long, &[], true).unwrap();
    assert!(text.len() > 5_000_000);
}

#[test]
fn dates_format_as_strftime_does() {
    let date = Date::new(2024, 2, 29).unwrap();
    let text = date.format("%Y-%m-%d %y %B %b %A %a %j %e %-d %-m %H:%M:%S %% %F").unwrap();
    assert_eq!(text, "2024-02-29 24 February Feb Thursday Thu 060 29 29 2 00:00:00 % 2024-02-29");
    assert_eq!(Date::new(2026, 11, 1).unwrap().format("%A %-d %e"), Some("Sunday 1  1".into()));
    assert_eq!(date.format("%Q"), None);
    assert_eq!(date.format("%"), None);
    assert_eq!(Date::new(2023, 2, 29), None);
    assert_eq!(Date::new(2023, 13, 1), None);
    assert_eq!(Date::from_unix_seconds(0), Date::new(1970, 1, 1));
    assert_eq!(Date::from_unix_seconds(951_868_799), Date::new(2000, 2, 29));
    assert_eq!(Date::from_unix_seconds(951_868_800), Date::new(2000, 3, 1));
    assert_eq!(Date::from_unix_seconds(u64::MAX), None);
}

/// Fragments that, shuffled, make sources near enough to templates to reach past the parser.
fn fragments() -> impl Strategy<Value = String> {
    let parts = [
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if m.role == 'user' %}",
        "{% else %}",
        "{% endif %}",
        "{{ m.content }}",
        "{{ m['content'] | trim }}",
        "{{ tools | tojson(indent=4) }}",
        "{% set x = namespace(a=1) %}",
        "{% set x.a = x.a ~ x.a %}",
        "{{ raise_exception('no') }}",
        "{% generation %}",
        "{%- endgeneration -%}",
        "{{ messages[1:] | length }}",
        "{{ x.a * 9 }}",
        "{% macro f(a) %}",
        "{% endmacro %}",
        "{{ f(messages) }}",
        "{{ messages | tojson }}",
        "{{",
        "}}",
        "{%",
        "%}",
        "{# c #}",
        "\n",
        "text",
        "{{ messages[0].content.split(' ')[-1] }}",
        "{% break %}",
        "{{ loop.index0 }}",
        "{{ 1 // 0 }}",
        "{{ -messages }}",
        "{% for k, v in messages[0].items() %}",
        "{{ strftime_now('%d') }}",
        "\u{e9}",
        "{% call f(1) %}",
        "{% endcall %}",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_source_gives_a_text_or_an_error(source in prop_oneof![fragments(), ".{0,200}"], content in ".{0,40}") {
        if let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") {
            let first = template.render(&[user(&content), assistant("x")], &[weather()], true);
            let second = template.render(&[user(&content), assistant("x")], &[weather()], true);
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn content_is_never_read_as_a_template(content in ".{0,60}") {
        let text = ChatTemplate::chatml().render(&[user(&content)], &[], true).unwrap();
        prop_assert_eq!(text, format!("<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"));
    }

    #[test]
    fn sources_without_marks_are_unchanged(source in "[^%]{0,60}") {
        prop_assert_eq!(training_marks_removed(&source), source);
    }
}
