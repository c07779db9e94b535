// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title BLS signatures over BLS12-381, with the precompiles of EIP-2537 (docs/spec/settlement.md, section 4.7)
/// @notice Keys are in G2 and signatures in G1, encoded as the precompiles take them: 64 bytes for each coordinate's part, 256 and 128 bytes
/// in all. A chain without the precompiles answers nothing to these calls, which is refused like a wrong answer.
/// @dev The precompiles refuse coordinates that are not reduced and points off the curve. Only the pairing also refuses points outside the
/// subgroup: what is added must have been in a pairing, or its sum must be compared with one that was.
library Bls {
    uint256 internal constant SIGNATURE_BYTES = 128;
    uint256 internal constant KEY_BYTES = 256;

    /// @dev What tells signatures of checkpoints from those that prove possession (RFC 9380, section 3.1).
    string internal constant CHECKPOINT_TAG = "CORTENSOR-CHECKPOINT-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    string internal constant POSSESSION_TAG = "CORTENSOR-POSSESSION-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";

    address private constant MODEXP = address(0x05);
    address private constant G1_ADD = address(0x0b);
    address private constant G2_ADD = address(0x0d);
    address private constant PAIRING = address(0x0f);
    address private constant MAP_TO_G1 = address(0x10);

    bytes private constant MODULUS =
        hex"000000000000000000000000000000001a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";
    bytes private constant NEGATED_G2_GENERATOR = hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"0000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"000000000000000000000000000000000d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa"
        hex"0000000000000000000000000000000013fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";
    bytes32 private constant INFINITE_KEY_HASH = keccak256(new bytes(KEY_BYTES));

    /// @dev The precompile refused, or is not there.
    error PrecompileFailed(address precompile);
    error PointMalformed();
    error KeyInfinite();

    /// @dev Whether `signature` is the key's over the digest. Refuses what is in no subgroup, and the key at infinity, for which anybody signs.
    function verify(bytes memory key, bytes32 digest, string memory tag, bytes memory signature)
        internal
        view
        returns (bool)
    {
        if (key.length != KEY_BYTES || signature.length != SIGNATURE_BYTES) revert PointMalformed();
        if (keccak256(key) == INFINITE_KEY_HASH) revert KeyInfinite();
        bytes memory pairs = bytes.concat(signature, NEGATED_G2_GENERATOR, hashToG1(digest, bytes(tag)), key);
        return uint256(bytes32(_call(PAIRING, pairs, 32))) == 1;
    }

    /// @dev The sum of two keys. On the curve is all that it requires.
    function add(bytes memory left, bytes memory right) internal view returns (bytes memory) {
        if (left.length != KEY_BYTES || right.length != KEY_BYTES) revert PointMalformed();
        return _call(G2_ADD, bytes.concat(left, right), KEY_BYTES);
    }

    /// @dev hash_to_curve of RFC 9380 with the suite BLS12381G1_XMD:SHA-256_SSWU_RO_. The precompile maps and clears the cofactor.
    function hashToG1(bytes32 digest, bytes memory tag) internal view returns (bytes memory) {
        bytes memory tail = abi.encodePacked(tag, uint8(tag.length));
        bytes32 zeroth = sha256(abi.encodePacked(bytes32(0), bytes32(0), digest, uint16(128), uint8(0), tail));
        bytes32 first = sha256(abi.encodePacked(zeroth, uint8(1), tail));
        bytes32 second = sha256(abi.encodePacked(zeroth ^ first, uint8(2), tail));
        bytes32 third = sha256(abi.encodePacked(zeroth ^ second, uint8(3), tail));
        bytes32 fourth = sha256(abi.encodePacked(zeroth ^ third, uint8(4), tail));
        return _call(G1_ADD, bytes.concat(_map(first, second), _map(third, fourth)), SIGNATURE_BYTES);
    }

    /// @dev The point that a number of 512 bits, reduced, is mapped to.
    function _map(bytes32 high, bytes32 low) private view returns (bytes memory) {
        bytes memory power = abi.encodePacked(uint256(64), uint256(1), uint256(64), high, low, uint8(1), MODULUS);
        return _call(MAP_TO_G1, _call(MODEXP, power, 64), SIGNATURE_BYTES);
    }

    function _call(address precompile, bytes memory input, uint256 length) private view returns (bytes memory output) {
        bool done;
        (done, output) = precompile.staticcall(input);
        if (!done || output.length != length) revert PrecompileFailed(precompile);
    }
}
