// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IReceipts} from "../interfaces/IReceipts.sol";
import {ISessions} from "../interfaces/ISessions.sol";
import {SessionId} from "../types/SessionId.sol";

/// @title EIP-712 struct hashes of everything that is signed about a session and its tasks
library Messages {
    bytes32 internal constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(bytes32 session,address miner,uint128 cumulativeAmount,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,bytes32 receiptsRoot)"
    );
    bytes32 internal constant COUNTERSIGNATURE_TYPEHASH =
        keccak256("Countersignature(bytes32 voucherHash,bytes32 session,uint64 sequence,uint128 sessionTotal)");
    bytes32 internal constant CLOSE_TYPEHASH =
        keccak256("Close(bytes32 session,uint64 finalSequence,uint128 finalTotal)");
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant HEADER_TYPEHASH = keccak256(
        "TaskHeader(bytes32 task,bytes32 session,bytes32 model,bytes32 requestHash,bytes32 sampling,bytes32 seed,uint32 maxTokens,uint8 minTier,uint64 clientNonce,uint64 deadline)"
    );
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 task,bytes32 session,bytes32 header,bytes32 model,address miner,bytes32 promptHash,bytes32 traceRoot,uint32 firstToken,uint32 inputTokens,uint32 outputTokens,uint8 finish,uint8 tier,uint128 inputPrice,uint128 outputPrice,uint128 amount,uint64 finishedAt)"
    );

    function hashVoucher(ISessions.Voucher calldata voucher) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                VOUCHER_TYPEHASH,
                voucher.session,
                voucher.miner,
                voucher.cumulativeAmount,
                voucher.cumulativeInputTokens,
                voucher.cumulativeOutputTokens,
                voucher.receiptsRoot
            )
        );
    }

    function hashCountersignature(bytes32 voucherHash, SessionId session, uint64 sequence, uint128 sessionTotal)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(COUNTERSIGNATURE_TYPEHASH, voucherHash, session, sequence, sessionTotal));
    }

    function hashClose(SessionId session, uint64 finalSequence, uint128 finalTotal) internal pure returns (bytes32) {
        return keccak256(abi.encode(CLOSE_TYPEHASH, session, finalSequence, finalTotal));
    }

    /// @dev Every field is one word, so that the encoding is that of EIP-712.
    function hashHeader(IReceipts.TaskHeader calldata header) internal pure returns (bytes32) {
        return keccak256(abi.encode(HEADER_TYPEHASH, header));
    }

    /// @dev Every field is one word, so that the encoding is that of EIP-712.
    function hashReceipt(IReceipts.Receipt calldata receipt) internal pure returns (bytes32) {
        return keccak256(abi.encode(RECEIPT_TYPEHASH, receipt));
    }

    /// @dev What a task header holds of its sampling.
    function hashSampling(IReceipts.Sampling calldata sampling) internal pure returns (bytes32) {
        return keccak256(abi.encode(sampling));
    }

    /// @dev What is signed under the domain of a `Sessions` contract, for those who are not that contract.
    function digest(address sessions, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Cortensor Sessions"), keccak256("1"), block.chainid, sessions)
        );
        return MessageHashUtils.toTypedDataHash(domain, structHash);
    }
}
