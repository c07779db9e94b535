// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";

/// @title What audits have shown about each miner
/// @notice Evidence is the logarithm to base 2, in 1/65,536 bit, of a product of likelihood ratios "cheat against honest"
/// (an e-process): an honest miner's ever reaches log2(x) with a probability of at most 1/x, however often one looks. There is one for
/// each charge: another computation than the model's over the prompt, and tokens that were not drawn by the rule; levels are for the
/// higher of the two, and a bit above what one alone would need. Beside each runs a sum that never falls below zero (CUSUM), so that long honesty cannot be saved up before cheating. Both move on committed work only:
/// who is idle is not guilty, and nothing counts against anyone because time passes.
/// @dev Written by `Audits` and `Court` alone. Integers throughout.
interface IScores {
    /// @notice What the evidence amounts to. Each state includes the ones before it.
    /// @dev Watched: audited more often. Suspended: gets no work. Slashed: convicted by a committee or by its own signature; final.
    enum State {
        Good,
        Watched,
        Suspended,
        Slashed
    }

    /// @notice What one audit weighs for each charge, in 1/65,536 bit.
    struct Weighed {
        int32 computation;
        int32 sampling;
    }

    /// @notice A miner's score. Sums stop at the ends of their types, far beyond every level.
    /// @param computation evidence for the first charge, of all audits, in 1/65,536 bit; below zero speaks for honesty
    /// @param sampling the same for the second
    /// @param computationCusum the same as `computation`, never below zero
    /// @param samplingCusum the same as `sampling`, never below zero
    /// @param jobs audits that were settled
    /// @param tokens LLM tokens served, as those audits estimate them: what each checked over the rate that drew it
    /// @param state what follows
    struct Score {
        int40 computation;
        int40 sampling;
        uint32 computationCusum;
        uint32 samplingCusum;
        uint32 jobs;
        uint64 tokens;
        State state;
    }

    /// @notice Calibrated ratios for one model, computed on one kind of machine and audited on another.
    /// @param version grows with each registration
    /// @param contentHash of the calibration file that this was made of
    /// @param ratios for each charge (computation, sampling) log2 of "cheat against honest" in 1/65,536 bit for
    /// 16 bins of each statistic: margin, log-probability difference, sketch distance
    struct Profile {
        uint32 version;
        bytes32 contentHash;
        int32[16][3][2] ratios;
    }

    /// @notice What governance sets. Levels are in 1/65,536 bit, rates in ppm.
    /// @param watch from this evidence or CUSUM on a miner is watched
    /// @param suspend from this evidence or CUSUM on a miner is suspended
    /// @param convict from this evidence on a committee's audit convicts
    /// @param convictCusum from this CUSUM on a committee's audit convicts; higher than `convict`, because a sum that starts anew
    /// after each fall has as many chances as there are audits
    /// @param newcomerJobs settled audits for which a miner counts as new
    /// @param newcomerPpm audit rate of new miners
    /// @param floorPpm audit rate of all others in good standing
    /// @param suspiciousPpm audit rate of those that are not
    /// @param reputationJobs settled audits after which a miner without blemish has two thirds of all reputation
    /// @param missingEvidence what a failure to show drawn receipts weighs, for both charges
    /// @param missingLimit so many failures convict
    /// @param missingMemory seconds after which one failure is forgotten
    struct Parameters {
        int32 watch;
        int32 suspend;
        int32 convict;
        int32 convictCusum;
        uint32 newcomerJobs;
        uint32 newcomerPpm;
        uint32 floorPpm;
        uint32 suspiciousPpm;
        uint32 reputationJobs;
        int32 missingEvidence;
        uint8 missingLimit;
        uint32 missingMemory;
    }

    /// @notice How often a miner failed to show receipts that were drawn.
    /// @param count failures that are not forgotten
    /// @param countedAt when the last one was counted; what was committed before belongs to it
    /// @param since from when on time makes the next one forgotten
    struct Failures {
        uint32 count;
        uint40 countedAt;
        uint40 since;
    }

    /// @notice An audit's evidence was added.
    event ScoreChanged(address indexed miner, Weighed added, uint64 tokens, Score score);
    /// @notice A miner was convicted; there is no way back for this operator.
    event Convicted(address indexed miner);
    /// @notice A failure to show drawn receipts was counted, or some were forgotten.
    event FailuresChanged(address indexed miner, uint32 count);
    event ProfileRegistered(
        ModelId indexed model,
        bytes32 indexed minerClass,
        bytes32 indexed guardClass,
        uint32 version,
        bytes32 contentHash
    );
    event WritersChanged(address auditor, address court);
    event ParametersChanged(Parameters parameters);

    error NotAuditor(address caller);
    error NotCourt(address caller);
    error ProfileVersionNotNewer(uint32 version, uint32 current);
    error ProfileInvalid();
    error ParametersOutOfBounds();
    error ZeroAddress();

    /// @notice Adds a settled audit. Only the auditor.
    /// @param hard the answer's structure was wrong, or its records were not shown
    /// @param mayConvict whether a committee large enough stands behind it
    /// @return state what the miner is now
    /// @return convicted whether this audit convicted it
    function record(address miner, Weighed calldata added, uint64 tokens, bool hard, bool mayConvict)
        external
        returns (State state, bool convicted);

    /// @notice Notes that a receipt that was drawn was not shown. Only the auditor. The first adds `missingEvidence`; others count only
    /// when they were committed to after the last failure had been counted, so that one lost disk is one failure.
    /// @return convicted whether this one was the last of `missingLimit`
    function recordMissing(address miner, uint40 committedAt) external returns (bool convicted);

    /// @notice Forgets a miner's failures, with what they weighed, one for each `missingMemory` that has passed. Anyone may; a
    /// conviction stays.
    function forget(address miner) external;

    /// @notice Convicts a miner that contradicted itself under its own signature. Only the court.
    function convict(address miner) external;

    /// @notice Registers the ratios for a triple of model, miner class and guard class. Only governance.
    function registerProfile(ModelId model, bytes32 minerClass, bytes32 guardClass, Profile calldata profile) external;

    /// @notice Names the contracts that write: `Audits` and `Court`. Only governance.
    function setWriters(address auditor, address court) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice A miner's score; all zero for one that was never audited.
    function score(address miner) external view returns (Score memory);

    /// @notice A miner's failures as they were last counted or forgotten.
    function failuresOf(address miner) external view returns (Failures memory);

    /// @notice The state that a miner would have after an audit with this outcome, if a committee stands behind it.
    function stateAfter(address miner, Weighed calldata added, bool hard) external view returns (State);

    /// @notice The part of a miner's receipts that is drawn for audits from now on, in ppm.
    function rateOf(address miner) external view returns (uint32);

    /// @notice From 500,000 for one that was never audited to just below 1,000,000; less the nearer its CUSUM comes to suspension, zero
    /// from there on.
    function reputationOf(address miner) external view returns (uint32 ppm);

    /// @notice Served LLM tokens, estimated from audits, weighted by reputation: what consensus power is made of. Zero once suspended.
    function scoreOf(address operator) external view returns (uint256);

    /// @notice The ratios for a triple; all zero where there are none.
    function profile(ModelId model, bytes32 minerClass, bytes32 guardClass) external view returns (Profile memory);

    /// @notice The round of an audit whose committee may decide so of a miner: what makes its state worse needs the committee of that
    /// state.
    function roundNeeded(address miner, Weighed calldata added, bool hard) external view returns (uint8);

    /// @notice What a guard's counts weigh for each charge, within ± `clip`, which is positive. Zero without a profile.
    /// @param bins how many tokens fell into each bin, for each statistic
    function weigh(ModelId model, bytes32 minerClass, bytes32 guardClass, uint16[16][3] calldata bins, int32 clip)
        external
        view
        returns (Weighed memory);

    /// @notice The contract that records audits.
    function auditor() external view returns (address);

    /// @notice The contract that convicts for contradictions.
    function court() external view returns (address);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}
