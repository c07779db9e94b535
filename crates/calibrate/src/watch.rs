//! What passes a sampler at each token: the final hidden state, and the time that a record or a judgement takes. By these,
//! other methods are measured on the very answers that ours is measured on.
//!
//! Only measurements keep it: no node sends or stores hidden states.

use crate::study::Group;
use cortensor_proof::SeededSampler;
use cortensor_protocol::{Sampled, Step, TokenSampler};
use serde::Serialize;
use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// What was seen at the tokens of one answer, in their order. Empty where nobody watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Final normalised hidden states, in bfloat16.
    pub states: Vec<Vec<u16>>,
    /// Nanoseconds that the sampler took beyond drawing the token.
    pub nanoseconds: Vec<u64>,
}

impl Seen {
    /// Forgets what was seen after so many tokens.
    pub fn truncate(&mut self, tokens: usize) {
        self.states.truncate(tokens);
        self.nanoseconds.truncate(tokens);
    }
}

/// What a [`Watched`] sampler shares with whoever made it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    /// Takes out what was seen.
    #[must_use]
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A sampler that is watched; what it does is the same.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    /// Draws the same tokens and does nothing else: its time does not count.
    bare: Option<SeededSampler>,
    watch: Watch,
}

impl<S: TokenSampler> Watched<S> {
    /// Watches `inner`. The time of `bare` is taken off each of its steps.
    #[must_use]
    pub fn new(inner: S, bare: Option<SeededSampler>) -> (Self, Watch) {
        let watch = Watch::default();
        (Self { inner, bare, watch: watch.clone() }, watch)
    }

    /// The sampler.
    pub const fn inner(&self) -> &S {
        &self.inner
    }
}

/// `inner`, watched if `watch` says so, for an engine.
#[must_use]
pub fn watched_if<S: TokenSampler>(
    watch: bool,
    inner: S,
    bare: Option<SeededSampler>,
) -> (Box<dyn TokenSampler>, Watch) {
    if !watch {
        return (Box::new(inner), Watch::default());
    }
    let (sampler, watch) = Watched::new(inner, bare);
    (Box::new(sampler), watch)
}

impl<S: TokenSampler> TokenSampler for Watched<S> {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        let Step { index, logits, hidden, output } = step;
        let state = hidden.map(|state| state.iter().copied().map(bfloat16).collect()).unwrap_or_default();
        let clock = Instant::now();
        let sampled = self.inner.sample(Step { index, logits: &mut *logits, hidden, output });
        let whole = clock.elapsed();
        let clock = Instant::now();
        let drawn = self.bare.as_mut().map(|bare| bare.sample(Step { index, logits, hidden: None, output }));
        let drawing = drawn.map(|_| clock.elapsed()).unwrap_or_default();
        let mut seen = self.watch.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.states.push(state);
        seen.nanoseconds.push(u64::try_from(whole.saturating_sub(drawing).as_nanos()).unwrap_or(u64::MAX));
        sampled
    }

    fn wants_hidden(&self) -> bool {
        true
    }
}

/// The nearest bfloat16, of two the even one.
fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.saturating_add(0x7fff + (bits >> 16 & 1));
    u16::try_from(rounded >> 16).unwrap_or(u16::MAX)
}

/// One kind of answers, as [`write`] tells of it.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    /// Values of a hidden state.
    width: usize,
    /// Of each answer.
    tokens: Vec<usize>,
    /// Medians of a token.
    record_ns: u64,
    judge_ns: u64,
}

/// Writes what was seen into a folder: `states.json`, a list of the groups with the tokens of their answers, and
/// `states.bf16`, for each answer the states of the miner and then the guard's, numbers of two bytes with the low one first.
///
/// # Errors
/// The disk's.
pub fn write<'a>(folder: &Path, groups: impl IntoIterator<Item = &'a Group>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = io::BufWriter::new(fs::File::create(folder.join("states.bf16"))?);
    let mut all = Vec::new();
    for group in groups {
        let mut told = Told { name: &group.name, width: 0, tokens: Vec::new(), record_ns: 0, judge_ns: 0 };
        let mut times = [Vec::new(), Vec::new()];
        for [miner, guard] in group.answers.iter().map(|answer| &answer.seen) {
            // The token that ended an answer may have no place in the replay.
            let tokens = miner.states.len().min(guard.states.len());
            for (seen, times) in [miner, guard].into_iter().zip(&mut times) {
                times.extend_from_slice(&seen.nanoseconds);
                for value in seen.states[..tokens].iter().flatten() {
                    io::Write::write_all(&mut file, &value.to_le_bytes())?;
                }
            }
            told.tokens.push(tokens);
            told.width = told.width.max(miner.states.first().map_or(0, Vec::len));
        }
        [told.record_ns, told.judge_ns] = times.map(median);
        all.push(told);
    }
    io::Write::flush(&mut file)?;
    fs::write(folder.join("states.json"), serde_json::to_vec(&all)?)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Replayed;
    use cortensor_proof::evidence::Charge;
    use cortensor_protocol::{SamplingParams, sampling::Seed};

    #[test]
    fn rounds_to_the_nearest_and_of_two_to_the_even_one() {
        let check = |value: f32, expect: u16| assert_eq!(bfloat16(value), expect, "{value}");
        check(1.0, 0x3f80);
        check(-2.0, 0xc000);
        check(f32::from_bits(0x3f80_8000), 0x3f80);
        check(f32::from_bits(0x3f81_8000), 0x3f82);
        check(f32::from_bits(0x3f80_8001), 0x3f81);
        check(f32::INFINITY, 0x7f80);
    }

    #[test]
    fn a_watched_sampler_draws_and_records_the_same() {
        let sampler = || SeededSampler::recording(Seed::repeat_byte(7), SamplingParams::default(), 0);
        let ((mut bare, expect), (inner, recording)) = (sampler(), sampler());
        let (mut watched, watch) =
            Watched::new(inner, Some(SeededSampler::new(Seed::ZERO, SamplingParams::default(), 0)));
        let logits: Vec<f32> = (0..300_u16).map(|token| f32::from(token * 37 % 101) / 9.0).collect();
        let hidden: Vec<f32> = (0..64_u8).map(f32::from).collect();
        let mut output = Vec::new();
        for index in 0..5 {
            let draw = |sampler: &mut dyn TokenSampler| {
                sampler.sample(Step { index, logits: &mut logits.clone(), hidden: Some(&hidden), output: &output })
            };
            let drawn = draw(&mut bare);
            assert_eq!(draw(&mut watched), drawn);
            output.push(drawn.token);
        }
        assert_eq!(recording.take(), expect.take());
        let seen = watch.take();
        assert_eq!((seen.states.len(), seen.nanoseconds.len()), (5, 5));
        assert_eq!(seen.states[4][..3], [0, 0x3f80, 0x4000]);
    }

    #[test]
    fn writes_both_sides_of_an_answer_as_far_as_both_go() {
        let folder = tempfile::tempdir().unwrap();
        let seen = |states: &[[u16; 2]]| Seen {
            states: states.iter().map(|state| state.to_vec()).collect(),
            nanoseconds: vec![5; states.len()],
        };
        let answer = Replayed { seen: [seen(&[[1, 2], [3, 4]]), seen(&[[5, 6]])], ..Replayed::default() };
        let group = Group { name: "one".into(), charge: Charge::Sampling, weak: false, answers: vec![answer] };
        write(folder.path(), [&group]).unwrap();
        assert_eq!(fs::read(folder.path().join("states.bf16")).unwrap(), [1, 0, 2, 0, 5, 0, 6, 0]);
        let told: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("states.json")).unwrap()).unwrap();
        let expect = serde_json::json!([{ "name": "one", "width": 2, "tokens": [1], "record_ns": 5, "judge_ns": 5 }]);
        assert_eq!(told, expect);
    }
}
