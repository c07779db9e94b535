// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20Capped} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Capped.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {CortensorToken} from "../src/CortensorToken.sol";
import {vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

contract CortensorTokenTest is World {
    uint256 private constant CAP = 1_000_000_000e18;

    function setUp() public {
        deployWorld();
    }

    function test_describesItself() public view {
        vm.assertEq(token.name(), "Cortensor", "name");
        vm.assertEq(token.symbol(), "COR", "symbol");
        vm.assertEq(token.decimals(), 18, "decimals");
        vm.assertEq(token.cap(), CAP, "cap");
        vm.assertEq(token.CLOCK_MODE(), "mode=timestamp", "clock mode");
        vm.assertEq(token.clock(), block.timestamp, "clock");
    }

    function test_mayStartWithoutSupply() public {
        CortensorToken empty = new CortensorToken(GOVERNANCE, address(0), 0);
        vm.assertEq(empty.totalSupply(), 0, "supply");
    }

    function test_refusesInitialSupplyAboveCap() public {
        vm.expectRevert(abi.encodeWithSelector(ERC20Capped.ERC20ExceededCap.selector, CAP + 1, CAP));
        new CortensorToken(GOVERNANCE, address(this), CAP + 1);
    }

    function testFuzz_mintStopsAtTheCap(uint256 amount) public {
        uint256 room = CAP - token.totalSupply();
        amount = amount % (2 * room);
        if (amount > room) {
            vm.expectRevert(
                abi.encodeWithSelector(ERC20Capped.ERC20ExceededCap.selector, token.totalSupply() + amount, CAP)
            );
        }
        vm.prank(GOVERNANCE);
        token.mint(client, amount);
        vm.assertLe(token.totalSupply(), CAP, "cap holds");
    }

    function test_onlyTheOwnerMints() public {
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, client));
        vm.prank(client);
        token.mint(client, 1);
    }

    function test_ownershipMovesInTwoSteps() public {
        vm.prank(GOVERNANCE);
        token.transferOwnership(client);
        vm.assertEq(token.owner(), GOVERNANCE, "not yet");
        vm.prank(client);
        token.acceptOwnership();
        vm.assertEq(token.owner(), client, "accepted");
    }

    function test_burnMakesRoomUnderTheCap() public {
        uint256 supply = token.totalSupply();
        vm.prank(client);
        token.burn(10e18);
        vm.assertEq(token.totalSupply(), supply - 10e18, "supply");
        vm.prank(GOVERNANCE);
        token.mint(client, CAP - supply + 10e18);
        vm.assertEq(token.totalSupply(), CAP, "full");
    }

    function test_permitAllowsOnceAndBeforeItsDeadline() public {
        uint256 deadline = block.timestamp + 1 hours;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(CLIENT_KEY, permitDigest(client, miner, 5e18, 0, deadline));
        token.permit(client, miner, 5e18, deadline, v, r, s);
        vm.assertEq(token.allowance(client, miner), 5e18, "allowance");
        vm.assertEq(token.nonces(client), 1, "nonce");

        vm.expectPartialRevert(ERC20Permit.ERC2612InvalidSigner.selector);
        token.permit(client, miner, 5e18, deadline, v, r, s);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(ERC20Permit.ERC2612ExpiredSignature.selector, deadline));
        token.permit(client, miner, 5e18, deadline, v, r, s);
    }

    function test_votesFollowDelegationAndTime() public {
        vm.prank(client);
        token.delegate(miner);
        uint256 balance = token.balanceOf(client);
        vm.assertEq(token.getVotes(miner), balance, "delegated");

        uint256 before = block.timestamp;
        vm.warp(before + 10);
        vm.prank(client);
        token.transfer(otherMiner, 1e18);
        vm.warp(before + 20);
        vm.assertEq(token.getPastVotes(miner, before + 5), balance, "past");
        vm.assertEq(token.getPastVotes(miner, before + 15), balance - 1e18, "after the transfer");
    }

    function permitDigest(address from, address spender, uint256 value, uint256 nonce, uint256 deadline)
        private
        view
        returns (bytes32)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                from,
                spender,
                value,
                nonce,
                deadline
            )
        );
        return typedDigest("Cortensor", address(token), block.chainid, structHash);
    }
}
