//! Follows an output through a grammar and says which tokens may come next.
//!
//! A pushdown automaton, made deterministic as it goes: a state is a set of stacks, stacks share their tails, and every
//! transition (state, byte) is computed once. A mask is one walk over the vocabulary's trie with dead subtrees skipped, and
//! is kept for its state. All work is counted against a budget.

use super::{
    GrammarError,
    expr::{Op, Program, contains},
};
use crate::vocabulary::Vocabulary;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// No parent: the end of the output.
const BOTTOM: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX;
const DEAD: u32 = u32::MAX - 1;
/// Most stacks of one state.
const MAX_STACKS: usize = 4096;
/// Most steps of one mask or one accepted token: below half a second.
const BUDGET: usize = 10_000_000;
/// When the tables hold more numbers than this, they are built anew from the current state.
const MAX_TABLE: usize = 8 << 20;

/// A place in the grammar with its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Frame {
    op: u32,
    parent: u32,
}

/// The tokens that may come next: one bit each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    bits: Vec<u64>,
    any: bool,
}

impl Mask {
    /// Whether `token` is allowed.
    pub(crate) fn allows(&self, token: u32) -> bool {
        self.bits.get(token as usize / 64).is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    /// Whether any token is allowed.
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// Sets the logits of all other tokens to −∞.
    pub(crate) fn apply(&self, logits: &mut [f32]) {
        for (chunk, &word) in logits.chunks_mut(64).zip(&self.bits) {
            if word == u64::MAX {
                continue;
            }
            for (bit, logit) in chunk.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

#[derive(Debug)]
struct State {
    stacks: Arc<[u32]>,
    accepting: bool,
    mask: Option<Arc<Mask>>,
}

/// A grammar being followed through one output.
#[derive(Debug)]
pub(crate) struct Matcher {
    program: Arc<Program>,
    /// Class of each byte: bytes that no set of the grammar tells apart share one.
    classes: [u8; 256],
    class_count: usize,
    frames: Vec<Frame>,
    frame_numbers: HashMap<Frame, u32>,
    states: Vec<State>,
    state_numbers: HashMap<(Arc<[u32]>, bool), u32>,
    transitions: Vec<u32>,
    mask_words: usize,
    current: u32,
    budget: usize,
}

impl Matcher {
    /// At the beginning of an output.
    pub(super) fn new(program: Program) -> Result<Self, GrammarError> {
        let (classes, class_count) = byte_classes(&program);
        let mut matcher = Self {
            program: Arc::new(program),
            classes,
            class_count,
            frames: Vec::new(),
            frame_numbers: HashMap::new(),
            states: Vec::new(),
            state_numbers: HashMap::new(),
            transitions: Vec::new(),
            mask_words: 0,
            current: 0,
            budget: BUDGET,
        };
        let mut closure = Closure::default();
        for start in matcher.program.rules[matcher.program.root as usize].clone() {
            closure.todo.push(Frame { op: start, parent: BOTTOM });
        }
        matcher.current = matcher.close(closure)?;
        // A grammar such as `root ::= root` has no output at all.
        if matcher.current == DEAD { Err(GrammarError::DeadEnd) } else { Ok(matcher) }
    }

    /// Whether the output may end here.
    pub(crate) fn may_end(&self) -> bool {
        self.states[self.current as usize].accepting
    }

    /// Follows the bytes of a token. An error means that the grammar does not allow them; the position is then as before.
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> Result<(), GrammarError> {
        self.budget = BUDGET;
        let mut state = self.current;
        for &byte in bytes {
            state = self.step(state, byte)?;
            if state == DEAD {
                return Err(GrammarError::DeadEnd);
            }
        }
        self.current = state;
        self.limit_tables()
    }

    /// The tokens that may come next.
    pub(crate) fn mask(&mut self, vocabulary: &Vocabulary) -> Result<Arc<Mask>, GrammarError> {
        if let Some(mask) = &self.states[self.current as usize].mask {
            return Ok(Arc::clone(mask));
        }
        self.budget = BUDGET;
        let mut bits = vec![0_u64; vocabulary.len().div_ceil(64)];
        let mut any = false;
        let mut allow = |token: u32| {
            bits[token as usize / 64] |= 1 << (token % 64);
            any = true;
        };
        if self.may_end() {
            let count = u32::try_from(vocabulary.len()).unwrap_or(u32::MAX);
            (0..count).filter(|&token| vocabulary.ends_generation(token)).for_each(&mut allow);
        }
        let trie = vocabulary.trie();
        let mut path = vec![self.current];
        let mut at = 0;
        while let Some(node) = trie.nodes.get(at) {
            path.truncate(node.depth as usize + 1);
            let state = self.step(path[node.depth as usize], node.byte)?;
            if state == DEAD {
                at = node.next as usize;
                continue;
            }
            trie.tokens[node.tokens.0 as usize..node.tokens.1 as usize].iter().copied().for_each(&mut allow);
            path.push(state);
            at += 1;
        }
        let mask = Arc::new(Mask { bits, any });
        self.mask_words += mask.bits.len();
        self.states[self.current as usize].mask = Some(Arc::clone(&mask));
        Ok(mask)
    }

    fn spend(&mut self, steps: usize) -> Result<(), GrammarError> {
        self.budget = self.budget.checked_sub(steps).ok_or(GrammarError::TooAmbiguous)?;
        Ok(())
    }

    /// The state after a byte, which may be [`DEAD`]; `state` may not.
    fn step(&mut self, state: u32, byte: u8) -> Result<u32, GrammarError> {
        let slot = state as usize * self.class_count + usize::from(self.classes[usize::from(byte)]);
        if self.transitions[slot] != UNKNOWN {
            return Ok(self.transitions[slot]);
        }
        let stacks = Arc::clone(&self.states[state as usize].stacks);
        self.spend(stacks.len() + 1)?;
        let mut closure = Closure::default();
        for &stack in stacks.iter() {
            let frame = self.frames[stack as usize];
            if let Op::Byte(set) = self.program.ops[frame.op as usize]
                && contains(&self.program.sets[set as usize], byte)
            {
                closure.todo.push(Frame { op: frame.op + 1, parent: frame.parent });
            }
        }
        let next = self.close(closure)?;
        self.transitions[slot] = next;
        Ok(next)
    }

    /// Follows calls and returns until every stack stands before a byte.
    fn close(&mut self, mut closure: Closure) -> Result<u32, GrammarError> {
        let program = Arc::clone(&self.program);
        while let Some(frame) = closure.todo.pop() {
            if !closure.seen.insert(frame) {
                continue;
            }
            self.spend(1)?;
            match program.ops[frame.op as usize] {
                Op::Byte(_) => {
                    let number = self.frame(frame)?;
                    closure.stacks.push(number);
                }
                Op::End if frame.parent == BOTTOM => closure.accepting = true,
                Op::End => closure.todo.push(self.frames[frame.parent as usize]),
                Op::Call(rule) => {
                    let last = program.ops[frame.op as usize + 1] == Op::End;
                    let back = Frame { op: frame.op + 1, parent: frame.parent };
                    let parent = if last { frame.parent } else { self.frame(back)? };
                    let starts = &program.rules[rule as usize];
                    closure.todo.extend(starts.iter().map(|&op| Frame { op, parent }));
                }
            }
        }
        self.state(closure)
    }

    fn frame(&mut self, frame: Frame) -> Result<u32, GrammarError> {
        let next =
            u32::try_from(self.frames.len()).ok().filter(|&next| next < DEAD).ok_or(GrammarError::TooAmbiguous)?;
        let number = *self.frame_numbers.entry(frame).or_insert(next);
        if number == next {
            self.frames.push(frame);
        }
        Ok(number)
    }

    fn state(&mut self, mut closure: Closure) -> Result<u32, GrammarError> {
        if closure.stacks.is_empty() && !closure.accepting {
            return Ok(DEAD);
        }
        closure.stacks.sort_unstable();
        if closure.stacks.len() > MAX_STACKS {
            return Err(GrammarError::TooAmbiguous);
        }
        let key = (Arc::from(closure.stacks), closure.accepting);
        if let Some(&number) = self.state_numbers.get(&key) {
            return Ok(number);
        }
        let number = u32::try_from(self.states.len()).map_err(|_| GrammarError::TooAmbiguous)?;
        self.spend(self.class_count)?;
        self.states.push(State { stacks: Arc::clone(&key.0), accepting: key.1, mask: None });
        self.transitions.resize(self.transitions.len() + self.class_count, UNKNOWN);
        self.state_numbers.insert(key, number);
        Ok(number)
    }

    /// Forgets all tables but the current state when they have grown large.
    fn limit_tables(&mut self) -> Result<(), GrammarError> {
        if self.transitions.len() + self.mask_words * 2 + self.frames.len() * 6 <= MAX_TABLE {
            return Ok(());
        }
        let current = &self.states[self.current as usize];
        let (stacks, accepting) = (Arc::clone(&current.stacks), current.accepting);
        let frames = std::mem::take(&mut self.frames);
        self.frame_numbers.clear();
        self.states.clear();
        self.state_numbers.clear();
        self.transitions.clear();
        self.mask_words = 0;
        let mut closure = Closure { accepting, ..Closure::default() };
        for &stack in stacks.iter() {
            let number = self.rebuild(&frames, stack)?;
            closure.stacks.push(number);
        }
        self.current = self.state(closure)?;
        Ok(())
    }

    /// Takes a stack over from old tables, from its bottom up.
    fn rebuild(&mut self, frames: &[Frame], top: u32) -> Result<u32, GrammarError> {
        let mut chain = Vec::new();
        let mut at = top;
        while at != BOTTOM {
            chain.push(frames[at as usize].op);
            at = frames[at as usize].parent;
        }
        let mut parent = BOTTOM;
        for op in chain.into_iter().rev() {
            parent = self.frame(Frame { op, parent })?;
        }
        Ok(parent)
    }
}

#[derive(Default)]
struct Closure {
    todo: Vec<Frame>,
    seen: HashSet<Frame>,
    stacks: Vec<u32>,
    accepting: bool,
}

fn byte_classes(program: &Program) -> ([u8; 256], usize) {
    let mut classes = [0_u8; 256];
    let mut count = 1_usize;
    for set in &program.sets {
        let mut split: HashMap<(u8, bool), u8> = HashMap::new();
        let mut next = 0_usize;
        let mut refined = [0_u8; 256];
        for byte in 0..=255_u8 {
            let key = (classes[usize::from(byte)], contains(set, byte));
            refined[usize::from(byte)] = *split.entry(key).or_insert_with(|| {
                let class = u8::try_from(next).expect("at most 256 classes of 256 bytes");
                next += 1;
                class
            });
        }
        classes = refined;
        count = next;
        if count == 256 {
            break;
        }
    }
    (classes, count)
}
