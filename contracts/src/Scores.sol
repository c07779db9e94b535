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
    int32 public constant MAX_LEVEL = 256 << 16;
    uint32 public constant MAX_JOBS = 1_000_000;
    uint32 public constant MAX_MEMORY = 366 days;
    /// @dev Computation is weighed for a miner that cheats in one answer of eight, so that honest answers do not clear it of the next
    /// one: log2 of seven eighths and an eighth of the ratio is at least either of what remains. log2 of 8, and of 8/7, rounded up.
    int256 private constant SUSPECTED = 3 << 16;
    int256 private constant UNSUSPECTED = 12_626;
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
    function record(address miner, Weighed calldata added, uint64 tokens, bool hard, bool mayConvict)
        external
        returns (State state, bool convicted)
    {
        if (msg.sender != auditor) revert NotAuditor(msg.sender);
        Score memory next = _after(_scores[miner], added);
        ++next.jobs;
        next.tokens += tokens;
        state = _stateOf(next, hard, mayConvict);
        convicted = state == State.Slashed && next.state != State.Slashed;
        next.state = state;
        _scores[miner] = next;
        emit ScoreChanged(miner, added, tokens, next);
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

        Weighed memory added = _both(_parameters.missingEvidence);
        Score memory next = _after(_scores[miner], added);
        State state = _stateOf(next, tooMany, tooMany);
        convicted = state == State.Slashed && next.state != State.Slashed;
        next.state = state;
        _scores[miner] = next;
        emit ScoreChanged(miner, added, 0, next);
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
        if (next.contentHash == bytes32(0)) revert ProfileInvalid();
        Profile storage current = _profiles[_triple(model, minerClass, guardClass)];
        if (next.version <= current.version) revert ProfileVersionNotNewer(next.version, current.version);
        current.version = next.version;
        current.contentHash = next.contentHash;
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
    function stateAfter(address miner, Weighed calldata added, bool hard) external view returns (State) {
        return _stateOf(_after(_scores[miner], added), hard, true);
    }

    /// @inheritdoc IScores
    function roundNeeded(address miner, Weighed calldata added, bool hard) external view returns (uint8) {
        if (!hard && added.computation <= 0 && added.sampling <= 0) return 0;
        Score memory current = _scores[miner];
        State now_ = current.state;
        State next = _stateOf(_after(current, added), hard, true);
        return next > now_ ? uint8(next) : 0;
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
    function weigh(ModelId model, bytes32 minerClass, bytes32 guardClass, uint16[16][3] calldata bins, int32 clip)
        external
        view
        returns (Weighed memory)
    {
        Profile memory table = _profiles[_triple(model, minerClass, guardClass)];
        if (table.version == 0) return _both(0);
        int256 computation = SignedMath.max(_sum(table, 0, bins) - SUSPECTED, -UNSUSPECTED);
        return Weighed(_clipped(computation, clip), _clipped(_sum(table, 1, bins), clip));
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
        // The limit is 255 failures of at most 256 bits each, so that this has 32 bits.
        Weighed memory added = _both(-int32(uint32(count)) * _parameters.missingEvidence);
        // forge-lint: disable-end(unsafe-typecast)
        _failures[miner] = failures;
        emit FailuresChanged(miner, failures.count);
        Score memory next = _after(_scores[miner], added);
        next.state = _stateOf(next, false, false);
        _scores[miner] = next;
        emit ScoreChanged(miner, added, 0, next);
    }

    function _sum(Profile memory table, uint256 charge, uint16[16][3] calldata bins)
        private
        pure
        returns (int256 evidence)
    {
        for (uint256 statistic; statistic < STATISTICS; ++statistic) {
            for (uint256 bin; bin < BINS; ++bin) {
                evidence += int256(uint256(bins[statistic][bin])) * table.ratios[charge][statistic][bin];
            }
        }
    }

    /// @dev Evidence alone; jobs, tokens and state are left to the caller.
    function _after(Score memory current, Weighed memory added) private pure returns (Score memory) {
        (current.computation, current.computationCusum) =
            _added(current.computation, current.computationCusum, added.computation);
        (current.sampling, current.samplingCusum) = _added(current.sampling, current.samplingCusum, added.sampling);
        return current;
    }

    function _added(int40 evidence, uint32 cusum, int256 bits) private pure returns (int40, uint32) {
        int256 sum = SignedMath.max(-type(int40).max, SignedMath.min(type(int40).max, evidence + bits));
        int256 risen = int256(uint256(cusum)) + bits;
        // Both are within the ends of their types.
        // forge-lint: disable-next-line(unsafe-typecast)
        return (int40(sum), risen < 0 ? 0 : uint32(Math.min(uint256(risen), type(uint32).max)));
    }

    function _clipped(int256 bits, int256 clip) private pure returns (int32) {
        // Within the clip, which has 32 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        return int32(SignedMath.max(-clip, SignedMath.min(clip, bits)));
    }

    function _both(int32 bits) private pure returns (Weighed memory) {
        return Weighed(bits, bits);
    }

    /// @dev Of the two charges, evidence and CUSUM of the one that more speaks for.
    function _highest(Score memory current) private pure returns (int256 evidence, int256 cusum) {
        evidence = SignedMath.max(current.computation, current.sampling);
        cusum = int256(Math.max(current.computationCusum, current.samplingCusum));
    }

    /// @dev Only a conviction is final: a miner that was watched or suspended comes back when its audits speak for it.
    function _stateOf(Score memory current, bool hard, bool mayConvict) private view returns (State) {
        if (current.state == State.Slashed) return State.Slashed;
        Parameters memory levels = _parameters;
        (int256 evidence, int256 cusum) = _highest(current);
        bool beyond = hard || evidence >= levels.convict || cusum >= levels.convictCusum;
        if (mayConvict && beyond) return State.Slashed;
        int256 level = SignedMath.max(evidence, cusum);
        if (level >= levels.suspend) return State.Suspended;
        return level >= levels.watch ? State.Watched : State.Good;
    }

    function _reputation(Score memory current) private view returns (uint256) {
        if (current.state == State.Suspended || current.state == State.Slashed) return 0;
        (int256 suspend, uint256 prior) = (_parameters.suspend, _parameters.reputationJobs);
        (, int256 cusum) = _highest(current);
        // After `record` the CUSUM of a miner that is not suspended is below the level; a lowered level may have overtaken it.
        if (cusum >= suspend) return 0;
        uint256 proved = ALL_PPM * (current.jobs + prior) / (current.jobs + 2 * prior);
        // Both are positive: the level by the bounds of the parameters.
        // forge-lint: disable-next-line(unsafe-typecast)
        return proved * uint256(suspend - cusum) / uint256(suspend);
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
