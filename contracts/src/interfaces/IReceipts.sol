// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";
import {SessionId} from "../types/SessionId.sol";

/// @title What client and miner sign about one task
/// @notice All of it is signed under the EIP-712 domain of `Sessions`: `{name: "Cortensor Sessions", version: "1", chainId,
/// verifyingContract: sessions}`. Log-probabilities are in 1/1024 nat, sampling parameters in millionths.
interface IReceipts {
    /// @notice What a client orders:
    /// `TaskHeader(bytes32 task,bytes32 session,bytes32 model,bytes32 requestHash,bytes32 sampling,bytes32 seed,uint32 maxTokens,uint8 minTier,uint64 clientNonce,uint64 deadline)`.
    /// @param sampling `keccak256(abi.encode(Sampling))`
    /// @param seed decides every random choice of the sampler
    struct TaskHeader {
        bytes32 task;
        SessionId session;
        ModelId model;
        bytes32 requestHash;
        bytes32 sampling;
        bytes32 seed;
        uint32 maxTokens;
        uint8 minTier;
        uint64 clientNonce;
        uint64 deadline;
    }

    /// @notice How tokens are drawn, in millionths but for `topK`.
    /// @param temperature zero takes the most probable token
    /// @param topK zero for no bound
    /// @param topP 1,000,000 for no bound
    /// @param minP zero for no bound
    /// @param presence zero for no penalty
    /// @param frequency zero for no penalty
    /// @param repeat 1,000,000 for no penalty
    /// @param bias hash of the biases by token; zero for none
    struct Sampling {
        uint32 temperature;
        uint32 topK;
        uint32 topP;
        uint32 minP;
        int32 presence;
        int32 frequency;
        uint32 repeat;
        bytes32 bias;
    }

    /// @notice What a miner says it did:
    /// `Receipt(bytes32 task,bytes32 session,bytes32 header,bytes32 model,address miner,bytes32 promptHash,bytes32 traceRoot,uint32 firstToken,uint32 inputTokens,uint32 outputTokens,uint8 finish,uint8 tier,uint128 inputPrice,uint128 outputPrice,uint128 amount,uint64 finishedAt)`.
    /// @param header EIP-712 digest of the task header
    /// @param miner operator of the miner, who signs this
    /// @param traceRoot Merkle root over the trace's windows, two salted leaves each; zero for no token
    /// @param firstToken index in the task of the first token of this receipt
    /// @param finish why it ended; 0 is the end of the sequence
    /// @param tier what the backend shows of its work: 0 is D, 3 is A
    /// @param finishedAt seconds since 1970
    struct Receipt {
        bytes32 task;
        SessionId session;
        bytes32 header;
        ModelId model;
        address miner;
        bytes32 promptHash;
        bytes32 traceRoot;
        uint32 firstToken;
        uint32 inputTokens;
        uint32 outputTokens;
        uint8 finish;
        uint8 tier;
        uint128 inputPrice;
        uint128 outputPrice;
        uint128 amount;
        uint64 finishedAt;
    }

    /// @notice One record of a trace, opened down from the miner's signature.
    /// @param signature 65 bytes by the miner over the receipt
    /// @param window which window of 32 records
    /// @param position which record of the window
    /// @param tokens the window's token leaf: 32 bytes of salt, then 5 bytes a record
    /// @param evidence the window's evidence leaf: 32 bytes of salt, then 28 bytes a record
    /// @param path the siblings from the parent of both leaves up to the trace's root
    struct Opening {
        TaskHeader header;
        Sampling sampling;
        Receipt receipt;
        bytes signature;
        uint32 window;
        uint32 position;
        bytes tokens;
        bytes evidence;
        bytes32[] path;
    }
}
