//! The protocol's sampler: penalties, temperature, top-k, top-p, min-p, and the argmax with seeded Gumbel noise.
//!
//! The rule, in integers from the first step on (docs/spec/sampling.md says it with numbers to cite):
//!
//! 1. A logit is bounded to ±2,047.5 and taken with 20 fractional bits, rounded to the nearest, ties to even; NaN and −∞
//!    are masked.
//! 2. To it, in this order: each `logit_bias` of the token is added; if the token occurs in the output, it is divided (if
//!    positive) or multiplied (otherwise) by `repeat_penalty`, and `presence + count × frequency` is subtracted. Divisions
//!    truncate toward zero; the result saturates to an i32.
//! 3. d = highest logit − logit. With T = 0 the token with d = 0 and the lowest id is chosen.
//! 4. D = ⌊d · R / 2³²⌋ with R = ⌊4,096,000,000 · 2³² / T⌋ (T in millionths): the distance in nats with 32 fractional
//!    bits, after the temperature.
//! 5. Tokens are ordered by d, then by id. top-k keeps the first k. top-p keeps, of these, the shortest beginning whose
//!    weights [`exp_neg_q32`]`(D)` sum to at least p of their total. min-p keeps those with D ≤ −ln(min-p).
//! 6. Of the tokens kept, the one with the highest g − D is chosen ([`crate::gumbel`]), ties to the lowest id.
//!
//! The noise is bounded, so tokens far behind need none; which these are is decided by bounds that never change the
//! outcome. When every token is masked, token 0 is returned with the lowest log-probability.

mod judge;

pub use judge::Judged;

use crate::{
    fixed::{exp_neg_q32, ln_q64},
    gumbel::{CHUNK, Gumbel, StepKey},
    sketch::Sketcher,
    softmax::{Softmax, highest},
};
use cortensor_protocol::{
    Evidence, LogProb, Sampled, SamplingParams, Step, TokenId, TokenSampler, TraceToken,
    sampling::{Micro, Seed},
    trace::{ALTERNATIVES, Sketch},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Fractional bits of a logit.
pub const LOGIT_BITS: u32 = 20;

/// Logits beyond this count as this.
pub const LOGIT_MAX: f32 = 2_047.5;

/// A masked token.
const MASKED: i32 = i32::MIN;

/// One unit of a logit in millionths, as a fraction.
const MICRO: i64 = 1_000_000;

/// Buckets into which distances are sorted when top-p looks for its edge.
const BUCKETS: u32 = 4_096;

/// The sampler of one generation. See the module's text for the rule.
#[derive(Debug)]
pub struct SeededSampler {
    seed: Seed,
    params: SamplingParams,
    alternatives: usize,
    scale: Scale,
    occurrences: Occurrences,
    /// Logits after penalties, filled up with masked ones to whole chunks; kept between steps to save the allocation.
    logits: Vec<i32>,
    /// The highest logit of each chunk.
    chunk_maxima: Vec<i32>,
    trace: Option<Trace>,
}

/// What a recording sampler saw and chose, one record for each of its steps; shared with whoever started it.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Vec<(TraceToken, Evidence)>>>);

impl Recording {
    /// Takes the records out.
    #[must_use]
    pub fn take(&self) -> Vec<(TraceToken, Evidence)> {
        // A sampler that panicked in the middle of a step has recorded nothing of it.
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, record: (TraceToken, Evidence)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

#[derive(Debug)]
struct Trace {
    recording: Recording,
    sketcher: Sketcher,
}

impl SeededSampler {
    /// A sampler that records the trace of its choices as well.
    #[must_use]
    pub fn recording(seed: Seed, params: SamplingParams, alternatives: u8) -> (Self, Recording) {
        let recording = Recording::default();
        let trace = Trace { recording: recording.clone(), sketcher: Sketcher::new(seed) };
        (Self { trace: Some(trace), ..Self::new(seed, params, alternatives) }, recording)
    }

    /// A sampler that reports `alternatives` most probable tokens with each choice.
    #[must_use]
    pub fn new(seed: Seed, params: SamplingParams, alternatives: u8) -> Self {
        let scale = Scale::new(params.temperature);
        Self {
            seed,
            params,
            alternatives: usize::from(alternatives),
            scale,
            occurrences: Occurrences::default(),
            logits: Vec::new(),
            chunk_maxima: Vec::new(),
            trace: None,
        }
    }

    /// The seed of its noise.
    #[must_use]
    pub const fn seed(&self) -> Seed {
        self.seed
    }

    /// How it draws.
    #[must_use]
    pub const fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Steps 1 and 2. Returns the highest logit with the lowest id that has it.
    fn take(&mut self, logits: &[f32], output: &[TokenId]) -> Option<Highest> {
        let chunks = logits.len().div_ceil(CHUNK);
        self.logits.clear();
        self.logits.resize(chunks * CHUNK, MASKED);
        self.chunk_maxima.clear();
        for (chunk, fixed) in logits.chunks(CHUNK).zip(self.logits.chunks_exact_mut(CHUNK)) {
            for (logit, fixed) in chunk.iter().zip(fixed.iter_mut()) {
                *fixed = to_fixed(*logit);
            }
            self.chunk_maxima.push(maximum(fixed));
        }
        self.penalise(output);
        let logit = maximum(&self.chunk_maxima);
        let chunk = self.chunk_maxima.iter().position(|chunk| *chunk == logit && logit != MASKED)?;
        let offset = self.logits[chunk * CHUNK..].iter().position(|other| *other == logit)?;
        Some(Highest { logit, token: token(chunk * CHUNK + offset) })
    }

    fn penalise(&mut self, output: &[TokenId]) {
        let mut penalised = Penalised { logits: &mut self.logits, chunk_maxima: &mut self.chunk_maxima };
        for (token, bias) in &self.params.logit_bias {
            penalised.change(*token, |logit| logit + to_logit(i64::from(bias.0)));
        }
        let presence = i64::from(self.params.presence_penalty.0);
        let frequency = i64::from(self.params.frequency_penalty.0);
        let repeat = self.params.repeat_penalty;
        if presence == 0 && frequency == 0 && repeat == Micro::ONE {
            return;
        }
        for (token, count) in self.occurrences.update(output) {
            let micro = presence.saturating_add(frequency.saturating_mul(i64::from(*count)));
            penalised
                .change(*token, |logit| repeat_penalty(logit, i64::from(repeat.0)).saturating_sub(to_logit(micro)));
        }
    }

    /// Steps 3 to 6.
    fn choose(&self, step: u32, best: Highest) -> TokenId {
        if self.params.temperature.0 == 0 {
            return best.token;
        }
        let key = StepKey::derive(self.seed, step);
        let mut race = Race::new(key, &self.scale, best);
        let reach = self.scale.farthest((Gumbel::MAX.0 - Gumbel::MIN.0).unsigned_abs());
        let limit = reach.min(self.min_p_limit());
        let view = View { logits: &self.logits, chunk_maxima: &self.chunk_maxima, highest: best.logit };
        match self.truncated(&view, reach) {
            Some(kept) => {
                for (distance, token) in kept.into_iter().filter(|(distance, _)| *distance <= limit) {
                    race.enter(token, distance, key.bits(token));
                }
            }
            None => race.enter_all(&view, limit),
        }
        race.winner
    }

    /// The farthest distance that min-p keeps.
    fn min_p_limit(&self) -> u32 {
        match self.params.min_p.0 {
            0 => u32::MAX,
            micro if i64::from(micro) >= MICRO => self.scale.farthest(0),
            micro => {
                let nats = ln_q64(1_000_000, 0) - ln_q64(u128::from(micro), 0);
                self.scale.farthest(u64::try_from(nats >> 32).expect("-ln of a number below 1 is positive and small"))
            }
        }
    }

    /// What top-k and top-p keep, in no particular order; `None` when neither truncates.
    fn truncated(&self, view: &View<'_>, reach: u32) -> Option<Vec<Candidate>> {
        let k = self.params.top_k as usize;
        let by_k = k > 0 && k < view.logits.len();
        let by_p = self.params.top_p < Micro::ONE;
        if !by_k {
            return by_p.then(|| view.top_p(reach, self.params.top_p, &self.scale));
        }
        let mut kept = view.top_k(reach, k);
        if by_p {
            kept.sort_unstable();
            let total = kept.iter().map(|(distance, _)| self.scale.weight(*distance)).sum();
            let length = nucleus(&kept, 0, share(total, self.params.top_p), &self.scale);
            kept.truncate(length);
        }
        Some(kept)
    }
}

impl TokenSampler for SeededSampler {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        let Step { index, logits, hidden, output } = step;
        let Some(best) = self.take(logits, output) else {
            let lost = Sampled { token: 0, logprob: LogProb(i16::MIN), top: Vec::new() };
            if let Some(trace) = &self.trace {
                trace.recording.push((TraceToken { id: 0, logprob: lost.logprob }, Evidence::NONE));
            }
            return lost;
        };
        let token = self.choose(index, best);
        let softmax = Softmax::new(logits);
        let ranked = if self.trace.is_some() { self.alternatives.max(ALTERNATIVES + 1) } else { self.alternatives };
        let mut top: Vec<_> =
            highest(logits, ranked).into_iter().map(|(id, logit)| (id, softmax.logprob(logit))).collect();
        let logprob = softmax.logprob(logits[token as usize]);
        if let Some(trace) = &mut self.trace {
            let sketch = hidden.map_or(Sketch::NONE, |hidden| trace.sketcher.sketch(hidden));
            trace.recording.push((TraceToken { id: token, logprob }, evidence(token, &top, sketch)));
        }
        top.truncate(self.alternatives);
        Sampled { token, logprob, top }
    }

    fn wants_hidden(&self) -> bool {
        self.trace.is_some()
    }
}

/// The evidence part of a record: the first of the ranked tokens that are not the chosen one.
pub(crate) fn evidence(chosen: TokenId, ranked: &[(TokenId, LogProb)], sketch: Sketch) -> Evidence {
    let mut evidence = Evidence { sketch, ..Evidence::NONE };
    let others = ranked.iter().filter(|(id, _)| *id != chosen);
    for (alternative, (id, logprob)) in evidence.alternatives.iter_mut().zip(others) {
        *alternative = TraceToken { id: *id, logprob: *logprob };
    }
    evidence
}

/// Logits that are being changed one by one, with the maxima kept right.
struct Penalised<'a> {
    logits: &'a mut [i32],
    chunk_maxima: &'a mut [i32],
}

impl Penalised<'_> {
    /// Masked tokens and those outside of the vocabulary stay as they are.
    fn change(&mut self, token: TokenId, rule: impl FnOnce(i64) -> i64) {
        let position = token as usize;
        if let Some(logit) = self.logits.get_mut(position).filter(|logit| **logit != MASKED) {
            *logit = saturate(rule(i64::from(*logit)));
            let start = position / CHUNK * CHUNK;
            self.chunk_maxima[position / CHUNK] = maximum(&self.logits[start..start + CHUNK]);
        }
    }
}

/// The highest logit of a slice, [`MASKED`] when there is none.
#[inline]
fn maximum(logits: &[i32]) -> i32 {
    logits.iter().copied().fold(MASKED, i32::max)
}

/// A distance and the token that has it; orders as the truncations need it.
type Candidate = (u32, TokenId);

/// The highest logit and the lowest id that has it.
#[derive(Clone, Copy, Debug)]
struct Highest {
    logit: i32,
    token: TokenId,
}

/// How often each token occurs in the output, counted once and then carried on.
#[derive(Debug, Default)]
struct Occurrences {
    counts: HashMap<TokenId, u32>,
    counted: usize,
    last: Option<TokenId>,
}

impl Occurrences {
    fn update(&mut self, output: &[TokenId]) -> &HashMap<TokenId, u32> {
        // Another output than the one counted so far is counted afresh.
        if self.counted > output.len() || self.counted.checked_sub(1).map(|i| output[i]) != self.last {
            *self = Self::default();
        }
        for token in &output[self.counted..] {
            *self.counts.entry(*token).or_default() += 1;
        }
        self.counted = output.len();
        self.last = output.last().copied();
        &self.counts
    }
}

/// Distances between logits in nats at a temperature: step 4 of the rule.
#[derive(Clone, Copy, Debug)]
struct Scale {
    rate: u64,
}

impl Scale {
    fn new(temperature: Micro) -> Self {
        let rate = (4_096_000_000u128 << 32) / u128::from(temperature.0.max(1));
        Self { rate: u64::try_from(rate).expect("4.096e9 times 2^32 is below 2^64") }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "2^32 times 2^64, shifted by 32, is below 2^64")]
    fn nats(&self, distance: u32) -> u64 {
        ((u128::from(distance) * u128::from(self.rate)) >> 32) as u64
    }

    /// The largest distance that is at most `nats`.
    fn farthest(&self, nats: u64) -> u32 {
        let distance = (((u128::from(nats) + 1) << 32) - 1) / u128::from(self.rate.max(1));
        u32::try_from(distance).unwrap_or(u32::MAX)
    }

    #[inline]
    fn weight(&self, distance: u32) -> u64 {
        exp_neg_q32(self.nats(distance))
    }
}

/// The vocabulary of one step, as distances from the highest logit.
struct View<'a> {
    logits: &'a [i32],
    chunk_maxima: &'a [i32],
    highest: i32,
}

impl View<'_> {
    #[inline]
    fn distance(&self, logit: i32) -> u32 {
        self.highest.wrapping_sub(logit).cast_unsigned()
    }

    /// Calls `visit` for every token that is not masked and not farther than `limit`.
    fn each(&self, limit: u32, mut visit: impl FnMut(Candidate)) {
        for (chunk, maximum) in self.chunk_maxima.iter().enumerate() {
            if *maximum == MASKED || self.distance(*maximum) > limit {
                continue;
            }
            let start = chunk * CHUNK;
            for (offset, logit) in self.logits[start..start + CHUNK].iter().enumerate() {
                let distance = self.distance(*logit);
                if distance <= limit && *logit != MASKED {
                    visit((distance, token(start + offset)));
                }
            }
        }
    }

    fn collect(&self, limit: u32) -> Vec<Candidate> {
        let mut kept = Vec::new();
        self.each(limit, |candidate| kept.push(candidate));
        kept
    }

    /// The first `k` of those within reach. The k-th highest maximum of a chunk is at most the k-th highest logit, so
    /// what lies below it needs no look.
    fn top_k(&self, reach: u32, k: usize) -> Vec<Candidate> {
        let mut maxima: Vec<u32> = self.chunk_maxima.iter().map(|maximum| self.distance(*maximum)).collect();
        let limit = match maxima.get(k - 1) {
            Some(_) => *maxima.select_nth_unstable(k - 1).1,
            None => u32::MAX,
        };
        let mut kept = self.collect(limit.min(reach));
        if kept.len() > k {
            kept.select_nth_unstable(k);
            kept.truncate(k);
        }
        kept
    }

    /// The shortest beginning that weighs at least `p` of the whole.
    fn top_p(&self, reach: u32, p: Micro, scale: &Scale) -> Vec<Candidate> {
        let shift = bucket_shift(reach);
        let mut weights = vec![0u64; BUCKETS as usize];
        self.each(reach, |(distance, _)| weights[(distance >> shift) as usize] += scale.weight(distance));
        let target = share(weights.iter().sum(), p);
        let mut before = 0u64;
        let mut edge = 0;
        while edge + 1 < weights.len() && before + weights[edge] < target {
            before += weights[edge];
            edge += 1;
        }
        let mut kept = self.collect(bucket_end(edge, shift).min(reach));
        // All of the buckets before the edge are in; only the edge's own bucket must be put in order.
        let (mut inside, mut outside) = (0, kept.len());
        while inside < outside {
            if (kept[inside].0 >> shift) as usize == edge {
                outside -= 1;
                kept.swap(inside, outside);
            } else {
                inside += 1;
            }
        }
        kept[inside..].sort_unstable();
        let length = inside + nucleus(&kept[inside..], before, target, scale);
        kept.truncate(length.max(1));
        kept
    }
}

/// Distances up to `reach` fall into [`BUCKETS`] buckets when shifted so far.
fn bucket_shift(reach: u32) -> u32 {
    (u32::BITS - reach.leading_zeros()).saturating_sub(BUCKETS.ilog2())
}

/// The last distance of a bucket.
fn bucket_end(bucket: usize, shift: u32) -> u32 {
    let end = ((bucket as u64 + 1) << shift) - 1;
    u32::try_from(end).unwrap_or(u32::MAX)
}

/// What must be reached: p of the total, rounded up, at least one unit.
fn share(total: u64, p: Micro) -> u64 {
    let target = (u128::from(total) * u128::from(p.0)).div_ceil(1_000_000).max(1);
    u64::try_from(target).expect("p is below one, so the share is at most the total")
}

/// How many of the sorted candidates it takes to reach the target, beginning from `before`.
fn nucleus(sorted: &[Candidate], before: u64, target: u64, scale: &Scale) -> usize {
    let mut sum = before;
    for (position, (distance, _)) in sorted.iter().enumerate() {
        if sum >= target {
            return position;
        }
        sum += scale.weight(*distance);
    }
    sorted.len()
}

/// The argmax of g − D among the tokens that enter: step 6 of the rule.
struct Race<'a> {
    key: StepKey,
    scale: &'a Scale,
    winner: TokenId,
    score: i128,
}

impl<'a> Race<'a> {
    /// Begins with the token of the highest logit, which every truncation keeps.
    fn new(key: StepKey, scale: &'a Scale, best: Highest) -> Self {
        let score = i128::from(Gumbel::from_bits(key.bits(best.token)).0);
        Self { key, scale, winner: best.token, score }
    }

    /// What the noise of a token at this distance must reach to win or tie.
    fn needed(&self, distance: u32) -> i128 {
        self.score + i128::from(self.scale.nats(distance))
    }

    fn enter(&mut self, token: TokenId, distance: u32, bits: u32) {
        let needed = self.needed(distance);
        if i128::from(Gumbel::at_most(bits.leading_ones()).0) < needed {
            return;
        }
        let noise = i128::from(Gumbel::from_bits(bits).0);
        if noise > needed || (noise == needed && token < self.winner) {
            self.score = noise - i128::from(self.scale.nats(distance));
            self.winner = token;
        }
    }

    /// Enters every token within the limit. Random bits are drawn for whole chunks, and only those with enough leading
    /// ones to win are looked at one by one.
    fn enter_all(&mut self, view: &View<'_>, limit: u32) {
        for (chunk, maximum) in view.chunk_maxima.iter().enumerate() {
            let nearest = view.distance(*maximum);
            if *maximum == MASKED || nearest > limit {
                continue;
            }
            let Some(least) = least_bits(self.needed(nearest)) else { continue };
            let bits = self.key.bits_of_chunk(u32::try_from(chunk).expect("vocabularies are below 2^24"));
            if !bits.iter().fold(false, |any, x| any | (*x >= least)) {
                continue;
            }
            let start = chunk * CHUNK;
            for (offset, (x, logit)) in bits.iter().zip(&view.logits[start..start + CHUNK]).enumerate() {
                let distance = view.distance(*logit);
                if *x >= least && distance <= limit && *logit != MASKED {
                    self.enter(token(start + offset), distance, *x);
                }
            }
        }
    }
}

/// The lowest bits whose noise may reach `needed`, or `None` when no noise does.
fn least_bits(needed: i128) -> Option<u32> {
    (0..=32)
        .find(|ones| i128::from(Gumbel::at_most(*ones).0) >= needed)
        .map(|ones| !u32::MAX.checked_shr(ones).unwrap_or(0))
}

fn token(position: usize) -> TokenId {
    TokenId::try_from(position).expect("vocabularies are below 2^24")
}

/// Step 1 of the rule, in operations that every vector unit has: adding 1.5 · 2^23 to a small f32 rounds it to the nearest
/// even integer, which then stands in its low bits. Done twice, for the upper 20 and the lower 12 bits; nothing else
/// rounds, since the rest after the first is exact.
#[inline]
fn to_fixed(logit: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    const ROUND_BITS: i32 = ROUND.to_bits().cast_signed();
    const UPPER: f32 = 256.0;
    const LOWER: f32 = 4_096.0;
    let above = if logit > -LOGIT_MAX { logit } else { -LOGIT_MAX };
    let bounded = if above < LOGIT_MAX { above } else { LOGIT_MAX };
    let scaled = bounded * UPPER;
    let upper = scaled + ROUND;
    let lower = (scaled - (upper - ROUND)) * LOWER + ROUND;
    // Wrapping, since a check that never fails would keep the loop from being vectorised.
    let integer = |rounded: f32| rounded.to_bits().cast_signed().wrapping_sub(ROUND_BITS);
    let fixed = (integer(upper) << 12).wrapping_add(integer(lower));
    if logit > f32::NEG_INFINITY { fixed } else { MASKED }
}

/// Millionths as a logit.
fn to_logit(micro: i64) -> i64 {
    micro.saturating_mul(1 << LOGIT_BITS) / MICRO
}

fn repeat_penalty(logit: i64, micro: i64) -> i64 {
    if logit > 0 { logit * MICRO / micro.max(1) } else { logit * micro / MICRO }
}

fn saturate(logit: i64) -> i32 {
    let bounded = logit.clamp(i64::from(i32::MIN) + 1, i64::from(i32::MAX));
    i32::try_from(bounded).expect("clamped to the range")
}
