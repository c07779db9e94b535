//! The sampler's rule step by step, without any of its shortcuts: every token gets its noise, truncations sort all.

use alloy_primitives::{B256, keccak256};
use cortensor_proof::{
    fixed::{exp_neg_q32, ln_q64},
    gumbel::Gumbel,
    philox::philox4x32,
};
use cortensor_protocol::{SamplingParams, TokenId};

pub(crate) fn choose(
    params: &SamplingParams,
    seed: B256,
    step: u32,
    logits: &[f32],
    output: &[TokenId],
) -> Option<TokenId> {
    let mut tokens: Vec<(TokenId, i128)> = (0u32..)
        .zip(logits)
        .filter(|(_, logit)| !logit.is_nan() && **logit != f32::NEG_INFINITY)
        .map(|(token, logit)| (token, penalised(params, token, *logit, output)))
        .collect();
    // Best first; the sort is stable, so equals stay in the order of their ids.
    tokens.sort_by_key(|(_, logit)| -*logit);
    let highest = tokens.first()?.1;
    if params.temperature.0 == 0 {
        return Some(tokens[0].0);
    }
    let rate = (4_096_000_000i128 << 32) / i128::from(params.temperature.0);
    let mut ranked: Vec<(TokenId, i128)> =
        tokens.into_iter().map(|(token, logit)| (token, ((highest - logit) * rate) >> 32)).collect();
    if params.top_k > 0 {
        ranked.truncate(params.top_k as usize);
    }
    truncate_top_p(&mut ranked, i128::from(params.top_p.0));
    if params.min_p.0 > 0 {
        let least = params.min_p.0.min(1_000_000);
        let limit = (ln_q64(1_000_000, 0) - ln_q64(u128::from(least), 0)) >> 32;
        ranked.retain(|(_, distance)| *distance <= limit);
    }
    let score = |token: TokenId, distance: i128| i128::from(Gumbel::from_bits(bits(seed, step, token)).0) - distance;
    let scored = ranked.into_iter().map(|(token, distance)| (score(token, distance), std::cmp::Reverse(token)));
    scored.max().map(|(_, token)| token.0)
}

fn truncate_top_p(ranked: &mut Vec<(TokenId, i128)>, p: i128) {
    if p >= 1_000_000 {
        return;
    }
    let weight = |distance: i128| i128::from(exp_neg_q32(u64::try_from(distance).unwrap()));
    let total: i128 = ranked.iter().map(|(_, distance)| weight(*distance)).sum();
    let mut sum = 0;
    let mut length = 0;
    while length == 0 || sum * 1_000_000 < total * p {
        sum += weight(ranked[length].1);
        length += 1;
    }
    ranked.truncate(length);
}

fn penalised(params: &SamplingParams, token: TokenId, logit: f32, output: &[TokenId]) -> i128 {
    let bound = |value: i128| value.clamp(i128::from(i32::MIN) + 1, i128::from(i32::MAX));
    let in_units = |micro: i128| micro * (1 << 20) / 1_000_000;
    let scaled = (f64::from(logit).clamp(-2_047.5, 2_047.5) * 1_048_576.0).round_ties_even();
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let mut value = scaled as i128;
    for (_, bias) in params.logit_bias.iter().filter(|(biased, _)| *biased == token) {
        value = bound(value + in_units(i128::from(bias.0)));
    }
    let count = i128::try_from(output.iter().filter(|other| **other == token).count()).unwrap();
    if count > 0 {
        let repeat = i128::from(params.repeat_penalty.0);
        value = if value > 0 { value * 1_000_000 / repeat.max(1) } else { value * repeat / 1_000_000 };
        let micro = i128::from(params.presence_penalty.0) + i128::from(params.frequency_penalty.0) * count;
        value = bound(value - in_units(micro));
    }
    value
}

fn bits(seed: B256, step: u32, token: TokenId) -> u32 {
    let key = keccak256([seed.as_slice(), &step.to_be_bytes()].concat());
    let word = |i: usize| u32::from_be_bytes(key[4 * i..4 * i + 4].try_into().unwrap());
    philox4x32([token / 4, word(2), word(3), word(4)], [word(0), word(1)])[token as usize % 4]
}
