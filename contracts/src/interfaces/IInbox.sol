// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBlocks} from "./IBlocks.sol";
import {IOutbox} from "./IOutbox.sol";

/// @title Messages from another chain
/// @notice One storage proof makes the outbox of the other end known as of a block; with it every message that was sent by then is proved
/// by a path of hashes, and consumed once, by its target.
interface IInbox {
    /// @notice Where a message stands in a known accumulator.
    /// @param count of the accumulator
    /// @param root over its leaves
    /// @param path siblings from the message's leaf up
    struct Inclusion {
        uint32 count;
        bytes32 root;
        bytes32[] path;
    }

    event AccumulatorProven(uint64 indexed number, bytes32 accumulator, uint32 era);
    event MessageConsumed(uint32 indexed index, address indexed sender, address indexed target);

    error BlockUnknown(uint64 number, bytes32 blockHash);
    error AccumulatorUnknown(bytes32 accumulator);
    error NotIncluded(uint32 index);
    error AlreadyConsumed(uint32 index);
    error NotTarget(address target, address caller);
    error AddressInvalid();

    /// @notice Makes the outbox's accumulator known as of a final block. Anyone.
    /// @param header of the block, in RLP
    /// @param accountProof from the block's state root to the outbox, as `eth_getProof` answers
    /// @param storageProof from the outbox's storage root to slot 0
    function prove(bytes calldata header, bytes[] calldata accountProof, bytes[] calldata storageProof)
        external
        returns (bytes32 accumulator);

    /// @notice Consumes a message, once. Only its target.
    function consume(IOutbox.Message calldata message, Inclusion calldata inclusion) external;

    /// @notice Which blocks of the other chain are final.
    function blocks() external view returns (IBlocks);

    /// @notice Chain id of the other end.
    function source() external view returns (uint256);

    /// @notice The outbox at the other end.
    function outbox() external view returns (address);

    /// @notice Whether an accumulator was proven, in the running era.
    function isKnown(bytes32 accumulator) external view returns (bool);

    /// @notice Whether the message at this position was consumed.
    function isConsumed(uint32 index) external view returns (bool);
}
