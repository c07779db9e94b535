//! The common form of all grammars, and its lowering to byte-level rules.

use super::GrammarError;
use regex_syntax::utf8::Utf8Sequences;
use std::collections::HashMap;

/// Most operations of a lowered grammar.
const MAX_OPS: usize = 400_000;
/// Deepest nesting of an expression.
pub(super) const MAX_DEPTH: usize = 96;

/// A named rule of a [`Rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RuleId(pub(super) usize);

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// These bytes.
    Literal(Vec<u8>),
    /// One character of these inclusive ranges.
    Class(Vec<(char, char)>),
    /// Another rule.
    Rule(RuleId),
    /// One after the other.
    Sequence(Vec<Expr>),
    /// One of them.
    Choice(Vec<Expr>),
    /// Between `min` and `max` times; without end for `None`.
    Repeat(Box<Expr>, u32, Option<u32>),
}

impl Expr {
    /// A literal text.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Literal(text.as_ref().as_bytes().to_vec())
    }

    /// Nothing.
    pub(super) const fn empty() -> Self {
        Self::Sequence(Vec::new())
    }

    /// It or nothing.
    pub(super) fn optional(self) -> Self {
        Self::Repeat(Box::new(self), 0, Some(1))
    }

    /// `min` to `max` times.
    pub(super) fn times(self, min: u32, max: Option<u32>) -> Self {
        Self::Repeat(Box::new(self), min, max)
    }

    /// One character of the given text.
    pub(super) fn one_of(characters: &str) -> Self {
        Self::Class(characters.chars().map(|c| (c, c)).collect())
    }
}

/// Rules under construction.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<(String, Option<Expr>)>,
}

impl Rules {
    /// Reserves a rule, to be defined later: the way to recursion.
    pub(super) fn declare(&mut self, name: impl Into<String>) -> RuleId {
        self.rules.push((name.into(), None));
        RuleId(self.rules.len() - 1)
    }

    /// Says what a rule matches.
    pub(super) fn define(&mut self, rule: RuleId, expr: Expr) {
        self.rules[rule.0].1 = Some(expr);
    }

    /// Whether it was defined already.
    pub(super) fn is_defined(&self, rule: RuleId) -> bool {
        self.rules[rule.0].1.is_some()
    }

    /// Declares and defines.
    pub(super) fn add(&mut self, name: impl Into<String>, expr: Expr) -> RuleId {
        let rule = self.declare(name);
        self.define(rule, expr);
        rule
    }

    /// Number of rules.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Lowers everything to bytes.
    pub(super) fn compile(self, root: RuleId) -> Result<Program, GrammarError> {
        let mut lowering = Lowering::default();
        // The named rules take the first numbers, so that `RuleId` and the program's numbers agree.
        lowering.alternatives.resize(self.rules.len(), Vec::new());
        for (at, (name, expr)) in self.rules.iter().enumerate() {
            let expr = expr.as_ref().ok_or_else(|| GrammarError::Undefined(name.clone()))?;
            let alternatives = lowering.alternatives_of(expr, 0)?;
            lowering.set(at, alternatives)?;
        }
        let program = lowering.finish(root.0);
        match program.left_recursive_rule() {
            Some(rule) => Err(GrammarError::LeftRecursion(
                self.rules.get(rule).map_or_else(|| "a repetition".into(), |(name, _)| name.clone()),
            )),
            None => Ok(program),
        }
    }
}

/// A set of bytes.
pub(super) type ByteSet = [u64; 4];

/// One step of a lowered alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A byte of the set with this number.
    Byte(u32),
    /// The rule with this number.
    Call(u32),
    /// End of the alternative.
    End,
}

/// A lowered grammar.
#[derive(Debug)]
pub(super) struct Program {
    /// All alternatives, one after the other, each closed by [`Op::End`].
    pub(super) ops: Vec<Op>,
    /// Where the alternatives of each rule begin.
    pub(super) rules: Vec<Vec<u32>>,
    /// The byte sets.
    pub(super) sets: Vec<ByteSet>,
    /// The rule that the whole output matches.
    pub(super) root: u32,
}

pub(super) fn contains(set: &ByteSet, byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

#[derive(Default)]
struct Lowering {
    alternatives: Vec<Vec<Vec<Op>>>,
    sets: Vec<ByteSet>,
    set_numbers: HashMap<ByteSet, u32>,
    size: usize,
}

impl Lowering {
    fn number(value: usize) -> Result<u32, GrammarError> {
        u32::try_from(value).map_err(|_| GrammarError::TooLarge("too many rules"))
    }

    fn set(&mut self, rule: usize, alternatives: Vec<Vec<Op>>) -> Result<(), GrammarError> {
        self.size += alternatives.iter().map(|ops| ops.len() + 1).sum::<usize>();
        if self.size > MAX_OPS {
            return Err(GrammarError::TooLarge("write shorter repetitions or fewer alternatives"));
        }
        self.alternatives[rule] = alternatives;
        Ok(())
    }

    fn rule(&mut self, alternatives: Vec<Vec<Op>>) -> Result<Op, GrammarError> {
        self.alternatives.push(Vec::new());
        let rule = self.alternatives.len() - 1;
        self.set(rule, alternatives)?;
        Ok(Op::Call(Self::number(rule)?))
    }

    fn byte_set(&mut self, set: ByteSet) -> Result<Op, GrammarError> {
        let next = Self::number(self.sets.len())?;
        let number = *self.set_numbers.entry(set).or_insert(next);
        if number == next {
            self.sets.push(set);
        }
        Ok(Op::Byte(number))
    }

    fn range(&mut self, start: u8, end: u8) -> Result<Op, GrammarError> {
        let mut set = [0; 4];
        for byte in start..=end {
            set[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        self.byte_set(set)
    }

    fn alternatives_of(&mut self, expr: &Expr, depth: usize) -> Result<Vec<Vec<Op>>, GrammarError> {
        match expr {
            Expr::Choice(choices) => {
                let mut all = Vec::with_capacity(choices.len());
                for choice in choices {
                    let mut ops = Vec::new();
                    self.lower(choice, &mut ops, depth + 1)?;
                    all.push(ops);
                }
                Ok(all)
            }
            Expr::Class(ranges) => self.class(ranges),
            other => {
                let mut ops = Vec::new();
                self.lower(other, &mut ops, depth + 1)?;
                Ok(vec![ops])
            }
        }
    }

    fn lower(&mut self, expr: &Expr, ops: &mut Vec<Op>, depth: usize) -> Result<(), GrammarError> {
        if depth > MAX_DEPTH * 2 {
            return Err(GrammarError::TooLarge("nested too deeply"));
        }
        if ops.len() > MAX_OPS {
            return Err(GrammarError::TooLarge("a sequence is too long"));
        }
        match expr {
            Expr::Literal(bytes) => {
                for &byte in bytes {
                    ops.push(self.range(byte, byte)?);
                }
            }
            Expr::Rule(rule) => ops.push(Op::Call(Self::number(rule.0)?)),
            Expr::Sequence(items) => {
                for item in items {
                    self.lower(item, ops, depth + 1)?;
                }
            }
            Expr::Choice(_) | Expr::Class(_) => ops.push(self.unit(expr, depth)?),
            Expr::Repeat(inner, min, max) => self.repeat(inner, *min, *max, ops, depth)?,
        }
        Ok(())
    }

    /// One operation that stands for the whole expression.
    fn unit(&mut self, expr: &Expr, depth: usize) -> Result<Op, GrammarError> {
        let alternatives = self.alternatives_of(expr, depth)?;
        match &alternatives[..] {
            [only] if only.len() == 1 => Ok(only[0]),
            _ => self.rule(alternatives),
        }
    }

    fn repeat(
        &mut self,
        inner: &Expr,
        min: u32,
        max: Option<u32>,
        ops: &mut Vec<Op>,
        depth: usize,
    ) -> Result<(), GrammarError> {
        if max.is_some_and(|max| max < min) {
            return Err(GrammarError::TooLarge("a repetition's upper bound is below its lower one"));
        }
        let bound = min.max(max.unwrap_or(0)) as usize;
        if bound > MAX_OPS / 4 {
            return Err(GrammarError::TooLarge("write shorter repetitions"));
        }
        let unit = self.unit(inner, depth)?;
        ops.extend(std::iter::repeat_n(unit, min as usize));
        let Some(max) = max else {
            let this = Op::Call(Self::number(self.alternatives.len())?);
            ops.push(self.rule(vec![vec![unit, this], vec![]])?);
            return Ok(());
        };
        let mut rest = None;
        for _ in min..max {
            let once = std::iter::once(unit).chain(rest).collect();
            rest = Some(self.rule(vec![once, vec![]])?);
        }
        ops.extend(rest);
        Ok(())
    }

    /// A character class as UTF-8: one set for ASCII, sequences of ranges for the rest.
    fn class(&mut self, ranges: &[(char, char)]) -> Result<Vec<Vec<Op>>, GrammarError> {
        let mut ascii: ByteSet = [0; 4];
        let mut alternatives = Vec::new();
        for &(start, end) in ranges {
            for sequence in Utf8Sequences::new(start, end) {
                let bytes = sequence.as_slice();
                if let [only] = bytes {
                    for byte in only.start..=only.end {
                        ascii[usize::from(byte >> 6)] |= 1 << (byte & 63);
                    }
                    continue;
                }
                let mut ops = Vec::with_capacity(bytes.len());
                for range in bytes {
                    ops.push(self.range(range.start, range.end)?);
                }
                alternatives.push(ops);
            }
        }
        if ascii != [0; 4] {
            alternatives.push(vec![self.byte_set(ascii)?]);
        }
        Ok(alternatives)
    }

    fn finish(self, root: usize) -> Program {
        let mut ops = Vec::with_capacity(self.size);
        let number = |value: usize| u32::try_from(value).expect("bounded by MAX_OPS");
        let rules = self
            .alternatives
            .iter()
            .map(|alternatives| {
                let start = |alternative: &Vec<Op>| {
                    let start = number(ops.len());
                    ops.extend_from_slice(alternative);
                    ops.push(Op::End);
                    start
                };
                alternatives.iter().map(start).collect()
            })
            .collect();
        Program { ops, rules, sets: self.sets, root: number(root) }
    }
}

impl Program {
    /// Rules that match the empty text.
    fn nullable(&self) -> Vec<bool> {
        let mut nullable = vec![false; self.rules.len()];
        loop {
            let mut changed = false;
            for (rule, starts) in self.rules.iter().enumerate() {
                if !nullable[rule] && starts.iter().any(|&start| self.alternative_nullable(start, &nullable)) {
                    nullable[rule] = true;
                    changed = true;
                }
            }
            if !changed {
                return nullable;
            }
        }
    }

    fn alternative_nullable(&self, start: u32, nullable: &[bool]) -> bool {
        let ops = self.ops[start as usize..].iter().take_while(|op| **op != Op::End);
        ops.into_iter().all(|op| matches!(op, Op::Call(rule) if nullable[*rule as usize]))
    }

    /// A rule that can begin with itself other than as its own last step. (As its last step it is harmless: the machine
    /// keeps no return address for it.)
    fn left_recursive_rule(&self) -> Option<usize> {
        let nullable = self.nullable();
        let mut edges: Vec<Vec<(usize, bool)>> = vec![Vec::new(); self.rules.len()];
        for (rule, starts) in self.rules.iter().enumerate() {
            for &start in starts {
                let mut at = start as usize;
                while let Op::Call(called) = self.ops[at] {
                    let last = self.ops[at + 1] == Op::End;
                    edges[rule].push((called as usize, last));
                    if !nullable[called as usize] {
                        break;
                    }
                    at += 1;
                }
            }
        }
        let component = components(&edges);
        (0..edges.len())
            .find(|&rule| edges[rule].iter().any(|&(called, last)| !last && component[called] == component[rule]))
    }
}

/// Number of each node's strongly connected component (Kosaraju, without recursion).
fn components(edges: &[Vec<(usize, bool)>]) -> Vec<usize> {
    let mut reverse = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for &(to, _) in targets {
            reverse[to].push(from);
        }
    }
    let mut order = Vec::with_capacity(edges.len());
    let mut seen = vec![false; edges.len()];
    for root in 0..edges.len() {
        let mut stack = vec![(root, 0)];
        while let Some((node, next)) = stack.pop() {
            if next == 0 && std::mem::replace(&mut seen[node], true) {
                continue;
            }
            match edges[node].get(next) {
                Some(&(to, _)) => {
                    stack.push((node, next + 1));
                    if !seen[to] {
                        stack.push((to, 0));
                    }
                }
                None => order.push(node),
            }
        }
    }
    let mut component = vec![usize::MAX; edges.len()];
    for (number, &root) in order.iter().rev().enumerate() {
        let mut stack = vec![root];
        while let Some(node) = stack.pop() {
            if component[node] == usize::MAX {
                component[node] = number;
                stack.extend(&reverse[node]);
            }
        }
    }
    component
}
