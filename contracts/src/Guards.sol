// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {GUARD} from "./types/Roles.sol";

/// @title Guards
/// @dev Holds no money and has no owner.
contract Guards is IGuards {
    /// @dev The accounts behind a node. Two nodes that share one are not independent.
    struct Party {
        address operator;
        address owner;
        address payout;
    }

    struct ClassChange {
        bytes32 class;
        uint32 from;
    }

    uint32 public constant MAX_EPOCH_LENGTH = 7 days;
    /// @dev Most enrolments that one draw looks at, those included that cannot serve.
    uint256 private constant MAX_CANDIDATES = 96;

    /// @notice Where guards and miners are looked up and slashed.
    INodeRegistry public immutable nodeRegistry;
    /// @inheritdoc IGuards
    uint32 public immutable epochLength;
    /// @inheritdoc IGuards
    uint64 public immutable genesis;

    /// @inheritdoc IGuards
    mapping(uint32 epoch => bytes32) public beaconOf;

    Enrolment[] private _enrolments;
    /// @dev Position in the list plus one.
    mapping(address operator => uint256) private _places;
    mapping(address operator => ClassChange[]) private _classes;

    constructor(INodeRegistry nodeRegistry_, uint32 epochLength_) {
        if (address(nodeRegistry_) == address(0)) revert ZeroAddress();
        if (epochLength_ == 0 || epochLength_ > MAX_EPOCH_LENGTH) revert EpochLengthOutOfBounds(epochLength_);
        nodeRegistry = nodeRegistry_;
        epochLength = epochLength_;
        genesis = uint64(block.timestamp);
    }

    /// @inheritdoc IGuards
    function enroll() external {
        if (!nodeRegistry.isActive(msg.sender, GUARD)) revert GuardInactive(msg.sender);
        if (isEnrolled(msg.sender)) revert AlreadyEnrolled(msg.sender);
        uint32 epoch = currentEpoch();
        _enrolments.push(Enrolment({operator: msg.sender, since: epoch, retired: false}));
        _places[msg.sender] = _enrolments.length;
        emit Enrolled(msg.sender, epoch);
    }

    /// @inheritdoc IGuards
    function retire() external {
        if (!isEnrolled(msg.sender)) revert NotEnrolled(msg.sender);
        _enrolments[_places[msg.sender] - 1].retired = true;
        emit Retired(msg.sender);
    }

    /// @inheritdoc IGuards
    function declareClass(bytes32 class) external {
        uint32 epoch = currentEpoch();
        ClassChange[] storage changes = _classes[msg.sender];
        uint256 count = changes.length;
        if (count != 0 && changes[count - 1].from == epoch + 1) changes[count - 1].class = class;
        else changes.push(ClassChange({class: class, from: epoch + 1}));
        emit ClassDeclared(msg.sender, class, epoch + 1);
    }

    /// @inheritdoc IGuards
    function recordBeacon(uint32 epoch) external {
        uint32 current = currentEpoch();
        if (epoch >= current) revert EpochNotOver(epoch, current);
        if (beaconOf[epoch] != bytes32(0)) revert BeaconKnown(epoch);
        bytes32 beacon = keccak256(abi.encode(block.prevrandao, epoch));
        beaconOf[epoch] = beacon;
        emit BeaconRecorded(epoch, beacon);
    }

    /// @inheritdoc IGuards
    function knownBeacon(uint32 epoch) external view returns (bytes32 beacon) {
        beacon = beaconOf[epoch];
        if (beacon == bytes32(0)) revert BeaconUnknown(epoch);
    }

    /// @inheritdoc IGuards
    function draw(bytes32 seed, uint32 epoch, address[] calldata known, uint256 size)
        external
        view
        returns (address[] memory drawn)
    {
        uint256 length = _enrolledBy(epoch);
        if (size > length) size = length;
        Party[] memory parties = new Party[](known.length + size);
        for (uint256 i; i < known.length; ++i) {
            parties[i] = _partyOf(known[i]);
        }
        uint256 count = _draw(seed, length, parties, known.length, size);
        drawn = new address[](count);
        for (uint256 i; i < count; ++i) {
            drawn[i] = parties[known.length + i].operator;
        }
    }

    /// @inheritdoc IGuards
    function classAt(address operator, uint32 epoch) external view returns (bytes32) {
        ClassChange[] storage changes = _classes[operator];
        (uint256 low, uint256 high) = (0, changes.length);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (changes[middle].from <= epoch) low = middle + 1;
            else high = middle;
        }
        return low == 0 ? bytes32(0) : changes[low - 1].class;
    }

    /// @inheritdoc IGuards
    function enrolmentCount() external view returns (uint256) {
        return _enrolments.length;
    }

    /// @inheritdoc IGuards
    function enrolmentAt(uint256 index) external view returns (Enrolment memory) {
        return _enrolments[index];
    }

    /// @inheritdoc IGuards
    function currentEpoch() public view returns (uint32) {
        // 136 years of seconds.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32((block.timestamp - genesis) / epochLength);
    }

    /// @inheritdoc IGuards
    function isEnrolled(address operator) public view returns (bool) {
        uint256 place = _places[operator];
        return place != 0 && !_enrolments[place - 1].retired;
    }

    /// @param length how many enrolments there are to draw from
    /// @param parties `known` entries that are taken, and room for `size` more, which are appended
    /// @return count how many were found
    function _draw(bytes32 seed, uint256 length, Party[] memory parties, uint256 known, uint256 size)
        private
        view
        returns (uint256 count)
    {
        uint256 tries = length < MAX_CANDIDATES ? length : MAX_CANDIDATES;
        // A shuffle of which only the places that changed are kept.
        uint256[] memory places = new uint256[](tries);
        uint256[] memory values = new uint256[](tries);
        for (uint256 i; i < tries && count < size; ++i) {
            uint256 place = i + uint256(keccak256(abi.encode(seed, i))) % (length - i);
            uint256 chosen = _lookUp(places, values, i, place);
            (places[i], values[i]) = (place, _lookUp(places, values, i, i));
            Enrolment memory candidate = _enrolments[chosen];
            if (candidate.retired || !nodeRegistry.isActive(candidate.operator, GUARD)) continue;
            Party memory party = _partyOf(candidate.operator);
            if (!_isRelated(party, parties, known + count)) parties[known + count++] = party;
        }
    }

    function _partyOf(address operator) private view returns (Party memory) {
        return
            Party({operator: operator, owner: nodeRegistry.ownerOf(operator), payout: nodeRegistry.payoutOf(operator)});
    }

    /// @dev How many enrolled in this epoch or before; the list is in the order of epochs.
    function _enrolledBy(uint32 epoch) private view returns (uint256 low) {
        uint256 high = _enrolments.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_enrolments[middle].since <= epoch) low = middle + 1;
            else high = middle;
        }
    }

    function _lookUp(uint256[] memory places, uint256[] memory values, uint256 length, uint256 place)
        private
        pure
        returns (uint256)
    {
        for (uint256 i = length; i > 0; --i) {
            if (places[i - 1] == place) return values[i - 1];
        }
        return place;
    }

    function _isRelated(Party memory party, Party[] memory others, uint256 length) private pure returns (bool) {
        for (uint256 i; i < length; ++i) {
            Party memory other = others[i];
            if (_isAny(party.operator, other) || _isAny(party.owner, other) || _isAny(party.payout, other)) {
                return true;
            }
        }
        return false;
    }

    /// @dev A node that left the registry has no owner any more: nothing is related by that.
    function _isAny(address account, Party memory party) private pure returns (bool) {
        if (account == address(0)) return false;
        return account == party.operator || account == party.owner || account == party.payout;
    }
}
