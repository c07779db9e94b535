// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ICapabilities} from "../src/interfaces/ICapabilities.sol";
import {CapabilitiesHandler} from "./support/CapabilitiesHandler.sol";
import {vm} from "./support/Vm.sol";

/// @dev What holds after any sequence of rounds, challenges, reveals, silences and withdrawals.
contract CapabilityInvariantsTest {
    CapabilitiesHandler private handler;

    function setUp() public {
        handler = new CapabilitiesHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_everyWeiIsSomebodysAndRecordsStayWithinWhatWasMeasured() public view {
        (uint256 balance, uint256 owed) = handler.books();
        vm.assertEq(balance, owed, "it holds what it owes");
        vm.assertEq(balance, handler.takenIn() - handler.paidOut(), "nothing comes from nowhere");
        ICapabilities.Record memory record = handler.record();
        if (record.measurements == 0) return;
        vm.assertTrue(record.average[1] >= 1 && record.average[1] <= 1_000_000, "between what was measured");
        vm.assertEq(record.average[5], type(uint32).max, "what cannot be had stays so");
    }

    /// @dev A fixed campaign must reach every outcome, so that the random ones are known not to idle.
    function test_campaignsReachEveryOutcome() public {
        for (uint256 step; step < 900; ++step) {
            uint256 r = uint256(keccak256(abi.encode(step)));
            uint256 what = r % 16;
            if (what == 0) handler.challenge();
            if (what == 1 || what == 2) handler.turn(r >> 8);
            if (what >= 3 && what < 7) handler.commit(r >> 8, uint32(r >> 64));
            if (what >= 7 && what < 11) handler.reveal(r >> 8, uint32(r >> 64));
            if (what == 11) handler.settle(r >> 8);
            if (what == 12) handler.reclaim(r >> 8);
            if (what == 13) handler.withdraw(r >> 8);
            if (what >= 14) handler.pass(r >> 8);
            invariant_everyWeiIsSomebodysAndRecordsStayWithinWhatWasMeasured();
        }
        bytes32[9] memory outcomes =
            [bytes32("challenge"), "alone", "several", "commit", "reveal", "settle", "reclaim", "withdraw", "nothing"];
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }
}
