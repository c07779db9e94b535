// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IMembers} from "./interfaces/IMembers.sol";

/// @title Members
/// @dev Holds no money: coins that come with a joining go on to who joins. The owner decides alone who belongs.
contract Members is IMembers, Ownable2Step, EIP712 {
    using EnumerableSet for EnumerableSet.AddressSet;

    uint64 public constant MAX_LIFETIME = 90 days;
    uint256 public constant MAX_MEMBERS = 10_000;
    uint256 public constant MAX_PAGE = 100;
    bytes32 private constant JOIN_TYPEHASH = keccak256("Join(address invitation,bytes32 transportKey)");

    EnumerableSet.AddressSet private _accounts;
    mapping(address account => Member) private _members;
    mapping(bytes32 invitation => Invitation) private _invitations;
    /// @dev Invitations that were taken up or taken back: a one-time key is used once.
    mapping(bytes32 invitation => bool) private _used;
    bytes32 private _head;
    uint64 private _length;

    /// @param first those who are members from the start: the founder, and the nodes without which nobody could join
    constructor(address initialOwner, Newcomer[] memory first) Ownable(initialOwner) EIP712("Cortensor Members", "1") {
        for (uint256 i; i < first.length; ++i) {
            _add(first[i].account, first[i].rights, first[i].transportKey);
        }
    }

    /// @inheritdoc IMembers
    function invite(bytes32 invitation, Rights rights, uint64 lifetime) external onlyOwner {
        if (lifetime == 0 || lifetime > MAX_LIFETIME) revert LifetimeOutOfBounds(lifetime);
        if (_used[invitation]) revert InvitationTaken(invitation);
        uint64 until = uint64(block.timestamp) + lifetime;
        _invitations[invitation] = Invitation({rights: rights, until: until});
        _log(Change.Invited, invitation, bytes32((uint256(Rights.unwrap(rights)) << 64) | until));
    }

    /// @inheritdoc IMembers
    function revoke(bytes32 invitation) external onlyOwner {
        if (_invitations[invitation].until == 0) revert InvitationUnknown(invitation);
        _use(invitation);
        _log(Change.Revoked, invitation, 0);
    }

    /// @inheritdoc IMembers
    function join(address account, bytes32 transportKey, bytes calldata signature) external payable {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(JOIN_TYPEHASH, msg.sender, transportKey)));
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != account) revert SignatureInvalid();
        bytes32 invitation = keccak256(abi.encode(msg.sender));
        Invitation memory open = _invitations[invitation];
        if (open.until == 0) revert InvitationUnknown(invitation);
        if (block.timestamp > open.until) revert InvitationOver(open.until);
        _use(invitation);
        _add(account, open.rights, transportKey);
        Address.sendValue(payable(account), msg.value);
    }

    /// @inheritdoc IMembers
    function remove(address account) external {
        if (msg.sender != account) _checkOwner();
        if (!_accounts.remove(account)) revert NotMember(account);
        _members[account].removedAt = uint64(block.number);
        _log(Change.Removed, bytes32(uint256(uint160(account))), bytes32(uint256(uint160(msg.sender))));
    }

    /// @inheritdoc IMembers
    function setRights(address account, Rights rights) external onlyOwner {
        if (!_accounts.contains(account)) revert NotMember(account);
        _members[account].rights = rights;
        _log(Change.RightsChanged, bytes32(uint256(uint160(account))), bytes32(uint256(Rights.unwrap(rights))));
    }

    /// @inheritdoc IMembers
    function isMember(address account, Rights rights) external view returns (bool) {
        uint32 asked = Rights.unwrap(rights);
        return _accounts.contains(account) && Rights.unwrap(_members[account].rights) & asked == asked;
    }

    /// @inheritdoc IMembers
    function isMemberAt(address account, uint64 height) external view returns (bool) {
        Member storage entry = _members[account];
        if (entry.joinedAt == 0 || height <= entry.joinedAt) return false;
        return entry.removedAt == 0 || height <= entry.removedAt;
    }

    /// @inheritdoc IMembers
    function member(address account) external view returns (Member memory) {
        return _members[account];
    }

    /// @inheritdoc IMembers
    function count() external view returns (uint256) {
        return _accounts.length();
    }

    /// @inheritdoc IMembers
    function members(uint256 offset, uint256 limit) external view returns (Member[] memory page) {
        if (limit > MAX_PAGE) revert PageTooLong(limit);
        uint256 length = _accounts.length();
        if (offset >= length) return page;
        page = new Member[](Math.min(limit, length - offset));
        for (uint256 i; i < page.length; ++i) {
            page[i] = _members[_accounts.at(offset + i)];
        }
    }

    /// @inheritdoc IMembers
    function invitationOf(bytes32 invitation) external view returns (Invitation memory) {
        return _invitations[invitation];
    }

    /// @inheritdoc IMembers
    function log() external view returns (bytes32 head, uint64 length) {
        return (_head, _length);
    }

    function _use(bytes32 invitation) private {
        delete _invitations[invitation];
        _used[invitation] = true;
    }

    function _add(address account, Rights rights, bytes32 transportKey) private {
        if (transportKey == bytes32(0)) revert TransportKeyInvalid();
        if (_accounts.length() == MAX_MEMBERS) revert Full();
        if (!_accounts.add(account)) revert AlreadyMember(account);
        _members[account] = Member({
            account: account, rights: rights, joinedAt: uint64(block.number), removedAt: 0, transportKey: transportKey
        });
        _log(Change.Joined, bytes32(uint256(uint160(account))), transportKey);
    }

    function _log(Change change, bytes32 subject, bytes32 data) private {
        uint64 number = _length;
        _head = keccak256(abi.encode(_head, number, change, subject, data));
        _length = number + 1;
        emit Logged(number, change, subject, data, _head);
    }
}
