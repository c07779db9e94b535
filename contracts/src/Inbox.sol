// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {IBlocks} from "./interfaces/IBlocks.sol";
import {IInbox} from "./interfaces/IInbox.sol";
import {IOutbox} from "./interfaces/IOutbox.sol";
import {Headers} from "./libraries/Headers.sol";
import {Merkle} from "./libraries/Merkle.sol";
import {Outgoing} from "./libraries/Outgoing.sol";

/// @title Inbox
/// @dev Holds no money and has no owner. It believes `blocks`, and nothing else.
contract Inbox is IInbox {
    using BitMaps for BitMaps.BitMap;

    uint256 private constant ACCUMULATOR_SLOT = 0;

    /// @inheritdoc IInbox
    IBlocks public immutable blocks;
    /// @inheritdoc IInbox
    uint256 public immutable source;
    /// @inheritdoc IInbox
    address public immutable outbox;

    mapping(uint32 era => mapping(bytes32 accumulator => bool)) private _known;
    BitMaps.BitMap private _consumed;

    constructor(IBlocks blocks_, uint256 source_, address outbox_) {
        if (address(blocks_) == address(0) || source_ == 0 || outbox_ == address(0)) revert AddressInvalid();
        blocks = blocks_;
        source = source_;
        outbox = outbox_;
    }

    /// @inheritdoc IInbox
    function prove(bytes calldata header, bytes[] calldata accountProof, bytes[] calldata storageProof)
        external
        returns (bytes32 accumulator)
    {
        Headers.Header memory known = Headers.decode(header);
        if (blocks.blockHashOf(known.number) != known.hash) revert BlockUnknown(known.number, known.hash);
        accumulator = Headers.storageAt(known.stateRoot, outbox, ACCUMULATOR_SLOT, accountProof, storageProof);
        uint32 era = blocks.era();
        _known[era][accumulator] = true;
        emit AccumulatorProven(known.number, accumulator, era);
    }

    /// @inheritdoc IInbox
    function consume(IOutbox.Message calldata message, Inclusion calldata inclusion) external {
        if (msg.sender != message.target) revert NotTarget(message.target, msg.sender);
        bytes32 accumulator = Outgoing.commitment(inclusion.count, inclusion.root);
        if (!isKnown(accumulator)) revert AccumulatorUnknown(accumulator);
        bytes32 leaf = Outgoing.leaf(source, outbox, block.chainid, message);
        if (!Merkle.verify(inclusion.root, leaf, message.index, inclusion.count, inclusion.path)) {
            revert NotIncluded(message.index);
        }
        if (_consumed.get(message.index)) revert AlreadyConsumed(message.index);
        _consumed.set(message.index);
        emit MessageConsumed(message.index, message.sender, message.target);
    }

    /// @inheritdoc IInbox
    function isConsumed(uint32 index) external view returns (bool) {
        return _consumed.get(index);
    }

    /// @inheritdoc IInbox
    function isKnown(bytes32 accumulator) public view returns (bool) {
        return _known[blocks.era()][accumulator];
    }
}
