// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";
import {IScores} from "./interfaces/IScores.sol";
import {ModelId} from "./types/ModelId.sol";

/// @title Scores
/// @dev Holds no money. One slot a miner, another for one that failed to show receipts.
contract Scores is IScores, Ownable2Step {
    uint32 private constant ALL_PPM = 1_000_000;
    /// @dev 256 bits: beyond every probability that means something.
    int64 public constant MAX_LEVEL = 256 << 16;
    uint32 public constant MAX_JOBS = 1_000_000;
    uint32 public constant MAX_MEMORY = 366 days;
    /// @dev Evidence is of a mean, one eighth computation and seven eighths sampling: log2 of 8 and of 8/7, rounded up.
    int256 private constant COMPUTATION_COST = 3 << 16;
    int256 private constant SAMPLING_COST = 12_626;
    uint256 private constant CHARGES = 2;
    uint256 private constant STATISTICS = 3;
    uint256 private constant BINS = 16;

    /// @inheritdoc IScores
    address public auditor;
    /// @inheritdoc IScores
    address public court;

    Parameters private _parameters;
    mapping(address miner => Score) private _scores;
    mapping(address miner => Failures) private _failures;
    mapping(bytes32 triple => Profile) private _profiles;

    constructor(address initialOwner, Parameters memory initialParameters) Ownable(initialOwner) {
        _setParameters(initialParameters);
    }

    /// @inheritdoc IScores
    function record(address miner, int64 evidence, uint64 tokens, bool hard, bool mayConvict)
        external
        returns (State state, bool convicted)
    {
        if (msg.sender != auditor) revert NotAuditor(msg.sender);
        Score memory next = _after(_scores[miner], evidence);
        ++next.jobs;
        next.tokens += tokens;
        state = _stateOf(next, hard, mayConvict);
        convicted = state == State.Slashed && next.state != State.Slashed;
        next.state = state;
        _scores[miner] = next;
        emit ScoreChanged(miner, evidence, tokens, next);
        if (convicted) emit Convicted(miner);
    }

    /// @inheritdoc IScores
    function recordMissing(address miner, uint40 committedAt) external returns (bool convicted) {
        if (msg.sender != auditor) revert NotAuditor(msg.sender);
        if (committedAt <= _failures[miner].countedAt) return false;
        forget(miner);
        Failures memory failures = _failures[miner];
        if (failures.count == 0) failures.since = uint40(block.timestamp);
        failures.countedAt = uint40(block.timestamp);
        bool tooMany = ++failures.count >= _parameters.missingLimit;
        _failures[miner] = failures;
        emit FailuresChanged(miner, failures.count);

        Score memory next = _after(_scores[miner], _parameters.missingEvidence);
        State state = _stateOf(next, tooMany, tooMany);
        convicted = state == State.Slashed && next.state != State.Slashed;
        next.state = state;
        _scores[miner] = next;
        emit ScoreChanged(miner, _parameters.missingEvidence, 0, next);
        if (convicted) emit Convicted(miner);
    }

    /// @inheritdoc IScores
    function convict(address miner) external {
        if (msg.sender != court) revert NotCourt(msg.sender);
        _scores[miner].state = State.Slashed;
        emit Convicted(miner);
    }

    /// @inheritdoc IScores
    function registerProfile(ModelId model, bytes32 minerClass, bytes32 guardClass, Profile calldata next)
        external
        onlyOwner
    {
        if (next.contentHash == bytes32(0) || next.temperPpm == 0 || next.temperPpm > ALL_PPM) {
            revert ProfileInvalid();
        }
        Profile storage current = _profiles[_triple(model, minerClass, guardClass)];
        if (next.version <= current.version) revert ProfileVersionNotNewer(next.version, current.version);
        current.version = next.version;
        current.contentHash = next.contentHash;
        current.temperPpm = next.temperPpm;
        for (uint256 i; i < CHARGES * STATISTICS; ++i) {
            current.ratios[i / STATISTICS][i % STATISTICS] = next.ratios[i / STATISTICS][i % STATISTICS];
        }
        emit ProfileRegistered(model, minerClass, guardClass, next.version, next.contentHash);
    }

    /// @inheritdoc IScores
    function setWriters(address auditor_, address court_) external onlyOwner {
        if (auditor_ == address(0) || court_ == address(0)) revert ZeroAddress();
        (auditor, court) = (auditor_, court_);
        emit WritersChanged(auditor_, court_);
    }

    /// @inheritdoc IScores
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IScores
    function score(address miner) external view returns (Score memory) {
        return _scores[miner];
    }

    /// @inheritdoc IScores
    function failuresOf(address miner) external view returns (Failures memory) {
        return _failures[miner];
    }

    /// @inheritdoc IScores
    function stateAfter(address miner, int64 evidence, bool hard) external view returns (State) {
        return _stateOf(_after(_scores[miner], evidence), hard, true);
    }

    /// @inheritdoc IScores
    function rateOf(address miner) external view returns (uint32) {
        Score memory current = _scores[miner];
        if (current.state != State.Good) return _parameters.suspiciousPpm;
        return current.jobs < _parameters.newcomerJobs ? _parameters.newcomerPpm : _parameters.floorPpm;
    }

    /// @inheritdoc IScores
    function reputationOf(address miner) external view returns (uint32) {
        return uint32(_reputation(_scores[miner]));
    }

    /// @inheritdoc IScores
    function scoreOf(address operator) external view returns (uint256) {
        Score memory current = _scores[operator];
        return uint256(current.tokens) * _reputation(current) / ALL_PPM;
    }

    /// @inheritdoc IScores
    function profile(ModelId model, bytes32 minerClass, bytes32 guardClass) external view returns (Profile memory) {
        return _profiles[_triple(model, minerClass, guardClass)];
    }

    /// @inheritdoc IScores
    function weigh(ModelId model, bytes32 minerClass, bytes32 guardClass, uint16[16][3] calldata bins)
        external
        view
        returns (int256)
    {
        Profile memory table = _profiles[_triple(model, minerClass, guardClass)];
        (int256 a, int256 b) = (_weigh(table, 0, bins), _weigh(table, 1, bins));
        return SignedMath.max((a + 7 * b) / 8, SignedMath.max(a - COMPUTATION_COST, b - SAMPLING_COST));
    }

    /// @inheritdoc IScores
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IScores
    function forget(address miner) public {
        Failures memory failures = _failures[miner];
        uint256 memory_ = _parameters.missingMemory;
        uint256 count = Math.min(failures.count, (block.timestamp - failures.since) / memory_);
        if (count == 0) return;
        // At most `failures.count`, and a time that has passed.
        // forge-lint: disable-start(unsafe-typecast)
        failures.count -= uint32(count);
        failures.since += uint40(count * memory_);
        int64 evidence = -int64(uint64(count)) * _parameters.missingEvidence;
        // forge-lint: disable-end(unsafe-typecast)
        _failures[miner] = failures;
        emit FailuresChanged(miner, failures.count);
        Score memory next = _after(_scores[miner], evidence);
        next.state = _stateOf(next, false, false);
        _scores[miner] = next;
        emit ScoreChanged(miner, evidence, 0, next);
    }

    function _weigh(Profile memory table, uint256 charge, uint16[16][3] calldata bins)
        private
        pure
        returns (int256 evidence)
    {
        for (uint256 statistic; statistic < STATISTICS; ++statistic) {
            for (uint256 bin; bin < BINS; ++bin) {
                evidence += int256(uint256(bins[statistic][bin])) * table.ratios[charge][statistic][bin];
            }
        }
        return evidence * int256(uint256(table.temperPpm)) / int256(uint256(ALL_PPM));
    }

    /// @dev Evidence alone; jobs, tokens and state are left to the caller.
    function _after(Score memory current, int64 evidence) private pure returns (Score memory) {
        current.evidence += evidence;
        current.cusum += evidence;
        if (current.cusum < 0) current.cusum = 0;
        return current;
    }

    /// @dev Only a conviction is final: a miner that was watched or suspended comes back when its audits speak for it.
    function _stateOf(Score memory current, bool hard, bool mayConvict) private view returns (State) {
        if (current.state == State.Slashed) return State.Slashed;
        Parameters memory levels = _parameters;
        bool beyond = hard || current.evidence >= levels.convict || current.cusum >= levels.convictCusum;
        if (mayConvict && beyond) return State.Slashed;
        int64 level = current.evidence > current.cusum ? current.evidence : current.cusum;
        if (level >= levels.suspend) return State.Suspended;
        return level >= levels.watch ? State.Watched : State.Good;
    }

    function _reputation(Score memory current) private view returns (uint256) {
        if (current.state == State.Suspended || current.state == State.Slashed) return 0;
        (int64 suspend, uint256 prior) = (_parameters.suspend, _parameters.reputationJobs);
        // After `record` the CUSUM of a miner that is not suspended is below the level; a lowered level may have overtaken it.
        if (current.cusum >= suspend) return 0;
        uint256 proved = ALL_PPM * (current.jobs + prior) / (current.jobs + 2 * prior);
        // Both are positive: the level by the bounds of the parameters.
        // forge-lint: disable-next-line(unsafe-typecast)
        return proved * uint256(int256(suspend - current.cusum)) / uint256(int256(suspend));
    }

    function _setParameters(Parameters memory next) private {
        bool levels = 0 < next.watch && next.watch < next.suspend && next.suspend < next.convict
            && next.convict <= next.convictCusum && next.convictCusum <= MAX_LEVEL;
        bool rates = next.floorPpm != 0 && next.floorPpm <= next.newcomerPpm && next.newcomerPpm <= ALL_PPM
            && next.floorPpm <= next.suspiciousPpm && next.suspiciousPpm <= ALL_PPM;
        bool jobs = next.newcomerJobs <= MAX_JOBS && next.reputationJobs != 0 && next.reputationJobs <= MAX_JOBS;
        bool missing = 0 < next.missingEvidence && next.missingEvidence <= next.suspend && next.missingLimit > 1
            && 0 < next.missingMemory && next.missingMemory <= MAX_MEMORY;
        if (!levels || !rates || !jobs || !missing) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    function _triple(ModelId model, bytes32 minerClass, bytes32 guardClass) private pure returns (bytes32) {
        return keccak256(abi.encode(model, minerClass, guardClass));
    }
}
