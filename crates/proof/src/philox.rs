//! Philox4x32-10, a counter-based generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3"
//! (SC 2011). Statistical randomness only: what keeps noise unpredictable is the keccak-derived key, not this function.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four words of random bits for one counter under one key.
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let blocks = philox4x32_blocks::<1>([[counter[0]], [counter[1]], [counter[2]], [counter[3]]], key);
    [blocks[0][0], blocks[1][0], blocks[2][0], blocks[3][0]]
}

/// The same for `N` counters at once, word by word, a form that compilers turn into vector instructions.
#[must_use]
pub fn philox4x32_blocks<const N: usize>(mut words: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..ROUNDS {
        let [mut out0, mut out1, mut out2, mut out3] = [[0u32; N]; 4];
        for lane in 0..N {
            let (high0, low0) = multiply(MULTIPLIER[0], words[0][lane]);
            let (high1, low1) = multiply(MULTIPLIER[1], words[2][lane]);
            out0[lane] = high1 ^ words[1][lane] ^ key[0];
            out1[lane] = low1;
            out2[lane] = high0 ^ words[3][lane] ^ key[1];
            out3[lane] = low0;
        }
        words = [out0, out1, out2, out3];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of a product are what is wanted")]
const fn multiply(a: u32, b: u32) -> (u32, u32) {
    let product = a as u64 * b as u64;
    ((product >> 32) as u32, product as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of Random123.
    #[test]
    fn known_answers() {
        let check = |counter, key, expect| assert_eq!(philox4x32(counter, key), expect);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn many_blocks_equal_single_ones() {
        let words = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]];
        let many = philox4x32_blocks(words, [13, 14]);
        for lane in 0..3 {
            let single = philox4x32([words[0][lane], words[1][lane], words[2][lane], words[3][lane]], [13, 14]);
            assert_eq!(single, [many[0][lane], many[1][lane], many[2][lane], many[3][lane]]);
        }
    }
}
