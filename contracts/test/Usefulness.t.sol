// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Usefulness} from "../src/Usefulness.sol";
import {IAudits} from "../src/interfaces/IAudits.sol";
import {IGuards} from "../src/interfaces/IGuards.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {IUsefulness} from "../src/interfaces/IUsefulness.sol";
import {ModelId} from "../src/types/ModelId.sol";
import {UsefulWorld} from "./support/UsefulWorld.sol";
import {bound, vm} from "./support/Vm.sol";

contract UsefulnessTest is UsefulWorld {
    function setUp() public {
        deployUsefulWorld(6);
        registerProfile();
        vm.prank(GOVERNANCE);
        court.setTrapSetter(address(this), true);
    }

    // --- the path ---

    function test_aJudgementMovesQualityAndPaysWhoAgrees() public {
        vm.assertEq(usefulness.qualityPpm(miner), 1_000_000, "neutral without a judgement");
        bytes32 item = usefulItem(1);
        address[] memory would = usefulness.drawn(item);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        vm.assertEq(keccak256(abi.encode(would)), keccak256(abi.encode(judges)), "as told before");
        vm.assertEq(judges.length, 3, "as many as governance says");
        uint128 stake = registry.slashable(judges[2]);

        scoreAll(item, three(1_300_000, 1_400_000, 500_000));
        vm.expectPartialRevert(IUsefulness.NotDue.selector);
        usefulness.settle(item);
        pastKnownWindow(item);
        usefulness.settle(item);

        IUsefulness.Judgement memory state = usefulness.judgement(item);
        vm.assertTrue(state.status == IUsefulness.Status.Settled, "settled");
        vm.assertEq(state.score, 1_300_000, "the median");
        vm.assertEq(usefulness.qualityPpm(miner), 1_030_000, "a tenth of the way");
        vm.assertEq(usefulness.recordOf(miner).judgements, 1, "one");
        vm.assertEq(usefulness.balanceOf(judges[0]) + usefulness.balanceOf(judges[1]), 2 * JUDGE_PAY, "two agree");
        vm.assertEq(usefulness.balanceOf(judges[2]), 0, "one strays");
        vm.assertEq(usefulness.pool(), 1000e18 - 2 * JUDGE_PAY, "from the pool");
        vm.assertEq(usefulness.trustOf(judges[0]), 520_000, "gains");
        vm.assertEq(usefulness.trustOf(judges[2]), 480_000, "loses");
        vm.assertEq(registry.slashable(judges[2]), stake, "no stake");
        vm.expectPartialRevert(IUsefulness.WrongStatus.selector);
        usefulness.settle(item);
        vm.expectPartialRevert(IUsefulness.JudgementKnown.selector);
        usefulness.open(item);

        uint256 before = token.balanceOf(judges[0]);
        vm.assertEq(usefulness.withdraw(judges[0]), JUDGE_PAY, "anyone may have it paid");
        vm.assertEq(token.balanceOf(judges[0]), before + JUDGE_PAY, "to the account itself");
        vm.expectPartialRevert(IUsefulness.NothingToWithdraw.selector);
        usefulness.withdraw(judges[0]);
    }

    function test_anEmptyPoolPaysNothingAndStopsNothing() public {
        usefulness = new Usefulness(token, registry, audits, GOVERNANCE, usefulnessParameters());
        for (uint256 i; i < 6; ++i) {
            accept(modelNumber(i), uint32(i + 1));
            vm.prank(vm.addr(GUARD_KEYS + i));
            usefulness.declareModel(modelNumber(i));
        }
        nextEpoch();
        judged(1, three(900_000, 900_000, 900_000));
        vm.assertEq(usefulness.qualityPpm(miner), 990_000, "it counts all the same");
    }

    // --- what may be judged ---

    function test_onlyWhatPassedTheFirstLevelIsJudged() public {
        vm.expectPartialRevert(IUsefulness.NotUseful.selector);
        usefulness.open(keccak256("no audit"));
        (, bytes32 running) = openOne(1);
        vm.expectPartialRevert(IUsefulness.NotUseful.selector);
        usefulness.open(running);
        IScores.Parameters memory everything = scoreParameters();
        everything.suspiciousPpm = 1_000_000;
        vm.prank(GOVERNANCE);
        scores.setParameters(everything);
        // Seven bits of evidence: beyond the level of a bad answer, below that of a conviction.
        bytes32 bad = settleAudit(2, findingIn(2, 4));
        recordBeaconOf(bad);
        vm.assertTrue(audits.audit(bad).evidence.sampling >= auditParameters().badEvidence, "bad");
        vm.expectPartialRevert(IUsefulness.NotUseful.selector);
        usefulness.open(bad);
        bytes32 hard = settleAudit(3, hardFinding());
        recordBeaconOf(hard);
        vm.assertTrue(audits.audit(hard).hard, "hard");
        vm.expectPartialRevert(IUsefulness.NotUseful.selector);
        usefulness.open(hard);
    }

    function test_whatIsOpenedTooEarlyOrTooLateIsRefused() public {
        bytes32 item = settleAudit(1, findingIn(0, 60));
        vm.expectPartialRevert(IGuards.BeaconUnknown.selector);
        usefulness.open(item);
        recordBeaconOf(item);
        uint256 last = uint256(audits.audit(item).until) + EPOCH + 6 hours;
        vm.warp(last + 1);
        vm.expectPartialRevert(IUsefulness.TooLate.selector);
        usefulness.open(item);
        vm.warp(last);
        usefulness.open(item);
    }

    function test_onlyAPartIsDrawn() public {
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.samplePpm = 300_000;
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        uint256 opened = 0;
        for (uint256 i; i < 36; ++i) {
            bytes32 item = usefulItem(i);
            if (usefulness.drawn(item).length == 0) {
                vm.expectPartialRevert(IUsefulness.NotSampled.selector);
                usefulness.open(item);
            } else {
                usefulness.open(item);
                ++opened;
            }
        }
        // 11 expected; four standard deviations.
        vm.assertTrue(opened > 0 && opened < 22, "three in ten");
    }

    // --- who judges ---

    function test_familiesComeBeforeRepetition() public {
        // All but one of the same family: the odd one is always drawn, and only once.
        for (uint256 i; i < 5; ++i) {
            accept(modelNumber(i), 77);
            vm.prank(vm.addr(GUARD_KEYS + i));
            usefulness.declareModel(modelNumber(i));
        }
        nextEpoch();
        for (uint256 n; n < 5; ++n) {
            bytes32 item = usefulItem(n);
            usefulness.open(item);
            address[] memory judges = judgesOf(item);
            uint256 odd = 0;
            for (uint256 i; i < judges.length; ++i) {
                if (judges[i] == vm.addr(GUARD_KEYS + 5)) ++odd;
            }
            vm.assertEq(odd, 1, "the other family");
            vm.assertEq(judges.length, 3, "and two of the same");
        }
    }

    function test_whoDeclaredNothingIsNotDrawn() public {
        for (uint256 i; i < 4; ++i) {
            vm.prank(vm.addr(GUARD_KEYS + i));
            usefulness.declareModel(ModelId.wrap(0));
        }
        nextEpoch();
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        vm.assertEq(judgesOf(item).length, 2, "two are left");
        vm.prank(vm.addr(GUARD_KEYS + 4));
        usefulness.declareModel(ModelId.wrap(0));
        nextEpoch();
        item = usefulItem(2);
        vm.expectRevert(IUsefulness.NoJudges.selector);
        usefulness.open(item);
    }

    function test_declarationsCountFromTheNextEpochOn() public {
        address guard = vm.addr(GUARD_KEYS);
        uint32 epoch = guards.currentEpoch();
        vm.startPrank(guard);
        usefulness.declareModel(modelNumber(1));
        usefulness.declareModel(modelNumber(2));
        vm.assertEq(usefulness.familyAt(guard, epoch), 1, "as before");
        vm.assertEq(usefulness.familyAt(guard, epoch + 1), 3, "the last of an epoch");
        vm.assertEq(ModelId.unwrap(usefulness.modelOf(guard)), ModelId.unwrap(modelNumber(2)), "told");
        vm.expectPartialRevert(IUsefulness.ModelNotAccepted.selector);
        usefulness.declareModel(modelNumber(9));
        vm.stopPrank();
    }

    function test_relatedGuardsAndTheMinersOwnAreNotDrawn() public {
        // Guard 1 pays out to guard 0; guard 2 to the miner's owner.
        vm.prank(vm.addr(GUARD_KEYS + 1));
        registry.setPayout(vm.addr(GUARD_KEYS + 1), vm.addr(GUARD_KEYS));
        vm.prank(vm.addr(GUARD_KEYS + 2));
        registry.setPayout(vm.addr(GUARD_KEYS + 2), NODE_OWNER);
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.judges = 5;
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        for (uint256 n; n < 5; ++n) {
            bytes32 item = usefulItem(n);
            usefulness.open(item);
            address[] memory judges = judgesOf(item);
            vm.assertEq(judges.length, 4, "one of the pair, and three");
            for (uint256 i; i < judges.length; ++i) {
                vm.assertTrue(judges[i] != vm.addr(GUARD_KEYS + 2), "the miner's own");
            }
        }
    }

    // --- commitments ---

    function test_scoresAreCommittedToBeforeTheyAreSeen() public {
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        commitScore(judges[0], item, 700_000);
        vm.expectPartialRevert(IUsefulness.RevealTooEarly.selector);
        revealScore(judges[0], item, 700_000);
        vm.expectPartialRevert(IUsefulness.SeatTaken.selector);
        commitScore(judges[0], item, 800_000);
        vm.expectPartialRevert(IUsefulness.NotAssigned.selector);
        commitScore(address(0xBAD), item, 800_000);
        vm.prank(judges[1]);
        vm.expectRevert(IUsefulness.CommitmentZero.selector);
        usefulness.commitScore(item, bytes32(0));
        // A copied commitment opens for nobody else.
        vm.prank(judges[1]);
        usefulness.commitScore(item, scoreCommitment(judges[0], item, 700_000));
        commitScore(judges[2], item, 1_500_001);
        vm.expectRevert(IUsefulness.CommitmentMismatch.selector);
        revealScore(judges[1], item, 700_000);
        vm.expectPartialRevert(IUsefulness.ScoreOutOfBounds.selector);
        revealScore(judges[2], item, 1_500_001);
        vm.expectRevert(IUsefulness.CommitmentMismatch.selector);
        revealScore(judges[0], item, 700_001);
        revealScore(judges[0], item, 700_000);
        vm.expectPartialRevert(IUsefulness.SeatTaken.selector);
        revealScore(judges[0], item, 700_000);
    }

    function test_windowsEnd() public {
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        commitScore(judges[0], item, 700_000);
        commitScore(judges[1], item, 800_000);
        IUsefulness.Judgement memory state = usefulness.judgement(item);
        vm.warp(uint256(state.commitUntil) + 1);
        vm.expectPartialRevert(IUsefulness.TooLate.selector);
        commitScore(judges[2], item, 700_000);
        revealScore(judges[0], item, 700_000);
        vm.assertEq(usefulness.judgement(item).until, state.until, "one is missing");
        revealScore(judges[1], item, 800_000);
        vm.assertEq(usefulness.judgement(item).until, block.timestamp, "nobody is awaited any more");
    }

    function test_whoStaysAwayEarnsNothingAndLosesTrust() public {
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        commitScore(judges[0], item, 700_000);
        commitScore(judges[1], item, 800_000);
        commitScore(judges[2], item, 900_000);
        revealScore(judges[0], item, 700_000);
        revealScore(judges[1], item, 800_000);
        pastKnownWindow(item);
        usefulness.settle(item);
        vm.assertEq(usefulness.judgement(item).score, 700_000, "of two with the same trust the lower");
        vm.assertEq(usefulness.balanceOf(judges[2]), 0, "no pay");
        vm.assertEq(usefulness.trustOf(judges[2]), 300_000, "twice the step of a known answer");
        vm.assertEq(registry.slashable(judges[2]), GUARD_STAKE, "no stake");
    }

    function test_belowTheQuorumNothingCounts() public {
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        commitScore(judges[0], item, 100_000);
        vm.warp(uint256(usefulness.judgement(item).commitUntil) + 1);
        revealScore(judges[0], item, 100_000);
        pastKnownWindow(item);
        usefulness.settle(item);
        vm.assertTrue(usefulness.judgement(item).status == IUsefulness.Status.Void, "void");
        vm.assertEq(usefulness.qualityPpm(miner), 1_000_000, "as before");
        vm.assertEq(usefulness.trustOf(judges[0]), 500_000, "as before");
        vm.assertEq(usefulness.trustOf(judges[1]), 300_000, "was away");
    }

    // --- known answers ---

    function test_knownAnswersMoveTrustAndNothingElse() public {
        bytes32 item = usefulItem(1);
        bytes32[] memory commitments = new bytes32[](1);
        commitments[0] = keccak256(abi.encode(address(this), item, uint32(0), uint32(400_000), SALT));
        usefulness.plant(commitments);
        vm.warp(block.timestamp + 1);
        usefulness.open(item);
        address[] memory judges = judgesOf(item);
        scoreAll(item, three(300_000, 1_100_000, 1_100_000));
        vm.expectPartialRevert(IUsefulness.NotDue.selector);
        usefulness.showKnown(item, 0, 400_000, SALT);
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(IUsefulness.KnownUnknown.selector);
        usefulness.showKnown(item, 0, 1_400_000, SALT);
        usefulness.showKnown(item, 0, 400_000, SALT);
        vm.assertTrue(usefulness.judgement(item).status == IUsefulness.Status.Planted, "planted");
        vm.assertEq(usefulness.trustOf(judges[0]), 600_000, "knew");
        vm.assertEq(usefulness.trustOf(judges[1]), 400_000, "did not");
        vm.assertEq(usefulness.balanceOf(judges[0]), JUDGE_PAY, "paid");
        vm.assertEq(usefulness.balanceOf(judges[1]), 0, "the majority is not");
        vm.assertEq(usefulness.recordOf(miner).judgements, 0, "nothing about the miner");
        pastKnownWindow(item);
        vm.expectPartialRevert(IUsefulness.WrongStatus.selector);
        usefulness.settle(item);
    }

    function test_whatIsPlantedAfterTheDrawIsNoKnownAnswer() public {
        bytes32 item = usefulItem(1);
        usefulness.open(item);
        bytes32[] memory commitments = new bytes32[](1);
        commitments[0] = keccak256(abi.encode(address(this), item, uint32(0), uint32(400_000), SALT));
        usefulness.plant(commitments);
        scoreAll(item, three(300_000, 1_100_000, 1_100_000));
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(IUsefulness.KnownUnknown.selector);
        usefulness.showKnown(item, 0, 400_000, SALT);
        vm.prank(challenger);
        vm.expectPartialRevert(IUsefulness.NotTrapSetter.selector);
        usefulness.plant(commitments);
        vm.expectPartialRevert(IUsefulness.TooMany.selector);
        usefulness.plant(new bytes32[](257));
    }

    /// @dev Judges who always agree with each other do not come beyond 750,000; straying from them alone not below 250,000.
    function test_agreementAloneMovesTrustWithinBounds() public {
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.trustStep = 100_000;
        next.judges = 5;
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        vm.prank(vm.addr(GUARD_KEYS + 5));
        usefulness.declareModel(ModelId.wrap(0));
        nextEpoch();
        for (uint256 n; n < 6; ++n) {
            bytes32 item = usefulItem(n);
            usefulness.open(item);
            address[] memory judges = judgesOf(item);
            uint32[] memory scores = new uint32[](5);
            for (uint256 i; i < 5; ++i) {
                scores[i] = judges[i] == vm.addr(GUARD_KEYS) ? 1_500_000 : 500_000;
            }
            scoreAll(item, scores);
            pastKnownWindow(item);
            usefulness.settle(item);
        }
        vm.assertEq(usefulness.trustOf(vm.addr(GUARD_KEYS)), 250_000, "least");
        vm.assertEq(usefulness.trustOf(vm.addr(GUARD_KEYS + 1)), 750_000, "most");
    }

    // --- numbers ---

    /// @dev With equal trust, any two of five judges together never move the median out of the range of the other three.
    function testFuzz_theMedianStaysAmongTheHonest(uint32[5] memory raw) public {
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.judges = 5;
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        uint32[] memory scores = new uint32[](5);
        (uint32 low, uint32 high) = (type(uint32).max, 0);
        for (uint256 i; i < 5; ++i) {
            scores[i] = uint32(bound(raw[i], 0, 1_500_000));
            if (i >= 2 && scores[i] < low) low = scores[i];
            if (i >= 2 && scores[i] > high) high = scores[i];
        }
        bytes32 item = judged(1, scores);
        uint32 median = usefulness.judgement(item).score;
        vm.assertTrue(low <= median && median <= high, "within");
        vm.assertEq(median, sortedMiddle(scores), "the third of five");
    }

    /// @dev Trust counts: one judge whose word is worth more than the others' together decides.
    function test_trustWeighsTheMedian() public {
        address favoured = vm.addr(GUARD_KEYS);
        for (uint256 n; n < 4; ++n) {
            bytes32 item = usefulItem(n);
            bytes32[] memory commitments = new bytes32[](1);
            commitments[0] = keccak256(abi.encode(address(this), item, uint32(0), uint32(1), SALT));
            usefulness.plant(commitments);
            vm.warp(block.timestamp + 1);
            usefulness.open(item);
            address[] memory judges = judgesOf(item);
            uint32[] memory scores = new uint32[](judges.length);
            for (uint256 i; i < judges.length; ++i) {
                scores[i] = judges[i] == favoured ? 0 : 1_000_000;
            }
            scoreAll(item, scores);
            vm.warp(block.timestamp + 1);
            usefulness.showKnown(item, 0, 1, SALT);
        }
        for (uint256 n = 10; n < 16; ++n) {
            bytes32 item = usefulItem(n);
            usefulness.open(item);
            address[] memory judges = judgesOf(item);
            uint32[] memory scores = new uint32[](judges.length);
            uint256 mine = 0;
            uint256 all = 0;
            for (uint256 i; i < judges.length; ++i) {
                scores[i] = judges[i] == favoured ? 1_400_000 : 600_000;
                if (judges[i] == favoured) mine = usefulness.trustOf(favoured);
                all += usefulness.trustOf(judges[i]);
            }
            scoreAll(item, scores);
            pastKnownWindow(item);
            usefulness.settle(item);
            vm.assertEq(usefulness.judgement(item).score, 2 * mine > all ? 1_400_000 : 600_000, "by weight");
        }
    }

    function testFuzz_qualityIsTheMovingAverageWithinBounds(uint32[4] memory raw, uint32 weight) public {
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.weightPpm = uint32(bound(weight, 1, 500_000));
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        int256 expected = 1_000_000;
        for (uint256 n; n < 4; ++n) {
            uint32 score = uint32(bound(raw[n], 0, 1_500_000));
            judged(n, three(score, score, score));
            expected += (int256(uint256(score)) - expected) * int256(uint256(next.weightPpm)) / 1_000_000;
            if (expected < 250_000) expected = 250_000;
            vm.assertEq(int256(uint256(usefulness.qualityPpm(miner))), expected, "average");
        }
    }

    function test_qualityHasAFloor() public {
        IUsefulness.Parameters memory next = usefulnessParameters();
        next.weightPpm = 500_000;
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        for (uint256 n; n < 4; ++n) {
            judged(n, three(0, 0, 0));
        }
        vm.assertEq(usefulness.qualityPpm(miner), 250_000, "floor");
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "never slashes");
    }

    // --- governance ---

    function test_parametersAreBounded() public {
        check(p(0));
        for (uint256 field = 1; field <= 14; ++field) {
            IUsefulness.Parameters memory next = p(field);
            vm.prank(GOVERNANCE);
            vm.expectRevert(IUsefulness.ParametersOutOfBounds.selector);
            usefulness.setParameters(next);
        }
        IUsefulness.Parameters memory same = usefulnessParameters();
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        usefulness.setParameters(same);
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        usefulness.setFamily(MODEL, 1);
        vm.expectRevert(IUsefulness.ZeroAddress.selector);
        new Usefulness(token, registry, IAudits(address(0)), GOVERNANCE, same);
        vm.expectRevert(IUsefulness.ZeroAmount.selector);
        usefulness.fund(0);
    }

    function check(IUsefulness.Parameters memory next) private {
        vm.prank(GOVERNANCE);
        usefulness.setParameters(next);
        vm.assertEq(keccak256(abi.encode(usefulness.parameters())), keccak256(abi.encode(next)), "kept");
    }

    /// @dev The parameters with one field out of bounds.
    function p(uint256 field) private pure returns (IUsefulness.Parameters memory next) {
        next = usefulnessParameters();
        if (field == 1) next.commitWindow = 0;
        if (field == 2) next.commitWindow = 7 days + 1;
        if (field == 3) next.revealWindow = 0;
        if (field == 4) next.revealWindow = 7 days + 1;
        if (field == 5) next.openWindow = 7 days + 1;
        if (field == 6) next.knownWindow = 1 days + 1;
        if (field == 7) next.samplePpm = 0;
        if (field == 8) next.samplePpm = 1_000_001;
        if (field == 9) next.quorum = 0;
        if (field == 10) next.quorum = 4;
        if (field == 11) next.judges = 6;
        if (field == 12) next.weightPpm = 500_001;
        if (field == 13) next.trustStep = 100_001;
        if (field == 14) next.knownStep = 500_001;
    }

    function sortedMiddle(uint32[] memory scores) private pure returns (uint32) {
        for (uint256 i; i < 5; ++i) {
            uint256 below = 0;
            uint256 notAbove = 0;
            for (uint256 k; k < 5; ++k) {
                if (scores[k] < scores[i]) ++below;
                if (scores[k] <= scores[i]) ++notAbove;
            }
            if (below <= 2 && notAbove >= 3) return scores[i];
        }
        revert("no middle");
    }
}
