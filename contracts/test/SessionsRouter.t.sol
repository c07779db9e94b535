// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessions} from "../src/interfaces/ISessions.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

/// @dev What a router answers for with its stake: shortfalls and contradictions.
contract SessionsRouterTest is World {
    address private constant REPORTER = address(0x4E9);
    SessionId private id;

    function setUp() public {
        deployWorld();
        id = openSession();
    }

    // --- shortfalls ---

    function testFuzz_shortfallsAreMadeGoodByTheStake(uint128 first, uint128 second) public {
        first = uint128(bound(first, 1, DEPOSIT));
        second = uint128(bound(second, 1, 8 * uint256(DEPOSIT)));
        sessions.redeem(signVoucher(voucherFor(id, otherMiner, first), 1, first));
        uint128 left = DEPOSIT - first;
        uint128 paid = sessions.redeem(signVoucher(voucherFor(id, miner, second), 2, first + second));
        vm.assertEq(paid, second, "miner made whole");

        uint128 fromDeposit = second < left ? second : left;
        uint128 shortfall = second - fromDeposit;
        uint128 penalty = shortfall / 10;
        vm.assertEq(sessions.session(id).spent, first + fromDeposit, "deposit");
        vm.assertEq(registry.slashable(router), ROUTER_STAKE - shortfall - penalty, "stake");
        uint256 shares = fromDeposit * 1000 / 10_000 + fromDeposit * 200 / 10_000 + fromDeposit * 500 / 10_000;
        vm.assertEq(sessions.balanceOf(MINER_PAYOUT), second - shares, "the shortfall goes to the miner whole");
        vm.assertEq(token.balanceOf(address(sessions)), DEPOSIT + uint256(shortfall) + penalty, "custody");
    }

    function test_shortfallIsEmitted() public {
        ISessions.SignedVoucher memory signed =
            signVoucher(voucherFor(id, miner, DEPOSIT + 100e18), 1, DEPOSIT + 100e18);
        vm.expectEmit(true, true, true, true, address(sessions));
        emit ISessions.ShortfallTaken(id, router, miner, 100e18, 10e18, 0);
        sessions.redeem(signed);
    }

    function testFuzz_nobodyIsPaidBeyondDepositPlusStake(uint128 amount) public {
        amount = uint128(bound(amount, DEPOSIT, 1_000_000e18));
        uint128 paid = sessions.redeem(signVoucher(voucherFor(id, miner, amount), 1, amount));
        vm.assertLe(paid, uint256(DEPOSIT) + ROUTER_STAKE, "bounded");
        vm.assertLe(token.balanceOf(address(sessions)), uint256(DEPOSIT) + ROUTER_STAKE, "custody bounded");
        vm.assertEq(sessions.redeemed(id, miner).amount, paid, "what was paid is recorded, not what was asked");
    }

    /// @dev What the stake could not cover is not lost: it is paid when the router's stake is there again.
    function test_theUnpaidRestCanBeRedeemedLater() public {
        uint128 amount = DEPOSIT + 2 * ROUTER_STAKE;
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, amount), 1, amount);
        uint128 paid = sessions.redeem(signed);
        vm.assertLt(paid, amount, "stake was short");
        vm.assertEq(sessions.redeem(signed), 0, "nothing there");
        vm.prank(client);
        registry.addStake(router, 1100e18);
        vm.assertEq(sessions.redeem(signed), 1000e18, "the new stake, less the penalty");
    }

    function test_shortfallsReachStakeThatIsLeaving() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(router, ROUTER_STAKE);
        uint128 amount = DEPOSIT + 100e18;
        vm.assertEq(sessions.redeem(signVoucher(voucherFor(id, miner, amount), 1, amount)), amount, "covered");
        vm.assertEq(registry.node(router).unbonding, ROUTER_STAKE - 110e18, "out of what was leaving");
    }

    /// @dev The penalty is held back from what can be covered, so paying oneself the whole stake always costs it.
    function testFuzz_aSelfDealingRouterLosesThePenalty(uint128 amount) public {
        amount = uint128(bound(amount, ROUTER_STAKE, 1_000_000e18));
        sessions.redeem(signVoucher(voucherFor(id, otherMiner, DEPOSIT), 1, DEPOSIT));
        uint128 paid = sessions.redeem(signVoucher(voucherFor(id, miner, amount), 2, DEPOSIT + amount));
        vm.assertLe(uint256(paid) * 11, uint256(ROUTER_STAKE) * 10, "at most ten elevenths of the stake");
    }

    function test_withoutTheRightToSlashTheDepositStillPays() public {
        vm.prank(GOVERNANCE);
        registry.setSlasher(address(sessions), false);
        uint128 amount = DEPOSIT + 100e18;
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, amount), 1, amount);
        vm.assertEq(sessions.redeem(signed), DEPOSIT, "deposit");
        vm.prank(GOVERNANCE);
        registry.setSlasher(address(sessions), true);
        vm.assertEq(sessions.redeem(signed), 100e18, "the rest once it can");
    }

    // --- contradictions ---

    function testFuzz_oneSequenceForTwoPromisesIsSlashed(
        bytes32 hashA,
        bytes32 hashB,
        uint128 totalA,
        uint128 totalB,
        uint64 seq
    ) public {
        vm.assume(hashA != hashB || totalA != totalB);
        prove(promised(hashA, seq, totalA), promised(hashB, seq, totalB));
        vm.assertEq(registry.slashable(router), ROUTER_STAKE * 7 / 10, "30 % slashed");
        vm.assertEq(sessions.balanceOf(REPORTER), ROUTER_STAKE * 3 / 50, "a fifth of it to the reporter");
        vm.assertEq(sessions.balanceOf(TREASURY), ROUTER_STAKE * 12 / 50, "the rest to the treasury");
        vm.assertTrue(sessions.equivocationProven(id), "recorded");
        vm.assertEq(token.balanceOf(address(sessions)), DEPOSIT + uint256(ROUTER_STAKE) * 3 / 10, "custody");
    }

    function testFuzz_aShrinkingTotalIsSlashedInEitherOrder(uint64 early, uint64 late, uint128 low, uint128 high)
        public
    {
        early = uint64(bound(early, 1, type(uint64).max - 1));
        late = uint64(bound(late, uint256(early) + 1, type(uint64).max));
        low = uint128(bound(low, 0, type(uint128).max - 1));
        high = uint128(bound(high, uint256(low) + 1, type(uint128).max));
        ISessions.SignedCountersignature memory a = promised("a", early, high);
        ISessions.SignedCountersignature memory b = promised("b", late, low);
        if (low % 2 == 0) prove(a, b);
        else prove(b, a);
        vm.assertTrue(sessions.equivocationProven(id), "recorded");
    }

    function testFuzz_honestPromisesAreNeverSlashed(uint64 early, uint64 late, uint128 low, uint128 high) public {
        early = uint64(bound(early, 1, type(uint64).max - 1));
        late = uint64(bound(late, uint256(early) + 1, type(uint64).max));
        high = uint128(bound(high, low, type(uint128).max));
        refuse(
            promised("a", early, low),
            promised("b", late, high),
            abi.encodeWithSelector(ISessions.NotEquivocation.selector)
        );
        refuse(
            promised("b", late, high),
            promised("a", early, low),
            abi.encodeWithSelector(ISessions.NotEquivocation.selector)
        );
    }

    function test_thePromiseItselfIsNoContradiction() public {
        ISessions.SignedCountersignature memory a = promised("a", 1, 1);
        refuse(a, a, abi.encodeWithSelector(ISessions.NotEquivocation.selector));
    }

    function test_promisesOfTwoSessionsDoNotContradict() public {
        ISessions.SignedCountersignature memory a = promised("a", 1, 1);
        SessionId other = openSession();
        ISessions.SignedCountersignature memory b =
            signCountersignature(ISessions.Countersignature("b", other, 1, 1), ROUTER_KEY);
        refuse(a, b, abi.encodeWithSelector(ISessions.SessionsDiffer.selector));
        // Renaming the session breaks the signature.
        b.countersignature.session = id;
        refuse(a, b, abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
    }

    function test_onlyTheRoutersOwnSignaturesCount() public {
        ISessions.SignedCountersignature memory a = promised("a", 1, 1);
        ISessions.SignedCountersignature memory forged =
            signCountersignature(ISessions.Countersignature("b", id, 1, 1), CLIENT_KEY);
        refuse(a, forged, abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        refuse(forged, a, abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
    }

    function test_promisesOfAnotherChainDoNotCount() public {
        ISessions.SignedCountersignature memory a = promised("a", 1, 1);
        vm.chainId(block.chainid + 1);
        ISessions.SignedCountersignature memory b = promised("b", 1, 1);
        refuse(a, b, abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
    }

    function test_provenOnceASession() public {
        prove(promised("a", 1, 1), promised("b", 1, 1));
        refuse(
            promised("c", 2, 1),
            promised("d", 2, 1),
            abi.encodeWithSelector(ISessions.EquivocationAlreadyProven.selector, id)
        );
    }

    function test_provenEvenAfterTheSessionClosed() public {
        vm.warp(sessions.graceEnd(id) + 1);
        sessions.finalize(id);
        prove(promised("a", 1, 1), promised("b", 1, 1));
        vm.assertTrue(sessions.equivocationProven(id), "recorded");
    }

    function test_provenWhileTheStakeIsLeaving() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(router, ROUTER_STAKE);
        prove(promised("a", 1, 1), promised("b", 1, 1));
        vm.assertEq(registry.node(router).unbonding, ROUTER_STAKE * 7 / 10, "slashed on the way out");
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(registry.withdrawUnstaked(router), ROUTER_STAKE * 7 / 10, "the rest leaves");
    }

    /// @dev Proving against an empty stake must not use up the one proof of the session.
    function test_anEmptyStakeIsNotProvenAgainst() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(router, ROUTER_STAKE);
        vm.warp(block.timestamp + UNBONDING);
        registry.withdrawUnstaked(router);
        refuse(
            promised("a", 1, 1), promised("b", 1, 1), abi.encodeWithSelector(ISessions.NothingToSlash.selector, router)
        );
        vm.assertFalse(sessions.equivocationProven(id), "not recorded");
    }

    function test_unknownSessionsProveNothing() public {
        SessionId unknown = SessionId.wrap(bytes32(uint256(1)));
        ISessions.SignedCountersignature memory a =
            signCountersignature(ISessions.Countersignature("a", unknown, 1, 1), ROUTER_KEY);
        ISessions.SignedCountersignature memory b =
            signCountersignature(ISessions.Countersignature("b", unknown, 1, 1), ROUTER_KEY);
        refuse(a, b, abi.encodeWithSelector(ISessions.SessionUnknown.selector, unknown));
    }

    function promised(bytes32 voucherHash, uint64 sequence, uint128 total)
        private
        view
        returns (ISessions.SignedCountersignature memory)
    {
        return signCountersignature(ISessions.Countersignature(voucherHash, id, sequence, total), ROUTER_KEY);
    }

    function prove(ISessions.SignedCountersignature memory a, ISessions.SignedCountersignature memory b) private {
        vm.prank(REPORTER);
        sessions.proveEquivocation(a, b);
    }

    function refuse(
        ISessions.SignedCountersignature memory a,
        ISessions.SignedCountersignature memory b,
        bytes memory reason
    ) private {
        vm.expectRevert(reason);
        vm.prank(REPORTER);
        sessions.proveEquivocation(a, b);
    }
}
