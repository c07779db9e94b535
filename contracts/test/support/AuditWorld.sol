// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Audits} from "../../src/Audits.sol";
import {Batches} from "../../src/Batches.sol";
import {Court} from "../../src/Court.sol";
import {Guards} from "../../src/Guards.sol";
import {Scores} from "../../src/Scores.sol";
import {IAudits} from "../../src/interfaces/IAudits.sol";
import {ICourt} from "../../src/interfaces/ICourt.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IReceipts} from "../../src/interfaces/IReceipts.sol";
import {IScores} from "../../src/interfaces/IScores.sol";
import {GUARD} from "../../src/types/Roles.sol";
import {SessionId} from "../../src/types/SessionId.sol";
import {vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @dev The world with guards, scores, court, batches and audits: receipts, batches, and guards that do what they are told.
abstract contract AuditWorld is World {
    uint256 internal constant GUARD_KEYS = 0xE000;
    uint128 internal constant GUARD_STAKE = 1000e18;
    uint32 internal constant EPOCH = 1 hours;
    int32 internal constant BIT = 65_536;
    bytes32 internal constant MINER_CLASS = keccak256("miner class");
    bytes32 internal constant GUARD_CLASS = keccak256("guard class");
    bytes32 internal constant SALT = keccak256("salt");
    uint96 internal constant PAY = 1e18;
    uint96 internal constant PENALTY = 10e18;
    uint96 internal constant TRAP_PENALTY = 50e18;
    uint96 internal constant APPEAL_BOND = 20e18;
    uint96 internal constant CHALLENGE_BOND = 30e18;
    uint96 internal constant MISSING_PENALTY = 2e18;

    Guards internal guards;
    Scores internal scores;
    Court internal court;
    Batches internal batches;
    Audits internal audits;
    address internal challenger = address(0xC4A);
    uint256 internal guardCount;

    function deployAuditWorld(uint256 count) internal {
        deployWorld();
        guards = new Guards(registry, EPOCH);
        scores = new Scores(GOVERNANCE, scoreParameters());
        court = new Court(token, registry, sessions, scores, GOVERNANCE, TREASURY, courtParameters());
        batches = new Batches(registry, guards, scores, GOVERNANCE);
        audits = new Audits(registry, address(sessions), batches, court, GOVERNANCE, auditParameters());
        vm.startPrank(GOVERNANCE);
        registry.setSlasher(address(court), true);
        scores.setWriters(address(audits), address(court));
        court.setAuditor(address(audits));
        batches.setAuditor(address(audits));
        vm.stopPrank();
        for (uint256 i; i < count; ++i) {
            addGuard();
        }
        fundFor(challenger, 10_000e18);
    }

    function scoreParameters() internal pure virtual returns (IScores.Parameters memory) {
        // Everything is drawn, so that a test need not look for what is.
        return IScores.Parameters({
            watch: 500_948,
            suspend: 936_360,
            convict: 1_371_772,
            convictCusum: 40 * BIT,
            newcomerJobs: 40,
            newcomerPpm: 1_000_000,
            floorPpm: 30_000,
            suspiciousPpm: 500_000,
            reputationJobs: 40,
            missingEvidence: 8 * BIT,
            missingLimit: 3,
            missingMemory: 30 days
        });
    }

    function courtParameters() internal pure returns (ICourt.Parameters memory) {
        return ICourt.Parameters({
            traceTolerance: 4,
            detectionPpm: 950_000,
            collusionPpm: 100_000,
            contradictionSlashBps: 5000,
            committeeSlashBps: 4000,
            burnBps: 4000,
            clientBps: 3000,
            poolBps: 2000,
            reporterBps: 1000,
            challengedBps: 5000,
            guardPay: PAY,
            guardPenalty: PENALTY,
            trapPenalty: TRAP_PENALTY,
            appealBond: APPEAL_BOND,
            challengeBond: CHALLENGE_BOND,
            missingPenalty: MISSING_PENALTY
        });
    }

    function auditParameters() internal pure returns (IAudits.Parameters memory) {
        return IAudits.Parameters({
            commitWindow: 1 hours,
            revealWindow: 1 hours,
            appealWindow: 2 hours,
            openWindow: 1 days,
            challengeWindow: 2 days,
            minimumCommittee: 3,
            agreement: BIT,
            clip: 16 * BIT,
            hardEvidence: 20 * BIT,
            badEvidence: 500_948
        });
    }

    /// @dev A guard that is its own owner and payout account.
    function addGuard() internal returns (address guard) {
        uint256 key = GUARD_KEYS + guardCount++;
        guard = vm.addr(key);
        fund(guard, GUARD_STAKE);
        INodeRegistry.OperatorConsent memory none;
        vm.startPrank(guard);
        registry.register(registration(key, GUARD, guard, GUARD_STAKE), none);
        guards.enroll();
        guards.declareClass(GUARD_CLASS);
        vm.stopPrank();
    }

    function fundFor(address account, uint256 amount) internal {
        token.transfer(account, amount);
        vm.prank(account);
        token.approve(address(court), type(uint256).max);
    }

    // --- receipts ---

    function receiptOf(uint256 number) internal view returns (IReceipts.Receipt memory receipt) {
        receipt.task = keccak256(abi.encode("task", number));
        receipt.session = SessionId.wrap(keccak256("no session"));
        receipt.header = keccak256(abi.encode("header", number));
        receipt.model = MODEL;
        receipt.miner = miner;
        receipt.traceRoot = keccak256(abi.encode("trace", number));
        receipt.outputTokens = 100;
        receipt.tier = 3;
        receipt.finishedAt = uint64(block.timestamp);
    }

    function itemOf(IReceipts.Receipt memory r) internal view returns (bytes32) {
        bytes32 typeHash = keccak256(
            "Receipt(bytes32 task,bytes32 session,bytes32 header,bytes32 model,address miner,bytes32 promptHash,bytes32 traceRoot,uint32 firstToken,uint32 inputTokens,uint32 outputTokens,uint8 finish,uint8 tier,uint128 inputPrice,uint128 outputPrice,uint128 amount,uint64 finishedAt)"
        );
        return sessionsDigest(keccak256(abi.encode(typeHash, r)));
    }

    function headerDigest(IReceipts.TaskHeader memory header) internal view returns (bytes32) {
        bytes32 typeHash = keccak256(
            "TaskHeader(bytes32 task,bytes32 session,bytes32 model,bytes32 requestHash,bytes32 sampling,bytes32 seed,uint32 maxTokens,uint8 minTier,uint64 clientNonce,uint64 deadline)"
        );
        return sessionsDigest(keccak256(abi.encode(typeHash, header)));
    }

    // --- trees, written a second time: by recursion over levels ---

    function leafOf(bytes memory content) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"00", content));
    }

    function treeRoot(bytes32[] memory level) internal pure returns (bytes32) {
        return level.length == 1 ? level[0] : treeRoot(parents(level));
    }

    function treePath(bytes32[] memory level, uint256 index) internal pure returns (bytes32[] memory path) {
        if (level.length == 1) return path;
        bytes32[] memory rest = treePath(parents(level), index / 2);
        uint256 sibling = index % 2 == 0 ? index + 1 : index - 1;
        if (sibling >= level.length) return rest;
        path = new bytes32[](rest.length + 1);
        path[0] = level[sibling];
        for (uint256 i; i < rest.length; ++i) {
            path[i + 1] = rest[i];
        }
    }

    function parents(bytes32[] memory level) internal pure returns (bytes32[] memory next) {
        next = new bytes32[]((level.length + 1) / 2);
        for (uint256 i; i < next.length; ++i) {
            bool single = 2 * i + 1 == level.length;
            next[i] =
                single ? level[2 * i] : keccak256(bytes.concat(hex"01", bytes.concat(level[2 * i], level[2 * i + 1])));
        }
    }

    // --- audits ---

    /// @dev Commits the miner to a batch of one receipt and records the beacon that draws it.
    function commitOne(IReceipts.Receipt memory receipt) internal returns (IAudits.Inclusion memory inclusion) {
        inclusion.root = leafOf(bytes.concat(itemOf(receipt)));
        vm.prank(receipt.miner);
        batches.commit(inclusion.root, 1);
        nextEpoch();
    }

    /// @dev Ends the epoch and records its beacon.
    function nextEpoch() internal {
        uint32 epoch = guards.currentEpoch();
        vm.warp(block.timestamp + EPOCH);
        vm.prevrandao(keccak256(abi.encode("randomness", epoch)));
        guards.recordBeacon(epoch);
    }

    /// @dev An audit that its first guard has not answered yet.
    function openOne(uint256 number) internal returns (IReceipts.Receipt memory receipt, bytes32 item) {
        receipt = receiptOf(number);
        item = itemOf(receipt);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        audits.openAudit(receipt, inclusion, bytes32(0));
    }

    /// @dev All tokens of a finding in one bin of the first statistic, whose ratio decides its evidence.
    function findingIn(uint256 bin, uint16 tokens) internal pure returns (IAudits.Finding memory finding) {
        finding.tokens = tokens;
        finding.bins[0][bin] = tokens;
    }

    function hardFinding() internal pure returns (IAudits.Finding memory finding) {
        finding.hard = true;
        finding.tokens = 1;
    }

    function commitmentOf(address guard, bytes32 item, uint8 round, IAudits.Finding memory finding)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(guard, item, round, finding, SALT));
    }

    /// @dev All guards of the round commit to and reveal the same finding.
    function answerAll(IReceipts.Receipt memory receipt, IAudits.Finding memory finding) internal {
        bytes32 item = itemOf(receipt);
        uint8 round = audits.audit(item).round;
        address[] memory drawn = audits.assigned(item, round);
        for (uint256 i; i < drawn.length; ++i) {
            vm.prank(drawn[i]);
            audits.commitFinding(item, commitmentOf(drawn[i], item, round, finding));
        }
        for (uint256 i; i < drawn.length; ++i) {
            vm.prank(drawn[i]);
            audits.revealFinding(receipt, finding, SALT);
        }
    }

    /// @dev Profile in which bin 0 speaks for honesty, bin 1 against, by a tenth of a bit a token; bin 2 by two bits.
    function registerProfile() internal {
        IScores.Profile memory profile;
        profile.version = 1;
        profile.contentHash = keccak256("calibration");
        // The other charge, which is weighed for one answer of eight, has half.
        for (uint256 charge; charge < 2; ++charge) {
            int32 parts = int32(int256(2 - charge));
            profile.ratios[charge][0][0] = -BIT / 10 / parts;
            profile.ratios[charge][0][1] = BIT / 10 / parts;
            profile.ratios[charge][0][2] = 2 * BIT / parts;
        }
        vm.prank(miner);
        guards.declareClass(MINER_CLASS);
        vm.prank(GOVERNANCE);
        scores.registerProfile(MODEL, MINER_CLASS, GUARD_CLASS, profile);
        nextEpoch();
    }

    /// @dev What guards, scores and court hold is all in known hands.
    function owedByCourt(address[] memory accounts) internal view returns (uint256 owed) {
        owed = court.pool() + court.bonds();
        for (uint256 i; i < accounts.length; ++i) {
            owed += court.balanceOf(accounts[i]);
        }
    }
}
