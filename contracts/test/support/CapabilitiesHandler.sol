// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Capabilities} from "../../src/Capabilities.sol";
import {ICapabilities} from "../../src/interfaces/ICapabilities.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {bound, vm} from "./Vm.sol";

/// @dev One miner, five guards that measure what they like or nothing, and a challenger.
contract CapabilitiesHandler is AuditWorld {
    Capabilities public capabilities;
    uint256 internal constant GUARDS = 5;
    uint32 internal constant HIGHEST = 1_000_000;

    bytes32[] private _ids;
    mapping(bytes32 id => uint32) private _epochs;
    mapping(bytes32 id => mapping(address guard => uint32)) private _speeds;
    mapping(bytes32 what => uint256) public calls;
    /// @dev Everything that was ever taken in and paid out.
    uint256 public takenIn;
    uint256 public paidOut;

    constructor() {
        deployAuditWorld(GUARDS);
        capabilities = new Capabilities(
            token,
            registry,
            guards,
            GOVERNANCE,
            ICapabilities.Parameters({
                confirmationPpm: 300_000,
                weightPpm: 250_000,
                driftPpm: 300_000,
                tolerancePpm: 1_000_000,
                commitWindow: 10 minutes,
                revealWindow: 10 minutes,
                lateEpochs: 2,
                challengeBond: 10e18,
                challengeFee: 3e18 + 1
            })
        );
        token.transfer(challenger, 1_000_000e18);
        vm.prank(challenger);
        token.approve(address(capabilities), type(uint256).max);
    }

    function challenge() external {
        uint256 before = token.balanceOf(challenger);
        vm.prank(challenger);
        try capabilities.challenge(miner, MODEL) returns (bytes32 id) {
            _know(id, guards.currentEpoch());
            takenIn += before - token.balanceOf(challenger);
            ++calls["challenge"];
        } catch {
            ++calls["nothing"];
        }
    }

    /// @dev Ends an epoch and mostly opens its round.
    function turn(uint256 seed) external {
        uint32 epoch = guards.currentEpoch();
        nextEpoch();
        if (seed % 5 == 0) return;
        bytes32 id = capabilities.open(epoch, miner, MODEL);
        _know(id, epoch);
        ++calls[capabilities.roundOf(id).guards.length == 1 ? bytes32("alone") : bytes32("several")];
    }

    function commit(uint256 seed, uint32 speed) external {
        if (_ids.length == 0) return;
        (bytes32 id, address guard) = _pick(seed);
        if (guard == address(0) || _speeds[id][guard] != 0) return;
        speed = uint32(bound(speed, 1, HIGHEST));
        vm.prank(guard);
        try capabilities.commitMeasurement(id, keccak256(abi.encode(guard, id, _numbers(speed), SALT))) {
            _speeds[id][guard] = speed;
            ++calls["commit"];
        } catch {
            ++calls["nothing"];
        }
    }

    function reveal(uint256 seed, uint32 speed) external {
        if (_ids.length == 0) return;
        (bytes32 id, address guard) = _pick(seed);
        if (guard == address(0)) return;
        if (_speeds[id][guard] != 0) speed = _speeds[id][guard];
        vm.prank(guard);
        try capabilities.revealMeasurement(id, _numbers(uint32(bound(speed, 1, HIGHEST))), SALT) {
            ++calls["reveal"];
        } catch {
            ++calls["nothing"];
        }
    }

    function settle(uint256 seed) external {
        if (_ids.length == 0) return;
        (bytes32 id,) = _pick(seed);
        try capabilities.settle(id) {
            ++calls["settle"];
        } catch {
            ++calls["nothing"];
        }
    }

    function reclaim(uint256 seed) external {
        if (_ids.length == 0) return;
        (bytes32 id,) = _pick(seed);
        try capabilities.reclaim(_epochs[id], miner, MODEL) {
            ++calls["reclaim"];
        } catch {
            ++calls["nothing"];
        }
    }

    function withdraw(uint256 seed) external {
        address account = _accounts()[seed % (GUARDS + 2)];
        uint256 before = token.balanceOf(account);
        try capabilities.withdraw(account) {
            paidOut += token.balanceOf(account) - before;
            ++calls["withdraw"];
        } catch {
            ++calls["nothing"];
        }
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 25 minutes));
    }

    /// @dev What the contract has, and what it owes.
    function books() external view returns (uint256 balance, uint256 owed) {
        owed = capabilities.held();
        address[] memory accounts = _accounts();
        for (uint256 i; i < accounts.length; ++i) {
            owed += capabilities.balanceOf(accounts[i]);
        }
        balance = token.balanceOf(address(capabilities));
    }

    function record() external view returns (ICapabilities.Record memory) {
        return capabilities.recordOf(miner, MODEL);
    }

    function _know(bytes32 id, uint32 epoch) private {
        if (_epochs[id] == 0) _ids.push(id);
        // The first epoch is never asked about: rounds begin with the second.
        _epochs[id] = epoch;
    }

    /// @dev One of the four newest rounds, and one of its guards.
    function _pick(uint256 seed) private view returns (bytes32 id, address guard) {
        uint256 newest = _ids.length < 4 ? _ids.length : 4;
        id = _ids[_ids.length - 1 - seed % newest];
        address[] memory drawn = capabilities.roundOf(id).guards;
        if (drawn.length != 0) guard = drawn[(seed >> 8) % drawn.length];
    }

    function _accounts() private view returns (address[] memory accounts) {
        accounts = new address[](GUARDS + 2);
        for (uint256 i; i < GUARDS; ++i) {
            accounts[i] = vm.addr(GUARD_KEYS + i);
        }
        (accounts[GUARDS], accounts[GUARDS + 1]) = (challenger, registry.payoutOf(miner));
    }

    function _numbers(uint32 speed) private pure returns (uint32[8] memory numbers) {
        numbers = [speed, speed, speed, 1, 4096, type(uint32).max, 1_000_000, 1_000_000];
    }
}
