// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Usefulness} from "../../src/Usefulness.sol";
import {IAudits} from "../../src/interfaces/IAudits.sol";
import {IReceipts} from "../../src/interfaces/IReceipts.sol";
import {IUsefulness} from "../../src/interfaces/IUsefulness.sol";
import {ModelId} from "../../src/types/ModelId.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {vm} from "./Vm.sol";

/// @dev The world of audits with judges: each guard judges with a model of a family of its own, but where a test says otherwise.
abstract contract UsefulWorld is AuditWorld {
    uint96 internal constant JUDGE_PAY = 2e18;
    bytes32 internal constant TRACE = keccak256("trace of the calls");

    Usefulness internal usefulness;

    function deployUsefulWorld(uint256 count) internal {
        deployAuditWorld(count);
        usefulness = new Usefulness(token, registry, audits, GOVERNANCE, usefulnessParameters());
        for (uint256 i; i < count; ++i) {
            accept(modelNumber(i), uint32(i + 1));
            vm.prank(vm.addr(GUARD_KEYS + i));
            usefulness.declareModel(modelNumber(i));
        }
        token.approve(address(usefulness), type(uint256).max);
        usefulness.fund(1000e18);
        nextEpoch();
    }

    function usefulnessParameters() internal pure returns (IUsefulness.Parameters memory) {
        return IUsefulness.Parameters({
            commitWindow: 1 hours,
            revealWindow: 1 hours,
            knownWindow: 10 minutes,
            openWindow: 6 hours,
            samplePpm: 1_000_000,
            judges: 3,
            quorum: 2,
            agreement: 150_000,
            weightPpm: 100_000,
            trustStep: 20_000,
            knownStep: 100_000,
            judgePay: JUDGE_PAY
        });
    }

    function modelNumber(uint256 number) internal pure returns (ModelId) {
        return ModelId.wrap(keccak256(abi.encode("judge model", number)));
    }

    function accept(ModelId model, uint32 family) internal {
        vm.prank(GOVERNANCE);
        usefulness.setFamily(model, family);
    }

    /// @dev An audit that found nothing and settled, with the beacon of the judgement not recorded yet.
    function settleAudit(uint256 number, IAudits.Finding memory finding) internal returns (bytes32 item) {
        IReceipts.Receipt memory receipt;
        (receipt, item) = openOne(number);
        answerAll(receipt, finding);
        audits.settle(receipt);
        while (audits.audit(item).status == IAudits.Status.Waiting) {
            nextEpoch();
            audits.draw(item);
            if (audits.audit(item).status != IAudits.Status.Gathering) break;
            answerAll(receipt, finding);
            audits.settle(receipt);
        }
        vm.warp(uint256(audits.audit(item).until) + 1);
        audits.settle(receipt);
    }

    /// @dev Records the beacon of the epoch in which the time for appeals ended.
    function recordBeaconOf(bytes32 item) internal {
        uint32 epoch = uint32((audits.audit(item).until - guards.genesis()) / EPOCH);
        if (guards.currentEpoch() <= epoch) vm.warp(guards.genesis() + uint256(epoch + 1) * EPOCH);
        if (guards.beaconOf(epoch) != bytes32(0)) return;
        vm.prevrandao(keccak256(abi.encode("randomness", epoch)));
        guards.recordBeacon(epoch);
    }

    /// @dev An answer that passed its audit and can be judged.
    function usefulItem(uint256 number) internal returns (bytes32 item) {
        item = settleAudit(number, findingIn(0, 60));
        recordBeaconOf(item);
    }

    function judgesOf(bytes32 item) internal view returns (address[] memory judges) {
        IUsefulness.Seat[] memory seats = usefulness.seats(item);
        judges = new address[](seats.length);
        for (uint256 i; i < seats.length; ++i) {
            judges[i] = seats[i].judge;
        }
    }

    function scoreCommitment(address judge, bytes32 item, uint32 score) internal pure returns (bytes32) {
        return keccak256(abi.encode(judge, item, score, TRACE, SALT));
    }

    function commitScore(address judge, bytes32 item, uint32 score) internal {
        vm.prank(judge);
        usefulness.commitScore(item, scoreCommitment(judge, item, score));
    }

    function revealScore(address judge, bytes32 item, uint32 score) internal {
        vm.prank(judge);
        usefulness.revealScore(item, score, TRACE, SALT);
    }

    /// @dev The judges of an open item commit to and reveal these scores, in the order of their seats.
    function scoreAll(bytes32 item, uint32[] memory scores) internal {
        address[] memory judges = judgesOf(item);
        for (uint256 i; i < judges.length; ++i) {
            commitScore(judges[i], item, scores[i]);
        }
        for (uint256 i; i < judges.length; ++i) {
            revealScore(judges[i], item, scores[i]);
        }
    }

    function pastKnownWindow(bytes32 item) internal {
        vm.warp(uint256(usefulness.judgement(item).until) + usefulness.parameters().knownWindow + 1);
    }

    /// @dev A whole judgement.
    function judged(uint256 number, uint32[] memory scores) internal returns (bytes32 item) {
        item = usefulItem(number);
        usefulness.open(item);
        scoreAll(item, scores);
        pastKnownWindow(item);
        usefulness.settle(item);
    }

    function three(uint32 a, uint32 b, uint32 c) internal pure returns (uint32[] memory all) {
        all = new uint32[](3);
        (all[0], all[1], all[2]) = (a, b, c);
    }
}
