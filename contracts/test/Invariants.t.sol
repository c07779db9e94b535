// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessions} from "../src/interfaces/ISessions.sol";
import {Handler} from "./support/Handler.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev What holds after any sequence of actions of honest and rogue parties.
contract InvariantsTest {
    Handler private handler;

    function setUp() public {
        handler = new Handler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev One function for all four, because each invariant function would repeat the same campaign.
    function invariant_theBooksBalance() public view {
        checkValueIsConserved();
        checkNobodyIsPaidBeyondDepositPlusStake();
        checkNoMinerRedeemsBeyondItsVouchers();
        checkClosedSessionsGaveEverythingBack();
    }

    /// @dev A campaign whose actions mostly return early would prove little: a fixed one must reach every outcome.
    function test_campaignsReachEveryOutcome() public {
        bytes32[18] memory outcomes = [
            bytes32("open"),
            "topUp",
            "replaceKey",
            "requestClose",
            "closeWithRouter",
            "finalize",
            "pay",
            "overspend",
            "redeem",
            "redeemNothing",
            "redeemRefused",
            "redeemBatch",
            "redeemBatchRefused",
            "withdraw",
            "equivocate",
            "requestUnstake",
            "withdrawUnstaked",
            "cancelUnstake"
        ];
        for (uint256 step; step < 3000; ++step) {
            act(uint256(keccak256(abi.encode(step))));
            if (step % 100 == 0) invariant_theBooksBalance();
        }
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }

    function act(uint256 r) private {
        (uint256 seed, uint128 amount, uint256 kind) = (r >> 64, uint128(r >> 128), r % 18);
        if (kind == 0) handler.open(seed, amount, amount / 2, seed % 2 == 0);
        if (kind == 1) handler.topUp(seed, amount);
        if (kind == 2) handler.replaceKey(seed, amount);
        if (kind == 3) handler.requestClose(seed);
        if (kind == 4) handler.closeWithRouter(seed, amount, seed % 8 == 0);
        if (kind == 5) handler.finalize(seed);
        if (kind == 6 || kind == 16) handler.pay(seed, r >> 32, amount);
        if (kind == 7) handler.overspend(seed, r >> 32, amount);
        if (kind == 8 || kind == 17) handler.redeem(seed);
        if (kind == 9) handler.redeemBatch(seed);
        if (kind == 10) handler.withdraw(seed);
        if (kind == 11) handler.equivocate(seed, amount, amount / 2);
        if (kind == 12) handler.addStake(seed, amount);
        if (kind == 13) handler.requestUnstake(seed, amount);
        if (kind == 14) handler.settleUnstake(seed, seed % 2 == 0);
        if (kind == 15) handler.pass(bound(amount, 1, 6 hours));
    }

    /// @dev To the wei: unspent deposits plus balances in one contract, stakes in the other, nothing created or lost.
    function checkValueIsConserved() private view {
        (uint256 inSessions, uint256 inRegistry) = handler.held();
        vm.assertEq(inSessions, handler.owedBySessions(), "sessions hold what they owe");
        vm.assertEq(inRegistry, handler.owedByRegistry(), "the registry holds what it owes");
        (uint256 inHands, uint256 supply) = handler.supplyInKnownHands();
        vm.assertEq(inHands, supply, "no token anywhere else");
    }

    function checkNobodyIsPaidBeyondDepositPlusStake() private view {
        Handler.Tracked[] memory all = handler.tracked();
        uint256[2] memory fromStake;
        for (uint256 i; i < all.length; ++i) {
            ISessions.Session memory s = handler.sessionOf(all[i].id);
            vm.assertLe(s.spent, s.deposit, "spent within the deposit");
            vm.assertLe(s.keySpent, s.keyLimit, "spent within the key's limit");
            vm.assertLe(uint256(s.spent) + all[i].refunded, all[i].deposited, "spent and refunded within what came in");
            vm.assertEq(
                handler.redeemedOf(all[i].id), uint256(s.spent) + all[i].fromStake, "redeemed is deposit plus stake"
            );
            fromStake[all[i].routerIndex] += all[i].fromStake;
        }
        vm.assertLe(fromStake[0], handler.stakedEver(0), "within the first router's stake");
        vm.assertLe(fromStake[1], handler.stakedEver(1), "within the second router's stake");
    }

    function checkNoMinerRedeemsBeyondItsVouchers() private view {
        Handler.Tracked[] memory all = handler.tracked();
        for (uint256 i; i < all.length; ++i) {
            vm.assertFalse(handler.redeemedBeyondPromise(all[i].id), "beyond the highest voucher");
        }
    }

    function checkClosedSessionsGaveEverythingBack() private view {
        Handler.Tracked[] memory all = handler.tracked();
        for (uint256 i; i < all.length; ++i) {
            ISessions.Session memory s = handler.sessionOf(all[i].id);
            if (s.status != ISessions.Status.Closed) continue;
            vm.assertEq(uint256(s.spent) + all[i].refunded, all[i].deposited, "paid or refunded");
        }
    }
}
