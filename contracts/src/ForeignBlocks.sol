// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IForeignBlocks} from "./interfaces/IForeignBlocks.sol";
import {IValidators} from "./interfaces/IValidators.sol";
import {Votes} from "./libraries/Votes.sol";
import {ValidatorSets} from "./libraries/ValidatorSets.sol";

/// @title ForeignBlocks
/// @dev Holds no money and has no owner. What is known is final: there is one era.
contract ForeignBlocks is IForeignBlocks {
    uint32 public constant era = 0;
    uint256 public constant MAX_SIGNATURES = 200;

    /// @notice Who may attest.
    IValidators public immutable validators;
    /// @inheritdoc IForeignBlocks
    uint256 public immutable foreignChainId;

    /// @inheritdoc IForeignBlocks
    uint64 public latest;
    mapping(uint64 number => bytes32) public blockHashOf;
    /// @inheritdoc IForeignBlocks
    mapping(uint64 epoch => mapping(uint64 number => mapping(bytes32 blockHash => uint256))) public powerFor;
    /// @inheritdoc IForeignBlocks
    mapping(uint64 epoch => mapping(uint64 number => mapping(address key => bool))) public hasAttested;

    constructor(IValidators validators_, uint256 foreignChainId_) {
        if (address(validators_) == address(0)) revert ZeroAddress();
        if (foreignChainId_ == 0) revert ChainInvalid();
        validators = validators_;
        foreignChainId = foreignChainId_;
    }

    /// @inheritdoc IForeignBlocks
    function attest(uint64 number, bytes32 blockHash, uint256[] calldata indexes, bytes[] calldata signatures)
        external
    {
        if (blockHashOf[number] != bytes32(0)) revert AlreadyKnown(number);
        if (blockHash == bytes32(0)) revert BlockInvalid();
        if (indexes.length != signatures.length) revert LengthsDiffer(indexes.length, signatures.length);
        if (signatures.length > MAX_SIGNATURES) revert TooMany(signatures.length);
        uint64 epoch = validators.currentEpoch();
        uint256 power = powerFor[epoch][number][blockHash];
        bytes32 digest = Votes.foreignDigest(foreignChainId, number, blockHash, block.chainid);
        for (uint256 i; i < signatures.length; ++i) {
            power += _count(epoch, number, blockHash, indexes[i], digest, signatures[i]);
        }
        powerFor[epoch][number][blockHash] = power;
        if (power * 3 > uint256(ValidatorSets.TOTAL) * 2) _accept(number, blockHash);
    }

    /// @return power what this signature adds
    function _count(
        uint64 epoch,
        uint64 number,
        bytes32 blockHash,
        uint256 index,
        bytes32 digest,
        bytes calldata signature
    ) private returns (uint256 power) {
        address key;
        (key, power) = validators.memberOf(epoch, index);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != key) revert SignerInvalid(index);
        if (hasAttested[epoch][number][key]) return 0;
        hasAttested[epoch][number][key] = true;
        emit Attested(number, blockHash, key, epoch);
    }

    function _accept(uint64 number, bytes32 blockHash) private {
        blockHashOf[number] = blockHash;
        if (number > latest) latest = number;
        emit BlockKnown(number, blockHash);
    }
}
