//! The simulator's "weights": logits from a hash of the prompt and the last tokens.

use super::vocabulary::{END, FIRST_WORD, Vocabulary};
use crate::ScoredToken;
use cortensor_protocol::{TokenId, sampling::LogProb};

/// Logit of tokens that a made-up answer does not contain.
const UNLIKELY: f32 = -20.0;

pub(super) struct Model {
    pub(super) vocabulary: Vocabulary,
    seed: u64,
    answer_tokens: u64,
}

/// Hash of a prompt under a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context(u64);

impl Model {
    pub(super) fn new(vocabulary: u32, seed: u64, answer_tokens: u32) -> Self {
        Self { vocabulary: Vocabulary::new(vocabulary), seed, answer_tokens: u64::from(answer_tokens) }
    }

    pub(super) fn context(&self, prompt: &[TokenId]) -> Context {
        Context(prompt.iter().fold(mix(self.seed), |hash, &token| mix(hash ^ u64::from(token))))
    }

    /// Fills `logits` for the token after `output`. A script leaves one token possible until it is through.
    pub(super) fn logits(
        &self,
        context: Context,
        output: &[TokenId],
        script: Option<&[TokenId]>,
        logits: &mut Vec<f32>,
    ) {
        logits.clear();
        if let Some(script) = script {
            logits.resize(self.vocabulary.len(), f32::NEG_INFINITY);
            let next = script.get(output.len()).copied().unwrap_or(END);
            logits[usize::try_from(next).expect("a token id fits")] = 0.0;
            return;
        }
        let words = usize::try_from(FIRST_WORD).expect("257");
        logits.resize(words, UNLIKELY);
        logits[usize::try_from(END).expect("0")] = self.end_logit(context, output.len());
        let hash = output.iter().rev().take(2).fold(context.0, |hash, &token| mix(hash ^ u64::from(token)));
        let hash = mix(hash ^ u64::try_from(output.len()).unwrap_or(u64::MAX));
        logits.extend((words..self.vocabulary.len()).zip(1u64..).map(|(_, at)| word_logit(mix(hash.wrapping_add(at)))));
    }

    /// Grows from impossible to certain around this prompt's answer length.
    #[expect(clippy::cast_precision_loss, reason = "a length within a few thousand tokens")]
    fn end_logit(&self, context: Context, step: usize) -> f32 {
        let length = self.answer_tokens / 2 + context.0 % (self.answer_tokens + 1);
        let past = step as f32 - length as f32;
        (past * 2.0).clamp(UNLIKELY, 40.0)
    }

    pub(super) fn score(&self, prompt: &[TokenId], output: &[TokenId], top: usize) -> Vec<ScoredToken> {
        let context = self.context(prompt);
        let mut logits = Vec::new();
        let scored = output.iter().enumerate().map(|(at, &token)| {
            self.logits(context, &output[..at], None, &mut logits);
            scored_token(&logits, token, top)
        });
        scored.collect()
    }

    /// A bag of words: texts that share words point in similar directions.
    pub(super) fn embed(&self, text: &str, length: usize) -> Vec<f32> {
        let mut vector = vec![0f32; length];
        let lower = text.to_lowercase();
        let words = lower.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
        for word in std::iter::once("\0").chain(words) {
            let mut hash = word.bytes().fold(mix(self.seed), |hash, byte| mix(hash ^ u64::from(byte)));
            for slot in &mut vector {
                hash = mix(hash);
                *slot += if hash & 1 == 0 { 1.0 } else { -1.0 };
            }
        }
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }
}

fn scored_token(logits: &[f32], token: TokenId, top: usize) -> ScoredToken {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - best).exp()).sum();
    let logprob = |logit: f32| LogProb::from_nats(logit - best - total.ln());
    let mut ranked: Vec<(TokenId, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ScoredToken {
        token,
        logprob: logprob(logits[usize::try_from(token).expect("checked against the vocabulary")]),
        top: ranked.into_iter().take(top).map(|(token, logit)| (token, logprob(logit))).collect(),
    }
}

/// 0 to 8, mostly low: a few words stand out, as in a real distribution.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit a float")]
fn word_logit(hash: u64) -> f32 {
    let unit = (hash >> 40) as f32 / 16_777_216.0;
    8.0 * unit * unit * unit
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_depend_on_prompt_output_and_seed() {
        let logits = |seed, prompt: &[u32], output: &[u32]| {
            let model = Model::new(320, seed, 10);
            let mut logits = Vec::new();
            model.logits(model.context(prompt), output, None, &mut logits);
            logits
        };
        let base = logits(0, &[300], &[301]);
        assert_eq!(base.len(), 320);
        assert_eq!(logits(0, &[300], &[301]), base);
        assert_ne!(logits(1, &[300], &[301]), base);
        assert_ne!(logits(0, &[302], &[301]), base);
        assert_ne!(logits(0, &[300], &[302]), base);
    }

    #[test]
    fn scores_are_a_distribution() {
        let model = Model::new(320, 0, 10);
        let scored = &model.score(&[300], &[310], 200)[0];
        let total: f32 = scored.top.iter().map(|(_, logprob)| logprob.nats().exp()).sum();
        assert!((0.98..1.02).contains(&total), "{total}");
        assert!(scored.top.iter().any(|&(token, logprob)| token == 310 && logprob == scored.logprob));
        assert!(scored.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }

    #[test]
    fn similar_texts_have_similar_embeddings() {
        let model = Model::new(320, 0, 10);
        let dot =
            |a: &str, b: &str| -> f32 { model.embed(a, 256).iter().zip(model.embed(b, 256)).map(|(x, y)| x * y).sum() };
        assert!((dot("a red fox", "a red fox") - 1.0).abs() < 1e-5);
        assert!(dot("a red fox", "A red dog!") > dot("a red fox", "seven green bottles") + 0.2);
    }
}
