// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Capabilities} from "../src/Capabilities.sol";
import {ICapabilities} from "../src/interfaces/ICapabilities.sol";
import {IGuards} from "../src/interfaces/IGuards.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

contract CapabilitiesTest is AuditWorld {
    Capabilities internal capabilities;
    uint32 internal constant NONE = type(uint32).max;
    uint96 internal constant BOND = 10e18;
    uint96 internal constant FEE = 3e18 + 1;

    function setUp() public {
        deployAuditWorld(8);
        capabilities = new Capabilities(token, registry, guards, GOVERNANCE, parameters(0));
        token.transfer(challenger, 1000e18);
        vm.prank(challenger);
        token.approve(address(capabilities), type(uint256).max);
    }

    function parameters(uint32 confirmationPpm) internal pure returns (ICapabilities.Parameters memory) {
        return ICapabilities.Parameters({
            confirmationPpm: confirmationPpm,
            weightPpm: 250_000,
            driftPpm: 300_000,
            tolerancePpm: 200_000,
            commitWindow: 10 minutes,
            revealWindow: 10 minutes,
            lateEpochs: 2,
            challengeBond: BOND,
            challengeFee: FEE
        });
    }

    function numbersOf(uint32 speed) internal pure returns (uint32[8] memory numbers) {
        numbers = [20 * speed, speed, 3 * speed, 4, 4096, NONE, 1_000_000, 1_000_000];
    }

    /// @dev A round of the epoch that has just ended.
    function openRound() internal returns (bytes32 id, address[] memory drawn) {
        uint32 epoch = guards.currentEpoch();
        nextEpoch();
        id = capabilities.open(epoch, miner, MODEL);
        drawn = capabilities.roundOf(id).guards;
    }

    function revealAs(bytes32 id, address guard, uint32 speed) internal {
        vm.prank(guard);
        capabilities.revealMeasurement(id, numbersOf(speed), SALT);
    }

    function commitAs(bytes32 id, address guard, uint32 speed) internal {
        vm.prank(guard);
        capabilities.commitMeasurement(id, keccak256(abi.encode(guard, id, numbersOf(speed), SALT)));
    }

    /// @dev All drawn guards commit to and reveal these speeds.
    function answer(bytes32 id, address[] memory drawn, uint32[3] memory speeds) internal {
        for (uint256 i; i < drawn.length; ++i) {
            commitAs(id, drawn[i], speeds[i]);
        }
        for (uint256 i; i < drawn.length; ++i) {
            revealAs(id, drawn[i], speeds[i]);
        }
    }

    function measureOnce(uint32 speed) internal {
        (bytes32 id, address[] memory drawn) = openRound();
        revealAs(id, drawn[0], speed);
    }

    function challengeNow() internal returns (bytes32 id, address[] memory drawn) {
        vm.prank(challenger);
        capabilities.challenge(miner, MODEL);
        return openRound();
    }

    function decodeOf() internal view returns (uint32) {
        return capabilities.recordOf(miner, MODEL).average[1];
    }

    function checkMoney(address[] memory drawn) internal view {
        uint256 owed = capabilities.held() + capabilities.balanceOf(challenger);
        owed += capabilities.balanceOf(registry.payoutOf(miner));
        for (uint256 i; i < drawn.length; ++i) {
            owed += capabilities.balanceOf(drawn[i]);
        }
        vm.assertEq(token.balanceOf(address(capabilities)), owed, "every wei is somebody's");
    }

    // --- one guard ---

    function test_theBeaconDrawsOneGuardAndItsMeasureIsTheRecord() public {
        (bytes32 id, address[] memory drawn) = openRound();
        vm.assertEq(drawn.length, 1, "one");
        revealAs(id, drawn[0], 50);
        ICapabilities.Record memory record = capabilities.recordOf(miner, MODEL);
        vm.assertEq(record.average[1], 50, "decode");
        vm.assertEq(record.average[5], NONE, "no tools");
        vm.assertEq(record.measurements, 1, "measurements");
        vm.assertTrue(!record.drifted, "nothing to drift from");
    }

    function test_theRecordIsAMovingAverageAndAFarMeasureIsToldAsADrift() public {
        measureOnce(100);
        measureOnce(120);
        vm.assertEq(decodeOf(), 105, "a quarter of the way");
        vm.assertTrue(!capabilities.recordOf(miner, MODEL).drifted, "within the tolerance");
        measureOnce(50);
        ICapabilities.Record memory record = capabilities.recordOf(miner, MODEL);
        vm.assertTrue(record.drifted, "half as fast");
        vm.assertTrue(record.driftPpm > 500_000 && record.driftPpm < 530_000, "by how much");
        vm.assertEq(record.measurements, 3, "measurements");
    }

    function test_onlyTheDrawnGuardIsHeardAndOnlyOnce() public {
        (bytes32 id, address[] memory drawn) = openRound();
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.NotDrawn.selector, challenger));
        capabilities.revealMeasurement(id, numbersOf(1), SALT);
        revealAs(id, drawn[0], 50);
        vm.prank(drawn[0]);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.RoundNotOpen.selector, id));
        capabilities.revealMeasurement(id, numbersOf(60), SALT);
    }

    function test_aRoundIsOpenedOnceInTimeAndOfAMinerOnly() public {
        uint32 epoch = guards.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.EpochNotOver.selector, epoch, epoch));
        capabilities.open(epoch, miner, MODEL);
        vm.warp(block.timestamp + EPOCH);
        vm.expectRevert(abi.encodeWithSelector(IGuards.BeaconUnknown.selector, epoch));
        capabilities.open(epoch, miner, MODEL);
        guards.recordBeacon(epoch);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.MinerInactive.selector, challenger));
        capabilities.open(epoch, challenger, MODEL);
        bytes32 id = capabilities.open(epoch, miner, MODEL);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.RoundKnown.selector, id));
        capabilities.open(epoch, miner, MODEL);
        nextEpoch();
        nextEpoch();
        nextEpoch();
        uint32 current = guards.currentEpoch();
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.EpochTooOld.selector, epoch + 1, current));
        capabilities.open(epoch + 1, miner, MODEL);
    }

    function test_aGuardThatSaysNothingChangesNothing() public {
        measureOnce(100);
        (bytes32 id, address[] memory drawn) = openRound();
        vm.expectRevert();
        capabilities.settle(id);
        vm.warp(block.timestamp + 20 minutes + 1);
        vm.prank(drawn[0]);
        vm.expectRevert();
        capabilities.revealMeasurement(id, numbersOf(1), SALT);
        capabilities.settle(id);
        vm.assertEq(decodeOf(), 100, "as before");
        vm.assertEq(capabilities.recordOf(miner, MODEL).measurements, 1, "measurements");
    }

    // --- several ---

    function test_ofThreeTheMedianOfEachNumberDecides() public {
        vm.prank(GOVERNANCE);
        capabilities.setParameters(parameters(1_000_000));
        (bytes32 id, address[] memory drawn) = openRound();
        vm.assertEq(drawn.length, 3, "a confirmation");
        answer(id, drawn, [uint32(1), 50, 4000]);
        vm.assertEq(decodeOf(), 50, "one liar on each side moves nothing");
    }

    function test_whoMeasuresBesideOthersCommitsFirst() public {
        vm.prank(GOVERNANCE);
        capabilities.setParameters(parameters(1_000_000));
        (bytes32 id, address[] memory drawn) = openRound();
        commitAs(id, drawn[0], 50);
        uint64 until = capabilities.roundOf(id).commitUntil;
        vm.prank(drawn[0]);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.CommitmentsNotOver.selector, until));
        capabilities.revealMeasurement(id, numbersOf(50), SALT);
        commitAs(id, drawn[1], 60);
        vm.prank(drawn[1]);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.AlreadyCommitted.selector, drawn[1]));
        capabilities.commitMeasurement(id, SALT);
        vm.warp(until + 1);
        revealAs(id, drawn[0], 50);
        vm.prank(drawn[1]);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.CommitmentMismatch.selector, drawn[1]));
        capabilities.revealMeasurement(id, numbersOf(50), SALT);
        vm.prank(drawn[2]);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.CommitmentsOver.selector, until));
        capabilities.commitMeasurement(id, SALT);
        vm.warp(until + 10 minutes + 1);
        capabilities.settle(id);
        vm.assertEq(decodeOf(), 50, "what there is");
    }

    function testFuzz_confirmationsAreAsOftenAsTheParameterSays(uint32 ppm) public {
        ppm = uint32(bound(ppm, 0, 1_000_000));
        vm.prank(GOVERNANCE);
        capabilities.setParameters(parameters(ppm));
        uint256 threes;
        for (uint256 i; i < 20; ++i) {
            uint32 epoch = guards.currentEpoch();
            nextEpoch();
            (, address[] memory drawn) = capabilities.dutyOf(epoch, miner, MODEL);
            vm.assertTrue(drawn.length == 1 || drawn.length == 3, "one or three");
            if (drawn.length == 3) ++threes;
        }
        if (ppm == 0) vm.assertEq(threes, 0, "never");
        if (ppm == 1_000_000) vm.assertEq(threes, 20, "always");
    }

    // --- challenges ---

    function test_aChallengeOfARightRecordIsTheMinersGain() public {
        measureOnce(100);
        (bytes32 id, address[] memory drawn) = challengeNow();
        vm.assertEq(drawn.length, 3, "three");
        answer(id, drawn, [uint32(95), 105, 110]);
        vm.assertEq(capabilities.balanceOf(registry.payoutOf(miner)), BOND, "the bond");
        vm.assertEq(capabilities.balanceOf(challenger), 0, "nothing back");
        vm.assertEq(decodeOf(), 101, "averaged on");
        uint256 paid;
        for (uint256 i; i < 3; ++i) {
            paid += capabilities.balanceOf(drawn[i]);
        }
        vm.assertEq(paid, FEE, "the guards share the fee to the wei");
        checkMoney(drawn);
    }

    function test_aChallengeOfAWrongRecordReplacesItAndTheBondComesBack() public {
        measureOnce(100);
        (bytes32 id, address[] memory drawn) = challengeNow();
        answer(id, drawn, [uint32(40), 41, 90]);
        vm.assertEq(decodeOf(), 41, "replaced, not averaged");
        vm.assertEq(capabilities.balanceOf(challenger), BOND, "the bond, not the fee");
        vm.assertEq(capabilities.balanceOf(registry.payoutOf(miner)), 0, "nothing");
        checkMoney(drawn);
        uint256 before = token.balanceOf(challenger);
        capabilities.withdraw(challenger);
        vm.assertEq(token.balanceOf(challenger) - before, BOND, "paid out");
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.NothingToWithdraw.selector, challenger));
        capabilities.withdraw(challenger);
    }

    function test_aChallengeThatNobodyDecidesIsGivenBackWhole() public {
        measureOnce(100);
        (bytes32 id, address[] memory drawn) = challengeNow();
        commitAs(id, drawn[0], 1);
        vm.warp(block.timestamp + 10 minutes + 1);
        revealAs(id, drawn[0], 1);
        vm.warp(block.timestamp + 10 minutes + 1);
        capabilities.settle(id);
        vm.assertEq(capabilities.balanceOf(challenger), uint256(BOND) + FEE, "all of it");
        vm.assertEq(decodeOf(), 100, "one guard alone moves no challenged record");
        checkMoney(drawn);
    }

    function test_aChallengeThatNobodyOpensIsReclaimed() public {
        measureOnce(100);
        uint32 epoch = guards.currentEpoch();
        vm.startPrank(challenger);
        bytes32 id = capabilities.challenge(miner, MODEL);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.AlreadyChallenged.selector, id));
        capabilities.challenge(miner, MODEL);
        vm.stopPrank();
        vm.expectRevert();
        capabilities.reclaim(epoch, miner, MODEL);
        vm.warp(block.timestamp + 3 * uint256(EPOCH));
        capabilities.reclaim(epoch, miner, MODEL);
        vm.assertEq(capabilities.balanceOf(challenger), uint256(BOND) + FEE, "all of it");
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.NotChallenged.selector, id));
        capabilities.reclaim(epoch, miner, MODEL);
        checkMoney(new address[](0));
    }

    function test_whatWasNeverMeasuredCannotBeChallenged() public {
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(ICapabilities.NothingToChallenge.selector, miner, MODEL));
        capabilities.challenge(miner, MODEL);
    }

    // --- numbers ---

    function testFuzz_averagesStayBetweenWhatWasMeasuredAndMoneyIsConserved(uint32 a, uint32 b, uint32[3] memory c)
        public
    {
        (a, b) = (uint32(bound(a, 0, 100_000_000)), uint32(bound(b, 0, 100_000_000)));
        measureOnce(a);
        measureOnce(b);
        (uint32 low, uint32 high) = a < b ? (a, b) : (b, a);
        vm.assertTrue(decodeOf() >= low && decodeOf() <= high, "between");
        for (uint256 i; i < 3; ++i) {
            c[i] = uint32(bound(c[i], 0, 100_000_000));
        }
        (bytes32 id, address[] memory drawn) = challengeNow();
        answer(id, drawn, c);
        checkMoney(drawn);
        vm.assertEq(capabilities.held(), 0, "nothing is held any more");
    }

    function test_parametersAreBoundedAndTheOwnersAlone() public {
        vm.expectRevert();
        capabilities.setParameters(parameters(1));
        for (uint256 i; i < 9; ++i) {
            ICapabilities.Parameters memory next = parameters(1);
            if (i == 0) next.confirmationPpm = 1_000_001;
            if (i == 1) next.weightPpm = 0;
            if (i == 2) next.driftPpm = 10_000_001;
            if (i == 3) next.tolerancePpm = 0;
            if (i == 4) next.commitWindow = 0;
            if (i == 5) next.revealWindow = 7 days + 1;
            if (i == 6) next.lateEpochs = 65;
            if (i == 7) next.challengeBond = 0;
            if (i == 8) next.challengeFee = 1_000_001e18;
            vm.prank(GOVERNANCE);
            vm.expectRevert(ICapabilities.ParametersOutOfBounds.selector);
            capabilities.setParameters(next);
        }
        vm.expectRevert(ICapabilities.ZeroAddress.selector);
        new Capabilities(IERC20(address(0)), registry, guards, GOVERNANCE, parameters(1));
    }
}
