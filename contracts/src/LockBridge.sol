// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Bridge} from "./Bridge.sol";
import {IInbox} from "./interfaces/IInbox.sol";
import {IOutbox} from "./interfaces/IOutbox.sol";

/// @title LockBridge: the end where COR was born
/// @dev Holds exactly what is in circulation at the other end, or on its way. The token must not take fees or call back.
contract LockBridge is Bridge {
    using SafeERC20 for IERC20;

    constructor(IERC20 token_, IOutbox outbox_, IInbox inbox_, TimelockController timelock_)
        Bridge(token_, outbox_, inbox_, timelock_)
    {}

    function _take(address from, uint128 amount) internal override {
        token.safeTransferFrom(from, address(this), amount);
    }

    function _give(address to, uint128 amount) internal override {
        token.safeTransfer(to, amount);
    }
}
