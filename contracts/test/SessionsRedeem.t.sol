// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Sessions} from "../src/Sessions.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {ANY_MODEL} from "../src/types/ModelId.sol";
import {ROUTER} from "../src/types/Roles.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

/// @dev Vouchers: what they pay, to whom, and every way in which they must not pay.
contract SessionsRedeemTest is World {
    uint256 private constant NEXT_KEY = 0xD002;
    SessionId private id;

    function setUp() public {
        deployWorld();
        id = openSession();
    }

    // --- what is paid ---

    function testFuzz_sharesAddUpToTheWei(uint128 amount) public {
        amount = uint128(bound(amount, 1, DEPOSIT));
        sessions.redeem(signVoucher(voucherFor(id, miner, amount), 1, amount));
        uint256 routerShare = uint256(amount) * 1000 / 10_000;
        uint256 protocolShare = uint256(amount) * 200 / 10_000;
        uint256 royalty = uint256(amount) * ROYALTY / 10_000;
        vm.assertEq(sessions.balanceOf(ROUTER_PAYOUT), routerShare, "router");
        vm.assertEq(sessions.balanceOf(TREASURY), protocolShare, "treasury");
        vm.assertEq(sessions.balanceOf(PUBLISHER), royalty, "publisher");
        vm.assertEq(
            sessions.balanceOf(MINER_PAYOUT), amount - routerShare - protocolShare - royalty, "miner has the rest"
        );
        vm.assertEq(sessions.session(id).spent, amount, "spent");
        vm.assertEq(sessions.session(id).keySpent, amount, "key spent");
    }

    function test_redeemingIsRecordedAndEmitted() public {
        ISessions.Voucher memory v = voucherFor(id, miner, 100e18);
        ISessions.Payment memory payment = ISessions.Payment(100e18, 0, 83e18, 10e18, 5e18, 2e18);
        vm.expectEmit(true, true, true, true, address(sessions));
        emit ISessions.VoucherRedeemed(
            id, miner, router, 4, 100e18, 7, v.cumulativeOutputTokens, v.receiptsRoot, payment
        );
        vm.assertEq(sessions.redeem(signVoucher(v, 4, 150e18)), 100e18, "paid");
        ISessions.Redemption memory r = sessions.redeemed(id, miner);
        vm.assertEq(r.amount, 100e18, "amount");
        vm.assertEq(r.inputTokens, 7, "input");
        vm.assertEq(r.outputTokens, v.cumulativeOutputTokens, "output");
    }

    function testFuzz_onlyTheDifferenceIsPaid(uint128 first, uint128 second) public {
        first = uint128(bound(first, 1, DEPOSIT));
        second = uint128(bound(second, 1, DEPOSIT));
        uint128 high = first > second ? first : second;
        uint128 paidFirst = sessions.redeem(signVoucher(voucherFor(id, miner, first), 1, first));
        uint128 paidSecond = sessions.redeem(signVoucher(voucherFor(id, miner, second), 2, high));
        vm.assertEq(paidFirst, first, "first");
        vm.assertEq(uint256(paidFirst) + paidSecond, high, "in either order, the higher one");
        vm.assertEq(sessions.redeemed(id, miner).amount, high, "recorded");
    }

    function test_redeemingTwicePaysNothing() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        sessions.redeem(signed);
        uint256 held = totalBalances();
        vm.assertEq(sessions.redeem(signed), 0, "again");
        vm.assertEq(totalBalances(), held, "nothing credited");
        vm.assertEq(sessions.session(id).spent, 10e18, "spent once");
    }

    function test_anyoneMaySubmitButThePayoutAccountIsPaid() public {
        vm.prank(address(0xBAD));
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 1, 10e18));
        vm.assertEq(sessions.balanceOf(address(0xBAD)), 0, "submitter");
        vm.assertTrue(sessions.balanceOf(MINER_PAYOUT) > 0, "payout account");
    }

    function test_anUnregisteredMinerIsPaidUnderItsOwnName() public {
        sessions.redeem(signVoucher(voucherFor(id, otherMiner, 100e18), 1, 100e18));
        vm.assertEq(sessions.balanceOf(otherMiner), 83e18, "the operator itself");
    }

    function test_sessionsForAnyModelPayNoRoyalty() public {
        ISessions.OpenParams memory params = openParams();
        params.model = ANY_MODEL;
        vm.prank(client);
        id = sessions.open(params);
        sessions.redeem(signVoucher(voucherFor(id, miner, 100e18), 1, 100e18));
        vm.assertEq(sessions.balanceOf(PUBLISHER), 0, "publisher");
        vm.assertEq(sessions.balanceOf(MINER_PAYOUT), 88e18, "miner");
    }

    function test_withdrawPaysTheAccountItself() public {
        sessions.redeem(signVoucher(voucherFor(id, miner, 100e18), 1, 100e18));
        vm.prank(address(0xBAD));
        vm.assertEq(sessions.withdraw(MINER_PAYOUT), 83e18, "amount");
        vm.assertEq(token.balanceOf(MINER_PAYOUT), 83e18, "received");
        vm.expectRevert(abi.encodeWithSelector(ISessions.NothingToWithdraw.selector, MINER_PAYOUT));
        sessions.withdraw(MINER_PAYOUT);
    }

    // --- batches ---

    function test_batchPaysSeveralMinersAndSkipsTheStale() public {
        ISessions.SignedVoucher[] memory batch = new ISessions.SignedVoucher[](3);
        batch[0] = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        batch[1] = signVoucher(voucherFor(id, otherMiner, 20e18), 2, 30e18);
        batch[2] = signVoucher(voucherFor(id, miner, 15e18), 3, 35e18);
        sessions.redeem(batch[1]);
        vm.assertEq(sessions.redeemBatch(batch), 15e18, "what was left to pay");
        vm.assertEq(sessions.session(id).spent, 35e18, "spent");
    }

    function test_batchWithOneInvalidVoucherRevertsWhole() public {
        ISessions.SignedVoucher[] memory batch = new ISessions.SignedVoucher[](2);
        batch[0] = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        batch[1] = signVoucherWith(voucherFor(id, otherMiner, 20e18), 2, 30e18, SESSION_KEY, MINER_KEY);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeemBatch(batch);
        vm.assertEq(sessions.session(id).spent, 0, "nothing paid");
    }

    function test_batchesAreBounded() public {
        uint256 tooMany = sessions.MAX_BATCH() + 1;
        vm.expectRevert(abi.encodeWithSelector(ISessions.BatchTooLong.selector, tooMany));
        sessions.redeemBatch(new ISessions.SignedVoucher[](tooMany));
    }

    // --- replays ---

    function test_noReplayInAnotherSession() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        SessionId other = openSession();
        signed.voucher.session = other;
        vm.expectPartialRevert(ISessions.RouterSignatureInvalid.selector);
        sessions.redeem(signed);
        // Countersigned for the other session, still not signed by its client.
        signed.routerSignature = signVoucher(signed.voucher, 1, 10e18).routerSignature;
        vm.expectPartialRevert(ISessions.KeyUnknown.selector);
        sessions.redeem(signed);
    }

    function test_noReplayForAnotherMiner() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        signed.voucher.miner = otherMiner;
        vm.expectPartialRevert(ISessions.RouterSignatureInvalid.selector);
        sessions.redeem(signed);
        signed.routerSignature = signVoucher(signed.voucher, 1, 10e18).routerSignature;
        vm.expectPartialRevert(ISessions.KeyUnknown.selector);
        sessions.redeem(signed);
    }

    function test_noReplayOnAnotherChain() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        vm.chainId(block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeem(signed);
        // Even a router that countersigns on both chains cannot move the client's signature.
        signed.routerSignature = signVoucher(signed.voucher, 1, 10e18).routerSignature;
        vm.expectPartialRevert(ISessions.KeyUnknown.selector);
        sessions.redeem(signed);
    }

    function test_noReplayOnAnotherContract() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        Sessions original = sessions;
        sessions = new Sessions(token, registry, models, GOVERNANCE, TREASURY, defaultParameters());
        vm.prank(client);
        token.approve(address(sessions), type(uint256).max);
        SessionId there = openSession();
        vm.assertTrue(SessionId.unwrap(there) != SessionId.unwrap(id), "ids differ between contracts");
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionUnknown.selector, id));
        sessions.redeem(signed);
        signed.voucher.session = there;
        signed.routerSignature = signVoucher(signed.voucher, 1, 10e18).routerSignature;
        vm.expectPartialRevert(ISessions.KeyUnknown.selector);
        sessions.redeem(signed);
        vm.assertEq(original.session(id).spent, 0, "untouched");
    }

    /// @dev Whatever single field is changed after signing, the signatures no longer fit.
    function testFuzz_noFieldCanBeChanged(uint8 field, uint64 by) public {
        by = uint64(bound(by, 1, 1_000_000));
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 5, 10e18);
        field = uint8(bound(field, 0, 6));
        if (field == 0) signed.voucher.cumulativeAmount -= by;
        if (field == 1) signed.voucher.cumulativeInputTokens += by;
        if (field == 2) signed.voucher.cumulativeOutputTokens += by;
        if (field == 3) signed.voucher.receiptsRoot = bytes32(uint256(by));
        if (field == 4) signed.sequence += by;
        if (field == 5) signed.sessionTotal += by;
        if (field == 6) signed.voucher.miner = address(uint160(by));
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeem(signed);
    }

    // --- signatures ---

    function testFuzz_onlyTheSessionKeySignsVouchers(uint256 key) public {
        key = bound(key, 1, type(uint128).max);
        vm.assume(key != SESSION_KEY);
        ISessions.SignedVoucher memory signed = signVoucherWith(voucherFor(id, miner, 10e18), 1, 10e18, key, ROUTER_KEY);
        vm.expectRevert(abi.encodeWithSelector(ISessions.KeyUnknown.selector, id, vm.addr(key)));
        sessions.redeem(signed);
    }

    function testFuzz_onlyTheRouterCountersigns(uint256 key) public {
        key = bound(key, 1, type(uint128).max);
        vm.assume(key != ROUTER_KEY);
        ISessions.SignedVoucher memory signed =
            signVoucherWith(voucherFor(id, miner, 10e18), 1, 10e18, SESSION_KEY, key);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeem(signed);
    }

    function test_anotherRouterCannotCountersign() public {
        registerNode(0xA002, ROUTER, ROUTER_PAYOUT, ROUTER_STAKE);
        ISessions.SignedVoucher memory signed =
            signVoucherWith(voucherFor(id, miner, 10e18), 1, 10e18, SESSION_KEY, 0xA002);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeem(signed);
    }

    function test_malformedSignaturesAreRefused() public {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        bytes memory good = signed.signature;
        signed.signature = new bytes(65);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SignatureInvalid.selector));
        sessions.redeem(signed);
        signed.signature = "";
        vm.expectRevert(abi.encodeWithSelector(ISessions.SignatureInvalid.selector));
        sessions.redeem(signed);
        signed.signature = otherHalf(good);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SignatureInvalid.selector));
        sessions.redeem(signed);
        signed.signature = good;
        signed.routerSignature = otherHalf(signed.routerSignature);
        vm.expectRevert(abi.encodeWithSelector(ISessions.RouterSignatureInvalid.selector, id));
        sessions.redeem(signed);
    }

    function test_digestsAreTheSpecifiedOnes() public view {
        ISessions.Voucher memory v = voucherFor(id, miner, 10e18);
        bytes32 hash = voucherStructHash(v);
        vm.assertEq(sessions.voucherHash(v), hash, "voucher hash");
        vm.assertEq(sessions.voucherDigest(v), sessionsDigest(hash), "voucher digest");
        vm.assertEq(
            sessions.countersignatureDigest(ISessions.Countersignature(hash, id, 3, 4)),
            sessionsDigest(countersignatureStructHash(hash, id, 3, 4)),
            "countersignature digest"
        );
    }

    function test_sequencesStartAtOneAndTotalsCoverTheVoucher() public {
        ISessions.Voucher memory v = voucherFor(id, miner, 10e18);
        ISessions.SignedVoucher memory signed = signVoucher(v, 0, 10e18);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SequenceZero.selector));
        sessions.redeem(signed);
        signed = signVoucher(v, 1, 10e18 - 1);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionTotalBelowVoucher.selector, 10e18 - 1, 10e18));
        sessions.redeem(signed);
    }

    // --- prices and counters ---

    function testFuzz_priceRule(uint64 input, uint64 output, uint128 amount) public {
        input = uint64(bound(input, 0, 1e7));
        output = uint64(bound(output, 0, 1e7));
        uint256 most = (uint256(input) * INPUT_PRICE + uint256(output) * OUTPUT_PRICE) / 1e6 + input + output;
        amount = uint128(bound(amount, 1, 2 * most + 1));
        if (amount > DEPOSIT) amount = DEPOSIT;
        ISessions.Voucher memory v = voucherFor(id, miner, amount);
        (v.cumulativeInputTokens, v.cumulativeOutputTokens) = (input, output);
        ISessions.SignedVoucher memory signed = signVoucher(v, 1, amount);
        if (amount > most) vm.expectRevert(abi.encodeWithSelector(ISessions.PriceExceeded.selector, id, amount));
        sessions.redeem(signed);
    }

    /// @dev However the charge of each request is rounded up to a whole wei, the sum is within the rule.
    function testFuzz_roundingUpEachRequestIsAllowed(uint16[8] memory inputs, uint16[8] memory outputs) public {
        ISessions.Voucher memory v = voucherFor(id, miner, 0);
        (v.cumulativeInputTokens, v.cumulativeOutputTokens) = (0, 0);
        for (uint256 i; i < 8; ++i) {
            if (inputs[i] == 0) inputs[i] = 1;
            uint256 exact = uint256(inputs[i]) * INPUT_PRICE + uint256(outputs[i]) * OUTPUT_PRICE;
            v.cumulativeAmount += uint128((exact + 1e6 - 1) / 1e6);
            v.cumulativeInputTokens += inputs[i];
            v.cumulativeOutputTokens += outputs[i];
        }
        vm.assertEq(sessions.redeem(signVoucher(v, 1, v.cumulativeAmount)), v.cumulativeAmount, "paid");
    }

    /// @dev A cheap voucher with inflated counters cannot void a dearer honest one.
    function test_countersKeepTheirMaximum() public {
        ISessions.Voucher memory inflated = voucherFor(id, miner, 1e18);
        inflated.cumulativeInputTokens = 1_000_000_000;
        sessions.redeem(signVoucher(inflated, 1, 1e18));
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 2, 10e18));
        ISessions.Redemption memory r = sessions.redeemed(id, miner);
        vm.assertEq(r.amount, 10e18, "paid");
        vm.assertEq(r.inputTokens, 1_000_000_000, "input never decreases");
        vm.assertEq(r.outputTokens, voucherFor(id, miner, 10e18).cumulativeOutputTokens, "output grew");
    }

    // --- keys ---

    function test_aRevokedKeysVouchersCountUntilTheGraceWindowEnds() public {
        ISessions.SignedVoucher memory early = signVoucher(voucherFor(id, miner, 10e18), 1, 10e18);
        ISessions.SignedVoucher memory late = signVoucher(voucherFor(id, miner, 20e18), 2, 20e18);
        vm.prank(client);
        sessions.replaceKey(id, address(0), 0);
        uint64 validUntil = sessions.retiredKey(id, vm.addr(SESSION_KEY)).validUntil;
        vm.warp(validUntil);
        vm.assertEq(sessions.redeem(early), 10e18, "within grace");
        vm.warp(validUntil + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessions.KeyRevoked.selector, id, vm.addr(SESSION_KEY), validUntil));
        sessions.redeem(late);
        vm.assertEq(sessions.redeem(early), 0, "what was paid before never reverts");
        vm.assertEq(sessions.retiredKey(id, vm.addr(SESSION_KEY)).spent, 10e18, "charged to the old key");
    }

    function test_theNewKeyContinuesWhereTheOldOneStopped() public {
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 1, 10e18));
        vm.prank(client);
        sessions.replaceKey(id, vm.addr(NEXT_KEY), 5e18);
        ISessions.SignedVoucher memory signed =
            signVoucherWith(voucherFor(id, miner, 15e18), 2, 15e18, NEXT_KEY, ROUTER_KEY);
        vm.assertEq(sessions.redeem(signed), 5e18, "the difference");
        vm.assertEq(sessions.session(id).keySpent, 5e18, "charged to the new key");
    }

    function testFuzz_aKeyNeverTakesMoreThanItsLimitFromTheDeposit(uint128 limit, uint128 amount) public {
        limit = uint128(bound(limit, 1, DEPOSIT));
        amount = uint128(bound(amount, 1, DEPOSIT));
        ISessions.OpenParams memory params = openParams();
        params.keyLimit = limit;
        vm.prank(client);
        id = sessions.open(params);
        vm.assertEq(sessions.redeem(signVoucher(voucherFor(id, miner, amount), 1, amount)), amount, "paid in full");
        uint128 fromDeposit = amount < limit ? amount : limit;
        vm.assertEq(sessions.session(id).spent, fromDeposit, "from the deposit, the limit at most");
        vm.assertLe(sessions.session(id).keySpent, limit, "limit");
        uint256 shortfall = amount - fromDeposit;
        vm.assertEq(registry.slashable(router), ROUTER_STAKE - shortfall - shortfall / 10, "the rest from the router");
    }

    // --- time ---

    function test_vouchersAreRedeemedUntilTheGraceWindowEnds() public {
        uint64 end = sessions.graceEnd(id);
        vm.warp(end);
        sessions.redeem(signVoucher(voucherFor(id, miner, 10e18), 1, 10e18));
        vm.warp(end + 1);
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, 20e18), 2, 20e18);
        vm.expectRevert(abi.encodeWithSelector(ISessions.GraceEnded.selector, id, end));
        sessions.redeem(signed);
        sessions.finalize(id);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionClosed.selector, id));
        sessions.redeem(signed);
    }

    /// @dev The same signature with the other square root: valid curve arithmetic, refused as malleable.
    function otherHalf(bytes memory signature) private pure returns (bytes memory) {
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        (bytes32 r, bytes32 s) = (word(signature, 0), word(signature, 32));
        return abi.encodePacked(r, order - uint256(s), signature[64] == 0x1b ? uint8(28) : uint8(27));
    }

    function word(bytes memory data, uint256 offset) private pure returns (bytes32 value) {
        for (uint256 i; i < 32; ++i) {
            value |= bytes32(data[offset + i]) >> (8 * i);
        }
    }

    function totalBalances() private view returns (uint256) {
        return sessions.balanceOf(MINER_PAYOUT) + sessions.balanceOf(ROUTER_PAYOUT) + sessions.balanceOf(TREASURY)
            + sessions.balanceOf(PUBLISHER);
    }
}
