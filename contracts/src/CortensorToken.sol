// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Capped} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Capped.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ICortensorToken} from "./interfaces/ICortensorToken.sol";

/// @title COR, the token that deposits, stakes and votes are counted in
contract CortensorToken is ICortensorToken, ERC20Capped, ERC20Permit, ERC20Votes, Ownable2Step {
    uint256 private constant SUPPLY_CAP = 1_000_000_000e18;

    constructor(address initialOwner, address initialHolder, uint256 initialSupply)
        ERC20("Cortensor", "COR")
        ERC20Capped(SUPPLY_CAP)
        ERC20Permit("Cortensor")
        Ownable(initialOwner)
    {
        if (initialSupply != 0) _mint(initialHolder, initialSupply);
    }

    /// @inheritdoc ICortensorToken
    function mint(address account, uint256 amount) external onlyOwner {
        _mint(account, amount);
    }

    /// @inheritdoc ICortensorToken
    function burn(uint256 amount) external {
        _burn(_msgSender(), amount);
    }

    /// @dev Votes are checkpointed by time, because block numbers mean different things on different layers.
    function clock() public view override returns (uint48) {
        // Seconds since 1970 fit 48 bits for the next eight million years.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint48(block.timestamp);
    }

    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    /// @dev Permit and Votes share one counter per holder.
    function nonces(address holder) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(holder);
    }

    function _update(address from, address to, uint256 value) internal override(ERC20, ERC20Capped, ERC20Votes) {
        super._update(from, to, value);
    }
}
