// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Audits} from "../src/Audits.sol";
import {Batches} from "../src/Batches.sol";
import {Capabilities} from "../src/Capabilities.sol";
import {CortensorToken} from "../src/CortensorToken.sol";
import {Court} from "../src/Court.sol";
import {Guards} from "../src/Guards.sol";
import {ModelRegistry} from "../src/ModelRegistry.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {Rewards} from "../src/Rewards.sol";
import {Scores} from "../src/Scores.sol";
import {Sessions} from "../src/Sessions.sol";
import {Usefulness} from "../src/Usefulness.sol";
import {Equivocations} from "../src/Equivocations.sol";
import {Validators} from "../src/Validators.sol";
import {IAudits} from "../src/interfaces/IAudits.sol";
import {ICapabilities} from "../src/interfaces/ICapabilities.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {IRewards} from "../src/interfaces/IRewards.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {IUsefulness} from "../src/interfaces/IUsefulness.sol";
import {IEquivocations} from "../src/interfaces/IEquivocations.sol";
import {IValidators} from "../src/interfaces/IValidators.sol";

interface ScriptVm {
    function envOr(string calldata name, address fallbackValue) external view returns (address);
    function envOr(string calldata name, uint256 fallbackValue) external view returns (uint256);
    function envOr(string calldata name, string calldata delimiter, address[] calldata fallbackValue)
        external
        view
        returns (address[] memory);
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// @title Deploys token, node registry, model registry, sessions, guards, scores, court, batches, audits, rewards,
/// capabilities, usefulness, validators and equivocations, in this order, and wires them
/// @notice `forge script script/Deploy.s.sol --rpc-url URL --broadcast --slow` with any of forge's ways to sign. The broadcaster
/// deploys and wires; ownership is then offered to `GOVERNANCE`, which accepts it (two steps) when it is another account.
/// Environment, all optional: `GOVERNANCE`, `TREASURY`, `INITIAL_SUPPLY` (wei, to the broadcaster), `UNBONDING_DELAY` and
/// `GRACE` and `EPOCH` (seconds), `VALIDATORS` (consensus keys of the chain's first set, ascending, divided by commas; the
/// broadcaster alone without it), `VALIDATOR_EPOCH` (blocks), `ROUTER_STAKE`, `MINER_STAKE` and `GUARD_STAKE` (wei).
contract Deploy {
    ScriptVm private constant vm = ScriptVm(address(uint160(uint256(keccak256("hevm cheat code")))));
    // forge reads this to tell scripts from other contracts.
    // forge-lint: disable-next-line(mixed-case-variable)
    bool public IS_SCRIPT = true;

    struct Deployed {
        CortensorToken token;
        NodeRegistry registry;
        ModelRegistry models;
        Sessions sessions;
        Guards guards;
        Scores scores;
        Court court;
        Batches batches;
        Audits audits;
        Rewards rewards;
        Capabilities capabilities;
        Usefulness usefulness;
        Validators validators;
        Equivocations equivocations;
    }

    function run() external returns (Deployed memory all) {
        address deployer = msg.sender;
        address governance = vm.envOr("GOVERNANCE", deployer);

        vm.startBroadcast();
        all = market(deployer, vm.envOr("TREASURY", governance));
        audit(all, deployer, vm.envOr("TREASURY", governance));
        judge(all, deployer);
        validate(all, deployer);
        if (governance != deployer) handOver(all, governance);
        vm.stopBroadcast();
    }

    function market(address deployer, address treasury) private returns (Deployed memory all) {
        all.token = new CortensorToken(deployer, deployer, vm.envOr("INITIAL_SUPPLY", uint256(100_000_000e18)));
        uint64 unbonding = uint64(vm.envOr("UNBONDING_DELAY", uint256(7 days)));
        all.registry = new NodeRegistry(all.token, deployer, unbonding, stakes());
        all.models = new ModelRegistry(deployer);
        all.sessions = new Sessions(all.token, all.registry, all.models, deployer, treasury, sessionParameters());
        all.registry.setSlasher(address(all.sessions), true);
    }

    function audit(Deployed memory all, address deployer, address treasury) private {
        all.guards = new Guards(all.registry, uint32(vm.envOr("EPOCH", uint256(1 hours))));
        all.scores = new Scores(deployer, scoreParameters());
        all.court = new Court(all.token, all.registry, all.sessions, all.scores, deployer, treasury, courtParameters());
        all.batches = new Batches(all.registry, all.guards, all.scores, deployer);
        all.audits =
            new Audits(all.registry, address(all.sessions), all.batches, all.court, deployer, auditParameters());
        all.registry.setSlasher(address(all.court), true);
        all.scores.setWriters(address(all.audits), address(all.court));
        all.court.setAuditor(address(all.audits));
        all.batches.setAuditor(address(all.audits));
        reward(all, deployer);
    }

    /// @dev The protocol's share of fees goes to rewards and guards; `TREASURY` has the client's part of a slash where nobody knows the client.
    function reward(Deployed memory all, address deployer) private {
        all.rewards = new Rewards(
            all.token, all.registry, all.sessions, all.guards, all.scores, all.court, deployer, rewardParameters()
        );
        all.sessions.setTreasury(address(all.rewards));
    }

    function judge(Deployed memory all, address deployer) private {
        all.capabilities = new Capabilities(all.token, all.registry, all.guards, deployer, capabilityParameters());
        all.usefulness = new Usefulness(all.token, all.registry, all.audits, deployer, usefulnessParameters());
        all.rewards.setQuality(all.usefulness);
    }

    function validate(Deployed memory all, address deployer) private {
        address[] memory keys = new address[](1);
        keys[0] = deployer;
        keys = vm.envOr("VALIDATORS", ",", keys);
        all.validators = new Validators(
            all.registry,
            all.scores,
            deployer,
            uint32(vm.envOr("VALIDATOR_EPOCH", uint256(43_200))),
            keys,
            equalPowers(keys.length),
            validatorParameters()
        );
        all.equivocations =
            new Equivocations(all.token, all.registry, all.validators, all.court, deployer, equivocationParameters());
        all.registry.setSlasher(address(all.equivocations), true);
        all.validators.setEquivocations(address(all.equivocations));
    }

    /// @dev The first ones have one unit more where the total does not divide.
    function equalPowers(uint256 count) private pure returns (uint64[] memory powers) {
        powers = new uint64[](count);
        for (uint256 i; i < count; ++i) {
            powers[i] = uint64(1_000_000_000 / count + (i < 1_000_000_000 % count ? 1 : 0));
        }
    }

    /// @dev Guards belong to nobody.
    function handOver(Deployed memory all, address governance) private {
        all.token.transferOwnership(governance);
        all.registry.transferOwnership(governance);
        all.models.transferOwnership(governance);
        all.sessions.transferOwnership(governance);
        all.scores.transferOwnership(governance);
        all.court.transferOwnership(governance);
        all.audits.transferOwnership(governance);
        all.batches.transferOwnership(governance);
        all.rewards.transferOwnership(governance);
        all.capabilities.transferOwnership(governance);
        all.usefulness.transferOwnership(governance);
        all.validators.transferOwnership(governance);
        all.equivocations.transferOwnership(governance);
    }

    // The parameters of a public chain; test/Deploy.t.sol and crates/contracts hold them to artifacts/parameters.json.

    function stakes() public view returns (uint128[5] memory minimums) {
        minimums[0] = uint128(vm.envOr("ROUTER_STAKE", uint256(100_000e18)));
        minimums[1] = uint128(vm.envOr("MINER_STAKE", uint256(10_000e18)));
        minimums[2] = uint128(vm.envOr("GUARD_STAKE", uint256(10_000e18)));
        // Their duties come later.
        (minimums[3], minimums[4]) = (100_000e18, 10_000e18);
    }

    function sessionParameters() public view returns (ISessions.Parameters memory) {
        return ISessions.Parameters({
            routerBps: 500,
            protocolBps: 200,
            equivocationSlashBps: 5000,
            reporterBps: 1000,
            overdraftPenaltyBps: 1000,
            grace: uint32(vm.envOr("GRACE", uint256(1 days)))
        });
    }

    /// @dev Levels are log2 of 1e2, 1e4 and 1e6, and 40 bits, times 65,536.
    function scoreParameters() public pure returns (IScores.Parameters memory) {
        return IScores.Parameters({
            watch: 500_948,
            suspend: 936_360,
            convict: 1_371_772,
            convictCusum: 2_621_440,
            newcomerJobs: 40,
            newcomerPpm: 200_000,
            floorPpm: 30_000,
            suspiciousPpm: 500_000,
            reputationJobs: 40,
            missingEvidence: 524_288,
            missingLimit: 4,
            missingMemory: 30 days
        });
    }

    function courtParameters() public pure returns (ICourt.Parameters memory) {
        return ICourt.Parameters({
            traceTolerance: 4,
            detectionPpm: 950_000,
            collusionPpm: 100_000,
            contradictionSlashBps: 5000,
            committeeSlashBps: 5000,
            burnBps: 4000,
            clientBps: 3000,
            poolBps: 2000,
            reporterBps: 1000,
            challengedBps: 5000,
            guardPay: 0.001e18,
            guardPenalty: 0.01e18,
            trapPenalty: 0.1e18,
            appealBond: 10e18,
            challengeBond: 10e18,
            missingPenalty: 1e18
        });
    }

    function auditParameters() public pure returns (IAudits.Parameters memory) {
        return IAudits.Parameters({
            commitWindow: 4 hours,
            revealWindow: 2 hours,
            appealWindow: 12 hours,
            openWindow: 2 days,
            challengeWindow: 3 days,
            minimumCommittee: 3,
            agreement: 131_072,
            clip: 1_572_864,
            hardEvidence: 1_310_720,
            badEvidence: 500_948
        });
    }

    function rewardParameters() public pure returns (IRewards.Parameters memory) {
        return IRewards.Parameters({emission: 200e18, halvingEpochs: 17_520, capPpm: 500_000, guardBps: 10_000});
    }

    function capabilityParameters() public pure returns (ICapabilities.Parameters memory) {
        return ICapabilities.Parameters({
            confirmationPpm: 100_000,
            weightPpm: 250_000,
            driftPpm: 300_000,
            tolerancePpm: 300_000,
            commitWindow: 1 hours,
            revealWindow: 30 minutes,
            lateEpochs: 2,
            challengeBond: 10e18,
            challengeFee: 1e18
        });
    }

    function usefulnessParameters() public pure returns (IUsefulness.Parameters memory) {
        return IUsefulness.Parameters({
            commitWindow: 4 hours,
            revealWindow: 2 hours,
            knownWindow: 1 hours,
            openWindow: 6 hours,
            samplePpm: 200_000,
            judges: 3,
            quorum: 2,
            agreement: 150_000,
            weightPpm: 50_000,
            trustStep: 10_000,
            knownStep: 50_000,
            judgePay: 0.002e18
        });
    }

    function validatorParameters() public pure returns (IValidators.Parameters memory) {
        return IValidators.Parameters({sunsetEpoch: 730, bootstrapStake: 1_000_000e18, absentEpochs: 2, jailEpochs: 2});
    }

    function equivocationParameters() public pure returns (IEquivocations.Parameters memory) {
        return IEquivocations.Parameters({slashBps: 5000, burnBps: 4000, reporterBps: 1000});
    }
}
