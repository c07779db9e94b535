// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IBridge} from "./interfaces/IBridge.sol";
import {IInbox} from "./interfaces/IInbox.sol";
import {IOutbox} from "./interfaces/IOutbox.sol";

/// @title What both ends of the bridge share
abstract contract Bridge is IBridge, ReentrancyGuardTransient {
    uint64 public constant MAX_PAUSE = 30 days;

    /// @notice COR on this chain.
    IERC20 public immutable token;
    /// @notice Where messages to the other end are appended.
    IOutbox public immutable outbox;
    /// @notice Where messages from the other end are proved.
    IInbox public immutable inbox;
    /// @notice The only account that pauses.
    TimelockController public immutable timelock;
    address private immutable _linker;

    /// @inheritdoc IBridge
    address public peer;
    /// @inheritdoc IBridge
    uint64 public pausedUntil;

    constructor(IERC20 token_, IOutbox outbox_, IInbox inbox_, TimelockController timelock_) {
        if (address(token_) == address(0) || address(outbox_) == address(0) || address(inbox_) == address(0)) {
            revert ZeroAddress();
        }
        if (timelock_.getMinDelay() == 0) revert TimelockWithoutDelay();
        token = token_;
        outbox = outbox_;
        inbox = inbox_;
        timelock = timelock_;
        _linker = msg.sender;
    }

    modifier whenOpen() {
        _requireOpen();
        _;
    }

    /// @inheritdoc IBridge
    function send(address to, uint128 amount) external nonReentrant whenOpen returns (uint32 index) {
        if (to == address(0)) revert ZeroAddress();
        if (amount == 0) revert ZeroAmount();
        _take(msg.sender, amount);
        index = outbox.send(peer, abi.encode(to, amount));
        emit Sent(index, msg.sender, to, amount);
    }

    /// @inheritdoc IBridge
    function claim(IOutbox.Message calldata message, IInbox.Inclusion calldata inclusion)
        external
        nonReentrant
        whenOpen
    {
        if (message.sender != peer) revert NotFromPeer(message.sender);
        inbox.consume(message, inclusion);
        (address to, uint128 amount) = abi.decode(message.data, (address, uint128));
        emit Claimed(message.index, to, amount);
        _give(to, amount);
    }

    /// @inheritdoc IBridge
    function link(address peer_) external {
        if (msg.sender != _linker) revert NotLinker(msg.sender);
        if (peer_ == address(0)) revert ZeroAddress();
        if (peer != address(0)) revert AlreadyLinked(peer);
        peer = peer_;
        emit Linked(peer_);
    }

    /// @inheritdoc IBridge
    function pause(uint64 duration) external {
        if (msg.sender != address(timelock)) revert NotTimelock(msg.sender);
        if (duration > MAX_PAUSE) revert PauseTooLong(duration);
        pausedUntil = uint64(block.timestamp) + duration;
        emit Paused(pausedUntil);
    }

    function _take(address from, uint128 amount) internal virtual;

    function _give(address to, uint128 amount) internal virtual;

    function _requireOpen() private view {
        if (peer == address(0)) revert NotLinked();
        if (block.timestamp < pausedUntil) revert PausedUntil(pausedUntil);
    }
}
