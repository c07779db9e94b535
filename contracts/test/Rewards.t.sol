// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IScores} from "../src/interfaces/IScores.sol";
import {Rewards} from "../src/Rewards.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {IQuality} from "../src/interfaces/IQuality.sol";
import {IRewards} from "../src/interfaces/IRewards.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {RewardsWorld} from "./support/RewardsWorld.sol";
import {bound, vm} from "./support/Vm.sol";

contract RewardsTest is RewardsWorld {
    /// @dev A miner with one audit has 41/81 of all reputation.
    uint256 private constant REPUTATION = 506_172;
    SessionId private id;

    function setUp() public {
        deployRewardsWorld(0);
        audited(miner);
        audited(otherMiner);
        id = openSession();
        rewards.fund(1000e18);
    }

    // --- counting ---

    function test_workWeighsByShareReputationAndQuality() public {
        pay(id, miner, 100e18);
        // Two per cent are the protocol's; usual quality is two thirds of the best.
        uint256 expected = 2e18 * REPUTATION / 1_000_000 * 1_000_000 / 1_500_000;
        vm.assertEq(countFor(miner, id), expected, "weight");
        vm.assertEq(rewards.weightOf(miner, guards.currentEpoch()), expected, "kept");
        vm.prank(GOVERNANCE);
        rewards.setQuality(judge);
        for (uint256 i; i < 3; ++i) {
            uint32 ppm = [uint32(0), 1_200_000, 4_000_000_000][i];
            judge.set(miner, ppm);
            pay(id, miner, 100e18);
            ppm = [uint32(250_000), 1_200_000, 1_500_000][i];
            vm.assertEq(countFor(miner, id), 2e18 * REPUTATION / 1_000_000 * ppm / 1_500_000, "clamped");
        }
    }

    function test_nothingCountsTwice() public {
        pay(id, miner, 100e18);
        SessionId[] memory twice = new SessionId[](2);
        (twice[0], twice[1]) = (id, id);
        vm.prank(miner);
        uint128 weight = rewards.count(twice);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToCount.selector, miner));
        countFor(miner, id);
        pay(id, miner, 50e18);
        vm.assertEq(countFor(miner, id), weight / 2, "what is new");
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToCount.selector, otherMiner));
        countFor(otherMiner, id);
    }

    function test_countRefusals() public {
        pay(id, miner, 100e18);
        SessionId[] memory ids = new SessionId[](129);
        vm.expectRevert(abi.encodeWithSelector(IRewards.TooMany.selector, 129));
        rewards.count(ids);
        vm.expectRevert(abi.encodeWithSelector(IRewards.TooMany.selector, 129));
        rewards.claim(miner, 129);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NotAudited.selector, client));
        countFor(client, id);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 128);
        vm.prank(address(audits));
        scores.record(miner, IScores.Weighed(0, 15 * BIT), 1, false, false);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToCount.selector, miner));
        countFor(miner, id);
        // Who is no longer suspended has lost nothing.
        vm.prank(address(audits));
        scores.record(miner, IScores.Weighed(0, -15 * BIT), 1, false, false);
        vm.assertTrue(countFor(miner, id) != 0, "counted later");
    }

    /// @dev What a router's stake paid for bears no share of the protocol, and counts for nobody.
    function test_shortfallsAreNoFees() public {
        pay(id, miner, 600e18);
        pay(id, otherMiner, 600e18);
        vm.assertEq(sessions.session(id).spent, DEPOSIT, "400 came out of the deposit");
        uint256 counted = uint256(countFor(otherMiner, id)) + countFor(miner, id);
        uint256 whole = DEPOSIT / 50 * REPUTATION / 1_000_000 * 1_000_000 / 1_500_000;
        vm.assertTrue(counted <= whole && counted + 2 >= whole, "the deposit, once");
        vm.expectPartialRevert(IRewards.NothingToCount.selector);
        countFor(miner, id);
    }

    // --- paying ---

    function test_anEpochPaysWhenItIsOver() public {
        pay(id, miner, 100e18);
        pay(id, otherMiner, 300e18);
        uint256 weight = countFor(miner, id);
        uint256 other = countFor(otherMiner, id);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 1);
        nextEpoch();
        // A quarter of the eight that were collected is the guards'; the fees are more than the cap allows.
        uint256 paid = (weight + other) / 2;
        uint256 amount = rewards.claim(miner, 128);
        vm.assertEq(amount, paid * weight / (weight + other), "by weight");
        vm.assertEq(token.balanceOf(MINER_PAYOUT), amount, "to the payout account");
        vm.assertEq(court.pool(), 2e18, "guards");
        vm.assertEq(rewards.fees(), 6e18 - paid, "the rest waits");
        vm.assertEq(rewards.pool(), 1000e18, "fees come first");
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 128);
        rewards.claim(otherMiner, 128);
        vm.assertLe(rewards.reserved(), 1, "rounding");
    }

    function test_theEmissionFillsUpAndHalves() public {
        IRewards.Parameters memory p = rewardParameters();
        (p.emission, p.halvingEpochs, p.guardBps) = (8, 2, 10_000);
        vm.prank(GOVERNANCE);
        rewards.setParameters(p);
        uint256[4] memory expected = [uint256(8), 8, 4, 4];
        for (uint256 i; i < 4; ++i) {
            // With all fees the guards', the emission alone is left.
            while (guards.currentEpoch() < 2 * (i / 2) + i % 2) {
                nextEpoch();
            }
            pay(id, miner, 100e18);
            countFor(miner, id);
            nextEpoch();
            vm.assertEq(rewards.claim(miner, 128), expected[i], "emission");
        }
        vm.assertEq(rewards.emissionIn(2 * 128), 0, "in the end nothing");
    }

    function test_claimsAreBoundedAndInOrder() public {
        uint256 sum = 0;
        for (uint256 i; i < 5; ++i) {
            pay(id, miner, 10e18);
            countFor(miner, id);
            nextEpoch();
            nextEpoch();
        }
        (uint256 owed, uint256 epochs) = rewards.claimable(miner, guards.currentEpoch());
        vm.assertEq(epochs, 5, "epochs");
        for (uint256 i; i < 3; ++i) {
            sum += rewards.claim(miner, 2);
        }
        vm.assertEq(sum, owed, "as it was foreseen");
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 2);
    }

    function test_whoIsConvictedGetsNothingMore() public {
        pay(id, miner, 100e18);
        countFor(miner, id);
        nextEpoch();
        vm.prank(address(court));
        scores.convict(miner);
        uint256 before = rewards.pool();
        uint256 amount = rewards.claim(miner, 128);
        vm.assertEq(rewards.pool(), before + amount, "back to the pool");
        vm.assertEq(token.balanceOf(MINER_PAYOUT), 0, "nothing");
        pay(id, miner, 100e18);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToCount.selector, miner));
        countFor(miner, id);
    }

    /// @dev Idle is not guilty: nothing earned, nothing lost, whatever passes.
    function test_theIdleGetAndLoseNothing() public {
        pay(id, otherMiner, 100e18);
        countFor(otherMiner, id);
        vm.warp(block.timestamp + 30 days);
        rewards.claim(otherMiner, 128);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 128);
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "stake");
    }

    /// @dev An epoch without money pays nothing, and money that comes later is not for it.
    function test_anEmptyEpochStaysEmpty() public {
        IRewards.Parameters memory p = rewardParameters();
        (p.emission, p.guardBps) = (0, 10_000);
        vm.prank(GOVERNANCE);
        rewards.setParameters(p);
        pay(id, miner, 100e18);
        countFor(miner, id);
        nextEpoch();
        vm.assertEq(rewards.claim(miner, 1), 0, "nothing there");
        p.emission = EMISSION;
        vm.prank(GOVERNANCE);
        rewards.setParameters(p);
        vm.expectRevert(abi.encodeWithSelector(IRewards.NothingToClaim.selector, miner));
        rewards.claim(miner, 1);
    }

    function test_whatIsSentIsCollected() public {
        token.transfer(address(rewards), 10e18);
        sessions.balanceOf(address(rewards));
        pay(id, miner, 50e18);
        sessions.withdraw(address(rewards));
        vm.assertEq(rewards.collect(), 11e18, "sent, and withdrawn by somebody");
        vm.assertEq(rewards.collect(), 0, "once");
        vm.expectRevert(IRewards.ZeroAmount.selector);
        rewards.fund(0);
    }

    // --- self-dealing ---

    /// @dev Whatever others do, paying oneself through one's own router and model loses more than it brings.
    function testFuzz_selfDealingCostsMoreThanItBrings(uint96 own, uint96 honest, uint32 ppm, uint32 audits_) public {
        own = uint96(bound(own, 1e6, 500e18));
        honest = uint96(bound(honest, 1e6, 500e18));
        IRewards.Parameters memory p = rewardParameters();
        (p.capPpm, p.emission) = (rewards.MAX_CAP_PPM(), rewards.MAX_EMISSION());
        vm.startPrank(GOVERNANCE);
        rewards.setParameters(p);
        rewards.setQuality(judge);
        vm.stopPrank();
        rewards.fund(10_000_000e18);
        judge.set(miner, ppm);
        for (uint256 i; i < audits_ % 50; ++i) {
            audited(miner);
        }
        SessionId mine = openSession();
        uint256 before = sessions.balanceOf(address(rewards));
        pay(mine, miner, own);
        uint256 lost = sessions.balanceOf(address(rewards)) - before;
        pay(id, otherMiner, honest);
        countFor(miner, mine);
        countFor(otherMiner, id);
        nextEpoch();
        uint256 gained = rewards.claim(miner, 128);
        vm.assertTrue(gained < lost, "the protocol keeps more than it gives back");
        vm.assertTrue(gained <= lost * 9 / 10, "a tenth at least");
    }

    // --- governance ---

    function test_onlyGovernanceGoverns() public {
        bytes4 refusal = bytes4(keccak256("OwnableUnauthorizedAccount(address)"));
        vm.expectPartialRevert(refusal);
        rewards.setParameters(rewardParameters());
        vm.expectPartialRevert(refusal);
        rewards.setQuality(IQuality(address(0)));
        vm.startPrank(GOVERNANCE);
        for (uint256 i; i < 4; ++i) {
            IRewards.Parameters memory p = rewardParameters();
            if (i == 0) p.emission = 1_000_000e18 + 1;
            if (i == 1) p.halvingEpochs = 0;
            if (i == 2) p.capPpm = 900_001;
            if (i == 3) p.guardBps = 10_001;
            vm.expectRevert(IRewards.ParametersOutOfBounds.selector);
            rewards.setParameters(p);
        }
        vm.stopPrank();
        vm.expectRevert(IRewards.ZeroAddress.selector);
        new Rewards(token, registry, sessions, guards, scores, ICourt(address(0)), GOVERNANCE, rewardParameters());
    }
}
