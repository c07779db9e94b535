// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Splitting amounts by basis points without creating or losing a wei
library Shares {
    uint256 internal constant ONE = 10_000;

    /// @dev `amount * bps / 10,000`, rounded down. `amount` is below 2^128, so the product cannot overflow.
    function part(uint128 amount, uint256 bps) internal pure returns (uint128) {
        // The result is at most `amount` for every share of at most one, which the callers' caps guarantee.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint128(uint256(amount) * bps / ONE);
    }

    /// @dev The largest part of `stake` that leaves room for a penalty of `penaltyBps` on top of itself.
    function coverable(uint128 stake, uint256 penaltyBps) internal pure returns (uint128) {
        // The divisor is at least the multiplier, so the result is at most `stake`.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint128(uint256(stake) * ONE / (ONE + penaltyBps));
    }
}
