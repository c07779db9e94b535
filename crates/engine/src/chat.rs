//! Chat templates: puts a conversation into the text that a model was trained on, as transformers'
//! `apply_chat_template` does.
//!
//! A template comes from a model file, so from strangers: rendering is bounded in steps and memory, reads no clock, no
//! file and no randomness, and cannot panic. The same template and input give the same text on every node; a date
//! reaches the template only when the caller passes one.

use cortensor_protocol::{ChatMessage, Role, Tool, ToolCall};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Kwargs};
use std::{collections::BTreeMap, fmt};

/// Largest template source accepted, in bytes. The longest templates in use have about 20 KiB.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;
/// Steps of the template language that a rendering may take, besides one for each byte of its input. One step also pays
/// for 64 bytes of intermediate data, so this bounds memory as well.
const BASE_FUEL: u64 = 1_000_000;
/// Deepest nesting of loops, macros and calls.
const RECURSION: usize = 120;
const NAME: &str = "chat";

/// The ChatML format, for models that bring no template. Tools are described and called in the Hermes form.
pub const CHATML: &str = include_str!("chatml.jinja");

/// Why a template could not be used or did not render.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is not a valid template.
    #[error("the chat template does not parse (line {line}): {problem}")]
    Syntax {
        /// Line in the source, from 1; 0 where unknown.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The source is larger than [`MAX_TEMPLATE_BYTES`].
    #[error("the chat template has {bytes} bytes, more than {MAX_TEMPLATE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The template itself refused the conversation (`raise_exception`), for instance because roles do not alternate.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template used up its steps or memory.
    #[error("the chat template takes more steps or memory than allowed")]
    Exhausted,
    /// The template failed.
    #[error("the chat template failed (line {line}): {problem}")]
    Failed {
        /// Line in the source, from 1; 0 where unknown.
        line: usize,
        /// What went wrong.
        problem: String,
    },
}

/// A day, for templates that tell the model the date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: i32,
    month: u8,
    day: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// A day of the Gregorian calendar, or `None` when there is no such day or the year is not within 1 to 9999.
    #[must_use]
    pub fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        let valid = (1..=9999).contains(&year) && (1..=12).contains(&month);
        (valid && day >= 1 && u32::from(day) <= days_in_month(year, month)).then_some(Self { year, month, day })
    }

    /// The UTC day of a Unix time in seconds, or `None` beyond the year 9999.
    #[must_use]
    pub fn from_unix_seconds(seconds: u64) -> Option<Self> {
        let mut days = seconds / 86_400;
        let mut year = 1970;
        while year <= 9999 {
            let length = if leap(year) { 366 } else { 365 };
            if days < length {
                return Self::from_day_of_year(year, u32::try_from(days).ok()?);
            }
            days -= length;
            year += 1;
        }
        None
    }

    fn from_day_of_year(year: i32, mut rest: u32) -> Option<Self> {
        for month in 1..=12 {
            let length = days_in_month(year, month);
            if rest < length {
                return Self::new(year, month, u8::try_from(rest + 1).ok()?);
            }
            rest -= length;
        }
        None
    }

    fn day_of_year(self) -> u32 {
        (1..self.month).map(|month| days_in_month(self.year, month)).sum::<u32>() + u32::from(self.day)
    }

    /// 0 is Sunday (Gauss' rule for 1 January, then the day of the year).
    fn weekday(self) -> usize {
        let before = self.year - 1;
        let first = 1 + 5 * (before % 4) + 4 * (before % 100) + 6 * (before % 400);
        let days = first + i32::try_from(self.day_of_year()).expect("at most 366") - 1;
        usize::try_from(days.rem_euclid(7)).expect("within 0 to 6")
    }

    /// Formats as C's `strftime`; the time of day is midnight. `None` for a conversion that is not supported.
    fn format(self, pattern: &str) -> Option<String> {
        let mut out = String::new();
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            match char {
                '%' => out.push_str(&self.conversion(&mut chars)?),
                other => out.push(other),
            }
        }
        Some(out)
    }

    fn conversion(self, chars: &mut std::str::Chars<'_>) -> Option<String> {
        let (month, weekday) = (MONTHS[usize::from(self.month) - 1], WEEKDAYS[self.weekday()]);
        Some(match chars.next()? {
            'Y' => format!("{:04}", self.year),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year()),
            'B' => month.into(),
            'b' | 'h' => month[..3].into(),
            'A' => weekday.into(),
            'a' => weekday[..3].into(),
            'F' => format!("{:04}-{:02}-{:02}", self.year, self.month, self.day),
            'D' | 'x' => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
            'H' | 'M' | 'S' => "00".into(),
            'I' => "12".into(),
            'p' => "AM".into(),
            'T' | 'X' => "00:00:00".into(),
            '%' => "%".into(),
            '-' => self.conversion(chars)?.trim_start_matches(['0', ' ']).to_owned(),
            _ => return None,
        })
    }
}

fn leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i32, month: u8) -> u32 {
    match month {
        2 => 28 + u32::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A parsed chat template, with the texts of the special tokens that templates refer to.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    date: Option<Date>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("bos", &self.bos_token)
            .field("eos", &self.eos_token)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Parses a template. `bos_token` and `eos_token` are the texts of those tokens, empty where the model has none.
    ///
    /// # Errors
    /// The source is too large or not a template.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge { bytes: source.len() });
        }
        let mut environment = environment();
        environment
            .add_template_owned(NAME, training_marks_removed(source))
            .map_err(|error| TemplateError::Syntax { line: error.line().unwrap_or(0), problem: problem(&error) })?;
        Ok(Self { environment, bos_token: bos_token.into(), eos_token: eos_token.into(), date: None })
    }

    /// [`CHATML`], for a model without a template.
    #[must_use]
    pub fn chatml() -> Self {
        Self::new(CHATML, "", "<|im_end|>").expect("our own template parses, as a test shows")
    }

    /// Lets the template know a date through `strftime_now`. Without one the function is undefined, and templates that
    /// ask whether it is leave the date out or use their own.
    #[must_use]
    pub fn with_date(mut self, date: Option<Date>) -> Self {
        self.date = date;
        self
    }

    /// The prompt text of a conversation. With `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// The template refuses the conversation, fails, or takes too long.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        tools: &[Tool],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let tools_value = if tools.is_empty() { Value::from(()) } else { tools.iter().map(tool_value).collect() };
        let mut context = BTreeMap::from([
            ("messages", messages.iter().map(message_value).collect::<Value>()),
            ("tools", tools_value),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("bos_token", Value::from(self.bos_token.as_str())),
            ("eos_token", Value::from(self.eos_token.as_str())),
        ]);
        if let Some(date) = self.date {
            context.insert("strftime_now", Value::from_function(move |pattern: String| strftime(date, &pattern)));
        }
        self.run(&Value::from_pairs(context), input_bytes(messages, tools))
    }

    fn run(&self, context: &Value, input: u64) -> Result<String, TemplateError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(BASE_FUEL.saturating_add(input)));
        let template = environment.get_template(NAME).expect("the template was added when this was made");
        template.render(context.clone()).map_err(|error| failure(&error))
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_recursion_limit(RECURSION);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", tojson);
    environment
}

/// Replaces `{% generation %}` blocks, which mark the assistant's text for training, by blocks without effect.
fn training_marks_removed(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        out.push_str(&rest[..start]);
        let block = &rest[start..];
        let (head, tail) = match block.find("%}") {
            Some(end) => block.split_at(end + 2),
            None => (block, ""),
        };
        match head[2..].trim_end_matches("%}").trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&head.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&head.replacen("endgeneration", "endif", 1)),
            _ => {
                out.push_str("{%");
                rest = &block[2..];
                continue;
            }
        }
        rest = tail;
    }
    out + rest
}

fn input_bytes(messages: &[ChatMessage], tools: &[Tool]) -> u64 {
    let calls = |message: &ChatMessage| message.tool_calls.iter().map(|call| call.arguments.len()).sum::<usize>();
    let messages: usize = messages.iter().map(|message| 64 + message.content.len() + calls(message)).sum();
    let tools: usize = tools.iter().map(|tool| 64 + tool.parameters.len() + tool.description.len()).sum();
    u64::try_from(messages.saturating_add(tools)).unwrap_or(u64::MAX)
}

/// What a template passed to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception").with_source(Raised(message.into())))
}

fn strftime(date: Date, pattern: &str) -> Result<String, Error> {
    date.format(pattern).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now knows no format such as {pattern:?}"))
    })
}

fn failure(error: &Error) -> TemplateError {
    if let Some(raised) = raised(error) {
        return TemplateError::Refused(raised.0.clone());
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Exhausted;
    }
    TemplateError::Failed { line: error.line().unwrap_or(0), problem: problem(error) }
}

/// Errors inside macros and loops come wrapped; the chain of sources is finite.
fn raised(error: &Error) -> Option<&Raised> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(raised) = inner.downcast_ref::<Raised>() {
            return Some(raised);
        }
        source = inner.source();
    }
    None
}

fn problem(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::from_pairs(fields)
}

/// A message as OpenAI writes it; absent fields are left out, since templates ask `'tool_calls' in message`.
fn message_value(message: &ChatMessage) -> Value {
    let mut fields = vec![
        (Value::from("role"), Value::from(role_name(message.role))),
        (Value::from("content"), Value::from(message.content.as_str())),
    ];
    if !message.tool_calls.is_empty() {
        fields.push((Value::from("tool_calls"), message.tool_calls.iter().map(call_value).collect()));
    }
    if let Some(id) = &message.tool_call_id {
        fields.push((Value::from("tool_call_id"), Value::from(id.as_str())));
    }
    if let Some(name) = &message.name {
        fields.push((Value::from("name"), Value::from(name.as_str())));
    }
    Value::from_pairs(fields)
}

/// The role as templates and OpenAI spell it.
#[must_use]
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Arguments become an object where they are one: templates pass them through `tojson`.
fn call_value(call: &ToolCall) -> Value {
    let function =
        object([("name", Value::from(call.name.as_str())), ("arguments", json_object_or_text(&call.arguments))]);
    object([("id", Value::from(call.id.as_str())), ("type", Value::from("function")), ("function", function)])
}

fn tool_value(tool: &Tool) -> Value {
    let function = object([
        ("name", Value::from(tool.name.as_str())),
        ("description", Value::from(tool.description.as_str())),
        ("parameters", json_object_or_text(&tool.parameters)),
    ]);
    object([("type", Value::from("function")), ("function", function)])
}

fn json_object_or_text(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(json @ serde_json::Value::Object(_)) => json_value(json),
        _ => Value::from(text),
    }
}

/// serde_json parses at most 128 levels, so the recursion is bounded.
fn json_value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (_, Some(value)) => Value::from(value),
            _ => Value::from(number.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => items.into_iter().map(json_value).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.into_iter().map(|(key, value)| (key, json_value(value))))
        }
    }
}

/// Python's `json.dumps` with `ensure_ascii=False`, which is what transformers registers as `tojson`: a space after
/// separators, no escaping for HTML.
#[expect(clippy::needless_pass_by_value, reason = "the template engine passes arguments by value")]
fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let mut writer = JsonWriter {
        out: String::new(),
        indent: indent.map(|width| width.min(16)),
        item_separator: if indent.is_some() { "," } else { ", " }.into(),
        key_separator: ": ".into(),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    if let Some([item, key]) = separators.as_deref() {
        (writer.item_separator, writer.key_separator) = (item.clone(), key.clone());
    }
    kwargs.assert_all_used()?;
    writer.write(&value, 0)?;
    Ok(Value::from(writer.out))
}

struct JsonWriter {
    out: String,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

/// Most bytes that one `tojson` writes, and deepest nesting.
const MAX_JSON_BYTES: usize = 16 << 20;
const MAX_JSON_DEPTH: usize = 128;

impl JsonWriter {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        use minijinja::value::ValueKind as Kind;
        if depth > MAX_JSON_DEPTH || self.out.len() > MAX_JSON_BYTES {
            return Err(Error::new(ErrorKind::InvalidOperation, "the value is too large or too deep for JSON"));
        }
        match value.kind() {
            Kind::Undefined | Kind::None => self.out.push_str("null"),
            Kind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            Kind::Number => self.number(value),
            Kind::String => self.string(value.as_str().unwrap_or_default()),
            Kind::Map => self.map(value, depth)?,
            Kind::Seq | Kind::Iterable => self.sequence(value, depth)?,
            other => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("{other} is not JSON serializable")));
            }
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(float) if !value.is_integer() => self.out.push_str(&python_float(float)),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            return self.out.push_str(&quoted);
        }
        for char in quoted.chars() {
            if char.is_ascii() {
                self.out.push(char);
            } else {
                let mut units = [0; 2];
                for unit in char.encode_utf16(&mut units) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }

    fn sequence(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in value.try_iter()? {
            self.separate(any, depth + 1);
            self.write(&item, depth + 1)?;
            any = true;
        }
        self.close(any, depth, ']');
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        let any = !keys.is_empty();
        for (place, key) in keys.into_iter().enumerate() {
            self.separate(place > 0, depth + 1);
            self.string(&key.as_str().map_or_else(|| key.to_string(), ToOwned::to_owned));
            self.out.push_str(&self.key_separator.clone());
            self.write(&value.get_item(&key)?, depth + 1)?;
        }
        self.close(any, depth, '}');
        Ok(())
    }

    fn separate(&mut self, comma: bool, depth: usize) {
        if comma {
            self.out.push_str(&self.item_separator.clone());
        }
        self.line(depth);
    }

    fn close(&mut self, any: bool, depth: usize, bracket: char) {
        if any {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(width) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', width * depth));
        }
    }
}

/// Python's `repr` of a float: the shortest digits, in exponent form below 10⁻⁴ and from 10¹⁶ on.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
