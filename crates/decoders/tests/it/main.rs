//! Replays the committed corpus of every target, and mutations of it, on the ordinary toolchain.
//!
//! `CORTENSOR_SEED=n` chooses other mutations, `CORTENSOR_WRITE_SEEDS=1` writes the seeds that are not text.

mod chain_seeds;
mod seeds;

use cortensor_decoders::{TARGETS, Target};
use std::{fs, path::PathBuf};

/// Longest mutation. What is longer than every buffer bound is tested beside the bounds.
const BYTES_MAX: usize = 16 * 1024;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// Files that libFuzzer wrote because they broke something; the others are seeds, which must be accepted.
const FOUND: &[&str] = &["crash-", "timeout-", "oom-", "slow-unit-", "leak-"];

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const COMMON: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[]:,<>-0.9\n |%(*";
        if self.below(2) == 0 { COMMON[self.below(COMMON.len())] } else { self.next().to_le_bytes()[0] }
    }

    /// A few changes to an input: bytes replaced, taken out, put in, parts repeated or taken from another input.
    fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] = self.byte(),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.insert(at, self.byte()),
                3 => {
                    let part = bytes[at..end].repeat(1 + self.below(40));
                    bytes.splice(at..at, part);
                }
                4 => {
                    let from = self.below(other.len());
                    let to = (from + self.below(64)).min(other.len());
                    bytes.splice(at..end, other[from..to].iter().copied());
                }
                _ => bytes.truncate(at.max(bytes.len() / 2)),
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

fn seed() -> u64 {
    std::env::var("CORTENSOR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn replay(target: &Target) {
    let inputs = corpus(target.name);
    assert!(!inputs.is_empty(), "{} has no seeds", target.name);
    let refused = inputs.iter().filter(|(_, input)| !(target.run)(input)).map(|(name, _)| name);
    let refused: Vec<_> = refused.filter(|name| !FOUND.iter().any(|prefix| name.starts_with(prefix))).collect();
    assert!(refused.is_empty(), "{}: seeds are refused: {refused:?}", target.name);
    let mut random = Random(seed());
    for (_, input) in &inputs {
        for _ in 0..target.mutations {
            let (_, other) = &inputs[random.below(inputs.len())];
            let mutated = random.mutate(input, other);
            let run = std::panic::catch_unwind(|| (target.run)(&mutated));
            assert!(run.is_ok(), "{}: seed {} breaks on {}", target.name, seed(), mutated.escape_ascii());
        }
    }
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(&cortensor_decoders::target(stringify!($name)).expect("the macro lists targets"));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

replayed!(
    wire signed receipt store merkle profile bodies tool_calls configuration names gguf upstream template grammar judgement
    rpc transaction consensus log block light points
);

/// Seeds that are not text are made from values of the types themselves. They must be those of the types as they are now:
/// after a change of a format, run this once with CORTENSOR_WRITE_SEEDS=1.
#[test]
fn binary_seeds_are_of_the_types_as_they_are() {
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(name);
        if std::env::var_os("CORTENSOR_WRITE_SEEDS").is_some() {
            fs::create_dir_all(folder(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{target}/{name}: run again with CORTENSOR_WRITE_SEEDS=1");
    }
}
