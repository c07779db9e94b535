//! Regular expressions (`pattern` in JSON Schema) as expressions over the inside of a JSON string.
//!
//! The characters that a pattern speaks of are those of the decoded string; the expression writes each as JSON does.
//! `\d`, `\w` and `\s` mean what they mean in ECMA 262. Look-around, word boundaries and back references are refused.

use super::expr::{Expr, MAX_DEPTH};
use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind, Look},
};

/// The string contents that match `pattern`, which need not match from the beginning unless it says so.
pub(super) fn string_content(pattern: &str) -> Result<Expr, String> {
    let pattern = ascii_classes(pattern);
    let hir = ParserBuilder::new()
        .nest_limit(u32::try_from(MAX_DEPTH / 2).unwrap_or(32))
        .build()
        .parse(&pattern)
        .map_err(|error| format!("the pattern cannot be read: {}", first_line(&error.to_string())))?;
    anywhere(&hir)
}

/// One character of a string, as JSON writes it.
pub(super) fn character() -> Expr {
    written(&[('\0', char::MAX)])
}

fn first_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().into()
}

/// Adds "anything" before and after, unless the expression is anchored there.
fn anywhere(hir: &Hir) -> Result<Expr, String> {
    if let HirKind::Alternation(choices) = hir.kind() {
        return Ok(Expr::Choice(choices.iter().map(anywhere).collect::<Result<_, _>>()?));
    }
    if let HirKind::Capture(capture) = hir.kind() {
        return anywhere(&capture.sub);
    }
    let whole = [hir.clone()];
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => &parts[..],
        _ => &whole,
    };
    let mut items = Vec::new();
    match parts.split_first() {
        Some((first, rest)) if matches!(first.kind(), HirKind::Look(Look::Start)) => parts = rest,
        _ => items.push(character().times(0, None)),
    }
    let mut tail = Some(character().times(0, None));
    if let Some((last, rest)) = parts.split_last()
        && matches!(last.kind(), HirKind::Look(Look::End))
    {
        parts = rest;
        tail = None;
    }
    for part in parts {
        items.push(convert(part)?);
    }
    items.extend(tail);
    Ok(Expr::Sequence(items))
}

fn convert(hir: &Hir) -> Result<Expr, String> {
    Ok(match hir.kind() {
        HirKind::Empty => Expr::empty(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| "the pattern is not text".to_owned())?;
            Expr::Sequence(text.chars().map(|c| written(&[(c, c)])).collect())
        }
        HirKind::Class(Class::Unicode(class)) => {
            let ranges: Vec<_> = class.ranges().iter().map(|range| (range.start(), range.end())).collect();
            if ranges.is_empty() {
                return Err("the pattern has a class that matches nothing".into());
            }
            written(&ranges)
        }
        HirKind::Class(Class::Bytes(_)) => return Err("the pattern speaks of bytes".into()),
        HirKind::Look(_) => return Err("anchors within a pattern, and word boundaries, are not supported".into()),
        HirKind::Repetition(repetition) => convert(&repetition.sub)?.times(repetition.min, repetition.max),
        HirKind::Capture(capture) => convert(&capture.sub)?,
        HirKind::Concat(parts) => Expr::Sequence(parts.iter().map(convert).collect::<Result<_, _>>()?),
        HirKind::Alternation(choices) => Expr::Choice(choices.iter().map(convert).collect::<Result<_, _>>()?),
    })
}

/// One character of the ranges, written as in JSON: raw where that is allowed, as a short escape otherwise, and as `\u00XX`
/// for the control characters that have none.
fn written(ranges: &[(char, char)]) -> Expr {
    let raw = [(' ', '!'), ('#', '['), (']', char::MAX)];
    let mut direct = Vec::new();
    for &(start, end) in ranges {
        for (low, high) in raw {
            let (from, to) = (start.max(low), end.min(high));
            if from <= to {
                direct.push((from, to));
            }
        }
    }
    let has = |c: char| ranges.iter().any(|&(start, end)| start <= c && c <= end);
    let mut choices = Vec::new();
    if !direct.is_empty() {
        choices.push(Expr::Class(direct));
    }
    let short = [
        ('"', "\\\""),
        ('\\', "\\\\"),
        ('\n', "\\n"),
        ('\r', "\\r"),
        ('\t', "\\t"),
        ('\u{8}', "\\b"),
        ('\u{c}', "\\f"),
    ];
    choices.extend(short.iter().filter(|(c, _)| has(*c)).map(|(_, escape)| Expr::text(escape)));
    let control = ('\0'..' ').filter(|c| has(*c) && !short.iter().any(|(other, _)| other == c));
    choices.extend(control.map(|c| Expr::text(format!("\\u{:04x}", u32::from(c)))));
    if choices.len() == 1 { choices.remove(0) } else { Expr::Choice(choices) }
}

/// Replaces the ECMA classes by the ASCII ranges that they mean, where that can be written.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut inside = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            inside = (inside && c != ']') || (!inside && c == '[');
            out.push(c);
            continue;
        }
        let ranges = match chars.next() {
            Some('d') if inside => "0-9",
            Some('d') => "[0-9]",
            Some('D') if !inside => "[^0-9]",
            Some('w') if inside => "A-Za-z0-9_",
            Some('w') => "[A-Za-z0-9_]",
            Some('W') if !inside => "[^A-Za-z0-9_]",
            Some('s') if inside => " \\t\\n\\r\\x0b\\x0c",
            Some('s') => "[ \\t\\n\\r\\x0b\\x0c]",
            Some('S') if !inside => "[^ \\t\\n\\r\\x0b\\x0c]",
            Some('/') => "/",
            Some(other) => {
                out.push('\\');
                out.push(other);
                continue;
            }
            None => "\\",
        };
        out.push_str(ranges);
    }
    out
}
