// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {UsefulWorld} from "./support/UsefulWorld.sol";
import {vm} from "./support/Vm.sol";

/// @dev Whole-transaction gas, as in `GasTest`, of what the judges of one answer send.
/// forge-config: default.isolate = true
/// forge-config: ci.isolate = true
contract UsefulnessGasTest is UsefulWorld {
    function setUp() public {
        deployUsefulWorld(8);
        // A judgement of a miner that has been judged before: what most cost.
        judged(1, three(1_000_000, 1_000_000, 1_000_000));
    }

    function test_judgementByThree() public {
        bytes32 item = usefulItem(2);
        usefulness.open(item);
        log("open, among 8 guards", lastGas());
        uint256 total = lastGas();
        address[] memory judges = judgesOf(item);
        for (uint256 i; i < judges.length; ++i) {
            commitScore(judges[i], item, 1_100_000);
            total += lastGas();
        }
        log("commitScore", lastGas());
        for (uint256 i; i < judges.length; ++i) {
            revealScore(judges[i], item, 1_100_000);
            total += lastGas();
        }
        log("revealScore", lastGas());
        pastKnownWindow(item);
        usefulness.settle(item);
        total += lastGas();
        log("settle", lastGas());
        log("judged answer, all eight together", total);
        vm.assertLt(total, 1_200_000, "judgement");
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
