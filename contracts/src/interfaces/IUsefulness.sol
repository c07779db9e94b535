// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";
import {IAudits} from "./IAudits.sol";
import {IGuards} from "./IGuards.sol";
import {IQuality} from "./IQuality.sol";

/// @title Judgements of how useful audited answers were
/// @notice Of the answers whose audit settled and found nothing bad, a beacon draws some, and for each up to five judges among the
/// guards. Each commits to a score and reveals it; the median, weighted by what each judge's word is worth (its trust), moves the
/// miner's quality. Judges close to the median are paid from a pool. Miners are never slashed here, nor are judges: who does not
/// reveal, or strays, loses trust. Scores, trust and quality are ppm; times are seconds; amounts are wei of COR. An item is named as in `Audits`.
/// @dev A score says how the answer compares with what the judge's own engine answers to the same request: 1,000,000 is as good.
interface IUsefulness is IQuality {
    /// @notice The life of a judgement.
    /// @dev Gathering: scores are committed to and revealed. Settled: it counts. Void: too few revealed. Planted: the answer was known, and
    /// only trust moved.
    enum Status {
        None,
        Gathering,
        Settled,
        Void,
        Planted
    }

    /// @notice What a drawn judge has handed in.
    enum SeatState {
        Drawn,
        Committed,
        Revealed
    }

    /// @notice A judgement as it stands.
    /// @param seats how many judges were drawn
    /// @param committed how many have committed
    /// @param revealed how many have revealed
    /// @param openedAt when
    /// @param commitUntil last second for commitments
    /// @param until last second for scores; the present one once all that can come have come
    /// @param score the weighted median, once settled
    struct Judgement {
        address miner;
        Status status;
        uint8 seats;
        uint8 committed;
        uint8 revealed;
        uint40 openedAt;
        uint40 commitUntil;
        uint40 until;
        uint32 score;
    }

    /// @notice A drawn judge's place in a judgement.
    struct Seat {
        address judge;
        SeatState state;
        uint32 score;
    }

    /// @notice What is known of a miner.
    /// @param qualityPpm meaningless without judgements
    /// @param judgements how many counted
    struct Record {
        uint32 qualityPpm;
        uint32 judgements;
    }

    /// @notice What governance sets.
    /// @param commitWindow for commitments, in seconds after the judges were drawn
    /// @param revealWindow for scores, in seconds after that
    /// @param knownWindow in which a planted item may be shown, in seconds after the last score
    /// @param openWindow for opening what was drawn, in seconds after the beacon's epoch
    /// @param samplePpm the part of useful items that is judged
    /// @param judges how many are drawn
    /// @param quorum how many must reveal
    /// @param agreement how far from the median a score may lie to be paid
    /// @param weightPpm what one judgement weighs in a miner's quality
    /// @param trustStep what agreeing or straying moves a judge's trust
    /// @param knownStep what a known answer moves it, and half of what staying away costs
    /// @param judgePay for each score in agreement, as far as the pool reaches
    struct Parameters {
        uint32 commitWindow;
        uint32 revealWindow;
        uint32 knownWindow;
        uint32 openWindow;
        uint32 samplePpm;
        uint8 judges;
        uint8 quorum;
        uint32 agreement;
        uint32 weightPpm;
        uint32 trustStep;
        uint32 knownStep;
        uint96 judgePay;
    }

    /// @notice From an epoch on a guard judges with this model; zero: not at all.
    event ModelDeclared(address indexed judge, ModelId indexed model, uint32 family, uint32 fromEpoch);
    /// @notice A model may be judged with from now on, or not any more (zero).
    event FamilyChanged(ModelId indexed model, uint32 family);
    event JudgesDrawn(bytes32 indexed item, address indexed miner, address[] judges, uint40 commitUntil, uint40 until);
    event ScoreCommitted(bytes32 indexed item, address indexed judge, bytes32 commitment);
    /// @notice `traceRoot` is what the judge's calls to its engine can be checked against; zero where deterministic checks decided.
    event ScoreRevealed(bytes32 indexed item, address indexed judge, uint32 score, bytes32 traceRoot);
    event JudgementSettled(bytes32 indexed item, address indexed miner, Status status, uint32 score, uint32 qualityPpm);
    event TrustChanged(address indexed judge, uint32 trust);
    event JudgePaid(bytes32 indexed item, address indexed judge, uint256 amount);
    event KnownPlanted(address indexed setter, bytes32 commitment);
    event KnownShown(bytes32 indexed item, address indexed setter, uint32 low, uint32 high);
    event Funded(address indexed from, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event ParametersChanged(Parameters parameters);

    error ModelNotAccepted(ModelId model);
    error NotUseful(bytes32 item);
    error NotSampled(bytes32 item);
    error NoJudges();
    error JudgementKnown(bytes32 item);
    error WrongStatus(bytes32 item, Status status);
    error TooLate(uint256 last);
    error NotDue(uint256 until);
    error NotAssigned(bytes32 item, address judge);
    error SeatTaken(bytes32 item, address judge, SeatState state);
    error CommitmentZero();
    error CommitmentMismatch();
    error RevealTooEarly(uint40 commitUntil);
    error ScoreOutOfBounds(uint32 score);
    error NotTrapSetter(address caller);
    error TooMany(uint256 length);
    error KnownUnknown(bytes32 commitment);
    error ZeroAmount();
    error ZeroAddress();
    error NothingToWithdraw(address account);
    error ParametersOutOfBounds();

    /// @notice Says which model the caller, a guard, judges with from the next epoch on; zero ends that. Who declared none is not drawn.
    /// @dev Governance says which models may judge and which of them are one family, since a judge could otherwise name a family of its
    /// own and be preferred for it.
    function declareModel(ModelId model) external;

    /// @notice Opens the judgement of an audited answer that the beacon drew, and draws its judges. Anyone may, within the open window.
    /// @dev The beacon is that of the epoch in which the audit's time for appeals ended. Of up to 24 guards in the beacon's order, none of
    /// them related to another or the miner, those of a family that has no judge yet come first.
    function open(bytes32 item) external;

    /// @notice Commits the caller, a drawn judge, to its score: `keccak256(abi.encode(judge, item, score, traceRoot, salt))`.
    function commitScore(bytes32 item, bytes32 commitment) external;

    /// @notice Reveals what the caller committed to, once all have committed or the time for it is over.
    function revealScore(bytes32 item, uint32 score, bytes32 traceRoot, bytes32 salt) external;

    /// @notice Ends a judgement, once its scores are in or the time is over and the window for known answers has passed. Anyone may.
    function settle(bytes32 item) external;

    /// @notice Commits to the scores that known answers deserve, `keccak256(abi.encode(setter, item, low, high, salt))` each, before
    /// anybody is drawn for them. Only the court's trap setters.
    function plant(bytes32[] calldata commitments) external;

    /// @notice Shows, once the scores are in and before it is settled, that an item's answer was known: judges within `[low, high]` are
    /// paid and gain trust, others lose it, and the miner's quality does not move.
    function showKnown(bytes32 item, uint32 low, uint32 high, bytes32 salt) external;

    /// @notice Adds the caller's tokens to the pool that judges are paid from.
    function fund(uint128 amount) external;

    /// @notice Pays out an account's whole balance to that account. Anyone may call.
    function withdraw(address account) external returns (uint256 amount);

    /// @notice Says which family a model is of, so that guards may judge with it; zero takes that back for later declarations. Only governance.
    function setFamily(ModelId model, uint32 family) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice Who would be drawn if `open` were called now; nobody where the beacon did not draw the item.
    /// Reverts as `open` does where it is too early, too late or not useful.
    function drawn(bytes32 item) external view returns (address[] memory);

    /// @notice A judgement; all zero where there is none.
    function judgement(bytes32 item) external view returns (Judgement memory);

    /// @notice The judges of an item.
    function seats(bytes32 item) external view returns (Seat[] memory);

    /// @notice What is known of a miner; all zero for one that was never judged.
    function recordOf(address miner) external view returns (Record memory);

    /// @notice What a judge's word is worth: 500,000 to begin with, 50,000 to 1,000,000.
    function trustOf(address judge) external view returns (uint32);

    /// @notice The model that a guard declared last, in force from the epoch after its declaration on.
    function modelOf(address judge) external view returns (ModelId);

    /// @notice The family of a model that may judge; zero for others.
    function familyOf(ModelId model) external view returns (uint32);

    /// @notice The family that a guard judges with in an epoch; zero where it does not judge.
    function familyAt(address judge, uint32 epoch) external view returns (uint32);

    /// @notice When a known answer was committed to; zero for never.
    function plantedAt(bytes32 commitment) external view returns (uint256);

    /// @notice What judges are paid from.
    function pool() external view returns (uint256);

    /// @notice What an account can withdraw.
    function balanceOf(address account) external view returns (uint256);

    /// @notice Where audits are looked up.
    function audits() external view returns (IAudits);

    /// @notice Where time, randomness and judges come from.
    function guards() external view returns (IGuards);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}
