// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title BLS keys of validators, and their sums
/// @notice Only hashes are kept: whoever needs a key brings it. A validator's address has one key for ever, so that a sum stays what it is; who
/// loses its key signs with its other one, as before, or validates under a new address.
interface ICheckpointKeys {
    /// @notice One signature of many.
    /// @param members hash of the addresses of the whole set
    /// @param keyed bit i is set when the key of validator i is in the sum
    /// @param absent those whose key is in the sum and who did not sign
    /// @param absentKeys theirs, 256 bytes each
    /// @param key the sum of the signers' keys
    struct Signed {
        bytes32 members;
        uint256 keyed;
        address[] absent;
        bytes absentKeys;
        bytes key;
        bytes signature;
    }

    /// @notice A validator's key became known. Here it is found by those who have to bring it.
    event KeyRegistered(address indexed validator, bytes key);
    /// @notice The keys of these validators were added up.
    /// @param members hash of the validators' addresses
    /// @param keyed bit i is set when the key of validator i is in the sum
    event KeysAggregated(bytes32 indexed members, uint256 keyed, bytes key);

    error AlreadyRegistered(address validator);
    /// @notice The validator did not agree to this key.
    error ConsentInvalid(address validator);
    /// @notice Whoever chose the key does not have its secret.
    error PossessionUnproven(address validator);
    /// @notice Not the key that this validator has.
    error KeyMismatch(address validator);
    error KeysMalformed();
    /// @notice None of these validators has a key.
    error NobodyKeyed();
    /// @notice What signers and absent ones add up to is not the sum that is known for these validators.
    error SumMismatch(bytes32 members);
    error SignatureInvalid();

    /// @notice Registers a validator's key, once. Anybody may pay for it.
    /// @param key 256 bytes, in G2 (EIP-2537)
    /// @param possession the key's own signature over the registration's digest
    /// @param consent the validator's signature (r, s, v) over the same digest
    function register(address validator, bytes calldata key, bytes calldata possession, bytes calldata consent) external;

    /// @notice Adds the keys of a set's validators up, those that have one. Powers do not matter: once for each list of addresses, and again
    /// when more of them have a key. Anybody may pay for it.
    /// @param validators in the order of their set
    /// @param keys of those that have one, in that order, 256 bytes each
    function aggregate(address[] calldata validators, bytes calldata keys) external;

    /// @notice Refuses unless these validators signed a checkpoint together.
    function requireSigned(Signed calldata signed, bytes32 digest) external view;

    /// @notice What a validator and its new key sign.
    function registrationDigest(address validator, bytes32 keyHash) external view returns (bytes32);

    /// @notice The hashes of these validators' keys; zero where there is none.
    function keyHashesOf(address[] calldata validators) external view returns (bytes32[] memory);

    /// @notice What is known about the keys of a set: the hash of which of them are in the sum, and of the sum; zero where there is none.
    function sumOf(bytes32 members) external view returns (bytes32);
}
