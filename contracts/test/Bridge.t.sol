// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {LockBridge} from "../src/LockBridge.sol";
import {MintBridge} from "../src/MintBridge.sol";
import {CortensorToken} from "../src/CortensorToken.sol";
import {IBridge} from "../src/interfaces/IBridge.sol";
import {IInbox} from "../src/interfaces/IInbox.sol";
import {IOutbox} from "../src/interfaces/IOutbox.sol";
import {LaneWorld} from "./support/LaneWorld.sol";
import {vm} from "./support/Vm.sol";

contract BridgeTest is LaneWorld {
    address private constant THERE = address(0x7E3E);
    uint128 private constant AMOUNT = 100e18;

    function setUp() public {
        deployLaneWorld();
    }

    function test_thereAndBack() public {
        uint256 before = token.balanceOf(client);
        sendDown(client, THERE, AMOUNT);
        vm.assertEq(token.balanceOf(address(lockBridge)), AMOUNT, "locked");
        proveDown();
        claimDown(0);
        vm.assertEq(minted.balanceOf(THERE), AMOUNT, "minted");
        sendUp(THERE, client, AMOUNT);
        vm.assertEq(minted.totalSupply(), 0, "burnt");
        proveUp();
        claimUp(0);
        vm.assertEq(token.balanceOf(client), before, "released");
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IInbox.AlreadyConsumed.selector, uint32(0)));
        lockBridge.claim(ups[0], inclusion);
    }

    /// @dev The chain of validators stops for ever after a checkpoint; nobody signs anything again, and all trust expires.
    function test_whoIsInACheckpointGetsOutWhenTheOtherEndStops() public {
        sendDown(client, THERE, AMOUNT);
        proveDown();
        claimDown(0);
        sendUp(THERE, client, AMOUNT);
        Proof memory last = checkpointUp();
        vm.warp(block.timestamp + 10 * 365 days);
        uint256 before = token.balanceOf(client);
        upInbox.prove(last.header, last.account, last.storage_);
        vm.prank(address(0xA11));
        claimUp(0);
        vm.assertEq(token.balanceOf(client) - before, AMOUNT, "out");
    }

    function test_messagesOfOthersMoveNothing() public {
        vm.prank(client);
        uint32 index = upward.send(address(lockBridge), abi.encode(client, AMOUNT));
        ups.push(IOutbox.Message(index, client, address(lockBridge), abi.encode(client, AMOUNT)));
        proveUp();
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotFromPeer.selector, client));
        lockBridge.claim(ups[0], inclusion);
        ups[0].sender = address(mintBridge);
        vm.expectRevert(abi.encodeWithSelector(IInbox.NotIncluded.selector, index));
        lockBridge.claim(ups[0], inclusion);
    }

    function test_onlyTheTimelockPausesAndNotForLong() public {
        vm.prank(GOVERNANCE);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotTimelock.selector, GOVERNANCE));
        lockBridge.pause(1 days);

        bytes memory call = abi.encodeCall(IBridge.pause, (30 days));
        vm.startPrank(GOVERNANCE);
        timelock.schedule(address(lockBridge), 0, call, 0, SALT, DELAY);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        timelock.execute(address(lockBridge), 0, call, 0, SALT);
        vm.warp(block.timestamp + DELAY);
        timelock.execute(address(lockBridge), 0, call, 0, SALT);
        vm.stopPrank();
        uint64 until = uint64(block.timestamp + 30 days);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PausedUntil.selector, until));
        lockBridge.send(THERE, AMOUNT);
        vm.expectRevert(abi.encodeWithSelector(IBridge.PausedUntil.selector, until));
        lockBridge.claim(IOutbox.Message(0, address(0), address(0), ""), IInbox.Inclusion(1, 0, new bytes32[](0)));
        vm.warp(until);
        sendDown(client, THERE, AMOUNT);
        vm.prank(address(timelock));
        vm.expectRevert(abi.encodeWithSelector(IBridge.PauseTooLong.selector, 30 days + 1));
        lockBridge.pause(30 days + 1);
    }

    function test_endsAreLinkedOnce() public {
        LockBridge fresh = new LockBridge(token, downward, upInbox, timelock);
        vm.expectRevert(IBridge.NotLinked.selector);
        fresh.send(THERE, AMOUNT);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IBridge.NotLinker.selector, client));
        fresh.link(client);
        fresh.link(THERE);
        vm.expectRevert(abi.encodeWithSelector(IBridge.AlreadyLinked.selector, THERE));
        fresh.link(client);
    }

    function test_unbackedTokensAreNotAdopted() public {
        CortensorToken other = new CortensorToken(address(this), address(this), 1);
        MintBridge fresh = new MintBridge(other, upward, downInbox, timelock);
        other.transferOwnership(address(fresh));
        vm.expectRevert(abi.encodeWithSelector(MintBridge.SupplyUnbacked.selector, 1));
        fresh.adopt();
        other.burn(1);
        fresh.adopt();
        vm.assertEq(other.owner(), address(fresh), "its own");
    }

    function test_aTimelockWithoutDelayIsNone() public {
        TimelockController none = new TimelockController(0, new address[](0), new address[](0), address(this));
        vm.expectRevert(IBridge.TimelockWithoutDelay.selector);
        new LockBridge(token, downward, upInbox, none);
    }

    function test_nothingAndNobodyAreRefused() public {
        vm.expectRevert(IBridge.ZeroAmount.selector);
        lockBridge.send(THERE, 0);
        vm.expectRevert(IBridge.ZeroAddress.selector);
        lockBridge.send(address(0), 1);
    }
}
