// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The price rule of vouchers
library Pricing {
    /// @dev Prices are wei per this many LLM tokens.
    uint256 internal constant TOKENS_PER_PRICE = 1_000_000;

    /// @dev Whether `amount` is within the prices for the tokens, allowing one wei a token for rounding: each request may
    /// be rounded up to a whole wei and has at least one token. No term can overflow: 2^64 * 2^128 + 2^64 * 2^128 + 2^65 * 2^20.
    function allows(
        uint128 amount,
        uint64 inputTokens,
        uint64 outputTokens,
        uint128 maxInputPrice,
        uint128 maxOutputPrice
    ) internal pure returns (bool) {
        unchecked {
            uint256 most = uint256(inputTokens) * maxInputPrice + uint256(outputTokens) * maxOutputPrice
                + (uint256(inputTokens) + outputTokens) * TOKENS_PER_PRICE;
            return uint256(amount) * TOKENS_PER_PRICE <= most;
        }
    }
}
