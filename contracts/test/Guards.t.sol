// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Guards} from "../src/Guards.sol";
import {IGuards} from "../src/interfaces/IGuards.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {GUARD} from "../src/types/Roles.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

contract GuardsTest is AuditWorld {
    function setUp() public {
        deployAuditWorld(10);
    }

    // --- epochs and beacons ---

    function test_aBeaconIsRecordedOnceOfAPastEpochHoweverLate() public {
        uint32 epoch = guards.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(IGuards.EpochNotOver.selector, epoch, epoch));
        guards.recordBeacon(epoch);
        vm.expectRevert(abi.encodeWithSelector(IGuards.EpochNotOver.selector, epoch + 1, epoch));
        guards.recordBeacon(epoch + 1);
        vm.expectRevert(abi.encodeWithSelector(IGuards.BeaconUnknown.selector, epoch));
        guards.knownBeacon(epoch);
        vm.warp(block.timestamp + 100 * EPOCH);
        vm.prevrandao(bytes32(uint256(7)));
        guards.recordBeacon(epoch);
        vm.assertEq(guards.knownBeacon(epoch), keccak256(abi.encode(uint256(7), epoch)), "beacon");
        vm.prevrandao(bytes32(uint256(8)));
        vm.expectRevert(abi.encodeWithSelector(IGuards.BeaconKnown.selector, epoch));
        guards.recordBeacon(epoch);
        guards.recordBeacon(epoch + 1);
        vm.assertTrue(guards.beaconOf(epoch) != guards.beaconOf(epoch + 1), "each its own");
    }

    function testFuzz_epochsFollowTheClock(uint256 passed) public {
        passed = bound(passed, 0, 1000 * 365 days);
        vm.warp(guards.genesis() + passed);
        vm.assertEq(guards.currentEpoch(), uint32(passed / EPOCH), "epoch");
    }

    function test_epochLengthsAreBounded() public {
        vm.expectRevert(abi.encodeWithSelector(IGuards.EpochLengthOutOfBounds.selector, 0));
        new Guards(registry, 0);
        vm.expectRevert(abi.encodeWithSelector(IGuards.EpochLengthOutOfBounds.selector, 7 days + 1));
        new Guards(registry, 7 days + 1);
        vm.expectRevert(IGuards.ZeroAddress.selector);
        new Guards(INodeRegistry(address(0)), EPOCH);
    }

    // --- enrolling ---

    function test_enrollingNeedsAnActiveGuard() public {
        vm.prank(miner);
        vm.expectRevert(abi.encodeWithSelector(IGuards.GuardInactive.selector, miner));
        guards.enroll();
        address guard = vm.addr(GUARD_KEYS);
        vm.startPrank(guard);
        vm.expectRevert(abi.encodeWithSelector(IGuards.AlreadyEnrolled.selector, guard));
        guards.enroll();
        guards.retire();
        vm.assertFalse(guards.isEnrolled(guard), "retired");
        vm.expectRevert(abi.encodeWithSelector(IGuards.NotEnrolled.selector, guard));
        guards.retire();
        guards.enroll();
        vm.stopPrank();
        vm.assertTrue(guards.isEnrolled(guard), "enrolled again");
        vm.assertEq(guards.enrolmentCount(), 11, "the list only grows");
        vm.assertTrue(guards.enrolmentAt(0).retired, "the old one");
        vm.assertEq(guards.enrolmentAt(10).operator, guard, "the new one");
    }

    function test_classesCountFromTheNextEpochAndStay() public {
        uint32 epoch = guards.currentEpoch();
        vm.startPrank(miner);
        vm.assertEq(guards.classAt(miner, epoch), bytes32(0), "none");
        guards.declareClass(bytes32(uint256(1)));
        guards.declareClass(bytes32(uint256(2)));
        vm.assertEq(guards.classAt(miner, epoch), bytes32(0), "not yet");
        vm.assertEq(guards.classAt(miner, epoch + 1), bytes32(uint256(2)), "the last of an epoch");
        for (uint256 i = 3; i < 20; ++i) {
            vm.warp(block.timestamp + 2 * EPOCH);
            guards.declareClass(bytes32(i));
        }
        vm.stopPrank();
        vm.assertEq(guards.classAt(miner, epoch + 1), bytes32(uint256(2)), "history stays");
        for (uint32 i = 3; i < 20; ++i) {
            uint32 declared = epoch + 2 * (i - 2);
            vm.assertEq(guards.classAt(miner, declared), bytes32(uint256(i - 1)), "in its epoch");
            vm.assertEq(guards.classAt(miner, declared + 1), bytes32(uint256(i)), "after it");
        }
    }

    // --- drawing ---

    function testFuzz_nobodyIsDrawnTwice(bytes32 seed, uint256 size) public view {
        size = bound(size, 0, 30);
        address[] memory drawn = draw(seed, size);
        vm.assertEq(drawn.length, size < 10 ? size : 10, "as many as there are");
        for (uint256 i; i < drawn.length; ++i) {
            vm.assertTrue(guards.isEnrolled(drawn[i]), "enrolled");
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(drawn[i] != drawn[j], "twice");
            }
        }
    }

    function test_everyGuardHasTheSameChance() public view {
        uint256[10] memory first;
        uint256[10] memory among;
        for (uint256 i; i < 1000; ++i) {
            address[] memory drawn = draw(bytes32(i), 3);
            for (uint256 k; k < 10; ++k) {
                address guard = guards.enrolmentAt(k).operator;
                if (drawn[0] == guard) ++first[k];
                if (drawn[0] == guard || drawn[1] == guard || drawn[2] == guard) ++among[k];
            }
        }
        for (uint256 k; k < 10; ++k) {
            // 100 and 300 expected; five standard deviations.
            vm.assertTrue(first[k] > 52 && first[k] < 148, "first");
            vm.assertTrue(among[k] > 227 && among[k] < 373, "among three");
        }
    }

    function test_laterEnrolmentsAreNotDrawn() public {
        uint32 epoch = guards.currentEpoch();
        bytes32 before = keccak256(abi.encode(draw(SALT, 5)));
        vm.warp(block.timestamp + EPOCH);
        for (uint256 i; i < 5; ++i) {
            addGuard();
        }
        address[] memory known = new address[](0);
        vm.assertEq(keccak256(abi.encode(guards.draw(SALT, epoch, known, 5))), before, "the same five");
        vm.assertEq(guards.draw(SALT, epoch + 1, known, 20).length, 15, "the next epoch has all");
    }

    /// @dev Retiring moves nobody else: whoever was drawn is still drawn, or the next in line takes the place.
    function test_retiringMovesNobodyElse() public {
        address[] memory all = draw(SALT, 10);
        vm.prank(all[2]);
        guards.retire();
        address[] memory rest = draw(SALT, 10);
        vm.assertEq(rest.length, 9, "one less");
        for (uint256 i; i < 9; ++i) {
            vm.assertEq(rest[i], all[i < 2 ? i : i + 1], "in the same order");
        }
    }

    function test_guardsThatShareAnAccountAreNotDrawnTogether() public {
        // A guard that pays out to another's account, one that the miner's owner owns, one that pays out to the miner's.
        address first = vm.addr(GUARD_KEYS);
        vm.prank(vm.addr(GUARD_KEYS + 1));
        registry.setPayout(vm.addr(GUARD_KEYS + 1), first);
        registerNode(0xF001, GUARD, address(0xF1), GUARD_STAKE);
        vm.prank(vm.addr(0xF001));
        guards.enroll();
        vm.prank(vm.addr(GUARD_KEYS + 2));
        registry.setPayout(vm.addr(GUARD_KEYS + 2), MINER_PAYOUT);
        address[] memory known = new address[](1);
        known[0] = miner;
        for (uint256 i; i < 20; ++i) {
            address[] memory drawn = guards.draw(bytes32(i), guards.currentEpoch(), known, 20);
            vm.assertEq(drawn.length, 8, "ten, less one of a pair, less the miner's");
            for (uint256 k; k < 8; ++k) {
                vm.assertTrue(drawn[k] != vm.addr(0xF001) && drawn[k] != vm.addr(GUARD_KEYS + 2), "the miner's");
            }
        }
    }

    function test_guardsWithoutStakeAreNotDrawn() public {
        vm.prank(GOVERNANCE);
        registry.setMinimumStake(GUARD, GUARD_STAKE);
        address guard = vm.addr(GUARD_KEYS + 4);
        vm.prank(guard);
        registry.requestUnstake(guard, 1);
        address[] memory drawn = draw(SALT, 10);
        vm.assertEq(drawn.length, 9, "nine");
        for (uint256 i; i < 9; ++i) {
            vm.assertTrue(drawn[i] != guard, "inactive");
        }
    }

    /// @dev Beyond what one draw looks at, a draw still finds its number.
    function test_manyGuards() public {
        for (uint256 i; i < 120; ++i) {
            addGuard();
        }
        vm.assertEq(draw(SALT, 21).length, 21, "committee");
        vm.assertEq(draw(SALT, 130).length, 96, "bounded");
    }

    function draw(bytes32 seed, uint256 size) private view returns (address[] memory) {
        return guards.draw(seed, guards.currentEpoch(), new address[](0), size);
    }
}
