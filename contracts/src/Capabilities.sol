// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICapabilities} from "./interfaces/ICapabilities.sol";
import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ModelId} from "./types/ModelId.sol";
import {MINER} from "./types/Roles.sol";

/// @title Capabilities
/// @dev Holds exactly the bonds and fees of open challenges and all balances. The token must not take fees or call back; registry and
/// guards are trusted.
contract Capabilities is ICapabilities, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Challenge {
        address challenger;
        uint96 bond;
        uint96 fee;
    }

    uint256 public constant COMMITTEE = 3;
    /// @notice A challenge is decided by no fewer measurements.
    uint256 public constant MIN_CHALLENGE_REVEALS = 2;
    uint32 public constant NOT_APPLICABLE = type(uint32).max;
    uint32 public constant MAX_WINDOW = 7 days;
    uint32 public constant MAX_LATE_EPOCHS = 64;
    uint32 public constant MAX_DRIFT_PPM = 10_000_000;
    uint96 public constant MAX_CHALLENGE = 1_000_000e18;
    uint256 private constant NUMBERS = 8;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice The token of bonds and fees.
    IERC20 public immutable token;
    /// @notice Who is a miner, and where its money goes.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Epochs, beacons and draws.
    IGuards public immutable guards;

    /// @inheritdoc ICapabilities
    mapping(address account => uint256) public balanceOf;
    /// @inheritdoc ICapabilities
    mapping(bytes32 id => mapping(address guard => bytes32)) public commitmentOf;
    /// @inheritdoc ICapabilities
    mapping(bytes32 id => mapping(address guard => bool)) public hasRevealed;
    /// @inheritdoc ICapabilities
    uint256 public held;

    Parameters private _parameters;
    mapping(bytes32 pair => Record) private _records;
    mapping(bytes32 id => Round) private _rounds;
    mapping(bytes32 id => Challenge) private _challenges;
    mapping(bytes32 id => mapping(address guard => uint32[8])) private _measurements;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        IGuards guards_,
        address initialOwner,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (address(token_) == address(0) || address(nodeRegistry_) == address(0) || address(guards_) == address(0)) {
            revert ZeroAddress();
        }
        (token, nodeRegistry, guards) = (token_, nodeRegistry_, guards_);
        _setParameters(initialParameters);
    }

    /// @inheritdoc ICapabilities
    function open(uint32 epoch, address miner, ModelId model) external returns (bytes32 id) {
        id = idOf(epoch, miner, model);
        Round storage round = _rounds[id];
        if (round.status != Status.None) revert RoundKnown(id);
        _requireInTime(epoch);
        if (!nodeRegistry.isActive(miner, MINER)) revert MinerInactive(miner);
        (, address[] memory drawn) = dutyOf(epoch, miner, model);
        if (drawn.length == 0) revert NoGuards();
        round.status = Status.Open;
        round.challenged = _challenges[id].challenger != address(0);
        round.epoch = epoch;
        round.miner = miner;
        round.model = model;
        round.commitUntil = uint64(block.timestamp) + _parameters.commitWindow;
        round.revealUntil = round.commitUntil + _parameters.revealWindow;
        round.guards = drawn;
        emit RoundOpened(id, miner, model, epoch, drawn, round.challenged);
    }

    /// @inheritdoc ICapabilities
    function commitMeasurement(bytes32 id, bytes32 commitment) external {
        Round storage round = _drawnRound(id);
        if (block.timestamp > round.commitUntil) revert CommitmentsOver(round.commitUntil);
        if (commitmentOf[id][msg.sender] != bytes32(0) || commitment == bytes32(0)) {
            revert AlreadyCommitted(msg.sender);
        }
        commitmentOf[id][msg.sender] = commitment;
        ++round.commitments;
        emit MeasurementCommitted(id, msg.sender);
    }

    /// @inheritdoc ICapabilities
    function revealMeasurement(bytes32 id, uint32[8] calldata numbers, bytes32 salt) external {
        Round storage round = _drawnRound(id);
        if (block.timestamp > round.revealUntil) revert RevealsOver(round.revealUntil);
        if (hasRevealed[id][msg.sender]) revert AlreadyRevealed(msg.sender);
        uint256 size = round.guards.length;
        if (size > 1) {
            // Whoever measures alone has nobody to copy from.
            if (round.commitments < size && block.timestamp <= round.commitUntil) {
                revert CommitmentsNotOver(round.commitUntil);
            }
            bytes32 commitment = keccak256(abi.encode(msg.sender, id, numbers, salt));
            if (commitmentOf[id][msg.sender] != commitment) revert CommitmentMismatch(msg.sender);
        }
        hasRevealed[id][msg.sender] = true;
        _measurements[id][msg.sender] = numbers;
        ++round.reveals;
        emit MeasurementRevealed(id, msg.sender, numbers);
        if (round.reveals == size) _settle(id, round);
    }

    /// @inheritdoc ICapabilities
    function settle(bytes32 id) external {
        Round storage round = _openRound(id);
        if (block.timestamp <= round.revealUntil) revert RevealsNotOver(round.revealUntil);
        _settle(id, round);
    }

    /// @inheritdoc ICapabilities
    function challenge(address miner, ModelId model) external nonReentrant returns (bytes32 id) {
        if (!nodeRegistry.isActive(miner, MINER)) revert MinerInactive(miner);
        if (_records[_pairOf(miner, model)].measurements == 0) revert NothingToChallenge(miner, model);
        id = idOf(guards.currentEpoch(), miner, model);
        if (_challenges[id].challenger != address(0)) revert AlreadyChallenged(id);
        (uint96 bond, uint96 fee) = (_parameters.challengeBond, _parameters.challengeFee);
        _challenges[id] = Challenge({challenger: msg.sender, bond: bond, fee: fee});
        held += uint256(bond) + fee;
        emit Challenged(id, msg.sender, bond, fee);
        token.safeTransferFrom(msg.sender, address(this), uint256(bond) + fee);
    }

    /// @inheritdoc ICapabilities
    function reclaim(uint32 epoch, address miner, ModelId model) external {
        bytes32 id = idOf(epoch, miner, model);
        if (_rounds[id].status != Status.None) revert RoundKnown(id);
        uint32 current = guards.currentEpoch();
        if (epoch >= current || current - epoch <= _parameters.lateEpochs) revert EpochNotOver(epoch, current);
        Challenge memory paid = _takeChallenge(id);
        balanceOf[paid.challenger] += uint256(paid.bond) + paid.fee;
        emit RoundVoid(id);
    }

    /// @inheritdoc ICapabilities
    function withdraw(address account) external nonReentrant {
        uint256 amount = balanceOf[account];
        if (amount == 0) revert NothingToWithdraw(account);
        balanceOf[account] = 0;
        emit Withdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc ICapabilities
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc ICapabilities
    function recordOf(address miner, ModelId model) external view returns (Record memory) {
        return _records[_pairOf(miner, model)];
    }

    /// @inheritdoc ICapabilities
    function roundOf(bytes32 id) external view returns (Round memory) {
        return _rounds[id];
    }

    /// @inheritdoc ICapabilities
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc ICapabilities
    function dutyOf(uint32 epoch, address miner, ModelId model)
        public
        view
        returns (bytes32 seed, address[] memory drawn)
    {
        seed = keccak256(abi.encode(guards.knownBeacon(epoch), "capability", miner, model));
        bool several = _challenges[idOf(epoch, miner, model)].challenger != address(0)
            || uint256(keccak256(abi.encode(seed, "confirmation"))) % ALL_PPM < _parameters.confirmationPpm;
        address[] memory known = new address[](1);
        known[0] = miner;
        drawn = guards.draw(seed, epoch, known, several ? COMMITTEE : 1);
    }

    /// @inheritdoc ICapabilities
    function idOf(uint32 epoch, address miner, ModelId model) public pure returns (bytes32) {
        return keccak256(abi.encode(epoch, miner, model));
    }

    function _settle(bytes32 id, Round storage round) private {
        round.status = Status.Settled;
        uint256 needed = round.challenged ? MIN_CHALLENGE_REVEALS : 1;
        if (round.reveals < needed) {
            emit RoundVoid(id);
            if (round.challenged) {
                Challenge memory paid = _takeChallenge(id);
                balanceOf[paid.challenger] += uint256(paid.bond) + paid.fee;
            }
            return;
        }
        uint32[8] memory measured = _medians(id, round);
        Record storage record = _records[_pairOf(round.miner, round.model)];
        bool confirmed;
        if (round.challenged) {
            confirmed = _distancePpm(record.average, measured) <= _parameters.tolerancePpm;
            _decide(id, round, confirmed);
        }
        // A record that was wrong is replaced, not averaged.
        _write(record, round, measured, round.challenged && !confirmed);
    }

    /// @dev The guards who revealed share the fee, what does not divide goes to the first; the bond follows the verdict.
    function _decide(bytes32 id, Round storage round, bool confirmed) private {
        Challenge memory paid = _takeChallenge(id);
        // The registry forgets nobody who is measured: a miner that left keeps its own account as a last resort.
        address payout = nodeRegistry.payoutOf(round.miner);
        address winner = confirmed ? (payout == address(0) ? round.miner : payout) : paid.challenger;
        balanceOf[winner] += paid.bond;
        uint256 share = paid.fee / round.reveals;
        uint256 rest = paid.fee - share * round.reveals;
        for (uint256 i; i < round.guards.length; ++i) {
            address guard = round.guards[i];
            if (!hasRevealed[id][guard]) continue;
            balanceOf[guard] += share + rest;
            rest = 0;
        }
        emit ChallengeSettled(id, confirmed);
    }

    function _write(Record storage record, Round storage round, uint32[8] memory measured, bool replaced) private {
        bool first = record.measurements == 0;
        uint32 drift = first ? 0 : _distancePpm(record.average, measured);
        uint32 weight = first || replaced ? ALL_PPM : _parameters.weightPpm;
        uint32[8] memory average = record.average;
        for (uint256 i; i < NUMBERS; ++i) {
            average[i] = _blend(average[i], measured[i], weight);
        }
        record.average = average;
        // A round of an older epoch may be settled after a newer one.
        if (round.epoch > record.epoch) record.epoch = round.epoch;
        ++record.measurements;
        (record.driftPpm, record.drifted) = (drift, drift > _parameters.driftPpm);
        emit RecordChanged(round.miner, round.model, round.epoch, measured, average);
        if (record.drifted) emit Drifted(round.miner, round.model, round.epoch, drift);
    }

    /// @dev Gives up what was laid down for a round; the caller credits it.
    function _takeChallenge(bytes32 id) private returns (Challenge memory paid) {
        paid = _challenges[id];
        if (paid.challenger == address(0)) revert NotChallenged(id);
        delete _challenges[id];
        held -= uint256(paid.bond) + paid.fee;
    }

    /// @dev The lower median of each number among those revealed: with two, the more modest one.
    function _medians(bytes32 id, Round storage round) private view returns (uint32[8] memory medians) {
        uint256 count = round.reveals;
        uint32[8][] memory all = new uint32[8][](count);
        uint256 found;
        for (uint256 i; i < round.guards.length; ++i) {
            address guard = round.guards[i];
            if (hasRevealed[id][guard]) all[found++] = _measurements[id][guard];
        }
        for (uint256 number; number < NUMBERS; ++number) {
            for (uint256 i; i < count; ++i) {
                uint256 below;
                for (uint256 j; j < count; ++j) {
                    uint32 other = all[j][number];
                    if (other < all[i][number] || (other == all[i][number] && j < i)) ++below;
                }
                if (below == (count - 1) / 2) medians[number] = all[i][number];
            }
        }
    }

    function _drawnRound(bytes32 id) private view returns (Round storage round) {
        round = _openRound(id);
        for (uint256 i; i < round.guards.length; ++i) {
            if (round.guards[i] == msg.sender) return round;
        }
        revert NotDrawn(msg.sender);
    }

    function _openRound(bytes32 id) private view returns (Round storage round) {
        round = _rounds[id];
        if (round.status != Status.Open) revert RoundNotOpen(id);
    }

    function _requireInTime(uint32 epoch) private view {
        uint32 current = guards.currentEpoch();
        if (epoch >= current) revert EpochNotOver(epoch, current);
        if (current - epoch > _parameters.lateEpochs) revert EpochTooOld(epoch, current);
    }

    function _setParameters(Parameters memory next) private {
        bool parts = next.confirmationPpm <= ALL_PPM && next.weightPpm != 0 && next.weightPpm <= ALL_PPM
            && next.driftPpm <= MAX_DRIFT_PPM && next.tolerancePpm != 0 && next.tolerancePpm <= ALL_PPM;
        bool windows = next.commitWindow != 0 && next.commitWindow <= MAX_WINDOW && next.revealWindow != 0
            && next.revealWindow <= MAX_WINDOW && next.lateEpochs != 0 && next.lateEpochs <= MAX_LATE_EPOCHS;
        bool money = next.challengeBond != 0 && next.challengeBond <= MAX_CHALLENGE && next.challengeFee != 0
            && next.challengeFee <= MAX_CHALLENGE;
        if (!parts || !windows || !money) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    /// @dev How far apart two measurements are at their farthest number, against the first.
    function _distancePpm(uint32[8] memory before, uint32[8] memory measured) private pure returns (uint32 farthest) {
        for (uint256 i; i < NUMBERS; ++i) {
            (uint256 a, uint256 b) = (before[i], measured[i]);
            if (a == NOT_APPLICABLE || b == NOT_APPLICABLE) continue;
            uint256 apart = (a > b ? a - b : b - a) * ALL_PPM / (a == 0 ? 1 : a);
            if (apart > MAX_DRIFT_PPM) apart = MAX_DRIFT_PPM;
            // At most ten million.
            // forge-lint: disable-next-line(unsafe-typecast)
            if (apart > farthest) farthest = uint32(apart);
        }
    }

    /// @dev `before` moved towards `measured` by `weight`; between the two, so it fits.
    function _blend(uint32 before, uint32 measured, uint32 weight) private pure returns (uint32) {
        if (before == NOT_APPLICABLE || measured == NOT_APPLICABLE) return measured;
        uint256 sum = uint256(before) * (ALL_PPM - weight) + uint256(measured) * weight;
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32((sum + ALL_PPM / 2) / ALL_PPM);
    }

    function _pairOf(address miner, ModelId model) private pure returns (bytes32) {
        return keccak256(abi.encode(miner, model));
    }
}
