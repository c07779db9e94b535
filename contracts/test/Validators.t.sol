// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Validators} from "../src/Validators.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {IValidators} from "../src/interfaces/IValidators.sol";
import {ConsensusWorld} from "./support/ConsensusWorld.sol";
import {vm} from "./support/Vm.sol";

contract ValidatorsTest is ConsensusWorld {
    function setUp() public {
        deployConsensusWorld();
    }

    // --- sets ---

    function test_startsWithTheGenesisSet() public view {
        (address[] memory keys, uint64[] memory powers) = validators.currentSet();
        (address[] memory expected, uint64[] memory shares) = equalSet(BOOTSTRAP_KEYS, 4);
        bytes32 hash = keccak256(abi.encode(expected, shares));
        vm.assertEq(keccak256(abi.encode(keys, powers)), hash, "the set");
        vm.assertEq(validators.nextSetHash(), hash, "its hash");
        (address key, uint64 power) = validators.memberOf(0, 3);
        vm.assertEq(key, expected[3], "member");
        vm.assertEq(power, 250_000_000, "power");
    }

    function test_refusesAGenesisSetThatIsNone() public {
        (address[] memory keys, uint64[] memory powers) = equalSet(BOOTSTRAP_KEYS, 4);
        (keys[0], keys[1]) = (keys[1], keys[0]);
        expectNoStart(keys, powers);
        keys[0] = keys[1];
        expectNoStart(keys, powers);
        (keys, powers) = equalSet(BOOTSTRAP_KEYS, 4);
        powers[3] -= 1;
        expectNoStart(keys, powers);
        // One key twice, with two powers.
        keys[3] = keys[0];
        powers[0] += 1;
        expectNoStart(keys, powers);
        expectNoStart(new address[](0), new uint64[](0));
    }

    function test_powersFollowStakeFromTheNextEpochOn() public {
        for (uint256 i; i < 6; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        validators.advance();
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), 0, "not in this epoch");
        vm.roll(EPOCH_BLOCKS);
        vm.assertTrue(powerOf(vm.addr(CONSENSUS_KEYS)) != 0, "in the next");
        advanceEpochs(3);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), 100_000_000, "one of ten equals");
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)), 100_000_000, "as the bootstrap validators");
    }

    function test_aSetIsFixedOnceAndNotInTheLastBlock() public {
        validators.advance();
        vm.expectRevert(abi.encodeWithSelector(IValidators.AlreadyAdvanced.selector, uint64(0)));
        validators.advance();
        vm.roll(2 * EPOCH_BLOCKS - 1);
        vm.expectRevert(IValidators.EpochEnds.selector);
        validators.advance();
        vm.roll(2 * EPOCH_BLOCKS - 2);
        validators.advance();
    }

    function test_aBlocksSuccessorHasTheSameSetBeforeAndAfterTheBlock() public {
        addValidator(0, VALIDATOR_STAKE);
        vm.roll(EPOCH_BLOCKS - 2);
        validators.advance();
        vm.roll(EPOCH_BLOCKS - 1);
        bytes32 carried = validators.nextSetHash();
        (address[] memory keys, uint64[] memory powers) = validators.setAt(EPOCH_BLOCKS);
        vm.assertEq(keccak256(abi.encode(keys, powers)), carried, "the epoch's last header carries the next set");
        vm.roll(EPOCH_BLOCKS);
        (keys, powers) = validators.currentSet();
        vm.assertEq(keccak256(abi.encode(keys, powers)), carried, "which decides from there on");
        (keys, powers) = validators.setOf(0);
        vm.assertEq(keccak256(abi.encode(keys, powers)), validators.setHashOf(0), "the one before is still known");
        vm.assertTrue(validators.setHashOf(0) != carried, "and another");
    }

    function test_withoutAnyoneToAdvanceTheSetStays() public {
        bytes32 before = validators.setHashOf(0);
        vm.roll(1000 * uint256(EPOCH_BLOCKS));
        vm.assertEq(validators.setHashOf(1001), before, "a thousand epochs later");
        vm.expectRevert(abi.encodeWithSelector(IValidators.EpochUnknown.selector, uint64(1002)));
        validators.setHashOf(1002);
    }

    function test_bootstrapValidatorsLeaveAtTheirSunset() public {
        for (uint256 i; i < 5; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        vm.roll(EPOCH_BLOCKS * (SUNSET - 6));
        advanceEpochs(5);
        vm.assertTrue(powerOf(vm.addr(BOOTSTRAP_KEYS)) != 0, "still there");
        advanceEpochs(4);
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)), 0, "gone");
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), TOTAL_POWER / 5, "the others have it all");
    }

    function test_whenNobodyIsLeftThoseWhoDecidedGoOn() public {
        vm.roll(EPOCH_BLOCKS * (SUNSET + 1));
        advanceEpochs(3);
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)), TOTAL_POWER / 4, "as before");
    }

    function test_oneOfManyHasAtMostAFifth() public {
        addValidator(0, 100 * VALIDATOR_STAKE);
        for (uint256 i = 1; i < 6; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        advanceEpochs(6);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), TOTAL_POWER / 5, "capped");
    }

    function test_hundredCandidatesFitABlock() public {
        for (uint256 i; i < 100; ++i) {
            addValidator(i, uint128(VALIDATOR_STAKE + i * 1e18));
            served(vm.addr(OPERATOR_KEYS + i), uint64(1000 + i));
        }
        for (uint256 epoch; epoch < 6; ++epoch) {
            validators.advance();
            vm.assertLt(vm.lastCallGas().gasTotalUsed, 16_000_000, "gas of an advance with all of a hundred candidates");
            vm.roll((validators.currentEpoch() + 1) * EPOCH_BLOCKS);
        }
        vm.assertTrue(powerOf(vm.addr(CONSENSUS_KEYS)) != 0, "in");
    }

    // --- work ---

    function test_workMovesPowerWithinItsBounds() public {
        for (uint256 i; i < 16; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        for (uint256 epoch; epoch < 30; ++epoch) {
            for (uint256 i; i < 4; ++i) {
                served(vm.addr(OPERATOR_KEYS + i), 1_000_000);
            }
            advanceEpoch();
        }
        // Four times the mean, held at three, against nothing, held at a quarter; bootstrap validators count as the mean.
        uint64 idle = TOTAL_POWER / (4 * (4 * 3 + 4) + 12);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)) / 12, idle, "three");
        uint64 least = powerOf(vm.addr(CONSENSUS_KEYS + 15));
        vm.assertTrue(least == idle || least == idle + 1, "a quarter, and perhaps a unit of what did not divide");
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)) / 4, idle, "one");
    }

    function test_aReputationThatComesBackIsNoWork() public {
        addValidator(0, VALIDATOR_STAKE);
        address operator = vm.addr(OPERATOR_KEYS);
        served(operator, 1_000_000);
        advanceEpoch();
        uint128 work = validators.candidate(operator).workPpm;
        vm.assertTrue(work != 0, "counted");
        // Suspended: no score at all. Then back.
        record(operator, 15);
        advanceEpoch();
        record(operator, -15);
        advanceEpoch();
        vm.assertLt(validators.candidate(operator).workPpm, work, "it only decays");
    }

    function test_workBeforeJoiningCountsForNothing() public {
        address operator = addOperator(0, VALIDATOR_STAKE);
        served(operator, 1_000_000);
        joinWith(operator, CONSENSUS_KEYS);
        advanceEpoch();
        vm.assertEq(validators.candidate(operator).workPpm, 0, "none");
    }

    // --- joining ---

    function test_joiningNeedsTheKeysSignatureAndAnActiveNode() public {
        address operator = addOperator(0, VALIDATOR_STAKE);
        address key = vm.addr(CONSENSUS_KEYS);
        bytes memory other = signJoin(operator, CONSENSUS_KEYS + 1, block.timestamp);
        vm.startPrank(operator);
        vm.expectRevert(IValidators.KeyInvalid.selector);
        validators.join(operator, key, block.timestamp, other);
        vm.expectRevert(abi.encodeWithSelector(IValidators.ConsentExpired.selector, block.timestamp - 1));
        validators.join(operator, key, block.timestamp - 1, other);
        registry.requestUnstake(operator, VALIDATOR_STAKE);
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotValidator.selector, operator));
        validators.join(operator, key, block.timestamp, other);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotOperatorOrOwner.selector, operator, address(this)));
        validators.join(operator, key, block.timestamp, other);
    }

    function test_aKeyBelongsToOneOperatorForever() public {
        addValidator(0, VALIDATOR_STAKE);
        address first = vm.addr(OPERATOR_KEYS);
        vm.prank(first);
        validators.resign(first);
        address second = addOperator(1, VALIDATOR_STAKE);
        bytes memory signature = signJoin(second, CONSENSUS_KEYS, block.timestamp);
        vm.prank(second);
        vm.expectRevert(abi.encodeWithSelector(IValidators.KeyTaken.selector, vm.addr(CONSENSUS_KEYS)));
        validators.join(second, vm.addr(CONSENSUS_KEYS), block.timestamp, signature);
        joinWith(first, CONSENSUS_KEYS);
        vm.assertEq(validators.candidateCount(), 1, "its own operator may come back with it");
    }

    function test_aBootstrapKeyMayStakeAndTakesOnePlaceOnly() public {
        address operator = addOperator(0, VALIDATOR_STAKE);
        joinWith(operator, BOOTSTRAP_KEYS);
        (address[] memory keys,) = validators.bootstrapSet();
        vm.assertEq(keys.length, 3, "no longer a bootstrap validator");
        advanceEpochs(3);
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)), TOTAL_POWER / 4, "power for its stake");
        vm.roll(EPOCH_BLOCKS * (SUNSET + 1));
        advanceEpochs(6);
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS)), TOTAL_POWER, "beyond the sunset");
    }

    function test_aNewKeyTakesTheOldOnesPlace() public {
        for (uint256 i; i < 6; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        advanceEpochs(4);
        joinWith(vm.addr(OPERATOR_KEYS), CONSENSUS_KEYS + 77);
        advanceEpochs(1);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), 0, "the old one");
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS + 77)), TOTAL_POWER / 10, "the new one");
        vm.assertEq(validators.operatorOf(vm.addr(CONSENSUS_KEYS)), vm.addr(OPERATOR_KEYS), "still answers for the old");
    }

    function test_whoResignsOrUnstakesGoes() public {
        for (uint256 i; i < 6; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        advanceEpochs(4);
        address first = vm.addr(OPERATOR_KEYS);
        vm.prank(first);
        validators.resign(first);
        address second = vm.addr(OPERATOR_KEYS + 1);
        vm.prank(second);
        registry.requestUnstake(second, VALIDATOR_STAKE);
        advanceEpochs(1);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), 0, "resigned");
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS + 1)), 0, "unstaked");
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS + 2)), TOTAL_POWER / 8, "the others share it");
    }

    function test_aFullListGivesWayToMoreStake() public {
        for (uint256 i; i < 100; ++i) {
            addValidator(i, uint128(VALIDATOR_STAKE + i * 1e18));
        }
        address poor = addOperator(100, VALIDATOR_STAKE);
        bytes memory signature = signJoin(poor, CONSENSUS_KEYS + 100, block.timestamp);
        vm.prank(poor);
        vm.expectRevert(IValidators.Full.selector);
        validators.join(poor, vm.addr(CONSENSUS_KEYS + 100), block.timestamp, signature);
        addValidator(101, VALIDATOR_STAKE + 1);
        vm.assertEq(validators.candidateCount(), 100, "as many as before");
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotCandidate.selector, vm.addr(OPERATOR_KEYS)));
        validators.candidate(vm.addr(OPERATOR_KEYS));
    }

    // --- absence ---

    function test_theAbsentAreJailedAndMayComeBack() public {
        IValidators.Parameters memory p = validatorParameters();
        p.absentEpochs = 3;
        vm.prank(GOVERNANCE);
        validators.setParameters(p);
        for (uint256 i; i < 6; ++i) {
            addValidator(i, VALIDATOR_STAKE);
        }
        for (uint256 epoch; epoch < 6; ++epoch) {
            for (uint256 i = 1; i < 6; ++i) {
                // Either account will do.
                vm.prank(vm.addr((epoch % 2 == 0 ? OPERATOR_KEYS : CONSENSUS_KEYS) + i));
                validators.heartbeat();
            }
            vm.prank(vm.addr(BOOTSTRAP_KEYS));
            validators.heartbeat();
            advanceEpoch();
        }
        address lost = vm.addr(OPERATOR_KEYS);
        vm.assertEq(powerOf(vm.addr(CONSENSUS_KEYS)), 0, "the absent one");
        vm.assertEq(powerOf(vm.addr(BOOTSTRAP_KEYS + 1)), 0, "an absent bootstrap validator");
        vm.assertTrue(powerOf(vm.addr(BOOTSTRAP_KEYS)) != 0, "one that was heard of");
        uint64 until = validators.candidate(lost).jailedUntil;
        vm.roll((until - 1) * EPOCH_BLOCKS);
        vm.startPrank(lost);
        vm.expectRevert(abi.encodeWithSelector(IValidators.JailedUntil.selector, until));
        validators.unjail(lost);
        vm.roll(until * EPOCH_BLOCKS);
        validators.unjail(lost);
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotJailed.selector, lost));
        validators.unjail(lost);
        vm.stopPrank();
        for (uint256 i; i < 3; ++i) {
            advanceEpoch();
        }
        vm.assertTrue(powerOf(vm.addr(CONSENSUS_KEYS)) != 0, "back");
    }

    function test_strangersHaveNoHeartbeat() public {
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotCandidate.selector, address(this)));
        validators.heartbeat();
    }

    // --- governance ---

    function test_parametersAreBounded() public {
        vm.startPrank(GOVERNANCE);
        IValidators.Parameters memory p = validatorParameters();
        p.bootstrapStake = 0;
        expectOutOfBounds(p);
        p.bootstrapStake = validators.MAX_BOOTSTRAP_STAKE() + 1;
        expectOutOfBounds(p);
        p = validatorParameters();
        p.absentEpochs = validators.MAX_EPOCHS() + 1;
        expectOutOfBounds(p);
        p = validatorParameters();
        p.jailEpochs = validators.MAX_EPOCHS() + 1;
        expectOutOfBounds(p);
        vm.expectRevert(IValidators.ZeroAddress.selector);
        validators.setEquivocations(address(0));
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", address(this)));
        validators.setParameters(p);
        vm.expectRevert(abi.encodeWithSelector(IValidators.NotEquivocations.selector, address(this)));
        validators.ban(client);
    }

    function expectOutOfBounds(IValidators.Parameters memory p) private {
        vm.expectRevert(IValidators.ParametersOutOfBounds.selector);
        validators.setParameters(p);
    }

    function expectNoStart(address[] memory keys, uint64[] memory powers) private {
        vm.expectRevert(IValidators.SetInvalid.selector);
        new Validators(registry, scores, GOVERNANCE, EPOCH_BLOCKS, keys, powers, validatorParameters());
    }

    function record(address operator, int32 bits) private {
        vm.prank(address(audits));
        scores.record(operator, IScores.Weighed(bits * 65_536, bits * 65_536), 0, false, false);
    }
}
