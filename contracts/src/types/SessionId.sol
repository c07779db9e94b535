// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Names one session: `keccak256(abi.encode(chainId, sessionsContract, owner, ownerNonce))`.
type SessionId is bytes32;
