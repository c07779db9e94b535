// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Roles} from "../types/Roles.sol";

/// @title Who serves the network, with which keys, and what they have at stake
/// @notice A node is named by its *operator*, the hot key that signs for it. Its *owner* stakes for it and is the only
/// account that stake returns to. Anyone may register; nobody approves. All amounts are wei of COR.
/// @dev The EIP-712 domain is `{name: "Cortensor NodeRegistry", version: "1", chainId, verifyingContract}` and its one
/// message is `Consent(address operator,address owner,uint256 nonce,uint256 deadline)`.
interface INodeRegistry {
    /// @notice Everything that is known of a node.
    /// @param operator secp256k1 account that names the node and signs for it
    /// @param owner account that staked, governs the entry and receives what is unstaked
    /// @param payout account that earnings are credited to
    /// @param roles what the node offers to do
    /// @param registeredAt seconds since 1970
    /// @param stake what backs the node's roles
    /// @param unbonding what is leaving; it can still be slashed
    /// @param unbondingReleaseAt when `unbonding` may be withdrawn, in seconds since 1970; zero when nothing is leaving
    /// @param transportKey ed25519 public key of the node's network identity
    /// @param transportSignature 64 bytes by `transportKey` over `transportBinding(operator)`; peers verify it, the chain does not
    /// @param claims what the node says it can do, in the encoding of the protocol; not verified here
    struct Node {
        address operator;
        Roles roles;
        uint64 registeredAt;
        address owner;
        uint64 unbondingReleaseAt;
        address payout;
        uint128 stake;
        uint128 unbonding;
        bytes32 transportKey;
        bytes transportSignature;
        bytes claims;
    }

    /// @notice What an owner hands in to register a node. Fields as in `Node`; `stake` is taken from the owner at once.
    struct Registration {
        address operator;
        address payout;
        Roles roles;
        uint128 stake;
        bytes32 transportKey;
        bytes transportSignature;
        bytes claims;
    }

    /// @notice The operator's agreement to be run by an owner: an EIP-712 `Consent`, not needed when the owner is the operator.
    /// @param deadline last second at which the signature counts
    /// @param signature 65 bytes by the operator key; its nonce is `nonces(operator)`
    struct OperatorConsent {
        uint256 deadline;
        bytes signature;
    }

    event NodeRegistered(
        address indexed operator,
        address indexed owner,
        address payout,
        Roles roles,
        bytes32 transportKey,
        uint128 stake
    );
    event NodeDeregistered(address indexed operator, address indexed owner);
    event RolesChanged(address indexed operator, Roles roles);
    event PayoutChanged(address indexed operator, address payout);
    event TransportKeyChanged(address indexed operator, bytes32 transportKey, bytes transportSignature);
    event ClaimsChanged(address indexed operator, bytes claims);
    event StakeAdded(address indexed operator, address indexed from, uint128 amount, uint128 stake);
    event UnstakeRequested(address indexed operator, uint128 amount, uint128 unbonding, uint64 releaseAt);
    event UnstakeCancelled(address indexed operator, uint128 amount, uint128 stake);
    event Unstaked(address indexed operator, address indexed owner, uint128 amount);
    event NodeSlashed(
        address indexed operator,
        address indexed slasher,
        address indexed recipient,
        uint128 fromStake,
        uint128 fromUnbonding
    );
    event SlasherChanged(address indexed slasher, bool authorised);
    event MinimumStakeChanged(Roles indexed role, uint128 amount);
    event UnbondingDelayChanged(uint64 delay);

    error NodeAlreadyRegistered(address operator);
    error NodeUnknown(address operator);
    error NotNodeOwner(address operator, address caller);
    error NotNodeOwnerOrOperator(address operator, address caller);
    error NotSlasher(address caller);
    error ConsentExpired(uint256 deadline);
    error ConsentInvalid(address operator);
    error RolesInvalid(Roles roles);
    error StakeBelowMinimum(Roles role, uint128 stake, uint128 minimum);
    error StakeInsufficient(uint128 stake, uint128 requested);
    error StakeRemaining(uint128 stake, uint128 unbonding);
    error NothingUnbonding(address operator);
    error UnbondingUntil(uint64 releaseAt);
    error ZeroAmount();
    error ZeroAddress();
    error TransportKeyInvalid();
    error TransportSignatureLength(uint256 length);
    error ClaimsTooLong(uint256 length);
    error UnbondingDelayOutOfBounds(uint64 delay);
    error PageTooLong(uint256 limit);

    /// @notice Registers a node that the caller owns, and stakes for it.
    /// @dev The caller has approved `registration.stake` to this contract. The stake must reach the minimum of every role.
    function register(Registration calldata registration, OperatorConsent calldata consent) external;

    /// @notice Removes a node whose stake has all been withdrawn. Only its owner.
    function deregister(address operator) external;

    /// @notice Replaces the node's roles. Only its owner; the stake must reach the minimum of every role.
    function setRoles(address operator, Roles roles) external;

    /// @notice Replaces the account that earnings are credited to. Only the node's owner.
    function setPayout(address operator, address payout) external;

    /// @notice Replaces the node's network identity. Only the node's owner.
    function setTransportKey(address operator, bytes32 transportKey, bytes calldata transportSignature) external;

    /// @notice Replaces the capability claims, at most `MAX_CLAIMS_BYTES` long. The node's owner or operator.
    function setClaims(address operator, bytes calldata claims) external;

    /// @notice Adds to a node's stake out of the caller's tokens. Anyone may; what is added belongs to the node's owner.
    function addStake(address operator, uint128 amount) external;

    /// @notice Starts the release of part of the stake. Only the node's owner.
    /// @dev There is one unbonding pot: asking again adds to it and starts its delay anew.
    function requestUnstake(address operator, uint128 amount) external;

    /// @notice Puts all that is unbonding back to work. Only the node's owner.
    function cancelUnstake(address operator) external;

    /// @notice Sends what has finished unbonding to the node's owner. Anyone may call.
    /// @return amount what was sent
    function withdrawUnstaked(address operator) external returns (uint128 amount);

    /// @notice Takes up to `amount` from a node and sends it to `recipient`; the active stake first, then what is unbonding.
    /// @dev Only authorised slashers.
    /// @return taken what was there to take, at most `amount`
    function slash(address operator, uint128 amount, address recipient) external returns (uint128 taken);

    /// @notice Grants or withdraws the right to slash. Only governance.
    function setSlasher(address slasher, bool authorised) external;

    /// @notice Sets the least stake for one role. Only governance.
    function setMinimumStake(Roles role, uint128 amount) external;

    /// @notice Sets the delay of later unstake requests, in seconds. Only governance; bounded by constants.
    function setUnbondingDelay(uint64 delay) external;

    /// @notice The whole entry of a node. Reverts with `NodeUnknown` where there is none.
    function node(address operator) external view returns (Node memory);

    /// @notice Whether there is an entry for `operator`.
    function isRegistered(address operator) external view returns (bool);

    /// @notice Whether the node offers every role in `roles` and its active stake reaches the minimum of each.
    /// @dev One pot backs all roles: minimums are compared one by one, not added up. False for an unknown node.
    function isActive(address operator, Roles roles) external view returns (bool);

    /// @notice Where the node's earnings go; the operator itself when it is not registered.
    function payoutOf(address operator) external view returns (address);

    /// @notice Who owns the node; zero when it is not registered. An owner never changes while its node is registered.
    function ownerOf(address operator) external view returns (address);

    /// @notice Stake plus what is unbonding: the most that slashing can take.
    function slashable(address operator) external view returns (uint128);

    /// @notice The least active stake for one role.
    function minimumStake(Roles role) external view returns (uint128);

    /// @notice Seconds between asking for stake and getting it.
    function unbondingDelay() external view returns (uint64);

    /// @notice Whether an account may slash.
    function isSlasher(address account) external view returns (bool);

    /// @notice How many nodes are registered.
    function nodeCount() external view returns (uint256);

    /// @notice The operator at a position below `nodeCount()`. Deregistration moves the last node into the gap.
    function nodeAt(uint256 index) external view returns (address operator);

    /// @notice Up to `limit` entries from position `offset`; fewer at the end. `limit` is at most `MAX_PAGE`.
    function nodes(uint256 offset, uint256 limit) external view returns (Node[] memory page);

    /// @notice The bytes that a transport key signs to be bound to an operator:
    /// `"cortensor transport binding v1" || uint256 chainId || address registry || address operator`, packed.
    function transportBinding(address operator) external view returns (bytes memory);
}
