// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CheckpointKeys} from "../src/CheckpointKeys.sol";
import {Checkpoints} from "../src/Checkpoints.sol";
import {ICheckpointKeys} from "../src/interfaces/ICheckpointKeys.sol";
import {IOutbox} from "../src/interfaces/IOutbox.sol";
import {Aggregates} from "../src/libraries/Aggregates.sol";
import {Bls} from "../src/libraries/Bls.sol";
import {Certificates} from "../src/libraries/Certificates.sol";
import {Merkle} from "../src/libraries/Merkle.sol";
import {Outgoing} from "../src/libraries/Outgoing.sol";
import {ValidatorSets} from "../src/libraries/ValidatorSets.sol";
import {Votes} from "../src/libraries/Votes.sol";
import {vm} from "./support/Vm.sol";

/// @dev `artifacts/checkpoint-keys.json`, which crates/contracts writes and is held to as well: what a library makes of the same keys.
/// forge-config: default.evm_version = "prague"
/// forge-config: ci.evm_version = "prague"
contract CheckpointKeysVectorsTest {
    string private json;

    function setUp() public {
        json = vm.readFile("artifacts/checkpoint-keys.json");
        vm.chainId(vm.parseJsonUint(json, ".place.chainId"));
        // The contracts stand where the vectors say.
        vm.etch(place(), address(new VectorsPlace()).code);
    }

    function test_checkpoint() public view {
        bytes32 digest = VectorsPlace(place())
            .digest(
                vm.parseJsonUint(json, ".chainId"),
                uint64(vm.parseJsonUint(json, ".height")),
                vm.parseJsonBytes32(json, ".blockHash"),
                vm.parseJsonBytes32(json, ".setHash")
            );
        vm.assertEq(digest, vm.parseJsonBytes32(json, ".checkpointDigest"), "digest");
        bytes memory key = vm.parseJsonBytes(json, ".key");
        bytes memory signature = vm.parseJsonBytes(json, ".signature");
        vm.assertTrue(Bls.verify(key, digest, Bls.CHECKPOINT_TAG, signature), "signature");
        vm.assertFalse(Bls.verify(key, digest, Bls.POSSESSION_TAG, signature), "another tag");
    }

    function test_sums() public view {
        bytes32 members = keccak256(abi.encodePacked(vm.parseJsonAddressArray(json, ".validators")));
        vm.assertEq(members, vm.parseJsonBytes32(json, ".members"), "members");
        // 1011: the third is absent.
        vm.assertEq(vm.parseJsonUint(json, ".signers"), 11, "signers");
        bytes memory sum = Bls.add(Bls.add(keyAt(".keys[0]"), keyAt(".keys[1]")), keyAt(".keys[3]"));
        vm.assertEq(sum, vm.parseJsonBytes(json, ".key"), "sum");
        vm.assertEq(keyAt(".keys[2]"), vm.parseJsonBytes(json, ".absentKeys"), "absent");
    }

    function test_registration() public view {
        bytes32 digest = vm.parseJsonBytes32(json, ".registration.digest");
        address validator = vm.parseJsonAddressArray(json, ".validators")[0];
        vm.assertEq(VectorsPlace(place()).registrationDigest(validator, keccak256(keyAt(".keys[0]"))), digest, "digest");
        bytes memory possession = vm.parseJsonBytes(json, ".registration.possession");
        vm.assertTrue(Bls.verify(keyAt(".keys[0]"), digest, Bls.POSSESSION_TAG, possession), "possession");
    }

    function keyAt(string memory path) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, path);
    }

    function place() private view returns (address) {
        return vm.parseJsonAddress(json, ".place.contract");
    }
}

/// @dev Says what a contract at its address would have signed.
contract VectorsPlace is CheckpointKeys {
    function digest(uint256 chainId, uint64 height, bytes32 blockHash, bytes32 set) external view returns (bytes32) {
        return Aggregates.digest(chainId, height, blockHash, set);
    }
}

/// @dev `artifacts/consensus.json`, which crates/contracts writes and is held to as well: sets, certificates, messages.
contract ConsensusVectorsTest {
    string private json;
    bytes32[] private _path;

    function setUp() public {
        json = vm.readFile("artifacts/consensus.json");
        vm.warp(number(".timestamp"));
    }

    function test_setHash() public view {
        vm.assertEq(
            ValidatorSets.hash(vm.parseJsonAddressArray(json, ".set.validators"), powers()), word(".set.hash"), "hash"
        );
    }

    function test_digests() public view {
        Votes.Vote memory vote = Votes.Vote({
            kind: 2, height: uint64(number(".height")), round: uint32(number(".round")), blockHash: word(".blockHash")
        });
        vm.assertEq(Votes.digest(vote, number(".chainId")), word(".precommitDigest"), "precommit");
        bytes32 digest = Votes.foreignDigest(
            number(".foreign.chainId"), uint64(number(".foreign.number")), word(".blockHash"), number(".chainId")
        );
        vm.assertEq(digest, word(".foreign.digest"), "foreign block");
    }

    function test_certificate() public {
        Checkpoints checkpoints = new Checkpoints(
            number(".chainId"),
            100,
            30 days,
            address(this),
            ICheckpointKeys(address(0)),
            vm.parseJsonBytes(json, ".anchor")
        );
        Certificates.Certificate memory certificate = Certificates.Certificate({
            round: uint32(number(".round")),
            validators: vm.parseJsonAddressArray(json, ".set.validators"),
            powers: powers(),
            signers: number(".signers"),
            signatures: vm.parseJsonBytes(json, ".signatures")
        });
        checkpoints.submit(vm.parseJsonBytes(json, ".header"), certificate);
        vm.assertEq(checkpoints.blockHashOf(uint64(number(".height"))), word(".blockHash"), "accepted");
    }

    function test_messages() public {
        IOutbox.Message memory message = IOutbox.Message({
            index: uint32(number(".message.index")),
            sender: vm.parseJsonAddress(json, ".message.sender"),
            target: vm.parseJsonAddress(json, ".message.target"),
            data: vm.parseJsonBytes(json, ".message.data")
        });
        bytes32 leaf = Outgoing.leaf(
            number(".chainId"), vm.parseJsonAddress(json, ".message.outbox"), number(".foreign.chainId"), message
        );
        vm.assertEq(leaf, word(".message.leaf"), "leaf");
        uint32 count = uint32(number(".message.count"));
        vm.assertEq(Outgoing.commitment(count, word(".message.root")), word(".message.accumulator"), "accumulator");
        _path = vm.parseJsonBytes32Array(json, ".message.path");
        vm.assertTrue(this.verify(word(".message.root"), leaf, message.index, count, _path), "path");
    }

    function verify(bytes32 root, bytes32 leaf, uint32 index, uint32 count, bytes32[] calldata path)
        external
        pure
        returns (bool)
    {
        return Merkle.verify(root, leaf, index, count, path);
    }

    function powers() private view returns (uint64[] memory values) {
        uint256[] memory wide = vm.parseJsonUintArray(json, ".set.powers");
        values = new uint64[](wide.length);
        for (uint256 i; i < wide.length; ++i) {
            values[i] = uint64(wide[i]);
        }
    }

    function number(string memory path) private view returns (uint256) {
        return vm.parseJsonUint(json, path);
    }

    function word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, path);
    }
}
