// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What backs a node, in one word
interface IStakes {
    /// @notice Active stake of a node in wei of COR, without what is unbonding; zero for one that is not registered.
    function stakeOf(address operator) external view returns (uint128);
}
