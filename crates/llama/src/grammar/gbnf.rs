//! Reads GBNF, llama.cpp's grammar notation (`grammars/README.md` there). References to single tokens (`<[id]>`) are
//! refused.

use super::{
    GrammarError, MAX_SOURCE_BYTES,
    expr::{Expr, MAX_DEPTH, RuleId, Rules},
};
use std::collections::HashMap;

/// Most rules of a grammar.
const MAX_RULES: usize = 4096;

/// Parses a grammar; its start is the rule `root`.
pub(super) fn parse(source: &str) -> Result<(Rules, RuleId), GrammarError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(GrammarError::TooLarge("a grammar has at most 128 KiB"));
    }
    let mut parser = Parser { rest: source, line: 1, rules: Rules::default(), names: HashMap::new() };
    parser.space(true);
    while !parser.rest.is_empty() {
        parser.rule()?;
    }
    let root = *parser.names.get("root").ok_or_else(|| GrammarError::Undefined("root".into()))?;
    Ok((parser.rules, root))
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    rules: Rules,
    names: HashMap<String, RuleId>,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, GrammarError> {
        Err(GrammarError::Syntax { line: self.line, problem: problem.into() })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        self.rest.strip_prefix(text).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    fn space(&mut self, newlines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => {}
                '\r' | '\n' if newlines => {}
                '#' => {
                    let end = self.rest.find(['\r', '\n']).unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(self.rest.len());
        if end == 0 {
            return self.fail("a rule's name is expected");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    fn id(&mut self, name: &str) -> Result<RuleId, GrammarError> {
        if let Some(&id) = self.names.get(name) {
            return Ok(id);
        }
        if self.rules.len() >= MAX_RULES {
            return Err(GrammarError::TooLarge("a grammar has at most 4,096 rules"));
        }
        let id = self.rules.declare(name);
        self.names.insert(name.into(), id);
        Ok(id)
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let name = self.name()?;
        let rule = self.id(name)?;
        self.space(false);
        if !self.eat("::=") {
            return self.fail("\"::=\" is expected after the rule's name");
        }
        self.space(true);
        if self.rules.is_defined(rule) {
            return self.fail(format!("the rule {name:?} is defined twice"));
        }
        let expr = self.choice(0)?;
        self.rules.define(rule, expr);
        if !self.rest.is_empty() && !self.rest.starts_with(['\r', '\n']) {
            return self.fail("the end of the line is expected after a rule");
        }
        self.space(true);
        Ok(())
    }

    fn choice(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        if depth > MAX_DEPTH {
            return Err(GrammarError::TooLarge("parentheses are nested too deeply"));
        }
        let mut choices = vec![self.sequence(depth)?];
        while self.eat("|") {
            self.space(true);
            choices.push(self.sequence(depth)?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Expr::Choice(choices) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        let mut items = Vec::new();
        while let Some(item) = self.item(depth)? {
            let item = self.repetitions(item)?;
            items.push(item);
            self.space(depth > 0);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Sequence(items) })
    }

    fn item(&mut self, depth: usize) -> Result<Option<Expr>, GrammarError> {
        Ok(Some(match self.peek() {
            Some('"') => self.literal()?,
            Some('[') => self.class()?,
            Some('.') => {
                self.next();
                Expr::Class(vec![('\0', char::MAX)])
            }
            Some('(') => {
                self.next();
                self.space(true);
                let inner = self.choice(depth + 1)?;
                if !self.eat(")") {
                    return self.fail("\")\" is expected");
                }
                inner
            }
            Some('<' | '!') => return self.fail("references to single tokens are not supported"),
            Some(c) if c.is_ascii_alphanumeric() || c == '-' => {
                let name = self.name()?;
                Expr::Rule(self.id(name)?)
            }
            _ => return Ok(None),
        }))
    }

    fn literal(&mut self) -> Result<Expr, GrammarError> {
        self.next();
        let mut text = String::new();
        while !self.eat("\"") {
            text.push(self.character()?);
        }
        Ok(Expr::text(text))
    }

    fn class(&mut self) -> Result<Expr, GrammarError> {
        self.next();
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let start = self.character()?;
            let range = self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.eat("-");
            let end = if range { self.character()? } else { start };
            if end < start {
                return self.fail("a range ends before it begins");
            }
            ranges.push((start, end));
        }
        if ranges.is_empty() && !negated {
            return self.fail("an empty class matches nothing");
        }
        Ok(Expr::Class(if negated { complement(ranges) } else { ranges }))
    }

    fn character(&mut self) -> Result<char, GrammarError> {
        match self.next() {
            None => self.fail("the grammar ends within a text or a class"),
            Some('\\') => match self.next() {
                Some('x') => self.code(2),
                Some('u') => self.code(4),
                Some('U') => self.code(8),
                Some('t') => Ok('\t'),
                Some('r') => Ok('\r'),
                Some('n') => Ok('\n'),
                Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/')) => Ok(c),
                _ => self.fail("an escape is one of \\t \\r \\n \\\\ \\\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH"),
            },
            Some(c) => Ok(c),
        }
    }

    fn code(&mut self, digits: usize) -> Result<char, GrammarError> {
        let code = self.rest.get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let Some(code) = code else {
            return self.fail(format!("{digits} hexadecimal digits of a character are expected"));
        };
        self.rest = &self.rest[digits..];
        Ok(code)
    }

    fn repetitions(&mut self, mut item: Expr) -> Result<Expr, GrammarError> {
        // More than one sign behind an item is legal and pointless; a long row of them would nest without bound.
        for _ in 0..4 {
            item = match self.peek() {
                Some('*') => item.times(0, None),
                Some('+') => item.times(1, None),
                Some('?') => item.optional(),
                Some('{') => {
                    let (min, max) = self.bounds()?;
                    item = item.times(min, max);
                    continue;
                }
                _ => return Ok(item),
            };
            self.next();
        }
        self.fail("too many repetition signs in a row")
    }

    fn bounds(&mut self) -> Result<(u32, Option<u32>), GrammarError> {
        let Some((inside, rest)) = self.rest[1..].split_once('}') else {
            return self.fail("\"}\" is expected");
        };
        let (min, max) = match inside.split_once(',') {
            None => (inside.trim(), Some(inside.trim())),
            Some((min, max)) if max.trim().is_empty() => (min.trim(), None),
            Some((min, max)) => (min.trim(), Some(max.trim())),
        };
        let Ok(min) = min.parse() else { return self.fail("a number is expected in {}") };
        let Ok(max) = max.map(str::parse).transpose() else { return self.fail("a number is expected in {}") };
        self.rest = rest;
        Ok((min, max))
    }
}

/// All characters outside the ranges.
pub(super) fn complement(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut all = Vec::new();
    let mut next = Some('\0');
    for (start, end) in ranges {
        let Some(from) = next else { break };
        if start > from {
            all.push((from, previous(start)));
        }
        next = if end >= from { following(end) } else { next };
    }
    if let Some(from) = next {
        all.push((from, char::MAX));
    }
    all
}

fn following(c: char) -> Option<char> {
    match c {
        char::MAX => None,
        '\u{d7ff}' => Some('\u{e000}'),
        c => char::from_u32(u32::from(c) + 1),
    }
}

fn previous(c: char) -> char {
    match c {
        '\u{e000}' => '\u{d7ff}',
        c => char::from_u32(u32::from(c).saturating_sub(1)).unwrap_or('\0'),
    }
}
