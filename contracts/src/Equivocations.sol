// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICortensorToken} from "./interfaces/ICortensorToken.sol";
import {ICourt} from "./interfaces/ICourt.sol";
import {IEquivocations} from "./interfaces/IEquivocations.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IValidators} from "./interfaces/IValidators.sol";
import {Shares} from "./libraries/Shares.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title Equivocations
/// @dev Holds exactly what reporters were credited. The token must not take fees or call back; registry, validators and court are trusted.
contract Equivocations is IEquivocations, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint16 private constant ALL_BPS = 10_000;
    /// @dev Less would make a double vote a price.
    uint16 public constant MIN_SLASH_BPS = 500;

    /// @notice The token of stakes.
    IERC20 public immutable token;
    /// @notice Where operators are slashed.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Who validates with which key.
    IValidators public immutable validators;
    /// @notice Whose pool has a part, and where proofs are announced.
    ICourt public immutable court;

    /// @inheritdoc IEquivocations
    mapping(address key => bool) public isProven;
    /// @inheritdoc IEquivocations
    mapping(address account => uint256) public balanceOf;

    Parameters private _parameters;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        IValidators validators_,
        ICourt court_,
        address initialOwner,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (
            address(token_) == address(0) || address(nodeRegistry_) == address(0) || address(validators_) == address(0)
                || address(court_) == address(0)
        ) revert ZeroAddress();
        token = token_;
        nodeRegistry = nodeRegistry_;
        validators = validators_;
        court = court_;
        _setParameters(initialParameters);
    }

    /// @inheritdoc IEquivocations
    function proveVotes(
        Votes.Vote calldata a,
        bytes calldata signatureOfA,
        Votes.Vote calldata b,
        bytes calldata signatureOfB,
        bytes32 salt
    ) external nonReentrant {
        if (a.kind == 0 || a.kind > Votes.PRECOMMIT) revert KindUnknown(a.kind);
        bool same = a.kind == b.kind && a.height == b.height && a.round == b.round;
        if (!same || a.blockHash == b.blockHash) revert NotConflicting();
        address key = _signer(Votes.digest(a, block.chainid), signatureOfA);
        _requireSame(key, _signer(Votes.digest(b, block.chainid), signatureOfB));
        _convict(key, a.height, a.round, salt);
    }

    /// @inheritdoc IEquivocations
    function proveProposals(
        Votes.Proposal calldata a,
        bytes calldata signatureOfA,
        Votes.Proposal calldata b,
        bytes calldata signatureOfB,
        bytes32 salt
    ) external nonReentrant {
        bool differ = a.blockHash != b.blockHash || a.validRound != b.validRound;
        if (a.height != b.height || a.round != b.round || !differ) revert NotConflicting();
        address key = _signer(Votes.digest(a, block.chainid), signatureOfA);
        _requireSame(key, _signer(Votes.digest(b, block.chainid), signatureOfB));
        _convict(key, a.height, a.round, salt);
    }

    /// @inheritdoc IEquivocations
    function withdraw(address account) external nonReentrant returns (uint256 amount) {
        amount = balanceOf[account];
        if (amount == 0) revert NothingToWithdraw(account);
        balanceOf[account] = 0;
        emit Withdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc IEquivocations
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IEquivocations
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    function _convict(address key, uint64 height, uint32 round, bytes32 salt) private {
        if (isProven[key]) revert AlreadyProven(key);
        isProven[key] = true;
        address reporter = _wasAnnounced(key, salt) ? msg.sender : address(0);
        address operator = validators.ban(key);
        emit EquivocationProven(key, operator, height, round, reporter);
        if (operator != address(0)) _slash(operator, reporter);
    }

    /// @param reporter zero for none; then the pool has its part
    function _slash(address operator, address reporter) private {
        Parameters storage current = _parameters;
        uint128 penalty = Shares.part(nodeRegistry.slashable(operator), current.slashBps);
        uint128 slashed = nodeRegistry.slash(operator, penalty, address(this));
        uint128 burnt = Shares.part(slashed, current.burnBps);
        uint128 toReporter = reporter == address(0) ? 0 : Shares.part(slashed, current.reporterBps);
        uint128 toPool = slashed - burnt - toReporter;
        if (toReporter != 0) balanceOf[reporter] += toReporter;
        emit Slashed(operator, slashed, burnt, toReporter, toPool);
        if (burnt != 0) ICortensorToken(address(token)).burn(burnt);
        if (toPool == 0) return;
        token.forceApprove(address(court), toPool);
        court.fund(toPool);
    }

    function _setParameters(Parameters memory next) private {
        if (
            next.slashBps < MIN_SLASH_BPS || next.slashBps > ALL_BPS
                || uint256(next.burnBps) + next.reporterBps > ALL_BPS
        ) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    function _wasAnnounced(address key, bytes32 salt) private view returns (bool) {
        bytes32 item = bytes32(uint256(uint160(key)));
        uint256 announced = court.announcedIn(keccak256(abi.encode(item, msg.sender, salt)));
        return announced != 0 && announced < block.number;
    }

    function _signer(bytes32 digest, bytes calldata signature) private pure returns (address signer) {
        ECDSA.RecoverError failure;
        (signer, failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError) revert SignatureInvalid();
    }

    function _requireSame(address first, address second) private pure {
        if (first != second) revert SignersDiffer(first, second);
    }
}
