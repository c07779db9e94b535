// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAudits} from "../src/interfaces/IAudits.sol";
import {IReceipts} from "../src/interfaces/IReceipts.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {vm} from "./support/Vm.sol";
import {RewardsWorld} from "./support/RewardsWorld.sol";

/// @dev Whole-transaction gas, intrinsic cost and calldata included: every call runs as a transaction of its own, on cold
/// storage. `forge test --match-contract GasTest -vv` prints the table of the README.
/// forge-config: default.isolate = true
/// forge-config: ci.isolate = true
contract GasTest is RewardsWorld {
    uint256 private constant OPEN_AND_CLOSE_LIMIT = 350_000;
    /// @dev What one request of 500 output tokens costs at the session's price.
    uint128 private constant REQUEST = 500 * OUTPUT_PRICE / 1_000_000;

    function setUp() public {
        deployRewardsWorld(8);
    }

    function test_openAndCloseFitTheLimit() public {
        // The dearest case: the client's first session, with a model, closed after vouchers were redeemed.
        SessionId id = openSession();
        uint256 opening = lastGas();
        redeemFor(id, 1, REQUEST);
        bytes memory signature = signClose(id, 1, REQUEST, ROUTER_KEY);
        vm.prank(client);
        sessions.closeWithRouter(id, 1, REQUEST, signature);
        uint256 closing = lastGas();
        log("open", opening);
        log("closeWithRouter", closing);
        log("open + closeWithRouter", opening + closing);
        vm.assertLt(opening + closing, OPEN_AND_CLOSE_LIMIT, "open and close");
    }

    function test_openAndCloseUnusedFitTheLimit() public {
        SessionId id = openSession();
        uint256 opening = lastGas();
        bytes memory signature = signClose(id, 0, 0, ROUTER_KEY);
        vm.prank(client);
        sessions.closeWithRouter(id, 0, 0, signature);
        log("open + closeWithRouter, unused", opening + lastGas());
        vm.assertLt(opening + lastGas(), OPEN_AND_CLOSE_LIMIT, "open and close unused");
    }

    function test_requestCloseAndFinalize() public {
        SessionId id = openSession();
        vm.prank(client);
        sessions.requestClose(id);
        log("requestClose", lastGas());
        vm.warp(block.timestamp + GRACE + 1);
        sessions.finalize(id);
        log("finalize", lastGas());
    }

    /// @dev A voucher is cumulative: redeeming 1,000 requests is one redemption.
    function test_redeemingManyRequestsCostsWhatOneDoes() public {
        uint256 one = redeemAfterFirst(1);
        uint256 thousand = redeemAfterFirst(1000);
        log("redeem, gas per request at 1", one);
        log("redeem, gas per request at 10", redeemAfterFirst(10) / 10);
        log("redeem, gas per request at 100", redeemAfterFirst(100) / 100);
        log("redeem, gas per request at 1,000", thousand / 1000);
        // The numbers in the calldata differ by a few non-zero bytes.
        vm.assertLe(thousand, one + 200, "1,000 requests cost what one does");
    }

    function test_firstRedemption() public {
        SessionId id = openSession();
        log("redeem, first of a session and a miner", redeemFor(id, 1, REQUEST));
    }

    function test_redeemBatch() public {
        uint256 ten = redeemBatchOf(10);
        log("redeemBatch of 10 sessions, gas per voucher", ten / 10);
        log("redeemBatch of 100 sessions, gas per voucher", redeemBatchOf(100) / 100);
        vm.assertLt(ten / 10, 100_000, "batched voucher");
    }

    function test_registerAndWithdraw() public {
        SessionId id = openSession();
        redeemFor(id, 1, REQUEST);
        sessions.withdraw(MINER_PAYOUT);
        log("withdraw", lastGas());
    }

    /// @dev One slot a batch: committing 1,000 requests costs what one does.
    function test_committingABatch() public {
        uint256 first = commitBatchOf(1000, 0);
        uint256 thousand = commitBatchOf(1000, 1);
        log("commit, a miner's first batch", first);
        log("commit, later ones", thousand);
        log("commit, gas per request at 100", commitBatchOf(100, 2) / 100);
        log("commit, gas per request at 1,000", thousand / 1000);
        vm.assertLt(thousand, 60 * 1000, "1,000 requests");
    }

    function test_auditByOneGuard() public {
        registerProfile();
        IReceipts.Receipt memory receipt = receiptOf(1);
        bytes32 item = itemOf(receipt);
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        log("recordBeacon", lastGas());
        IAudits.Finding memory finding = findingIn(0, 100);
        address guard = audits.assignedFirst(miner, inclusion.root, item);
        vm.prank(guard);
        audits.openAudit(receipt, inclusion, commitmentOf(guard, item, 0, finding));
        uint256 total = lastGas();
        log("openAudit with the guard's commitment", lastGas());
        vm.prank(guard);
        audits.revealFinding(receipt, finding, SALT);
        total += lastGas();
        log("revealFinding", lastGas());
        audits.settle(receipt);
        total += lastGas();
        log("settle, decision", lastGas());
        vm.warp(block.timestamp + 3 hours);
        audits.settle(receipt);
        total += lastGas();
        log("settle, after the appeal window", lastGas());
        log("audited request, all four together", total);
        vm.assertLt(total, 900_000, "audit");
    }

    function test_reportingWhatIsMissing() public {
        registerProfile();
        IAudits.Inclusion memory inclusion = commitOne(receiptOf(1));
        vm.warp(block.timestamp + 2 days);
        audits.reportMissing(miner, inclusion.root, 0);
        log("reportMissing", lastGas());
        vm.assertLt(lastGas(), 350_000, "report");
    }

    function test_rewards() public {
        audited(miner);
        SessionId id = openSession();
        pay(id, miner, 100 * REQUEST);
        countFor(miner, id);
        log("count, one session, the first time", lastGas());
        pay(id, miner, 100 * REQUEST);
        nextEpoch();
        countFor(miner, id);
        log("count, one session, closing the epoch before", lastGas());
        nextEpoch();
        rewards.claim(miner, 128);
        log("claim, two epochs", lastGas());
    }

    function commitBatchOf(uint32 count, uint256 seed) private returns (uint256 used) {
        vm.prank(miner);
        batches.commit(keccak256(abi.encode("batch", seed)), count);
        return lastGas();
    }

    function redeemAfterFirst(uint256 requests) private returns (uint256 used) {
        SessionId id = openSession();
        redeemFor(id, 1, REQUEST);
        return redeemFor(id, 2, uint128(REQUEST * (1 + requests)));
    }

    function redeemFor(SessionId id, uint64 sequence, uint128 amount) private returns (uint256 used) {
        ISessions.SignedVoucher memory signed = signVoucher(voucherFor(id, miner, amount), sequence, amount);
        sessions.redeem(signed);
        return lastGas();
    }

    function redeemBatchOf(uint256 count) private returns (uint256 used) {
        ISessions.SignedVoucher[] memory batch = new ISessions.SignedVoucher[](count);
        for (uint256 i; i < count; ++i) {
            SessionId id = openSession();
            redeemFor(id, 1, REQUEST);
            batch[i] = signVoucher(voucherFor(id, miner, 2 * REQUEST), 2, 2 * REQUEST);
        }
        sessions.redeemBatch(batch);
        return lastGas();
    }

    function lastGas() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    function log(string memory what, uint256 value) private view {
        (bool done,) = address(0x000000000000000000636F6e736F6c652e6c6f67)
            .staticcall(abi.encodeWithSignature("log(string,uint256)", what, value));
        vm.assertTrue(done, "console");
    }
}
