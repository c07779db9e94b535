// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IOutbox} from "./interfaces/IOutbox.sol";
import {Merkle} from "./libraries/Merkle.sol";
import {Outgoing} from "./libraries/Outgoing.sol";

/// @title Outbox
/// @dev Holds no money and has no owner. Inboxes prove slot 0: the order of the variables is part of the protocol.
contract Outbox is IOutbox {
    uint256 public constant MAX_DATA_BYTES = 1024;

    /// @inheritdoc IOutbox
    bytes32 public accumulator;
    /// @inheritdoc IOutbox
    uint32 public count;
    /// @dev Root of the perfect subtree of 2^level leaves that ends the list, for each bit that is set in the count.
    mapping(uint256 level => bytes32) private _peaks;

    /// @inheritdoc IOutbox
    uint256 public immutable destination;

    constructor(uint256 destination_) {
        if (destination_ == 0) revert ChainInvalid();
        destination = destination_;
    }

    /// @inheritdoc IOutbox
    function send(address target, bytes calldata data) external returns (uint32 index) {
        if (data.length > MAX_DATA_BYTES) revert DataTooLong(data.length);
        index = count;
        if (index == type(uint32).max) revert Full();
        Message memory message = Message({index: index, sender: msg.sender, target: target, data: data});
        _append(index, Outgoing.leaf(block.chainid, address(this), destination, message));
        emit MessageSent(index, msg.sender, target, data);
    }

    /// @inheritdoc IOutbox
    function leafOf(Message calldata message) external view returns (bytes32) {
        return Outgoing.leaf(block.chainid, address(this), destination, message);
    }

    /// @dev As many levels as the count has trailing ones are merged; then the peaks are folded, the smallest first.
    function _append(uint32 length, bytes32 hash) private {
        uint256 level;
        for (; (length >> level) & 1 == 1; ++level) {
            hash = Merkle.node(_peaks[level], hash);
        }
        _peaks[level] = hash;
        for (++level; length >> level != 0; ++level) {
            if ((length >> level) & 1 == 1) hash = Merkle.node(_peaks[level], hash);
        }
        count = length + 1;
        accumulator = Outgoing.commitment(length + 1, hash);
    }
}
