// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Messages to another chain
/// @notice Appends messages to a Merkle accumulator whose commitment stands in one word of storage, so that one storage proof at the other
/// end covers all messages there ever were.
interface IOutbox {
    /// @notice A message, as it is proved at the other end.
    /// @param index its position, from 0
    /// @param sender who sent it here
    /// @param target the contract that may consume it there
    struct Message {
        uint32 index;
        address sender;
        address target;
        bytes data;
    }

    event MessageSent(uint32 indexed index, address indexed sender, address indexed target, bytes data);

    error DataTooLong(uint256 length);
    error Full();
    error ChainInvalid();

    /// @notice Appends a message. Anyone; at most 1,024 bytes.
    function send(address target, bytes calldata data) external returns (uint32 index);

    /// @notice Chain id of the other end.
    function destination() external view returns (uint256);

    /// @notice How many messages there are.
    function count() external view returns (uint32);

    /// @notice What slot 0 holds: zero while there is no message, else the hash of the count and the root over all leaves.
    function accumulator() external view returns (bytes32);

    /// @notice The leaf of a message of this outbox.
    function leafOf(Message calldata message) external view returns (bytes32);
}
