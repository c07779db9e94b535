// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessions} from "../src/interfaces/ISessions.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

/// @dev The three ways to an end: with the router, alone, and by expiry.
contract SessionsCloseTest is World {
    SessionId private id;
    uint256 private before;

    function setUp() public {
        deployWorld();
        id = openSession();
        before = token.balanceOf(client);
    }

    // --- with the router ---

    function testFuzz_closingWithTheRouterRefundsAtOnce(uint128 spent, uint128 total) public {
        total = uint128(bound(total, 1, DEPOSIT));
        spent = uint128(bound(spent, 1, total));
        sessions.redeem(signVoucher(voucherFor(id, miner, spent), 1, spent));
        close(2, total);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT - total, "refund");
        ISessions.Session memory s = sessions.session(id);
        vm.assertEq(uint8(s.status), uint8(ISessions.Status.Settled), "status");
        vm.assertEq(s.deposit, total, "reserve");
        vm.assertEq(s.finalSequence, 2, "final sequence");
        vm.assertEq(sessions.graceEnd(id), block.timestamp + GRACE, "the window begins");

        // The reserve pays the rest of the final total, then the session ends empty.
        vm.assertEq(sessions.redeem(signVoucher(voucherFor(id, miner, total), 2, total)), total - spent, "rest");
        vm.warp(sessions.graceEnd(id) + 1);
        sessions.finalize(id);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT - total, "no more comes back");
        vm.assertEq(unspent(id), 0, "empty");
    }

    function test_whatMinersDoNotRedeemComesBackAfterGrace() public {
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 1, 10e18));
        close(2, 40e18);
        vm.warp(sessions.graceEnd(id) + 1);
        sessions.finalize(id);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT - 10e18, "all but what was redeemed");
    }

    function test_closingAtOnceWhileUnusedRefundsAll() public {
        close(0, 0);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT, "refund");
        vm.assertEq(token.balanceOf(address(sessions)), 0, "custody");
    }

    function test_closingWithTheRouterAfterAskingAlone() public {
        vm.prank(client);
        sessions.requestClose(id);
        uint64 end = sessions.graceEnd(id);
        vm.warp(block.timestamp + 1 hours);
        close(1, 10e18);
        vm.assertEq(sessions.graceEnd(id), end, "the window does not start again");
    }

    /// @dev A router that countersigns after signing the end pays for it; the honest miners' reserve is not touched.
    function test_laterSequencesAreTheRoutersOwnExpense() public {
        ISessions.SignedVoucher memory honest = signVoucher(voucherFor(id, miner, 40e18), 1, 40e18);
        close(1, 40e18);
        sessions.redeem(signVoucher(voucherFor(id, otherMiner, 40e18), 2, 80e18));
        vm.assertEq(sessions.session(id).spent, 0, "reserve untouched");
        vm.assertEq(sessions.balanceOf(otherMiner), 40e18, "paid from the stake, whole");
        vm.assertEq(registry.slashable(router), ROUTER_STAKE - 44e18, "stake and penalty");
        vm.assertEq(sessions.redeem(honest), 40e18, "honest miner");
        vm.assertEq(registry.slashable(router), ROUTER_STAKE - 44e18, "from the reserve");
    }

    /// @dev Client and router cannot take back what was already countersigned: the stake answers for it.
    function test_closingBelowWhatWasCountersignedIsMadeGoodByTheStake() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 100e18), 1, 100e18);
        close(1, 0);
        vm.assertEq(sessions.redeem(signed), 100e18, "paid all the same");
        vm.assertEq(sessions.balanceOf(MINER_PAYOUT), 100e18, "made whole");
        vm.assertEq(registry.slashable(router), ROUTER_STAKE - 110e18, "by the router");
    }

    function test_closingNeedsTheRoutersSignatureOverExactlyThis() public {
        bytes memory signature = signClose(id, 1, 10e18, ROUTER_KEY);
        bytes memory refused = abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id);
        vm.startPrank(client);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 2, 10e18, signature);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 1, 10e18 - 1, signature);
        signature = signClose(id, 1, 10e18, SESSION_KEY);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 1, 10e18, signature);
        SessionId other = sessions.open(openParams());
        signature = signClose(other, 1, 10e18, ROUTER_KEY);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 1, 10e18, signature);
        vm.stopPrank();
    }

    function test_closingSignatureIsBoundToTheChain() public {
        bytes memory signature = signClose(id, 1, 10e18, ROUTER_KEY);
        vm.chainId(block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        vm.prank(client);
        sessions.closeWithRouter(id, 1, 10e18, signature);
    }

    function test_closeDigestIsTheSpecifiedOne() public view {
        bytes32 typeHash = keccak256("Close(bytes32 session,uint64 finalSequence,uint128 finalTotal)");
        bytes32 expected = sessionsDigest(keccak256(abi.encode(typeHash, id, uint64(3), uint128(4))));
        vm.assertEq(sessions.closeDigest(id, 3, 4), expected, "digest");
    }

    function test_finalTotalIsBetweenSpentAndDeposit() public {
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 1, 10e18));
        bytes memory low = signClose(id, 1, 10e18 - 1, ROUTER_KEY);
        bytes memory high = signClose(id, 1, DEPOSIT + 1, ROUTER_KEY);
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(ISessions.FinalTotalOutOfBounds.selector, 10e18 - 1, 10e18, DEPOSIT));
        sessions.closeWithRouter(id, 1, 10e18 - 1, low);
        vm.expectRevert(abi.encodeWithSelector(ISessions.FinalTotalOutOfBounds.selector, DEPOSIT + 1, 10e18, DEPOSIT));
        sessions.closeWithRouter(id, 1, DEPOSIT + 1, high);
        vm.stopPrank();
    }

    function test_closingWithTheRouterHappensOnce() public {
        close(1, 40e18);
        bytes memory again = signClose(id, 1, 0, ROUTER_KEY);
        vm.startPrank(client);
        bytes memory refused = abi.encodeWithSelector(ISessions.SessionNotOpen.selector, id, ISessions.Status.Settled);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 1, 0, again);
        vm.expectRevert(refused);
        sessions.requestClose(id);
        vm.stopPrank();
    }

    // --- alone ---

    function testFuzz_requestCloseReturnsTheRemainder(uint128 spent, uint64 waited) public {
        spent = uint128(bound(spent, 1, DEPOSIT));
        waited = uint64(bound(waited, 0, GRACE));
        vm.prank(client);
        sessions.requestClose(id);
        uint64 end = uint64(block.timestamp) + GRACE;
        vm.assertEq(sessions.graceEnd(id), end, "window");
        vm.warp(block.timestamp + waited);
        sessions.redeem(signVoucher(voucherFor(id, miner, spent), 1, spent));
        vm.expectRevert(abi.encodeWithSelector(ISessions.GraceNotEnded.selector, id, end));
        sessions.finalize(id);
        vm.warp(end + 1);
        vm.prank(address(0xBAD));
        sessions.finalize(id);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT - spent, "remainder");
    }

    function test_askingToCloseAfterExpiryWinsNoTime() public {
        uint64 end = sessions.graceEnd(id);
        vm.warp(sessions.session(id).expiry + 1 hours);
        vm.prank(client);
        sessions.requestClose(id);
        vm.assertEq(sessions.graceEnd(id), end, "same end");
    }

    function test_onlyTheOwnerCloses() public {
        bytes memory refused = abi.encodeWithSelector(ISessions.NotSessionOwner.selector, id, router);
        bytes memory signature = signClose(id, 0, 0, ROUTER_KEY);
        vm.startPrank(router);
        vm.expectRevert(refused);
        sessions.requestClose(id);
        vm.expectRevert(refused);
        sessions.closeWithRouter(id, 0, 0, signature);
        vm.stopPrank();
    }

    // --- by expiry ---

    function test_anyoneFinalizesAfterExpiryAndGrace() public {
        uint64 end = sessions.graceEnd(id);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(ISessions.GraceNotEnded.selector, id, end));
        sessions.finalize(id);
        vm.warp(end + 1);
        vm.prank(address(0xBAD));
        sessions.finalize(id);
        vm.assertEq(token.balanceOf(client) - before, DEPOSIT, "all of it, to the owner");
        vm.assertEq(uint8(sessions.session(id).status), uint8(ISessions.Status.Closed), "closed");
    }

    function test_aClosedSessionStaysClosed() public {
        vm.warp(sessions.graceEnd(id) + 1);
        sessions.finalize(id);
        bytes memory signature = signClose(id, 0, 0, ROUTER_KEY);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionClosed.selector, id));
        sessions.finalize(id);
        vm.startPrank(client);
        vm.expectPartialRevert(ISessions.SessionNotOpen.selector);
        sessions.closeWithRouter(id, 0, 0, signature);
        vm.expectPartialRevert(ISessions.SessionNotOpen.selector);
        sessions.requestClose(id);
        vm.expectPartialRevert(ISessions.SessionNotOpen.selector);
        sessions.topUp(id, 1);
        vm.stopPrank();
    }

    function test_unknownSessions() public {
        SessionId unknown = SessionId.wrap(bytes32(uint256(1)));
        bytes memory refused = abi.encodeWithSelector(ISessions.SessionUnknown.selector, unknown);
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(unknown, miner, 1), 1, 1);
        vm.expectRevert(refused);
        sessions.session(unknown);
        vm.expectRevert(refused);
        sessions.graceEnd(unknown);
        vm.expectRevert(refused);
        sessions.finalize(unknown);
        vm.expectRevert(refused);
        sessions.redeem(signed);
        vm.expectRevert(refused);
        vm.prank(client);
        sessions.requestClose(unknown);
    }

    function close(uint64 sequence, uint128 total) private {
        bytes memory signature = signClose(id, sequence, total, ROUTER_KEY);
        vm.prank(client);
        sessions.closeWithRouter(id, sequence, total, signature);
    }
}
