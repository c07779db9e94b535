// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title What validators sign (docs/spec/settlement.md, section 1)
library Votes {
    /// @param kind 1 prevote, 2 precommit
    /// @param blockHash zero for nil
    struct Vote {
        uint8 kind;
        uint64 height;
        uint32 round;
        bytes32 blockHash;
    }

    /// @param validRound -1 for none
    struct Proposal {
        uint64 height;
        uint32 round;
        int64 validRound;
        bytes32 blockHash;
    }

    uint8 internal constant PRECOMMIT = 2;
    bytes32 private constant DOMAIN_TYPEHASH = keccak256("EIP712Domain(string name,string version,uint256 chainId)");
    bytes32 private constant VOTE_TYPEHASH = keccak256("Vote(uint8 kind,uint64 height,uint32 round,bytes32 blockHash)");
    bytes32 private constant PROPOSAL_TYPEHASH =
        keccak256("Proposal(uint64 height,uint32 round,int64 validRound,bytes32 blockHash)");
    bytes32 private constant FOREIGN_TYPEHASH =
        keccak256("ForeignBlock(uint256 chainId,uint64 number,bytes32 blockHash)");

    /// @param chainId of the chain whose validators sign
    function digest(Vote memory vote, uint256 chainId) internal pure returns (bytes32) {
        return _typed(keccak256(abi.encode(VOTE_TYPEHASH, vote.kind, vote.height, vote.round, vote.blockHash)), chainId);
    }

    /// @param chainId of the chain whose validators sign
    function digest(Proposal memory proposal, uint256 chainId) internal pure returns (bytes32) {
        return _typed(
            keccak256(
                abi.encode(PROPOSAL_TYPEHASH, proposal.height, proposal.round, proposal.validRound, proposal.blockHash)
            ),
            chainId
        );
    }

    /// @dev That a validator saw a block of another chain as final.
    /// @param foreign chain id of that other chain
    /// @param chainId of the chain whose validators sign
    function foreignDigest(uint256 foreign, uint64 number, bytes32 blockHash, uint256 chainId)
        internal
        pure
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(FOREIGN_TYPEHASH, foreign, number, blockHash)), chainId);
    }

    function _typed(bytes32 structHash, uint256 chainId) private pure returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256("Cortensor Consensus"), keccak256("1"), chainId));
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }
}
