// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title How useful a miner's answers are, beyond being computed as claimed
/// @notice Only raises or lowers what a miner earns on top of its fees; it takes nothing from anyone.
interface IQuality {
    /// @notice 1,000,000 for what is neither better nor worse than usual, and for a miner that nobody judged.
    function qualityPpm(address miner) external view returns (uint32);
}
