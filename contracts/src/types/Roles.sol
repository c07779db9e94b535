// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice A set of node roles, one bit a role.
type Roles is uint32;

using {contains, isEmpty, isKnown} for Roles global;

Roles constant ROUTER = Roles.wrap(1);
Roles constant MINER = Roles.wrap(2);
Roles constant GUARD = Roles.wrap(4);
Roles constant VALIDATOR = Roles.wrap(8);
Roles constant STORAGE = Roles.wrap(16);

/// @dev Roles are the bits 0 to ROLE_COUNT - 1.
uint256 constant ROLE_COUNT = 5;

function contains(Roles set, Roles subset) pure returns (bool) {
    return Roles.unwrap(set) & Roles.unwrap(subset) == Roles.unwrap(subset);
}

function isEmpty(Roles set) pure returns (bool) {
    return Roles.unwrap(set) == 0;
}

function isKnown(Roles set) pure returns (bool) {
    return Roles.unwrap(set) >> ROLE_COUNT == 0;
}
