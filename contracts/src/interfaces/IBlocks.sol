// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Blocks of another chain that this one holds for final
interface IBlocks {
    /// @notice The hash of the other chain's block of this number; zero where it is not known.
    function blockHashOf(uint64 number) external view returns (bytes32);

    /// @notice Grows when what was held for final proved wrong: nothing derived from an earlier era counts any more.
    function era() external view returns (uint32);
}
