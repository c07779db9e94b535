// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ICortensorToken} from "./interfaces/ICortensorToken.sol";
import {ICourt} from "./interfaces/ICourt.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IScores} from "./interfaces/IScores.sol";
import {ISessions} from "./interfaces/ISessions.sol";
import {Contradictions} from "./libraries/Contradictions.sol";
import {Messages} from "./libraries/Messages.sol";
import {Shares} from "./libraries/Shares.sol";
import {Traces} from "./libraries/Traces.sol";
import {SessionId} from "./types/SessionId.sol";

/// @title Court
/// @dev Holds exactly the pool, the bonds that stand and all balances. Payments are credited. The token must not take fees or call
/// back; registry, sessions, scores and the auditor are trusted.
contract Court is ICourt, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Bond {
        address account;
        uint96 amount;
    }

    uint256 public constant MIN_TRAP_FACTOR = 50;
    uint256 public constant MAX_TRAPS = 256;
    uint16 public constant MAX_TRACE_TOLERANCE = 1024;
    uint96 public constant MAX_MISSING_PENALTY = 1000e18;
    uint16 private constant ALL_BPS = 10_000;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice The token of stakes, bonds and payments.
    IERC20 public immutable token;
    /// @notice Where guards and miners are slashed.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Under whose domain receipts are signed, and who knows a session's client.
    ISessions public immutable sessions;
    /// @notice Where a contradiction is written down.
    IScores public immutable scores;

    /// @inheritdoc ICourt
    address public auditor;
    /// @inheritdoc ICourt
    address public treasury;
    /// @inheritdoc ICourt
    uint256 public pool;
    /// @inheritdoc ICourt
    uint256 public bonds;
    /// @inheritdoc ICourt
    mapping(address account => uint256) public balanceOf;
    /// @inheritdoc ICourt
    mapping(bytes32 item => bool) public isProven;
    /// @inheritdoc ICourt
    mapping(bytes32 item => mapping(BondKind kind => Bond)) public bondOf;

    /// @inheritdoc ICourt
    mapping(address account => bool) public isTrapSetter;
    /// @inheritdoc ICourt
    mapping(bytes32 commitment => uint256) public plantedAt;
    /// @inheritdoc ICourt
    mapping(bytes32 commitment => uint256) public announcedIn;

    Parameters private _parameters;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        ISessions sessions_,
        IScores scores_,
        address initialOwner,
        address initialTreasury,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (
            address(token_) == address(0) || address(nodeRegistry_) == address(0) || address(sessions_) == address(0)
                || address(scores_) == address(0)
        ) revert ZeroAddress();
        token = token_;
        nodeRegistry = nodeRegistry_;
        sessions = sessions_;
        scores = scores_;
        _setTreasury(initialTreasury);
        _setParameters(initialParameters);
    }

    modifier onlyAuditor() {
        _requireAuditor();
        _;
    }

    /// @inheritdoc ICourt
    function announce(bytes32 commitment) external {
        if (announcedIn[commitment] == 0) announcedIn[commitment] = block.number;
    }

    /// @inheritdoc ICourt
    function proveContradiction(Opening calldata opening, bytes32 salt) external nonReentrant {
        Receipt calldata receipt = opening.receipt;
        bytes32 item = itemOf(receipt);
        if (isProven[item]) revert AlreadyProven(item);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(item, opening.signature);
        if (failure != ECDSA.RecoverError.NoError || signer != receipt.miner) revert SignatureInvalid();
        bool malformed = _requireContradiction(opening);
        isProven[item] = true;
        emit ContradictionProven(item, receipt.miner, msg.sender, malformed, opening.window, opening.position);
        scores.convict(receipt.miner);
        address reporter = _wasAnnounced(item, salt) ? msg.sender : address(0);
        _slash(item, receipt.miner, receipt.session, _parameters.contradictionSlashBps, reporter);
    }

    /// @inheritdoc ICourt
    function plant(bytes32[] calldata commitments) external {
        if (!isTrapSetter[msg.sender]) revert NotTrapSetter(msg.sender);
        if (commitments.length > MAX_TRAPS) revert TooMany(commitments.length);
        for (uint256 i; i < commitments.length; ++i) {
            if (plantedAt[commitments[i]] != 0) revert TrapKnown(commitments[i]);
            plantedAt[commitments[i]] = block.timestamp;
            emit Planted(msg.sender, commitments[i]);
        }
    }

    /// @inheritdoc ICourt
    function fund(uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        pool += amount;
        emit Funded(msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc ICourt
    function withdraw(address account) external nonReentrant returns (uint256 amount) {
        amount = balanceOf[account];
        if (amount == 0) revert NothingToWithdraw(account);
        balanceOf[account] = 0;
        emit Withdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc ICourt
    function reward(bytes32 item, address guard, Service service) external onlyAuditor nonReentrant {
        Parameters storage current = _parameters;
        if (service == Service.Agreed) {
            uint256 amount = Math.min(current.guardPay, pool);
            pool -= amount;
            balanceOf[nodeRegistry.payoutOf(guard)] += amount;
            emit GuardPaid(item, guard, amount);
        } else {
            uint96 penalty = service == Service.FailedTrap ? current.trapPenalty : current.guardPenalty;
            uint128 taken = nodeRegistry.slash(guard, penalty, address(this));
            pool += taken;
            emit GuardPenalised(item, guard, service, taken);
        }
    }

    /// @inheritdoc ICourt
    function takeBond(bytes32 item, BondKind kind, address account) external onlyAuditor nonReentrant {
        if (bondOf[item][kind].account != address(0)) revert BondStanding(item, kind);
        uint96 amount = kind == BondKind.Appeal ? _parameters.appealBond : _parameters.challengeBond;
        bondOf[item][kind] = Bond({account: account, amount: amount});
        bonds += amount;
        emit BondTaken(item, kind, account, amount);
        token.safeTransferFrom(account, address(this), amount);
    }

    /// @inheritdoc ICourt
    function returnBond(bytes32 item, BondKind kind) external onlyAuditor {
        Bond memory bond = _endBond(item, kind);
        if (bond.account == address(0)) return;
        balanceOf[bond.account] += bond.amount;
        emit BondReturned(item, kind, bond.account, bond.amount);
    }

    /// @inheritdoc ICourt
    function loseBond(bytes32 item, BondKind kind, address miner) external onlyAuditor {
        Bond memory bond = _endBond(item, kind);
        if (bond.account == address(0)) return;
        uint128 toMiner = kind == BondKind.Appeal ? 0 : Shares.part(bond.amount, _parameters.challengedBps);
        if (toMiner != 0) balanceOf[nodeRegistry.payoutOf(miner)] += toMiner;
        pool += bond.amount - toMiner;
        emit BondLost(item, kind, bond.account, bond.amount);
    }

    /// @inheritdoc ICourt
    function punish(bytes32 item, address miner, SessionId session) external onlyAuditor nonReentrant {
        if (isProven[item]) return;
        address challenger = bondOf[item][BondKind.Challenge].account;
        _slash(item, miner, session, _parameters.committeeSlashBps, challenger);
    }

    /// @inheritdoc ICourt
    function punishMissing(bytes32 missing, address miner, address reporter) external onlyAuditor nonReentrant {
        Parameters storage current = _parameters;
        uint128 slashed = nodeRegistry.slash(miner, current.missingPenalty, address(this));
        uint128 burnt = Shares.part(slashed, current.burnBps);
        uint128 toReporter = Shares.part(slashed, current.reporterBps);
        uint128 toPool = slashed - burnt - toReporter;
        pool += toPool;
        balanceOf[reporter] += toReporter;
        emit MinerSlashed(missing, miner, slashed, burnt, 0, toReporter, toPool);
        if (burnt != 0) ICortensorToken(address(token)).burn(burnt);
    }

    /// @inheritdoc ICourt
    function setTrapSetter(address setter, bool authorised) external onlyOwner {
        if (setter == address(0)) revert ZeroAddress();
        isTrapSetter[setter] = authorised;
        emit TrapSetterChanged(setter, authorised);
    }

    /// @inheritdoc ICourt
    function setAuditor(address next) external onlyOwner {
        if (next == address(0)) revert ZeroAddress();
        auditor = next;
        emit AuditorChanged(next);
    }

    /// @inheritdoc ICourt
    function setTreasury(address next) external onlyOwner {
        _setTreasury(next);
    }

    /// @inheritdoc ICourt
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc ICourt
    function itemOf(Receipt calldata receipt) public view returns (bytes32) {
        return Messages.digest(address(sessions), Messages.hashReceipt(receipt));
    }

    /// @inheritdoc ICourt
    function headerDigest(TaskHeader calldata header) public view returns (bytes32) {
        return Messages.digest(address(sessions), Messages.hashHeader(header));
    }

    /// @inheritdoc ICourt
    function guarantee(address miner, uint128 fee) external view returns (Guarantee memory bought) {
        Parameters storage current = _parameters;
        bought.ratePpm = scores.rateOf(miner);
        bought.detectionPpm = current.detectionPpm;
        bought.collusionPpm = current.collusionPpm;
        bought.atStake = Shares.part(nodeRegistry.slashable(miner), current.committeeSlashBps);
        uint256 chance = uint256(bought.ratePpm) * bought.detectionPpm * (ALL_PPM - bought.collusionPpm);
        bought.expectedLoss = chance * (uint256(fee) + bought.atStake) / uint256(ALL_PPM) ** 3;
    }

    /// @inheritdoc ICourt
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    function _endBond(bytes32 item, BondKind kind) private returns (Bond memory bond) {
        bond = bondOf[item][kind];
        delete bondOf[item][kind];
        bonds -= bond.amount;
    }

    function _wasAnnounced(bytes32 item, bytes32 salt) private view returns (bool) {
        uint256 announced = announcedIn[keccak256(abi.encode(item, msg.sender, salt))];
        return announced != 0 && announced < block.number;
    }

    /// @param reporter zero for none; then the pool has its part
    function _slash(bytes32 item, address miner, SessionId session, uint16 slashBps, address reporter) private {
        uint128 penalty = Shares.part(nodeRegistry.slashable(miner), slashBps);
        uint128 slashed = nodeRegistry.slash(miner, penalty, address(this));
        Parameters storage current = _parameters;
        uint128 burnt = Shares.part(slashed, current.burnBps);
        uint128 toClient = Shares.part(slashed, current.clientBps);
        uint128 toReporter = reporter == address(0) ? 0 : Shares.part(slashed, current.reporterBps);
        uint128 toPool = slashed - burnt - toClient - toReporter;
        pool += toPool;
        balanceOf[_clientOf(session)] += toClient;
        if (toReporter != 0) balanceOf[reporter] += toReporter;
        emit MinerSlashed(item, miner, slashed, burnt, toClient, toReporter, toPool);
        if (burnt != 0) ICortensorToken(address(token)).burn(burnt);
    }

    /// @dev Where nobody knows the session the treasury stands in.
    function _clientOf(SessionId id) private view returns (address) {
        try sessions.session(id) returns (ISessions.Session memory session) {
            return session.owner;
        } catch {
            return treasury;
        }
    }

    /// @return malformed whether the records had no canonical form
    function _requireContradiction(Opening calldata opening) private view returns (bool malformed) {
        Receipt calldata receipt = opening.receipt;
        if (receipt.tier != Traces.TIER_A) revert TierNotJudged(receipt.tier);
        if (headerDigest(opening.header) != receipt.header) revert HeaderMismatch();
        if (Messages.hashSampling(opening.sampling) != opening.header.sampling) revert SamplingMismatch();
        (bool wellFormed, Traces.Record memory opened) = Traces.open(opening);
        if (!wellFormed || !Traces.isCanonical(opened)) return true;
        if (!Contradictions.isJudged(opening.sampling)) revert SamplingNotJudged();
        uint16 tolerance = _parameters.traceTolerance;
        bytes32 seed = opening.header.seed;
        if (!Contradictions.contradicts(opened, opening.sampling, seed, Traces.step(opening), tolerance)) {
            revert NoContradiction();
        }
    }

    function _setTreasury(address next) private {
        if (next == address(0)) revert ZeroAddress();
        treasury = next;
        emit TreasuryChanged(next);
    }

    function _setParameters(Parameters memory next) private {
        uint256 split = uint256(next.burnBps) + next.clientBps + next.poolBps + next.reporterBps;
        if (
            split != ALL_BPS || next.contradictionSlashBps > ALL_BPS || next.committeeSlashBps > ALL_BPS
                || next.challengedBps > ALL_BPS || next.trapPenalty < MIN_TRAP_FACTOR * next.guardPay
                || next.traceTolerance > MAX_TRACE_TOLERANCE || next.detectionPpm > ALL_PPM
                || next.collusionPpm > ALL_PPM || next.missingPenalty > MAX_MISSING_PENALTY
        ) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    function _requireAuditor() private view {
        if (msg.sender != auditor) revert NotAuditor(msg.sender);
    }
}
