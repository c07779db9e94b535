// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Scores} from "../src/Scores.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev This contract writes, in place of audits and court.
contract ScoresTest is AuditWorld {
    function setUp() public {
        scores = new Scores(GOVERNANCE, scoreParameters());
        vm.prank(GOVERNANCE);
        scores.setWriters(address(this), address(this));
    }

    function test_onlyTheWritersWrite() public {
        vm.startPrank(GOVERNANCE);
        vm.expectRevert(abi.encodeWithSelector(IScores.NotAuditor.selector, GOVERNANCE));
        scores.record(miner, both(1), 1, false, false);
        vm.expectRevert(abi.encodeWithSelector(IScores.NotCourt.selector, GOVERNANCE));
        scores.convict(miner);
        vm.expectRevert(abi.encodeWithSelector(IScores.NotAuditor.selector, GOVERNANCE));
        scores.recordMissing(miner, 1);
        vm.expectRevert(IScores.ZeroAddress.selector);
        scores.setWriters(address(0), address(this));
        vm.stopPrank();
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        scores.setWriters(address(this), address(this));
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        scores.setParameters(scoreParameters());
    }

    /// @dev Against sums kept here; the CUSUM by its definition as the highest rise above any earlier low. Each charge by itself.
    function testFuzz_evidenceAddsUp(int32[2][24] memory added) public {
        int256[2] memory sums;
        int256[2] memory lows;
        for (uint256 i; i < added.length; ++i) {
            IScores.Weighed memory weighed = IScores.Weighed(added[i][0] % (4 * BIT), added[i][1] % (4 * BIT));
            scores.record(miner, weighed, 10, false, false);
            sums[0] += weighed.computation;
            sums[1] += weighed.sampling;
            for (uint256 charge; charge < 2; ++charge) {
                if (sums[charge] < lows[charge]) lows[charge] = sums[charge];
            }
            IScores.Score memory score = scores.score(miner);
            vm.assertEq(int256(score.computation), sums[0], "computation");
            vm.assertEq(int256(score.sampling), sums[1], "sampling");
            vm.assertEq(int256(uint256(score.computationCusum)), sums[0] - lows[0], "CUSUM of computation");
            vm.assertEq(int256(uint256(score.samplingCusum)), sums[1] - lows[1], "CUSUM of sampling");
            vm.assertEq(score.jobs, i + 1, "jobs");
            vm.assertEq(score.tokens, 10 * (i + 1), "tokens");
            vm.assertTrue(score.state != IScores.State.Slashed, "no committee, no conviction");
        }
    }

    /// @dev What speaks for honesty under one charge excuses nothing under the other.
    function test_chargesDoNotHideBehindEachOther() public {
        scores.record(miner, IScores.Weighed(-1000 * BIT, 15 * BIT), 1, false, true);
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Suspended), "sampling");
        (, bool convicted) = scores.record(miner, IScores.Weighed(6 * BIT, 6 * BIT), 1, false, true);
        vm.assertTrue(convicted, "21 bits of sampling");
        scores.record(otherMiner, IScores.Weighed(15 * BIT, 15 * BIT), 1, false, true);
        scores.record(otherMiner, IScores.Weighed(5 * BIT, -1000 * BIT), 1, false, true);
        vm.assertEq(uint256(scores.score(otherMiner).state), uint256(IScores.State.Suspended), "20 bits are not enough");
    }

    function test_sumsStopAtTheEndsOfTheirTypes() public {
        for (uint256 i; i < 300; ++i) {
            scores.record(miner, IScores.Weighed(type(int32).min, type(int32).max), 1, false, false);
        }
        IScores.Score memory score = scores.score(miner);
        vm.assertEq(int256(score.computation), -int256(type(int40).max), "computation");
        vm.assertEq(int256(score.sampling), int256(type(int40).max), "sampling");
        vm.assertEq(score.computationCusum, 0, "CUSUM of computation");
        vm.assertEq(score.samplingCusum, type(uint32).max, "CUSUM of sampling");
    }

    function test_statesFollowTheLevelsBothWays() public {
        checkState(500_947, IScores.State.Good);
        checkState(1, IScores.State.Watched);
        checkState(936_360 - 500_948 - 1, IScores.State.Watched);
        checkState(1, IScores.State.Suspended);
        checkState(-1, IScores.State.Watched);
        checkState(-435_412, IScores.State.Good);
    }

    /// @dev Long honesty cannot be saved up: the CUSUM rises from zero all the same.
    function test_honestyCannotBeBanked() public {
        for (uint256 i; i < 100; ++i) {
            scores.record(miner, both(-10 * BIT), 100, false, false);
        }
        vm.assertEq(
            uint256(scores.stateAfter(miner, both(15 * BIT), false)), uint256(IScores.State.Suspended), "suspended"
        );
        scores.record(miner, both(16 * BIT), 1, false, true);
        scores.record(miner, both(16 * BIT), 1, false, true);
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Suspended), "32 bits convict nobody");
        (, bool convicted) = scores.record(miner, both(16 * BIT), 1, false, true);
        vm.assertTrue(convicted, "48 bits of CUSUM do");
    }

    function test_convictionNeedsACommitteeAndIsFinal() public {
        (IScores.State state, bool convicted) = scores.record(miner, both(30 * BIT), 1, true, false);
        vm.assertTrue(state == IScores.State.Suspended && !convicted, "no committee");
        vm.assertEq(uint256(scores.stateAfter(miner, both(0), false)), uint256(IScores.State.Slashed), "with one");
        (state, convicted) = scores.record(miner, both(0), 1, false, true);
        vm.assertTrue(state == IScores.State.Slashed && convicted, "with one");
        (state, convicted) = scores.record(miner, both(-100 * BIT), 1, false, true);
        vm.assertTrue(state == IScores.State.Slashed && !convicted, "once, and for good");
        scores.convict(otherMiner);
        vm.assertEq(uint256(scores.score(otherMiner).state), uint256(IScores.State.Slashed), "by the court");
        vm.assertEq(scores.rateOf(otherMiner), 500_000, "rate");
    }

    function test_ratesOfNewcomersOthersAndSuspects() public {
        for (uint256 i; i < 40; ++i) {
            vm.assertEq(scores.rateOf(miner), 1_000_000, "new");
            scores.record(miner, both(-1), 1, false, false);
        }
        vm.assertEq(scores.rateOf(miner), 30_000, "floor");
        scores.record(miner, both(8 * BIT), 1, false, false);
        vm.assertEq(scores.rateOf(miner), 500_000, "suspicious");
    }

    /// @dev Time decides nothing: who is idle is not guilty.
    function test_nothingHappensToTheIdle() public {
        scores.record(miner, both(3 * BIT), 500, false, false);
        (bytes memory before, uint256 reputation) = (abi.encode(scores.score(miner)), scores.reputationOf(miner));
        vm.warp(block.timestamp + 1000 days);
        vm.assertEq(abi.encode(scores.score(miner)), before, "score");
        vm.assertEq(scores.reputationOf(miner), reputation, "reputation");
    }

    function test_reputationGrowsWithAuditsAndFallsWithSuspicion() public {
        uint256 last = scores.reputationOf(miner);
        vm.assertEq(last, 500_000, "unknown");
        for (uint256 i; i < 100; ++i) {
            scores.record(miner, both(-BIT), 100, false, false);
            uint256 next = scores.reputationOf(miner);
            vm.assertTrue(next > last && next < 1_000_000, "grows");
            last = next;
            if (i == 39) vm.assertEq(next, 666_666, "two thirds");
        }
        vm.assertEq(scores.scoreOf(miner), 100 * 100 * last / 1_000_000, "power");
        scores.record(miner, both(468_180), 100, false, false);
        vm.assertTrue(scores.reputationOf(miner) < last * 51 / 100, "half of the way to suspension");
        scores.record(miner, both(468_180), 100, false, false);
        vm.assertEq(scores.reputationOf(miner), 0, "suspended");
        vm.assertEq(scores.scoreOf(miner), 0, "no power");
    }

    // --- what was not shown ---

    /// @dev Whatever was lost together is one failure: all that was committed before the first of it was counted.
    function test_whatWasCommittedBeforeCountsOnce() public {
        vm.warp(1000);
        scores.recordMissing(miner, uint40(block.timestamp - 50));
        checkFailures(1, 8 * BIT, IScores.State.Watched);
        scores.recordMissing(miner, uint40(block.timestamp - 10));
        scores.recordMissing(miner, uint40(block.timestamp));
        checkFailures(1, 8 * BIT, IScores.State.Watched);
        vm.assertEq(scores.score(miner).jobs, 0, "no audit");
    }

    function test_whoFailsAgainAndAgainIsConvicted() public {
        vm.assertFalse(fail(), "first");
        checkFailures(1, 8 * BIT, IScores.State.Watched);
        vm.assertFalse(fail(), "second");
        checkFailures(2, 16 * BIT, IScores.State.Suspended);
        vm.assertTrue(fail(), "third");
        checkFailures(3, 24 * BIT, IScores.State.Slashed);
        vm.assertFalse(fail(), "once");
        vm.warp(block.timestamp + 300 days);
        scores.forget(miner);
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Slashed), "a conviction stays");
    }

    /// @dev Good audits cancel the evidence of a failure, but not the failure.
    function test_goodAuditsDoNotExcuseFailures() public {
        for (uint256 i; i < 2; ++i) {
            fail();
            scores.record(miner, both(-16 * BIT), 1, false, false);
            vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Good), "good again");
        }
        vm.assertTrue(fail(), "third");
    }

    function testFuzz_timeMakesFailuresForgotten(uint256 time, uint256 more) public {
        fail();
        fail();
        IScores.Failures memory failures = scores.failuresOf(miner);
        uint256 first = failures.since;
        (time, more) = (bound(time, 0, 100 days), bound(more, 0, 100 days));
        vm.warp(first + time);
        scores.forget(miner);
        vm.warp(first + time + more);
        scores.forget(miner);
        scores.forget(miner);
        uint256 left = (time + more) / 30 days >= 2 ? 0 : 2 - (time + more) / 30 days;
        // Whenever it was called, one for each whole month is gone, and what it weighed.
        checkFailures(uint32(left), int32(int256(left)) * 8 * BIT, IScores.State(left));
    }

    function fail() private returns (bool) {
        vm.warp(block.timestamp + 1 hours);
        return scores.recordMissing(miner, uint40(block.timestamp));
    }

    function checkFailures(uint32 count, int32 evidence, IScores.State state) private view {
        IScores.Score memory score = scores.score(miner);
        vm.assertEq(scores.failuresOf(miner).count, count, "failures");
        vm.assertEq(int256(score.computation), evidence, "computation");
        vm.assertEq(int256(score.sampling), evidence, "sampling");
        vm.assertEq(int256(uint256(score.samplingCusum)), evidence, "CUSUM");
        vm.assertEq(uint256(score.state), uint256(state), "state");
    }

    // --- profiles ---

    function test_profilesHaveGrowingVersions() public {
        IScores.Profile memory profile = someProfile(1);
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        vm.startPrank(GOVERNANCE);
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        vm.assertEq(abi.encode(scores.profile(MODEL, MINER_CLASS, GUARD_CLASS)), abi.encode(profile), "kept");
        vm.assertEq(scores.profile(MODEL, GUARD_CLASS, MINER_CLASS).version, 0, "another pair");
        vm.expectRevert(abi.encodeWithSelector(IScores.ProfileVersionNotNewer.selector, 1, 1));
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        profile = someProfile(2);
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        vm.assertEq(abi.encode(scores.profile(MODEL, MINER_CLASS, GUARD_CLASS)), abi.encode(profile), "replaced");
        profile = someProfile(3);
        profile.contentHash = bytes32(0);
        vm.expectRevert(IScores.ProfileInvalid.selector);
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        vm.stopPrank();
    }

    function testFuzz_weighing(int32[16][3][2] memory ratios, uint16[16][3] memory bins) public {
        IScores.Profile memory profile = someProfile(1);
        profile.ratios = ratios;
        vm.prank(GOVERNANCE);
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        int256[2] memory sums;
        for (uint256 i; i < 96; ++i) {
            sums[i / 48] += int256(ratios[i / 48][i / 16 % 3][i % 16]) * int256(uint256(bins[i / 16 % 3][i % 16]));
        }
        int32 clip = type(int32).max;
        IScores.Weighed memory weighed = scores.weigh(MODEL, MINER_CLASS, GUARD_CLASS, bins, clip);
        int256 expected = sums[0] - 196_608;
        vm.assertEq(weighed.computation, clipped(expected < -12_626 ? -int256(12_626) : expected, clip), "computation");
        vm.assertEq(weighed.sampling, clipped(sums[1], clip), "sampling");
        weighed = scores.weigh(MODEL, MINER_CLASS, GUARD_CLASS, bins, BIT);
        vm.assertEq(weighed.sampling, clipped(sums[1], BIT), "clipped");
        weighed = scores.weigh(MODEL, GUARD_CLASS, GUARD_CLASS, bins, clip);
        vm.assertTrue(weighed.computation == 0 && weighed.sampling == 0, "without a profile");
    }

    function test_parametersAreBounded() public {
        vm.startPrank(GOVERNANCE);
        for (uint256 i; i < 18; ++i) {
            IScores.Parameters memory p = scoreParameters();
            if (i == 0) p.watch = 0;
            if (i == 1) p.suspend = p.watch;
            if (i == 2) p.convict = p.suspend;
            if (i == 3) p.convictCusum = p.convict - 1;
            if (i == 4) p.convictCusum = 257 * BIT;
            if (i == 5) p.floorPpm = 0;
            if (i == 6) p.newcomerPpm = p.floorPpm - 1;
            if (i == 7) p.newcomerPpm = 1_000_001;
            if (i == 8) p.suspiciousPpm = p.floorPpm - 1;
            if (i == 9) p.suspiciousPpm = 1_000_001;
            if (i == 10) p.newcomerJobs = 1_000_001;
            if (i == 11) p.reputationJobs = 0;
            if (i == 12) p.reputationJobs = 1_000_001;
            if (i == 13) p.missingEvidence = 0;
            if (i == 14) p.missingEvidence = p.suspend + 1;
            if (i == 15) p.missingLimit = 1;
            if (i == 16) p.missingMemory = 0;
            if (i == 17) p.missingMemory = 367 days;
            vm.expectRevert(IScores.ParametersOutOfBounds.selector);
            scores.setParameters(p);
        }
        scores.setParameters(scoreParameters());
        vm.stopPrank();
    }

    function checkState(int32 added, IScores.State state) private {
        scores.record(miner, both(added), 1, false, false);
        vm.assertEq(uint256(scores.score(miner).state), uint256(state), "state");
    }

    function clipped(int256 bits, int256 clip) private pure returns (int256) {
        return bits > clip ? clip : bits < -clip ? -clip : bits;
    }

    function both(int32 bits) private pure returns (IScores.Weighed memory) {
        return IScores.Weighed(bits, bits);
    }

    function someProfile(uint32 version) private pure returns (IScores.Profile memory profile) {
        (profile.version, profile.contentHash) = (version, keccak256(abi.encode(version)));
        for (uint256 i; i < 96; ++i) {
            profile.ratios[i / 48][i / 16 % 3][i % 16] = int32(uint32(version)) * (int32(uint32(i)) - 24);
        }
    }
}
