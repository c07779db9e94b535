// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LaneWorld} from "./LaneWorld.sol";
import {bound, vm} from "./Vm.sol";

/// @dev Accounts that send both ways, relayers that come when they like, holders who burn, a governance that pauses.
contract BridgeHandler is LaneWorld {
    address[3] private _people = [address(0x9001), address(0x9002), address(0x9003)];
    mapping(uint256 index => bool) private _claimedUp;
    mapping(uint256 index => bool) private _claimedDown;
    uint256 private _provenUp;
    uint256 private _provenDown;
    uint256 public inFlight;
    uint256 public burnt;
    mapping(bytes32 what => uint256) public calls;

    constructor() {
        deployLaneWorld();
        for (uint256 i; i < _people.length; ++i) {
            token.transfer(_people[i], 1000e18);
        }
    }

    function down(uint256 seed, uint128 amount) external {
        address from = _people[seed % 3];
        uint256 most = token.balanceOf(from);
        if (most == 0 || block.timestamp < lockBridge.pausedUntil()) return;
        amount = uint128(bound(amount, 1, most));
        sendDown(from, _people[(seed >> 8) % 3], amount);
        inFlight += amount;
        ++calls["down"];
    }

    function up(uint256 seed, uint128 amount) external {
        address from = _people[seed % 3];
        uint256 most = minted.balanceOf(from);
        if (most == 0) return;
        amount = uint128(bound(amount, 1, most));
        sendUp(from, _people[(seed >> 8) % 3], amount);
        inFlight += amount;
        ++calls["up"];
    }

    function relay(uint256 seed) external {
        if (seed % 2 == 0 && ups.length != 0 && (height + 1) % EPOCH_BLOCKS != 0) {
            vm.assertTrue(ups.length >= _provenUp, "lists only grow");
            proveUp();
            _provenUp = ups.length;
            ++calls["proveUp"];
        } else if (downs.length != 0) {
            proveDown();
            _provenDown = downs.length;
            ++calls["proveDown"];
        }
        if ((height + 1) % EPOCH_BLOCKS == 0) {
            ++height;
            submit(plainHeader(height), height);
        }
    }

    /// @dev Any message, also one that was claimed or is not proven: only what must succeed does.
    function claim(uint256 seed) external {
        if (seed % 2 == 0 && ups.length != 0) _claimUp((seed >> 8) % ups.length);
        else if (downs.length != 0) _claimDown((seed >> 8) % downs.length);
    }

    function burn(uint256 seed, uint128 amount) external {
        address from = _people[seed % 3];
        uint256 most = minted.balanceOf(from) / 8;
        if (most == 0) return;
        amount = uint128(bound(amount, 1, most));
        vm.prank(from);
        minted.burn(amount);
        burnt += amount;
        ++calls["burn"];
    }

    function pause(uint256 duration) external {
        vm.prank(address(timelock));
        lockBridge.pause(uint64(duration % 1 hours));
        ++calls["pause"];
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 2 hours));
    }

    function locked() external view returns (uint256) {
        return token.balanceOf(address(lockBridge));
    }

    function circulating() external view returns (uint256) {
        return minted.totalSupply();
    }

    function _claimUp(uint256 index) private {
        bool open = block.timestamp >= lockBridge.pausedUntil();
        bool due = open && !_claimedUp[index] && _provenUp == ups.length;
        try this.tryUp(index) {
            vm.assertTrue(due, "claimed what is not due");
            _claimedUp[index] = true;
            inFlight -= amountOf(ups[index].data);
            ++calls["claimUp"];
        } catch {
            vm.assertFalse(due, "what is due was refused");
            ++calls["refused"];
        }
    }

    function _claimDown(uint256 index) private {
        bool due = !_claimedDown[index] && _provenDown == downs.length;
        try this.tryDown(index) {
            vm.assertTrue(due, "claimed what is not due");
            _claimedDown[index] = true;
            inFlight -= amountOf(downs[index].data);
            ++calls["claimDown"];
        } catch {
            vm.assertFalse(due, "what is due was refused");
            ++calls["refused"];
        }
    }

    function tryUp(uint256 index) external {
        claimUp(index);
    }

    function tryDown(uint256 index) external {
        claimDown(index);
    }

    function amountOf(bytes memory data) private pure returns (uint256 amount) {
        (, amount) = abi.decode(data, (address, uint256));
    }
}
