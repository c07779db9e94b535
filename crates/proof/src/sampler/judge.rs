//! By how much a token that somebody else chose loses here.
//!
//! The margin is the least change of single logits under which the token would have won. Without truncation that is its
//! distance from the winner's score. With top-k, top-p or min-p it must be among those kept, and each token that beats it
//! must either fall behind it or drop out: near an edge a little noise decides who is in, so a token that beats it from just
//! inside of the edge says no more than its distance from the edge.

use super::{Candidate, Highest, MASKED, Scale, SeededSampler, View, nucleus, share};
use crate::{
    fixed::ln_q64,
    gumbel::{Gumbel, StepKey},
};
use cortensor_protocol::{Step, TokenId, sampling::Micro};

/// What a replay finds about a token that somebody else chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What this sampler would have chosen.
    pub winner: TokenId,
    /// By how much the token loses, in logits (nats at temperature 1) with 10 fractional bits, rounded up; 0 for the winner
    /// itself, `u32::MAX` for a masked token. See the module's text.
    pub margin: u32,
}

impl SeededSampler {
    /// Judges the token that stands at this step. `None` when every token is masked.
    pub fn judge(&mut self, step: &Step<'_>, token: TokenId) -> Option<Judged> {
        let best = self.take(step.logits, step.output)?;
        let winner = self.choose(step.index, best);
        if winner == token {
            return Some(Judged { winner, margin: 0 });
        }
        let logit = self.logits.get(token as usize).copied().unwrap_or(MASKED);
        if logit == MASKED {
            return Some(Judged { winner, margin: u32::MAX });
        }
        let distance = best.logit.wrapping_sub(logit).cast_unsigned();
        let lost = if self.params.temperature.0 == 0 {
            distance
        } else {
            self.lost(StepKey::derive(self.seed, step.index), best, winner, (distance, token))
        };
        // At least one unit: it did lose, if only a tie.
        Some(Judged { winner, margin: (lost >> (super::LOGIT_BITS - 10)).saturating_add(1) })
    }

    /// The least change of logits that lets the token win.
    fn lost(&self, key: StepKey, best: Highest, winner: TokenId, chosen: Candidate) -> u32 {
        let score = |(distance, token): Candidate| {
            i128::from(Gumbel::from_bits(key.bits(token)).0) - i128::from(self.scale.nats(distance))
        };
        let own = score(chosen);
        let behind = |other: Candidate| {
            let ahead = u64::try_from((score(other) - own).max(0)).unwrap_or(u64::MAX);
            self.scale.farthest(ahead)
        };
        let ahead = best.logit.wrapping_sub(self.logits[winner as usize]).cast_unsigned();
        if !self.truncates() {
            return behind((ahead, winner));
        }
        let reach = self.scale.farthest((Gumbel::MAX.0 - Gumbel::MIN.0).unsigned_abs());
        let view = View { logits: &self.logits, chunk_maxima: &self.chunk_maxima, highest: best.logit };
        let mut order = view.collect(reach.max(chosen.0));
        order.sort_unstable();
        let edges = Edges::new(self, &order);
        let mut before = 0;
        let mut margin = 0;
        for (place, candidate) in order.iter().enumerate() {
            let cost = match edges.at(place, candidate.0, before) {
                Place::Outside(cost) if *candidate == chosen => cost,
                Place::Inside(cost) if *candidate != chosen && score(*candidate) >= own => behind(*candidate).min(cost),
                _ => 0,
            };
            margin = margin.max(cost);
            before += self.scale.weight(candidate.0);
        }
        margin
    }

    const fn truncates(&self) -> bool {
        self.params.top_k > 0 || self.params.top_p.0 < Micro::ONE.0 || self.params.min_p.0 > 0
    }
}

/// Where a token stands, and how far from the other side of the edge, in units of a logit.
enum Place {
    Inside(u32),
    Outside(u32),
}

/// The edges of the truncations for one step.
struct Edges<'a> {
    scale: &'a Scale,
    by_k: Option<Cut>,
    by_p: Option<(Cut, Odds)>,
    by_min_p: u32,
}

/// Where the order of tokens is cut.
struct Cut {
    /// How many are kept.
    kept: usize,
    /// Distances of the last that is kept and of the first that is not.
    last_in: u32,
    first_out: u32,
}

impl Cut {
    /// `None` where all are kept, or none.
    fn new(order: &[Candidate], kept: usize) -> Option<Self> {
        let (last_in, first_out) = (order.get(kept.checked_sub(1)?)?.0, order.get(kept)?.0);
        Some(Self { kept, last_in, first_out })
    }

    /// By how much a token alone must move to be on the other side.
    const fn at(&self, place: usize, distance: u32) -> Place {
        if place < self.kept {
            Place::Inside(self.first_out - distance)
        } else {
            Place::Outside(distance - self.last_in)
        }
    }
}

/// What top-p counts.
struct Odds {
    /// All weights.
    total: u64,
    /// ln(p / (1 − p)) with 64 fractional bits.
    edge: i128,
}

impl Odds {
    /// By how much the odds of all that comes before a token must change for it to be on the other side, in nats with 32
    /// fractional bits.
    fn nats(&self, before: u64) -> u64 {
        let odds = ln_q64(before.into(), 0) - ln_q64(self.total.saturating_sub(before).into(), 0);
        u64::try_from((odds - self.edge).unsigned_abs() >> 32).unwrap_or(u64::MAX)
    }
}

impl<'a> Edges<'a> {
    fn new(sampler: &'a SeededSampler, order: &[Candidate]) -> Self {
        let (scale, params) = (&sampler.scale, &sampler.params);
        let by_k = Cut::new(order, params.top_k as usize);
        let counted = &order[..by_k.as_ref().map_or(order.len(), |cut| cut.kept)];
        let by_p = if params.top_p < Micro::ONE {
            let total = counted.iter().map(|(distance, _)| scale.weight(*distance)).sum();
            let kept = nucleus(counted, 0, share(total, params.top_p), scale);
            let p = u128::from(params.top_p.0.max(1));
            let odds = Odds { total, edge: ln_q64(p, 0) - ln_q64(1_000_000 - p, 0) };
            Cut::new(order, kept).map(|cut| (cut, odds))
        } else {
            None
        };
        Self { scale, by_k, by_p, by_min_p: sampler.min_p_limit() }
    }

    /// Of the token at a place of the order, with the weight of those before it. It is inside if every edge has it inside,
    /// and then as far as its nearest edge; otherwise as far as the farthest.
    fn at(&self, place: usize, distance: u32, before: u64) -> Place {
        let mut places = Vec::with_capacity(3);
        places.extend(self.by_k.as_ref().map(|cut| cut.at(place, distance)));
        if let Some((cut, odds)) = &self.by_p {
            // Either it moves alone, or all others move against it.
            let others = self.scale.farthest(odds.nats(before));
            places.push(match cut.at(place, distance) {
                Place::Inside(alone) => Place::Inside(alone.min(others)),
                Place::Outside(alone) => Place::Outside(alone.min(others)),
            });
        }
        places.push(match distance.checked_sub(self.by_min_p) {
            None | Some(0) => Place::Inside(self.by_min_p - distance),
            Some(beyond) => Place::Outside(beyond),
        });
        let outside =
            places.iter().filter_map(|place| if let Place::Outside(cost) = place { Some(*cost) } else { None });
        if let Some(cost) = outside.max() {
            return Place::Outside(cost);
        }
        let inside = places.iter().map(|(Place::Inside(cost) | Place::Outside(cost))| *cost);
        Place::Inside(inside.min().unwrap_or(u32::MAX))
    }
}
