// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BlockHeader} from "@openzeppelin/contracts/utils/BlockHeader.sol";
import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";
import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";
import {TrieProof} from "@openzeppelin/contracts/utils/cryptography/TrieProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Headers of Ethereum blocks, and what is proved against their state
library Headers {
    using BlockHeader for Memory.Slice[];

    /// @param extra the extra data, where it is 32 bytes; zero otherwise
    struct Header {
        bytes32 hash;
        uint64 number;
        uint64 timestamp;
        bytes32 stateRoot;
        bytes32 extra;
    }

    /// @dev Most bytes of a header: far more than any fork's.
    uint256 internal constant MAX_BYTES = 2048;
    uint256 private constant ACCOUNT_STORAGE_ROOT = 2;

    error HeaderTooLong(uint256 length);

    function decode(bytes memory encoded) internal pure returns (Header memory header) {
        if (encoded.length > MAX_BYTES) revert HeaderTooLong(encoded.length);
        Memory.Slice[] memory fields = BlockHeader.parseHeader(encoded);
        header.hash = keccak256(encoded);
        header.number = SafeCast.toUint64(fields.getNumber());
        header.timestamp = SafeCast.toUint64(fields.getTimestamp());
        header.stateRoot = fields.getStateRoot();
        bytes memory extra = fields.getExtraData();
        if (extra.length == 32) header.extra = bytes32(extra);
    }

    /// @dev What stands in a slot of a contract's storage. An empty slot has no proof.
    /// @param accountProof nodes from the state root to the account
    /// @param storageProof nodes from the account's storage root to the slot
    function storageAt(
        bytes32 stateRoot,
        address account,
        uint256 slot,
        bytes[] calldata accountProof,
        bytes[] calldata storageProof
    ) internal pure returns (bytes32) {
        bytes memory key = abi.encodePacked(keccak256(abi.encodePacked(account)));
        bytes memory found = TrieProof.traverse(stateRoot, key, accountProof);
        bytes32 storageRoot = RLP.readBytes32(RLP.decodeList(found)[ACCOUNT_STORAGE_ROOT]);
        key = abi.encodePacked(keccak256(abi.encode(slot)));
        return bytes32(RLP.decodeUint256(TrieProof.traverse(storageRoot, key, storageProof)));
    }
}
