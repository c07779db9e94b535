// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBlocks} from "./IBlocks.sol";

/// @title Blocks of a chain that has no certificates, as this chain's validators see them
/// @notice Each validator signs the hash of a block that its own node of the other chain holds for final; validators with more than two
/// thirds of the power of one set make it known here. Nobody is trusted more than with this chain's own blocks.
interface IForeignBlocks is IBlocks {
    /// @notice A validator's signature was counted.
    event Attested(uint64 indexed number, bytes32 indexed blockHash, address indexed key, uint64 epoch);
    /// @notice A block is final: more than two thirds say so.
    event BlockKnown(uint64 indexed number, bytes32 blockHash);

    error AlreadyKnown(uint64 number);
    error BlockInvalid();
    error LengthsDiffer(uint256 indexes, uint256 signatures);
    error TooMany(uint256 signatures);
    error SignerInvalid(uint256 index);
    error ChainInvalid();
    error ZeroAddress();

    /// @notice Counts signatures of members of the running epoch's set; those who were counted for this number in this epoch are passed over.
    /// Anyone may submit them.
    /// @param indexes places of the signers in the set
    /// @param signatures of EIP-712 `ForeignBlock(uint256 chainId,uint64 number,bytes32 blockHash)` in the domain of votes
    function attest(uint64 number, bytes32 blockHash, uint256[] calldata indexes, bytes[] calldata signatures) external;

    /// @notice The chain whose blocks these are.
    function foreignChainId() external view returns (uint256);

    /// @notice The highest block known.
    function latest() external view returns (uint64);

    /// @notice Power that was counted for a block in an epoch.
    function powerFor(uint64 epoch, uint64 number, bytes32 blockHash) external view returns (uint256);

    /// @notice Whether a validator was counted for a number in an epoch.
    function hasAttested(uint64 epoch, uint64 number, address key) external view returns (bool);
}
