//! Mixtures that never take closeness for a cheat.

use crate::evidence::BINS;

/// The nearest mixture whose ratio to `bound` never falls from a bin to the next: where it would, neighbours share what they
/// have together. Sums to no more. An honest machine that is closer to its guard than those of the calibration (the same
/// kernels, nobody beside it) then never weighs more than they do, and cheats simulated on a closer machine than the honest
/// answers came from do not make closeness suspicious.
pub(crate) fn rising(mixture: &[u32; BINS], bound: &[u32; BINS]) -> [u32; BINS] {
    // Runs of bins that share: what they have, what their bounds are together, how many they are.
    let mut runs: Vec<(u64, u64, usize)> = Vec::with_capacity(BINS);
    for (have, bound) in mixture.iter().zip(bound) {
        let mut run = (u64::from(*have), u64::from(*bound), 1);
        while let Some((have, bound, bins)) = runs.pop_if(|last| falls(last, &run)) {
            run = (run.0 + have, run.1 + bound, run.2 + bins);
        }
        runs.push(run);
    }
    let all = runs.iter().flat_map(|run| std::iter::repeat_n(run, run.2));
    let mut shared = [0; BINS];
    for ((share, bound), (have, bounds, _)) in shared.iter_mut().zip(bound).zip(all) {
        let part = u128::from(*have) * u128::from(*bound) / u128::from((*bounds).max(1));
        *share =
            u32::try_from(part).expect("the bound is at most all of the bounds, and all that there is at most ONE");
    }
    shared
}

/// Whether the ratio falls from a run to the next.
fn falls(run: &(u64, u64, usize), next: &(u64, u64, usize)) -> bool {
    u128::from(run.0) * u128::from(next.1) > u128::from(next.0) * u128::from(run.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ONE;

    fn all(bins: &[u32; BINS]) -> u64 {
        bins.iter().copied().map(u64::from).sum()
    }

    #[test]
    fn closeness_is_never_suspicious() {
        // The cheat's machine is closer than the honest ones were, and shows in the last bins alone.
        let honest = [1_000, 2_000, 4_000, 8_000, 4_000, 2_000, 500, 100, 20, 9, 9, 9, 9, 9, 9, 9];
        let cheat = [9_000, 2_000, 500, 100, 20, 1, 1, 1, 1, 1, 1, 1, 40, 1, 90, 300];
        let [bound, cheat] = [honest, cheat].map(|counts| counts.map(|count| count * 100_000));
        let shared = rising(&cheat, &bound);
        let ratio = |bin: usize| u64::from(shared[bin]) * 1_000_000 / u64::from(bound[bin]);
        // Parts are rounded down.
        assert!((1..BINS).all(|bin| ratio(bin - 1) <= ratio(bin) + 2), "{shared:?}");
        assert!(ratio(0) < 1_000_000, "{shared:?}");
        assert_eq!(shared[12..], [2_050_000, 2_050_000, 9_000_000, 30_000_000]);
        assert!(all(&shared) <= all(&cheat));
        assert!(all(&shared) + BINS as u64 >= all(&cheat));
    }

    #[test]
    fn what_rises_already_stays() {
        let bound = std::array::from_fn(|bin| 1_000_000 >> bin);
        let mixture = std::array::from_fn(|bin| 1_000 * (u32::try_from(bin).unwrap() + 1));
        assert_eq!(rising(&mixture, &bound), mixture);
    }

    #[test]
    fn what_falls_all_along_is_shared_by_all() {
        let bound = [1_000_000; BINS];
        let falling = std::array::from_fn(|bin| 2_000 - 100 * u32::try_from(bin).unwrap());
        assert_eq!(rising(&falling, &bound), [1_250; BINS]);
        assert!(u64::from(ONE) >= all(&rising(&[ONE / 16; BINS], &bound)));
    }
}
