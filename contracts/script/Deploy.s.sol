// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CortensorToken} from "../src/CortensorToken.sol";
import {ModelRegistry} from "../src/ModelRegistry.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {Sessions} from "../src/Sessions.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";

interface ScriptVm {
    function envOr(string calldata name, address fallbackValue) external view returns (address);
    function envOr(string calldata name, uint256 fallbackValue) external view returns (uint256);
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// @title Deploys token, node registry, model registry and sessions, in this order, and wires them
/// @notice `forge script script/Deploy.s.sol --rpc-url URL --broadcast` with any of forge's ways to sign. The broadcaster
/// deploys and wires; ownership is then offered to `GOVERNANCE`, which accepts it (two steps) when it is another account.
/// Environment, all optional: `GOVERNANCE`, `TREASURY`, `INITIAL_SUPPLY` (wei, to the broadcaster), `UNBONDING_DELAY` and
/// `GRACE` (seconds), `ROUTER_STAKE` and `MINER_STAKE` (wei).
contract Deploy {
    ScriptVm private constant vm = ScriptVm(address(uint160(uint256(keccak256("hevm cheat code")))));
    // forge reads this to tell scripts from other contracts.
    // forge-lint: disable-next-line(mixed-case-variable)
    bool public IS_SCRIPT = true;

    function run()
        external
        returns (CortensorToken token, NodeRegistry registry, ModelRegistry models, Sessions sessions)
    {
        address deployer = msg.sender;
        address governance = vm.envOr("GOVERNANCE", deployer);

        vm.startBroadcast();
        token = new CortensorToken(deployer, deployer, vm.envOr("INITIAL_SUPPLY", uint256(100_000_000e18)));
        registry = new NodeRegistry(token, deployer, uint64(vm.envOr("UNBONDING_DELAY", uint256(7 days))), stakes());
        models = new ModelRegistry(deployer);
        sessions =
            new Sessions(token, registry, models, deployer, vm.envOr("TREASURY", governance), defaultParameters());
        registry.setSlasher(address(sessions), true);
        if (governance != deployer) {
            token.transferOwnership(governance);
            registry.transferOwnership(governance);
            models.transferOwnership(governance);
            sessions.transferOwnership(governance);
        }
        vm.stopBroadcast();
    }

    function stakes() private view returns (uint128[5] memory minimums) {
        minimums[0] = uint128(vm.envOr("ROUTER_STAKE", uint256(10_000e18)));
        minimums[1] = uint128(vm.envOr("MINER_STAKE", uint256(1000e18)));
        // Guards, validators and storage nodes have nothing to lose yet: their minimums come with their duties.
    }

    function defaultParameters() private view returns (ISessions.Parameters memory) {
        return ISessions.Parameters({
            routerBps: 1000,
            protocolBps: 200,
            equivocationSlashBps: 3000,
            reporterBps: 2000,
            overdraftPenaltyBps: 1000,
            grace: uint32(vm.envOr("GRACE", uint256(1 days)))
        });
    }
}
