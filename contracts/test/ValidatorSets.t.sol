// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ValidatorSets} from "../src/libraries/ValidatorSets.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev What must hold whatever stakes and scores are: nothing that is registered can make a set that halts the chain.
contract ValidatorSetsTest {
    function testFuzz_everyTargetIsASet(uint256 seed, uint256 count) public pure {
        uint256[] memory weights = weightsOf(seed, bound(count, 1, 100));
        uint256[] memory members = ValidatorSets.target(keysOf(0, weights.length), weights);
        requireSet(members, positive(weights));
        uint256 most = ValidatorSets.powerOf(members[0]);
        vm.assertLe(most, ValidatorSets.capOf(positive(weights)), "none above the cap");
    }

    function testFuzz_powersFollowWeights(uint256 seed, uint256 count) public pure {
        count = bound(count, 6, 100);
        uint256[] memory weights = new uint256[](count);
        uint256 sum;
        for (uint256 i; i < count; ++i) {
            weights[i] = 1e24 + uint256(keccak256(abi.encode(seed, i))) % 1e24 / 10;
            sum += weights[i];
        }
        uint256[] memory members = ValidatorSets.target(keysOf(0, count), weights);
        for (uint256 i; i < count; ++i) {
            uint256 power = powerIn(members, address(uint160(i + 1)));
            uint256 share = weights[i] * ValidatorSets.TOTAL / sum;
            vm.assertTrue(power == share || power == share + 1, "its share, or one unit of what did not divide");
        }
    }

    function testFuzz_lessThanAThirdMoves(uint256 seed, uint256 other, uint256 counts, uint256 shift) public pure {
        uint256[] memory first = weightsOf(seed, bound(counts & 0xff, 1, 100));
        uint256[] memory second = weightsOf(other, bound(counts >> 8 & 0xff, 1, 100));
        uint256[] memory from = ValidatorSets.target(keysOf(0, first.length), first);
        uint256[] memory to = ValidatorSets.target(keysOf(shift % 120, second.length), second);
        // Once from a settled set, once from one that is on its way.
        for (uint256 step; step < 2; ++step) {
            uint256[] memory next = ValidatorSets.glide(from, to);
            requireSet(next, ValidatorSets.MAX_MEMBERS);
            vm.assertLt(movedBetween(from, next) * 3, ValidatorSets.TOTAL, "below a third");
            from = next;
        }
    }

    function testFuzz_aFewStepsArrive(uint256 seed, uint256 other, uint256 counts) public pure {
        uint256[] memory first = weightsOf(seed, bound(counts & 0xff, 1, 100));
        uint256[] memory second = weightsOf(other, bound(counts >> 8 & 0xff, 1, 100));
        uint256[] memory current = ValidatorSets.target(keysOf(0, first.length), first);
        uint256[] memory to = ValidatorSets.target(keysOf(60, second.length), second);
        for (uint256 step; step < 4; ++step) {
            current = ValidatorSets.glide(current, to);
        }
        vm.assertEq(keccak256(abi.encode(current)), keccak256(abi.encode(to)), "all of it moves in four steps");
    }

    function test_fewHaveEqualShares() public pure {
        uint256[] memory weights = new uint256[](3);
        (weights[0], weights[1], weights[2]) = (1000, 10, 1);
        uint256[] memory members = ValidatorSets.target(keysOf(0, 3), weights);
        vm.assertEq(ValidatorSets.powerOf(members[0]), 333_333_334, "the most that three leave");
        vm.assertEq(ValidatorSets.powerOf(members[2]), 333_333_332, "the least");
    }

    function test_nobodyWithWeightMeansNoSet() public pure {
        vm.assertEq(ValidatorSets.target(keysOf(0, 3), new uint256[](3)).length, 0, "none");
    }

    function requireSet(uint256[] memory members, uint256 most) private pure {
        vm.assertTrue(members.length != 0 && members.length <= most, "some members, not too many");
        uint256 total;
        for (uint256 i; i < members.length; ++i) {
            uint256 power = ValidatorSets.powerOf(members[i]);
            vm.assertTrue(power != 0, "everyone has power");
            vm.assertTrue(i == 0 || members[i - 1] < members[i], "in order, nobody twice");
            total += power;
        }
        vm.assertEq(total, ValidatorSets.TOTAL, "the total");
    }

    function movedBetween(uint256[] memory from, uint256[] memory to) private pure returns (uint256 moved) {
        for (uint256 i; i < to.length; ++i) {
            uint256 before = powerIn(from, ValidatorSets.keyOf(to[i]));
            uint256 power = ValidatorSets.powerOf(to[i]);
            if (power > before) moved += power - before;
        }
    }

    function powerIn(uint256[] memory members, address key) private pure returns (uint256) {
        for (uint256 i; i < members.length; ++i) {
            if (ValidatorSets.keyOf(members[i]) == key) return ValidatorSets.powerOf(members[i]);
        }
        return 0;
    }

    function positive(uint256[] memory weights) private pure returns (uint256 count) {
        for (uint256 i; i < weights.length; ++i) {
            if (weights[i] != 0) ++count;
        }
    }

    function keysOf(uint256 first, uint256 count) private pure returns (address[] memory keys) {
        keys = new address[](count);
        for (uint256 i; i < count; ++i) {
            keys[i] = address(uint160(first + i + 1));
        }
    }

    /// @dev From nothing to the most that a stake and a multiplier give, over all sizes; the first weighs something.
    function weightsOf(uint256 seed, uint256 count) private pure returns (uint256[] memory weights) {
        weights = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            weights[i] = random % 5 == 0 ? 0 : (random >> 8) % (3_000_000 << (random % 128 + 1));
        }
        if (weights[0] == 0) weights[0] = 1;
    }
}
