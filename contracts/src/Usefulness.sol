// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IAudits} from "./interfaces/IAudits.sol";
import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IQuality} from "./interfaces/IQuality.sol";
import {IUsefulness} from "./interfaces/IUsefulness.sol";
import {ModelId} from "./types/ModelId.sol";

/// @title Usefulness
/// @dev Holds exactly the pool and all balances. Reads audits, guards, court and registry, which are trusted, and writes none of them.
contract Usefulness is IUsefulness, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using Checkpoints for Checkpoints.Trace224;

    uint32 public constant MAX_SCORE = 1_500_000;
    uint32 public constant MIN_QUALITY = 250_000;
    uint32 public constant MAX_QUALITY = 1_500_000;
    uint32 public constant NEUTRAL = 1_000_000;
    uint32 public constant MIN_TRUST = 50_000;
    uint32 public constant FIRST_TRUST = 500_000;
    uint32 public constant MAX_TRUST = 1_000_000;
    /// @dev Agreement alone moves trust within these: only known answers lead beyond, so that judges who agree with each other
    /// cannot make each other's word worth everything.
    uint32 public constant LEAST_BY_AGREEMENT = 250_000;
    uint32 public constant MOST_BY_AGREEMENT = 750_000;
    uint32 public constant MAX_WINDOW = 7 days;
    uint32 public constant MAX_KNOWN_WINDOW = 1 days;
    uint32 public constant MAX_WEIGHT = 500_000;
    uint32 public constant MAX_TRUST_STEP = 100_000;
    uint32 public constant MAX_KNOWN_STEP = 500_000;
    uint8 public constant MAX_JUDGES = 5;
    uint256 public constant MAX_PLANTED = 256;
    uint256 private constant CANDIDATES = 24;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice The token of payments.
    IERC20 public immutable token;
    /// @notice Where judges' payout accounts are looked up.
    INodeRegistry public immutable nodeRegistry;
    /// @inheritdoc IUsefulness
    IAudits public immutable audits;
    /// @inheritdoc IUsefulness
    IGuards public immutable guards;

    /// @inheritdoc IUsefulness
    uint256 public pool;
    /// @inheritdoc IUsefulness
    mapping(address account => uint256) public balanceOf;
    /// @inheritdoc IUsefulness
    mapping(bytes32 commitment => uint256) public plantedAt;
    /// @inheritdoc IUsefulness
    mapping(ModelId model => uint32) public familyOf;
    /// @inheritdoc IUsefulness
    mapping(address judge => ModelId) public modelOf;

    Parameters private _parameters;
    mapping(bytes32 item => Judgement) private _judgements;
    mapping(bytes32 item => mapping(uint256 index => Seat)) private _seats;
    /// @dev By item and judge.
    mapping(bytes32 item => mapping(address judge => bytes32)) private _commitments;
    mapping(address miner => Record) private _records;
    /// @dev Zero before it first moves.
    mapping(address judge => uint32) private _trust;
    /// @dev By the epoch from which on it holds.
    mapping(address judge => Checkpoints.Trace224) private _families;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        IAudits audits_,
        address initialOwner,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (address(token_) == address(0) || address(nodeRegistry_) == address(0) || address(audits_) == address(0)) {
            revert ZeroAddress();
        }
        token = token_;
        nodeRegistry = nodeRegistry_;
        audits = audits_;
        guards = audits_.guards();
        _setParameters(initialParameters);
    }

    /// @inheritdoc IUsefulness
    function declareModel(ModelId model) external {
        uint32 family = familyOf[model];
        if (family == 0 && ModelId.unwrap(model) != bytes32(0)) revert ModelNotAccepted(model);
        uint32 from = guards.currentEpoch() + 1;
        modelOf[msg.sender] = model;
        _families[msg.sender].push(from, family);
        emit ModelDeclared(msg.sender, model, family, from);
    }

    /// @inheritdoc IUsefulness
    function open(bytes32 item) external {
        if (_judgements[item].status != Status.None) revert JudgementKnown(item);
        (address miner, uint32 epoch, bytes32 beacon) = _requireUseful(item);
        if (!_isSampled(beacon, item)) revert NotSampled(item);
        address[] memory judges = _draw(item, miner, epoch, beacon);
        Parameters storage current = _parameters;
        if (judges.length < current.quorum) revert NoJudges();
        uint40 commitUntil = uint40(block.timestamp) + current.commitWindow;
        uint40 until = commitUntil + current.revealWindow;
        Judgement storage state = _judgements[item];
        (state.miner, state.status) = (miner, Status.Gathering);
        // At most `MAX_JUDGES`.
        // forge-lint: disable-next-line(unsafe-typecast)
        state.seats = uint8(judges.length);
        (state.openedAt, state.commitUntil, state.until) = (uint40(block.timestamp), commitUntil, until);
        for (uint256 i; i < judges.length; ++i) {
            _seats[item][i].judge = judges[i];
        }
        emit JudgesDrawn(item, miner, judges, commitUntil, until);
    }

    /// @inheritdoc IUsefulness
    function commitScore(bytes32 item, bytes32 commitment) external {
        if (commitment == bytes32(0)) revert CommitmentZero();
        Judgement storage state = _requireGathering(item);
        if (block.timestamp > state.commitUntil) revert TooLate(state.commitUntil);
        Seat storage seat = _requireSeat(item, state, SeatState.Drawn);
        seat.state = SeatState.Committed;
        _commitments[item][msg.sender] = commitment;
        ++state.committed;
        emit ScoreCommitted(item, msg.sender, commitment);
    }

    /// @inheritdoc IUsefulness
    function revealScore(bytes32 item, uint32 score, bytes32 traceRoot, bytes32 salt) external {
        Judgement storage state = _requireGathering(item);
        if (block.timestamp > state.until) revert TooLate(state.until);
        bool late = block.timestamp > state.commitUntil;
        if (!late && state.committed < state.seats) revert RevealTooEarly(state.commitUntil);
        Seat storage seat = _requireSeat(item, state, SeatState.Committed);
        if (score > MAX_SCORE) revert ScoreOutOfBounds(score);
        bytes32 commitment = keccak256(abi.encode(msg.sender, item, score, traceRoot, salt));
        if (_commitments[item][msg.sender] != commitment) revert CommitmentMismatch();
        delete _commitments[item][msg.sender];
        (seat.state, seat.score) = (SeatState.Revealed, score);
        // Nobody commits any more here: all did, or it is too late.
        if (++state.revealed == state.committed) state.until = uint40(block.timestamp);
        emit ScoreRevealed(item, msg.sender, score, traceRoot);
    }

    /// @inheritdoc IUsefulness
    function settle(bytes32 item) external {
        Judgement storage state = _requireGathering(item);
        uint256 due = uint256(state.until) + _parameters.knownWindow;
        if (block.timestamp <= due) revert NotDue(due);
        if (state.revealed < _parameters.quorum) {
            _endVoid(item, state);
        } else {
            _endSettled(item, state);
        }
    }

    /// @inheritdoc IUsefulness
    function plant(bytes32[] calldata commitments) external {
        if (!audits.court().isTrapSetter(msg.sender)) revert NotTrapSetter(msg.sender);
        if (commitments.length > MAX_PLANTED) revert TooMany(commitments.length);
        for (uint256 i; i < commitments.length; ++i) {
            if (plantedAt[commitments[i]] != 0) continue;
            plantedAt[commitments[i]] = block.timestamp;
            emit KnownPlanted(msg.sender, commitments[i]);
        }
    }

    /// @inheritdoc IUsefulness
    function showKnown(bytes32 item, uint32 low, uint32 high, bytes32 salt) external {
        Judgement storage state = _requireGathering(item);
        if (block.timestamp <= state.until) revert NotDue(state.until);
        bytes32 commitment = keccak256(abi.encode(msg.sender, item, low, high, salt));
        uint256 planted = plantedAt[commitment];
        if (planted == 0 || planted >= state.openedAt) revert KnownUnknown(commitment);
        state.status = Status.Planted;
        emit KnownShown(item, msg.sender, low, high);
        emit JudgementSettled(item, state.miner, Status.Planted, 0, qualityPpm(state.miner));
        uint32 step = _parameters.knownStep;
        for (uint256 i; i < state.seats; ++i) {
            Seat memory seat = _seats[item][i];
            if (seat.state != SeatState.Revealed) {
                _lose(seat.judge, 2 * step, MIN_TRUST);
            } else if (low <= seat.score && seat.score <= high) {
                _pay(item, seat.judge);
                _gain(seat.judge, step, MAX_TRUST);
            } else {
                _lose(seat.judge, step, MIN_TRUST);
            }
        }
    }

    /// @inheritdoc IUsefulness
    function fund(uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        pool += amount;
        emit Funded(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IUsefulness
    function withdraw(address account) external nonReentrant returns (uint256 amount) {
        amount = balanceOf[account];
        if (amount == 0) revert NothingToWithdraw(account);
        balanceOf[account] = 0;
        emit Withdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc IUsefulness
    function setFamily(ModelId model, uint32 family) external onlyOwner {
        familyOf[model] = family;
        emit FamilyChanged(model, family);
    }

    /// @inheritdoc IUsefulness
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IUsefulness
    function drawn(bytes32 item) external view returns (address[] memory) {
        (address miner, uint32 epoch, bytes32 beacon) = _requireUseful(item);
        return _isSampled(beacon, item) ? _draw(item, miner, epoch, beacon) : new address[](0);
    }

    /// @inheritdoc IUsefulness
    function judgement(bytes32 item) external view returns (Judgement memory) {
        return _judgements[item];
    }

    /// @inheritdoc IUsefulness
    function seats(bytes32 item) external view returns (Seat[] memory all) {
        all = new Seat[](_judgements[item].seats);
        for (uint256 i; i < all.length; ++i) {
            all[i] = _seats[item][i];
        }
    }

    /// @inheritdoc IUsefulness
    function recordOf(address miner) external view returns (Record memory) {
        return _records[miner];
    }

    /// @inheritdoc IUsefulness
    function familyAt(address judge, uint32 epoch) public view returns (uint32) {
        // Only families are pushed.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32(_families[judge].upperLookup(epoch));
    }

    /// @inheritdoc IUsefulness
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IQuality
    function qualityPpm(address miner) public view returns (uint32) {
        Record memory known = _records[miner];
        return known.judgements == 0 ? NEUTRAL : known.qualityPpm;
    }

    /// @inheritdoc IUsefulness
    function trustOf(address judge) public view returns (uint32) {
        uint32 trust = _trust[judge];
        return trust == 0 ? FIRST_TRUST : trust;
    }

    // --- draws ---

    /// @dev What the first level passed, while it may be opened.
    /// @return miner whose answer it is
    /// @return epoch the epoch in which the time for appeals ended, whose beacon nobody knew before the decision was final
    function _requireUseful(bytes32 item) private view returns (address miner, uint32 epoch, bytes32 beacon) {
        IAudits.Audit memory audit = audits.audit(item);
        bool passed = audit.status == IAudits.Status.Settled && !audit.hard
            && SignedMath.max(audit.evidence.computation, audit.evidence.sampling) < audits.parameters().badEvidence
            && !audits.court().isProven(item);
        if (!passed) revert NotUseful(item);
        uint32 length = guards.epochLength();
        // 136 years of seconds.
        // forge-lint: disable-next-line(unsafe-typecast)
        epoch = uint32((audit.until - guards.genesis()) / length);
        uint256 last = uint256(audit.until) + length + _parameters.openWindow;
        if (block.timestamp > last) revert TooLate(last);
        return (audit.miner, epoch, guards.knownBeacon(epoch));
    }

    function _isSampled(bytes32 beacon, bytes32 item) private view returns (bool) {
        return uint256(keccak256(abi.encode(beacon, item, "sample"))) % ALL_PPM < _parameters.samplePpm;
    }

    /// @dev Guards in the order of the draw, first one of each family, then the rest.
    function _draw(bytes32 item, address miner, uint32 epoch, bytes32 beacon)
        private
        view
        returns (address[] memory judges)
    {
        address[] memory known = new address[](1);
        known[0] = miner;
        address[] memory found = guards.draw(keccak256(abi.encode(beacon, item, "judge")), epoch, known, CANDIDATES);
        uint32[] memory families = new uint32[](found.length);
        for (uint256 i; i < found.length; ++i) {
            families[i] = familyAt(found[i], epoch);
        }
        judges = new address[](_parameters.judges);
        uint256 count = 0;
        for (uint256 i; i < found.length && count < judges.length; ++i) {
            if (families[i] == 0 || _occursBefore(families, i)) continue;
            judges[count++] = found[i];
        }
        for (uint256 i; i < found.length && count < judges.length; ++i) {
            if (families[i] != 0 && _occursBefore(families, i)) judges[count++] = found[i];
        }
        assembly ("memory-safe") {
            mstore(judges, count)
        }
    }

    function _occursBefore(uint32[] memory families, uint256 place) private pure returns (bool) {
        for (uint256 i; i < place; ++i) {
            if (families[i] == families[place]) return true;
        }
        return false;
    }

    // --- endings ---

    function _endVoid(bytes32 item, Judgement storage state) private {
        state.status = Status.Void;
        emit JudgementSettled(item, state.miner, Status.Void, 0, qualityPpm(state.miner));
        uint32 step = 2 * _parameters.knownStep;
        for (uint256 i; i < state.seats; ++i) {
            Seat memory seat = _seats[item][i];
            if (seat.state != SeatState.Revealed) _lose(seat.judge, step, MIN_TRUST);
        }
    }

    function _endSettled(bytes32 item, Judgement storage state) private {
        uint32 score = _median(item, state.seats);
        (state.status, state.score) = (Status.Settled, score);
        uint32 quality = _move(state.miner, score);
        emit JudgementSettled(item, state.miner, Status.Settled, score, quality);
        Parameters memory current = _parameters;
        for (uint256 i; i < state.seats; ++i) {
            Seat memory seat = _seats[item][i];
            uint32 distance = seat.score > score ? seat.score - score : score - seat.score;
            if (seat.state != SeatState.Revealed) {
                _lose(seat.judge, 2 * current.knownStep, MIN_TRUST);
            } else if (distance <= current.agreement) {
                _pay(item, seat.judge);
                _gain(seat.judge, current.trustStep, MOST_BY_AGREEMENT);
            } else {
                _lose(seat.judge, current.trustStep, LEAST_BY_AGREEMENT);
            }
        }
    }

    /// @dev The least score up to which judges with half of all trust lie: with more than half of it honest, it is between two honest scores.
    function _median(bytes32 item, uint256 count) private view returns (uint32) {
        uint32[] memory scores = new uint32[](count);
        uint32[] memory weights = new uint32[](count);
        uint256 length = 0;
        uint256 total = 0;
        for (uint256 i; i < count; ++i) {
            Seat memory seat = _seats[item][i];
            if (seat.state != SeatState.Revealed) continue;
            uint32 weight = trustOf(seat.judge);
            uint256 place = length++;
            for (; place > 0 && scores[place - 1] > seat.score; --place) {
                (scores[place], weights[place]) = (scores[place - 1], weights[place - 1]);
            }
            (scores[place], weights[place]) = (seat.score, weight);
            total += weight;
        }
        uint256 below = 0;
        for (uint256 i; i < length; ++i) {
            below += weights[i];
            if (2 * below >= total) return scores[i];
        }
        return NEUTRAL;
    }

    /// @dev Moves a miner's quality towards a score by the weight of one judgement.
    function _move(address miner, uint32 score) private returns (uint32 quality) {
        int256 before = int256(uint256(qualityPpm(miner)));
        int256 step =
            (int256(uint256(score)) - before) * int256(uint256(_parameters.weightPpm)) / int256(uint256(ALL_PPM));
        // Between the score and what it was: not negative.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint256 next = uint256(before + step);
        // forge-lint: disable-next-line(unsafe-typecast)
        quality = uint32(Math.min(Math.max(next, MIN_QUALITY), MAX_QUALITY));
        Record storage known = _records[miner];
        known.qualityPpm = quality;
        ++known.judgements;
    }

    function _pay(bytes32 item, address judge) private {
        uint256 amount = Math.min(_parameters.judgePay, pool);
        pool -= amount;
        balanceOf[nodeRegistry.payoutOf(judge)] += amount;
        emit JudgePaid(item, judge, amount);
    }

    /// @dev Not beyond `most`; who has more keeps it.
    function _gain(address judge, uint32 step, uint32 most) private {
        uint32 trust = trustOf(judge);
        if (trust < most) _setTrust(judge, trust + step < most ? trust + step : most);
    }

    /// @dev Not below `least`; who has less keeps it.
    function _lose(address judge, uint32 step, uint32 least) private {
        uint32 trust = trustOf(judge);
        if (trust > least) _setTrust(judge, trust > least + step ? trust - step : least);
    }

    function _setTrust(address judge, uint32 trust) private {
        _trust[judge] = trust;
        emit TrustChanged(judge, trust);
    }

    // --- checks ---

    function _requireGathering(bytes32 item) private view returns (Judgement storage state) {
        state = _judgements[item];
        if (state.status != Status.Gathering) revert WrongStatus(item, state.status);
    }

    function _requireSeat(bytes32 item, Judgement storage state, SeatState expected)
        private
        view
        returns (Seat storage seat)
    {
        for (uint256 i; i < state.seats; ++i) {
            seat = _seats[item][i];
            if (seat.judge != msg.sender) continue;
            if (seat.state != expected) revert SeatTaken(item, msg.sender, seat.state);
            return seat;
        }
        revert NotAssigned(item, msg.sender);
    }

    function _setParameters(Parameters memory next) private {
        bool windows = next.commitWindow != 0 && next.commitWindow <= MAX_WINDOW && next.revealWindow != 0
            && next.revealWindow <= MAX_WINDOW && next.openWindow <= MAX_WINDOW && next.knownWindow <= MAX_KNOWN_WINDOW;
        bool sizes = next.samplePpm != 0 && next.samplePpm <= ALL_PPM && next.quorum != 0 && next.quorum <= next.judges
            && next.judges <= MAX_JUDGES;
        bool steps = next.agreement <= MAX_SCORE && next.weightPpm != 0 && next.weightPpm <= MAX_WEIGHT
            && next.trustStep <= MAX_TRUST_STEP && next.knownStep <= MAX_KNOWN_STEP;
        if (!windows || !sizes || !steps) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }
}
