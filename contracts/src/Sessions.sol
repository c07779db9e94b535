// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ISessions} from "./interfaces/ISessions.sol";
import {Messages} from "./libraries/Messages.sol";
import {Pricing} from "./libraries/Pricing.sol";
import {Shares} from "./libraries/Shares.sol";
import {ANY_MODEL, ModelId} from "./types/ModelId.sol";
import {ROUTER} from "./types/Roles.sol";
import {SessionId} from "./types/SessionId.sol";

/// @title Sessions
/// @dev Holds exactly the unspent deposits of all sessions that are not closed, plus all balances. Payments are credited,
/// refunds are sent. The token must not take fees or call back; the registries are trusted.
contract Sessions is ISessions, Ownable2Step, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev A session in five slots, the model in a sixth. The last but one is first written by the first redemption.
    struct State {
        address owner;
        uint96 deposit;
        address sessionKey;
        uint96 keyLimit;
        address router;
        uint96 maxInputPrice;
        uint96 maxOutputPrice;
        uint64 expiry;
        uint8 minTier;
        Status status;
        Terms terms;
        uint96 spent;
        uint96 keySpent;
        uint64 finalSequence;
        ModelId model;
    }

    uint256 public constant MAX_BATCH = 128;
    uint64 public constant MAX_DURATION = 366 days;
    uint32 public constant MIN_GRACE = 1 seconds;
    uint32 public constant MAX_GRACE = 30 days;
    uint16 public constant MAX_ROUTER_BPS = 3000;
    uint16 public constant MAX_PROTOCOL_BPS = 1000;
    uint16 public constant MAX_REPORTER_BPS = 5000;
    uint16 private constant ALL_BPS = 10_000;

    /// @notice The token that deposits are held in.
    IERC20 public immutable token;
    /// @notice Where routers are looked up and slashed, and payout accounts found.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Where publishers and their terms are found.
    IModelRegistry public immutable modelRegistry;

    /// @inheritdoc ISessions
    address public treasury;
    /// @inheritdoc ISessions
    mapping(address account => uint256) public ownerNonce;
    /// @inheritdoc ISessions
    mapping(address account => uint256) public balanceOf;
    /// @inheritdoc ISessions
    mapping(SessionId id => bool) public equivocationProven;

    Parameters private _parameters;
    mapping(SessionId id => State) private _sessions;
    mapping(SessionId id => mapping(address miner => Redemption)) private _redeemed;
    mapping(SessionId id => mapping(address key => RetiredKey)) private _retiredKeys;

    constructor(
        IERC20 token_,
        INodeRegistry nodeRegistry_,
        IModelRegistry modelRegistry_,
        address initialOwner,
        address initialTreasury,
        Parameters memory initialParameters
    ) Ownable(initialOwner) EIP712("Cortensor Sessions", "1") {
        if (
            address(token_) == address(0) || address(nodeRegistry_) == address(0)
                || address(modelRegistry_) == address(0)
        ) revert ZeroAddress();
        token = token_;
        nodeRegistry = nodeRegistry_;
        modelRegistry = modelRegistry_;
        _setTreasury(initialTreasury);
        _setParameters(initialParameters);
    }

    /// @inheritdoc ISessions
    function open(OpenParams calldata params) external nonReentrant returns (SessionId id) {
        return _open(params);
    }

    /// @inheritdoc ISessions
    function openWithPermit(OpenParams calldata params, Permit calldata permit)
        external
        nonReentrant
        returns (SessionId id)
    {
        // Anyone can submit a permit that is seen in the mempool. When that happened the allowance is already there, and
        // when the permit is simply bad the transfer fails; so its own failure decides nothing.
        try IERC20Permit(address(token))
            .permit(msg.sender, address(this), params.deposit, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
        return _open(params);
    }

    /// @inheritdoc ISessions
    function topUp(SessionId id, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        State storage state = _known(id);
        if (state.status != Status.Open || block.timestamp > state.expiry) revert SessionNotOpen(id, state.status);
        state.deposit = _narrow(uint256(state.deposit) + amount);
        emit SessionToppedUp(id, msg.sender, amount, state.deposit);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc ISessions
    function replaceKey(SessionId id, address sessionKey, uint128 keyLimit) external {
        State storage state = _owned(id);
        if (state.status != Status.Open) revert SessionNotOpen(id, state.status);
        address previous = state.sessionKey;
        if (sessionKey != address(0)) {
            if (keyLimit == 0) revert ZeroAmount();
            if (sessionKey == previous || _retiredKeys[id][sessionKey].validUntil != 0) {
                revert KeyAlreadyUsed(id, sessionKey);
            }
        }
        uint64 validUntil = uint64(block.timestamp) + state.terms.grace;
        if (previous != address(0)) {
            _retiredKeys[id][previous] =
                RetiredKey({limit: state.keyLimit, spent: state.keySpent, validUntil: validUntil});
        }
        state.sessionKey = sessionKey;
        state.keyLimit = _clamp(keyLimit);
        state.keySpent = 0;
        emit SessionKeyReplaced(id, previous, sessionKey, state.keyLimit, validUntil);
    }

    /// @inheritdoc ISessions
    function redeem(SignedVoucher calldata signed) external nonReentrant returns (uint128 paid) {
        return _redeem(signed);
    }

    /// @inheritdoc ISessions
    function redeemBatch(SignedVoucher[] calldata vouchers) external nonReentrant returns (uint256 paid) {
        if (vouchers.length > MAX_BATCH) revert BatchTooLong(vouchers.length);
        for (uint256 i; i < vouchers.length; ++i) {
            paid += _redeem(vouchers[i]);
        }
    }

    /// @inheritdoc ISessions
    function withdraw(address account) external nonReentrant returns (uint256 amount) {
        amount = balanceOf[account];
        if (amount == 0) revert NothingToWithdraw(account);
        balanceOf[account] = 0;
        emit Withdrawn(account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc ISessions
    function requestClose(SessionId id) external {
        State storage state = _owned(id);
        if (state.status != Status.Open) revert SessionNotOpen(id, state.status);
        state.status = Status.Closing;
        _endNow(state);
        emit SessionCloseRequested(id, _graceEnd(state));
    }

    /// @inheritdoc ISessions
    function closeWithRouter(SessionId id, uint64 finalSequence, uint128 finalTotal, bytes calldata routerSignature)
        external
        nonReentrant
    {
        State storage state = _owned(id);
        if (state.status != Status.Open && state.status != Status.Closing) revert SessionNotOpen(id, state.status);
        (uint128 deposit, uint128 spent) = (state.deposit, state.spent);
        if (finalTotal > deposit || finalTotal < spent) revert FinalTotalOutOfBounds(finalTotal, spent, deposit);
        bytes32 digest = _hashTypedDataV4(Messages.hashClose(id, finalSequence, finalTotal));
        _requireRouterSignature(id, state.router, digest, routerSignature);

        uint128 refund = deposit - finalTotal;
        state.status = Status.Settled;
        state.deposit = _narrow(finalTotal);
        state.finalSequence = finalSequence;
        _endNow(state);
        emit SessionSettled(id, finalSequence, finalTotal, refund, _graceEnd(state));
        if (refund != 0) token.safeTransfer(msg.sender, refund);
    }

    /// @inheritdoc ISessions
    function finalize(SessionId id) external nonReentrant {
        State storage state = _known(id);
        if (state.status == Status.Closed) revert SessionClosed(id);
        uint64 end = _graceEnd(state);
        if (block.timestamp <= end) revert GraceNotEnded(id, end);
        uint128 refund = state.deposit - state.spent;
        state.status = Status.Closed;
        emit SessionFinalized(id, refund);
        if (refund != 0) token.safeTransfer(state.owner, refund);
    }

    /// @inheritdoc ISessions
    function proveEquivocation(SignedCountersignature calldata a, SignedCountersignature calldata b)
        external
        nonReentrant
    {
        SessionId id = a.countersignature.session;
        if (SessionId.unwrap(id) != SessionId.unwrap(b.countersignature.session)) revert SessionsDiffer();
        if (!_contradicts(a.countersignature, b.countersignature)) revert NotEquivocation();
        address router = _known(id).router;
        if (equivocationProven[id]) revert EquivocationAlreadyProven(id);
        equivocationProven[id] = true;
        _requireRouterSignature(id, router, _digestOf(a.countersignature), a.signature);
        _requireRouterSignature(id, router, _digestOf(b.countersignature), b.signature);

        Parameters memory current = _parameters;
        uint128 penalty = Shares.part(nodeRegistry.slashable(router), current.equivocationSlashBps);
        uint128 slashed = nodeRegistry.slash(router, penalty, address(this));
        if (slashed == 0) revert NothingToSlash(router);
        uint128 reward = Shares.part(slashed, current.reporterBps);
        balanceOf[msg.sender] += reward;
        balanceOf[treasury] += slashed - reward;
        emit EquivocationProven(id, router, msg.sender, slashed, reward);
    }

    /// @inheritdoc ISessions
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc ISessions
    function setTreasury(address next) external onlyOwner {
        _setTreasury(next);
    }

    /// @inheritdoc ISessions
    function session(SessionId id) external view returns (Session memory) {
        State storage state = _known(id);
        return Session({
            owner: state.owner,
            status: state.status,
            deposit: state.deposit,
            spent: state.spent,
            sessionKey: state.sessionKey,
            keyLimit: state.keyLimit,
            keySpent: state.keySpent,
            router: state.router,
            model: state.model,
            maxInputPrice: state.maxInputPrice,
            maxOutputPrice: state.maxOutputPrice,
            minTier: state.minTier,
            expiry: state.expiry,
            finalSequence: state.finalSequence,
            terms: state.terms
        });
    }

    /// @inheritdoc ISessions
    function graceEnd(SessionId id) external view returns (uint64) {
        return _graceEnd(_known(id));
    }

    /// @inheritdoc ISessions
    function redeemed(SessionId id, address miner) external view returns (Redemption memory) {
        return _redeemed[id][miner];
    }

    /// @inheritdoc ISessions
    function retiredKey(SessionId id, address key) external view returns (RetiredKey memory) {
        return _retiredKeys[id][key];
    }

    /// @inheritdoc ISessions
    function nextSessionId(address account) external view returns (SessionId) {
        return _sessionId(account, ownerNonce[account]);
    }

    /// @inheritdoc ISessions
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc ISessions
    function voucherHash(Voucher calldata voucher) external pure returns (bytes32) {
        return Messages.hashVoucher(voucher);
    }

    /// @inheritdoc ISessions
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32) {
        return _hashTypedDataV4(Messages.hashVoucher(voucher));
    }

    /// @inheritdoc ISessions
    function countersignatureDigest(Countersignature calldata countersignature) external view returns (bytes32) {
        return _digestOf(countersignature);
    }

    /// @inheritdoc ISessions
    function closeDigest(SessionId id, uint64 finalSequence, uint128 finalTotal) external view returns (bytes32) {
        return _hashTypedDataV4(Messages.hashClose(id, finalSequence, finalTotal));
    }

    function _open(OpenParams memory params) private returns (SessionId id) {
        if (params.deposit == 0 || params.keyLimit == 0) revert ZeroAmount();
        if (params.sessionKey == address(0)) revert ZeroAddress();
        if (params.expiry <= block.timestamp || params.expiry > block.timestamp + MAX_DURATION) {
            revert ExpiryOutOfBounds(params.expiry);
        }
        if (!nodeRegistry.isActive(params.router, ROUTER)) revert RouterInactive(params.router);

        Terms memory terms = _termsFor(params);
        id = _sessionId(msg.sender, ownerNonce[msg.sender]++);
        _store(_sessions[id], params, terms);
        emit SessionOpened(id, msg.sender, params.router, params, terms);
        token.safeTransferFrom(msg.sender, address(this), params.deposit);
    }

    /// @dev Also lowers the prices in `params` to what the session will really allow.
    function _termsFor(OpenParams memory params) private view returns (Terms memory terms) {
        terms.grace = _parameters.grace;
        terms.routerBps = _parameters.routerBps;
        terms.protocolBps = _parameters.protocolBps;
        params.keyLimit = _clamp(params.keyLimit);
        params.maxInputPrice = _clamp(params.maxInputPrice);
        params.maxOutputPrice = _clamp(params.maxOutputPrice);
        if (params.model == ANY_MODEL) return terms;

        bool retired;
        IModelRegistry.PriceBounds memory prices;
        (terms.royaltyBps, retired, prices) = modelRegistry.terms(params.model);
        if (retired) revert ModelRetired(params.model);
        if (params.maxInputPrice < prices.minInput || params.maxOutputPrice < prices.minOutput) {
            revert PriceBelowModelMinimum(prices.minInput, prices.minOutput);
        }
        if (prices.maxInput < params.maxInputPrice) params.maxInputPrice = prices.maxInput;
        if (prices.maxOutput < params.maxOutputPrice) params.maxOutputPrice = prices.maxOutput;
    }

    function _store(State storage state, OpenParams memory params, Terms memory terms) private {
        state.owner = msg.sender;
        state.deposit = _narrow(params.deposit);
        state.sessionKey = params.sessionKey;
        state.keyLimit = _narrow(params.keyLimit);
        state.router = params.router;
        state.maxInputPrice = _narrow(params.maxInputPrice);
        state.maxOutputPrice = _narrow(params.maxOutputPrice);
        state.expiry = params.expiry;
        state.minTier = params.minTier;
        state.status = Status.Open;
        state.terms = terms;
        if (params.model != ANY_MODEL) state.model = params.model;
    }

    function _redeem(SignedVoucher calldata signed) private returns (uint128 paid) {
        Voucher calldata voucher = signed.voucher;
        State storage state = _known(voucher.session);
        _requireRedeemable(voucher.session, state);
        Redemption memory record = _redeemed[voucher.session][voucher.miner];
        if (voucher.cumulativeAmount <= record.amount) return 0;
        _requirePrice(voucher, state);
        address signer = _requireSignatures(signed, state.router);

        uint128 due = voucher.cumulativeAmount - record.amount;
        Payment memory payment;
        payment.fromDeposit = _takeFromDeposit(voucher.session, state, signer, signed.sequence, due);
        if (payment.fromDeposit < due) {
            payment.fromStake = _takeFromStake(voucher, state.router, due - payment.fromDeposit);
        }
        paid = payment.fromDeposit + payment.fromStake;
        if (paid == 0) return 0;

        _record(voucher, record, paid);
        _distribute(voucher.miner, state, payment);
        emit VoucherRedeemed(
            voucher.session,
            voucher.miner,
            state.router,
            signed.sequence,
            voucher.cumulativeAmount,
            voucher.cumulativeInputTokens,
            voucher.cumulativeOutputTokens,
            voucher.receiptsRoot,
            payment
        );
    }

    /// @dev Token counters keep their maximum instead of refusing a smaller one: otherwise a client and a router could
    /// void a miner's good voucher by submitting a cheap one with inflated counters first.
    function _record(Voucher calldata voucher, Redemption memory record, uint128 paid) private {
        record.amount += paid;
        if (voucher.cumulativeInputTokens > record.inputTokens) record.inputTokens = voucher.cumulativeInputTokens;
        if (voucher.cumulativeOutputTokens > record.outputTokens) record.outputTokens = voucher.cumulativeOutputTokens;
        _redeemed[voucher.session][voucher.miner] = record;
    }

    /// @dev Takes as much of `due` as the deposit, the limit of the key and, once settled, the final sequence allow.
    function _takeFromDeposit(SessionId id, State storage state, address signer, uint64 sequence, uint128 due)
        private
        returns (uint96 taken)
    {
        bool late = state.status == Status.Settled && sequence > state.finalSequence;
        uint256 most = late ? 0 : Math.min(due, state.deposit - state.spent);
        if (signer == state.sessionKey) {
            taken = _narrow(Math.min(most, state.keyLimit - state.keySpent));
            state.keySpent += taken;
        } else {
            RetiredKey storage key = _retiredKeys[id][signer];
            if (key.validUntil == 0) revert KeyUnknown(id, signer);
            if (block.timestamp > key.validUntil) revert KeyRevoked(id, signer, key.validUntil);
            taken = _narrow(Math.min(most, key.limit - key.spent));
            key.spent += taken;
        }
        state.spent += taken;
    }

    /// @dev The penalty makes it costly for a router to pay its own stake to itself ahead of a slash. It is held back from
    /// what can be covered, because a self-dealing router would ask for the whole stake.
    function _takeFromStake(Voucher calldata voucher, address router, uint128 shortfall)
        private
        returns (uint128 covered)
    {
        uint256 penaltyBps = _parameters.overdraftPenaltyBps;
        uint128 penalty;
        if (nodeRegistry.isSlasher(address(this))) {
            uint128 coverable = Shares.coverable(nodeRegistry.slashable(router), penaltyBps);
            covered = coverable < shortfall ? coverable : shortfall;
        }
        if (covered != 0) {
            penalty = Shares.part(covered, penaltyBps);
            uint128 taken = nodeRegistry.slash(router, covered + penalty, address(this));
            assert(taken == covered + penalty);
            balanceOf[treasury] += penalty;
        }
        emit ShortfallTaken(voucher.session, router, voucher.miner, covered, penalty, shortfall - covered);
    }

    function _distribute(address miner, State storage state, Payment memory payment) private {
        Terms memory terms = state.terms;
        payment.routerShare = Shares.part(payment.fromDeposit, terms.routerBps);
        payment.protocolShare = Shares.part(payment.fromDeposit, terms.protocolBps);
        payment.publisherShare = Shares.part(payment.fromDeposit, terms.royaltyBps);
        payment.minerShare = payment.fromStake + payment.fromDeposit - payment.routerShare - payment.protocolShare
            - payment.publisherShare;
        balanceOf[nodeRegistry.payoutOf(miner)] += payment.minerShare;
        if (payment.routerShare != 0) balanceOf[nodeRegistry.payoutOf(state.router)] += payment.routerShare;
        if (payment.protocolShare != 0) balanceOf[treasury] += payment.protocolShare;
        if (payment.publisherShare != 0) {
            balanceOf[modelRegistry.publisherOf(state.model)] += payment.publisherShare;
        }
    }

    function _endNow(State storage state) private {
        if (block.timestamp < state.expiry) state.expiry = uint64(block.timestamp);
    }

    function _setTreasury(address next) private {
        if (next == address(0)) revert ZeroAddress();
        treasury = next;
        emit TreasuryChanged(next);
    }

    function _setParameters(Parameters memory next) private {
        if (
            next.routerBps > MAX_ROUTER_BPS || next.protocolBps > MAX_PROTOCOL_BPS
                || next.equivocationSlashBps > ALL_BPS || next.reporterBps > MAX_REPORTER_BPS
                || next.overdraftPenaltyBps > ALL_BPS || next.grace < MIN_GRACE || next.grace > MAX_GRACE
                || next.grace > nodeRegistry.unbondingDelay()
        ) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    /// @return signer who signed the voucher; the caller decides whether it is a key of the session
    function _requireSignatures(SignedVoucher calldata signed, address router) private view returns (address signer) {
        Voucher calldata voucher = signed.voucher;
        if (signed.sequence == 0) revert SequenceZero();
        if (signed.sessionTotal < voucher.cumulativeAmount) {
            revert SessionTotalBelowVoucher(signed.sessionTotal, voucher.cumulativeAmount);
        }
        bytes32 hash = Messages.hashVoucher(voucher);
        ECDSA.RecoverError failure;
        (signer, failure,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(hash), signed.signature);
        if (failure != ECDSA.RecoverError.NoError) revert SignatureInvalid();
        bytes32 digest = _hashTypedDataV4(
            Messages.hashCountersignature(hash, voucher.session, signed.sequence, signed.sessionTotal)
        );
        _requireRouterSignature(voucher.session, router, digest, signed.routerSignature);
    }

    function _requirePrice(Voucher calldata voucher, State storage state) private view {
        bool allowed = Pricing.allows(
            voucher.cumulativeAmount,
            voucher.cumulativeInputTokens,
            voucher.cumulativeOutputTokens,
            state.maxInputPrice,
            state.maxOutputPrice
        );
        if (!allowed) revert PriceExceeded(voucher.session, voucher.cumulativeAmount);
    }

    function _requireRedeemable(SessionId id, State storage state) private view {
        if (state.status == Status.Closed) revert SessionClosed(id);
        uint64 end = _graceEnd(state);
        if (block.timestamp > end) revert GraceEnded(id, end);
    }

    function _requireRouterSignature(SessionId id, address router, bytes32 digest, bytes calldata signature)
        private
        pure
    {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != router) revert RouterSignatureInvalid(id);
    }

    function _owned(SessionId id) private view returns (State storage state) {
        state = _known(id);
        if (state.owner != msg.sender) revert NotSessionOwner(id, msg.sender);
    }

    function _known(SessionId id) private view returns (State storage state) {
        state = _sessions[id];
        if (state.status == Status.None) revert SessionUnknown(id);
    }

    function _graceEnd(State storage state) private view returns (uint64) {
        return state.expiry + state.terms.grace;
    }

    function _digestOf(Countersignature calldata c) private view returns (bytes32) {
        return _hashTypedDataV4(Messages.hashCountersignature(c.voucherHash, c.session, c.sequence, c.sessionTotal));
    }

    function _sessionId(address account, uint256 nonce) private view returns (SessionId) {
        return SessionId.wrap(keccak256(abi.encode(block.chainid, address(this), account, nonce)));
    }

    /// @dev One sequence number for two promises, or a later promise of a smaller total.
    function _contradicts(Countersignature calldata a, Countersignature calldata b) private pure returns (bool) {
        if (a.sequence == b.sequence) return a.voucherHash != b.voucherHash || a.sessionTotal != b.sessionTotal;
        return a.sequence < b.sequence ? a.sessionTotal > b.sessionTotal : a.sessionTotal < b.sessionTotal;
    }

    function _narrow(uint256 value) private pure returns (uint96) {
        if (value > type(uint96).max) revert ValueTooLarge(value);
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint96(value);
    }

    function _clamp(uint128 value) private pure returns (uint96) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return value > type(uint96).max ? type(uint96).max : uint96(value);
    }
}
