// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The seeded noise by which tokens are drawn (docs/spec/sampling.md, S6 and S7.1)
/// @notice What the sampler of the miners computes, to the last bit, so that a contract can tell which of a few candidates wins
/// a step. Every statement that it follows is named beside it.
library SeededSampling {
    /// @dev ln 2 with 64 fractional bits, rounded down.
    int256 private constant LN_2 = 0xB17217F7D1CF79AB;
    /// @dev The square root of 2 with 63 fractional bits, rounded down.
    uint256 private constant SQRT_2 = 0xB504F333F9DE6484;
    uint256 private constant ONE = 1 << 64;
    /// @dev The last term of the series of S7.1.
    uint256 private constant LAST_TERM = 12;

    /// @notice The key of a step (S6.1).
    function stepKey(bytes32 seed, uint32 step) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(seed, step));
    }

    /// @notice The 32 random bits of a token under a step's key (S6.2).
    function bits(bytes32 key, uint32 token) internal pure returns (uint32) {
        unchecked {
            uint256 words = uint256(key);
            uint256 k0 = words >> 224;
            uint256 k1 = (words >> 192) & 0xffffffff;
            uint256 c0 = token >> 2;
            uint256 c1 = (words >> 160) & 0xffffffff;
            uint256 c2 = (words >> 128) & 0xffffffff;
            uint256 c3 = (words >> 96) & 0xffffffff;
            // Philox4x32-10 (Salmon et al., 2011).
            for (uint256 round = 0; round < 10; ++round) {
                uint256 first = 0xD2511F53 * c0;
                uint256 second = 0xCD9E8D57 * c2;
                c0 = (second >> 32) ^ c1 ^ k0;
                c1 = second & 0xffffffff;
                c2 = (first >> 32) ^ c3 ^ k1;
                c3 = first & 0xffffffff;
                k0 = (k0 + 0x9E3779B9) & 0xffffffff;
                k1 = (k1 + 0xBB67AE85) & 0xffffffff;
            }
            uint256 lane = token & 3;
            uint256 low = lane & 1 == 0 ? c0 : c1;
            uint256 high = lane & 1 == 0 ? c2 : c3;
            // forge-lint: disable-next-line(unsafe-typecast)
            return uint32(lane < 2 ? low : high);
        }
    }

    /// @notice The noise of 32 random bits, in nats with 32 fractional bits (S6.3): above -3.13 and below 22.88.
    function gumbel(uint32 x) internal pure returns (int64) {
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast)
            return int64(-ln(uint256(exponential(x)), 64) >> 32);
        }
    }

    /// @notice -ln((2x + 1) / 2^33) with 64 fractional bits (S6.3); always positive.
    function exponential(uint32 x) internal pure returns (uint128) {
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast)
            return uint128(uint256(-ln(2 * uint256(x) + 1, 33)));
        }
    }

    /// @notice ln(n / 2^scale) with 64 fractional bits, for 1 <= n < 2^128 (S7.1).
    function ln(uint256 n, uint256 scale) internal pure returns (int256) {
        unchecked {
            uint256 highest = log2(n);
            uint256 mantissa = highest > 63 ? n >> (highest - 63) : n << (63 - highest);
            // forge-lint: disable-next-line(unsafe-typecast)
            int256 exponent = int256(highest) - int256(scale);
            if (mantissa > SQRT_2) ++exponent;
            else mantissa <<= 1;
            bool above = mantissa >= ONE;
            uint256 z = ((above ? mantissa - ONE : ONE - mantissa) << 64) / (mantissa + ONE);
            uint256 square = (z * z) >> 64;
            uint256 sum = 0;
            for (uint256 k = LAST_TERM + 1; k > 0; --k) {
                sum = ONE / (2 * k - 1) + ((sum * square) >> 64);
            }
            // forge-lint: disable-next-line(unsafe-typecast)
            int256 magnitude = int256(2 * ((z * sum) >> 64));
            return exponent * LN_2 + (above ? magnitude : -magnitude);
        }
    }

    /// @dev The number of the highest bit that is set, for 1 <= n < 2^128.
    function log2(uint256 n) private pure returns (uint256 highest) {
        unchecked {
            for (uint256 width = 64; width > 0; width >>= 1) {
                if (n >> width != 0) {
                    n >>= width;
                    highest += width;
                }
            }
        }
    }
}
