// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICourt} from "./interfaces/ICourt.sol";
import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IQuality} from "./interfaces/IQuality.sol";
import {IRewards} from "./interfaces/IRewards.sol";
import {IScores} from "./interfaces/IScores.sol";
import {ISessions} from "./interfaces/ISessions.sol";
import {Shares} from "./libraries/Shares.sol";
import {SessionId} from "./types/SessionId.sol";

/// @title Rewards
/// @dev Holds pool, fees and what it has reserved; whatever more it has is collected as fees. The token must not take fees or call back;
/// the other contracts are trusted.
contract Rewards is IRewards, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev What one miner's work weighs in one epoch.
    struct Entry {
        uint32 epoch;
        uint128 weight;
    }

    uint256 public constant MAX_SESSIONS = 128;
    uint256 public constant MAX_CLAIMS = 128;
    /// @dev Below all: whatever is paid out of one's own pocket costs more than it brings.
    uint32 public constant MAX_CAP_PPM = 900_000;
    uint128 public constant MAX_EMISSION = 1_000_000e18;
    uint32 public constant MIN_QUALITY_PPM = 250_000;
    uint32 public constant MAX_QUALITY_PPM = 1_500_000;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice The token of fees and rewards.
    IERC20 public immutable token;
    /// @notice Where payout accounts are found.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Where fees are paid.
    ISessions public immutable sessions;
    /// @notice Where time comes from.
    IGuards public immutable guards;
    /// @notice Where reputations are kept.
    IScores public immutable scores;
    /// @notice Whose pool pays the guards.
    ICourt public immutable court;

    /// @inheritdoc IRewards
    IQuality public quality;
    /// @inheritdoc IRewards
    uint256 public pool;
    /// @inheritdoc IRewards
    uint256 public fees;
    /// @inheritdoc IRewards
    uint256 public reserved;

    Parameters private _parameters;
    /// @dev The last epoch in which work was counted, the only one that may be open.
    uint32 private _last;
    bool private _isOpen;
    mapping(uint32 epoch => Epoch) private _epochs;
    mapping(address miner => Entry[]) private _entries;
    /// @dev How many of the entries were claimed.
    mapping(address miner => uint256) private _claimed;
    mapping(SessionId id => mapping(address miner => uint128)) private _counted;
    /// @dev Of all miners together.
    mapping(SessionId id => uint128) private _countedOf;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        ISessions sessions_,
        IGuards guards_,
        IScores scores_,
        ICourt court_,
        address initialOwner,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (
            address(token_) == address(0) || address(nodeRegistry_) == address(0) || address(sessions_) == address(0)
                || address(guards_) == address(0) || address(scores_) == address(0) || address(court_) == address(0)
        ) revert ZeroAddress();
        token = token_;
        nodeRegistry = nodeRegistry_;
        sessions = sessions_;
        guards = guards_;
        scores = scores_;
        court = court_;
        _setParameters(initialParameters);
    }

    /// @inheritdoc IRewards
    function count(SessionId[] calldata ids) external nonReentrant returns (uint128 weight) {
        if (ids.length > MAX_SESSIONS) revert TooMany(ids.length);
        uint32 epoch = guards.currentEpoch();
        _closeBefore(epoch);
        uint128 share = 0;
        for (uint256 i; i < ids.length; ++i) {
            (uint128 paid, uint128 part) = _uncounted(ids[i], msg.sender);
            _counted[ids[i]][msg.sender] += paid;
            _countedOf[ids[i]] += paid;
            share += part;
        }
        weight = _weigh(msg.sender, share);
        if (weight == 0) revert NothingToCount(msg.sender);
        (_last, _isOpen) = (epoch, true);
        _epochs[epoch].weight += weight;
        Entry[] storage entries = _entries[msg.sender];
        uint256 length = entries.length;
        if (length != 0 && entries[length - 1].epoch == epoch) entries[length - 1].weight += weight;
        else entries.push(Entry({epoch: epoch, weight: weight}));
        emit Counted(msg.sender, epoch, share, weight);
    }

    /// @inheritdoc IRewards
    function claim(address miner, uint256 most) external nonReentrant returns (uint256 amount) {
        if (most > MAX_CLAIMS) revert TooMany(most);
        uint32 current = guards.currentEpoch();
        _closeBefore(current);
        uint256 epochs;
        (amount, epochs) = _claimable(miner, most, current);
        if (epochs == 0) revert NothingToClaim(miner);
        _claimed[miner] += epochs;
        reserved -= amount;
        bool convicted = scores.score(miner).state == IScores.State.Slashed;
        address payout = convicted ? address(0) : nodeRegistry.payoutOf(miner);
        emit Claimed(miner, payout, amount, epochs);
        if (convicted) pool += amount;
        else if (amount != 0) token.safeTransfer(payout, amount);
    }

    /// @inheritdoc IRewards
    function collect() external nonReentrant returns (uint256) {
        return _collect();
    }

    /// @inheritdoc IRewards
    function fund(uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        pool += amount;
        emit Funded(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IRewards
    function setQuality(IQuality next) external onlyOwner {
        quality = next;
        emit QualityChanged(next);
    }

    /// @inheritdoc IRewards
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IRewards
    function claimable(address miner, uint32 current) external view returns (uint256 amount, uint256 epochs) {
        return _claimable(miner, MAX_CLAIMS, current);
    }

    /// @inheritdoc IRewards
    function countable(address miner, SessionId[] calldata ids) external view returns (uint128 weight) {
        if (ids.length > MAX_SESSIONS) revert TooMany(ids.length);
        uint128 share = 0;
        for (uint256 i; i < ids.length; ++i) {
            (, uint128 part) = _uncounted(ids[i], miner);
            share += part;
        }
        return _weigh(miner, share);
    }

    /// @inheritdoc IRewards
    function epochOf(uint32 epoch) external view returns (Epoch memory) {
        return _epochs[epoch];
    }

    /// @inheritdoc IRewards
    function weightOf(address miner, uint32 epoch) external view returns (uint128) {
        Entry[] storage entries = _entries[miner];
        // Entries are in the order of epochs.
        (uint256 low, uint256 high) = (_claimed[miner], entries.length);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (entries[middle].epoch < epoch) low = middle + 1;
            else high = middle;
        }
        return low < entries.length && entries[low].epoch == epoch ? entries[low].weight : 0;
    }

    /// @inheritdoc IRewards
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IRewards
    function emissionIn(uint32 epoch) public view returns (uint128) {
        uint256 halvings = epoch / _parameters.halvingEpochs;
        return halvings > 127 ? 0 : _parameters.emission >> halvings;
    }

    /// @dev Only the last epoch with work may be open, so that epochs are closed in their order.
    function _closeBefore(uint32 current) private {
        uint32 epoch = _last;
        Epoch storage state = _epochs[epoch];
        if (epoch >= current || !_isOpen) return;
        _isOpen = false;
        _collect();
        uint128 paid = _payable(epoch);
        uint256 fromFees = Math.min(paid, fees);
        fees -= fromFees;
        pool -= paid - fromFees;
        reserved += paid;
        state.paid = paid;
        emit EpochClosed(epoch, state.weight, paid);
    }

    function _collect() private returns (uint256 amount) {
        if (sessions.balanceOf(address(this)) != 0) sessions.withdraw(address(this));
        amount = token.balanceOf(address(this)) - pool - fees - reserved;
        if (amount == 0) return 0;
        // The supply has 90 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint128 toGuards = Shares.part(uint128(amount), _parameters.guardBps);
        fees += amount - toGuards;
        emit Collected(amount, toGuards);
        if (toGuards == 0) return amount;
        token.forceApprove(address(court), toGuards);
        court.fund(toGuards);
    }

    function _setParameters(Parameters memory next) private {
        if (
            next.emission > MAX_EMISSION || next.halvingEpochs == 0 || next.capPpm > MAX_CAP_PPM
                || next.guardBps > Shares.ONE
        ) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    /// @dev The cap is what makes self-dealing cost, whatever the weights of others are.
    function _payable(uint32 epoch) private view returns (uint128) {
        uint256 cap = uint256(_epochs[epoch].weight) * _parameters.capPpm / ALL_PPM;
        // At most the weight.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint128(Math.min(cap, fees + Math.min(pool, emissionIn(epoch))));
    }

    function _claimable(address miner, uint256 most, uint32 current)
        private
        view
        returns (uint256 amount, uint256 epochs)
    {
        Entry[] storage entries = _entries[miner];
        uint256 first = _claimed[miner];
        for (; epochs < most && first + epochs < entries.length; ++epochs) {
            Entry memory entry = entries[first + epochs];
            if (entry.epoch >= current) break;
            Epoch memory state = _epochs[entry.epoch];
            uint256 paid = entry.epoch == _last && _isOpen ? _payable(entry.epoch) : state.paid;
            amount += paid * entry.weight / state.weight;
        }
    }

    /// @return paid what clients paid the miner out of the session's deposit since it was counted last. What a router's stake
    /// paid for is no fee, and bears no share of the protocol.
    /// @return share the protocol's share of that
    function _uncounted(SessionId id, address miner) private view returns (uint128 paid, uint128 share) {
        ISessions.Session memory session = sessions.session(id);
        uint256 own = sessions.redeemed(id, miner).amount - _counted[id][miner];
        // Both have 128 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        paid = uint128(Math.min(own, session.spent - _countedOf[id]));
        share = Shares.part(paid, session.terms.protocolBps);
    }

    /// @dev At most the share itself: best quality and full reputation.
    function _weigh(address miner, uint128 share) private view returns (uint128) {
        if (scores.score(miner).jobs == 0) revert NotAudited(miner);
        uint256 judged = ALL_PPM;
        if (address(quality) != address(0)) {
            judged = Math.min(Math.max(quality.qualityPpm(miner), MIN_QUALITY_PPM), MAX_QUALITY_PPM);
        }
        // Both factors are at most one.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint128(uint256(share) * scores.reputationOf(miner) / ALL_PPM * judged / MAX_QUALITY_PPM);
    }
}
