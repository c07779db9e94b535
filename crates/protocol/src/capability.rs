//! Capability of one node with one model, as integers, and the classes that follow from it.
//!
//! The numbers are what a client gets, measured from outside; the class names the machine that usually gives such
//! numbers with a model of 7 to 8 billion parameters at four bits. A small model lifts a laptop above its class, and that
//! is meant: what counts is how fast answers come.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Measured numbers. Zero means that it was tried and did not work; `None` that it does not apply, such as tools with a
/// model that was not trained to call any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Capability {
    /// Prompt tokens a second, one request alone.
    pub prefill_tokens_per_second: u32,
    /// Output tokens a second, one request alone.
    pub decode_tokens_per_second: u32,
    /// Output tokens a second of all requests together, at the best number of requests at once.
    pub total_decode_tokens_per_second: u32,
    /// That number of requests.
    pub concurrency: u32,
    /// Longest context that worked, in LLM tokens.
    pub context_tokens: u32,
    /// Share of tool calls that were well formed, in millionths.
    pub tools_ppm: Option<u32>,
    /// Share of answers that kept to the demanded JSON Schema, in millionths.
    pub schema_ppm: Option<u32>,
    /// Share of opened traces with nothing in them that convicts the node, in millionths.
    pub trace_ppm: Option<u32>,
}

/// How many numbers a [`Capability`] has.
pub const NUMBERS: usize = 8;
/// Stands for "does not apply" on chain.
pub const NOT_APPLICABLE: u32 = u32::MAX;

impl Capability {
    /// What the numbers are called, in the order of [`Self::numbers`].
    pub const NAMES: [&'static str; NUMBERS] =
        ["prefill", "decode", "total decode", "concurrency", "context", "tools", "schema", "trace"];

    /// The numbers in the order of the contract.
    #[must_use]
    pub fn numbers(&self) -> [u32; NUMBERS] {
        let optional = |value: Option<u32>| value.unwrap_or(NOT_APPLICABLE);
        [
            self.prefill_tokens_per_second,
            self.decode_tokens_per_second,
            self.total_decode_tokens_per_second,
            self.concurrency,
            self.context_tokens,
            optional(self.tools_ppm),
            optional(self.schema_ppm),
            optional(self.trace_ppm),
        ]
    }

    /// From the numbers in the order of the contract.
    #[must_use]
    pub fn from_numbers(numbers: [u32; NUMBERS]) -> Self {
        let [prefill, decode, total, concurrency, context, tools, schema, trace] = numbers;
        let optional = |value: u32| (value != NOT_APPLICABLE).then_some(value);
        Self {
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            total_decode_tokens_per_second: total,
            concurrency,
            context_tokens: context,
            tools_ppm: optional(tools),
            schema_ppm: optional(schema),
            trace_ppm: optional(trace),
        }
    }

    /// The highest class all of whose thresholds it reaches.
    #[must_use]
    pub fn class(&self) -> Class {
        let reached = |t: &&Threshold| {
            self.prefill_tokens_per_second >= t.prefill
                && self.decode_tokens_per_second >= t.decode
                && self.total_decode_tokens_per_second >= t.total_decode
        };
        THRESHOLDS.iter().rev().find(reached).map_or(Class::Small, |threshold| threshold.class)
    }
}

/// How able a node is with a model, from the slowest machines upward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Below a laptop: usable for short answers only.
    Small,
    /// A laptop's CPU.
    LaptopCpu,
    /// A desktop's or server's CPU.
    ServerCpu,
    /// A small GPU, or a chip with unified memory.
    SmallGpu,
    /// One large GPU for home use.
    HomeGpu,
    /// One data-centre GPU.
    DatacentreGpu,
    /// A host with several of them.
    GpuHost,
}

/// What a class needs, all of it, in tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The class.
    pub class: Class,
    /// Prompt tokens a second, one request alone.
    pub prefill: u32,
    /// Output tokens a second, one request alone.
    pub decode: u32,
    /// Output tokens a second of all requests together.
    pub total_decode: u32,
}

/// The one table of classes, lowest first. [`Class::Small`] is what reaches none of them.
pub const THRESHOLDS: [Threshold; 6] = [
    Threshold { class: Class::LaptopCpu, prefill: 20, decode: 4, total_decode: 8 },
    Threshold { class: Class::ServerCpu, prefill: 80, decode: 10, total_decode: 30 },
    Threshold { class: Class::SmallGpu, prefill: 400, decode: 25, total_decode: 80 },
    Threshold { class: Class::HomeGpu, prefill: 2_000, decode: 60, total_decode: 400 },
    Threshold { class: Class::DatacentreGpu, prefill: 6_000, decode: 80, total_decode: 1_500 },
    Threshold { class: Class::GpuHost, prefill: 15_000, decode: 100, total_decode: 8_000 },
];

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::LaptopCpu => "laptop CPU",
            Self::ServerCpu => "server CPU",
            Self::SmallGpu => "small GPU",
            Self::HomeGpu => "home GPU",
            Self::DatacentreGpu => "data-centre GPU",
            Self::GpuHost => "GPU host",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(prefill: u32, decode: u32, total: u32) -> Capability {
        Capability {
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            total_decode_tokens_per_second: total,
            ..Capability::default()
        }
    }

    #[test]
    fn a_class_needs_all_of_its_numbers() {
        assert_eq!(capability(0, 0, 0).class(), Class::Small);
        for threshold in THRESHOLDS {
            let Threshold { class, prefill, decode, total_decode } = threshold;
            assert_eq!(capability(prefill, decode, total_decode).class(), class);
            for short in [(prefill - 1, decode, total_decode), (prefill, decode - 1, total_decode)] {
                assert!(capability(short.0, short.1, short.2).class() < class);
            }
            assert!(capability(prefill, decode, total_decode - 1).class() < class);
        }
    }

    #[test]
    fn the_table_rises() {
        for pair in THRESHOLDS.windows(2) {
            let [low, high] = pair else { unreachable!("windows of two") };
            assert!(low.class < high.class && low.prefill < high.prefill);
            assert!(low.decode < high.decode && low.total_decode < high.total_decode);
        }
    }

    #[test]
    fn numbers_go_to_the_chain_and_back() {
        let some =
            Capability { tools_ppm: Some(0), schema_ppm: None, trace_ppm: Some(1_000_000), ..capability(1, 2, 3) };
        assert_eq!(Capability::from_numbers(some.numbers()), some);
    }
}
