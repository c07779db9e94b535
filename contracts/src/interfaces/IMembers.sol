// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who belongs to a permissioned network
/// @notice The owner invites by the hash of a one-time account, so that an invitation says nothing about who takes it up; who holds that account's
/// key has an account of its own join through it. Every change is in a chain of hashes whose head stands here, so that an exported log can be checked.
interface IMembers {
    /// @notice What a member may do: bits, whose meaning is the network's. None of them means reading.
    type Rights is uint32;

    enum Change {
        Invited,
        Revoked,
        Joined,
        Removed,
        RightsChanged
    }

    /// @notice A member from the start.
    struct Newcomer {
        address account;
        Rights rights;
        bytes32 transportKey;
    }

    /// @param joinedAt block of the joining; 0 for never
    /// @param removedAt block of the removal; 0 while it belongs
    struct Member {
        address account;
        Rights rights;
        uint64 joinedAt;
        uint64 removedAt;
        bytes32 transportKey;
    }

    /// @param rights what its taker gets
    /// @param until last second in which it can be taken up; 0 where there is none
    struct Invitation {
        Rights rights;
        uint64 until;
    }

    /// @notice One entry of the log. `head` is `keccak256(abi.encode(head before, number, change, subject, data))`.
    /// @param subject the account, or the invitation's hash
    event Logged(uint64 indexed number, Change indexed change, bytes32 indexed subject, bytes32 data, bytes32 head);

    error InvitationUnknown(bytes32 invitation);
    error InvitationOver(uint64 until);
    error InvitationTaken(bytes32 invitation);
    error SignatureInvalid();
    error AlreadyMember(address account);
    error NotMember(address account);
    error TransportKeyInvalid();
    error LifetimeOutOfBounds(uint64 seconds_);
    error PageTooLong(uint256 limit);
    error Full();

    /// @notice Invites whoever holds the key of a one-time account. Only the owner.
    /// @param invitation `keccak256(abi.encode(that account))`
    function invite(bytes32 invitation, Rights rights, uint64 lifetime) external;

    /// @notice Takes an invitation back. Only the owner.
    function revoke(bytes32 invitation) external;

    /// @notice Has an account join. Called by the one-time account that was invited; coins that come along go on to the new member, who has
    /// none yet to pay gas with.
    /// @param transportKey the member's ed25519 key on the network
    /// @param signature of the new member over EIP-712 `Join(address invitation,bytes32 transportKey)`, domain {"Cortensor Members", "1",
    /// chain, this}: nobody joins without wanting to
    function join(address account, bytes32 transportKey, bytes calldata signature) external payable;

    /// @notice Ends a membership: from the next block on. By the owner, or the member itself.
    function remove(address account) external;

    /// @notice Changes what a member may do. Only the owner.
    function setRights(address account, Rights rights) external;

    /// @notice Whether an account belongs, and has all these rights.
    function isMember(address account, Rights rights) external view returns (bool);

    /// @notice Whether an account may act in the block of this height: it joined before it and was not removed before it.
    function isMemberAt(address account, uint64 height) external view returns (bool);

    /// @notice A member, also a former one; all zero for others.
    function member(address account) external view returns (Member memory);

    /// @notice How many members there are.
    function count() external view returns (uint256);

    /// @notice A page of the members, at most 100, in no particular order.
    function members(uint256 offset, uint256 limit) external view returns (Member[] memory page);

    /// @notice An open invitation; zero for none.
    function invitationOf(bytes32 invitation) external view returns (Invitation memory);

    /// @notice Head of the log, and how many entries it has.
    function log() external view returns (bytes32 head, uint64 length);
}
