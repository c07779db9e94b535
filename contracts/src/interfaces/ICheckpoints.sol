// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Aggregates} from "../libraries/Aggregates.sol";
import {Certificates} from "../libraries/Certificates.sol";
import {IBlocks} from "./IBlocks.sol";
import {ICheckpointKeys} from "./ICheckpointKeys.sol";

/// @title Blocks of a chain of validators, followed from another chain
/// @notice Each epoch's set is known by its hash from the last header of the epoch before. A set certifies blocks of its own epoch and of no
/// other, for as long as its members' stake cannot have left. Anybody submits; nobody is trusted but more than two thirds of the
/// power of each set.
interface ICheckpoints is IBlocks {
    /// @notice The set that is trusted with an epoch.
    /// @param setHash zero where none is known yet
    /// @param since time of the block that named it, in seconds since 1970, and not later than when it was seen
    struct Trust {
        bytes32 setHash;
        uint64 since;
    }

    event CheckpointAccepted(uint64 indexed height, bytes32 blockHash, bytes32 stateRoot, uint64 timestamp);
    /// @notice The set of an epoch became known.
    event EpochTrusted(uint64 indexed epoch, bytes32 setHash);
    /// @notice More than a third of a set's power signed two blocks of one height: nothing counts until governance names a block.
    event ForkProven(uint64 indexed height, bytes32 first, bytes32 second, uint32 era);
    /// @notice Governance named a block to go on from.
    event Anchored(uint64 indexed height, bytes32 blockHash, uint32 era);

    error NotNewer(uint64 height, uint64 latest);
    error EpochUntrusted(uint64 epoch);
    error TrustExpired(uint64 epoch, uint256 until);
    error SetMismatch(bytes32 given, bytes32 trusted);
    error NextSetInvalid(uint64 height);
    error BlockAhead(uint64 timestamp);
    error NoFork();
    error StillTrusted();
    error ParametersOutOfBounds();

    /// @notice Accepts a block that its epoch's set decided.
    /// @param header in RLP
    function submit(bytes calldata header, Certificates.Certificate calldata certificate) external;

    /// @notice Accepts a block that its epoch's set decided, with one signature for all who say so. Cheaper for large sets.
    /// @param header in RLP
    function submitAggregated(bytes calldata header, Aggregates.Aggregate calldata aggregate) external;

    /// @notice Takes two decided blocks of one height as proof that the chain has forked. All that was accepted stops counting.
    function reportFork(
        bytes calldata first,
        Certificates.Certificate calldata firstCertificate,
        bytes calldata second,
        Certificates.Certificate calldata secondCertificate
    ) external;

    /// @notice The same, where both have one signature for all.
    function reportAggregatedFork(
        bytes calldata first,
        Aggregates.Aggregate calldata firstAggregate,
        bytes calldata second,
        Aggregates.Aggregate calldata secondAggregate
    ) external;

    /// @notice The same, where the second has one signature for all.
    function reportMixedFork(
        bytes calldata first,
        Certificates.Certificate calldata firstCertificate,
        bytes calldata second,
        Aggregates.Aggregate calldata secondAggregate
    ) external;

    /// @notice Names a block to go on from, after a fork or when trust has expired. Only governance.
    function anchor(bytes calldata header) external;

    /// @notice The chain that is followed.
    function chainId() external view returns (uint256);

    /// @notice Who knows the validators' keys for aggregated signatures; zero where only certificates count.
    function keys() external view returns (ICheckpointKeys);

    /// @notice What validators sign for this contract with those keys.
    /// @param setHash of the set that decided the block
    function checkpointDigest(uint64 height, bytes32 blockHash, bytes32 setHash) external view returns (bytes32);

    /// @notice Blocks in an epoch of that chain; block 0 begins epoch 0.
    function epochLength() external view returns (uint32);

    /// @notice Seconds for which a set is trusted from the block that named it on: less than stake takes to leave.
    function trustPeriod() external view returns (uint64);

    /// @notice The highest block accepted, and its time.
    function latest() external view returns (uint64 height, uint64 timestamp);

    /// @notice The set trusted with an epoch.
    function trustOf(uint64 epoch) external view returns (Trust memory);
}
