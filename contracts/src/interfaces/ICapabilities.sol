// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";

/// @title What nodes can do, measured by guards that the beacon drew
/// @notice Each epoch's beacon draws one guard for each miner and model, and three now and then, so that no guard knows
/// beforehand whether others measure beside it. What they report becomes the record of the miner with the model: a moving average
/// whose drift is told. Anyone may have a record measured again by three for a bond and a fee: the bond is the miner's if the
/// record was right, and comes back with a new record if it was not. Nothing here slashes: it ranks.
/// @dev A measurement is eight numbers, in this order: prompt tokens a second, output tokens a second of one request, output tokens a
/// second of all requests together, requests at once, longest context in tokens, and in millionths the tool calls in form, the
/// schemas kept to, the traces that hold. `NOT_APPLICABLE` (2^32 - 1) stands for a number that the model cannot have.
interface ICapabilities {
    /// @notice Where a round stands. A round that is settled stays so.
    enum Status {
        None,
        Open,
        Settled
    }

    /// @notice The bounds are constants of the contract.
    /// @param confirmationPpm how often three guards are drawn instead of one
    /// @param weightPpm what a new measurement weighs in the average
    /// @param driftPpm a measurement farther than this from the average is told as a drift
    /// @param tolerancePpm a challenge whose measurement is within this of the record has failed
    /// @param commitWindow seconds for commitments, after a round is opened
    /// @param revealWindow seconds for reveals, after that
    /// @param lateEpochs epochs after its own in which a round may still be opened
    /// @param challengeBond what a challenger risks
    /// @param challengeFee what a challenge costs; the guards who reveal share it
    struct Parameters {
        uint32 confirmationPpm;
        uint32 weightPpm;
        uint32 driftPpm;
        uint32 tolerancePpm;
        uint32 commitWindow;
        uint32 revealWindow;
        uint32 lateEpochs;
        uint96 challengeBond;
        uint96 challengeFee;
    }

    /// @param average moving averages of all measurements
    /// @param epoch of the newest one
    /// @param measurements how many there were
    /// @param driftPpm how far the newest one was from the average before it, at its farthest number
    /// @param drifted whether that was farther than `driftPpm` of the parameters
    struct Record {
        uint32[8] average;
        uint32 epoch;
        uint32 measurements;
        uint32 driftPpm;
        bool drifted;
    }

    /// @param status where it stands
    /// @param challenged whether a challenge pays for it
    /// @param epoch whose beacon drew it
    /// @param commitUntil end of commitments
    /// @param revealUntil end of reveals
    /// @param commitments how many guards committed
    /// @param reveals how many revealed
    /// @param miner who is measured
    /// @param model with which model
    /// @param guards who measure
    struct Round {
        Status status;
        bool challenged;
        uint32 epoch;
        uint64 commitUntil;
        uint64 revealUntil;
        uint8 commitments;
        uint8 reveals;
        address miner;
        ModelId model;
        address[] guards;
    }

    event RoundOpened(
        bytes32 indexed id,
        address indexed miner,
        ModelId indexed model,
        uint32 epoch,
        address[] guards,
        bool challenged
    );
    event MeasurementCommitted(bytes32 indexed id, address indexed guard);
    event MeasurementRevealed(bytes32 indexed id, address indexed guard, uint32[8] numbers);
    event RecordChanged(
        address indexed miner, ModelId indexed model, uint32 epoch, uint32[8] measured, uint32[8] average
    );
    /// @notice The newest measurement is far from those before it.
    event Drifted(address indexed miner, ModelId indexed model, uint32 epoch, uint32 driftPpm);
    /// @notice Nobody revealed, or too few for a challenge.
    event RoundVoid(bytes32 indexed id);
    event Challenged(bytes32 indexed id, address indexed challenger, uint96 bond, uint96 fee);
    /// @notice `confirmed`: the record was right and the bond is the miner's.
    event ChallengeSettled(bytes32 indexed id, bool confirmed);
    event Withdrawn(address indexed account, uint256 amount);
    event ParametersChanged(Parameters parameters);

    error ZeroAddress();
    error MinerInactive(address miner);
    error EpochNotOver(uint32 epoch, uint32 current);
    error EpochTooOld(uint32 epoch, uint32 current);
    error NoGuards();
    error RoundKnown(bytes32 id);
    error RoundNotOpen(bytes32 id);
    error NotDrawn(address guard);
    error AlreadyCommitted(address guard);
    error AlreadyRevealed(address guard);
    error CommitmentsOver(uint64 until);
    error CommitmentsNotOver(uint64 until);
    error CommitmentMismatch(address guard);
    error RevealsOver(uint64 until);
    error RevealsNotOver(uint64 until);
    error NothingToChallenge(address miner, ModelId model);
    error AlreadyChallenged(bytes32 id);
    error NotChallenged(bytes32 id);
    error NothingToWithdraw(address account);
    error ParametersOutOfBounds();

    /// @notice Opens the round of an epoch whose beacon is recorded. Anyone.
    function open(uint32 epoch, address miner, ModelId model) external returns (bytes32 id);

    /// @notice A drawn guard commits to `keccak256(abi.encode(guard, id, numbers, salt))`. Needed where several were drawn.
    function commitMeasurement(bytes32 id, bytes32 commitment) external;

    /// @notice A drawn guard tells what it measured, once all have committed or their time is over. Settles when it was the last.
    function revealMeasurement(bytes32 id, uint32[8] calldata numbers, bytes32 salt) external;

    /// @notice Ends a round whose time is over. Anyone.
    function settle(bytes32 id) external;

    /// @notice Has a record measured again by three guards of this epoch's beacon. Takes bond and fee from the caller.
    function challenge(address miner, ModelId model) external returns (bytes32 id);

    /// @notice Gives a challenger back what it laid down for a round that nobody opened in time. Anyone.
    function reclaim(uint32 epoch, address miner, ModelId model) external;

    /// @notice Pays an account's credit out to it. Anyone.
    function withdraw(address account) external;

    /// @notice Changes the parameters. Only the owner.
    function setParameters(Parameters calldata next) external;

    /// @notice Whom the beacon of an epoch draws, and the seed of the network tasks. Reverts while the beacon is not known.
    function dutyOf(uint32 epoch, address miner, ModelId model)
        external
        view
        returns (bytes32 seed, address[] memory guards);

    /// @notice The record of a miner with a model; `measurements` is zero where there is none.
    function recordOf(address miner, ModelId model) external view returns (Record memory);

    /// @notice One round.
    function roundOf(bytes32 id) external view returns (Round memory);

    /// @notice The commitment of a guard in a round; zero where there is none.
    function commitmentOf(bytes32 id, address guard) external view returns (bytes32);

    /// @notice Whether a guard has revealed in a round.
    function hasRevealed(bytes32 id, address guard) external view returns (bool);

    /// @notice What an account can withdraw.
    function balanceOf(address account) external view returns (uint256);

    /// @notice Bonds and fees of challenges that are not settled.
    function held() external view returns (uint256);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);

    /// @notice The name of a round.
    function idOf(uint32 epoch, address miner, ModelId model) external pure returns (bytes32);
}
