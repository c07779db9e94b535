// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IInbox} from "./IInbox.sol";
import {IOutbox} from "./IOutbox.sol";

/// @title One end of the token's bridge
/// @notice What is sent here is taken out of circulation (locked, or burnt) and can be claimed at the other end, once, by whoever proves it, for
/// whom it was sent to. No operator takes part. Governance can pause an end, through a timelock, for at most 30 days at a time.
interface IBridge {
    event Sent(uint32 indexed index, address indexed sender, address indexed to, uint128 amount);
    event Claimed(uint32 indexed index, address indexed to, uint128 amount);
    event Linked(address peer);
    event Paused(uint64 until);

    error NotLinker(address caller);
    error AlreadyLinked(address peer);
    error NotLinked();
    error NotTimelock(address caller);
    error NotFromPeer(address sender);
    error PausedUntil(uint64 until);
    error PauseTooLong(uint64 duration);
    error TimelockWithoutDelay();
    error ZeroAddress();
    error ZeroAmount();

    /// @notice Sends COR to an account at the other end. The sender has approved it.
    /// @return index of the message
    function send(address to, uint128 amount) external returns (uint32 index);

    /// @notice Hands out what was sent at the other end. Anyone may; it goes to whom it was sent to.
    function claim(IOutbox.Message calldata message, IInbox.Inclusion calldata inclusion) external;

    /// @notice Names the other end. Once, by who deployed this one.
    function link(address peer) external;

    /// @notice Stops sending and claiming for so many seconds from now on; 0 to end a pause. Only the timelock.
    function pause(uint64 duration) external;

    /// @notice The other end; zero until it is named.
    function peer() external view returns (address);

    /// @notice When the last pause ends, in seconds since 1970.
    function pausedUntil() external view returns (uint64);
}
