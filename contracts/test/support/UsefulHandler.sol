// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IUsefulness} from "../../src/interfaces/IUsefulness.sol";
import {ModelId} from "../../src/types/ModelId.sol";
import {UsefulWorld} from "./UsefulWorld.sol";
import {bound, vm} from "./Vm.sol";

/// @dev Drives judges and a trap setter at random and keeps its own books. An action that is not due returns early.
contract UsefulHandler is UsefulWorld {
    uint256 private constant JUDGES = 7;
    uint256 private constant MAX_ITEMS = 24;

    bytes32[] private _items;
    mapping(bytes32 item => mapping(address judge => uint32)) private _scores;
    mapping(address judge => uint256) public withdrawn;
    mapping(bytes32 what => uint256) public calls;
    uint256 public funded = 1000e18;
    uint256 public settled;
    int256 public expectedQuality = 1_000_000;
    uint128 public stakesAtStart;

    constructor() {
        deployUsefulWorld(JUDGES);
        token.approve(address(usefulness), type(uint256).max);
        vm.prank(GOVERNANCE);
        court.setTrapSetter(address(this), true);
        stakesAtStart = stakes();
    }

    // --- actions ---

    function openItem(bool planted) external {
        if (_items.length == MAX_ITEMS) return;
        bytes32 item = usefulItem(_items.length);
        if (planted) {
            bytes32[] memory commitments = new bytes32[](1);
            commitments[0] = keccak256(abi.encode(address(this), item, uint32(0), uint32(600_000), SALT));
            usefulness.plant(commitments);
            vm.warp(block.timestamp + 1);
            ++calls["plant"];
        }
        try usefulness.open(item) {
            _items.push(item);
            ++calls["open"];
        } catch (bytes memory reason) {
            if (bytes4(reason) != IUsefulness.NoJudges.selector) revert("opening");
            ++calls["noJudges"];
        }
    }

    function commitSome(uint256 seed) external {
        (bytes32 item, bool any) = pick(seed);
        if (!any) return;
        address[] memory judges = judgesOf(item);
        for (uint256 i; i < judges.length; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i)));
            if (r % 6 == 0) continue;
            uint32 score = uint32((r >> 8) % 1_500_001);
            vm.prank(judges[i]);
            try usefulness.commitScore(item, scoreCommitment(judges[i], item, score)) {
                _scores[item][judges[i]] = score;
                ++calls["commit"];
            } catch {
                ++calls["commitRefused"];
            }
        }
    }

    function revealSome(uint256 seed) external {
        (bytes32 item, bool any) = pick(seed);
        if (!any) return;
        address[] memory judges = judgesOf(item);
        for (uint256 i; i < judges.length; ++i) {
            if (uint256(keccak256(abi.encode(seed, i))) % 6 == 0) continue;
            uint32 score = _scores[item][judges[i]];
            vm.prank(judges[i]);
            try usefulness.revealScore(item, score, TRACE, SALT) {
                ++calls["reveal"];
            } catch {
                ++calls["revealRefused"];
            }
        }
    }

    function settle(uint256 seed) external {
        (bytes32 item, bool any) = pick(seed);
        if (!any) return;
        try usefulness.settle(item) {
            IUsefulness.Judgement memory state = usefulness.judgement(item);
            if (state.status == IUsefulness.Status.Settled) {
                ++calls["settled"];
                ++settled;
                expectedQuality += (int256(uint256(state.score)) - expectedQuality)
                    * int256(uint256(usefulnessParameters().weightPpm)) / 1_000_000;
                if (expectedQuality < 250_000) expectedQuality = 250_000;
            } else {
                ++calls["void"];
            }
        } catch {
            ++calls["settleRefused"];
        }
    }

    function show(uint256 seed) external {
        (bytes32 item, bool any) = pick(seed);
        if (!any) return;
        try usefulness.showKnown(item, 0, 600_000, SALT) {
            ++calls["known"];
        } catch {
            ++calls["knownRefused"];
        }
    }

    function declare(uint256 seed) external {
        address judge = vm.addr(GUARD_KEYS + seed % JUDGES);
        ModelId model = seed % 5 == 0 ? ModelId.wrap(0) : modelNumber((seed >> 8) % JUDGES);
        vm.prank(judge);
        usefulness.declareModel(model);
        ++calls["declare"];
    }

    function fundPool(uint128 amount) external {
        amount = uint128(bound(amount, 1, 5e18));
        usefulness.fund(amount);
        funded += amount;
        ++calls["fund"];
    }

    function withdraw(uint256 seed) external {
        address judge = vm.addr(GUARD_KEYS + seed % JUDGES);
        uint256 owed = usefulness.balanceOf(judge);
        if (owed == 0) return;
        usefulness.withdraw(judge);
        withdrawn[judge] += owed;
        ++calls["withdraw"];
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 90 minutes));
    }

    // --- books ---

    function held() external view returns (uint256 balance, uint256 owed, uint256 paidOut) {
        owed = usefulness.pool();
        for (uint256 i; i < JUDGES; ++i) {
            address judge = vm.addr(GUARD_KEYS + i);
            owed += usefulness.balanceOf(judge);
            paidOut += withdrawn[judge];
        }
        balance = token.balanceOf(address(usefulness));
    }

    function quality() external view returns (uint32 ppm, uint32 judgements) {
        return (usefulness.qualityPpm(miner), usefulness.recordOf(miner).judgements);
    }

    function isTrustBounded() external view returns (bool) {
        for (uint256 i; i < JUDGES; ++i) {
            uint32 trust = usefulness.trustOf(vm.addr(GUARD_KEYS + i));
            if (trust < 50_000 || trust > 1_000_000) return false;
        }
        return true;
    }

    /// @dev Whether some judge was ever credited more than its pay for each score that it revealed.
    function paidBeyondServices() external view returns (bool) {
        for (uint256 g; g < JUDGES; ++g) {
            address judge = vm.addr(GUARD_KEYS + g);
            if (usefulness.balanceOf(judge) + withdrawn[judge] > JUDGE_PAY * services(judge)) return true;
        }
        return false;
    }

    function stakes() public view returns (uint128 sum) {
        sum = registry.slashable(miner);
        for (uint256 i; i < JUDGES; ++i) {
            sum += registry.slashable(vm.addr(GUARD_KEYS + i));
        }
    }

    function services(address judge) private view returns (uint256 count) {
        for (uint256 i; i < _items.length; ++i) {
            IUsefulness.Status status = usefulness.judgement(_items[i]).status;
            if (status != IUsefulness.Status.Settled && status != IUsefulness.Status.Planted) continue;
            IUsefulness.Seat[] memory all = usefulness.seats(_items[i]);
            for (uint256 k; k < all.length; ++k) {
                if (all[k].judge == judge && all[k].state == IUsefulness.SeatState.Revealed) ++count;
            }
        }
    }

    /// @dev Mostly the newest, since old ones are over.
    function pick(uint256 seed) private view returns (bytes32 item, bool any) {
        uint256 count = _items.length;
        if (count == 0) return (bytes32(0), false);
        uint256 back = (seed >> 128) % 3;
        return (_items[back < count ? count - 1 - back : count - 1], true);
    }
}
