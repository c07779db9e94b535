// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Sessions} from "../src/Sessions.sol";
import {IModelRegistry} from "../src/interfaces/IModelRegistry.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {ANY_MODEL, ModelId} from "../src/types/ModelId.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

/// @dev Opening, topping up, keys and governance.
contract SessionsOpenTest is World {
    function setUp() public {
        deployWorld();
    }

    // --- opening ---

    function test_openKeepsEverything() public {
        SessionId id = openSession();
        ISessions.OpenParams memory params = openParams();
        ISessions.Session memory s = sessions.session(id);
        vm.assertEq(s.owner, client, "owner");
        vm.assertEq(uint8(s.status), uint8(ISessions.Status.Open), "status");
        vm.assertEq(s.deposit, DEPOSIT, "deposit");
        vm.assertEq(s.spent, 0, "spent");
        vm.assertEq(s.sessionKey, params.sessionKey, "key");
        vm.assertEq(s.keyLimit, DEPOSIT, "limit");
        vm.assertEq(s.keySpent, 0, "key spent");
        vm.assertEq(s.router, router, "router");
        vm.assertEq(ModelId.unwrap(s.model), ModelId.unwrap(MODEL), "model");
        vm.assertEq(s.maxInputPrice, INPUT_PRICE, "input price");
        vm.assertEq(s.maxOutputPrice, OUTPUT_PRICE, "output price");
        vm.assertEq(s.minTier, 1, "tier");
        vm.assertEq(s.expiry, params.expiry, "expiry");
        vm.assertEq(s.finalSequence, 0, "final sequence");
        vm.assertEq(s.terms.grace, GRACE, "grace");
        vm.assertEq(s.terms.routerBps, 1000, "router share");
        vm.assertEq(s.terms.protocolBps, 200, "protocol share");
        vm.assertEq(s.terms.royaltyBps, ROYALTY, "royalty");
        vm.assertEq(sessions.graceEnd(id), params.expiry + GRACE, "grace end");
        vm.assertEq(token.balanceOf(address(sessions)), DEPOSIT, "custody");
    }

    function test_openEmitsEverything() public {
        ISessions.OpenParams memory params = openParams();
        ISessions.Terms memory terms = ISessions.Terms(GRACE, 1000, 200, ROYALTY);
        vm.expectEmit(true, true, true, true, address(sessions));
        emit ISessions.SessionOpened(sessions.nextSessionId(client), client, router, params, terms);
        vm.prank(client);
        sessions.open(params);
    }

    function test_idsAreAsDocumentedAndNeverRepeat() public {
        for (uint256 nonce; nonce < 3; ++nonce) {
            bytes32 expected = keccak256(abi.encode(block.chainid, address(sessions), client, nonce));
            vm.assertEq(SessionId.unwrap(sessions.nextSessionId(client)), expected, "announced");
            vm.assertEq(SessionId.unwrap(openSession()), expected, "opened");
        }
        vm.assertEq(sessions.ownerNonce(client), 3, "nonce");
    }

    function test_openWithPermitNeedsNoApproval() public {
        vm.prank(client);
        token.approve(address(sessions), 0);
        ISessions.OpenParams memory params = openParams();
        ISessions.Permit memory permit = signPermit(params.deposit);
        vm.prank(client);
        SessionId id = sessions.openWithPermit(params, permit);
        vm.assertEq(sessions.session(id).deposit, DEPOSIT, "opened");
        vm.assertEq(token.allowance(client, address(sessions)), 0, "no allowance left");
    }

    function test_openWithPermitSurvivesAFrontRunPermit() public {
        vm.prank(client);
        token.approve(address(sessions), 0);
        ISessions.OpenParams memory params = openParams();
        ISessions.Permit memory p = signPermit(params.deposit);
        token.permit(client, address(sessions), params.deposit, p.deadline, p.v, p.r, p.s);
        vm.prank(client);
        SessionId id = sessions.openWithPermit(params, p);
        vm.assertEq(sessions.session(id).deposit, DEPOSIT, "opened all the same");
    }

    function test_openWithABadPermitMovesNothing() public {
        vm.prank(client);
        token.approve(address(sessions), 0);
        ISessions.OpenParams memory params = openParams();
        ISessions.Permit memory permit = signPermit(params.deposit - 1);
        vm.expectRevert();
        vm.prank(client);
        sessions.openWithPermit(params, permit);
        vm.assertEq(token.balanceOf(address(sessions)), 0, "nothing moved");
    }

    function test_openRefusesWhatIsMalformed() public {
        ISessions.OpenParams memory params = openParams();
        params.deposit = 0;
        refuse(params, abi.encodeWithSelector(ISessions.ZeroAmount.selector));

        params = openParams();
        params.keyLimit = 0;
        refuse(params, abi.encodeWithSelector(ISessions.ZeroAmount.selector));

        params = openParams();
        params.sessionKey = address(0);
        refuse(params, abi.encodeWithSelector(ISessions.ZeroAddress.selector));

        params = openParams();
        params.expiry = uint64(block.timestamp);
        refuse(params, abi.encodeWithSelector(ISessions.ExpiryOutOfBounds.selector, params.expiry));

        params = openParams();
        params.expiry = uint64(block.timestamp) + sessions.MAX_DURATION() + 1;
        refuse(params, abi.encodeWithSelector(ISessions.ExpiryOutOfBounds.selector, params.expiry));

        params = openParams();
        params.router = miner;
        refuse(params, abi.encodeWithSelector(ISessions.RouterInactive.selector, miner));

        params = openParams();
        params.deposit = uint128(type(uint96).max) + 1;
        refuse(params, abi.encodeWithSelector(ISessions.ValueTooLarge.selector, params.deposit));

        params = openParams();
        params.model = ModelId.wrap(bytes32(uint256(1)));
        refuse(params, abi.encodeWithSelector(IModelRegistry.ModelUnknown.selector, params.model));
    }

    function test_openRefusesARouterThatIsLeaving() public {
        vm.prank(NODE_OWNER);
        registry.requestUnstake(router, ROUTER_STAKE / 2 + 1);
        refuse(openParams(), abi.encodeWithSelector(ISessions.RouterInactive.selector, router));
    }

    function test_openRefusesARetiredModel() public {
        vm.prank(PUBLISHER);
        models.setRetired(MODEL, true);
        refuse(openParams(), abi.encodeWithSelector(ISessions.ModelRetired.selector, MODEL));
    }

    function test_openKeepsWithinTheModelsPrices() public {
        vm.prank(PUBLISHER);
        models.setTerms(MODEL, ROYALTY, IModelRegistry.PriceBounds(INPUT_PRICE + 1, NO_BOUND, 0, NO_BOUND));
        refuse(
            openParams(), abi.encodeWithSelector(ISessions.PriceBelowModelMinimum.selector, INPUT_PRICE + 1, uint128(0))
        );
        vm.prank(PUBLISHER);
        models.setTerms(MODEL, ROYALTY, IModelRegistry.PriceBounds(0, NO_BOUND, OUTPUT_PRICE + 1, NO_BOUND));
        refuse(
            openParams(),
            abi.encodeWithSelector(ISessions.PriceBelowModelMinimum.selector, uint128(0), OUTPUT_PRICE + 1)
        );
        vm.prank(PUBLISHER);
        models.setTerms(MODEL, ROYALTY, IModelRegistry.PriceBounds(0, INPUT_PRICE - 1, 0, OUTPUT_PRICE - 2));
        ISessions.Session memory s = sessions.session(openSession());
        vm.assertEq(s.maxInputPrice, INPUT_PRICE - 1, "lowered input");
        vm.assertEq(s.maxOutputPrice, OUTPUT_PRICE - 2, "lowered output");
        vm.prank(PUBLISHER);
        models.setTerms(MODEL, ROYALTY, IModelRegistry.PriceBounds(0, NO_BOUND, 0, OUTPUT_PRICE - 3));
        s = sessions.session(openSession());
        vm.assertEq(s.maxInputPrice, INPUT_PRICE, "each on its own");
        vm.assertEq(s.maxOutputPrice, OUTPUT_PRICE - 3, "lowered output alone");
    }

    function test_openForAnyModelPaysNoRoyalty() public {
        ISessions.OpenParams memory params = openParams();
        params.model = ANY_MODEL;
        vm.prank(client);
        ISessions.Session memory s = sessions.session(sessions.open(params));
        vm.assertEq(s.terms.royaltyBps, 0, "royalty");
        vm.assertEq(ModelId.unwrap(s.model), 0, "model");
    }

    function test_unboundedPricesAndLimitsAreClamped() public {
        ISessions.OpenParams memory params = openParams();
        params.keyLimit = NO_BOUND;
        params.maxInputPrice = NO_BOUND;
        params.maxOutputPrice = NO_BOUND;
        vm.prank(client);
        ISessions.Session memory s = sessions.session(sessions.open(params));
        vm.assertEq(s.keyLimit, type(uint96).max, "limit");
        vm.assertEq(s.maxInputPrice, type(uint96).max, "input");
        vm.assertEq(s.maxOutputPrice, type(uint96).max, "output");
    }

    function test_openTermsOutliveGovernanceAndPublisher() public {
        SessionId id = openSession();
        ISessions.Parameters memory next = defaultParameters();
        next.routerBps = 3000;
        next.protocolBps = 1000;
        next.grace = 1;
        vm.prank(GOVERNANCE);
        sessions.setParameters(next);
        vm.prank(PUBLISHER);
        models.setTerms(MODEL, 2000, IModelRegistry.PriceBounds(0, 1, 0, 1));
        ISessions.Session memory s = sessions.session(id);
        vm.assertEq(s.terms.grace, GRACE, "grace");
        vm.assertEq(s.terms.routerBps, 1000, "router share");
        vm.assertEq(s.terms.protocolBps, 200, "protocol share");
        vm.assertEq(s.terms.royaltyBps, ROYALTY, "royalty");
        vm.assertEq(s.maxOutputPrice, OUTPUT_PRICE, "price");
    }

    // --- topping up ---

    function testFuzz_topUpAddsToTheDeposit(uint128 amount) public {
        amount = uint128(bound(amount, 1, DEPOSIT));
        SessionId id = openSession();
        fund(otherMiner, amount);
        vm.prank(otherMiner);
        sessions.topUp(id, amount);
        vm.assertEq(sessions.session(id).deposit, uint256(DEPOSIT) + amount, "deposit");
        vm.assertEq(token.balanceOf(address(sessions)), uint256(DEPOSIT) + amount, "custody");
    }

    function test_topUpNeedsAnOpenSession() public {
        SessionId id = openSession();
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(ISessions.ZeroAmount.selector));
        sessions.topUp(id, 0);
        SessionId unknown = SessionId.wrap(bytes32(uint256(1)));
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionUnknown.selector, unknown));
        sessions.topUp(unknown, 1);
        sessions.requestClose(id);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionNotOpen.selector, id, ISessions.Status.Closing));
        sessions.topUp(id, 1);
        SessionId expired = sessions.open(openParams());
        vm.warp(sessions.session(expired).expiry + 1);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionNotOpen.selector, expired, ISessions.Status.Open));
        sessions.topUp(expired, 1);
        vm.stopPrank();
    }

    // --- keys ---

    function test_replaceKeyRetiresTheOldOne() public {
        SessionId id = openSession();
        address next = vm.addr(0xD002);
        vm.prank(client);
        sessions.replaceKey(id, next, 7e18);
        ISessions.Session memory s = sessions.session(id);
        vm.assertEq(s.sessionKey, next, "key");
        vm.assertEq(s.keyLimit, 7e18, "limit");
        ISessions.RetiredKey memory old = sessions.retiredKey(id, vm.addr(SESSION_KEY));
        vm.assertEq(old.limit, DEPOSIT, "old limit");
        vm.assertEq(old.validUntil, block.timestamp + GRACE, "old valid until");
    }

    function test_aKeyNeverReturns() public {
        SessionId id = openSession();
        address first = vm.addr(SESSION_KEY);
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(ISessions.KeyAlreadyUsed.selector, id, first));
        sessions.replaceKey(id, first, 1);
        sessions.replaceKey(id, address(0), 0);
        vm.assertEq(sessions.session(id).sessionKey, address(0), "revoked");
        vm.expectRevert(abi.encodeWithSelector(ISessions.KeyAlreadyUsed.selector, id, first));
        sessions.replaceKey(id, first, 1);
        sessions.replaceKey(id, vm.addr(0xD002), 1);
        vm.stopPrank();
        vm.assertEq(sessions.retiredKey(id, address(0)).validUntil, 0, "no key is not a retired key");
    }

    function test_replaceKeyRefusals() public {
        SessionId id = openSession();
        vm.expectRevert(abi.encodeWithSelector(ISessions.NotSessionOwner.selector, id, miner));
        vm.prank(miner);
        sessions.replaceKey(id, miner, 1);
        vm.startPrank(client);
        vm.expectRevert(abi.encodeWithSelector(ISessions.ZeroAmount.selector));
        sessions.replaceKey(id, miner, 0);
        sessions.requestClose(id);
        vm.expectRevert(abi.encodeWithSelector(ISessions.SessionNotOpen.selector, id, ISessions.Status.Closing));
        sessions.replaceKey(id, miner, 1);
        vm.stopPrank();
    }

    // --- governance ---

    function test_onlyGovernanceSetsParameters() public {
        bytes memory refused = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, client);
        vm.startPrank(client);
        vm.expectRevert(refused);
        sessions.setParameters(defaultParameters());
        vm.expectRevert(refused);
        sessions.setTreasury(client);
        vm.stopPrank();
        vm.startPrank(GOVERNANCE);
        sessions.setTreasury(client);
        vm.expectRevert(abi.encodeWithSelector(ISessions.ZeroAddress.selector));
        sessions.setTreasury(address(0));
        vm.stopPrank();
        vm.assertEq(sessions.treasury(), client, "treasury");
    }

    function test_parametersAreBounded() public {
        ISessions.Parameters memory p = defaultParameters();
        p.routerBps = 3001;
        refuseParameters(p);
        p = defaultParameters();
        p.protocolBps = 1001;
        refuseParameters(p);
        p = defaultParameters();
        p.equivocationSlashBps = 10_001;
        refuseParameters(p);
        p = defaultParameters();
        p.reporterBps = 5001;
        refuseParameters(p);
        p = defaultParameters();
        p.overdraftPenaltyBps = 10_001;
        refuseParameters(p);
        p = defaultParameters();
        p.grace = 0;
        refuseParameters(p);
        p = defaultParameters();
        p.grace = uint32(UNBONDING) + 1;
        refuseParameters(p);
        p.grace = uint32(UNBONDING);
        vm.prank(GOVERNANCE);
        sessions.setParameters(p);
        vm.assertEq(sessions.parameters().grace, UNBONDING, "as long as unbonding, no longer");
    }

    /// @dev The caps leave the miner a share in every combination.
    function test_capsLeaveTheMinerAShare() public view {
        uint256 most = uint256(sessions.MAX_ROUTER_BPS()) + sessions.MAX_PROTOCOL_BPS() + models.MAX_ROYALTY_BPS();
        vm.assertLe(most, 6000, "at least 40 % for the miner");
    }

    function test_constructionRefusesZeroAddresses() public {
        ISessions.Parameters memory p = defaultParameters();
        bytes memory zero = abi.encodeWithSelector(ISessions.ZeroAddress.selector);
        vm.expectRevert(zero);
        new Sessions(IERC20(address(0)), registry, models, GOVERNANCE, TREASURY, p);
        vm.expectRevert(zero);
        new Sessions(token, INodeRegistry(address(0)), models, GOVERNANCE, TREASURY, p);
        vm.expectRevert(zero);
        new Sessions(token, registry, IModelRegistry(address(0)), GOVERNANCE, TREASURY, p);
        vm.expectRevert(zero);
        new Sessions(token, registry, models, GOVERNANCE, address(0), p);
    }

    function refuse(ISessions.OpenParams memory params, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(client);
        sessions.open(params);
    }

    function refuseParameters(ISessions.Parameters memory p) private {
        vm.expectRevert(abi.encodeWithSelector(ISessions.ParametersOutOfBounds.selector));
        vm.prank(GOVERNANCE);
        sessions.setParameters(p);
    }

    function signPermit(uint256 value) private view returns (ISessions.Permit memory permit) {
        permit.deadline = block.timestamp + 1 hours;
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                client,
                address(sessions),
                value,
                token.nonces(client),
                permit.deadline
            )
        );
        (permit.v, permit.r, permit.s) =
            vm.sign(CLIENT_KEY, typedDigest("Cortensor", address(token), block.chainid, structHash));
    }
}
