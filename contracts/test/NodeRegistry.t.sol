// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {GUARD, MINER, ROUTER, Roles, STORAGE, VALIDATOR} from "../src/types/Roles.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

contract NodeRegistryTest is World {
    uint256 private constant NEW_KEY = 0xE001;
    address private constant SLASHER = address(0x51A);
    address private constant RECIPIENT = address(0x4EC);

    address private newcomer = vm.addr(NEW_KEY);

    function setUp() public {
        deployWorld();
        fund(NODE_OWNER, 1_000_000e18);
        vm.prank(GOVERNANCE);
        registry.setSlasher(SLASHER, true);
    }

    // --- registering ---

    function test_registerKeepsEverything() public view {
        INodeRegistry.Node memory n = registry.node(miner);
        vm.assertEq(n.operator, miner, "operator");
        vm.assertEq(n.owner, NODE_OWNER, "owner");
        vm.assertEq(n.payout, MINER_PAYOUT, "payout");
        vm.assertEq(Roles.unwrap(n.roles), Roles.unwrap(MINER), "roles");
        vm.assertEq(n.registeredAt, block.timestamp, "time");
        vm.assertEq(n.stake, MINER_STAKE, "stake");
        vm.assertEq(n.unbonding, 0, "unbonding");
        vm.assertEq(n.transportKey, keccak256(abi.encode("transport", MINER_KEY)), "transport key");
        vm.assertEq(n.transportSignature.length, 64, "transport signature");
        vm.assertEq(n.claims, bytes("claims"), "claims");
        vm.assertTrue(registry.isRegistered(miner), "registered");
        vm.assertEq(registry.payoutOf(miner), MINER_PAYOUT, "payoutOf");
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "slashable");
    }

    function test_operatorMayRegisterItselfWithoutConsent() public {
        fund(newcomer, MINER_STAKE);
        vm.prank(newcomer);
        registry.register(registration(NEW_KEY, MINER, newcomer, MINER_STAKE), noConsent());
        vm.assertEq(registry.node(newcomer).owner, newcomer, "owner");
        vm.assertEq(token.balanceOf(address(registry)), ROUTER_STAKE + 2 * uint256(MINER_STAKE), "custody");
    }

    function test_registerNeedsTheOperatorsConsent() public {
        INodeRegistry.Registration memory entry = registration(NEW_KEY, MINER, MINER_PAYOUT, MINER_STAKE);

        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentInvalid.selector, newcomer));
        vm.prank(NODE_OWNER);
        registry.register(entry, INodeRegistry.OperatorConsent(block.timestamp, new bytes(65)));

        // Consent to another owner is no consent to this one.
        INodeRegistry.OperatorConsent memory toAnother = consentOf(NEW_KEY, client, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentInvalid.selector, newcomer));
        vm.prank(NODE_OWNER);
        registry.register(entry, toAnother);

        INodeRegistry.OperatorConsent memory stale = consentOf(NEW_KEY, NODE_OWNER, block.timestamp - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentExpired.selector, block.timestamp - 1));
        vm.prank(NODE_OWNER);
        registry.register(entry, stale);
    }

    function test_consentCountsOnce() public {
        INodeRegistry.Registration memory entry = registration(NEW_KEY, MINER, MINER_PAYOUT, MINER_STAKE);
        INodeRegistry.OperatorConsent memory consent = consentOf(NEW_KEY, NODE_OWNER, block.timestamp + 30 days);
        vm.startPrank(NODE_OWNER);
        registry.register(entry, consent);
        registry.requestUnstake(newcomer, MINER_STAKE);
        vm.warp(block.timestamp + UNBONDING);
        registry.withdrawUnstaked(newcomer);
        registry.deregister(newcomer);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentInvalid.selector, newcomer));
        registry.register(entry, consent);
        vm.stopPrank();
    }

    function test_consentIsBoundToChainAndContract() public {
        INodeRegistry.Registration memory entry = registration(NEW_KEY, MINER, MINER_PAYOUT, MINER_STAKE);
        INodeRegistry.OperatorConsent memory consent = consentOf(NEW_KEY, NODE_OWNER, block.timestamp);
        NodeRegistry elsewhere = new NodeRegistry(token, GOVERNANCE, UNBONDING, noMinimums());
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentInvalid.selector, newcomer));
        vm.prank(NODE_OWNER);
        elsewhere.register(entry, consent);

        vm.chainId(block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ConsentInvalid.selector, newcomer));
        vm.prank(NODE_OWNER);
        registry.register(entry, consent);
    }

    function test_registerRefusesWhatIsMalformed() public {
        INodeRegistry.Registration memory entry = registration(NEW_KEY, MINER, newcomer, MINER_STAKE);
        entry.payout = address(0);
        refuse(entry, abi.encodeWithSelector(INodeRegistry.ZeroAddress.selector));

        entry = registration(NEW_KEY, Roles.wrap(0), newcomer, MINER_STAKE);
        refuse(entry, abi.encodeWithSelector(INodeRegistry.RolesInvalid.selector, Roles.wrap(0)));

        entry = registration(NEW_KEY, Roles.wrap(32), newcomer, MINER_STAKE);
        refuse(entry, abi.encodeWithSelector(INodeRegistry.RolesInvalid.selector, Roles.wrap(32)));

        entry = registration(NEW_KEY, MINER, newcomer, MINER_STAKE);
        entry.transportKey = 0;
        refuse(entry, abi.encodeWithSelector(INodeRegistry.TransportKeyInvalid.selector));

        entry = registration(NEW_KEY, MINER, newcomer, MINER_STAKE);
        entry.transportSignature = new bytes(63);
        refuse(entry, abi.encodeWithSelector(INodeRegistry.TransportSignatureLength.selector, 63));

        entry = registration(NEW_KEY, MINER, newcomer, MINER_STAKE);
        entry.claims = new bytes(registry.MAX_CLAIMS_BYTES() + 1);
        refuse(entry, abi.encodeWithSelector(INodeRegistry.ClaimsTooLong.selector, entry.claims.length));

        entry = registration(NEW_KEY, MINER, newcomer, MINER_STAKE / 2 - 1);
        refuse(
            entry,
            abi.encodeWithSelector(
                INodeRegistry.StakeBelowMinimum.selector, MINER, MINER_STAKE / 2 - 1, MINER_STAKE / 2
            )
        );
    }

    function test_registerRefusesAKnownOperator() public {
        INodeRegistry.OperatorConsent memory consent = consentOf(MINER_KEY, NODE_OWNER, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeAlreadyRegistered.selector, miner));
        vm.prank(NODE_OWNER);
        registry.register(registration(MINER_KEY, MINER, miner, MINER_STAKE), consent);
    }

    function test_transportBindingIsPackedAsPeersExpect() public view {
        bytes memory expected =
            abi.encodePacked("cortensor transport binding v1", block.chainid, address(registry), miner);
        vm.assertEq(registry.transportBinding(miner), expected, "binding");
        vm.assertEq(expected.length, 30 + 32 + 20 + 20, "packed");
    }

    // --- changing an entry ---

    function test_ownerChangesItsEntry() public {
        bytes memory signature = new bytes(64);
        signature[0] = 0x42;
        vm.startPrank(NODE_OWNER);
        registry.setPayout(miner, client);
        registry.setTransportKey(miner, bytes32(uint256(9)), signature);
        registry.setClaims(miner, "more");
        registry.setRoles(miner, Roles.wrap(2 | 4 | 16));
        vm.stopPrank();
        INodeRegistry.Node memory n = registry.node(miner);
        vm.assertEq(n.payout, client, "payout");
        vm.assertEq(n.transportKey, bytes32(uint256(9)), "key");
        vm.assertEq(n.transportSignature, signature, "signature");
        vm.assertEq(n.claims, bytes("more"), "claims");
        vm.assertTrue(registry.isActive(miner, GUARD), "guard");
        vm.assertTrue(registry.isActive(miner, STORAGE), "storage");
        vm.assertFalse(registry.isActive(miner, VALIDATOR), "no validator");
    }

    function test_operatorChangesOnlyItsClaims() public {
        vm.startPrank(miner);
        registry.setClaims(miner, "mine");
        bytes memory notOwner = abi.encodeWithSelector(INodeRegistry.NotNodeOwner.selector, miner, miner);
        vm.expectRevert(notOwner);
        registry.setPayout(miner, miner);
        vm.expectRevert(notOwner);
        registry.setTransportKey(miner, bytes32(uint256(1)), new bytes(64));
        vm.expectRevert(notOwner);
        registry.setRoles(miner, ROUTER);
        vm.expectRevert(notOwner);
        registry.requestUnstake(miner, 1);
        vm.expectRevert(notOwner);
        registry.cancelUnstake(miner);
        vm.expectRevert(notOwner);
        registry.deregister(miner);
        vm.stopPrank();
        vm.assertEq(registry.node(miner).claims, bytes("mine"), "claims");
    }

    function test_strangersChangeNothing() public {
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotNodeOwnerOrOperator.selector, miner, client));
        registry.setClaims(miner, "theirs");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotNodeOwner.selector, miner, client));
        registry.setPayout(miner, client);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeUnknown.selector, client));
        registry.setPayout(client, client);
        vm.stopPrank();
    }

    function test_changesAreValidatedLikeRegistration() public {
        vm.startPrank(NODE_OWNER);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ZeroAddress.selector));
        registry.setPayout(miner, address(0));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.TransportKeyInvalid.selector));
        registry.setTransportKey(miner, 0, new bytes(64));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.TransportSignatureLength.selector, 65));
        registry.setTransportKey(miner, bytes32(uint256(1)), new bytes(65));
        uint256 tooLong = registry.MAX_CLAIMS_BYTES() + 1;
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ClaimsTooLong.selector, tooLong));
        registry.setClaims(miner, new bytes(tooLong));
        vm.expectRevert(
            abi.encodeWithSelector(INodeRegistry.StakeBelowMinimum.selector, ROUTER, MINER_STAKE, ROUTER_STAKE / 2)
        );
        registry.setRoles(miner, ROUTER);
        vm.stopPrank();
    }

    // --- activity ---

    function test_activityNeedsRoleAndStake() public {
        vm.assertTrue(registry.isActive(miner, MINER), "active");
        vm.assertFalse(registry.isActive(miner, ROUTER), "not its role");
        vm.assertFalse(registry.isActive(miner, Roles.wrap(0)), "no role");
        vm.assertFalse(registry.isActive(client, MINER), "unknown");

        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, MINER_STAKE / 2);
        vm.assertTrue(registry.isActive(miner, MINER), "exactly the minimum");
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, 1);
        vm.assertFalse(registry.isActive(miner, MINER), "one wei short");
    }

    function test_raisingTheMinimumDeactivates() public {
        vm.prank(GOVERNANCE);
        registry.setMinimumStake(MINER, MINER_STAKE + 1);
        vm.assertFalse(registry.isActive(miner, MINER), "below the new minimum");
        vm.assertEq(registry.minimumStake(MINER), MINER_STAKE + 1, "minimum");
        registryStake(miner, 1);
        vm.assertTrue(registry.isActive(miner, MINER), "topped up");
    }

    // --- stake ---

    function test_anyoneMayAddStakeButItBelongsToTheOwner() public {
        vm.prank(client);
        registry.addStake(miner, 5e18);
        vm.assertEq(registry.node(miner).stake, MINER_STAKE + 5e18, "stake");
        uint256 before = token.balanceOf(NODE_OWNER);
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, MINER_STAKE + 5e18);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(client);
        registry.withdrawUnstaked(miner);
        vm.assertEq(token.balanceOf(NODE_OWNER) - before, MINER_STAKE + 5e18, "to the owner");
    }

    function test_unstakingWaitsForTheDelay() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, 100e18);
        uint64 releaseAt = uint64(block.timestamp) + UNBONDING;
        vm.assertEq(registry.node(miner).unbondingReleaseAt, releaseAt, "release");

        vm.warp(releaseAt - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnbondingUntil.selector, releaseAt));
        registry.withdrawUnstaked(miner);
        vm.warp(releaseAt);
        vm.assertEq(registry.withdrawUnstaked(miner), 100e18, "amount");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingUnbonding.selector, miner));
        registry.withdrawUnstaked(miner);
    }

    function test_askingAgainStartsTheDelayAnew() public {
        vm.startPrank(NODE_OWNER);
        registry.requestUnstake(miner, 100e18);
        vm.warp(block.timestamp + UNBONDING - 1);
        registry.requestUnstake(miner, 1);
        vm.stopPrank();
        vm.assertEq(registry.node(miner).unbonding, 100e18 + 1, "one pot");
        vm.assertEq(registry.node(miner).unbondingReleaseAt, block.timestamp + UNBONDING, "new delay");
    }

    function test_aChangedDelayLeavesOldRequestsAlone() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, 100e18);
        vm.prank(GOVERNANCE);
        registry.setUnbondingDelay(60 days);
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(registry.withdrawUnstaked(miner), 100e18, "old delay");
    }

    function test_unstakingCanBeCancelled() public {
        vm.startPrank(NODE_OWNER);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NothingUnbonding.selector, miner));
        registry.cancelUnstake(miner);
        registry.requestUnstake(miner, MINER_STAKE);
        vm.assertFalse(registry.isActive(miner, MINER), "leaving");
        registry.cancelUnstake(miner);
        vm.stopPrank();
        vm.assertTrue(registry.isActive(miner, MINER), "back");
        vm.assertEq(registry.node(miner).unbonding, 0, "nothing leaves");
    }

    function test_unstakingIsBoundedByTheStake() public {
        vm.startPrank(NODE_OWNER);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeInsufficient.selector, MINER_STAKE, MINER_STAKE + 1));
        registry.requestUnstake(miner, MINER_STAKE + 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ZeroAmount.selector));
        registry.requestUnstake(miner, 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ZeroAmount.selector));
        registry.addStake(miner, 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeUnknown.selector, client));
        registry.addStake(client, 1);
        vm.stopPrank();
    }

    function test_deregisteringNeedsAnEmptyPot() public {
        vm.startPrank(NODE_OWNER);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeRemaining.selector, MINER_STAKE, 0));
        registry.deregister(miner);
        registry.requestUnstake(miner, MINER_STAKE);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeRemaining.selector, 0, MINER_STAKE));
        registry.deregister(miner);
        vm.warp(block.timestamp + UNBONDING);
        registry.withdrawUnstaked(miner);
        registry.deregister(miner);
        vm.stopPrank();
        vm.assertFalse(registry.isRegistered(miner), "gone");
        vm.assertEq(registry.payoutOf(miner), miner, "payout falls back to the operator");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeUnknown.selector, miner));
        registry.node(miner);
        vm.assertEq(registry.nodeCount(), 1, "count");
        vm.assertEq(registry.nodeAt(0), router, "the other moved up");
    }

    // --- slashing ---

    function testFuzz_slashingTakesStakeThenUnbonding(uint128 leaving, uint128 amount) public {
        leaving = uint128(bound(leaving, 1, MINER_STAKE));
        amount = uint128(bound(amount, 0, 2 * uint256(MINER_STAKE)));
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, leaving);
        vm.prank(SLASHER);
        uint128 taken = registry.slash(miner, amount, RECIPIENT);

        INodeRegistry.Node memory n = registry.node(miner);
        uint128 active = MINER_STAKE - leaving;
        vm.assertEq(taken, amount < MINER_STAKE ? amount : MINER_STAKE, "taken");
        vm.assertEq(token.balanceOf(RECIPIENT), taken, "received");
        vm.assertEq(uint256(n.stake) + n.unbonding + taken, MINER_STAKE, "conserved");
        vm.assertEq(n.stake, active > taken ? active - taken : 0, "active first");
        vm.assertEq(
            n.unbondingReleaseAt == 0 ? 1 : 0, n.unbonding == 0 ? 1 : 0, "a release time while something leaves"
        );
        vm.assertEq(token.balanceOf(address(registry)), uint256(ROUTER_STAKE) + n.stake + n.unbonding, "custody");
    }

    function test_slashedWhileUnbondingLeavesOnlyTheRest() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(miner, MINER_STAKE);
        vm.warp(block.timestamp + UNBONDING - 1);
        vm.prank(SLASHER);
        registry.slash(miner, MINER_STAKE / 4, RECIPIENT);
        vm.warp(block.timestamp + 1);
        vm.assertEq(registry.withdrawUnstaked(miner), MINER_STAKE - MINER_STAKE / 4, "rest");
    }

    function test_onlySlashersSlash() public {
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotSlasher.selector, client));
        vm.prank(client);
        registry.slash(miner, 1, client);

        vm.prank(GOVERNANCE);
        registry.setSlasher(SLASHER, false);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotSlasher.selector, SLASHER));
        vm.prank(SLASHER);
        registry.slash(miner, 1, RECIPIENT);
    }

    function test_slashingAnUnknownNodeTakesNothing() public {
        vm.startPrank(SLASHER);
        vm.assertEq(registry.slash(client, 1e18, RECIPIENT), 0, "nothing there");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ZeroAddress.selector));
        registry.slash(miner, 1, address(0));
        vm.stopPrank();
    }

    // --- governance ---

    function test_onlyGovernanceSetsParameters() public {
        bytes memory refused = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, client);
        vm.startPrank(client);
        vm.expectRevert(refused);
        registry.setSlasher(client, true);
        vm.expectRevert(refused);
        registry.setMinimumStake(MINER, 0);
        vm.expectRevert(refused);
        registry.setUnbondingDelay(1);
        vm.stopPrank();
    }

    function test_parametersAreBounded() public {
        uint64 tooLong = registry.MAX_UNBONDING_DELAY() + 1;
        vm.startPrank(GOVERNANCE);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnbondingDelayOutOfBounds.selector, 0));
        registry.setUnbondingDelay(0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnbondingDelayOutOfBounds.selector, tooLong));
        registry.setUnbondingDelay(tooLong);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RolesInvalid.selector, Roles.wrap(3)));
        registry.setMinimumStake(Roles.wrap(3), 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.RolesInvalid.selector, Roles.wrap(0)));
        registry.setMinimumStake(Roles.wrap(0), 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.ZeroAddress.selector));
        registry.setSlasher(address(0), true);
        vm.stopPrank();
    }

    // --- enumeration ---

    function testFuzz_pagesCoverEveryNodeOnce(uint256 extra, uint256 size) public {
        extra = bound(extra, 0, 20);
        size = bound(size, 1, 10);
        vm.prank(GOVERNANCE);
        registry.setMinimumStake(MINER, 0);
        for (uint256 i; i < extra; ++i) {
            registerNode(0xF000 + i, MINER, MINER_PAYOUT, 0);
        }
        uint256 count = registry.nodeCount();
        vm.assertEq(count, 2 + extra, "count");
        uint256 seen;
        for (uint256 offset; offset < count; offset += size) {
            INodeRegistry.Node[] memory page = registry.nodes(offset, size);
            for (uint256 i; i < page.length; ++i) {
                vm.assertEq(page[i].operator, registry.nodeAt(seen++), "order");
            }
        }
        vm.assertEq(seen, count, "all");
        vm.assertEq(registry.nodes(count, size).length, 0, "past the end");
    }

    function test_pagesAreBounded() public {
        uint256 most = registry.MAX_PAGE();
        vm.assertEq(registry.nodes(0, most).length, 2, "longest page");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PageTooLong.selector, most + 1));
        registry.nodes(0, most + 1);
    }

    function registryStake(address operator, uint128 amount) private {
        vm.prank(NODE_OWNER);
        registry.addStake(operator, amount);
    }

    function refuse(INodeRegistry.Registration memory entry, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(newcomer);
        registry.register(entry, noConsent());
    }

    function noConsent() private pure returns (INodeRegistry.OperatorConsent memory consent) {}

    function noMinimums() private pure returns (uint128[5] memory minimums) {}
}
