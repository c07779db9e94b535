// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Audits} from "../src/Audits.sol";
import {IAudits} from "../src/interfaces/IAudits.sol";
import {IBatches} from "../src/interfaces/IBatches.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {IGuards} from "../src/interfaces/IGuards.sol";
import {IReceipts} from "../src/interfaces/IReceipts.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev One miner, 33 guards: enough for every round with one to spare.
contract AuditsTest is AuditWorld {
    uint256 private constant HONEST = 0;
    uint256 private constant SUSPECT = 1;
    uint256 private constant CHEAT = 2;

    function setUp() public {
        deployAuditWorld(33);
        registerProfile();
        fundFor(address(this), 1000e18);
        token.approve(address(court), type(uint256).max);
        court.fund(1000e18);
    }

    // --- committing and drawing ---

    function test_aBatchKeepsEpochRateAndTime() public {
        uint32 epoch = guards.currentEpoch();
        vm.prank(miner);
        batches.commit(bytes32(uint256(1)), 1000);
        IBatches.Batch memory batch = batches.batchOf(miner, bytes32(uint256(1)));
        vm.assertEq(batch.count, 1000, "count");
        vm.assertEq(batch.epoch, epoch, "epoch");
        vm.assertEq(batch.ratePpm, 1_000_000, "rate");
        vm.assertEq(batch.committedAt, block.timestamp, "time");
    }

    function test_commitRefusals() public {
        vm.startPrank(miner);
        vm.expectPartialRevert(IBatches.BatchInvalid.selector);
        batches.commit(bytes32(0), 1);
        vm.expectPartialRevert(IBatches.BatchInvalid.selector);
        batches.commit(bytes32(uint256(1)), 0);
        vm.expectPartialRevert(IBatches.BatchInvalid.selector);
        batches.commit(bytes32(uint256(1)), 65_537);
        batches.commit(bytes32(uint256(1)), 1);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchKnown.selector, bytes32(uint256(1))));
        batches.commit(bytes32(uint256(1)), 2);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IBatches.MinerInactive.selector, address(this)));
        batches.commit(bytes32(uint256(1)), 1);
    }

    /// @dev The part that is drawn is the rate, and anyone can recompute it.
    function test_theDrawFollowsTheRate() public {
        IScores.Parameters memory parameters = scoreParameters();
        parameters.newcomerPpm = 200_000;
        vm.prank(GOVERNANCE);
        scores.setParameters(parameters);
        bytes32 root = keccak256("batch");
        batches.refreshRate(miner);
        vm.prank(miner);
        batches.commit(root, 2000);
        uint32 epoch = guards.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(IGuards.BeaconUnknown.selector, epoch));
        batches.isDrawn(miner, root, 0);
        nextEpoch();
        uint256 drawn = 0;
        for (uint32 i; i < 2000; ++i) {
            bool expected = uint256(keccak256(abi.encode(guards.beaconOf(epoch), miner, root, i))) % 1_000_000 < 200_000;
            vm.assertTrue(batches.isDrawn(miner, root, i) == expected, "recomputed");
            if (expected) ++drawn;
        }
        vm.assertTrue(drawn > 320 && drawn < 480, "a fifth");
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotIncluded.selector, root, 2000));
        batches.isDrawn(miner, root, 2000);
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchUnknown.selector, bytes32(0)));
        batches.isDrawn(miner, bytes32(0), 0);
    }

    function test_openRefusals() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        IAudits.Inclusion memory inclusion;
        inclusion.root = leafOf(bytes.concat(itemOf(receipt)));
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchUnknown.selector, inclusion.root));
        audits.openAudit(receipt, inclusion, 0);
        inclusion = commitOne(receipt);
        inclusion.index = 1;
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotIncluded.selector, inclusion.root, 1));
        audits.openAudit(receipt, inclusion, 0);
        inclusion.index = 0;
        inclusion.path = new bytes32[](1);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotIncluded.selector, inclusion.root, 0));
        audits.openAudit(receipt, inclusion, 0);
        inclusion.path = new bytes32[](0);
        vm.expectPartialRevert(IAudits.NotAssigned.selector);
        audits.openAudit(receipt, inclusion, bytes32(uint256(1)));
        audits.openAudit(receipt, inclusion, 0);
        vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, inclusion.root, 0));
        audits.openAudit(receipt, inclusion, 0);
    }

    function test_openingIsTooLateAfterItsWindow() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        uint256 last = block.timestamp + EPOCH + 1 days;
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        vm.warp(last + 1);
        vm.expectRevert(abi.encodeWithSelector(IAudits.TooLate.selector, last));
        audits.openAudit(receipt, inclusion, 0);
        vm.warp(last);
        audits.openAudit(receipt, inclusion, 0);
    }

    function test_whatIsNotDrawnIsNotOpened() public {
        IScores.Parameters memory parameters = scoreParameters();
        (parameters.newcomerPpm, parameters.floorPpm) = (1, 1);
        vm.prank(GOVERNANCE);
        scores.setParameters(parameters);
        batches.refreshRate(miner);
        IReceipts.Receipt memory receipt = receiptOf(1);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotDrawn.selector, inclusion.root, 0));
        audits.openAudit(receipt, inclusion, 0);
    }

    /// @dev Where there is nobody to judge, the miner that opens has done its duty.
    function test_withoutGuardsWhatIsOpenedIsVoid() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        for (uint256 i; i < 33; ++i) {
            vm.prank(vm.addr(GUARD_KEYS + i));
            guards.retire();
        }
        audits.openAudit(receipt, inclusion, 0);
        vm.assertEq(uint256(audits.audit(itemOf(receipt)).status), uint256(IAudits.Status.Void), "void");
        vm.warp(block.timestamp + 30 days);
        vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, inclusion.root, 0));
        audits.reportMissing(miner, inclusion.root, 0);
    }

    /// @dev A receipt that was challenged and drawn has one audit, and its miner is not reported for the other.
    function test_whatWasChallengedBeforeCanBeOpened() public {
        IReceipts.Receipt memory receipt = challenged(1);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        audits.openAudit(receipt, inclusion, 0);
        vm.assertEq(uint256(audits.audit(itemOf(receipt)).status), uint256(IAudits.Status.Waiting), "the challenge");
        vm.assertTrue(batches.isTaken(miner, inclusion.root, 0), "shown");
    }

    /// @dev What an audit checked stands for what was not drawn; a challenge stands for nothing.
    function test_tokensAreWeightedByTheRate() public {
        IScores.Parameters memory parameters = scoreParameters();
        parameters.newcomerPpm = 500_000;
        vm.prank(GOVERNANCE);
        scores.setParameters(parameters);
        batches.refreshRate(miner);
        uint256 number = 1;
        IReceipts.Receipt memory receipt = receiptOf(number);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        while (!batches.isDrawn(miner, inclusion.root, 0)) {
            receipt = receiptOf(++number);
            inclusion = commitOne(receipt);
        }
        audits.openAudit(receipt, inclusion, 0);
        settleWith(receipt, findingIn(HONEST, 100));
        vm.assertEq(scores.score(miner).tokens, 200, "at a half each counts twice");
        receipt = challenged(1000);
        nextEpoch();
        audits.draw(itemOf(receipt));
        settleWith(receipt, findingIn(HONEST, 100));
        vm.assertEq(scores.score(miner).tokens, 200, "a challenge adds none");
        vm.assertEq(scores.score(miner).jobs, 2, "but is an audit");
    }

    // --- what is not shown ---

    function test_whatNobodyOpensIsReported() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        uint256 last = block.timestamp + EPOCH + 1 days;
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        vm.warp(last);
        vm.expectRevert(abi.encodeWithSelector(IAudits.NotDue.selector, last));
        audits.reportMissing(miner, inclusion.root, 0);
        vm.warp(last + 1);
        uint256 pool = court.pool();
        vm.prank(challenger);
        audits.reportMissing(miner, inclusion.root, 0);
        vm.assertEq(registry.slashable(miner), MINER_STAKE - MISSING_PENALTY, "penalty");
        vm.assertEq(court.balanceOf(challenger), MISSING_PENALTY / 10, "reporter");
        vm.assertEq(court.pool(), pool + MISSING_PENALTY / 2, "pool");
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Watched), "watched");
        vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, inclusion.root, 0));
        audits.reportMissing(miner, inclusion.root, 0);
        vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, inclusion.root, 0));
        audits.openAudit(receipt, inclusion, 0);
    }

    function test_whatWasOpenedOrNotDrawnIsNotReported() public {
        vm.expectRevert(abi.encodeWithSelector(IBatches.BatchUnknown.selector, bytes32(uint256(1))));
        audits.reportMissing(miner, bytes32(uint256(1)), 0);
        IReceipts.Receipt memory receipt = receiptOf(1);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        audits.openAudit(receipt, inclusion, 0);
        vm.warp(block.timestamp + 10 days);
        vm.expectRevert(abi.encodeWithSelector(IBatches.AlreadyTaken.selector, inclusion.root, 0));
        audits.reportMissing(miner, inclusion.root, 0);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotIncluded.selector, inclusion.root, 1));
        audits.reportMissing(miner, inclusion.root, 1);

        IScores.Parameters memory parameters = scoreParameters();
        (parameters.newcomerPpm, parameters.floorPpm) = (1, 1);
        vm.prank(GOVERNANCE);
        scores.setParameters(parameters);
        batches.refreshRate(miner);
        inclusion = commitOne(receiptOf(2));
        vm.warp(block.timestamp + 10 days);
        vm.expectRevert(abi.encodeWithSelector(IBatches.NotDrawn.selector, inclusion.root, 0));
        audits.reportMissing(miner, inclusion.root, 0);
    }

    /// @dev Each index of a batch is its own: showing one excuses no other.
    function testFuzz_everyIndexCountsOnce(uint256 count, uint256 shown) public {
        count = bound(count, 2, 300);
        shown = bound(shown, 0, count - 1);
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            leaves[i] = leafOf(bytes.concat(bytes32(i)));
        }
        leaves[shown] = leafOf(bytes.concat(itemOf(receiptOf(1))));
        bytes32 root = treeRoot(leaves);
        vm.prank(miner);
        batches.commit(root, uint32(count));
        IReceipts.Receipt memory receipt = receiptOf(1);
        nextEpoch();
        receipt.finishedAt = uint64(block.timestamp - EPOCH);
        audits.openAudit(receipt, IAudits.Inclusion(root, uint32(shown), treePath(leaves, shown)), 0);
        vm.warp(block.timestamp + 2 days);
        uint256 reported = 0;
        for (uint32 i; i < count; ++i) {
            if (batches.isTaken(miner, root, i)) continue;
            audits.reportMissing(miner, root, i);
            ++reported;
        }
        vm.assertEq(reported, count - 1, "all but the one that was shown");
        vm.assertEq(scores.failuresOf(miner).count, 1, "one failure");
        vm.assertEq(registry.slashable(miner), MINER_STAKE - reported * MISSING_PENALTY, "a penalty each");
    }

    /// @dev Three failures, each after the last was counted: the third convicts.
    function test_repeatedFailuresConvict() public {
        drawEverything();
        for (uint256 i; i < 3; ++i) {
            vm.warp(block.timestamp + 1);
            IAudits.Inclusion memory inclusion = commitOne(receiptOf(10 + i));
            vm.warp(block.timestamp + 2 days);
            audits.reportMissing(miner, inclusion.root, 0);
            vm.assertEq(uint256(scores.score(miner).state), i + 1, "one state worse");
        }
        uint256 left = MINER_STAKE - 3 * MISSING_PENALTY;
        vm.assertEq(registry.slashable(miner), left - left * 4 / 10, "slashed");
    }

    function testFuzz_everyReceiptOfABatchIsProvedWhereItStands(uint256 count, uint256 index, uint256 other) public {
        count = bound(count, 1, 40);
        (index, other) = (bound(index, 0, count - 1), bound(other, 0, count - 1));
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            leaves[i] = leafOf(bytes.concat(itemOf(receiptOf(i))));
        }
        IReceipts.Receipt memory receipt = receiptOf(index);
        IAudits.Inclusion memory inclusion = IAudits.Inclusion(treeRoot(leaves), uint32(other), treePath(leaves, index));
        vm.prank(miner);
        batches.commit(inclusion.root, uint32(count));
        nextEpoch();
        if (other != index) {
            vm.expectPartialRevert(IBatches.NotIncluded.selector);
            audits.openAudit(receipt, inclusion, 0);
            inclusion.index = uint32(index);
        }
        audits.openAudit(receipt, inclusion, 0);
    }

    // --- one guard ---

    function test_anHonestAnswerCountsForItsMiner() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        address guard = audits.assigned(item, 0)[0];
        answerAll(receipt, findingIn(HONEST, 100));
        vm.assertEq(int256(audits.seats(item)[0].sampling), -100 * (BIT / 10), "a tenth of a bit a token");
        audits.settle(receipt);
        vm.assertEq(scores.score(miner).jobs, 0, "not before the appeal window ends");
        vm.expectPartialRevert(IAudits.NotDue.selector);
        audits.settle(receipt);
        afterAppeals();
        audits.settle(receipt);
        IScores.Score memory score = scores.score(miner);
        vm.assertEq(int256(score.sampling), -100 * (BIT / 10), "evidence");
        vm.assertEq(score.samplingCusum, 0, "cusum");
        vm.assertEq(int256(score.computation), -int256(12_626), "the other charge, of one answer in eight");
        vm.assertEq(score.jobs, 1, "jobs");
        vm.assertEq(score.tokens, 100, "tokens");
        vm.assertEq(court.balanceOf(guard), PAY, "pay");
        vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Settled));
        audits.settle(receipt);
    }

    function test_anEmptyPoolPaysWhatItHas() public {
        uint256 before = court.pool();
        ICourt.Parameters memory parameters = courtParameters();
        parameters.guardPay = 10_000e18;
        parameters.trapPenalty = 500_000e18;
        vm.prank(GOVERNANCE);
        court.setParameters(parameters);
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        settleWith(receipt, findingIn(HONEST, 10));
        vm.assertEq(court.balanceOf(audits.seats(item)[0].guard), before, "all there was");
        vm.assertEq(court.pool(), 0, "empty");
        (receipt, item) = openOne(2);
        settleWith(receipt, findingIn(HONEST, 10));
        vm.assertEq(uint256(audits.audit(item).status), uint256(IAudits.Status.Settled), "settled all the same");
    }

    function test_evidenceIsClippedPerAudit() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        answerAll(receipt, findingIn(CHEAT, 100));
        vm.assertEq(int256(audits.seats(item)[0].sampling), 16 * BIT, "clipped");
    }

    function test_withoutAProfileThereIsNoEvidence() public {
        vm.prank(miner);
        guards.declareClass(keccak256("unheard of"));
        nextEpoch();
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        answerAll(receipt, findingIn(CHEAT, 100));
        vm.assertEq(int256(audits.seats(item)[0].sampling), 0, "none");
    }

    /// @dev What was served is judged by the class that stood when it was committed.
    function test_aClassDeclaredAfterwardsChangesNothing() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        vm.prank(miner);
        guards.declareClass(keccak256("unheard of"));
        nextEpoch();
        vm.prank(miner);
        guards.declareClass(keccak256("another"));
        nextEpoch();
        audits.openAudit(receipt, inclusion, 0);
        answerAll(receipt, findingIn(CHEAT, 100));
        vm.assertEq(int256(audits.seats(itemOf(receipt))[0].sampling), 16 * BIT, "the old class");
    }

    function test_commitAndRevealRefusals() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        address guard = audits.assigned(item, 0)[0];
        IAudits.Finding memory finding = findingIn(HONEST, 100);
        bytes32 commitment = commitmentOf(guard, item, 0, finding);
        vm.expectRevert(abi.encodeWithSelector(IAudits.NotAssigned.selector, item, address(this)));
        audits.commitFinding(item, commitment);
        vm.startPrank(guard);
        vm.expectRevert(IAudits.CommitmentZero.selector);
        audits.commitFinding(item, 0);
        vm.expectRevert(abi.encodeWithSelector(IAudits.RevealTooEarly.selector, audits.audit(item).commitUntil));
        audits.revealFinding(receipt, finding, SALT);
        audits.commitFinding(item, commitment);
        vm.expectRevert(abi.encodeWithSelector(IAudits.SeatTaken.selector, item, guard, IAudits.SeatState.Committed));
        audits.commitFinding(item, commitment);
        vm.expectRevert(IAudits.CommitmentMismatch.selector);
        audits.revealFinding(receipt, finding, bytes32(0));
        finding.bins[0][1] = 1;
        vm.expectRevert(IAudits.CommitmentMismatch.selector);
        audits.revealFinding(receipt, finding, SALT);
        finding.bins[0][1] = 0;
        audits.revealFinding(receipt, finding, SALT);
        vm.expectRevert(abi.encodeWithSelector(IAudits.SeatTaken.selector, item, guard, IAudits.SeatState.Revealed));
        audits.revealFinding(receipt, finding, SALT);
        vm.stopPrank();
    }

    function test_countsThatCannotBeAreRefused() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        address guard = audits.assigned(item, 0)[0];
        IAudits.Finding memory finding = findingIn(HONEST, 100);
        finding.bins[2][3] = 101;
        checkFinding(receipt, item, guard, finding);
        finding = findingIn(HONEST, 100);
        finding.tokens = 102;
        // 100 tokens and the end of the sequence.
        checkFinding(receipt, item, guard, finding);
    }

    function checkFinding(IReceipts.Receipt memory receipt, bytes32 item, address guard, IAudits.Finding memory finding)
        private
    {
        if (audits.seats(item)[0].state == IAudits.SeatState.Drawn) {
            vm.prank(guard);
            audits.commitFinding(item, commitmentOf(guard, item, 0, finding));
            vm.prank(guard);
            vm.expectRevert(IAudits.FindingInvalid.selector);
            audits.revealFinding(receipt, finding, SALT);
        }
    }

    function test_windowsClose() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        address guard = audits.assigned(item, 0)[0];
        IAudits.Finding memory finding = findingIn(HONEST, 100);
        IAudits.Audit memory state = audits.audit(item);
        vm.prank(guard);
        audits.commitFinding(item, commitmentOf(guard, item, 0, finding));
        vm.expectRevert(abi.encodeWithSelector(IAudits.NotDue.selector, state.until));
        audits.settle(receipt);
        vm.warp(uint256(state.until) + 1);
        vm.prank(guard);
        vm.expectRevert(abi.encodeWithSelector(IAudits.TooLate.selector, state.until));
        audits.revealFinding(receipt, finding, SALT);

        (, item) = openOne(2);
        guard = audits.assigned(item, 0)[0];
        state = audits.audit(item);
        vm.warp(uint256(state.commitUntil) + 1);
        vm.prank(guard);
        vm.expectRevert(abi.encodeWithSelector(IAudits.TooLate.selector, state.commitUntil));
        audits.commitFinding(item, bytes32(uint256(1)));
    }

    // --- escalation ---

    function test_evidenceThatChangesNothingStaysWithOneGuard() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        settleWith(receipt, findingIn(SUSPECT, 60));
        vm.assertEq(int256(scores.score(miner).sampling), 60 * (BIT / 10), "six bits");
        vm.assertEq(audits.seats(item).length, 1, "one guard");
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Good), "good");
    }

    function test_whatWouldMakeAMinerWatchedNeedsThree() public {
        checkEscalation(findingIn(SUSPECT, 80), 1, IScores.State.Watched);
        vm.assertEq(scores.rateOf(miner), 500_000, "rate");
    }

    function test_whatWouldSuspendNeedsSeven() public {
        checkEscalation(findingIn(CHEAT, 8), 2, IScores.State.Suspended);
        vm.assertEq(scores.reputationOf(miner), 0, "reputation");
        vm.assertEq(scores.scoreOf(miner), 0, "power");
    }

    function test_aWrongStructureNeedsTwentyOneAndSlashes() public {
        checkEscalation(hardFinding(), 3, IScores.State.Slashed);
        uint256 slashed = MINER_STAKE * 4 / 10;
        vm.assertEq(registry.slashable(miner), MINER_STAKE - slashed, "slashed");
        // The reporter's part falls to the pool, where nobody reported; 32 guards were paid out of it.
        vm.assertEq(court.pool(), 1000e18 + slashed * 3 / 10 - 32 * uint256(PAY), "pool");
        vm.assertEq(court.balanceOf(TREASURY), slashed * 3 / 10, "client");
    }

    /// @dev The e-process convicts only with a committee: twice 16 bits.
    function test_evidenceBeyondTheLevelConvicts() public {
        drawEverything();
        checkEscalation(findingIn(CHEAT, 100), 2, IScores.State.Suspended);
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(2);
        for (uint8 round; round < 4; ++round) {
            answerAll(receipt, findingIn(CHEAT, 100));
            audits.settle(receipt);
            if (round < 3) {
                nextEpoch();
                audits.draw(item);
            }
        }
        afterAppeals();
        audits.settle(receipt);
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Slashed), "slashed");
        vm.assertEq(int256(scores.score(miner).sampling), 32 * BIT, "evidence");
        vm.assertEq(registry.slashable(miner), MINER_STAKE * 6 / 10, "stake");
    }

    /// @dev A tier without hidden states is never slashed on statistics alone.
    function test_tierCIsSuspendedOnly() public {
        drawEverything();
        for (uint256 i; i < 2; ++i) {
            IReceipts.Receipt memory receipt = receiptOf(10 + i);
            receipt.tier = 1;
            IAudits.Inclusion memory inclusion = commitOne(receipt);
            audits.openAudit(receipt, inclusion, 0);
            runAllRounds(receipt, findingIn(CHEAT, 100));
        }
        vm.assertEq(int256(scores.score(miner).sampling), 32 * BIT, "evidence");
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Suspended), "suspended");
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "stake");
    }

    function test_recordsThatAreNotShownCountAsWrong() public {
        (IReceipts.Receipt memory receipt,) = openOne(1);
        IAudits.Finding memory finding;
        finding.kind = IAudits.FindingKind.NotOpened;
        runAllRounds(receipt, finding);
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Slashed), "slashed");
        vm.assertEq(scores.score(miner).tokens, 0, "nothing was checked");
    }

    function test_committeesAreDrawnWithLaterBeacons() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Gathering));
        audits.draw(item);
        answerAll(receipt, hardFinding());
        uint32 epoch = guards.currentEpoch();
        audits.settle(receipt);
        vm.assertEq(audits.audit(item).epoch, epoch, "the running epoch");
        vm.expectRevert(abi.encodeWithSelector(IGuards.BeaconUnknown.selector, epoch));
        audits.draw(item);
        nextEpoch();
        address[] memory expected = audits.assigned(item, 1);
        addGuard();
        audits.draw(item);
        vm.assertEq(abi.encode(audits.assigned(item, 1)), abi.encode(expected), "as it could be foreseen");
        vm.assertEq(expected.length, 3, "three");
    }

    function test_lazyGuardsArePenalisedAndTheNextCommitteeDecides() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        address lazy = audits.assigned(item, 0)[0];
        vm.warp(uint256(audits.audit(item).until) + 1);
        audits.settle(receipt);
        vm.assertEq(audits.audit(item).round, 1, "three others");
        nextEpoch();
        audits.draw(item);
        settleWith(receipt, findingIn(HONEST, 100));
        vm.assertEq(registry.slashable(lazy), GUARD_STAKE - PENALTY, "penalty");
        vm.assertEq(court.balanceOf(lazy), 0, "no pay");
        vm.assertEq(court.pool(), 1000e18 + PENALTY - 3 * uint256(PAY), "pool");
        vm.assertEq(scores.score(miner).jobs, 1, "settled");
    }

    function test_aGuardOutsideTheAgreementLoses() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        // The first guard accuses; three others clear the miner.
        answerAll(receipt, findingIn(SUSPECT, 100));
        audits.settle(receipt);
        nextEpoch();
        audits.draw(item);
        settleWith(receipt, findingIn(HONEST, 100));
        IAudits.Seat[] memory all = audits.seats(item);
        vm.assertEq(registry.slashable(all[0].guard), GUARD_STAKE - PENALTY, "the accuser");
        for (uint256 i = 1; i < 4; ++i) {
            vm.assertEq(court.balanceOf(all[i].guard), PAY, "the others");
        }
        vm.assertEq(int256(scores.score(miner).sampling), -100 * (BIT / 10), "what they found");
    }

    function test_aDisputeThatIsNoiseEndsVoidAndSlashesNobody() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        answerAll(receipt, findingIn(CHEAT, 50));
        audits.settle(receipt);
        for (uint8 round = 1; round < 4; ++round) {
            nextEpoch();
            audits.draw(item);
            answerEachDifferently(receipt, item, round);
            audits.settle(receipt);
        }
        vm.assertEq(uint256(audits.audit(item).status), uint256(IAudits.Status.Void), "void");
        vm.assertEq(scores.score(miner).jobs, 0, "nothing counts");
        IAudits.Seat[] memory all = audits.seats(item);
        for (uint256 i; i < all.length; ++i) {
            vm.assertEq(registry.slashable(all[i].guard), GUARD_STAKE, "no penalty");
            vm.assertEq(court.balanceOf(all[i].guard), 0, "no pay");
        }
    }

    function test_guardsOfEarlierRoundsAreLeftOut() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        runAllRounds(receipt, hardFinding());
        IAudits.Seat[] memory all = audits.seats(item);
        vm.assertEq(all.length, 32, "1 + 3 + 7 + 21");
        for (uint256 i; i < all.length; ++i) {
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(all[i].guard != all[j].guard, "twice");
            }
        }
    }

    // --- appeals ---

    function test_anAppealThatOverturnsGetsItsBondBack() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        // A colluding guard clears the miner; somebody who knows better appeals.
        answerAll(receipt, findingIn(HONEST, 100));
        audits.settle(receipt);
        vm.prank(challenger);
        audits.appeal(item);
        (address account, uint96 amount) = court.bondOf(item, ICourt.BondKind.Appeal);
        vm.assertEq(account, challenger, "bond");
        vm.assertEq(amount, APPEAL_BOND, "amount");
        vm.assertEq(court.bonds(), APPEAL_BOND, "held");
        nextEpoch();
        audits.draw(item);
        answerAll(receipt, findingIn(SUSPECT, 50));
        audits.settle(receipt);
        vm.assertEq(court.balanceOf(challenger), APPEAL_BOND, "back");
        vm.assertEq(court.bonds(), 0, "none held");
        afterAppeals();
        audits.settle(receipt);
        vm.assertEq(registry.slashable(audits.seats(item)[0].guard), GUARD_STAKE - PENALTY, "the liar");
    }

    function test_anAppealThatConfirmsLosesItsBond() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        answerAll(receipt, findingIn(HONEST, 100));
        audits.settle(receipt);
        uint256 pool = court.pool();
        vm.prank(challenger);
        audits.appeal(item);
        nextEpoch();
        audits.draw(item);
        answerAll(receipt, findingIn(HONEST, 100));
        audits.settle(receipt);
        vm.assertEq(court.pool(), pool + APPEAL_BOND, "to the pool");
        // Another appeal of the same audit, in the next round.
        vm.prank(challenger);
        audits.appeal(item);
        vm.assertEq(audits.audit(item).round, 2, "seven");
    }

    function test_appealRefusals() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Gathering));
        audits.appeal(item);
        answerAll(receipt, findingIn(HONEST, 100));
        audits.settle(receipt);
        afterAppeals();
        vm.expectRevert(abi.encodeWithSelector(IAudits.NoAppeal.selector, item));
        audits.appeal(item);
    }

    function test_thereIsNoAppealAgainstTwentyOne() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        for (uint8 round; round < 4; ++round) {
            answerAll(receipt, hardFinding());
            audits.settle(receipt);
            if (round == 3) break;
            nextEpoch();
            audits.draw(item);
        }
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IAudits.NoAppeal.selector, item));
        audits.appeal(item);
    }

    // --- challenges ---

    function test_aBadReceiptThatWasLeftOutIsFound() public {
        IReceipts.Receipt memory receipt = challenged(1);
        bytes32 item = itemOf(receipt);
        vm.assertEq(court.bonds(), CHALLENGE_BOND, "bond");
        nextEpoch();
        audits.draw(item);
        runAllRounds(receipt, hardFinding());
        uint256 slashed = MINER_STAKE * 4 / 10;
        vm.assertEq(court.balanceOf(challenger), CHALLENGE_BOND + slashed / 10, "bond and share");
        vm.assertEq(court.bonds(), 0, "none held");
    }

    function test_challengingAnHonestMinerCostsTheBond() public {
        IReceipts.Receipt memory receipt = challenged(1);
        nextEpoch();
        audits.draw(itemOf(receipt));
        uint256 pool = court.pool();
        settleWith(receipt, findingIn(HONEST, 100));
        vm.assertEq(court.balanceOf(MINER_PAYOUT), CHALLENGE_BOND / 2, "half to the miner");
        vm.assertEq(court.pool(), pool + CHALLENGE_BOND / 2 - PAY, "half to the guards");
        vm.assertEq(court.balanceOf(challenger), 0, "nothing back");
    }

    function test_challengeRefusals() public {
        IReceipts.Receipt memory receipt = receiptOf(1);
        bytes memory signature = signDigest(OTHER_MINER_KEY, itemOf(receipt));
        vm.startPrank(challenger);
        vm.expectRevert(IAudits.SignatureInvalid.selector);
        audits.challenge(receipt, signature);
        vm.expectRevert(IAudits.SignatureInvalid.selector);
        audits.challenge(receipt, hex"");
        signature = signDigest(MINER_KEY, itemOf(receipt));
        uint256 last = uint256(receipt.finishedAt) + 2 days;
        vm.warp(last + 1);
        vm.expectRevert(abi.encodeWithSelector(IAudits.TooLate.selector, last));
        audits.challenge(receipt, signature);
        vm.warp(last);
        audits.challenge(receipt, signature);
        vm.expectRevert(abi.encodeWithSelector(IAudits.AuditKnown.selector, itemOf(receipt)));
        audits.challenge(receipt, signature);
        vm.stopPrank();
    }

    /// @dev A challenge cannot pick its guard: the beacon is not known yet, and who enrols later is not drawn.
    function test_aChallengeWaitsForAnUnknownBeacon() public {
        IReceipts.Receipt memory receipt = challenged(1);
        bytes32 item = itemOf(receipt);
        vm.expectPartialRevert(IGuards.BeaconUnknown.selector);
        audits.assigned(item, 0);
        nextEpoch();
        address[] memory expected = audits.assigned(item, 0);
        for (uint256 i; i < 5; ++i) {
            addGuard();
        }
        vm.assertEq(abi.encode(audits.assigned(item, 0)), abi.encode(expected), "later enrolments do not matter");
    }

    function test_aContradictionInTheSameReceiptIsPaidOnce() public {
        IReceipts.Receipt memory receipt = challenged(1);
        bytes32 item = itemOf(receipt);
        // As the court would note it.
        vm.store(address(court), keccak256(abi.encode(item, isProvenSlot())), bytes32(uint256(1)));
        vm.assertTrue(court.isProven(item), "slot");
        nextEpoch();
        audits.draw(item);
        runAllRounds(receipt, hardFinding());
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "not twice");
        vm.assertEq(court.balanceOf(challenger), CHALLENGE_BOND, "bond only");
    }

    // --- traps ---

    function test_trapsPayTheHonestAndRuinTheOthers() public {
        for (uint256 i; i < 2; ++i) {
            bool bad = i == 1;
            (IReceipts.Receipt memory receipt, bytes32 item) = plantedAudit(i, bad);
            answerAll(receipt, findingIn(HONEST, 100));
            vm.prank(TREASURY);
            audits.springTrap(item, bad, SALT);
            address guard = audits.seats(item)[0].guard;
            vm.assertEq(registry.slashable(guard), GUARD_STAKE - (bad ? TRAP_PENALTY : 0), "stake");
            vm.assertEq(court.balanceOf(guard), bad ? 0 : PAY, "pay");
            vm.assertEq(uint256(audits.audit(item).status), uint256(IAudits.Status.Planted), "planted");
            vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Planted));
            audits.settle(receipt);
        }
        vm.assertEq(scores.score(miner).jobs, 0, "nothing counts for the miner");
    }

    function test_aTrapIsSprungUntilTheAuditSettles() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = plantedAudit(1, false);
        vm.startPrank(TREASURY);
        vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Gathering));
        audits.springTrap(item, false, SALT);
        vm.stopPrank();
        answerAll(receipt, findingIn(HONEST, 100));
        vm.expectPartialRevert(IAudits.TrapUnknown.selector);
        audits.springTrap(item, false, SALT);
        vm.startPrank(TREASURY);
        vm.expectPartialRevert(IAudits.TrapUnknown.selector);
        audits.springTrap(item, true, SALT);
        audits.settle(receipt);
        vm.stopPrank();
        afterAppeals();
        audits.settle(receipt);
        vm.prank(TREASURY);
        vm.expectRevert(abi.encodeWithSelector(IAudits.WrongStatus.selector, item, IAudits.Status.Settled));
        audits.springTrap(item, false, SALT);
    }

    function test_aTrapThatWasPlantedTooLateIsNone() public {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(1);
        plant(item, true);
        answerAll(receipt, findingIn(HONEST, 100));
        vm.prank(TREASURY);
        vm.expectPartialRevert(IAudits.TrapUnknown.selector);
        audits.springTrap(item, true, SALT);
    }

    function test_aGuardThatRevealsNothingInATrapIsLazyOnly() public {
        (, bytes32 item) = plantedAudit(1, true);
        vm.warp(uint256(audits.audit(item).until) + 1);
        vm.prank(TREASURY);
        audits.springTrap(item, true, SALT);
        vm.assertEq(registry.slashable(audits.seats(item)[0].guard), GUARD_STAKE - PENALTY, "stake");
    }

    // --- parameters ---

    function test_parametersAreBounded() public {
        vm.startPrank(GOVERNANCE);
        for (uint256 i; i < 14; ++i) {
            IAudits.Parameters memory p = auditParameters();
            if (i == 0) p.commitWindow = 0;
            if (i == 1) p.revealWindow = 0;
            if (i == 2) p.appealWindow = 3 days;
            if (i == 3) p.openWindow = 7 days;
            if (i == 4) p.challengeWindow = 7 days;
            if (i == 5) p.minimumCommittee = 0;
            if (i == 6) p.minimumCommittee = 22;
            if (i == 7) p.agreement = -1;
            if (i == 8) p.clip = 0;
            if (i == 9) p.clip = 65 * BIT;
            if (i == 10) p.hardEvidence = 0;
            if (i == 11) p.badEvidence = 0;
            if (i == 12) p.commitWindow = 31 days;
            if (i == 13) p.hardEvidence = 65 * BIT;
            vm.expectRevert(IAudits.ParametersOutOfBounds.selector);
            audits.setParameters(p);
        }
        audits.setParameters(auditParameters());
        vm.stopPrank();
        vm.expectPartialRevert(bytes4(keccak256("OwnableUnauthorizedAccount(address)")));
        audits.setParameters(auditParameters());
    }

    function test_itNeedsAllOfTheOthers() public {
        vm.expectRevert(IAudits.ZeroAddress.selector);
        new Audits(registry, address(0), batches, court, GOVERNANCE, auditParameters());
        vm.expectRevert(IAudits.ZeroAddress.selector);
        new Audits(registry, address(sessions), batches, ICourt(address(0)), GOVERNANCE, auditParameters());
    }

    // --- steps ---

    /// @dev Also of a miner under suspicion.
    function drawEverything() private {
        IScores.Parameters memory parameters = scoreParameters();
        parameters.suspiciousPpm = 1_000_000;
        vm.prank(GOVERNANCE);
        scores.setParameters(parameters);
    }

    function checkEscalation(IAudits.Finding memory finding, uint8 lastRound, IScores.State state) private {
        (IReceipts.Receipt memory receipt, bytes32 item) = openOne(77);
        uint256[4] memory sizes = [uint256(1), 3, 7, 21];
        for (uint8 round; round < lastRound; ++round) {
            vm.assertEq(audits.assigned(item, round).length, sizes[round], "size");
            answerAll(receipt, finding);
            audits.settle(receipt);
            vm.assertEq(uint256(audits.audit(item).status), uint256(IAudits.Status.Waiting), "escalated");
            vm.assertEq(uint256(scores.score(miner).state), 0, "nothing counts yet");
            nextEpoch();
            audits.draw(item);
        }
        settleWith(receipt, finding);
        vm.assertEq(audits.assigned(item, lastRound).length, sizes[lastRound], "last size");
        vm.assertEq(uint256(scores.score(miner).state), uint256(state), "state");
    }

    /// @dev The running round's guards agree; then it settles, if that is the last round that is needed.
    function settleWith(IReceipts.Receipt memory receipt, IAudits.Finding memory finding) private {
        answerAll(receipt, finding);
        audits.settle(receipt);
        afterAppeals();
        audits.settle(receipt);
    }

    function runAllRounds(IReceipts.Receipt memory receipt, IAudits.Finding memory finding) private {
        bytes32 item = itemOf(receipt);
        answerAll(receipt, finding);
        audits.settle(receipt);
        while (audits.audit(item).status == IAudits.Status.Waiting) {
            nextEpoch();
            audits.draw(item);
            answerAll(receipt, finding);
            audits.settle(receipt);
        }
        afterAppeals();
        audits.settle(receipt);
    }

    /// @dev Evidence that lies more than a bit apart from guard to guard.
    function answerEachDifferently(IReceipts.Receipt memory receipt, bytes32 item, uint8 round) private {
        address[] memory drawn = audits.assigned(item, round);
        for (uint256 i; i < drawn.length; ++i) {
            IAudits.Finding memory finding =
                i % 2 == 0 ? findingIn(CHEAT, uint16(2 * (i % 4))) : findingIn(HONEST, uint16(20 * (i % 5)));
            vm.prank(drawn[i]);
            audits.commitFinding(item, commitmentOf(drawn[i], item, round, finding));
        }
        for (uint256 i; i < drawn.length; ++i) {
            IAudits.Finding memory finding =
                i % 2 == 0 ? findingIn(CHEAT, uint16(2 * (i % 4))) : findingIn(HONEST, uint16(20 * (i % 5)));
            vm.prank(drawn[i]);
            audits.revealFinding(receipt, finding, SALT);
        }
    }

    function challenged(uint256 number) private returns (IReceipts.Receipt memory receipt) {
        receipt = receiptOf(number);
        bytes memory signature = signDigest(MINER_KEY, itemOf(receipt));
        vm.prank(challenger);
        audits.challenge(receipt, signature);
    }

    function plant(bytes32 item, bool bad) private {
        vm.prank(GOVERNANCE);
        court.setTrapSetter(TREASURY, true);
        bytes32[] memory commitments = new bytes32[](1);
        commitments[0] = keccak256(abi.encode(TREASURY, item, bad, SALT));
        vm.prank(TREASURY);
        court.plant(commitments);
    }

    function plantedAudit(uint256 number, bool bad) private returns (IReceipts.Receipt memory receipt, bytes32 item) {
        receipt = receiptOf(number);
        item = itemOf(receipt);
        plant(item, bad);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        audits.openAudit(receipt, inclusion, bytes32(0));
    }

    function afterAppeals() private {
        vm.warp(block.timestamp + 2 hours + 1);
    }

    /// @dev The slot of the court's mapping, found by what the getter reads.
    function isProvenSlot() private returns (uint256 slot) {
        bytes32 probe = keccak256("probe");
        for (; slot < 32; ++slot) {
            bytes32 place = keccak256(abi.encode(probe, slot));
            bytes32 before = vm.load(address(court), place);
            vm.store(address(court), place, bytes32(uint256(1)));
            bool found = court.isProven(probe);
            vm.store(address(court), place, before);
            if (found) return slot;
        }
        revert("no such slot");
    }
}
