//! Power of two choices: two are drawn from the best few, and the better one is taken.
//!
//! Always taking the best makes every router pick the same worker between two heartbeats; drawing one at random ignores
//! what is known. Two draws keep the longest queue at O(log log n) (Mitzenmacher, 2001).

/// Draws two different positions below `count` and returns the smaller one, candidates being sorted best first. The
/// lower half of `random` draws the first, the upper half the second.
#[must_use]
pub fn draw(count: usize, random: u64) -> usize {
    if count < 2 {
        return 0;
    }
    let first = position(random & 0xffff_ffff, count);
    let second = position(random >> 32, count - 1);
    let second = if second >= first { second + 1 } else { second };
    first.min(second)
}

/// Maps 32 random bits to `0..count` (Lemire's multiplication; the bias is below count / 2³²).
fn position(bits: u64, count: usize) -> usize {
    let scaled = (u128::from(bits) * count as u128) >> 32;
    usize::try_from(scaled).expect("below count, which is a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_candidates_always_give_the_better_one() {
        for random in [0, 1, u64::MAX, 0xffff_ffff, 1 << 63] {
            assert_eq!(draw(2, random), 0);
            assert_eq!(draw(1, random), 0);
            assert_eq!(draw(0, random), 0);
        }
    }

    #[test]
    fn the_worst_is_never_drawn_and_the_others_are() {
        let mut seen = [0u32; 4];
        for step in 0..4_096u64 {
            seen[draw(4, step.wrapping_mul(0x9e37_79b9_7f4a_7c15))] += 1;
        }
        assert!(seen[0] > seen[1] && seen[1] > seen[2] && seen[2] > 0, "{seen:?}");
        assert_eq!(seen[3], 0);
    }
}
