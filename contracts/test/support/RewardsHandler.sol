// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRewards} from "../../src/interfaces/IRewards.sol";
import {SessionId} from "../../src/types/SessionId.sol";
import {RewardsWorld} from "./RewardsWorld.sol";
import {bound, vm} from "./Vm.sol";

/// @dev Two miners, either of which may be the one that pays itself, with the most generous parameters that there can be.
contract RewardsHandler is RewardsWorld {
    address[2] private _miners;
    SessionId[] private _sessions;
    mapping(address miner => uint256) private _gained;
    /// @dev What the protocol kept of the fees paid to a miner.
    mapping(address miner => uint256) private _lost;
    uint32[] private _counted;
    uint256 public claimedInAll;
    mapping(bytes32 what => uint256) public calls;

    constructor() {
        deployRewardsWorld(0);
        _miners = [miner, otherMiner];
        audited(miner);
        audited(otherMiner);
        IRewards.Parameters memory p = rewardParameters();
        (p.capPpm, p.emission) = (rewards.MAX_CAP_PPM(), rewards.MAX_EMISSION());
        vm.startPrank(GOVERNANCE);
        rewards.setParameters(p);
        rewards.setQuality(judge);
        vm.stopPrank();
        rewards.fund(10_000_000e18);
        for (uint256 i; i < 3; ++i) {
            _sessions.push(openSession());
        }
    }

    function pay(uint256 seed, uint128 amount) external {
        SessionId id = _sessions[seed % 3];
        if (block.timestamp > sessions.session(id).expiry) return;
        uint256 before = sessions.balanceOf(address(rewards));
        address to = _miners[(seed >> 8) % 2];
        pay(id, to, uint128(bound(amount, 1e6, 20e18)));
        _lost[to] += sessions.balanceOf(address(rewards)) - before;
        ++calls["pay"];
    }

    function count(uint256 seed) external {
        address to = _miners[seed % 2];
        SessionId[] memory ids = new SessionId[](3);
        for (uint256 i; i < 3; ++i) {
            ids[i] = _sessions[((seed >> 8) + i) % 3];
        }
        vm.prank(to);
        try rewards.count(ids) {
            uint32 epoch = guards.currentEpoch();
            if (_counted.length == 0 || _counted[_counted.length - 1] != epoch) _counted.push(epoch);
            ++calls["count"];
        } catch {
            ++calls["nothing"];
        }
    }

    function claim(uint256 seed, uint256 most) external {
        address to = _miners[seed % 2];
        address payout = registry.payoutOf(to);
        uint256 before = token.balanceOf(payout);
        try rewards.claim(to, bound(most, 1, 128)) returns (uint256 amount) {
            uint256 got = token.balanceOf(payout) - before;
            if (got != amount) ++calls["convicted"];
            _gained[to] += got;
            claimedInAll += amount;
            ++calls["claim"];
        } catch {
            ++calls["nothing"];
        }
    }

    function judged(uint256 seed, uint32 ppm, uint256 convict) external {
        judge.set(_miners[seed % 2], ppm);
        (uint256 owed,) = rewards.claimable(otherMiner, guards.currentEpoch());
        if (owed != 0 && convict % 8 == 0) {
            vm.prank(address(court));
            scores.convict(otherMiner);
        }
        ++calls["judged"];
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 2 hours));
    }

    function held() external view returns (uint256 balance, uint256 booked) {
        return (token.balanceOf(address(rewards)), rewards.pool() + rewards.fees() + rewards.reserved());
    }

    function paidInAll() external view returns (uint256 paid) {
        for (uint256 i; i < _counted.length; ++i) {
            paid += rewards.epochOf(_counted[i]).paid;
        }
    }

    function balanceOf(uint256 index) external view returns (uint256 gained, uint256 lost) {
        return (_gained[_miners[index]], _lost[_miners[index]]);
    }
}
