//! Samplers that bend the logits before an honest sampler draws and records: the miner's records then agree with each
//! other and with the tokens, as if the model had had these logits.

use cortensor_proof::SeededSampler;
use cortensor_protocol::{Sampled, SamplingParams, Step, TokenId, TokenSampler, sampling::Seed};

/// What is done to the logits of a step.
pub trait Bend: Send + 'static {
    /// Changes the logits of a step.
    fn bend(&mut self, step: &mut Step<'_>);
}

/// An honest sampler over bent logits.
pub struct Bent<B> {
    inner: Box<dyn TokenSampler>,
    bend: B,
}

impl<B: Bend> Bent<B> {
    /// `inner` draws and records after `bend`.
    #[must_use]
    pub fn new(inner: Box<dyn TokenSampler>, bend: B) -> Self {
        Self { inner, bend }
    }
}

impl<B: Bend> TokenSampler for Bent<B> {
    fn sample(&mut self, mut step: Step<'_>) -> Sampled {
        self.bend.bend(&mut step);
        self.inner.sample(step)
    }

    fn wants_hidden(&self) -> bool {
        self.inner.wants_hidden()
    }
}

/// Multiplies the logits: what a temperature of 1/factor times the asked one does.
#[derive(Clone, Copy, Debug)]
pub struct Scale(pub f32);

impl Bend for Scale {
    fn bend(&mut self, step: &mut Step<'_>) {
        step.logits.iter_mut().for_each(|logit| *logit *= self.0);
    }
}

/// Masks what is outside of the most probable tokens that make up `share` of the distribution.
#[derive(Clone, Copy, Debug)]
pub struct Nucleus {
    /// Part of the distribution that is kept.
    pub share: f32,
    /// Of the distribution whose parts are counted; 0 keeps the best alone.
    pub temperature: f32,
}

impl Bend for Nucleus {
    fn bend(&mut self, step: &mut Step<'_>) {
        let highest = step.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = self.temperature.max(1e-3);
        let mut weights: Vec<(f32, f32)> =
            step.logits.iter().map(|logit| (*logit, ((logit - highest) / temperature).exp())).collect();
        weights.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let edge = weights.iter().find(|(_, weight)| {
            sum += weight;
            sum >= self.share * total
        });
        if let Some((edge, _)) = edge {
            step.logits.iter_mut().filter(|logit| **logit < *edge).for_each(|logit| *logit = f32::NEG_INFINITY);
        }
    }
}

/// Masks the tokens that end an answer, wherever there are others.
#[derive(Clone, Debug)]
pub struct Endless(pub Vec<TokenId>);

impl Bend for Endless {
    fn bend(&mut self, step: &mut Step<'_>) {
        let masked = |logit: &f32| *logit == f32::NEG_INFINITY;
        let open = step
            .logits
            .iter()
            .enumerate()
            .filter(|(token, logit)| !masked(logit) && !self.0.iter().any(|end| *end as usize == *token));
        if open.count() == 0 {
            return;
        }
        for end in &self.0 {
            if let Some(logit) = step.logits.get_mut(*end as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// How [`Forced`] chooses.
pub enum Choice {
    /// These tokens, then the honest ones. From the first token of the task on.
    List(Vec<TokenId>),
    /// What another sampler draws: one of another seed, temperature or truncation.
    Drawn(Box<SeededSampler>),
    /// The most probable token wherever it loses by at most this, in 1/1024 of a logit: what accepting a draft too easily
    /// comes to.
    Lenient(u32),
    /// This token from this step on.
    From(u32, TokenId),
    /// This token at every so many-th step.
    Every(u32, TokenId),
}

/// Puts tokens of another choice into an answer, and raises the logit of each by as little as lets it win under the task's
/// noise: the strongest form of that cheat, since all records look drawn.
pub struct Forced {
    /// A sampler of the task's own seed.
    twin: SeededSampler,
    choice: Choice,
}

impl Forced {
    /// Puts the choice's tokens in.
    #[must_use]
    pub fn new(seed: Seed, params: SamplingParams, choice: Choice) -> Self {
        Self { twin: SeededSampler::new(seed, params, 0), choice }
    }

    fn choose(&mut self, step: &mut Step<'_>) -> Option<TokenId> {
        let index = step.index;
        match &mut self.choice {
            Choice::List(tokens) => tokens.get(index as usize).copied(),
            Choice::Drawn(other) => Some(other.sample(again(step)).token),
            Choice::Lenient(most) => {
                let best = best(step.logits)?;
                self.twin.judge(&again(step), best).filter(|judged| judged.margin <= *most).map(|_| best)
            }
            Choice::From(first, token) => (index >= *first).then_some(*token),
            Choice::Every(steps, token) => index.is_multiple_of((*steps).max(1)).then_some(*token),
        }
    }
}

/// The same step once more.
fn again<'a>(step: &'a mut Step<'_>) -> Step<'a> {
    Step { index: step.index, logits: step.logits, hidden: None, output: step.output }
}

/// The twin rounds margins up, and truncations may let a raised token lose once more.
const ATTEMPTS: u32 = 24;

impl Bend for Forced {
    fn bend(&mut self, step: &mut Step<'_>) {
        let Some(token) = self.choose(step) else { return };
        for attempt in 0..ATTEMPTS {
            let margin = self.twin.judge(&again(step), token).map_or(0, |judged| judged.margin);
            let Some(logit) = step.logits.get_mut(token as usize) else { return };
            match margin {
                // Masked by a grammar: the engine would refuse it.
                0 | u32::MAX => return,
                #[expect(clippy::cast_precision_loss, reason = "margins are far below 2^24")]
                margin => *logit += (margin + (1 << attempt.min(10))) as f32 / 1024.0,
            }
        }
    }
}

/// The most probable token, of several the first.
fn best(logits: &[f32]) -> Option<TokenId> {
    let best = logits.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    u32::try_from(best.0).ok()
}
