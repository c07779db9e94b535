//! A fixed generator (SplitMix64): the same seed, the same simulation.

/// What every random decision of a simulation comes from.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not zero; the bias is below one in 2³².
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(bound)) >> 32).expect("below 2^32")
    }

    /// True in so many cases of a million.
    pub(crate) fn happens(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < ppm
    }

    /// How many of `trials` happen, each with a chance of so many of 65,536.
    pub(crate) const fn count(&mut self, trials: u32, chance: u32) -> u32 {
        let (mut happened, mut left) = (0, trials);
        while left > 0 {
            let mut lanes = self.next();
            let now = if left < 4 { left } else { 4 };
            let mut lane = 0;
            while lane < now {
                happened += ((lanes & 0xffff) < chance as u64) as u32;
                lanes >>= 16;
                lane += 1;
            }
            left -= now;
        }
        happened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_what_they_should_be() {
        let mut random = Random::new(1);
        assert_eq!(random.count(1_000, 0), 0);
        assert_eq!(random.count(1_001, 65_536), 1_001);
        let counted = random.count(1_000_000, 1_966);
        assert!((29_000..31_000).contains(&counted), "{counted}");
        let happened = (0..100_000).filter(|_| random.happens(250_000)).count();
        assert!((24_000..26_000).contains(&happened), "{happened}");
        assert!((0..1_000).all(|_| random.below(3) < 3));
    }
}
