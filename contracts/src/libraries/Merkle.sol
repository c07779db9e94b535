// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Merkle trees of the protocol: leaves and nodes under different prefixes, an odd node moves up unchanged
library Merkle {
    /// @dev Hash of a leaf's bytes.
    function leaf(bytes memory content) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0), content));
    }

    /// @dev Hash of a leaf that is itself a hash.
    function leaf(bytes32 content) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0), content));
    }

    /// @dev Hash of an inner node.
    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(uint8(1)), left, right));
    }

    /// @dev Whether `hash` stands at `index` of the `count` hashes of one level under `root`. At most 32 levels.
    function verify(bytes32 root, bytes32 hash, uint32 index, uint32 count, bytes32[] calldata path)
        internal
        pure
        returns (bool)
    {
        if (index >= count) return false;
        uint256 used = 0;
        (uint256 place, uint256 width) = (index, count);
        while (width > 1) {
            if (place ^ 1 < width) {
                if (used == path.length) return false;
                bytes32 sibling = path[used++];
                hash = place & 1 == 0 ? node(hash, sibling) : node(sibling, hash);
            }
            place >>= 1;
            width = (width + 1) >> 1;
        }
        return used == path.length && hash == root;
    }
}
