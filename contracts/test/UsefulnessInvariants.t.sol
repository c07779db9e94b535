// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {UsefulHandler} from "./support/UsefulHandler.sol";
import {vm} from "./support/Vm.sol";

/// @dev What holds after any sequence of actions of judges and a trap setter.
contract UsefulnessInvariantsTest {
    UsefulHandler private handler;

    function setUp() public {
        handler = new UsefulHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// forge-config: default.invariant.runs = 16
    /// @dev One function for all, because each invariant function would repeat the same campaign.
    function invariant_judgementsBalance() public view {
        (uint256 balance, uint256 owed, uint256 paidOut) = handler.held();
        vm.assertEq(balance, owed, "it holds what it owes");
        vm.assertEq(balance + paidOut, handler.funded(), "and all that came in");
        (uint32 ppm, uint32 judgements) = handler.quality();
        vm.assertEq(int256(uint256(ppm)), handler.expectedQuality(), "quality comes from settled judgements alone");
        vm.assertEq(judgements, handler.settled(), "each once");
        vm.assertTrue(ppm >= 250_000 && ppm <= 1_500_000, "within bounds");
        vm.assertTrue(handler.isTrustBounded(), "trust within bounds");
    }

    /// @dev Dearer to check, and what went wrong stays so: once, when a campaign has ended.
    function afterInvariant() public view {
        vm.assertFalse(handler.paidBeyondServices(), "no judge twice");
        vm.assertEq(handler.stakes(), handler.stakesAtStart(), "nobody is slashed");
    }

    /// @dev A campaign whose actions mostly return early would prove little: a fixed one must reach every outcome.
    function test_judgingCampaignsReachEveryOutcome() public {
        bytes32[10] memory outcomes =
            [bytes32("open"), "plant", "commit", "reveal", "settled", "void", "known", "declare", "fund", "withdraw"];
        for (uint256 step; step < 1200; ++step) {
            act(uint256(keccak256(abi.encode(step))));
            if (step % 100 == 0) invariant_judgementsBalance();
        }
        invariant_judgementsBalance();
        afterInvariant();
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }

    function act(uint256 r) private {
        (uint256 seed, uint256 kind) = (r >> 64, r % 16);
        if (kind == 0) handler.openItem(seed % 4 == 0);
        if (kind >= 1 && kind < 4) handler.commitSome(seed);
        if (kind >= 4 && kind < 7) handler.revealSome(seed);
        if (kind >= 7 && kind < 10) handler.settle(seed);
        if (kind == 10) handler.show(seed);
        if (kind == 11) handler.declare(seed);
        if (kind == 12) handler.fundPool(uint128(seed));
        if (kind == 13) handler.withdraw(seed);
        if (kind >= 14) handler.pass(seed);
    }
}
