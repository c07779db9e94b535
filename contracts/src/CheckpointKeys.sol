// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICheckpointKeys} from "./interfaces/ICheckpointKeys.sol";
import {Bls} from "./libraries/Bls.sol";

/// @title CheckpointKeys
/// @dev Holds no money and has no owner. Every key was in the pairing that proved its possession, so it is in the subgroup and is no
/// combination of other keys; sums are only of such keys.
contract CheckpointKeys is ICheckpointKeys, EIP712 {
    uint256 private constant MAX_VALIDATORS = 256;
    bytes32 private constant REGISTRATION_TYPEHASH = keccak256("Registration(address validator,bytes32 keyHash)");

    mapping(address validator => bytes32) private _keyHashes;
    mapping(bytes32 members => bytes32) private _sums;

    constructor() EIP712("Cortensor Checkpoint Keys", "1") {}

    /// @inheritdoc ICheckpointKeys
    function register(address validator, bytes calldata key, bytes calldata possession, bytes calldata consent)
        external
    {
        if (_keyHashes[validator] != 0) revert AlreadyRegistered(validator);
        bytes32 digest = registrationDigest(validator, keccak256(key));
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, consent);
        if (failure != ECDSA.RecoverError.NoError || signer != validator) revert ConsentInvalid(validator);
        if (!Bls.verify(key, digest, Bls.POSSESSION_TAG, possession)) revert PossessionUnproven(validator);
        _keyHashes[validator] = keccak256(key);
        emit KeyRegistered(validator, key);
    }

    /// @inheritdoc ICheckpointKeys
    function aggregate(address[] calldata validators, bytes calldata keys) external {
        if (validators.length > MAX_VALIDATORS) revert KeysMalformed();
        bytes memory sum = new bytes(Bls.KEY_BYTES);
        (uint256 keyed, uint256 used) = (0, 0);
        for (uint256 i; i < validators.length; ++i) {
            bytes32 hash = _keyHashes[validators[i]];
            if (hash == 0) continue;
            sum = Bls.add(sum, _requireKey(validators[i], hash, keys, used));
            used += Bls.KEY_BYTES;
            keyed |= 1 << i;
        }
        if (keyed == 0) revert NobodyKeyed();
        if (used != keys.length) revert KeysMalformed();
        bytes32 members = keccak256(abi.encodePacked(validators));
        _sums[members] = _record(keyed, sum);
        emit KeysAggregated(members, keyed, sum);
    }

    /// @inheritdoc ICheckpointKeys
    function requireSigned(Signed calldata signed, bytes32 digest) external view {
        bytes memory sum = signed.key;
        for (uint256 i; i < signed.absent.length; ++i) {
            address validator = signed.absent[i];
            bytes calldata key = _requireKey(validator, _keyHashes[validator], signed.absentKeys, i * Bls.KEY_BYTES);
            sum = Bls.add(sum, key);
        }
        if (_record(signed.keyed, sum) != _sums[signed.members]) revert SumMismatch(signed.members);
        if (!Bls.verify(signed.key, digest, Bls.CHECKPOINT_TAG, signed.signature)) revert SignatureInvalid();
    }

    /// @inheritdoc ICheckpointKeys
    function registrationDigest(address validator, bytes32 keyHash) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(REGISTRATION_TYPEHASH, validator, keyHash)));
    }

    /// @inheritdoc ICheckpointKeys
    function keyHashesOf(address[] calldata validators) external view returns (bytes32[] memory hashes) {
        hashes = new bytes32[](validators.length);
        for (uint256 i; i < validators.length; ++i) {
            hashes[i] = _keyHashes[validators[i]];
        }
    }

    /// @inheritdoc ICheckpointKeys
    function sumOf(bytes32 members) external view returns (bytes32) {
        return _sums[members];
    }

    /// @dev The key at an offset, if it is the validator's.
    function _requireKey(address validator, bytes32 hash, bytes calldata keys, uint256 offset)
        private
        pure
        returns (bytes calldata key)
    {
        if (keys.length < offset + Bls.KEY_BYTES) revert KeysMalformed();
        key = keys[offset:offset + Bls.KEY_BYTES];
        if (keccak256(key) != hash) revert KeyMismatch(validator);
    }

    function _record(uint256 keyed, bytes memory sum) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(keyed, sum));
    }
}
