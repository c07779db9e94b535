// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Bridge} from "./Bridge.sol";
import {ICortensorToken} from "./interfaces/ICortensorToken.sol";
import {IInbox} from "./interfaces/IInbox.sol";
import {IOutbox} from "./interfaces/IOutbox.sol";

/// @title MintBridge: the end where COR is minted for what is locked
/// @dev Owns the token there: nobody else mints, and it mints only what it was told of.
contract MintBridge is Bridge {
    using SafeERC20 for IERC20;

    error SupplyUnbacked(uint256 supply);

    constructor(IERC20 token_, IOutbox outbox_, IInbox inbox_, TimelockController timelock_)
        Bridge(token_, outbox_, inbox_, timelock_)
    {}

    /// @notice Takes the token over, once it was offered. Refused while there is COR that nothing is locked for.
    function adopt() external {
        uint256 supply = token.totalSupply();
        if (supply != 0) revert SupplyUnbacked(supply);
        Ownable2Step(address(token)).acceptOwnership();
    }

    function _take(address from, uint128 amount) internal override {
        token.safeTransferFrom(from, address(this), amount);
        ICortensorToken(address(token)).burn(amount);
    }

    function _give(address to, uint128 amount) internal override {
        ICortensorToken(address(token)).mint(to, amount);
    }
}
