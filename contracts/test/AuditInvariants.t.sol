// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AuditHandler} from "./support/AuditHandler.sol";
import {vm} from "./support/Vm.sol";

/// @dev What holds after any sequence of actions of guards, miners, challengers and trap setters.
contract AuditInvariantsTest {
    AuditHandler private handler;

    function setUp() public {
        handler = new AuditHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// forge-config: default.invariant.runs = 16
    /// @dev One function for all, because each invariant function would repeat the same campaign.
    function invariant_auditsBalance() public view {
        (uint256 balance, uint256 owed) = handler.held();
        vm.assertEq(balance, owed, "the court holds what it owes");
        vm.assertEq(handler.totalSupply() + handler.burnt(), handler.supply(), "only slashes burn");
        vm.assertEq(handler.courtBonds(), handler.bondsOfRunningAudits(), "bonds end with their audits");
        (int256 fromAudits, int256 inScores, uint256 settled, uint256 jobs) = handler.evidence();
        vm.assertEq(fromAudits, inScores, "evidence comes from settled audits and failures alone");
        vm.assertEq(settled, jobs, "each once");
        vm.assertFalse(handler.settledTwice(), "no audit twice");
    }

    /// @dev Dearer to check, and what is paid too much stays so: once, when a campaign has ended.
    function afterInvariant() public view {
        vm.assertFalse(handler.paidBeyondServices(), "no guard twice");
    }

    /// @dev A campaign whose actions mostly return early would prove little: a fixed one must reach every outcome.
    function test_auditCampaignsReachEveryOutcome() public {
        bytes32[15] memory outcomes = [
            bytes32("open"),
            "challenge",
            "commit",
            "reveal",
            "draw",
            "exhausted",
            "settle",
            "settled",
            "slashed",
            "appeal",
            "plant",
            "spring",
            "withdraw",
            "fund",
            "hide"
        ];
        for (uint256 step; step < 2000; ++step) {
            act(uint256(keccak256(abi.encode(step))));
            if (step % 100 == 0) invariant_auditsBalance();
        }
        invariant_auditsBalance();
        afterInvariant();
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }

    function act(uint256 r) private {
        (uint256 seed, uint256 kind) = (r >> 64, r % 16);
        if (kind == 0) handler.open(seed % 2 == 0, seed % 4 == 0);
        if (kind == 1) handler.challenge();
        if (kind >= 2 && kind < 5) handler.answer(seed, r >> 32);
        if (kind >= 5 && kind < 8) handler.reveal(seed);
        if (kind == 8 || kind == 9) handler.draw(seed);
        if (kind >= 10 && kind < 13) handler.settle(seed, seed % 3 == 0);
        if (kind == 13) handler.appeal(seed);
        if (kind == 14) handler.spring(seed, seed % 4 == 0);
        if (kind == 15) seed % 2 == 0 ? handler.withdraw(seed >> 8) : handler.fundPool(uint128(seed));
        if (kind == 0 && seed % 32 == 0) handler.hide(seed >> 5);
        if (kind == 1 && seed % 8 == 0) handler.forget();
    }
}
