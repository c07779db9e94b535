// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Aggregates} from "../../src/libraries/Aggregates.sol";
import {Bls} from "../../src/libraries/Bls.sol";
import {LaneWorld} from "./LaneWorld.sol";
import {vm} from "./Vm.sol";

/// @dev Validators who also have BLS keys: the test signs with the precompiles, multiplying the point of a message by a secret. Digests are
/// written out a second time.
abstract contract AggregateWorld is LaneWorld {
    uint256 internal constant ORDER = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;
    bytes internal constant GENERATOR =
        hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb80000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";
    /// @dev On the curves, but not in their subgroups.
    bytes internal constant STRAY_KEY =
        hex"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000002000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000018c6b864ae17dc9da64203ffefb966306425a7bc6aeb7c75247438372716284a4173830420cd476ba1a365b95bfcec3800000000000000000000000000000000172e93db764a8400a7d5071b6b6f5de0da2f0f4a063119abca014006b7c40a2cfe291a1924e65db0d6d0fcfbf3bf3d5c";
    bytes internal constant STRAY_SIGNATURE =
        hex"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000004000000000000000000000000000000000a989badd40d6212b33cffc3f3763e9bc760f988c9926b26da9dd85e928483446346b8ed00e1de5d5ea93e354abe706c";
    string internal constant TO_SIGN = "CORTENSOR-CHECKPOINT-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
    string internal constant TO_PROVE = "CORTENSOR-POSSESSION-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";

    // --- keys ---

    /// @dev The BLS secret of the validator with this private key.
    function secretOf(uint256 privateKey) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("bls", privateKey))) % ORDER;
    }

    function keyOf(uint256 secret) internal view returns (bytes memory) {
        return call(address(0x0e), abi.encodePacked(GENERATOR, secret % ORDER));
    }

    function signBls(uint256 secret, bytes32 digest, string memory tag) internal view returns (bytes memory) {
        return call(address(0x0c), abi.encodePacked(Bls.hashToG1(digest, bytes(tag)), secret % ORDER));
    }

    function call(address precompile, bytes memory input) internal view returns (bytes memory output) {
        bool done;
        (done, output) = precompile.staticcall(input);
        vm.assertTrue(done && output.length != 0, "the precompile answers");
    }

    function registrationOf(address validator, bytes memory key) internal view returns (bytes32) {
        bytes32 typehash = keccak256("Registration(address validator,bytes32 keyHash)");
        bytes32 structHash = keccak256(abi.encode(typehash, validator, keccak256(key)));
        return typedDigest("Cortensor Checkpoint Keys", address(checkpointKeys), block.chainid, structHash);
    }

    function register(uint256 privateKey) internal {
        uint256 secret = secretOf(privateKey);
        bytes memory key = keyOf(secret);
        bytes32 digest = registrationOf(vm.addr(privateKey), key);
        bytes memory possession = signBls(secret, digest, TO_PROVE);
        checkpointKeys.register(vm.addr(privateKey), key, possession, signDigest(privateKey, digest));
    }

    /// @dev Registers the validators of consecutive private keys whose bit in the set's order is set, and adds their keys up.
    function keySet(uint256 firstKey, uint256 count, uint256 keyed) internal {
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(firstKey, count);
        for (uint256 i; i < count; ++i) {
            if ((keyed >> i) & 1 != 0) register(privateKeys[i]);
        }
        checkpointKeys.aggregate(validators_, keysOf(privateKeys, keyed));
    }

    function keysOf(uint256[] memory privateKeys, uint256 which) internal view returns (bytes memory keys) {
        for (uint256 i; i < privateKeys.length; ++i) {
            if ((which >> i) & 1 != 0) keys = bytes.concat(keys, keyOf(secretOf(privateKeys[i])));
        }
    }

    // --- checkpoints ---

    function checkpointOf(uint256 chain, address where, uint256 upper, uint64 number, bytes32 hash, bytes32 set)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash = keccak256("Checkpoint(uint256 chainId,uint64 height,bytes32 blockHash,bytes32 setHash)");
        bytes32 structHash = keccak256(abi.encode(typehash, chain, uint256(number), hash, set));
        return typedDigest("Cortensor Checkpoints", where, upper, structHash);
    }

    /// @dev What the validators of `firstKey` sign for the contract of this world.
    function digestOf(bytes memory header, uint64 number, uint256 firstKey, uint256 count)
        internal
        view
        returns (bytes32)
    {
        bytes32 set = setHash(firstKey, count);
        return checkpointOf(block.chainid, address(checkpoints), block.chainid, number, keccak256(header), set);
    }

    /// @dev All of `count` consecutive validators are keyed; those whose bit is set sign `digest`.
    function aggregateOver(bytes32 digest, uint256 firstKey, uint256 count, uint256 signers)
        internal
        view
        returns (Aggregates.Aggregate memory aggregate)
    {
        uint256[] memory privateKeys;
        (aggregate.validators, aggregate.powers) = equalSet(firstKey, count);
        (, privateKeys) = sortedKeys(firstKey, count);
        (aggregate.keyed, aggregate.signers) = ((1 << count) - 1, signers);
        uint256 secret;
        for (uint256 i; i < count; ++i) {
            if ((signers >> i) & 1 != 0) secret = addmod(secret, secretOf(privateKeys[i]), ORDER);
        }
        aggregate.key = keyOf(secret);
        aggregate.absentKeys = keysOf(privateKeys, aggregate.keyed & ~signers);
        aggregate.signature = signBls(secret, digest, TO_SIGN);
    }

    function aggregateFor(bytes memory header, uint64 number, uint256 firstKey, uint256 count, uint256 signers)
        internal
        view
        returns (Aggregates.Aggregate memory)
    {
        return aggregateOver(digestOf(header, number, firstKey, count), firstKey, count, signers);
    }
}
