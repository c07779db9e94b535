//! Finds tool calls in a model's text while it is being written: the Hermes form,
//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.
//!
//! Guarantees: how the text is cut into pieces makes no difference to the result; text before a call is passed on as
//! soon as it cannot belong to one; what is not a valid call is delivered as the text that it is, never lost. White
//! space directly before a call, and between a call and the end, is dropped. A call is passed on whole, since only a
//! complete one can be told from text that merely looks like one.

use serde::Deserialize;
use serde_json::value::RawValue;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Longest call in bytes. Beyond it the text is passed on as text, so that the parser's memory is bounded.
const CALL_BYTES_MAX: usize = 1 << 20;

/// The text at which a generation must stop if it may make one call only: the call is then taken as complete.
pub(crate) const SINGLE_CALL_STOP: &str = CLOSE;

/// A piece of the model's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Plain text; never empty.
    Text(String),
    /// A complete call.
    Call {
        /// Name of the function.
        name: String,
        /// Arguments: the JSON object as the model wrote it.
        arguments: String,
    },
}

/// Incremental parser of one output.
#[derive(Debug, Default)]
pub(crate) struct ToolCallParser {
    /// Text state: what may still turn out to belong to a call. Call state: white space before the tag.
    held: String,
    /// Everything after an opening tag, if one is open.
    call: Option<String>,
    /// Whether a call was passed on and only white space followed it so far.
    after_call: bool,
}

impl ToolCallParser {
    /// Takes in the next piece of text and passes on what is certain.
    pub(crate) fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        let mut rest = text.to_owned();
        loop {
            let more = match self.call.take() {
                None => self.text(&rest, out),
                Some(body) => self.body(body, &rest, out),
            };
            match more {
                Some(more) => rest = more,
                None => return,
            }
        }
    }

    /// Passes on what is left at the end of the output. A call whose closing tag is missing counts if it is complete.
    pub(crate) fn finish(mut self, out: &mut Vec<Piece>) {
        match self.call.take() {
            Some(body) => match parse_call(&body) {
                Some(call) => out.push(call),
                None => self.emit(&format!("{OPEN}{body}"), out),
            },
            None if self.after_call && self.held.trim_start().is_empty() => (),
            None => self.emit("", out),
        }
    }

    /// Outside a call. Returns what follows an opening tag.
    fn text(&mut self, text: &str, out: &mut Vec<Piece>) -> Option<String> {
        let scanned = self.held.len().saturating_sub(OPEN.len());
        self.held.push_str(text);
        let from = self.held.floor_char_boundary(scanned);
        if let Some(at) = self.held[from..].find(OPEN).map(|at| at + from) {
            let rest = self.held.split_off(at + OPEN.len());
            self.held.truncate(at);
            let white = self.held.trim_end().len();
            let lead = self.held.split_off(white);
            self.emit("", out);
            self.held = lead;
            self.call = Some(String::new());
            return Some(rest);
        }
        let certain = self.held.len() - uncertain_suffix(&self.held);
        if certain > 0 {
            let kept = self.held.split_off(certain);
            self.emit("", out);
            self.held = kept;
        }
        None
    }

    /// Inside a call. Returns what follows it, or what turned out to be text after all.
    fn body(&mut self, mut body: String, text: &str, out: &mut Vec<Piece>) -> Option<String> {
        let scanned = body.len().saturating_sub(CLOSE.len());
        body.push_str(text);
        let begins_otherwise = body.trim_start().chars().next().is_some_and(|first| first != '{');
        if begins_otherwise || body.len() > CALL_BYTES_MAX {
            self.emit(OPEN, out);
            return Some(body);
        }
        let from = body.floor_char_boundary(scanned);
        let Some(at) = body[from..].find(CLOSE).map(|at| at + from) else {
            self.call = Some(body);
            return None;
        };
        let rest = body.split_off(at + CLOSE.len());
        match parse_call(&body[..at]) {
            Some(call) => {
                self.held.clear();
                self.after_call = true;
                out.push(call);
            }
            None => self.emit(&format!("{OPEN}{body}"), out),
        }
        Some(rest)
    }

    /// Passes on the held text and `more` after it.
    fn emit(&mut self, more: &str, out: &mut Vec<Piece>) {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(more);
        if text.is_empty() {
            return;
        }
        self.after_call = false;
        match out.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => out.push(Piece::Text(text)),
        }
    }
}

/// How many bytes at the end may belong to a call: white space and the beginning of a tag.
fn uncertain_suffix(text: &str) -> usize {
    let longest = (1..OPEN.len()).rev().find(|length| text.ends_with(&OPEN[..*length])).unwrap_or(0);
    let before = &text[..text.len() - longest];
    longest + (before.len() - before.trim_end().len())
}

fn parse_call(body: &str) -> Option<Piece> {
    #[derive(Deserialize)]
    struct Written<'a> {
        name: String,
        #[serde(borrow, default)]
        arguments: Option<&'a RawValue>,
    }
    let written: Written<'_> = serde_json::from_str(body.trim()).ok()?;
    let arguments = match written.arguments.map(RawValue::get) {
        None | Some("null") => "{}".to_owned(),
        Some(text) if text.starts_with('{') => text.to_owned(),
        // Some models put the arguments into a string, as the API does.
        Some(text) => serde_json::from_str::<String>(text).ok().filter(|text| is_object(text))?,
    };
    (!written.name.is_empty()).then_some(Piece::Call { name: written.name, arguments })
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<'a>(parts: impl IntoIterator<Item = &'a str>) -> Vec<Piece> {
        let mut parser = ToolCallParser::default();
        let mut all: Vec<Piece> = Vec::new();
        for part in parts {
            let mut pieces = Vec::new();
            parser.push(part, &mut pieces);
            pieces.into_iter().for_each(|piece| join(&mut all, piece));
        }
        let mut pieces = Vec::new();
        parser.finish(&mut pieces);
        pieces.into_iter().for_each(|piece| join(&mut all, piece));
        all
    }

    fn join(all: &mut Vec<Piece>, piece: Piece) {
        match (all.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(text)) => last.push_str(&text),
            (_, piece) => all.push(piece),
        }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn text_and_calls_are_told_apart() {
        let one = r#"<tool_call>{"name": "f", "arguments": {"a": 1.0}}</tool_call>"#;
        assert_eq!(run([one]), [call("f", r#"{"a": 1.0}"#)]);
        assert_eq!(run(["Let me see.\n", one, "\n"]), [text("Let me see."), call("f", r#"{"a": 1.0}"#)]);
        assert_eq!(run([one, "\n", one]), [call("f", r#"{"a": 1.0}"#), call("f", r#"{"a": 1.0}"#)]);
        assert_eq!(run([one, "\nDone. "]), [call("f", r#"{"a": 1.0}"#), text("\nDone. ")]);
        assert_eq!(run(["a < b and ", "<tool", "box>"]), [text("a < b and <toolbox>")]);
    }

    #[test]
    fn arguments_keep_every_digit() {
        let wei = r#"<tool_call>{"name":"pay","arguments":{"wei":123456789012345678901234567890}}</tool_call>"#;
        assert_eq!(run([wei]), [call("pay", r#"{"wei":123456789012345678901234567890}"#)]);
    }

    #[test]
    fn arguments_may_be_absent_or_a_string() {
        assert_eq!(run([r#"<tool_call>{"name":"f"}</tool_call>"#]), [call("f", "{}")]);
        assert_eq!(run([r#"<tool_call>{"name":"f","arguments":null}</tool_call>"#]), [call("f", "{}")]);
        assert_eq!(run([r#"<tool_call>{"name":"f","arguments":"{\"a\":1}"}</tool_call>"#]), [call("f", r#"{"a":1}"#)]);
    }

    #[test]
    fn what_is_not_a_call_is_delivered_as_text() {
        for bad in [
            r#"x <tool_call>{"name": "f", "arguments": {"a": }}</tool_call> y"#,
            r#"<tool_call>{"arguments": {}}</tool_call>"#,
            r#"<tool_call>{"name": "", "arguments": {}}</tool_call>"#,
            r#"<tool_call>{"name": "f", "arguments": [1]}</tool_call>"#,
            r#"<tool_call>{"name": "f", "arguments": "{a}"}</tool_call>"#,
            "The tag <tool_call> opens a call.",
            r#"<tool_call>{"name": "f", "#,
            "<tool_call>",
            " \n<tool_cal",
            "</tool_call>",
        ] {
            assert_eq!(run([bad]), [text(bad)]);
        }
    }

    #[test]
    fn a_complete_call_without_its_closing_tag_counts_at_the_end() {
        assert_eq!(run([r#"<tool_call>{"name":"f","arguments":{}}"#]), [call("f", "{}")]);
    }

    #[test]
    fn plain_text_is_not_held_back() {
        let mut parser = ToolCallParser::default();
        let mut out = Vec::new();
        parser.push("Hello", &mut out);
        assert_eq!(out, [text("Hello")]);
        out.clear();
        parser.push(" <tool_", &mut out);
        assert_eq!(out, []);
        parser.push("smith>", &mut out);
        assert_eq!(out, [text(" <tool_smith>")]);
    }

    #[test]
    fn an_endless_call_is_given_up_as_text() {
        let mut parser = ToolCallParser::default();
        let mut out = Vec::new();
        parser.push("<tool_call>{", &mut out);
        for _ in 0..(CALL_BYTES_MAX / 1024 + 1) {
            parser.push(&"x".repeat(1024), &mut out);
        }
        assert!(matches!(&out[0], Piece::Text(text) if text.len() > CALL_BYTES_MAX));
    }

    /// Texts rich in tags, valid calls and near misses.
    fn output() -> impl Strategy<Value = String> {
        let fragment = prop_oneof![
            Just("<tool_call>".to_owned()),
            Just("</tool_call>".to_owned()),
            Just(r#"<tool_call>{"name":"f","arguments":{"x":"é<"}}</tool_call>"#.to_owned()),
            Just(r#"{"name":"g","arguments":{}}"#.to_owned()),
            Just("<tool_".to_owned()),
            Just("{".to_owned()),
            "[ \n]{0,3}",
            "[a-z<>/é🦀{}\" ]{0,6}",
        ];
        prop::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(text in output(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let whole = run([text.as_str()]);
            prop_assert_eq!(run(parts), whole.clone());
            prop_assert_eq!(run(text.split_inclusive(|_: char| true)), whole);
        }

        #[test]
        fn without_a_call_nothing_is_lost(parts in prop::collection::vec("[a-z<>/_ \n{}]{0,9}", 0..9)) {
            let whole = parts.concat();
            let expect = if whole.is_empty() { vec![] } else { vec![text(&whole)] };
            prop_assert_eq!(run(parts.iter().map(String::as_str)), expect);
        }
    }
}
