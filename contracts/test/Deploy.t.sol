// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Deploy} from "../script/Deploy.s.sol";
import {IAudits} from "../src/interfaces/IAudits.sol";
import {ICapabilities} from "../src/interfaces/ICapabilities.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {IRewards} from "../src/interfaces/IRewards.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {IUsefulness} from "../src/interfaces/IUsefulness.sol";
import {IEquivocations} from "../src/interfaces/IEquivocations.sol";
import {IValidators} from "../src/interfaces/IValidators.sol";
import {vm} from "./support/Vm.sol";

/// @dev The script deploys with the parameters of `DeployParameters::public` in crates/contracts, which wrote the file.
contract DeployTest {
    string private _json;
    Deploy private _deploy;

    function setUp() public {
        _json = vm.readFile("artifacts/parameters.json");
        _deploy = new Deploy();
    }

    function test_sessionParametersAreTheFiles() public view {
        ISessions.Parameters memory p = _deploy.sessionParameters();
        check(p.routerBps, "sessions.router_bps");
        check(p.protocolBps, "sessions.protocol_bps");
        check(p.equivocationSlashBps, "sessions.equivocation_slash_bps");
        check(p.reporterBps, "sessions.reporter_bps");
        check(p.overdraftPenaltyBps, "sessions.overdraft_penalty_bps");
        check(p.grace, "sessions.grace_s");
        uint128[5] memory stakes = _deploy.stakes();
        check(stakes[0], "minimum_stakes.router");
        check(stakes[1], "minimum_stakes.miner");
        check(stakes[2], "minimum_stakes.guard");
        check(stakes[3], "minimum_stakes.validator");
        check(stakes[4], "minimum_stakes.storage");
    }

    function test_scoreParametersAreTheFiles() public view {
        IScores.Parameters memory p = _deploy.scoreParameters();
        check(uint32(p.watch), "scores.watch");
        check(uint32(p.suspend), "scores.suspend");
        check(uint32(p.convict), "scores.convict");
        check(uint32(p.convictCusum), "scores.convict_cusum");
        check(p.newcomerJobs, "scores.newcomer_jobs");
        check(p.newcomerPpm, "scores.newcomer_ppm");
        check(p.floorPpm, "scores.floor_ppm");
        check(p.suspiciousPpm, "scores.suspicious_ppm");
        check(p.reputationJobs, "scores.reputation_jobs");
        check(uint32(p.missingEvidence), "scores.missing_evidence");
        check(p.missingLimit, "scores.missing_limit");
        check(p.missingMemory, "scores.missing_memory_s");
    }

    function test_courtParametersAreTheFiles() public view {
        ICourt.Parameters memory p = _deploy.courtParameters();
        check(p.traceTolerance, "court.trace_tolerance");
        check(p.detectionPpm, "court.detection_ppm");
        check(p.collusionPpm, "court.collusion_ppm");
        check(p.contradictionSlashBps, "court.contradiction_slash_bps");
        check(p.committeeSlashBps, "court.committee_slash_bps");
        check(p.burnBps, "court.burn_bps");
        check(p.clientBps, "court.client_bps");
        check(p.poolBps, "court.pool_bps");
        check(p.reporterBps, "court.reporter_bps");
        check(p.challengedBps, "court.challenged_bps");
        check(p.guardPay, "court.guard_pay");
        check(p.guardPenalty, "court.guard_penalty");
        check(p.trapPenalty, "court.trap_penalty");
        check(p.appealBond, "court.appeal_bond");
        check(p.challengeBond, "court.challenge_bond");
        check(p.missingPenalty, "court.missing_penalty");
    }

    function test_auditParametersAreTheFiles() public view {
        IAudits.Parameters memory p = _deploy.auditParameters();
        check(p.commitWindow, "audits.commit_window_s");
        check(p.revealWindow, "audits.reveal_window_s");
        check(p.appealWindow, "audits.appeal_window_s");
        check(p.openWindow, "audits.open_window_s");
        check(p.challengeWindow, "audits.challenge_window_s");
        check(p.minimumCommittee, "audits.minimum_committee");
        check(uint32(p.agreement), "audits.agreement");
        check(uint32(p.clip), "audits.clip");
        check(uint32(p.hardEvidence), "audits.hard_evidence");
        check(uint32(p.badEvidence), "audits.bad_evidence");
    }

    function test_rewardParametersAreTheFiles() public view {
        IRewards.Parameters memory p = _deploy.rewardParameters();
        check(p.emission, "rewards.emission");
        check(p.halvingEpochs, "rewards.halving_epochs");
        check(p.capPpm, "rewards.cap_ppm");
        check(p.guardBps, "rewards.guard_bps");
    }

    function test_capabilityParametersAreTheFiles() public view {
        ICapabilities.Parameters memory p = _deploy.capabilityParameters();
        check(p.confirmationPpm, "capabilities.confirmation_ppm");
        check(p.weightPpm, "capabilities.weight_ppm");
        check(p.driftPpm, "capabilities.drift_ppm");
        check(p.tolerancePpm, "capabilities.tolerance_ppm");
        check(p.commitWindow, "capabilities.commit_window_s");
        check(p.revealWindow, "capabilities.reveal_window_s");
        check(p.lateEpochs, "capabilities.late_epochs");
        check(p.challengeBond, "capabilities.challenge_bond");
        check(p.challengeFee, "capabilities.challenge_fee");
    }

    function test_usefulnessParametersAreTheFiles() public view {
        IUsefulness.Parameters memory p = _deploy.usefulnessParameters();
        check(p.commitWindow, "usefulness.commit_window_s");
        check(p.revealWindow, "usefulness.reveal_window_s");
        check(p.knownWindow, "usefulness.known_window_s");
        check(p.openWindow, "usefulness.open_window_s");
        check(p.samplePpm, "usefulness.sample_ppm");
        check(p.judges, "usefulness.judges");
        check(p.quorum, "usefulness.quorum");
        check(p.agreement, "usefulness.agreement_ppm");
        check(p.weightPpm, "usefulness.weight_ppm");
        check(p.trustStep, "usefulness.trust_step_ppm");
        check(p.knownStep, "usefulness.known_step_ppm");
        check(p.judgePay, "usefulness.judge_pay");
    }

    function test_validatorParametersAreTheFiles() public view {
        IValidators.Parameters memory p = _deploy.validatorParameters();
        check(p.sunsetEpoch, "validators.sunset_epoch");
        check(p.bootstrapStake, "validators.bootstrap_stake");
        check(p.absentEpochs, "validators.absent_epochs");
        check(p.jailEpochs, "validators.jail_epochs");
        IEquivocations.Parameters memory e = _deploy.equivocationParameters();
        check(e.slashBps, "equivocations.slash_bps");
        check(e.burnBps, "equivocations.burn_bps");
        check(e.reporterBps, "equivocations.reporter_bps");
    }

    function check(uint256 value, string memory path) private view {
        vm.assertEq(value, vm.parseJsonUint(_json, string.concat(".", path)), path);
    }
}
