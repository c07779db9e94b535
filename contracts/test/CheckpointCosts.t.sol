// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Checkpoints} from "../src/Checkpoints.sol";
import {AggregateWorld} from "./support/AggregateWorld.sol";
import {vm} from "./support/Vm.sol";

/// @dev Whole-transaction gas of checkpoints, as in Gas.t.sol. `forge test --match-contract CheckpointCostsTest -vv` prints the table of
/// docs/spec/settlement.md.
/// forge-config: default.evm_version = "prague"
/// forge-config: ci.evm_version = "prague"
/// forge-config: default.isolate = true
/// forge-config: ci.isolate = true
contract CheckpointCostsTest is AggregateWorld {
    uint256 private constant KEYS = 0x20000;

    function setUp() public {
        deployLaneWorld();
    }

    function test_oneSignatureIsCheaperForLargeSetsAlone() public {
        (, uint256[] memory privateKeys) = sortedKeys(KEYS, 100);
        for (uint256 i; i < 100; ++i) {
            register(privateKeys[i]);
        }
        log("register, once a validator", 0);
        (uint256 certificate, uint256 aggregated) = costs(4);
        vm.assertLt(certificate, aggregated, "4 validators");
        costs(10);
        (certificate, aggregated) = costs(20);
        vm.assertLt(certificate, aggregated, "20 validators");
        (certificate, aggregated) = costs(50);
        vm.assertLt(aggregated, certificate, "50 validators");
        (certificate, aggregated) = costs(100);
        vm.assertLt(aggregated, certificate, "100 validators");
    }

    /// @dev With a certificate of just more than two thirds, and with one signature when all have signed.
    function costs(uint256 count) private returns (uint256 certificate, uint256 aggregated) {
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(KEYS, count);
        checkpointKeys.aggregate(validators_, keysOf(privateKeys, (1 << count) - 1));
        log("sum of keys, once a list of members", count);
        uint256 enough = count * 2 / 3 + 1;
        checkpoints = new Checkpoints(block.chainid, 1000, TRUST, GOVERNANCE, checkpointKeys, headerAt(0, count));
        // The first finds storage as no later one does.
        checkpoints.submit(headerAt(1, count), certify(headerAt(1, count), 1, KEYS, count, enough));
        checkpoints.submit(headerAt(2, count), certify(headerAt(2, count), 2, KEYS, count, enough));
        certificate = log("certificate", count);
        checkpoints.submitAggregated(
            headerAt(3, count), aggregateFor(headerAt(3, count), 3, KEYS, count, (1 << count) - 1)
        );
        aggregated = log("one signature, all sign", count);
        checkpoints.submitAggregated(
            headerAt(4, count), aggregateFor(headerAt(4, count), 4, KEYS, count, (1 << enough) - 1)
        );
        log("one signature, a third absent", count);
    }

    function headerAt(uint64 number, uint256 count) private view returns (bytes memory) {
        return headerOf(number, keccak256("state"), setHash(KEYS, count), uint64(block.timestamp));
    }

    function log(string memory what, uint256 validators_) private view returns (uint256 gas) {
        gas = vm.lastCallGas().gasTotalUsed;
        (bool done,) = address(0x000000000000000000636F6e736F6c652e6c6f67)
            .staticcall(abi.encodeWithSignature("log(string,uint256,uint256)", what, validators_, gas));
        vm.assertTrue(done, "console");
    }
}
