// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakes} from "./interfaces/IStakes.sol";
import {ROLE_COUNT, Roles} from "./types/Roles.sol";

/// @title NodeRegistry
/// @dev Holds exactly the sum of all stakes and all that is unbonding. The token must not take fees or call back.
contract NodeRegistry is INodeRegistry, IStakes, Ownable2Step, EIP712, Nonces, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using EnumerableSet for EnumerableSet.AddressSet;

    uint256 public constant MAX_CLAIMS_BYTES = 1024;
    uint256 public constant MAX_PAGE = 100;
    uint256 public constant TRANSPORT_SIGNATURE_BYTES = 64;
    uint64 public constant MIN_UNBONDING_DELAY = 1 seconds;
    uint64 public constant MAX_UNBONDING_DELAY = 90 days;

    bytes32 private constant CONSENT_TYPEHASH =
        keccak256("Consent(address operator,address owner,uint256 nonce,uint256 deadline)");

    /// @notice The token that stakes are held in.
    IERC20 public immutable token;

    /// @inheritdoc INodeRegistry
    uint64 public unbondingDelay;
    /// @inheritdoc INodeRegistry
    mapping(address account => bool) public isSlasher;

    mapping(address operator => Node) private _nodes;
    EnumerableSet.AddressSet private _operators;
    mapping(Roles role => uint128) private _minimumStakes;

    /// @param minimumStakes least stakes in the order of the role bits: router, miner, guard, validator, storage
    constructor(IERC20 token_, address initialOwner, uint64 delay, uint128[5] memory minimumStakes)
        Ownable(initialOwner)
        EIP712("Cortensor NodeRegistry", "1")
    {
        if (address(token_) == address(0)) revert ZeroAddress();
        token = token_;
        _setUnbondingDelay(delay);
        for (uint256 bit; bit < ROLE_COUNT; ++bit) {
            _setMinimumStake(_roleAt(bit), minimumStakes[bit]);
        }
    }

    modifier onlyNodeOwner(address operator) {
        _requireNodeOwner(operator);
        _;
    }

    /// @inheritdoc INodeRegistry
    function register(Registration calldata registration, OperatorConsent calldata consent) external nonReentrant {
        address operator = registration.operator;
        if (operator == address(0) || registration.payout == address(0)) revert ZeroAddress();
        if (!_operators.add(operator)) revert NodeAlreadyRegistered(operator);
        if (operator != msg.sender) _useConsent(operator, consent);
        _requireRoles(registration.roles, registration.stake);
        _requireTransport(registration.transportKey, registration.transportSignature);
        if (registration.claims.length > MAX_CLAIMS_BYTES) revert ClaimsTooLong(registration.claims.length);

        _store(registration);
        if (registration.stake != 0) token.safeTransferFrom(msg.sender, address(this), registration.stake);
    }

    /// @inheritdoc INodeRegistry
    function deregister(address operator) external onlyNodeOwner(operator) {
        Node storage entry = _nodes[operator];
        if (entry.stake != 0 || entry.unbonding != 0) revert StakeRemaining(entry.stake, entry.unbonding);
        delete _nodes[operator];
        _operators.remove(operator);
        emit NodeDeregistered(operator, msg.sender);
    }

    /// @inheritdoc INodeRegistry
    function setRoles(address operator, Roles roles) external onlyNodeOwner(operator) {
        _requireRoles(roles, _nodes[operator].stake);
        _nodes[operator].roles = roles;
        emit RolesChanged(operator, roles);
    }

    /// @inheritdoc INodeRegistry
    function setPayout(address operator, address payout) external onlyNodeOwner(operator) {
        if (payout == address(0)) revert ZeroAddress();
        _nodes[operator].payout = payout;
        emit PayoutChanged(operator, payout);
    }

    /// @inheritdoc INodeRegistry
    function setTransportKey(address operator, bytes32 transportKey, bytes calldata transportSignature)
        external
        onlyNodeOwner(operator)
    {
        _requireTransport(transportKey, transportSignature);
        _nodes[operator].transportKey = transportKey;
        _nodes[operator].transportSignature = transportSignature;
        emit TransportKeyChanged(operator, transportKey, transportSignature);
    }

    /// @inheritdoc INodeRegistry
    function setClaims(address operator, bytes calldata claims) external {
        if (_known(operator).owner != msg.sender && operator != msg.sender) {
            revert NotNodeOwnerOrOperator(operator, msg.sender);
        }
        if (claims.length > MAX_CLAIMS_BYTES) revert ClaimsTooLong(claims.length);
        _nodes[operator].claims = claims;
        emit ClaimsChanged(operator, claims);
    }

    /// @inheritdoc INodeRegistry
    function addStake(address operator, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        Node storage entry = _known(operator);
        entry.stake += amount;
        emit StakeAdded(operator, msg.sender, amount, entry.stake);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc INodeRegistry
    function requestUnstake(address operator, uint128 amount) external onlyNodeOwner(operator) {
        if (amount == 0) revert ZeroAmount();
        Node storage entry = _nodes[operator];
        uint128 stake = entry.stake;
        if (amount > stake) revert StakeInsufficient(stake, amount);
        uint64 releaseAt = uint64(block.timestamp) + unbondingDelay;
        entry.stake = stake - amount;
        entry.unbonding += amount;
        entry.unbondingReleaseAt = releaseAt;
        emit UnstakeRequested(operator, amount, entry.unbonding, releaseAt);
    }

    /// @inheritdoc INodeRegistry
    function cancelUnstake(address operator) external onlyNodeOwner(operator) {
        Node storage entry = _nodes[operator];
        uint128 amount = entry.unbonding;
        if (amount == 0) revert NothingUnbonding(operator);
        entry.unbonding = 0;
        entry.unbondingReleaseAt = 0;
        entry.stake += amount;
        emit UnstakeCancelled(operator, amount, entry.stake);
    }

    /// @inheritdoc INodeRegistry
    function withdrawUnstaked(address operator) external nonReentrant returns (uint128 amount) {
        Node storage entry = _known(operator);
        amount = entry.unbonding;
        if (amount == 0) revert NothingUnbonding(operator);
        if (block.timestamp < entry.unbondingReleaseAt) revert UnbondingUntil(entry.unbondingReleaseAt);
        address owner_ = entry.owner;
        entry.unbonding = 0;
        entry.unbondingReleaseAt = 0;
        emit Unstaked(operator, owner_, amount);
        token.safeTransfer(owner_, amount);
    }

    /// @inheritdoc INodeRegistry
    function slash(address operator, uint128 amount, address recipient) external nonReentrant returns (uint128 taken) {
        if (!isSlasher[msg.sender]) revert NotSlasher(msg.sender);
        if (recipient == address(0)) revert ZeroAddress();
        Node storage entry = _nodes[operator];
        uint128 fromStake = uint128(Math.min(amount, entry.stake));
        uint128 fromUnbonding = uint128(Math.min(amount - fromStake, entry.unbonding));
        taken = fromStake + fromUnbonding;
        if (taken == 0) return 0;
        entry.stake -= fromStake;
        entry.unbonding -= fromUnbonding;
        if (entry.unbonding == 0) entry.unbondingReleaseAt = 0;
        emit NodeSlashed(operator, msg.sender, recipient, fromStake, fromUnbonding);
        token.safeTransfer(recipient, taken);
    }

    /// @inheritdoc INodeRegistry
    function setSlasher(address slasher, bool authorised) external onlyOwner {
        if (slasher == address(0)) revert ZeroAddress();
        isSlasher[slasher] = authorised;
        emit SlasherChanged(slasher, authorised);
    }

    /// @inheritdoc INodeRegistry
    function setMinimumStake(Roles role, uint128 amount) external onlyOwner {
        _setMinimumStake(role, amount);
    }

    /// @inheritdoc INodeRegistry
    function setUnbondingDelay(uint64 delay) external onlyOwner {
        _setUnbondingDelay(delay);
    }

    /// @inheritdoc INodeRegistry
    function node(address operator) external view returns (Node memory) {
        return _known(operator);
    }

    /// @inheritdoc INodeRegistry
    function isRegistered(address operator) external view returns (bool) {
        return _nodes[operator].owner != address(0);
    }

    /// @inheritdoc INodeRegistry
    function isActive(address operator, Roles roles) external view returns (bool) {
        Node storage entry = _nodes[operator];
        if (roles.isEmpty() || !entry.roles.contains(roles)) return false;
        uint128 stake = entry.stake;
        // Other contracts ask in their own transactions: no more work than the roles that are asked for.
        uint32 rest = Roles.unwrap(roles);
        while (rest != 0) {
            uint32 lowest = rest & (~rest + 1);
            if (stake < _minimumStakes[Roles.wrap(lowest)]) return false;
            rest ^= lowest;
        }
        return true;
    }

    /// @inheritdoc INodeRegistry
    function payoutOf(address operator) external view returns (address) {
        address payout = _nodes[operator].payout;
        return payout == address(0) ? operator : payout;
    }

    /// @inheritdoc INodeRegistry
    function ownerOf(address operator) external view returns (address) {
        return _nodes[operator].owner;
    }

    /// @inheritdoc INodeRegistry
    function slashable(address operator) external view returns (uint128) {
        Node storage entry = _nodes[operator];
        return entry.stake + entry.unbonding;
    }

    /// @inheritdoc IStakes
    function stakeOf(address operator) external view returns (uint128) {
        return _nodes[operator].stake;
    }

    /// @inheritdoc INodeRegistry
    function minimumStake(Roles role) external view returns (uint128) {
        _requireSingleRole(role);
        return _minimumStakes[role];
    }

    /// @inheritdoc INodeRegistry
    function nodeCount() external view returns (uint256) {
        return _operators.length();
    }

    /// @inheritdoc INodeRegistry
    function nodeAt(uint256 index) external view returns (address operator) {
        return _operators.at(index);
    }

    /// @inheritdoc INodeRegistry
    function nodes(uint256 offset, uint256 limit) external view returns (Node[] memory page) {
        if (limit > MAX_PAGE) revert PageTooLong(limit);
        uint256 count = _operators.length();
        if (offset >= count) return page;
        page = new Node[](Math.min(limit, count - offset));
        for (uint256 i; i < page.length; ++i) {
            page[i] = _nodes[_operators.at(offset + i)];
        }
    }

    /// @inheritdoc INodeRegistry
    function transportBinding(address operator) external view returns (bytes memory) {
        return abi.encodePacked("cortensor transport binding v1", block.chainid, address(this), operator);
    }

    function _store(Registration calldata registration) private {
        address operator = registration.operator;
        _nodes[operator] = Node({
            operator: operator,
            roles: registration.roles,
            registeredAt: uint64(block.timestamp),
            owner: msg.sender,
            unbondingReleaseAt: 0,
            payout: registration.payout,
            stake: registration.stake,
            unbonding: 0,
            transportKey: registration.transportKey,
            transportSignature: registration.transportSignature,
            claims: registration.claims
        });
        emit NodeRegistered(
            operator, msg.sender, registration.payout, registration.roles, registration.transportKey, registration.stake
        );
        emit TransportKeyChanged(operator, registration.transportKey, registration.transportSignature);
        emit ClaimsChanged(operator, registration.claims);
    }

    function _useConsent(address operator, OperatorConsent calldata consent) private {
        if (block.timestamp > consent.deadline) revert ConsentExpired(consent.deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(abi.encode(CONSENT_TYPEHASH, operator, msg.sender, _useNonce(operator), consent.deadline))
        );
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, consent.signature);
        if (failure != ECDSA.RecoverError.NoError || signer != operator) revert ConsentInvalid(operator);
    }

    function _setMinimumStake(Roles role, uint128 amount) private {
        _requireSingleRole(role);
        _minimumStakes[role] = amount;
        emit MinimumStakeChanged(role, amount);
    }

    function _setUnbondingDelay(uint64 delay) private {
        if (delay < MIN_UNBONDING_DELAY || delay > MAX_UNBONDING_DELAY) revert UnbondingDelayOutOfBounds(delay);
        unbondingDelay = delay;
        emit UnbondingDelayChanged(delay);
    }

    function _requireRoles(Roles roles, uint128 stake) private view {
        if (roles.isEmpty() || !roles.isKnown()) revert RolesInvalid(roles);
        for (uint256 bit; bit < ROLE_COUNT; ++bit) {
            Roles role = _roleAt(bit);
            if (!roles.contains(role)) continue;
            uint128 minimum = _minimumStakes[role];
            if (stake < minimum) revert StakeBelowMinimum(role, stake, minimum);
        }
    }

    function _requireNodeOwner(address operator) private view {
        if (_known(operator).owner != msg.sender) revert NotNodeOwner(operator, msg.sender);
    }

    function _known(address operator) private view returns (Node storage entry) {
        entry = _nodes[operator];
        if (entry.owner == address(0)) revert NodeUnknown(operator);
    }

    function _requireSingleRole(Roles role) private pure {
        uint32 bits = Roles.unwrap(role);
        if (bits == 0 || bits & (bits - 1) != 0 || !role.isKnown()) revert RolesInvalid(role);
    }

    function _requireTransport(bytes32 transportKey, bytes calldata transportSignature) private pure {
        if (transportKey == bytes32(0)) revert TransportKeyInvalid();
        if (transportSignature.length != TRANSPORT_SIGNATURE_BYTES) {
            revert TransportSignatureLength(transportSignature.length);
        }
    }

    function _roleAt(uint256 bit) private pure returns (Roles) {
        // `bit` is below ROLE_COUNT.
        // forge-lint: disable-next-line(unsafe-typecast)
        return Roles.wrap(uint32(2 ** bit));
    }
}
