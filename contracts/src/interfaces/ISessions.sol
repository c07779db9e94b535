// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";
import {SessionId} from "../types/SessionId.sol";

/// @title Deposits, vouchers and who is paid out of them
/// @notice A client deposits once, then pays miners with cumulative vouchers that its session key signs and its router
/// countersigns. All amounts are wei of COR; prices are wei of COR per 1,000,000 LLM tokens; times are seconds since 1970;
/// shares are basis points. No party is ever paid beyond the deposit plus the router's stake.
/// @dev The EIP-712 domain is `{name: "Cortensor Sessions", version: "1", chainId, verifyingContract}`. Its messages:
/// `Voucher(bytes32 session,address miner,uint128 cumulativeAmount,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,bytes32 receiptsRoot)`,
/// `Countersignature(bytes32 voucherHash,bytes32 session,uint64 sequence,uint128 sessionTotal)`,
/// `Close(bytes32 session,uint64 finalSequence,uint128 finalTotal)`.
/// Signatures are 65 bytes of plain ECDSA: a contract's answer can change, and a voucher must not.
interface ISessions {
    /// @notice The life of a session.
    /// @dev Closing: the owner asked to close, vouchers are redeemed until the grace window ends.
    /// Settled: owner and router agreed on the final total, the rest was refunded, vouchers up to the final sequence are
    /// redeemed out of what is left. Closed: the remainder went back to the owner.
    enum Status {
        None,
        Open,
        Closing,
        Settled,
        Closed
    }

    /// @notice What an owner chooses when it opens a session.
    /// @param deposit taken from the owner at once
    /// @param sessionKey signs vouchers
    /// @param keyLimit most that vouchers of this key may take out of the deposit; like the prices, kept as 96 bits at
    /// most, which is beyond any supply of COR
    /// @param router operator of the router that countersigns; it must be active
    /// @param model the one model this session pays for; zero for any
    /// @param maxInputPrice most that a voucher may charge for input
    /// @param maxOutputPrice most that a voucher may charge for output
    /// @param minTier least tier of miner; for the router to observe
    /// @param expiry when the grace window begins by itself
    struct OpenParams {
        uint128 deposit;
        address sessionKey;
        uint128 keyLimit;
        address router;
        ModelId model;
        uint128 maxInputPrice;
        uint128 maxOutputPrice;
        uint8 minTier;
        uint64 expiry;
    }

    /// @notice A signed permit (EIP-2612) over exactly the deposit, with this contract as spender.
    struct Permit {
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice A session as it stands.
    /// @param deposit what it holds for miners: deposit and top-ups; after closing with the router, the final total
    /// @param spent what was paid out of the deposit
    /// @param sessionKey the current key; zero when it was revoked and not replaced
    /// @param keySpent what vouchers of the current key took out of the deposit
    /// @param maxInputPrice the owner's bound or the model's, whichever was lower at opening
    /// @param expiry when the grace window begins: as chosen at opening, or when closing was asked for
    /// @param finalSequence the last sequence number that the reserve pays for; only once settled
    /// @param terms grace window and shares as they stood at opening; the miner has the rest of a payment
    struct Session {
        address owner;
        Status status;
        uint128 deposit;
        uint128 spent;
        address sessionKey;
        uint128 keyLimit;
        uint128 keySpent;
        address router;
        ModelId model;
        uint128 maxInputPrice;
        uint128 maxOutputPrice;
        uint8 minTier;
        uint64 expiry;
        uint64 finalSequence;
        Terms terms;
    }

    /// @notice A key that was replaced or revoked. Its vouchers count until `validUntil`, inclusive.
    struct RetiredKey {
        uint128 limit;
        uint128 spent;
        uint64 validUntil;
    }

    /// @notice What one miner has redeemed of one session, from the deposit and from the router's stake together.
    /// @dev Each field is the highest that a redeemed voucher carried, except that `amount` stops where the money did.
    struct Redemption {
        uint128 amount;
        uint64 inputTokens;
        uint64 outputTokens;
    }

    /// @notice What a session takes from the parameters and the model when it opens, and keeps.
    struct Terms {
        uint32 grace;
        uint16 routerBps;
        uint16 protocolBps;
        uint16 royaltyBps;
    }

    /// @notice One redemption's money: `fromDeposit + fromStake` equals the sum of the four shares, to the wei.
    /// @dev What comes from the router's stake goes to the miner whole.
    struct Payment {
        uint128 fromDeposit;
        uint128 fromStake;
        uint128 minerShare;
        uint128 routerShare;
        uint128 publisherShare;
        uint128 protocolShare;
    }

    /// @notice What a client owes a miner in total, so far. Counters count from the opening of the session.
    /// @param receiptsRoot commitment to the receipts that these counters come from
    struct Voucher {
        SessionId session;
        address miner;
        uint128 cumulativeAmount;
        uint64 cumulativeInputTokens;
        uint64 cumulativeOutputTokens;
        bytes32 receiptsRoot;
    }

    /// @notice A voucher with both signatures, ready to redeem.
    /// @dev The countersigned message is `Countersignature(structHash(voucher), voucher.session, sequence, sessionTotal)`.
    /// @param sequence counts the router's countersignatures in this session, over all miners, from 1
    /// @param sessionTotal sum over all miners of their latest cumulative amounts, this voucher included
    struct SignedVoucher {
        Voucher voucher;
        bytes signature;
        uint64 sequence;
        uint128 sessionTotal;
        bytes routerSignature;
    }

    /// @notice A router's promise about one voucher. `voucherHash` is the EIP-712 struct hash of the voucher.
    struct Countersignature {
        bytes32 voucherHash;
        SessionId session;
        uint64 sequence;
        uint128 sessionTotal;
    }

    /// @notice A countersignature with the router's signature, as evidence.
    struct SignedCountersignature {
        Countersignature countersignature;
        bytes signature;
    }

    /// @notice What governance sets. Shares and grace count for sessions opened later, the penalties at once.
    /// @param routerBps the router's share of a payment
    /// @param protocolBps the treasury's share of a payment
    /// @param equivocationSlashBps part of its stake that an equivocating router loses
    /// @param reporterBps part of that slash that goes to whoever proved it
    /// @param overdraftPenaltyBps what a router loses to the treasury on top of every shortfall that its stake pays
    /// @param grace length of the grace window, in seconds; at most the unbonding delay of the node registry
    struct Parameters {
        uint16 routerBps;
        uint16 protocolBps;
        uint16 equivocationSlashBps;
        uint16 reporterBps;
        uint16 overdraftPenaltyBps;
        uint32 grace;
    }

    /// @notice A session opened. The prices in `params` are the effective ones: never above the model's.
    event SessionOpened(
        SessionId indexed session, address indexed owner, address indexed router, OpenParams params, Terms terms
    );
    event SessionToppedUp(SessionId indexed session, address indexed from, uint128 amount, uint128 deposit);
    event SessionKeyReplaced(
        SessionId indexed session,
        address indexed previousKey,
        address indexed sessionKey,
        uint128 keyLimit,
        uint64 previousValidUntil
    );
    event SessionCloseRequested(SessionId indexed session, uint64 graceEnd);
    event SessionSettled(
        SessionId indexed session, uint64 finalSequence, uint128 finalTotal, uint128 refund, uint64 graceEnd
    );
    event SessionFinalized(SessionId indexed session, uint128 refund);

    /// @notice A voucher paid. `payment` says out of what, and to whom.
    event VoucherRedeemed(
        SessionId indexed session,
        address indexed miner,
        address indexed router,
        uint64 sequence,
        uint128 cumulativeAmount,
        uint64 cumulativeInputTokens,
        uint64 cumulativeOutputTokens,
        bytes32 receiptsRoot,
        Payment payment
    );
    /// @notice A router had countersigned more than the deposit covers. `unpaid` is what its stake could not cover either.
    event ShortfallTaken(
        SessionId indexed session,
        address indexed router,
        address indexed miner,
        uint128 covered,
        uint128 penalty,
        uint128 unpaid
    );
    event EquivocationProven(
        SessionId indexed session, address indexed router, address indexed reporter, uint128 slashed, uint128 reward
    );
    event Withdrawn(address indexed account, uint256 amount);
    event ParametersChanged(Parameters parameters);
    event TreasuryChanged(address treasury);

    error SessionUnknown(SessionId session);
    error SessionNotOpen(SessionId session, Status status);
    error SessionClosed(SessionId session);
    error NotSessionOwner(SessionId session, address caller);
    error GraceEnded(SessionId session, uint64 graceEnd);
    error GraceNotEnded(SessionId session, uint64 graceEnd);
    error ExpiryOutOfBounds(uint64 expiry);
    error RouterInactive(address router);
    error ModelRetired(ModelId model);
    error PriceBelowModelMinimum(uint128 minInput, uint128 minOutput);
    error ValueTooLarge(uint256 value);
    error ZeroAmount();
    error ZeroAddress();
    error KeyAlreadyUsed(SessionId session, address sessionKey);
    error KeyRevoked(SessionId session, address sessionKey, uint64 validUntil);
    error KeyUnknown(SessionId session, address signer);
    error SignatureInvalid();
    error RouterSignatureInvalid(SessionId session);
    error SequenceZero();
    error SessionTotalBelowVoucher(uint128 sessionTotal, uint128 cumulativeAmount);
    error PriceExceeded(SessionId session, uint128 cumulativeAmount);
    error BatchTooLong(uint256 length);
    error FinalTotalOutOfBounds(uint128 finalTotal, uint128 spent, uint128 deposit);
    error SessionsDiffer();
    error NotEquivocation();
    error EquivocationAlreadyProven(SessionId session);
    error NothingToSlash(address router);
    error NothingToWithdraw(address account);
    error ParametersOutOfBounds();

    /// @notice Opens a session owned by the caller, who has approved the deposit to this contract.
    /// @return id `keccak256(abi.encode(chainId, this, owner, ownerNonce))`
    function open(OpenParams calldata params) external returns (SessionId id);

    /// @notice Opens a session with a permit in place of an approval, so that opening is one transaction.
    function openWithPermit(OpenParams calldata params, Permit calldata permit) external returns (SessionId id);

    /// @notice Adds the caller's tokens to an open session. Anyone may; what is left returns to the session's owner.
    function topUp(SessionId id, uint128 amount) external;

    /// @notice Replaces the session key; zero revokes it without a successor. Only the owner, only while open.
    /// @dev Vouchers of the old key stay valid, under its own limit, for the session's grace window. A key never returns.
    function replaceKey(SessionId id, address sessionKey, uint128 keyLimit) external;

    /// @notice Pays what a voucher is worth beyond what was paid before. Anyone may submit it.
    /// @dev A voucher worth no more than what was paid before pays nothing and does not revert, so that a batch cannot be
    /// spoiled by redeeming one of its vouchers first. What the deposit (or the key's limit, or the settled reserve) does not
    /// cover is taken from the router's stake; what that does not cover either can be redeemed again later.
    /// The price rule is `cumulativeAmount * 1e6 <= input * maxInputPrice + output * maxOutputPrice + (input + output) * 1e6`:
    /// one wei a token, because every request may be rounded up to a whole wei and has at least one token.
    /// @return paid what was credited to all parties together
    function redeem(SignedVoucher calldata signed) external returns (uint128 paid);

    /// @notice Redeems up to `MAX_BATCH` vouchers. Reverts as a whole when one of them is invalid.
    /// @return paid what was credited to all parties together
    function redeemBatch(SignedVoucher[] calldata vouchers) external returns (uint256 paid);

    /// @notice Pays out an account's whole balance to that account. Anyone may call.
    function withdraw(address account) external returns (uint256 amount);

    /// @notice Starts the grace window now. Only the owner.
    function requestClose(SessionId id) external;

    /// @notice Refunds all but the final total at once, with the router's signature over `Close`. Only the owner.
    /// @dev The final total stays for the miners until the grace window ends. Should the router have countersigned later
    /// sequence numbers than the final one, they are paid out of its stake.
    function closeWithRouter(SessionId id, uint64 finalSequence, uint128 finalTotal, bytes calldata routerSignature)
        external;

    /// @notice Returns the remainder to the owner once the grace window has ended. Anyone may call.
    function finalize(SessionId id) external;

    /// @notice Slashes a router that contradicted itself: one sequence number for two promises, or a total that shrank.
    /// @dev Once a session. The caller earns part of the slash, the treasury the rest.
    function proveEquivocation(SignedCountersignature calldata a, SignedCountersignature calldata b) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice Changes where the protocol's share goes from now on. Only governance.
    function setTreasury(address next) external;

    /// @notice The whole session. Reverts with `SessionUnknown` where there is none.
    function session(SessionId id) external view returns (Session memory);

    /// @notice The last second at which vouchers are redeemed; afterwards `finalize` works.
    function graceEnd(SessionId id) external view returns (uint64);

    /// @notice What a miner has redeemed of a session.
    function redeemed(SessionId id, address miner) external view returns (Redemption memory);

    /// @notice A key that was replaced or revoked; all zero for any other.
    function retiredKey(SessionId id, address key) external view returns (RetiredKey memory);

    /// @notice Whether the session's router was already slashed for contradicting itself in it.
    function equivocationProven(SessionId id) external view returns (bool);

    /// @notice The id of the session that `account` opens next.
    function nextSessionId(address account) external view returns (SessionId);

    /// @notice How many sessions `account` has opened.
    function ownerNonce(address account) external view returns (uint256);

    /// @notice What an account can withdraw.
    function balanceOf(address account) external view returns (uint256);

    /// @notice The parameters for sessions opened now.
    function parameters() external view returns (Parameters memory);

    /// @notice The account that earns the protocol's share.
    function treasury() external view returns (address);

    /// @notice The EIP-712 struct hash of a voucher: the `voucherHash` of its countersignature.
    function voucherHash(Voucher calldata voucher) external view returns (bytes32);

    /// @notice What a session key signs.
    function voucherDigest(Voucher calldata voucher) external view returns (bytes32);

    /// @notice What a router signs for a voucher.
    function countersignatureDigest(Countersignature calldata countersignature) external view returns (bytes32);

    /// @notice What a router signs to close.
    function closeDigest(SessionId id, uint64 finalSequence, uint128 finalTotal) external view returns (bytes32);
}
