// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IOutbox} from "../interfaces/IOutbox.sol";
import {Merkle} from "./Merkle.sol";

/// @title What both ends of a lane of messages hash (docs/spec/settlement.md, section 5)
library Outgoing {
    /// @param source chain id where the outbox is
    /// @param destination chain id where the message is consumed
    function leaf(uint256 source, address outbox, uint256 destination, IOutbox.Message memory message)
        internal
        pure
        returns (bytes32)
    {
        return Merkle.leaf(
            keccak256(
                abi.encode(
                    source, outbox, destination, message.index, message.sender, message.target, keccak256(message.data)
                )
            )
        );
    }

    /// @dev What an accumulator of `count` leaves holds.
    function commitment(uint32 count, bytes32 root) internal pure returns (bytes32) {
        return Merkle.node(bytes32(uint256(count)), root);
    }
}
