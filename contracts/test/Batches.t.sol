// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {IBatches} from "../src/interfaces/IBatches.sol";
import {IGuards} from "../src/interfaces/IGuards.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev This contract takes receipts, in place of audits. What audits do with them is tested there.
contract BatchesTest is AuditWorld {
    bytes32[] private _path;

    function setUp() public {
        deployAuditWorld(0);
        vm.prank(GOVERNANCE);
        batches.setAuditor(address(this));
    }

    function test_onlyTheAuditorTakes() public {
        vm.startPrank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotAuditor.selector, challenger));
        batches.take(miner, SALT, 0, SALT, _path);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotAuditor.selector, challenger));
        batches.takeMissing(miner, SALT, 0);
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        batches.setAuditor(challenger);
        vm.stopPrank();
        vm.prank(GOVERNANCE);
        vm.expectRevert(IBatches.ZeroAddress.selector);
        batches.setAuditor(address(0));
        vm.expectRevert(IBatches.ZeroAddress.selector);
        new Batches(registry, IGuards(address(0)), scores, GOVERNANCE);
    }

    /// @dev Two kinds of taking share one bit an index, and no two indices share one.
    function testFuzz_everyIndexIsTakenOnce(uint16[8] memory indices, bool missing) public {
        vm.prank(miner);
        batches.commit(SALT, 1 << 16);
        vm.expectPartialRevert(IGuards.BeaconUnknown.selector);
        batches.takeMissing(miner, SALT, 0);
        nextEpoch();
        for (uint256 i; i < indices.length; ++i) {
            bool again = false;
            for (uint256 j; j < i; ++j) {
                if (indices[j] == indices[i]) again = true;
            }
            vm.assertTrue(batches.isTaken(miner, SALT, indices[i]) == again, "taken before");
            if (again) vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, SALT, indices[i]));
            batches.takeMissing(miner, SALT, indices[i]);
            vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, SALT, indices[i]));
            if (missing) batches.takeMissing(miner, SALT, indices[i]);
            else batches.take(miner, SALT, indices[i], SALT, _path);
        }
        vm.assertFalse(batches.isTaken(otherMiner, SALT, indices[0]), "of this miner");
    }

    function testFuzz_anIndexBeyondTheBatchIsNone(uint32 index) public {
        vm.prank(miner);
        batches.commit(SALT, 7);
        nextEpoch();
        index = uint32(bound(index, 7, type(uint32).max));
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotIncluded.selector, SALT, index));
        batches.takeMissing(miner, SALT, index);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchUnknown.selector, bytes32(0)));
        batches.takeMissing(miner, bytes32(0), 0);
    }
}
