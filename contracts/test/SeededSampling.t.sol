// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SeededSampling} from "../src/libraries/SeededSampling.sol";
import {vm} from "./support/Vm.sol";

/// @dev Holds the contract's sampler to the vectors of the miners' (`crates/proof/tests/vectors`), line by line.
contract SeededSamplingTest {
    string private constant BITS = "../crates/proof/tests/vectors/bits.csv";
    string private constant GUMBEL = "../crates/proof/tests/vectors/gumbel.csv";

    function test_everyVectorOfTheNoise() public view {
        string[] memory lines = vm.split(vm.readFile(GUMBEL), "\n");
        uint256 count = 0;
        for (uint256 i = 1; i < lines.length && bytes(lines[i]).length > 0; ++i) {
            uint256 free = freeMemory();
            string[] memory columns = vm.split(lines[i], ",");
            uint32 x = uint32(hexadecimal(columns[0]));
            vm.assertEq(SeededSampling.exponential(x), hexadecimal(columns[1]), lines[i]);
            vm.assertEq(int256(SeededSampling.gumbel(x)), vm.parseInt(columns[2]), lines[i]);
            ++count;
            setFreeMemory(free);
        }
        vm.assertEq(count, 10_000, "vectors");
    }

    function test_everyVectorOfTheBits() public view {
        string[] memory lines = vm.split(vm.readFile(BITS), "\n");
        uint256 count = 0;
        for (uint256 i = 1; i < lines.length && bytes(lines[i]).length > 0; ++i) {
            string[] memory columns = vm.split(lines[i], ",");
            bytes32 key = SeededSampling.stepKey(bytes32(hexadecimal(columns[0])), uint32(vm.parseUint(columns[1])));
            uint32 bits = SeededSampling.bits(key, uint32(vm.parseUint(columns[2])));
            vm.assertEq(bits, hexadecimal(columns[3]), lines[i]);
            ++count;
        }
        vm.assertEq(count, 500, "vectors");
    }

    /// @dev No bits give noise outside of the bounds by which far tokens are left out, nor is it ever out of order.
    function testFuzz_noiseIsBoundedAndGrows(uint32 x) public pure {
        int64 noise = SeededSampling.gumbel(x);
        vm.assertTrue(noise > -13_443_300_000 && noise < 98_270_000_000, "bounds");
        if (x > 0) vm.assertTrue(SeededSampling.gumbel(x - 1) <= noise, "order");
    }

    /// @dev The noise of one token, as a contract that judges a step pays it.
    function test_gasOfOneToken() public view {
        bytes32 key = SeededSampling.stepKey(bytes32(uint256(7)), 3);
        uint256 before = gasleft();
        SeededSampling.gumbel(SeededSampling.bits(key, 12_345));
        vm.assertLt(before - gasleft(), 20_000, "gas");
    }

    function hexadecimal(string memory digits) private pure returns (uint256) {
        return vm.parseUint(string.concat("0x", digits));
    }

    function freeMemory() private pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := mload(0x40)
        }
    }

    /// @dev Gives back what a line took: memory of a whole file's lines would cost more gas than the file is worth.
    function setFreeMemory(uint256 pointer) private pure {
        assembly ("memory-safe") {
            mstore(0x40, pointer)
        }
    }
}
