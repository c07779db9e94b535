//! Every decoder of outside bytes, each as a function that takes any bytes and must neither panic nor hang.
//!
//! [`TARGETS`] names them. The fuzzer (`make fuzz TARGET=…`) and the ordinary test of this crate, which replays the committed
//! corpus and mutations of it, call the same functions. A function returns whether the bytes were accepted, so
//! that the test can tell that its corpus reaches the inside; where something was accepted it also checks what must hold
//! then, such as that it encodes to itself. Nothing of this crate is part of the product.

#![forbid(unsafe_code)]

mod chain;
mod consensus;
mod engine;
mod messages;
mod text;

/// A decoder under attack.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// Takes bytes; says whether they were accepted.
    pub run: fn(&[u8]) -> bool,
    /// How many mutations of each seed the ordinary test tries.
    pub mutations: u32,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", run: messages::wire, mutations: 1_600 },
    Target { name: "signed", run: messages::signed, mutations: 800 },
    Target { name: "receipt", run: messages::receipt, mutations: 800 },
    Target { name: "store", run: messages::store, mutations: 4_000 },
    Target { name: "merkle", run: messages::merkle, mutations: 4_000 },
    Target { name: "profile", run: messages::profile, mutations: 4_000 },
    Target { name: "bodies", run: text::bodies, mutations: 1_600 },
    Target { name: "tool_calls", run: text::tool_calls, mutations: 4_000 },
    Target { name: "configuration", run: text::configuration, mutations: 2_000 },
    Target { name: "names", run: text::names, mutations: 4_000 },
    Target { name: "gguf", run: engine::gguf, mutations: 8_000 },
    Target { name: "upstream", run: engine::upstream, mutations: 2_000 },
    Target { name: "template", run: engine::template, mutations: 800 },
    Target { name: "grammar", run: engine::grammar, mutations: 400 },
    Target { name: "judgement", run: engine::judgement, mutations: 2_000 },
    Target { name: "rpc", run: chain::rpc, mutations: 200 },
    Target { name: "transaction", run: chain::transaction, mutations: 2_000 },
    Target { name: "consensus", run: consensus::message, mutations: 2_000 },
    Target { name: "log", run: consensus::log, mutations: 2_000 },
    Target { name: "block", run: consensus::block, mutations: 1_000 },
    Target { name: "light", run: consensus::light, mutations: 100 },
    Target { name: "points", run: consensus::points, mutations: 1_000 },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// The first byte, which chooses among several decoders of one kind, and the rest.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, &[]), |(first, rest)| (*first, rest))
}

/// The parts of an input that holds several texts, separated by zero bytes; always `N`, empty where there are fewer.
fn texts<const N: usize>(bytes: &[u8]) -> [String; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())
}
