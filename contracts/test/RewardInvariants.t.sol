// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {RewardsHandler} from "./support/RewardsHandler.sol";
import {vm} from "./support/Vm.sol";

/// @dev What holds after any sequence of payments, counts, claims and epochs, of a miner that pays itself and one that is honest.
contract RewardInvariantsTest {
    RewardsHandler private handler;

    function setUp() public {
        handler = new RewardsHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_rewardsBalance() public view {
        (uint256 balance, uint256 booked) = handler.held();
        vm.assertTrue(balance >= booked, "it holds what it owes");
        vm.assertLe(handler.claimedInAll(), handler.paidInAll(), "claims never exceed what epochs gave");
        for (uint256 i; i < 2; ++i) {
            (uint256 gained, uint256 lost) = handler.balanceOf(i);
            vm.assertTrue(gained <= lost * 9 / 10, "whoever paid for it, it cost more than it brought");
        }
    }

    /// @dev A fixed campaign must reach every outcome, so that the random ones are known not to idle.
    function test_rewardCampaignsReachEveryOutcome() public {
        for (uint256 step; step < 400; ++step) {
            uint256 r = uint256(keccak256(abi.encode(step)));
            if (r % 8 < 3) handler.pay(r >> 8, uint128(r >> 64));
            if (r % 8 == 3 || r % 8 == 4) handler.count(r >> 8);
            if (r % 8 == 5) handler.pass(r >> 8);
            if (r % 8 == 6) handler.claim(r >> 8, r >> 16);
            if (r % 8 == 7) handler.judged(r >> 8, uint32(r >> 16), r >> 64);
            invariant_rewardsBalance();
        }
        bytes32[5] memory outcomes = [bytes32("pay"), "count", "claim", "judged", "convicted"];
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }
}
