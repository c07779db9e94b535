// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IScores} from "../../src/interfaces/IScores.sol";
import {Rewards} from "../../src/Rewards.sol";
import {IQuality} from "../../src/interfaces/IQuality.sol";
import {IRewards} from "../../src/interfaces/IRewards.sol";
import {ISessions} from "../../src/interfaces/ISessions.sol";
import {MINER} from "../../src/types/Roles.sol";
import {SessionId} from "../../src/types/SessionId.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {vm} from "./Vm.sol";

/// @dev Whatever a test says.
contract SetQuality is IQuality {
    mapping(address miner => uint32) public qualityPpm;

    function set(address miner, uint32 ppm) external {
        qualityPpm[miner] = ppm;
    }
}

/// @dev The world with rewards, two miners with a payout account each, and sessions that pay them.
abstract contract RewardsWorld is AuditWorld {
    address internal constant OTHER_PAYOUT = address(0x0116);
    uint128 internal constant EMISSION = 100e18;
    uint32 internal constant CAP_PPM = 500_000;

    Rewards internal rewards;
    SetQuality internal judge;
    mapping(SessionId id => uint64) private _sequences;
    mapping(SessionId id => uint128) private _totals;
    mapping(SessionId id => mapping(address miner => uint128)) private _amounts;

    function deployRewardsWorld(uint256 guardCount_) internal {
        deployAuditWorld(guardCount_);
        rewards = new Rewards(token, registry, sessions, guards, scores, court, GOVERNANCE, rewardParameters());
        judge = new SetQuality();
        vm.prank(GOVERNANCE);
        sessions.setTreasury(address(rewards));
        registerNode(OTHER_MINER_KEY, MINER, OTHER_PAYOUT, MINER_STAKE);
        token.approve(address(rewards), type(uint256).max);
    }

    function rewardParameters() internal pure returns (IRewards.Parameters memory) {
        return IRewards.Parameters({emission: EMISSION, halvingEpochs: 1000, capPpm: CAP_PPM, guardBps: 2500});
    }

    /// @dev An audit that found nothing.
    function audited(address operator) internal {
        vm.prank(address(audits));
        scores.record(operator, IScores.Weighed(-1, -1), 100, false, false);
    }

    /// @dev A client's session pays a miner so much more.
    function pay(SessionId id, address to, uint128 amount) internal returns (uint128) {
        _amounts[id][to] += amount;
        _totals[id] += amount;
        return sessions.redeem(signVoucher(voucherFor(id, to, _amounts[id][to]), ++_sequences[id], _totals[id]));
    }

    function countFor(address operator, SessionId id) internal returns (uint128 weight) {
        SessionId[] memory ids = new SessionId[](1);
        ids[0] = id;
        vm.prank(operator);
        return rewards.count(ids);
    }
}
