// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Arithmetic of validator sets (docs/spec/settlement.md, section 2)
/// @notice A member is one word: its power, counted down from the largest, above its address. So ascending words are the order of a set:
/// power descending, then address ascending.
library ValidatorSets {
    /// @dev Sum of all powers of every set. Three times it is far from any overflow.
    uint64 internal constant TOTAL = 1_000_000_000;
    /// @dev Most members. While power moves, those that leave and those that come are both in.
    uint256 internal constant MAX_MEMBERS = 200;
    /// @dev What moves from one set to the next stays below a third; rounding moves at most one unit a member.
    uint256 internal constant MOST_MOVED = TOTAL / 3 - MAX_MEMBERS;
    uint256 private constant CAP = TOTAL / 5;

    function pack(address key, uint64 power) internal pure returns (uint256) {
        return (uint256(type(uint64).max - power) << 160) | uint160(key);
    }

    function keyOf(uint256 member) internal pure returns (address) {
        // The low 160 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(member));
    }

    function powerOf(uint256 member) internal pure returns (uint64) {
        // Nothing stands above bit 224.
        // forge-lint: disable-next-line(unsafe-typecast)
        return type(uint64).max - uint64(member >> 160);
    }

    /// @dev What a header commits to.
    function hash(address[] memory keys, uint64[] memory powers) internal pure returns (bytes32) {
        return keccak256(abi.encode(keys, powers));
    }

    function unpack(uint256[] memory members) internal pure returns (address[] memory keys, uint64[] memory powers) {
        keys = new address[](members.length);
        powers = new uint64[](members.length);
        for (uint256 i; i < members.length; ++i) {
            (keys[i], powers[i]) = (keyOf(members[i]), powerOf(members[i]));
        }
    }

    /// @dev The most that one of `count` may have: a fifth, or an equal share where there are fewer than five.
    function capOf(uint256 count) internal pure returns (uint256) {
        return Math.max(CAP, Math.ceilDiv(TOTAL, count));
    }

    /// @dev Powers proportional to weights, none above the cap, of the total exactly. Who weighs nothing has none.
    /// @param weights each below 2^160
    function target(address[] memory keys, uint256[] memory weights) internal pure returns (uint256[] memory members) {
        uint256 count;
        for (uint256 i; i < weights.length; ++i) {
            if (weights[i] != 0) ++count;
        }
        if (count == 0) return members;
        (uint256[] memory powers, uint256 cap) = (_capped(weights, count), capOf(count));
        uint256 rest = TOTAL;
        for (uint256 i; i < powers.length; ++i) {
            rest -= powers[i];
        }
        for (uint256 i; i < powers.length && rest != 0; ++i) {
            if (weights[i] == 0 || powers[i] >= cap) continue;
            ++powers[i];
            --rest;
        }
        return _collect(keys, powers);
    }

    /// @dev From one set towards another, as far as may be moved at once. The total is kept exactly.
    function glide(uint256[] memory from, uint256[] memory to) internal pure returns (uint256[] memory) {
        if (from.length == 0) return to;
        (address[] memory keys, uint256[] memory before, uint256[] memory wanted) = _union(from, to);
        uint256 moved;
        for (uint256 i; i < keys.length; ++i) {
            moved += Math.saturatingSub(wanted[i], before[i]);
        }
        if (moved <= MOST_MOVED) return to;
        uint256 sum;
        uint256 largest;
        for (uint256 i; i < keys.length; ++i) {
            wanted[i] = wanted[i] > before[i]
                ? before[i] + (wanted[i] - before[i]) * MOST_MOVED / moved
                : before[i] - (before[i] - wanted[i]) * MOST_MOVED / moved;
            sum += wanted[i];
            if (wanted[i] > wanted[largest]) largest = i;
        }
        wanted[largest] = wanted[largest] + TOTAL - sum;
        return _collect(keys, wanted);
    }

    /// @dev Shares of the total, rounded down; whoever would be above the cap gets the cap, and the others share what is left.
    function _capped(uint256[] memory weights, uint256 count) private pure returns (uint256[] memory powers) {
        powers = new uint256[](weights.length);
        (uint256 cap, uint256 power, bool again) = (capOf(count), TOTAL, true);
        uint256 weight;
        for (uint256 i; i < weights.length; ++i) {
            weight += weights[i];
        }
        // Each pass but the last caps somebody, and at most five fit under the total.
        while (again) {
            again = false;
            (uint256 powerLeft, uint256 weightLeft) = (power, weight);
            for (uint256 i; i < weights.length; ++i) {
                if (powers[i] == cap || weights[i] == 0 || weights[i] * power <= cap * weight) continue;
                powers[i] = cap;
                powerLeft = Math.saturatingSub(powerLeft, cap);
                weightLeft -= weights[i];
                again = true;
            }
            (power, weight) = (powerLeft, weightLeft);
        }
        for (uint256 i; i < weights.length; ++i) {
            if (powers[i] != cap && weights[i] != 0) powers[i] = weights[i] * power / weight;
        }
    }

    /// @dev Everyone in either set, with its power in both.
    function _union(uint256[] memory from, uint256[] memory to)
        private
        pure
        returns (address[] memory keys, uint256[] memory before, uint256[] memory wanted)
    {
        uint256 length = from.length + to.length;
        (keys, before, wanted) = (new address[](length), new uint256[](length), new uint256[](length));
        for (uint256 i; i < from.length; ++i) {
            (keys[i], before[i]) = (keyOf(from[i]), powerOf(from[i]));
        }
        uint256 count = from.length;
        for (uint256 i; i < to.length; ++i) {
            address key = keyOf(to[i]);
            uint256 place;
            while (place < from.length && keys[place] != key) ++place;
            if (place == from.length) place = count++;
            (keys[place], wanted[place]) = (key, powerOf(to[i]));
        }
    }

    /// @dev Those with power, in the order of a set. Powers are at most the total.
    function _collect(address[] memory keys, uint256[] memory powers) private pure returns (uint256[] memory members) {
        uint256 count;
        for (uint256 i; i < powers.length; ++i) {
            if (powers[i] != 0) ++count;
        }
        members = new uint256[](count);
        count = 0;
        for (uint256 i; i < powers.length; ++i) {
            if (powers[i] == 0) continue;
            // forge-lint: disable-next-line(unsafe-typecast)
            uint256 member = pack(keys[i], uint64(powers[i]));
            uint256 place = count++;
            for (; place > 0 && members[place - 1] > member; --place) {
                members[place] = members[place - 1];
            }
            members[place] = member;
        }
    }
}
