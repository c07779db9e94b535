// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BridgeHandler} from "./support/BridgeHandler.sol";
import {vm} from "./support/Vm.sol";

/// @dev Nothing is made or lost between the ends: what is locked is what circulates, is on its way, or was burnt by its holders.
contract BridgeInvariantsTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    BridgeHandler private handler;

    function setUp() public {
        handler = new BridgeHandler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        bytes4[] memory selectors = new bytes4[](7);
        selectors[0] = handler.down.selector;
        selectors[1] = handler.up.selector;
        selectors[2] = handler.relay.selector;
        selectors[3] = handler.claim.selector;
        selectors[4] = handler.burn.selector;
        selectors[5] = handler.pause.selector;
        selectors[6] = handler.pass.selector;
        targets[0] = FuzzSelector({addr: address(handler), selectors: selectors});
    }

    function invariant_whatIsLockedCirculatesOrIsOnItsWay() public view {
        vm.assertEq(
            handler.locked(), handler.circulating() + handler.inFlight() + handler.burnt(), "nothing is made or lost"
        );
    }

    /// @dev A fixed campaign must reach every outcome, so that the random ones are known not to idle.
    function test_bridgeCampaignsReachEveryOutcome() public {
        for (uint256 step; step < 300; ++step) {
            uint256 r = uint256(keccak256(abi.encode(step)));
            uint256 what = r % 12;
            if (what < 3) handler.down(r >> 8, uint128((r >> 64) % 50e18));
            else if (what == 3) handler.up(r >> 8, uint128((r >> 64) % 10e18));
            else if (what < 7) handler.relay(r >> 8);
            else if (what < 9) handler.claim(r >> 8);
            else if (what == 9) handler.burn(r >> 8, uint128(r >> 64));
            else if (what == 10) handler.pause(r >> 8);
            else handler.pass(r >> 8);
            invariant_whatIsLockedCirculatesOrIsOnItsWay();
        }
        bytes32[9] memory outcomes =
            [bytes32("down"), "up", "proveUp", "proveDown", "claimUp", "claimDown", "refused", "burn", "pause"];
        for (uint256 i; i < outcomes.length; ++i) {
            vm.assertTrue(handler.calls(outcomes[i]) != 0, string(abi.encodePacked(outcomes[i])));
        }
    }
}
