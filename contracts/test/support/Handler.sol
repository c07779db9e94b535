// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ISessions} from "../../src/interfaces/ISessions.sol";
import {ANY_MODEL} from "../../src/types/ModelId.sol";
import {MINER, ROUTER} from "../../src/types/Roles.sol";
import {SessionId} from "../../src/types/SessionId.sol";
import {bound, vm} from "./Vm.sol";
import {World} from "./World.sol";

/// @dev Drives the world at random: honest and rogue routers, rotating keys, every way to close, stake that comes and goes.
/// It also keeps its own books, which the invariants compare with the chain's. Each action either does something that must
/// succeed or returns; only redeeming may revert, and then only for a reason that the handler can explain.
contract Handler is World {
    uint256 private constant MAX_SESSIONS = 8;
    uint256 private constant MINERS = 3;

    struct Tracked {
        SessionId id;
        uint256 routerIndex;
        uint256 sessionKey;
        uint64 sequence;
        uint128 total;
        uint128 deposited;
        uint128 refunded;
        uint128 fromStake;
    }

    uint256[2] private _routerKeys = [ROUTER_KEY, uint256(0xA002)];
    uint256[MINERS] private _minerKeys = [MINER_KEY, OTHER_MINER_KEY, uint256(0xB003)];
    uint256 private _nextSessionKey = 0xD100;

    Tracked[] private _tracked;
    ISessions.SignedVoucher[] private _vouchers;
    mapping(SessionId id => mapping(address miner => uint128)) public promised;
    uint128[2] public stakedEver;
    uint256 public withdrawnEver;
    mapping(bytes32 action => uint256) public calls;

    constructor() {
        deployWorld();
        vm.prank(GOVERNANCE);
        registry.setUnbondingDelay(GRACE);
        registerNode(0xA002, ROUTER, address(0x0214), ROUTER_STAKE);
        registerNode(OTHER_MINER_KEY, MINER, address(0x0215), MINER_STAKE);
        fund(NODE_OWNER, 1_000_000e18);
        stakedEver = [ROUTER_STAKE, ROUTER_STAKE];
        openAny(0, 1000e18, 1000e18, true);
    }

    // --- clients ---

    function open(uint256 routerSeed, uint128 deposit, uint128 keyLimit, bool withModel) external {
        if (_tracked.length == MAX_SESSIONS) return;
        deposit = uint128(bound(deposit, 1, 5000e18));
        keyLimit = uint128(bound(keyLimit, 1, 2 * uint256(deposit)));
        uint256 routerIndex = routerSeed % 2;
        if (!registry.isActive(routerAt(routerIndex), ROUTER)) return;
        openAny(routerIndex, deposit, keyLimit, withModel);
        calls["open"]++;
    }

    function topUp(uint256 seed, uint128 amount) external {
        Tracked storage t = pick(seed);
        ISessions.Session memory s = sessions.session(t.id);
        if (s.status != ISessions.Status.Open || block.timestamp > s.expiry) return;
        amount = uint128(bound(amount, 1, 1000e18));
        vm.prank(client);
        sessions.topUp(t.id, amount);
        t.deposited += amount;
        calls["topUp"]++;
    }

    function replaceKey(uint256 seed, uint128 limit) external {
        Tracked storage t = pick(seed);
        if (sessions.session(t.id).status != ISessions.Status.Open) return;
        t.sessionKey = _nextSessionKey++;
        vm.prank(client);
        sessions.replaceKey(t.id, vm.addr(t.sessionKey), uint128(bound(limit, 1, 5000e18)));
        calls["replaceKey"]++;
    }

    function requestClose(uint256 seed) external {
        Tracked storage t = pick(seed);
        if (seed % 4 != 0 || sessions.session(t.id).status != ISessions.Status.Open) return;
        vm.prank(client);
        sessions.requestClose(t.id);
        calls["requestClose"]++;
    }

    /// @dev Half the time with the honest total, half with whatever the contract would accept.
    function closeWithRouter(uint256 seed, uint128 total, bool honest) external {
        Tracked storage t = pick(seed);
        ISessions.Session memory s = sessions.session(t.id);
        if (seed % 4 != 0) return;
        if (s.status != ISessions.Status.Open && s.status != ISessions.Status.Closing) return;
        total = honest ? t.total : uint128(bound(total, s.spent, s.deposit));
        if (total < s.spent || total > s.deposit) return;
        bytes memory signature = signClose(t.id, t.sequence, total, _routerKeys[t.routerIndex]);
        uint256 before = token.balanceOf(client);
        vm.prank(client);
        sessions.closeWithRouter(t.id, t.sequence, total, signature);
        t.refunded += uint128(token.balanceOf(client) - before);
        calls["closeWithRouter"]++;
    }

    function finalize(uint256 seed) external {
        Tracked storage t = pick(seed);
        if (sessions.session(t.id).status == ISessions.Status.Closed) return;
        if (block.timestamp <= sessions.graceEnd(t.id)) return;
        uint256 before = token.balanceOf(client);
        sessions.finalize(t.id);
        t.refunded += uint128(token.balanceOf(client) - before);
        calls["finalize"]++;
    }

    // --- vouchers ---

    /// @dev A voucher that an honest router would countersign: within what the deposit still covers.
    function pay(uint256 seed, uint256 minerSeed, uint128 amount) external {
        Tracked storage t = pick(seed);
        ISessions.Session memory s = sessions.session(t.id);
        if (s.status != ISessions.Status.Open || t.total >= s.deposit) return;
        issue(t, minerSeed, uint128(bound(amount, 1, s.deposit - t.total)));
        calls["pay"]++;
    }

    /// @dev A voucher that no honest router would countersign.
    function overspend(uint256 seed, uint256 minerSeed, uint128 amount) external {
        issue(pick(seed), minerSeed, uint128(bound(amount, 1, 20_000e18)));
        calls["overspend"]++;
    }

    function redeem(uint256 seed) external {
        if (_vouchers.length == 0) return;
        ISessions.SignedVoucher memory signed = _vouchers[seed % _vouchers.length];
        Tracked storage t = trackedOf(signed.voucher.session);
        address routerAddress = routerAt(t.routerIndex);
        uint128 stakeBefore = registry.slashable(routerAddress);
        uint256 treasuryBefore = sessions.balanceOf(TREASURY);
        uint128 spentBefore = sessions.session(t.id).spent;
        try sessions.redeem(signed) returns (uint128 paid) {
            uint128 fromDeposit = sessions.session(t.id).spent - spentBefore;
            t.fromStake += paid - fromDeposit;
            vm.assertLe(paid - fromDeposit, stakeBefore - registry.slashable(routerAddress), "stake paid for it");
            vm.assertLe(treasuryBefore, sessions.balanceOf(TREASURY), "treasury only grows here");
            calls[paid == 0 ? bytes32("redeemNothing") : bytes32("redeem")]++;
        } catch (bytes memory reason) {
            explain(t.id, signed, bytes4(reason));
        }
    }

    function redeemBatch(uint256 seed) external {
        uint256 size = _vouchers.length < 4 ? _vouchers.length : 4;
        ISessions.SignedVoucher[] memory batch = new ISessions.SignedVoucher[](size);
        for (uint256 i; i < size; ++i) {
            batch[i] = _vouchers[(seed % _vouchers.length + i) % _vouchers.length];
        }
        uint128[] memory spent = spentOfAll();
        uint128[] memory settled = redeemedOfAll();
        try sessions.redeemBatch(batch) {
            uint128[] memory settledAfter = redeemedOfAll();
            for (uint256 i; i < _tracked.length; ++i) {
                uint128 fromDeposit = sessions.session(_tracked[i].id).spent - spent[i];
                _tracked[i].fromStake += settledAfter[i] - settled[i] - fromDeposit;
            }
            calls["redeemBatch"]++;
        } catch {
            calls["redeemBatchRefused"]++;
        }
    }

    function withdraw(uint256 seed) external {
        address[] memory accounts = everyone();
        address account = accounts[seed % accounts.length];
        if (sessions.balanceOf(account) == 0) return;
        withdrawnEver += sessions.withdraw(account);
        calls["withdraw"]++;
    }

    // --- routers ---

    function equivocate(uint256 seed, uint128 a, uint128 b) external {
        Tracked storage t = pick(seed);
        if (seed % 4 != 0 || a == b || sessions.equivocationProven(t.id)) return;
        if (registry.slashable(routerAt(t.routerIndex)) < 10_000) return;
        uint256 key = _routerKeys[t.routerIndex];
        sessions.proveEquivocation(
            signCountersignature(ISessions.Countersignature("a", t.id, 1, a), key),
            signCountersignature(ISessions.Countersignature("a", t.id, 1, b), key)
        );
        calls["equivocate"]++;
    }

    function addStake(uint256 seed, uint128 amount) external {
        amount = uint128(bound(amount, 1, 5000e18));
        vm.prank(NODE_OWNER);
        registry.addStake(routerAt(seed % 2), amount);
        stakedEver[seed % 2] += amount;
        calls["addStake"]++;
    }

    function requestUnstake(uint256 seed, uint128 amount) external {
        address operator = routerAt(seed % 2);
        INodeRegistry.Node memory n = registry.node(operator);
        uint128 stake = n.stake;
        // Asking again restarts the delay; done often, nothing would ever be released.
        if (stake == 0 || (n.unbonding != 0 && seed % 8 > 1)) return;
        vm.prank(NODE_OWNER);
        registry.requestUnstake(operator, uint128(bound(amount, 1, stake)));
        calls["requestUnstake"]++;
    }

    function settleUnstake(uint256 seed, bool cancel) external {
        address operator = routerAt(seed % 2);
        INodeRegistry.Node memory n = registry.node(operator);
        if (n.unbonding == 0) return;
        if (cancel && seed % 8 < 2) {
            vm.prank(NODE_OWNER);
            registry.cancelUnstake(operator);
            calls["cancelUnstake"]++;
        } else if (block.timestamp >= n.unbondingReleaseAt) {
            registry.withdrawUnstaked(operator);
            calls["withdrawUnstaked"]++;
        }
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 2 days));
        calls["pass"]++;
    }

    // --- what the invariants read ---

    function held() external view returns (uint256 inSessions, uint256 inRegistry) {
        return (token.balanceOf(address(sessions)), token.balanceOf(address(registry)));
    }

    function owedBySessions() external view returns (uint256 owed) {
        for (uint256 i; i < _tracked.length; ++i) {
            owed += unspent(_tracked[i].id);
        }
        address[] memory accounts = everyone();
        for (uint256 i; i < accounts.length; ++i) {
            owed += sessions.balanceOf(accounts[i]);
        }
    }

    function owedByRegistry() external view returns (uint256 owed) {
        INodeRegistry.Node[] memory page = registry.nodes(0, 100);
        for (uint256 i; i < page.length; ++i) {
            owed += uint256(page[i].stake) + page[i].unbonding;
        }
    }

    function tracked() external view returns (Tracked[] memory) {
        return _tracked;
    }

    function sessionOf(SessionId id) external view returns (ISessions.Session memory) {
        return sessions.session(id);
    }

    function redeemedOf(SessionId id) public view returns (uint128 amount) {
        for (uint256 i; i < MINERS; ++i) {
            amount += sessions.redeemed(id, vm.addr(_minerKeys[i])).amount;
        }
    }

    function redeemedBeyondPromise(SessionId id) external view returns (bool) {
        for (uint256 i; i < MINERS; ++i) {
            address to = vm.addr(_minerKeys[i]);
            if (sessions.redeemed(id, to).amount > promised[id][to]) return true;
        }
        return false;
    }

    function supplyInKnownHands() external view returns (uint256 inHands, uint256 supply) {
        address[] memory accounts = everyone();
        for (uint256 i; i < accounts.length; ++i) {
            inHands += token.balanceOf(accounts[i]);
        }
        inHands += token.balanceOf(address(sessions)) + token.balanceOf(address(registry));
        return (inHands, token.totalSupply());
    }

    // --- inner workings ---

    function openAny(uint256 routerIndex, uint128 deposit, uint128 keyLimit, bool withModel) private {
        uint256 key = _nextSessionKey++;
        ISessions.OpenParams memory params = openParams();
        params.deposit = deposit;
        params.sessionKey = vm.addr(key);
        params.keyLimit = keyLimit;
        params.router = routerAt(routerIndex);
        params.expiry = uint64(block.timestamp + 10 days);
        if (!withModel) params.model = ANY_MODEL;
        vm.prank(client);
        SessionId id = sessions.open(params);
        _tracked.push(Tracked(id, routerIndex, key, 0, 0, deposit, 0, 0));
    }

    function issue(Tracked storage t, uint256 minerSeed, uint128 amount) private {
        address to = vm.addr(_minerKeys[minerSeed % MINERS]);
        promised[t.id][to] += amount;
        t.total += amount;
        t.sequence += 1;
        ISessions.Voucher memory v = voucherFor(t.id, to, promised[t.id][to]);
        _vouchers.push(signVoucherWith(v, t.sequence, t.total, t.sessionKey, _routerKeys[t.routerIndex]));
    }

    /// @dev Fails on any refusal that the state of the session does not call for.
    function explain(SessionId id, ISessions.SignedVoucher memory signed, bytes4 reason) private {
        bool closed = sessions.session(id).status == ISessions.Status.Closed;
        if (closed) {
            vm.assertTrue(reason == ISessions.SessionClosed.selector, "closed");
        } else if (block.timestamp > sessions.graceEnd(id)) {
            vm.assertTrue(reason == ISessions.GraceEnded.selector, "grace ended");
        } else {
            vm.assertTrue(reason == ISessions.KeyRevoked.selector, "only a revoked key is left");
            vm.assertTrue(signed.voucher.cumulativeAmount != 0, "a voucher");
        }
        calls["redeemRefused"]++;
    }

    function spentOfAll() private view returns (uint128[] memory spent) {
        spent = new uint128[](_tracked.length);
        for (uint256 i; i < spent.length; ++i) {
            spent[i] = sessions.session(_tracked[i].id).spent;
        }
    }

    function redeemedOfAll() private view returns (uint128[] memory amounts) {
        amounts = new uint128[](_tracked.length);
        for (uint256 i; i < amounts.length; ++i) {
            amounts[i] = redeemedOf(_tracked[i].id);
        }
    }

    function pick(uint256 seed) private view returns (Tracked storage) {
        return _tracked[seed % _tracked.length];
    }

    function trackedOf(SessionId id) private view returns (Tracked storage) {
        for (uint256 i; i < _tracked.length; ++i) {
            if (SessionId.unwrap(_tracked[i].id) == SessionId.unwrap(id)) return _tracked[i];
        }
        revert("unknown session");
    }

    function routerAt(uint256 index) private view returns (address) {
        return vm.addr(_routerKeys[index]);
    }

    /// @dev Every account that can own a token in this world, this contract (reporter and mint) included.
    function everyone() private view returns (address[] memory accounts) {
        accounts = new address[](13);
        (accounts[0], accounts[1], accounts[2]) = (address(this), client, NODE_OWNER);
        (accounts[3], accounts[4], accounts[5]) = (ROUTER_PAYOUT, MINER_PAYOUT, PUBLISHER);
        (accounts[6], accounts[7], accounts[8]) = (TREASURY, address(0x0214), address(0x0215));
        (accounts[9], accounts[10]) = (router, vm.addr(_routerKeys[1]));
        (accounts[11], accounts[12]) = (miner, vm.addr(_minerKeys[2]));
    }
}
